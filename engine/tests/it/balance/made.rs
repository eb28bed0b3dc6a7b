//! Hosts and guests that are made up.

use std::sync::Arc;

use placer_engine::balance::{Fixed, Guest, GuestMemory, Host, HostNode, Plan};
use placer_engine::policy::best::DistanceMatrix;
use placer_engine::{Bytes, NodeId, NodeSet};
use testkit::random::Rng;

/// A host and its guests.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) nodes: Vec<HostNode>,
    pub(super) distances: Vec<f64>,
    pub(super) guests: Vec<Guest>,
}

pub(super) fn bytes(mib: f64) -> Bytes {
    Bytes::new((mib * f64::from(1 << 20)).round() as u64)
}

pub(super) fn mib(bytes: Bytes) -> f64 {
    bytes.get() as f64 / f64::from(1 << 20)
}

impl Case {
    /// Two to four nodes and up to six guests, none wider than a node.
    pub(super) fn small(rng: &mut Rng) -> Self {
        let nodes = 2 + rng.index(3);
        let most = if nodes == 4 { 5 } else { 6 };
        let guests = 1 + rng.index(most);
        Self::made(rng, nodes, guests, 0.8)
    }

    /// Up to eight nodes and thirty guests, some wider than a node.
    pub(super) fn any(rng: &mut Rng) -> Self {
        let (nodes, guests) = (1 + rng.index(8), rng.index(30));
        Self::made(rng, nodes, guests, 1.6)
    }

    pub(super) fn large(rng: &mut Rng, nodes: usize, guests: usize) -> Self {
        Self::made(rng, nodes, guests, 0.8)
    }

    fn made(rng: &mut Rng, count: usize, guests: usize, widest: f64) -> Self {
        let each = (guests as f64 / count as f64).max(1.0);
        let capacity = (rng.real(2.0, 6.0) * each).clamp(4.0, 256.0).round();
        let gib = (rng.real(4.0, 14.0) * each).max(8.0);
        let mut nodes: Vec<HostNode> = (0..count)
            .map(|at| (at, if at > 0 && rng.chance(0.05) { 0.0 } else { capacity }))
            .map(|(at, capacity)| HostNode {
                id: NodeId(at as u32 * 2),
                cpus: capacity,
                capacity,
                others: 0.0,
                room_mib: 0.0,
                total_mib: gib * 1024.0,
            })
            .collect();
        for node in &mut nodes {
            node.others = if rng.chance(0.3) { rng.real(0.0, 0.5) * node.capacity } else { 0.0 };
        }
        let distances = distances(rng, count);
        let guests: Vec<Guest> =
            (0..guests).map(|_| guest(rng, &nodes, capacity * widest, gib)).collect();
        let scarce = *rng.pick(&[0.05, 0.2, 0.5]);
        for node in &mut nodes {
            // Whatever else there is fills the node up to this.
            let used: f64 = guests
                .iter()
                .flat_map(|guest| &guest.memory)
                .filter(|memory| memory.node == node.id)
                .map(|memory| mib(memory.resident) + mib(memory.claimed))
                .sum();
            node.room_mib = (rng.real(0.0, scarce) * node.total_mib).floor();
            node.total_mib = node.total_mib.max(used + node.room_mib);
        }
        Self { nodes, distances, guests }
    }

    pub(super) fn host(&self) -> Host {
        let distances = DistanceMatrix::new(self.nodes.len(), self.distances.clone());
        Host::new(self.nodes.clone(), Arc::new(distances.expect("square"))).expect("sound")
    }

    pub(super) fn position(&self, id: NodeId) -> usize {
        self.nodes.iter().position(|node| node.id == id).expect("a node of the host")
    }
}

fn distances(rng: &mut Rng, count: usize) -> Vec<f64> {
    let far = *rng.pick(&[12.0, 16.0, 20.0, 32.0]);
    let ring = rng.chance(0.5);
    let cell = |at: usize| {
        let (from, to) = (at / count, at % count);
        let steps = from.abs_diff(to).min(count - from.abs_diff(to));
        match steps {
            0 => 10.0,
            steps if ring => far + 4.0 * (steps as f64 - 1.0),
            _ => far,
        }
    };
    (0..count * count).map(cell).collect()
}

fn guest(rng: &mut Rng, nodes: &[HostNode], widest: f64, gib: f64) -> Guest {
    let all: NodeSet = nodes.iter().map(|node| node.id).collect();
    let with_cpus: Vec<NodeId> =
        nodes.iter().filter(|node| node.capacity > 0.0).map(|node| node.id).collect();
    let home = *rng.pick(&with_cpus);
    let away = nodes[rng.index(nodes.len())].id;
    let (home_part, away_part) = match rng.below(10) {
        0..=4 => (1.0, 0.0),
        5..=7 => (0.0, 1.0),
        _ => (0.5, 0.5),
    };
    let size = (rng.real(0.5, 5.0).min(gib / 2.0) * 1024.0).round();
    let pinned = if rng.percent(10) { rng.real(0.0, 1.0) } else { 0.0 };
    let claimed = if rng.percent(20) { (rng.real(0.0, 0.5) * size).round() } else { 0.0 };
    let part = |node: NodeId, part: f64, claimed: f64| GuestMemory {
        node,
        resident: bytes(size * part),
        pinned: bytes((size * part * pinned).round()),
        claimed: bytes(claimed),
    };
    let memory = if home == away {
        vec![part(home, 1.0, claimed)]
    } else {
        vec![part(home, home_part, claimed), part(away, away_part, 0.0)]
    };
    let vcpus = rng.real(0.5, 8.0).min(widest / 1.25);
    let demand = vcpus * rng.real(0.05, 1.0);
    let roams = rng.percent(10);
    Guest {
        threads: if roams {
            with_cpus.iter().copied().collect()
        } else {
            std::iter::once(home).collect()
        },
        memory,
        demand,
        peak: demand.max(vcpus * rng.real(0.3, 1.0)),
        allowed: if rng.percent(10) { [home, away].into_iter().collect() } else { all },
        age_s: *rng.pick(&[30.0, 200.0, 5_000.0, 100_000.0, 100_000.0]),
        rested_s: *rng.pick(&[None, None, None, None, Some(100.0), Some(5_000.0)]),
        fixed: rng.percent(5).then_some(Fixed::Bound),
    }
}

/// Returns the host so many seconds after a plan.
pub(super) fn after(case: &Case, plan: &Plan, rested_s: f64) -> Case {
    let mut after = case.clone();
    for step in &plan.steps {
        let guest = &mut after.guests[step.guest];
        for memory in &guest.memory {
            let at = case.position(memory.node);
            let gone = memory.resident.saturating_sub(memory.pinned);
            after.nodes[at].room_mib += mib(gone) + mib(memory.claimed);
        }
        for &(node, placed) in &step.placed {
            after.nodes[case.position(node)].room_mib -= mib(placed);
        }
        *guest = Guest { rested_s: Some(rested_s), ..moved(guest, step) };
    }
    after
}

fn moved(guest: &Guest, step: &placer_engine::balance::Step) -> Guest {
    let movable: f64 =
        guest.memory.iter().map(|memory| mib(memory.resident) - mib(memory.pinned)).sum();
    let claimed: f64 = guest.memory.iter().map(|memory| mib(memory.claimed)).sum();
    let part = movable / (movable + claimed).max(1e-9);
    let mut memory: Vec<GuestMemory> = guest
        .memory
        .iter()
        .filter(|memory| memory.pinned > Bytes::ZERO)
        .map(|memory| GuestMemory { resident: memory.pinned, claimed: Bytes::ZERO, ..*memory })
        .collect();
    for &(node, placed) in &step.placed {
        let (resident, rest) = (bytes(mib(placed) * part), bytes(mib(placed) * (1.0 - part)));
        match memory.iter_mut().find(|memory| memory.node == node) {
            Some(there) => {
                there.resident = there.resident.saturating_add(resident);
                there.claimed = rest;
            }
            None => memory.push(GuestMemory { node, resident, pinned: Bytes::ZERO, claimed: rest }),
        }
    }
    let pinned: NodeSet = memory
        .iter()
        .filter(|memory| memory.pinned > Bytes::ZERO)
        .map(|memory| memory.node)
        .collect();
    let threads = step
        .to
        .iter()
        .filter(|node| !pinned.contains(*node) || step.placed.iter().any(|&(to, _)| to == *node));
    Guest { threads: threads.collect(), memory, ..guest.clone() }
}
