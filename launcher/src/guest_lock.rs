//! No guest runs twice: a lock on its name, held by the launcher and by QEMU.
//!
//! It is a lock on an open file that QEMU inherits. So it lasts as long as one of the two processes, and the
//! kernel releases it: a killed launcher leaves no lock behind, and a guest that outlives its launcher keeps it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use nix::errno::Errno;
use placer_engine::fnv64;
use placer_engine::store::StateDir;

use crate::cgroup::{Kernel as _, Live};
use crate::error::LaunchError;
use crate::guest::{Guest, GuestName, Program};

/// How often the lock is tried while others remove its file.
const TRIES: u32 = 200;

/// The lock of one name of a guest. Dropped, its file is removed.
#[derive(Debug)]
pub struct GuestLock {
    /// The guest inherits it, so it cannot be written through.
    file: File,
    /// The same file, for the pid.
    pid: File,
    path: PathBuf,
}

/// Returns the names of a guest that no second guest may have: that of a guest file's machine, and `-name` and
/// `-uuid` of a QEMU command line. Nothing is known of a line without them; QEMU itself locks its images.
pub(crate) fn names(guest: &Guest) -> Vec<String> {
    match &guest.program {
        Program::Qemu(_) => vec![key("guest", guest.name.as_str())],
        Program::Line(line) => {
            let name = line.name.as_deref().map(|name| key("guest", name));
            name.into_iter().chain(line.uuid.as_deref().map(|uuid| key("uuid", uuid))).collect()
        }
        Program::Command(_) | Program::Lxc(_) => Vec::new(),
    }
}

/// Returns the name of a file for a name or a uuid. A text that is no name of a file has a hash instead.
fn key(kind: &str, text: &str) -> String {
    match text.parse::<GuestName>() {
        Ok(name) => format!("{kind}-{name}"),
        Err(_) => format!("hash-{kind}-{:016x}", fnv64(text.bytes())),
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

    /// Takes the lock of a uuid.
    ///
    /// Errors: as [`take`](Self::take).
    pub(crate) fn of_uuid(
        dir: &StateDir,
        uuid: &str,
        guest: &GuestName,
    ) -> Result<Self, LaunchError> {
        Self::one(dir.path().join(format!("{}.lock", key("uuid", uuid))), guest)
    }

    fn one(path: PathBuf, guest: &GuestName) -> Result<Self, LaunchError> {
        let error = |error: std::io::Error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            LaunchError::new(format!("lock the name of guest {guest}: {}", path.display()), errno)
        };
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        for _ in 0..TRIES {
            // std makes no file that it cannot write.
            let mut options = File::options();
            options.read(true).mode(0o600).custom_flags(flags | libc::O_CREAT);
            let file = options.open(&path).map_err(error)?;
            match Live.lock(file.as_fd()) {
                Ok(()) => {}
                Err(Errno::EAGAIN) => return Err(runs(&file, guest)),
                Err(errno) => return Err(error(errno.into())),
            }
            // Whoever had it may have removed the file between these calls.
            let pid = match File::options().write(true).custom_flags(flags).open(&path) {
                Err(gone) if gone.kind() == ErrorKind::NotFound => continue,
                pid => pid.map_err(error)?,
            };
            let inode = |file: &File| file.metadata().map(|about| about.ino()).map_err(error);
            if inode(&file)? == inode(&pid)? {
                pid.set_len(0).map_err(error)?;
                return Ok(Self { file, pid, path });
            }
        }
        Err(error(Errno::EBUSY.into()))
    }

    /// Returns the descriptor that QEMU has to keep open.
    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Returns another descriptor of the lock.
    pub(crate) fn shared(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }

    /// Writes down which process the guest is, for the message of a second launch.
    pub(crate) fn sign(&self, pid: u32) {
        let _ = self.pid.write_all_at(format!("{pid}\n").as_bytes(), 0);
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

#[cfg(test)]
mod tests;
