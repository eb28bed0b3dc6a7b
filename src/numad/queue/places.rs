//! Where a version of numad keeps its log and its pid file.

use std::path::Path;

use nix::unistd::{getgid, getuid};
use placer_engine::policy::numad::Version;

use super::pid_file;

/// The files of this process's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub log: &'static Path,
    pub pid_file: &'static Path,
}

impl Places {
    /// Returns where a version run by this process has its files.
    ///
    /// The version of 2025 puts those of an ordinary user into `/tmp`, unless root's daemon runs; a user whose
    /// group is root's counts as root.
    pub fn of(version: Version) -> Self {
        let ordinary = !getuid().is_root() && getgid().as_raw() != 0;
        let own = version == Version::V2025 && ordinary;
        if own && pid_file::daemon(Self::host().pid_file).is_none() {
            Self { log: Path::new("/tmp/numad.log"), pid_file: Path::new("/tmp/numad.pid") }
        } else {
            Self::host()
        }
    }

    /// Returns where root's daemon has them, in both versions.
    pub fn host() -> Self {
        // numad writes /var/run, a link to /run.
        Self { log: Path::new("/var/log/numad.log"), pid_file: Path::new("/run/numad.pid") }
    }
}
