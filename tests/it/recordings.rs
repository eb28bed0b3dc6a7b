//! A recording answers as its host does: every fixture, recorded again.

use crate::common;

use std::path::Path;
use std::process::Output;

use common::{fixture, fixtures, placer, placer_on, run, shared, text};

/// What is asked of a host and of its recording.
const QUESTIONS: &[&[&str]] = &[
    &["advise", "2:100"],
    &["advise", "3:700", "--strict", "--explain"],
    &["advise", "1:8G", "--json"],
    &["advise", "1:64", "--pages", "2M", "--strict"],
    &["advise", "1:64", "--pages", "1G"],
    &["advise", "1:50", "--within", "0-1", "--json"],
    &["advise", "2:50", "--policy", "numad"],
    &["advise", "1:50", "--prefer", "pack", "--smt-weight", "50"],
    &["advise", "1:50", "--near", "nosuch0"],
    &["advise", "1:50", "--near", "gpu0"],
    &["advise", "1:50", "--near", "eth0"],
    &["advise", "1:50", "--near", "vda"],
    &["advise", "1:50", "--near", "lo"],
    &["show", "--json"],
    &["show", "--devices"],
    &["show"],
    &["numad", "-w", "2:100"],
    &["numad", "-w", "6:3000"],
];

/// The same of hosts with many CPUs, each of which takes a second to read in a debug build.
const OF_LARGE_HOSTS: &[&[&str]] = &[
    &["advise", "3:700", "--explain"],
    &["advise", "1:64", "--pages", "2M", "--near", "eth0"],
    &["show", "--json"],
    &["show", "--devices"],
    &["numad", "-w", "6:3000"],
];

/// Returns what a host answered, without the name of its directory.
fn answers(root: &Path, questions: &[Vec<String>]) -> Vec<(String, String)> {
    let state = tempfile::tempdir().expect("a directory");
    let answer = |question: &Vec<String>| {
        let output: Output = if question[0] == "numad" {
            use std::os::unix::process::CommandExt;
            run(placer().arg0("numad").args(&question[1..]).env("PLACER_ROOT", root))
        } else {
            run(placer()
                .args(question)
                .env("PLACER_ROOT", root)
                .env("PLACER_STATE_DIR", state.path()))
        };
        let said = format!("{}{}{}", output.status, text(&output.stdout), text(&output.stderr));
        let name = root.file_name().and_then(|name| name.to_str()).expect("a name");
        let said = said.replace(&root.display().to_string(), "ROOT");
        // `show` begins with the name of the directory.
        (question.join(" "), said.replace(&format!("{name}:"), "ROOT:").replace(name, "ROOT"))
    };
    questions.iter().map(answer).collect()
}

fn same_answers(name: &str, host: &Path, questions: &[&[&str]]) {
    let tmp = tempfile::tempdir().expect("a directory");
    let copy = tmp.path().join("recording");
    let output = run(placer().arg("record").arg(&copy).env("PLACER_ROOT", host));
    assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    let questions: Vec<Vec<String>> = questions
        .iter()
        .map(|words| words.iter().map(|word| (*word).to_owned()).collect())
        .collect();
    for (host, copy) in answers(host, &questions).iter().zip(answers(&copy, &questions)) {
        assert_eq!(host.1, copy.1, "{name}: {}", host.0);
    }
}

#[test]
fn every_fixture_recorded_again_answers_as_before() {
    let names = fixtures();
    assert!(names.len() >= 16, "{names:?}");
    for name in names {
        same_answers(&name, &fixture(&name), QUESTIONS);
    }
}

#[test]
fn every_shared_machine_recorded_again_answers_as_before() {
    let Some(machines) = shared("machines") else { return };
    let scratch = tempfile::tempdir().expect("a directory");
    let mut count = 0;
    for entry in std::fs::read_dir(&machines).expect("a directory").flatten() {
        let file = entry.file_name().into_string().expect("a plain name");
        let Some(name) = file.strip_suffix(".tar.gz") else { continue };
        let mut tar = std::process::Command::new("tar");
        let output = run(tar.arg("xzf").arg(entry.path()).arg("-C").arg(scratch.path()));
        assert!(output.status.success(), "{}", text(&output.stderr));
        same_answers(name, &scratch.path().join(name), OF_LARGE_HOSTS);
        std::fs::remove_dir_all(scratch.path().join(name)).expect("removed");
        count += 1;
    }
    assert!(count > 10);
}

/// Returns a copy of a fixture that can be added to.
fn copy_of(name: &str, to: &Path) {
    let output = run(std::process::Command::new("cp").arg("-r").arg(fixture(name)).arg(to));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(std::process::Command::new("chmod").args(["-R", "u+w"]).arg(to));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn record_keeps_gpu_memory_devices_watermarks_and_reserved_pages() {
    let tmp = tempfile::tempdir().expect("a directory");
    let host = tmp.path().join("made-of-pci-4");
    copy_of("pci-4", &host);
    let put = |path: &str, content: &str| {
        let path = host.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, content).expect("written");
    };
    let link = |path: &str, to: &str| {
        let path = host.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::os::unix::fs::symlink(to, path).expect("linked");
    };
    let gpu = "proc/driver/nvidia/gpus/0000:81:00.0";
    put(&format!("{gpu}/numa_status"), "Node: 2\nCoherent: 1\n");
    let uuid = "GPU-8d2f0000-0000-0000-0000-00000000abcd";
    put(&format!("{gpu}/information"), &format!("Model: \t GPU\nGPU UUID: \t {uuid}\n"));
    let zones = |node: u32| {
        format!(
            "Node {node}, zone   Normal\n  pages free     900\n        boost    0\n        min      9000\n        \
             low      10000\n        high     11000\n        managed  40000\n        protection: (0, 0)\n  \
             pagesets\n    cpu: 0\n              count: 7\n"
        )
    };
    put("proc/zoneinfo", &(0..4).map(zones).collect::<String>());
    put("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "3\n");
    put("sys/devices/virtual/net/bond0/mtu", "1500\n");
    link("sys/class/net/bond0", "../../devices/virtual/net/bond0");
    let eth0 = std::fs::read_link(host.join("sys/class/net/eth0")).expect("a link");
    let eth0 = eth0.to_str().expect("text").trim_start_matches("../../devices/").to_owned();
    link("sys/devices/virtual/net/bond0/lower_eth0", &format!("../../../{eth0}"));
    link("sys/class/block/dm-0", "../../devices/virtual/block/dm-0");
    put("sys/devices/virtual/block/dm-0/dm/name", "vg0-guest\n");
    link("sys/devices/virtual/block/dm-0/slaves/c0", "../../../../pci0000:80/0000:80:00.0");
    let near = |name| ["advise", "1:50", "--near", name];
    let near = [near("bond0"), near("vg0/guest"), near(uuid), near("81:00"), near("dm-0")];
    let near_all = near.iter().map(|question| &question[..]);
    let questions: Vec<&[&str]> = QUESTIONS.iter().copied().chain(near_all).collect();
    same_answers("made", &host, &questions);

    // And these are the answers: the GPU's memory is never promised, the devices are on node 3.
    let advised = |args: &[&str]| text(&placer_on(&host, args).stdout).trim().to_owned();
    for question in &near {
        assert_eq!(advised(question), "3", "{question:?}");
    }
    assert!(!advised(&["advise", "8:400"]).contains('2'));

    let copy = tmp.path().join("copy");
    let output = run(placer().arg("record").arg(&copy).env("PLACER_ROOT", &host));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let kept = |path: &str| std::fs::read_to_string(copy.join(path)).expect(path);
    // What names hosts and single devices is not handed on.
    assert!(!kept(&format!("{gpu}/information")).contains("8d2f"));
    assert!(!kept("sys/devices/virtual/block/dm-0/dm/name").contains("guest"));
    assert!(!kept("proc/zoneinfo").contains("cpu"));
}
