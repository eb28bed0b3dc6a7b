//! `moves.json`, and the lock of those who move guests.

use std::error::Error;
use std::fs::File as Opened;
use std::os::unix::fs::OpenOptionsExt as _;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use placer_engine::store::{StateDir, StoreError};
use placer_launcher::mover::Journal;

use super::sampling;

const NAME: &str = "moves.json";
const LOCK: &str = "moves.lock";
/// 48 guests with 4,096 threads each take less: a plan of 16, and what is still judged of two before.
const LARGEST: usize = 4 << 20;

/// The file, while its lock is held.
pub(crate) struct File {
    dir: StateDir,
    _lock: Flock<Opened>,
}

/// Reads which guests were moved, without the lock. `None` where there is nothing that this user may read.
pub(crate) fn journal_of(boot: &str) -> Option<Journal> {
    let dir =
        StateDir::open_of(&sampling::state_dir()?, nix::unistd::geteuid().as_raw()).ok()??;
    let text = dir.read(NAME, LARGEST).ok()??;
    Journal::parse(&text, boot).ok()
}

impl File {
    /// Takes the lock.
    ///
    /// Errors: another process has it, or the directory cannot be used.
    pub(crate) fn lock() -> Result<Self, Box<dyn Error>> {
        let path = sampling::state_dir().ok_or("no state directory: set XDG_RUNTIME_DIR")?;
        let dir = StateDir::open(&path)?;
        let path = dir.path().join(LOCK);
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let mut options = Opened::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let opened =
            options.open(&path).map_err(|e| format!("cannot open {}: {e}", path.display()))?;
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { dir, _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => {
                Err("another placer balance or daemon moves guests now: wait until it has ended"
                    .into())
            }
            Err((_, errno)) => {
                Err(format!("cannot lock {}: {}", path.display(), errno.desc()).into())
            }
        }
    }

    /// Reads the moves of this boot.
    ///
    /// Errors: the file is damaged: what was moved is not known then.
    pub(crate) fn read(&self, boot: &str) -> Result<Journal, Box<dyn Error>> {
        let Some(text) = self.dir.read(NAME, LARGEST)? else { return Ok(Journal::new(boot)) };
        Ok(Journal::parse(&text, boot).map_err(|why| {
            let path = self.dir.path().join(NAME);
            format!("cannot read {}: {why}; without it moves that were begun are neither finished nor put back", path.display())
        })?)
    }

    /// Writes them, whole or not at all.
    pub(crate) fn write(&self, journal: &Journal) -> Result<(), StoreError> {
        self.dir.replace(NAME, &journal.to_text(), 0o600)
    }
}
