//! The process that asks the daemon.

use nix::unistd::geteuid;
use placer_engine::claims::{Nonce, Principal};

/// Whoever asks, as the kernel tells it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The user.
    pub(crate) uid: u32,
    /// The account that its claims belong to, decided when it connected.
    pub(crate) principal: Principal,
    /// The process that asks, where it is known in this pid namespace.
    pub(crate) pid: Option<u32>,
    /// The process that a claim is written down for as its caller: mostly the same.
    pub(crate) caller: u32,
    /// Its own name for the claim that it asks for.
    pub(crate) nonce: Option<Nonce>,
    /// Why nothing is claimed for it, where it cannot be known who asks.
    pub(crate) in_doubt: Option<&'static str>,
    pub(crate) way: Way,
}

impl Peer {
    /// Returns whether it may do what root may: root itself, and the user that the daemon runs as. Root of a
    /// container is neither.
    pub(crate) fn is_trusted(&self) -> bool {
        let own =
            self.uid == geteuid().as_raw() && !matches!(self.principal, Principal::Container(_));
        own || (self.uid == 0 && self.principal.is_host())
    }
}

/// The way on which a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Socket,
    Queue,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Queue => "queue",
        }
    }
}
