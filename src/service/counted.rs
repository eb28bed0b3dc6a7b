//! Counts what was promised to others.
//!
//! An answer is never held back for want of a ledger: it is given without, and a note says so.

use std::sync::{Arc, OnceLock};

use placer_engine::claims::{Claim, ClaimDirs, ClaimError, Claims, Kept, LOCK_TIMEOUT, View};
use placer_engine::source::SnapshotReader;
use placer_engine::{Bytes, Charges, Snapshot, SourceError, SysRoot};

use super::host::CountedHost;
use super::notes::{Impact, Notes};
use super::sampling::{self, Window};
use crate::error_chain::chain;
use crate::settings;

/// What this process knows of its ledger: the daemon asks for each request.
static KEPT: OnceLock<Kept> = OnceLock::new();

/// Returns where claims are kept, with the rest of the state, and for users on top of root's; and
/// how they count.
pub fn place(set: settings::Claims) -> ClaimDirs {
    let dirs = ClaimDirs::on_top_of_roots(sampling::state_dir());
    let kept = KEPT.get_or_init(Kept::default).clone();
    ClaimDirs { kept, ..dirs.with_overcommit(set.overcommit) }
}

/// Keeps descriptors from now on: of the ledger, and of this number of owners at most. For a process that stays, before
/// it counts for the first time.
pub(crate) fn keep_descriptors(owners: usize) {
    // A second daemon of one process, as tests have them, shares the first one's.
    KEPT.get_or_init(|| Kept::with_descriptors(owners));
}

/// Takes a snapshot that counts what was promised to others, and what of it users were promised.
pub fn host(
    root: &SysRoot,
    set: settings::Claims,
    window: Window,
    pages: Option<Bytes>,
    notes: &mut Notes,
) -> Result<CountedHost, SourceError> {
    let Taken { snapshot, host_charges, .. } = take(root, set, window, pages, notes)?;
    Ok(CountedHost { snapshot: Arc::new(snapshot), host_charges })
}

/// Takes a snapshot that counts what was promised to others, and returns the claims beside it;
/// `None`, and one line, when they cannot all be told.
pub(crate) fn snapshot_and_claims(
    root: &SysRoot,
    set: settings::Claims,
    window: Window,
    pages: Option<Bytes>,
    notes: &mut Notes,
) -> Result<(Snapshot, Option<Counted>), SourceError> {
    let Taken { snapshot, claims, .. } = take(root, set, window, pages, notes)?;
    Ok((snapshot, claims))
}

/// The claims that count.
type Counted = Vec<Arc<Claim>>;

struct Taken {
    snapshot: Snapshot,
    host_charges: Option<Charges>,
    claims: Option<Counted>,
}

fn take(
    root: &SysRoot,
    set: settings::Claims,
    window: Window,
    pages: Option<Bytes>,
    notes: &mut Notes,
) -> Result<Taken, SourceError> {
    let mut host = SnapshotReader::open(root, pages)?;
    let snapshot = sampling::snapshot(&mut host, window, notes)?;
    let told = |view: View| view.complete.then_some(view.claims);
    match view(root, set, notes) {
        // Without claims the snapshot is as good as it was. With claims that have nothing left to
        // take it is not: a guest may have touched its memory since that was read.
        Some(mut view) if !view.charges.is_empty() || !view.claims.is_empty() => {
            let snapshot = host.again(&snapshot, std::mem::take(&mut view.charges))?;
            let host_charges = view.host_charges.take();
            Ok(Taken { snapshot, host_charges, claims: told(view) })
        }
        view => Ok(Taken { snapshot, host_charges: None, claims: view.and_then(told) }),
    }
}

/// Returns what was promised to others; `None`, and a note, when that is not known.
pub fn view(root: &SysRoot, set: settings::Claims, notes: &mut Notes) -> Option<View> {
    view_of(root, set, |claims| claims, notes)
}

/// The same without guests that nobody asked placer about: numad's own answers do not count them.
pub(crate) fn view_of_asked(
    root: &SysRoot,
    set: settings::Claims,
    notes: &mut Notes,
) -> Option<View> {
    view_of(root, set, Claims::asked_only, notes)
}

fn view_of(
    root: &SysRoot,
    set: settings::Claims,
    which: impl Fn(Claims) -> Claims,
    notes: &mut Notes,
) -> Option<View> {
    let place = place(set);
    let counted = |place: &ClaimDirs| which(Claims::open(place, root)?).view();
    let view = counted(&place).or_else(|error| {
        let why = chain(&error);
        notes.state(Impact::Uncounted, format!("claims are not counted: {why}"));
        // What is wrong with a user's own directory does not hide what root was promised.
        place.below.as_ref().ok_or(error)?;
        let below = counted(&ClaimDirs { own: None, ..place.clone() });
        below.map(|mut view| {
            view.complete = false;
            view
        })
    });
    view.inspect(|view| view.notes.iter().for_each(|note| notes.warn(note))).ok()
}

/// Writes down which holds guests have taken over, so that they end with them. Returns what a person
/// should know about the ledger.
///
/// Errors: the ledger cannot be had, or not written.
pub(crate) fn keep_adopted(
    root: &SysRoot,
    set: settings::Claims,
) -> Result<Vec<String>, ClaimError> {
    Claims::open_to_claim(&place(set), root)?.keep_adopted(LOCK_TIMEOUT)
}

/// The same for users' guests, see [`Claims::keep_adopted_by_users`].
///
/// Errors: as [`keep_adopted`].
pub(crate) fn keep_adopted_by_users(
    root: &SysRoot,
    set: settings::Claims,
) -> Result<(), ClaimError> {
    Claims::open_to_claim(&place(set), root)?.keep_adopted_by_users(LOCK_TIMEOUT)
}
