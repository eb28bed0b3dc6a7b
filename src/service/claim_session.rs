//! Claims what is advised, in one turn with the decision.

use std::sync::Arc;
use std::time::Duration;

use nix::unistd::getuid;
use placer_engine::claims::{
    ClaimError, ClaimId, ClaimOwner, Claims, Decision, LOCK_TIMEOUT, View,
};
use placer_engine::{Advice, Bytes, Request, SourceError, SysRoot};

use super::counted::place;
use super::host::{CountedHost, Figures};
use super::notes::{Impact, Notes};
use crate::error_chain::chain;
use crate::settings;

/// The ledger of a decision that is to be claimed; empty when it cannot be had.
pub struct Desk {
    claims: Option<Claims>,
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
    pub fn begin(
        &self,
        figures: &dyn Figures,
        pages: Option<Bytes>,
        patience: Duration,
        notes: &mut Notes,
    ) -> Result<(Option<Decision<'_>>, CountedHost), SourceError> {
        let Some(claims) = &self.claims else {
            return Ok((None, figures.counted(pages, notes)?));
        };
        let earlier = figures.measured(pages, notes)?;
        let again = |view: View| {
            let snapshot = figures.again(&earlier, view.charges, pages).map(Arc::new)?;
            Ok(CountedHost { snapshot, host_charges: view.host_charges })
        };
        match claims.begin_for(Some(&figures.asker()), patience) {
            Ok((decision, view)) => {
                view.notes.iter().for_each(|note| notes.warn(note));
                Ok((Some(decision), again(view)?))
            }
            Err(error) => {
                unclaimed(&error, notes);
                match claims.view() {
                    Ok(view) => Ok((None, again(view)?)),
                    Err(_) => Ok((None, CountedHost::whole(Arc::new(earlier)))),
                }
            }
        }
    }
}

/// Claims what was advised, for whom it was asked, on behalf of who asks. Returns the claim's id;
/// `None`, and one line, when it cannot be claimed.
pub(crate) fn claim_as_asked(
    mut decision: Decision<'_>,
    request: &Request,
    advice: &Advice,
    who: ClaimOwner,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Option<ClaimId> {
    if let Some(why) = figures.refuses(&decision, request, &who) {
        notes.state(Impact::Unclaimed, format!("no claim was made: {why}"));
        return None;
    }
    let caller = decision.caller_of(&figures.asker());
    let claimed = decision.claim(request, advice, who, caller, request.pages);
    claimed.map_err(|error| unclaimed(&error, notes)).ok()
}

/// Claims what was advised for a process of this host. `None`, and one line, when it cannot be.
pub fn claim_for(
    mut decision: Decision<'_>,
    request: &Request,
    advice: &Advice,
    who: ClaimOwner,
    notes: &mut Notes,
) -> Option<ClaimId> {
    let caller = decision.caller(std::process::id(), getuid().as_raw());
    let claimed = decision.claim(request, advice, who, caller, request.pages);
    claimed.map_err(|error| unclaimed(&error, notes)).ok()
}

impl Desk {
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

fn unclaimed(error: &ClaimError, notes: &mut Notes) {
    let why = chain(error);
    notes.state(Impact::Unclaimed, format!("no claim was made: {why}"));
}
