//! Policy `best`, asked through the program about recorded machines.

#![allow(clippy::panic, reason = "a test that cannot go on says why")]

use crate::common;

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use common::{json, placer_on, run, text};

use testkit::random::Rng;

use crate::golden::corpus::Machines;

/// Writes a host of the golden rows as a recorded machine. How a node's idle time is spread over
/// its CPUs does not matter.
fn write_machine(host: &Value, root: &Path) {
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let number = |value: &Value| value.as_f64().expect("a number");
    let whole = |value: &Value| value.as_u64().expect("a whole number");
    let (mut first, mut second) = ("cpu 0 0 0 0 0\n".to_owned(), "cpu 0 0 0 0 0\n".to_owned());
    let mut cpu = 0;
    let nodes = host["nodes"].as_array().expect("nodes");
    let rows = host["distances"].as_array().expect("distances");
    for (node, row) in nodes.iter().zip(rows) {
        let (id, count) = (whole(&node["id"]), whole(&node["cpus"]));
        let dir = format!("sys/devices/system/node/node{id}");
        let cpus: Vec<String> = (cpu..cpu + count).map(|cpu| cpu.to_string()).collect();
        put(&format!("{dir}/cpulist"), &format!("{}\n", cpus.join(",")));
        let row: Vec<String> =
            row.as_array().expect("a row").iter().map(Value::to_string).collect();
        put(&format!("{dir}/distance"), &format!("{}\n", row.join(" ")));
        let (total, free) = (whole(&node["mem_total"]) * 1024, whole(&node["mem_free"]) * 1024);
        let lines = [("MemTotal", total), ("MemFree", free), ("Inactive(file)", 0)];
        let meminfo: String =
            lines.iter().map(|(key, kb)| format!("Node {id} {key}: {kb} kB\n")).collect();
        put(&format!("{dir}/meminfo"), &meminfo);
        let mut ticks = (number(&node["idle"]) * 200.0).round();
        for cpu in cpu..cpu + count {
            let idle = ticks.min(200.0);
            ticks -= idle;
            let _ = writeln!(first, "cpu{cpu} 0 0 0 1000 0");
            let _ = writeln!(second, "cpu{cpu} {} 0 0 {} 0", 200.0 - idle, 1000.0 + idle);
        }
        cpu += count;
    }
    put("proc/stat", &first);
    put("next/proc/stat", &second);
    put("clock", "100000 200\n");
    put("sys/devices/system/cpu/online", &format!("0-{}\n", cpu.max(1) - 1));
    put("sys/devices/system/cpu/smt/active", "0\n");
}

#[test]
fn all_golden_rows_through_the_program() {
    let golden = common::project().join("engine/tests/golden/best.jsonl");
    let rows = std::fs::read_to_string(golden).expect("the rows are part of the project");
    let scratch = tempfile::tempdir().expect("a directory");
    let mut count = 0;
    for (line, row) in rows.lines().enumerate() {
        let row: Value = serde_json::from_str(row).expect("a row");
        let root = scratch.path().join(line.to_string());
        write_machine(&row, &root);
        let wanted = &row["answer"];
        let request = format!("{}:{}", row["request"]["cpus"], row["request"]["mem"]);
        let bound = row["memory_bound"].to_string();
        let prefer = row["prefer"].as_str().expect("a preference");
        let args = ["advise", &request, "--json", "--memory-bound", &bound, "--prefer", prefer];
        let output = placer_on(&root, &args);
        assert!(output.status.success(), "row {line}: {}", text(&output.stderr));
        let found = json(&output);
        let ids = found["nodes"].as_str().expect("a list");
        let ids: placer_engine::NodeSet =
            placer_engine::parse::list::parse(ids.as_bytes()).expect("a list");
        let ids: Vec<Value> = ids.iter().map(|node| Value::from(node.0)).collect();
        assert_eq!(Value::Array(ids), wanted["nodes"], "row {line} {request}");
        assert_eq!(found["fits"], wanted["fits"], "row {line}");
        let Some(slowdown) = wanted["slowdown"].as_f64() else { continue };
        let close = |a: f64, b: f64, by: f64| (a - b).abs() <= by;
        let found_slowdown = found["slowdown"].as_f64().expect("a slowdown");
        assert!(close(found_slowdown, slowdown, 1.1e-6), "row {line}: {found_slowdown} {slowdown}");
        let (a, b) = (found["split"].as_array(), wanted["split"].as_array());
        let (a, b) = (a.expect("a split"), b.expect("a split"));
        assert_eq!(a.len(), b.len(), "row {line}");
        for (a, b) in a.iter().zip(b) {
            assert_eq!(a["node"], b["node"], "row {line}");
            let figure = |value: &Value| value.as_f64().expect("a figure");
            assert!(close(figure(&a["cpus"]), figure(&b["cpus"]), 1e-4), "row {line} {a} {b}");
            let mib = figure(&a["memory"]) / 1_048_576.0;
            assert!(close(mib, figure(&b["mem"]), 1e-2), "row {line} {a} {b}");
        }
        assert_eq!(found["proof"], "optimal", "row {line}");
        count += 1;
    }
    println!("{count} rows agree");
    assert!(count > 300, "found {count}");
}

/// Where `best` differs from numad's set, it is for a reason that is one of those named.
#[test]
fn best_differs_from_numad_for_named_reasons_only() {
    let machines = Machines::unpack();
    let mut reasons = std::collections::BTreeMap::<String, u32>::new();
    for root in machines.all() {
        for request in ["1", "1:100", "2:500", "4:500", "8:4096", "16:16384", "0:2048"] {
            let output = placer_on(&root, &["advise", "--json", request]);
            if !output.status.success() {
                // A host that cannot be read, or a distance of zero.
                assert!(text(&output.stderr).contains("expected"), "{}", text(&output.stderr));
                continue;
            }
            let found = json(&output);
            let reason = match found["numad"]["reason"].as_str() {
                None => "numad has no answer",
                Some("the same") => "the same",
                Some(reason) if reason.starts_with("lacks") || reason == "has no CPUs" => "lacks",
                Some(reason) if reason.ends_with("slower") => "slower by more than 2 %",
                Some(reason) if reason.contains("more") => "more nodes",
                Some(reason) if reason.contains("less room") => "as many nodes, less room",
                Some("equal, higher ids") => "equal, higher ids",
                Some(other) => panic!("{} {request}: {other}", root.display()),
            };
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
    for (reason, count) in &reasons {
        println!("{count:>5} {reason}");
    }
    assert!(reasons.len() >= 4, "{reasons:?}");
}

/// Returns a number of percent.
fn percent(rng: &mut Rng, from: u64, to: u64) -> u64 {
    from + rng.below(to - from + 1)
}

/// A host of some nodes, so many percent of them idle and free. Odd ones have nodes of their own sizes,
/// some without CPUs or memory, and distances of several kinds.
fn random_host(rng: &mut Rng, free: (u64, u64), odd: bool) -> Value {
    let count = [2, 3, 4, 6, 8, 12][usize::try_from(rng.below(6)).expect("small")];
    let nodes: Vec<Value> = (0..count)
        .map(|id| {
            let (mut cpus, mut total) = (8, 16_384);
            if odd {
                cpus = [2, 4, 8, 16, 0][usize::try_from(rng.below(5)).expect("small")];
                total = [4096, 16_384, 65_536, 0][usize::try_from(rng.below(4)).expect("small")];
            }
            // The first has both: a host without any is another test's.
            if id == 0 {
                (cpus, total) = (8, 16_384);
            }
            let idle = (cpus * percent(rng, free.0, free.1)) as f64 / 100.0;
            let free = total * percent(rng, free.0 * 10, free.1 * 10) / 1000;
            serde_json::json!({
                "id": id, "cpus": cpus, "idle": idle, "mem_total": total, "mem_free": free,
            })
        })
        .collect();
    let rings = odd && rng.below(2) == 0;
    let distance = |i: u64, j: u64| match (i == j, rings) {
        (true, _) => 10,
        (false, true) => 10 + 6 * i.abs_diff(j).min(count - i.abs_diff(j)),
        (false, false) => 21,
    };
    let row = |i| (0..count).map(|j| distance(i, j)).collect::<Vec<_>>();
    let distances: Vec<Vec<u64>> = (0..count).map(row).collect();
    serde_json::json!({ "nodes": nodes, "distances": distances })
}

/// What numad's set is beside the answer, by name.
fn beside(root: &Path, request: &str) -> &'static str {
    use placer_engine::policy::best::Reason;
    use placer_engine::policy::numad::Version;
    use placer_engine::{Request, Snapshot, SysRoot, advise, explain};
    let snapshot = Snapshot::take(&SysRoot::at(root), std::time::Duration::ZERO);
    let snapshot = snapshot.expect("a recorded machine");
    let request: Request = request.parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an advice");
    let why = explain(&snapshot, &request, &advice, Version::V2015).expect("an explanation");
    match why.numad.map(|numad| numad.reason) {
        None => "numad has no answer",
        Some(Reason::Chosen) => "the same",
        Some(Reason::NoCpus | Reason::LacksCpus(_)) => "lacks CPUs",
        Some(Reason::LacksMemory(_)) => "lacks memory",
        Some(Reason::Slower(_)) => "slower by more than 2 %",
        Some(Reason::MoreNodes(_)) => "more nodes",
        Some(Reason::LessRoom(_)) => "as many nodes, less room",
        Some(Reason::HigherIds) => "equal, higher ids",
        // Up to 16 nodes every set is looked at.
        Some(Reason::Unseen) => panic!("{}: numad has a better set", root.display()),
    }
}

/// The same on generated hosts, with the sizes of requests in a node's CPUs and memory.
#[test]
fn best_differs_from_numad_for_named_reasons_only_on_generated_hosts() {
    let scratch = tempfile::tempdir().expect("a directory");
    let mut rng = Rng::new(4);
    let mut quiet = std::collections::BTreeMap::<&str, u32>::new();
    let mut others = quiet.clone();
    for round in 0..600u32 {
        let root = scratch.path().join(round.to_string());
        let (free, odd) =
            [((97, 100), false), ((5, 100), false), ((5, 100), true), ((0, 30), true)]
                [usize::try_from(round % 4).expect("small")];
        write_machine(&random_host(&mut rng, free, odd), &root);
        for _ in 0..4 {
            // On quiet hosts what a node holds; elsewhere up to three nodes' worth.
            let most = if round % 4 == 0 { 90 } else { 300 };
            let cpus = 8 * percent(&mut rng, 5, most);
            let memory = 16_384 * percent(&mut rng, 1, most) / 100;
            let request = format!("{}.{:02}:{memory}", cpus / 100, cpus % 100);
            let counts = if round % 4 == 0 { &mut quiet } else { &mut others };
            *counts.entry(beside(&root, &request)).or_default() += 1;
        }
    }
    for (hosts, counts) in [("quiet hosts of equal nodes", &quiet), ("other hosts", &others)] {
        let all: u32 = counts.values().sum();
        println!("{hosts}: {all} requests");
        for (reason, count) in counts {
            println!("{:>7.1} % {reason}", f64::from(*count) * 100.0 / f64::from(all));
        }
    }
    let all: u32 = quiet.values().sum();
    assert!(quiet.get("the same").is_some_and(|same| same * 10 > all * 9), "{quiet:?}");
    assert!(others.len() >= 5, "{others:?}");
}

/// On quiet hosts of equal nodes policy best and the rules of numad 2015 agree nearly always.
#[test]
fn on_quiet_equal_hosts_best_agrees_with_numad() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (mut same, mut all) = (0, 0);
    for (at, count) in [2u64, 4, 8].into_iter().enumerate() {
        for noise in 0..6u64 {
            let nodes: Vec<Value> = (0..count)
                .map(|id| {
                    // Never two nodes alike: ties go by the order of the directory with numad.
                    let used = (id * 7 + noise * 3) % 11 * 16;
                    let busy = ((id * 5 + noise) % 7) as f64 / 200.0;
                    serde_json::json!({
                        "id": id, "cpus": 8, "idle": 8.0 - busy,
                        "mem_total": 16_384, "mem_free": 16_000 - used,
                    })
                })
                .collect();
            let distances: Vec<Vec<u64>> = (0..count)
                .map(|i| (0..count).map(|j| if i == j { 10 } else { 21 }).collect())
                .collect();
            let root = scratch.path().join(format!("{at}-{noise}"));
            write_machine(&serde_json::json!({ "nodes": nodes, "distances": distances }), &root);
            for request in ["1:100", "2:500", "4:2048", "4:8192", "6:12000", "7:1000"] {
                let best = text(&placer_on(&root, &["advise", request]).stdout);
                let numad =
                    text(&placer_on(&root, &["advise", "--policy", "numad-2015", request]).stdout);
                same += u32::from(best == numad);
                all += 1;
            }
        }
    }
    println!("{same} of {all} agree");
    assert!(same * 10 > all * 9, "{same} of {all}");
}

#[test]
fn what_cannot_be_asked_is_refused_in_words() {
    let root = common::fixture("ring-4");
    for (args, wanted) in [
        (vec!["--pages", "3M"], "expected a size of huge pages, as in 2M or 1G, found \"3M\""),
        (vec!["--near", "nosuch0"], "placer: no device \"nosuch0\" on this host"),
        (vec!["--near", "../etc"], "placer: device \"../etc\": expected a PCI address"),
        (vec!["--memory-bound", "2"], "expected a number from 0 to 1, found \"2\""),
        (vec!["--policy", "numad", "--pages", "2M"], "placer: --pages needs --policy best"),
        (vec!["--policy", "numad", "--prefer", "pack"], "placer: --prefer needs --policy best"),
    ] {
        let mut command = common::placer();
        let output = run(command.args(["advise", "1:100"]).args(&args).env("PLACER_ROOT", &root));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(wanted), "{args:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn what_a_real_numad_cannot_be_told_is_refused() {
    for flag in [
        "--memory-bound=0.2",
        "--smt-percent=50",
        "--prefer=pack",
        "--effort=9",
        "--machine-wide",
        "--window=2s",
        "--mode=interleave",
        "--policy=best",
        "--within=0",
        "--strict",
    ] {
        let mut command = common::placer();
        let output = run(command.args(["advise", "1:100", "--via", "numad", flag]));
        let flag = flag.split('=').next().unwrap_or(flag);
        let wanted = format!("placer: {flag} and --via numad exclude each other: numad g");
        assert_eq!(output.status.code(), Some(2), "{flag}");
        assert!(text(&output.stderr).starts_with(&wanted), "{}", text(&output.stderr));
    }
    // Of a variable, which is for all commands, that is not said.
    let mut command = common::placer();
    command.args(["advise", "1:100", "--via", "numad", "--numad", "/bin/false"]);
    let output = run(command.env("PLACER_PREFER", "pack"));
    assert!(!text(&output.stderr).contains("exclude"), "{}", text(&output.stderr));
}
