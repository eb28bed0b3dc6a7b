//! Which thread of a machine runs on which CPUs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;
use placer_engine::{Advice, CpuId, CpuSet, NodeSet, Snapshot};

use super::shape::Shape;
use crate::error::LaunchError;
use crate::guest::{CpuPlacement, Guest, ThreadPin};

/// The CPUs of each thread of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadCpus {
    /// All that the machine may use without a pin: what its process starts with.
    pub process: CpuSet,
    /// Of each vCPU, from 0, also of those that are plugged in later.
    pub vcpus: Vec<CpuSet>,
    /// Of each I/O thread; number 1 comes first.
    pub iothreads: Vec<CpuSet>,
    /// Of all other threads.
    pub emulator: CpuSet,
    /// What single vCPUs have for themselves, to be claimed.
    pub own: CpuSet,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

impl ThreadCpus {
    /// Says where the threads of a guest run.
    ///
    /// What was named by hand goes first. Then by [`ThreadPin::Nodes`] a vCPU runs on all CPUs of
    /// its node's host node; by [`ThreadPin::Cores`] on one CPU, of a core that has no other vCPU
    /// while there are such, of this guest or another that claimed it, idle cores before busy ones,
    /// isolated ones first where they are wanted. vCPUs that find no CPU of their own run on all of their node. I/O threads and the
    /// others run on what no vCPU has, cores without a vCPU before threads beside one; on all where
    /// nothing is left.
    ///
    /// Errors: CPUs named by hand that this host does not have.
    pub fn of(
        guest: &Guest,
        iothreads: u32,
        advice: Option<&Advice>,
        snapshot: &Snapshot,
        shape: &Shape,
    ) -> Result<Self, LaunchError> {
        let host = snapshot.topology().cpus_of(&snapshot.topology().node_set());
        let process = match &guest.placement {
            CpuPlacement::Fixed(cpus) => there(cpus, &host, "the guest")?,
            CpuPlacement::All => roaming(&host, snapshot),
            CpuPlacement::Advised { .. } => match advice {
                Some(advice) if !advice.cpus.is_empty() => advice.cpus.clone(),
                _ => roaming(&host, snapshot),
            },
        };
        let mut named = BTreeMap::new();
        for (&vcpu, cpus) in &guest.pins.vcpus {
            named.insert(vcpu, there(cpus, &host, &format!("vCPU {vcpu}"))?);
        }
        let others = snapshot.charges().pinned();
        let mut taken = named.values().fold(others.clone(), |all, cpus| all.union(cpus));
        let single = named.values().filter(|cpus| cpus.len() == 1);
        let mut own = single.fold(CpuSet::new(), |all, cpus| all.union(cpus));
        let mut notes = Vec::new();
        let mut vcpus = Vec::new();
        for vcpu in 0..guest.cpus.maximum {
            vcpus.push(match named.get(&vcpu) {
                Some(cpus) => cpus.clone(),
                None => of_its_node(shape, vcpu, &process, snapshot),
            });
        }
        if guest.pin == ThreadPin::Cores {
            let cores = Cores::of(snapshot);
            let mut without = BTreeSet::new();
            // Those that are there at the start before those that may come.
            for vcpu in (0..guest.cpus.maximum).filter(|vcpu| !named.contains_key(vcpu)) {
                let Some(cpus) = vcpus.get_mut(at(vcpu)) else { continue };
                let isolated = guest.isolated.then(|| isolated(shape, vcpu, &process, snapshot));
                match cores.next(cpus, &isolated.unwrap_or_default(), &taken) {
                    Some(cpu) => {
                        taken.insert(cpu);
                        own.insert(cpu);
                        *cpus = std::iter::once(cpu).collect();
                    }
                    None if vcpu < guest.cpus.current => drop(without.insert(CpuId(vcpu))),
                    None => {}
                }
            }
            if !without.is_empty() {
                let vcpus: CpuSet = without.into_iter().collect();
                notes.push(format!(
                    "vCPUs {vcpus} have no CPU of their own: they run on all of their nodes"
                ));
            }
        }
        let present = vcpus.iter().take(at(guest.cpus.current));
        let used = present.fold(CpuSet::new(), |all, cpus| all.union(cpus));
        let left = left(&process, &used, others, snapshot);
        let emulator = match &guest.pins.emulator {
            Some(cpus) => there(cpus, &host, "the emulator's threads")?,
            None => left.clone(),
        };
        let mut threads = Vec::new();
        for number in 1..=iothreads {
            threads.push(match guest.pins.iothreads.get(&number) {
                Some(cpus) => there(cpus, &host, &format!("I/O thread {number}"))?,
                None => left.clone(),
            });
        }
        Ok(Self { process, vcpus, iothreads: threads, emulator, own, notes })
    }
}

fn at(vcpu: u32) -> usize {
    usize::try_from(vcpu).unwrap_or(usize::MAX)
}

/// Returns what this host has of CPUs named by hand. The kernel leaves the others out without a
/// word, as it does here; all of them missing is a mistake.
fn there(cpus: &CpuSet, host: &CpuSet, whom: &str) -> Result<CpuSet, LaunchError> {
    let there = cpus.intersection(host);
    if there.is_empty() {
        return Err(LaunchError::seen(
            format!("run {whom} on CPUs {cpus}"),
            Errno::EINVAL,
            format!("none of them is online; this host has {host}"),
        ));
    }
    Ok(there)
}

/// Returns all CPUs but the isolated ones, on which threads that roam would be stuck.
fn roaming(host: &CpuSet, snapshot: &Snapshot) -> CpuSet {
    let roaming = host.difference(snapshot.topology().isolated());
    if roaming.is_empty() { host.clone() } else { roaming }
}

/// Returns the CPUs of a vCPU's node that the guest may use; all it may use where there are none.
fn of_its_node(shape: &Shape, vcpu: u32, process: &CpuSet, snapshot: &Snapshot) -> CpuSet {
    let here = snapshot.topology().cpus_of(cpu_nodes(shape, vcpu)).intersection(process);
    if here.is_empty() { process.clone() } else { here }
}

fn cpu_nodes(shape: &Shape, vcpu: u32) -> &NodeSet {
    static NONE: NodeSet = NodeSet::new();
    shape.cells.iter().find(|cell| cell.has(vcpu)).map_or(&NONE, |cell| &cell.cpu_nodes)
}

/// Returns the isolated CPUs of a vCPU's node, or of all nodes that the guest's CPUs are of.
fn isolated(shape: &Shape, vcpu: u32, process: &CpuSet, snapshot: &Snapshot) -> CpuSet {
    let topology = snapshot.topology();
    let own = cpu_nodes(shape, vcpu);
    let nodes = match own.is_empty() {
        false => own.clone(),
        true => {
            let has = |cpus: &CpuSet| !cpus.intersection(process).is_empty();
            topology.nodes().iter().filter(|node| has(&node.cpus)).map(|node| node.id).collect()
        }
    };
    topology.isolated().intersection(&topology.cpus_of(&nodes))
}

/// Returns what is left for threads that are no vCPUs: beside no vCPU that has its CPU for itself, of
/// this guest or another, if there is anything else.
fn left(process: &CpuSet, used: &CpuSet, others: &CpuSet, snapshot: &Snapshot) -> CpuSet {
    for busy in [&used.union(others), used] {
        let free = process.difference(busy);
        let cores = snapshot.topology().nodes().iter().flat_map(|node| &node.cores);
        let shared = cores.filter(|core| !core.intersection(busy).is_empty());
        let whole = shared.fold(free.clone(), |left, core| left.difference(core));
        if let Some(left) = [whole, free].into_iter().find(|left| !left.is_empty()) {
            return left;
        }
    }
    process.clone()
}

/// The cores of a host, the idlest first.
struct Cores {
    cores: Vec<CpuSet>,
}

impl Cores {
    fn of(snapshot: &Snapshot) -> Self {
        let mut cores: Vec<CpuSet> = Vec::new();
        for node in snapshot.topology().nodes() {
            cores.extend(node.cores.iter().cloned());
            let shared = node.cores.iter().fold(CpuSet::new(), |all, core| all.union(core));
            cores.extend(
                node.cpus.difference(&shared).iter().map(|cpu| [cpu].into_iter().collect()),
            );
        }
        cores.sort_by_key(|core| (busy_quarters(core, snapshot), core.first()));
        Self { cores }
    }

    /// Returns the next CPU of `cpus` or `isolated`: isolated before others, then one whose core
    /// has nothing taken before one that shares.
    fn next(&self, cpus: &CpuSet, isolated: &CpuSet, taken: &CpuSet) -> Option<CpuId> {
        let free = |allowed: &CpuSet, whole: bool| {
            let core = |core: &&CpuSet| !whole || core.intersection(taken).is_empty();
            let cpu = |core: &CpuSet| core.intersection(allowed).difference(taken).first();
            self.cores.iter().filter(core).find_map(cpu)
        };
        free(isolated, true)
            .or_else(|| free(cpus, true))
            .or_else(|| free(isolated, false))
            .or_else(|| free(cpus, false))
    }
}

/// Returns how busy the busiest thread of a core was, in quarters: a short look at the load is not
/// worth more. Zero where the load is unknown.
fn busy_quarters(core: &CpuSet, snapshot: &Snapshot) -> u64 {
    let (Some(before), now) = (snapshot.before(), &snapshot.sample().cpu) else { return 0 };
    let Some(ns) = now.at().since(before.at()).filter(|&ns| ns > 0) else { return 0 };
    let busy = |cpu: CpuId| {
        let ticks = now.idle(cpu)?.checked_sub(before.idle(cpu)?)?;
        // A tick is 10 ms.
        let idle = u128::from(ticks) * 10_000_000 * 4 / u128::from(ns);
        Some(4 - u64::try_from(idle.min(4)).unwrap_or(4))
    };
    core.iter().filter_map(busy).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
