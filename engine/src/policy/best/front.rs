//! The sets that may yet be the answer, under the rule: within 2 % of the fastest the fewest nodes, then
//! most room, then lowest ids.

use super::score::{Case, Room};

/// How much slower than the fastest set another may be and still count as equal.
const EQUAL: f64 = 1.02;

/// Returns the largest slowdown that counts as equal to `low`, both in millionths.
#[inline]
pub(crate) fn limit(low: f64) -> f64 {
    low * EQUAL
}

/// A set seen, with the keys that order it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// Slowdown in millionths, whole.
    pub(crate) micros: f64,
    pub(crate) room: Room,
    /// Ascending positions.
    pub(crate) set: Vec<usize>,
}

/// The sets seen that no other one seen beats in both slowdown and rule.
///
/// Whatever the lowest slowdown turns out to be, the right answer among the sets offered is in here.
#[derive(Debug, Default)]
pub(crate) struct Front {
    /// The first `used` are valid; the others keep their buffers for reuse.
    entries: Vec<Entry>,
    used: usize,
    low: f64,
    changes: u64,
}

impl Front {
    /// Forgets everything but the buffers.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.low = f64::INFINITY;
    }

    /// Returns the lowest slowdown offered, in millionths; infinite before the first.
    #[inline]
    pub(crate) fn low(&self) -> f64 {
        self.low
    }

    /// Returns how many offers were taken so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the slowdown above which an offer is pointless.
    #[inline]
    pub(crate) fn limit(&self) -> f64 {
        limit(self.low)
    }

    fn entries(&self) -> &[Entry] {
        self.entries.get(..self.used).unwrap_or_default()
    }

    /// Takes a feasible set (ascending positions) with its slowdown, if it may become the answer.
    pub(crate) fn offer(&mut self, case: &Case<'_>, set: &[usize], micros: f64) {
        if micros > self.limit() {
            return;
        }
        // Slower and with more nodes than a known one: most offers end here, before the room is computed.
        if self.entries().iter().any(|e| e.micros <= micros && e.set.len() < set.len()) {
            return;
        }
        let room = case.room(set);
        if self.entries().iter().any(|e| e.micros <= micros && e.rank(set.len(), room, set).is_le())
        {
            return;
        }
        self.low = self.low.min(micros);
        let most = self.limit();
        let mut at = 0;
        while at < self.used {
            let e = &self.entries[at];
            if e.micros > most || (micros <= e.micros && e.rank(set.len(), room, set).is_gt()) {
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
            e.micros = micros;
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
        let mut low = (best.micros / EQUAL).ceil();
        while low >= 1.0 && best.micros <= limit(low - 1.0) {
            low -= 1.0;
        }
        while best.micros > limit(low) {
            low += 1.0;
        }
        // What is above `low` − 1/2 rounds to `low` at least.
        low - 0.5 + (best.micros * 1e-9).max(1e-3)
    }

    /// Returns the fastest set offered.
    pub(crate) fn fastest(&self) -> Option<&Entry> {
        self.entries().iter().min_by(|a, b| a.micros.total_cmp(&b.micros))
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
