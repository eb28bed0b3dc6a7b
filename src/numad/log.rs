//! numad's log: the same lines in the same file, for those who read it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use placer_engine::SysRoot;

use crate::settings::variables;

/// syslog's levels, of which numad uses these.
pub(super) const CRITICAL: i32 = 2;
pub(super) const WARNING: i32 = 4;
pub(super) const NOTICE: i32 = 5;
pub(super) const DEBUG: i32 = 7;

pub const FILE: &str = "/var/log/numad.log";

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
    /// Opens the log. Lines above `level` are dropped.
    ///
    /// numad follows links, makes a file that others may write, and falls back to stderr for
    /// everybody's every question. Here the file has to be an ordinary one of the caller's own,
    /// and stderr is used only if more than the default level was asked for. A recorded machine
    /// leaves the log of this one alone. `PLACER_NUMAD_LOG` names another file. `stderr` writes a line there.
    pub fn open(root: &SysRoot, level: i32, stderr: fn(&str)) -> Self {
        let other = variables::value("PLACER_NUMAD_LOG");
        let path = match other {
            Some(path) => Some(PathBuf::from(path)),
            None if root.is_live() => Some(PathBuf::from(FILE)),
            None => None,
        };
        let to = match path.and_then(|path| open(&path)) {
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

/// Opens a log file of the caller's own for appending. `None` if it belongs to another user, is not
/// a regular file, has a second name (a hard link into a place that the caller did not mean), or
/// cannot be opened.
pub fn open(path: &Path) -> Option<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits())
        .open(path)
        .ok()?;
    let meta = file.metadata().ok()?;
    let ours = meta.uid() == nix::unistd::geteuid().as_raw() && meta.nlink() == 1;
    (meta.is_file() && ours).then_some(file)
}
