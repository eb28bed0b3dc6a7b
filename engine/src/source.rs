//! Where a host is read from: the only modules that open anything of the host.
//!
//! Live and recorded machines go through the same [`SysRoot`] and [`HostReader`]; hwloc is a
//! second source for what sysfs describes badly; the library itself is behind the feature `hwloc`.

mod caches;
mod cgroup;
mod detail;
pub mod device;
mod file;
mod huge_page;
pub mod hwloc;
mod limits;
mod parts;
mod paths;
mod reader;
pub mod record;
mod root;
mod take;
mod zones;

pub use cgroup::has_v1_cpusets;
pub use huge_page::default_huge_page;
pub use reader::{HostReader, live_clock, live_clock_id};
pub use root::{Moment, SysRoot};
pub use take::{SnapshotOptions, SnapshotReader, two_samples};
