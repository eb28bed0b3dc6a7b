//! One daemon a directory: a lock that the kernel ends with it.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

/// The lock, as long as it is kept.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of a directory that is ours.
    ///
    /// Errors: another daemon has it, or it cannot be had.
    pub(super) fn take(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let path = dir.join("daemon.lock");
        let error = |e: std::io::Error| format!("cannot lock {}: {e}", path.display());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // 0600: who may not open it cannot hold it.
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path)
            .map_err(error)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // For people, and for the daemon that comes second. A full disk is no reason.
                let _ = lock.set_len(0);
                let _ = lock.write_all(format!("{}\n", std::process::id()).as_bytes());
                Ok(Self { _file: lock })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                let pid: Option<u32> = text.trim().parse().ok();
                let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                let dir = dir.display();
                Err(format!("a daemon already runs{pid} and answers in {dir}").into())
            }
            Err((_, errno)) => Err(error(errno.into()).into()),
        }
    }
}
