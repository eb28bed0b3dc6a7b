//! The guests, and the plan for them.

use crate::policy::best::{Prediction, Prefer, Proof};
use crate::units::{Bytes, CpuShare};

/// What one of the guests needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guest {
    /// Memory; less than 1 MiB counts as that.
    pub memory: Bytes,
    /// CPUs; less than 0.01 counts as that.
    pub cpus: CpuShare,
}

impl Guest {
    /// Returns what its slowdown counts: its memory in MiB, rounded up, at least 1.
    pub(crate) fn weight(self) -> u64 {
        self.memory.mib_rounded_up().max(1)
    }
}

/// Several guests at once, and how they are placed.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The guests.
    pub guests: &'a [Guest],
    /// The part of its run time that a guest waits for memory, 0 to 1.
    pub memory_bound: f64,
    /// What decides between equally good sets when the guests are placed one by one.
    pub prefer: Prefer,
    /// Whether each guest gets whole CPUs that no other has. The `cpus` of the host's nodes are then those that
    /// are free, and a guest takes its CPUs, rounded up, from them.
    pub own_cpus: bool,
    /// What all guests together may take of memory, such as the limit of a control group.
    pub budget: Option<Bytes>,
    /// MiB that may be promised of each node beyond its memory, in the order of nodes; empty without overcommit.
    pub beyond: &'a [f64],
    /// Steps that the search may take; `None`: [`default_effort`](super::default_effort).
    pub effort: Option<u64>,
}

impl<'a> Question<'a> {
    /// Returns guests with the defaults: half bound by memory, most room, CPUs shared, no limit.
    pub fn new(guests: &'a [Guest]) -> Self {
        Self {
            guests,
            memory_bound: 0.5,
            prefer: Prefer::Room,
            own_cpus: false,
            budget: None,
            beyond: &[],
            effort: None,
        }
    }
}

/// What a guest takes from one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The node's id.
    pub node: u32,
    /// CPUs; whole ones where guests have CPUs of their own.
    pub cpus: CpuShare,
    /// Memory.
    pub memory: Bytes,
}

/// Where one of the guests is placed.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Ids, ascending.
    pub nodes: Vec<u32>,
    /// What it takes of each node.
    pub split: Vec<Part>,
    /// What that means for it.
    pub figures: Prediction,
}

/// Where the guests are placed.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One for each guest, in the order given; `None` for a guest that does not fit.
    pub places: Vec<Option<Place>>,
    /// The guests in the order in which they are charged, by their positions.
    pub order: Vec<usize>,
    /// The slowdown of the guests that fit, weighted by their memory; 1 where none fits.
    pub slowdown: f64,
    /// The number of guests of which it is certain that they cannot all fit beside the others.
    pub least_refused: usize,
    /// [`Proof::Optimal`]: no plan is better. A gap: among plans that refuse as many guests, none has a total slowdown
    /// lower by more than this part.
    pub proof: Proof,
    /// Work done: the same for the same input.
    pub steps: u64,
}

impl Plan {
    /// Returns how many guests do not fit.
    pub fn refused(&self) -> usize {
        self.places.iter().filter(|place| place.is_none()).count()
    }
}
