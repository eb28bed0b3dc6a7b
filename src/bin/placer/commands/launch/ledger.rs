//! The ledger that a guest is claimed in while it is started: this user's own, or the host's through the daemon.
//!
//! A guest is claimed as soon as it is decided on, for this process, and the claim is handed over when the
//! guest's process is there. No lock is held while a control group is made, systemd or libvirt is waited for,
//! or a process started.

use std::cell::{Cell, RefCell};

use placer_engine::claims::{Cgroup, ClaimError, ClaimId, Nonce, Parts};
use placer_engine::{Bytes, SourceError, SysRoot};

use super::PATIENCE;
use placer::error_chain::chain;
use placer::protocol::client::{self, Committed};
use placer::service::claim_session::{self, Desk, Session, claim_each_for_own, claim_for_own};
use placer::service::host::{CountedHost, Figures as _};
use placer::service::local::Local;
use placer::service::notes::{Impact, Notes};
use placer::settings;

/// A decision that others were faster with is made so many times more.
const AGAIN: u32 = 4;
/// What is said when others were faster each time.
pub(super) const OUTRUN: &str = "it does not fit beside what others have claimed meanwhile";

/// Where a guest is claimed.
pub(super) struct Ledger {
    desk: Desk,
    nonce: Nonce,
    /// Whether the host's daemon claims for this user; not any more once it does not answer.
    by_daemon: Cell<bool>,
    /// What is wrong with the own directory: said once claims are kept in there.
    about_own: RefCell<Notes>,
    tries: Cell<u32>,
    /// Whether the guest starts even where it does not fit.
    force: bool,
}

/// A claim of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    id: ClaimId,
    by_daemon: bool,
}

impl Held {
    /// Returns a claim that another rank has made.
    pub(super) fn known(id: ClaimId, by_daemon: bool) -> Self {
        Self { id, by_daemon }
    }

    /// Returns whether the host's daemon has it.
    pub(super) fn is_by_daemon(self) -> bool {
        self.by_daemon
    }

    /// Returns the id of the claim.
    pub(super) fn id(self) -> ClaimId {
        self.id
    }
}

/// What came of a claim.
pub(super) enum Claimed {
    /// The claim, if there could be one: the notes say why not.
    Decided(Option<Held>),
    /// Others have claimed meanwhile: to be decided again.
    Again,
    /// Others were faster each time.
    Unfit,
}

impl Ledger {
    pub(super) fn open(
        root: &SysRoot,
        set: settings::Claims,
        nonce: Nonce,
        force: bool,
        notes: &mut Notes,
    ) -> Self {
        let by_daemon = Cell::new(root.is_live() && client::hosts_daemon_runs());
        let mut about_own = Notes::default();
        let desk = Desk::open(root, set, if by_daemon.get() { &mut about_own } else { notes });
        let about_own = RefCell::new(about_own);
        Self { desk, nonce, by_daemon, about_own, tries: Cell::new(0), force }
    }

    /// Counts what was promised to others.
    pub(super) fn begin<'a>(
        &'a self,
        figures: &'a Local<'a>,
        pages: Option<Bytes>,
        notes: &mut Notes,
    ) -> Result<(Option<Session<'a>>, CountedHost), SourceError> {
        if self.by_daemon.get() {
            return Ok((None, figures.counted(pages, notes)?));
        }
        notes.append(self.about_own.take());
        self.desk.begin(figures, pages, PATIENCE, notes)
    }

    /// Claims what was decided, for this process. `fits`: as far as was known then.
    pub(super) fn claim(
        &self,
        session: Option<Session<'_>>,
        parts: Parts,
        fits: bool,
        notes: &mut Notes,
    ) -> Claimed {
        if !self.by_daemon.get() {
            return match session.map(|session| claim_for_own(session, parts, notes)) {
                Some(claim_session::Claimed::Made(id)) => {
                    Claimed::Decided(Some(Held { id, by_daemon: false }))
                }
                Some(claim_session::Claimed::Outrun) => Claimed::Again,
                Some(claim_session::Claimed::Refused) | None => Claimed::Decided(None),
            };
        }
        let refused = |notes: &mut Notes, why: &str| {
            notes.state(Impact::Unclaimed, format!("no claim was made: {why}"));
            Claimed::Decided(None)
        };
        let mut committed = client::claim_parts(&parts, !fits, self.nonce);
        if matches!(committed, Committed::Changed) && self.tries.get() == AGAIN && self.force {
            committed = client::claim_parts(&parts, true, self.nonce);
        }
        match committed {
            Committed::Made(id) => Claimed::Decided(Some(Held { id, by_daemon: true })),
            Committed::Changed if self.tries.get() < AGAIN => {
                self.tries.set(self.tries.get() + 1);
                Claimed::Again
            }
            Committed::Changed if !self.force => Claimed::Unfit,
            Committed::Changed => refused(notes, OUTRUN),
            Committed::Refused(why) => refused(notes, &why),
            Committed::Nobody => {
                self.by_daemon.set(false);
                Claimed::Again
            }
        }
    }

    /// Returns whether the host's daemon claims for this user.
    pub(super) fn is_by_daemon(&self) -> bool {
        self.by_daemon.get()
    }

    /// Claims what was decided for several ranks, of which that at `own` is this process: all of it, or nothing with a
    /// note. `None`: others have claimed meanwhile, to be decided again.
    ///
    /// Errors: others were faster each time.
    pub(super) fn claim_each(
        &self,
        session: Option<Session<'_>>,
        parts: Vec<Parts>,
        own: usize,
        notes: &mut Notes,
    ) -> Result<Option<Vec<Held>>, String> {
        if !self.by_daemon.get() {
            let Some(session) = session else { return Ok(Some(Vec::new())) };
            let made = claim_each_for_own(session, parts, own, notes);
            return Ok(
                made.map(|made| made.into_iter().map(|id| Held { id, by_daemon: false }).collect())
            );
        }
        let mut made = Vec::with_capacity(parts.len());
        let nothing = |made: Vec<Held>| made.into_iter().for_each(|held| self.release(Some(held)));
        for parts in &parts {
            let why = match client::claim_parts(parts, false, Nonce::random()) {
                Committed::Made(id) => {
                    made.push(Held { id, by_daemon: true });
                    continue;
                }
                Committed::Nobody if made.is_empty() => {
                    self.by_daemon.set(false);
                    return Ok(None);
                }
                // Claims that the daemon has already written cannot be released now; they end with this process.
                Committed::Nobody => "the daemon has ended".to_owned(),
                Committed::Changed if self.tries.get() < AGAIN => {
                    self.tries.set(self.tries.get() + 1);
                    nothing(made);
                    return Ok(None);
                }
                Committed::Changed => {
                    nothing(made);
                    return Err(OUTRUN.to_owned());
                }
                Committed::Refused(why) => why,
            };
            nothing(made);
            notes.state(Impact::Unclaimed, format!("no claim was made: {why}"));
            return Ok(Some(Vec::new()));
        }
        Ok(Some(made))
    }

    /// Makes the claim that of the guest. Where that cannot be it stays this process's, which waits for the guest.
    pub(super) fn adopt(
        &self,
        held: Option<Held>,
        pid: u32,
        cgroup: Option<Cgroup>,
        notes: &mut Notes,
    ) {
        let Some(held) = held else { return };
        if let Err(why) = self.try_to_adopt(held, pid, cgroup) {
            let id = held.id;
            notes.warn(&format!("claim {id} ends with placer, not with the guest: {why}"));
        }
    }

    /// Makes a claim that of a process.
    ///
    /// Errors: why that cannot be; there may be no such claim any more.
    pub(super) fn try_to_adopt(
        &self,
        Held { id, by_daemon }: Held,
        pid: u32,
        cgroup: Option<Cgroup>,
    ) -> Result<(), String> {
        if by_daemon {
            return client::adopt(id, pid, cgroup.is_some()).map(drop);
        }
        let adopted = self.desk.adopt(id, pid, cgroup);
        adopted.map(drop).map_err(|error: ClaimError| chain(&error))
    }

    /// Ends the claim of a guest that did not start, or that has ended.
    pub(super) fn release(&self, held: Option<Held>) {
        match held {
            Some(Held { id, by_daemon: true }) => _ = client::release(id),
            Some(Held { id, by_daemon: false }) => self.desk.release(id),
            None => {}
        }
    }
}
