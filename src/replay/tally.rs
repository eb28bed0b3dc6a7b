//! What came of a replay, in figures.

use super::owned::Pins;

/// A distribution, as three of its figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
}

/// What came of one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub arrivals: u64,
    pub refused: u64,
    /// Guests that were placed and have departed: all of them, in the end.
    pub departed: u64,
    /// Memory that was promised to guests, in MiB.
    pub promised: u64,
    /// What of it was not there, other promises counted.
    pub beyond: u64,
    /// How many guests were promised such memory.
    pub beyond_guests: u64,
    /// Memory that found no room where it was promised and went elsewhere, in MiB.
    pub spilled: u64,
    /// Memory that found no room anywhere.
    pub swapped: u64,
    /// Mean distance of the memory from the CPUs that use it, weighted by memory; 10 is local.
    pub distance: f64,
    /// The part of the guests that were given one node.
    pub one_node: f64,
    /// Load for each CPU of the hottest node over that of the host, averaged over the arrivals.
    pub hottest: f64,
    /// Load for each CPU of the host, averaged over the arrivals.
    pub load: f64,
    /// Of guests that did any work.
    pub slowdown: Spread,
    /// Slowdown of each hundredth of the guests, from the fastest to the slowest: 101 figures.
    pub quantiles: Vec<f64>,
    /// Where guests own their CPUs: what came of that.
    pub pins: Option<Pins>,
    /// Time of a decision in nanoseconds: half and 99 of 100 take no longer.
    pub decision: Option<(u64, u64)>,
}

impl Outcome {
    /// Fills in what is made of all guests' slowdowns.
    #[expect(clippy::cast_precision_loss, reason = "counts of guests")]
    pub(super) fn slowdowns(&mut self, mut all: Vec<f32>) {
        if all.is_empty() {
            return;
        }
        let sum: f64 = all.iter().map(|&slow| f64::from(slow)).sum();
        all.sort_unstable_by(f32::total_cmp);
        let rank = |hundredth: usize| (all.len() * hundredth).div_ceil(100).max(1);
        let at = |hundredth| f64::from(all[rank(hundredth) - 1]);
        self.slowdown = Spread { mean: sum / all.len() as f64, p50: at(50), p99: at(99) };
        self.quantiles = (0..=100).map(at).collect();
    }
}

/// Times of decisions, in 32 steps for each doubling: 2 % wide, and no more room for more of them.
#[derive(Clone, Debug)]
pub(super) struct Times {
    counts: Vec<u64>,
}

/// Steps for each doubling, as a power of two.
const FINE: u32 = 5;

impl Times {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; (64 << FINE) as usize] }
    }

    pub(super) fn add(&mut self, ns: u64) {
        let place = Self::place(ns).min(self.counts.len() - 1);
        self.counts[place] += 1;
    }

    fn place(ns: u64) -> usize {
        let shift = (64 - ns.leading_zeros()).saturating_sub(FINE + 1);
        ((shift as usize) << FINE) + usize::try_from(ns >> shift).unwrap_or_default()
    }

    /// Returns the time that a part of the decisions does not pass; `None` without any.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a share")]
    #[expect(clippy::cast_sign_loss, reason = "a share")]
    pub(super) fn quantile(&self, part: f64) -> Option<u64> {
        let all: u64 = self.counts.iter().sum();
        let wanted = ((all as f64 * part).ceil() as u64).max(1);
        let mut sum = 0;
        let place = self.counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        })?;
        let shift = (place >> FINE).saturating_sub(1);
        Some(((place - (shift << FINE)) as u64) << shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_a_few_hundredths() {
        let mut last = 0;
        for ns in (0..200).chain([1_000, 12_345, 999_999, 1 << 40, (1 << 50) + 7]) {
            let mut times = Times::new();
            times.add(ns);
            let found = times.quantile(0.5).expect("one");
            assert!(found <= ns && ns - found <= ns / 32, "{ns}: {found}");
            assert!(found >= last, "{ns}");
            last = found;
        }
        assert_eq!(Times::new().quantile(0.5), None);
    }

    #[test]
    fn quantiles_are_of_the_sorted_guests() {
        let mut outcome = Outcome::default();
        outcome.slowdowns((1_u8..=101).rev().map(f32::from).collect());
        assert_eq!(outcome.slowdown, Spread { mean: 51.0, p50: 51.0, p99: 100.0 });
        assert_eq!(outcome.quantiles[0], 1.0);
        assert_eq!(outcome.quantiles[100], 101.0);
    }
}
