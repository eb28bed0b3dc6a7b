//! What the calling process may use: its CPUs, its memory, its control groups. Named after faults
//! that were seen on real hosts.

use crate::common;
use testkit::{filter, machine};

use std::path::Path;

use common::{fixture, placer_on, text};
use filter::with_fault;
use machine::Machine;
use nix::errno::Errno;
use placer_engine::source::HostReader;
use placer_engine::{Limits, SysRoot};
use placer_launcher::sys::may_set_memory_policy;

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

/// Two nodes of 4 CPUs and 6 GiB, and a process in control groups: their files below the root.
fn grouped(files: &[(&str, &str)]) -> tempfile::TempDir {
    let host = Machine::new().node(0, 0..4, 8 * GIB, 6 * GIB).node(1, 4..8, 8 * GIB, 6 * GIB);
    let host = written(&host.allowed("0-7", "0-1"));
    for (path, text) in files {
        machine::put_file(host.path(), path, text);
    }
    host
}

const MIB: u64 = 1 << 20;

/// Asserts that 400 MiB are refused, by `advise --strict` and by `launch`, with these words.
fn refuses_400_mib(root: &Path, words: &str) {
    let (code, stdout, stderr) = on(root, &["advise", "--strict", "2:400"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains(words), "{stderr}");
    let (code, stdout, stderr) = launched(root, "2", "400M");
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.starts_with("placer: not starting: ") && stderr.contains(words), "{stderr}");
}

#[test]
fn a_memory_limit_of_the_own_group_is_kept() {
    let max = (200 * MIB).to_string();
    let host = grouped(&[
        ("proc/self/cgroup", "0::/job\n"),
        ("sys/fs/cgroup/job/memory.max", &max),
        ("sys/fs/cgroup/job/memory.current", "1048576\n"),
    ]);
    let words = "201.0 MiB short; memory.max of control group /job is 200.0 MiB, 199.0 MiB left";
    refuses_400_mib(host.path(), words);
    assert_eq!(on(host.path(), &["advise", "--strict", "2:199"]), answered("0"));
    // The nodes have it; whoever asks for the whole machine is not in the group.
    assert_eq!(on(host.path(), &["advise", "--strict", "--machine-wide", "2:400"]), answered("0"));
    // Guests of libvirt are started elsewhere.
    assert_eq!(on(host.path(), &["numad", "-w", "2:400"]).0, Some(0));
    let why = on(host.path(), &["advise", "2:400", "--explain"]);
    assert!(
        why.1.contains("it would fit with a higher memory.max of control group /job"),
        "{why:?}"
    );
}

#[test]
fn a_memory_limit_of_any_ancestor_is_kept() {
    let max = (200 * MIB).to_string();
    let host = grouped(&[
        ("proc/self/cgroup", "0::/slice/step/task\n"),
        ("sys/fs/cgroup/slice/step/task/memory.max", "max\n"),
        ("sys/fs/cgroup/slice/step/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/slice/step/memory.current", "0\n"),
        ("sys/fs/cgroup/slice/memory.high", &max),
        ("sys/fs/cgroup/slice/memory.max", "max\n"),
        // 50 MiB, of which 30 are file cache that the kernel gives up.
        ("sys/fs/cgroup/slice/memory.current", "52428800\n"),
        (
            "sys/fs/cgroup/slice/memory.stat",
            "anon 1\ninactive_file 20971520\nactive_file 10485760\n",
        ),
    ]);
    let words = "220.0 MiB short; memory.high of control group /slice is 200.0 MiB, 180.0 MiB left";
    refuses_400_mib(host.path(), words);
    assert_eq!(on(host.path(), &["advise", "--strict", "2:180"]), answered("0"));
}

#[test]
fn a_memory_limit_of_cgroup_v1_is_kept() {
    let limit = (200 * MIB).to_string();
    let job = "sys/fs/cgroup/memory/job";
    let all = [
        ("proc/self/cgroup".to_owned(), "5:memory:/job/step\n4:cpu,cpuacct:/\n0::/\n"),
        (format!("{job}/step/memory.limit_in_bytes"), "9223372036854771712\n"),
        (format!("{job}/step/memory.usage_in_bytes"), "1048576\n"),
        (format!("{job}/step/memory.use_hierarchy"), "1\n"),
        (format!("{job}/memory.limit_in_bytes"), &limit),
        (format!("{job}/memory.usage_in_bytes"), "31457280\n"),
        (format!("{job}/memory.use_hierarchy"), "1\n"),
        (
            format!("{job}/memory.stat"),
            "inactive_file 0\nactive_file 0\ntotal_inactive_file 10485760\ntotal_active_file 0\n",
        ),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(), "9223372036854771712\n"),
    ];
    let all: Vec<(&str, &str)> = all.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let host = grouped(&all);
    let words = "memory.limit_in_bytes of control group /job is 200.0 MiB, 180.0 MiB left";
    refuses_400_mib(host.path(), words);
    // Where groups are not charged for those below them, only the own limit counts.
    machine::put_file(host.path(), &format!("{job}/memory.use_hierarchy"), "0\n");
    assert_eq!(on(host.path(), &["advise", "--strict", "2:400"]), answered("0"));
    // The lowest limit above, of groups that a container does not see.
    let hidden = "hierarchical_memory_limit 209715200\n";
    machine::put_file(host.path(), &format!("{job}/step/memory.stat"), hidden);
    refuses_400_mib(
        host.path(),
        "hierarchical_memory_limit of control group /job/step is 200.0 MiB",
    );
}

#[test]
fn groups_are_found_where_they_are_mounted() {
    let max = (200 * MIB).to_string();
    // A container without a cgroup namespace sees its own group at the mount point.
    let mounts = "31 1 0:27 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate\n";
    let host = grouped(&[
        ("proc/self/cgroup", "0::/docker/c1\n"),
        ("proc/self/mountinfo", mounts),
        ("sys/fs/cgroup/memory.max", &max),
        ("sys/fs/cgroup/memory.current", "0\n"),
    ]);
    refuses_400_mib(host.path(), "memory.max of control group /docker/c1 is 200.0 MiB");
    // A hybrid host: v1 for memory, v2 elsewhere and without controllers.
    let mounts = "30 1 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        31 1 0:27 / /cg/mem\\040ory rw - cgroup cgroup rw,memory\n";
    let host = grouped(&[
        ("proc/self/cgroup", "3:memory:/a\n0::/b\n"),
        ("proc/self/mountinfo", mounts),
        ("cg/mem ory/a/memory.limit_in_bytes", &max),
        ("cg/mem ory/a/memory.usage_in_bytes", "0\n"),
    ]);
    refuses_400_mib(host.path(), "memory.limit_in_bytes of control group /a is 200.0 MiB");
    // A path that leads out of the recording leads nowhere.
    let host = grouped(&[
        ("proc/self/cgroup", "0::/../../job\n"),
        ("job/memory.max", &max),
        ("job/memory.current", "0\n"),
    ]);
    assert_eq!(on(host.path(), &["advise", "--strict", "2:400"]), answered("0"));
}

#[test]
fn a_limit_of_cpu_time_caps_the_cpus_that_can_be_asked_for() {
    let v2 = grouped(&[
        ("proc/self/cgroup", "0::/a/b\n"),
        ("sys/fs/cgroup/a/cpu.max", "200000 100000\n"),
        ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
    ]);
    let v1 = grouped(&[
        ("proc/self/cgroup", "3:cpu,cpuacct:/a\n"),
        ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "200000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"),
    ]);
    for (host, file) in [(&v2, "cpu.max"), (&v1, "cpu.cfs_quota_us")] {
        assert_eq!(on(host.path(), &["advise", "--strict", "2:100"]), answered("0"));
        let (code, _, stderr) = on(host.path(), &["advise", "--strict", "3:100"]);
        let words = format!("1 CPU short; {file} of control group /a allows 2 CPUs");
        assert!(code == Some(1) && stderr.contains(&words), "{stderr}");
    }
    // Less than a CPU still runs a command of one thread.
    let half =
        grouped(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", "50000 100000\n")]);
    assert_eq!(launched(half.path(), "1", "100M").0, Some(0));
    assert_eq!(launched(half.path(), "2", "100M").0, Some(1));
}

#[test]
fn a_damaged_limit_is_no_freedom() {
    for (file, text) in [("memory.max", "12k\n"), ("cpu.max", "1\n"), ("memory.max", "5\n")] {
        let path = format!("sys/fs/cgroup/a/{file}");
        let host = grouped(&[("proc/self/cgroup", "0::/a\n"), (&path, text)]);
        let (code, stdout, stderr) = on(host.path(), &["advise", "2:400"]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        // A limit without the usage beside it cannot be counted either.
        assert!(stderr.contains("sys/fs/cgroup/a/"), "{stderr}");
    }
}

/// A recording has no names of groups in it, and answers as its host does.
#[test]
fn a_recording_keeps_the_limits_of_its_groups() {
    let max = (200 * MIB).to_string();
    let v2 = grouped(&[
        ("proc/self/cgroup", "0::/user.slice/job\n"),
        ("sys/fs/cgroup/user.slice/memory.max", &max),
        ("sys/fs/cgroup/user.slice/memory.current", "52428800\n"),
        ("sys/fs/cgroup/user.slice/memory.stat", "sock 7\ninactive_file 31457280\nactive_file 0\n"),
        ("sys/fs/cgroup/user.slice/job/cpu.max", "300000 100000\n"),
    ]);
    let v1 = grouped(&[
        ("proc/self/cgroup", "9:memory:/user.slice\n8:cpu,cpuacct:/user.slice/job\n"),
        ("sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes", &max),
        ("sys/fs/cgroup/memory/user.slice/memory.usage_in_bytes", "20971520\n"),
        ("sys/fs/cgroup/cpu/user.slice/job/cpu.cfs_quota_us", "300000\n"),
        ("sys/fs/cgroup/cpu/user.slice/job/cpu.cfs_period_us", "100000\n"),
    ]);
    let mounts = "31 1 0:27 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    let container = grouped(&[
        ("proc/self/cgroup", "0::/docker/c1\n"),
        ("proc/self/mountinfo", mounts),
        ("sys/fs/cgroup/memory.max", &max),
        ("sys/fs/cgroup/memory.current", "20971520\n"),
        ("sys/fs/cgroup/cpu.max", "300000 100000\n"),
    ]);
    for host in [v2, v1, container] {
        let copies = machine::scratch();
        let (copy, again) = (copies.path().join("copy"), copies.path().join("again"));
        let (host, copy) = (host.path(), copy.as_path());
        let recorded = on(host, &["record", copy.to_str().expect("plain")]);
        assert_eq!(recorded.0, Some(0), "{}", recorded.2);
        assert_eq!(on(copy, &["record", again.to_str().expect("plain")]).0, Some(0));
        for root in [copy, again.as_path()] {
            assert_eq!(on(root, &["advise", "--strict", "3:180"]), answered("0"));
            for ask in ["3:181", "4:100"] {
                let plain = |root: &Path| {
                    let (code, stdout, stderr) = on(root, &["advise", "--strict", ask]);
                    let (what, _) = stderr.split_once("; ").expect("a group is named");
                    (code, stdout, what.to_owned())
                };
                assert_eq!(plain(root), plain(host), "{ask}");
                assert!(!on(root, &["advise", ask]).2.contains("slice"));
            }
        }
    }
}

/// libvirt writes numad's answer to `cpuset.mems`, where cgroup v1 takes no node without memory.
#[test]
fn by_numads_name_best_names_no_memoryless_node_on_cgroup_v1() {
    let host = Machine::new().node(0, 0..2, 8 * GIB, 6 * GIB).node(1, 2..4, 0, 0).node(
        2,
        4..6,
        8 * GIB,
        6 * GIB,
    );
    let host = written(&host);
    let settings = host.path().join("placer.toml");
    std::fs::write(&settings, "[numad]\npolicy = \"best\"\n").expect("written");
    let ask = |groups: &str| {
        machine::put_file(host.path(), "proc/self/cgroup", groups);
        let mut numad = common::placer();
        numad.args(["numad", "-w", "6:100"]).env("PLACER_ROOT", host.path());
        text(&common::run(numad.env("PLACER_CONFIG", &settings)).stdout)
    };
    assert_eq!(ask("5:cpuset:/\n0::/\n"), "0,2\n");
    assert_eq!(ask("0::/\n"), "0-2\n");
}

/// A kernel without CONFIG_NUMA, as of WSL or a Raspberry Pi: no node directory.
fn without_numa() -> tempfile::TempDir {
    let host = Machine::new().node(0, 0..2, 4 * GIB, 3 * GIB).allowed("0-1", "0");
    let host = written(&host);
    let nodes = host.path().join("sys/devices/system/node");
    std::fs::remove_dir_all(nodes).expect("removed");
    let meminfo = "MemTotal:        4194304 kB\nMemFree:         3145728 kB\n\
                   MemAvailable:    3500000 kB\nInactive(file):        0 kB\n";
    machine::put_file(host.path(), "proc/meminfo", meminfo);
    host
}

#[test]
fn a_kernel_without_numa_is_one_node() {
    let host = without_numa();
    let note = "placer: warning: this kernel has no NUMA: the whole host is node 0, with the memory \
                of /proc/meminfo\n";
    let answer = (Some(0), "0\n".to_owned(), note.to_owned());
    assert_eq!(on(host.path(), &["advise", "1:50"]), answer);
    assert_eq!(on(host.path(), &["advise", "--strict", "2:2500"]), answer);
    assert_eq!(on(host.path(), &["advise", "--strict", "2:4000"]).0, Some(1));
    assert_eq!(on(host.path(), &["advise", "--strict", "3:50"]).0, Some(1));
    // Its kernel has no memory policies.
    let steps = "cpus    0-1\nmemory  not bound\nexec    ./solver\n";
    assert_eq!(launched(host.path(), "1", "50M"), (Some(0), steps.to_owned(), note.to_owned()));
    let shown = on(host.path(), &["show"]);
    assert!(shown.0 == Some(0) && shown.1.contains("4.0 GiB"), "{shown:?}");
    // numad's own answer is none.
    let numad = on(host.path(), &["numad", "-w", "1:50"]);
    assert_eq!((numad.0, numad.1.as_str()), (Some(1), ""), "{}", numad.2);
    assert!(numad.2.contains("expected node directories (node0, ...), found none"), "{}", numad.2);
    // Its recording is one too.
    let copy = host.path().join("copy");
    assert_eq!(on(host.path(), &["record", copy.to_str().expect("plain")]).0, Some(0));
    assert_eq!(on(&copy, &["advise", "1:50"]), answer);
}

#[test]
fn a_tree_that_is_no_host_is_not_taken_for_one_without_numa() {
    let host = without_numa();
    std::fs::remove_file(host.path().join("proc/meminfo")).expect("removed");
    let (code, _, stderr) = on(host.path(), &["advise", "1:50"]);
    assert!(code == Some(2) && stderr.contains("expected node directories"), "{stderr}");
}

/// lxcfs numbers the CPUs of a container from 0, in `cpu/online` and in `/proc/stat`.
#[test]
fn cpus_that_a_container_renumbers_are_those_it_may_use() {
    let host = Machine::new().node(0, 0..4, 8 * GIB, 6 * GIB).node(1, 4..8, 8 * GIB, 6 * GIB);
    let host = host.allowed("5-6", "0-1");
    let online = written(&host);
    machine::put_file(online.path(), "sys/devices/system/cpu/online", "0-1\n");
    assert_eq!(on(online.path(), &["advise", "--strict", "--cpus", "2:100"]), answered("5-6"));

    let both = written(&host);
    machine::put_file(both.path(), "sys/devices/system/cpu/online", "0-1\n");
    for (path, idle) in [("proc/stat", 5000), ("next/proc/stat", 5000)] {
        let text = format!("cpu  9 0 9 9\ncpu0 100 0 100 {idle}\ncpu1 100 0 100 {idle}\nbtime 1\n");
        machine::put_file(both.path(), path, text);
    }
    let (code, stdout, stderr) = on(both.path(), &["advise", "2:100", "--json"]);
    let advice: serde_json::Value = serde_json::from_str(&stdout).expect("a form");
    assert_eq!((code, &advice["cpus"]), (Some(0), &"5-6".into()), "{stderr}");
    assert_eq!(advice["crowding"], 1.0);
    let note = "placer: warning: CPU load is unknown (/proc/stat has no line for CPUs 5-6, which \
                this process may use): every CPU counts as idle\n";
    assert_eq!(stderr, note);
}

/// The limits of a process without any are the CPUs that could ever come, also those that are off.
#[test]
fn offline_cpus_of_a_process_without_limits_do_not_count() {
    let host = Machine::new().node(0, 0..8, 8 * GIB, 6 * GIB).allowed("0-63", "0");
    let host = written(&host);
    machine::put_file(host.path(), "sys/devices/system/cpu/online", "0-3\n");
    assert_eq!(on(host.path(), &["advise", "--cpus", "2:100"]), answered("0-3"));
}

/// A shell with `AllowedCPUs=0-1` and a command bound to CPU 0 in it.
#[test]
fn a_guest_definition_is_placed_inside_the_cpuset_that_cannot_be_left() {
    let host = Machine::new().node(0, 0..2, 8 * GIB, 6 * GIB).node(1, 2..4, 8 * GIB, 7 * GIB);
    let host = written(&host.allowed("0", "0-1"));
    let guest = host.path().join("guest.toml");
    let definition =
        "name = \"g\"\ncpus = 1\nmemory = \"100M\"\n[qemu]\nemulator = \"/bin/true\"\n";
    std::fs::write(&guest, definition).expect("written");
    let cpus = |more: &[&str]| {
        let root = host.path().to_str().expect("plain");
        let guest = guest.to_str().expect("plain");
        let args = [&["launch", "--dry-run", "--root", root, guest][..], more].concat();
        let (code, stdout, stderr) = on(Path::new("/"), &args);
        assert_eq!(code, Some(0), "{stderr}");
        stdout.lines().find_map(|line| line.strip_prefix("cpus    ")).map(str::to_owned)
    };
    let some = |cpus: &str| Some(cpus.to_owned());
    // No cpuset: the whole machine counts, and node 1 has more room.
    assert_eq!(cpus(&[]), some("2-3"));
    for (groups, file) in [
        ("0::/user.slice\n", "sys/fs/cgroup/user.slice/cpuset.cpus.effective"),
        // A group without the controller has the cpuset of the group above it.
        ("0::/user.slice/shell\n", "sys/fs/cgroup/user.slice/cpuset.cpus.effective"),
        ("4:cpuset:/a\n", "sys/fs/cgroup/cpuset/a/cpuset.effective_cpus"),
        ("4:cpuset:/a\n0::/\n", "sys/fs/cgroup/cpuset/a/cpuset.cpus"),
    ] {
        machine::put_file(host.path(), "proc/self/cgroup", groups);
        machine::put_file(host.path(), file, "0-1\n");
        let mems = file.replace("cpus", "mems");
        machine::put_file(host.path(), &mems, "0\n");
        // The cpuset bounds it, the affinity of the shell does not.
        assert_eq!(cpus(&[]), some("0-1"), "{file}");
        assert_eq!(cpus(&["--machine-wide"]), some("0-1"), "{file}");
        assert_eq!(cpus(&["--machine-wide=no"]), some("0"), "{file}");
        for file in [file, &mems] {
            std::fs::remove_file(host.path().join(file)).expect("removed");
        }
    }
}

#[test]
fn on_one_node_no_memory_policy_is_set() {
    let host = written(&Machine::new().node(0, 0..4, 8 * GIB, 6 * GIB));
    let steps = "cpus    0-3\nmemory  not bound\nexec    ./solver\n";
    assert_eq!(launched(host.path(), "2", "100M"), (Some(0), steps.to_owned(), String::new()));
}

/// Docker's filter of system calls, here without CAP_SYS_NICE: memory policies are forbidden.
#[test]
fn where_memory_policies_are_forbidden_commands_start_with_their_cpus_alone() {
    let state = machine::scratch();
    let launch = |mode: &[&str]| {
        let mut launch = common::placer();
        launch.env("PATH", "/usr/bin:/bin").env("PLACER_STATE_DIR", state.path());
        launch
            .args(["launch", "--cpus", "1", "--memory", "10M"])
            .args(mode)
            .args(["--", "echo", "ran"]);
        let output = common::run(&mut launch);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let nodes = Limits::read(&SysRoot::live()).expect("a process").memory_nodes;
    let one_node = nodes.is_none_or(|nodes| nodes.len() == 1)
        && HostReader::open(&SysRoot::live()).expect("this host").files().nodes.len() == 1;
    let ran = || (Some(0), "ran\n".to_owned());
    let filtered = with_fault(libc::SYS_set_mempolicy, Errno::EPERM, || {
        assert_eq!(may_set_memory_policy(), Err(Errno::EPERM));
        let (code, stdout, stderr) = launch(&[]);
        assert_eq!((code, stdout), ran(), "{stderr}");
        let said = stderr.matches("may set no memory policy").count();
        assert_eq!(said, usize::from(!one_node), "{stderr}");
        // What is asked for by name is set or refused; on one node there is nothing to set.
        let (code, stdout, stderr) = launch(&["--mode", "strict"]);
        let refused = (Some(2), String::new());
        assert_eq!((code, stdout), if one_node { ran() } else { refused }, "{stderr}");
    });
    if !filtered {
        testkit::require::does_not_apply("this kernel has no filters of system calls");
    }
}
