//! Choosing and claiming in one step.

use std::path::PathBuf;
use std::time::Duration;

use super::charge;
use super::claim::{Caller, Cgroup, Claim, ClaimId, Origin, Owner, ProcessId};
use super::error::ClaimError;
use super::ledger::{Held, Ledger, MOST_CLAIMS};
use super::look::Look;
use super::nonce::Nonce;
use super::parts::Parts;
use super::principal::Principal;
use super::proc::Processes;
use super::store::{ClaimFile, Locked, MAX_LEDGER};
use crate::advice::Advice;
use crate::charges::{Charges, Overcommit};
use crate::hash::mixed;
use crate::idset::{CpuSet, NodeSet};
use crate::read::Read;
use crate::request::Request;
use crate::sample::Instant;
use crate::snapshot::Snapshot;
use crate::source::SysRoot;
use crate::units::{Bytes, CpuShare};

/// Where claims are kept, and how they count.
#[derive(Clone, Debug, Default)]
pub struct ClaimDirs {
    /// The caller's own directory; `None` when there is none.
    pub own: Option<PathBuf>,
    /// Another user's directory whose claims count as well and are only read: root's.
    pub below: Option<(PathBuf, u32)>,
    /// How many times over memory may be promised.
    pub overcommit: Overcommit,
}

/// Root's claims, which every user's advice counts.
const ROOTS: &str = "/run/placer";

impl ClaimDirs {
    /// Returns one directory, and no other's claims. It is made when something is claimed in it.
    pub fn at(own: impl Into<PathBuf>) -> Self {
        Self { own: Some(own.into()), ..Self::default() }
    }

    /// Returns the directories that placer itself uses: `/run/placer` for root, for other users
    /// `$XDG_RUNTIME_DIR/placer` on top of that.
    pub fn system() -> Self {
        if nix::unistd::geteuid().is_root() {
            // Root never goes by XDG_RUNTIME_DIR: it may be another user's.
            return Self::at(ROOTS);
        }
        let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        Self::on_top_of_roots(dir.map(|dir| PathBuf::from(dir).join("placer")))
    }

    /// Returns one directory, if there is one, and for users on top of it root's.
    pub fn on_top_of_roots(own: Option<PathBuf>) -> Self {
        let below = (!nix::unistd::geteuid().is_root()).then(|| (PathBuf::from(ROOTS), 0));
        Self { own, below, overcommit: Overcommit::default() }
    }

    /// Sets how many times over memory may be promised.
    #[must_use]
    pub fn with_overcommit(mut self, overcommit: Overcommit) -> Self {
        self.overcommit = overcommit;
        self
    }
}

/// What was found out about claims before a decision.
#[derive(Debug)]
#[non_exhaustive]
pub struct View {
    /// The claims that count, others' first.
    pub claims: Vec<Claim>,
    /// Virtual machines without a claim that was asked for.
    pub machines: Vec<ProcessId>,
    /// What claims take from each node.
    pub charges: Charges,
    /// The same without what users have claimed, which never makes a request of the host's fail; `None`
    /// where users have claimed nothing.
    pub host_charges: Option<Charges>,
    /// Whether these are all: false when another user's could not be read, or not all of a ledger.
    pub complete: bool,
    /// Lines of ledgers that are not understood; they count as far as they can be read.
    pub unread: usize,
    /// What a person should know: damaged lines, and directories that cannot be used.
    pub notes: Vec<String>,
    /// What lines take that are not understood.
    takes: Vec<Claim>,
}

/// The process that asks for a decision, and the name it gives its claim.
#[derive(Clone, Debug)]
pub struct Asker {
    pid: u32,
    uid: u32,
    principal: Principal,
    nonce: Option<Nonce>,
}

impl Asker {
    /// Returns a process and its user as the asker.
    pub fn new(pid: u32, uid: u32) -> Self {
        Self { pid, uid, principal: Principal::of_uid(uid), nonce: None }
    }

    /// Sets the account that claims belong to.
    #[must_use]
    pub fn of_principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// Sets the client's name for its claim. A request that is repeated by the same principal with the same
    /// name replaces the claim that it had made.
    #[must_use]
    pub fn named(mut self, nonce: Option<Nonce>) -> Self {
        self.nonce = nonce;
        self
    }

    /// Returns the account that claims belong to.
    pub fn principal(&self) -> Principal {
        self.principal
    }
}

/// The claims of one host, to decide with.
#[derive(Debug)]
pub struct Claims {
    own: Option<ClaimFile>,
    below: Result<Option<ClaimFile>, ClaimError>,
    overcommit: Overcommit,
    observe: bool,
    root: SysRoot,
}

impl Claims {
    /// Opens the claims of a host to read them. Creates nothing: a host without
    /// claims costs one look at a directory that does not exist.
    ///
    /// Errors: the caller's own directory is there and cannot be trusted. What is wrong with the
    /// other's is in the notes of each [`View`]: it is no reason not to keep one's own claims.
    pub fn open(dirs: &ClaimDirs, root: &SysRoot) -> Result<Self, ClaimError> {
        let me = nix::unistd::geteuid().as_raw();
        let open = |dir: Option<(&PathBuf, u32)>| match dir {
            Some((dir, owner)) => ClaimFile::open_of(dir, owner, root),
            None => Ok(None),
        };
        Ok(Self {
            own: open(dirs.own.as_ref().map(|dir| (dir, me)))?,
            below: open(dirs.below.as_ref().map(|(dir, owner)| (dir, *owner))),
            overcommit: dirs.overcommit,
            observe: true,
            root: root.clone(),
        })
    }

    /// Opens the claims of a host to change them: makes the directory when it is missing.
    ///
    /// Errors: there is no place for them, or it cannot be used.
    pub fn open_to_claim(dirs: &ClaimDirs, root: &SysRoot) -> Result<Self, ClaimError> {
        let mut claims = Self::open(&ClaimDirs { own: None, ..dirs.clone() }, root)?;
        let dir = dirs.own.as_deref().ok_or(ClaimError::NoPlace)?;
        claims.own = Some(ClaimFile::open(dir, root)?);
        Ok(claims)
    }

    /// Leaves out the guests that were started without placer, and does not look for those that holds
    /// were made for: for answers that must equal those of a tool that does not know of them.
    #[must_use]
    pub fn asked_only(mut self) -> Self {
        self.observe = false;
        self
    }

    /// Returns whether a claim is in the caller's own ledger.
    pub fn has(&self, id: ClaimId) -> bool {
        let own = self.own.as_ref().and_then(|own| own.read().ok());
        own.is_some_and(|read| read.value.get(id).is_some())
    }

    /// Returns the claims that count now, without a lock. Residency is read here: read the nodes'
    /// free memory after it, so that memory that is touched in between is counted twice and never
    /// not at all.
    ///
    /// Errors: the ledger or the processes cannot be read.
    pub fn view(&self) -> Result<View, ClaimError> {
        let (mut look, mut view) = self.start()?;
        if let Some(own) = &self.own {
            let read = own.read()?;
            let mut ledger = read.value;
            view.notes.extend(read.notes);
            look.refresh(&mut ledger)?;
            self.add(&mut view, &ledger);
        }
        self.add_observed(&mut look, &mut view)?;
        self.leave_out_users(&mut view);
        Ok(view)
    }

    /// Finds out which claims count, and takes the lock. What is decided on the view can be
    /// claimed, and no other process claims anything in between. Blocks for at most `patience`.
    ///
    /// Processes are looked at before the lock is taken, so that a process that is slow to look at
    /// keeps no others from the ledger. Claims that were made in between count in full, as they are in
    /// the ledger; owners that have ended in between count until the next decision.
    ///
    /// Errors: as [`view`](Self::view); the lock cannot be had within `patience`.
    pub fn begin(&self, patience: Duration) -> Result<(Decision<'_>, View), ClaimError> {
        self.begin_for(None, patience)
    }

    /// The same for an asker, which is looked up before the lock is taken, see [`Decision::caller`].
    /// A claim that the same request has made before is not in the view: it is replaced.
    ///
    /// Errors: as [`begin`](Self::begin).
    pub fn begin_for(
        &self,
        asker: Option<&Asker>,
        patience: Duration,
    ) -> Result<(Decision<'_>, View), ClaimError> {
        let own = self.own.as_ref().ok_or(ClaimError::NoPlace)?;
        let (mut look, mut view) = self.start()?;
        look.ask(&own.read()?.value)?;
        let caller = asker.map(|asker| look.caller(asker.pid, asker.uid)).transpose()?;
        look.open()?;
        let read = own.lock(patience)?;
        look.close()?;
        let mut locked = read.value;
        view.notes.extend(read.notes);
        look.apply(&mut locked.ledger)?;
        let repeated = asker.and_then(|asker| locked.ledger.named(asker.nonce?, asker.principal));
        match repeated.map(|claim| claim.id) {
            Some(id) => {
                let mut others = locked.ledger.clone();
                others.release(id);
                self.add(&mut view, &others);
            }
            None => self.add(&mut view, &locked.ledger),
        }
        let repeated = repeated.cloned();
        self.add_observed(&mut look, &mut view)?;
        self.leave_out_users(&mut view);
        let observed = view.claims.iter().filter(|claim| claim.origin == Origin::Observed);
        let observed = observed.cloned().collect();
        let decision = Decision {
            locked,
            processes: look.processes()?,
            asker: asker.cloned().zip(caller),
            repeated,
            observed,
            owned: match &view.host_charges {
                // Claims of users never refuse the host anything.
                Some(charges) if asker.is_some_and(|asker| asker.principal.is_host()) => {
                    charges.pinned().clone()
                }
                _ => view.charges.pinned().clone(),
            },
            pinned: CpuSet::new(),
            roaming: CpuSet::new(),
            instead_of: None,
            live: self.root.is_live(),
        };
        Ok((decision, view))
    }

    /// Writes down which holds guests have taken over, if any have since the last claim: such a hold
    /// then ends with its guest. Until then it would count again for what is left of its time when the
    /// guest has gone. Takes the lock only if there is something to write. Returns what a person should
    /// know about the ledger: lines that are not understood.
    ///
    /// Errors: as [`begin`](Self::begin); the ledger cannot be written.
    pub fn keep_adopted(&self, patience: Duration) -> Result<Vec<String>, ClaimError> {
        let Some(own) = &self.own else { return Ok(Vec::new()) };
        let Read { value: ledger, notes } = own.read()?;
        let is_hold = |claim: &&Claim| matches!(claim.owner, Owner::Hold { .. });
        let holds: Vec<ClaimId> = ledger.claims().iter().filter(is_hold).map(|c| c.id).collect();
        if holds.is_empty() {
            return Ok(notes);
        }
        let adopted = |claim: &Claim| holds.contains(&claim.id) && !is_hold(&claim);
        if !self.view()?.claims.iter().any(adopted) {
            return Ok(notes);
        }
        self.begin(patience)?.0.keep()?;
        Ok(notes)
    }

    /// The same for the guests of users who are not root, and their own holds. Takes as long as their
    /// processes make it take: for a thread that nothing waits for.
    ///
    /// Errors: as [`keep_adopted`](Self::keep_adopted).
    pub fn keep_adopted_by_users(&self, patience: Duration) -> Result<(), ClaimError> {
        let Some(own) = &self.own else { return Ok(()) };
        let ledger = own.read()?.value;
        let is_users_hold = |claim: &&Claim| {
            matches!(claim.owner, Owner::Hold { .. }) && !claim.principal.is_host()
        };
        let holds = ledger.claims().iter().filter(is_users_hold);
        let mut uids: Vec<u32> = holds.map(|claim| claim.caller.uid).collect();
        uids.sort_unstable();
        uids.dedup();
        if uids.is_empty() || !self.root.is_live() {
            return Ok(());
        }
        let mut look = Look::new(&self.root);
        look.observe_users(Some(own.dir()), uids);
        look.ask(&ledger)?;
        look.open()?;
        let mut locked = own.lock(patience)?.value;
        look.close()?;
        look.apply(&mut locked.ledger)?;
        locked.keep()
    }

    /// Looks for guests, and counts what is in the other user's ledger.
    fn start(&self) -> Result<(Look<'_>, View), ClaimError> {
        let mut look = Look::new(&self.root);
        if self.observe {
            look.observe(self.own.as_ref().map(ClaimFile::dir));
        }
        let mut view = View {
            claims: Vec::new(),
            machines: Vec::new(),
            charges: Charges::default(),
            host_charges: None,
            complete: true,
            unread: 0,
            notes: Vec::new(),
            takes: Vec::new(),
        };
        let read = match &self.below {
            Ok(None) => return Ok((look, view)),
            Ok(Some(below)) => below.read().map_err(|error| uncounted(&error)),
            Err(error) => Err(uncounted(error)),
        };
        match read {
            Ok(read) => {
                let mut ledger = read.value;
                view.notes.extend(read.notes);
                look.refresh(&mut ledger)?;
                self.add(&mut view, &ledger);
            }
            Err(note) => {
                view.complete = false;
                view.notes.push(note);
            }
        }
        Ok((look, view))
    }

    fn add(&self, view: &mut View, ledger: &Ledger) {
        ledger.charge(&mut view.charges, self.overcommit);
        view.claims.extend_from_slice(ledger.claims());
        view.unread += ledger.unread();
        view.takes.extend(ledger.takes().cloned());
    }

    /// Counts once more without users' claims, if there are any. Guests that nobody asked about count: only
    /// those of users who are believed are looked for.
    fn leave_out_users(&self, view: &mut View) {
        let is_users = |claim: &&Claim| claim.origin == Origin::Asked && !claim.principal.is_host();
        if !view.claims.iter().any(|claim| is_users(&claim)) {
            return;
        }
        let mut charges = Charges::default();
        for claim in view.claims.iter().filter(|claim| !is_users(claim)).chain(&view.takes) {
            charge::add(&mut charges, claim, self.overcommit);
        }
        view.host_charges = Some(charges);
    }

    fn add_observed(&self, look: &mut Look<'_>, view: &mut View) -> Result<(), ClaimError> {
        let (claims, machines) = look.observed(&view.claims)?;
        view.machines = machines;
        for claim in claims {
            charge::add(&mut view.charges, &claim, self.overcommit);
            view.claims.push(claim);
        }
        Ok(())
    }
}

/// Says, with its cause, why another's claims are not counted.
fn uncounted(error: &ClaimError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("claims of another user are not counted: {error}{}", cause.unwrap_or_default())
}

/// The lock, from choosing to claiming. Dropped, nothing is claimed.
#[derive(Debug)]
pub struct Decision<'a> {
    locked: Locked<'a>,
    processes: Processes,
    asker: Option<(Asker, Caller)>,
    /// The claim that the same request has made before.
    repeated: Option<Claim>,
    observed: Vec<Claim>,
    /// The CPUs that claims own, those of another ledger too; for the host without those of users.
    owned: CpuSet,
    pinned: CpuSet,
    roaming: CpuSet,
    instead_of: Option<ClaimId>,
    live: bool,
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

impl Decision<'_> {
    /// Returns whether the ledger is so full, in lines or bytes, that the rest of it is for the host:
    /// at three quarters.
    pub fn is_for_the_host(&self) -> bool {
        let lines = self.locked.ledger.claims().len() * 4 >= MOST_CLAIMS * 3;
        lines || self.locked.size() * 4 >= MAX_LEDGER * 3
    }

    /// Returns the claim that the same request has made before, which a new one replaces.
    pub fn repeated(&self) -> Option<ClaimId> {
        self.repeated.as_ref().map(|claim| claim.id)
    }

    /// Returns the ledger under the lock.
    pub fn ledger(&self) -> &Ledger {
        &self.locked.ledger
    }

    /// Returns the hold of the process that asks, and its nodes, if it has asked for the same before
    /// and the hold has not ended.
    pub fn held_before(
        &mut self,
        request: &Request,
        caller: &Caller,
    ) -> Option<(ClaimId, NodeSet)> {
        let process = self.processes.identify(caller.pid)?;
        let since = self.processes.started_at(&process);
        let Request { cpus, memory, pages: page, .. } = *request;
        let asked = Held { caller, cpus, memory, page };
        let hold = self.locked.ledger.held_before(&asked, since)?;
        Some((hold.id, hold.promised.iter().map(|promise| promise.node).collect()))
    }

    /// Notes the CPUs that single threads of the guest will have for themselves, for the claim: others
    /// are given none of them, see [`Charges::pinned`].
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
        let now = self.processes.now();
        let owner = self.owner(who)?;
        if let Some(repeated) = &self.repeated {
            let id = repeated.id;
            if matches!(owner, Owner::Hold { .. }) && repeated.owner.process().is_some() {
                // The guest has come meanwhile, and has the claim.
                self.locked.keep()?;
                return Ok(id);
            }
            self.locked.ledger.release(id);
        }
        if let Some(earlier) = self.instead_of.and_then(|id| self.locked.ledger.release(id)) {
            self.owned = self.owned.difference(&earlier.pinned);
        }
        let id = self.add(parts, owner, caller, now)?;
        self.locked.keep()?;
        Ok(id)
    }

    /// Claims what was decided for several guests that have the same owner, all of it or nothing, and lets go of the lock.
    /// Returns the claims in the order of the parts.
    ///
    /// Errors: as [`claim`](Self::claim); nothing is claimed then.
    pub fn claim_each(
        mut self,
        all: Vec<Parts>,
        who: ClaimOwner,
        caller: Caller,
    ) -> Result<Vec<ClaimId>, ClaimError> {
        let now = self.processes.now();
        let owner = self.owner(who)?;
        let mut ids = Vec::with_capacity(all.len());
        for parts in all {
            ids.push(self.add(parts, owner.clone(), caller.clone(), now)?);
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
        let twice = self.owned.intersection(&parts.pinned);
        if !twice.is_empty() {
            return Err(ClaimError::Owned(twice));
        }
        self.owned = self.owned.union(&parts.pinned);
        let held = matches!(owner, Owner::Hold { .. });
        let asker = self.asker.as_ref().map(|(asker, _)| asker);
        let claim = Claim {
            // Another id than that of a claim that is replaced: who withdraws that one means not this.
            id: name(now, std::process::id()),
            principal: asker.map_or(Principal::of_uid(caller.uid), |asker| asker.principal),
            nonce: asker.and_then(|asker| asker.nonce),
            boot: self.processes.boot().to_owned(),
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
            checked: if held { None } else { self.processes.started() },
        };
        let full = ClaimError::Full { limit: MOST_CLAIMS };
        self.locked.ledger.add(claim).ok_or(full)
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
            && self.owned.intersection(&parts.pinned).is_empty()
    }

    /// Returns a claim that can be changed or ended: one of the ledger, or of a guest that was found.
    pub fn find(&self, id: ClaimId) -> Option<&Claim> {
        let observed = || self.observed.iter().find(|claim| claim.id == id);
        self.locked.ledger.get(id).or_else(observed)
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
        let observed = self.observed.iter().any(|claim| claim.id == id);
        let why = if observed { ClaimError::Observed(id) } else { ClaimError::NoSuchClaim(id) };
        let claim = self.locked.ledger.transfer(id, owner).cloned().ok_or(why)?;
        self.locked.keep()?;
        Ok(claim)
    }

    /// Ends a claim. Returns it. A guest started without placer is not counted from then on: it has a claim of
    /// nothing, which ends with it.
    ///
    /// Errors: there is none of this id, or the ledger cannot be written; a guest of a recorded machine is
    /// part of the record.
    pub fn release(mut self, id: ClaimId) -> Result<Claim, ClaimError> {
        let claim = match self.locked.ledger.release(id) {
            Some(claim) => claim,
            None => self.leave_out(id)?,
        };
        self.locked.keep()?;
        Ok(claim)
    }

    fn leave_out(&mut self, id: ClaimId) -> Result<Claim, ClaimError> {
        let found = self.observed.iter().find(|claim| claim.id == id);
        let claim = found.ok_or(ClaimError::NoSuchClaim(id))?;
        if !self.live {
            return Err(ClaimError::Observed(id));
        }
        let made = self.processes.now();
        let nothing = Claim {
            id: name(made, std::process::id()),
            origin: Origin::Asked,
            made,
            cpus: CpuShare::ZERO,
            memory: Bytes::ZERO,
            promised: Vec::new(),
            ..claim.clone()
        };
        let full = ClaimError::Full { limit: MOST_CLAIMS };
        self.locked.ledger.add(nothing).ok_or(full)?;
        Ok(claim.clone())
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
                let now = self.processes.now().nanoseconds();
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
        self.processes.identify(pid).ok_or_else(gone)
    }

    /// Returns the asker as it is written to the ledger.
    pub fn caller_of(&mut self, asker: &Asker) -> Caller {
        self.caller(asker.pid, asker.uid)
    }

    /// Returns the process `pid` of user `uid` as a caller.
    pub fn caller(&mut self, pid: u32, uid: u32) -> Caller {
        let known = self.asker.as_ref().map(|(_, caller)| caller);
        if let Some(caller) = known.filter(|caller| (caller.pid, caller.uid) == (pid, uid)) {
            return caller.clone();
        }
        self.processes.caller(pid, uid)
    }
}

/// A name that is not given again soon: it mixes the moment with the process.
fn name(now: Instant, pid: u32) -> ClaimId {
    ClaimId(mixed(now.nanoseconds() ^ (u64::from(pid) << 40)))
}

#[cfg(test)]
mod tests;
