//! The guest file: a guest in TOML.
//!
//! ```toml
//! name = "db1"
//! cpus = 4
//! memory = "8G"
//! mode = "interleave"
//! command = ["postgres", "-D", "/srv/db1"]
//! ```
//!
//! Every key is described in [`SCHEMA`].

mod fields;
mod tables;
#[cfg(test)]
mod tests;

use placer_engine::{CpuShare, Read};
use tables::{Cpuset, File};

use crate::definition::{self, DefinitionError, Place, nearest, quoted};
use crate::guest::{
    Cgroup, CpuCount, CpuPlacement, Guest, MemorySize, NodeChoice, Pages, Program, Required,
};

/// The JSON Schema of the guest file, for editors and for people.
pub const SCHEMA: &str = include_str!("../schema/guest.schema.json");

/// The most bytes of a guest file: its parser takes some sixty times as many at worst. Real files have
/// a hundredth of it.
pub const MAX_BYTES: usize = 256 << 10;

/// Reads a guest file. `file` is what errors call it.
///
/// Errors: a key that is not known (with the one that was probably meant), a value that is not
/// understood, none or two of `command`, `[qemu]` and `[lxc]`, more than
/// [`MAX_BYTES`], all with line and column.
///
/// ```
/// use placer_launcher::guest_file;
/// let text = b"name = \"naps\"\ncpus = 2.5\nmemory = \"8G\"\ncommand = [\"sleep\", \"9\"]\n";
/// let guest = guest_file::parse("naps.toml", text)?.value;
/// assert_eq!(guest.ask().to_string(), "2.5:8192");
///
/// let error = guest_file::parse("naps.toml", b"name = \"naps\"\ncpu = 2\n").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "naps.toml:2:1: unknown key \"cpu\"; did you mean \"cpus\"?",
/// );
/// # Ok::<(), placer_launcher::definition::DefinitionError>(())
/// ```
pub fn parse(file: &str, bytes: &[u8]) -> Result<Read<Guest>, DefinitionError> {
    let text = definition::text(file, bytes, MAX_BYTES)?;
    let read: File = toml::from_str(text).map_err(|error| explain(file, text, &error))?;
    let at =
        |offset: usize, what: &str| DefinitionError::new(file, Some(Place::of(text, offset)), what);
    let mut notes = Vec::new();
    let mut programs = Vec::new();
    if let Some(words) = read.command {
        let offset = words.span().start;
        let words = words.into_inner().into_iter().map(|word| word.0.into()).collect::<Vec<_>>();
        if words.is_empty() {
            return Err(at(offset, "command: expected a program and its arguments, found no word"));
        }
        programs.push((offset, Program::Command(words)));
    }
    if let Some(table) = read.qemu {
        programs.push((table.span().start, Program::Qemu(table.into_inner().into())));
    }
    if let Some(table) = read.lxc {
        let offset = table.span().start;
        let lxc = table.into_inner().try_into().map_err(|what: String| at(offset, &what))?;
        programs.push((offset, Program::Lxc(lxc)));
    }
    programs.sort_by_key(|&(offset, _)| offset);
    let (program, second) = {
        let mut programs = programs.into_iter();
        (programs.next(), programs.next())
    };
    if let Some((offset, _)) = second {
        return Err(at(offset, "a second program: keep one of command, [qemu] and [lxc]"));
    }
    let Some((_, program)) = program else {
        let what = "nothing to start: write one of command, [qemu] and [lxc]";
        return Err(DefinitionError::new(file, None, what));
    };
    let mut guest = Guest::new(read.name.0, program);
    let share = read.cpus.get_ref().0;
    let whole = u32::try_from(share.hundredths().div_ceil(100)).unwrap_or(u32::MAX);
    guest.cpus = CpuCount { maximum: whole, current: whole };
    if CpuShare::from_cpus(u64::from(whole)) != Some(share) {
        guest.required = Required { cpus: Some(share), memory: None };
    }
    if let Program::Qemu(_) = guest.program {
        if guest.required.cpus.is_some() {
            let what = format!("cpus: a machine has whole CPUs; write {whole}, found {share}");
            return Err(at(read.cpus.span().start, &what));
        }
        if read.memory.is_none() {
            let what = "memory is missing: a virtual machine needs it; write memory = \"2G\"";
            return Err(DefinitionError::new(file, None, what));
        }
    }
    if let Some(memory) = read.memory {
        guest.memory = MemorySize { maximum: memory.0, current: memory.0 };
    }
    guest.pages = read.pages.map_or(Pages::Ordinary, |pages| pages.0);
    guest.near = read.near.map(|near| near.0);
    guest.mode_given = read.mode.is_some();
    guest.mode = read.mode.unwrap_or_default().0;
    if let Some(nodes) = read.nodeset {
        guest.nodes = NodeChoice::Fixed(nodes.0);
    }
    guest.placement = match read.cpuset {
        None => CpuPlacement::default(),
        Some(Cpuset::All) => CpuPlacement::All,
        Some(Cpuset::These(cpus)) => CpuPlacement::Fixed(cpus.0),
    };
    guest.pin = read.pin.unwrap_or_default().0;
    guest.isolated = read.isolated;
    let parent = read.cgroup_parent.map(|parent| parent.0);
    guest.cgroup = Cgroup { mode: read.cgroup.unwrap_or_default().0, parent };
    if guest.isolated && guest.pin != crate::guest::ThreadPin::Cores {
        notes.push(format!("{file}: isolated = true has no effect without pin = \"cores\""));
    }
    Ok(Read { value: guest, notes })
}

/// Says what the TOML parser found, on one line and with what was probably meant.
fn explain(file: &str, text: &str, error: &toml::de::Error) -> DefinitionError {
    let place = error.span().map(|span| Place::of(text, span.start));
    let what = unknown_key(error.message()).unwrap_or_else(|| one_line(error.message()));
    DefinitionError::new(file, place, what)
}

/// Rewrites serde's words for a key that no field has: they are the same for every format.
fn unknown_key(message: &str) -> Option<String> {
    let mut words = message.strip_prefix("unknown field `")?.rsplit("`, expected ");
    let known = words.next()?;
    // What is left is the key, which may itself hold any of these words.
    let key = &message["unknown field `".len()..message.len() - known.len() - "`, expected ".len()];
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let hint = match nearest(key, &known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known here: {}", known.join(", ")),
    };
    Some(format!("unknown key {}; {hint}", quoted(key)))
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
