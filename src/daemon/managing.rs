//! Moves running guests again and again, in a thread of its own: no answer waits for it.
//!
//! Off by default (`[manage] enabled`, `--manage`). A look takes as long as what guests want is measured; moves take
//! as long as their memory. A daemon that ends in the middle leaves the rest of a move to the next one, as after a kill.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use placer_engine::Bytes;
use placer_engine::balance::manager::Manager;

use super::core::Core;
use super::metrics::Managed;
use crate::error_chain::chain;
use crate::report::moved::{MovedGuest, Outcome};
use crate::service::managing::{self, Arrival, Done};
use crate::service::moving::note_kernel_balancing;
use crate::service::notes::Notes;
use crate::settings::Level;

/// How often it is looked whether it is to end while nothing is to be done.
const GLANCE: Duration = Duration::from_secs(1);

type Field<'a> = (&'a str, &'a dyn Display);

/// The manager while it runs.
#[derive(Debug)]
pub(super) struct Managing {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Managing {
    /// Starts or ends it as the settings say.
    pub(super) fn follow(old: Option<Self>, core: &Arc<Core>) -> Option<Self> {
        let manages = core.manages();
        let new = match old {
            _ if !manages => None,
            Some(old) if !old.thread.is_finished() => Some(old),
            old => {
                if old.is_some() {
                    let what = "the thread that moves guests has failed and is started again";
                    core.log().tell(Level::Error, what, &[]);
                }
                Self::start(core)
            }
        };
        core.wanted().hinder(manages && new.is_none());
        new
    }

    fn start(core: &Arc<Core>) -> Option<Self> {
        let cannot = |why: &dyn Display| {
            core.log().tell(Level::Error, "guests are not moved", &[("why", why)]);
            None
        };
        if let Some(why) = managing::lacks() {
            return cannot(&why);
        }
        let ends = Arc::new(AtomicBool::new(false));
        let (told, core_of_thread) = (Arc::clone(&ends), Arc::clone(core));
        let thread = std::thread::Builder::new().name("placer-manage".to_owned());
        match thread.spawn(move || Thread::new(&core_of_thread, &told).run()) {
            Ok(thread) => Some(Self { ends, thread }),
            Err(error) => cannot(&error),
        }
    }
}

impl Drop for Managing {
    fn drop(&mut self) {
        // It is not waited for: a move may take minutes.
        self.ends.store(true, Ordering::Release);
    }
}

struct Thread<'a> {
    core: &'a Core,
    ends: &'a AtomicBool,
    /// What was logged last of what is in the way.
    said: Vec<String>,
}

impl<'a> Thread<'a> {
    fn new(core: &'a Core, ends: &'a AtomicBool) -> Self {
        Self { core, ends, said: Vec::new() }
    }

    fn goes_on(&self) -> bool {
        !self.ends.load(Ordering::Acquire)
    }

    fn run(mut self) {
        let mut notes = Notes::default();
        note_kernel_balancing(&mut notes);
        let set = self.core.settings();
        let interval = set.manage.interval.as_secs();
        self.core.log().tell(Level::Notice, "guests are moved", &[("interval", &interval)]);
        let resumed = managing::resume(&set, &mut notes);
        self.tell(resumed.map_err(|error| chain(error.as_ref())), notes);
        let mut manager = Manager::default();
        while self.goes_on() {
            let (set, begun) = (self.core.settings(), Instant::now());
            let mut notes = Notes::default();
            for pid in self.core.wanted().forget_ended() {
                let what = "a process of numad's -p or -x has ended and is not listed any more";
                self.core.log().tell(Level::Info, what, &[("pid", &pid)]);
            }
            let options = || self.core.wanted().options();
            let goes_on = || self.goes_on();
            let done = managing::round(&mut manager, &set, &options, &goes_on, &mut notes);
            self.tell(done.map_err(|error| chain(error.as_ref())), notes);
            // A look takes that long; an error may come at once.
            while self.goes_on() && begun.elapsed() < set.manage.interval {
                std::thread::sleep(GLANCE.min(set.manage.interval));
            }
        }
        self.core.log().tell(Level::Notice, "guests are not moved any more", &[]);
    }

    /// Counts and logs what was done, and what is in the way if that is new.
    fn tell(&mut self, done: Result<Done, String>, mut notes: Notes) {
        let plain = |line: String| line.trim_start_matches("placer: warning: ").to_owned();
        let mut said: Vec<String> = notes.take_all().into_iter().map(plain).collect();
        match done {
            Ok(done) => {
                self.count(&done);
                said.extend(done.failed.map(|error| chain(error.as_ref())));
            }
            Err(why) => said.push(why),
        }
        for why in said.iter().filter(|why| !self.said.contains(why)) {
            self.core.log().tell(Level::Warning, "while guests are moved", &[("why", why)]);
        }
        self.said = said;
    }

    fn count(&self, done: &Done) {
        let counts = &self.core.metrics().managed;
        counts.seen_gain.add(milliseconds(done.seen_gain));
        for arrival in &done.moved {
            self.tell_of(arrival, counts);
        }
        for guest in &done.undone {
            let nodes = guest.from.to_string();
            let (level, what) = match guest.outcome {
                Outcome::Returned => {
                    counts.undone.add(1);
                    (Level::Notice, "put back")
                }
                Outcome::Ended => (Level::Info, "ended before it was put back"),
                Outcome::Moved | Outcome::Kept | Outcome::Unfinished => {
                    counts.kept.add(1);
                    (Level::Warning, "not put back")
                }
            };
            self.tell_guest(level, what, guest, &[("nodes", &nodes)]);
        }
    }

    fn tell_of(&self, arrival: &Arrival, counts: &Managed) {
        let guest = &arrival.guest;
        let (from, to) = (guest.from.to_string(), guest.to.to_string());
        match guest.outcome {
            Outcome::Moved => {
                counts.moved.add(1);
                counts.bytes.add(i64::try_from(guest.moved.get()).unwrap_or(i64::MAX));
                counts.predicted_gain.add(milliseconds(arrival.gain));
                let (before, after) = arrival.slowdown;
                let (before, after) = (format!("{before:.2}"), format!("{after:.2}"));
                let gain = format!("{:.1}", arrival.gain);
                let (bytes, stayed) = (guest.moved.get(), guest.stayed.get());
                let mut fields: Vec<Field<'_>> =
                    vec![("from", &from), ("to", &to), ("bytes", &bytes)];
                if guest.stayed > Bytes::ZERO {
                    fields.push(("stayed", &stayed));
                }
                // Of moves that a killed run had begun no more is known.
                if arrival.slowdown.0.is_finite() {
                    fields.extend([
                        ("slowdown", &before as &dyn Display),
                        ("predicted", &after),
                        ("gain", &gain),
                    ]);
                }
                self.tell_guest(Level::Notice, "moved", guest, &fields);
            }
            Outcome::Returned | Outcome::Kept => {
                counts.kept.add(1);
                self.tell_guest(Level::Notice, "not moved", guest, &[]);
            }
            Outcome::Ended => self.tell_guest(Level::Info, "ended before its move", guest, &[]),
            Outcome::Unfinished => {
                counts.kept.add(1);
                let what = "neither moved nor put back";
                self.tell_guest(Level::Warning, what, guest, &[("from", &from), ("to", &to)]);
            }
        }
    }

    fn tell_guest(&self, level: Level, what: &str, guest: &MovedGuest, more: &[Field<'_>]) {
        let claim = guest.name.claim.map_or_else(|| "-".to_owned(), |claim| claim.to_string());
        let mut fields: Vec<Field<'_>> =
            vec![("pid", &guest.name.pid), ("program", &guest.name.program), ("claim", &claim)];
        fields.extend_from_slice(more);
        if let Some(why) = &guest.why {
            fields.push(("why", why));
        }
        self.core.log().tell(level, what, &fields);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "saturation is meant")]
fn milliseconds(seconds: f64) -> i64 {
    if seconds.is_finite() { (seconds * 1_000.0) as i64 } else { 0 }
}
