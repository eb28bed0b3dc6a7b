//! Signals to the daemon, taken by one thread between its other tasks.

use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Reload,
    End,
}

/// The signals of this process.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Takes SIGHUP, SIGINT and SIGTERM from this thread, and from all that it starts.
    ///
    /// Errors: the kernel refuses.
    pub(crate) fn open() -> Result<Self, Box<dyn Error>> {
        let mut taken = SigSet::empty();
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
            taken.add(signal);
        }
        let error = |e: nix::Error| format!("cannot take signals: {e}");
        taken.thread_block().map_err(error)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { fd: SignalFd::with_flags(&taken, flags).map_err(error)? })
    }

    /// Returns the descriptor that can be read when a signal is there.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits for a signal, and not longer than told.
    pub(crate) fn wait(&self, time: Duration) -> Option<Order> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
        match self.fd.read_signal() {
            Ok(Some(info)) if info.ssi_signo == Signal::SIGHUP as u32 => Some(Order::Reload),
            Ok(Some(_)) => Some(Order::End),
            _ => None,
        }
    }
}
