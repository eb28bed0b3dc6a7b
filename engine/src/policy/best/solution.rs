//! What an answer consists of.

use super::objective::Score;

/// How sure the answer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Proof {
    /// No set is more than 2 % faster; up to 16 useful nodes also the rule's exact answer.
    Optimal,
    /// No set is faster by more than this part, above 0.02: 0.05 means that the answer is at most 1.05
    /// times as slow as the fastest set.
    Gap(f64),
}

/// What a member of the chosen set carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The node's id.
    pub node: u32,
    /// CPUs of the guest that run there on average.
    pub cpus: f64,
    /// MiB of the guest that are placed there.
    pub mem: f64,
}

/// What a placement means for the guest.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// λ × (1 − µ + µ × near/10), rounded to 1e-6; 1 is an idle local node.
    pub slowdown: f64,
    /// Mean distance of the memory used; 10 is local.
    pub near: f64,
    /// λ: runnable threads for each CPU, at least 1.
    pub crowding: f64,
}

impl From<&Score> for Prediction {
    fn from(score: &Score) -> Self {
        Self {
            slowdown: per_million(score.slowdown_ppm),
            near: score.near,
            crowding: score.crowding,
        }
    }
}

/// Returns a slowdown in parts per million as a factor.
#[expect(clippy::cast_precision_loss, reason = "exact up to a slowdown of 9 * 10^9")]
pub(crate) fn per_million(slowdown_ppm: u64) -> f64 {
    slowdown_ppm as f64 / 1e6
}

/// The chosen node set.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Solution {
    /// Ids, ascending.
    pub nodes: Vec<u32>,
    /// False when the whole host has less than the request.
    pub fits: bool,
    /// `None` only on a host without any memory or without any CPU: then `nodes` are all that have either.
    pub figures: Option<Prediction>,
    /// One for each node, in the order of `nodes`; empty without figures.
    pub split: Vec<Share>,
    /// Slowdown of the fastest set seen; the answer is within 2 % of it. 0 without figures.
    pub fastest: f64,
    /// How sure the answer is.
    pub proof: Proof,
    /// Work done, in node sets or nodes looked at; the same for the same input.
    pub steps: u64,
}

/// A single node that is proven to be the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SingleNode {
    /// The node, and all of the guest.
    pub share: Share,
    /// What it means for the guest.
    pub figures: Prediction,
    /// Slowdown of the fastest node that holds the guest.
    pub fastest: f64,
}
