//! The proposal of 2012 had ten defects. Those about definitions have their tests in
//! `launcher/tests/it/proposal.rs`; these are about what is run.

use crate::common;
use testkit::machine;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::{placer, run, text};
use machine::Machine;

const DOMAIN: &str = "<domain type='lxc'>
  <name>web</name>
  <memory unit='GiB'>1</memory>
  <vcpu cpuset='1-10,^7,^8'>2</vcpu>
  <numatune>
    <memory mode='strict' placement='auto'/>
    <cpu required_cpus='2' required_memory='524288'/>
  </numatune>
</domain>
";

/// Two nodes of 4 CPUs, of which node 1 has more memory free.
fn two_nodes(dir: &Path) {
    Machine::new().node(0, 0..4, 16 << 20, 4 << 20).node(1, 4..8, 16 << 20, 8 << 20).write(dir);
}

fn launch(root: &Path, args: &[&str]) -> Output {
    run(placer().arg("launch").args(args).arg("--root").arg(root))
}

#[test]
fn defect_5_what_came_of_a_launch_is_shown_and_the_users_words_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    two_nodes(dir.path());
    let file = dir.path().join("web.xml");
    fs::write(&file, DOMAIN).expect("written");
    let name = file.to_str().expect("a plain name");
    let printed = text(&launch(dir.path(), &["--print-xml", name]).stdout);
    assert!(printed.contains("<vcpu cpuset='4-7'>2</vcpu>"), "{printed}");
    assert!(printed.contains("nodeset='1'"), "{printed}");
    assert_eq!(fs::read_to_string(&file).expect("read"), DOMAIN);
    // Node 1 has filled up: the next launch asks again, and is not held to what was found before.
    Machine::new()
        .node(0, 0..4, 16 << 20, 4 << 20)
        .node(1, 4..8, 16 << 20, 200 << 10)
        .write(dir.path());
    let printed = text(&launch(dir.path(), &["--print-xml", name]).stdout);
    assert!(printed.contains("<vcpu cpuset='0-3'>2</vcpu>"), "{printed}");
}

#[test]
fn defect_6_without_an_answer_nothing_is_started_and_nothing_is_printed() {
    let dir = tempfile::tempdir().expect("a directory");
    two_nodes(dir.path());
    fs::write(dir.path().join("web.xml"), DOMAIN).expect("written");
    let file = dir.path().join("web.xml");
    let distance = dir.path().join("sys/devices/system/node/node1/distance");
    fs::write(&distance, "21 garbage\n").expect("written");
    let args =
        [&["--print-xml", file.to_str().expect("a plain name")][..], &["--dry-run", "--", "true"]];
    for args in args {
        // The command comes last.
        let output = run(placer().args(["launch", "--root"]).arg(dir.path()).args(args));
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
        assert!(stderr.contains("node1/distance:1:4"), "{stderr}");
    }
}

#[test]
fn defect_8_memory_is_bound_as_well_as_cpus() {
    let dir = tempfile::tempdir().expect("a directory");
    two_nodes(dir.path());
    let output = run(placer()
        .args(["launch", "--dry-run", "--root"])
        .arg(dir.path())
        .args(["--memory", "1G", "--", "true"]));
    assert_eq!(text(&output.stdout), "cpus    4-7\nmemory  strict on 1\nexec    true\n");
    // And on a live kernel: the pages of a launched guest, in tests/vm/launch.
}

#[test]
fn defect_9_two_guests_that_start_together_are_not_sent_to_the_same_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    two_nodes(dir.path());
    let state = dir.path().join("state");
    let advise = || {
        let mut command = placer();
        command.args(["advise", "1:4G", "--hold", "60s", "--root"]).arg(dir.path());
        let child = command
            .env("PLACER_STATE_DIR", &state)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn();
        child.expect("the program starts")
    };
    let both = [advise(), advise()].map(|child| child.wait_with_output().expect("a child"));
    let mut nodes = both.map(|output| text(&output.stdout));
    nodes.sort();
    // 8 GiB less the reserve hold one guest of 4 GiB and no second, node 0 holds none: the second
    // is told so, and is not sent to node 1 as if it were empty.
    assert!(nodes.contains(&"1\n".to_owned()) && nodes[0] != nodes[1], "{nodes:?}");
}

#[test]
fn defect_10_nodes_without_cpus_or_memory_and_what_does_not_fit() {
    let dir = tempfile::tempdir().expect("a directory");
    // Node 0 has CPUs alone, node 1 memory alone, node 2 both and too little of it.
    Machine::new()
        .node(0, 0..4, 0, 0)
        .node(1, [], 16 << 20, 8 << 20)
        .node(2, 4..6, 16 << 20, 1 << 20)
        .write(dir.path());
    let dry = |memory: &str| {
        let args = ["--dry-run", "--cpus", "4", "--memory", memory];
        run(placer().args(["launch", "--root"]).arg(dir.path()).args(args).args(["--", "true"]))
    };
    let output = dry("4G");
    let steps = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // Node 0 gives CPUs, and memory is bound only to nodes that have some.
    assert_eq!(steps, "cpus    0-5\nmemory  strict on 1-2\nexec    true\n");
    let output = dry("64G");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    assert!(text(&output.stderr).contains("do not fit"), "{}", text(&output.stderr));
}
