//! Containers that an engine starts: from the limits of one to a request, to a hold, to the claim of its control
//! group. What an OCI runtime and a plugin of a container engine share.
//!
//! [`Definition::wanted`] is pure. [`hold`] and [`claim`] decide and claim machine-wide, [`adopt`] makes that the claim of
//! the container's control group, [`release`] ends it. All find the claim by the container's [`name`], so that
//! whatever is repeated after a kill is done once.

mod claims;
mod request;

pub use claims::{HOLD, NotHeld, Placement, adopt, claim, hold, name, release};
pub use request::{Definition, REQUEST, STRICT, Wanted};
