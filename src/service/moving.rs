//! Carries out plans that move running guests, finishes what a killed run began, and puts guests back.
//!
//! What is being done is in `moves.json` of the state directory, which only its user reads and writes: not in the
//! ledger, since guests without a claim are moved too, all users read the ledger, and its lines count as promises.
//! Claims change in the ledger, in one write for each guest, before and after its move.

mod books;
mod records;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use nix::unistd::geteuid;
use placer_engine::balance::manager::{LOOKS, WORSE, Worse};
use placer_engine::balance::{self, Move, Plan, RoomPlan, Step};
use placer_engine::claims::{Claims, ProcessId, Processes};
use placer_engine::{Bytes, NodeId, SysRoot, split_by_weight};
use placer_launcher::cgroup::Tree;
use placer_launcher::mover::{
    Journal, Live, MoveError, Pace, Phase, Progress, Record, back, carry,
};

use super::counted;
use super::journal::File;
use super::notes::Notes;
use super::running::{Demand, Observation, observe};
use crate::report::balance::GuestName;
use crate::report::moved::{Action, MovedGuest, Outcome};
use crate::settings::Settings;
use books::Ledger;

/// Guests that were moved for nothing are left alone for so long.
const ALONE: Duration = Duration::from_secs(3_600);

/// How guests are moved.
pub struct Mover<'a> {
    /// The settings of advice and claims.
    pub settings: &'a Settings,
    /// Bytes a second.
    pub rate: Bytes,
    /// How demand is measured after the moves; `None`: it is not looked at.
    pub verify: Option<Demand>,
    /// Shows how far a guest is.
    pub progress: &'a mut dyn FnMut(&Progress<'_>),
}

/// What came of moves.
#[derive(Debug)]
pub struct Moved {
    /// Whether a plan was carried out, finished, or taken back.
    pub action: Action,
    /// The guests.
    pub guests: Vec<MovedGuest>,
}

impl Moved {
    /// Returns whether all guests are where they should be.
    pub fn is_complete(&self) -> bool {
        self.guests.iter().all(|guest| match guest.outcome {
            Outcome::Moved => self.action != Action::Undo,
            Outcome::Returned => self.action == Action::Undo,
            Outcome::Ended => true,
            Outcome::Kept => self.action == Action::Undo,
            Outcome::Unfinished => false,
        })
    }
}

/// Whether all was done, or why it ended before.
type Ending = Result<(), Box<dyn Error>>;

/// What is open while guests are moved: nothing else moves guests meanwhile.
pub struct Session<'a> {
    mover: Mover<'a>,
    file: File,
    claims: Claims,
    journal: Journal,
}

impl<'a> Session<'a> {
    /// Waits for no one.
    ///
    /// Errors: another process moves guests now; the state directory or the journal cannot be used.
    pub fn open(mover: Mover<'a>) -> Result<Self, Box<dyn Error>> {
        let claims =
            Claims::open_to_claim(&counted::place(mover.settings.claims), &SysRoot::live())?;
        let boot = Processes::look()?.boot().to_owned();
        let file = File::lock()?;
        let journal = file.read(&boot)?;
        Ok(Self { mover, file, claims, journal })
    }

    /// Finishes what a killed run began: a guest that was being moved is moved, with those of its group, one that was
    /// being put back is put back, and moves that were not begun are left out. `None` where nothing was begun.
    ///
    /// Errors: the journal cannot be written, or a guest cannot be put back.
    pub fn resume(&mut self, notes: &mut Notes) -> Result<Option<Moved>, Box<dyn Error>> {
        if !self.journal.is_unfinished() {
            return Ok(None);
        }
        self.journal.adopt_returning();
        let begun: Vec<usize> = self
            .journal
            .moves
            .iter()
            .filter(|record| matches!(record.phase, Phase::Moving | Phase::Moved))
            .map(|record| record.group)
            .collect();
        for record in &mut self.journal.moves {
            if record.phase == Phase::Planned && !begun.contains(&record.group) {
                record.phase = Phase::Dropped;
                record.why = Some("the run that planned it was ended before".to_owned());
            }
        }
        self.file.write(&self.journal)?;
        self.go(notes)?;
        Ok(Some(self.report(Action::Resume, notes)))
    }

    /// As [`resume`](Self::resume), and returns those guests alone of which anything has become by that.
    ///
    /// Errors: as `resume`.
    pub(crate) fn resume_rest(
        &mut self,
        notes: &mut Notes,
    ) -> Result<Vec<MovedGuest>, Box<dyn Error>> {
        let before: Vec<Phase> = self.journal.moves.iter().map(|record| record.phase).collect();
        if self.resume(notes)?.is_none() {
            return Ok(Vec::new());
        }
        let now = self.journal.moves.iter().zip(before);
        let changed = now.filter(|(record, before)| record.phase != *before);
        Ok(self.report_on(changed.map(|(record, _)| record), Action::Resume, notes))
    }

    /// Carries out a plan.
    ///
    /// Errors: as [`resume`](Self::resume).
    pub fn apply(
        &mut self,
        seen: &Observation,
        plan: &Plan,
        notes: &mut Notes,
    ) -> Result<Moved, Box<dyn Error>> {
        let (moved, done) = self.apply_so_far(seen, plan, &[], notes)?;
        done.map(|()| moved)
    }

    /// Carries out a plan, and says what came of it also if it ends in the middle. Guests of earlier plans that are
    /// still judged can be [put back](Self::take_back) afterwards.
    ///
    /// Errors: as [`resume`](Self::resume), before anything was moved.
    pub(crate) fn apply_so_far(
        &mut self,
        seen: &Observation,
        plan: &Plan,
        judged: &[ProcessId],
        notes: &mut Notes,
    ) -> Result<(Moved, Ending), Box<dyn Error>> {
        let mount = Tree::read(std::path::Path::new("/")).mount;
        let mut look = Processes::look()?;
        let now_s = seconds(&look);
        let before: Vec<f64> = plan.slowdowns.iter().map(|&(before, _)| before).collect();
        let (moves, refused) =
            records::records(seen, plan, &self.claims, mount.as_deref(), &mut look);
        self.journal.forget(now_s);
        for (process, why) in &refused {
            self.journal.keep(*process, now_s + ALONE.as_secs_f64(), why);
        }
        if !moves.is_empty() {
            self.journal.begin(moves, judged, now_s);
        }
        // What is to be done is known before anything is changed.
        self.file.write(&self.journal)?;
        let moved = self.journal.moves.iter().any(|record| record.phase == Phase::Planned);
        let mut done = Ok(());
        if moved {
            done = self.go(notes);
            if let (Ok(()), Some(demand)) = (&done, self.mover.verify) {
                done = self.verify(demand, seen, &before, notes);
            }
        }
        let mut report = match moved {
            true => self.report(Action::Apply, notes),
            false => Moved { action: Action::Apply, guests: Vec::new() },
        };
        report.guests.extend(refused.into_iter().map(|(process, why)| {
            let known = seen.guests.iter().find(|guest| guest.name.pid == process.pid);
            let name = known.map(|guest| guest.name.clone());
            MovedGuest::kept(name.unwrap_or_else(|| GuestName::of(process.pid, "")), why)
        }));
        Ok((report, done))
    }

    /// Puts the guests of the last plan back where they were, the last one first.
    ///
    /// Errors: as [`resume`](Self::resume).
    pub fn undo(&mut self, notes: &mut Notes) -> Result<Option<Moved>, Box<dyn Error>> {
        self.journal.adopt_returning();
        let moved = |phase| matches!(phase, Phase::Moving | Phase::Moved | Phase::Returning);
        let last = |record: &Record| !record.is_earlier && moved(record.phase);
        if !self.journal.moves.iter().any(last) {
            return Ok(None);
        }
        let now_s = seconds(&Processes::look()?);
        for at in (0..self.journal.moves.len()).rev() {
            let Some(record) = self.journal.moves.get_mut(at) else { continue };
            if record.phase == Phase::Planned {
                record.phase = Phase::Dropped;
            }
            if last(record) {
                let guest = record.guest;
                record.why = Some("placer balance --undo".to_owned());
                self.journal.keep(guest, now_s + ALONE.as_secs_f64(), "placer balance --undo");
                self.put_back(at, notes)?;
            }
        }
        self.file.write(&self.journal)?;
        Ok(Some(self.report(Action::Undo, notes)))
    }

    /// Returns whether a run that was killed has left moves undone.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.journal.is_unfinished()
    }

    /// Puts moved guests back that are slower than before, with those of their exchanges, and leaves them alone for an
    /// hour. One that was moved again since, or put back, stays where it is. Returns what became of those that were to
    /// be put back, also if it ends in the middle.
    ///
    /// Errors: as [`resume`](Self::resume).
    pub(crate) fn take_back(
        &mut self,
        worse: &[Worse<ProcessId>],
        notes: &mut Notes,
    ) -> (Vec<MovedGuest>, Ending) {
        let asked = to_be_put_back(&self.journal, worse);
        let done = self.put_back_worse(worse, notes);
        let asked = self.journal.moves.iter().zip(asked).filter(|&(_, asked)| asked);
        (self.report_on(asked.map(|(record, _)| record), Action::Undo, notes), done)
    }

    fn put_back_worse(
        &mut self,
        worse: &[Worse<ProcessId>],
        notes: &mut Notes,
    ) -> Result<(), Box<dyn Error>> {
        let now_s = seconds(&Processes::look()?);
        for Worse { guest, slowdown: (before, after) } in worse {
            let mut moved = self.journal.moves.iter_mut();
            let is_it =
                |record: &&mut Record| record.guest == *guest && record.phase == Phase::Moved;
            let Some(record) = moved.find(is_it) else { continue };
            let group = record.group;
            let why = format!("it was slower after its move: {before:.2}, {after:.2} after");
            record.why = Some(why.clone());
            self.journal.keep(*guest, now_s + ALONE.as_secs_f64(), &why);
            self.without_the_rest(
                group,
                "another guest of its exchange was slower after it",
                notes,
            )?;
        }
        Ok(())
    }

    /// Does what the journal says is to be done. A guest that is stuck keeps no other from it.
    fn go(&mut self, notes: &mut Notes) -> Result<(), Box<dyn Error>> {
        for at in 0..self.journal.moves.len() {
            let Some(record) = self.journal.moves.get(at) else { continue };
            let (guest, group) = (record.guest, record.group);
            let (mut host, pace) = (Live::new(), Pace::new(self.mover.rate.get()));
            let mut books = Ledger::new(&self.claims, &self.file, &mut *self.mover.progress);
            let done = match record.phase {
                Phase::Planned | Phase::Moving => {
                    carry(&mut self.journal, at, &mut host, &mut books, pace)
                }
                Phase::Returning => back(&mut self.journal, at, &mut host, &mut books, pace),
                Phase::Moved | Phase::Returned | Phase::Dropped => continue,
            };
            match self.journal.moves.get(at).map(|record| record.phase) {
                Some(Phase::Returned) => {}
                Some(Phase::Moving | Phase::Returning) => {
                    let why = done.err().map(|error| error.to_string());
                    self.stuck(at, guest.pid, &why.unwrap_or_default(), notes);
                    continue;
                }
                // It was moved, or has ended.
                _ => continue,
            }
            let now_s = seconds(&Processes::look()?);
            if let Some(why) = self.journal.moves.get(at).and_then(|record| record.why.clone()) {
                self.journal.keep(guest, now_s + ALONE.as_secs_f64(), &why);
            }
            self.without_the_rest(
                group,
                "another guest of its exchange could not be moved",
                notes,
            )?;
        }
        Ok(())
    }

    /// Puts back what was moved of a group, and leaves out what was not.
    fn without_the_rest(
        &mut self,
        group: usize,
        why: &str,
        notes: &mut Notes,
    ) -> Result<(), Box<dyn Error>> {
        for at in (0..self.journal.moves.len()).rev() {
            let Some(record) = self.journal.moves.get_mut(at) else { continue };
            if record.group != group {
                continue;
            }
            match record.phase {
                Phase::Planned => {
                    record.phase = Phase::Dropped;
                    record.why.get_or_insert_with(|| why.to_owned());
                }
                Phase::Moved | Phase::Moving => {
                    record.why.get_or_insert_with(|| why.to_owned());
                    self.put_back(at, notes)?;
                }
                Phase::Returning | Phase::Returned | Phase::Dropped => {}
            }
        }
        Ok(self.file.write(&self.journal)?)
    }

    /// Puts one guest back, if there is room for it. One that is stuck keeps no other from it.
    fn put_back(&mut self, at: usize, notes: &mut Notes) -> Result<(), Box<dyn Error>> {
        let (mut host, pace) = (Live::new(), Pace::new(self.mover.rate.get()));
        let mut books = Ledger::new(&self.claims, &self.file, &mut *self.mover.progress);
        match back(&mut self.journal, at, &mut host, &mut books, pace) {
            // What became of these is in the report.
            Ok(()) | Err(MoveError::Gone | MoveError::Occupied(_)) => Ok(()),
            Err(MoveError::Books(why)) => Err(why.into()),
            Err(error) => {
                let pid = self.journal.moves.get(at).map_or(0, |record| record.guest.pid);
                self.stuck(at, pid, &error.to_string(), notes);
                Ok(())
            }
        }
    }

    fn stuck(&mut self, at: usize, pid: u32, why: &str, notes: &mut Notes) {
        if let Some(record) = self.journal.moves.get_mut(at) {
            record.why = Some(why.to_owned());
        }
        notes.warn(&format!(
            "process {pid} is neither moved nor put back: {why}; run placer balance --undo again"
        ));
    }

    /// Looks at the guests that were moved, and puts those back that are slower than before each time.
    fn verify(
        &mut self,
        demand: Demand,
        seen: &Observation,
        before: &[f64],
        notes: &mut Notes,
    ) -> Result<(), Box<dyn Error>> {
        let limit = |pid: u32| {
            let at = seen.guests.iter().position(|guest| guest.name.pid == pid);
            at.and_then(|at| before.get(at)).map_or(f64::INFINITY, |before| before * WORSE)
        };
        let moved = self.journal.moves.iter().filter(|record| record.phase == Phase::Moved);
        let mut worse: Vec<(u32, f64)> = moved.map(|record| (record.guest.pid, f64::NAN)).collect();
        let looks = if matches!(demand, Demand::SinceStart) { 1 } else { LOOKS };
        for _ in 0..looks {
            let now =
                observe(&SysRoot::live(), self.mover.settings, demand, &mut Notes::default())?;
            let plan = balance::plan(&now.host, &now.plan_guests(), &now.rules)?;
            worse.retain_mut(|(pid, slowdown)| {
                let at = now.guests.iter().position(|guest| guest.name.pid == *pid);
                let found = at.and_then(|at| plan.slowdowns.get(at));
                *slowdown = found.map_or(f64::NAN, |&(now, _)| now);
                *slowdown > limit(*pid)
            });
            if worse.is_empty() {
                return Ok(());
            }
        }
        let records = |pid| self.journal.moves.iter().find(move |record| record.guest.pid == pid);
        let worse = worse.into_iter().filter_map(|(pid, slowdown)| {
            let record = records(pid)?;
            Some(Worse { guest: record.guest, slowdown: (record.slowdown, slowdown) })
        });
        let worse: Vec<_> = worse.collect();
        self.put_back_worse(&worse, notes)
    }

    /// Says what came of the last plan.
    fn report(&self, action: Action, notes: &mut Notes) -> Moved {
        let last = self.journal.moves.iter().filter(|record| !record.is_earlier);
        Moved { action, guests: self.report_on(last, action, notes) }
    }

    /// Says what came of moves, and where memory is now.
    fn report_on<'r>(
        &self,
        records: impl Iterator<Item = &'r Record>,
        action: Action,
        notes: &mut Notes,
    ) -> Vec<MovedGuest> {
        let now = observe(&SysRoot::live(), self.mover.settings, Demand::SinceStart, notes).ok();
        let gone = MoveError::Gone.to_string();
        let guests = records.map(|record| {
            let known = now
                .as_ref()
                .and_then(|now| now.guests.iter().find(|guest| guest.name.pid == record.guest.pid));
            let there: Vec<(NodeId, Bytes)> = known
                .map(|guest| guest.guest.memory.iter().map(|part| (part.node, part.resident)))
                .into_iter()
                .flatten()
                .filter(|&(_, bytes)| bytes > Bytes::ZERO)
                .collect();
            let name = known.map_or_else(
                || GuestName::of(record.guest.pid, &record.program),
                |guest| guest.name.clone(),
            );
            let outcome = match record.phase {
                Phase::Moved => Outcome::Moved,
                Phase::Returned => Outcome::Returned,
                Phase::Dropped if record.why.as_deref() == Some(&*gone) => Outcome::Ended,
                Phase::Dropped => Outcome::Kept,
                Phase::Planned | Phase::Moving | Phase::Returning => Outcome::Unfinished,
            };
            let before = record.source.iter().chain(&record.pinned);
            MovedGuest {
                name,
                outcome,
                from: record.from.clone(),
                to: record.to.clone(),
                moved: Bytes::new(record.moved),
                stayed: Bytes::new(record.stayed),
                before: added(before.map(|share| (NodeId(share.node), Bytes::new(share.bytes)))),
                now: there,
                why: record
                    .why
                    .clone()
                    .filter(|_| outcome != Outcome::Moved || action == Action::Undo),
            }
        });
        guests.collect()
    }
}

/// Says of each record whether its guest is put back if these guests are, with those of their exchanges.
fn to_be_put_back(journal: &Journal, worse: &[Worse<ProcessId>]) -> Vec<bool> {
    let moved = |record: &&Record| record.phase == Phase::Moved;
    let is_worse = |record: &&Record| worse.iter().any(|worse| worse.guest == record.guest);
    let groups = journal.moves.iter().filter(moved).filter(is_worse).map(|record| record.group);
    let groups: Vec<usize> = groups.collect();
    journal.moves.iter().map(|record| moved(&record) && groups.contains(&record.group)).collect()
}

/// Adds up what is on the same node.
fn added(parts: impl Iterator<Item = (NodeId, Bytes)>) -> Vec<(NodeId, Bytes)> {
    let mut sums: BTreeMap<NodeId, Bytes> = BTreeMap::new();
    for (node, bytes) in parts {
        let sum = sums.entry(node).or_default();
        *sum = sum.saturating_add(bytes);
    }
    sums.into_iter().collect()
}

fn seconds(look: &Processes) -> f64 {
    Duration::from_nanos(look.now().nanoseconds()).as_secs_f64()
}

/// Returns the moves that make room as a plan to carry out.
pub fn room_plan(seen: &Observation, room: &RoomPlan) -> Plan {
    let mut slowdowns = vec![(1.0, 1.0); seen.guests.len()];
    let steps = room.steps.iter().map(|step| {
        if let Some(known) = slowdowns.get_mut(step.guest) {
            *known = step.slowdown;
        }
        let nodes: Vec<NodeId> = step.to.iter().collect();
        // One node as a rule; several get equal parts.
        let parts = split_by_weight(step.memory.get(), &vec![1; nodes.len()]);
        Step {
            guest: step.guest,
            group: 0,
            kind: Move::Relocation,
            from: step.from.clone(),
            to: step.to.clone(),
            memory: step.memory,
            placed: nodes.into_iter().zip(parts.into_iter().map(Bytes::new)).collect(),
            cost: 0.0,
            slowdown: step.slowdown,
        }
    });
    let steps = steps.collect();
    Plan { steps, slowdowns, ..Plan::default() }
}

/// Notes what makes moves useless: the kernel moves memory by itself.
pub fn note_kernel_balancing(notes: &mut Notes) {
    let mode = std::fs::read_to_string("/proc/sys/kernel/numa_balancing").unwrap_or_default();
    if mode.trim().parse::<u64>().is_ok_and(|mode| mode & 1 == 1) {
        notes.warn(
            "kernel.numa_balancing is on: the kernel moves memory by itself as well, after the threads",
        );
    }
    if !geteuid().is_root() {
        notes.warn("not root: only guests of this user are moved");
    }
}

#[cfg(test)]
mod tests {
    use placer_engine::{CpuSet, NodeSet};

    use super::*;

    #[test]
    fn guests_that_were_returned_before_are_not_put_back_again() {
        let process = |pid| ProcessId { pid_namespace: 1, pid, start: 100 };
        let record = |(pid, group, phase)| Record {
            guest: process(pid),
            program: "guest".to_owned(),
            claims: vec![],
            group,
            is_earlier: false,
            from: NodeSet::new(),
            to: NodeSet::new(),
            cpus: CpuSet::new(),
            threads: vec![],
            cage: None,
            source: vec![],
            target: vec![],
            pinned: vec![],
            memory: 0,
            slowdown: 1.0,
            phase,
            moved: 0,
            stayed: 0,
            finished_s: None,
            why: None,
        };
        let mut journal = Journal::new("boot");
        journal.moves = [
            (1, 0, Phase::Moved),
            (2, 0, Phase::Moved),
            (3, 0, Phase::Returned),
            (4, 1, Phase::Moved),
            (5, 2, Phase::Returned),
        ]
        .map(record)
        .to_vec();
        let worse = |pid| Worse { guest: process(pid), slowdown: (1.0, 2.0) };
        let asked = to_be_put_back(&journal, &[worse(1), worse(5), worse(9)]);
        assert_eq!(asked, [true, true, false, false, false]);
    }
}
