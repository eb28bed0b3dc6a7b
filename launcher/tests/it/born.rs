//! Guests in control groups of this machine: born there, held there, and nothing of it stays.
//!
//! Needs root and a cgroup v2 that can be written to; skipped with a line that says so.

use std::path::{Path, PathBuf};

use filter::with_fault;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use placer_engine::{Limits, NodeSet, SysRoot};
use placer_launcher::cgroup::{Cpuset, GroupStep, Live, Tree, plan};
use placer_launcher::guest::{Cgroup, CgroupMode, Guest, Program};
use placer_launcher::{Binding, Ended, MemoryMode, Step, Waiting};

use testkit::filter;

/// Returns the tree, and a group of this test's own below its first, if they can be had.
fn own_group(name: &str) -> Option<(Tree, Parent)> {
    let tree = Tree::read(Path::new("/"));
    let Some(mount) = &tree.mount else {
        testkit::require::does_not_apply("no cgroup v2 is mounted here");
        return None;
    };
    let dir = mount.join(format!("test-{name}-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir(&dir) {
        testkit::require::does_not_apply(format!(
            "no group can be made here: {}: {error}",
            dir.display()
        ));
        return None;
    }
    let _ = std::fs::write(mount.join("cgroup.subtree_control"), "+cpuset +memory");
    Some((tree, Parent(dir)))
}

/// Removed at the end, which shows that nothing is in it.
struct Parent(PathBuf);

impl Drop for Parent {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir(&self.0);
        if !std::thread::panicking() {
            removed.expect("a group with nothing left in it");
        }
    }
}

fn steps(parent: &Parent, binding: &Binding, tree: &Tree, script: &str) -> Vec<Step> {
    named("g", parent, binding, tree, script)
}

fn named(name: &str, parent: &Parent, binding: &Binding, tree: &Tree, script: &str) -> Vec<Step> {
    let argv = ["sh", "-c", script].map(Into::into).to_vec();
    let mut guest = Guest::new(name.parse().expect("a name"), Program::Command(argv.clone()));
    let parent = parent.0.to_str().expect("a plain path").to_owned();
    guest.cgroup = Cgroup { mode: CgroupMode::Own, parent: Some(parent.clone()) };
    let planned = if tree.cpuset == Cpuset::V2 {
        plan(&Live, tree, &guest, binding).expect("a plan")
    } else {
        // The same without the cpuset.
        let dir = PathBuf::from(format!("{parent}/placer-{name}.{}", std::process::id()));
        let steps = vec![
            GroupStep::Make { dir: dir.clone() },
            GroupStep::Enter { dir: dir.clone() },
            GroupStep::Remove { dir },
        ];
        placer_launcher::cgroup::Planned { steps, ..Default::default() }
    };
    planned.around(binding.steps(argv))
}

fn binding() -> Binding {
    let limits = Limits::read(&SysRoot::live()).expect("a process");
    // The last of each, which nothing is by chance.
    let cpus = limits.cpus.and_then(|cpus| cpus.iter().last());
    let memory: NodeSet =
        limits.memory_nodes.and_then(|nodes| nodes.iter().last()).into_iter().collect();
    let cpus = cpus.into_iter().collect();
    Binding { cpus, preferred: memory.clone(), memory, mode: MemoryMode::Strict }
}

/// Runs a guest that tells what it sees, checks that, and how it ended.
fn runs_in_its_group(name: &str) {
    let Some((tree, parent)) = own_group(name) else { return };
    let tmp = tempfile::tempdir().expect("a directory");
    let file = tmp.path().join("seen");
    let script = format!("cat /proc/self/cgroup /proc/self/status > {}; exit 5", file.display());
    let binding = binding();
    let steps = steps(&parent, &binding, &tree, &script);
    let waiting = Waiting::prepare(&Live, &steps).expect("prepared");
    let group = waiting.group().expect("a group");
    let procs = std::fs::read_to_string(group.dir().join("cgroup.procs")).expect("processes");
    assert_eq!(procs, format!("{}\n", waiting.pid()), "the child waits in its group");
    let claimed = group.claimed(&tree).expect("in the tree");
    let end = waiting.open().expect("begun").wait().expect("its end");
    assert_eq!((end.ended, end.left), (Ended::Exited(5), None));
    let seen = std::fs::read_to_string(&file).expect("written");
    assert!(seen.contains(&format!("0::{}\n", claimed.path)), "{seen}");
    assert!(seen.contains(&format!("Cpus_allowed_list:\t{}\n", binding.cpus)), "{seen}");
    if tree.cpuset == Cpuset::V2 {
        assert!(seen.contains(&format!("Mems_allowed_list:\t{}\n", binding.memory)), "{seen}");
    } else {
        testkit::require::does_not_apply("what a cpuset does: this host has none in cgroup v2");
    }
}

#[test]
fn a_guest_is_born_in_its_group() {
    runs_in_its_group("born");
}

#[test]
fn a_guest_that_cannot_be_born_there_is_moved_before_it_begins() {
    for (name, errno) in [("nosys", Errno::ENOSYS), ("inval", Errno::EINVAL)] {
        with_fault(libc::SYS_clone3, errno, || runs_in_its_group(name));
    }
}

#[test]
fn whatever_fails_later_removes_the_group() {
    let Some((tree, parent)) = own_group("later") else { return };
    let steps = steps(&parent, &binding(), &tree, "true");
    let left = || std::fs::read_dir(&parent.0).expect("a group").flatten().count();
    let empty = left();
    // Never begun.
    drop(Waiting::prepare(&Live, &steps).expect("prepared"));
    assert_eq!(left(), empty);
    // Killed at the gate.
    let waiting = Waiting::prepare(&Live, &steps).expect("prepared");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(waiting.pid()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("killed");
    match waiting.open() {
        Ok(started) => assert_eq!(started.wait().expect("its end").left, None),
        Err(error) => assert!(error.to_string().contains("before it was bound"), "{error}"),
    }
    assert_eq!(left(), empty);
}

#[test]
fn processes_that_a_guest_leaves_behind_are_told_of() {
    let Some((tree, parent)) = own_group("behind") else { return };
    let steps = steps(&parent, &binding(), &tree, "sleep 1000 > /dev/null 2>&1 & echo $! >&2");
    let waiting = Waiting::prepare(&Live, &steps).expect("prepared");
    let dir = waiting.group().expect("a group").dir().to_owned();
    let end = waiting.open().expect("begun").wait().expect("its end");
    assert_eq!(end.ended, Ended::Exited(0));
    let left = end.left.expect("a note").to_string();
    assert!(left.contains("processes that the guest left behind run in it"), "{left}");
    // The next launch beside it removes it, when they have ended.
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).expect("a process");
    let pid = nix::unistd::Pid::from_raw(procs.trim().parse().expect("one pid"));
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("killed");
    // Not a child of ours, so it cannot be waited for.
    for _ in 0..1000 {
        if std::fs::remove_dir(&dir).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!dir.exists());
}

/// As root without systemd the first group is ours; with it, run this in a scope of its own:
/// `systemd-run --scope -p Delegate=yes`.
#[test]
fn a_group_that_was_delegated_is_used_and_left_as_it_was() {
    let tree = Tree::read(Path::new("/"));
    let program = Program::Command(vec!["true".into()]);
    let mut guest = Guest::new("delegated".parse().expect("a name"), program);
    guest.cgroup.mode = CgroupMode::Own;
    let binding = binding();
    let planned = match plan(&Live, &tree, &guest, &binding) {
        Ok(planned) if !planned.steps.is_empty() => planned,
        other => {
            testkit::require::does_not_apply(format!("nothing is delegated here: {other:?}"));
            return;
        }
    };
    planned.steps.iter().for_each(|step| println!("{step}"));
    let own = || {
        let own = Tree::read(Path::new("/")).own;
        let dir = tree.mount.clone().unwrap_or_default().join(own.trim_start_matches('/'));
        let is_dir = |entry: &std::fs::DirEntry| entry.path().is_dir();
        let inner = std::fs::read_dir(&dir).expect("a group").flatten().filter(is_dir).count();
        (own, inner)
    };
    let before = own();
    let script = format!("grep -q '^Mems_allowed_list:.{}$' /proc/self/status", binding.memory);
    let argv = ["sh", "-c", &script].map(Into::into).to_vec();
    let waiting = Waiting::prepare(&Live, &planned.around(binding.steps(argv))).expect("prepared");
    let end = waiting.open().expect("begun").wait().expect("its end");
    assert_eq!((end.ended, end.left), (Ended::Exited(0), None));
    if before.0 != "/" {
        // Other tests have groups in the first.
        assert_eq!(own(), before);
    }
}

#[test]
fn what_a_killed_launcher_leaves_is_removed_by_the_next() {
    let Some((tree, parent)) = own_group("killed") else { return };
    let binding = binding();
    let groups = || {
        let entries = std::fs::read_dir(&parent.0).expect("a group").flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let launch = || {
        let steps = steps(&parent, &binding, &tree, "true");
        let end = Waiting::prepare(&Live, &steps).expect("prepared").open().expect("begun").wait();
        assert_eq!(end.expect("its end").left, None);
    };
    for begins in [false, true] {
        let steps = named("dies", &parent, &binding, &tree, "exec sleep 1000");
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        // SAFETY: the child only prepares a launch, writes to a pipe and kills itself; it has a heap
        // of its own, whose locks the C library frees in it.
        match unsafe { nix::unistd::fork() }.expect("a launcher") {
            nix::unistd::ForkResult::Child => {
                let waiting = Waiting::prepare(&Live, &steps);
                let pid = waiting.as_ref().map_or(0, Waiting::pid);
                let _started = waiting.ok().filter(|_| begins).map(Waiting::open);
                let _ = nix::unistd::write(&write, &pid.to_ne_bytes());
                let _ = nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGKILL);
                unreachable!("killed");
            }
            nix::unistd::ForkResult::Parent { child } => {
                drop(write);
                let mut pid = [0; 4];
                assert_eq!(nix::unistd::read(&read, &mut pid), Ok(4));
                nix::sys::wait::waitpid(child, None).expect("the launcher's end");
                if begins {
                    // The guest lives, and its group with it, and what it made in there.
                    let inner = groups().remove(0).join("inner");
                    std::fs::create_dir(&inner).expect("a group in the guest's");
                    launch();
                    assert_eq!(groups().len(), 1);
                    assert!(inner.exists(), "a group of a guest that lives was removed");
                    let pid = i32::try_from(u32::from_ne_bytes(pid)).expect("a pid");
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL)
                        .expect("killed");
                }
            }
        }
        // Its end cannot be waited for here.
        let since = std::time::Instant::now();
        while !groups().is_empty() {
            assert!(since.elapsed() < std::time::Duration::from_secs(60), "{:?}", groups());
            launch();
        }
    }
}

#[test]
fn launches_side_by_side_do_not_sweep_each_other_away() {
    let Some((tree, parent)) = own_group("beside") else { return };
    let binding = binding();
    std::thread::scope(|scope| {
        let one = |number: usize| {
            let (parent, binding, tree) = (&parent, &binding, &tree);
            move || {
                for _ in 0..5 {
                    let steps = named(&format!("g{number}"), parent, binding, tree, "exit 3");
                    let waiting = Waiting::prepare(&Live, &steps).expect("prepared");
                    let end = waiting.open().expect("begun").wait().expect("its end");
                    assert_eq!((end.ended, end.left), (Ended::Exited(3), None));
                }
            }
        };
        for number in 0..16 {
            scope.spawn(one(number));
        }
    });
}
