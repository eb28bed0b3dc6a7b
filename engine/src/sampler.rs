//! The [`Engine`]: a thread that keeps the newest [`Snapshot`] where readers take it without a lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::{
    Receiver, Sender, TrySendError, after, bounded, never, select, tick, unbounded,
};

use crate::advice::Advice;
use crate::advise::{AdviseError, advise, prepare};
use crate::error::SourceError;
use crate::host::Host;
use crate::request::Request;
use crate::sample::{CpuTimes, Sample};
use crate::snapshot::Snapshot;
use crate::source::{HostReader, Moment, SysRoot};

/// How an [`Engine`] samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time between two readings, and so the age of memory figures: 10 ms at least.
    pub interval: Duration,
    /// The time over which CPU load is measured; a few intervals long.
    pub window: Duration,
}

impl Default for Pace {
    /// Four readings a second, load over one second.
    fn default() -> Self {
        Self { interval: Duration::from_millis(250), window: Duration::from_secs(1) }
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
/// When the second reading comes at the latest: until then nothing is known of the load.
const SECOND: Duration = Duration::from_millis(250);
/// Readings that are kept to measure load from, however long the window.
const MOST_KEPT: usize = 64;

/// Samples a host in a thread of its own and answers in microseconds, from any thread.
///
/// Readers take no lock and wait for nothing. Plugged CPUs, nodes and memory are noticed and read
/// anew. Ending it, or dropping it, joins the thread.
///
/// ```
/// use placer_engine::{Engine, Pace, Request, SysRoot};
/// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
/// # if !std::path::Path::new(dir).exists() { return Ok(()); }
/// # let root = SysRoot::at(dir);
/// // let root = SysRoot::live();
/// let engine = Engine::start(root, Pace::default())?;
/// let request: Request = "2:100".parse()?;
/// let advice = engine.advise(&request)?;
/// println!("{}", advice.nodes);
/// engine.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    newest: Arc<ArcSwap<Snapshot>>,
    trouble: Arc<ArcSwapOption<SourceError>>,
    control: Sender<Control>,
    thread: Option<JoinHandle<()>>,
}

enum Control {
    Stop,
    Subscribe(Sender<Arc<Snapshot>>),
}

impl Engine {
    /// Reads the host once, and starts sampling. The load is unknown until the second reading, one
    /// interval later, and a quarter of a second at most.
    ///
    /// Errors: the host cannot be read.
    pub fn start(root: SysRoot, pace: Pace) -> Result<Self, SourceError> {
        let mut sampler = Sampler::open(root, pace)?;
        let newest = Arc::new(ArcSwap::from_pointee(sampler.snapshot()?));
        let trouble = Arc::new(ArcSwapOption::empty());
        let (control, orders) = unbounded();
        let thread = {
            let (newest, trouble) = (Arc::clone(&newest), Arc::clone(&trouble));
            let run = move || sampler.run(&orders, &newest, &trouble);
            std::thread::Builder::new().name("placer-sampler".to_owned()).spawn(run)
        };
        let thread = thread
            .map_err(|e| SourceError::Io { path: "the sampler's thread".into(), source: e })?;
        Ok(Self { newest, trouble, control, thread: Some(thread) })
    }

    /// Returns the newest snapshot. Takes no lock.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// Advises on the newest snapshot. Takes no lock.
    ///
    /// Errors: as [`advise`].
    pub fn advise(&self, request: &Request) -> Result<Advice, AdviseError> {
        advise(&self.newest.load(), request)
    }

    /// Returns why the last reading failed; `None` when it did not. The newest snapshot is then of
    /// before.
    pub fn trouble(&self) -> Option<Arc<SourceError>> {
        self.trouble.load_full()
    }

    /// Returns a channel that receives each new snapshot. A reader that does not keep up misses
    /// some, and never holds up the sampling. The channel ends with the engine.
    pub fn subscribe(&self) -> Receiver<Arc<Snapshot>> {
        let (sender, receiver) = bounded(1);
        // If the thread is gone the sender is dropped here, and the channel has ended.
        let _ = self.control.send(Control::Subscribe(sender));
        receiver
    }

    /// Ends the sampling and joins the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.control.send(Control::Stop);
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked; and if, nothing is left to be done about it here.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.newest.load().generation();
        f.debug_struct("Engine").field("generation", &generation).finish_non_exhaustive()
    }
}

/// What the thread owns.
struct Sampler {
    root: SysRoot,
    pace: Pace,
    reader: HostReader,
    host: Arc<Host>,
    notes: Vec<String>,
    /// Oldest first; their buffers are used again.
    earlier: VecDeque<CpuTimes>,
    generation: u64,
}

impl Sampler {
    fn open(root: SysRoot, pace: Pace) -> Result<Self, SourceError> {
        let reader = HostReader::open_whole(&root)?;
        let host = Host::from_files(reader.files())?;
        Ok(Self {
            root,
            pace: Pace { interval: pace.interval.max(SHORTEST), ..pace },
            reader,
            host: Arc::new(host.value),
            notes: host.notes,
            earlier: VecDeque::new(),
            generation: 0,
        })
    }

    fn run(
        mut self,
        orders: &Receiver<Control>,
        newest: &ArcSwap<Snapshot>,
        trouble: &ArcSwapOption<SourceError>,
    ) {
        let mut subscribers: Vec<Sender<Arc<Snapshot>>> = Vec::new();
        let ticks = tick(self.pace.interval);
        let early = if self.pace.interval > SECOND { after(SECOND) } else { never() };
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
                    newest.store(Arc::clone(&snapshot));
                    trouble.store(None);
                    subscribers.retain(|to| {
                        let sent = to.try_send(Arc::clone(&snapshot));
                        !matches!(sent, Err(TrySendError::Disconnected(_)))
                    });
                }
                Err(error) => trouble.store(Some(Arc::new(error))),
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
        self.reader = HostReader::open_whole(&self.root)?;
        let host = Host::from_files(self.reader.files())?;
        self.host = Arc::new(host.value);
        self.notes = host.notes;
        Ok(())
    }

    /// Returns the youngest kept reading that is a window old, else the oldest.
    fn before(&self, now: &CpuTimes) -> Option<&CpuTimes> {
        let old_enough = |times: &&CpuTimes| {
            let age = now.at().since(times.at());
            age.is_some_and(|ns| Duration::from_nanos(ns) >= self.pace.window)
        };
        self.earlier.iter().rev().find(old_enough).or_else(|| self.earlier.front())
    }

    fn keep(&mut self, now: &CpuTimes) {
        let window = self.pace.window;
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
