//! Does several jobs at a time: rules, or managers. What comes of each does not depend on how many that are.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::progress::Progress;
use placer::replay::Watch;

/// What those who work share.
pub(super) struct Shared {
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

    fn passed(&self, count: u64) {
        self.passed.fetch_add(count, Ordering::Relaxed);
    }
}

/// How jobs are done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// At a time; 0: one for each CPU.
    pub(super) threads: usize,
    pub(super) timed: bool,
    /// What passes in all jobs together, and what that is called.
    pub(super) all: u64,
    pub(super) unit: &'static str,
}

/// Does each job; the outcomes are in their order.
pub(super) fn work<Job: Sync, Outcome: Clone + Default + Send>(
    jobs: &[Job],
    effort: Effort,
    done_by: impl Fn(&Job, &Shared) -> Outcome + Sync,
) -> Vec<Outcome> {
    let shared = Shared { start: Instant::now(), timed: effort.timed, passed: AtomicU64::new(0) };
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![Outcome::default(); jobs.len()]);
    let hands = match effort.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let hands = hands.min(jobs.len()).max(1);
    thread::scope(|scope| {
        for _ in 0..hands {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(at) else { break };
                    let outcome = done_by(job, &shared);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = outcomes.get_mut(at) {
                        *place = outcome;
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let Some(mut progress) = Progress::new(effort.all, effort.unit) else { return };
        while done.load(Ordering::Relaxed) < hands {
            thread::sleep(Duration::from_millis(50));
            progress.show(shared.passed.load(Ordering::Relaxed), shared.start.elapsed());
        }
        progress.clear();
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}
