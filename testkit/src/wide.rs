//! What several benchmarks and `tests/budgets/main.rs` need: made machines, and bare reading to compare
//! a Sample with.

pub mod machine;
pub mod plain;

use std::time::{Duration, Instant};

/// How long two things take, measured in turn.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// The median of the first.
    pub first: Duration,
    /// The median of the second.
    pub second: Duration,
}

impl Compared {
    /// Returns how many times longer the first takes.
    pub fn ratio(&self) -> f64 {
        self.first.as_secs_f64() / self.second.as_secs_f64()
    }
}

/// Runs two things in turn (A B B A ...) and returns the medians: what else the machine does
/// meets both alike, and the few runs it interrupts do not count.
pub fn in_turn(rounds: usize, mut first: impl FnMut(), mut second: impl FnMut()) -> Compared {
    let mut times = [Vec::with_capacity(rounds), Vec::with_capacity(rounds)];
    for round in 0..rounds {
        for half in 0..2 {
            let which = (round + half) % 2;
            let start = Instant::now();
            if which == 0 {
                first();
            } else {
                second();
            }
            times[which].push(start.elapsed());
        }
    }
    let [first, second] = times.map(median);
    Compared { first, second }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
