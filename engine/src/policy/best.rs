#![doc = include_str!("best/doc.md")]

mod bounds;
mod branch_and_bound;
mod enumerate;
mod explain;
mod grow;
mod model;
mod nodes;
mod objective;
mod pareto;
mod place;
mod rules;
mod simd_bounds;
mod solution;
mod solve;
mod sweep;

pub use branch_and_bound::default_effort;
pub use explain::{Reason, Verdict, alternatives, judge};
pub use model::{DistanceMatrix, Host, HostError, Node, Prefer, Request};
pub use place::{Placement, place};
pub use rules::{Rules, distance_matrix};
pub use solution::{Prediction, Proof, Share, SingleNode, Solution};
pub use solve::{Workspace, prove_single_node, solve, solve_by_sets, step_limit, try_single_node};
