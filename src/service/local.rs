//! The host as this process reads it, for the user who started it.

use std::cell::RefCell;
use std::error::Error;

use nix::unistd::{getppid, getuid};
use placer_engine::claims::{Asker, ClaimOwner, Decision, Nonce};
use placer_engine::policy::numad::Machine;
use placer_engine::source::{HostReader, SnapshotReader, two_samples};
use placer_engine::{
    Bytes, Charges, CpuSet, CpuTimes, Instant, Request, Snapshot, SourceError, SysRoot,
};

use super::counted;
use super::host::{Begin, CountedHost, Figures, MachineOf, Taken};
use super::notes::Notes;
use super::sampling::{self, Saved, Window};
use crate::settings;

/// Read by this process, on behalf of its caller.
#[derive(Debug)]
pub struct Local<'a> {
    pub root: &'a SysRoot,
    pub set: settings::Claims,
    pub window: Window,
    /// By which a claim is found again that the daemon may have made for the same request.
    pub nonce: Option<Nonce>,
    /// How the host is built, once it was read; and the huge pages that go with it.
    host: RefCell<Option<(Option<Bytes>, SnapshotReader)>>,
}

impl<'a> Local<'a> {
    pub fn new(root: &'a SysRoot, set: settings::Claims, window: Window) -> Self {
        Self { root, set, window, nonce: None, host: RefCell::new(None) }
    }

    /// Sets the name of the claim that may come of it.
    #[must_use]
    pub fn named(mut self, nonce: Option<Nonce>) -> Self {
        self.nonce = nonce;
        self
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

    fn measured(&self, pages: Option<Bytes>, notes: &mut Notes) -> Result<Snapshot, SourceError> {
        self.read(pages, |host| sampling::snapshot(host, self.window, notes))
    }

    fn again(
        &self,
        earlier: &Snapshot,
        charges: Charges,
        pages: Option<Bytes>,
    ) -> Result<Snapshot, SourceError> {
        self.read(pages, |host| host.again(earlier, charges))
    }

    fn counted(&self, pages: Option<Bytes>, notes: &mut Notes) -> Result<CountedHost, SourceError> {
        counted::host(self.root, self.set, self.window, pages, notes)
    }

    fn numads(&self, begin: &mut Begin<'_>, notes: &mut Notes) -> Result<Taken, Box<dyn Error>> {
        read(self, begin, notes)
    }

    fn asker(&self) -> Asker {
        // The process that called this program, which is about to end.
        let parent = u32::try_from(getppid().as_raw()).unwrap_or_default();
        Asker::new(parent, getuid().as_raw()).named(self.nonce)
    }

    fn refuses(&self, _: &Decision<'_>, _: &Request, _: &CpuSet, _: &ClaimOwner) -> Option<String> {
        // What is claimed lies in a ledger of one's own.
        None
    }
}

/// Reads what numad's own rules decide on. `begin` has its say before anything is measured.
fn read(
    local: &Local<'_>,
    begin: &mut Begin<'_>,
    notes: &mut Notes,
) -> Result<Taken, Box<dyn Error>> {
    let mut reader = HostReader::open(local.root)?;
    let machine = Machine::from_files(reader.files());
    begin(&machine)?;

    let mut saved = Saved::open(local.root, notes);
    let (earlier, window) = match local.window {
        Window::Recent(window) => (saved.as_ref().and_then(Saved::usable), window),
        Window::Now(window) => (None, window),
    };
    let measured = earlier.is_none();
    let (before, mut now) = two_samples(&mut reader, earlier, window)?;
    if let Some(before) = before.as_ref().filter(|_| !local.root.is_live()) {
        wait_on(before, &mut now.cpu);
    }
    if let Some(saved) = &mut saved {
        let first = before.as_ref().filter(|_| measured);
        saved.keep(first.into_iter().chain([&now.cpu]), notes);
    }
    // What placer has promised to others counts as used. Read before the memory, see there.
    let view = counted::view_of_asked(local.root, local.set, notes);
    let anybody = view.as_ref().is_some_and(|view| !view.claims.is_empty());
    let charges = view.map(|view| view.charges).unwrap_or_default();
    if anybody || !charges.is_empty() {
        reader.memory(&mut now.memory)?;
    }
    Ok(Taken { machine: MachineOf::Answer(Box::new(machine)), before, now, charges })
}

/// numad measures for at least this many hundredths of a second, and sleeps so much longer if it has
/// not yet.
const SHORTEST: u64 = 8;
const LONGER: u64 = 10;

/// Lets the time pass that numad would have slept on, on a recorded machine whose two moments are too
/// close together: nothing changes there meanwhile.
fn wait_on(before: &CpuTimes, now: &mut CpuTimes) {
    let (from, to) = (before.at().centiseconds(), now.at().centiseconds());
    if to.checked_sub(from).is_some_and(|gap| gap < SHORTEST) {
        *now = CpuTimes::new(Instant::from_centiseconds(to.saturating_add(LONGER)), now.iter());
    }
}
