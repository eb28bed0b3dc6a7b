//! What it costs to start the program, beside others: an answer with the daemon takes at most twice the time
//! of `/bin/true`, and 1 ms; an answer with a sample at hand twice that of `numactl -H`; a launch twice that
//! of numactl's. Both take their turns, and medians count. CPU time is held on every machine, the clock
//! where other programs leave a CPU.

use crate::common;
use crate::common::daemon;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
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

/// What a start took.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    /// On a CPU, user and system.
    cpu: Duration,
    /// Waiting for a CPU: the program, and this thread.
    queued: Duration,
}

/// How long a thread has waited for a CPU: the second figure of its `schedstat`; 0 where the kernel keeps none.
fn queued(thread: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{thread}/schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split(' ').nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// The CPU time of all children that have been waited for.
fn of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("figures");
    let both = [usage.user_time(), usage.system_time()];
    both.iter().map(|time| Duration::from_micros(time.num_microseconds().unsigned_abs())).sum()
}

fn start(command: &mut Command) -> Cost {
    let (start, before, cpu) = (Instant::now(), queued("thread-self"), of_children());
    let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
    let id = Pid::from_raw(child.id().try_into().expect("a process"));
    // Its figures last until it is waited for.
    waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("it ends");
    let wall = start.elapsed();
    let queued = queued(&id.to_string()) + queued("thread-self") - before;
    assert!(child.wait().expect("it has ended").success());
    Cost { wall, cpu: of_children() - cpu, queued }
}

fn median(costs: &[Cost], part: impl Fn(&Cost) -> Duration) -> Duration {
    let mut times: Vec<Duration> = costs.iter().map(part).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Measures our command beside another, and holds the median round to twice the other's time and something
/// more: CPU time always, and the time on the clock in rounds in which other programs left us a CPU.
fn hold(name: &str, more: Duration, ours: impl Fn() -> Command, other: impl Fn() -> Command) {
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (mut with, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            plain.push(start(&mut other()));
            with.push(start(&mut ours()));
        }
        let rated = |kind: &str, part: fn(&Cost) -> Duration| {
            let (with, plain) = (median(&with, part), median(&plain, part));
            let budget = 2 * plain + more;
            let share = with.as_secs_f64() / budget.as_secs_f64();
            (share, format!("{kind} {with:.2?}, the other {plain:.2?}, budget {budget:.2?}"))
        };
        cpu.push(rated("CPU", |cost| cost.cpu));
        let sum =
            |part: fn(&Cost) -> Duration| with.iter().chain(&plain).map(part).sum::<Duration>();
        if 10 * sum(|cost| cost.queued) < sum(|cost| cost.wall) {
            wall.push(rated("clock", |cost| cost.wall));
        }
    }
    for mut rounds in [cpu, wall] {
        rounds.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let Some((share, times)) = rounds.get(rounds.len() / 2) else {
            testkit::require::does_not_apply("the clock: other programs use the CPUs");
            continue;
        };
        println!("{name}: {times}");
        assert!(*share <= 1.0, "{name}: {times}");
    }
}

fn bare(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().args(args);
    command
}

#[test]
#[cfg_attr(debug_assertions, ignore = "measures the shipped program: make test")]
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

#[cfg_attr(not(debug_assertions), needs::needs(numactl))]
#[test]
#[cfg_attr(debug_assertions, ignore = "measures the shipped program: make test")]
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
    start(&mut ours(&["advise", "1:1"]));
    std::thread::sleep(Duration::from_millis(250));
    hold("advise", Duration::ZERO, || ours(&["advise", "1:1"]), || bare("numactl", &["-H"]));
    let bound = || bare("numactl", &["-N", "0", "-m", "0", "true"]);
    hold("launch", Duration::ZERO, launch, bound);
}
