//! Snapshots, without threads.

use std::sync::Arc;
use std::time::Duration;

use super::{HostReader, Moment, SysRoot};
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
        Self::take_since(root, None, window)
    }

    /// Takes a snapshot whose load is measured since counters that were saved earlier. Where they
    /// are of other CPUs, or there are none, `window` is waited for as in [`take`](Self::take).
    pub fn take_since(
        root: &SysRoot,
        saved: Option<CpuTimes>,
        window: Duration,
    ) -> Result<Self, SourceError> {
        Self::take_with(root, saved, window, None)
    }

    /// Takes a snapshot as [`take_since`](Self::take_since) does, and reads the huge pages of one
    /// size beside.
    pub fn take_with(
        root: &SysRoot,
        saved: Option<CpuTimes>,
        window: Duration,
        pages: Option<Bytes>,
    ) -> Result<Self, SourceError> {
        SnapshotReader::open(root, pages)?.take(saved, window)
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

    /// Returns the root that is read.
    pub fn root(&self) -> &SysRoot {
        self.reader.root()
    }

    /// Takes a snapshot, with a load as [`Snapshot::take_since`] measures it.
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
            *self = Self::open(self.root(), self.pages)?;
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
