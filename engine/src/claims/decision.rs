//! From what was found out to a claim: what was decided without the lock is compared and written under it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::asker::{Asker, Asking};
use super::claim::{Caller, Cgroup, Claim, ClaimId, Origin, Owner, ProcessId, Promise};
use super::error::ClaimError;
use super::ledger::{Held, Ledger, MOST_CLAIMS};
use super::parts::Parts;
use super::principal::Principal;
use super::proc::Processes;
use super::store::{Locked, MAX_LEDGER, Observed};
use crate::advice::Advice;
use crate::hash::mixed;
use crate::idset::{CpuSet, NodeSet};
use crate::request::Request;
use crate::sample::Instant;
use crate::snapshot::Snapshot;
use crate::units::{Bytes, CpuShare};

/// The lock, from choosing to claiming. Dropped, nothing is claimed.
#[derive(Debug)]
pub struct Decision<'a> {
    pub(super) locked: Locked<'a>,
    basis: Basis,
    pinned: CpuSet,
    roaming: CpuSet,
    instead_of: Option<ClaimId>,
}

/// What was found out before a decision.
#[derive(Debug)]
pub(super) struct Basis {
    pub(super) processes: Processes,
    pub(super) asker: Option<(Asker, Asking)>,
    /// The claim that the same request has made before.
    pub(super) repeated: Option<Claim>,
    pub(super) observed: Vec<Arc<Claim>>,
    /// The CPUs that claims own, those of another ledger too; for the host without those of users.
    pub(super) owned: CpuSet,
    pub(super) live: bool,
}

/// What was found out about a host and its ledger: to decide on without the lock.
#[derive(Debug)]
pub struct Observation<'a> {
    observed: Observed<'a>,
    basis: Basis,
}

impl<'a> Observation<'a> {
    pub(super) fn new(mut observed: Observed<'a>, basis: Basis) -> Self {
        observed.prepare();
        Self { observed, basis }
    }

    /// Returns the hold of the process that asks, and its nodes, if it has asked for the same before
    /// and the hold has not ended.
    pub fn held_before(&mut self, request: &Request) -> Option<(ClaimId, NodeSet)> {
        self.basis.held_before(&self.observed.ledger, request)
    }

    /// Returns the process that asks, as it is written to the ledger.
    pub fn asking(&self) -> Option<&Caller> {
        self.basis.asker.as_ref().map(|(_, asking)| &asking.caller)
    }

    /// Takes the lock to claim what was decided on this. `None` where the ledger has been changed since: then it is
    /// to be observed and decided again. Blocks for at most `patience` for each holder of the lock.
    ///
    /// Errors: the lock cannot be had.
    pub fn commit(self, patience: Duration) -> Result<Option<Decision<'a>>, ClaimError> {
        let Self { observed, mut basis } = self;
        let Some(locked) = observed.lock(patience)? else { return Ok(None) };
        // A hold begins when it is claimed.
        basis.processes.advance()?;
        Ok(Some(Decision::new(locked, basis)))
    }
}

impl Basis {
    fn held_before(&mut self, ledger: &Ledger, request: &Request) -> Option<(ClaimId, NodeSet)> {
        let (_, Asking { caller, process }) = self.asker.as_ref()?;
        let since = self.processes.started_at(process.as_ref()?);
        let Request { cpus, memory, pages: page, .. } = *request;
        let asked = Held { caller, cpus, memory, page };
        let hold = ledger.held_before(&asked, since)?;
        Some((hold.id, hold.promised.iter().map(|promise| promise.node).collect()))
    }
}

/// The owner of a new claim.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClaimOwner {
    /// A process that this one sees.
    Pid(u32),
    /// A process that was identified before, so that nothing is read for it under the lock.
    Process(ProcessId),
    /// A process and its own cgroup.
    Cgroup(u32, Cgroup),
    /// No process yet: the claim is a hold for this time, or until a guest takes it over.
    Hold(Duration),
}

/// What changes in the ledger for a guest that is moved.
#[derive(Clone, Debug, Default)]
pub struct Relocation {
    /// Its claims, with what is promised to each from now on, and the CPUs that its threads share.
    pub claims: Vec<(ClaimId, Vec<Promise>, CpuSet)>,
    /// What is held for memory on its way; the hold ends with this process.
    pub hold: Option<(Parts, ProcessId, Caller)>,
    /// Holds that end.
    pub ended: Vec<ClaimId>,
}

impl<'a> Decision<'a> {
    pub(super) fn new(locked: Locked<'a>, basis: Basis) -> Self {
        let (pinned, roaming) = Default::default();
        Self { locked, basis, pinned, roaming, instead_of: None }
    }

    /// Returns whether the ledger is so full, in lines or bytes, that the rest of it is for the host:
    /// at three quarters.
    pub fn is_for_the_host(&self) -> bool {
        let lines = self.locked.observed.ledger.claims().len() * 4 >= MOST_CLAIMS * 3;
        lines || self.locked.observed.size() * 4 >= MAX_LEDGER * 3
    }

    /// Returns the claim that the same request has made before, which a new one replaces.
    pub fn repeated(&self) -> Option<ClaimId> {
        self.basis.repeated.as_ref().map(|claim| claim.id)
    }

    /// Returns the ledger under the lock.
    pub fn ledger(&self) -> &Ledger {
        &self.locked.observed.ledger
    }

    /// As [`Observation::held_before`].
    pub fn held_before(&mut self, request: &Request) -> Option<(ClaimId, NodeSet)> {
        self.basis.held_before(&self.locked.observed.ledger, request)
    }

    /// As [`Observation::asking`].
    pub fn asking(&self) -> Option<&Caller> {
        self.basis.asker.as_ref().map(|(_, asking)| &asking.caller)
    }

    /// Notes the CPUs that single threads of the guest will have for themselves, for the claim: others
    /// are given none of them, see [`Charges::pinned`](crate::Charges::pinned).
    #[must_use]
    pub fn pinning(mut self, cpus: CpuSet) -> Self {
        self.pinned = cpus;
        self
    }

    /// Notes the CPUs that the guest's threads are bound to together, for the claim: what it takes then counts
    /// in the caches of these CPUs, unless they are all that the guest may use of its nodes.
    #[must_use]
    pub fn roaming_over(mut self, cpus: CpuSet) -> Self {
        self.roaming = cpus;
        self
    }

    /// Ends an earlier claim of the same guest in the same write: its CPUs have one owner all the time.
    #[must_use]
    pub fn instead_of(mut self, earlier: ClaimId) -> Self {
        self.instead_of = Some(earlier);
        self
    }

    /// Claims what was advised, by its own split, and lets go of the lock. `page` is the size of
    /// the huge pages it is in, if it is.
    ///
    /// Errors: there is no such process, another claim owns a CPU of it, the ledger is full or cannot be
    /// written. Then nothing is claimed.
    pub fn claim(
        mut self,
        request: &Request,
        advice: &Advice,
        who: ClaimOwner,
        caller: Caller,
        page: Option<Bytes>,
    ) -> Result<ClaimId, ClaimError> {
        let (pinned, roaming) =
            (std::mem::take(&mut self.pinned), std::mem::take(&mut self.roaming));
        let parts = Parts { page, ..Parts::of(request, advice, pinned, roaming) };
        self.claim_parts(parts, who, caller)
    }

    /// Claims what was decided before, on what is compared now: see [`room_for`](Self::room_for). Lets go of
    /// the lock.
    ///
    /// Errors: as [`claim`](Self::claim).
    pub fn claim_parts(
        mut self,
        parts: Parts,
        who: ClaimOwner,
        caller: Caller,
    ) -> Result<ClaimId, ClaimError> {
        let now = self.basis.processes.now();
        let owner = self.owner(who)?;
        if let Some(repeated) = &self.basis.repeated {
            let id = repeated.id;
            if matches!(owner, Owner::Hold { .. }) && repeated.owner.process().is_some() {
                // The guest has come meanwhile, and has the claim.
                self.locked.keep()?;
                return Ok(id);
            }
            self.locked.ledger().release(id);
        }
        if let Some(earlier) = self.instead_of.and_then(|id| self.locked.ledger().release(id)) {
            self.basis.owned = self.basis.owned.difference(&earlier.pinned);
        }
        let id = self.add(parts, owner, caller, now)?;
        self.locked.keep()?;
        Ok(id)
    }

    /// Claims what was decided for several guests, each with its owner, all of it or nothing, and lets go of the lock.
    /// Returns the claims in the order of the parts.
    ///
    /// Errors: as [`claim`](Self::claim); nothing is claimed then.
    pub fn claim_each(
        mut self,
        all: Vec<(Parts, ClaimOwner)>,
        caller: &Caller,
    ) -> Result<Vec<ClaimId>, ClaimError> {
        let now = self.basis.processes.now();
        let mut ids = Vec::with_capacity(all.len());
        for (parts, who) in all {
            let owner = self.owner(who)?;
            ids.push(self.add(parts, owner, caller.clone(), now)?);
        }
        self.locked.keep()?;
        Ok(ids)
    }

    /// Adds a claim to the ledger, which is not written yet.
    fn add(
        &mut self,
        parts: Parts,
        owner: Owner,
        caller: Caller,
        now: Instant,
    ) -> Result<ClaimId, ClaimError> {
        let twice = self.basis.owned.intersection(&parts.pinned);
        if !twice.is_empty() {
            return Err(ClaimError::Owned(twice));
        }
        self.basis.owned = self.basis.owned.union(&parts.pinned);
        let asker = self.basis.asker.as_ref().map(|(asker, _)| asker);
        let claim = Claim {
            // Another id than that of a claim that is replaced: who withdraws that one means not this.
            id: name(now, std::process::id()),
            principal: asker.map_or(Principal::of_uid(caller.uid), |asker| asker.principal),
            nonce: asker.and_then(|asker| asker.nonce),
            boot: self.basis.processes.boot().to_owned(),
            owner,
            caller,
            origin: Origin::Asked,
            made: now,
            cpus: parts.cpus,
            memory: parts.memory,
            page: parts.page,
            promised: parts.promised,
            seen: None,
            pinned: parts.pinned,
            roaming: parts.roaming,
            within: parts.within,
            checked: None,
        };
        let full = ClaimError::Full { limit: MOST_CLAIMS };
        self.locked.add(claim).ok_or(full)
    }

    /// Returns whether what was decided on an earlier state of the ledger still fits: each node can give its part
    /// beside what counts now, and it may own its CPUs. `snapshot` is this host with the charges of this decision's view.
    pub fn room_for(&self, parts: &Parts, snapshot: &Snapshot) -> bool {
        parts.fit(snapshot) && self.may_own(parts, snapshot)
    }

    /// Returns whether this host has the nodes and CPUs of what was decided, and no other claim owns a CPU that it pins.
    /// Memory is not compared: it may be claimed beyond what there is.
    pub fn may_own(&self, parts: &Parts, snapshot: &Snapshot) -> bool {
        let topology = snapshot.topology();
        let cpus = topology.cpus_of(&topology.node_set());
        parts.promised.iter().all(|promise| snapshot.node(promise.node).is_some())
            && parts.pinned.is_subset(&cpus)
            && parts.roaming.is_subset(&cpus)
            && self.basis.owned.intersection(&parts.pinned).is_empty()
    }

    /// Returns a claim that can be changed or ended: one of the ledger, or of a guest that was found.
    pub fn find(&self, id: ClaimId) -> Option<&Claim> {
        let observed = || self.basis.observed.iter().map(Arc::as_ref).find(|claim| claim.id == id);
        self.locked.observed.ledger.get(id).or_else(observed)
    }

    /// Makes a claim that of a process, or of all that runs in its cgroup, and lets go of the lock. What was
    /// promised stays promised without a gap, and ends with that process or cgroup. Returns the claim.
    ///
    /// Errors: there is none of this id, it is of a guest started without placer, or the ledger cannot be written.
    pub fn adopt(
        self,
        id: ClaimId,
        process: ProcessId,
        cgroup: Option<Cgroup>,
    ) -> Result<Claim, ClaimError> {
        self.transfer(
            id,
            match cgroup {
                Some(cgroup) => Owner::Cgroup(process, cgroup),
                None => Owner::Process(process),
            },
        )
    }

    /// The same with an owner as a new claim has it; [`ClaimOwner::Hold`] begins the hold anew.
    ///
    /// Errors: as [`adopt`](Self::adopt); there is no such process.
    pub fn adopt_as(mut self, id: ClaimId, who: ClaimOwner) -> Result<Claim, ClaimError> {
        let owner = self.owner(who)?;
        self.transfer(id, owner)
    }

    fn transfer(mut self, id: ClaimId, owner: Owner) -> Result<Claim, ClaimError> {
        let observed = self.basis.observed.iter().any(|claim| claim.id == id);
        let why = if observed { ClaimError::Observed(id) } else { ClaimError::NoSuchClaim(id) };
        let claim = self.locked.ledger().transfer(id, owner).cloned().ok_or(why)?;
        self.locked.keep()?;
        Ok(claim)
    }

    /// Puts the claims of a guest that is moved on its new nodes, holds room for memory that is on its way, and ends
    /// such holds, all in one write. Claims that have ended meanwhile are passed over. Returns the new hold.
    ///
    /// Errors: the ledger is full or cannot be written. Nothing is changed then.
    pub fn relocate(mut self, relocation: Relocation) -> Result<Option<ClaimId>, ClaimError> {
        for (id, promised, roaming) in relocation.claims {
            self.locked.ledger().relocate(id, promised, roaming);
        }
        for id in relocation.ended {
            self.locked.ledger().release(id);
        }
        let now = self.basis.processes.now();
        let hold = relocation
            .hold
            .map(|(parts, process, caller)| self.add(parts, Owner::Process(process), caller, now));
        let hold = hold.transpose()?;
        self.locked.keep()?;
        Ok(hold)
    }

    /// Ends a claim. Returns it. A guest started without placer is not counted from then on: it has a claim of
    /// nothing, which ends with it.
    ///
    /// Errors: there is none of this id, or the ledger cannot be written; a guest of a recorded machine is
    /// part of the record.
    pub fn release(mut self, id: ClaimId) -> Result<Claim, ClaimError> {
        let claim = match self.locked.ledger().release(id) {
            Some(claim) => claim,
            None => self.leave_out(id)?,
        };
        self.locked.keep()?;
        Ok(claim)
    }

    fn leave_out(&mut self, id: ClaimId) -> Result<Claim, ClaimError> {
        let found = self.basis.observed.iter().find(|claim| claim.id == id);
        let claim = found.ok_or(ClaimError::NoSuchClaim(id))?;
        if !self.basis.live {
            return Err(ClaimError::Observed(id));
        }
        let made = self.basis.processes.now();
        let nothing = Claim {
            id: name(made, std::process::id()),
            origin: Origin::Asked,
            made,
            cpus: CpuShare::ZERO,
            memory: Bytes::ZERO,
            promised: Vec::new(),
            ..Claim::clone(claim)
        };
        let full = ClaimError::Full { limit: MOST_CLAIMS };
        self.locked.add(nothing).ok_or(full)?;
        Ok(Claim::clone(claim))
    }

    /// Keeps what was seen, without claiming anything.
    ///
    /// Errors: the ledger cannot be written.
    pub fn keep(self) -> Result<(), ClaimError> {
        self.locked.keep()
    }

    fn owner(&mut self, who: ClaimOwner) -> Result<Owner, ClaimError> {
        Ok(match who {
            ClaimOwner::Hold(time) => {
                let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                let now = self.basis.processes.now().nanoseconds();
                Owner::Hold { until: Instant::from_nanoseconds(now.saturating_add(ns)) }
            }
            ClaimOwner::Pid(pid) => Owner::Process(self.identify(pid)?),
            ClaimOwner::Process(process) => Owner::Process(process),
            ClaimOwner::Cgroup(pid, cgroup) => Owner::Cgroup(self.identify(pid)?, cgroup),
        })
    }

    fn identify(&mut self, pid: u32) -> Result<ProcessId, ClaimError> {
        let gone = || ClaimError::Io {
            attempted: "claim for process",
            path: PathBuf::from(pid.to_string()),
            source: nix::errno::Errno::ESRCH.into(),
        };
        self.basis.processes.identify(pid).ok_or_else(gone)
    }

    /// Returns the asker as it is written to the ledger.
    pub fn caller_of(&mut self, asker: &Asker) -> Caller {
        self.caller(asker.pid, asker.uid)
    }

    /// Returns the process `pid` of user `uid` as a caller.
    pub fn caller(&mut self, pid: u32, uid: u32) -> Caller {
        let known = self.asking();
        if let Some(caller) = known.filter(|caller| (caller.pid, caller.uid) == (pid, uid)) {
            return caller.clone();
        }
        self.basis.processes.caller(pid, uid)
    }
}

/// A name that is not given again soon: it mixes the moment with the process.
fn name(now: Instant, pid: u32) -> ClaimId {
    ClaimId(mixed(now.nanoseconds() ^ (u64::from(pid) << 40)))
}
