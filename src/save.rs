//! Writes a file that was asked for: whole or not at all.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::output;

/// Why a file was not written.
#[derive(Debug)]
pub(crate) enum SaveError {
    /// Something is in its place that is no file.
    Surprise {
        /// The place.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// It could not be written.
    Io {
        /// The place.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Surprise { path, found } => write!(
                f,
                "{}: expected a file or nothing there, found {found}; nothing is written (- is \
                 standard output)",
                path.display()
            ),
            Self::Io { path, .. } => write!(f, "cannot write {}", path.display()),
        }
    }
}

impl std::error::Error for SaveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Surprise { .. } => None,
            Self::Io { source, .. } => Some(source),
        }
    }
}

/// Writes a text to a file, in one step: who reads it sees the old text or the new one. `-` is
/// standard output.
///
/// Errors: a link, device, pipe or directory is in its place; what the file system says. What was
/// there stays then.
pub(crate) fn save(path: &Path, text: &[u8]) -> Result<(), SaveError> {
    let failed = |source| SaveError::Io { path: path.to_owned(), source };
    if path == Path::new("-") {
        return output::answer(text).map_err(failed);
    }
    let surprise = |found| SaveError::Surprise { path: path.to_owned(), found };
    let mut mode = None;
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() => mode = Some(there.permissions()),
        Ok(there) => return Err(surprise(kind(there.file_type()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let Some(name) = path.file_name() else { return Err(surprise("no name of a file")) };
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(beside);
    let write = |mut file: File| {
        file.write_all(text)?;
        mode.map_or(Ok(()), |mode| file.set_permissions(mode))?;
        fs::rename(&beside, path)
    };
    let file = OpenOptions::new().write(true).create_new(true).open(&beside).map_err(failed)?;
    write(file).map_err(|error| {
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}

fn kind(kind: fs::FileType) -> &'static str {
    if kind.is_symlink() {
        "a link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "a socket"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("host.svg");
        save(&path, b"one").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let old = File::open(&path).expect("there");
        save(&path, b"two").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        assert_eq!(io::read_to_string(old).expect("read"), "one");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn nothing_is_written_through_what_is_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "kept").expect("written");
        symlink(&target, &link).expect("made");
        let said = |path: &Path| save(path, b"x").expect_err("refused").to_string();
        let refused = |path: &Path, found: &str| {
            let wanted = format!(
                "{}: expected a file or nothing there, found {found}; nothing is written (- is \
                 standard output)",
                path.display()
            );
            assert_eq!(said(path), wanted);
        };
        refused(&link, "a link");
        refused(dir.path(), "a directory");
        refused(Path::new("/dev/null"), "a device");
        assert_eq!(fs::read_to_string(&target).expect("read"), "kept");
        let absent = dir.path().join("no/host.svg");
        assert_eq!(said(&absent), format!("cannot write {}", absent.display()));
    }
}
