//! Counts what was promised to others, and claims what is advised.
//!
//! An answer is never held back for want of a ledger: it is given without, and one line says so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{geteuid, getuid};
use placer_engine::claims::{
    Claim, ClaimError, ClaimId, Claims, Decision, For, PATIENCE, Place, View,
};
use placer_engine::source::SnapshotReader;
use placer_engine::{Advice, Bytes, Charges, Request, Snapshot, SourceError, SysRoot};

use crate::service::figures::{Figures, Local};
use crate::service::sampling::{self, Window};
use crate::trouble::{self, Effect};
use crate::{output, settings};

/// Root's claims, which every user's advice counts.
const ROOTS: &str = "/run/placer";

/// Returns where claims are kept, with the rest of the state, and for users on top of root's; and
/// how they count.
pub fn place(set: settings::Claims) -> Place {
    let own = sampling::state_dir();
    let below = (!geteuid().is_root()).then(|| (PathBuf::from(ROOTS), 0));
    Place { own, below, overcommit: set.overcommit }
}

/// Takes a snapshot that counts what was promised to others.
pub fn snapshot(
    root: &SysRoot,
    set: settings::Claims,
    window: Window,
    pages: Option<Bytes>,
) -> Result<Snapshot, SourceError> {
    Ok(snapshot_and_claims(root, set, window, pages)?.0)
}

/// Takes a snapshot that counts what was promised to others, and returns the claims beside it;
/// `None`, and one line, when they cannot all be told.
pub(crate) fn snapshot_and_claims(
    root: &SysRoot,
    set: settings::Claims,
    window: Window,
    pages: Option<Bytes>,
) -> Result<(Snapshot, Option<Vec<Claim>>), SourceError> {
    let mut host = SnapshotReader::open(root, pages)?;
    let snapshot = sampling::snapshot(&mut host, window)?;
    let told = |view: View| view.complete.then_some(view.claims);
    match view(root, set) {
        // Without claims the snapshot is as good as it was. With claims that have nothing left to
        // take it is not: a guest may have touched its memory since that was read.
        Some(mut view) if !view.charges.is_empty() || !view.claims.is_empty() => {
            let snapshot = again(&mut host, &snapshot, std::mem::take(&mut view.charges))?;
            Ok((snapshot, told(view)))
        }
        view => Ok((snapshot, view.and_then(told))),
    }
}

/// Returns what was promised to others; `None`, and one line, when that cannot be told.
pub fn view(root: &SysRoot, set: settings::Claims) -> Option<View> {
    view_of(root, set, |claims| claims)
}

/// The same without guests that nobody asked placer about: numad's own answers do not count them.
pub(crate) fn view_of_asked(root: &SysRoot, set: settings::Claims) -> Option<View> {
    view_of(root, set, Claims::asked_only)
}

fn view_of(
    root: &SysRoot,
    set: settings::Claims,
    which: impl Fn(Claims) -> Claims,
) -> Option<View> {
    let place = place(set);
    let counted = |place: &Place| which(Claims::open(place, root)?).view();
    let view = counted(&place).or_else(|error| {
        let why = output::chain(&error);
        trouble::note(Effect::Uncounted, format!("claims are not counted: {why}"));
        // What is wrong with a user's own directory does not hide what root was promised.
        place.below.as_ref().ok_or(error)?;
        let below = counted(&Place { own: None, ..place.clone() });
        below.map(|view| View { complete: false, ..view })
    });
    view.inspect(|view| view.notes.iter().for_each(|note| output::warn(note))).ok()
}

/// Writes down which holds guests have taken over, so that they end with them. Returns what a person
/// should know about the ledger.
///
/// Errors: the ledger cannot be had, or not written.
pub(crate) fn keep_adopted(
    root: &SysRoot,
    set: settings::Claims,
) -> Result<Vec<String>, ClaimError> {
    Claims::open_to_claim(&place(set), root)?.keep_adopted(PATIENCE)
}

/// The same for users' guests, see [`Claims::keep_adopted_by_users`].
///
/// Errors: as [`keep_adopted`].
pub(crate) fn keep_adopted_by_users(
    root: &SysRoot,
    set: settings::Claims,
) -> Result<(), ClaimError> {
    Claims::open_to_claim(&place(set), root)?.keep_adopted_by_users(PATIENCE)
}

/// The ledger of a decision that is to be claimed; empty when it cannot be had.
pub struct Desk {
    claims: Option<Claims>,
    set: settings::Claims,
}

impl Desk {
    /// Opens the ledger of a host.
    pub fn open(root: &SysRoot, set: settings::Claims) -> Self {
        let claims = Claims::open_to_claim(&place(set), root);
        Self { claims: claims.map_err(|error| unclaimed(&error)).ok(), set }
    }

    /// Takes a snapshot and then, under the lock, counts what was promised and reads the memory
    /// again.
    pub fn begin(
        &self,
        root: &SysRoot,
        window: Window,
        pages: Option<Bytes>,
        patience: Duration,
    ) -> Result<(Option<Decision<'_>>, Arc<Snapshot>), SourceError> {
        self.begin_with(&Local::new(root, self.set, window), pages, patience)
    }

    /// The same with figures from elsewhere. Residency is read first, so that memory touched in
    /// between is counted twice and never not at all. The load is measured before, so that nobody
    /// waits for the lock meanwhile.
    pub(crate) fn begin_with(
        &self,
        figures: &dyn Figures,
        pages: Option<Bytes>,
        patience: Duration,
    ) -> Result<(Option<Decision<'_>>, Arc<Snapshot>), SourceError> {
        let Some(claims) = &self.claims else {
            return Ok((None, figures.counted(pages)?));
        };
        let earlier = figures.measured(pages)?;
        let again = |charges| figures.again(&earlier, charges, pages).map(Arc::new);
        match claims.begin_for(Some(figures.asker()), patience) {
            Ok((decision, view)) => {
                view.notes.iter().for_each(|note| output::warn(note));
                Ok((Some(decision), again(view.charges)?))
            }
            Err(error) => {
                unclaimed(&error);
                match claims.view() {
                    Ok(view) => Ok((None, again(view.charges)?)),
                    Err(_) => Ok((None, Arc::new(earlier))),
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
    who: For,
    figures: &dyn Figures,
) -> Option<ClaimId> {
    if let Some(why) = figures.refuses(&decision, request, &who) {
        trouble::note(Effect::Unclaimed, format!("nothing is claimed: {why}"));
        return None;
    }
    let (pid, uid) = figures.asker();
    let caller = decision.caller(pid, uid);
    let claimed = decision.claim(request, advice, who, caller, request.pages);
    claimed.map_err(|error| unclaimed(&error)).ok()
}

/// Claims what was advised for a process of this host. `None`, and one line, when it cannot be.
pub fn claim_for(
    mut decision: Decision<'_>,
    request: &Request,
    advice: &Advice,
    who: For,
) -> Option<ClaimId> {
    let caller = decision.caller(std::process::id(), getuid().as_raw());
    let claimed = decision.claim(request, advice, who, caller, request.pages);
    claimed.map_err(|error| unclaimed(&error)).ok()
}

impl Desk {
    /// Ends a claim of a guest that did not start. One that cannot be ended now ends with the
    /// process it is for, which is about to.
    pub fn release(&self, id: ClaimId) {
        if let Some(claims) = &self.claims
            && let Ok((decision, _)) = claims.begin(PATIENCE)
        {
            let _ = decision.release(id);
        }
    }
}

fn unclaimed(error: &ClaimError) {
    let why = output::chain(error);
    trouble::note(Effect::Unclaimed, format!("nothing is claimed: {why}"));
}

/// Reads the memory again, now that what was promised is known, and the CPU counters: a guest that
/// started meanwhile takes its claimed CPUs back as it is seen to use them.
pub(crate) fn again(
    host: &mut SnapshotReader,
    earlier: &Snapshot,
    charges: Charges,
) -> Result<Snapshot, SourceError> {
    let now = host.take(earlier.before().cloned(), Duration::ZERO)?;
    Ok(now.with_charges(charges))
}
