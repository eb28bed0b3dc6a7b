//! Other people's machines, against what hwloc, numactl and lscpu say of them.

use crate::common;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use common::{json, placer_on, run, shared, text};

/// Where the readers disagree, or have nothing to say: what placer shows, and why.
const CHOICES: &[(&str, Shows, &str)] = &[
    (
        "knl-snc4-flat-hbm",
        Shows::Numactl,
        "the kernel's files hold a full table; hwloc drops it because it rebuilds KNL's own",
    ),
    (
        "hetero-asymmetric-6n",
        Shows::Numactl,
        "nodes 4 and 5 are in the files; hwloc drops them since their CPUs are also node 3's",
    ),
    (
        "offline-node0",
        Shows::Null,
        "two columns for one node: nobody can say which is meant; numactl takes the first",
    ),
    (
        "hybrid-laptop-1n",
        Shows::Numactl,
        "one node with its own distance of 10, as the file says; hwloc leaves it out",
    ),
    ("metrics-3n-memory-only", Shows::Null, "no distance files"),
];

#[derive(Clone, Copy, PartialEq)]
enum Shows {
    Numactl,
    Null,
}

#[test]
fn show_agrees_on_nodes_cpus_memory_and_distances() {
    let Some(machines) = shared("machines") else { return };
    let expected =
        std::fs::read_to_string(machines.join("expected.json")).expect("what is expected");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let scratch = tempfile::tempdir().expect("a directory");
    let expected = expected.as_object().expect("an object");
    assert!(expected.len() > 10);
    for (name, machine) in expected {
        unpack(&machines.join(format!("{name}.tar.gz")), scratch.path());
        let root = scratch.path().join(name);
        let output = placer_on(&root, &["show", "--json"]);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        let shown = json(&output);

        let nodes = shown["nodes"].as_array().expect("nodes");
        let ids: Vec<&Value> = nodes.iter().map(|node| &node["id"]).collect();
        let online = machine["nodes_online"].as_array().expect("nodes");
        assert_eq!(ids, online.iter().collect::<Vec<_>>(), "{name}");
        for node in nodes {
            let wanted = &machine["nodes"][node["id"].to_string()];
            let cpus: Vec<Value> = list(node["cpus"].as_str().expect("a list"));
            assert_eq!(wanted["cpus"], Value::Array(cpus), "{name} {node}");
            let total = wanted["mem_total_kib"].as_u64().map(|kib| kib * 1024);
            assert_eq!(node["memory_total"].as_u64(), total, "{name} {node}");
            if let Some(mib) = wanted["numactl_free_mb"].as_u64() {
                // numactl shows MemFree alone; what can be promised is that and inactive cache.
                let free = node["memory_free"].as_u64().expect("free memory");
                assert!(free >> 20 >= mib, "{name} {node}");
            }
        }
        let choice = CHOICES.iter().find(|(of, ..)| of == name);
        let wanted = match choice.map(|(_, shows, _)| *shows) {
            None => &machine["distances"],
            Some(Shows::Numactl) => &machine["distances_numactl"],
            Some(Shows::Null) => &Value::Null,
        };
        assert_eq!(&shown["distances"], wanted, "{name}");
        if let (Some((_, _, why)), Some(Value::Array(told))) =
            (choice, machine.get("readers_disagree"))
        {
            println!("{name}: {} disagreements of other readers; {why}", told.len());
        }
    }
}

#[test]
fn every_machine_gets_an_answer_or_a_reason() {
    let Some(machines) = shared("machines") else { return };
    let scratch = tempfile::tempdir().expect("a directory");
    for entry in std::fs::read_dir(&machines).expect("a folder") {
        let path = entry.expect("an entry").path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".tar.gz")) else {
            continue;
        };
        unpack(&path, scratch.path());
        let root = scratch.path().join(name);
        let output = placer_on(&root, &["advise", "4:500"]);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        match output.status.code() {
            Some(0) => assert!(stdout.starts_with(|c: char| c.is_ascii_digit()), "{name} {stdout}"),
            Some(2) => assert!(stdout.is_empty() && stderr.contains("expected"), "{name} {stderr}"),
            other => panic!("{name}: {other:?} {stderr}"),
        }
        println!("{name}: {stdout}{stderr}");
    }
}

fn unpack(archive: &Path, into: &Path) {
    let output = run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(into));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn list(text: &str) -> Vec<Value> {
    let set = placer_engine::parse::list::parse::<placer_engine::CpuId>(text.as_bytes());
    set.expect("a list").iter().map(|cpu| Value::from(cpu.0)).collect()
}
