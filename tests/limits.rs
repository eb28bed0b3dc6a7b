//! What the calling process may use: its CPUs, its memory, its control groups. Named after faults
//! that were seen on real hosts.

mod common;
#[path = "common/machine.rs"]
mod machine;

use std::path::Path;

use common::{fixture, placer_on, text};
use machine::Machine;

const GIB: u64 = 1 << 20;

/// Returns the exit status, stdout and stderr of `placer ARGS` on a recorded machine, without state.
fn on(root: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = placer_on(root, args);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn answered(nodes: &str) -> (Option<i32>, String, String) {
    (Some(0), format!("{nodes}\n"), String::new())
}

fn written(machine: &Machine) -> tempfile::TempDir {
    let dir = machine::scratch();
    machine.write(dir.path());
    dir
}

fn launched(root: &Path, cpus: &str, memory: &str) -> (Option<i32>, String, String) {
    let args =
        ["launch", "--cpus", cpus, "--memory", memory, "--dry-run", "--root"].map(str::to_owned);
    let root = root.display().to_string();
    let args: Vec<String> =
        args.into_iter().chain([root, "--".to_owned(), "./solver".to_owned()]).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    on(Path::new("/"), &args)
}

/// A host of two nodes where firmware gives all CPUs to the one without memory.
#[test]
fn a_host_whose_cpus_are_all_in_a_memoryless_node_starts_commands() {
    let host = Machine::new().node(0, [], 64 * GIB, 60 * GIB).node(1, 0..8, 0, 0);
    let host = written(&host.allowed("0-7", "0"));
    assert_eq!(on(host.path(), &["advise", "4:1024"]), answered("0-1"));
    let steps = "cpus    0-7\nmemory  strict on 0\nexec    ./solver\n";
    assert_eq!(launched(host.path(), "4", "1G"), (Some(0), steps.to_owned(), String::new()));
}

/// A Threadripper in NPS4 mode with memory on two of its four nodes.
#[test]
fn cpus_of_memoryless_nodes_count_as_far_as_cpus_are_allowed() {
    let host = Machine::new()
        .node(0, 0..12, 0, 0)
        .node(1, 12..24, 64 * GIB, 60 * GIB)
        .node(2, 24..36, 64 * GIB, 60 * GIB)
        .node(3, 36..48, 0, 0)
        .without_load();
    let free = written(&host.clone().allowed("0-47", "1-2"));
    let advised = on(free.path(), &["advise", "40:8192", "--strict"]);
    assert_eq!((advised.0, advised.1.as_str()), (Some(0), "0-3\n"), "{}", advised.2);
    let steps = "cpus    0-47\nmemory  strict on 1-2\nexec    ./solver\n";
    assert_eq!(launched(free.path(), "40", "8G").1, steps);

    // A taskset bounds them as ever.
    let held = written(&host.allowed("0-11,24-29", "1-2"));
    let advised = on(held.path(), &["advise", "20:8192", "--strict"]);
    assert_eq!((advised.0, advised.1.as_str()), (Some(1), ""), "{}", advised.2);
    assert!(advised.2.contains("2 CPUs short"), "{}", advised.2);
    let advised = on(held.path(), &["advise", "18:8192", "--cpus"]);
    assert_eq!(advised.1, "0-11,24-29\n", "{}", advised.2);
}

/// `docker run --cpuset-mems=1`: memory of one node, CPUs of all.
#[test]
fn a_cpuset_of_memory_alone_bounds_memory_alone() {
    let host =
        Machine::new().node(0, 0..24, 64 * GIB, 60 * GIB).node(1, 24..48, 64 * GIB, 30 * GIB);
    let host = written(&host.allowed("0-47", "1"));
    assert_eq!(on(host.path(), &["advise", "40:8192"]), answered("0-1"));
    assert_eq!(on(host.path(), &["advise", "4:500"]), answered("1"));
    let steps = "cpus    0-47\nmemory  strict on 1\nexec    ./solver\n";
    assert_eq!(launched(host.path(), "40", "8G").1, steps);
    let emitted = on(host.path(), &["advise", "40:8192", "--emit", "numactl"]);
    assert_eq!(emitted, (Some(0), "--physcpubind=0-47 --membind=1\n".to_owned(), String::new()));
    // More than that node has is short, although node 0 has as much again.
    let (code, _, stderr) = on(host.path(), &["advise", "4:40G", "--strict"]);
    assert!(code == Some(1) && stderr.contains("short"), "{stderr}");
    let numads = on(host.path(), &["advise", "40:8192", "--policy", "numad", "--emit", "numactl"]);
    assert!(numads.1.ends_with(" --membind=1\n"), "{numads:?}");
}

#[test]
fn the_shipped_host_with_a_memoryless_node_gives_all_its_cpus() {
    let advised = on(&fixture("memless"), &["advise", "6:100"]);
    assert_eq!(advised, answered("0-2"));
}
