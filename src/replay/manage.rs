//! Running guests under managers: guests come, go and change what they want, and a manager looks again and
//! again and moves them. Pure, as the rest of the replay: the same guests, host and seed give the same figures.
//!
//! # The model
//!
//! *Time* goes in steps of 5 s. *Guests* are those of the replay's own generator, over the hours that are asked
//! for: those that are there when these begin are as old as they are. A guest has all its memory from its start.
//! What its threads want changes after exponential times, to any part of its vCPUs as wide around the mean as
//! fits. Some have all their memory pinned, as guests with passed-through devices do.
//!
//! *Starts* are the same under every manager: by policy `best` on what it then sees, or unbound, with threads on
//! all nodes and memory where they ran first.
//!
//! *Slowdown* is policy `best`'s function of the threads and the memory as they are in that step, so that memory
//! which is still on its way counts as far. Moving a GiB costs the guest a busy-CPU second on top.
//!
//! *Managers* see what they would see on a host: `numad` the CPU time that processes used, `placer` what their
//! threads wanted on the average of a minute. What each does stands in its module. A host on which one cannot work is
//! an error: its row would be that of no manager.

mod guests;
mod kernel;
mod numad;
mod placer;
mod run;
mod state;
mod tally;
#[cfg(test)]
mod tests;

use std::fmt;

use placer_engine::balance::BalanceError;
use placer_engine::policy::numad::{Failure, Version};

pub use guests::{Period, PeriodError};
pub use run::manage;
pub use tally::Managed;

/// What moves running guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    /// No manager.
    None,
    /// numad's daemon of a version.
    Numad(Version),
    /// The kernel's NUMA balancing, which moves unbound guests.
    Kernel,
    /// A manager that plans as `placer balance` does, all the time.
    Placer,
}

impl Manager {
    /// Returns all of them, in the order in which they are shown.
    pub fn all() -> [Self; 5] {
        let [old, new] = Version::ALL;
        [Self::None, Self::Numad(old), Self::Numad(new), Self::Kernel, Self::Placer]
    }

    /// Returns the name it is asked for by.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Numad(Version::V2015) => "numad-2015",
            Self::Numad(Version::V2025) => "numad-2025",
            Self::Kernel => "kernel",
            Self::Placer => "placer",
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a manager cannot work on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManageError {
    /// numad of that version ends.
    Numad(Version, Failure),
    /// No plan can be made.
    Plan(BalanceError),
}

impl fmt::Display for ManageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (manager, cause): (_, &dyn fmt::Display) = match self {
            Self::Numad(version, failure) => (Manager::Numad(*version), failure),
            Self::Plan(error) => (Manager::Placer, error),
        };
        write!(f, "{manager} cannot manage this host: {cause}; leave it out of --manage")
    }
}

impl std::error::Error for ManageError {}

/// How guests start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// On the nodes that policy `best` names.
    Best,
    /// On all nodes.
    Unbound,
}

impl Start {
    /// Returns the name it is asked for by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Unbound => "unbound",
        }
    }
}

/// What is simulated, beside the guests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    pub start: Start,
    pub seed: u64,
    /// The part of its vCPUs that a guest keeps busy, on the average.
    pub busy: f64,
    /// How long a guest wants the same, on the average, in seconds.
    pub change_s: f64,
    /// The part of the guests whose memory is pinned.
    pub pinned: f64,
    pub tuning: super::Tuning,
}
