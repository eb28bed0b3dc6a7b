//! Decides on what was observed, and claims it if the ledger is still the same.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::getuid;
use placer_engine::claims::{
    Caller, Cgroup, Claim, ClaimError, ClaimId, ClaimOwner, Claims, Decision, LOCK_TIMEOUT,
    LOST_RACES, Observation, Parts, ProcessId, Processes, View,
};
use placer_engine::{Bytes, NodeSet, Request, Snapshot, SourceError, SysRoot};

use super::counted::place;
use super::host::{CountedHost, Figures, Turn};
use super::notes::{Impact, Notes};
use crate::error_chain::chain;
use crate::settings;

/// How long the other ranks of a step may take to start.
const RANKS_COME: Duration = Duration::from_secs(30);
/// How long any one other process may have the ledger where a guest waits to be started.
const ADOPTING: Duration = Duration::from_secs(30);

/// The ledger of a decision that is to be claimed; empty when it cannot be had.
pub struct Desk {
    claims: Option<Claims>,
    patience: Duration,
    lost: Cell<u32>,
}

/// What a decision is made on, in this one's turn: without the lock of the ledger, unless others were faster
/// several times.
pub struct Session<'a> {
    // In this order: the lock is let go of before the turn.
    state: State<'a>,
    turn: Box<dyn Turn + 'a>,
    lost: &'a Cell<u32>,
    patience: Duration,
}

enum State<'a> {
    Observed(Box<Observation<'a>>),
    Locked(Box<Decision<'a>>),
}

/// What came of a claim.
pub enum Claimed {
    Made(ClaimId),
    /// The notes say why not.
    Refused,
    /// Others have claimed meanwhile: to be decided again.
    Outrun,
}

impl Desk {
    /// Opens the ledger of a host.
    pub fn open(root: &SysRoot, set: settings::Claims, notes: &mut Notes) -> Self {
        let claims = Claims::open_to_claim(&place(set), root);
        let claims = claims.map_err(|error| unclaimed(&chain(&error), notes)).ok();
        Self { claims, patience: LOCK_TIMEOUT, lost: Cell::new(0) }
    }

    /// Sets how long [`begin_to_claim`](Self::begin_to_claim) lets any one other process have the ledger.
    pub(crate) fn waiting(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Measures the host, counts what was promised and reads the memory again. Residency is read first, so that
    /// memory touched in between is counted twice rather than not at all. Without a session nothing can be
    /// claimed: the notes say why.
    pub fn begin<'a>(
        &'a self,
        figures: &'a dyn Figures,
        pages: Option<Bytes>,
        patience: Duration,
        notes: &mut Notes,
    ) -> Result<(Option<Session<'a>>, CountedHost), SourceError> {
        let Some(claims) = &self.claims else {
            return Ok((None, figures.counted(pages, notes)?));
        };
        let earlier = figures.measured(pages, notes)?;
        match self.observe(claims, figures, patience, notes) {
            Ok((session, view)) => Ok((Some(session), again(figures, &earlier, view, pages)?)),
            Err(why) => {
                unclaimed(&why, notes);
                match claims.view() {
                    Ok(view) => Ok((None, again(figures, &earlier, view, pages)?)),
                    Err(_) => Ok((None, CountedHost::whole(Arc::new(earlier)))),
                }
            }
        }
    }

    /// The same for a decision that was made elsewhere, and is worth nothing without a claim.
    ///
    /// Errors: why nothing can be claimed.
    pub(crate) fn begin_to_claim<'a>(
        &'a self,
        figures: &'a dyn Figures,
        pages: Option<Bytes>,
        notes: &mut Notes,
    ) -> Result<(Session<'a>, CountedHost), String> {
        let why = |error: SourceError| chain(&error);
        let claims = self.claims.as_ref().ok_or_else(|| chain(&ClaimError::NoPlace))?;
        let earlier = figures.measured(pages, notes).map_err(why)?;
        let (session, view) = self.observe(claims, figures, self.patience, notes)?;
        Ok((session, again(figures, &earlier, view, pages).map_err(why)?))
    }

    /// Waits for the turn, and finds out what was promised.
    fn observe<'a>(
        &'a self,
        claims: &'a Claims,
        figures: &'a dyn Figures,
        patience: Duration,
        notes: &mut Notes,
    ) -> Result<(Session<'a>, View), String> {
        let turn = figures.turn().ok_or("the requesting process has exited")?;
        let why = |error: ClaimError| chain(&error);
        let asker = figures.asker();
        let (state, view) = if self.lost.get() < LOST_RACES {
            let (observation, view) = claims.observe(&asker).map_err(why)?;
            (State::Observed(Box::new(observation)), view)
        } else {
            let (decision, view) = claims.begin_for(Some(&asker), patience).map_err(why)?;
            (State::Locked(Box::new(decision)), view)
        };
        view.notes.iter().for_each(|note| notes.warn(note));
        Ok((Session { state, turn, lost: &self.lost, patience }, view))
    }

    /// Makes a claim that of a guest's process, or of all that runs in its cgroup.
    ///
    /// Errors: there is no such process, or no such claim any more; the ledger cannot be had or written.
    pub fn adopt(
        &self,
        id: ClaimId,
        pid: u32,
        cgroup: Option<Cgroup>,
    ) -> Result<Claim, ClaimError> {
        let claims = self.claims.as_ref().ok_or(ClaimError::NoPlace)?;
        let process = process(pid)?;
        claims.begin(ADOPTING)?.0.adopt(id, process, cgroup)
    }

    /// Ends a claim of a guest that did not start. One that cannot be ended now ends with the
    /// process it is for, which is about to.
    pub fn release(&self, id: ClaimId) {
        if let Some(claims) = &self.claims
            && let Ok((decision, _)) = claims.begin(LOCK_TIMEOUT)
        {
            let _ = decision.release(id);
        }
    }
}

/// Returns which process a pid names now.
///
/// Errors: there is none; `/proc` cannot be read.
pub fn process(pid: u32) -> Result<ProcessId, ClaimError> {
    let mut look = Processes::look()?;
    let gone = || ClaimError::Io {
        attempted: "claim for process",
        path: pid.to_string().into(),
        source: nix::errno::Errno::ESRCH.into(),
    };
    look.identify(pid).ok_or_else(gone)
}

/// Reads the memory of a host, now that it is known what was promised.
fn again(
    figures: &dyn Figures,
    earlier: &Snapshot,
    view: View,
    pages: Option<Bytes>,
) -> Result<CountedHost, SourceError> {
    let snapshot = figures.again(earlier, view.charges, pages).map(Arc::new)?;
    Ok(CountedHost { snapshot, host_charges: view.host_charges })
}

impl<'a> Session<'a> {
    /// Returns the program that asks.
    pub(crate) fn asking(&self) -> Option<&str> {
        let caller = match &self.state {
            State::Observed(observation) => observation.asking(),
            State::Locked(decision) => decision.asking(),
        };
        caller.map(|caller| caller.program.as_str())
    }

    /// Returns the hold of the process that asks, and its nodes, if it has asked for the same before.
    pub(crate) fn held_before(&mut self, request: &Request) -> Option<(ClaimId, NodeSet)> {
        match &mut self.state {
            State::Observed(observation) => observation.held_before(request),
            State::Locked(decision) => decision.held_before(request),
        }
    }

    /// Takes the lock of the ledger. `None` where that was changed since it was observed.
    ///
    /// Errors: why it cannot be had.
    pub(crate) fn commit(self) -> Result<Option<Commit<'a>>, String> {
        let Self { state, turn, lost, patience } = self;
        let decision = match state {
            State::Locked(decision) => Some(*decision),
            State::Observed(observation) => {
                observation.commit(patience).map_err(|error| chain(&error))?
            }
        };
        if decision.is_none() {
            lost.set(lost.get() + 1);
        }
        Ok(decision.map(|decision| Commit { decision, turn }))
    }
}

/// The lock of the ledger, for what was decided.
pub(crate) struct Commit<'a> {
    // In this order: the lock is let go of before the turn.
    pub(crate) decision: Decision<'a>,
    turn: Box<dyn Turn + 'a>,
}

impl Commit<'_> {
    /// Claims what was decided, and lets go of lock and turn.
    ///
    /// Errors: why nothing is claimed.
    pub(crate) fn claim(
        self,
        parts: Parts,
        who: ClaimOwner,
        caller: Caller,
    ) -> Result<ClaimId, String> {
        let Self { decision, turn } = self;
        let claimed = decision.claim_parts(parts, who, caller).map_err(|error| chain(&error));
        drop(turn);
        claimed
    }
}

/// Claims what was decided, for whom it was asked, on behalf of who asks.
pub(crate) fn claim_as_asked(
    session: Session<'_>,
    request: &Request,
    parts: Parts,
    who: ClaimOwner,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Claimed {
    let claimed = session.commit().and_then(|commit| {
        let Some(mut commit) = commit else { return Ok(None) };
        if let Some(why) = figures.refuses(&commit.decision, request, &parts.pinned, &who) {
            return Err(why);
        }
        let caller = commit.decision.caller_of(&figures.asker());
        commit.claim(parts, who, caller).map(Some)
    });
    told(claimed, notes)
}

/// Claims what was decided for several guests, all of it or nothing, on behalf of who asks. Returns the claims in the
/// order of the parts; none, and one line, when they cannot be made. `None`: others have claimed meanwhile.
pub(crate) fn claim_each(
    session: Session<'_>,
    parts: Vec<Parts>,
    who: &ClaimOwner,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Option<Vec<ClaimId>> {
    let claimed = session.commit().and_then(|commit| {
        let Some(Commit { mut decision, turn }) = commit else { return Ok(None) };
        let caller = decision.caller_of(&figures.asker());
        let parts = parts.into_iter().map(|parts| (parts, who.clone())).collect();
        let claimed = decision.claim_each(parts, &caller);
        drop(turn);
        claimed.map(Some).map_err(|error| chain(&error))
    });
    each(claimed, notes)
}

fn each(claimed: Result<Option<Vec<ClaimId>>, String>, notes: &mut Notes) -> Option<Vec<ClaimId>> {
    claimed.unwrap_or_else(|why| {
        unclaimed(&why, notes);
        Some(Vec::new())
    })
}

/// Returns this process as the owner of a claim, and as who makes it.
fn own() -> Result<(ProcessId, Caller), ClaimError> {
    let pid = std::process::id();
    Ok((process(pid)?, Processes::look()?.caller(pid, getuid().as_raw())))
}

/// Claims what was decided for the ranks of a step, all of it or nothing: what is at `own` for this process, the others
/// as holds until their processes are there. Returns and says what [`claim_each`] does.
pub fn claim_each_for_own(
    session: Session<'_>,
    parts: Vec<Parts>,
    own_at: usize,
    notes: &mut Notes,
) -> Option<Vec<ClaimId>> {
    let claimed = own().map_err(|error| chain(&error)).and_then(|(process, caller)| {
        let Some(Commit { decision, turn }) = session.commit()? else { return Ok(None) };
        let owner = |at| match at == own_at {
            true => ClaimOwner::Process(process),
            false => ClaimOwner::Hold(RANKS_COME),
        };
        let parts = parts.into_iter().enumerate().map(|(at, parts)| (parts, owner(at))).collect();
        let claimed = decision.claim_each(parts, &caller);
        drop(turn);
        claimed.map(Some).map_err(|error| chain(&error))
    });
    each(claimed, notes)
}

/// Claims what was decided for a guest that is being started, for this process until the guest's is there.
pub fn claim_for_own(session: Session<'_>, parts: Parts, notes: &mut Notes) -> Claimed {
    let claimed = own().map_err(|error| chain(&error)).and_then(|(process, caller)| {
        let Some(commit) = session.commit()? else { return Ok(None) };
        commit.claim(parts, ClaimOwner::Process(process), caller).map(Some)
    });
    told(claimed, notes)
}

fn told(claimed: Result<Option<ClaimId>, String>, notes: &mut Notes) -> Claimed {
    match claimed {
        Ok(Some(id)) => Claimed::Made(id),
        Ok(None) => Claimed::Outrun,
        Err(why) => {
            unclaimed(&why, notes);
            Claimed::Refused
        }
    }
}

fn unclaimed(why: &str, notes: &mut Notes) {
    notes.state(Impact::Unclaimed, format!("no claim was made: {why}"));
}
