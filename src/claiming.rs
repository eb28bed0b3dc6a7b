//! Counts what was promised to others, and claims what is advised.
//!
//! An answer is never held back for want of a ledger: it is given without, and one line says so.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{geteuid, getppid, getuid};
use placer_engine::claims::{ClaimError, ClaimId, Claims, Decision, For, PATIENCE, Place, View};
use placer_engine::{Advice, Bytes, Request, Snapshot, SourceError, SysRoot};

use crate::trouble::{self, Effect};
use crate::{output, sampling};

/// Root's claims, which every user's advice counts.
const ROOTS: &str = "/run/placer";

/// Returns where claims are kept: with the rest of the state, and for users on top of root's.
pub(crate) fn place() -> Place {
    let own = sampling::state_dir();
    let apart = own.is_some() && std::env::var_os("PLACER_STATE_DIR").is_some();
    let below = (!geteuid().is_root() && !apart).then(|| (PathBuf::from(ROOTS), 0));
    Place { own, below, ..Place::default() }
}

/// Takes a snapshot that counts what was promised to others.
pub(crate) fn snapshot(
    root: &SysRoot,
    window: Duration,
    pages: Option<Bytes>,
) -> Result<Snapshot, SourceError> {
    let snapshot = sampling::snapshot(root, window, pages)?;
    match view(root) {
        // Nothing was promised: the snapshot is as good as it was.
        Some(view) if !view.charges.is_empty() => again(root, &snapshot, view, pages),
        _ => Ok(snapshot),
    }
}

/// Returns what was promised to others; `None`, and one line, when that cannot be told.
pub(crate) fn view(root: &SysRoot) -> Option<View> {
    let place = place();
    let counted = |place: &Place| Claims::open(place, root).and_then(|claims| claims.view());
    let view = counted(&place).or_else(|error| {
        let why = output::chain(&error);
        trouble::note(Effect::Uncounted, format!("claims are not counted: {why}"));
        // What is wrong with a user's own directory does not hide what root was promised.
        place.below.as_ref().ok_or(error)?;
        counted(&Place { own: None, ..place.clone() })
    });
    view.inspect(|view| view.notes.iter().for_each(|note| output::warn(note))).ok()
}

/// The ledger of a decision that is to be claimed; empty when it cannot be had.
pub(crate) struct Desk {
    claims: Option<Claims>,
}

impl Desk {
    /// Opens the ledger of a host.
    pub(crate) fn open(root: &SysRoot) -> Self {
        match Claims::open_to_claim(&place(), root) {
            Ok(claims) => Self { claims: Some(claims) },
            Err(error) => {
                unclaimed(&error);
                Self { claims: None }
            }
        }
    }

    /// Takes a snapshot and then, under the lock, counts what was promised and reads the memory
    /// again: residency first, so that memory touched in between is counted twice and never not at
    /// all. The load is measured before, so that nobody waits for the lock meanwhile.
    pub(crate) fn begin(
        &self,
        root: &SysRoot,
        window: Duration,
        pages: Option<Bytes>,
    ) -> Result<(Option<Decision<'_>>, Snapshot), SourceError> {
        let Some(claims) = &self.claims else { return Ok((None, snapshot(root, window, pages)?)) };
        let earlier = sampling::snapshot(root, window, pages)?;
        match claims.begin(PATIENCE) {
            Ok((decision, view)) => {
                view.notes.iter().for_each(|note| output::warn(note));
                Ok((Some(decision), again(root, &earlier, view, pages)?))
            }
            Err(error) => {
                unclaimed(&error);
                match claims.view() {
                    Ok(view) => Ok((None, again(root, &earlier, view, pages)?)),
                    Err(_) => Ok((None, earlier)),
                }
            }
        }
    }
}

/// Holds what was advised for so long. Returns the claim's id; `None`, and one line, when it cannot
/// be claimed.
pub(crate) fn hold(
    mut decision: Decision<'_>,
    request: &Request,
    advice: &Advice,
    time: Duration,
) -> Option<ClaimId> {
    // Who asks is the one that called this program, which is about to end.
    let parent = u32::try_from(getppid().as_raw()).unwrap_or_default();
    let caller = decision.caller(parent, getuid().as_raw());
    let claimed = decision.claim(request, advice, For::Hold(time), caller, None);
    claimed.map_err(|error| unclaimed(&error)).ok()
}

fn unclaimed(error: &ClaimError) {
    let why = output::chain(error);
    trouble::note(Effect::Unclaimed, format!("nothing is claimed: {why}"));
}

/// Reads the memory again, now that what was promised is known. The load stays as it was measured.
fn again(
    root: &SysRoot,
    earlier: &Snapshot,
    view: View,
    pages: Option<Bytes>,
) -> Result<Snapshot, SourceError> {
    let saved = earlier.before().cloned();
    let now = Snapshot::take_with(root, saved, Duration::ZERO, pages)?;
    Ok(now.with_charges(view.charges))
}
