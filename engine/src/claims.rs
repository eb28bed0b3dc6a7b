//! Claims: what was promised to guests and is not yet visible as used.
//!
//! Free memory says nothing about a guest that started a moment ago. So what is advised can be
//! claimed, in the same step under one lock, and every later advice counts it as used.
//!
//! ```text
//! ledger text -> Ledger - the dead -> Charges -> (Snapshot -> Policy -> Advice) -> Claim -> ledger text
//! ```
//!
//! Guests that were started without placer (`observed.rs` finds them, `qemu.rs` and `libvirt.rs` read
//! their definition, `guest.rs` computes the memory they have not touched yet) count too, and take over
//! the holds that were made for them.
//!
//! [`Ledger`], [`Claim`] and [`Charges`](crate::Charges) are values: the time, the boot, which owners are alive
//! and what is resident come in from outside. [`ClaimFile`] (the file and its lock), [`Processes`] and
//! [`Claims`], which joins them, are the end.

mod asker;
mod charge;
mod claim;
mod decision;
mod desk;
mod error;
mod fates;
mod guest;
mod kept;
mod ledger;
mod libvirt;
mod lines;
mod look;
mod nonce;
mod numa_maps;
mod observed;
mod owners;
mod parts;
mod principal;
mod proc;
mod proc_dir;
mod proc_text;
mod qemu;
mod running;
mod store;
mod tried;
mod unread;
mod watched;
mod whole;

pub use crate::charges::Overcommit;
#[doc(hidden)]
pub use asker::Asker;
#[doc(hidden)]
pub use claim::{Caller, Claim, Origin, Owner, Promise, Seen};
pub use claim::{Cgroup, ClaimId, ProcessId};
pub use decision::ClaimOwner;
#[doc(hidden)]
pub use decision::{Decision, Observation, Relocation};
pub use desk::ClaimDirs;
#[doc(hidden)]
pub use desk::{Claims, LOST_RACES, View};
pub use error::ClaimError;
#[doc(hidden)]
pub use kept::Kept;
#[doc(hidden)]
pub use ledger::{Fate, Ledger, MOST_CLAIMS};
#[doc(hidden)]
pub use look::MOST_LOOKS;
#[doc(hidden)]
pub use nonce::Nonce;
#[doc(hidden)]
pub use owners::{OwnerProcess, owners};
#[doc(hidden)]
pub use parts::Parts;
#[doc(hidden)]
pub use principal::{Principal, Principals};
#[doc(hidden)]
pub use proc::{Processes, Standing};
#[doc(hidden)]
pub use running::{Running, Sample, ThreadTimes};
#[doc(hidden)]
pub use store::{ClaimFile, LOCK_TIMEOUT, Locked, System};
