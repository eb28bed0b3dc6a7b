//! Every step of a launch is made to fail once, with each errno that it can fail with, and leaves
//! nothing behind: no process, no group, no claim, no descriptor, no blocked signal.
//!
//! The launcher's calls on groups fail by the trait [`Kernel`]; its other calls and all of the
//! child's by a filter of system calls, so that nothing stands in their place. What systemd is asked
//! for has a file of its own, `scope.rs`.

use crate::held;
use testkit::fake;
use testkit::filter;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fake::{Fake, binding, guest, put};
use filter::{skipped, with_fault};
use held::{alone, held};
use nix::errno::Errno;
use placer_engine::claims::{Caller, ClaimDirs, ClaimOwner, Claims, LOCK_TIMEOUT};
use placer_engine::{Request, Snapshot, SysRoot, advise};
use placer_launcher::cgroup::{Live, plan};
use placer_launcher::guest::{CgroupMode, Lxc, Program};
use placer_launcher::{End, Ended, LaunchError, Step, Waiting};

fn run(waiting: Waiting<'_>) -> Result<End, LaunchError> {
    waiting.open()?.wait()
}

// ------------------------------------------------------------ the launcher's calls on groups

/// All that mkdir, open, write, rmdir of a group can answer.
const GROUP_ERRNOS: [Errno; 17] = [
    Errno::EACCES,
    Errno::EPERM,
    Errno::EROFS,
    Errno::EBUSY,
    Errno::ENOENT,
    Errno::EEXIST,
    Errno::EAGAIN,
    Errno::ENOSPC,
    Errno::ENOMEM,
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::EINVAL,
    Errno::EIO,
    Errno::ENODEV,
    Errno::EOPNOTSUPP,
    Errno::EINTR,
    Errno::ERANGE,
];

/// A host on which the launcher has to move out of its group, and a guest with groups inside.
fn scene() -> (Fake, placer_launcher::guest::Guest) {
    let fake = Fake::new("cpuset memory");
    let unit = fake.group("run.scope", "cpuset memory");
    put(&unit.join("cgroup.procs"), &std::process::id().to_string());
    fake.marked.borrow_mut().insert(unit);
    // Somebody else's, which sweeping looks at.
    put(&fake.group("run.scope/placer-other.1", "").join("cgroup.procs"), "1");
    // The group above makes it look as if controllers were on.
    put(&fake.root().join("run.scope/cgroup.subtree_control"), "");
    let mut guest = guest(CgroupMode::Own, None);
    guest.program = Program::Lxc(Lxc::default());
    (fake, guest)
}

fn launch(fake: &Fake, guest: &placer_launcher::guest::Guest) -> Result<End, LaunchError> {
    let binding = binding();
    let planned = plan(fake, &fake.tree("/run.scope", true), guest, &binding)?;
    let steps = planned.around(binding.steps(vec!["true".into()]));
    run(Waiting::prepare(fake, &steps)?)
}

#[test]
fn each_call_on_groups_fails_with_each_errno() {
    let _alone = alone();
    let (fake, guest) = scene();
    let end = launch(&fake, &guest).expect("a launch");
    assert_eq!((end.ended, end.left), (Ended::Exited(0), None));
    let calls = fake.calls.borrow().clone();
    assert!(calls.len() > 25, "{calls:?}");
    let before_launches = held();
    for (at, call) in calls.iter().enumerate() {
        for errno in GROUP_ERRNOS {
            if call.starts_with("remove") && errno == Errno::ENOENT {
                // Then it is not there, and is not told of.
                continue;
            }
            let (fake, guest) = scene();
            let before = (fake.groups(), held());
            fake.fails.set(Some((at, errno)));
            let outcome = launch(&fake, &guest);
            fake.fails.set(None);
            let what = format!("{call}: {errno}: {outcome:?}");
            let mut groups = fake.groups();
            // What could not be removed was told of, and the next launch removes it.
            let left = outcome.as_ref().ok().and_then(|end| end.left.clone());
            if let Some(left) = left {
                assert!(left.to_string().starts_with("cannot "), "{what}");
                assert_eq!(left.errno(), errno, "{what}");
                put(&fake.root().join("run.scope/cgroup.subtree_control"), "cpuset");
                launch(&fake, &guest).expect("a launch");
                put(&fake.root().join("run.scope/cgroup.subtree_control"), "");
                groups = fake.groups();
                // But for that of a launcher that could not move back, which ends with it.
                groups.retain(|dir| !dir.to_string_lossy().contains("launcher."));
            }
            assert_eq!((groups, held()), before, "{what}");
            if let Err(error) = outcome {
                let text = error.to_string();
                assert!(text.starts_with("cannot ") && !text.contains('\n'), "{what}");
            }
        }
    }
    assert_eq!(held().children, before_launches.children);
}

#[test]
fn a_refused_call_on_a_group_is_named_with_its_file() {
    let _alone = alone();
    let (fake, guest) = scene();
    launch(&fake, &guest).expect("a launch");
    let calls = fake.calls.borrow().clone();
    let me = std::process::id().to_string();
    for (call, words) in [
        ("make run.scope/launcher.PID", "cannot move the launcher to ROOT/run.scope/launcher.PID"),
        ("write \"PID\" to run.scope/launcher.PID/cgroup.procs", "cannot move the launcher to "),
        (
            "write \"+cpuset +memory\" to run.scope/cgroup.subtree_control",
            "cannot enable cpuset, memory in ROOT/run.scope/cgroup.subtree_control: Permission",
        ),
        (
            "make run.scope/placer-g.PID",
            "cannot make the control group ROOT/run.scope/placer-g.PID",
        ),
        (
            "write \"CPUS\" to run.scope/placer-g.PID/cpuset.cpus",
            "cannot write \"CPUS\" to ROOT/run.scope/placer-g.PID/cpuset.cpus: Permission denied",
        ),
        ("make run.scope/placer-g.PID/lxc", "cannot make the control group ROOT/run.scope/"),
    ] {
        let root = fake.root().to_string_lossy().into_owned();
        let cpus = binding().cpus.to_string();
        let call = call.replace("PID", &me).replace("CPUS", &cpus);
        let at = calls.iter().position(|made| *made == call);
        let at = at.unwrap_or_else(|| unreachable!("no {call} in {calls:?}"));
        let (fake, guest) = scene();
        fake.fails.set(Some((at, Errno::EACCES)));
        let error = launch(&fake, &guest).expect_err("refused").to_string();
        let error = error.replace(&*fake.root().to_string_lossy(), "ROOT").replace(&root, "ROOT");
        let words = words.replace("PID", &me).replace("CPUS", &cpus);
        assert!(error.starts_with(&words), "{error}");
        assert!(error.contains("no permission to change ROOT"), "{error}");
    }
}

#[test]
fn what_was_done_is_undone_in_reverse_order() {
    let _alone = alone();
    let (fake, guest) = scene();
    let binding = binding();
    let planned = plan(&fake, &fake.tree("/run.scope", true), &guest, &binding).expect("a plan");
    // The last that can be refused: the program is not there.
    let steps = planned.around(binding.steps(vec!["/no/such".into()]));
    let waiting = Waiting::prepare(&fake, &steps).expect("prepared");
    fake.calls.borrow_mut().clear();
    assert_eq!(waiting.open().expect_err("no program").errno(), Errno::ENOENT);
    let me = std::process::id().to_string();
    let calls = fake.calls.borrow();
    let looks = |call: &&String| call.starts_with("list") || call.starts_with("read");
    let calls = calls.iter().filter(|call| !looks(call));
    assert_eq!(
        calls.map(|call| call.replace(&me, "PID")).collect::<Vec<_>>(),
        [
            "remove run.scope/placer-g.PID/lxc",
            "remove run.scope/placer-g.PID",
            "write \"-cpuset -memory\" to run.scope/cgroup.subtree_control",
            "write \"PID\" to run.scope/cgroup.procs",
            "remove run.scope/launcher.PID",
        ]
    );
}

// ----------------------------------------------------------- all other calls, by a filter

fn plain_steps() -> Vec<Step> {
    binding().steps(vec!["true".into()])
}

/// A launch fails with this errno, in these words, and leaves nothing.
fn fails(call: libc::c_long, errno: Errno, words: &str) -> bool {
    with_fault(call, errno, || {
        let before = held();
        let outcome = Waiting::prepare(&Live, &plain_steps()).and_then(run);
        let error = outcome.expect_err("a refusal");
        assert_eq!(error.errno(), errno, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(words) && !text.contains('\n'), "{errno}: {text}");
        assert_eq!(held(), before, "{text}");
    })
}

#[test]
fn each_step_of_the_child_fails_with_each_errno() {
    let _alone = alone();
    use Errno::*;
    let table: [(libc::c_long, &str, &[Errno]); 3] = [
        (
            libc::SYS_sched_setaffinity,
            "cannot run on CPUs ",
            &[EINVAL, EPERM, ESRCH, EFAULT, ENOMEM, ENOSYS],
        ),
        (
            libc::SYS_set_mempolicy,
            "cannot bind memory strict to nodes ",
            &[EINVAL, EPERM, ENOMEM, EFAULT, ENOSYS, EIO],
        ),
        (
            libc::SYS_execve,
            "cannot run true: ",
            &[
                E2BIG,
                EACCES,
                EAGAIN,
                EFAULT,
                EINVAL,
                EIO,
                EISDIR,
                ELIBBAD,
                ELOOP,
                EMFILE,
                ENAMETOOLONG,
                ENFILE,
                ENOENT,
                ENOEXEC,
                ENOMEM,
                ENOTDIR,
                EPERM,
                ETXTBSY,
            ],
        ),
    ];
    for (call, words, errnos) in table {
        assert!(errnos.iter().all(|&errno| fails(call, errno, words)) || skipped());
    }
}

#[test]
fn each_call_that_starts_the_process_fails_with_each_errno() {
    let _alone = alone();
    use Errno::*;
    let table: [(libc::c_long, &[Errno]); 4] = [
        (libc::SYS_pipe2, &[EMFILE, ENFILE, ENOMEM, EINVAL]),
        (libc::SYS_signalfd4, &[EMFILE, ENFILE, ENOMEM, ENODEV, EINVAL]),
        (libc::SYS_rt_sigprocmask, &[EINVAL, EPERM]),
        (libc::SYS_clone, &[EAGAIN, ENOMEM, EPERM, ENOSYS]),
    ];
    for (call, errnos) in table {
        let all = errnos.iter().all(|&errno| fails(call, errno, "cannot start a process ("));
        assert!(all || skipped());
    }
}

#[test]
fn a_process_that_cannot_be_born_in_its_group_leaves_none() {
    let _alone = alone();
    use Errno::*;
    let refused = [EACCES, EAGAIN, EBUSY, ENOMEM, ENODEV, ENOSPC, EOPNOTSUPP];
    // On these it is moved there instead, as in a directory that is no group of the kernel's.
    let moved = [ENOSYS, EINVAL, E2BIG, EPERM, EBADF];
    for errno in refused.into_iter().chain(moved) {
        let (fake, guest) = scene();
        // A thread that works while the others wait has it for itself.
        let fake = Mutex::new(fake);
        let set = with_fault(libc::SYS_clone3, errno, || {
            let fake = fake.lock().unwrap_or_else(PoisonError::into_inner);
            let before = (fake.groups(), held());
            let outcome = launch(&fake, &guest);
            assert_eq!((fake.groups(), held()), before, "{errno}: {outcome:?}");
            match outcome {
                Ok(end) => {
                    assert!(moved.contains(&errno) && end.left.is_none(), "{errno}: {end:?}");
                }
                Err(error) => {
                    assert!(refused.contains(&errno), "{error}");
                    let root = fake.root().to_string_lossy();
                    let words = format!("cannot start the guest in {root}/run.scope/placer-g.");
                    assert!(error.to_string().starts_with(&words), "{error}");
                }
            }
        });
        assert!(set || skipped());
    }
}

#[test]
fn what_a_launch_can_do_without_does_not_stop_it() {
    let _alone = alone();
    // Without it the end of the guest is looked for every now and then.
    for errno in [Errno::ENOSYS, Errno::EMFILE, Errno::ENOMEM, Errno::EPERM] {
        let set = with_fault(libc::SYS_pidfd_open, errno, || {
            let before = held();
            let outcome = Waiting::prepare(&Live, &plain_steps()).and_then(run);
            assert_eq!(outcome.map(|end| end.ended), Ok(Ended::Exited(0)), "{errno}");
            assert_eq!(held(), before);
        });
        assert!(set || skipped());
    }
}

#[test]
fn a_launcher_that_was_told_to_ignore_its_children_waits_for_them() {
    let _alone = alone();
    // SAFETY: sets a disposition that touches no memory; no other test runs now.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let steps = binding().steps(["sh", "-c", "exit 3"].map(Into::into).to_vec());
    let outcome = Waiting::prepare(&Live, &steps).and_then(run);
    assert_eq!(outcome.map(|end| end.ended), Ok(Ended::Exited(3)));
}

// ------------------------------------------------------------------------------- the claim

#[test]
fn the_claim_of_a_launch_that_failed_does_not_count() {
    let _alone = alone();
    let tmp = tempfile::tempdir().expect("a directory");
    let place = ClaimDirs { own: Some(tmp.path().join("state")), ..ClaimDirs::default() };
    let claims = Claims::open_to_claim(&place, &SysRoot::live()).expect("a ledger").asked_only();
    let snapshot = Snapshot::take(&SysRoot::live(), Duration::ZERO).expect("this machine");
    let request: Request = "1:1".parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an answer");
    let claim = |pid: u32| {
        let (decision, _) = claims.begin(LOCK_TIMEOUT).expect("the lock");
        let caller = Caller { uid: 0, pid: 1, program: "test".to_owned() };
        decision.claim(&request, &advice, ClaimOwner::Pid(pid), caller, None).expect("claimed")
    };
    let count = || claims.view().expect("a ledger").claims.len();
    for argv in ["/no/such", "/etc/passwd"] {
        let steps = binding().steps(vec![argv.into()]);
        let waiting = Waiting::prepare(&Live, &steps).expect("prepared");
        claim(waiting.pid());
        assert_eq!(count(), 1, "claimed while it waits");
        // Whether or not its launcher comes to release it.
        waiting.open().expect_err("refused");
        assert_eq!(count(), 0);
    }
    let waiting = Waiting::prepare(&Live, &plain_steps()).expect("prepared");
    claim(waiting.pid());
    drop(waiting);
    assert_eq!(count(), 0);
}
