//! Looks at guests that run, for plans that move them: where their memory is, and what CPU time they want.
//!
//! Nothing is held meanwhile: the ledger is read without its lock, and no process is stopped.

mod guest;
mod residence;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use placer_engine::balance::{self, BalanceError, HostNode, Rules};
use placer_engine::claims::{Claim, Origin, Owner, ProcessId, Processes, ThreadTimes, View};
use placer_engine::source::SnapshotReader;
use placer_engine::{Bytes, Snapshot, SysRoot, reserve};

use super::counted;
use super::journal;
use super::notes::{Impact, Notes};
use super::sampling::{self, Window};
use crate::report::balance::{GuestName, MovesForm, StepForm};
use crate::settings::Settings;

pub use guest::RunningGuest;

/// Guests that are looked at; more are left out with a note.
const MAX_GUESTS: usize = 512;
/// Time for looking at all of them, in two parts: before the time over which demand is measured and after it. What
/// is not known by then stays unknown.
const LOOKING_TIME: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1_500)];

/// How the CPU time that guests want is measured.
#[derive(Clone, Copy, Debug)]
pub enum Demand {
    /// What their threads ran and waited over this time.
    Over(Duration),
    /// What they ran on the average since they started: without waiting.
    SinceStart,
}

/// A host and its guests, as plans see them.
#[derive(Debug)]
pub struct Observation {
    /// The nodes.
    pub host: balance::Host,
    /// The guests that run, by pid.
    pub guests: Vec<RunningGuest>,
    /// The host as it was read.
    pub snapshot: Snapshot,
    /// The limits of plans, by the settings of advice.
    pub rules: Rules,
}

/// One guest to look at: what was promised to it, and by whose request.
#[derive(Debug)]
struct Subject {
    owner: Owner,
    claims: Vec<Arc<Claim>>,
}

/// Looks at the guests of a host.
///
/// Errors: the host cannot be read, or has figures that make no sense.
pub fn observe(
    root: &SysRoot,
    set: &Settings,
    demand: Demand,
    notes: &mut Notes,
) -> Result<Observation, Box<dyn std::error::Error>> {
    let rules = set.advise.rules();
    let view = counted::view(root, set.claims, notes);
    let mut look = Processes::look()?;
    let subjects = subjects(view.as_ref(), notes);
    let mut host = SnapshotReader::open(root, None)?;
    // Reading takes as long both times: from start to start it is the same time for each guest.
    let start = Instant::now();
    let before = times(&mut look, &subjects, start + LOOKING_TIME[0]);
    let snapshot = match demand {
        Demand::Over(window) => sampling::snapshot(&mut host, Window::Now(window), notes)?,
        Demand::SinceStart => {
            // Without guests the load is of no use.
            let brief = Duration::from_millis(if subjects.is_empty() { 0 } else { 100 });
            sampling::snapshot(&mut host, Window::Recent(brief), notes)?
        }
    };
    if let Demand::Over(window) = demand {
        // A recorded host is read without waiting, and its guests run here.
        std::thread::sleep(window.saturating_sub(start.elapsed()));
    }
    let elapsed = start.elapsed();
    let deadline = Instant::now() + LOOKING_TIME[1];
    let after = times(&mut look, &subjects, deadline);
    // What guests have touched meanwhile is no longer claimed and no longer free: first the one, then the other.
    let charges = counted::view(root, set.claims, &mut Notes::default()).map(|view| view.charges);
    let snapshot = match charges {
        Some(charges) => host.again(&snapshot, charges)?,
        None => snapshot,
    };
    let measured = matches!(demand, Demand::Over(_)).then_some(elapsed);
    let mut guests = Vec::new();
    let mut late = 0;
    for subject in &subjects {
        let Some(process) = subject.owner.process() else { continue };
        if Instant::now() >= deadline {
            late += 1;
            continue;
        }
        let since = before.get(process).zip(after.get(process));
        let used = since.map(|(before, after)| guest::Used::between(before, after, measured));
        if let Some(guest) = guest::look_at(subject, used, &mut look, &snapshot) {
            guests.push(guest);
        }
    }
    if late > 0 {
        let time = LOOKING_TIME.iter().sum::<Duration>().as_secs();
        let what = format!("{late} guests are left out: looking at the others took {time} s");
        notes.state(Impact::Uncounted, what);
    }
    guests.sort_by_key(|guest| guest.name.pid);
    if root.is_live() {
        moved_before(&mut guests, &mut look);
    }
    let host = nodes(&snapshot, view.as_ref(), &guests, rules.smt_percent)?;
    let rules = Rules { memory_bound: rules.memory_bound, ..Rules::default() };
    Ok(Observation { host, guests, snapshot, rules })
}

/// Returns the moves that placer balance would list, by what guests did since they started. What cannot be counted is not
/// said: the caller has read the ledger too.
///
/// Errors: as [`observe`].
pub fn worth_moving(
    root: &SysRoot,
    set: &Settings,
) -> Result<Vec<StepForm>, Box<dyn std::error::Error>> {
    let seen = observe(root, set, Demand::SinceStart, &mut Notes::default())?;
    let plan = balance::plan(&seen.host, &seen.plan_guests(), &seen.rules)?;
    Ok(MovesForm::of(&plan, &seen.names()).steps().to_vec())
}

/// Notes which guests were moved not long ago, and which are left alone since.
fn moved_before(guests: &mut [RunningGuest], look: &mut Processes) {
    let Some(journal) = journal::journal_of(look.boot()) else { return };
    let now_s = Duration::from_nanos(look.now().nanoseconds()).as_secs_f64();
    for guest in guests {
        let Some(process) = look.identify(guest.name.pid) else { continue };
        guest.guest.rested_s = journal.rested_s(&process, now_s);
        let mut kept = journal.kept.iter().filter(|kept| kept.until_s > now_s);
        if let Some(kept) = kept.find(|kept| kept.guest == process) {
            guest.name.tried = Some(kept.why.clone());
            guest.guest.fixed = guest.guest.fixed.or(Some(balance::Fixed::Tried));
        }
    }
}

/// Returns the guests to look at, the host's own first: the owners of claims, and machines without one.
fn subjects(view: Option<&View>, notes: &mut Notes) -> Vec<Subject> {
    let mut all: BTreeMap<ProcessId, Subject> = BTreeMap::new();
    let claims = view.map(|view| view.claims.as_slice()).unwrap_or_default();
    for claim in claims {
        let Some(process) = claim.owner.process() else { continue };
        let none = || Subject { owner: claim.owner.clone(), claims: Vec::new() };
        all.entry(*process).or_insert_with(none).claims.push(claim.clone());
    }
    for &machine in view.map(|view| view.machines.as_slice()).unwrap_or_default() {
        let none = || Subject { owner: Owner::Process(machine), claims: Vec::new() };
        all.entry(machine).or_insert_with(none);
    }
    if all.len() > MAX_GUESTS {
        let left = all.len() - MAX_GUESTS;
        notes.state(Impact::Uncounted, format!("{left} guests are left out: there are too many"));
    }
    let mut all: Vec<Subject> = all.into_values().collect();
    // Users together cannot crowd out the host's own.
    all.sort_by_key(|subject| !subject.is_hosts());
    all.truncate(MAX_GUESTS);
    all
}

fn times(
    look: &mut Processes,
    subjects: &[Subject],
    deadline: Instant,
) -> BTreeMap<ProcessId, ThreadTimes> {
    let processes = subjects.iter().filter_map(|subject| subject.owner.process());
    let in_time = processes.take_while(|_| Instant::now() < deadline);
    in_time.filter_map(|process| Some((*process, look.thread_times(process)?))).collect()
}

impl Subject {
    /// Reports whether it is the host's own: it has no claim of a user's.
    fn is_hosts(&self) -> bool {
        self.claims.iter().all(|claim| claim.principal.is_host())
    }

    /// Returns the claim that was asked for.
    fn asked(&self) -> Option<&Claim> {
        self.claims.iter().map(Arc::as_ref).find(|claim| claim.origin == Origin::Asked)
    }
}

/// Returns the nodes without what the guests do: that is added by the plan.
fn nodes(
    snapshot: &Snapshot,
    view: Option<&View>,
    guests: &[RunningGuest],
    percent: u32,
) -> Result<balance::Host, Box<dyn std::error::Error>> {
    let fabric = snapshot.host().fabric().map_err(|_| BalanceError::Nodes)?;
    let roaming = snapshot.host().roaming();
    let nodes = snapshot.topology().nodes().iter().zip(snapshot.nodes()).map(|(built, state)| {
        let worth = snapshot.worth(built, roaming, percent);
        let cpus = built.cpus.intersection(roaming).len();
        let ran: f64 = guests.iter().map(|guest| guest.ran_on(built.id, snapshot)).sum();
        let (free, total) = match built.is_gpu {
            true => (Bytes::ZERO, Bytes::ZERO),
            false => {
                (state.memory_free.unwrap_or_default(), state.memory_total.unwrap_or_default())
            }
        };
        let free = free.saturating_sub(reserve(total));
        let charges = snapshot.charges();
        let (left, claimed) = (charges.left(built.id, free), charges.of(built.id).memory);
        let lacks = if left > Bytes::ZERO { Bytes::ZERO } else { claimed.saturating_sub(free) };
        HostNode {
            id: built.id,
            cpus: u32::try_from(cpus).map_or(f64::INFINITY, f64::from),
            capacity: worth.capacity,
            others: (worth.capacity - worth.idle - ran).max(0.0) + held(view, built.id),
            room_mib: guest::mib(left) - guest::mib(lacks),
            total_mib: guest::mib(total.saturating_sub(reserve(total))),
        }
    });
    Ok(balance::Host::new(nodes.collect(), fabric)?)
}

/// Returns the CPUs of a node that holds were promised: guests that start soon.
fn held(view: Option<&View>, node: placer_engine::NodeId) -> f64 {
    let claims = view.map(|view| view.claims.as_slice()).unwrap_or_default();
    let holds = claims.iter().filter(|claim| matches!(claim.owner, Owner::Hold { .. }));
    let promised = holds.flat_map(|claim| &claim.promised).filter(|promise| promise.node == node);
    promised.map(|promise| promise.cpus.as_cpus()).sum()
}

impl Observation {
    /// Returns the guests as plans take them.
    pub fn plan_guests(&self) -> Vec<balance::Guest> {
        self.guests.iter().map(|guest| guest.guest.clone()).collect()
    }

    /// Returns what the guests are called, in the same order.
    pub fn names(&self) -> Vec<GuestName> {
        self.guests.iter().map(|guest| guest.name.clone()).collect()
    }
}
