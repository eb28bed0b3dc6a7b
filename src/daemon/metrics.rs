//! What is counted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use placer_engine::claims::ClaimId;

/// A number that goes up, or up and down.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicI64);

impl Count {
    pub(super) fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, less: i64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(super) fn set(&self, new: i64) {
        self.0.store(new, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper ends of the histogram, in µs.
pub(super) const BUCKETS: [u64; 10] = [20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 250_000];

/// All that is counted.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Answers: advice, claims, numad's; and those that failed.
    pub(super) advised: Count,
    pub(super) claimed: Count,
    pub(super) numad: Count,
    pub(super) released: Count,
    pub(super) failed: Count,
    /// Connections: those that are, and those that ended badly.
    pub(super) clients: Count,
    pub(super) refused: Count,
    pub(super) late: Count,
    pub(super) cut: Count,
    pub(super) damaged: Count,
    pub(super) times: [Count; BUCKETS.len()],
    pub(super) all_us: Count,
    pub(super) all: Count,
    pub(super) astray: Astray,
    pub(super) managed: Managed,
}

/// What became of guests that were to be moved, and CPU time saved, in ms.
#[derive(Debug, Default)]
pub(super) struct Managed {
    pub(super) moved: Count,
    pub(super) undone: Count,
    pub(super) kept: Count,
    pub(super) bytes: Count,
    pub(super) predicted_gain: Count,
    pub(super) seen_gain: Count,
}

/// Guests whose memory is elsewhere: how many, and of each whether, and when it was looked at.
#[derive(Debug, Default)]
pub(super) struct Astray {
    pub(super) count: Count,
    pub(super) looked: Mutex<BTreeMap<ClaimId, (Instant, bool)>>,
}

impl Metrics {
    /// Counts how long a decision took.
    pub(super) fn took(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BUCKETS.iter().position(|&most| us <= most) {
            self.times[at].add(1);
        }
        self.all_us.add(i64::try_from(us).unwrap_or(i64::MAX));
        self.all.add(1);
    }
}
