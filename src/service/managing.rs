//! Looks at running guests again and again, and moves those that are worth it: what `placer daemon --manage` does.
//!
//! [`Manager`] has the rules on top of plans; [`round`] is one look at this host, and what follows from it.

mod selected;

use std::error::Error;
use std::time::Duration;

use nix::errno::Errno;
use placer_engine::balance::manager::{Decision, Look, Manager};
use placer_engine::claims::{ProcessId, Processes};
use placer_engine::policy::numad::Version;
use placer_engine::{NodeSet, SysRoot};
use placer_launcher::mover::{Host as _, Live, Progress};
use placer_launcher::sys;

use super::journal;
use super::moving::{Moved, Mover, Session};
use super::notes::Notes;
use super::running::{Demand, Observation, observe};
use crate::report::moved::{MovedGuest, Outcome};
use crate::settings::Settings;

/// What numad's options say about managing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumadOptions {
    /// `-p`: may be moved whatever the settings say.
    pub include: Vec<ProcessId>,
    /// `-x`: are not moved.
    pub exclude: Vec<ProcessId>,
    /// `-S 0`: no others than those of `-p` are moved.
    pub only_listed: bool,
    /// `-i`: the least time between two looks.
    pub least_interval: Duration,
    /// `-u`: how far the CPUs of a node may be used, in percent.
    pub utilisation: Option<u32>,
    /// `-R`: nothing is moved to nodes with these CPUs.
    pub reserved: Option<(Version, Vec<u8>)>,
}

/// A guest that was moved, with its slowdown before and as predicted, and the CPU seconds that this should save.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// What became of it.
    pub guest: MovedGuest,
    /// Its slowdown before, and as the plan has it.
    pub slowdown: (f64, f64),
    /// CPU seconds.
    pub gain: f64,
}

/// What a round has done.
#[derive(Debug, Default)]
pub struct Done {
    /// The guests of its plan, and those whose moves a killed run had begun.
    pub moved: Vec<Arrival>,
    /// The guests that were to be put back.
    pub undone: Vec<MovedGuest>,
    /// CPU seconds that moves were seen to save once they were judged; negative where guests became slower.
    pub seen_gain: f64,
    /// Why it ended before all was done.
    pub failed: Option<Box<dyn Error>>,
}

/// Returns which right this process lacks to move guests of others, in words; `None` where it lacks none.
pub fn lacks() -> Option<&'static str> {
    if sys::nodes_of_pages(std::process::id(), &[0]) == Err(Errno::EPERM) {
        return Some(
            "the system call move_pages is filtered: systemctl edit placer, as the guide says",
        );
    }
    // Users move their own guests without it.
    let root = nix::unistd::geteuid().is_root();
    (root && !has_sys_nice())
        .then_some("CAP_SYS_NICE is missing: systemctl edit placer, as the guide says")
}

/// Source: `CapEff` in `/proc/self/status`.
fn has_sys_nice() -> bool {
    const CAP_SYS_NICE: u32 = 23;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> CAP_SYS_NICE & 1 == 1)
}

/// Finishes what a run that was killed had begun.
///
/// Errors: another process moves guests now; journal or claims cannot be read or written.
pub fn resume(set: &Settings, notes: &mut Notes) -> Result<Done, Box<dyn Error>> {
    let mut progress = |_: &Progress<'_>| {};
    let mut session = Session::open(mover(set, &mut progress))?;
    let resumed = session.resume_rest(notes)?;
    Ok(Done { moved: resumed.into_iter().map(Arrival::of_unknown).collect(), ..Done::default() })
}

impl Arrival {
    /// Of a guest of which is not known how slow it was.
    fn of_unknown(guest: MovedGuest) -> Self {
        Self { guest, slowdown: (f64::NAN, f64::NAN), gain: 0.0 }
    }
}

/// Looks at the guests of this host, which takes the interval of the settings, and moves what is worth it. Nothing is
/// moved if `goes_on` says no after the look.
///
/// Errors: the host cannot be read. What fails after the look is in what it returns, beside what was done before.
pub fn round(
    manager: &mut Manager<ProcessId>,
    set: &Settings,
    options: &dyn Fn() -> NumadOptions,
    goes_on: &dyn Fn() -> bool,
    notes: &mut Notes,
) -> Result<Done, Box<dyn Error>> {
    let interval = set.manage.interval.max(options().least_interval);
    let seen = observe(&SysRoot::live(), set, Demand::Over(interval), notes)?;
    let mut look = Processes::look()?;
    let now_s = Duration::from_nanos(look.now().nanoseconds()).as_secs_f64();
    // One that has ended meanwhile is like no other.
    let ended = |pid| ProcessId { pid_namespace: 0, pid, start: 0 };
    let pids = seen.guests.iter().map(|guest| guest.name.pid);
    let ids: Vec<ProcessId> =
        pids.map(|pid| look.identify(pid).unwrap_or_else(|| ended(pid))).collect();
    let options = options();
    let known = journal::journal_of(look.boot());
    let left = |id: &ProcessId| known.as_ref().map(|known| known.left(id, now_s));
    let left: Vec<Vec<NodeSet>> = ids.iter().map(|id| left(id).unwrap_or_default()).collect();
    let guests = selected::guests(&seen, &ids, set, &options, &mut look, notes);
    let mut rules = set.manage.rules(&seen.rules);
    if let Some(percent) = options.utilisation {
        rules.headroom = 100.0 / f64::from(percent.max(1));
    }
    if !goes_on() {
        return Ok(Done::default());
    }
    // Memory that tasks wait for is no time to move more of it.
    let may_plan = Live::new().pressure(None) <= f64::from(set.manage.pressure);
    let (host, ids, left) = (&seen.host, ids.as_slice(), left.as_slice());
    let decision = manager.look(Look { host, guests, ids, left, rules, now_s, may_plan })?;
    let mut done = Done { seen_gain: decision.seen_gain, ..Done::default() };
    done.failed = carry_out(decision, &seen, ids, manager, set, &mut done, notes).err();
    Ok(done)
}

/// Puts guests back or moves them.
///
/// Errors: as [`resume`]. What was done before is in `done`.
fn carry_out(
    decision: Decision<ProcessId>,
    seen: &Observation,
    ids: &[ProcessId],
    manager: &mut Manager<ProcessId>,
    set: &Settings,
    done: &mut Done,
    notes: &mut Notes,
) -> Result<(), Box<dyn Error>> {
    let Decision { worse, plan, .. } = decision;
    let mut progress = |_: &Progress<'_>| {};
    if !worse.is_empty() {
        let mut session = match Session::open(mover(set, &mut progress)) {
            Ok(session) => session,
            Err(error) => {
                manager.put_off(worse);
                return Err(error);
            }
        };
        let (guests, all) = session.take_back(&worse, notes);
        done.undone = guests;
        if all.is_err() {
            // The others are tried again.
            done.undone.retain(|guest| guest.outcome == Outcome::Returned);
            manager.put_off(worse);
        }
        return all;
    }
    if plan.steps.is_empty() {
        return Ok(());
    }
    let mut session = Session::open(mover(set, &mut progress))?;
    if session.is_unfinished() {
        // Of another run that was killed, or of a look that failed: after it the guests are not where they were seen.
        let resumed = session.resume_rest(notes)?;
        done.moved = resumed.into_iter().map(Arrival::of_unknown).collect();
        return Ok(());
    }
    let (mut applied, all) = session.apply_so_far(seen, &plan, &manager.judged(), notes)?;
    if all.is_err() {
        // The others are finished at a next look.
        applied.guests.retain(|guest| guest.outcome != Outcome::Unfinished);
    }
    done.moved = arrivals(applied, seen, &plan, manager, ids);
    all
}

fn mover<'a>(set: &'a Settings, progress: &'a mut dyn FnMut(&Progress<'_>)) -> Mover<'a> {
    // The next looks verify.
    Mover { settings: set, rate: set.manage.rate, verify: None, progress }
}

/// Returns what became of the guests of a plan; those that have arrived are judged at the next looks.
fn arrivals(
    applied: Moved,
    seen: &Observation,
    plan: &placer_engine::balance::Plan,
    manager: &mut Manager<ProcessId>,
    ids: &[ProcessId],
) -> Vec<Arrival> {
    let arrival = |guest: MovedGuest| {
        let at = seen.guests.iter().position(|known| known.name.pid == guest.name.pid);
        let known = at.and_then(|at| Some((at, &seen.guests[at].guest, plan.slowdowns.get(at)?)));
        let Some((at, known, &slowdown)) = known else {
            return Arrival::of_unknown(guest);
        };
        let mut gain = 0.0;
        if guest.outcome == Outcome::Moved {
            manager.moved(ids[at], known, slowdown.0);
            let horizon = seen.rules.horizon_s.min(known.age_s);
            gain = horizon * known.demand * (slowdown.0 - slowdown.1);
        }
        Arrival { guest, slowdown, gain }
    };
    applied.guests.into_iter().map(arrival).collect()
}
