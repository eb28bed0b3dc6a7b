//! The [`Engine`]: answers on the newest [`Snapshot`] of a thread that samples, or reads the host at each question.

mod error;

mod reader;
mod thread;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::advice::Advice;
use crate::advise::advise;
use crate::charges::Charges;
use crate::claims::{
    Asker, ClaimDirs, ClaimId, ClaimOwner, Claims, Decision, LOCK_TIMEOUT, Parts, View,
};
use crate::error::SourceError;
use crate::idset::CpuSet;
use crate::request::Request;
use crate::sample::CpuTimes;
use crate::snapshot::Snapshot;
use crate::source::SysRoot;

pub use error::EngineError;
use reader::QuestionReader;
use thread::SamplerThread;

/// How long the load is measured by default: by a thread beside the program, and while a question waits.
const WINDOW: Duration = Duration::from_secs(1);
const SHORT_WINDOW: Duration = Duration::from_millis(100);

/// Samples a host in a thread of its own and answers from any thread; or reads the host at each question, see
/// [`EngineBuilder::without_thread`].
///
/// Without claims an answer takes microseconds, takes no lock and reads nothing. With claims, see
/// [`EngineBuilder::claims`], each answer counts those of this moment. Plugged CPUs, nodes and memory are
/// noticed and read anew.
///
/// Inside another program: the thread blocks all signals, and dropping the engine joins it. No file stays open
/// between two readings, so the program may close all its descriptors. In a forked child an engine with a thread
/// answers with [`EngineError::Forked`] and can be dropped; one without a thread works there, unless another thread
/// was asking it at the fork.
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
    figures: Figures,
    counted: Option<Counted>,
}

/// Where the load of the host comes from, and without claims the memory too.
enum Figures {
    Thread(SamplerThread),
    Question(Arc<Mutex<QuestionReader>>),
}

/// Where the claims are. They are opened at each question: no descriptor stays open.
struct Counted {
    dirs: ClaimDirs,
    root: SysRoot,
    /// For the memory, which is read after the claims.
    reader: Arc<Mutex<QuestionReader>>,
    /// Threads of this process take turns here, and not at the lock of the ledger, which is polled.
    turn: Mutex<()>,
}

/// How an [`Engine`] samples, and whether it counts claims. Made by [`Engine::builder`].
#[derive(Clone, Debug)]
#[must_use = "an engine starts with start()"]
pub struct EngineBuilder {
    root: SysRoot,
    interval: Duration,
    window: Option<Duration>,
    claims: Option<ClaimDirs>,
    threadless: bool,
}

impl EngineBuilder {
    /// Sets the time between two readings, and so the age of memory figures: at least 10 ms.
    /// [default: 250 ms]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the time over which CPU load is measured: a few intervals. [default: 1 s; without a thread 100 ms]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = Some(window);
        self
    }

    /// Starts no thread: each question reads the host, some tens of microseconds. The load is that since an
    /// earlier question, at most a minute ago; where there is none, the question blocks for the window.
    pub fn without_thread(mut self) -> Self {
        self.threadless = true;
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
    /// Errors: the host cannot be read, no thread can be started. The directory of claims is opened by questions.
    pub fn start(self) -> Result<Engine, EngineError> {
        let Self { root, interval, window, claims, threadless } = self;
        let reader = || -> Result<_, EngineError> {
            let window = window.unwrap_or(SHORT_WINDOW);
            Ok(Arc::new(Mutex::new(QuestionReader::open(&root, window)?)))
        };
        let figures = match threadless {
            true => Figures::Question(reader()?),
            false => {
                let window = window.unwrap_or(WINDOW);
                Figures::Thread(SamplerThread::start(root.clone(), interval, window)?)
            }
        };
        let reader = match (&figures, &claims) {
            (Figures::Question(reader), _) => Some(Arc::clone(reader)),
            (Figures::Thread(_), Some(_)) => Some(reader()?),
            (Figures::Thread(_), None) => None,
        };
        let counted = claims.zip(reader);
        let counted =
            counted.map(|(dirs, reader)| Counted { dirs, root, reader, turn: Mutex::new(()) });
        Ok(Engine { figures, counted })
    }
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
        let interval = Duration::from_millis(250);
        EngineBuilder { root, interval, window: None, claims: None, threadless: false }
    }

    /// Returns the newest snapshot, without claims: of the thread, or of the last question. Takes no lock where
    /// there is a thread.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        match &self.figures {
            Figures::Thread(thread) => thread.newest_full(),
            Figures::Question(reader) => Arc::clone(locked(reader).newest()),
        }
    }

    /// Returns how long ago the newest snapshot was taken: less than two intervals, unless readings fail
    /// ([`last_error`](Self::last_error)), the thread has panicked or this is a forked child; without a thread since
    /// the last question.
    pub fn age(&self) -> Duration {
        match &self.figures {
            Figures::Thread(thread) => thread.age(),
            Figures::Question(reader) => locked(reader).age(),
        }
    }

    /// Advises where a guest should run: the newest load, and where claims are counted the memory and the
    /// claims of this moment. Nothing is claimed. The notes of the advice begin with those of the host; if the
    /// thread cannot read it any more, has panicked or is more than 5 s late, the first one says how old the figures
    /// are.
    ///
    /// Errors: as [`advise`]; this is a forked child without the thread; with claims, the ledger, the processes
    /// or the memory cannot be read, or not all claims of the host.
    pub fn advise(&self, request: &Request) -> Result<Advice, EngineError> {
        let mut advice = match (&self.counted, &self.figures) {
            (None, Figures::Thread(thread)) => {
                not_forked(thread)?;
                noted(&thread.newest(), request)?
            }
            (None, Figures::Question(reader)) => {
                let mut reader = locked(reader);
                let since = reader.since()?;
                noted(&reader.read(since, request.pages, Charges::default())?, request)?
            }
            (Some(counted), _) => {
                let since = self.since()?;
                let charges = all_of(Claims::open(&counted.dirs, &counted.root)?.view()?)?;
                let mut reader = locked(&counted.reader);
                noted(&reader.read(since, request.pages, charges)?, request)?
            }
        };
        if let Figures::Thread(thread) = &self.figures
            && let Some(why) = thread.why_outdated()
        {
            let age = thread.age().as_secs_f64();
            let note = format!("the figures of this host are {age:.1} s old: {why}");
            advice.notes.insert(0, note);
        }
        Ok(advice)
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
    /// Errors: the engine counts no claims; this is a forked child without the thread; not all claims of the host
    /// can be read; the request does not fit; no advice; the lock is held for too long; the owner has exited; the
    /// ledger is full or cannot be written.
    pub fn place(&self, request: &Request, owner: ClaimOwner) -> Result<Placement, EngineError> {
        let choose = |snapshot: Snapshot, without_users: Option<Charges>| {
            let mut advice = noted(&snapshot, request)?;
            if let Some(charges) = without_users.filter(|_| !advice.fits()) {
                // What users have claimed never makes a request of the host's fail.
                advice = noted(&snapshot.with_charges(charges), request)?;
            }
            match advice.shortfall {
                Some(short) => Err(EngineError::DoesNotFit(short)),
                None => Ok(advice),
            }
        };
        self.decide(request, choose, |mut decision, advice| {
            let caller = decision.caller_of(&this_process());
            let decision = decision.roaming_over(advice.cpus.clone());
            let claim = decision.claim(request, &advice, owner, caller, request.pages)?;
            Ok(Placement { advice, claim })
        })
    }

    /// Claims what was advised before for this request, if it still fits. To choose anew where it does not, use
    /// [`place`](Self::place), which blocks in the same way.
    ///
    /// Errors: as `place`; [`EngineError::Changed`] if what was advised has been claimed or used since.
    pub fn claim(
        &self,
        request: &Request,
        advice: &Advice,
        owner: ClaimOwner,
    ) -> Result<ClaimId, EngineError> {
        if let Some(short) = advice.shortfall {
            return Err(EngineError::DoesNotFit(short));
        }
        let read = |snapshot, without_users| Ok((snapshot, without_users));
        self.decide(request, read, |mut decision, (snapshot, without_users)| {
            let parts = Parts::of(request, advice, CpuSet::new(), advice.cpus.clone());
            let has_room = decision.room_for(&parts, &snapshot)
                || without_users.is_some_and(|charges| {
                    decision.room_for(&parts, &snapshot.clone().with_charges(charges))
                });
            if !has_room {
                return Err(EngineError::Changed);
            }
            let caller = decision.caller_of(&this_process());
            Ok(decision.claim_parts(parts, owner, caller)?)
        })
    }

    /// Makes a claim, mostly a hold, that of a guest's process or of all that runs in its cgroup: it then ends with
    /// that. What was claimed stays claimed in between. Blocks as [`place`](Self::place).
    ///
    /// Errors: the engine counts no claims; this is a forked child without the thread; there is no claim of this id;
    /// the lock is held for too long; the ledger cannot be written.
    pub fn adopt(&self, claim: ClaimId, owner: ClaimOwner) -> Result<(), EngineError> {
        let (counted, _turn) = self.counted()?;
        counted.open()?.begin(LOCK_TIMEOUT)?.0.adopt_as(claim, owner)?;
        Ok(())
    }

    /// Ends a claim. Blocks as [`place`](Self::place).
    ///
    /// Errors: the engine counts no claims; this is a forked child without the thread; there is no claim of this id;
    /// the lock is held for too long; the ledger cannot be written.
    pub fn release(&self, claim: ClaimId) -> Result<(), EngineError> {
        let (counted, _turn) = self.counted()?;
        counted.open()?.begin(LOCK_TIMEOUT)?.0.release(claim)?;
        Ok(())
    }

    /// Returns why the last reading of the thread failed; `None` when it succeeded. The newest snapshot is then
    /// an earlier one.
    pub fn last_error(&self) -> Option<Arc<SourceError>> {
        match &self.figures {
            Figures::Thread(thread) => thread.last_error(),
            Figures::Question(_) => None,
        }
    }

    /// Returns an iterator over the snapshots to come: none without a thread. A reader that does not keep up
    /// misses some, and never delays the sampling.
    pub fn subscribe(&self) -> Subscription {
        Subscription(match &self.figures {
            Figures::Thread(thread) => thread.subscribe(),
            Figures::Question(_) => crossbeam_channel::bounded(1).1,
        })
    }

    /// Ends the sampling and joins the thread.
    pub fn stop(self) {
        drop(self);
    }

    /// Reads the host, lets `choose` decide, and `claim` claim under the lock of the ledger; anew where others were
    /// faster. Charges that leave users out are passed if they differ and this process is the host's.
    fn decide<C, T>(
        &self,
        request: &Request,
        mut choose: impl FnMut(Snapshot, Option<Charges>) -> Result<C, EngineError>,
        claim: impl FnOnce(Decision<'_>, C) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let (counted, _turn) = self.counted()?;
        let since = self.since()?;
        let claims = counted.open()?;
        let asker = this_process();
        let (decision, chosen) = claims.decide(&asker, LOCK_TIMEOUT, |mut view| {
            let without_users = view.host_charges.take().filter(|_| asker.principal().is_host());
            let charges = all_of(view)?;
            // Memory that is touched since the claims were counted is counted twice and never missed.
            let snapshot = locked(&counted.reader).read(since.clone(), request.pages, charges)?;
            choose(snapshot, without_users)
        })?;
        claim(decision, chosen)
    }

    /// Returns the CPU counters that the load is measured from.
    fn since(&self) -> Result<Option<CpuTimes>, EngineError> {
        match &self.figures {
            Figures::Thread(thread) => {
                not_forked(thread)?;
                Ok(thread.newest().before().cloned())
            }
            Figures::Question(reader) => Ok(locked(reader).since()?),
        }
    }

    fn counted(&self) -> Result<(&Counted, MutexGuard<'_, ()>), EngineError> {
        let counted = self.counted.as_ref().ok_or(EngineError::WithoutClaims)?;
        // Before the lock, which a thread of the parent may have held at the fork.
        if let Figures::Thread(thread) = &self.figures {
            not_forked(thread)?;
        }
        Ok((counted, locked(&counted.turn)))
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
    fn open(&self) -> Result<Claims, EngineError> {
        Ok(Claims::open_to_claim(&self.dirs, &self.root)?)
    }
}

/// Returns the content of a lock. A thread that panicked has left nothing half done: each reading starts anew.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_forked(thread: &SamplerThread) -> Result<(), EngineError> {
    if thread.is_elsewhere() { Err(EngineError::Forked) } else { Ok(()) }
}

/// Advises, with what a person should know about the host in front of the notes about the answer.
fn noted(snapshot: &Snapshot, request: &Request) -> Result<Advice, EngineError> {
    let mut advice = advise(snapshot, request)?;
    advice.notes.splice(0..0, snapshot.notes().iter().cloned());
    Ok(advice)
}

/// Returns this process as the one that asks for claims.
fn this_process() -> Asker {
    Asker::new(std::process::id(), nix::unistd::getuid().as_raw())
}

/// Returns what all claims of the host take.
fn all_of(view: View) -> Result<Charges, EngineError> {
    if view.complete { Ok(view.charges) } else { Err(EngineError::UnreadClaims(view.notes)) }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.snapshot().generation();
        f.debug_struct("Engine").field("generation", &generation).finish_non_exhaustive()
    }
}
