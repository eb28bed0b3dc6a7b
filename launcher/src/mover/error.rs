//! Why a guest was not moved.

use std::fmt;

use nix::errno::Errno;

/// Why a guest was not moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveError {
    /// It has ended.
    Gone,
    /// Its memory does not let itself be moved.
    Pinned,
    /// The target has no free memory any more.
    NoRoom,
    /// The nodes it should go to are promised to others now; nothing was changed.
    Occupied(String),
    /// It is where it should be, and its claims could not be written.
    Unsettled(String),
    /// Its mappings cannot be looked through in a reasonable time.
    TooLarge,
    /// The kernel refused something: what, and why.
    Refused(String, Errno),
    /// Its group may not have the nodes or CPUs.
    Narrowed(String),
    /// libvirt does not move it.
    Libvirt(String),
    /// Claims or journal cannot be written.
    Books(String),
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it has ended"),
            Self::Pinned => f.write_str("its memory is pinned and cannot be moved"),
            Self::NoRoom => f.write_str("its new nodes have no free memory any more"),
            Self::Refused(what, errno) => write!(f, "cannot {what}: {}", errno.desc()),
            Self::TooLarge => f.write_str("its mappings are larger than 4 TiB together"),
            Self::Books(why)
            | Self::Libvirt(why)
            | Self::Narrowed(why)
            | Self::Occupied(why)
            | Self::Unsettled(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for MoveError {}
