//! Real containers: bound from their first instruction, and nothing of them stays.
//!
//! Each container shares the host's files, or has a directory with a static busybox.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use needs::needs;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use placer_engine::{Limits, NodeSet, SysRoot};
use placer_launcher::cgroup::{Cpuset, Live, Tree, plan};
use placer_launcher::guest::{Guest, Lxc, LxcRoot, Program};
use placer_launcher::{Binding, Ended, MemoryMode, Step, Waiting, lxc};

fn binding() -> Binding {
    let limits = Limits::read(&SysRoot::live()).expect("a process");
    // The last of each, which nothing is by chance.
    let cpus = limits.cpus.and_then(|cpus| cpus.iter().last());
    let memory: NodeSet =
        limits.memory_nodes.and_then(|nodes| nodes.iter().last()).into_iter().collect();
    let cpus = cpus.into_iter().collect();
    Binding { cpus, preferred: memory.clone(), memory, mode: MemoryMode::Strict }
}

/// Returns the steps for a container that runs a script.
fn steps(name: &str, root: LxcRoot, script: &str) -> Vec<Step> {
    let name = format!("{name}-{}", std::process::id()).parse().expect("a name");
    let args = vec!["-c".to_owned(), script.to_owned()];
    let lxc = Lxc { root, init: Some("/bin/sh".to_owned()), args, config: Vec::new() };
    let guest = Guest::new(name, Program::Lxc(lxc.clone()));
    let (tree, binding) = (Tree::read(Path::new("/")), binding());
    let planned = plan(&Live, &tree, &guest, &binding).expect("a plan");
    let argv = lxc::argv(&guest.name, &lxc, &binding, &tree, &planned).expect("arguments");
    planned.around(binding.steps(argv))
}

/// Our own groups, which hold those that LXC makes.
fn groups() -> Vec<PathBuf> {
    let mount = Tree::read(Path::new("/")).mount.unwrap_or_default();
    let entries = std::fs::read_dir(mount).map(|entries| entries.flatten().collect());
    let entries: Vec<std::fs::DirEntry> = entries.unwrap_or_default();
    let ours = format!(".{}", std::process::id());
    let names = entries.into_iter().map(|entry| entry.path());
    names.filter(|path| path.display().to_string().ends_with(&ours)).collect()
}

/// One after the other: they are told apart by this process, and share what LXC keeps.
#[needs(root, lxc_execute, busybox, init_lxc_static)]
#[test]
fn containers() {
    its_first_instruction_is_bound();
    it_has_a_file_system_of_its_own();
    a_signal_ends_it();
    what_cannot_be_started_leaves_nothing();
}

fn its_first_instruction_is_bound() {
    let tmp = tempfile::tempdir().expect("a directory");
    let (ready, go) = (tmp.path().join("ready"), tmp.path().join("go"));
    let script = format!(
        "cat /proc/self/status /proc/self/numa_maps > {0}.new; mv {0}.new {0}; \
         while ! test -e {1}; do sleep 0.1; done; exit 7",
        ready.display(),
        go.display()
    );
    let steps = steps("bound", LxcRoot::Host, &script);
    let waiting = Waiting::prepare(&Live, &steps).expect("prepared");
    let group = waiting.group().map(|group| group.dir().to_owned());
    let started = waiting.open().expect("begun");
    while !ready.exists() {
        // One that has ended has no program.
        let program = std::fs::read_link(format!("/proc/{}/exe", started.pid()));
        assert!(program.is_ok(), "it ended before it was ready");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    if let Some(group) = &group {
        assert!(inside(group) >= 2, "LXC's own process and the container's are in the group");
    }
    std::fs::write(&go, "").expect("written");
    let end = started.wait().expect("its end");
    assert_eq!((end.ended, end.left), (Ended::Exited(7), None));
    let seen = std::fs::read_to_string(&ready).expect("written");
    let binding = binding();
    assert!(seen.contains(&format!("Cpus_allowed_list:\t{}\n", binding.cpus)), "{seen}");
    let policy = format!("bind=static:{}", binding.memory);
    if seen.contains(" N0=") || seen.contains(&policy) {
        assert!(seen.contains(&policy), "{seen}");
        // No page of its own is anywhere else. Those of files may have been there before.
        let own = |line: &&str| line.contains(" anon=") && !line.contains(" file=");
        for line in seen.lines().filter(own) {
            let on = line.split(' ').filter(|word| is_share(word));
            let node = format!("N{}=", binding.memory);
            assert!(on.into_iter().all(|share| share.starts_with(&node)), "{line}");
        }
    } else {
        testkit::require::does_not_apply("memory of a container: a kernel without NUMA");
    }
    if Tree::read(Path::new("/")).cpuset == Cpuset::V2 {
        assert!(seen.contains(&format!("Mems_allowed_list:\t{}\n", binding.memory)), "{seen}");
    }
    assert!(groups().is_empty());
}

/// Whether a word of numa_maps is pages on a node, as in `N0=3`.
fn is_share(word: &str) -> bool {
    let rest = word.strip_prefix('N').and_then(|rest| rest.split_once('='));
    rest.is_some_and(|(node, _)| node.bytes().all(|b| b.is_ascii_digit()))
}

/// Counts processes in a group and those inside of it.
fn inside(group: &Path) -> usize {
    let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let inner = std::fs::read_dir(group).expect("a group").flatten();
    let inner = inner.map(|entry| entry.path()).filter(|path| path.is_dir());
    procs.lines().count() + inner.map(|dir| inside(&dir)).sum::<usize>()
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid"))
}

fn it_has_a_file_system_of_its_own() {
    // In a directory nothing may need libraries: neither busybox nor process 1 (init.lxc.static).
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).is_file());
    let busybox = busybox.expect("busybox");
    let tmp = tempfile::tempdir().expect("a directory");
    let root = tmp.path().join("root");
    for dir in ["bin", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    // By another process: see `fake` in tests/qemu.rs.
    let copied = Command::new("cp").arg(busybox).arg(root.join("bin")).status().expect("cp");
    assert!(copied.success());
    symlink("busybox", root.join("bin/sh")).expect("a link");
    let path = root.to_str().expect("a plain path").to_owned();
    let script = "test ! -e /usr && test -e /proc/self/status && exit 8";
    let steps = steps("dir", LxcRoot::Directory(path), script);
    let end = Waiting::prepare(&Live, &steps).expect("prepared").open().expect("begun").wait();
    assert_eq!(end.expect("its end").ended, Ended::Exited(8));
    assert!(groups().is_empty());
}

fn a_signal_ends_it() {
    let tmp = tempfile::tempdir().expect("a directory");
    let ready = tmp.path().join("ready");
    let script = format!("touch {}; exec sleep 1000", ready.display());
    let steps = steps("signal", LxcRoot::Host, &script);
    let started = Waiting::prepare(&Live, &steps).expect("prepared").open().expect("begun");
    while !ready.exists() {
        // One that has ended has no program.
        let program = std::fs::read_link(format!("/proc/{}/exe", started.pid()));
        assert!(program.is_ok(), "it ended before it was ready");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    nix::sys::signal::kill(pid(started.pid()), Signal::SIGTERM).expect("sent");
    let end = started.wait().expect("its end");
    assert_eq!((end.ended, end.left), (Ended::Exited(128 + 15), None));
    assert!(groups().is_empty());
}

fn what_cannot_be_started_leaves_nothing() {
    let steps = steps("nowhere", LxcRoot::Directory("/no/such/root".to_owned()), "true");
    let end = Waiting::prepare(&Live, &steps).expect("prepared").open().expect("begun").wait();
    let end = end.expect("its end");
    assert!(matches!(end.ended, Ended::Exited(status) if status != 0), "{end:?}");
    assert_eq!(end.left, None);
    assert!(groups().is_empty());
}
