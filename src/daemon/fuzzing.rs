//! What the fuzz targets in `fuzz/` reach: the daemon for a recorded machine, with the two places
//! where strangers' bytes come in. Compiled for them alone.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use placer_engine::SysRoot;

use super::core::Core;
use super::log::Log;
use super::socket::Socket;
pub use super::sysv::fuzzing::Queue;
use crate::settings::Settings;

/// A user who may claim within the limits, and release what it has claimed.
const NOBODY: u32 = 65_534;

/// What a client of the same build and settings says of itself: version, and mark of the settings.
pub fn client() -> [String; 2] {
    [crate::protocol::VERSION.to_owned(), crate::protocol::settings_mark(&Settings::default())]
}

/// A daemon without other clients.
#[derive(Debug)]
pub struct Daemon {
    core: Arc<Core>,
    socket: Socket,
}

impl Daemon {
    /// Starts one for a recorded machine; its claims and its socket are in `PLACER_STATE_DIR`.
    ///
    /// Errors: it cannot be.
    pub fn start(machine: &Path, dir: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let (root, set) = (SysRoot::at(machine), Settings::default());
        let core = Arc::new(Core::start(&root, set, None, Log::silent())?);
        let socket = Socket::start(&core, dir)?;
        Ok(Self { core, socket })
    }

    /// Opens numad's queue for it, without a queue.
    pub fn queue(&self) -> Queue {
        Queue::of(&self.core)
    }

    /// Answers one connection to its end.
    pub fn serve(&self, stream: UnixStream) {
        self.socket.serve_as(stream, NOBODY);
    }
}
