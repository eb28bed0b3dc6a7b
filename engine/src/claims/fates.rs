//! Who of many owners still lives.

use std::collections::BTreeMap;

use super::claim::{Claim, ClaimId};
use super::ledger::{Fate, Ledger};
use super::proc::Processes;

/// Fewer owners than this are asked about one after the other.
const WORTH_A_THREAD: usize = 200;

/// Finds out the fates of all owners of one boot. The kernel takes some 4 µs to tell when a process
/// started, so many owners are shared among a few threads.
pub(super) fn fates(look: &mut Processes, ledger: &Ledger, boot: &str) -> BTreeMap<ClaimId, Fate> {
    let claims: Vec<&Claim> = ledger
        .claims()
        .iter()
        .filter(|claim| claim.boot == boot && claim.owner.process().is_some())
        .collect();
    let threads = claims.len() / WORTH_A_THREAD;
    let threads = threads.min(std::thread::available_parallelism().map_or(1, usize::from)).min(4);
    if threads < 2 {
        return claims.into_iter().map(|claim| (claim.id, look.fate(claim))).collect();
    }
    let share = claims.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let mut parts = claims.chunks(share);
        let own = parts.next().unwrap_or_default();
        let others: Vec<_> = parts
            .map(|part| {
                // A look of its own: readers keep a buffer.
                let ask = move || -> Option<Vec<(ClaimId, Fate)>> {
                    let mut look = Processes::look().ok()?;
                    Some(part.iter().map(|claim| (claim.id, look.fate(claim))).collect())
                };
                (part, std::thread::Builder::new().spawn_scoped(scope, ask))
            })
            .collect();
        let mut fates: BTreeMap<_, _> =
            own.iter().map(|claim| (claim.id, look.fate(claim))).collect();
        for (part, thread) in others {
            let told = thread.ok().and_then(|thread| thread.join().ok().flatten());
            // No thread to be had: as if there were none.
            let told = told
                .unwrap_or_else(|| part.iter().map(|claim| (claim.id, look.fate(claim))).collect());
            fates.extend(told);
        }
        fates
    })
}
