//! Which of many owners still live.
//!
//! A process is identified by its pid and start time. Reading the start time takes 4 to 9 µs. Beside more
//! than 200 claims, 32 owners are checked exactly, those unseen for longest, and of the others those whose
//! `/proc/PID` is not known to be that of the process that was checked before. The kernel gives that
//! directory the time at which it was first looked up in the life of a process: where the time is earlier
//! than the last check, no other process has got the pid since. That costs 1 µs, however many pids were
//! given meanwhile. A zombie may count for a few decisions more, which overstates claims and never
//! understates them. Up to 200 owners are all checked exactly.
//!
//! A process that stays watches owners that it has found alive ([`Watched`]), and asks for none of them again.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::claim::{Claim, Owner};
use super::ledger::Fate;
use super::proc::Processes;
use super::watched::Watched;

/// Up to this number of owners, each is asked for exactly.
const MANY: usize = 200;
/// The CPU time that the owners of claims may cost one decision. What is not looked at then counts as
/// it was seen last, which overstates a claim and never understates it.
const LOOK_TIME: Duration = Duration::from_millis(4);
/// Owners that are looked at whatever it costs: on a slow host the time may be over before the first.
pub(super) const SURE_LOOKS: usize = 16;

/// CPU time that may be spent by this thread. Time in which the host runs others is not charged, so a
/// busy host does not look at less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    until: Option<Duration>,
}

impl Budget {
    pub(super) fn of_a_decision() -> Self {
        Self { until: Self::now().map(|now| now + LOOK_TIME) }
    }

    #[cfg(test)]
    pub(super) fn unlimited() -> Self {
        Self { until: None }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.until.is_some_and(|until| Self::now().is_some_and(|now| now >= until))
    }

    fn now() -> Option<Duration> {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
    }
}

/// What is known of an owner before it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The claim's `checked`; the newest of several.
    pub(super) checked: Option<u64>,
    /// Whether it is to be asked for exactly.
    pub(super) due: bool,
    /// Whether a claim for it was made by a user who is believed.
    pub(super) trusted: bool,
}

/// What was found out about owners.
#[derive(Debug, Default)]
pub(super) struct Fates {
    by_owner: BTreeMap<Owner, Fate>,
    /// When those found alive exactly were asked for, by the clock of [`Processes::checked_at`].
    pub(super) at: Option<u64>,
    /// When the first look began, by the same clock.
    began: Option<u64>,
    exact: std::collections::BTreeSet<Owner>,
}

impl Fates {
    /// Returns whether the owner of a claim lives; unknown when it was not asked for.
    pub(super) fn of(&self, claim: &Claim) -> Fate {
        self.by_owner.get(&claim.owner).copied().unwrap_or(Fate::Unknown)
    }

    /// Returns whether the owner of a claim was found to be the one the claim is for.
    pub(super) fn is_checked(&self, claim: &Claim) -> bool {
        self.exact.contains(&claim.owner)
    }

    /// Notes that owners are looked at from now on.
    pub(super) fn begin(&mut self, look: &Processes) {
        self.began = self.began.or_else(|| look.checked_at());
    }

    /// Finds out the fates of owners of this boot, each asked for once whatever the number of its
    /// claims. `unasked` are others, which are known to live.
    ///
    /// Where there are many owners, only due ones and those whose pid may have been given again are asked for
    /// exactly. An owner that has ended and was not waited for then counts until it is due.
    pub(super) fn ask(
        &mut self,
        look: &mut Processes,
        owners: &BTreeMap<&Owner, Known>,
        unasked: usize,
        budget: Budget,
        mut watched: Option<&mut Watched>,
    ) {
        let many = owners.len() + unasked > MANY;
        // Before the first of them is looked at.
        self.begin(look);
        self.at = self.at.or(self.began.filter(|_| many));
        let mut exactly: Vec<(&Owner, Known)> = Vec::new();
        for (&owner, &known) in owners {
            if self.by_owner.contains_key(owner) {
                continue;
            }
            if watched.as_deref().is_some_and(|watched| look.is_watched(watched, owner)) {
                self.by_owner.insert(owner.clone(), Fate::Alive);
                if many && known.due {
                    self.exact.insert(owner.clone());
                }
                continue;
            }
            let then = known.checked.filter(|_| many && !known.due);
            let watching = watched.as_deref_mut().filter(|_| !budget.is_spent());
            if then.is_some_and(|then| {
                watch_if(watching, look, owner, |look| look.is_same(owner, then))
            }) {
                self.by_owner.insert(owner.clone(), Fate::Alive);
                continue;
            }
            if look.has_gone(owner) {
                self.by_owner.insert(owner.clone(), Fate::Dead);
                continue;
            }
            exactly.push((owner, known));
        }
        // Processes of others come last, and in another order each time: where one takes long, it is
        // not always the same ones that are left out.
        let (trusted, mut others): (Vec<_>, Vec<_>) =
            exactly.into_iter().partition(|(_, known)| known.trusted);
        let turn = usize::try_from(look.now().nanoseconds() / 1000).unwrap_or(0);
        let turn = turn % others.len().max(1);
        others.rotate_left(turn);
        for (nth, (owner, _)) in trusted.into_iter().chain(others).enumerate() {
            if nth >= SURE_LOOKS && budget.is_spent() {
                return;
            }
            let watching = watched.as_deref_mut().filter(|watched| watched.has_room());
            let lives = watching.is_some()
                && watch_if(watching, look, owner, |look| look.has_process(owner));
            let fate = if lives { Fate::Alive } else { look.fate_of_owner(owner) };
            if many && fate == Fate::Alive {
                self.exact.insert(owner.clone());
            }
            self.by_owner.insert(owner.clone(), fate);
        }
    }
}

/// Returns whether an owner lives, and watches its process from then on where that can be.
fn watch_if(
    watched: Option<&mut Watched>,
    look: &mut Processes,
    owner: &Owner,
    lives: impl FnOnce(&mut Processes) -> bool,
) -> bool {
    match (watched, look.process_here(owner)) {
        (Some(watched), Some(process)) => watched.watch_if(process, || lives(look)),
        _ => lives(look),
    }
}

#[cfg(test)]
mod tests {
    use super::super::claim::ProcessId;
    use super::super::claim::tests::claim;
    use super::*;

    fn asked(look: &mut Processes, claims: &[Claim], due: &[u32]) -> Fates {
        let mut owners = BTreeMap::new();
        for claim in claims {
            let due = due.contains(&claim.id.0);
            owners.insert(&claim.owner, Known { checked: claim.checked, due, trusted: false });
        }
        let mut fates = Fates::default();
        fates.ask(look, &owners, 0, Budget::unlimited(), None);
        fates
    }

    #[test]
    fn l1_of_many_owners_those_that_may_be_others_by_now_and_the_due_are_asked_for_exactly() {
        let mut look = Processes::look().expect("a live host");
        let boot = look.boot().to_owned();
        let this = look.identify(std::process::id()).expect("this process");
        let now = look.checked_at().expect("a clock");
        let mut claims: Vec<Claim> = (0..300)
            .map(|n| {
                let owner = match n {
                    0 => this,
                    // It has this process's pid, and started earlier.
                    _ if n % 2 == 1 => ProcessId { start: this.start - 5 - u64::from(n), ..this },
                    // Above every pid there can be.
                    _ => ProcessId { pid: (1 << 22) + 7 + n, ..this },
                };
                let mut one = claim(n, &[(0, 1)]);
                // Checked after this process was first looked up.
                (one.owner, one.boot) = (Owner::Process(owner), boot.clone());
                one.checked = Some(now + 1_000_000_000);
                one
            })
            .collect();
        let told = asked(&mut look, &claims, &[0, 1, 2]);
        for claim in &claims {
            let wanted = match claim.id.0 {
                0 => Fate::Alive,
                // The same directory of this pid as when it was checked.
                n if n % 2 == 1 && n != 1 => Fate::Alive,
                _ => Fate::Dead,
            };
            assert_eq!(told.of(claim), wanted, "{}", claim.id);
        }
        assert!(told.is_checked(&claims[0]) && !told.is_checked(&claims[3]));
        let alive = |told: &Fates, claims: &[Claim]| -> Vec<u32> {
            let alive = claims.iter().filter(|claim| told.of(claim) == Fate::Alive);
            alive.map(|claim| claim.id.0).collect()
        };
        // Checked before the directory of the pid was there, or never: another process may have it.
        for before in [Some(1), None] {
            claims.iter_mut().for_each(|claim| claim.checked = before);
            let told = asked(&mut look, &claims, &[]);
            assert_eq!(alive(&told, &claims), [0], "{before:?}");
            assert!(told.at >= Some(now));
        }
        // Few are always asked for exactly.
        claims.iter_mut().for_each(|claim| claim.checked = Some(now + 1_000_000_000));
        let few = asked(&mut look, &claims[..30], &[]);
        assert_eq!(alive(&few, &claims), [0]);
    }

    #[test]
    fn beyond_the_budget_some_are_looked_at_and_the_dead_are_known_all_the_same() {
        let mut look = Processes::look().expect("a live host");
        let this = look.identify(std::process::id()).expect("this process");
        let found = (1..=1 << 22).filter_map(|pid| look.identify(pid)).take(SURE_LOOKS + 4);
        let live: Vec<Owner> = found.map(Owner::Process).collect();
        let gone = Owner::Process(ProcessId { pid: (1 << 22) + 7, ..this });
        let owners: BTreeMap<_, _> =
            live.iter().chain([&gone]).map(|owner| (owner, Known::default())).collect();
        let mut fates = Fates::default();
        fates.ask(&mut look, &owners, 0, Budget { until: Some(Duration::ZERO) }, None);
        let of = |owner: &Owner| fates.of(&Claim { owner: owner.clone(), ..claim(1, &[(0, 1)]) });
        let known = live.iter().filter(|owner| of(owner) != Fate::Unknown).count();
        assert_eq!((known, of(&gone)), (live.len().min(SURE_LOOKS), Fate::Dead));
    }
}
