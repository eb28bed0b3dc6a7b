//! What is claimed for a guest, and whether a host still has it. Pure.

use super::claim::{Claim, Promise};
use crate::advice::Advice;
use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::request::Request;
use crate::snapshot::Snapshot;
use crate::units::{Bytes, CpuShare};

/// What is claimed for a guest, as it was decided: here or by another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The CPUs that were asked for.
    pub cpus: CpuShare,
    /// The memory that was asked for.
    pub memory: Bytes,
    /// The size of the huge pages it is in; `None` for ordinary memory.
    pub page: Option<Bytes>,
    /// What is promised on each node, in ascending order of ids.
    pub promised: Vec<Promise>,
    /// CPUs that single threads of the guest have for themselves.
    pub pinned: CpuSet,
    /// CPUs that its threads share, where those are not all of its nodes.
    pub roaming: CpuSet,
    /// The only nodes that the guest may be on later; empty: all of the host.
    pub within: NodeSet,
}

impl Parts {
    /// Returns whether each node can give its part of the memory beside what counts in `snapshot`.
    pub fn fit(&self, snapshot: &Snapshot) -> bool {
        let charges = snapshot.charges();
        let huge = |page: Bytes, node: NodeId| {
            let pool = snapshot.huge_pages().filter(|pool| pool.size == page)?;
            let free = pool.nodes.iter().find(|there| there.node == node)?.free;
            Some(charges.left_huge(node, page, Bytes::new(page.get().saturating_mul(free))))
        };
        self.promised.iter().all(|promise| {
            let left = match self.page {
                Some(page) => huge(page, promise.node),
                None => snapshot
                    .node(promise.node)
                    .map(|node| charges.left(promise.node, node.memory_free.unwrap_or_default())),
            };
            snapshot.node(promise.node).is_some()
                && (promise.memory == Bytes::ZERO
                    || left.is_some_and(|left| promise.memory <= left))
        })
    }

    /// Returns what an advice promises. `pinned` and `roaming` are as in
    /// [`pinning`](super::Decision::pinning) and [`roaming_over`](super::Decision::roaming_over).
    pub fn of(request: &Request, advice: &Advice, pinned: CpuSet, roaming: CpuSet) -> Self {
        let all = advice.usable_cpus.is_subset(&roaming);
        Self {
            cpus: request.cpus,
            memory: request.memory,
            page: request.pages,
            promised: Claim::split(request, advice),
            pinned,
            roaming: if all { CpuSet::new() } else { roaming },
            within: match (request.near, &request.within) {
                // It is near the device where it is.
                (Some(_), _) => advice.nodes.clone(),
                (None, Some(within)) => within.clone(),
                (None, None) => NodeSet::new(),
            },
        }
    }
}
