//! Snapshots, without threads.

use std::sync::Arc;
use std::time::Duration;

use super::{HostReader, Moment, SysRoot};
use crate::charges::Charges;
use crate::error::SourceError;
use crate::host::Host;
use crate::sample::{CpuTimes, Sample};
use crate::snapshot::Snapshot;
use crate::units::Bytes;

/// Longer windows than this are a mistake, not a measurement.
const LONGEST: Duration = Duration::from_secs(60);

impl Snapshot {
    /// Takes one snapshot of a host: reads the CPU counters, waits for `window`, reads them again
    /// and the memory. With a window of zero nothing is waited for and the load is unknown.
    ///
    /// A recorded machine has both readings in it: nothing is waited for. Windows end at a minute.
    /// Errors: as [`HostReader`]; nodes that leave meanwhile start the reading anew.
    pub fn take(root: &SysRoot, window: Duration) -> Result<Self, SourceError> {
        Self::options().window(window).take(root)
    }

    /// Returns options for a snapshot, to be taken with [`SnapshotOptions::take`].
    pub fn options() -> SnapshotOptions {
        SnapshotOptions::default()
    }
}

/// How a [`Snapshot`] is taken. By default its load is unknown and no huge pages are read.
///
/// ```no_run
/// use std::time::Duration;
/// use placer_engine::{Bytes, Snapshot, SysRoot};
/// let options = Snapshot::options().window(Duration::from_millis(100)).huge_pages(Bytes::new(2 << 20));
/// let snapshot = options.take(&SysRoot::live())?;
/// # Ok::<(), placer_engine::SourceError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a snapshot is taken with take()"]
pub struct SnapshotOptions {
    window: Duration,
    since: Option<CpuTimes>,
    pages: Option<Bytes>,
}

impl SnapshotOptions {
    /// Measures the load over this time: [`take`](Self::take) blocks for it.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Measures the load since these counters. Where they are of other CPUs the window is waited for.
    pub fn since(mut self, counters: CpuTimes) -> Self {
        self.since = Some(counters);
        self
    }

    /// Reads the huge pages of this size too.
    pub fn huge_pages(mut self, size: Bytes) -> Self {
        self.pages = Some(size);
        self
    }

    /// Takes the snapshot. Blocks as [`Snapshot::take`].
    ///
    /// Errors: as there.
    pub fn take(self, root: &SysRoot) -> Result<Snapshot, SourceError> {
        SnapshotReader::open(root, self.pages)?.take(self.since, self.window)
    }
}

/// Takes snapshots of one host, one after the other. How it is built is read once, and again when it
/// has changed.
#[derive(Debug)]
pub struct SnapshotReader {
    reader: HostReader,
    host: Arc<Host>,
    notes: Vec<String>,
    pages: Option<Bytes>,
}

impl SnapshotReader {
    /// Opens a host. Huge pages of the size `pages` are read with each snapshot.
    ///
    /// Errors: as [`HostReader`].
    pub fn open(root: &SysRoot, pages: Option<Bytes>) -> Result<Self, SourceError> {
        let reader = HostReader::open_whole(root)?;
        let host = Host::from_files(reader.files())?;
        Ok(Self { reader, host: Arc::new(host.value), notes: host.notes, pages })
    }

    /// Opens files anew at each reading, see [`HostReader::without_kept_files`].
    pub(crate) fn without_kept_files(mut self) -> Self {
        self.reader = self.reader.without_kept_files();
        self
    }

    /// Returns the root that is read.
    pub fn root(&self) -> &SysRoot {
        self.reader.root()
    }

    /// Sets the size of the huge pages that are read with each snapshot.
    pub(crate) fn set_pages(&mut self, pages: Option<Bytes>) {
        self.pages = pages;
    }

    /// Reads the memory again, once claims are known, and the CPU counters: a guest that started meanwhile
    /// takes its claimed CPUs back as it is seen to use them.
    ///
    /// Errors: as [`HostReader`].
    pub fn again(&mut self, earlier: &Snapshot, charges: Charges) -> Result<Snapshot, SourceError> {
        let now = self.take(earlier.before().cloned(), Duration::ZERO)?;
        Ok(now.with_charges(charges))
    }

    /// Takes a snapshot, with a load as [`SnapshotOptions::since`] measures it.
    ///
    /// Errors: as [`HostReader`].
    pub fn take(
        &mut self,
        saved: Option<CpuTimes>,
        window: Duration,
    ) -> Result<Snapshot, SourceError> {
        let (mut before, mut now) = two_samples(&mut self.reader, saved, window)?;
        if self.reader.has_changed()? {
            // Plugged while it was measured: once more, and whatever it is now is the answer.
            self.reader = self.reader.opened_anew()?;
            let host = Host::from_files(self.reader.files())?;
            (self.host, self.notes) = (Arc::new(host.value), host.notes);
            (before, now) = two_samples(&mut self.reader, None, window)?;
        }
        let notes = self.notes.iter().cloned();
        let snapshot = Snapshot::new(Arc::clone(&self.host), before, now).with_notes(notes);
        let Some(size) = self.pages else { return Ok(snapshot) };
        Ok(snapshot.with_huge_pages(self.reader.huge_pages(size)?))
    }
}

/// Reads the CPU counters twice and the memory once, at the end.
pub fn two_samples(
    reader: &mut HostReader,
    saved: Option<CpuTimes>,
    window: Duration,
) -> Result<(Option<CpuTimes>, Sample), SourceError> {
    let mut now = Sample::default();
    if !reader.root().is_live() {
        let mut before = CpuTimes::default();
        reader.set_moment(Moment::First);
        reader.cpu_times(&mut before)?;
        reader.set_moment(Moment::Second);
        reader.sample(&mut now)?;
        return Ok((reader.has_second_moment().then_some(before), now));
    }
    if let Some(saved) = saved {
        reader.sample(&mut now)?;
        if saved.same_cpus(&now.cpu) {
            return Ok((Some(saved), now));
        }
    }
    if window.is_zero() {
        reader.sample(&mut now)?;
        return Ok((None, now));
    }
    let mut before = CpuTimes::default();
    reader.cpu_times(&mut before)?;
    std::thread::sleep(window.min(LONGEST));
    reader.sample(&mut now)?;
    Ok((Some(before), now))
}
