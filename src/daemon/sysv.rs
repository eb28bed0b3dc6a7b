//! numad's System V message queues, on which its clients ask: the real `numad -w`, and any program
//! that speaks its protocol, find this daemon in the place of numad's.
//!
//! ```text
//! clients of 2015 -> 0xdeadbeef: 64 receivers -> desk -> 4 that answer -> post -> clients
//! clients of 2025 -> 0xaddaadda: the same
//! ```
//!
//! Both versions of numad find a daemon by the same pid file and wait for it on a queue of their own. So the
//! file exists only while the queues of all versions are served whose clients this host has (`found.rs`), and
//! each client is answered as its own version answers. A queue that belongs to another user is tried again
//! every few seconds.
//!
//! A real client that starts takes every message out of the queue, also those for others. So 64 threads wait in
//! the queue, because the kernel hands a message directly to a waiting thread. An answer is sent again every
//! few milliseconds until its client, identified by pid and start time, has exited; leftovers are removed.
//!
//! A client sends its options before its question, as separate messages. They are kept for 1 s (5 ms once the
//! client has exited) and apply to a question that follows; otherwise to all questions, if the kernel names
//! root's process as the last sender. Of two clients in the same instant one may lose its change, which is refused and logged. The queue
//! has mode 0660, as numad's: a member of group root that has exited before it is examined counts as root.
//!
//! An answer longer than numad's 95 characters gets its gaps filled: more nodes, never fewer. Under a flood,
//! questions of live processes come first, once each. A client that finds the queue full (16 KiB) exits with
//! status 1. A queue is served only if this user created and owns it, and removed at the end, so that
//! waiting clients exit.
//!
//! The protocol identifies neither end. The kernel reports the owner of a queue, the last process that
//! sent, and which processes live.

mod answer;
mod desk;
mod found;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod line;
mod post;
mod queue;
mod receivers;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded};
use placer_engine::policy::numad::Version;

use self::desk::{Beat, Desk};
use self::found::Found;
use self::line::{Line, Now};
use self::post::{Mail, Post};
use self::receivers::{Arrived, Place};
use super::core::Core;
use crate::numad::Options;
use crate::numad::queue::ipc::Key;
use crate::numad::queue::letters::Standing;
use crate::numad::queue::places::Places;
use crate::numad::queue::{ipc, pid_file};
use crate::settings::{Level, numad_version, variables};

/// Messages that have been received and not been looked at.
const MOST_ARRIVED: usize = 4096;
/// Questions that wait to be answered, and answers that wait to be sent.
const MOST_JOBS: usize = 1024;
/// One that waits for the ledger's lock does not hold up the others.
const ANSWERING: usize = 4;
/// After so many seconds a thread that has not said anything counts as dead.
const DEAD: u64 = 10;
/// How long a question that has been asked may take when the daemon ends, and its threads.
const LAST_ANSWERS: Duration = Duration::from_millis(100);
const LAST_THREADS: Duration = Duration::from_millis(150);
/// The log's words where all queues are served and the pid file cannot be written.
const NOT_FOUND: &str = "clients of numad's do not find this daemon";
/// Lines about messages that were refused: so many in ten seconds.
const TOLD: u64 = 10;

/// The queues while they are served.
#[derive(Debug)]
pub(super) struct Queue {
    core: Arc<Core>,
    served: Vec<Served>,
    found: Arc<Found>,
    /// The version that a daemon by numad's name was started as.
    named: Option<Version>,
}

/// The queue of one version while it is served.
#[derive(Debug)]
struct Served {
    shared: Arc<Shared>,
    receivers: Vec<JoinHandle<()>>,
}

/// Which clients are answered, and the file by which they find the daemon.
#[derive(Debug)]
struct Clients {
    versions: &'static [Version],
    pid_file: &'static Path,
    /// The version that a daemon by numad's name was started as: without its queue it does not start.
    named: Option<Version>,
}

/// What the queues have in common.
#[derive(Clone, Debug)]
struct Common {
    core: Arc<Core>,
    pid: i32,
    standing: Arc<ArcSwap<Standing>>,
    found: Arc<Found>,
}

/// What the threads of one queue share.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    pid: i32,
    /// Whose clients ask here.
    version: Version,
    line: Line,
    places: Vec<Place>,
    arrivals: Sender<Option<Arrived>>,
    mail: Sender<Mail>,
    /// Clients whose question has been taken and not been answered.
    waiting: Mutex<BTreeSet<i32>>,
    found: Arc<Found>,
    /// The desk's and the post's.
    beats: [Beat; 2],
    refused: Refused,
}

/// Messages that were refused, a few of which are told of.
#[derive(Debug)]
struct Refused {
    since: Instant,
    count: AtomicU64,
    told: AtomicU64,
}

impl Common {
    /// Returns what queues without a queue have in common. No process has the daemon's pid, since a message
    /// can tell the daemon to end.
    #[cfg(any(test, fuzzing))]
    fn of_no_process(core: &Arc<Core>) -> Self {
        let (core, pid) = (Arc::clone(core), i32::MAX);
        let found = Arc::new(Found::new(Path::new("/nowhere/numad.pid"), BTreeSet::new()));
        Self { core, pid, standing: Arc::default(), found }
    }
}

impl Queue {
    /// Begins to serve the queues of both versions. `None`, and a line in the log, if they are not served.
    pub(super) fn start(core: &Arc<Core>) -> Option<Self> {
        if !core.settings().daemon.queue {
            return None;
        }
        let off = |level, why: &dyn Display| {
            core.log().tell(level, "numad clients are not served", &[("why", why)]);
        };
        let clients = match clients(core, None) {
            Ok(clients) => clients,
            Err(why) => {
                off(Level::Info, &why);
                return None;
            }
        };
        match Self::serve(core, &clients, Standing::default()) {
            Ok(queue) => Some(queue),
            Err(why) => {
                off(Level::Error, &why);
                None
            }
        }
    }

    /// Begins to serve the queues as a numad that was started with these options.
    ///
    /// Errors: why they cannot be served.
    pub(super) fn start_as_numad(core: &Arc<Core>, options: &Options) -> Result<Self, String> {
        match clients(core, Some(options.version)) {
            Err(why) => Err(format!("numad clients cannot be served: {why}")),
            Ok(clients) => Self::serve(core, &clients, Standing::of(options)),
        }
    }

    fn serve(core: &Arc<Core>, clients: &Clients, standing: Standing) -> Result<Self, String> {
        // Before a queue is touched: it may be in use.
        let place = clients.pid_file;
        if let Some(process) = pid_file::daemon(place) {
            return Err(lives(process.pid));
        }
        let found = Arc::new(Found::new(place, needed(core, clients.named)));
        let common = Common {
            core: Arc::clone(core),
            pid: i32::try_from(std::process::id()).map_err(|e| e.to_string())?,
            standing: Arc::new(ArcSwap::from_pointee(standing)),
            found: Arc::clone(&found),
        };
        let (core, named) = (Arc::clone(core), clients.named);
        let mut queue = Self { core, served: Vec::new(), found, named };
        let begun = (|| {
            for &version in clients.versions {
                queue.served.push(Served::open(&common, version, clients.named)?);
            }
            // Last, when clients that look for it are answered.
            queue.found.begin()
        })();
        match begun {
            Ok(()) => Ok(queue),
            Err(why) => {
                queue.stop();
                Err(why)
            }
        }
    }

    /// Is called after the settings were read anew. Each answer goes by the newest; which version is in force
    /// decides when clients find the daemon.
    pub(super) fn reload(&self) {
        if let Err(why) = self.found.need(needed(&self.core, self.named)) {
            self.core.log().tell(Level::Error, NOT_FOUND, &[("why", &why)]);
        }
    }

    /// Returns whether the threads that answer are alive; asked for the watchdog.
    pub(super) fn alive(&self) -> bool {
        self.served.iter().flat_map(|one| &one.shared.beats).all(|beat| beat.age() < DEAD)
    }

    /// Ends it within 300 ms. Questions that were asked are answered; to clients that come later the kernel
    /// reports that there is no queue.
    pub(super) fn stop(self) {
        self.found.end();
        let (since, each) = (Instant::now(), &self.served);
        let idle = |one: &Served| one.shared.waiting(|waiting| waiting.is_empty());
        while !each.iter().all(idle) && since.elapsed() < LAST_ANSWERS {
            std::thread::sleep(Duration::from_millis(1));
        }
        each.iter().for_each(Served::close);
        let since = Instant::now();
        let receivers = || each.iter().flat_map(|one| &one.receivers);
        while receivers().any(|thread| !thread.is_finished()) && since.elapsed() < LAST_THREADS {
            receivers().for_each(ipc::wake);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Served {
    /// Makes a version's queue, and starts its threads. A queue that cannot be ours is tried again later,
    /// unless a daemon of that version was asked for.
    ///
    /// Errors: that; there can be no more threads.
    fn open(common: &Common, version: Version, named: Option<Version>) -> Result<Self, String> {
        let now = match queue::open(Key::of(version)) {
            Ok(id) => Now::At(id),
            Err(error) if named == Some(version) => return Err(error.to_string()),
            Err(error) => {
                let needed = common.found.needs(version);
                let level = if needed { Level::Error } else { Level::Warning };
                let fields: [(&str, &dyn Display); 2] = [("version", &version), ("why", &error)];
                common.core.log().tell(level, "numad clients are not served", &fields);
                Now::Away
            }
        };
        let (arrivals, arrived) = bounded(MOST_ARRIVED);
        let (mail, inbox) = bounded(MOST_JOBS);
        let shared = Shared::new(common, version, Line::new(now), arrivals, mail);
        let mut served = Self { shared, receivers: Vec::new() };
        // Before its threads, which may find out that it is lost.
        served.shared.set_served(matches!(now, Now::At(_)));
        match served.start(Arc::clone(&common.standing), arrived, inbox) {
            Ok(()) => Ok(served),
            Err(error) => {
                served.close();
                Err(format!("cannot start a thread: {error}"))
            }
        }
    }

    fn start(
        &mut self,
        standing: Arc<ArcSwap<Standing>>,
        arrived: Receiver<Option<Arrived>>,
        inbox: Receiver<Mail>,
    ) -> std::io::Result<()> {
        let shared = &self.shared;
        let (jobs, questions) = bounded(MOST_JOBS);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.stack_size(super::STACK).spawn(work).map(drop)
        };
        let post = Post::new(Arc::clone(shared));
        spawn("placer-post", Box::new(move || post.run(&inbox)))?;
        let desk = Desk::new(Arc::clone(shared), standing, jobs);
        spawn("placer-desk", Box::new(move || desk.run(&arrived)))?;
        for _ in 0..ANSWERING {
            let (shared, questions) = (Arc::clone(shared), questions.clone());
            spawn("placer-answer", Box::new(move || answer::run(&shared, &questions)))?;
        }
        self.receivers = receivers::start(shared)?;
        Ok(())
    }

    /// Removes the queue, if it is still ours, and tells the threads to end.
    fn close(&self) {
        let shared = &self.shared;
        let now = shared.line.now();
        shared.line.set(Now::Off);
        if let Now::At(id) = now
            && queue::check(shared.key(), id).is_ok()
        {
            let _ = ipc::remove(id);
        }
        let _ = shared.arrivals.try_send(None);
        let _ = shared.mail.try_send(Mail::End);
    }
}

/// Returns which clients this daemon answers: as root those of both versions, which find it by the same
/// file; as another user, by numad's name, those of the version that looks for a user's daemon.
///
/// Errors: why none.
fn clients(core: &Core, named: Option<Version>) -> Result<Clients, &'static str> {
    if !core.root().is_live() {
        return Err("this daemon answers for a recorded machine");
    }
    if variables::value("PLACER_STATE_DIR").is_some() {
        return Err("PLACER_STATE_DIR keeps this daemon apart");
    }
    if nix::unistd::geteuid().is_root() {
        let versions = &[Version::V2015, Version::V2025];
        return Ok(Clients { versions, pid_file: Places::host().pid_file, named });
    }
    match named {
        Some(Version::V2025) => Ok(Clients {
            versions: &[Version::V2025],
            pid_file: Places::of(Version::V2025).pid_file,
            named,
        }),
        Some(Version::V2015) | None => Err("they look for a daemon of root"),
    }
}

/// Returns the versions whose clients can be on this host.
fn needed(core: &Core, named: Option<Version>) -> BTreeSet<Version> {
    if !nix::unistd::geteuid().is_root() {
        return named.into_iter().collect();
    }
    let in_force = named.unwrap_or_else(|| core.settings().numad_version());
    [Some(in_force), numad_version::installed()].into_iter().flatten().collect()
}

fn lives(pid: i32) -> String {
    format!("numad runs as process {pid}: stop it first (systemctl stop numad, or numad -i 0)")
}

impl Shared {
    fn new(
        common: &Common,
        version: Version,
        line: Line,
        arrivals: Sender<Option<Arrived>>,
        mail: Sender<Mail>,
    ) -> Arc<Self> {
        Arc::new(Self {
            core: Arc::clone(&common.core),
            pid: common.pid,
            version,
            line,
            places: receivers::places(),
            arrivals,
            mail,
            waiting: Mutex::default(),
            found: Arc::clone(&common.found),
            beats: [Beat::new(), Beat::new()],
            refused: Refused { since: Instant::now(), count: 0.into(), told: 0.into() },
        })
    }

    /// Returns the key of the queue.
    fn key(&self) -> Key {
        Key::of(self.version)
    }

    /// Says that the queue is gone, also to the one that makes it anew.
    fn lose(&self, id: ipc::Id) {
        if self.line.lose(id) {
            let _ = self.mail.try_send(Mail::Lost);
        }
    }

    /// Does something with the clients whose question has not been answered.
    fn waiting<T>(&self, what: impl FnOnce(&mut BTreeSet<i32>) -> T) -> T {
        what(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self, level: Level, what: &str, fields: &[(&str, &dyn Display)]) {
        self.core.log().tell(level, what, fields);
    }

    /// Counts a message that is not obeyed, and tells of a few.
    fn refuse(&self, last_sender: i32, why: &dyn Display) {
        let refused = &self.refused;
        let count = refused.count.fetch_add(1, Ordering::Relaxed) + 1;
        let earned = TOLD + refused.since.elapsed().as_secs() * TOLD / 10;
        if refused.told.load(Ordering::Relaxed) < earned {
            refused.told.fetch_add(1, Ordering::Relaxed);
            let fields: [(&str, &dyn Display); 4] = [
                ("queue", &self.key()),
                ("last_sender", &last_sender),
                ("why", why),
                ("count", &count),
            ];
            self.tell(Level::Warning, "a message was refused", &fields);
        }
    }

    /// Notes that the queue is served from now on, or no longer, and so whether clients find the daemon.
    fn set_served(&self, served: bool) {
        if let Err(why) = self.found.set_served(self.version, served) {
            self.tell(Level::Error, NOT_FOUND, &[("why", &why)]);
        }
    }
}
