#![doc = include_str!("best/doc.md")]

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
    step_limit,
};
