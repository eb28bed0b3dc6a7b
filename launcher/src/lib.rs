//! Binds a guest before its first instruction: `Advice -> Binding -> Vec<Step> -> perform`.
//!
//! [`Binding`] says on which CPUs and nodes a guest runs and how its memory is bound to them;
//! [`steps`](Binding::steps) turns that into a list of [`Step`]s. The same list is printed by a dry
//! run, performed by [`exec_in_place`] in the calling process, or by [`Waiting`]: what concerns the
//! guest's control group ([`cgroup`]) in the launcher, the rest in a child that waits at a pipe until
//! it is claimed for ([`Gated`]).

mod binding;
mod cells;
pub mod cgroup;
pub mod definition;
pub mod domain;
pub mod emit;
mod error;
mod exec;
mod gate;
pub mod guest;
pub mod guest_file;
mod guest_lock;
pub mod libvirt;
pub mod lxc;
#[doc(hidden)]
pub mod mover;
pub mod qemu;
mod quote;
#[cfg(test)]
mod recorded;
pub mod signals;
mod start;
mod step;
pub mod sys;
pub mod systemd;
mod vhost;

pub use binding::Binding;
pub use error::LaunchError;
pub use exec::exec_in_place;
pub use gate::{Ended, Gated, Running};
pub use guest::MemoryMode;
pub use guest_lock::GuestLock;
pub use start::{End, Started, Waiting};
pub use step::{Step, Thread};
