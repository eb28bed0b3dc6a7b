//! Where the figures of an answer come from, and for whom it is: one way to answer, whether this
//! process has just been started for it or is the daemon.

use std::cell::RefCell;
use std::error::Error;
use std::sync::Arc;

use nix::unistd::{getppid, getuid};
use placer_engine::claims::{Decision, For};
use placer_engine::source::SnapshotReader;
use placer_engine::{Bytes, Charges, Request, Snapshot, SourceError, SysRoot};

use super::numad;
use crate::service::claiming;
use crate::service::sampling::{self, Window};
use crate::settings;

/// The host that is asked about, and who asks.
pub trait Figures {
    /// Returns which host it is.
    fn root(&self) -> &SysRoot;

    /// Returns how claims count.
    fn claims(&self) -> settings::Claims;

    /// Returns the host with the load of its CPUs; its memory may be of a moment ago.
    fn measured(&self, pages: Option<Bytes>) -> Result<Snapshot, SourceError>;

    /// Reads the memory again, now that what was promised is known. The load stays as it was
    /// measured.
    fn again(
        &self,
        earlier: &Snapshot,
        charges: Charges,
        pages: Option<Bytes>,
    ) -> Result<Snapshot, SourceError>;

    /// Returns the host now, with what was promised to others counted.
    fn counted(&self, pages: Option<Bytes>) -> Result<Arc<Snapshot>, SourceError>;

    /// Returns what numad's own rules decide on. `begin` looks at the machine before anything is
    /// measured, and may end it there.
    fn numads(&self, begin: &mut numad::Begin<'_>) -> Result<numad::Taken, Box<dyn Error>>;

    /// Returns the process and the user that asks.
    fn asker(&self) -> (u32, u32);

    /// Returns why who asks may not claim so much, under the lock of the ledger; nothing when he may.
    fn refuses(&self, decision: &Decision<'_>, request: &Request, who: &For) -> Option<String>;
}

/// Read by this process, for whom it was started by.
#[derive(Debug)]
pub struct Local<'a> {
    pub root: &'a SysRoot,
    pub set: settings::Claims,
    pub window: Window,
    /// How the host is built, once it was read; and the huge pages that go with it.
    host: RefCell<Option<(Option<Bytes>, SnapshotReader)>>,
}

impl<'a> Local<'a> {
    pub fn new(root: &'a SysRoot, set: settings::Claims, window: Window) -> Self {
        Self { root, set, window, host: RefCell::new(None) }
    }

    /// Reads with what the first who asked has opened.
    fn read<T>(
        &self,
        pages: Option<Bytes>,
        read: impl FnOnce(&mut SnapshotReader) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let mut host = self.host.borrow_mut();
        match &mut *host {
            Some((with, reader)) if *with == pages => read(reader),
            none => {
                let opened = SnapshotReader::open(self.root, pages)?;
                read(&mut none.insert((pages, opened)).1)
            }
        }
    }
}

impl Figures for Local<'_> {
    fn root(&self) -> &SysRoot {
        self.root
    }

    fn claims(&self) -> settings::Claims {
        self.set
    }

    fn measured(&self, pages: Option<Bytes>) -> Result<Snapshot, SourceError> {
        self.read(pages, |host| sampling::snapshot(host, self.window))
    }

    fn again(
        &self,
        earlier: &Snapshot,
        charges: Charges,
        pages: Option<Bytes>,
    ) -> Result<Snapshot, SourceError> {
        self.read(pages, |host| claiming::again(host, earlier, charges))
    }

    fn counted(&self, pages: Option<Bytes>) -> Result<Arc<Snapshot>, SourceError> {
        claiming::snapshot(self.root, self.set, self.window, pages).map(Arc::new)
    }

    fn numads(&self, begin: &mut numad::Begin<'_>) -> Result<numad::Taken, Box<dyn Error>> {
        numad::read(self, begin)
    }

    fn asker(&self) -> (u32, u32) {
        // The process that called this program, which is about to end.
        (u32::try_from(getppid().as_raw()).unwrap_or_default(), getuid().as_raw())
    }

    fn refuses(&self, _: &Decision<'_>, _: &Request, _: &For) -> Option<String> {
        // What is claimed lies in a ledger of one's own.
        None
    }
}
