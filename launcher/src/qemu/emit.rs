//! The decision as options of QEMU, for people who start it by other means.

use std::ffi::OsStr;

use placer_engine::{Advice, Request, Snapshot};

use super::memory;
use super::shape::Shape;
use crate::error::LaunchError;
use crate::guest::{Guest, GuestName, MemoryMode, Pages, Program, Qemu};
use crate::quote::quoted;

/// Returns the options for a machine of a request's size where the advice says, a line each; as
/// they stand they can be pasted into a command line.
///
/// Parts of a CPU become a whole one. How threads are pinned has no option: that takes a launcher.
///
/// Errors: memory that its huge pages cannot make.
pub fn emit(
    request: &Request,
    advice: &Advice,
    snapshot: &Snapshot,
    mode: MemoryMode,
) -> Result<Vec<String>, LaunchError> {
    let name: Result<GuestName, _> = "emitted".parse();
    // Never shown, and a good one.
    let Ok(name) = name else { return Ok(Vec::new()) };
    let mut guest = Guest::new(name, Program::Qemu(Qemu::default()));
    let cpus = u32::try_from(request.cpus.hundredths().div_ceil(100)).unwrap_or(u32::MAX).max(1);
    guest.cpus.current = cpus;
    guest.cpus.maximum = cpus;
    guest.memory.maximum = request.memory;
    guest.memory.current = request.memory;
    guest.pages = request.pages.map_or(Pages::Ordinary, Pages::Huge);
    guest.mode = mode;
    let shape = Shape::of(&guest, Some(advice), snapshot)?;
    let machine = memory::machine(&shape).map(|value| ("-machine", Some(value.to_owned())));
    let options = memory::options(guest.cpus, &shape, snapshot.topology().distances());
    let line = |(option, value): memory::Option_| match value {
        Some(value) => format!("{option} {}", quoted(OsStr::new(&value))),
        None => option.to_owned(),
    };
    Ok(machine.into_iter().chain(options).map(line).collect())
}
