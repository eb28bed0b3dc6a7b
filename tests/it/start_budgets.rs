//! What it costs to start the program, beside others: an answer with the daemon takes at most twice the time
//! of `/bin/true`, and 1 ms; an answer with a sample at hand twice that of `numactl -H`; a launch twice that
//! of numactl's. Both take their turns, medians count, and time in which the kernel gave the CPU to
//! others does not.

use crate::common;
use crate::common::daemon;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::placer;
use daemon::Daemon;

/// Starts of each program in a round, and rounds at most.
const STARTS: usize = 60;
const ROUNDS: usize = 5;

/// Tests that measure do so one after the other.
static ALONE: Mutex<()> = Mutex::new(());

/// Nanoseconds that a thread has waited for a CPU: the second figure of its `schedstat`; 0 where the kernel
/// keeps none.
fn queued(thread: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{thread}/schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split(' ').nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// Runs a command; returns how long it took, less the time that it and this thread waited for a CPU, so that
/// a busy machine says the same as a quiet one.
fn timed(command: &mut Command) -> Duration {
    let (start, before) = (Instant::now(), queued("thread-self"));
    let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
    let id = Pid::from_raw(child.id().try_into().expect("a process"));
    // Its figures last until it is waited for.
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(id), ended).expect("it ends");
    let time = start.elapsed();
    let waited = queued(&id.to_string()) + queued("thread-self") - before;
    assert!(child.wait().expect("it has ended").success());
    time.saturating_sub(waited)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Measures our command beside another, and holds the median round to twice the other's time and something
/// more.
fn hold(name: &str, more: Duration, ours: impl Fn() -> Command, other: impl Fn() -> Command) {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (mut with, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            plain.push(timed(&mut other()));
            with.push(timed(&mut ours()));
        }
        let (with, plain) = (median(&mut with), median(&mut plain));
        let budget = 2 * plain + more;
        let part = with.as_secs_f64() / budget.as_secs_f64();
        rounds.push((part, format!("{with:.2?}, the other {plain:.2?}, budget {budget:.2?}")));
    }
    rounds.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (part, times) = &rounds[ROUNDS / 2];
    println!("{name}: {times}");
    assert!(*part <= 1.0, "{name}: {times}");
}

fn bare(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().args(args);
    command
}

#[test]
#[cfg_attr(debug_assertions, ignore = "needs --release")]
fn an_answer_with_the_daemon_takes_little_more_than_a_start() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let daemon = Daemon::start(None, "");
    let ours: [(&str, &[&str]); 2] =
        [("advise", &["advise", "1:1"]), ("numad -w", &["numad", "-w", "1:1"])];
    for (name, words) in ours {
        let ours = || {
            let mut client = daemon.client();
            client.args(words);
            client
        };
        hold(name, Duration::from_millis(1), ours, || bare("/bin/true", &[]));
    }
    // It was the daemon that answered.
    let metrics = daemon.http("/metrics");
    for kind in ["advice", "numad"] {
        let line = format!("placer_decisions_total{{kind=\"{kind}\"}} ");
        let count = metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok());
        assert!(count.is_some_and(|count: usize| count >= STARTS), "{kind}: {count:?}");
    }
}

#[cfg_attr(not(debug_assertions), testkit::needs(numactl))]
#[test]
#[cfg_attr(debug_assertions, ignore = "needs --release")]
fn an_answer_and_a_launch_take_at_most_twice_what_numactl_takes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for args in [&["-H"][..], &["-N", "0", "-m", "0", "true"]] {
        let tried = bare("numactl", args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            testkit::require::does_not_apply(format!("numactl {} fails", args.join(" ")));
            return;
        }
    }
    let state = tempfile::tempdir().expect("a directory");
    let ours = |args: &[&str]| {
        let mut command = placer();
        command.env("PLACER_STATE_DIR", state.path()).args(args).args(["--via", "engine"]);
        command
    };
    let launch = || {
        let mut command = placer();
        command.env("PLACER_STATE_DIR", state.path()).args(["launch", "--", "true"]);
        command
    };
    // The first leaves its counters, and waits for its window.
    timed(&mut ours(&["advise", "1:1"]));
    std::thread::sleep(Duration::from_millis(250));
    hold("advise", Duration::ZERO, || ours(&["advise", "1:1"]), || bare("numactl", &["-H"]));
    let bound = || bare("numactl", &["-N", "0", "-m", "0", "true"]);
    hold("launch", Duration::ZERO, launch, bound);
}
