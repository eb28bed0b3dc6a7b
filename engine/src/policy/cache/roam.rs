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
//! A cache that holds the guest without contention costs exactly 1, and nothing costs less: one pass
//! answers the ordinary question. Otherwise the search goes by the number of caches. Equal caches are
//! one *kind*, of which the first ones are taken. A branch is cut by a lower bound of its cost:
//!
//! - F and K of a completed set are at most those of the partial set plus the largest that are left, so
//!   λ is at least λ₀ of these.
//! - For λ in [a, b] a share is at most (idle + (b − 1) × capacity) / C, and Σ s² is largest when the
//!   largest shares are filled first, so the cost is at least a × (1 + κ × (1 − Σ of that filling)). The
//!   range from λ₀ up is cut into `SEGMENTS` pieces; above the last one the cost is at least its end.

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
    /// Search nodes to look at, at most.
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

const SEGMENTS: u32 = 4;
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
    if let Some((at, cost_ppm)) = one_without_contention(offers, rules) {
        return Choice { caches: vec![at], cost_ppm, proof: Proof::Optimal };
    }
    let mut search = Search::new(offers, rules);
    if search.count == 0 {
        return Choice { caches: Vec::new(), cost_ppm: PPM_ONE, proof: Proof::Optimal };
    }
    search.run()
}

const PPM_ONE: u64 = 1_000_000;

/// Returns the answer and its cost where a single cache costs 1: then the lowest cost is 1, and of the
/// single caches within 2 % of it the most (or least) idle one wins.
pub(crate) fn one_without_contention(offers: &[Offer], rules: &Rules) -> Option<(usize, u64)> {
    let cpus = rules.cpus.max(0.01);
    let mut found: Option<(usize, u64, i64)> = None;
    let mut free_of_contention = false;
    for (at, offer) in offers.iter().enumerate() {
        if offer.cpus == 0 || f64::from(offer.cpus) < cpus {
            continue;
        }
        let cost = ppm(contention(cpus, offer.idle, offer.capacity));
        free_of_contention |= cost == PPM_ONE;
        let key = idle_key(offer.idle, rules.pack);
        if within(cost, PPM_ONE) && found.is_none_or(|(_, _, best)| key < best) {
            found = Some((at, cost, key));
        }
    }
    found.filter(|_| free_of_contention).map(|(at, cost, _)| (at, cost))
}

fn contention(cpus: f64, idle: f64, capacity: f64) -> f64 {
    1.0 + (cpus - idle).max(0.0) / capacity.max(f64::MIN_POSITIVE)
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
    cpus: f64,
    /// CPUs that a set must have: those asked for, at most all.
    need: f64,
    kappa: f64,
    pack: bool,
    kinds: Vec<Kind>,
    /// Caches in all kinds.
    count: usize,
    steps: u64,
    effort: u64,
    /// How many caches of each kind the partial set has.
    taken: Vec<usize>,
    shares: Vec<(f64, f64)>,
}

/// What one descent looks for.
#[derive(Clone, Copy)]
enum Aim {
    /// The lowest cost.
    Lowest,
    /// The best set of a cost within 2 % of this.
    Best(u64),
}

/// The best set so far.
#[derive(Clone, Debug, Default)]
struct Found {
    caches: Vec<usize>,
    cost: u64,
    key: i64,
}

/// The sums of a partial set.
#[derive(Clone, Copy, Default)]
struct Partial {
    size: usize,
    cpus: f64,
    idle: f64,
    capacity: f64,
}

impl<'a> Search<'a> {
    fn new(offers: &'a [Offer], rules: &Rules) -> Self {
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
        let all: f64 =
            kinds.iter().flat_map(|k| k.at.iter().map(|_| f64::from(k.offer.cpus))).sum();
        let cpus = rules.cpus.max(0.01);
        Self {
            offers,
            cpus,
            need: cpus.min(all),
            kappa: f64::from(rules.penalty_percent) / 100.0,
            pack: rules.pack,
            count: kinds.iter().map(|kind| kind.at.len()).sum(),
            taken: vec![0; kinds.len()],
            kinds,
            steps: 0,
            effort: rules.effort.max(1),
            shares: Vec::new(),
        }
    }

    fn run(&mut self) -> Choice {
        // An upper and a lower bound of the lowest cost; often they decide alone.
        let (low, high) = self.bounds_of_lowest();
        let sure = self.best_within(low);
        let likely = if low == high { sure.clone() } else { self.best_within(high) };
        if let (Some(sure), Some(likely)) = (&sure, &likely)
            && sure.caches == likely.caches
            && self.steps < self.effort
        {
            return Self::choice(likely, Proof::Optimal);
        }
        let lowest = self.lowest(high);
        let best = self.best_within(lowest);
        let exact = self.steps < self.effort;
        let found = best.or(likely).or(sure).unwrap_or_else(|| self.all());
        let proof = if exact { Proof::Optimal } else { gap(found.cost, low) };
        Self::choice(&found, proof)
    }

    fn choice(found: &Found, proof: Proof) -> Choice {
        Choice { caches: found.caches.clone(), cost_ppm: found.cost, proof }
    }

    /// Every cache that offers a CPU: has all CPUs, so it always qualifies.
    fn all(&self) -> Found {
        let mut caches: Vec<usize> =
            self.kinds.iter().flat_map(|kind| kind.at.iter().copied()).collect();
        caches.sort_unstable();
        let (cost, key) = self.evaluate(&caches);
        Found { caches, cost, key }
    }

    /// Returns the cost and the idle key of a set, summed in order of positions.
    fn evaluate(&self, caches: &[usize]) -> (u64, i64) {
        let of = || caches.iter().map(|&at| &self.offers[at]);
        let idle: f64 = of().map(|offer| offer.idle).fold(0.0, |a, b| a + b);
        let capacity: f64 = of().map(|offer| offer.capacity).fold(0.0, |a, b| a + b);
        let contention = contention(self.cpus, idle, capacity);
        let share = |offer: &Offer| offer.idle + (contention - 1.0) * offer.capacity;
        let total: f64 = of().map(share).fold(0.0, |a, b| a + b);
        let total = if total > 0.0 { total } else { 1.0 };
        let same: f64 = of().map(|offer| (share(offer) / total).powi(2)).fold(0.0, |a, b| a + b);
        let cost = contention * (1.0 + self.kappa * (1.0 - same));
        (ppm(cost), idle_key(idle, self.pack))
    }

    /// Bounds the lowest cost: below by the bound of each size, above by one good set of each size.
    fn bounds_of_lowest(&mut self) -> (u64, u64) {
        let mut high = self.all().cost;
        for size in 1..=self.count {
            if let Some(caches) = self.most_idle(size) {
                high = high.min(self.evaluate(&caches).0);
            }
        }
        let mut low = high;
        for size in 1..=self.count {
            low = low.min(self.bound(&Partial::default(), 0, size));
        }
        (low, high)
    }

    /// Returns the set of one size with the most idle CPUs, if it has enough CPUs.
    fn most_idle(&self, size: usize) -> Option<Vec<usize>> {
        let kinds: Box<dyn Iterator<Item = &Kind>> =
            if self.pack { Box::new(self.kinds.iter().rev()) } else { Box::new(self.kinds.iter()) };
        let mut caches: Vec<usize> =
            kinds.flat_map(|kind| kind.at.iter().copied()).take(size).collect();
        caches.sort_unstable();
        let cpus: f64 = caches.iter().map(|&at| f64::from(self.offers[at].cpus)).sum();
        (cpus >= self.need).then_some(caches)
    }

    fn lowest(&mut self, high: u64) -> u64 {
        let mut found = Found { cost: high, ..Found::default() };
        for size in 1..=self.count {
            if self.bound(&Partial::default(), 0, size) < found.cost {
                self.descend(Aim::Lowest, size, 0, Partial::default(), &mut found);
            }
        }
        found.cost
    }

    fn best_within(&mut self, lowest: u64) -> Option<Found> {
        for size in 1..=self.count {
            if !within(self.bound(&Partial::default(), 0, size), lowest) {
                continue;
            }
            let mut found = Found::default();
            self.descend(Aim::Best(lowest), size, 0, Partial::default(), &mut found);
            if !found.caches.is_empty() {
                return Some(found);
            }
        }
        None
    }

    /// Completes a partial set with caches of the kinds from `kind` on, up to `size` caches.
    fn descend(&mut self, aim: Aim, size: usize, kind: usize, partial: Partial, found: &mut Found) {
        self.steps += 1;
        if self.steps >= self.effort {
            return;
        }
        if partial.size == size {
            self.offer(aim, partial, found);
            return;
        }
        if kind == self.kinds.len() || !self.can_improve(aim, size, kind, &partial, found) {
            return;
        }
        let Offer { cpus, capacity, idle } = self.kinds[kind].offer;
        let most = self.kinds[kind].at.len().min(size - partial.size);
        for many in (0..=most).rev() {
            #[expect(clippy::cast_precision_loss, reason = "a few caches")]
            let times = many as f64;
            self.taken[kind] = many;
            let next = Partial {
                size: partial.size + many,
                cpus: partial.cpus + times * f64::from(cpus),
                idle: partial.idle + times * idle,
                capacity: partial.capacity + times * capacity,
            };
            self.descend(aim, size, kind + 1, next, found);
        }
        self.taken[kind] = 0;
    }

    fn offer(&self, aim: Aim, partial: Partial, found: &mut Found) {
        if partial.cpus < self.need {
            return;
        }
        let chosen = self.kinds.iter().zip(&self.taken);
        let mut caches: Vec<usize> =
            chosen.flat_map(|(kind, &many)| kind.at[..many].iter().copied()).collect();
        caches.sort_unstable();
        let (cost, key) = self.evaluate(&caches);
        let better = match aim {
            Aim::Lowest => cost < found.cost,
            Aim::Best(lowest) => {
                within(cost, lowest)
                    && (found.caches.is_empty() || (key, &caches) < (found.key, &found.caches))
            }
        };
        if better {
            *found = Found { caches, cost, key };
        }
    }

    /// Returns whether a set of this size that completes the partial one may beat what was found.
    fn can_improve(
        &mut self,
        aim: Aim,
        size: usize,
        kind: usize,
        partial: &Partial,
        found: &Found,
    ) -> bool {
        let left = size - partial.size;
        let (mut cpus, mut there) = (Vec::new(), 0);
        for kind in &self.kinds[kind..] {
            there += kind.at.len();
            cpus.push((kind.offer.cpus, kind.at.len()));
        }
        if there < left {
            return false;
        }
        cpus.sort_unstable_by_key(|&(cpus, _)| std::cmp::Reverse(cpus));
        let mut more = left;
        let mut most = partial.cpus;
        for (cpus, there) in cpus {
            let many = there.min(more);
            #[expect(clippy::cast_precision_loss, reason = "a few caches")]
            let times = many as f64;
            most += f64::from(cpus) * times;
            more -= many;
        }
        if most < self.need {
            return false;
        }
        if let Aim::Best(_) = aim
            && !found.caches.is_empty()
        {
            // The kinds are in the order of the key: the next ones give the best key there is.
            let mut idle = partial.idle;
            let mut more = left;
            for kind in &self.kinds[kind..] {
                let many = kind.at.len().min(more);
                #[expect(clippy::cast_precision_loss, reason = "a few caches")]
                let times = many as f64;
                idle += kind.offer.idle * times;
                more -= many;
            }
            // One millionth for what summing in another order may change.
            if idle_key(idle, self.pack) > found.key.saturating_add(1) {
                return false;
            }
        }
        let bound = self.bound(partial, kind, size);
        match aim {
            Aim::Lowest => bound < found.cost,
            Aim::Best(lowest) => within(bound, lowest),
        }
    }

    /// Returns a lower bound of the cost of any set of `size` caches that completes the partial set with
    /// kinds from `kind` on, in parts per million less one for rounding. The module says why it holds.
    fn bound(&mut self, partial: &Partial, kind: usize, size: usize) -> u64 {
        let left = size - partial.size;
        let rest = &self.kinds[kind..];
        let most = |figure: fn(&Offer) -> f64| {
            let mut figures: Vec<(f64, usize)> =
                rest.iter().map(|kind| (figure(&kind.offer), kind.at.len())).collect();
            figures.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            let (mut sum, mut more) = (0.0, left);
            for (figure, there) in figures {
                let many = there.min(more);
                #[expect(clippy::cast_precision_loss, reason = "a few caches")]
                let times = many as f64;
                sum += figure * times;
                more -= many;
            }
            sum
        };
        let idle = partial.idle + most(|offer| offer.idle);
        let capacity = partial.capacity + most(|offer| offer.capacity);
        let start = contention(self.cpus, idle, capacity);
        if self.kappa <= 0.0 {
            return ppm(start).saturating_sub(1);
        }
        // Whatever is within reach: the partial set's caches, and all that may complete it.
        self.shares.clear();
        for (at, each) in self.kinds.iter().enumerate() {
            let many = if at >= kind { each.at.len().min(left) } else { self.taken[at] };
            let offer = (each.offer.idle, each.offer.capacity);
            self.shares.extend(std::iter::repeat_n(offer, many));
        }
        let total = self.cpus;
        let mut from = start;
        let mut bound = f64::INFINITY;
        let step = start * self.kappa / f64::from(SEGMENTS);
        for segment in 0..=SEGMENTS {
            if segment == SEGMENTS {
                bound = bound.min(from);
                break;
            }
            // Where enough is idle, λ is 1 for every completion that has it; others are above.
            let to = from + step;
            let same = most_alike(&mut self.shares, to, total, size);
            bound = bound.min(from * (1.0 + self.kappa * (1.0 - same)));
            from = to;
        }
        ppm(bound).saturating_sub(1)
    }
}

/// Returns the largest Σ s² of `size` shares that sum to 1, each at most (idle + (λ − 1) × capacity) / total.
fn most_alike(shares: &mut [(f64, f64)], contention: f64, total: f64, size: usize) -> f64 {
    let most = |share: &(f64, f64)| (share.0 + (contention - 1.0) * share.1) / total;
    shares.sort_unstable_by(|a, b| most(b).total_cmp(&most(a)));
    let (mut left, mut same) = (1.0, 0.0);
    for share in shares.iter().take(size) {
        let part = most(share).min(left);
        same += part * part;
        left -= part;
        if left <= 0.0 {
            break;
        }
    }
    // What the limits leave over would go to shares that are above them only if the limits were wrong;
    // counted as one more share it keeps the bound a bound.
    same + left * left
}

fn gap(cost: u64, low: u64) -> Proof {
    let gap = (u128::from(cost.saturating_sub(low)) * 1_000_000).div_ceil(u128::from(low.max(1)));
    Proof::Gap(u64::try_from(gap).unwrap_or(u64::MAX))
}
