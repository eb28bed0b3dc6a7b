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
    /// The kernel refused something: what, and why.
    Refused(String, Errno),
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
            Self::Books(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for MoveError {}
