//! Where all guests are during the search, and what that costs.

use super::model::{Guest, Host, Rules};
use super::roam;
use crate::ids::NodeId;
use crate::units::Bytes;

/// A part of a guest on the node at a position: a share of its CPU time, or MiB.
pub(super) type Part = (usize, f64);

/// Memory up to this is rounding, in MiB.
pub(super) const CRUMB: f64 = 1e-6;

/// A guest with its figures by position.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// Seconds over which its gain counts.
    pub(super) horizon: f64,
    pub(super) demand: f64,
    /// The CPUs that its nodes must have.
    pub(super) cpus: f64,
    /// MiB that are resident and can be moved.
    pub(super) movable: Vec<Part>,
    pub(super) movable_mib: f64,
    /// MiB that are resident and stay.
    pub(super) pinned: Vec<Part>,
    pinned_mib: f64,
    /// MiB of room that it needs where it is: movable, and promised to it.
    pub(super) needs_mib: f64,
}

/// Where a guest is.
#[derive(Clone, Debug, Default)]
pub(super) struct Spot {
    /// Shares of its CPU time; they add up to 1.
    pub(super) threads: Vec<Part>,
    /// MiB that it takes of the nodes' room, pinned memory not counted.
    pub(super) held: Vec<Part>,
    /// 1 - µ + µ × near / 10.
    pub(super) distance_factor: f64,
    /// MiB that were moved to get there.
    pub(super) moved_mib: f64,
}

/// What all guests make of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// CPUs that are wanted on it.
    load: f64,
    /// Σ horizon × demand × share × distance factor of its guests: what one unit of crowding costs here.
    weight: f64,
    /// Memory left to promise, in MiB.
    pub(super) room: f64,
}

/// All guests on all nodes.
#[derive(Clone, Debug)]
pub(super) struct State<'a> {
    pub(super) host: &'a Host,
    pub(super) rules: &'a Rules,
    pub(super) guests: Vec<Standing>,
    pub(super) spots: Vec<Spot>,
    pub(super) nodes: Vec<Node>,
}

impl Standing {
    fn of(host: &Host, guest: &Guest, rules: &Rules) -> Self {
        let (mut movable, mut pinned, mut claimed_mib) = (Vec::new(), Vec::new(), 0.0);
        for memory in &guest.memory {
            claimed_mib += mib(memory.claimed);
            let Some(at) = host.position(memory.node) else { continue };
            let stays = memory.pinned.min(memory.resident);
            movable.push((at, mib(memory.resident.saturating_sub(stays))));
            pinned.push((at, mib(stays)));
        }
        let some = |part: &Part| part.1 > 0.0;
        movable.retain(some);
        pinned.retain(some);
        let (movable_mib, pinned_mib) = (sum(&movable), sum(&pinned));
        Self {
            horizon: rules.horizon_s.min(guest.age_s),
            demand: guest.demand,
            cpus: rules.headroom * guest.peak.max(guest.demand),
            movable,
            movable_mib,
            pinned,
            pinned_mib,
            needs_mib: movable_mib + claimed_mib,
        }
    }

    /// Returns the busy-CPU seconds that it takes at a slowdown.
    pub(super) fn seconds(&self, slowdown: f64) -> f64 {
        self.horizon * self.demand * slowdown
    }
}

impl<'a> State<'a> {
    pub(super) fn new(host: &'a Host, guests: &[Guest], rules: &'a Rules) -> Self {
        let empty = host.nodes.iter().map(|node| Node {
            load: node.others,
            weight: 0.0,
            room: node.room_mib,
        });
        let mut state = Self {
            host,
            rules,
            guests: guests.iter().map(|guest| Standing::of(host, guest, rules)).collect(),
            spots: vec![Spot::default(); guests.len()],
            nodes: empty.collect(),
        };
        let sets: Vec<Vec<usize>> =
            guests.iter().map(|guest| host.positions(&guest.threads)).collect();
        // Guests of one node first: those of several go where these leave idle CPUs.
        for single in [true, false] {
            for (at, set) in sets.iter().enumerate() {
                if (set.len() == 1) == single {
                    state.spots[at] = state.found(&guests[at], at, set);
                    state.add_load(at, 1.0);
                }
            }
        }
        state
    }

    /// Returns where a guest is now.
    fn found(&self, guest: &Guest, at: usize, set: &[usize]) -> Spot {
        let standing = &self.guests[at];
        let threads = self.shares(set, standing.demand);
        let held = guest.memory.iter().filter_map(|memory| {
            let movable = memory.resident.saturating_sub(memory.pinned.min(memory.resident));
            let held = mib(movable) + mib(memory.claimed);
            Some((self.host.position(memory.node)?, held)).filter(|part| part.1 > 0.0)
        });
        let held: Vec<Part> = held.collect();
        let distance_factor = self.distance_factor(standing, &threads, &standing.movable);
        Spot { threads, held, distance_factor, moved_mib: 0.0 }
    }

    /// Returns how threads roam over some nodes, beside what is there.
    fn shares(&self, set: &[usize], demand: f64) -> Vec<Part> {
        if let [only] = *set {
            return vec![(only, 1.0)];
        }
        let rooms: Vec<roam::Room> = set
            .iter()
            .map(|&at| roam::Room { cap: self.host.nodes[at].capacity, busy: self.nodes[at].load })
            .collect();
        let shares = roam::shares(&rooms, demand.max(1e-3));
        let parts = set.iter().copied().zip(shares);
        parts.filter(|&(_, share)| share > 0.0).collect()
    }

    /// Returns 1 - µ + µ × near / 10 for threads and movable memory at some places.
    fn distance_factor(&self, guest: &Standing, threads: &[Part], movable: &[Part]) -> f64 {
        let distances = &self.host.distances;
        let all = sum(movable) + guest.pinned_mib;
        let near: f64 = threads
            .iter()
            .map(|&(from, share)| {
                if all <= CRUMB {
                    return share * distances.distance(from, from);
                }
                let memory = movable.iter().chain(&guest.pinned);
                let reach = memory.map(|&(to, mib)| mib * distances.distance(from, to));
                share * reach.sum::<f64>() / all
            })
            .sum();
        let near = if threads.is_empty() { 10.0 } else { near };
        1.0 - self.rules.memory_bound + self.rules.memory_bound * near / 10.0
    }

    /// Adds a guest's load and weight, or takes them off with -1.
    fn add_load(&mut self, guest: usize, sign: f64) {
        let (standing, spot) = (&self.guests[guest], &self.spots[guest]);
        let weight = standing.seconds(spot.distance_factor);
        for &(at, share) in &spot.threads {
            self.nodes[at].load += sign * share * standing.demand;
            self.nodes[at].weight += sign * share * weight;
        }
    }

    /// Returns what a guest gives back, so that it can be placed elsewhere.
    pub(super) fn remove(&mut self, guest: usize) {
        self.add_load(guest, -1.0);
        for &(at, held) in &self.spots[guest].held {
            self.nodes[at].room += held;
        }
    }

    /// Puts a guest that was removed somewhere.
    pub(super) fn insert(&mut self, guest: usize, spot: Spot) {
        self.spots[guest] = spot;
        self.add_load(guest, 1.0);
        for &(at, held) in &self.spots[guest].held {
            self.nodes[at].room -= held;
        }
    }

    /// Takes a guest's threads off its nodes, and leaves its memory.
    pub(super) fn take_load(&mut self, guest: usize) {
        self.add_load(guest, -1.0);
    }

    /// Adds the load of a guest whose threads and memory would be on one node.
    pub(super) fn put_load(&mut self, guest: usize, only: usize) {
        let standing = &self.guests[guest];
        self.nodes[only].load += standing.demand;
        self.nodes[only].weight += standing.seconds(self.distance_factor_on(standing, only));
    }

    /// Returns where a guest, which was removed, would be on some nodes. One node may lack room for it;
    /// `None` where several do.
    pub(super) fn spot_on(&self, guest: usize, set: &[usize]) -> Option<Spot> {
        let standing = &self.guests[guest];
        let threads = self.shares(set, standing.demand);
        let held = match *set {
            [only] => vec![(only, standing.needs_mib)],
            _ => self.spread_memory(standing.needs_mib, &threads, set)?,
        };
        let part = standing.movable_mib / standing.needs_mib.max(CRUMB);
        let resident: Vec<Part> = held.iter().map(|&(at, mib)| (at, mib * part)).collect();
        let distance_factor = self.distance_factor(standing, &threads, &resident);
        let stays: f64 =
            standing.movable.iter().map(|&(at, mib)| mib.min(amount(&resident, at))).sum();
        let moved_mib = (standing.movable_mib - stays).max(0.0);
        Some(Spot { threads, held, distance_factor, moved_mib })
    }

    /// Puts memory where the threads are, as far as there is room, and the rest on the nearest nodes with room.
    fn spread_memory(&self, mib: f64, threads: &[Part], set: &[usize]) -> Option<Vec<Part>> {
        let room = |at: usize| self.nodes[at].room.max(0.0);
        let own = |at: usize| (amount(threads, at) * mib).min(room(at));
        let mut held: Vec<Part> = set.iter().map(|&at| (at, own(at))).collect();
        let mut rest = mib - sum(&held);
        let reach = |to: usize| -> f64 {
            threads
                .iter()
                .map(|&(from, share)| share * self.host.distances.distance(from, to))
                .sum()
        };
        let mut order: Vec<usize> = (0..set.len()).collect();
        order.sort_by(|&a, &b| reach(set[a]).total_cmp(&reach(set[b])).then(a.cmp(&b)));
        for at in order {
            let add = rest.min(room(set[at]) - held[at].1).max(0.0);
            held[at].1 += add;
            rest -= add;
        }
        held.retain(|part| part.1 > 0.0);
        (rest <= CRUMB).then_some(held)
    }

    /// Returns a guest's memory by node.
    pub(super) fn placed(&self, spot: &Spot) -> Vec<(NodeId, Bytes)> {
        spot.held.iter().map(|&(at, mib)| (self.host.nodes[at].id, bytes(mib))).collect()
    }

    /// Returns the busy-CPU seconds that all guests take.
    pub(super) fn objective(&self) -> f64 {
        (0..self.nodes.len()).map(|at| self.node_cost(at)).sum()
    }

    fn node_cost(&self, at: usize) -> f64 {
        self.crowding(at) * self.nodes[at].weight
    }

    /// Returns the runnable threads for each CPU of a node, at least 1.
    pub(super) fn crowding(&self, at: usize) -> f64 {
        crowding(self.nodes[at].load, self.host.nodes[at].capacity)
    }

    /// Returns the slowdown of a guest where it is.
    pub(super) fn slowdown(&self, guest: usize) -> f64 {
        let spot = &self.spots[guest];
        let crowded: f64 = spot.threads.iter().map(|&(at, share)| share * self.crowding(at)).sum();
        spot.distance_factor * if spot.threads.is_empty() { 1.0 } else { crowded }
    }

    /// Returns the cost of a move in busy-CPU seconds.
    pub(super) fn cost(&self, moved_mib: f64) -> f64 {
        moved_mib / 1_024.0 * self.rules.cost_per_gib
    }

    /// Returns the objective less a guest that is removed, with it on one node: no list is made.
    pub(super) fn objective_with(&self, without: f64, guest: usize, only: usize) -> f64 {
        let (standing, node) = (&self.guests[guest], &self.nodes[only]);
        let factor = self.distance_factor_on(standing, only);
        let load = node.load + standing.demand;
        let weight = node.weight + standing.seconds(factor);
        let after = crowding(load, self.host.nodes[only].capacity) * weight;
        without - self.node_cost(only) + after
    }

    /// The distance factor of a guest with threads and movable memory on one node.
    fn distance_factor_on(&self, guest: &Standing, only: usize) -> f64 {
        let distances = &self.host.distances;
        let local = distances.distance(only, only);
        let far: f64 =
            guest.pinned.iter().map(|&(to, mib)| mib * distances.distance(only, to)).sum();
        let all = guest.movable_mib + guest.pinned_mib;
        let near = if all > CRUMB { (guest.movable_mib * local + far) / all } else { local };
        1.0 - self.rules.memory_bound + self.rules.memory_bound * near / 10.0
    }

    /// Returns that many of some nodes, those whose memory is nearest to the CPUs of one of them; ascending.
    pub(super) fn nearest(&self, seed: usize, nodes: &[usize], count: usize) -> Vec<usize> {
        let mut near = nodes.to_vec();
        let far = |&to: &usize| self.host.distances.distance(seed, to);
        near.sort_by(|a, b| far(a).total_cmp(&far(b)).then(a.cmp(b)));
        near.truncate(count);
        near.sort_unstable();
        near
    }

    /// Returns the MiB that go to one node if a guest moves there.
    pub(super) fn moved_to(&self, guest: usize, only: usize) -> f64 {
        let standing = &self.guests[guest];
        (standing.movable_mib - amount(&standing.movable, only)).max(0.0)
    }
}

fn crowding(load: f64, capacity: f64) -> f64 {
    (load / capacity.max(1e-6)).max(1.0)
}

pub(super) fn sum(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.1).sum()
}

/// Returns what of some parts is on a node.
pub(super) fn amount(parts: &[Part], node: usize) -> f64 {
    parts.iter().filter(|part| part.0 == node).map(|part| part.1).sum()
}

#[expect(clippy::cast_precision_loss, reason = "whole MiB are exact up to 2^73 bytes")]
pub(super) fn mib(bytes: Bytes) -> f64 {
    bytes.get() as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
pub(super) fn bytes(mib: f64) -> Bytes {
    Bytes::new((mib * f64::from(1 << 20)).round() as u64)
}
