//! A pipe by which a machine that is still stopped ends with its launcher; see [`super`].

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::sys;

/// Both ends of the pipe, the reading one of which QEMU has as well.
#[derive(Debug)]
pub(super) struct Lifeline {
    shared: OwnedFd,
    /// The writing end, which only the launcher holds.
    _own: OwnedFd,
}

impl Lifeline {
    pub(super) fn new() -> Result<Self, Errno> {
        let (shared, own) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Self { shared, _own: own })
    }

    /// Returns the descriptor that QEMU has to keep open.
    pub(super) fn fd(&self) -> i32 {
        self.shared.as_raw_fd()
    }

    /// From here on this process ends with the launcher.
    pub(super) fn arm(&self, pid: u32) -> Result<(), Errno> {
        let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
        sys::kill_at_end(self.shared.as_fd(), pid)
    }

    /// From here on it does not.
    pub(super) fn release(&self) -> Result<(), Errno> {
        sys::stop_watching(self.shared.as_fd())
    }
}
