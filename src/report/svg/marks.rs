//! An advice, as it is marked in a picture.

use placer_engine::{Advice, Explanation, NodeSet, Request, Share};

use crate::report::explain;

/// So many sets are marked.
const MOST_SETS: usize = 6;

/// The chosen set, and what came after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Marks {
    /// What was asked and what was answered, in words.
    pub title: String,
    /// The advised set first.
    pub sets: Vec<Set>,
    /// What each advised node is expected to carry.
    pub split: Vec<Share>,
}

/// A set of nodes and why it is where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    pub nodes: NodeSet,
    pub slowdown: Option<f64>,
    pub why: String,
}

impl Marks {
    /// Returns what is marked of an advice.
    pub fn of(request: &Request, advice: &Advice, why: &Explanation) -> Self {
        let first = Set {
            nodes: advice.nodes.clone(),
            slowdown: advice.slowdown,
            why: explain::proof(advice),
        };
        let others = why.alternatives.iter().map(|candidate| Set {
            nodes: candidate.nodes.clone(),
            slowdown: candidate.slowdown,
            why: explain::reason(candidate),
        });
        Self {
            title: explain::headline(request, advice),
            sets: std::iter::once(first).chain(others).take(MOST_SETS).collect(),
            split: advice.split.clone(),
        }
    }
}
