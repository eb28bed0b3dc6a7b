//! Takes snapshots, with the help of the CPU counters saved by the last run.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::geteuid;
use placer_engine::source::{SnapshotReader, live_clock, live_clock_id};
use placer_engine::store::{SavedLoad, StateDir, StoreError};
use placer_engine::{CpuTimes, Snapshot, SourceError, SysRoot};

use super::notes::{Impact, Notes};
use crate::error_chain::chain;
use crate::settings::variables;

/// The saved counters of the live host, and where they lie.
pub(crate) struct Saved {
    dir: StateDir,
    clock: String,
    load: SavedLoad,
}

/// Returns where state is kept between runs: root's place, or the user's own, if there is one.
pub fn state_dir() -> Option<PathBuf> {
    if let Some(dir) = variables::value("PLACER_STATE_DIR") {
        return Some(PathBuf::from(dir));
    }
    if geteuid().is_root() {
        // Root never goes by XDG_RUNTIME_DIR: it may be another user's.
        return Some(PathBuf::from("/run/placer"));
    }
    variables::value("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("placer"))
}

impl Saved {
    /// Opens what was saved. A recorded machine has nothing to do with it. Where it cannot be used
    /// one line says so, and the load is measured anew each time.
    pub(crate) fn open(root: &SysRoot, notes: &mut Notes) -> Option<Self> {
        if !root.is_live() {
            return None;
        }
        let open = || -> Result<Option<Self>, StoreError> {
            let Some(path) = state_dir() else { return Ok(None) };
            let dir = StateDir::open(&path)?;
            let Ok(clock) = live_clock_id() else { return Ok(None) };
            // Whatever lies in its place in our own directory is as good as none, and is replaced.
            let load = SavedLoad::read(&dir, &clock).unwrap_or_default();
            Ok(Some(Self { dir, clock, load }))
        };
        open().unwrap_or_else(|error| {
            let why = chain(&error);
            notes.state(Impact::Slower, format!("the CPU load is measured anew: {why}"));
            None
        })
    }

    /// Returns the saved counters that tell the load of now.
    pub(crate) fn usable(&self) -> Option<CpuTimes> {
        self.load.usable(live_clock().ok()?).cloned()
    }

    /// Saves new counters for the next run, oldest first.
    pub(crate) fn keep<'a>(
        &mut self,
        counters: impl IntoIterator<Item = &'a CpuTimes>,
        notes: &mut Notes,
    ) {
        let mut changed = false;
        for one in counters {
            changed |= self.load.keep(one);
        }
        if changed && let Err(error) = self.load.write(&self.dir, &self.clock) {
            let why = chain(&error);
            notes.state(Impact::Slower, format!("the CPU counters are not saved: {why}"));
        }
    }
}

/// How CPU load is measured.
#[derive(Clone, Copy, Debug)]
pub enum Window {
    /// Since the saved counters if they serve, else over this time.
    Recent(Duration),
    /// Over this time, also where counters are saved.
    Now(Duration),
}

/// Takes a snapshot.
pub fn snapshot(
    host: &mut SnapshotReader,
    window: Window,
    notes: &mut Notes,
) -> Result<Snapshot, SourceError> {
    let mut saved = Saved::open(host.root(), notes);
    let (earlier, window) = match window {
        Window::Recent(window) => (saved.as_ref().and_then(Saved::usable), window),
        Window::Now(window) => (None, window),
    };
    let measured = earlier.is_none();
    let snapshot = host.take(earlier, window)?;
    if let Some(saved) = &mut saved {
        // Where both were read now, the first serves the next question sooner.
        let first = snapshot.before().filter(|_| measured);
        saved.keep(first.into_iter().chain([&snapshot.sample().cpu]), notes);
    }
    Ok(snapshot)
}
