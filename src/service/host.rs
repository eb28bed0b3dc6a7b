//! Where the figures of an answer come from, and for whom it is: one way to answer, whether this
//! process has just been started for it or is the daemon.

use std::error::Error;
use std::sync::Arc;

use placer_engine::claims::{ClaimOwner, Decision};
use placer_engine::policy::numad::Machine;
use placer_engine::{
    Bytes, Charges, CpuTimes, Host, Request, Sample, Snapshot, SourceError, SysRoot,
};

use super::notes::Notes;
use crate::settings;

/// The host that is asked about, and who asks.
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
    fn counted(
        &self,
        pages: Option<Bytes>,
        notes: &mut Notes,
    ) -> Result<Arc<Snapshot>, SourceError>;

    /// Returns what numad's own rules decide on. `begin` looks at the machine before anything is
    /// measured, and may end it there.
    fn numads(&self, begin: &mut Begin<'_>, notes: &mut Notes) -> Result<Taken, Box<dyn Error>>;

    /// Returns the process and the user that asks.
    fn asker(&self) -> (u32, u32);

    /// Returns why who asks may not claim so much, under the lock of the ledger; nothing when he may.
    fn refuses(
        &self,
        decision: &Decision<'_>,
        request: &Request,
        who: &ClaimOwner,
    ) -> Option<String>;
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
