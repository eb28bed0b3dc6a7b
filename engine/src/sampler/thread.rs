//! The thread that samples, and the newest snapshot it shares.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::{
    Receiver, Sender, TrySendError, after, bounded, never, select, tick, unbounded,
};
use nix::sys::signal::{SigSet, SigmaskHow};

use super::error::EngineError;
use crate::advise::prepare;
use crate::error::SourceError;
use crate::host::Host;
use crate::sample::{CpuTimes, Sample};
use crate::snapshot::Snapshot;
use crate::source::{HostReader, Moment, SysRoot};

const SHORTEST: Duration = Duration::from_millis(10);
/// When the second reading comes at the latest: until then nothing is known of the load.
const SECOND: Duration = Duration::from_millis(250);
/// How late a reading may be before answers say so.
const LATE: Duration = Duration::from_secs(5);
/// Readings that are kept to measure load from, however long the window.
const MOST_KEPT: usize = 64;

/// The thread, as the engine holds it.
pub(super) struct SamplerThread {
    shared: Arc<Shared>,
    control: Sender<Control>,
    thread: Option<JoinHandle<()>>,
    /// The age above which the newest snapshot is outdated.
    outdated: Duration,
    /// The process that has the thread.
    process: u32,
}

/// What the thread writes and any thread reads.
struct Shared {
    newest: ArcSwap<Snapshot>,
    last_error: ArcSwapOption<SourceError>,
    started: Instant,
    /// When the newest snapshot was taken, in nanoseconds since `started`.
    taken: AtomicU64,
}

impl Shared {
    fn note_taken(&self) {
        let since = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.taken.store(since, Ordering::Relaxed);
    }
}

enum Control {
    Stop,
    Subscribe(Sender<Arc<Snapshot>>),
}

impl SamplerThread {
    /// Reads the host once and starts the thread.
    ///
    /// Errors: the host cannot be read, no thread can be started.
    pub(super) fn start(
        root: SysRoot,
        interval: Duration,
        window: Duration,
    ) -> Result<Self, EngineError> {
        let interval = interval.max(SHORTEST);
        let mut sampler = Sampler::open(root, interval, window)?;
        let shared = Arc::new(Shared {
            newest: ArcSwap::from_pointee(sampler.snapshot()?),
            last_error: ArcSwapOption::empty(),
            started: Instant::now(),
            taken: AtomicU64::new(0),
        });
        let (control, orders) = unbounded();
        let run = {
            let shared = Arc::clone(&shared);
            move || sampler.run(&orders, &shared)
        };
        let thread = spawn_without_signals(run).map_err(EngineError::Thread)?;
        let outdated = interval.saturating_mul(2).saturating_add(LATE);
        Ok(Self { shared, control, thread: Some(thread), outdated, process: std::process::id() })
    }

    /// Returns whether this is a forked child of the process that has the thread.
    pub(super) fn is_elsewhere(&self) -> bool {
        std::process::id() != self.process
    }

    pub(super) fn newest(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.shared.newest.load()
    }

    pub(super) fn newest_full(&self) -> Arc<Snapshot> {
        self.shared.newest.load_full()
    }

    pub(super) fn age(&self) -> Duration {
        let taken = Duration::from_nanos(self.shared.taken.load(Ordering::Relaxed));
        self.shared.started.elapsed().saturating_sub(taken)
    }

    pub(super) fn last_error(&self) -> Option<Arc<SourceError>> {
        self.shared.last_error.load_full()
    }

    /// Returns why the newest snapshot is older than two intervals, as far as callers should know of it.
    pub(super) fn why_outdated(&self) -> Option<String> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            // It ends before the engine only by a panic.
            return Some("the sampling thread has panicked; start another engine".to_owned());
        }
        let late =
            || (self.age() > self.outdated).then(|| "the sampling thread is late".to_owned());
        self.last_error().map(|error| error.to_string()).or_else(late)
    }

    pub(super) fn subscribe(&self) -> Receiver<Arc<Snapshot>> {
        let (sender, receiver) = bounded(1);
        // If the thread is gone the sender is dropped here, and the channel has ended. In a forked child the
        // thread may have held the lock of this channel at the fork.
        if !self.is_elsewhere() {
            let _ = self.control.send(Control::Subscribe(sender));
        }
        receiver
    }
}

impl Drop for SamplerThread {
    fn drop(&mut self) {
        // A forked child has no such thread: std's join panics there.
        if self.is_elsewhere() {
            // Nor is the channel closed, whose lock the thread may have held at the fork.
            std::mem::forget(self.control.clone());
            return;
        }
        let _ = self.control.send(Control::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the hook, and has nothing to clean up.
            let _ = thread.join();
        }
    }
}

/// Starts the thread with every signal blocked: it inherits the mask. A program that waits for signals in a
/// thread of its own (sigwait) would otherwise lose them to this one, or end.
fn spawn_without_signals(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let thread = std::thread::Builder::new().name("placer-sampler".to_owned()).spawn(run);
    before.thread_set_mask()?;
    thread
}

/// What the thread owns.
struct Sampler {
    root: SysRoot,
    interval: Duration,
    window: Duration,
    reader: HostReader,
    host: Arc<Host>,
    notes: Vec<String>,
    /// Oldest first; their buffers are used again.
    earlier: VecDeque<CpuTimes>,
    generation: u64,
}

impl Sampler {
    fn open(root: SysRoot, interval: Duration, window: Duration) -> Result<Self, SourceError> {
        let reader = HostReader::open_whole(&root)?.without_kept_files();
        let host = Host::from_files(reader.files())?;
        Ok(Self {
            root,
            interval,
            window,
            reader,
            host: Arc::new(host.value),
            notes: host.notes,
            earlier: VecDeque::new(),
            generation: 0,
        })
    }

    fn run(mut self, orders: &Receiver<Control>, shared: &Shared) {
        let mut subscribers: Vec<Sender<Arc<Snapshot>>> = Vec::new();
        let ticks = tick(self.interval);
        let early = if self.interval > SECOND { after(SECOND) } else { never() };
        loop {
            select! {
                recv(orders) -> order => {
                    match order {
                        Ok(Control::Subscribe(sender)) => subscribers.push(sender),
                        Ok(Control::Stop) | Err(_) => return,
                    }
                    continue;
                },
                recv(early) -> _ => {},
                recv(ticks) -> _ => {},
            }
            match self.snapshot() {
                Ok(snapshot) => {
                    let snapshot = Arc::new(snapshot);
                    shared.newest.store(Arc::clone(&snapshot));
                    shared.note_taken();
                    shared.last_error.store(None);
                    subscribers.retain(|to| {
                        let sent = to.try_send(Arc::clone(&snapshot));
                        !matches!(sent, Err(TrySendError::Disconnected(_)))
                    });
                }
                Err(error) => shared.last_error.store(Some(Arc::new(error))),
            }
        }
    }

    /// Takes the next snapshot, on a host that may have changed since the last one.
    fn snapshot(&mut self) -> Result<Snapshot, SourceError> {
        let mut now = Sample::default();
        if self.root.is_live() {
            self.reader.sample(&mut now)?;
            // Looked for after the reading, so that no sample is half of before and half of after.
            if self.reader.has_changed()? {
                self.reopen()?;
                self.reader.sample(&mut now)?;
            }
        } else if self.earlier.is_empty() {
            self.read_recorded(&mut now)?;
        } else {
            self.reader.sample(&mut now)?;
        }
        let before = self.before(&now.cpu).cloned();
        self.generation += 1;
        let snapshot = Snapshot::new(Arc::clone(&self.host), before, now)
            .with_generation(self.generation)
            .with_notes(self.notes.iter().cloned());
        // Before anyone can ask, so that no reader makes it, or waits for one that does.
        prepare(&snapshot);
        if self.root.is_live() {
            self.keep(&snapshot.sample().cpu);
        }
        Ok(snapshot)
    }

    /// A recorded machine has two moments: the load is always that between them.
    fn read_recorded(&mut self, now: &mut Sample) -> Result<(), SourceError> {
        let mut before = CpuTimes::default();
        self.reader.cpu_times(&mut before)?;
        if self.reader.has_second_moment() {
            self.earlier.push_back(before);
        }
        self.reader.set_moment(Moment::Second);
        self.reader.sample(now)
    }

    fn reopen(&mut self) -> Result<(), SourceError> {
        self.reader = self.reader.opened_anew()?;
        let host = Host::from_files(self.reader.files())?;
        self.host = Arc::new(host.value);
        self.notes = host.notes;
        Ok(())
    }

    /// Returns the youngest kept reading that is a window old, else the oldest.
    fn before(&self, now: &CpuTimes) -> Option<&CpuTimes> {
        let old_enough = |times: &&CpuTimes| {
            let age = now.at().since(times.at());
            age.is_some_and(|ns| Duration::from_nanos(ns) >= self.window)
        };
        self.earlier.iter().rev().find(old_enough).or_else(|| self.earlier.front())
    }

    fn keep(&mut self, now: &CpuTimes) {
        let window = self.window;
        let old = |times: &CpuTimes| {
            now.at().since(times.at()).is_none_or(|ns| Duration::from_nanos(ns) >= window)
        };
        let mut spare = None;
        // One that is a window old is needed, those before it are not.
        while self.earlier.len() > MOST_KEPT || self.earlier.get(1).is_some_and(old) {
            spare = self.earlier.pop_front();
        }
        let mut kept = spare.unwrap_or_default();
        kept.clone_from(now);
        self.earlier.push_back(kept);
    }
}

#[cfg(test)]
mod tests;
