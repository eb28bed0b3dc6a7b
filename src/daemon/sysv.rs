//! numad's System V message queue, on which its clients ask: the real `numad -w`, and any program
//! that speaks its protocol, find this daemon in the place of numad's.
//!
//! ```text
//! 64 receivers -> desk -> 4 that answer -> post -> clients
//! ```
//!
//! A real client that starts takes every message out of the queue, whoever it is for. So 64 threads wait in
//! the queue, because the kernel hands a message directly to a waiting thread. An answer is sent again every
//! few milliseconds until its client, identified by pid and start time, has exited; leftovers are removed.
//!
//! A client sends its options before its question, as separate messages. They are kept for 0.1 s and apply to
//! a question that follows; otherwise to all questions, if the kernel names root's process as the last
//! sender. Of two clients in the same instant one may lose its change, which is refused and logged. The queue
//! has mode 0660, as numad's: a member of group root that has exited before it is examined counts as root.
//!
//! An answer longer than numad's 95 characters gets its gaps filled: more nodes, never fewer. Under a flood,
//! questions of live processes come first, once each. A client that finds the queue full (16 KiB) exits with
//! status 1. The queue is served only if this user created and owns it, and removed at the end, so that
//! waiting clients exit.
//!
//! What the protocol cannot tell (who sends, whether the other end is there) is made up for by what
//! the kernel tells: whose the queue is, who was the last to send, which processes live.

mod answer;
mod desk;
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

use crossbeam_channel::{Sender, bounded};

use self::desk::{Beat, Desk};
use self::line::{Line, Now};
use self::post::{Mail, Post};
use self::receivers::{Arrived, Place};
use super::core::Core;
use crate::numad::Options;
use crate::numad::queue::letters::Standing;
use crate::numad::queue::pid_file::{PidFile, Taken};
use crate::numad::queue::{ipc, pid_file};
use crate::settings::Level;
use crate::settings::variables;

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
/// Lines about messages that were refused: so many in ten seconds.
const TOLD: u64 = 10;

/// The queue while it is served.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    receivers: Vec<JoinHandle<()>>,
    arrivals: Sender<Option<Arrived>>,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    pid: i32,
    line: Line,
    places: Vec<Place>,
    arrivals: Sender<Option<Arrived>>,
    mail: Sender<Mail>,
    /// Clients whose question has been taken and not been answered.
    waiting: Mutex<BTreeSet<i32>>,
    pid_file: Mutex<Option<PidFile>>,
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

impl Queue {
    /// Begins to serve the queue. `None`, and a line in the log, where that cannot or shall not be.
    pub(super) fn start(core: &Arc<Core>) -> Option<Self> {
        if !core.settings().daemon.queue {
            return None;
        }
        let off = |level, why: &dyn Display| {
            core.log().tell(level, "clients of numad's are not answered", &[("why", why)]);
        };
        if let Some(why) = not_the_hosts(core) {
            off(Level::Info, &why);
            return None;
        }
        match Self::serve(core, Standing::default()) {
            Ok(queue) => Some(queue),
            Err(why) => {
                off(Level::Error, &why);
                None
            }
        }
    }

    /// Begins to serve the queue as a numad that was started with these options.
    ///
    /// Errors: why that cannot be.
    pub(super) fn start_as_numad(core: &Arc<Core>, options: &Options) -> Result<Self, String> {
        match not_the_hosts(core) {
            Some(why) => Err(format!("clients of numad's cannot be answered: {why}")),
            None => Self::serve(core, Standing::of(options)),
        }
    }

    fn serve(core: &Arc<Core>, standing: Standing) -> Result<Self, String> {
        // Before the queue is touched: it may be in use.
        let place = Path::new(pid_file::PLACE);
        if let Some(process) = pid_file::daemon(place) {
            return Err(lives(process.pid));
        }
        let id = queue::open().map_err(|error| error.to_string())?;
        let (arrivals, arrived) = bounded(MOST_ARRIVED);
        let (mail, inbox) = bounded(MOST_JOBS);
        let (jobs, questions) = bounded(MOST_JOBS);
        let pid = i32::try_from(std::process::id()).map_err(|e| e.to_string())?;
        let shared = Shared::new(core, pid, Line::new(id), arrivals.clone(), mail);
        let error = |e: std::io::Error| format!("cannot start a thread: {e}");
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.stack_size(super::STACK).spawn(work).map(drop).map_err(error)
        };
        let post = Post::new(Arc::clone(&shared));
        spawn("placer-post", Box::new(move || post.run(&inbox)))?;
        let desk = Desk::new(Arc::clone(&shared), standing, jobs);
        spawn("placer-desk", Box::new(move || desk.run(&arrived)))?;
        for _ in 0..ANSWERING {
            let (shared, questions) = (Arc::clone(&shared), questions.clone());
            spawn("placer-answer", Box::new(move || answer::run(&shared, &questions)))?;
        }
        let receivers = receivers::start(&shared).map_err(error)?;
        let queue = Self { shared, receivers, arrivals };
        // Last, when somebody answers those who look for it.
        let pid_file = PidFile::take(place).map_err(|taken| match taken {
            Taken::By(process) => lives(process.pid),
            Taken::Io(error) => format!("cannot write {}: {error}", place.display()),
        });
        match pid_file {
            Ok(file) => {
                queue.shared.keep_pid_file(file);
                Ok(queue)
            }
            Err(why) => {
                queue.stop();
                Err(why)
            }
        }
    }

    /// Is called after the settings were read anew.
    pub(super) fn reload(&self) {
        // Each answer goes by the newest.
    }

    /// Returns whether the threads that answer are alive; asked for the watchdog.
    pub(super) fn alive(&self) -> bool {
        self.shared.beats.iter().all(|beat| beat.age() < DEAD)
    }

    /// Ends it within 300 ms. Who asks is answered, and who comes later is told by the kernel that
    /// there is nobody.
    pub(super) fn stop(self) {
        let shared = &self.shared;
        shared.put_away_pid_file();
        let since = Instant::now();
        while !shared.waiting(|waiting| waiting.is_empty()) && since.elapsed() < LAST_ANSWERS {
            std::thread::sleep(Duration::from_millis(1));
        }
        let now = shared.line.now();
        shared.line.set(Now::Off);
        if let Now::At(id) = now
            && queue::check(id).is_ok()
        {
            let _ = ipc::remove(id);
        }
        let _ = self.arrivals.try_send(None);
        let _ = shared.mail.try_send(Mail::End);
        let since = Instant::now();
        while self.receivers.iter().any(|thread| !thread.is_finished())
            && since.elapsed() < LAST_THREADS
        {
            self.receivers.iter().for_each(ipc::wake);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Returns why this daemon is not the one that clients of numad's may ask on this host.
fn not_the_hosts(core: &Core) -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("they look for a daemon of root's");
    }
    if !core.root().is_live() {
        return Some("this is about a recorded machine");
    }
    variables::value("PLACER_STATE_DIR").map(|_| "PLACER_STATE_DIR sets this daemon apart")
}

fn lives(pid: i32) -> String {
    format!("numad runs as process {pid}: stop it first (systemctl stop numad, or numad -i 0)")
}

impl Shared {
    fn new(
        core: &Arc<Core>,
        pid: i32,
        line: Line,
        arrivals: Sender<Option<Arrived>>,
        mail: Sender<Mail>,
    ) -> Arc<Self> {
        Arc::new(Self {
            core: Arc::clone(core),
            pid,
            line,
            places: receivers::places(),
            arrivals,
            mail,
            waiting: Mutex::default(),
            pid_file: Mutex::default(),
            beats: [Beat::new(), Beat::new()],
            refused: Refused { since: Instant::now(), count: 0.into(), told: 0.into() },
        })
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
            let fields: [(&str, &dyn Display); 3] =
                [("last_sender", &last_sender), ("why", why), ("count", &count)];
            self.tell(Level::Warning, "a message was refused", &fields);
        }
    }

    fn keep_pid_file(&self, file: PidFile) {
        *self.pid_file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    fn put_away_pid_file(&self) {
        *self.pid_file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
