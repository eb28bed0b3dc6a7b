//! What of a host a request may use, and what that can give.

use std::borrow::Cow;

use super::error::AdviseError;
use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::policy::Policy;
use crate::policy::best::{self, Host, HostError, Node};
use crate::policy::cache::Cores;
use crate::request::Request;
use crate::snapshot::{NodeState, Snapshot};
use crate::units::{Bytes, CpuShare};

use super::{mib, rules};

/// The part of the host that may be used.
#[derive(Clone, Debug)]
pub(super) struct Usable<'a> {
    pub(super) nodes: Cow<'a, NodeSet>,
    /// Those whose memory may be used; the others give their CPUs alone.
    pub(super) memory: Cow<'a, NodeSet>,
    pub(super) cpus: Cow<'a, CpuSet>,
    /// Whether that is less than the whole host.
    pub(super) limited: bool,
    /// The figures that all questions about the whole host share.
    ready: Option<&'a Host>,
}

impl<'a> Usable<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, request: &Request) -> Result<Self, AdviseError> {
        let whole = snapshot.host();
        let (mut nodes, mut cpus) = (Cow::Borrowed(whole.nodes()), Cow::Borrowed(whole.cpus()));
        if let Some(within) = request.within.as_ref().filter(|all| !nodes.is_subset(all)) {
            nodes = Cow::Owned(nodes.intersection(within));
        }
        let mut memory = nodes.clone();
        let mut refused = nodes.is_empty();
        if let Some(allowed) = &request.limits.memory_nodes {
            // Linux lists no node without memory: that is not a limit.
            let kept = |&id: &NodeId| allowed.contains(id) || !has_memory(snapshot, id);
            if !memory.iter().all(|id| kept(&id)) {
                memory = Cow::Owned(memory.iter().filter(kept).collect());
                let none = !memory.iter().any(|id| has_memory(snapshot, id));
                refused |= none && request.memory > Bytes::ZERO;
            }
        }
        if refused {
            let (own, within) = (request.limits.memory_nodes.as_ref(), request.within.as_ref());
            let allowed = match (own, within) {
                (Some(own), Some(within)) => own.intersection(within),
                (Some(one), None) | (None, Some(one)) => one.clone(),
                (None, None) => NodeSet::new(),
            };
            return Err(AdviseError::NoNodeAllowed { allowed, host: whole.nodes().clone() });
        }
        if let Some(allowed) = request.limits.cpus.as_ref().filter(|all| !cpus.is_subset(all)) {
            cpus = Cow::Owned(cpus.intersection(allowed));
        }
        let slow = || whole.topology.slow_cpus();
        let wanted = match (&request.policy, request.cache.cores) {
            (Policy::Numad(_), _) | (_, Cores::Any) => None,
            (_, Cores::Fast) => Some(whole.cpus().difference(&slow())),
            (_, Cores::Efficient) => Some(slow()),
        };
        if let Some(wanted) = wanted.filter(|wanted| !cpus.is_subset(wanted)) {
            cpus = Cow::Owned(cpus.intersection(&wanted));
        }
        let limited = [matches!(nodes, Cow::Owned(_)), matches!(memory, Cow::Owned(_))];
        let limited = limited.contains(&true) || matches!(cpus, Cow::Owned(_));
        let mut ready = None;
        if let Policy::Best(rules) = &request.policy {
            // The kernel keeps roaming threads off isolated CPUs, so that a mask with them holds a
            // guest fast on the CPU it starts on.
            cpus = match cpus {
                Cow::Borrowed(_) => Cow::Borrowed(whole.roaming()),
                Cow::Owned(cpus) => Cow::Owned(cpus.intersection(whole.roaming())),
            };
            ready = ready_figures(snapshot, rules.smt_percent);
        }
        Ok(Self { nodes, memory, cpus, limited, ready })
    }

    /// Returns the same with fewer nodes.
    pub(super) fn only(&self, nodes: &NodeSet) -> Self {
        let nodes = Cow::Owned(self.nodes.intersection(nodes));
        Self { nodes, limited: true, ..self.clone() }
    }

    /// Returns what the nodes can give. A node that may not be used keeps its place, with nothing
    /// to give.
    pub(super) fn host(
        &self,
        snapshot: &Snapshot,
        request: &Request,
    ) -> Result<Cow<'a, Host>, AdviseError> {
        if let Some(ready) = self.ready
            && !self.limited
            && request.pages.is_none()
            && request.within.is_none()
        {
            return Ok(Cow::Borrowed(ready));
        }
        self.made(snapshot, request).map(Cow::Owned)
    }

    fn made(&self, snapshot: &Snapshot, request: &Request) -> Result<Host, AdviseError> {
        let fabric = snapshot.host().fabric().map_err(|error| {
            let row = match error {
                HostError::Distance(row, ..) => snapshot.nodes().get(row),
                _ => None,
            };
            row.map_or(AdviseError::Figures(error), |node| AdviseError::ZeroDistance {
                from: node.id,
            })
        })?;
        let states = snapshot.nodes().iter().enumerate();
        let nodes = states.map(|(at, state)| self.node(snapshot, at, state, request));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        Host::new(nodes, fabric).map_err(AdviseError::Figures)
    }

    fn node(
        &self,
        snapshot: &Snapshot,
        at: usize,
        state: &NodeState,
        request: &Request,
    ) -> Result<Node, AdviseError> {
        let id = state.id.0;
        let none = Node { id, cpus: 0, cap: 0.0, idle: 0.0, mem: 0.0, mem_total: 0.0 };
        let Some(built) = snapshot.topology().nodes().get(at) else { return Ok(none) };
        if !self.nodes.contains(state.id) {
            return Ok(none);
        }
        let charges = snapshot.charges();
        let (mut free, mut total) = match request.pages {
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
        if !self.memory.contains(state.id) {
            (free, total) = (Bytes::ZERO, Bytes::ZERO);
        }
        let (mem, mem_total) = (mib(free), mib(total));
        // Counting what CPUs did is most of the work, and seldom a limit goes through a node.
        let counted = self.ready.and_then(|host| host.nodes().get(at)).filter(|_| {
            let roaming = snapshot.host().roaming_of(at);
            roaming.is_some_and(|cpus| cpus.is_subset(&self.cpus))
        });
        if let Some(counted) = counted {
            return Ok(Node { mem, mem_total, ..*counted });
        }
        let worth = snapshot.worth(built, &self.cpus, rules(request).smt_percent);
        let cpus = built.cpus.intersection(&self.cpus).len();
        Ok(Node {
            id,
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            cap: worth.capacity,
            idle: (worth.idle - charges.of(state.id).cpus.as_cpus()).max(0.0),
            mem,
            mem_total,
        })
    }

    /// Returns whether the host's CPUs may all be used.
    pub(super) fn all_cpus(&self) -> bool {
        self.ready.is_some() && !self.limited
    }

    /// Returns the CPUs of some nodes that may be used.
    pub(super) fn cpus_of(&self, snapshot: &Snapshot, nodes: &NodeSet) -> CpuSet {
        let built = snapshot.topology().nodes();
        let mut all = CpuSet::new();
        for id in nodes.iter() {
            let Ok(at) = built.binary_search_by_key(&id, |node| node.id) else { continue };
            match snapshot.host().roaming_of(at) {
                Some(cpus) if self.ready.is_some() && !self.limited => {
                    all = if all.is_empty() { cpus.clone() } else { all.union(cpus) };
                }
                _ => all = all.union(&built[at].cpus.intersection(&self.cpus)),
            }
        }
        all
    }

    /// Returns those of some nodes that have memory which may be used.
    pub(super) fn memory_of(&self, snapshot: &Snapshot, nodes: &NodeSet) -> NodeSet {
        let usable = |&id: &NodeId| self.memory.contains(id) && has_memory(snapshot, id);
        nodes.iter().filter(usable).collect()
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

/// Makes, the first time a snapshot is asked about, what all questions without limits share.
///
/// `None` on a host with a distance of zero: its questions find out why by themselves.
pub(super) fn ready_figures(snapshot: &Snapshot, smt_percent: u32) -> Option<&Host> {
    snapshot.figures(smt_percent, || {
        let rules = best::Rules { smt_percent, ..best::Rules::default() };
        let request = Request::new(CpuShare::ZERO, Bytes::ZERO).with_policy(Policy::Best(rules));
        let whole = snapshot.host();
        let usable = Usable {
            nodes: Cow::Borrowed(whole.nodes()),
            memory: Cow::Borrowed(whole.nodes()),
            cpus: Cow::Borrowed(whole.roaming()),
            limited: false,
            ready: None,
        };
        usable.made(snapshot, &request).ok()
    })
}

fn has_memory(snapshot: &Snapshot, id: NodeId) -> bool {
    let total = snapshot.node(id).and_then(|node| node.memory_total);
    total.is_some_and(|total| total > Bytes::ZERO)
}

/// Memory that is kept back on a node for the kernel and what else lives there: a hundredth of it
/// and at least 100 MiB, but of a small node at most a twentieth.
pub fn reserve(total: Bytes) -> Bytes {
    let total = total.get();
    Bytes::new((total / 100).max(100 << 20).min(total / 20))
}

/// Returns the free and all memory of a node in huge pages of one size.
fn huge_pages(
    snapshot: &Snapshot,
    node: NodeId,
    size: Bytes,
) -> Result<(Bytes, Bytes), AdviseError> {
    let read = snapshot.huge_pages().filter(|pages| pages.size == size);
    let read = read.ok_or(AdviseError::PagesNotRead(size))?;
    let unreserved = read.unreserved();
    let found = read.nodes.iter().find(|pages| pages.node == node);
    let memory = |count: u64| Bytes::new(count.saturating_mul(size.get()));
    Ok(found
        .map_or((Bytes::ZERO, Bytes::ZERO), |p| (memory(p.free.min(unreserved)), memory(p.total))))
}
