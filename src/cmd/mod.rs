//! The commands, a file each.

pub(crate) mod advise;
pub(crate) mod record;
pub(crate) mod show;
