//! The [`Engine`]: a thread that keeps the newest [`Snapshot`] where readers take it without a lock.

mod error;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::{
    Receiver, Sender, TrySendError, after, bounded, never, select, tick, unbounded,
};

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::advice::Advice;
use crate::advise::{advise, prepare};
use crate::charges::Charges;
use crate::claims::{Asker, ClaimDirs, ClaimId, ClaimOwner, Claims, LOCK_TIMEOUT, View};
use crate::error::SourceError;
use crate::host::Host;
use crate::request::Request;
use crate::sample::{CpuTimes, Sample};
use crate::snapshot::Snapshot;
use crate::source::{HostReader, Moment, SnapshotReader, SysRoot};

pub use error::EngineError;

const SHORTEST: Duration = Duration::from_millis(10);
/// When the second reading comes at the latest: until then nothing is known of the load.
const SECOND: Duration = Duration::from_millis(250);
/// Readings that are kept to measure load from, however long the window.
const MOST_KEPT: usize = 64;

/// Samples a host in a thread of its own and answers from any thread.
///
/// Without claims an answer takes microseconds, takes no lock and reads nothing. With claims, see
/// [`EngineBuilder::claims`], each answer counts those of this moment. Plugged CPUs, nodes and memory are
/// noticed and read anew. Dropping the engine joins the thread. The thread blocks all signals. In a forked
/// child the engine does not sample.
///
/// ```
/// use placer_engine::claims::{ClaimDirs, ClaimOwner};
/// use placer_engine::{Engine, Request, SysRoot};
/// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
/// # if !std::path::Path::new(dir).exists() { return Ok(()); }
/// # let root = SysRoot::at(dir);
/// # let state = tempfile::tempdir()?;
/// # let dirs = ClaimDirs::at(state.path());
/// // let (root, dirs) = (SysRoot::live(), ClaimDirs::system());
/// let engine = Engine::builder(root).claims(dirs).start()?;
/// let request: Request = "2:100".parse()?;
/// # let hold = std::time::Duration::from_secs(30);
/// // let owner = ClaimOwner::Pid(guest_pid);
/// # let owner = ClaimOwner::Hold(hold);
/// let placement = engine.place(&request, owner)?;
/// println!("nodes {}, CPUs {}", placement.advice.nodes, placement.advice.cpus);
/// engine.release(placement.claim)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    newest: Arc<ArcSwap<Snapshot>>,
    last_error: Arc<ArcSwapOption<SourceError>>,
    control: Sender<Control>,
    thread: Option<JoinHandle<()>>,
    /// The process that has the thread.
    process: u32,
    counted: Option<Counted>,
}

/// Claims, and a reader for the memory that is read after them.
struct Counted {
    claims: Claims,
    reader: Mutex<SnapshotReader>,
    /// Threads of this process take turns here, and not at the lock of the ledger, which is polled.
    turn: Mutex<()>,
}

/// How an [`Engine`] samples, and whether it counts claims. Made by [`Engine::builder`].
#[derive(Clone, Debug)]
#[must_use = "an engine starts with start()"]
pub struct EngineBuilder {
    root: SysRoot,
    interval: Duration,
    window: Duration,
    claims: Option<ClaimDirs>,
}

impl EngineBuilder {
    /// Sets the time between two readings, and so the age of memory figures: at least 10 ms.
    /// [default: 250 ms]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the time over which CPU load is measured: a few intervals. [default: 1 s]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Counts the claims of these directories in every answer, and lets the engine
    /// [`place`](Engine::place). Each answer then reads the ledger, the processes and the memory: some
    /// hundred microseconds.
    pub fn claims(mut self, dirs: ClaimDirs) -> Self {
        self.claims = Some(dirs);
        self
    }

    /// Reads the host once and starts the thread. The load is unknown until the second reading, one
    /// interval later and after 250 ms at most.
    ///
    /// Errors: the host cannot be read, the directory of claims cannot be used, no thread can be started.
    pub fn start(self) -> Result<Engine, EngineError> {
        let counted =
            self.claims.as_ref().map(|dirs| Counted::open(dirs, &self.root)).transpose()?;
        let mut sampler = Sampler::open(self.root, self.interval.max(SHORTEST), self.window)?;
        let newest = Arc::new(ArcSwap::from_pointee(sampler.snapshot()?));
        let last_error = Arc::new(ArcSwapOption::empty());
        let (control, orders) = unbounded();
        let run = {
            let (newest, last_error) = (Arc::clone(&newest), Arc::clone(&last_error));
            move || sampler.run(&orders, &newest, &last_error)
        };
        let thread = spawn_without_signals(run).map_err(EngineError::Thread)?;
        let process = std::process::id();
        Ok(Engine { newest, last_error, control, thread: Some(thread), process, counted })
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

/// What was chosen for a guest and claimed for it.
///
/// Dropping it releases nothing: the claim ends with its owner, with its time, or by
/// [`Engine::release`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Placement {
    /// Where the guest should run. It fits.
    pub advice: Advice,
    /// The claim that keeps it for the guest.
    pub claim: ClaimId,
}

impl Engine {
    /// Returns a builder of an engine for a host: [`SysRoot::live`] or a recorded one.
    pub fn builder(root: SysRoot) -> EngineBuilder {
        let (interval, window) = (Duration::from_millis(250), Duration::from_secs(1));
        EngineBuilder { root, interval, window, claims: None }
    }

    /// Returns the newest snapshot, without claims. Takes no lock.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// Advises where a guest should run: the newest load, and where claims are counted the memory and the
    /// claims of this moment. Nothing is claimed.
    ///
    /// Errors: as [`advise`]; with claims, the ledger, the processes or the memory cannot be read, or not all
    /// claims of the host.
    pub fn advise(&self, request: &Request) -> Result<Advice, EngineError> {
        let Some(counted) = &self.counted else {
            return Ok(advise(&self.newest.load(), request)?);
        };
        let charges = all_of(counted.claims.view()?)?;
        Ok(advise(&counted.snapshot(&self.newest.load(), charges, request)?, request)?)
    }

    /// Chooses and claims in one step: no other process claims anything in between. A request that does not
    /// fit claims nothing.
    ///
    /// Records that the guest will run on the advised CPUs (`advice.cpus`): bind its threads to them, or the
    /// caches that others are advised are not the free ones.
    ///
    /// Blocks while other threads of this process are in `place` or `release`, and while other processes hold
    /// the lock of the ledger ([`LOCK_TIMEOUT`] for each of them, 5 s in all): in async code call it where
    /// blocking is allowed. Safe to call from several threads.
    ///
    /// Errors: the engine counts no claims; not all claims of the host can be read; the request does not fit;
    /// no advice; the lock is held for too long; the owner has exited; the ledger is full or cannot be written.
    pub fn place(&self, request: &Request, owner: ClaimOwner) -> Result<Placement, EngineError> {
        let counted = self.counted.as_ref().ok_or(EngineError::WithoutClaims)?;
        let _turn = counted.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (pid, uid) = (std::process::id(), nix::unistd::getuid().as_raw());
        let asker = Asker::new(pid, uid);
        let (mut decision, mut view) = counted.claims.begin_for(Some(&asker), LOCK_TIMEOUT)?;
        let without_users = view.host_charges.take().filter(|_| asker.principal().is_host());
        let charges = all_of(view)?;
        let snapshot = counted.snapshot(&self.newest.load(), charges, request)?;
        let mut advice = advise(&snapshot, request)?;
        if let Some(charges) = without_users.filter(|_| !advice.fits()) {
            // What users have claimed never makes a request of the host's fail.
            advice = advise(&snapshot.with_charges(charges), request)?;
        }
        if let Some(short) = advice.shortfall {
            return Err(EngineError::DoesNotFit(short));
        }
        let caller = decision.caller(pid, uid);
        let decision = decision.roaming_over(advice.cpus.clone());
        let claim = decision.claim(request, &advice, owner, caller, request.pages)?;
        Ok(Placement { advice, claim })
    }

    /// Makes a claim, mostly a hold, that of a guest's process or of all that runs in its cgroup: it then ends with
    /// that. What was claimed stays claimed in between. Blocks as [`place`](Self::place).
    ///
    /// Errors: the engine counts no claims; there is no claim of this id; the lock is held for too long; the
    /// ledger cannot be written.
    pub fn adopt(&self, claim: ClaimId, owner: ClaimOwner) -> Result<(), EngineError> {
        let counted = self.counted.as_ref().ok_or(EngineError::WithoutClaims)?;
        let _turn = counted.turn.lock().unwrap_or_else(PoisonError::into_inner);
        counted.claims.begin(LOCK_TIMEOUT)?.0.adopt_as(claim, owner)?;
        Ok(())
    }

    /// Ends a claim. Blocks as [`place`](Self::place).
    ///
    /// Errors: the engine counts no claims; there is no claim of this id; the lock is held for too long; the
    /// ledger cannot be written.
    pub fn release(&self, claim: ClaimId) -> Result<(), EngineError> {
        let counted = self.counted.as_ref().ok_or(EngineError::WithoutClaims)?;
        let _turn = counted.turn.lock().unwrap_or_else(PoisonError::into_inner);
        counted.claims.begin(LOCK_TIMEOUT)?.0.release(claim)?;
        Ok(())
    }

    /// Returns why the last reading failed; `None` when it succeeded. The newest snapshot is then an
    /// earlier one.
    pub fn last_error(&self) -> Option<Arc<SourceError>> {
        self.last_error.load_full()
    }

    /// Returns an iterator over the snapshots to come. A reader that does not keep up misses some, and never
    /// delays the sampling.
    pub fn subscribe(&self) -> Subscription {
        let (sender, receiver) = bounded(1);
        // If the thread is gone the sender is dropped here, and the channel has ended.
        let _ = self.control.send(Control::Subscribe(sender));
        Subscription(receiver)
    }

    /// Ends the sampling and joins the thread.
    pub fn stop(self) {
        drop(self);
    }
}

/// New snapshots of an [`Engine`]. Ends with the engine.
#[derive(Clone, Debug)]
pub struct Subscription(Receiver<Arc<Snapshot>>);

impl Subscription {
    /// Waits for the next snapshot; `None` when the engine has ended or the time is over.
    pub fn next_within(&self, timeout: Duration) -> Option<Arc<Snapshot>> {
        self.0.recv_timeout(timeout).ok()
    }

    /// Returns the channel, for the `select!` of placer's own programs.
    #[doc(hidden)]
    pub fn receiver(&self) -> &Receiver<Arc<Snapshot>> {
        &self.0
    }
}

/// Blocks until the next snapshot.
impl Iterator for Subscription {
    type Item = Arc<Snapshot>;

    fn next(&mut self) -> Option<Arc<Snapshot>> {
        self.0.recv().ok()
    }
}

impl Counted {
    fn open(dirs: &ClaimDirs, root: &SysRoot) -> Result<Self, EngineError> {
        let claims = Claims::open_to_claim(dirs, root)?;
        Ok(Self {
            claims,
            reader: Mutex::new(SnapshotReader::open(root, None)?),
            turn: Mutex::new(()),
        })
    }

    /// Reads the memory again, now that the claims are known: memory that is touched in between is counted
    /// twice and never missed.
    fn snapshot(
        &self,
        earlier: &Snapshot,
        charges: Charges,
        request: &Request,
    ) -> Result<Snapshot, SourceError> {
        // A reader that panicked has left nothing half done: each reading starts anew.
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.set_pages(request.pages);
        reader.again(earlier, charges)
    }
}

/// Returns what all claims of the host take.
fn all_of(view: View) -> Result<Charges, EngineError> {
    if view.complete { Ok(view.charges) } else { Err(EngineError::UnreadClaims(view.notes)) }
}

enum Control {
    Stop,
    Subscribe(Sender<Arc<Snapshot>>),
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A forked child has no such thread: std's join panics there.
        if std::process::id() != self.process {
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

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.newest.load().generation();
        f.debug_struct("Engine").field("generation", &generation).finish_non_exhaustive()
    }
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
        let reader = HostReader::open_whole(&root)?;
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

    fn run(
        mut self,
        orders: &Receiver<Control>,
        newest: &ArcSwap<Snapshot>,
        last_error: &ArcSwapOption<SourceError>,
    ) {
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
                    newest.store(Arc::clone(&snapshot));
                    last_error.store(None);
                    subscribers.retain(|to| {
                        let sent = to.try_send(Arc::clone(&snapshot));
                        !matches!(sent, Err(TrySendError::Disconnected(_)))
                    });
                }
                Err(error) => last_error.store(Some(Arc::new(error))),
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
