//! numad's log: the same lines in the same file.

use std::fs::File;
use std::io::{ErrorKind, Write};
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
    /// Kept for the caller, which writes them to another log.
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

/// Opens a log file of the caller's own for appending. `None` if it belongs to another user, is not a regular
/// file, has a second name (a hard link to a file elsewhere), or cannot be opened.
///
/// The version of 2025 gives its log mode 0660 whatever the umask. Here a log that exists loses rights of
/// others by that and never gains any.
pub fn open(path: &Path, version: Version) -> Option<File> {
    let mode = match version {
        Version::V2015 => 0o640,
        Version::V2025 => 0o660,
    };
    let mut options = File::options();
    options.append(true).mode(mode).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let (file, is_new) = match options.clone().create_new(true).open(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => (options.open(path).ok()?, false),
        Err(_) => return None,
    };
    let meta = file.metadata().ok()?;
    let ours = meta.uid() == nix::unistd::geteuid().as_raw() && meta.nlink() == 1;
    if !(meta.is_file() && ours) {
        return None;
    }
    let found = meta.mode() & 0o7777;
    let wanted = if is_new { mode } else { found & mode };
    // A log that keeps its mode is still a log.
    if version == Version::V2025 && found != wanted {
        let _ = file.set_permissions(PermissionsExt::from_mode(wanted));
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_log_of_2025_has_mode_0660_and_an_existing_one_never_gains_rights() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("numad.log");
        let set = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode));
        let opened = |version| {
            assert!(open(&path, version).is_some());
            std::fs::metadata(&path).expect("a log").mode() & 0o7777
        };
        assert_eq!(opened(Version::V2025), 0o660, "a new one, whatever the umask");
        for (before, after) in
            [(0o600, 0o600), (0o640, 0o640), (0o666, 0o660), (0o4755, 0o640), (0o664, 0o660)]
        {
            set(before).expect("set");
            assert_eq!(opened(Version::V2025), after, "{before:o}");
            set(before).expect("set");
            assert_eq!(opened(Version::V2015), before, "that of 2015 leaves it as it is");
        }
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
