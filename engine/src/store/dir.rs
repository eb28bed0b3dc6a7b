//! A directory that only its owner can have written.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

/// A directory for state between runs, kept open.
///
/// It is refused if it belongs to another user or others can write it, and nothing in it is
/// reached through links: on a host with strangers, what is read from it steers where guests run.
///
/// ```
/// use placer_engine::store::StateDir;
/// # let tmp = tempfile::tempdir()?;
/// # let path = tmp.path().join("placer");
/// let dir = StateDir::open(&path)?;
/// dir.replace("note", b"kept", 0o600)?;
/// assert_eq!(dir.read("note", 100)?.as_deref(), Some(&b"kept"[..]));
/// assert_eq!(dir.read("other", 100)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    fd: OwnedFd,
    /// The user that the directory and what is in it must belong to.
    owner: u32,
}

/// The beginning of a file.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) text: Vec<u8>,
    /// Whether there is no more of it.
    pub(crate) is_all: bool,
    /// Which file, in which state, that was.
    pub(crate) version: Version,
}

/// A file as it was when it was opened. It is kept open, so that no later file can be taken for it.
#[derive(Debug)]
pub(crate) struct Version {
    _file: File,
    state: State,
}

impl Version {
    /// The file as it is now; `None` where that is not known.
    pub(crate) fn of(file: File) -> Option<Self> {
        let state = state(&fstat(&file).ok()?);
        Some(Self { _file: file, state })
    }
}

/// Device, inode, size, and the times of change of content and of anything.
type State = (u64, u64, i64, [i64; 4]);

fn state(stat: &FileStat) -> State {
    let times = [stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec];
    (stat.st_dev, stat.st_ino, stat.st_size, times)
}

/// Why a state directory, or a file in it, cannot be used.
#[derive(Debug)]
pub struct StoreError {
    /// What was done: "open", "read", "write", ...
    attempted: &'static str,
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Io(io::Error),
    /// It belongs to the second user instead of the first.
    Owner(u32, u32),
    /// These are its mode bits, and others can write.
    Mode(u32),
    /// No directory, or no ordinary file.
    Kind,
    /// Larger than this limit, in bytes.
    Size(usize),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempted, path, cause } = self;
        write!(f, "cannot {attempted} {}", path.display())?;
        match cause {
            Cause::Io(_) => Ok(()),
            Cause::Owner(wanted, uid) => {
                write!(f, ": expected it to belong to user {wanted}, found user {uid}")
            }
            Cause::Mode(mode) => {
                write!(f, ": writable by group or others, mode {mode:04o}")
            }
            Cause::Kind => {
                write!(f, ": expected a directory of ordinary files, found something else")
            }
            Cause::Size(limit) => write!(f, ": expected at most {limit} bytes, found more"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl StateDir {
    /// Opens the directory; makes it, for its owner alone to write, when it is missing.
    ///
    /// Errors: it is a link, belongs to another user, others can write it, or cannot be made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let owner = geteuid().as_raw();
        if let Some(dir) = Self::open_of(path, owner)? {
            return Ok(dir);
        }
        let error = |cause| StoreError {
            attempted: "make the directory",
            path: path.to_owned(),
            cause: Cause::Io(cause),
        };
        match mkdirat(nix::fcntl::AT_FDCWD, path, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                let dir = Self::open_of(path, owner)?;
                let dir = dir.ok_or_else(|| error(nix::Error::ENOENT.into()))?;
                // Whatever the umask is: others are to read what root has promised.
                fchmod(&dir.fd, Mode::from_bits_truncate(0o755)).map_err(|e| error(e.into()))?;
                return Ok(dir);
            }
            Err(nix::Error::EEXIST) => {}
            Err(e) => return Err(error(e.into())),
        }
        Self::open_of(path, owner)?.ok_or_else(|| error(nix::Error::ENOENT.into()))
    }

    /// Opens a directory that a certain user keeps, this one or another. `None` when it is missing.
    ///
    /// Errors: it is a link, belongs to another user, or others can write it.
    pub fn open_of(path: &Path, owner: u32) -> Result<Option<Self>, StoreError> {
        let error = |attempted, cause| StoreError { attempted, path: path.to_owned(), cause };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match openat(nix::fcntl::AT_FDCWD, path, flags, Mode::empty()) {
            Err(nix::Error::ENOENT) => return Ok(None),
            // A link answers ELOOP or ENOTDIR, by kernel.
            Err(nix::Error::ELOOP | nix::Error::ENOTDIR) => return Err(error("open", Cause::Kind)),
            other => other.map_err(|e| error("open", Cause::Io(e.into())))?,
        };
        let file = File::from(fd);
        let meta = file.metadata().map_err(|e| error("open", Cause::Io(e)))?;
        if meta.uid() != owner {
            return Err(error("use", Cause::Owner(owner, meta.uid())));
        }
        if meta.mode() & 0o022 != 0 {
            return Err(error("use", Cause::Mode(meta.mode() & 0o7777)));
        }
        Ok(Some(Self { path: path.to_owned(), fd: file.into(), owner }))
    }

    /// Returns the open directory, for what is kept in it under a lock.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Returns where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file of at most `limit` bytes. `None` when it is not there.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self.read_part(name, limit)? {
            Some(part) if !part.is_all => Err(self.error("read", name, Cause::Size(limit))),
            part => Ok(part.map(|part| part.text)),
        }
    }

    /// Reads at most the first `limit` bytes of a file. `None` when it is not there.
    pub(crate) fn read_part(&self, name: &str, limit: usize) -> Result<Option<Part>, StoreError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = match openat(self.fd.as_fd(), name, flags, Mode::empty()) {
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(nix::Error::ELOOP) => return Err(self.error("read", name, Cause::Kind)),
            other => other.map_err(|e| self.error("read", name, Cause::Io(e.into())))?,
        };
        let mut file = File::from(fd);
        let io = |e| self.error("read", name, Cause::Io(e));
        let meta = file.metadata().map_err(io)?;
        let state = state(&fstat(&file).map_err(|e| io(e.into()))?);
        if !meta.is_file() {
            return Err(self.error("read", name, Cause::Kind));
        }
        if meta.uid() != self.owner {
            return Err(self.error("read", name, Cause::Owner(self.owner, meta.uid())));
        }
        // Room for all of it and the end, so that it is one read.
        let told = usize::try_from(meta.len()).unwrap_or(limit).min(limit);
        let mut text = Vec::with_capacity(told.saturating_add(1));
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        (&mut file).take(most).read_to_end(&mut text).map_err(io)?;
        let is_all = text.len() <= limit;
        text.truncate(limit);
        Ok(Some(Part { text, is_all, version: Version { _file: file, state } }))
    }

    /// Returns whether a name still leads to a file as it was; `None` where there was none.
    pub(crate) fn is_still(&self, name: &str, version: Option<&Version>) -> bool {
        match fstatat(self.fd.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => version.is_some_and(|version| version.state == state(&stat)),
            Err(error) => error == nix::Error::ENOENT && version.is_none(),
        }
    }

    /// Puts a file in place of the old one, whole or not at all: readers see one or the other.
    pub fn replace(&self, name: &str, text: &[u8], mode: u32) -> Result<(), StoreError> {
        // Unique within the directory: by process, and by call within the process.
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{}.{call}", std::process::id());
        let result = self.write(&temporary, text, mode).and_then(|()| {
            renameat(self.fd.as_fd(), temporary.as_str(), self.fd.as_fd(), name)
                .map_err(|e| self.error("rename onto", name, Cause::Io(e.into())))
        });
        if result.is_err() {
            // What cannot be removed either is overwritten by the next process of this number.
            let _ = unlinkat(self.fd.as_fd(), temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        result
    }

    fn write(&self, name: &str, text: &[u8], mode: u32) -> Result<(), StoreError> {
        let io = |e: io::Error| self.error("write", name, Cause::Io(e));
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let make = || openat(self.fd.as_fd(), name, flags, Mode::from_bits_truncate(mode));
        let fd = match make() {
            // Left by a process of the same number that was killed while it wrote.
            Err(nix::Error::EEXIST) => {
                unlinkat(self.fd.as_fd(), name, UnlinkatFlags::NoRemoveDir)
                    .map_err(|e| io(e.into()))?;
                make().map_err(|e| io(e.into()))?
            }
            other => other.map_err(|e| io(e.into()))?,
        };
        // Whatever the umask is.
        fchmod(&fd, Mode::from_bits_truncate(mode)).map_err(|e| io(e.into()))?;
        File::from(fd).write_all(text).map_err(io)
    }

    /// Returns whether a name exists in the directory, of whatever kind.
    pub fn contains(&self, name: &str) -> bool {
        fstatat(self.fd.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    fn error(&self, attempted: &'static str, name: &str, cause: Cause) -> StoreError {
        StoreError { attempted, path: self.path.join(name), cause }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn refused(path: &Path) -> String {
        StateDir::open(path).expect_err("a directory to refuse").to_string()
    }

    #[test]
    fn strangers_directories_are_refused() {
        let tmp = tempfile::tempdir().expect("a directory");
        let good = tmp.path().join("good");
        StateDir::open(&good).expect("made");
        assert_eq!(good.metadata().expect("there").permissions().mode() & 0o7022, 0);

        let link = tmp.path().join("link");
        symlink(&good, &link).expect("a link");
        assert!(refused(&link).contains("expected a directory"), "{}", refused(&link));

        let open = tmp.path().join("open");
        std::fs::create_dir(&open).expect("made");
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).expect("set");
        assert!(refused(&open).ends_with("mode 0777"), "{}", refused(&open));

        let file = tmp.path().join("file");
        std::fs::write(&file, "x").expect("written");
        assert!(refused(&file).contains("expected a directory"), "{}", refused(&file));
        assert!(refused(&tmp.path().join("no/such")).starts_with("cannot make the directory"));
        if !geteuid().is_root() {
            assert!(refused(Path::new("/")).contains("found user 0"));
        }
    }

    #[test]
    fn files_that_are_links_or_pipes_or_too_large_are_refused() {
        let tmp = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(&tmp.path().join("d")).expect("made");
        symlink("/etc/passwd", dir.path().join("link")).expect("a link");
        assert!(dir.read("link", 1 << 20).is_err());
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).expect("a pipe");
        assert!(dir.read("pipe", 1 << 20).is_err());
        dir.replace("large", &[0; 101], 0o600).expect("written");
        let error = dir.read("large", 100).expect_err("too large").to_string();
        assert!(error.ends_with("expected at most 100 bytes, found more"), "{error}");
    }

    #[test]
    fn what_is_replaced_is_whole_and_leaves_nothing_behind() {
        let tmp = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(&tmp.path().join("d")).expect("made");
        dir.replace("f", b"one", 0o644).expect("written");
        dir.replace("f", b"two", 0o644).expect("written");
        assert_eq!(dir.read("f", 9).expect("read").as_deref(), Some(&b"two"[..]));
        // A directory in its place cannot be replaced, and the temporary file is gone.
        std::fs::create_dir(dir.path().join("taken")).expect("made");
        assert!(dir.replace("taken", b"x", 0o644).is_err());
        let names = std::fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(names, 2);
        assert!(dir.contains("f") && !dir.contains("g"));
    }
}
