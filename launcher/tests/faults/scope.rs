//! The step by which systemd makes a scope is made to fail, in each way its busctl can fail, and leaves
//! nothing behind: no process, no claim, no descriptor, no blocked signal. A scope goes with its last
//! process, so none is left where the process is gone that it was to be made around.

use crate::held;
use testkit::fake;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fake::{Fake, binding};
use held::{alone, held};
use nix::errno::Errno;
use placer_engine::claims::{Caller, ClaimDirs, ClaimOwner, Claims, LOCK_TIMEOUT};
use placer_engine::{Request, Snapshot, SysRoot, advise};
use placer_launcher::cgroup::{GroupStep, Kernel, Live, Planned};
use placer_launcher::systemd::{Scope, ScopeStep};
use placer_launcher::{End, Ended, LaunchError, Step, Waiting};

/// For what ends by itself, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);
/// For what does not.
const SHORT: Duration = Duration::from_millis(300);

fn scope(busctl: &Path, limit: Duration) -> GroupStep {
    GroupStep::Scope(Box::new(ScopeStep {
        unit: "placer-g-7.scope".to_owned(),
        description: "placer: guest g".to_owned(),
        slice: None,
        cpus: binding().cpus,
        nodes: binding().memory,
        inner: false,
        busctl: busctl.to_owned(),
        system: true,
        mount: PathBuf::from("/sys/fs/cgroup"),
        limit,
    }))
}

/// A launch of `argv` in a scope that is asked for by this program.
fn steps(busctl: &Path, argv: &str, limit: Duration) -> Vec<Step> {
    let mut steps = vec![Step::Group(scope(busctl, limit))];
    steps.extend(binding().steps(vec![argv.into()]));
    steps
}

/// Launches as `placer launch` does: what waits is claimed for, then let go. Returns how that ended,
/// and how many claims there are.
fn launch(kernel: &dyn Kernel, steps: &[Step]) -> (Result<End, LaunchError>, usize) {
    let tmp = tempfile::tempdir().expect("a directory");
    let place = ClaimDirs { own: Some(tmp.path().join("state")), ..ClaimDirs::default() };
    let claims = Claims::open_to_claim(&place, &SysRoot::live()).expect("a ledger").asked_only();
    let snapshot = Snapshot::take(&SysRoot::live(), Duration::ZERO).expect("this machine");
    let request: Request = "1:1".parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an answer");
    let outcome = Waiting::prepare(kernel, steps).and_then(|waiting| {
        let (decision, _) = claims.begin(LOCK_TIMEOUT).expect("the lock");
        let caller = Caller { uid: 0, pid: 1, program: "test".to_owned() };
        let who = ClaimOwner::Pid(waiting.pid());
        decision.claim(&request, &advice, who, caller, None).expect("claimed");
        waiting.open()?.wait()
    });
    (outcome, claims.view().expect("a ledger").claims.len())
}

/// A busctl that is such a script; what it is asked it writes down.
fn busctl(dir: &Path, script: &str) -> PathBuf {
    let program = dir.join("busctl");
    let draft = dir.join("draft");
    let asked = dir.join("asked").display().to_string();
    std::fs::write(&draft, format!("#!/bin/sh\necho \"$*\" >>{asked}\n{script}\n"))
        .expect("a script");
    // Copied by another process, for no fork of this one to keep it open for writing.
    let copied = std::process::Command::new("cp").args([&draft, &program]).status();
    assert!(copied.expect("cp").success());
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a program");
    program
}

#[test]
fn whatever_systemd_does_leaves_nothing() {
    let _alone = alone();
    use Errno::*;
    let job = |then: &str| format!("case $* in *call*) echo 'o \"/job/1\"';; *) {then};; esac");
    for (what, script, errno) in [
        ("says nothing", "exec sleep 600".to_owned(), ETIMEDOUT),
        ("talks without end", "exec yes".to_owned(), ETIMEDOUT),
        ("denies the scope", "echo denied >&2; exit 1".to_owned(), EIO),
        ("is killed", "kill -9 $$".to_owned(), EIO),
        ("names no job", "exit 0".to_owned(), ETIMEDOUT),
        ("never ends the job", job("echo running"), ETIMEDOUT),
        ("cannot do the job", job("exit 1"), ESRCH),
    ] {
        let tmp = tempfile::tempdir().expect("a directory");
        let busctl = busctl(tmp.path(), &script);
        let before = held();
        let limit = if errno == ETIMEDOUT { SHORT } else { LONG };
        let (outcome, claims) = launch(&Live, &steps(&busctl, "true", limit));
        let error = outcome.expect_err(what);
        assert_eq!((error.errno(), claims), (errno, 0), "{what}: {error}");
        let text = error.to_string();
        let words = "cannot make the systemd scope placer-g-7.scope: ";
        assert!(text.starts_with(words) && !text.contains('\n'), "{what}: {text}");
        assert_eq!(held(), before, "{what}");
        // The process that a scope may have been made around.
        let asked = std::fs::read_to_string(tmp.path().join("asked")).unwrap_or_default();
        let pid = asked.split_once("PIDs au 1 ").and_then(|(_, rest)| rest.split(' ').next());
        // On a busy machine the limit may come before its first word.
        if let Some(pid) = pid {
            let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a pid"));
            assert_eq!(nix::sys::signal::kill(pid, None), Err(Errno::ESRCH), "{what}");
        }
    }
}

#[test]
fn a_group_that_need_not_be_costs_a_note_and_not_the_launch() {
    let _alone = alone();
    let before = held();
    let guest = binding().steps(vec!["true".into()]);
    let prepared = |optional| {
        let steps = vec![scope(Path::new("/no/busctl"), LONG)];
        let planned = Planned { steps, optional, notes: Vec::new() };
        Waiting::prepare_in(&Live, planned, &guest)
    };
    let error = prepared(false).expect_err("a refusal");
    let waiting = prepared(true).expect("a child");
    let note = format!("the guest gets no control group, only affinity and policy: {error}");
    assert_eq!(waiting.note(), Some(note.as_str()));
    let ended = waiting.open().and_then(placer_launcher::Started::wait);
    assert_eq!(ended, Ok(End { ended: Ended::Exited(0), left: None }));
    assert_eq!(held(), before);
}

#[test]
fn a_guest_that_is_refused_in_its_scope_leaves_nothing() {
    let _alone = alone();
    let fake = Fake::new("cpuset memory");
    let dir = fake.group("g.scope", "");
    *fake.scope.borrow_mut() = Some(Scope { dir, inode: 0 });
    let before = held();
    for (program, errno) in [("/no/such", Errno::ENOENT), ("/etc/passwd", Errno::EACCES)] {
        let (outcome, claims) = launch(&fake, &steps(Path::new("/none"), program, LONG));
        assert_eq!(outcome.map_err(|error| error.errno()), Err(errno));
        assert_eq!((claims, held()), (0, before.clone()));
    }
    let (outcome, claims) = launch(&fake, &steps(Path::new("/none"), "true", LONG));
    assert_eq!(outcome, Ok(End { ended: Ended::Exited(0), left: None }));
    assert_eq!((claims, held()), (0, before.clone()));
}
