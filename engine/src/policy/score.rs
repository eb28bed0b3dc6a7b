//! What a set of nodes means for a guest: how its CPUs and memory spread, and what that costs.

use crate::distance::Distances;
use crate::ids::NodeId;

/// What a node can give, after everything that is kept back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// The node.
    pub node: NodeId,
    /// CPUs.
    pub capacity: f64,
    /// CPUs that are idle.
    pub idle: f64,
    /// Memory that can be promised, in bytes.
    pub memory: f64,
}

/// How a guest spreads over a set of nodes, and what it costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// How many times longer it waits for CPU than alone: at least 1.
    pub crowding: f64,
    /// The mean distance of its CPUs from its memory; 10 is all local.
    pub near: f64,
    /// The part of its CPU time on each node, in the order of the set; together 1.
    pub cpu_shares: Vec<f64>,
    /// The part of its memory on each node.
    pub memory_shares: Vec<f64>,
}

impl Spread {
    /// Returns how much slower than alone on local memory the guest runs. `memory_bound` is the
    /// part of its time that it waits for memory, 0 to 1.
    pub fn slowdown(&self, memory_bound: f64) -> f64 {
        let exact = self.crowding * (1.0 - memory_bound + memory_bound * self.near / 10.0);
        (exact * 1e6).round() / 1e6
    }
}

/// Spreads a guest over a set of nodes, given in ascending order of ids.
///
/// Its threads roam over all of them in the measure of what is idle there. Memory is where the
/// threads are, as far as there is room; the rest goes to the members with room, nearest to the
/// threads first. Where the host tells no distances, another node counts as twice as far.
pub fn spread(set: &[Room], distances: Option<&Distances>, cpus: f64, memory: f64) -> Spread {
    let distance = |from: NodeId, to: NodeId| {
        let told = distances.and_then(|table| table.get(from, to));
        told.map_or(if from == to { 10.0 } else { 20.0 }, |d| f64::from(d.0))
    };
    let idle: f64 = set.iter().map(|room| room.idle).sum();
    let capacity: f64 = set.iter().map(|room| room.capacity).sum();
    let crowding = if capacity > 0.0 { 1.0 + (cpus - idle).max(0.0) / capacity } else { 1.0 };
    let all = cpus.max(idle);
    let cpu_shares: Vec<f64> = set
        .iter()
        .map(
            |room| {
                if all > 0.0 { (room.idle + (crowding - 1.0) * room.capacity) / all } else { 0.0 }
            },
        )
        .collect();
    let promised = memory.min(set.iter().map(|room| room.memory).sum());
    let part = |room: &Room| if promised > 0.0 { room.memory / promised } else { 0.0 };
    let mean: Vec<f64> = set
        .iter()
        .map(|to| {
            set.iter().zip(&cpu_shares).map(|(from, x)| x * distance(from.node, to.node)).sum()
        })
        .collect();
    let mut memory_shares: Vec<f64> =
        set.iter().zip(&cpu_shares).map(|(room, &x)| x.min(part(room))).collect();
    let mut rest = 1.0 - memory_shares.iter().sum::<f64>();
    let mut nearest: Vec<usize> = (0..set.len()).collect();
    nearest.sort_by(|&a, &b| mean[a].total_cmp(&mean[b]));
    for at in nearest {
        if rest <= 1e-12 {
            break;
        }
        let more = rest.min(part(&set[at]) - memory_shares[at]);
        memory_shares[at] += more;
        rest -= more;
    }
    let near = memory_shares.iter().zip(&mean).map(|(y, d)| y * d).sum();
    Spread { crowding, near, cpu_shares, memory_shares }
}
