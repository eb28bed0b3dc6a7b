//! The ranks of a parallel program on this host: the first one that starts decides for all, the others take their
//! places.

mod devices;
mod shared;
mod sizes;
mod step;

pub use devices::Devices;
pub use shared::{Place, RankClaim, Shared, SharedPlan};
pub use sizes::{Decided, RankPlace, RankRequest, decide};
pub use step::{Rank, Starter};
