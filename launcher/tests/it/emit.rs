//! What is written for other programs is what they accept.

use std::process::Command;

use needs::needs;
use placer_engine::{Limits, NodeSet, SysRoot};
use placer_launcher::{Binding, MemoryMode, emit};

/// Returns a binding that this machine can do.
fn binding(mode: MemoryMode) -> Binding {
    let limits = Limits::read(&SysRoot::live()).expect("a process");
    let cpus = limits.cpus.and_then(|cpus| cpus.first()).into_iter().collect();
    let memory: NodeSet = limits.memory_nodes.and_then(|nodes| nodes.first()).into_iter().collect();
    Binding { cpus, preferred: memory.clone(), memory, mode }
}

#[needs(numactl)]
#[test]
fn numactl_accepts_each_mode() {
    for &mode in MemoryMode::ALL {
        let binding = binding(mode);
        let options = emit::numactl(&binding).text;
        let script = "grep Cpus_allowed_list /proc/self/status; head -1 /proc/self/numa_maps";
        let mut command = Command::new("numactl");
        command.args(options.split_whitespace()).args(["sh", "-c", script]);
        let output = command.output().expect("numactl");
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            // Neither an old numactl nor an old kernel knows these.
            let known = mode.since().is_none() && !said.contains("not implemented");
            assert!(!known, "numactl {options}: {said}");
            testkit::require::does_not_apply(format!("numactl {options}"));
            continue;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let cpus = format!("Cpus_allowed_list:\t{}\n", binding.cpus);
        assert!(text.starts_with(&cpus), "numactl {options}: {text}");
        let word = match mode {
            MemoryMode::Strict => " bind:",
            // A preferred node that is alone is the local one, or one of many.
            MemoryMode::Preferred | MemoryMode::PreferredMany => " prefer",
            MemoryMode::Interleave => " interleave:",
            MemoryMode::WeightedInterleave => " weighted interleave:",
            MemoryMode::None => " default ",
        };
        // Without numa_maps this is a kernel without NUMA.
        assert!(text.contains(word) || text.lines().count() == 1, "numactl {options}: {text}");
    }
}

#[needs(systemd_analyze)]
#[test]
fn systemd_knows_each_directive() {
    let tmp = tempfile::tempdir().expect("a directory");
    for &mode in MemoryMode::ALL {
        let lines = emit::systemd(&binding(mode)).text;
        let unit = tmp.path().join(format!("{mode}.service"));
        std::fs::write(&unit, format!("[Service]\nExecStart=/bin/true\n{lines}")).expect("a unit");
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no"]).arg(&unit);
        let output = command.output().expect("systemd-analyze");
        let said = String::from_utf8_lossy(&output.stderr);
        // What it says of other units of this machine is not ours.
        let name = format!("{mode}.service");
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(&name)).collect();
        assert!(ours.is_empty(), "{lines}{ours:?}");
    }
}

#[needs(systemd_analyze)]
#[test]
fn systemd_knows_each_directive_of_the_units() {
    let tmp = tempfile::tempdir().expect("a directory");
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd/");
    for (file, name) in
        [("placer.service", "placer.service"), ("placer@.service", "placer@db.service")]
    {
        let text = std::fs::read_to_string(format!("{units}{file}")).expect("a unit");
        let unit = tmp.path().join(name);
        // The program is not installed here.
        std::fs::write(&unit, text.replace("@bindir@/placer", "/bin/true")).expect("a unit");
        let mut command = Command::new("systemd-analyze");
        let output = command.args(["verify", "--man=no"]).arg(&unit).output();
        let output = output.expect("systemd-analyze");
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[needs(systemd_analyze)]
#[test]
fn systemd_is_asked_in_a_way_that_tells_unknown_directives() {
    let tmp = tempfile::tempdir().expect("a directory");
    let unit = tmp.path().join("bad.service");
    std::fs::write(&unit, "[Service]\nExecStart=/bin/true\nNUMAMusk=0\n").expect("a unit");
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["verify", "--man=no"]).arg(&unit).output().expect("systemd-analyze");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("bad.service") && said.contains("NUMAMusk"), "{said}");
}
