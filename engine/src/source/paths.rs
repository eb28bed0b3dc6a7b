//! Directories of the kernel, relative to the root of a host.

pub(super) const NODES: &str = "sys/devices/system/node";
pub(super) const CPUS: &str = "sys/devices/system/cpu";
