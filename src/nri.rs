//! A plugin for container runtimes that speak NRI (containerd 1.7 and later, CRI-O): containers are placed where they
//! are created, without a change of their definitions.
//!
//! ```text
//! runtime <-> plugin (connection) -> calls (what is answered) -> keeper (a thread: host and ledger)
//!             wire, messages         wanted (what a container asks for)
//! ```
//!
//! The runtime makes one call after the other, so no answer waits for more than a decision, and that has 500 ms.
//! A container that cannot be placed is created as it is, with a note; only one whose annotation says so is refused.

mod calls;
mod keeper;
pub mod messages;
mod plugin;
mod wanted;
pub mod wire;

pub use plugin::{Options, run};
