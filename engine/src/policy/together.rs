#![doc = include_str!("together/doc.md")]

mod bound;
mod count;
mod model;
mod search;
mod state;

// The search itself, for tests and benchmarks.
#[doc(hidden)]
pub use count::count;
#[doc(hidden)]
pub use model::{Guest, Part, Place, Plan, Question};
#[doc(hidden)]
pub use search::{MAX_GUESTS, default_effort, solve};
