//! placer as the OCI runtime of a container engine: what it reads of its command line and of `config.json`, and what
//! it writes.
//!
//! Engines call `RUNTIME [GLOBAL FLAGS] VERB [FLAGS] ID`. The verbs `create` and `run` read `config.json` in the
//! bundle's directory, which is all that decides how a container runs.

mod bundle;
mod config;
mod json;
mod line;
mod log;

pub use bundle::Bundle;
pub use config::{Binding, Config, Hook, PLACED};
pub use line::{Line, Start};
pub use log::{Log, Severity};
