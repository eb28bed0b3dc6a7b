//! What numad's own rules decide on.

use std::error::Error;
use std::sync::Arc;

use placer_engine::policy::numad::Machine;
use placer_engine::source::{HostReader, two_samples};
use placer_engine::{Charges, CpuTimes, Host, Instant, Sample};

use super::claiming;
use super::figures::Local;
use super::sampling::{Saved, Window};

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

/// Reads what numad's own rules decide on. `begin` has its say before anything is measured.
pub fn read(local: &Local<'_>, begin: &mut Begin<'_>) -> Result<Taken, Box<dyn Error>> {
    let mut reader = HostReader::open(local.root)?;
    let machine = Machine::from_files(reader.files());
    begin(&machine)?;

    let mut saved = Saved::open(local.root);
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
        saved.keep(first.into_iter().chain([&now.cpu]));
    }
    // What placer has promised to others counts as used. Read before the memory, see there.
    let view = claiming::view_of_asked(local.root, local.set);
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
