//! What came of a manager, in figures.

use super::state::{Deeds, Live};

/// What came of one manager.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managed {
    /// Guests that were there, and those that were refused.
    pub guests: u64,
    pub refused: u64,
    /// Length in hours.
    pub hours: f64,
    /// Of all work together: what it took, cost of moves included, for what it was.
    pub slowdown: f64,
    /// Runnable threads for each CPU, at least 1, over the work.
    pub crowding: f64,
    /// Mean distance of memory over the work; 10 is local.
    pub distance: f64,
    /// 95 of 100 guests were slowed no more.
    pub p95: f64,
    /// Of the work, what moving and watching cost.
    pub cost: f64,
    /// MiB.
    pub moved: f64,
    pub moves: u64,
    /// Moves of a guest to nodes that it had been moved away from before.
    pub returns: u64,
    /// Moves that placer took back.
    pub undone: u64,
    /// MiB that were to be moved and could not.
    pub stuck: f64,
    /// Parts of the work of guests that were more than 2 % slower, or faster, than without a manager.
    pub worse: f64,
    pub better: f64,
    /// Nanoseconds that a look took: half and 99 of 100 take no longer.
    pub decision: Option<(u64, u64)>,
    /// Work and what it took, for each guest of the period.
    pub(super) each: Vec<(f64, f64)>,
}

/// A guest is worse or better off from this difference on.
const NOTICED: f64 = 0.02;

/// Sums over guests.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    each: Vec<(f64, f64)>,
    work: f64,
    taken: f64,
    cost: f64,
    far: f64,
    crowded: f64,
}

impl Sums {
    pub(super) fn new(count: usize) -> Self {
        Self { each: vec![(0.0, 0.0); count], ..Self::default() }
    }

    /// Adds a guest that has departed, or that is left at the end.
    pub(super) fn add(&mut self, live: &Live) {
        self.work += live.work;
        self.taken += live.taken + live.cost;
        self.cost += live.cost;
        self.far += live.far;
        self.crowded += live.crowded;
        if let Some(each) = self.each.get_mut(live.number as usize) {
            *each = (live.work, live.taken + live.cost);
        }
    }

    pub(super) fn end(self, deeds: &Deeds) -> Managed {
        let work = self.work.max(1e-9);
        let mut slow: Vec<f64> =
            self.each.iter().filter(|each| each.0 > 0.0).map(|each| each.1 / each.0).collect();
        slow.sort_unstable_by(f64::total_cmp);
        let rank = (slow.len() * 95).div_ceil(100).max(1);
        Managed {
            slowdown: self.taken / work,
            crowding: self.crowded / work,
            distance: self.far / work,
            p95: slow.get(rank - 1).copied().unwrap_or(1.0),
            cost: self.cost / work,
            moved: deeds.moved_mib,
            moves: deeds.moves,
            returns: deeds.returns,
            undone: deeds.undone,
            stuck: deeds.stuck_mib,
            each: self.each,
            ..Managed::default()
        }
    }
}

impl Managed {
    /// Fills in how many guests are worse and better off than in another course, by their work.
    pub fn compare(&mut self, none: &Self) {
        let (mut work, mut worse, mut better) = (0.0, 0.0, 0.0);
        for (own, other) in self.each.iter().zip(&none.each) {
            if own.0 <= 0.0 || other.0 <= 0.0 {
                continue;
            }
            let ratio = own.1 / own.0 / (other.1 / other.0);
            work += own.0;
            worse += if ratio > 1.0 + NOTICED { own.0 } else { 0.0 };
            better += if ratio < 1.0 - NOTICED { own.0 } else { 0.0 };
        }
        let work = f64::max(work, 1e-9);
        (self.worse, self.better) = (worse / work, better / work);
    }

    /// Returns the mean of a figure for each hour.
    pub fn hourly(&self, figure: f64) -> f64 {
        figure / self.hours.max(1e-9)
    }
}
