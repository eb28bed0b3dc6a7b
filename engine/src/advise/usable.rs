//! What of a host a request may use, and what that can give.

use crate::error::AdviseError;
use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::policy::Policy;
use crate::policy::best::{Host, HostError, Node};
use crate::request::Request;
use crate::snapshot::{NodeState, Snapshot};
use crate::units::Bytes;

use super::{mib, rules};

/// The part of the host that may be used.
#[derive(Clone, Debug)]
pub(super) struct Usable {
    pub(super) nodes: NodeSet,
    pub(super) cpus: CpuSet,
    /// Whether that is less than the whole host.
    pub(super) limited: bool,
}

impl Usable {
    pub(super) fn of(snapshot: &Snapshot, request: &Request) -> Result<Self, AdviseError> {
        let topology = snapshot.topology();
        let host = topology.node_set();
        let allowed = match (&request.limits.nodes, &request.within) {
            (Some(own), Some(within)) => own.intersection(within),
            (Some(nodes), None) | (None, Some(nodes)) => nodes.clone(),
            (None, None) => host.clone(),
        };
        let nodes = allowed.intersection(&host);
        if nodes.is_empty() {
            return Err(AdviseError::NoNodeAllowed { allowed, host });
        }
        let all = topology.cpus_of(&host);
        let mut cpus = all.clone();
        if let Some(allowed) = &request.limits.cpus {
            cpus = cpus.intersection(allowed);
        }
        let limited = nodes != host || cpus != all;
        if let Policy::Best(_) = request.policy {
            // The kernel keeps roaming threads off these, so that a mask with them holds a guest
            // fast on the CPU it starts on.
            cpus = cpus.difference(topology.isolated());
        }
        Ok(Self { nodes, cpus, limited })
    }

    /// Returns the same with fewer nodes.
    pub(super) fn only(&self, nodes: &NodeSet) -> Self {
        Self { nodes: self.nodes.intersection(nodes), limited: true, ..self.clone() }
    }

    /// Returns what the nodes can give. A node that may not be used keeps its place, with nothing
    /// to give.
    pub(super) fn host(&self, snapshot: &Snapshot, request: &Request) -> Result<Host, AdviseError> {
        let fabric = snapshot.host().fabric().map_err(|error| {
            let row = match error {
                HostError::Distance(row, ..) => snapshot.nodes().get(row),
                _ => None,
            };
            row.map_or(AdviseError::Figures(error), |node| AdviseError::ZeroDistance {
                from: node.id,
            })
        })?;
        let nodes = snapshot.nodes().iter().map(|state| self.node(snapshot, state, request));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        Host::new(nodes, fabric).map_err(AdviseError::Figures)
    }

    fn node(
        &self,
        snapshot: &Snapshot,
        state: &NodeState,
        request: &Request,
    ) -> Result<Node, AdviseError> {
        let id = state.id.0;
        let none = Node { id, cpus: 0, cap: 0.0, idle: 0.0, mem: 0.0, mem_total: 0.0 };
        let Some(built) = snapshot.topology().node(state.id) else { return Ok(none) };
        if !self.nodes.contains(state.id) {
            return Ok(none);
        }
        let worth = snapshot.worth(built, &self.cpus, rules(request).smt_percent);
        let charges = snapshot.charges();
        let (mut free, total) = match request.pages {
            Some(size) => huge_pages(snapshot, state.id, size)?,
            None => (state.memory_free.unwrap_or_default(), state.memory_total.unwrap_or_default()),
        };
        free = match request.pages {
            Some(size) => charges.left_huge(state.id, size, free),
            // The kernel's part is promised to nobody, not even on top.
            None => charges.left(state.id, free.saturating_sub(reserve(total))),
        };
        if built.is_gpu && request.within.is_none() {
            free = Bytes::ZERO;
        }
        let cpus = built.cpus.intersection(&self.cpus).len();
        Ok(Node {
            id,
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            cap: worth.capacity,
            idle: (worth.idle - charges.of(state.id).cpus.as_cpus()).max(0.0),
            mem: mib(free),
            mem_total: mib(total),
        })
    }

    /// Returns the nodes around one, ring by ring: those no farther than each of the distances from
    /// it, nearest first.
    pub(super) fn rings(
        &self,
        snapshot: &Snapshot,
        around: NodeId,
    ) -> Result<Vec<NodeSet>, AdviseError> {
        let topology = snapshot.topology();
        if topology.node(around).is_none() {
            return Err(AdviseError::NoSuchNode { node: around, host: topology.node_set() });
        }
        let distance = |from: NodeId| match topology.distances() {
            Some(table) => table.get(from, around).map_or(u32::MAX, |distance| distance.0),
            None => {
                if from == around {
                    10
                } else {
                    20
                }
            }
        };
        let mut radii: Vec<u32> = self.nodes.iter().map(distance).collect();
        radii.sort_unstable();
        radii.dedup();
        let ring =
            |radius: u32| self.nodes.iter().filter(|&node| distance(node) <= radius).collect();
        Ok(radii.into_iter().map(ring).collect())
    }
}

/// Memory that is kept back on a node for the kernel and what else lives there.
fn reserve(total: Bytes) -> Bytes {
    Bytes::new((total.get() / 100).max(100 << 20))
}

/// Returns the free and all memory of a node in huge pages of one size.
fn huge_pages(
    snapshot: &Snapshot,
    node: NodeId,
    size: Bytes,
) -> Result<(Bytes, Bytes), AdviseError> {
    let read = snapshot.huge_pages().filter(|pages| pages.size == size);
    let read = read.ok_or(AdviseError::PagesNotRead(size))?;
    let found = read.nodes.iter().find(|pages| pages.node == node);
    let memory = |count: u64| Bytes::new(count.saturating_mul(size.get()));
    Ok(found.map_or((Bytes::ZERO, Bytes::ZERO), |p| (memory(p.free), memory(p.total))))
}
