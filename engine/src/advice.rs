//! The answer: where, how much on each node, and whether it fits.

use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::policy::Policy;
use crate::policy::best::Proof;
use crate::units::{Bytes, CpuShare, split_by_weight};

/// Where a guest should run.
///
/// With the feature `serde` it serializes as the JSON of `placer advise --json` (`placer schema advise`), without the
/// fields that the program adds: `version`, `request`, `alternatives`, `numad`, `remedies`, `claim`. `memory_nodes`,
/// `usable_cpus` and `generation` are not part of that form.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Advice {
    /// The nodes.
    pub nodes: NodeSet,
    /// The CPUs that the guest's threads may roam over: those of the chosen caches of these nodes that may
    /// be used and that no claim owns.
    pub cpus: CpuSet,
    /// Those of `nodes` that have memory which may be used. A guest's memory is bound to these: a
    /// node that is here for its CPUs alone may have no memory, or none for this caller.
    pub memory_nodes: NodeSet,
    /// All CPUs of these nodes that may be used, in any cache, owned by a claim or not: single threads
    /// may be pinned to these.
    pub usable_cpus: CpuSet,
    /// The caches that `cpus` belong to, in ascending order of nodes and CPUs; empty where the host's
    /// caches are not known or not looked at (policy `numad`, a penalty of 0).
    pub caches: Vec<CacheShare>,
    /// How much slower the guest runs for its CPUs and caches inside the nodes: 1.0 is in one cache without
    /// contention. `None` where no caches were chosen.
    pub cache_cost: Option<f64>,
    /// What is short when the request does not fit; `None` when it fits.
    pub shortfall: Option<Shortfall>,
    /// What each node is expected to carry, in ascending order of ids; empty where the nodes have
    /// no CPUs or can promise no memory.
    pub split: Vec<Share>,
    /// How much slower than alone on local memory the guest is expected to run: 1.0 is not at all.
    /// `None` where the nodes have no CPUs or no memory.
    pub slowdown: Option<f64>,
    /// The mean distance of the guest's CPUs from its memory; 10 is all local. `None` as above.
    pub near: Option<f64>,
    /// How many runnable threads there are for each CPU, at least 1. `None` as above.
    pub crowding: Option<f64>,
    /// How sure it is that no other nodes are better; `None` by numad's rules, which do not ask.
    pub proof: Option<Proof>,
    /// The rule that chose.
    pub policy: Policy,
    /// The running number of the snapshot it rests on.
    pub generation: u64,
    /// What a person should know about this answer.
    pub notes: Vec<String>,
}

impl Advice {
    /// Returns whether the memory fits, and no more CPUs are asked for than the nodes have. Being
    /// busy is no reason not to fit.
    pub fn fits(&self) -> bool {
        self.shortfall.is_none()
    }

    /// Divides memory among the nodes in proportion to [`split`](Self::split), in whole pages: what a VMM
    /// binds. The parts add up to `memory`, rounded up to a page. Empty where no node can promise memory.
    pub fn split_pages(&self, memory: Bytes, page: Bytes) -> Vec<(NodeId, Bytes)> {
        let page = page.get().max(1);
        let weights: Vec<u64> = self.split.iter().map(|share| share.memory.get()).collect();
        let pages = split_by_weight(memory.get().div_ceil(page), &weights);
        let nodes = self.split.iter().map(|share| share.node);
        let parts = nodes.zip(pages).map(|(node, n)| (node, Bytes::new(n.saturating_mul(page))));
        parts.filter(|(_, part)| *part > Bytes::ZERO).collect()
    }
}

/// What a request asks for beyond what the advised nodes can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortfall {
    /// CPUs that are not there.
    pub cpus: CpuShare,
    /// Memory that is not there.
    pub memory: Bytes,
}

/// One node's part of a guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The node.
    pub node: NodeId,
    /// CPUs, since threads roam over the nodes in the measure of what is idle there.
    pub cpus: f64,
    /// Memory.
    pub memory: Bytes,
}

/// The part of one cache that a guest gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheShare {
    /// The node.
    pub node: NodeId,
    /// The level of the cache; 0 where it is not known.
    pub level: u8,
    /// The size of the cache, where it is known.
    pub size: Option<Bytes>,
    /// Its CPUs that the guest may use.
    pub cpus: CpuSet,
}
