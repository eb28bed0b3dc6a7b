//! Claims what is advised, in one turn with the decision.

use std::sync::Arc;
use std::time::Duration;

use nix::unistd::getuid;
use placer_engine::claims::{
    Cgroup, Claim, ClaimError, ClaimId, ClaimOwner, Claims, Decision, LOCK_TIMEOUT, Parts,
    ProcessId, Processes, View,
};
use placer_engine::{Advice, Bytes, Request, SourceError, SysRoot};

use super::counted::place;
use super::host::{CountedHost, Figures, Turn};
use super::notes::{Impact, Notes};
use crate::error_chain::chain;
use crate::settings;

/// How long any one other process may have the ledger where a guest waits to be started.
const ADOPTING: Duration = Duration::from_secs(30);

/// The ledger of a decision that is to be claimed; empty when it cannot be had.
pub struct Desk {
    claims: Option<Claims>,
}

/// The lock of the ledger, in this one's turn, from choosing to claiming.
pub struct Session<'a> {
    // In this order: the lock is let go of before the turn.
    pub(crate) decision: Decision<'a>,
    turn: Box<dyn Turn + 'a>,
}

impl Desk {
    /// Opens the ledger of a host.
    pub fn open(root: &SysRoot, set: settings::Claims, notes: &mut Notes) -> Self {
        let claims = Claims::open_to_claim(&place(set), root);
        Self { claims: claims.map_err(|error| unclaimed(&error, notes)).ok() }
    }

    /// Measures the host and then, under the lock, counts what was promised and reads the memory again.
    /// Residency is read first, so that memory touched in
    /// between is counted twice rather than not at all. The load is measured before, so that no other
    /// process waits for the lock meanwhile.
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
        let Some(turn) = figures.turn() else {
            let why = "no claim was made: the requesting process has exited";
            notes.state(Impact::Unclaimed, why.to_owned());
            return Ok((None, CountedHost::whole(Arc::new(earlier))));
        };
        let again = |view: View| {
            let snapshot = figures.again(&earlier, view.charges, pages).map(Arc::new)?;
            Ok(CountedHost { snapshot, host_charges: view.host_charges })
        };
        match claims.begin_for(Some(&figures.asker()), patience) {
            Ok((decision, view)) => {
                view.notes.iter().for_each(|note| notes.warn(note));
                Ok((Some(Session { decision, turn }), again(view)?))
            }
            Err(error) => {
                drop(turn);
                unclaimed(&error, notes);
                match claims.view() {
                    Ok(view) => Ok((None, again(view)?)),
                    Err(_) => Ok((None, CountedHost::whole(Arc::new(earlier)))),
                }
            }
        }
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

/// Claims what was advised, for whom it was asked, on behalf of who asks. Returns the claim's id;
/// `None`, and one line, when it cannot be claimed.
pub(crate) fn claim_as_asked(
    session: Session<'_>,
    request: &Request,
    advice: &Advice,
    who: ClaimOwner,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Option<ClaimId> {
    let Session { mut decision, turn } = session;
    if let Some(why) = figures.refuses(&decision, request, &who) {
        notes.state(Impact::Unclaimed, format!("no claim was made: {why}"));
        return None;
    }
    let caller = decision.caller_of(&figures.asker());
    let claimed = decision.claim(request, advice, who, caller, request.pages);
    drop(turn);
    claimed.map_err(|error| unclaimed(&error, notes)).ok()
}

/// Claims what was decided for several guests, all of it or nothing, on behalf of who asks. Returns the claims in the
/// order of the parts; none, and one line, when they cannot be made.
pub(crate) fn claim_each(
    session: Session<'_>,
    parts: Vec<Parts>,
    who: ClaimOwner,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Vec<ClaimId> {
    let Session { mut decision, turn } = session;
    let caller = decision.caller_of(&figures.asker());
    let claimed = decision.claim_each(parts, who, caller);
    drop(turn);
    claimed.unwrap_or_else(|error| {
        unclaimed(&error, notes);
        Vec::new()
    })
}

/// Claims what was decided for a guest that is being started, for this process until the guest's is there.
/// `None`, and one line, when it cannot be.
pub fn claim_for_own(session: Session<'_>, parts: Parts, notes: &mut Notes) -> Option<ClaimId> {
    let Session { mut decision, .. } = session;
    let own = std::process::id();
    let caller = decision.caller(own, getuid().as_raw());
    let claimed = decision.claim_parts(parts, ClaimOwner::Pid(own), caller);
    claimed.map_err(|error| unclaimed(&error, notes)).ok()
}

fn unclaimed(error: &ClaimError, notes: &mut Notes) {
    let why = chain(error);
    notes.state(Impact::Unclaimed, format!("no claim was made: {why}"));
}
