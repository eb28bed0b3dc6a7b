//! numad's log: the same lines in the same file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use placer_engine::SysRoot;
use placer_engine::policy::numad::Version;

use super::queue::places::Places;

use crate::settings::variables;

/// syslog's levels, of which numad uses these.
pub(super) const CRITICAL: i32 = 2;
pub(super) const WARNING: i32 = 4;
pub(super) const NOTICE: i32 = 5;
pub(super) const DEBUG: i32 = 7;

/// Where lines go.
#[derive(Debug)]
pub struct Log {
    level: i32,
    to: Target,
}

#[derive(Debug)]
enum Target {
    File(File),
    /// Written at once, as numad does.
    Stderr(fn(&str)),
    Nowhere,
    /// Whoever asked writes them, in his own log.
    Kept(Vec<(i32, String)>),
}

impl Log {
    /// Opens the log of a version. Lines above `level` are dropped.
    ///
    /// numad follows links, and without a log it writes to stderr for each question. Here the file has to be a
    /// regular one of the caller's own, and stderr is used only if more than the default level was asked for.
    /// A recorded machine leaves the log of this one alone. `PLACER_NUMAD_LOG` names another file. `stderr`
    /// writes a line there.
    pub fn open(root: &SysRoot, version: Version, level: i32, stderr: fn(&str)) -> Self {
        let other = variables::value("PLACER_NUMAD_LOG");
        let path = match other {
            Some(path) => Some(PathBuf::from(path)),
            None if root.is_live() => Some(Places::of(version).log.to_owned()),
            None => None,
        };
        let to = match path.and_then(|path| open(&path, version)) {
            Some(file) => Target::File(file),
            None if level > NOTICE => Target::Stderr(stderr),
            None => Target::Nowhere,
        };
        Self { level, to }
    }

    /// Keeps the lines for whoever asked.
    pub(crate) fn kept(level: i32) -> Self {
        Self { level, to: Target::Kept(Vec::new()) }
    }

    /// Returns the lines that were kept, with their levels.
    pub(crate) fn into_kept(self) -> Vec<(i32, String)> {
        match self.to {
            Target::Kept(lines) => lines,
            _ => Vec::new(),
        }
    }

    /// Writes one line with the local time before it, as numad does.
    pub(crate) fn write(&mut self, level: i32, text: &str) {
        if level > self.level {
            return;
        }
        let stamp = || chrono::Local::now().format("%a %b %e %H:%M:%S %Y");
        match &mut self.to {
            Target::File(file) => {
                // One write a line, so that lines of several processes do not mix. A full disk
                // must not cost the answer.
                let _ = file.write_all(format!("{}: {text}\n", stamp()).as_bytes());
            }
            Target::Stderr(line) => line(&format!("{}: {text}", stamp())),
            Target::Kept(lines) => lines.push((level, text.to_owned())),
            Target::Nowhere => {}
        }
    }
}

/// Opens a log file of the caller's own for appending, with mode 0660 for the version of 2025. `None` if it
/// belongs to another user, is not a regular file, has a second name (a hard link to a file elsewhere), or
/// cannot be opened.
pub fn open(path: &Path, version: Version) -> Option<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mode = match version {
        Version::V2015 => 0o640,
        Version::V2025 => 0o660,
    };
    let file = File::options()
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(flags.bits())
        .open(path)
        .ok()?;
    let meta = file.metadata().ok()?;
    let ours = meta.uid() == nix::unistd::geteuid().as_raw() && meta.nlink() == 1;
    if !(meta.is_file() && ours) {
        return None;
    }
    // Whatever the mode and the umask were. A log that keeps its mode is still a log.
    if version == Version::V2025 && meta.mode() & 0o777 != mode {
        let _ = file.set_permissions(PermissionsExt::from_mode(mode));
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_2025_gives_its_log_mode_0660() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("numad.log");
        let mode = || std::fs::metadata(&path).expect("a log").mode() & 0o777;
        for before in [None, Some(0o600), Some(0o666)] {
            if let Some(before) = before {
                std::fs::set_permissions(&path, PermissionsExt::from_mode(before)).expect("set");
            }
            assert!(open(&path, Version::V2025).is_some());
            assert_eq!(mode(), 0o660, "{before:?}");
        }
        // That of 2015 leaves it as it is.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("set");
        assert!(open(&path, Version::V2015).is_some());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_log_that_is_planted_is_neither_followed_nor_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("numad.log"), dir.path().join("other"));
        let planted = |plant: &dyn Fn()| {
            std::fs::write(&other, "precious").expect("written");
            std::fs::set_permissions(&other, PermissionsExt::from_mode(0o604)).expect("set");
            plant();
            assert!(open(&path, Version::V2025).is_none());
            let meta = std::fs::metadata(&other).expect("there");
            assert_eq!((meta.len(), meta.mode() & 0o777), (8, 0o604));
            std::fs::remove_file(&path).expect("removed");
        };
        planted(&|| std::os::unix::fs::symlink(&other, &path).expect("linked"));
        planted(&|| std::os::unix::fs::symlink("/nowhere/at/all", &path).expect("linked"));
        planted(&|| std::fs::hard_link(&other, &path).expect("linked"));
        planted(&|| {
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o666))
                .expect("made");
        });
        if nix::unistd::geteuid().is_root() {
            planted(&|| {
                std::fs::write(&path, "").expect("written");
                std::os::unix::fs::chown(&path, Some(1000), Some(1000)).expect("given");
            });
        }
    }
}
