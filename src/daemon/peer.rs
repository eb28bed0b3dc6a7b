//! Who asks the daemon.

/// Whoever asks, as the kernel tells it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The user.
    pub(crate) uid: u32,
    /// The process that asks, where it is known in this pid namespace.
    pub(crate) pid: Option<u32>,
    /// The process that a claim is written down for as its caller: mostly the same.
    pub(crate) caller: u32,
    pub(crate) way: Way,
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
