//! Replays several rules at a time. What comes of each does not depend on how many that are.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::progress::Progress;
use placer::replay::{Course, Machine, Outcome, Stream, Watch, replay};

/// What those who work share.
struct Shared {
    start: Instant,
    timed: bool,
    passed: AtomicU64,
}

impl Watch for Shared {
    fn now(&self) -> u64 {
        if !self.timed {
            return 0;
        }
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn passed(&self, guests: u64) {
        self.passed.fetch_add(guests, Ordering::Relaxed);
    }
}

/// Replays each course; the outcomes are in their order.
pub(super) fn work(
    machine: &Machine,
    stream: &Stream,
    courses: &[Course],
    threads: usize,
    timed: bool,
) -> Vec<Outcome> {
    let shared = Shared { start: Instant::now(), timed, passed: AtomicU64::new(0) };
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![Outcome::default(); courses.len()]);
    let hands = match threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let hands = hands.min(courses.len()).max(1);
    let all = courses.len() as u64 * stream.guests().len() as u64;
    thread::scope(|scope| {
        for _ in 0..hands {
            scope.spawn(|| {
                while let Some(course) = courses.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut outcome = replay(machine, stream, course, &shared);
                    outcome.decision = outcome.decision.filter(|_| timed);
                    let at = courses.iter().position(|other| std::ptr::eq(other, course));
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = at.and_then(|at| outcomes.get_mut(at)) {
                        *place = outcome;
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let Some(mut progress) = Progress::new(all) else { return };
        while done.load(Ordering::Relaxed) < hands {
            thread::sleep(Duration::from_millis(50));
            progress.show(shared.passed.load(Ordering::Relaxed), shared.start.elapsed());
        }
        progress.clear();
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}
