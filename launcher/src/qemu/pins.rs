//! Which thread of a machine runs on which CPUs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;
use placer_engine::{Advice, CpuId, CpuSet, NodeSet, Snapshot, pin_cpus};

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
    /// CPUs named in the definition come first. With [`ThreadPin::Nodes`] a vCPU runs on the advised CPUs
    /// of its host node. With [`ThreadPin::Cores`] it gets one CPU by [`pin_cpus`], isolated ones first
    /// where they are wanted, those of a die in one cache where one has the CPUs; vCPUs for which no CPU is left
    /// run on all of their node. I/O threads and the others run on what no vCPU has, cores without a vCPU before threads beside one; on all CPUs of the
    /// guest where nothing is left.
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
                // Pinned vCPUs are chosen among all, and leave the rest to the other threads.
                Some(advice) if guest.pin == ThreadPin::Cores && !advice.cpus.is_empty() => {
                    advice.usable_cpus.clone()
                }
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
        let named_own = single.fold(CpuSet::new(), |all, cpus| all.union(cpus));
        let mut own = named_own.difference(others);
        let mut notes = Vec::new();
        notes.extend(shared_with_owner(&named_own, others));
        let mut vcpus = Vec::new();
        for vcpu in 0..guest.cpus.maximum {
            vcpus.push(match named.get(&vcpu) {
                Some(cpus) => cpus.clone(),
                None => of_its_node(shape, vcpu, &process, snapshot),
            });
        }
        if guest.pin == ThreadPin::Cores {
            let mut without = BTreeSet::new();
            // Those that are there at the start before those that may come.
            for range in [0..guest.cpus.current, guest.cpus.current..guest.cpus.maximum] {
                let unnamed = range.filter(|vcpu| !named.contains_key(vcpu));
                for (allowed, members) in by_cpus(unnamed, &vcpus, shape.die) {
                    let own_cpus = |vcpu: &u32| {
                        guest.isolated.then(|| isolated(shape, *vcpu, &process, snapshot))
                    };
                    let isolated = members.first().and_then(own_cpus).unwrap_or_default();
                    let picks = pick(snapshot, &isolated, &allowed, &taken, members.len());
                    for (nth, vcpu) in members.into_iter().enumerate() {
                        let Some(cpus) = vcpus.get_mut(at(vcpu)) else { continue };
                        match picks.get(nth) {
                            Some(&cpu) => {
                                taken.insert(cpu);
                                own.insert(cpu);
                                *cpus = std::iter::once(cpu).collect();
                            }
                            None if vcpu < guest.cpus.current => {
                                without.insert(CpuId(vcpu));
                            }
                            None => {}
                        }
                    }
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

impl ThreadCpus {
    /// Returns what a claim says: the CPUs that single vCPUs have for themselves, and those that all threads
    /// share, none where each vCPU is pinned.
    pub fn claimed(&self) -> (CpuSet, CpuSet) {
        let pinned = self.vcpus.iter().all(|cpus| cpus.is_subset(&self.own));
        let roaming = if pinned { CpuSet::new() } else { self.process.clone() };
        (self.own.clone(), roaming)
    }
}

/// Says which CPUs that are named by hand other guests own: those stay theirs in the claims.
pub(crate) fn shared_with_owner(named: &CpuSet, others: &CpuSet) -> Option<String> {
    let shared = named.intersection(others);
    let what = "belong to other guests (`placer ps` lists them): vCPUs share them";
    (!shared.is_empty()).then(|| format!("CPUs {shared} {what}"))
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
pub(crate) fn roaming(host: &CpuSet, snapshot: &Snapshot) -> CpuSet {
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
pub(crate) fn left(
    process: &CpuSet,
    used: &CpuSet,
    others: &CpuSet,
    snapshot: &Snapshot,
) -> CpuSet {
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

/// Groups vCPUs, in ascending order, by the CPUs that they may run on; with dies of so many vCPUs, those of each die.
pub(crate) fn by_cpus(
    which: impl Iterator<Item = u32>,
    cpus: &[CpuSet],
    die: Option<u32>,
) -> Vec<(CpuSet, Vec<u32>)> {
    let mut groups: Vec<(u32, CpuSet, Vec<u32>)> = Vec::new();
    for vcpu in which {
        let Some(allowed) = cpus.get(at(vcpu)) else { continue };
        let die = die.and_then(|size| vcpu.checked_div(size)).unwrap_or(0);
        let mut of_die = groups.iter_mut().rev().take_while(|(of, ..)| *of == die);
        match of_die.find(|(_, cpus, _)| cpus == allowed) {
            Some((.., members)) => members.push(vcpu),
            None => groups.push((die, allowed.clone(), vec![vcpu])),
        }
    }
    groups.into_iter().map(|(_, cpus, members)| (cpus, members)).collect()
}

/// Returns a CPU for each of `vcpus` vCPUs: isolated ones first, then the others; fewer where there are
/// no more.
pub(crate) fn pick(
    snapshot: &Snapshot,
    isolated: &CpuSet,
    allowed: &CpuSet,
    taken: &CpuSet,
    vcpus: usize,
) -> Vec<CpuId> {
    if isolated.is_subset(taken) && allowed.is_subset(taken) {
        return Vec::new();
    }
    let mut picks = pin_cpus(snapshot, isolated, taken, vcpus);
    let taken = picks.iter().copied().fold(taken.clone(), |mut taken, cpu| {
        taken.insert(cpu);
        taken
    });
    let left = vcpus.saturating_sub(picks.len());
    picks.extend(pin_cpus(snapshot, allowed, &taken, left));
    picks
}

#[cfg(test)]
mod tests;
