//! What is spoken on the daemon's socket: varlink, each message a JSON object with a NUL byte behind
//! it. Forms and framing are one code for both ends; `org.placer.Daemon.varlink` says the same to
//! other programs, and a test holds them together.

pub mod client;
pub(crate) mod forms;
pub mod top;
pub(crate) mod wire;

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::settings::Settings;

/// The name of the socket, in the directory of claims.
pub(crate) const SOCKET: &str = "placer.sock";
pub(crate) const INTERFACE: &str = "org.placer.Daemon";
pub(crate) const DESCRIPTION: &str = include_str!("protocol/org.placer.Daemon.varlink");
pub(crate) const SERVICE: &str = "org.varlink.service";
pub(crate) const SERVICE_DESCRIPTION: &str = include_str!("protocol/org.varlink.service.varlink");
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// No question is nearly so long.
pub(crate) const LONGEST_CALL: usize = 64 << 10;
/// The longest answer that a client takes.
pub(crate) const LONGEST_REPLY: usize = 32 << 20;

/// Returns a text that is the same for the same settings, as far as answers depend on them.
pub(crate) fn settings_mark(set: &Settings) -> String {
    let Settings { advise, claims, numad, daemon: _, runtime: _, manage: _ } = set;
    let text = format!("{advise:?}{claims:?}{numad:?}");
    // Two builds that hash differently ask each other nothing, and answer by themselves.
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    format!("{:016x}", hash.finish())
}
