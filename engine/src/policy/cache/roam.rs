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
//! Most answers are one cache, and need one pass. No set costs less than the lower of 1 + κ × (1 − I / C) and
//! 1 + (C − I) / K, for the most idle I and the largest K of any cache: a share is at most
//! (I + (λ − 1) × K) / C, and cross at least 1 less the largest share; the cost so bounded is concave in λ,
//! so lowest at an end. Where the same single cache wins within 2 % of that bound and within 2 % of the
//! cheapest single cache, it wins within 2 % of the lowest cost.
//!
//! Otherwise every set is tried, equal caches being one *kind* of which the first ones are taken: idle,
//! capacity, and the sums of their squares and products add up, so a set costs a few additions. Where there
//! are more sets than the step limit, single caches, pairs and neighbours in the order of idle CPUs are
//! tried: a guest that one cache holds within 2 % of the lowest cost still gets one, and the bound above
//! gives the gap.

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
    if let Some((at, cost_ppm)) = one_cache_for_sure(offers, rules) {
        return Choice { caches: vec![at], cost_ppm, proof: Proof::Optimal };
    }
    let search = Search::new(offers, rules);
    if search.kinds.is_empty() {
        return Choice { caches: Vec::new(), cost_ppm: PPM_ONE, proof: Proof::Optimal };
    }
    let sets = search.kinds.iter().map(|kind| kind.at.len() as u64 + 1);
    let sets = sets.fold(1u64, u64::saturating_mul);
    if sets <= rules.effort.max(2) { search.among_all() } else { search.among_likely() }
}

const PPM_ONE: u64 = 1_000_000;

/// Returns the answer and its cost where that is one cache for sure.
pub(crate) fn one_cache_for_sure(offers: &[Offer], rules: &Rules) -> Option<(usize, u64)> {
    let cpus = rules.cpus.max(0.01);
    let low = lower_bound(offers, rules);
    let holds = |offer: &Offer| offer.cpus > 0 && f64::from(offer.cpus) >= cpus;
    let alone = offers.iter().filter(|offer| holds(offer));
    let alone = alone.map(|offer| contention(cpus, offer.idle, offer.capacity));
    let high = ppm(alone.fold(f64::INFINITY, f64::min));
    if !within(high, low) {
        return None;
    }
    let mut sure: Option<(i64, usize, u64)> = None;
    let mut likely = sure;
    for (at, offer) in offers.iter().enumerate().filter(|(_, offer)| holds(offer)) {
        let cost = ppm(contention(cpus, offer.idle, offer.capacity));
        let found = (idle_key(offer.idle, rules.pack), at, cost);
        for (best, lowest) in [(&mut sure, low), (&mut likely, high)] {
            if within(cost, lowest) && best.is_none_or(|best| found.0 < best.0) {
                *best = Some(found);
            }
        }
    }
    sure.filter(|_| sure == likely).map(|(_, at, cost)| (at, cost))
}

/// Returns a cost in parts per million below which no set is. The module says why.
fn lower_bound(offers: &[Offer], rules: &Rules) -> u64 {
    let there = || offers.iter().filter(|offer| offer.cpus > 0);
    let idle = there().map(|offer| offer.idle).fold(0.0, f64::max);
    let capacity = there().map(|offer| offer.capacity).fold(0.0, f64::max);
    let cpus = rules.cpus.max(0.01);
    let apart = 1.0 + f64::from(rules.penalty_percent) / 100.0 * (1.0 - idle / cpus).max(0.0);
    // One less for rounding.
    ppm(apart.min(contention(cpus, idle, capacity))).saturating_sub(1).max(PPM_ONE)
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

    /// The answer among sets that are likely to be good, where there are too many to try all.
    fn among_likely(&self) -> Choice {
        let mut lowest = u64::MAX;
        self.each_likely(&mut |sums, caches| {
            lowest = lowest.min(self.cost(sums, || sorted(caches)));
        });
        let mut found = Found { size: usize::MAX, ..Found::default() };
        self.each_likely(&mut |sums, caches| {
            self.offer(sums, lowest, || sorted(caches), &mut found);
        });
        let proof = gap(found.cost, lower_bound(self.offers, self.rules));
        Choice { caches: found.caches, cost_ppm: found.cost, proof }
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
        if is_near_half(cost * 1e6) { self.exactly(&caches()).0 } else { ppm(cost) }
    }

    fn key(&self, sums: &Sums, caches: impl Fn() -> Vec<usize>) -> i64 {
        if is_near_half(sums.idle * 1e6) {
            self.exactly(&caches()).1
        } else {
            idle_key(sums.idle, self.rules.pack)
        }
    }

    /// Returns the cost and the idle key of a set, summed in order of positions.
    fn exactly(&self, caches: &[usize]) -> (u64, i64) {
        let of = || caches.iter().map(|&at| &self.offers[at]);
        let idle: f64 = of().map(|offer| offer.idle).fold(0.0, |a, b| a + b);
        let capacity: f64 = of().map(|offer| offer.capacity).fold(0.0, |a, b| a + b);
        let contention = contention(self.cpus, idle, capacity);
        let share = |offer: &Offer| offer.idle + (contention - 1.0) * offer.capacity;
        let total: f64 = of().map(share).fold(0.0, |a, b| a + b);
        let total = if total > 0.0 { total } else { 1.0 };
        let same: f64 = of().map(|offer| (share(offer) / total).powi(2)).fold(0.0, |a, b| a + b);
        let cost = contention * (1.0 + self.kappa * (1.0 - same));
        (ppm(cost), idle_key(idle, self.rules.pack))
    }
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
