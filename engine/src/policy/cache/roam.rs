//! The caches over which the threads of a guest roam.
//!
//! The cost of a set D of caches is λ(D) × (1 + κ × cross(D)). λ is the contention for its CPUs, as in
//! policy `best`: 1 + max(0, C − F) / K, for C CPUs asked for, F idle and K of capacity. cross is the
//! probability that two threads of the guest are on different caches: 1 − Σ s², with the shares
//! s = (idle + (λ − 1) × capacity) / max(F, C). Sets within 2 % of the lowest cost are equal; of these
//! the fewest caches, then the most idle (or the least, to pack), then the lowest positions.
//!
//! # How it is found
//!
//! Bounds answer nearly all questions, without a search. With the largest K of any cache, the share of a cache is
//! at most (idle + (λ − 1) × K) / C, so Σ s² is at most that of the largest of these that fit into 1, and the
//! rest in one. The cost so bounded is concave in λ between the λ at which the first n of them are 1, so it is
//! lowest at one of these. Σ s² is also bounded by the smallest ratio of two caches' idle CPUs and capacities: it
//! is largest where each share is one of the two extremes.
//!
//! - One cache: where the same one wins within 2 % of that bound and within 2 % of the cheapest single cache, it
//!   wins within 2 % of the lowest cost.
//! - The n most idle: where they are within 2 % of the bound, and the bounds of all smaller sets are not within
//!   2 % of a cost that was seen, they are the answer, for no set of n caches is more idle.
//! - Two caches with λ = 1: their cost grows with the ratio of their idle CPUs. So the cheapest pair is the most
//!   idle cache and the least idle one that suffices beside it; and of the pairs within 2 % of some cost the most
//!   idle one has the most idle cache too.
//!
//! Otherwise every set is tried, equal caches being one *kind* of which the first ones are taken: idle,
//! capacity, and the sums of their squares and products add up, so a set costs a few additions. Where there
//! are more sets than the step limit, single caches and the most idle ones with one other are tried; to pack,
//! single caches, pairs and neighbours in the order of idle CPUs. A guest that one cache holds within 2 % of the
//! lowest cost still gets one, and the bound gives the gap.

mod bounds;
mod search;

use super::Proof;
use bounds::{Bounds, Sure};
use search::Search;

/// What one cache offers a roaming guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// CPUs that no claim owns. A cache without any is never chosen.
    pub cpus: u32,
    /// Their capacity, in CPUs weighted for hardware threads.
    pub capacity: f64,
    /// The idle part of that.
    pub idle: f64,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// CPUs asked for; at least a hundredth counts.
    pub cpus: f64,
    /// κ: how much slower two threads on different caches share data, in percent.
    pub penalty_percent: u32,
    /// Whether the least idle of equal sets is wanted, in place of the most idle.
    pub pack: bool,
    /// Sets to look at, at most, give or take a few for each cache.
    pub effort: u64,
}

/// The chosen caches.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Positions in the offers, ascending. Empty where no cache offers a CPU.
    pub caches: Vec<usize>,
    /// The cost, in parts per million: 1,000,000 is a guest alone in one cache.
    pub cost_ppm: u64,
    /// Whether that is exact.
    pub proof: Proof,
}

/// Sets within this factor of the lowest cost are equal.
const EQUAL: f64 = 1.02;

/// Chooses the caches for a guest whose threads roam.
///
/// ```
/// use placer_engine::policy::cache::roam::{Offer, Rules, choose};
/// let offer = |idle| Offer { cpus: 8, capacity: 8.0, idle };
/// let rules = Rules { cpus: 8.0, penalty_percent: 20, pack: false, effort: 20_000 };
/// // Eight vCPUs fit into the idle cache; over two caches they would share data more slowly.
/// assert_eq!(choose(&[offer(5.0), offer(8.0)], &rules).caches, [1]);
/// ```
#[must_use]
pub fn choose(offers: &[Offer], rules: &Rules) -> Choice {
    Ranked::new(offers.to_vec()).choose(rules)
}

/// What some caches offer, ranked: what all questions about them share.
#[derive(Debug)]
pub(crate) struct Ranked {
    offers: Vec<Offer>,
    /// The positions of those that offer a CPU, the most idle (in millionths) first, of equally idle ones the first.
    order: Vec<usize>,
    most_capacity: f64,
    most_cpus: f64,
    all_cpus: f64,
    /// The smallest ratio of the idle CPUs, or of the capacities, of two caches.
    ratio: f64,
    /// How many of them differ in their idle CPUs.
    different: u32,
    /// Whether idle CPUs are whole millionths, so that sums of them can be compared, and no more than there are
    /// CPUs.
    plain: bool,
}

impl Ranked {
    pub(crate) fn new(offers: Vec<Offer>) -> Self {
        let mut order: Vec<usize> = (0..offers.len()).filter(|&at| offers[at].cpus > 0).collect();
        order.sort_by_key(|&at| (idle_key(offers[at].idle, false), at));
        let there = || order.iter().map(|&at| &offers[at]);
        let mut keys: Vec<i64> = there().map(|offer| idle_key(offer.idle, false)).collect();
        keys.dedup();
        let most = |of: fn(&Offer) -> f64| there().map(of).fold(0.0, f64::max);
        let ratio = |of: fn(&Offer) -> f64| {
            let (least, most) = (there().map(of).fold(f64::INFINITY, f64::min), most(of));
            if most > 0.0 { least / most } else { 1.0 }
        };
        let millionths = |idle: f64| (idle * 1e6 - (idle * 1e6).round()).abs() < 1e-3;
        let plain = |offer: &Offer| millionths(offer.idle) && offer.idle <= f64::from(offer.cpus);
        Self {
            most_capacity: most(|offer| offer.capacity),
            most_cpus: most(|offer| f64::from(offer.cpus)),
            all_cpus: there().map(|offer| f64::from(offer.cpus)).sum(),
            ratio: ratio(|offer| offer.idle).min(ratio(|offer| offer.capacity)),
            different: u32::try_from(keys.len()).unwrap_or(u32::MAX),
            plain: there().all(plain),
            order,
            offers,
        }
    }

    /// As the function of that name.
    pub(crate) fn choose(&self, rules: &Rules) -> Choice {
        match self.for_sure(rules) {
            Some(sure) => {
                let caches = sure.caches().to_vec();
                Choice { caches, cost_ppm: sure.cost_ppm, proof: Proof::Optimal }
            }
            None => self.search(rules),
        }
    }

    /// Returns the answer where the bounds alone show it. Allocates nothing.
    fn for_sure(&self, rules: &Rules) -> Option<Sure> {
        if self.order.is_empty() { None } else { Bounds::of(self, rules).for_sure() }
    }

    /// Returns the answer without saying whether it is exact: where there are too many sets to try all, the bounds
    /// that show it are not looked at.
    pub(crate) fn choose_without_proof(&self, rules: &Rules) -> (Vec<usize>, u64) {
        if self.different > rules.effort.max(2).ilog2() {
            let bounds = Bounds::of(self, rules);
            let one =
                || bounds.one_cache_for_sure().map(|one| (one.caches().to_vec(), one.cost_ppm));
            if let Some(found) = one().or_else(|| bounds.among_most_idle()) {
                return found;
            }
        }
        let Choice { caches, cost_ppm, .. } = self.choose(rules);
        (caches, cost_ppm)
    }

    /// Returns the answer where the bounds alone do not show it.
    fn search(&self, rules: &Rules) -> Choice {
        if self.order.is_empty() {
            return Choice { caches: Vec::new(), cost_ppm: PPM_ONE, proof: Proof::Optimal };
        }
        let bounds = Bounds::of(self, rules);
        let limited = |(caches, cost_ppm): (Vec<usize>, u64)| {
            let proof = gap(cost_ppm, bounds.low);
            Choice { caches, cost_ppm, proof }
        };
        // Each of these is in a set or not.
        let too_many = self.different > rules.effort.max(2).ilog2();
        if too_many && let Some(found) = bounds.among_most_idle() {
            return limited(found);
        }
        let search = Search::new(&self.offers, rules);
        let sets = search.kinds.iter().map(|kind| kind.at.len() as u64 + 1);
        let sets = sets.fold(1u64, u64::saturating_mul);
        if sets <= rules.effort.max(2) {
            return search.among_all();
        }
        limited(bounds.among_most_idle().unwrap_or_else(|| search.among_likely()))
    }
}

const PPM_ONE: u64 = 1_000_000;

fn contention(cpus: f64, idle: f64, capacity: f64) -> f64 {
    1.0 + ((cpus - idle).max(0.0) / capacity.max(f64::MIN_POSITIVE)).min(1e9)
}

/// A cost in parts per million, saturating.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn ppm(cost: f64) -> u64 {
    (cost * 1e6).round_ties_even() as u64
}

#[expect(clippy::cast_precision_loss, reason = "costs that matter are far below 2^53")]
fn within(cost: u64, lowest: u64) -> bool {
    cost as f64 <= lowest as f64 * EQUAL
}

/// Idle CPUs as an ordering key, in millionths: the smaller the better.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
fn idle_key(idle: f64, pack: bool) -> i64 {
    let key = (idle * 1e6).round_ties_even() as i64;
    if pack { key } else { -key }
}

/// What adds up over the caches of a set.
#[derive(Clone, Copy, Default)]
struct Sums {
    size: usize,
    cpus: f64,
    idle: f64,
    capacity: f64,
    idle_squares: f64,
    products: f64,
    capacity_squares: f64,
}

impl Sums {
    fn with(&self, offer: &Offer, times: f64) -> Self {
        let Offer { cpus, capacity, idle } = *offer;
        Self {
            size: self.size,
            cpus: self.cpus + times * f64::from(cpus),
            idle: self.idle + times * idle,
            capacity: self.capacity + times * capacity,
            idle_squares: self.idle_squares + times * idle * idle,
            products: self.products + times * idle * capacity,
            capacity_squares: self.capacity_squares + times * capacity * capacity,
        }
    }

    fn and(self, offer: &Offer) -> Self {
        Self { size: self.size + 1, ..self.with(offer, 1.0) }
    }

    fn cost(&self, cpus: f64, kappa: f64) -> f64 {
        let contention = contention(cpus, self.idle, self.capacity);
        let over = contention - 1.0;
        let total = self.idle + over * self.capacity;
        let squares =
            self.idle_squares + 2.0 * over * self.products + over * over * self.capacity_squares;
        let same = if total > 0.0 { squares / (total * total) } else { 0.0 };
        contention * (1.0 + kappa * (1.0 - same))
    }
}

/// Returns the cost and the idle key of a set, summed in order of positions.
fn exactly(offers: &[Offer], rules: &Rules, caches: &[usize]) -> (u64, i64) {
    let of = || caches.iter().map(|&at| &offers[at]);
    let idle: f64 = of().map(|offer| offer.idle).fold(0.0, |a, b| a + b);
    let capacity: f64 = of().map(|offer| offer.capacity).fold(0.0, |a, b| a + b);
    let contention = contention(rules.cpus.max(0.01), idle, capacity);
    let share = |offer: &Offer| offer.idle + (contention - 1.0) * offer.capacity;
    let total: f64 = of().map(share).fold(0.0, |a, b| a + b);
    let total = if total > 0.0 { total } else { 1.0 };
    let same: f64 = of().map(|offer| (share(offer) / total).powi(2)).fold(0.0, |a, b| a + b);
    let cost = contention * (1.0 + f64::from(rules.penalty_percent) / 100.0 * (1.0 - same));
    (ppm(cost), idle_key(idle, rules.pack))
}

fn gap(cost: u64, low: u64) -> Proof {
    let gap = (u128::from(cost.saturating_sub(low)) * 1_000_000).div_ceil(u128::from(low.max(1)));
    Proof::Gap(u64::try_from(gap).unwrap_or(u64::MAX))
}
