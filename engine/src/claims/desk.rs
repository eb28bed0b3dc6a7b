//! Choosing and claiming in one step.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::asker::{Asker, Asking};
use super::charge;
use super::claim::{Claim, ClaimId, Origin, Owner, ProcessId};
use super::decision::{Basis, Decision, Observation};
use super::error::ClaimError;
use super::kept::Kept;
use super::ledger::Ledger;
use super::look::Look;
use super::nonce::Nonce;
use super::store::ClaimFile;
use super::watched::KnownOwners;
use crate::charges::{Charges, Overcommit};
use crate::read::Read;
use crate::source::SysRoot;

/// Where claims are kept, and how they count.
#[derive(Clone, Debug, Default)]
pub struct ClaimDirs {
    /// The caller's own directory; `None` when there is none.
    pub own: Option<PathBuf>,
    /// Another user's directory whose claims count as well and are only read: root's.
    pub below: Option<(PathBuf, u32)>,
    /// How many times over memory may be promised.
    pub overcommit: Overcommit,
    /// What is known of the own ledger. A process that decides often keeps it, and reads only what is new.
    #[doc(hidden)]
    pub kept: Kept,
}

/// The number of decisions without the lock that may be lost to faster claims; the next one is made under the lock.
pub const LOST_RACES: u32 = 3;

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
        Self { own, below, ..Self::default() }
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
    pub claims: Vec<Arc<Claim>>,
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

/// The claims of one host, to decide with.
#[derive(Debug)]
pub struct Claims {
    own: Option<ClaimFile>,
    below: Result<Option<ClaimFile>, ClaimError>,
    owners: KnownOwners,
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
            own: open(dirs.own.as_ref().map(|dir| (dir, me)))?.map(|own| own.knowing(&dirs.kept)),
            below: open(dirs.below.as_ref().map(|(dir, owner)| (dir, *owner))),
            owners: dirs.kept.owners.clone(),
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
        claims.own = Some(ClaimFile::open(dir, root)?.knowing(&dirs.kept));
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
        let (mut look, mut view, below) = self.start()?;
        let mut ledger = Ledger::default();
        if let Some(own) = &self.own {
            let read = own.read()?;
            ledger = read.value;
            view.notes.extend(read.notes);
            look.refresh(&mut ledger)?;
        }
        self.add_below(&mut view, below, &ledger, None);
        self.add(&mut view, &ledger);
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
        let (mut look, mut view, below) = self.start()?;
        look.ask(&own.read()?.value)?;
        let asking = asker.map(|asker| look.asking(asker.pid, asker.uid)).transpose()?;
        look.open()?;
        let Read { value: mut locked, notes } = own.lock(patience)?;
        look.close()?;
        view.notes.extend(notes);
        let asker = asker.cloned().zip(asking);
        let basis = self.found(look, &mut view, below, locked.ledger(), asker)?;
        Ok((Decision::new(locked, basis), view))
    }

    /// Finds out which claims count, without the lock: what is decided on the view can be claimed unless another
    /// process has changed the ledger meanwhile, see [`Observation::commit`].
    ///
    /// Errors: as [`view`](Self::view).
    pub fn observe(&self, asker: &Asker) -> Result<(Observation<'_>, View), ClaimError> {
        let own = self.own.as_ref().ok_or(ClaimError::NoPlace)?;
        let (mut look, mut view, below) = self.start()?;
        let Read { value: mut observed, notes } = own.observe()?;
        view.notes.extend(notes);
        look.ask(&observed.ledger)?;
        let asking = look.asking(asker.pid, asker.uid)?;
        let asker = Some((asker.clone(), asking));
        let basis = self.found(look, &mut view, below, &mut observed.ledger, asker)?;
        Ok((Observation::new(observed, basis), view))
    }

    /// Decides without the lock, and takes it to claim what was decided: anew where others were faster, and under the
    /// lock where they were so several times. Returns the decision, to be claimed, and what was decided.
    ///
    /// Errors: as [`begin`](Self::begin), and those of `decide`.
    pub fn decide<T, E: From<ClaimError>>(
        &self,
        asker: &Asker,
        patience: Duration,
        mut decide: impl FnMut(View) -> Result<T, E>,
    ) -> Result<(Decision<'_>, T), E> {
        for _ in 0..LOST_RACES {
            let (observation, view) = self.observe(asker)?;
            let decided = decide(view)?;
            if let Some(decision) = observation.commit(patience)? {
                return Ok((decision, decided));
            }
        }
        let (decision, view) = self.begin_for(Some(asker), patience)?;
        Ok((decision, decide(view)?))
    }

    /// Applies what was found out to the ledger, and adds what counts in it to the view.
    fn found(
        &self,
        mut look: Look<'_>,
        view: &mut View,
        below: Ledger,
        ledger: &mut Ledger,
        asker: Option<(Asker, Asking)>,
    ) -> Result<Basis, ClaimError> {
        look.apply(ledger)?;
        self.add_below(view, below, ledger, asker.as_ref().map(|(asker, _)| asker));
        let named = |(asker, _): &(Asker, Asking)| ledger.named(asker.nonce?, asker.principal);
        let repeated = asker.as_ref().and_then(named).cloned();
        match &repeated {
            Some(claim) => {
                let mut others = ledger.clone();
                others.release(claim.id);
                self.add(view, &others);
            }
            None => self.add(view, ledger),
        }
        self.add_observed(&mut look, view)?;
        self.leave_out_users(view);
        let observed = view.claims.iter().filter(|claim| claim.origin == Origin::Observed);
        let observed = observed.cloned().collect();
        let hosts = asker.as_ref().is_some_and(|(asker, _)| asker.principal.is_host());
        let owned = match &view.host_charges {
            // Claims of users never refuse the host anything.
            Some(charges) if hosts => charges.pinned().clone(),
            _ => view.charges.pinned().clone(),
        };
        let live = self.root.is_live();
        Ok(Basis { processes: look.processes()?, asker, repeated, observed, owned, live })
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
        let is_hold = |claim: &&Arc<Claim>| matches!(claim.owner, Owner::Hold { .. });
        let holds: Vec<ClaimId> = ledger.claims().iter().filter(is_hold).map(|c| c.id).collect();
        if holds.is_empty() {
            return Ok(notes);
        }
        let adopted = |claim: &Arc<Claim>| holds.contains(&claim.id) && !is_hold(&claim);
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
        let is_users_hold = |claim: &&Arc<Claim>| {
            matches!(claim.owner, Owner::Hold { .. }) && !claim.principal.is_host()
        };
        let holds = ledger.claims().iter().filter(is_users_hold);
        let mut uids: Vec<u32> = holds.map(|claim| claim.caller.uid).collect();
        uids.sort_unstable();
        uids.dedup();
        if uids.is_empty() || !self.root.is_live() {
            return Ok(());
        }
        let mut look = Look::new(&self.root).watching(&self.owners);
        look.observe_users(Some(own.dir()), uids);
        look.ask(&ledger)?;
        look.open()?;
        let mut locked = own.lock(patience)?.value;
        look.close()?;
        look.apply(locked.ledger())?;
        locked.keep()
    }

    /// Looks for guests, and at what is in the other user's ledger.
    fn start(&self) -> Result<(Look<'_>, View, Ledger), ClaimError> {
        let mut look = Look::new(&self.root).watching(&self.owners);
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
            Ok(None) => return Ok((look, view, Ledger::default())),
            Ok(Some(below)) => below.read().map_err(|error| uncounted(&error)),
            Err(error) => Err(uncounted(error)),
        };
        let mut ledger = Ledger::default();
        match read {
            Ok(read) => {
                ledger = read.value;
                view.notes.extend(read.notes);
                look.refresh(&mut ledger)?;
            }
            Err(note) => {
                view.complete = false;
                view.notes.push(note);
            }
        }
        Ok((look, view, ledger))
    }

    /// Counts what is in the other user's ledger, but for what the own one has as well: a daemon that was killed
    /// before it replied may have claimed there, and the client has claimed again here by the same name.
    fn add_below(&self, view: &mut View, mut below: Ledger, own: &Ledger, asker: Option<&Asker>) {
        let me = nix::unistd::geteuid().as_raw();
        let asked = asker.and_then(|asker| asker.nonce);
        let mut named: Vec<Nonce> = own.claims().iter().filter_map(|claim| claim.nonce).collect();
        named.extend(asked);
        let again = |claim: &Claim| claim.nonce.is_some_and(|nonce| named.contains(&nonce));
        below.leave_out(|claim| claim.caller.uid == me && again(claim));
        self.add(view, &below);
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
        let is_users = |claim: &Claim| claim.origin == Origin::Asked && !claim.principal.is_host();
        if !view.claims.iter().any(|claim| is_users(claim)) {
            return;
        }
        let mut charges = Charges::default();
        let all = view.claims.iter().map(Arc::as_ref);
        for claim in all.filter(|claim| !is_users(claim)).chain(&view.takes) {
            charge::add(&mut charges, claim, self.overcommit);
        }
        view.host_charges = Some(charges);
    }

    fn add_observed(&self, look: &mut Look<'_>, view: &mut View) -> Result<(), ClaimError> {
        let (claims, machines) = look.observed(&view.claims)?;
        view.machines = machines;
        for claim in claims {
            charge::add(&mut view.charges, &claim, self.overcommit);
            view.claims.push(Arc::new(claim));
        }
        Ok(())
    }
}

/// Says, with its cause, why another's claims are not counted.
fn uncounted(error: &ClaimError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("claims of another user are not counted: {error}{}", cause.unwrap_or_default())
}

#[cfg(test)]
mod tests;
