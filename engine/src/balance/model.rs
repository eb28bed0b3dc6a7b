//! What a plan is made from, and the plan.

use std::fmt;
use std::sync::Arc;

use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::policy::best::DistanceMatrix;
use crate::units::Bytes;

/// One node as plans see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostNode {
    /// The node.
    pub id: NodeId,
    /// CPUs that a guest may be given, each hardware thread counted: a guest fits on as many.
    pub cpus: f64,
    /// CPUs, weighted for hardware threads; 0 for a node without CPUs.
    pub capacity: f64,
    /// CPUs that are wanted by everything but the guests of the plan.
    pub others: f64,
    /// Memory that can be promised now, after claims and reserve; negative where more was promised than is there.
    pub room_mib: f64,
    /// All that guests could have of the node: its memory less the reserve.
    pub total_mib: f64,
}

/// The nodes of a host, in ascending order of ids, and their distances.
#[derive(Clone, Debug)]
pub struct Host {
    pub(super) nodes: Vec<HostNode>,
    pub(super) distances: Arc<DistanceMatrix>,
}

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BalanceError {
    /// Ids do not ascend, or the distances are of another number of nodes.
    Nodes,
    /// A figure of a node or a guest is negative, not finite or absurd.
    Figure(&'static str),
}

impl fmt::Display for BalanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes => {
                f.write_str("expected nodes in ascending order of ids, one row of distances each")
            }
            Self::Figure(name) => write!(f, "expected a finite figure in range as {name}"),
        }
    }
}

impl std::error::Error for BalanceError {}

/// No host has more CPUs, and none more MiB.
const MOST_CPUS: f64 = 1e9;
const MOST_MIB: f64 = 1e15;

impl Host {
    /// Checks the nodes.
    ///
    /// Errors: ids that do not ascend, another number of distances, a figure out of range.
    pub fn new(nodes: Vec<HostNode>, distances: Arc<DistanceMatrix>) -> Result<Self, BalanceError> {
        let ascending = nodes.windows(2).all(|pair| pair[0].id < pair[1].id);
        if !ascending || distances.rows().count() != nodes.len() {
            return Err(BalanceError::Nodes);
        }
        for node in &nodes {
            let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
            if !within(node.capacity, 0.0, MOST_CPUS) {
                return Err(BalanceError::Figure("capacity"));
            }
            if !within(node.others, 0.0, MOST_CPUS) {
                return Err(BalanceError::Figure("load"));
            }
            if !within(node.room_mib, -MOST_MIB, MOST_MIB) || !within(node.total_mib, 0.0, MOST_MIB)
            {
                return Err(BalanceError::Figure("memory"));
            }
        }
        Ok(Self { nodes, distances })
    }

    /// Returns the nodes.
    pub fn nodes(&self) -> &[HostNode] {
        &self.nodes
    }

    /// Returns the position of a node.
    pub(super) fn position(&self, id: NodeId) -> Option<usize> {
        self.nodes.binary_search_by_key(&id, |node| node.id).ok()
    }

    /// Returns the positions of those nodes of a set that the host has, ascending.
    pub(super) fn positions(&self, set: &NodeSet) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&at| set.contains(self.nodes[at].id)).collect()
    }

    /// Returns the ids of positions.
    pub(super) fn ids(&self, positions: &[usize]) -> NodeSet {
        positions.iter().map(|&at| self.nodes[at].id).collect()
    }
}

/// A guest's memory on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestMemory {
    /// The node.
    pub node: NodeId,
    /// What is there.
    pub resident: Bytes,
    /// The part of it that cannot be moved: locked for devices.
    pub pinned: Bytes,
    /// What was promised to the guest there and is not resident yet.
    pub claimed: Bytes,
}

/// A guest as it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// The nodes its threads may run on now.
    pub threads: NodeSet,
    /// Where its memory is, each node at most once.
    pub memory: Vec<GuestMemory>,
    /// CPUs that its threads want on average: the time they ran and the time they waited for a CPU.
    pub demand: f64,
    /// The highest use in the recent past, in CPUs.
    pub peak: f64,
    /// The nodes it may be moved to.
    pub allowed: NodeSet,
    /// Seconds since it started.
    pub age_s: f64,
    /// Seconds since it was last moved; `None` where it never was.
    pub rested_s: Option<f64>,
    /// Why it must stay where it is; `None` where it may be moved.
    pub fixed: Option<Fixed>,
}

/// Why a guest must not be moved at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fixed {
    /// Its user bound threads or memory.
    Bound,
    /// It runs in a cpuset of another program.
    Cpuset,
    /// Where its memory is or what its threads do is not known.
    Unknown,
    /// Its memory is still being moved.
    Settling,
    /// It uses huge pages of a pool, which are promised node by node.
    HugePages,
    /// Its threads have CPUs of their own, each of them.
    Pinned,
    /// A move of it was tried not long ago.
    Tried,
}

/// The limits of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The part of its run time that a guest waits for memory, 0 to 1.
    pub memory_bound: f64,
    /// How far ahead a gain is counted, in seconds; at most the guest's age.
    pub horizon_s: f64,
    /// What moving 1 GiB costs, in busy-CPU seconds.
    pub cost_per_gib: f64,
    /// A gain is at least that many times its cost.
    pub gain_per_cost: f64,
    /// And at least that part of what the moved guests take.
    pub least_gain: f64,
    /// The part of its speed that a guest may lose to others.
    pub most_loss: f64,
    /// No guest is slowed beyond that if it was not before.
    pub most_slowdown: f64,
    /// The CPUs of a guest are at least that many times its recent peak.
    pub headroom: f64,
    /// Guests moved by one plan, at most 16.
    pub most_guests: usize,
    /// Memory moved by one plan, in MiB.
    pub most_mib: f64,
    /// Seconds a guest stays where it was moved to.
    pub rest_s: f64,
    /// Younger guests are left alone.
    pub youngest_s: f64,
    /// Trials of exchanges and chains in one plan.
    pub effort: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            memory_bound: 0.5,
            horizon_s: 1_800.0,
            cost_per_gib: 1.0,
            gain_per_cost: 3.0,
            least_gain: 0.02,
            most_loss: 0.02,
            most_slowdown: 1.25,
            headroom: 1.25,
            most_guests: 8,
            most_mib: 128.0 * 1_024.0,
            rest_s: 600.0,
            youngest_s: 60.0,
            effort: 20_000,
        }
    }
}

/// How a step belongs to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The guest moves by itself.
    Relocation,
    /// Two guests change places.
    Exchange,
    /// The guests of the group make room for one another.
    Chain,
}

/// One guest's move.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The guest's position in the list.
    pub guest: usize,
    /// Steps of one group are taken together or not at all; numbers ascend.
    pub group: usize,
    /// What the group is.
    pub kind: Move,
    /// The nodes of its threads and memory before.
    pub from: NodeSet,
    /// The nodes after.
    pub to: NodeSet,
    /// Resident memory that is moved.
    pub memory: Bytes,
    /// Where its memory is to be, pinned memory aside: resident, and promised to it.
    pub placed: Vec<(NodeId, Bytes)>,
    /// Cost in busy-CPU seconds.
    pub cost: f64,
    /// The guest's slowdown before the plan and after it.
    pub slowdown: (f64, f64),
}

/// Why a guest is not moved.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LeftAlone {
    /// It is fixed.
    Fixed(Fixed),
    /// It started less than a minute ago.
    Young,
    /// It was moved less than ten minutes ago.
    Resting,
    /// No move of it gains anything.
    WellPlaced,
    /// It may run nowhere else, or no other node has enough CPUs for it.
    NoOtherNode,
    /// The best move gains less than it must: gain and cost in busy-CPU seconds.
    GainTooSmall {
        /// What the best move would gain.
        gain: f64,
        /// What it would cost.
        cost: f64,
    },
    /// The nodes that are best for it lack memory: the nodes, and what they lack.
    NoRoom(NodeSet, Bytes),
    /// The best move would slow another guest, of that position, too much.
    SlowsAnother(usize),
    /// The plan is as large as one plan may be.
    PlanIsFull,
}

/// What to move, in the order in which it can be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps in order: each target has room when its turn comes.
    pub steps: Vec<Step>,
    /// The guests that stay, by position, with the reason.
    pub left_alone: Vec<(usize, LeftAlone)>,
    /// Busy-CPU seconds that all guests take over the horizon, as they are.
    pub before: f64,
    /// The same after the plan.
    pub after: f64,
    /// Busy-CPU seconds that the moves cost.
    pub cost: f64,
    /// The slowdown of each guest before and after.
    pub slowdowns: Vec<(f64, f64)>,
    /// Whether the search for exchanges and chains ended at its limit.
    pub limited: bool,
}

impl Plan {
    /// Returns the busy-CPU seconds that the plan saves, its cost not counted.
    pub fn gain(&self) -> f64 {
        self.before - self.after
    }

    /// Returns the memory that the plan moves.
    pub fn memory(&self) -> Bytes {
        self.steps.iter().map(|step| step.memory).sum()
    }
}

impl Guest {
    /// Returns why the guest is not moved whatever it would gain.
    pub(super) fn must_stay(&self, rules: &Rules) -> Option<LeftAlone> {
        if let Some(fixed) = self.fixed {
            Some(LeftAlone::Fixed(fixed))
        } else if self.age_s < rules.youngest_s {
            Some(LeftAlone::Young)
        } else if self.rested_s.is_some_and(|rested| rested < rules.rest_s) {
            Some(LeftAlone::Resting)
        } else {
            None
        }
    }

    /// Checks the figures.
    pub(super) fn check(&self) -> Result<(), BalanceError> {
        let cpus = |value: f64| (0.0..=MOST_CPUS).contains(&value);
        if !cpus(self.demand) || !cpus(self.peak) {
            return Err(BalanceError::Figure("CPUs of a guest"));
        }
        let ages = [Some(self.age_s), self.rested_s];
        if !ages.iter().flatten().all(|age| (0.0..=1e12).contains(age)) {
            return Err(BalanceError::Figure("age of a guest"));
        }
        Ok(())
    }
}
