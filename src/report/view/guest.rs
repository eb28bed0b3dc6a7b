//! A guest or a hold, as it is shown.

use placer_engine::claims::{Claim, Origin, OwnerProcess, Promise};
use placer_engine::{Bytes, CpuSet, CpuShare, NodeId, NodeSet};

/// The percentage of a guest's memory that has to be on the advised nodes for the guest to count as
/// placed as advised: the rest may be the program's own.
pub const MATCHES_AT: u64 = 90;

/// The owner of a claim, and its nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// The claim's id.
    pub id: String,
    /// The process; `None` for a hold.
    pub pid: Option<u32>,
    /// Its program, where it is seen from here.
    pub program: Option<String>,
    /// Whether it was placed by placer.
    pub asked: bool,
    /// Whether its threads are kept on some of the host's CPUs.
    pub pinned: bool,
    /// CPUs that belong to single threads of it.
    pub owns: CpuSet,
    /// CPUs that its threads share, where those are not all of its nodes.
    pub bound: CpuSet,
    /// Whether the kernel may move its memory by itself; `None` where that is not known.
    pub balanced: Option<bool>,
    pub cpus: CpuShare,
    pub memory: Bytes,
    /// The size of its huge pages, if it has them.
    pub page: Option<Bytes>,
    /// What is promised on each node, ascending.
    pub promised: Vec<Promise>,
    /// What of its memory is there; `None` when it was not looked at.
    pub resident: Option<Bytes>,
    /// Where its memory is now; `None` when that is not known.
    pub now: Option<Vec<(NodeId, Bytes)>>,
}

impl Guest {
    /// Returns how a claim is shown, with what is seen of its process on a host of some CPUs.
    pub(crate) fn of(claim: &Claim, process: Option<&OwnerProcess>, every: &CpuSet) -> Self {
        let seen = claim.seen.as_ref();
        let allowed = process.and_then(|process| process.cpus.as_ref());
        Self {
            id: claim.id.to_string(),
            pid: claim.owner.process().map(|process| process.pid),
            program: process.and_then(|process| process.program.clone()),
            asked: claim.origin == Origin::Asked,
            pinned: !claim.pinned.is_empty()
                || allowed.is_some_and(|allowed| !every.is_subset(allowed)),
            owns: claim.pinned.clone(),
            bound: claim.roaming.clone(),
            balanced: process.and_then(|process| process.balanced),
            cpus: claim.cpus,
            memory: claim.memory,
            page: claim.page,
            promised: claim.promised.clone(),
            resident: seen.map(|seen| match claim.page {
                None => seen.resident.saturating_add(seen.huge),
                Some(_) => seen.huge,
            }),
            // The kernel tells a cgroup's memory node by node for nothing; that of a process costs it
            // its lock, and is `placer ps`'s to ask for.
            now: seen.map(|seen| seen.per_node.clone()).filter(|now| !now.is_empty()),
        }
    }

    /// Returns whether it has no process yet.
    pub fn is_hold(&self) -> bool {
        self.pid.is_none()
    }

    /// Returns the nodes it was advised.
    pub fn nodes(&self) -> NodeSet {
        self.promised.iter().map(|promise| promise.node).collect()
    }

    /// Returns the part of its memory that is on the advised nodes, in percent; `None` when it is not
    /// known where its memory is. A guest without memory is nowhere, and so where it should be.
    pub fn on_advised(&self) -> Option<u64> {
        let now = self.now.as_ref()?;
        let nodes = self.nodes();
        let sum = |all: &mut dyn Iterator<Item = Bytes>| -> u128 {
            all.map(|memory| u128::from(memory.get())).sum()
        };
        let all = sum(&mut now.iter().map(|(_, memory)| *memory));
        let there = sum(&mut now.iter().filter(|(node, _)| nodes.contains(*node)).map(|(_, m)| *m));
        let percent = (there * 100).checked_div(all).unwrap_or(100);
        Some(u64::try_from(percent).unwrap_or(100))
    }
}
