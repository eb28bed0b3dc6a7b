//! The service: one sampler, one ledger, and several ways to ask.
//!
//! ```text
//! sampler -> Warm -> Core <- socket (varlink, metrics), numad's queue
//! ```
//!
//! Blocking threads, one for each client: no answer waits for another client, and what a thread
//! waits for has a time limit. The number of threads is bounded, and so is what each may hold.

mod committing;
pub(crate) mod core;
mod descriptors;
#[cfg(fuzzing)]
pub mod fuzzing;
mod limits;
mod lock;
mod log;
mod managing;
mod metrics;
mod notify;
mod peer;
mod port;
mod prometheus;
pub(crate) mod signals;
mod socket;
pub(crate) mod sysv;
mod wanted;
mod warm;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use placer_engine::SysRoot;
use placer_engine::store::StateDir;

use self::core::Core;
use self::lock::Lock;
pub use self::log::Log;
use self::managing::Managing;
use self::notify::Notify;
use self::port::Port;
use self::signals::{Order, Signals};
use self::socket::Socket;
use self::sysv::Queue;
use crate::error_chain::chain;
use crate::numad;
use crate::service::counted;
use crate::service::notes::Notes;
use crate::service::sampling::{self, Saved};
use crate::settings::{Level, Settings};

/// Threads that answer need little stack, and there may be a thousand.
pub(crate) const STACK: usize = 512 << 10;
/// How long answers that are being given are waited for at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(300);
/// How often what has no hurry is done.
const ROUND: Duration = Duration::from_secs(1);

/// Serves until a signal ends it.
///
/// `manages`: running guests are moved, whatever the settings say.
///
/// Errors: another daemon runs; the host cannot be read; there is no place for the socket.
pub fn run(
    root: &SysRoot,
    set: Settings,
    config: Option<PathBuf>,
    manages: bool,
) -> Result<(), Box<dyn Error>> {
    serve(root, set, config, manages, None)
}

/// A daemon that was started by numad's name.
pub trait Named {
    /// What it was given.
    fn options(&self) -> &numad::Options;

    /// Is called when it answers.
    ///
    /// Errors: it shall not go on.
    fn ready(&mut self, log: &Log) -> Result<(), Box<dyn Error>>;

    /// Is called when the settings were read anew.
    fn reloaded(&mut self);
}

/// The same for this host in the place of numad's daemon.
///
/// Errors: as [`run`]; numad's clients cannot be answered.
pub fn run_as_numad(
    set: Settings,
    config: Option<PathBuf>,
    named: &mut dyn Named,
) -> Result<(), Box<dyn Error>> {
    serve(&SysRoot::live(), set, config, false, Some(named))
}

fn serve(
    root: &SysRoot,
    set: Settings,
    config: Option<PathBuf>,
    manages: bool,
    mut named: Option<&mut dyn Named>,
) -> Result<(), Box<dyn Error>> {
    // First of all, so that no thread takes a signal that is meant for this one.
    let signals = Signals::open()?;
    let notify = Notify::open();
    let dir = sampling::state_dir()
        .ok_or("no directory for the socket: set XDG_RUNTIME_DIR or PLACER_STATE_DIR")?;
    // Made when it is missing; refused when others could have written it.
    StateDir::open(&dir)?;
    let _lock = Lock::take(&dir)?;
    let (log, _) = Log::start(set.daemon.log)?;
    let core = Arc::new(Core::start(root, set, config, log.clone())?);
    if manages {
        core.wanted().by_flag();
    }
    if let Some(named) = &named {
        core.wanted().start_with(named.options());
    }
    let queue = match &named {
        None => Queue::start(&core),
        Some(named) => Some(Queue::start_as_numad(&core, named.options())?),
    };
    if let Some(named) = &mut named {
        named.ready(&log)?;
    }
    let socket = Socket::start(&core, &dir)?;
    let mut port = Port::follow(None, &core);
    let mut managing = Managing::follow(None, &core);
    let version = env!("CARGO_PKG_VERSION");
    log.tell(Level::Notice, "ready", &[("version", &version), ("dir", &dir.display())]);
    notify.ready("answering");

    let pause = notify.beat().map_or(ROUND, |beat| beat.min(ROUND));
    let mut rounds = Rounds::default();
    let mut beaten: Option<Instant> = None;
    loop {
        match signals.wait(pause) {
            Some(Order::Reload) => {
                notify.reloading();
                core.reload();
                port = Port::follow(port, &core);
                managing = Managing::follow(managing, &core);
                if let Some(queue) = &queue {
                    queue.reload();
                }
                if let Some(named) = &mut named {
                    named.reloaded();
                }
                notify.ready("answering");
            }
            Some(Order::End) => break,
            None => {}
        }
        // Only where somebody waits for it: the socket is asked as a client asks.
        if let Some(beat) = notify.beat()
            && beaten.is_none_or(|at| at.elapsed() + pause >= beat)
            && queue.as_ref().is_none_or(Queue::alive)
            && rounds.sampler_lives(&core)
            && socket.alive()
        {
            beaten = Some(Instant::now());
            notify.alive();
        }
        rounds.save(&core);
    }
    notify.stopping();
    drop(managing);
    socket.stop(LAST_ANSWERS);
    drop(port);
    if let Some(queue) = queue {
        queue.stop();
    }
    log.tell(Level::Notice, "ending", &[]);
    log.flush();
    // A sampler that hangs in a reading is not waited for: the kernel ends it with this process.
    std::mem::forget(core);
    Ok(())
}

/// What is done again and again.
#[derive(Debug, Default)]
struct Rounds {
    saved: Option<Instant>,
    /// The newest snapshot that was seen, and when it was new.
    seen: Option<(u64, Instant)>,
    /// Looks for guests that have come for their holds: for the host's, and for users'.
    adopting: Option<JoinHandle<()>>,
    adopting_users: Option<JoinHandle<()>>,
}

impl Rounds {
    /// Returns whether the sampler has lately taken a snapshot, or said why it could not.
    fn sampler_lives(&mut self, core: &Core) -> bool {
        let engine = core.warm().engine();
        let (generation, now) = (engine.snapshot().generation(), Instant::now());
        if engine.last_error().is_some() || self.seen.is_none_or(|(seen, _)| seen != generation) {
            self.seen = Some((generation, now));
        }
        let patience = core.settings().daemon.interval * 4 + Duration::from_secs(2);
        self.seen.is_some_and(|(_, at)| now.duration_since(at) < patience)
    }

    /// Saves CPU counters for programs that do not ask the daemon, so that none has to measure, and
    /// which guests have come for their holds.
    fn save(&mut self, core: &Arc<Core>) {
        let now = Instant::now();
        if !core.root().is_live() || self.saved.is_some_and(|at| now.duration_since(at) < ROUND) {
            return;
        }
        self.saved = Some(now);
        let mut notes = Notes::default();
        if let Some(mut saved) = Saved::open(core.root(), &mut notes) {
            saved.keep([&core.warm().engine().snapshot().sample().cpu], &mut notes);
        }
        for line in notes.take_all() {
            core.log().tell(Level::Debug, "counters are not saved", &[("why", &line)]);
        }
        self.keep_adopted(core);
        self.keep_adopted_by_users(core);
    }

    /// In a thread that nobody waits for: who reads of a process that is stuck in the kernel is stuck too.
    fn keep_adopted(&mut self, core: &Arc<Core>) {
        if self.adopting.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let core = Arc::clone(core);
        let work = move || match counted::keep_adopted(core.root(), core.settings().claims) {
            Ok(notes) => core.ledger_has(notes),
            Err(error) => {
                let why = chain(&error);
                core.log().tell(
                    Level::Debug,
                    "claims of detected guests are not recorded",
                    &[("why", &why)],
                );
            }
        };
        let thread = std::thread::Builder::new().name("placer-holds".to_owned());
        self.adopting = thread.spawn(work).ok();
    }

    /// The same for users' guests, apart: a user can make a look at an own process last for ever.
    fn keep_adopted_by_users(&mut self, core: &Arc<Core>) {
        if self.adopting_users.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let core = Arc::clone(core);
        let work = move || {
            let done = counted::keep_adopted_by_users(core.root(), core.settings().claims);
            if let Err(error) = done {
                let why = chain(&error);
                let fields: [(&str, &dyn std::fmt::Display); 1] = [("why", &why)];
                core.log().tell(
                    Level::Debug,
                    "users' claims of detected guests are not recorded",
                    &fields,
                );
            }
        };
        let thread = std::thread::Builder::new().name("placer-users".to_owned());
        self.adopting_users = thread.spawn(work).ok();
    }
}
