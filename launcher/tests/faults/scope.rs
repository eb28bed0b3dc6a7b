//! The step by which systemd makes a scope is made to fail, in each way a bus can fail, and leaves
//! nothing behind: no process, no claim, no descriptor, no blocked signal. A scope goes with its last
//! process, so none is left where the process is gone that it was to be made around.

#![cfg(feature = "systemd")]

use crate::held;
use testkit::bus;
use testkit::fake;
use testkit::filter;

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bus::{Bus, OK, Turn, error, job, message, removed, say};
use fake::{Fake, binding};
use filter::{skipped, with_fault};
use held::{alone, held};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{bind, connect, listen, socket};
use placer_engine::claims::{Caller, ClaimDirs, ClaimOwner, Claims, LOCK_TIMEOUT};
use placer_engine::{Request, Snapshot, SysRoot, advise};
use placer_launcher::cgroup::{GroupStep, Kernel, Live};
use placer_launcher::systemd::{Scope, ScopeStep};
use placer_launcher::{End, Ended, LaunchError, Step, Waiting};

/// For what ends by itself, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);
/// For what does not, in turn: on a busy machine the first may end before it comes to that.
const LIMITS: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_secs(2),
    Duration::from_secs(8),
    Duration::from_secs(30),
];

/// A launch of `argv` in a scope that the systemd on this bus is asked for.
fn steps(bus: PathBuf, argv: &str, limit: Duration) -> Vec<Step> {
    let scope = GroupStep::Scope(Box::new(ScopeStep {
        unit: "placer-g-7.scope".to_owned(),
        description: "placer: guest g".to_owned(),
        slice: None,
        cpus: binding().cpus,
        nodes: binding().memory,
        inner: false,
        bus,
        mount: PathBuf::from("/sys/fs/cgroup"),
        limit,
    }));
    let mut steps = vec![Step::Group(scope)];
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

/// Asserts that a launch over this bus fails, in time, without a claim. Returns the error.
fn refused(bus: &Path, what: &str, limit: Duration) -> LaunchError {
    let begun = Instant::now();
    let (outcome, claims) = launch(&Live, &steps(bus.to_owned(), "true", limit));
    let error = outcome.expect_err(what);
    assert!(begun.elapsed() < limit + LONG, "{what}: not given up in time");
    assert_eq!(claims, 0, "{what}");
    let text = error.to_string();
    let words = format!("cannot make the systemd scope placer-g-7.scope over {}: ", bus.display());
    assert!(text.starts_with(&words) && !text.contains('\n'), "{what}: {text}");
    error
}

/// The process that systemd was asked to put into a scope.
fn asked_for(call: &[u8]) -> Option<i32> {
    let name = b"PIDs\0\x02au\0";
    let at = call.windows(name.len()).position(|bytes| bytes == name)? + name.len();
    // An array, its length before it, of numbers.
    let number = call.get(at.next_multiple_of(4) + 4..)?.first_chunk()?;
    Some(i32::from_le_bytes(*number))
}

#[test]
fn whatever_a_bus_does_leaves_nothing() {
    let _alone = alone();
    let hang: Turn = |_| {};
    let close: Turn = |s| {
        let _ = s.shutdown(std::net::Shutdown::Both);
    };
    let deny: Turn = |s| error(s, "org.freedesktop.DBus.Error.AccessDenied", "no");
    use Errno::*;
    // What it greets with, how many calls it answers, what it does then.
    let rows: [(&str, &'static [u8], u32, Turn, Errno); 19] = [
        ("says nothing", b"", 2, hang, ETIMEDOUT),
        ("greets without an end", b"OK", 2, hang, ETIMEDOUT),
        ("refuses the user", b"REJECTED EXTERNAL\r\n", 2, hang, EACCES),
        ("is another program", b"HTTP/1.1 400 Bad Request\r\n\r\n", 2, hang, EACCES),
        ("hangs at Hello", OK, 0, hang, ETIMEDOUT),
        ("closes at Hello", OK, 0, close, ECONNRESET),
        ("hangs at AddMatch", OK, 1, hang, ETIMEDOUT),
        ("closes at AddMatch", OK, 1, close, ECONNRESET),
        ("hangs at the scope", OK, 2, hang, ETIMEDOUT),
        ("closes at the scope", OK, 2, close, ECONNRESET),
        ("denies the scope", OK, 2, deny, EINVAL),
        ("names no job", OK, 2, |s| say(s, &message(2, &[], 3, Vec::new())), EPROTO),
        ("babbles", OK, 2, |s| say(s, &[b'x'; 64]), EPROTO),
        (
            "ends in a message",
            OK,
            2,
            |s| {
                say(s, &message(2, &[(8, "o")], 3, vec![0; 64])[..40]);
                let _ = s.shutdown(std::net::Shutdown::Both);
            },
            ECONNRESET,
        ),
        (
            "hangs in a message",
            OK,
            2,
            |s| {
                say(s, &message(2, &[(8, "o")], 3, vec![0; 64])[..40]);
            },
            ETIMEDOUT,
        ),
        ("never ends the job", OK, 2, job, ETIMEDOUT),
        (
            "closes before the job ends",
            OK,
            2,
            |s| {
                job(s);
                let _ = s.shutdown(std::net::Shutdown::Both);
            },
            ECONNRESET,
        ),
        (
            "cannot do the job",
            OK,
            2,
            |s| {
                job(s);
                removed(s, "/job/1", "failed");
            },
            EINVAL,
        ),
        (
            "cancels the job",
            OK,
            2,
            |s| {
                removed(s, "/job/1", "canceled");
                job(s);
            },
            EINVAL,
        ),
    ];
    for (what, greeting, answered, turn, errno) in rows {
        let limits = if errno == ETIMEDOUT { &LIMITS[..] } else { &[LONG] };
        let mut calls = Vec::new();
        for &limit in limits {
            let before = held();
            let bus = Bus::answering(greeting, answered, turn);
            let error = refused(&bus.path(), what, limit);
            assert_eq!(error.errno(), errno, "{what}: {error}");
            calls = bus.heard();
            assert_eq!(held(), before, "{what}");
            if greeting != OK || calls.len() > usize::try_from(answered).expect("a number") {
                break;
            }
        }
        // The process that a scope may have been made around.
        let pid = calls.last().and_then(|call| asked_for(call));
        assert_eq!(pid.is_some(), greeting == OK && answered == 2, "{what}");
        if let Some(pid) = pid {
            let gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
            assert_eq!(gone, Err(Errno::ESRCH), "{what}");
        }
    }
}

#[test]
fn a_bus_that_cannot_be_reached_leaves_nothing() {
    let _alone = alone();
    let tmp = tempfile::tempdir().expect("a directory");
    let place = |name: &str| tmp.path().join(name);
    std::fs::write(place("file"), "").expect("a file");
    std::os::unix::fs::symlink("loop", place("loop")).expect("a link");
    drop(UnixListener::bind(place("left")).expect("a socket"));
    // One that nobody accepts from, and whose queue is full.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = || socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
    let (full, address) = (stream(), UnixAddr::new(&place("full")).expect("an address"));
    bind(full.as_raw_fd(), &address).expect("bound");
    listen(&full, Backlog::new(0).expect("a number")).expect("listening");
    let waiting: Vec<_> = std::iter::repeat_with(stream)
        .take_while(|client| connect(client.as_raw_fd(), &address).is_ok())
        .take(8)
        .collect();
    assert!((1..8).contains(&waiting.len()), "the queue is full");
    let rows = [
        (place("none"), Errno::ENOENT),
        (place("file"), Errno::ECONNREFUSED),
        (place("left"), Errno::ECONNREFUSED),
        (place("loop"), Errno::ELOOP),
        (place("file/bus"), Errno::ENOTDIR),
        (place(&"x".repeat(200)), Errno::ENAMETOOLONG),
        (place("full"), Errno::ETIMEDOUT),
    ];
    for (bus, errno) in rows {
        let before = held();
        let limit = if errno == Errno::ETIMEDOUT { LIMITS[0] } else { LONG };
        let error = refused(&bus, "unreachable", limit);
        assert_eq!(error.errno(), errno, "{error}");
        assert_eq!(held(), before, "{error}");
    }
}

#[test]
fn each_call_to_a_bus_fails_with_each_errno() {
    let _alone = alone();
    use Errno::*;
    let table: [(libc::c_long, &[Errno]); 4] = [
        (libc::SYS_socket, &[EACCES, EAFNOSUPPORT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EINVAL]),
        (libc::SYS_connect, &[EACCES, EPERM, ECONNREFUSED, ENOENT, ENOMEM, ENOTSOCK, EPROTOTYPE]),
        (libc::SYS_recvfrom, &[ECONNRESET, ENOMEM, EIO, EBADF, ENOTCONN]),
        // The bus says nothing, and is waited for.
        (libc::SYS_poll, &[EINVAL, ENOMEM, EFAULT]),
    ];
    for (call, errnos) in table {
        for &errno in errnos {
            let bus = Bus::new(b"", |_| {});
            let path = bus.path();
            // What its thread has open by then is looked at when all have ended.
            let set = with_fault(call, errno, || {
                let error = refused(&path, "a call that fails", LONG);
                assert_eq!(error.errno(), errno, "{error}");
                let children = held().children;
                assert_eq!(children, "", "{error}");
            });
            assert!(set || skipped());
            // Also where its client never came.
            drop(UnixStream::connect(&path));
            bus.heard();
        }
    }
}

#[test]
fn a_guest_that_is_refused_in_its_scope_leaves_nothing() {
    let _alone = alone();
    let fake = Fake::new("cpuset memory");
    let dir = fake.group("g.scope", "");
    *fake.scope.borrow_mut() = Some(Scope { dir, inode: 0 });
    let before = held();
    for (program, errno) in [("/no/such", Errno::ENOENT), ("/etc/passwd", Errno::EACCES)] {
        let (outcome, claims) = launch(&fake, &steps(PathBuf::from("/none"), program, LONG));
        assert_eq!(outcome.map_err(|error| error.errno()), Err(errno));
        assert_eq!((claims, held()), (0, before.clone()));
    }
    let (outcome, claims) = launch(&fake, &steps(PathBuf::from("/none"), "true", LONG));
    assert_eq!(outcome, Ok(End { ended: Ended::Exited(0), left: None }));
    assert_eq!((claims, held()), (0, before.clone()));
}
