//! Whose the queue is.
//!
//! The keys are well known, and the first process to make a queue owns it: it can read questions, answer in
//! the daemon's place, and send it orders. So a queue counts only if this user made and owns it and shares
//! it with its group alone, as numad's own daemon would have made it.

use std::fmt;

use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};

use crate::numad::queue::ipc::{self, Id, Key, Stat};

/// So often somebody may come in between.
const TRIES: usize = 16;

/// Why there is no queue to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoQueue {
    /// Another user owns or made it: which one, if that is known.
    Foreign(Key, Option<u32>),
    /// The kernel refuses.
    Refused(Key, &'static str, Errno),
}

/// Makes the queue of a key. One of ours that exists is removed first: its clients asked a daemon that has
/// ended, and would wait for ever. The kernel reports to them that the queue is gone (EIDRM).
///
/// Errors: it is another user's; the kernel refuses.
pub(crate) fn open(key: Key) -> Result<Id, NoQueue> {
    let id = reopen(key)?;
    match ipc::remove(id) {
        Ok(()) | Err(Errno::EINVAL | Errno::EIDRM) => reopen(key),
        Err(error) => Err(NoQueue::Refused(key, "msgctl", error)),
    }
}

/// Opens the queue of a key with its messages; makes it if it is missing or has the wrong mode.
///
/// Errors: as [`open`].
pub(crate) fn reopen(key: Key) -> Result<Id, NoQueue> {
    for _ in 0..TRIES {
        let Some(id) = ipc::find(key).map_err(|e| NoQueue::Refused(key, "msgget", e))? else {
            match ipc::create(key) {
                Ok(id) => return Ok(id),
                // Another process was faster: look at its queue.
                Err(Errno::EEXIST) => continue,
                Err(error) => return Err(NoQueue::Refused(key, "msgget", error)),
            }
        };
        match check(key, id) {
            Ok(Shape::Right) => return Ok(id),
            // Ours, and open to others, or to a group that is not ours: they may be waiting in it.
            Ok(Shape::Wrong) => ipc::remove(id).map_err(|e| NoQueue::Refused(key, "msgctl", e))?,
            Err(NoQueue::Refused(_, _, Errno::EINVAL | Errno::EIDRM)) => {}
            Err(other) => return Err(other),
        }
    }
    Err(NoQueue::Refused(key, "msgget", Errno::EEXIST))
}

/// How a queue of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Right,
    Wrong,
}

/// Checks that a queue is ours.
///
/// Errors: not ours; gone (EINVAL, EIDRM).
pub(crate) fn check(key: Key, id: Id) -> Result<Shape, NoQueue> {
    match ipc::stat(id) {
        Ok(stat) => shape(&stat, geteuid().as_raw(), getegid().as_raw())
            .map_err(|other| NoQueue::Foreign(key, Some(other))),
        Err(Errno::EACCES) => Err(NoQueue::Foreign(key, None)),
        Err(error) => Err(NoQueue::Refused(key, "msgctl", error)),
    }
}

/// Errors: the other user who owns or made it.
fn shape(stat: &Stat, user: u32, group: u32) -> Result<Shape, u32> {
    // The user who made it can take it back at any time.
    if let Some(&other) = stat.uids.iter().find(|&&uid| uid != user) {
        return Err(other);
    }
    let right = stat.gids.iter().all(|&gid| gid == group) && stat.mode == ipc::MODE;
    Ok(if right { Shape::Right } else { Shape::Wrong })
}

impl fmt::Display for NoQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, user) = match self {
            Self::Refused(key, call, error) => {
                return write!(f, "{call} for numad's message queue {key}: {error}");
            }
            Self::Foreign(key, Some(uid)) => (key, format!("user {uid}")),
            Self::Foreign(key, None) => (key, "another user".to_owned()),
        };
        write!(
            f,
            "numad's message queue belongs to {user}: answers could be forged; remove it: ipcrm \
             -Q {key}"
        )
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
            // A stranger's, one that the stranger has given away or was given.
            (Stat { uids: [1000, 1000], ..ours }, Err(1000)),
            (Stat { uids: [0, 1000], ..ours }, Err(1000)),
            (Stat { uids: [1000, 0], ..ours }, Err(1000)),
            (Stat { mode: 0o666, ..ours }, Ok(Shape::Wrong)),
            (Stat { mode: 0o600, ..ours }, Ok(Shape::Wrong)),
            (Stat { gids: [100, 0], ..ours }, Ok(Shape::Wrong)),
            (Stat { gids: [0, 100], ..ours }, Ok(Shape::Wrong)),
        ] {
            assert_eq!(shape(&change, 0, 0), found, "{change:?}");
        }
    }
}
