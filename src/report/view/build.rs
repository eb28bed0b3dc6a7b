//! From what was read to what is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use placer_engine::claims::{Claim, ClaimId, OwnerProcess};
use placer_engine::{
    Attached, Bytes, Cache, CpuSet, DeviceKind, HostParts, NodeHugePages, NodeId, NodeState,
    Snapshot,
};

use super::group;
use super::{
    CacheClaims, Caches, Core, Cpu, Device, Domain, Guest, Huge, Memory, Node, Pages, View, count,
    odd,
};

/// What a view is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// What the host is called, where it does not say itself.
    pub name: &'a str,
    pub snapshot: &'a Snapshot,
    pub parts: &'a HostParts,
    /// `None` when they are not known.
    pub claims: Option<&'a [Arc<Claim>]>,
    /// What the owners of claims run, as far as it is seen.
    pub owners: &'a BTreeMap<ClaimId, OwnerProcess>,
}

impl View {
    /// Returns what is shown of a host.
    pub fn of(sources: Sources<'_>) -> Self {
        let Sources { name, snapshot, parts, claims, owners } = sources;
        let topology = snapshot.topology();
        let nodes: Vec<Node> = snapshot.nodes().iter().map(|state| node(&sources, state)).collect();
        let guests = claims.map(|claims| {
            let every: CpuSet =
                topology.nodes().iter().fold(CpuSet::new(), |all, node| all.union(&node.listed));
            let guest = |claim: &Arc<Claim>| Guest::of(claim, owners.get(&claim.id), &every);
            let mut guests: Vec<Guest> = claims.iter().map(guest).collect();
            guests.sort_by(|a, b| b.memory.cmp(&a.memory).then_with(|| a.id.cmp(&b.id)));
            guests
        });
        let gap = snapshot.before().and_then(|b| snapshot.sample().cpu.at().since(b.at()));
        let distances = topology.distances().cloned();
        let known = |device: &&Attached| device.node.is_some_and(|id| topology.node(id).is_some());
        let mut view = Self {
            name: parts.name.clone().unwrap_or_else(|| name.to_owned()),
            groups: group::groups(&nodes, distances.as_ref()),
            nodes,
            distances,
            guests,
            stray: parts.devices.iter().filter(|d| !known(d)).map(device).collect(),
            offline: parts.offline.clone(),
            isolated: topology.isolated().clone(),
            kernel: parts.kernel,
            reserved_huge: reserved_huge(parts),
            reported: reported(snapshot),
            measured: gap.map(|ns| count(ns) / 1e9),
            odd: Vec::new(),
            notes: snapshot.notes().to_vec(),
        };
        view.odd = odd::all(&view);
        view
    }
}

fn node(sources: &Sources<'_>, state: &NodeState) -> Node {
    let Sources { snapshot, parts, claims, .. } = *sources;
    let (topology, charges) = (snapshot.topology(), snapshot.charges());
    let built = topology.node(state.id);
    let meminfo = snapshot.sample().memory_of(state.id);
    let charge = charges.of(state.id);
    let on_node = |device: &&Attached| device.node == Some(state.id);
    let packages = parts.packages.iter().filter(|package| meets(&package.cpus, &state.cpus));
    let mut packages: Vec<u64> = packages.map(|package| package.id).collect();
    packages.sort_unstable();
    Node {
        id: state.id,
        // As found: a CPU that the kernel lists in several nodes is in all of them.
        listed: built.map(|node| node.listed.clone()).unwrap_or_default(),
        cpus: state.cpus.clone(),
        idle: state.cpus_idle,
        memory: Memory {
            total: state.memory_total,
            free: state.memory_free,
            unused: meminfo.and_then(|meminfo| meminfo.free),
            cached: state.memory_cached,
            claimed: claims.map(|_| charge.memory),
            left: state.memory_free.map(|free| charges.left(state.id, free)),
        },
        cpus_claimed: claims.map(|_| charge.cpus),
        huge: huge(parts, state.id, &charge.huge),
        packages,
        domains: domains(sources, state),
        caches: caches(parts, &state.cpus),
        devices: parts.devices.iter().filter(on_node).map(device).collect(),
        is_gpu: built.is_some_and(|node| node.is_gpu),
    }
}

/// Returns how many huge pages of each size are reserved, and how many are free, where any are.
fn reserved_huge(parts: &HostParts) -> Vec<(Bytes, u64, u64)> {
    let reserved = parts.huge_pages.iter().filter(|pages| pages.reserved > 0);
    reserved.map(|pages| (pages.size, pages.reserved, pages.unreserved())).collect()
}

/// Returns the memory of all nodes by their own files; `None` when one of them does not say.
fn reported(snapshot: &Snapshot) -> Option<Bytes> {
    snapshot.nodes().iter().map(|node| snapshot.sample().memory_of(node.id)?.total).sum()
}

fn meets(one: &CpuSet, other: &CpuSet) -> bool {
    !one.intersection(other).is_empty()
}

fn huge(parts: &HostParts, node: NodeId, claimed: &[(Bytes, Bytes)]) -> Vec<Huge> {
    let mut sizes: BTreeMap<Bytes, Huge> = BTreeMap::new();
    let none = |page| Huge { page, pages: None, claimed: Bytes::ZERO };
    for of_size in &parts.huge_pages {
        let here = of_size.nodes.iter().find(|pages| pages.node == node);
        if let Some(&NodeHugePages { total, free, .. }) = here {
            sizes.entry(of_size.size).or_insert_with(|| none(of_size.size)).pages =
                Some(Pages { total, free });
        }
    }
    for &(page, memory) in claimed {
        sizes.entry(page).or_insert_with(|| none(page)).claimed = memory;
    }
    sizes.into_values().collect()
}

/// Returns the caches of a node as policies see them, with their cores and what claims have of each.
fn domains(sources: &Sources<'_>, state: &NodeState) -> Vec<Domain> {
    let Sources { snapshot, claims, .. } = *sources;
    let Some(node) = snapshot.topology().node(state.id) else { return Vec::new() };
    let of_cache = |cache: &Cache| {
        let claimed = claims.map(|claims| claimed(claims, &cache.cpus));
        let none = CpuSet::new();
        let owned = claimed.as_ref().map_or(&none, |claimed| &claimed.owned);
        Domain {
            cache: (cache.level > 0).then_some((cache.level, cache.size)),
            cores: cores(snapshot, state.id, &cache.cpus, owned),
            idle: snapshot.idle_of(&cache.cpus),
            cpus: cache.cpus.clone(),
            claimed,
        }
    };
    node.caches.iter().map(of_cache).collect()
}

/// Returns what claims have of some CPUs.
fn claimed(claims: &[Arc<Claim>], cpus: &CpuSet) -> CacheClaims {
    let mut found = CacheClaims::default();
    for claim in claims.iter().filter(|c| !(c.pinned.is_empty() && c.roaming.is_empty())) {
        let (owned, shared) = (claim.pinned.intersection(cpus), claim.roaming.intersection(cpus));
        found.guests += usize::from(!(owned.is_empty() && shared.is_empty()));
        found.owned = found.owned.union(&owned);
        found.shared = found.shared.union(&shared);
    }
    found
}

/// Returns the cores that some CPUs of a node make up, in the order of their first CPU.
fn cores(snapshot: &Snapshot, node: NodeId, of: &CpuSet, owned: &CpuSet) -> Vec<Core> {
    let topology = snapshot.topology();
    let cpu = |id| {
        let alone: CpuSet = [id].into_iter().collect();
        let idle = snapshot.idle_of(&alone);
        let busy = idle.map(|idle| (1.0 - idle).clamp(0.0, 1.0));
        let (isolated, owned) = (topology.isolated().contains(id), owned.contains(id));
        Cpu { id, busy, isolated, owned, capacity: topology.capacity_of(id) }
    };
    let threads = topology.node(node).map_or(&[][..], |node| &node.cores);
    let mut left = of.clone();
    let mut cores = Vec::new();
    for core in threads {
        let core = core.intersection(of);
        if !core.is_empty() {
            left = left.difference(&core);
            cores.push(Core { cpus: core.iter().map(cpu).collect() });
        }
    }
    cores.extend(left.iter().map(|id| Core { cpus: vec![cpu(id)] }));
    cores.sort_by_key(|core| core.cpus.first().map(|cpu| cpu.id));
    cores
}

fn caches(parts: &HostParts, cpus: &CpuSet) -> Vec<Caches> {
    let mut counts: BTreeMap<(u8, Option<Bytes>), usize> = BTreeMap::new();
    for cache in parts.caches.iter().filter(|cache| meets(&cache.cpus, cpus)) {
        *counts.entry((cache.level, cache.size)).or_default() += 1;
    }
    counts.into_iter().map(|((level, size), count)| Caches { level, size, count }).collect()
}

fn device(device: &Attached) -> Device {
    let Attached { address, kind, names, .. } = device;
    let label = match (names.is_empty(), kind) {
        (true, DeviceKind::Network | DeviceKind::Storage) => address.clone(),
        (true, kind) => format!("{} {address}", kind.name()),
        (false, _) => names.join(" "),
    };
    Device { label, address: address.clone(), kind: *kind }
}
