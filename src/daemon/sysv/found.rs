//! By what clients find the daemon: numad's pid file, which exists only while every queue that a client on
//! this host can ask on is served.
//!
//! A real client that finds the file waits for an answer without limit, on the queue of its own version.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use placer_engine::policy::numad::Version;

use super::lives;
use crate::numad::queue::pid_file::{PidFile, Taken};

/// The pid file, and what decides whether it exists. All of it changes under one lock, so that a queue that is
/// lost while the file is being written takes the file away.
#[derive(Debug)]
pub(super) struct Found {
    path: &'static Path,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    needed: BTreeSet<Version>,
    served: BTreeSet<Version>,
    phase: Phase,
    file: Option<PidFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The queues are being opened.
    Starting,
    Running,
    Ended,
}

impl Found {
    /// Returns a pid file that does not exist yet, and exists only while the queues of the versions `needed` are served.
    pub(super) fn new(path: &'static Path, needed: BTreeSet<Version>) -> Self {
        let state = State { needed, served: BTreeSet::new(), phase: Phase::Starting, file: None };
        Self { path, state: Mutex::new(state) }
    }

    /// Returns whether clients of that version can be on this host.
    pub(super) fn needs(&self, version: Version) -> bool {
        self.lock().needed.contains(&version)
    }

    /// Writes the file, if all queues that it needs are served by now.
    ///
    /// Errors: a numad lives; the file cannot be written.
    pub(super) fn begin(&self) -> Result<(), String> {
        let mut state = self.lock();
        state.phase = Phase::Running;
        self.settle(&mut state)
    }

    /// Changes which queues the file needs.
    ///
    /// Errors: as [`Found::begin`].
    pub(super) fn need(&self, needed: BTreeSet<Version>) -> Result<(), String> {
        let mut state = self.lock();
        state.needed = needed;
        self.settle(&mut state)
    }

    /// Notes that the queue of a version is served from now on, or no longer.
    ///
    /// Errors: as [`Found::begin`].
    pub(super) fn set_served(&self, version: Version, served: bool) -> Result<(), String> {
        let mut state = self.lock();
        if served {
            state.served.insert(version);
        } else {
            state.served.remove(&version);
        }
        self.settle(&mut state)
    }

    /// Tries again to write a file that could not be written. The error was reported when that happened.
    pub(super) fn retry(&self) {
        let _ = self.settle(&mut self.lock());
    }

    /// Removes the file for good.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        state.file = None;
    }

    fn settle(&self, state: &mut State) -> Result<(), String> {
        if state.phase != Phase::Running || !state.served.is_superset(&state.needed) {
            state.file = None;
        } else if state.file.is_none() {
            let file = PidFile::take(self.path).map_err(|taken| match taken {
                Taken::By(process) => lives(process.pid),
                Taken::Io(error) => format!("cannot write {}: {error}", self.path.display()),
            })?;
            state.file = Some(file);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Version::{V2015, V2025};

    /// Returns a file in a directory that lives as long as the test.
    fn found(needed: &[Version]) -> (tempfile::TempDir, Found) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("numad.pid").into_boxed_path();
        let found = Found::new(Box::leak(path), needed.iter().copied().collect());
        (dir, found)
    }

    #[test]
    fn a_queue_that_is_lost_before_the_file_is_written_leaves_no_file() {
        let (_dir, found) = found(&[V2015, V2025]);
        let set = |version, served| found.set_served(version, served).expect("settled");
        set(V2015, true);
        set(V2025, true);
        assert!(!found.path.exists(), "the queues are being opened");
        set(V2025, false);
        found.begin().expect("settled");
        assert!(!found.path.exists(), "one queue is not served");
        set(V2025, true);
        assert!(found.path.exists());
        set(V2015, false);
        assert!(!found.path.exists());
    }

    #[test]
    fn a_version_that_the_host_does_not_have_decides_nothing() {
        let (_dir, found) = found(&[V2015]);
        found.set_served(V2015, true).expect("settled");
        found.begin().expect("settled");
        assert!(found.path.exists() && found.needs(V2015) && !found.needs(V2025));
        found.need([V2025].into()).expect("settled");
        assert!(!found.path.exists(), "the settings name the other version now");
        found.set_served(V2025, true).expect("settled");
        assert!(found.path.exists());
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let (dir, found) = found(&[V2015]);
        found.set_served(V2015, true).expect("settled");
        std::fs::remove_dir(dir.path()).expect("removed");
        assert!(found.begin().is_err());
        found.retry();
        std::fs::create_dir(dir.path()).expect("made");
        assert!(!found.path.exists());
        found.retry();
        assert!(found.path.exists());
    }

    #[test]
    fn nothing_is_written_after_the_end() {
        let (_dir, found) = found(&[V2015]);
        found.begin().expect("settled");
        found.end();
        found.set_served(V2015, true).expect("settled");
        assert!(!found.path.exists());
    }
}
