//! A control group (cgroup v2) of the guest's own.
//!
//! [`Tree`] reads how the host's groups are built, [`plan()`] decides where the guest's group goes
//! and turns that into [`GroupStep`]s, and [`Group`] performs those and undoes them in reverse
//! order when it is dropped. All calls go through [`Kernel`], and no path is fixed, so that they
//! work on any directory.
//!
//! # Which groups are ours to change
//!
//! The group is made below the group that was named, or else below the nearest group around the
//! launcher that was delegated to it (`user.delegate`, `trusted.delegate`; on hosts without systemd:
//! that it may write to). Controllers are enabled only in delegated groups, never in a tree that
//! systemd owns: it would switch them off again, and the guest would silently lose its cpuset.
//!
//! Only memory that is bound strictly is also held by `cpuset.mems`. The other modes go to other
//! nodes when theirs are full, where a cpuset would end the guest instead.
//!
//! Groups of launchers that were killed are removed by the next launch beside them: each launcher
//! holds a lock on its group's directory, which ends with it.
//!
//! Where systemd owns the tree it can be asked for a group: a transient scope, see
//! [`systemd`](crate::systemd). That is done when the child is there and waits.

mod group;
mod kernel;
mod plan;
mod tree;

pub use crate::step::GroupStep;
pub use group::Group;
pub use kernel::{Kernel, Live};
pub(crate) use plan::without;
pub use plan::{Planned, may_be_wanted, plan};
pub use tree::{Cpuset, Tree};
