//! The budget of an answer with the daemon: at most twice the time of `/bin/true`, and 1 ms. Both take
//! their turns, medians count, and a machine that is busy with other things may spoil some rounds.
#![cfg(feature = "hwloc")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/varlink.rs"]
mod varlink;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon::Daemon;

/// Starts of each program in a round, and rounds at most.
const STARTS: usize = 60;
const ROUNDS: usize = 5;

fn timed(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("it starts");
    let time = start.elapsed();
    assert!(status.success());
    time
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn an_answer_with_the_daemon_takes_little_more_than_a_start() {
    let daemon = Daemon::start(None, "");
    let ours: [(&str, &[&str]); 2] =
        [("advise", &["advise", "1:1"]), ("numad -w", &["numad", "-w", "1:1"])];
    let mut seen = Vec::new();
    for (name, words) in ours {
        let mut best = (f64::MAX, String::new());
        for _ in 0..ROUNDS {
            let (mut with, mut plain) = (Vec::new(), Vec::new());
            for _ in 0..STARTS {
                plain.push(timed(Command::new("/bin/true").env_clear()));
                with.push(timed(daemon.client().args(words)));
            }
            let (with, plain) = (median(&mut with), median(&mut plain));
            let budget = 2 * plain + Duration::from_millis(1);
            let part = with.as_secs_f64() / budget.as_secs_f64();
            if part < best.0 {
                let words = format!("{with:.2?}, /bin/true {plain:.2?}, budget {budget:.2?}");
                best = (part, words);
            }
            if part <= 1.0 {
                break;
            }
        }
        println!("{name}: {}", best.1);
        seen.push((name, best));
    }
    // It was the daemon that answered.
    let metrics = daemon.http("/metrics");
    for kind in ["advice", "numad"] {
        let line = format!("placer_decisions_total{{kind=\"{kind}\"}} ");
        let count = metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok());
        assert!(count.is_some_and(|count: usize| count >= STARTS), "{kind}: {count:?}");
    }
    if cfg!(debug_assertions) {
        println!("not held: built without optimisation; try cargo test --release");
        return;
    }
    for (name, (part, words)) in seen {
        assert!(part <= 1.0, "{name}: {words}");
    }
}
