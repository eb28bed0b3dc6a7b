//! A control group (cgroup v2) of the guest's own.
//!
//! [`Tree`] reads how the host's groups are built, [`plan`] decides where the guest's group goes
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
//! # systemd
//!
//! Transient scopes of systemd are not made. The client for its bus that is kept well (`zbus`)
//! brings some sixty crates and a runtime into a program that needs a single call of it, and running
//! `busctl` would bind the launcher to a program's output. `systemd-run --scope -p Delegate=yes
//! placer launch --cgroup own ...` has the same outcome: the scope is delegated, and used.

mod group;
mod kernel;
mod plan;
mod step;
mod tree;

pub use group::Group;
pub use kernel::{Kernel, Live};
pub use plan::{Planned, may_be_wanted, plan};
pub use step::GroupStep;
pub use tree::{Cpuset, Tree};
