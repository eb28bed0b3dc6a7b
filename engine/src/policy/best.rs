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

// The search itself, for tests, benchmarks and the fuzz target.
#[doc(hidden)]
pub use branch_and_bound::default_effort;
#[doc(hidden)]
pub use explain::{Reason, Verdict, alternatives, judge};
#[doc(hidden)]
pub use model::{DistanceMatrix, Host, Node, Request};
pub use model::{HostError, Prefer};
pub(crate) use objective::{Problem, Shares, Sums};
#[doc(hidden)]
pub use place::{Placement, place};
pub use rules::Rules;
#[doc(hidden)]
pub use rules::distance_matrix;
pub use solution::Proof;
#[doc(hidden)]
pub use solution::{Prediction, Share, SingleNode, Solution};
#[doc(hidden)]
pub use solve::{Workspace, prove_single_node, solve, solve_by_sets, step_limit, try_single_node};
