//! Answers by bounds of what sets of caches cost, without a search.

use super::{Offer, PPM_ONE, Ranked, Rules, Sums, contention, exactly, idle_key, ppm, within};

/// An answer that needs no search.
#[derive(Clone, Copy)]
pub(super) struct Sure {
    /// Positions, ascending; the first `count` of them.
    at: [usize; MOST_IDLE],
    count: usize,
    pub(super) cost_ppm: u64,
}

impl Sure {
    pub(super) fn caches(&self) -> &[usize] {
        self.at.get(..self.count).unwrap_or_default()
    }
}

/// The most caches of an answer without a search.
const MOST_IDLE: usize = 8;

/// Bounds of what sets of caches cost.
pub(super) struct Bounds<'a> {
    caches: &'a Ranked,
    rules: &'a Rules,
    cpus: f64,
    /// CPUs that a set must have: those asked for, at most all.
    need: f64,
    kappa: f64,
    /// The lowest cost of one cache that holds the guest, in parts per million.
    alone: u64,
    /// A cost, in parts per million, below which no set is.
    pub(super) low: u64,
}

impl<'a> Bounds<'a> {
    pub(super) fn of(caches: &'a Ranked, rules: &'a Rules) -> Self {
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
            let whole = super::contention(self.cpus, idle, count * most);
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

    pub(super) fn for_sure(&self) -> Option<Sure> {
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

    pub(super) fn one_cache_for_sure(&self) -> Option<Sure> {
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
    pub(super) fn among_most_idle(&self) -> Option<(Vec<usize>, u64)> {
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
