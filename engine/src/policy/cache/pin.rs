//! One CPU for each vCPU of a pinned guest.
//!
//! In this order: fewest vCPUs that share a core, fewest on busy cores, fewest caches, fewest wholly free
//! caches broken, fewest free cores left over in the caches used, least load, lowest CPUs.
//!
//! # How it is found
//!
//! A core of which no thread is taken gives one *first* CPU; all other free CPUs are *further* ones.
//! While there are enough first CPUs no vCPU shares a core; otherwise every first CPU is used, so every
//! cache that has one is *forced*, and further CPUs fill up. Either way one pool of CPUs is left to choose
//! from. If its idle CPUs do not suffice, all of them are used (their caches are forced too) and busy ones
//! fill up. So a single count decides how many caches are needed, and taking the largest gives the fewest.
//! Fewest caches also means that each chosen cache is used: without an unused one there would be fewer.
//!
//! Between sets of that size a search compares the remaining keys. Caches that differ in nothing but the
//! numbers of their CPUs are one kind; the one with the lowest CPUs is taken first, since exchanging a
//! later one for an earlier one makes the list of CPUs lower.

use super::{Core, Proof};

/// The chosen CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Positions of the caches used, ascending.
    pub caches: Vec<usize>,
    /// A CPU for each vCPU, in order of choice: whole cores first, the idlest first.
    pub cpus: Vec<u32>,
    /// vCPUs that share a core with another CPU in use.
    pub sharing: usize,
    /// vCPUs on busy cores: a free thread of theirs is less than three quarters idle.
    pub busy: usize,
    /// Whether that is exact.
    pub proof: Proof,
}

/// Load from which on a core is busy, in quarters.
const BUSY: u8 = 2;

/// A CPU that may be chosen, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cpu {
    /// How busy the busiest free thread of its core is, in quarters, rounded up.
    load: u8,
    id: u32,
}

/// What one cache has to give.
struct Supply {
    /// One CPU of each core of which no thread is taken.
    first: Vec<Cpu>,
    /// Further free CPUs.
    further: Vec<Cpu>,
    /// Whether nothing of it is taken or busy.
    whole: bool,
}

/// Chooses a CPU for each of `vcpus` vCPUs from the cores of each cache.
///
/// `None` when fewer CPUs are free. At most `effort` search nodes are looked at.
///
/// ```
/// use placer_engine::policy::cache::{Core, Thread, pin};
/// let core = |cpu| Core { threads: vec![Thread { cpu, idle: 1.0, taken: false }] };
/// let caches = vec![vec![core(0), core(1)], vec![core(2), core(3), core(4)]];
/// let choice = pin::choose(&caches, 3, 20_000).expect("five CPUs are free");
/// assert_eq!((choice.caches, choice.cpus), (vec![1], vec![2, 3, 4]));
/// ```
#[must_use]
pub fn choose(caches: &[Vec<Core>], vcpus: usize, effort: u64) -> Option<Choice> {
    let wanted = vcpus.max(1);
    let supplies: Vec<Supply> = caches.iter().map(|cores| Supply::of(cores)).collect();
    let firsts: usize = supplies.iter().map(|supply| supply.first.len()).sum();
    let all = firsts + supplies.iter().map(|supply| supply.further.len()).sum::<usize>();
    if all < wanted {
        return None;
    }
    let shared = wanted.saturating_sub(firsts);
    let (set, proof) = choose_set(&supplies, wanted, shared, effort);
    let cpus = picks(&supplies, &set, wanted);
    Some(Choice {
        busy: cpus.iter().filter(|cpu| cpu.load >= BUSY).count(),
        cpus: cpus.iter().map(|cpu| cpu.id).collect(),
        caches: set,
        sharing: shared,
        proof,
    })
}

impl Supply {
    fn of(cores: &[Core]) -> Self {
        let (mut first, mut further) = (Vec::new(), Vec::new());
        let mut whole = true;
        for core in cores {
            let free = || core.threads.iter().filter(|thread| !thread.taken);
            let load = free().map(|thread| quarters(thread.idle)).max().unwrap_or(4);
            let untouched = free().count() == core.threads.len();
            whole &= untouched && load < BUSY;
            let mut ids: Vec<u32> = free().map(|thread| thread.cpu).collect();
            ids.sort_unstable();
            for (nth, id) in ids.into_iter().enumerate() {
                let pool = if untouched && nth == 0 { &mut first } else { &mut further };
                pool.push(Cpu { load, id });
            }
        }
        first.sort_unstable();
        further.sort_unstable();
        Self { first, further, whole }
    }
}

/// Load in quarters of a CPU, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 4")]
fn quarters(idle: f64) -> u8 {
    4 - (idle.clamp(0.0, 1.0) * 4.0 + 1e-9).min(4.0) as u8
}

/// Returns the CPUs that a set of caches gives.
fn picks(supplies: &[Supply], set: &[usize], wanted: usize) -> Vec<Cpu> {
    let pool = |of: fn(&Supply) -> &Vec<Cpu>| {
        let mut cpus: Vec<Cpu> =
            set.iter().flat_map(|&at| of(&supplies[at]).iter().copied()).collect();
        cpus.sort_unstable();
        cpus
    };
    let mut cpus = pool(|supply| &supply.first);
    cpus.truncate(wanted);
    if cpus.len() < wanted {
        let missing = wanted - cpus.len();
        cpus.extend(pool(|supply| &supply.further).into_iter().take(missing));
    }
    cpus
}

/// Caches that differ only in the numbers of their CPUs.
struct Kind {
    measure: usize,
    whole: bool,
    leftover: usize,
    /// Positions, the one with the lowest CPUs first.
    at: Vec<usize>,
}

/// The keys that the search compares, after those that the size of the set decides.
type Key = (usize, usize, usize, Vec<Cpu>);

struct Search<'a> {
    supplies: &'a [Supply],
    forced: &'a [usize],
    kinds: Vec<Kind>,
    taken: Vec<usize>,
    wanted: usize,
    /// What the chosen caches must still measure.
    need: usize,
    steps: u64,
    effort: u64,
    best: Option<(Key, Vec<usize>)>,
}

fn choose_set(
    supplies: &[Supply],
    wanted: usize,
    shared: usize,
    effort: u64,
) -> (Vec<usize>, Proof) {
    let pool =
        |supply: &'_ Supply| if shared == 0 { &supply.first } else { &supply.further }.clone();
    let pools: Vec<Vec<Cpu>> = supplies.iter().map(pool).collect();
    let need = if shared == 0 { wanted } else { shared };
    let idle = |at: usize| pools[at].iter().filter(|cpu| cpu.load < BUSY).count();
    let all_idle: usize = (0..pools.len()).map(idle).sum();
    let measure = |at: usize| if all_idle >= need { idle(at) } else { pools[at].len() };
    let is_forced = |at: usize| {
        (shared > 0 && !supplies[at].first.is_empty()) || (all_idle < need && idle(at) > 0)
    };
    let (forced, rest): (Vec<usize>, Vec<usize>) = (0..pools.len()).partition(|&at| is_forced(at));
    let have: usize = forced.iter().map(|&at| measure(at)).sum();
    if have >= need {
        return (forced, Proof::Optimal);
    }
    let mut sizes: Vec<usize> = rest.iter().map(|&at| measure(at)).collect();
    sizes.sort_unstable_by_key(|&size| std::cmp::Reverse(size));
    let mut sum = have;
    let fewest = sizes.iter().take_while(|&&more| {
        let needed = sum < need;
        sum += more;
        needed
    });
    let size = fewest.count();
    let mut search = Search {
        supplies,
        forced: &forced,
        kinds: kinds(supplies, &pools, &rest, measure),
        taken: Vec::new(),
        wanted,
        need: need - have,
        steps: 0,
        effort: effort.max(1),
        best: None,
    };
    search.taken = vec![0; search.kinds.len()];
    search.descend(0, size, 0, 0, 0);
    let exact = search.steps < search.effort;
    let set = match search.best {
        Some((_, set)) => set,
        // The limit came before the first set: the largest caches hold the guest.
        None => {
            let mut by_size = rest;
            by_size.sort_by_key(|&at| (std::cmp::Reverse(measure(at)), at));
            let mut set = forced;
            set.extend(by_size.into_iter().take(size));
            set.sort_unstable();
            set
        }
    };
    (set, if exact { Proof::Optimal } else { Proof::Gap(0) })
}

/// Groups caches into kinds, those that measure most first.
fn kinds(
    supplies: &[Supply],
    pools: &[Vec<Cpu>],
    rest: &[usize],
    measure: impl Fn(usize) -> usize,
) -> Vec<Kind> {
    let loads = |at: usize| pools[at].iter().map(|cpu| cpu.load);
    let mut order: Vec<usize> = rest.iter().copied().filter(|&at| measure(at) > 0).collect();
    let alike = |a: usize, b: usize| {
        let key = |at: usize| (measure(at), supplies[at].whole, supplies[at].first.len());
        key(b).cmp(&key(a)).then_with(|| loads(a).cmp(loads(b)))
    };
    order.sort_by(|&a, &b| alike(a, b).then_with(|| pools[a].cmp(&pools[b])).then(a.cmp(&b)));
    let mut kinds: Vec<Kind> = Vec::new();
    for at in order {
        match kinds.last_mut() {
            Some(kind) if alike(kind.at[0], at).is_eq() => kind.at.push(at),
            _ => kinds.push(Kind {
                measure: measure(at),
                whole: supplies[at].whole,
                leftover: supplies[at].first.len(),
                at: vec![at],
            }),
        }
    }
    kinds
}

impl Search<'_> {
    /// Adds `left` caches of the kinds from `kind` on to a partial set with these sums.
    fn descend(&mut self, kind: usize, left: usize, measured: usize, wholes: usize, cores: usize) {
        self.steps += 1;
        if self.steps >= self.effort {
            return;
        }
        if left == 0 {
            if measured >= self.need {
                self.offer(wholes, cores);
            }
            return;
        }
        if !self.can_improve(kind, left, measured, wholes, cores) {
            return;
        }
        let Kind { measure, whole, leftover, ref at } = self.kinds[kind];
        for many in (0..=at.len().min(left)).rev() {
            self.taken[kind] = many;
            let wholes = wholes + if whole { many } else { 0 };
            let cores = cores + many * leftover;
            self.descend(kind + 1, left - many, measured + many * measure, wholes, cores);
        }
        self.taken[kind] = 0;
    }

    fn can_improve(
        &self,
        kind: usize,
        left: usize,
        measured: usize,
        wholes: usize,
        cores: usize,
    ) -> bool {
        let rest = &self.kinds[kind..];
        // Kinds are in descending order of what they measure.
        let (mut more, mut most) = (left, measured);
        for kind in rest {
            let many = kind.at.len().min(more);
            most += many * kind.measure;
            more -= many;
        }
        if more > 0 || most < self.need {
            return false;
        }
        let Some((best, _)) = &self.best else { return true };
        let free = rest.iter().filter(|kind| !kind.whole).map(|kind| kind.at.len()).sum::<usize>();
        let fewest_wholes = wholes + left.saturating_sub(free);
        let fewest_cores =
            cores + left * rest.iter().map(|kind| kind.leftover).min().unwrap_or_default();
        (fewest_wholes, fewest_cores) <= (best.0, best.1)
    }

    fn offer(&mut self, wholes: usize, cores: usize) {
        if self.best.as_ref().is_some_and(|(best, _)| (wholes, cores) > (best.0, best.1)) {
            return;
        }
        let chosen = self.kinds.iter().zip(&self.taken);
        let chosen = chosen.flat_map(|(kind, &many)| kind.at[..many].iter().copied());
        let mut set: Vec<usize> = self.forced.iter().copied().chain(chosen).collect();
        set.sort_unstable();
        let cpus = picks(self.supplies, &set, self.wanted);
        let load = cpus.iter().map(|cpu| usize::from(cpu.load)).sum();
        let key = (wholes, cores, load, cpus);
        let found = (key, set);
        // The list of CPUs is compared by their numbers alone, as the rule says.
        if self.best.as_ref().is_none_or(|best| by_rule(&found).lt(by_rule(best))) {
            self.best = Some(found);
        }
    }
}

fn by_rule((key, set): &(Key, Vec<usize>)) -> impl Iterator<Item = usize> {
    let ids = key.3.iter().map(|cpu| usize::try_from(cpu.id).unwrap_or(usize::MAX));
    [key.0, key.1, key.2].into_iter().chain(ids).chain(set.iter().copied())
}
