//! The calls that are made on control groups.

use std::ffi::CStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, faccessat};

use crate::error::LaunchError;
use crate::systemd::{self, Scope, ScopeStep};

/// The calls that a launcher makes on control groups. Tests put one in their place that fails.
pub trait Kernel {
    /// Makes a directory of mode 0755.
    fn make_dir(&self, dir: &Path) -> Result<(), Errno>;
    /// Opens a directory, close-on-exec, without following a link.
    fn open_dir(&self, dir: &Path) -> Result<OwnedFd, Errno>;
    /// Takes the lock on an open directory, without waiting. EAGAIN: somebody else has it.
    fn lock(&self, dir: BorrowedFd<'_>) -> Result<(), Errno>;
    /// Removes a directory.
    fn remove_dir(&self, dir: &Path) -> Result<(), Errno>;
    /// Returns the directories in a directory.
    fn dirs(&self, dir: &Path) -> Result<Vec<PathBuf>, Errno>;
    /// Writes a file that is there, in one write.
    fn write(&self, file: &Path, text: &str) -> Result<(), Errno>;
    /// Reads a file.
    fn read(&self, file: &Path) -> Result<String, Errno>;
    /// Returns whether this process may make and remove things in a directory.
    fn may_change(&self, dir: &Path) -> bool;
    /// Has systemd put a process into a scope, unless `stopped` returns a signal that has come.
    fn make_scope(
        &self,
        step: &ScopeStep,
        pid: u32,
        stopped: &dyn Fn() -> Option<Signal>,
    ) -> Result<Scope, LaunchError> {
        systemd::make(step, pid, stopped)
    }
    /// Returns whether a directory's extended attribute of this name is `1`.
    fn is_marked(&self, dir: &Path, attribute: &CStr) -> bool;
}

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live;

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl Kernel for Live {
    fn make_dir(&self, dir: &Path) -> Result<(), Errno> {
        DirBuilder::new().mode(0o755).create(dir).map_err(|e| errno(&e))
    }

    fn open_dir(&self, dir: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags.bits()).open(dir);
        file.map(OwnedFd::from).map_err(|e| errno(&e))
    }

    fn lock(&self, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags = libc::LOCK_EX | libc::LOCK_NB;
        // SAFETY: no memory is passed. The lock ends when the last copy of the descriptor is closed.
        let done = unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&dir), flags) };
        Errno::result(done).map(drop)
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), Errno> {
        std::fs::remove_dir(dir).map_err(|e| errno(&e))
    }

    fn dirs(&self, dir: &Path) -> Result<Vec<PathBuf>, Errno> {
        let entries = std::fs::read_dir(dir).map_err(|e| errno(&e))?;
        let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        Ok(entries.flatten().filter(is_dir).map(|entry| entry.path()).collect())
    }

    fn write(&self, file: &Path, text: &str) -> Result<(), Errno> {
        let mut open = File::options().write(true).open(file).map_err(|e| errno(&e))?;
        open.write_all(text.as_bytes()).map_err(|e| errno(&e))
    }

    fn read(&self, file: &Path) -> Result<String, Errno> {
        // The longest are lists of processes.
        const MOST: u64 = 1 << 20;
        let open = File::open(file).map_err(|e| errno(&e))?;
        let mut text = String::new();
        open.take(MOST).read_to_string(&mut text).map_err(|e| errno(&e))?;
        Ok(text)
    }

    fn may_change(&self, dir: &Path) -> bool {
        let Ok(open) = self.open_dir(dir) else { return false };
        faccessat(open.as_fd(), ".", AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok()
    }

    fn is_marked(&self, dir: &Path, attribute: &CStr) -> bool {
        let Ok(path) = std::ffi::CString::new(dir.as_os_str().as_bytes()) else { return false };
        let mut value = [0u8; 2];
        // SAFETY: both names end with a NUL byte, and the kernel writes at most as many bytes as the
        // buffer has.
        let length = unsafe {
            libc::getxattr(path.as_ptr(), attribute.as_ptr(), value.as_mut_ptr().cast(), 2)
        };
        length == 1 && value[0] == b'1'
    }
}
