//! Settings of the policy, and the distances of a topology.

use std::sync::Arc;

use super::model::{DISTANCES, DistanceMatrix, HostError, Prefer};
use crate::ids::NodeId;
use crate::topology::Topology;

/// What can be set about policy `best`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The part of its run time that the guest waits for memory, 0 to 1. Default 0.5.
    pub memory_bound: f64,
    /// What decides between sets that are as fast and as small.
    pub prefer: Prefer,
    /// How many steps a search beyond 16 useful nodes may take; `None`: by the number of nodes.
    pub effort: Option<u64>,
    /// Capacity of each further hardware thread of a core, in percent of a CPU. Default 20.
    pub smt_percent: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { memory_bound: 0.5, prefer: Prefer::Room, effort: None, smt_percent: 20 }
    }
}

/// Other nodes count as twice as far where a host reports no distances.
const LOCAL: f64 = 10.0;
const REMOTE: f64 = 20.0;

/// Returns the distances that a host's memory really has: those of the kernel's table, with the
/// columns of nodes whose latency HMAT reports scaled to it.
///
/// sysfs reports a node's latency from its best initiator only. Seen from there, memory that takes
/// twice as long to read as the initiator's own is at distance 20, whatever the table says.
/// Errors: a distance of zero in the table.
pub fn distance_matrix(topology: &Topology) -> Result<Arc<DistanceMatrix>, HostError> {
    let ids: Vec<NodeId> = topology.nodes().iter().map(|node| node.id).collect();
    let reported = |from: NodeId, to: NodeId| match topology.distances() {
        Some(table) => table.get(from, to).map_or(REMOTE, |distance| f64::from(distance.0)),
        None if from == to => LOCAL,
        None => REMOTE,
    };
    let scales: Vec<f64> = ids.iter().map(|&to| scale(topology, to, reported)).collect();
    let mut cells = Vec::with_capacity(ids.len() * ids.len());
    for &from in &ids {
        cells
            .extend(ids.iter().zip(&scales).map(|(&to, &scale)| scaled(reported(from, to), scale)));
    }
    DistanceMatrix::new(ids.len(), cells).map(Arc::new)
}

/// Returns a distance of the table as it is, or what latencies make of it within what is accepted.
fn scaled(distance: f64, scale: f64) -> f64 {
    if scale == 1.0 {
        distance
    } else {
        (distance * scale).clamp(*DISTANCES.start(), *DISTANCES.end())
    }
}

/// Returns the factor for the column of a node; 1 where HMAT reports nothing usable.
fn scale(topology: &Topology, to: NodeId, reported: impl Fn(NodeId, NodeId) -> f64) -> f64 {
    let latency = |node: NodeId| topology.latencies().iter().find(|latency| latency.node == node);
    let Some(target) = latency(to) else { return 1.0 };
    // A node's own memory, as its own CPUs read it.
    let own = |node: NodeId| {
        latency(node).filter(|own| own.initiators.contains(node)).map(|own| own.read_ns)
    };
    for from in target.initiators.iter() {
        let Some(local) = own(from).filter(|&ns| ns > 0 && target.read_ns > 0) else { continue };
        let distance = reported(from, to);
        if distance > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds")]
            let ratio = target.read_ns as f64 / local as f64;
            return LOCAL * ratio / distance;
        }
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_beyond_all_measure_leave_a_distance_that_is_accepted() {
        for scale in [1e-300, 1e-6, 0.5, 2.0, 1e12, f64::MAX] {
            let distance = scaled(21.0, scale);
            assert!(DistanceMatrix::new(1, vec![distance]).is_ok(), "{scale}: {distance}");
        }
        assert_eq!((scaled(21.0, 2.0), scaled(0.0, 1.0)), (42.0, 0.0));
        assert!(DistanceMatrix::new(1, vec![scaled(0.0, 1.0)]).is_err());
    }
}
