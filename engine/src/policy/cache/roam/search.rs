//! The search that tries every set of caches, or the likely ones.

use super::{Choice, Offer, PPM_ONE, Rules, Sums, exactly, idle_key, ppm, within};
use crate::policy::cache::Proof;

/// Caches that offer the same.
pub(super) struct Kind {
    offer: Offer,
    /// Ascending.
    pub(super) at: Vec<usize>,
}

pub(super) struct Search<'a> {
    offers: &'a [Offer],
    rules: &'a Rules,
    cpus: f64,
    /// CPUs that a set must have: those asked for, at most all.
    need: f64,
    kappa: f64,
    pub(super) kinds: Vec<Kind>,
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

/// Whether a figure in millionths may round to either side, summed in another order.
fn is_near_half(millionths: f64) -> bool {
    (millionths - millionths.floor() - 0.5).abs() < 1e-3
}

impl<'a> Search<'a> {
    pub(super) fn new(offers: &'a [Offer], rules: &'a Rules) -> Self {
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
    pub(super) fn among_all(&self) -> Choice {
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
    pub(super) fn among_likely(&self) -> (Vec<usize>, u64) {
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

fn sorted(caches: &[usize]) -> Vec<usize> {
    let mut caches = caches.to_vec();
    caches.sort_unstable();
    caches
}
