//! Performs the steps of a move.

use super::error::MoveError;
use super::host::Host;
use super::journal::{Journal, Phase, Record};
use super::memory::{self, Counted};
use super::pace::Pace;
use super::steps::{Direction, Step, steps};
use super::threads;

/// What the caller keeps beside the moves.
pub trait Books {
    /// Saves the journal, whole or not at all.
    fn save(&mut self, journal: &Journal) -> Result<(), String>;
    /// Holds room for a guest where it goes; its claims stay as they are until it is there. `whole`: none of it is
    /// there yet, so there has to be room for all of it.
    ///
    /// Errors: there is no room any more, or the ledger cannot be written. Nothing was changed then.
    fn claim(&mut self, record: &Record, direction: Direction, whole: bool) -> Result<(), String>;
    /// Lets the claims follow the guest, what stayed elsewhere as well, and lets go of the room that was held. Done
    /// twice it changes nothing.
    fn settle(&mut self, record: &Record, direction: Direction) -> Result<(), String>;
    /// Shows how far a guest is.
    fn progress(&mut self, _progress: &Progress<'_>) {}
}

/// How far a guest is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The move.
    pub record: &'a Record,
    /// Where it goes.
    pub direction: Direction,
    /// Bytes moved so far.
    pub moved: u64,
}

/// Moves one guest of a journal, or finishes its move. If a step fails, everything is put back.
///
/// Errors: the guest was not moved, and is where it was or has ended (the record says which); with
/// [`Phase::Returning`] in the record it could not be put back either, with [`Phase::Moving`] it has arrived and its
/// claims have not: the next run tries again.
pub fn carry(
    journal: &mut Journal,
    at: usize,
    host: &mut dyn Host,
    books: &mut dyn Books,
    pace: Pace,
) -> Result<(), MoveError> {
    let whole = phase_of(journal, at) != Some(Phase::Moving);
    enter(journal, at, Phase::Moving, books)?;
    match perform(journal, at, (Direction::There, whole), host, books, pace) {
        Ok(()) => finish(journal, at, Phase::Moved, host, books),
        Err(MoveError::Gone) => gone(journal, at, host, books),
        Err(error @ MoveError::Unsettled(_)) => Err(error),
        Err(error) => {
            if let Some(record) = journal.moves.get_mut(at) {
                record.why = Some(error.to_string());
            }
            back(journal, at, host, books, pace)?;
            Err(error)
        }
    }
}

/// Puts one guest of a journal back where it was, or finishes that.
///
/// Errors: as [`carry`]; [`MoveError::Occupied`]: it stays where it is, since others have its old nodes now.
pub fn back(
    journal: &mut Journal,
    at: usize,
    host: &mut dyn Host,
    books: &mut dyn Books,
    pace: Pace,
) -> Result<(), MoveError> {
    let whole = phase_of(journal, at) == Some(Phase::Moved);
    enter(journal, at, Phase::Returning, books)?;
    match perform(journal, at, (Direction::Back, whole), host, books, pace) {
        Ok(()) => finish(journal, at, Phase::Returned, host, books),
        Err(MoveError::Gone) => gone(journal, at, host, books),
        Err(error) => {
            if whole && matches!(error, MoveError::Occupied(_)) {
                if let Some(record) = journal.moves.get_mut(at) {
                    record.why = Some(error.to_string());
                }
                enter(journal, at, Phase::Moved, books)?;
            }
            Err(error)
        }
    }
}

fn phase_of(journal: &Journal, at: usize) -> Option<Phase> {
    journal.moves.get(at).map(|record| record.phase)
}

fn enter(
    journal: &mut Journal,
    at: usize,
    phase: Phase,
    books: &mut dyn Books,
) -> Result<(), MoveError> {
    let Some(record) = journal.moves.get_mut(at) else { return Ok(()) };
    if record.phase != phase {
        record.phase = phase;
        books.save(journal).map_err(MoveError::Books)?;
    }
    Ok(())
}

fn finish(
    journal: &mut Journal,
    at: usize,
    phase: Phase,
    host: &mut dyn Host,
    books: &mut dyn Books,
) -> Result<(), MoveError> {
    if let Some(record) = journal.moves.get_mut(at) {
        record.finished_s = Some(host.now().as_secs_f64());
    }
    enter(journal, at, phase, books)
}

fn gone(
    journal: &mut Journal,
    at: usize,
    host: &mut dyn Host,
    books: &mut dyn Books,
) -> Result<(), MoveError> {
    if let Some(record) = journal.moves.get_mut(at) {
        record.why = Some(MoveError::Gone.to_string());
        // Its claims ended with it; the room for it has not.
        books.settle(record, Direction::Back).map_err(MoveError::Books)?;
    }
    finish(journal, at, Phase::Dropped, host, books)?;
    Err(MoveError::Gone)
}

fn perform(
    journal: &mut Journal,
    at: usize,
    (direction, whole): (Direction, bool),
    host: &mut dyn Host,
    books: &mut dyn Books,
    pace: Pace,
) -> Result<(), MoveError> {
    let Some(record) = journal.moves.get_mut(at) else { return Ok(()) };
    let mut full = false;
    for step in steps(record, direction) {
        memory::check(host, &record.guest)?;
        // Its group keeps the nodes on which some of its memory has to stay.
        if full && matches!(step, Step::Mems(_)) {
            continue;
        }
        match perform_step(&step, record, (direction, whole), host, books, pace) {
            Ok(()) => {}
            Err(MoveError::NoRoom) if direction == Direction::Back => {
                full = true;
                record.why = Some("its old nodes are full: some of its memory stays".to_owned());
            }
            // What is refused to a process that has ended meanwhile says nothing.
            Err(error) => {
                return Err(match host.is_running(&record.guest) {
                    Ok(false) => MoveError::Gone,
                    _ => error,
                });
            }
        }
    }
    Ok(())
}

fn perform_step(
    step: &Step,
    record: &mut Record,
    (direction, whole): (Direction, bool),
    host: &mut dyn Host,
    books: &mut dyn Books,
    pace: Pace,
) -> Result<(), MoveError> {
    match step {
        Step::Claim => books.claim(record, direction, whole).map_err(MoveError::Occupied),
        Step::Settle => books.settle(record, direction).map_err(MoveError::Unsettled),
        Step::Mems(nodes) => threads::hold(host, record, "cpuset.mems", nodes, direction),
        Step::GroupCpus(cpus) => threads::hold(host, record, "cpuset.cpus", cpus, direction),
        Step::Threads => threads::bind(host, record, direction),
        Step::Probe => {
            match memory::probe(host, &record.guest, &record.target, record.part_to_move())? {
                true => Ok(()),
                false => Err(MoveError::Pinned),
            }
        }
        Step::Memory => {
            let shares = match direction {
                Direction::There => record.target.clone(),
                Direction::Back => record.source.clone(),
            };
            let (guest, group) = (record.guest, record.cage.as_ref().map(|cage| cage.dir.clone()));
            let mut count = |moved| books.progress(&Progress { record, direction, moved });
            let group = group.as_deref();
            let counted = memory::relocate(host, &guest, &shares, pace, group, &mut count)?;
            if direction == Direction::There {
                // By what is there now: what was moved before a kill counts as well. Between nodes that it keeps memory
                // moves too.
                let Counted { there, stayed, moved } = counted;
                let already = record.source.iter().filter(|share| {
                    record.target.iter().any(|to| to.node == share.node && to.bytes > 0)
                });
                let already = already.map(|share| share.bytes).sum();
                record.moved = moved.max(there.saturating_sub(already));
                record.stayed = stayed;
            } else {
                record.stayed = counted.stayed;
            }
            Ok(())
        }
    }
}
