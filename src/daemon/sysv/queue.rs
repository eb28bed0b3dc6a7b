//! Whose the queue is.
//!
//! Its key is known to all, and who makes a queue first owns it: may read what is asked, answer in
//! the daemon's place, and order it about. So only a queue counts that this user made, owns, and
//! shares with nobody but its group, as numad's own daemon would have made it.

use std::fmt;

use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use crate::numad::queue::ipc::{self, Id, Stat};

/// So often somebody may come in between.
const TRIES: usize = 16;

/// Why there is no queue to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoQueue {
    /// It belongs to another user, or another user has made it: which, if that can be told.
    Foreign(Option<u32>),
    /// The kernel refuses.
    Refused(&'static str, Errno),
}

/// Makes numad's queue. One of ours that is there is removed first: its clients asked a daemon that is
/// no more, and would wait for ever. The kernel reports to them that the queue has gone (EIDRM).
///
/// Errors: it is another user's; the kernel refuses.
pub(crate) fn open() -> Result<Id, NoQueue> {
    let id = reopen()?;
    match ipc::remove(id) {
        Ok(()) | Err(Errno::EINVAL | Errno::EIDRM) => reopen(),
        Err(error) => Err(NoQueue::Refused("msgctl", error)),
    }
}

/// Opens numad's queue with what is in it, and makes it when it is not there or not as it has to be.
///
/// Errors: as [`open`].
pub(crate) fn reopen() -> Result<Id, NoQueue> {
    for _ in 0..TRIES {
        let Some(id) = ipc::find().map_err(|e| NoQueue::Refused("msgget", e))? else {
            match ipc::create() {
                Ok(id) => return Ok(id),
                // Somebody was faster. Whose is it?
                Err(Errno::EEXIST) => continue,
                Err(error) => return Err(NoQueue::Refused("msgget", error)),
            }
        };
        match check(id) {
            Ok(Shape::Right) => return Ok(id),
            // Ours, and open to others, or to a group that is not ours: they may be waiting in it.
            Ok(Shape::Wrong) => ipc::remove(id).map_err(|e| NoQueue::Refused("msgctl", e))?,
            Err(NoQueue::Refused(_, Errno::EINVAL | Errno::EIDRM)) => {}
            Err(other) => return Err(other),
        }
    }
    Err(NoQueue::Refused("msgget", Errno::EEXIST))
}

/// How a queue of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Right,
    Wrong,
}

/// Looks whose a queue is.
///
/// Errors: not ours; gone (EINVAL, EIDRM).
pub(crate) fn check(id: Id) -> Result<Shape, NoQueue> {
    match ipc::stat(id) {
        Ok(stat) => shape(&stat, geteuid().as_raw(), getegid().as_raw()),
        Err(Errno::EACCES) => Err(NoQueue::Foreign(None)),
        Err(error) => Err(NoQueue::Refused("msgctl", error)),
    }
}

fn shape(stat: &Stat, user: u32, group: u32) -> Result<Shape, NoQueue> {
    // Its maker may take it back at any time, whoever owns it.
    if let Some(&other) = stat.uids.iter().find(|&&uid| uid != user) {
        return Err(NoQueue::Foreign(Some(other)));
    }
    let right = stat.gids.iter().all(|&gid| gid == group) && stat.mode == ipc::MODE;
    Ok(if right { Shape::Right } else { Shape::Wrong })
}

impl fmt::Display for NoQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = "remove it with: ipcrm -Q 0xdeadbeef";
        match self {
            Self::Foreign(Some(uid)) => {
                write!(
                    f,
                    "numad's message queue belongs to user {uid}, who could answer in our place: {advice}"
                )
            }
            Self::Foreign(None) => {
                write!(
                    f,
                    "numad's message queue belongs to another user, who could answer in our place: {advice}"
                )
            }
            Self::Refused(call, error) => write!(f, "{call} for numad's message queue: {error}"),
        }
    }
}

impl std::error::Error for NoQueue {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_made_and_share_with_nobody_else_is_ours() {
        let ours = Stat {
            uids: [0, 0],
            gids: [0, 0],
            mode: 0o660,
            messages: 0,
            bytes: 0,
            most_bytes: 16384,
            last_sender: 0,
        };
        assert_eq!(shape(&ours, 0, 0), Ok(Shape::Right));
        for (change, found) in [
            // A stranger's, one he has given away, one he was given.
            (Stat { uids: [1000, 1000], ..ours }, Err(NoQueue::Foreign(Some(1000)))),
            (Stat { uids: [0, 1000], ..ours }, Err(NoQueue::Foreign(Some(1000)))),
            (Stat { uids: [1000, 0], ..ours }, Err(NoQueue::Foreign(Some(1000)))),
            (Stat { mode: 0o666, ..ours }, Ok(Shape::Wrong)),
            (Stat { mode: 0o600, ..ours }, Ok(Shape::Wrong)),
            (Stat { gids: [100, 0], ..ours }, Ok(Shape::Wrong)),
            (Stat { gids: [0, 100], ..ours }, Ok(Shape::Wrong)),
        ] {
            assert_eq!(shape(&change, 0, 0), found, "{change:?}");
        }
    }
}
