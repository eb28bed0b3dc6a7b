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

mod charge;
mod claim;
mod desk;
mod error;
mod fates;
mod guest;
mod ledger;
mod libvirt;
mod look;
mod nonce;
mod numa_maps;
mod observed;
mod owners;
mod principal;
mod proc;
mod proc_dir;
mod proc_text;
mod qemu;
mod store;
mod tried;
mod unread;

pub use crate::charges::Overcommit;
pub use claim::{Caller, Cgroup, Claim, ClaimId, Origin, Owner, ProcessId, Promise, Seen};
pub use desk::{Asker, ClaimDirs, ClaimOwner, Claims, Decision, View};
pub use error::ClaimError;
pub use ledger::{Fate, Ledger, MOST_CLAIMS};
pub use look::MOST_LOOKS;
pub use nonce::Nonce;
pub use owners::{OwnerProcess, owners};
pub use principal::{Principal, Principals};
pub use proc::{Processes, Standing};
pub use store::{ClaimFile, LOCK_TIMEOUT, Locked, System};
