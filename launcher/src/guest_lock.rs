//! No guest runs twice: a lock on its name, held by the launcher and by QEMU.
//!
//! It is a lock on an open file that QEMU inherits. So it lasts as long as one of the two processes, and the
//! kernel releases it: a killed launcher leaves no lock behind, and a guest that outlives its launcher keeps it.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use nix::errno::Errno;
use placer_engine::store::StateDir;

use crate::cgroup::{Kernel as _, Live};
use crate::error::LaunchError;
use crate::guest::{Guest, GuestName, Program};

/// How often the lock is tried while others remove its file.
const TRIES: u32 = 200;

/// The lock of one name of a guest. Dropped, its file is removed.
#[derive(Debug)]
pub struct GuestLock {
    file: File,
    path: PathBuf,
}

/// Returns the names of a guest that no second guest may have: that of a guest file's machine, and `-name` and
/// `-uuid` of a QEMU command line. Nothing is known of a line without them; QEMU itself locks its images.
pub(crate) fn names(guest: &Guest) -> Vec<String> {
    let name = |name: &GuestName| format!("guest-{name}");
    match &guest.program {
        Program::Qemu(_) => vec![name(&guest.name)],
        Program::Line(line) => {
            let said = line.name.as_deref().and_then(|name| name.parse().ok());
            let uuid = line.uuid.as_ref().map(|uuid| format!("uuid-{uuid}"));
            said.as_ref().map(name).into_iter().chain(uuid).collect()
        }
        Program::Command(_) | Program::Lxc(_) => Vec::new(),
    }
}

impl GuestLock {
    /// Takes the locks of all names of a guest, in a directory that only this user writes.
    ///
    /// Errors: `EBUSY` if a guest of one of the names runs or is being started; else a lock cannot be had here.
    pub fn take(dir: &StateDir, guest: &Guest) -> Result<Vec<Self>, LaunchError> {
        let lock = |name| Self::one(dir.path().join(format!("{name}.lock")), &guest.name);
        names(guest).into_iter().map(lock).collect()
    }

    fn one(path: PathBuf, guest: &GuestName) -> Result<Self, LaunchError> {
        let error = |error: std::io::Error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            LaunchError::new(format!("lock the name of guest {guest}: {}", path.display()), errno)
        };
        for _ in 0..TRIES {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)
                .map_err(error)?;
            match Live.lock(file.as_fd()) {
                Ok(()) => {}
                Err(Errno::EAGAIN) => return Err(runs(&file, guest)),
                Err(errno) => return Err(error(errno.into())),
            }
            // Whoever had it may have removed the file between these calls.
            let inode = file.metadata().map_err(error)?.ino();
            if std::fs::metadata(&path).is_ok_and(|there| there.ino() == inode) {
                file.set_len(0).map_err(error)?;
                return Ok(Self { file, path });
            }
        }
        Err(error(Errno::EBUSY.into()))
    }

    /// Returns the descriptor that QEMU has to keep open.
    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Writes down which process the guest is, for the message of a second launch.
    pub(crate) fn sign(&self, pid: u32) {
        let _ = self.file.write_all_at(format!("{pid}\n").as_bytes(), 0);
    }
}

impl Drop for GuestLock {
    fn drop(&mut self) {
        // Before the lock ends with the descriptor: the next one makes a file of its own.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn runs(file: &File, guest: &GuestName) -> LaunchError {
    let mut text = [0; 16];
    let read = file.read_at(&mut text, 0).unwrap_or(0);
    let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
    let seen = match text.trim().parse::<u32>() {
        Ok(pid) => format!("it runs already, as process {pid}"),
        Err(_) => "another launcher is starting it".to_owned(),
    };
    LaunchError::seen(format!("start guest {guest}"), Errno::EBUSY, seen)
        .hint("shut it down first, or give this one another name and uuid")
}
