//! The directory a recording is written into, and nothing beside it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::RecordError;
use super::tree::relative;

/// A directory that is empty, or was made, and is filled through its descriptor: no link is ever
/// followed below it. What was written is removed again unless it is [kept](Self::keep).
pub(super) struct Target {
    path: PathBuf,
    fd: OwnedFd,
    /// The directories of the path that was written last, with their names from the root.
    open: Vec<(String, OwnedFd)>,
    /// What was made, in this order: path and whether it is a directory.
    made: Vec<(String, bool)>,
    is_ours: bool,
    kept: bool,
}

impl Target {
    pub(super) fn open(path: &Path) -> Result<Self, RecordError> {
        let error = |attempted, e: Errno| RecordError::Write {
            attempted,
            path: path.to_owned(),
            source: e.into(),
        };
        let is_ours = match mkdirat(AT_FDCWD, path, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(e) => return Err(error("make the directory", e)),
        };
        let fd = match open_dir(AT_FDCWD, path) {
            // A link answers ELOOP or ENOTDIR, by kernel.
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(RecordError::NotADirectory { path: path.to_owned() });
            }
            other => other.map_err(|e| error("open", e))?,
        };
        let (open, made) = (Vec::new(), Vec::new());
        let target = Self { path: path.to_owned(), fd, open, made, is_ours, kept: false };
        let listed = std::fs::read_dir(path).and_then(|mut names| names.next().transpose());
        match listed {
            Ok(None) => Ok(target),
            Ok(Some(_)) => Err(RecordError::NotEmpty { path: path.to_owned() }),
            Err(source) => {
                Err(RecordError::Write { attempted: "list", path: path.to_owned(), source })
            }
        }
    }

    /// Makes a directory, and those above it.
    pub(super) fn make_dir(&mut self, path: &str) -> Result<(), RecordError> {
        self.enter(path, true).map(drop)
    }

    /// Writes a file, which must not be there yet. Returns how many bytes it has.
    pub(super) fn write(&mut self, path: &str, text: &[u8]) -> Result<u64, RecordError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.enter(dir, true)?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(dir, name, flags, Mode::from_bits_truncate(0o644))
            .map_err(|e| self.error("write", path, e))?;
        self.made.push((path.to_owned(), false));
        let failed = |e: io::Error| self.error("write", path, errno(&e));
        File::from(file).write_all(text).map_err(failed)?;
        Ok(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }

    /// Makes a link to another path of the recording. No link may be there yet.
    pub(super) fn link(&mut self, path: &str, to: &str) -> Result<(), RecordError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.enter(dir, true)?;
        symlinkat(relative(path, to).as_str(), dir, name)
            .map_err(|e| self.error("link", path, e))?;
        self.made.push((path.to_owned(), false));
        Ok(())
    }

    /// Leaves what was written where it is.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }

    /// Returns a directory below, by its path from the top; the top itself for an empty path.
    /// Directories that are open already are not walked again: paths come sorted.
    fn enter(&mut self, path: &str, make: bool) -> Result<&OwnedFd, RecordError> {
        while let Some((last, _)) = self.open.last()
            && path != last
            && !path.strip_prefix(last.as_str()).is_some_and(|rest| rest.starts_with('/'))
        {
            self.open.pop();
        }
        let from = self.open.last().map_or(0, |(last, _)| last.len());
        let ends = path.char_indices().filter(|&(at, c)| c == '/' && at > from).map(|(at, _)| at);
        let ends: Vec<usize> = ends.chain((path.len() > from).then_some(path.len())).collect();
        for end in ends {
            let dir = &path[..end];
            let name = dir.rsplit_once('/').map_or(dir, |(_, name)| name);
            let above = self.open.last().map_or(&self.fd, |(_, fd)| fd);
            if make {
                match mkdirat(above, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) => self.made.push((dir.to_owned(), true)),
                    Err(Errno::EEXIST) => {}
                    Err(e) => return Err(self.error("make the directory", dir, e)),
                }
            }
            let above = self.open.last().map_or(&self.fd, |(_, fd)| fd);
            let fd = open_dir(above, name).map_err(|e| self.error("open", dir, e))?;
            self.open.push((dir.to_owned(), fd));
        }
        Ok(self.open.last().map_or(&self.fd, |(_, fd)| fd))
    }

    fn error(&self, attempted: &'static str, path: &str, error: Errno) -> RecordError {
        RecordError::Write { attempted, path: self.path.join(path), source: error.into() }
    }
}

/// Removes what was written, as far as it can be: the first failure has been reported already.
impl Drop for Target {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        while let Some((path, is_dir)) = self.made.pop() {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let flags = if is_dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
            if let Ok(dir) = self.enter(dir, false) {
                let _ = unlinkat(dir, name, flags);
            }
        }
        if self.is_ours {
            let _ = unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir);
        }
    }
}

fn open_dir<P: ?Sized + nix::NixPath>(at: impl AsFd, path: &P) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
