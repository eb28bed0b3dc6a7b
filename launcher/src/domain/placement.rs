//! Where a domain's guest goes: the decision that is written into its definition.

use std::collections::BTreeMap;

use placer_engine::{Advice, Bytes, CpuId, CpuSet, NodeSet, Share, Snapshot};

use super::asks::{Fixed, nodes_of};
use super::{Domain, NumaMode};
use crate::cells::{Cell, Homes, Shares, homes};
use crate::definition::DefinitionError;
use crate::guest::{MemoryMode, NodeChoice, ThreadPin};
use crate::qemu::pins::{by_cpus, left, pick, roaming, shared_with_owner};

/// What is asked for beside the definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How memory is bound, in place of what the definition says.
    pub mode: Option<MemoryMode>,
    /// How vCPUs that the definition does not pin are held to their CPUs.
    pub pin: ThreadPin,
    /// Whether isolated CPUs may be used, each by one vCPU.
    pub isolated: bool,
}

/// Where a guest goes. A value: nothing is written by making it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// The CPUs of all threads that have no pin of their own.
    pub cpus: CpuSet,
    /// How its memory is bound. `None`: not at all.
    pub mode: Option<NumaMode>,
    /// The nodes of its memory.
    pub nodes: NodeSet,
    /// The nodes of each NUMA cell, where they differ from `nodes`.
    pub cells: BTreeMap<u32, NodeSet>,
    /// The CPUs of single vCPUs, those that the definition pins among them.
    pub vcpus: BTreeMap<u32, CpuSet>,
    /// The CPUs of the threads that are neither vCPUs nor I/O threads.
    pub emulator: Option<CpuSet>,
    /// The CPUs of I/O threads.
    pub iothreads: BTreeMap<u32, CpuSet>,
    /// CPUs that single vCPUs have for themselves, to be claimed.
    pub own: CpuSet,
    /// What a person should know about it.
    pub notes: Vec<String>,
    /// What each node is expected to carry, where that follows from the definition.
    pub split: Option<Vec<Share>>,
}

impl Placement {
    /// Decides where the guest goes: what the definition fixes, and the advice for the rest.
    ///
    /// Errors: a memory mode that libvirt does not have, or that contradicts the definition; CPUs or nodes
    /// in the definition that this host does not have.
    pub fn of(
        domain: &Domain,
        snapshot: &Snapshot,
        advice: &Advice,
        options: &Options,
    ) -> Result<Self, DefinitionError> {
        let fixed = domain.fixed(snapshot)?;
        let mode = mode(domain, options)?;
        let homes = match mode {
            None | Some(NumaMode::Interleave) if domain.place.memnodes.is_empty() => Homes::new(),
            _ => {
                let fixed = |cell: &Cell| domain.fixed_cell(cell, snapshot);
                homes(domain.cells(), fixed, domain.fixed_memory(), snapshot, advice)
            }
        };
        // One place for all of them needs no word for each.
        let apart = !domain.place.memnodes.is_empty()
            || homes.values().any(|home| Some(home) != homes.values().next())
            || !domain.device_nodes.is_empty();
        let mut placement = Self { mode, ..Self::default() };
        placement.memory(domain, snapshot, advice, &fixed, &homes);
        if apart {
            placement.cells = homes.clone();
        }
        if mode == Some(NumaMode::Preferred) {
            // Of more than one node libvirt makes an error.
            if domain.fixed_memory().is_none() {
                placement.nodes = one(&placement.nodes, advice);
            }
            let named = &domain.place.memnodes;
            let chosen = placement.cells.iter_mut().filter(|(id, _)| !named.contains_key(id));
            chosen.for_each(|(_, nodes)| *nodes = one(nodes, advice));
        }
        placement.threads(domain, snapshot, advice, &fixed, &homes, options);
        placement.split = split(domain, snapshot, &fixed, &homes, &placement);
        Ok(placement)
    }

    /// Returns the CPUs that a claim says its vCPUs share; none where each is pinned to one of its own.
    pub fn shared_cpus(&self) -> CpuSet {
        let pinned = !self.vcpus.is_empty() && self.vcpus.values().all(|cpus| cpus.len() == 1);
        if pinned { CpuSet::new() } else { self.cpus.clone() }
    }

    /// Returns the advice with what the guest is expected to carry where the definition fixes its place: that
    /// is what is claimed.
    pub fn charged(&self, advice: &Advice) -> Advice {
        let Some(split) = self.split.clone() else { return advice.clone() };
        let mut advice = advice.clone();
        advice.nodes = split.iter().map(|share| share.node).collect();
        advice.split = split;
        advice
    }

    /// Decides on the nodes of all the memory.
    fn memory(
        &mut self,
        domain: &Domain,
        snapshot: &Snapshot,
        advice: &Advice,
        fixed: &Fixed,
        homes: &Homes,
    ) {
        if self.mode.is_none() {
            return;
        }
        let all = homes.values().fold(NodeSet::new(), |all, home| all.union(home));
        let pinned = fixed.cpus.as_ref().map(|cpus| super::asks::nodes_with_memory(snapshot, cpus));
        self.nodes = match domain.fixed_memory() {
            Some(nodes) => nodes.clone(),
            None if !all.is_empty() => all,
            None => match pinned.filter(|nodes| !nodes.is_empty()) {
                Some(nodes) => nodes,
                None => advice.memory_nodes.union(&fixed.some),
            },
        };
        if domain.fixed_memory().is_none() {
            self.nodes = self.nodes.union(&domain.device_nodes);
        }
        if self.nodes.is_empty() {
            self.mode = None;
        }
    }

    /// Decides on the CPUs of all threads.
    fn threads(
        &mut self,
        domain: &Domain,
        snapshot: &Snapshot,
        advice: &Advice,
        fixed: &Fixed,
        homes: &Homes,
        options: &Options,
    ) {
        let topology = snapshot.topology();
        let host = topology.cpus_of(&topology.node_set());
        let pins = &domain.place.pins;
        let cores = options.pin == ThreadPin::Cores;
        // Cells may have gone beyond the advised nodes.
        let beyond = homes.values().fold(NodeSet::new(), |all, home| all.union(home));
        let beyond = topology.cpus_of(&beyond.difference(&advice.nodes));
        let mut cpus = match (&domain.place.cpuset, &fixed.cpus) {
            (Some(cpuset), _) => cpuset.intersection(&host),
            (None, Some(own)) => topology.cpus_of(&nodes_of(topology, own)),
            (None, None) if cores => advice.usable_cpus.union(&beyond),
            (None, None) => advice.cpus.union(&beyond),
        };
        if domain.place.cpuset.is_none() {
            let free = cpus.difference(topology.isolated());
            cpus = match (free.is_empty(), cpus.is_empty()) {
                (false, _) => free,
                (true, false) => cpus,
                (true, true) => roaming(&host, snapshot),
            };
        }
        self.vcpus = pins.vcpus.clone();
        let count = domain.place.cpus;
        let apart = homes.values().any(|home| Some(home) != homes.values().next());
        let home_of = |vcpu: u32| {
            let cell = domain.cells().iter().find(|cell| cell.vcpus.contains(CpuId(vcpu)))?;
            homes.get(&cell.id)
        };
        let allowed = |vcpu: u32| {
            let home = home_of(vcpu).filter(|_| apart).map(|home| topology.cpus_of(home));
            let here = home.map(|here| here.intersection(&cpus)).filter(|here| !here.is_empty());
            here.unwrap_or_else(|| cpus.clone())
        };
        if apart || cores {
            for vcpu in (0..count.maximum).filter(|vcpu| !pins.vcpus.contains_key(vcpu)) {
                let allowed = allowed(vcpu);
                if cores || allowed != cpus {
                    self.vcpus.insert(vcpu, allowed);
                }
            }
        }
        let single = pins.vcpus.values().filter(|cpus| cpus.len() == 1);
        let named = single.fold(CpuSet::new(), |all, cpus| all.union(cpus));
        let others = snapshot.charges().pinned();
        self.notes.extend(shared_with_owner(&named, others));
        self.own = named.difference(others);
        if cores {
            self.cores(domain, snapshot, options);
            self.notes.extend(self.unseen_caches(domain, snapshot));
            let present = self.vcpus.range(..count.current).map(|(_, cpus)| cpus);
            let used = present.fold(CpuSet::new(), |all, cpus| all.union(cpus));
            let left = left(&cpus, &used, others, snapshot);
            self.emulator = Some(left.clone());
            self.iothreads = domain.iothreads().iter().map(|&id| (id, left.clone())).collect();
        }
        if let Some(own) = &pins.emulator {
            self.emulator = Some(own.clone());
        }
        self.iothreads.extend(pins.iothreads.iter().map(|(&id, cpus)| (id, cpus.clone())));
        self.cpus = cpus;
    }

    /// Says which `<topology>` shows the guest the caches that its vCPUs are in, where its definition has none. It
    /// is its user's to write: the same definition makes the same machine.
    fn unseen_caches(&self, domain: &Domain, snapshot: &Snapshot) -> Option<String> {
        let count = domain.place.cpus;
        let arch = domain.root.at(&["os", "type"]).and_then(|of| of.attribute("arch"));
        let is_x86 = arch.map_or(cfg!(target_arch = "x86_64"), |arch| arch == "x86_64");
        let said = domain.root.at(&["cpu", "topology"]).is_some() || !domain.cells().is_empty();
        if said || !is_x86 || count.current != count.maximum {
            return None;
        }
        let caches = snapshot.topology().nodes().iter().flat_map(|node| &node.caches);
        let vcpus = caches.map(|cache| cache.cpus.intersection(&self.own).len());
        let vcpus: Vec<u64> = vcpus.filter(|&vcpus| vcpus > 0).collect();
        let cores = *vcpus.first()?;
        let dies = u64::try_from(vcpus.len()).unwrap_or(u64::MAX);
        let alike = dies > 1 && cores > 1 && vcpus.iter().all(|&vcpus| vcpus == cores);
        (alike && cores * dies == u64::from(count.maximum)).then(|| {
            format!(
                "the guest does not see that its vCPUs are in {dies} caches: <topology sockets='1' dies='{dies}' \
                 cores='{cores}' threads='1'/> in its <cpu> shows them, and keeps each die in one cache"
            )
        })
    }

    /// Gives each vCPU that the definition does not pin a CPU of its own.
    fn cores(&mut self, domain: &Domain, snapshot: &Snapshot, options: &Options) {
        let pins = &domain.place.pins;
        let count = domain.place.cpus;
        let others = snapshot.charges().pinned();
        let mut taken = pins.vcpus.values().fold(others.clone(), |all, cpus| all.union(cpus));
        let mut cpus: Vec<CpuSet> = Vec::new();
        for vcpu in 0..count.maximum {
            cpus.push(self.vcpus.get(&vcpu).cloned().unwrap_or_default());
        }
        let mut without = CpuSet::new();
        for range in [0..count.current, count.current..count.maximum] {
            let unnamed = range.filter(|vcpu| !pins.vcpus.contains_key(vcpu));
            for (allowed, members) in by_cpus(unnamed, &cpus, domain.sizes.die) {
                let nodes = nodes_of(snapshot.topology(), &allowed);
                let isolated = match options.isolated {
                    true => {
                        let here = snapshot.topology().cpus_of(&nodes);
                        snapshot.topology().isolated().intersection(&here)
                    }
                    false => CpuSet::new(),
                };
                let picks = pick(snapshot, &isolated, &allowed, &taken, members.len());
                for (nth, vcpu) in members.into_iter().enumerate() {
                    match picks.get(nth) {
                        Some(&cpu) => {
                            taken.insert(cpu);
                            self.own.insert(cpu);
                            self.vcpus.insert(vcpu, std::iter::once(cpu).collect());
                        }
                        None if vcpu < count.current => drop(without.insert(CpuId(vcpu))),
                        None => {}
                    }
                }
            }
        }
        if !without.is_empty() {
            self.notes.push(format!(
                "vCPUs {without} have no CPU of their own: they run on all CPUs of their nodes"
            ));
        }
    }
}

/// Decides how memory is bound.
fn mode(domain: &Domain, options: &Options) -> Result<Option<NumaMode>, DefinitionError> {
    let said = domain.mode();
    match options.mode {
        None => Ok(Some(said.unwrap_or_default())),
        Some(MemoryMode::None) if said.is_none() && domain.place.memnodes.is_empty() => Ok(None),
        Some(MemoryMode::None) => {
            let what = "the definition binds memory, which --mode none contradicts";
            Err(domain.error(&["numatune"], what))
        }
        Some(mode) => NumaMode::of(mode).map(Some).ok_or_else(|| {
            let what = format!("libvirt has no memory mode {mode}");
            domain.error(&["numatune"], what + ": choose strict, preferred or interleave")
        }),
    }
}

/// Returns the node of a set that carries most.
fn one(nodes: &NodeSet, advice: &Advice) -> NodeSet {
    let shares = advice.split.iter().filter(|share| nodes.contains(share.node));
    let most = shares.reduce(|most, share| if share.memory > most.memory { share } else { most });
    most.map(|share| share.node).or_else(|| nodes.first()).into_iter().collect()
}

/// Returns what each node is expected to carry where the definition decides that: memory as its cells and
/// nodes say, vCPUs as their pins do.
fn split(
    domain: &Domain,
    snapshot: &Snapshot,
    fixed: &Fixed,
    homes: &Homes,
    placement: &Placement,
) -> Option<Vec<Share>> {
    let decided = fixed.cpus.is_some() || fixed.memory.is_some() || !placement.cells.is_empty();
    if !decided {
        return None;
    }
    let topology = snapshot.topology();
    let mut shares = Shares::default();
    let current = domain.place.cpus.current;
    let single = nodes_of(topology, &placement.cpus);
    let pinned = placement.vcpus.range(..current).map(|(_, cpus)| nodes_of(topology, cpus));
    let pinned: Vec<NodeSet> = pinned.collect();
    let roaming = u64::from(current).saturating_sub(u64::try_from(pinned.len()).unwrap_or(0));
    let places = pinned.iter().map(|nodes| (nodes, 1)).chain([(&single, roaming)]);
    places.for_each(|(nodes, vcpus)| shares.add_vcpus(nodes, vcpus));
    if homes.is_empty() {
        shares.add_memory(
            &placement.nodes,
            domain.place.required.memory.unwrap_or(domain.sizes.memory),
        );
    } else {
        for cell in domain.cells() {
            shares.add_memory(homes.get(&cell.id).unwrap_or(&placement.nodes), cell.memory);
        }
        let cells = domain.cells().iter().map(|cell| cell.memory);
        let cells = cells.fold(Bytes::ZERO, Bytes::saturating_add);
        let devices = domain.sizes.memory.saturating_sub(cells);
        let nodes =
            if domain.device_nodes.is_empty() { &placement.nodes } else { &domain.device_nodes };
        shares.add_memory(nodes, devices);
    }
    Some(shares.split())
}

impl Domain {
    /// Returns the nodes that the definition fixes for all its memory.
    pub(super) fn fixed_memory(&self) -> Option<&NodeSet> {
        match &self.place.memory {
            Some((_, NodeChoice::Fixed(nodes))) => Some(nodes),
            _ => None,
        }
    }
}
