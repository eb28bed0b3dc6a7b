//! numad's pid file, by which its clients find a daemon ([where it is](crate::numad::queue::places)).
//!
//! A real client takes any process with the number in it for the daemon, and waits for it for ever. So the
//! file exists only while a daemon answers.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};

use super::process::{Process, user_of};
use crate::atomic_file::temporary_name;

/// The file while it is ours. Removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// Device and number of the file that was written.
    written: (u64, u64),
}

/// Why the file cannot be ours.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A numad that lives has it.
    By(Process),
    Io(io::Error),
}

impl PidFile {
    /// Writes the file, unless a numad that lives has one. One that is left over is replaced.
    ///
    /// Errors: a numad lives; the file cannot be written.
    pub(crate) fn take(path: &Path) -> Result<Self, Taken> {
        let new = path.with_file_name(temporary_name(path.file_name().unwrap_or_default()));
        let written = write(&new, std::process::id()).map_err(Taken::Io)?;
        let result = put(&new, path);
        let _ = std::fs::remove_file(&new);
        result.map(|()| Self { path: path.to_owned(), written })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else's by now, perhaps, and that may have been given the number of ours.
        let Ok(file) = open(&self.path) else { return };
        let ours = identity(&file).ok() == Some(self.written);
        if ours && head(&file) == text(std::process::id()).as_bytes() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns the numad that the file names, if it lives.
///
/// numad itself takes any process that has the number. Here it has to be a numad that root or this user has
/// started, and the file has to be theirs: any user can make one in `/tmp`.
pub(crate) fn daemon(path: &Path) -> Option<Process> {
    let file = open(path).ok()?;
    let trusted = |user: u32| user == 0 || user == nix::unistd::geteuid().as_raw();
    let meta = file.metadata().ok()?;
    if !meta.is_file() || !trusted(meta.uid()) {
        return None;
    }
    let process = Process::look(number(&head(&file))?)?;
    (trusted(user_of(process.pid)?) && process.is_numad()).then_some(process)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    File::options().read(true).custom_flags(flags.bits()).open(path)
}

fn head(file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = file.take(32).read_to_end(&mut bytes);
    bytes
}

fn number(text: &[u8]) -> Option<i32> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok().filter(|&pid| pid > 0)
}

fn write(path: &Path, pid: u32) -> io::Result<(u64, u64)> {
    let mut file = File::options().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text(pid).as_bytes())?;
    identity(&file)
}

fn text(pid: u32) -> String {
    format!("{pid}\n")
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

/// Puts the new file in its place. A numad that starts at the same moment is not overwritten: what
/// was in the place is looked at when it is ours, and put back if it is a living one's.
fn put(new: &Path, path: &Path) -> Result<(), Taken> {
    // A few others may come and go in between.
    for _ in 0..16 {
        match std::fs::hard_link(new, path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Taken::Io(error)),
        }
        if let Some(process) = daemon(path) {
            return Err(Taken::By(process));
        }
        let exchange = || renameat2(AT_FDCWD, new, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE);
        match exchange() {
            Ok(()) => {}
            Err(nix::errno::Errno::ENOENT) => continue,
            Err(error) => return Err(Taken::Io(error.into())),
        }
        let Some(process) = daemon(new) else { return Ok(()) };
        exchange().map_err(|error| Taken::Io(error.into()))?;
        return Err(Taken::By(process));
    }
    Err(Taken::Io(ErrorKind::AlreadyExists.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    #[test]
    fn the_file_is_there_as_long_as_it_is_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("numad.pid");
        let ours = Some(format!("{}\n", std::process::id()));
        // None, and what is left over: of a process that is gone, of one that is no numad, garbage.
        for before in [None, Some("4194305\n"), Some("1\n"), Some(""), Some("hello"), Some("-3")] {
            if let Some(text) = before {
                std::fs::write(&path, text).expect("written");
            }
            let file = PidFile::take(&path).expect("ours");
            assert_eq!(content(&path), ours, "{before:?}");
            drop(file);
            assert_eq!(content(&path), None);
        }
        let entries = std::fs::read_dir(dir.path()).expect("a directory").count();
        assert_eq!(entries, 0, "nothing is left beside it");
    }

    #[test]
    fn what_others_have_put_in_its_place_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("numad.pid");
        let file = PidFile::take(&path).expect("ours");
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "77\n").expect("written");
        drop(file);
        assert_eq!(content(&path).as_deref(), Some("77\n"));
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("numad.pid"), dir.path().join("other"));
        std::fs::write(&other, "precious").expect("written");
        std::os::unix::fs::symlink(&other, &path).expect("linked");
        let file = PidFile::take(&path).expect("ours");
        assert_eq!(content(&other).as_deref(), Some("precious"));
        drop(file);
        assert_eq!(content(&path), None);
    }

    #[test]
    fn its_temporary_name_cannot_be_taken_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("numad.pid");
        // The name that earlier versions used, removing what they found there.
        let planted = dir.path().join(format!("numad.pid.{}", std::process::id()));
        std::fs::create_dir(&planted).expect("made");
        let file = PidFile::take(&path).expect("ours");
        drop(file);
        assert!(planted.exists());
    }

    #[test]
    fn numbers_as_they_stand_in_the_file() {
        for (text, found) in [
            ("77\n", Some(77)),
            ("77", Some(77)),
            ("", None),
            ("hello", None),
            ("-7", None),
            ("0", None),
            ("99999999999", None),
        ] {
            assert_eq!(number(text.as_bytes()), found, "{text}");
        }
    }
}
