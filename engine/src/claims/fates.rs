//! Who of many owners still lives.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::{Claim, ClaimId};
use super::ledger::{Fate, Ledger};
use super::proc::Processes;

/// Fewer owners than this are all asked about exactly, one after the other.
const MANY: usize = 200;

/// Finds out the fates of all owners of one boot.
///
/// The kernel takes 4 to 9 µs to tell when a process started, by which it is known from another that
/// was given its pid. Where there are many owners, only `due` ones and those that may be others are
/// asked about exactly, shared among a few threads; of the others it is asked whether they are
/// there. An owner that has ended and was not waited for then counts until it is due: too much is
/// claimed for so long, never too little.
///
/// Those found alive exactly are noted in the ledger.
pub(super) fn fates(
    look: &mut Processes,
    ledger: &mut Ledger,
    boot: &str,
    due: &[ClaimId],
) -> BTreeMap<ClaimId, Fate> {
    let mut claims: Vec<&Claim> = ledger
        .claims()
        .iter()
        .filter(|claim| claim.boot == boot && claim.owner.process().is_some())
        .collect();
    if claims.len() <= MANY {
        return claims.into_iter().map(|claim| (claim.id, look.fate(claim))).collect();
    }
    let (started, again) = (look.started(), look.no_pid_again());
    let due: BTreeSet<ClaimId> = due.iter().copied().collect();
    let mut fates = BTreeMap::new();
    claims.retain(|claim| {
        let since = claim.checked.zip(started).and_then(|(then, now)| now.checked_sub(then));
        if due.contains(&claim.id) || since.is_none_or(|since| since >= again) {
            return true;
        }
        let Some(there) = look.is_there(claim) else { return true };
        fates.insert(claim.id, if there { Fate::Alive } else { Fate::Dead });
        false
    });
    let exact = exactly(look, &claims);
    ledger.check(started, |claim| exact.get(&claim.id) == Some(&Fate::Alive));
    fates.extend(exact);
    fates
}

/// Asks when each owner started.
fn exactly(look: &mut Processes, claims: &[&Claim]) -> BTreeMap<ClaimId, Fate> {
    let threads = claims.len() / MANY;
    let threads = threads.min(std::thread::available_parallelism().map_or(1, usize::from)).min(4);
    if threads < 2 {
        return claims.iter().map(|claim| (claim.id, look.fate(claim))).collect();
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

#[cfg(test)]
mod tests {
    use super::super::claim::tests::claim;
    use super::super::claim::{Owner, ProcessId};
    use super::*;

    #[test]
    fn of_many_owners_most_are_asked_about_in_short_and_the_due_exactly() {
        let mut look = Processes::look().expect("a live host");
        let boot = look.boot().to_owned();
        let this = look.identify(std::process::id()).expect("this process");
        let started = look.started().expect("/proc/stat tells");
        let another = ProcessId { start: this.start - 5, ..this };
        // Above every pid there can be.
        let gone = ProcessId { pid: (1 << 22) + 7, ..this };
        let mut ledger = Ledger::default();
        for n in 0..300 {
            let owner = match n % 3 {
                0 => this,
                1 => another,
                _ => gone,
            };
            let mut one = claim(n, &[(0, 1)]);
            one.owner = Owner::Process(owner);
            one.boot.clone_from(&boot);
            one.checked = Some(started);
            ledger.add(one).expect("room");
        }
        let due = [ClaimId(0), ClaimId(1), ClaimId(2)];
        let told = fates(&mut look, &mut ledger, &boot, &due);
        assert_eq!(told.len(), 300);
        for (id, fate) in &told {
            let wanted = match id.0 % 3 {
                0 => Fate::Alive,
                // It has this process's pid, and was checked a moment ago.
                1 if id.0 != 1 => Fate::Alive,
                _ => Fate::Dead,
            };
            assert_eq!(*fate, wanted, "{id}");
        }
        // Long ago, or never: exactly.
        let long_ago = started.checked_sub(look.no_pid_again());
        ledger.check(long_ago, |_| true);
        let told = fates(&mut look, &mut ledger, &boot, &[]);
        let alive: Vec<u32> =
            told.iter().filter(|(_, fate)| **fate == Fate::Alive).map(|(id, _)| id.0).collect();
        assert_eq!(alive, (0..300).step_by(3).collect::<Vec<_>>());
        // What was found out is noted.
        assert!(ledger.get(ClaimId(3)).expect("there").checked >= Some(started));
        assert_eq!(ledger.get(ClaimId(4)).expect("there").checked, long_ago);
        // Few are always asked about exactly.
        let mut few = Ledger::default();
        for claim in ledger.claims().iter().take(30) {
            few.add(claim.clone()).expect("room");
        }
        let told = fates(&mut look, &mut few, &boot, &[]);
        assert_eq!(told.values().filter(|fate| **fate == Fate::Alive).count(), 10);
    }
}
