//! The host as the socket tells it: what changes, and how it is built, by the names that
//! `placer show --json` has for them.

use placer_engine::{Bytes, NodeState};
use serde::Serialize;

use crate::daemon::warm::Counted;

/// `HostState` of the interface.
#[derive(Serialize)]
pub(super) struct HostState<'a> {
    version: u32,
    nodes: Vec<Node>,
    claims: Option<Count>,
    distances: Option<Distances>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Node {
    id: u32,
    cpus: String,
    memory_total: Option<u64>,
    memory_free: Option<u64>,
    cpus_free: Option<f64>,
    claimed: Option<u64>,
    claimed_huge: Vec<Huge>,
}

#[derive(Serialize)]
struct Huge {
    page: u64,
    memory: u64,
}

#[derive(Serialize)]
struct Count {
    guests: usize,
    holds: usize,
}

#[derive(Serialize)]
struct Distances {
    nodes: Vec<u32>,
    matrix: Vec<Vec<u32>>,
}

impl<'a> HostState<'a> {
    /// Tells a host, with its table of distances or without.
    pub(super) fn of(counted: &'a Counted, distances: bool) -> Self {
        let snapshot = &counted.snapshot;
        let node = |node: &NodeState| {
            let charge = snapshot.charges().of(node.id);
            let huge = charge.huge.iter();
            Node {
                id: node.id.0,
                cpus: node.cpus.to_string(),
                memory_total: node.memory_total.map(Bytes::get),
                memory_free: node.memory_free.map(Bytes::get),
                cpus_free: node.cpus_idle,
                claimed: counted.claims.as_ref().map(|_| charge.memory.get()),
                claimed_huge: huge
                    .map(|(page, memory)| Huge { page: page.get(), memory: memory.get() })
                    .collect(),
            }
        };
        let claims = counted.claims.as_ref().map(|claims| {
            let holds = claims.iter().filter(|claim| claim.owner.process().is_none()).count();
            Count { guests: claims.len() - holds, holds }
        });
        let table = snapshot.topology().distances().filter(|_| distances);
        let distances = table.map(|table| Distances {
            nodes: table.nodes().iter().map(|node| node.0).collect(),
            matrix: table.rows().map(<[u32]>::to_vec).collect(),
        });
        let nodes = snapshot.nodes().iter().map(node).collect();
        Self { version: 1, nodes, claims, distances, notes: snapshot.notes() }
    }
}
