//! The answer: where, how much on each node, and whether it fits.

use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::policy::Policy;
use crate::policy::best::Proof;
use crate::units::{Bytes, CpuShare};

/// Where a guest should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// The nodes.
    pub nodes: NodeSet,
    /// Their CPUs that may be used.
    pub cpus: CpuSet,
    /// Those of `nodes` that have memory which may be used. A guest's memory is bound to these: a
    /// node that is here for its CPUs alone may have no memory, or none for this caller.
    pub memory_nodes: NodeSet,
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
}

/// What a request asks for beyond what the advised nodes can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
