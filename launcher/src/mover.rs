//! Moves running guests to other nodes: threads first, then memory in chunks.
//!
//! [`Journal`] says what is to be done and what was there before; it is saved before the first change, so that the next
//! run after a kill finishes the moves or puts them back. [`steps()`] turns a [`Record`] into the steps of one
//! direction (pure), and [`carry()`] performs them on a [`Host`], the kernel ([`Live`]) or a test's. Every step may be
//! done again: one that was done changes nothing.
//!
//! What libvirt keeps of its guests, CPUs of threads and nodes of memory, virsh changes; pages are moved as all others.
//!
//! Claims are kept by [`Books`], which the caller brings.

mod carry;
mod error;
mod host;
mod journal;
mod live;
mod maps;
mod memory;
mod pace;
mod quota;
mod steps;
#[cfg(test)]
mod tests;
mod threads;
mod virsh;

pub use carry::{Books, Progress, back, carry};
pub use error::MoveError;
pub use host::Host;
pub use journal::{Cage, ClaimBefore, Journal, Kept, LibvirtGuest, Phase, Record, Share, Threads};
pub use live::{Live, cage};
pub use maps::{Mapping, bound_by_itself};
pub use pace::{MAX_RATE, Pace};
pub use steps::{Direction, Step, steps};
pub use virsh::{QEMU_RUN, is_no_answer, libvirt_cage};
