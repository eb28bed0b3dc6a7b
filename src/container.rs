//! Containers that an engine starts: from the limits of one to a request, to a hold, to the claim of its control
//! group. What an OCI runtime and a plugin of a container engine share.
//!
//! [`Definition::wanted`] is pure. [`hold`] decides and holds machine-wide, [`adopt`] makes the hold the claim of the
//! container's control group, [`release`] ends it. All three find the claim by the container's [`name`], so that
//! whatever is repeated after a kill is done once.

mod claim;
mod request;

pub use claim::{HOLD, NotHeld, Placement, adopt, hold, name, release};
pub use request::{Definition, REQUEST, STRICT, Wanted};
