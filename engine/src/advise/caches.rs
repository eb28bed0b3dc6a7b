//! Which caches, and so which CPUs, of the chosen nodes a guest's threads may roam over.

use std::borrow::Cow;

use super::usable::Usable;
use crate::advice::{Advice, CacheShare, Share};
use crate::ids::{CpuId, NodeId};
use crate::idset::{CpuSet, NodeSet};
use crate::policy::Policy;
use crate::policy::best::Prefer;
use crate::policy::cache::roam::{self, Offer, Ranked};
use crate::policy::cache::{Core, Mode, Rules, Thread, free_capacity, pin};
use crate::request::Request;
use crate::snapshot::{NodeOffers, Snapshot};
use crate::topology::{Cache, Node};
use crate::units::CpuShare;

/// Sets of one node's caches to look at: all sets of 10 caches, some 20 µs at most.
const SETS: u64 = 1 << 10;

/// Steps of the search for CPUs of pinned guests.
const STEPS: u64 = 10_000;

/// The CPUs chosen inside the nodes of an advice.
#[derive(Clone, Debug, Default)]
pub(super) struct Inside {
    pub(super) cpus: CpuSet,
    /// All CPUs of the nodes that may be used.
    pub(super) usable: CpuSet,
    pub(super) caches: Vec<CacheShare>,
    /// The highest cost of a node; `None` where caches were not looked at.
    pub(super) cost: Option<f64>,
}

/// Chooses the CPUs inside some nodes: in each node for the part of the guest that runs there.
pub(super) fn place(
    snapshot: &Snapshot,
    request: &Request,
    usable: &Usable<'_>,
    nodes: &NodeSet,
    split: &[Share],
) -> Inside {
    if matches!(request.policy, Policy::Numad(_)) {
        let cpus = usable.cpus_of(snapshot, nodes);
        return Inside { usable: cpus.clone(), cpus, ..Inside::default() };
    }
    let topology = snapshot.topology();
    let mut inside = Inside::default();
    for id in nodes.iter() {
        let Ok(at) = topology.nodes().binary_search_by_key(&id, |node| node.id) else { continue };
        let Some(node) = topology.nodes().get(at) else { continue };
        let allowed = match snapshot.host().roaming_of(at) {
            Some(cpus) if usable.all_cpus() => Cow::Borrowed(cpus),
            _ => Cow::Owned(usable.cpus_of(snapshot, &std::iter::once(id).collect())),
        };
        let smt_percent = super::rules(request).smt_percent;
        let ready = usable.all_cpus().then(|| ready_offers(snapshot, smt_percent, at)).flatten();
        let share = split.iter().find(|share| share.node == id).map(|share| share.cpus);
        let cpus = if nodes.len() == 1 { request.cpus.as_cpus() } else { share.unwrap_or(0.0) };
        let chosen = ready
            .and_then(|ready| at_once(snapshot, request, node, ready, cpus))
            .or_else(|| choose(snapshot, request, node, &allowed, cpus));
        let Some(chosen) = chosen else { continue };
        add(&mut inside.cpus, chosen.cpus);
        add(&mut inside.usable, allowed.into_owned());
        if inside.caches.is_empty() {
            inside.caches = chosen.caches;
        } else {
            inside.caches.extend(chosen.caches);
        }
        #[expect(clippy::cast_precision_loss, reason = "costs that matter are small")]
        let cost = chosen.cost_ppm.map(|cost| cost as f64 / 1e6);
        inside.cost = match (inside.cost, cost) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
    inside
}

/// Returns what the caches of the node at a position offer a guest without limits; made for all nodes the
/// first time a snapshot is asked.
pub(super) fn ready_offers(
    snapshot: &Snapshot,
    smt_percent: u32,
    at: usize,
) -> Option<&NodeOffers> {
    let make = || {
        let owned = snapshot.charges().pinned();
        let nodes = snapshot.topology().nodes().iter().enumerate();
        let of_node = |(at, node): (usize, &Node)| {
            let roaming = snapshot.host().roaming_of(at).unwrap_or(&node.cpus);
            let mut free = roaming.difference(owned);
            if free.is_empty() {
                free = roaming.clone();
            }
            NodeOffers { caches: Ranked::new(offers(snapshot, node, &free, smt_percent)), free }
        };
        nodes.map(of_node).collect()
    };
    snapshot.cache_offers(smt_percent, at, make)
}

/// Chooses a CPU of its own for each of `vcpus` vCPUs, in the order of preference; fewer where fewer are free.
///
/// `allowed` are the CPUs that may be chosen, of any nodes; those in `taken` belong to other threads. First
/// come cores of which no thread is taken, in as few last-level caches as possible, idle ones before busy
/// ones; see [`pin`]. Slow cores of hybrid CPUs are chosen where there are not
/// enough fast ones. Pure; takes some microseconds.
///
/// ```
/// use std::time::Duration;
/// use placer_engine::{CpuSet, Snapshot, SysRoot, pin_cpus};
/// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/two-nodes");
/// # if !std::path::Path::new(dir).exists() { return Ok(()); }
/// let host = Snapshot::take(&SysRoot::at(dir), Duration::ZERO)?;
/// let node = &host.topology().nodes()[0];
/// // Cores of two threads: two vCPUs get a core each.
/// let cpus = pin_cpus(&host, &node.cpus, &CpuSet::new(), 2);
/// assert_eq!(cpus.iter().map(|cpu| cpu.0).collect::<Vec<_>>(), [0, 2]);
/// # Ok::<(), placer_engine::SourceError>(())
/// ```
pub fn pin_cpus(snapshot: &Snapshot, allowed: &CpuSet, taken: &CpuSet, vcpus: usize) -> Vec<CpuId> {
    let slow = snapshot.topology().slow_cpus();
    let fast = allowed.difference(&slow);
    let choice = |allowed: &CpuSet| {
        let caches = cores_by_cache(snapshot, allowed, taken);
        let free = allowed.difference(taken).len();
        let vcpus = vcpus.min(usize::try_from(free).unwrap_or(usize::MAX));
        if vcpus == 0 { None } else { pin::choose(&caches, vcpus, STEPS) }
    };
    let on_fast = (!slow.is_empty()).then(|| choice(&fast)).flatten();
    let on_fast = on_fast.filter(|choice| choice.cpus.len() == vcpus && choice.sharing == 0);
    let cpus = on_fast.or_else(|| choice(allowed)).map(|choice| choice.cpus);
    cpus.unwrap_or_default().into_iter().map(CpuId).collect()
}

/// Returns the cores of each cache with the threads that may be chosen or are taken.
fn cores_by_cache(snapshot: &Snapshot, allowed: &CpuSet, taken: &CpuSet) -> Vec<Vec<Core>> {
    let idle_of =
        |cache: &Cache| CpuSet::iter(&cache.cpus).map(|cpu| snapshot.idle_of_cpu(cpu)).sum();
    let mut caches = Vec::new();
    for node in snapshot.topology().nodes() {
        let charge = snapshot.charges().of(node.id);
        let left: Vec<f64> = if charge.roaming.is_empty() {
            vec![1.0; node.caches.len()]
        } else {
            let idle: Vec<f64> = node.caches.iter().map(idle_of).collect();
            let (charged, _) = taken_by_roaming(node, &charge.roaming, &idle);
            let left = |(idle, charged): (&f64, f64)| (1.0 - charged / idle.max(charged)).max(0.0);
            idle.iter().zip(charged).map(left).collect()
        };
        for (cache, left) in node.caches.iter().zip(left) {
            let thread = |cpu: CpuId| {
                let taken = taken.contains(cpu);
                let there = taken || allowed.contains(cpu);
                let idle = || snapshot.idle_of_cpu(cpu) * left;
                there.then(|| Thread { cpu: cpu.0, idle: idle(), taken })
            };
            let core =
                |cpus: &CpuSet| Core { threads: CpuSet::iter(cpus).filter_map(thread).collect() };
            let cores = cache.cores.iter().map(core).filter(|core| !core.threads.is_empty());
            caches.push(cores.collect());
        }
    }
    caches
}

/// The CPUs chosen inside one node.
#[derive(Clone, Debug, Default)]
struct Placement {
    cpus: CpuSet,
    caches: Vec<CacheShare>,
    /// The cost, in parts per million; `None` where the node's caches are not looked at.
    cost_ppm: Option<u64>,
}

/// Returns the caches of the advised nodes of which no claim owns a CPU or has its threads there; `None` where
/// the advice had no choice of caches.
pub(super) fn free(snapshot: &Snapshot, advice: &Advice) -> Option<Vec<CacheShare>> {
    advice.cache_cost?;
    let nodes = snapshot.topology().nodes().iter();
    let nodes: Vec<&Node> = nodes.filter(|node| advice.nodes.contains(node.id)).collect();
    if nodes.iter().all(|node| node.caches.len() < 2) {
        return None;
    }
    let used = snapshot.charges().pinned().union(snapshot.charges().shared());
    let all = nodes.iter().flat_map(|node| node.caches.iter().map(|cache| (node.id, cache)));
    let free = all.filter(|(_, cache)| cache.cpus.intersection(&used).is_empty());
    let share = |(node, cache): (NodeId, &Cache)| CacheShare {
        node,
        level: cache.level,
        size: cache.size,
        cpus: cache.cpus.clone(),
    };
    Some(free.map(share).collect())
}

/// Adds CPUs to a set; the first ones are moved.
fn add(all: &mut CpuSet, cpus: CpuSet) {
    *all = if all.is_empty() { cpus } else { all.union(&cpus) };
}

/// The ordinary answer: all cores are alike, and caches are preferred or not looked at.
fn at_once(
    snapshot: &Snapshot,
    request: &Request,
    node: &Node,
    ready: &NodeOffers,
    cpus: f64,
) -> Option<Placement> {
    if !snapshot.topology().slow_cpus().is_empty() || ready.free.is_empty() {
        return None;
    }
    if !looks_at_caches(request, node) {
        return Some(Placement { cpus: ready.free.clone(), ..Placement::default() });
    }
    if request.cache.mode != Mode::Prefer {
        return None;
    }
    let rules = roam_rules(request, cpus);
    let (caches, cost_ppm) = ready.caches.choose_without_proof(&rules);
    Some(placement(node, &ready.free, &caches, cost_ppm))
}

/// Returns the placement in some caches of a node, by their positions.
fn placement(node: &Node, free: &CpuSet, caches: &[usize], cost_ppm: u64) -> Placement {
    let share = |cache: &Cache| {
        let whole = cache.cpus.is_subset(free);
        let cpus = if whole { cache.cpus.clone() } else { cache.cpus.intersection(free) };
        CacheShare { node: node.id, level: cache.level, size: cache.size, cpus }
    };
    let caches: Vec<CacheShare> =
        caches.iter().filter_map(|&at| node.caches.get(at)).map(share).collect();
    let mut cpus = CpuSet::new();
    caches.iter().for_each(|share| add(&mut cpus, share.cpus.clone()));
    Placement { cpus, caches, cost_ppm: Some(cost_ppm) }
}

/// Chooses the caches of one node for the part of a guest that runs there.
///
/// `allowed` are the CPUs that may be used at all. `None` where the node has no usable CPUs.
fn choose(
    snapshot: &Snapshot,
    request: &Request,
    node: &Node,
    allowed: &CpuSet,
    cpus: f64,
) -> Option<Placement> {
    let usable = node.cpus.intersection(allowed);
    let mut free = usable.difference(snapshot.charges().pinned());
    if free.is_empty() {
        // Claims own every CPU: all count again.
        free = usable;
    }
    if free.is_empty() {
        return None;
    }
    let cost_of = |free: &CpuSet| {
        let offers = offers(snapshot, node, free, super::rules(request).smt_percent);
        roam_over(request, node, offers, cpus)
    };
    let mut best = cost_of(&free);
    // Slow cores are used where fast ones alone would make the guest slower.
    let slow = snapshot.topology().slow_cpus();
    if !slow.is_empty() {
        let fast = free.difference(&slow);
        if fast.len() < free.len() && count(&fast) >= cpus {
            let on_fast = cost_of(&fast);
            // Within 2 %.
            if on_fast.cost_ppm.saturating_mul(100) <= best.cost_ppm.saturating_mul(102) {
                (best, free) = (on_fast, fast);
            }
        }
    }
    if !looks_at_caches(request, node) {
        return Some(Placement { cpus: free, ..Placement::default() });
    }
    Some(placement(node, &free, &best.caches, best.cost_ppm))
}

/// Returns whether caches decide which CPUs of a node a guest gets.
fn looks_at_caches(request: &Request, node: &Node) -> bool {
    let Rules { penalty_percent, mode, .. } = request.cache;
    let decide = mode == Mode::Require || (penalty_percent > 0 && mode != Mode::Ignore);
    decide && node.knows_caches()
}

fn roam_over(request: &Request, node: &Node, mut offers: Vec<Offer>, cpus: f64) -> roam::Choice {
    if !looks_at_caches(request, node) {
        let none = Offer { cpus: 0, capacity: 0.0, idle: 0.0 };
        offers = vec![offers.iter().fold(none, |all, one| Offer {
            cpus: all.cpus.saturating_add(one.cpus),
            capacity: all.capacity + one.capacity,
            idle: all.idle + one.idle,
        })];
    } else if request.cache.mode == Mode::Largest {
        only_largest(&node.caches, &mut offers, cpus);
    }
    let rules = roam_rules(request, cpus);
    if looks_at_caches(request, node) && request.cache.mode == Mode::Require {
        return one_cache(&offers, &rules).unwrap_or_else(|| roam::choose(&offers, &rules));
    }
    roam::choose(&offers, &rules)
}

fn roam_rules(request: &Request, cpus: f64) -> roam::Rules {
    roam::Rules {
        cpus,
        penalty_percent: request.cache.penalty_percent,
        pack: super::rules(request).prefer == Prefer::Pack,
        effort: SETS,
    }
}

/// Chooses the one cache with enough CPUs that costs least, then by idle CPUs and position.
fn one_cache(offers: &[Offer], rules: &roam::Rules) -> Option<roam::Choice> {
    let none = Offer { cpus: 0, capacity: 0.0, idle: 0.0 };
    let holds = |at: &usize| offers.get(*at).is_some_and(|o| f64::from(o.cpus) >= rules.cpus);
    let alone = |at: usize| {
        let only = |(other, offer): (usize, &Offer)| if other == at { *offer } else { none };
        roam::choose(&offers.iter().enumerate().map(only).collect::<Vec<_>>(), rules)
    };
    let idle = |choice: &roam::Choice| {
        choice.caches.first().and_then(|&at| offers.get(at)).map_or(0.0, |offer| offer.idle)
    };
    (0..offers.len()).filter(holds).map(alone).min_by(|a, b| {
        let by_idle = idle(b).total_cmp(&idle(a));
        let by_idle = if rules.pack { by_idle.reverse() } else { by_idle };
        a.cost_ppm.cmp(&b.cost_ppm).then(by_idle).then(a.caches.cmp(&b.caches))
    })
}

/// Returns the free CPUs and their idle part of the cache of a node that costs a guest least of those that hold
/// it.
pub(super) fn cheapest(
    snapshot: &Snapshot,
    request: &Request,
    usable: &Usable<'_>,
    node: &Node,
) -> Option<(CpuSet, f64)> {
    if !looks_at_caches(request, node) {
        return None;
    }
    let free = free_cpus(snapshot, usable, node);
    let offers = offers(snapshot, node, &free, super::rules(request).smt_percent);
    let choice = one_cache(&offers, &roam_rules(request, request.cpus.as_cpus()))?;
    let &at = choice.caches.first()?;
    Some((node.caches.get(at)?.cpus.intersection(&free), offers.get(at)?.idle))
}

/// Returns how many free CPUs the cache has that has most of them; `None` where no cache is known.
pub(super) fn most_free(snapshot: &Snapshot, usable: &Usable<'_>) -> Option<u32> {
    let nodes = snapshot.topology().nodes().iter().filter(|node| node.knows_caches());
    let of_node = |node: &Node| {
        let free = free_cpus(snapshot, usable, node);
        node.caches.iter().map(|cache| cache.cpus.intersection(&free).len()).max()
    };
    let most = nodes.filter_map(of_node).max();
    most.map(|most| u32::try_from(most).unwrap_or(u32::MAX))
}

/// Returns the usable CPUs of a node that no claim owns.
fn free_cpus(snapshot: &Snapshot, usable: &Usable<'_>, node: &Node) -> CpuSet {
    if !usable.nodes.contains(node.id) {
        return CpuSet::new();
    }
    let there = usable.cpus_of(snapshot, &std::iter::once(node.id).collect());
    there.difference(snapshot.charges().pinned())
}

/// Takes the offers of all but the largest caches away, if those have enough CPUs.
fn only_largest(caches: &[Cache], offers: &mut [Offer], cpus: f64) {
    let Some(most) = caches.iter().filter_map(|cache| cache.size).max() else { return };
    let largest = |cache: &Cache| cache.size == Some(most);
    let there = caches.iter().zip(offers.iter()).filter(|(cache, _)| largest(cache));
    if there.map(|(_, offer)| f64::from(offer.cpus)).sum::<f64>() < cpus {
        return;
    }
    for (cache, offer) in caches.iter().zip(offers) {
        if !largest(cache) {
            *offer = Offer { cpus: 0, capacity: 0.0, idle: 0.0 };
        }
    }
}

/// Returns what guests that are bound to some CPUs of a node take from each of its caches, and their sum.
/// Threads are where it is idle: a guest of several caches takes from each by its idle CPUs there.
fn taken_by_roaming(node: &Node, roaming: &[(CpuSet, CpuShare)], idle: &[f64]) -> (Vec<f64>, f64) {
    let mut taken = vec![0.0; idle.len()];
    let mut placed = 0.0;
    for (cpus, share) in roaming {
        let there = node.caches.iter().zip(idle).map(|(cache, idle)| {
            idle * count(&cache.cpus.intersection(cpus)) / count(&cache.cpus).max(1.0)
        });
        let there: Vec<f64> = there.collect();
        let sum: f64 = there.iter().sum();
        if sum > 0.0 {
            placed += share.as_cpus();
            let parts = there.iter().map(|there| share.as_cpus() * there / sum);
            taken.iter_mut().zip(parts).for_each(|(taken, part)| *taken += part);
        }
    }
    (taken, placed)
}

/// Returns what each cache of a node offers of some free CPUs. CPUs that claims own are busy neighbours;
/// what claims of roaming guests charge is taken from the idle time of their caches, and what others charge
/// from that of all caches alike.
fn offers(snapshot: &Snapshot, node: &Node, free: &CpuSet, smt_percent: u32) -> Vec<Offer> {
    let (topology, charges) = (snapshot.topology(), snapshot.charges());
    let further = f64::from(smt_percent.min(100)) / 100.0;
    let offer = |cache: &Cache| {
        let mut offer = Offer { cpus: 0, capacity: 0.0, idle: 0.0 };
        for core in &cache.cores {
            let (mut threads, mut busy, mut owned, mut worth) = (0u32, 0.0, false, 1.0);
            for cpu in CpuSet::iter(core) {
                if free.contains(cpu) {
                    threads += 1;
                    busy += 1.0 - snapshot.idle_of_cpu(cpu);
                    worth = topology.capacity_of(cpu);
                } else {
                    owned |= charges.pinned().contains(cpu);
                }
            }
            let (capacity, idle) = free_capacity(threads, busy, owned, further);
            offer.cpus = offer.cpus.saturating_add(threads);
            offer.capacity += capacity * worth;
            offer.idle += idle * worth;
        }
        offer
    };
    let mut offers: Vec<Offer> = node.caches.iter().map(offer).collect();
    let owned = count(&node.cpus.intersection(charges.pinned()));
    let charge = charges.of(node.id);
    let idle: Vec<f64> = offers.iter().map(|offer| offer.idle).collect();
    let (taken, placed) = taken_by_roaming(node, &charge.roaming, &idle);
    for (offer, taken) in offers.iter_mut().zip(taken) {
        offer.idle = (offer.idle - taken).max(0.0);
    }
    let charged = (charge.cpus.as_cpus() - owned - placed).max(0.0);
    let idle: f64 = offers.iter().map(|offer| offer.idle).sum();
    let left = if idle > 0.0 { (1.0 - charged / idle).max(0.0) } else { 0.0 };
    for offer in &mut offers {
        // Millionths, so that the order of summing can never show.
        offer.capacity = (offer.capacity * 1e6).round() / 1e6;
        offer.idle = (offer.idle * left * 1e6).round() / 1e6;
    }
    offers
}

#[expect(clippy::cast_precision_loss, reason = "no host has 2^53 CPUs")]
fn count(cpus: &CpuSet) -> f64 {
    cpus.len() as f64
}

#[cfg(test)]
mod tests;
