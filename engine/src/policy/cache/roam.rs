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

use super::Proof;

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
    pub(crate) fn for_sure(&self, rules: &Rules) -> Option<Sure> {
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

/// An answer that needs no search.
#[derive(Clone, Copy)]
pub(crate) struct Sure {
    /// Positions, ascending; the first `count` of them.
    at: [usize; MOST_IDLE],
    count: usize,
    pub(crate) cost_ppm: u64,
}

impl Sure {
    pub(crate) fn caches(&self) -> &[usize] {
        self.at.get(..self.count).unwrap_or_default()
    }
}

/// The most caches of an answer without a search.
const MOST_IDLE: usize = 8;

/// Bounds of what sets of caches cost.
struct Bounds<'a> {
    caches: &'a Ranked,
    rules: &'a Rules,
    cpus: f64,
    /// CPUs that a set must have: those asked for, at most all.
    need: f64,
    kappa: f64,
    /// The lowest cost of one cache that holds the guest, in parts per million.
    alone: u64,
    /// A cost, in parts per million, below which no set is.
    low: u64,
}

impl<'a> Bounds<'a> {
    fn of(caches: &'a Ranked, rules: &'a Rules) -> Self {
        let cpus = rules.cpus.max(0.01);
        let mut bounds = Self {
            caches,
            rules,
            cpus,
            need: cpus.min(caches.all_cpus),
            kappa: f64::from(rules.penalty_percent) / 100.0,
            alone: u64::MAX,
            low: PPM_ONE,
        };
        let mut alone = u64::MAX;
        for (_, offer) in bounds.holders() {
            alone = alone.min(bounds.cost_alone(offer));
            if offer.idle >= cpus {
                break;
            }
        }
        bounds.alone = alone;
        bounds.low = bounds.alone.min(bounds.several(2, 1.0));
        bounds
    }

    /// The caches that hold the guest alone, the most idle first.
    fn holders(&self) -> impl Iterator<Item = (usize, &'a Offer)> {
        let cpus = self.cpus;
        let all = self.caches.order.iter().map(|&at| (at, &self.caches.offers[at]));
        all.filter(move |(_, offer)| f64::from(offer.cpus) >= cpus)
    }

    fn cost_alone(&self, offer: &Offer) -> u64 {
        ppm(contention(self.cpus, offer.idle, offer.capacity))
    }

    /// A cost, in parts per million, below which no set of at least `caches` caches is whose λ is at least
    /// `contention`.
    fn several(&self, caches: u32, contention: f64) -> u64 {
        let Ranked { order, offers, most_capacity: most, ratio, .. } = self.caches;
        let cost =
            |contention: f64, squares: f64| contention * (1.0 + self.kappa * (1.0 - squares));
        // The largest shares, as many as fit into 1, and the rest in one.
        let (mut squares, mut rest, mut last) = (0.0, 1.0, 1.0);
        let over = contention - 1.0;
        let (mut idle, mut idle_squares, mut count) = (0.0, 0.0, 0.0);
        let mut lowest = f64::INFINITY;
        for &at in order {
            let own = offers[at].idle;
            last = ((own + over * most) / self.cpus).max(0.0);
            let share = last.min(rest);
            (squares, rest) = (squares + share * share, rest - share);
            (idle, idle_squares, count) = (idle + own, idle_squares + own * own, count + 1.0);
            // The λ at which these shares are 1.
            let whole = self::contention(self.cpus, idle, count * most);
            if whole <= contention || rest <= 0.0 {
                break;
            }
            let over = whole - 1.0;
            let sum = idle_squares + 2.0 * over * most * idle + count * (over * most).powi(2);
            lowest = lowest.min(cost(whole, sum / (self.cpus * self.cpus)));
        }
        // What the caches cannot hold is in shares as large as the last.
        squares += rest * last.min(rest);
        lowest = lowest.min(cost(contention, squares.min(1.0)));
        let by_ratio = cost(contention, most_squares_of_ratio(*ratio, caches));
        floor(lowest.max(by_ratio))
    }

    fn for_sure(&self) -> Option<Sure> {
        let most_idle = || self.most_idle_for_sure(self.low, u64::MAX, 0);
        self.one_cache_for_sure().or_else(most_idle).or_else(|| self.pair_for_sure())
    }

    /// The best cache alone within 2 % of a cost. In descending order of idle CPUs the first one wins; to pack, the
    /// last one, of equal ones the first.
    fn one_cache(&self, lowest: u64) -> Option<(usize, &'a Offer)> {
        let mut found: Option<(usize, &Offer)> = None;
        let of_cost = |&(_, offer): &(usize, &Offer)| within(self.cost_alone(offer), lowest);
        for (at, offer) in self.holders().filter(of_cost) {
            if !self.rules.pack {
                return Some((at, offer));
            }
            let key = |offer: &Offer| idle_key(offer.idle, true);
            if found.is_none_or(|(_, last)| key(offer) < key(last)) {
                found = Some((at, offer));
            }
        }
        found
    }

    fn one_cache_for_sure(&self) -> Option<Sure> {
        if !within(self.alone, self.low) {
            return None;
        }
        let (first, offer) = self.one_cache(self.low)?;
        let is_first = |(at, _): (usize, &Offer)| at == first;
        let sure = self.low == self.alone || self.one_cache(self.alone).is_some_and(is_first);
        let mut at = [0; MOST_IDLE];
        at[0] = first;
        sure.then(|| Sure { at, count: 1, cost_ppm: self.cost_alone(offer) })
    }

    /// Returns the most idle caches of some number, where they are the answer for sure: no cost is below `low`, some
    /// is at most `high`, and no set of up to `not` caches is the answer.
    fn most_idle_for_sure(&self, low: u64, mut high: u64, not: usize) -> Option<Sure> {
        let Ranked { order, offers, plain, .. } = self.caches;
        if self.rules.pack || !plain {
            return None;
        }
        high = high.min(self.alone);
        let mut sums = Sums::default();
        // Bounds for all sets of so many caches.
        let mut lows = [u64::MAX; MOST_IDLE];
        for (at, &position) in order.iter().enumerate().take(MOST_IDLE) {
            sums = sums.and(&offers[position]);
            let mut cost = u64::MAX;
            if sums.cpus >= self.need {
                cost = ppm(sums.cost(self.cpus, self.kappa));
                high = high.min(cost);
            }
            let caches = u32::try_from(at + 1).unwrap_or(u32::MAX);
            if at == 0 {
                lows[at] = self.alone;
            } else if self.caches.most_cpus * f64::from(caches) >= self.need {
                let capacity = self.caches.most_capacity * f64::from(caches);
                lows[at] = self.several(caches, contention(self.cpus, sums.idle, capacity));
            }
            if !within(cost, low) {
                continue;
            }
            // Some more for rounding.
            let smaller = lows[not.min(at)..at].iter().any(|&low| within(low, high + 2));
            return if smaller { None } else { self.sure(&order[..=at], low) };
        }
        None
    }

    /// Returns the answer where that is two caches with enough idle CPUs, or where pairs leave no other than the most
    /// idle caches.
    fn pair_for_sure(&self) -> Option<Sure> {
        let Ranked { order, offers, plain, .. } = self.caches;
        let (&first, others) = order.split_first()?;
        if self.rules.pack || !plain || others.is_empty() {
            return None;
        }
        let cost = |other: usize| {
            let pair = Sums::default().and(&offers[first]).and(&offers[other]);
            ppm(pair.cost(self.cpus, self.kappa))
        };
        // Some more for rounding.
        let most = offers[first].idle + 1e-9;
        let enough = others.partition_point(|&at| most + offers[at].idle >= self.cpus);
        let suffice = &others[..enough];
        let cheapest = suffice.last().map_or(u64::MAX, |&at| cost(at));
        let high = self.alone.min(cheapest).min(cost(others[0]));
        let crowded = self.crowded_pairs();
        let low = self.alone.min(cheapest).min(crowded).min(self.several(3, 1.0));
        if within(self.alone, high + 2) {
            return None;
        }
        let most_idle = |lowest: u64| {
            let dear = suffice.partition_point(|&at| !within(cost(at), lowest));
            suffice.get(dear)
        };
        match (most_idle(low), most_idle(high + 2)) {
            (Some(sure), Some(likely)) if sure == likely => self.sure(&[first, *sure], low),
            (None, None) if !within(crowded, high + 2) => self.most_idle_for_sure(low, high, 2),
            _ => None,
        }
    }

    /// The best set and its cost among single caches and those of the most idle caches and one other; `None` to pack.
    fn among_most_idle(&self) -> Option<(Vec<usize>, u64)> {
        let Ranked { order, offers, plain, .. } = self.caches;
        if self.rules.pack || !plain {
            return None;
        }
        let cost = |sums: &Sums, at: usize| ppm(sums.and(&offers[at]).cost(self.cpus, self.kappa));
        // With how many of the others there are enough idle CPUs.
        let enough = |sums: &Sums, others: &[usize]| {
            let most = sums.idle + 1e-9;
            others.partition_point(|&at| most + offers[at].idle >= self.cpus)
        };
        let mut lowest = self.alone;
        let mut sums = Sums::default();
        for (count, &at) in order.iter().enumerate() {
            // More caches than needed cost more.
            if count >= MOST_IDLE && sums.idle >= self.cpus {
                break;
            }
            let others = &order[count..];
            if sums.cpus + f64::from(offers[at].cpus) >= self.need {
                lowest = lowest.min(cost(&sums, at));
            }
            if count < MOST_IDLE
                && let Some(&last) = others[..enough(&sums, others)].last()
            {
                lowest = lowest.min(cost(&sums, last));
            }
            sums = sums.and(&offers[at]);
        }
        if let Some((at, offer)) = self.one_cache(lowest) {
            return Some((vec![at], self.cost_alone(offer)));
        }
        let mut sums = Sums::default();
        for (count, &at) in order.iter().enumerate() {
            let others = &order[count..];
            // The cost falls with the idle CPUs of the other.
            let dear = |&at: &usize| !within(cost(&sums, at), lowest);
            let suffice = &others[..if count < MOST_IDLE { enough(&sums, others) } else { 0 }];
            let most_idle = suffice.get(suffice.partition_point(dear));
            let holds = sums.cpus + f64::from(offers[at].cpus) >= self.need;
            let found = most_idle.or((holds && !dear(&at)).then_some(&at));
            if let Some(&last) = found {
                let mut caches: Vec<usize> = order[..count].iter().copied().chain([last]).collect();
                caches.sort_unstable();
                let cost_ppm = exactly(offers, self.rules, &caches).0;
                return Some((caches, cost_ppm));
            }
            sums = sums.and(&offers[at]);
        }
        None
    }

    /// A cost below which no pair is that has too few idle CPUs.
    fn crowded_pairs(&self) -> u64 {
        let Ranked { order, offers, most_capacity, ratio, .. } = self.caches;
        let least = order.last().map_or(0.0, |&at| offers[at].idle);
        // Of two caches one has at most this part of their capacity.
        let part = 1.0 / (1.0 + ratio);
        let cost = |idle: f64, missing: f64| {
            let share = ((idle + missing * part) / self.cpus).clamp(0.5, 1.0);
            let squares = share * share + (1.0 - share).powi(2);
            let contention = 1.0 + missing / (2.0 * most_capacity).max(f64::MIN_POSITIVE);
            contention * (1.0 + self.kappa * (1.0 - squares))
        };
        let mut lowest = f64::INFINITY;
        // The most idle cache that is too little beside the one looked at.
        let mut next = order.len();
        for (row, &at) in order.iter().enumerate() {
            let idle = offers[at].idle;
            if idle + least >= self.cpus {
                continue;
            }
            let short = |other: usize| idle + offers[other].idle < self.cpus;
            while next > row + 1 && short(order[next - 1]) {
                next -= 1;
            }
            let nearest = order.get(next.max(row + 1));
            let Some(&nearest) = nearest else { break };
            // The rows that follow are dearer.
            if cost(idle, 0.0).min(cost(idle, self.cpus - idle)) >= lowest {
                break;
            }
            // Concave in what is missing: lowest at an end.
            for other in [offers[nearest].idle, least] {
                lowest = lowest.min(cost(idle, (self.cpus - idle - other).max(0.0)));
            }
        }
        floor(lowest)
    }

    /// Returns an answer of these caches, if it is within 2 % of the lowest cost.
    fn sure(&self, caches: &[usize], low: u64) -> Option<Sure> {
        let (mut at, count) = ([0; MOST_IDLE], caches.len());
        at.get_mut(..count)?.copy_from_slice(caches);
        at[..count].sort_unstable();
        let cost_ppm = exactly(&self.caches.offers, self.rules, &at[..count]).0;
        within(cost_ppm, low).then_some(Sure { at, count, cost_ppm })
    }
}

/// The largest sum of the squares of at least so many shares that sum up to 1, of which none is less than `ratio` of
/// another: each is one of the two extremes.
fn most_squares_of_ratio(ratio: f64, shares: u32) -> f64 {
    let few = 1..shares.clamp(2, 8);
    let of = |large: u32| {
        let (large, small) = (f64::from(large), f64::from(few.end - large));
        (large + small * ratio * ratio) / (large + small * ratio).powi(2)
    };
    few.clone().map(of).fold(0.0, f64::max)
}

/// A lower bound in parts per million; one less for rounding.
fn floor(cost: f64) -> u64 {
    ppm(cost).saturating_sub(1).max(PPM_ONE)
}

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

/// Caches that offer the same.
struct Kind {
    offer: Offer,
    /// Ascending.
    at: Vec<usize>,
}

struct Search<'a> {
    offers: &'a [Offer],
    rules: &'a Rules,
    cpus: f64,
    /// CPUs that a set must have: those asked for, at most all.
    need: f64,
    kappa: f64,
    kinds: Vec<Kind>,
    /// Caches in all kinds.
    count: usize,
}

/// The best set so far.
#[derive(Clone, Debug, Default)]
struct Found {
    size: usize,
    key: i64,
    caches: Vec<usize>,
    cost: u64,
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

/// Whether a figure in millionths may round to either side, summed in another order.
fn is_near_half(millionths: f64) -> bool {
    (millionths - millionths.floor() - 0.5).abs() < 1e-3
}

impl<'a> Search<'a> {
    fn new(offers: &'a [Offer], rules: &'a Rules) -> Self {
        let mut kinds: Vec<Kind> = Vec::new();
        for (at, offer) in offers.iter().enumerate().filter(|(_, offer)| offer.cpus > 0) {
            match kinds.iter_mut().find(|kind| kind.offer == *offer) {
                Some(kind) => kind.at.push(at),
                None => kinds.push(Kind { offer: *offer, at: vec![at] }),
            }
        }
        // The most idle first; to pack, the least idle first. Ties by position.
        kinds.sort_by(|a, b| {
            let order = b.offer.idle.total_cmp(&a.offer.idle);
            let order = if rules.pack { order.reverse() } else { order };
            order.then(b.offer.capacity.total_cmp(&a.offer.capacity)).then(a.at.cmp(&b.at))
        });
        let all = offers.iter().map(|offer| f64::from(offer.cpus)).sum();
        let cpus = rules.cpus.max(0.01);
        Self {
            offers,
            rules,
            cpus,
            need: cpus.min(all),
            kappa: f64::from(rules.penalty_percent) / 100.0,
            count: kinds.iter().map(|kind| kind.at.len()).sum(),
            kinds,
        }
    }

    /// The answer where every set may be tried.
    fn among_all(&self) -> Choice {
        let mut low_of_size = vec![u64::MAX; self.count + 1];
        let mut taken = vec![0; self.kinds.len()];
        self.each_set(0, Sums::default(), None, &mut taken, &mut |sums, taken| {
            let low = &mut low_of_size[sums.size];
            *low = (*low).min(self.cost(sums, || self.caches(taken)));
        });
        let lowest = low_of_size.iter().copied().min().unwrap_or(PPM_ONE);
        // The fewest caches.
        let size = low_of_size.iter().position(|&low| low < u64::MAX && within(low, lowest));
        let mut found = Found { size: usize::MAX, ..Found::default() };
        self.each_set(0, Sums::default(), size, &mut taken, &mut |sums, taken| {
            self.offer(sums, lowest, || self.caches(taken), &mut found);
        });
        Choice { caches: found.caches, cost_ppm: found.cost, proof: Proof::Optimal }
    }

    /// Visits every set of the kinds from `kind` on that has enough CPUs, or those of one size.
    fn each_set(
        &self,
        kind: usize,
        sums: Sums,
        only: Option<usize>,
        taken: &mut [usize],
        visit: &mut dyn FnMut(&Sums, &[usize]),
    ) {
        if only == Some(sums.size) || kind == self.kinds.len() {
            let is_wanted = only.is_none_or(|size| size == sums.size) && sums.size > 0;
            if is_wanted && sums.cpus >= self.need {
                visit(&sums, taken);
            }
            return;
        }
        let Kind { offer, at } = &self.kinds[kind];
        let most = only.map_or(at.len(), |size| at.len().min(size - sums.size));
        for many in 0..=most {
            taken[kind] = many;
            #[expect(clippy::cast_precision_loss, reason = "a few caches")]
            let next = Sums { size: sums.size + many, ..sums.with(offer, many as f64) };
            self.each_set(kind + 1, next, only, taken, visit);
        }
        taken[kind] = 0;
    }

    /// The positions of the first caches of each kind.
    fn caches(&self, taken: &[usize]) -> Vec<usize> {
        let chosen = self.kinds.iter().zip(taken);
        let caches = chosen.flat_map(|(kind, &many)| kind.at[..many].iter().copied());
        let mut caches: Vec<usize> = caches.collect();
        caches.sort_unstable();
        caches
    }

    /// The best set and its cost among those that are likely to be good, where there are too many to try all.
    fn among_likely(&self) -> (Vec<usize>, u64) {
        let mut lowest = u64::MAX;
        self.each_likely(&mut |sums, caches| {
            lowest = lowest.min(self.cost(sums, || sorted(caches)));
        });
        let mut found = Found { size: usize::MAX, ..Found::default() };
        self.each_likely(&mut |sums, caches| {
            self.offer(sums, lowest, || sorted(caches), &mut found);
        });
        (found.caches, found.cost)
    }

    /// Visits single caches, pairs, and neighbours in the order of idle CPUs, as far as they have enough CPUs.
    fn each_likely(&self, visit: &mut dyn FnMut(&Sums, &[usize])) {
        let order: Vec<usize> =
            self.kinds.iter().flat_map(|kind| kind.at.iter().copied()).collect();
        let mut visit = |sums: &Sums, caches: &[usize]| {
            if sums.cpus >= self.need {
                visit(sums, caches);
            }
        };
        let starts = usize::try_from(self.rules.effort.isqrt()).unwrap_or(usize::MAX).max(1);
        for (first, &a) in order.iter().enumerate() {
            let alone = Sums::default().and(&self.offers[a]);
            visit(&alone, &[a]);
            if first >= starts {
                continue;
            }
            for &b in order[first + 1..].iter().take(starts) {
                visit(&alone.and(&self.offers[b]), &[a, b]);
            }
            // From the first one on all lengths: the longest has all CPUs, and so always qualifies.
            let longest = if first == 0 { order.len() } else { starts };
            let mut sums = alone;
            for (more, &b) in order[first + 1..].iter().enumerate().take(longest) {
                sums = sums.and(&self.offers[b]);
                if more > 0 {
                    visit(&sums, &order[first..first + more + 2]);
                }
            }
        }
    }

    /// Takes a set that is within 2 % of the lowest cost, if it is better than what was found: fewer caches,
    /// then the key, then lower positions.
    fn offer(&self, sums: &Sums, lowest: u64, caches: impl Fn() -> Vec<usize>, found: &mut Found) {
        if sums.size > found.size {
            return;
        }
        let cost = self.cost(sums, &caches);
        if !within(cost, lowest) {
            return;
        }
        let key = self.key(sums, &caches);
        if (sums.size, key) > (found.size, found.key) {
            return;
        }
        let caches = caches();
        if (sums.size, key, &caches) < (found.size, found.key, &found.caches) {
            *found = Found { size: sums.size, key, caches, cost };
        }
    }

    /// Returns the cost of a set as if summed in order of positions.
    fn cost(&self, sums: &Sums, caches: impl Fn() -> Vec<usize>) -> u64 {
        let cost = sums.cost(self.cpus, self.kappa);
        if is_near_half(cost * 1e6) {
            exactly(self.offers, self.rules, &caches()).0
        } else {
            ppm(cost)
        }
    }

    fn key(&self, sums: &Sums, caches: impl Fn() -> Vec<usize>) -> i64 {
        if is_near_half(sums.idle * 1e6) {
            exactly(self.offers, self.rules, &caches()).1
        } else {
            idle_key(sums.idle, self.rules.pack)
        }
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

fn sorted(caches: &[usize]) -> Vec<usize> {
    let mut caches = caches.to_vec();
    caches.sort_unstable();
    caches
}

fn gap(cost: u64, low: u64) -> Proof {
    let gap = (u128::from(cost.saturating_sub(low)) * 1_000_000).div_ceil(u128::from(low.max(1)));
    Proof::Gap(u64::try_from(gap).unwrap_or(u64::MAX))
}
