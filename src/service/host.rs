//! The source of an answer's figures, and its caller: one way to answer, for a process that has just
//! been started and for the daemon.

use std::error::Error;
use std::sync::Arc;

use placer_engine::claims::{Asker, ClaimOwner, Decision};
use placer_engine::policy::numad::Machine;
use placer_engine::{
    Advice, AdviseError, Bytes, Charges, CpuSet, CpuTimes, Host, Request, Sample, Snapshot,
    SourceError, SysRoot, advise,
};

use super::notes::Notes;
use crate::settings;

/// The host that is asked about, and the process that asks.
pub trait Figures {
    /// Returns which host it is.
    fn root(&self) -> &SysRoot;

    /// Returns how claims count.
    fn claims(&self) -> settings::Claims;

    /// Returns the host with the load of its CPUs; its memory may be of a moment ago.
    fn measured(&self, pages: Option<Bytes>, notes: &mut Notes) -> Result<Snapshot, SourceError>;

    /// Reads the memory again, now that what was promised is known. The load stays as it was
    /// measured.
    fn again(
        &self,
        earlier: &Snapshot,
        charges: Charges,
        pages: Option<Bytes>,
    ) -> Result<Snapshot, SourceError>;

    /// Returns the host now, with what was promised to others counted.
    fn counted(&self, pages: Option<Bytes>, notes: &mut Notes) -> Result<CountedHost, SourceError>;

    /// Returns what numad's own rules decide on. `begin` looks at the machine before anything is
    /// measured, and may end it there.
    fn numads(&self, begin: &mut Begin<'_>, notes: &mut Notes) -> Result<Taken, Box<dyn Error>>;

    /// Waits until it is this one's turn to decide and claim, and keeps it until what is returned is dropped.
    /// `None` where who asks has gone meanwhile.
    fn turn(&self) -> Option<Box<dyn Turn + '_>> {
        Some(Box::new(()))
    }

    /// Returns who asks.
    fn asker(&self) -> Asker;

    /// Returns why who asks may not claim so much, with CPUs for single threads, under the lock of the ledger; nothing
    /// when he may.
    fn refuses(
        &self,
        decision: &Decision<'_>,
        request: &Request,
        pinned: &CpuSet,
        who: &ClaimOwner,
    ) -> Option<String>;
}

/// A turn that is kept until it is dropped.
pub trait Turn {}

impl Turn for () {}

/// A host with what was promised on it.
#[derive(Clone, Debug)]
pub struct CountedHost {
    pub snapshot: Arc<Snapshot>,
    /// What is promised without the claims of users; `None` where they have none.
    pub host_charges: Option<Charges>,
}

/// What is said where claims of users are left out for the host's sake.
pub(crate) const USERS_LEFT_OUT: &str =
    "this fits only where claims of users do not count: they are left out";

impl CountedHost {
    /// Returns a host on which nothing is left out.
    pub(crate) fn whole(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, host_charges: None }
    }

    /// Advises, and returns what the advice was made on. For the host itself claims of users count as far as
    /// its request fits beside them: they never make it fail.
    pub fn advise(
        &self,
        request: &Request,
        asker: &Asker,
        notes: &mut Notes,
    ) -> Result<(Advice, Arc<Snapshot>), AdviseError> {
        let advice = advise(&self.snapshot, request)?;
        let charges = self.host_charges.as_ref().filter(|_| asker.principal().is_host());
        if let Some(charges) = charges.filter(|_| !advice.fits()) {
            let without = Snapshot::clone(&self.snapshot).with_charges(charges.clone());
            let second = advise(&without, request)?;
            if second.fits() {
                notes.warn(USERS_LEFT_OUT);
                return Ok((second, Arc::new(without)));
            }
        }
        Ok((advice, Arc::clone(&self.snapshot)))
    }
}

/// What numad's own rules decide on.
#[derive(Debug)]
pub struct Taken {
    pub machine: MachineOf,
    pub before: Option<CpuTimes>,
    pub now: Sample,
    pub charges: Charges,
}

/// numad's view of a machine, read for one answer or shared by all.
#[derive(Debug)]
pub enum MachineOf {
    Answer(Box<Machine>),
    Host(Arc<Host>),
}

impl AsRef<Machine> for MachineOf {
    fn as_ref(&self) -> &Machine {
        match self {
            Self::Answer(machine) => machine,
            Self::Host(host) => &host.numad,
        }
    }
}

/// Says whether numad could read a machine, and logs what is reserved of it.
pub(crate) type Begin<'a> = dyn FnMut(&Machine) -> Result<(), Box<dyn Error>> + 'a;
