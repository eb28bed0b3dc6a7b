//! A look at the processes of this host, for one decision.
//!
//! All that another process can slow down happens in [`Look::ask`], before the ledger's lock is taken.
//! Under the lock [`Look::close`] comes first, and what was found out is applied by look-ups alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::asker::Asking;
use super::claim::{Claim, ClaimId, Owner, ProcessId, Seen};

use super::error::ClaimError;
use super::fates::{Budget, Fates, Known, SURE_LOOKS};
use super::guest::{self, Guest};
use super::ledger::Ledger;
use super::observed::Observer;
use super::principal::Principals;
use super::proc::Processes;
use super::watched::KnownOwners;
use crate::ids::NodeId;
use crate::sample::Instant;
use crate::source::{HostReader, SysRoot, live_clock};
use crate::store::StateDir;
use crate::units::Bytes;

/// The most guests looked at for one decision; the others count as they were last seen.
pub const MOST_LOOKS: usize = 32;
/// Where there are more guests, one that was looked at so short a time ago is not looked at again.
const SERVES_NS: u64 = 250_000_000;

/// The processes of this host, read only where there is something to ask about; and the guests of
/// the host that is decided about, if they are looked for.
pub(super) struct Look<'a> {
    root: &'a SysRoot,
    processes: Option<Processes>,
    /// Whether nothing is looked at any more: the lock is held.
    closed: bool,
    budget: Budget,
    guests: Vec<Guest>,
    accounts: Principals,
    fates: Fates,
    watched: KnownOwners,
    seen: BTreeMap<Owner, Seen>,
    /// When guests started, on the monotonic clock.
    started: BTreeMap<ProcessId, u64>,
    /// The cgroups of guests, once they were asked for.
    guests_cgroups: BTreeMap<u32, Option<String>>,
    free: Vec<(NodeId, Bytes)>,
    /// The pids of those that have a claim.
    owners: BTreeSet<u32>,
    /// Cgroups that have a claim, all that runs in them included.
    cgroups: Vec<String>,
}

impl<'a> Look<'a> {
    pub(super) fn new(root: &'a SysRoot) -> Self {
        Self {
            root,
            processes: None,
            closed: false,
            budget: Budget::of_a_decision(),
            guests: Vec::new(),
            accounts: Principals::default(),
            fates: Fates::default(),
            watched: KnownOwners::default(),
            seen: BTreeMap::new(),
            started: BTreeMap::new(),
            guests_cgroups: BTreeMap::new(),
            free: Vec::new(),
            owners: BTreeSet::new(),
            cgroups: Vec::new(),
        }
    }

    /// Asks for no owner that is watched.
    pub(super) fn watching(mut self, owners: &KnownOwners) -> Self {
        self.watched = owners.clone();
        self
    }

    /// Looks for guests. Those found the last time are kept in `state`. On a recorded machine only
    /// what was recorded is looked at.
    pub(super) fn observe(&mut self, state: Option<&StateDir>) {
        let asking = nix::unistd::geteuid().as_raw();
        self.find_guests(Observer::new(self.root, asking), state);
    }

    /// Looks for guests of some users, to hand holds of theirs over to them. Reads command lines of
    /// processes of these users, which may take as long as they like: not for decisions of others.
    pub(super) fn observe_users(&mut self, state: Option<&StateDir>, uids: Vec<u32>) {
        self.find_guests(Observer::of_users(self.root, uids), state);
    }

    fn find_guests(&mut self, mut observer: Observer, state: Option<&StateDir>) {
        let Ok(now) = live_clock().map(Instant::nanoseconds) else { return };
        let found = if self.root.is_live() {
            observer.look(state, now, || match self.get() {
                Ok(look) if look.has_own_proc() => Ok(look),
                _ => Err(()),
            })
        } else {
            let mut recorded = Processes::recorded(self.root);
            observer.look(None, now, || recorded.as_mut().map_err(|_| ()))
        };
        self.guests = found.unwrap_or_default();
        if self.root.is_live() && !self.guests.is_empty() {
            self.accounts = Principals::read(self.root);
            self.note_starts();
        }
        if self.guests.iter().any(Guest::is_spread) {
            self.free = free(self.root);
        }
        // One look serves the whole decision, and guests had theirs.
        self.budget = Budget::of_a_decision();
    }

    fn note_starts(&mut self) {
        let Ok(look) = self.get() else { return };
        let (ticks, now) = look.ticks_and_clock();
        let started = |guest: &Guest| {
            let age = ticks.saturating_sub(guest.process.start).saturating_mul(10_000_000);
            (guest.process, now.nanoseconds().saturating_sub(age))
        };
        self.started = self.guests.iter().map(started).collect();
    }

    fn get(&mut self) -> Result<&mut Processes, ClaimError> {
        if self.processes.is_none() {
            self.processes = Some(Processes::look()?);
        }
        self.processes.as_mut().ok_or(ClaimError::NoPlace)
    }

    /// Reads who asks, so that it need not be read under the lock.
    pub(super) fn asking(&mut self, pid: u32, uid: u32) -> Result<Asking, ClaimError> {
        let look = self.get()?;
        Ok(Asking { caller: look.caller(pid, uid), process: look.identify(pid) })
    }

    /// Opens what the rest of the decision needs.
    pub(super) fn open(&mut self) -> Result<(), ClaimError> {
        self.get().map(|_| ())
    }

    /// Ends all looking: from here on only what was found out is applied, at the time that it is now.
    pub(super) fn close(&mut self) -> Result<(), ClaimError> {
        self.get()?.advance()?;
        self.closed = true;
        Ok(())
    }

    pub(super) fn processes(mut self) -> Result<Processes, ClaimError> {
        self.get()?;
        self.processes.ok_or(ClaimError::NoPlace)
    }

    /// Looks at the owners of claims, and applies what was found out.
    pub(super) fn refresh(&mut self, ledger: &mut Ledger) -> Result<(), ClaimError> {
        self.ask(ledger)?;
        self.apply(ledger)
    }

    /// Finds out whether the owners of claims live, and what is resident of some of them: each process
    /// is looked at once, whatever the number of its claims. The memory of a recorded machine is as it
    /// was recorded: what processes of this host touch is not missing there.
    pub(super) fn ask(&mut self, ledger: &Ledger) -> Result<(), ClaimError> {
        if ledger.claims().is_empty() {
            return Ok(());
        }
        let live = self.root.is_live();
        // Guests that take over holds are owners as well.
        let mut ledger = Cow::Borrowed(ledger);
        if !self.guests.is_empty() {
            self.adopt(ledger.to_mut())?;
        }
        let own = nix::unistd::geteuid().as_raw();
        let look = match &mut self.processes {
            Some(look) => look,
            none => none.insert(Processes::look()?),
        };
        let now = look.now();
        let served = now.nanoseconds().saturating_sub(SERVES_NS);
        let recent = Instant::from_nanoseconds(served)..=now;
        let due = if live { ledger.due(MOST_LOOKS, recent) } else { Vec::new() };
        let due: BTreeSet<ClaimId> = due.into_iter().collect();
        // Before an owner is taken for one that lives since it is watched.
        self.fates.begin(look);
        let mut watched = self.watched.now();
        let mut owners: BTreeMap<&Owner, Known> = BTreeMap::new();
        let of_this_boot = |claim: &&Arc<Claim>| claim.boot == look.boot();
        let mut unasked = 0;
        for claim in ledger.claims().iter().filter(of_this_boot) {
            let due = due.contains(&claim.id);
            // One that is watched lives. What is not asked for counts as well.
            let lives =
                || watched.as_deref().is_some_and(|watched| look.is_watched(watched, &claim.owner));
            if !due && lives() {
                unasked += 1;
            } else if claim.owner.process().is_some() {
                let known = owners.entry(&claim.owner).or_default();
                known.checked = known.checked.max(claim.checked);
                known.due |= due;
                known.trusted |= claim.principal.is_host() || claim.caller.uid == own;
            }
        }
        if let Some(watched) = watched.as_deref_mut().filter(|watched| !watched.has_room()) {
            let owners = ledger.claims().iter().filter_map(|claim| claim.owner.process());
            watched.keep_only(&owners.collect());
        }
        self.fates.ask(look, &owners, unasked, self.budget, watched.as_deref_mut());
        drop(watched);
        let mut due: Vec<(&Owner, Known)> =
            owners.into_iter().filter(|(_, known)| known.due).collect();
        due.sort_by_key(|(_, known)| !known.trusted);
        for (nth, (owner, _)) in due.into_iter().enumerate() {
            if nth >= SURE_LOOKS && self.budget.is_spent() {
                break;
            }
            if !self.seen.contains_key(owner)
                && let Some(seen) = look.seen_of(owner)
            {
                self.seen.insert(owner.clone(), seen);
            }
        }
        Ok(())
    }

    /// Hands holds to the guests that have appeared for them, drops what counts no more, and notes
    /// what was seen of guests.
    pub(super) fn apply(&mut self, ledger: &mut Ledger) -> Result<(), ClaimError> {
        if ledger.claims().is_empty() && ledger.unread() == 0 {
            return Ok(());
        }
        // Before holds end: a late look hands them over none the less.
        self.adopt(ledger)?;
        let look = self.get()?;
        let (boot, now) = (look.boot().to_owned(), look.now());
        ledger.check(self.fates.at, |claim| self.fates.is_checked(claim));
        ledger.settle(&boot, now, |claim| self.fates.of(claim));
        if self.root.is_live() {
            ledger.see_all(|claim| self.seen.get(&claim.owner));
        }
        Ok(())
    }

    fn adopt(&mut self, ledger: &mut Ledger) -> Result<(), ClaimError> {
        if !self.root.is_live() || self.guests.is_empty() {
            return Ok(());
        }
        self.note_owners(ledger.claims())?;
        let guests = std::mem::take(&mut self.guests);
        let boot = self.get()?.boot().to_owned();
        let owned: Vec<ProcessId> =
            guests.iter().filter(|guest| self.is_owned(guest)).map(|guest| guest.process).collect();
        let started = |guest: &Guest| self.started.get(&guest.process).copied().unwrap_or(0);
        let accounts = &self.accounts;
        let owned = |guest: &Guest| owned.contains(&guest.process);
        guest::adopt(ledger, &guests, &boot, accounts, started, owned);
        self.guests = guests;
        Ok(())
    }

    /// Notes who has a claim, by the pids seen from here.
    fn note_owners(&mut self, claims: &[Arc<Claim>]) -> Result<(), ClaimError> {
        let closed = self.closed;
        let look = self.get()?;
        let (mut owners, mut cgroups) = (Vec::new(), Vec::new());
        for claim in claims {
            owners.extend(claim.owner.process().and_then(|process| match closed {
                true => look.known_pid_here(process),
                false => look.pid_here(process),
            }));
            if let Owner::Cgroup(_, cgroup) = &claim.owner {
                cgroups.push(cgroup.path.trim_end_matches('/').to_owned());
            }
        }
        self.owners.extend(owners);
        self.cgroups.extend(cgroups);
        Ok(())
    }

    fn is_owned(&mut self, guest: &Guest) -> bool {
        let pid = guest.process.pid;
        if self.owners.contains(&pid) {
            return true;
        }
        if self.cgroups.is_empty() {
            return false;
        }
        if !self.closed && !self.guests_cgroups.contains_key(&pid) {
            let path = self.processes.as_mut().and_then(|look| look.cgroup_of(pid));
            self.guests_cgroups.insert(pid, path);
        }
        let Some(Some(path)) = self.guests_cgroups.get(&pid) else { return false };
        self.cgroups.iter().any(|cgroup| {
            path.strip_prefix(cgroup.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Returns the claims of guests that nobody asked for, and whose memory is not all there yet; and all such
    /// guests. `claims` are those that were asked for.
    pub(super) fn observed(
        &mut self,
        claims: &[Arc<Claim>],
    ) -> Result<(Vec<Claim>, Vec<ProcessId>), ClaimError> {
        if self.guests.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let live = self.root.is_live();
        if live {
            self.note_owners(claims)?;
        }
        let mut guests = std::mem::take(&mut self.guests);
        guests.retain(|guest| !(live && self.is_owned(guest)));
        let machines = guests.iter().map(|guest| guest.process).collect();
        guests.retain(|guest| guest.lacking() != (0, 0));
        let look = self.get()?;
        let (boot, now) = (look.boot().to_owned(), look.now());
        let claims = guests.iter().flat_map(|guest| guest.claims(&boot, now, &self.free));
        Ok((claims.collect(), machines))
    }
}

/// Returns what is free on each node, by which the memory of guests is divided that may take it
/// from several; nothing where that is not known, and then no decision can be made either.
fn free(root: &SysRoot) -> Vec<(NodeId, Bytes)> {
    let mut memory = Vec::new();
    let read = HostReader::open(root).and_then(|mut reader| reader.memory(&mut memory));
    if read.is_err() {
        return Vec::new();
    }
    let free = memory.iter().filter_map(|node| {
        let meminfo = node.meminfo?;
        Some((node.node, meminfo.available(Bytes::ZERO, Bytes::ZERO)?))
    });
    free.collect()
}
