//! The Pareto front: the sets that may yet be the answer by the rule, which is, within 2 % of the fastest,
//! the fewest nodes, then most room, then lowest ids.

use super::objective::{Problem, Room, Shares, Sums};

/// Returns the largest slowdown that counts as equal to `low`, both in parts per million: 2 % above it.
#[inline]
pub(crate) fn limit(low: u64) -> u64 {
    low.saturating_add(low / 50)
}

/// Returns the lowest slowdown to which `slowdown_ppm` still counts as equal: the least `low` with
/// `slowdown_ppm <= limit(low)`.
fn lowest_equal(slowdown_ppm: u64) -> u64 {
    // s <= floor(51 low / 50) is 50 s <= 51 low. The quotient is below s, so it fits.
    let low = (u128::from(slowdown_ppm) * 50).div_ceil(51);
    u64::try_from(low).unwrap_or(slowdown_ppm)
}

/// Returns the bound above which no set counts as at most `slowdown_ppm` slow.
///
/// Infinite at the largest value, which stands for everything from there on.
#[expect(clippy::cast_precision_loss, reason = "bounds leave room for the last digit")]
pub(crate) fn above(slowdown_ppm: u64) -> f64 {
    if slowdown_ppm == u64::MAX { f64::INFINITY } else { slowdown_ppm as f64 + 1.0 }
}

/// A set offered, with the keys that order it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) slowdown_ppm: u64,
    pub(crate) room: Room,
    /// Ascending positions.
    pub(crate) set: Vec<usize>,
}

/// The sets offered that no other one beats in both slowdown and rule.
///
/// Whatever the lowest slowdown turns out to be, the right answer among the sets offered is in here.
#[derive(Debug, Default)]
pub(crate) struct ParetoFront {
    /// The first `used` are valid; the others keep their buffers for reuse.
    entries: Vec<Entry>,
    used: usize,
    low: u64,
    changes: u64,
}

impl ParetoFront {
    /// Forgets everything but the buffers.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.low = u64::MAX;
    }

    /// Returns the lowest slowdown offered, in parts per million; the largest value before the first.
    #[inline]
    pub(crate) fn low(&self) -> u64 {
        self.low
    }

    /// Returns how many offers were taken so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the slowdown above which an offer is pointless.
    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        limit(self.low)
    }

    fn entries(&self) -> &[Entry] {
        self.entries.get(..self.used).unwrap_or_default()
    }

    /// Offers `set` (ascending positions) if it is a candidate, and returns its slowdown in parts per million.
    pub(crate) fn evaluate_and_offer(
        &mut self,
        problem: &Problem<'_>,
        set: &[usize],
        shares: &mut Shares,
    ) -> Option<u64> {
        // In the order of ids: the last digit may decide whether the memory suffices.
        let mut sums = Sums::default();
        for &at in set {
            sums.add(problem, at);
        }
        if !problem.is_candidate(sums) {
            return None;
        }
        let slowdown_ppm = problem.evaluate(set, shares).slowdown_ppm;
        self.offer(problem, set, slowdown_ppm);
        Some(slowdown_ppm)
    }

    /// Takes a candidate (ascending positions) with its slowdown, if it may become the answer.
    pub(crate) fn offer(&mut self, problem: &Problem<'_>, set: &[usize], slowdown_ppm: u64) {
        if slowdown_ppm > self.limit() {
            return;
        }
        // Slower and with more nodes than a known one: most offers end here, before the room is computed.
        if self.entries().iter().any(|e| e.slowdown_ppm <= slowdown_ppm && e.set.len() < set.len())
        {
            return;
        }
        let room = problem.room(set);
        if self
            .entries()
            .iter()
            .any(|e| e.slowdown_ppm <= slowdown_ppm && e.rank(set.len(), room, set).is_le())
        {
            return;
        }
        self.low = self.low.min(slowdown_ppm);
        let most = self.limit();
        let mut at = 0;
        while at < self.used {
            let e = &self.entries[at];
            if e.slowdown_ppm > most
                || (slowdown_ppm <= e.slowdown_ppm && e.rank(set.len(), room, set).is_gt())
            {
                self.used -= 1;
                self.entries.swap(at, self.used);
            } else {
                at += 1;
            }
        }
        if self.used == self.entries.len() {
            // Longer sets are rare, and buffers change places.
            self.entries.push(Entry { set: Vec::with_capacity(64), ..Entry::default() });
        }
        if let Some(e) = self.entries.get_mut(self.used) {
            e.slowdown_ppm = slowdown_ppm;
            e.room = room;
            e.set.clear();
            e.set.extend_from_slice(set);
            self.used += 1;
        }
        self.changes += 1;
    }

    /// Returns the slowdown, not rounded, from which on no set can rule out the best; infinite before the
    /// first offer.
    pub(crate) fn goal(&self) -> f64 {
        let Some(best) = self.best() else { return f64::INFINITY };
        #[expect(clippy::cast_precision_loss, reason = "the margin is larger than the last digit")]
        let low = lowest_equal(best.slowdown_ppm) as f64;
        // What is above `low` − 1/2 rounds to `low` at least. The margin keeps that so in double precision.
        low - 0.5 + (low * 1e-9).max(1e-3)
    }

    /// Returns the fastest set offered.
    pub(crate) fn fastest(&self) -> Option<&Entry> {
        self.entries().iter().min_by_key(|entry| entry.slowdown_ppm)
    }

    /// Returns the answer among the sets offered.
    pub(crate) fn best(&self) -> Option<&Entry> {
        self.entries().iter().min_by(|a, b| a.rank(b.set.len(), b.room, &b.set))
    }
}

impl Entry {
    /// Orders by the rule among equally fast sets; less is better.
    fn rank(&self, size: usize, room: Room, set: &[usize]) -> std::cmp::Ordering {
        let own = self.set.len();
        own.cmp(&size).then(room.cmp(&self.room)).then_with(|| self.set.as_slice().cmp(set))
    }
}

#[cfg(test)]
mod tests;
