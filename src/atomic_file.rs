//! Replaces a file in one step, safely in directories that other users can write to.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

/// Why a file was not written.
#[derive(Debug)]
pub enum ReplaceError {
    /// Something other than a regular file has this name.
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What was found.
        found: &'static str,
    },
    /// A system call failed.
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile { path, found } => write!(
                f,
                "cannot write {}: expected a regular file or no file, found {found}; name another \
                 file, or - for standard output",
                path.display()
            ),
            Self::Io { path, .. } => write!(f, "cannot write {}", path.display()),
        }
    }
}

impl std::error::Error for ReplaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotAFile { .. } => None,
            Self::Io { source, .. } => Some(source),
        }
    }
}

/// Creates a file with this content, or replaces it. A reader sees the old content or the new.
///
/// The new file belongs to the caller, with mode 0666 less the umask. A file of the caller's own
/// keeps its read and write bits when it is replaced; those of another user's file are ignored.
/// A symbolic link is not followed, and nothing is written if the name is not a regular file's.
///
/// Errors: the name belongs to a link, directory, pipe, device or socket; a system call failed.
/// The old file is unchanged then.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), ReplaceError> {
    name_of(path)?;
    let dir = open_parent(path);
    let dir =
        dir.map_err(|errno| ReplaceError::Io { path: path.to_owned(), source: errno.into() })?;
    replace_in(dir.as_fd(), path, content)
}

/// As [`replace`], in a directory that is open: the directory of `path` is not looked up again.
///
/// Errors: those of [`replace`].
pub fn replace_in(dir: BorrowedFd<'_>, path: &Path, content: &[u8]) -> Result<(), ReplaceError> {
    let failed = |errno: Errno| ReplaceError::Io { path: path.to_owned(), source: errno.into() };
    let not_a_file = |found| ReplaceError::NotAFile { path: path.to_owned(), found };
    let name = name_of(path)?;
    let mode = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => match file_type(&stat) {
            None => mode_to_keep(&stat),
            Some(found) => return Err(not_a_file(found)),
        },
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(failed(errno)),
    };
    let (temporary, file) =
        create_temporary(dir, name, mode.unwrap_or(DEFAULT_MODE)).map_err(failed)?;
    let write = |mut file: File| {
        file.write_all(content)?;
        // The umask has taken bits that the old file had.
        mode.map_or(Ok(()), |mode| fchmod(&file, mode))?;
        Ok(renameat(dir, temporary.as_os_str(), dir, name)?)
    };
    write(file).map_err(|source| {
        let _ = unlinkat(dir, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
        ReplaceError::Io { path: path.to_owned(), source }
    })
}

const DEFAULT_MODE: Mode = Mode::from_bits_truncate(0o666);

fn name_of(path: &Path) -> Result<&OsStr, ReplaceError> {
    let not_a_file = || ReplaceError::NotAFile { path: path.to_owned(), found: "a directory" };
    path.file_name().ok_or_else(not_a_file)
}

fn open_parent(path: &Path) -> nix::Result<OwnedFd> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, parent.unwrap_or(Path::new(".")), flags, Mode::empty())
}

/// Returns the mode that a new file takes from the one it replaces: read and write bits of a file
/// that the caller owns and that has no second name. Anybody may give a file of ours another name
/// in a directory of theirs, and so choose one with a mode they like.
fn mode_to_keep(stat: &FileStat) -> Option<Mode> {
    let ours = stat.st_uid == geteuid().as_raw() && stat.st_nlink == 1;
    ours.then(|| Mode::from_bits_truncate(stat.st_mode) & DEFAULT_MODE)
}

/// Returns what a name belongs to if that is not a regular file.
fn file_type(stat: &FileStat) -> Option<&'static str> {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => None,
        SFlag::S_IFLNK => Some("a symbolic link"),
        SFlag::S_IFDIR => Some("a directory"),
        SFlag::S_IFIFO => Some("a pipe"),
        SFlag::S_IFCHR | SFlag::S_IFBLK => Some("a device"),
        _ => Some("a socket"),
    }
}

/// Creates a hidden file with a random suffix in a directory, and opens it for writing.
///
/// Errors: those of `open`; EEXIST if several random names are taken.
fn create_temporary(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    mode: Mode,
) -> nix::Result<(OsString, File)> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut attempts = 0;
    loop {
        let temporary = temporary_name(name);
        match openat(dir, temporary.as_os_str(), flags, mode) {
            Ok(fd) => return Ok((temporary, File::from(fd))),
            Err(Errno::EEXIST) if attempts < 8 => attempts += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// Returns a name for a temporary file that other users cannot predict: `.NAME.` and 64 random
/// bits. A long name is cut, since a file name has at most 255 bytes.
pub fn temporary_name(name: &OsStr) -> OsString {
    let bytes = name.as_encoded_bytes();
    let name = std::str::from_utf8(bytes).ok().filter(|name| name.len() <= 200).unwrap_or("file");
    // The standard library keys each of these from the kernel's random numbers.
    let random = RandomState::new().build_hasher().finish();
    format!(".{name}.{random:016x}").into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use needs::needs;
    use nix::unistd::mkfifo;

    use super::*;

    const OTHER_USER: u32 = 4242;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
    }

    /// The mode of a file that is made in this directory without more ado.
    fn default_mode(dir: &Path) -> u32 {
        let path = dir.join("default");
        File::create(&path).expect("made");
        let mode = mode(&path);
        fs::remove_file(&path).expect("removed");
        mode
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_read_and_write_bits() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("host.svg");
        replace(&path, b"one").expect("written");
        assert_eq!(mode(&path), default_mode(dir.path()));
        let old = File::open(&path).expect("there");
        for (before, after) in [(0o640, 0o640), (0o600, 0o600), (0o6755, 0o644), (0o1777, 0o666)] {
            set_mode(&path, before);
            replace(&path, b"two").expect("written");
            assert_eq!(format!("{:o}", mode(&path)), format!("{after:o}"), "{before:o}");
        }
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(io::read_to_string(old).expect("read"), "one");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn the_mode_of_a_file_with_two_names_is_not_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, planted) = (dir.path().join("ours"), dir.path().join("host.svg"));
        fs::write(&ours, "kept").expect("written");
        set_mode(&ours, 0o4666);
        fs::hard_link(&ours, &planted).expect("linked");
        replace(&planted, b"x").expect("written");
        assert_eq!(mode(&planted), default_mode(dir.path()));
        assert_eq!(fs::read_to_string(&ours).expect("read"), "kept");
    }

    #[needs(root)]
    #[test]
    fn a_file_planted_by_another_user_gives_no_mode_to_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        set_mode(dir.path(), 0o1777);
        let path = dir.path().join("host.svg");
        for planted in [0o4777, 0o2777, 0o6777, 0o666, 0o777] {
            fs::write(&path, "planted").expect("written");
            chown(&path, Some(OTHER_USER), Some(OTHER_USER)).expect("given away");
            set_mode(&path, planted);
            replace(&path, b"ours").expect("written");
            assert_eq!(mode(&path), default_mode(dir.path()), "{planted:o}");
            assert_eq!(fs::metadata(&path).expect("there").uid(), 0);
            assert_eq!(fs::read(&path).expect("read"), b"ours");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn nothing_is_written_in_place_of_what_is_not_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let in_dir = |name: &str| dir.path().join(name);
        let (target, link, pipe) = (in_dir("target"), in_dir("link"), in_dir("pipe"));
        fs::write(&target, "kept").expect("written");
        symlink(&target, &link).expect("made");
        symlink(in_dir("absent"), in_dir("dangling")).expect("made");
        mkfifo(&pipe, Mode::S_IRWXU).expect("made");
        let refused = |path: &Path, found: &str| {
            let error = replace(path, b"x").expect_err("refused").to_string();
            let wanted = format!("expected a regular file or no file, found {found};");
            assert!(error.contains(&wanted), "{error}");
        };
        refused(&link, "a symbolic link");
        refused(&in_dir("dangling"), "a symbolic link");
        refused(&pipe, "a pipe");
        refused(dir.path(), "a directory");
        refused(Path::new("/"), "a directory");
        refused(&dir.path().join(".."), "a directory");
        refused(Path::new("/dev/null"), "a device");
        assert_eq!(fs::read_to_string(&target).expect("read"), "kept");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 4);
        let absent = in_dir("no/host.svg");
        let error = replace(&absent, b"x").expect_err("refused").to_string();
        assert_eq!(error, format!("cannot write {}", absent.display()));
    }

    #[test]
    fn temporary_names_differ_and_fit() {
        let (one, two) = (temporary_name("f".as_ref()), temporary_name("f".as_ref()));
        assert_ne!(one, two);
        assert!(one.to_string_lossy().starts_with(".f."), "{one:?}");
        let long = "x".repeat(255);
        assert!(temporary_name(long.as_ref()).len() <= 255);
        let dir = tempfile::tempdir().expect("a directory");
        replace(&dir.path().join(long), b"x").expect("written");
    }
}
