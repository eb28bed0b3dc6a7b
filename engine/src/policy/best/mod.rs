//! Policy `best`: of all node sets that hold a guest, those within 2 % of the lowest predicted
//! slowdown are equal; of these the fewest nodes, then most room, then lowest ids.
//!
//! [`Fabric`] is what distances come to, made once a topology; [`Host`] the figures of one
//! snapshot on it; [`solve`] the choice; [`judge`] and [`alternatives`] say what other sets lack.
//! Memory is in MiB here, not rounded. Pure: no clock, no file; effort is counted in steps.

mod bound;
mod exact;
mod explain;
mod front;
mod grow;
mod lanes;
mod place;
mod problem;
mod rules;
mod score;
mod search;
mod solve;
mod sweep;

pub use explain::{Reason, Verdict, alternatives, judge};
pub use place::{Placement, place};
pub use problem::{Fabric, Host, HostError, Node, Prefer, Request};
pub use rules::{Rules, fabric};
pub use search::default_effort;
pub use solve::{
    Figures, Lone, Proof, Share, Solution, Workspace, certain, lone, solve, solve_by_sets,
};
