//! Takes snapshots, with the help of the CPU counters saved by the last run.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::geteuid;
use placer_engine::source::{live_clock, live_clock_id};
use placer_engine::store::{SavedLoad, StateDir, StoreError};
use placer_engine::{Bytes, CpuTimes, Snapshot, SourceError, SysRoot};

use crate::{output, variables};

/// The saved counters of the live host, and where they lie.
pub(crate) struct Saved {
    dir: StateDir,
    clock: String,
    load: SavedLoad,
}

/// Returns where state is kept between runs: root's place, or the user's own, if there is one.
pub(crate) fn state_dir() -> Option<PathBuf> {
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
    pub(crate) fn open(root: &SysRoot) -> Option<Self> {
        if !root.is_live() {
            return None;
        }
        let open = || -> Result<Option<Self>, StoreError> {
            let Some(path) = state_dir() else { return Ok(None) };
            let dir = StateDir::open(&path)?;
            let Ok(clock) = live_clock_id() else { return Ok(None) };
            let load = SavedLoad::read(&dir, &clock)?;
            Ok(Some(Self { dir, clock, load }))
        };
        open().unwrap_or_else(|error| {
            output::warn(&format!("the CPU load is measured anew: {}", output::chain(&error)));
            None
        })
    }

    /// Returns the saved counters that tell the load of now, over at least `window`.
    pub(crate) fn usable(&self, window: Duration) -> Option<CpuTimes> {
        let now = live_clock().ok()?;
        let saved = self.load.usable(now)?;
        let age = Duration::from_nanos(now.since(saved.at())?);
        (age >= window).then(|| saved.clone())
    }

    /// Saves new counters for the next run.
    pub(crate) fn keep(&mut self, counters: &CpuTimes) {
        if self.load.keep(counters)
            && let Err(error) = self.load.write(&self.dir, &self.clock)
        {
            output::warn(&format!("the CPU counters are not saved: {}", output::chain(&error)));
        }
    }
}

/// Takes a snapshot: with the saved counters if they serve, else by waiting for `window`.
/// Reads the huge pages of a size beside, if asked to.
pub(crate) fn snapshot(
    root: &SysRoot,
    window: Duration,
    pages: Option<Bytes>,
) -> Result<Snapshot, SourceError> {
    let mut saved = Saved::open(root);
    let earlier = saved.as_ref().and_then(|saved| saved.usable(window));
    let snapshot = Snapshot::take_with(root, earlier, window, pages)?;
    if let Some(saved) = &mut saved {
        saved.keep(&snapshot.sample().cpu);
    }
    Ok(snapshot)
}
