//! Reads the host at a question, in the thread that asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::charges::Charges;
use crate::error::SourceError;
use crate::sample::CpuTimes;
use crate::snapshot::Snapshot;
use crate::source::{SnapshotReader, SysRoot, live_clock};
use crate::store::SavedLoad;
use crate::units::Bytes;

/// Reads a host again and again, with CPU counters of earlier questions to measure the load from.
pub(super) struct QuestionReader {
    host: SnapshotReader,
    /// The time that is waited where no earlier counters serve.
    window: Duration,
    saved: SavedLoad,
    newest: Arc<Snapshot>,
    taken: Instant,
}

impl QuestionReader {
    /// Opens a host and reads it once, without waiting.
    ///
    /// Errors: as [`SnapshotReader::open`].
    pub(super) fn open(root: &SysRoot, window: Duration) -> Result<Self, SourceError> {
        let mut host = SnapshotReader::open(root, None)?.without_kept_files();
        let newest = host.take(None, Duration::ZERO)?;
        let mut saved = SavedLoad::default();
        if root.is_live() {
            saved.keep(&newest.sample().cpu);
        }
        Ok(Self { host, window, saved, newest: Arc::new(newest), taken: Instant::now() })
    }

    pub(super) fn newest(&self) -> &Arc<Snapshot> {
        &self.newest
    }

    pub(super) fn age(&self) -> Duration {
        self.taken.elapsed()
    }

    /// Returns counters that the load is measured from; none for a recorded host, which has its own. Waits for
    /// the window where no earlier ones serve.
    ///
    /// Errors: the host cannot be read.
    pub(super) fn since(&mut self) -> Result<Option<CpuTimes>, SourceError> {
        if !self.host.root().is_live() {
            return Ok(None);
        }
        let now = live_clock()?;
        if let Some(saved) = self.saved.usable(now) {
            return Ok(Some(saved.clone()));
        }
        // In a burst of questions the saved ones are too young, and those of the last question are not.
        let last = self.newest.before().filter(|last| SavedLoad::is_recent(last, now));
        if let Some(last) = last {
            return Ok(Some(last.clone()));
        }
        self.take(None, self.window, None)?;
        Ok(self.newest.before().cloned())
    }

    /// Reads the host as it is now. The load is that since the counters `since`.
    ///
    /// Errors: the host cannot be read.
    pub(super) fn read(
        &mut self,
        since: Option<CpuTimes>,
        pages: Option<Bytes>,
        charges: Charges,
    ) -> Result<Snapshot, SourceError> {
        self.take(since, Duration::ZERO, pages)?;
        Ok(Snapshot::clone(&self.newest).with_charges(charges))
    }

    fn take(
        &mut self,
        since: Option<CpuTimes>,
        window: Duration,
        pages: Option<Bytes>,
    ) -> Result<(), SourceError> {
        self.host.set_pages(pages);
        let snapshot = self.host.take(since, window)?;
        self.taken = Instant::now();
        if self.host.root().is_live() {
            self.saved.keep(&snapshot.sample().cpu);
        }
        self.newest = Arc::new(snapshot);
        Ok(())
    }
}
