//! libvirt's domain definition, and the proposal of 2012 that wanted advice in it.
//!
//! ```xml
//! <domain type='kvm'>
//!   <name>db1</name>
//!   <memory unit='GiB'>8</memory>
//!   <vcpu placement='auto'>4</vcpu>
//! </domain>
//! ```
//!
//! So much of it as placer starts guests from. What stands in `<numatune>`, `<vcpu>` and `<cputune>` and
//! is not understood is an error; elsewhere what is not used is noted. [`SCHEMA`] says what there is.

mod cursor;
mod os;
mod place;
mod print;
mod size;
#[cfg(test)]
mod tests;
mod tree;

use placer_engine::{Bytes, Read};

use self::cursor::Source;
use self::tree::Element;
use crate::definition::{self, DefinitionError, quoted};
use crate::guest::{Accelerator, Guest, GuestName, MemorySize, Pages, Program};

pub use print::{CannotPrint, Outcome, print};

/// The RELAX NG schema of the definitions that [`parse`] reads and [`print()`] writes.
pub const SCHEMA: &str = include_str!("../schema/domain.rng");

/// The most bytes of a domain definition. Those of real guests have a hundredth of it.
pub const MAX_BYTES: usize = 1 << 20;

/// Reads a domain definition. `file` is what errors and notes call it.
///
/// Errors: text that is no XML, has a document type or entities of its own, is longer than
/// [`MAX_BYTES`] or nested deeper than 32 elements; a missing name or type; what is not understood
/// about the guest's place.
///
/// ```
/// use placer_launcher::domain;
/// let text = b"<domain type='lxc'>
///   <name>web</name>
///   <memory>1048576</memory>
///   <vcpu cpuset='1-10,^7,^8'>4</vcpu>
///   <numatune>
///     <memory mode='strict' nodeset='1-4,^3'/>
///     <cpu required_cpus='4' required_memory='524288'/>
///   </numatune>
///   <uuid>1</uuid>
/// </domain>";
/// let read = domain::parse("web.xml", text)?;
/// assert_eq!(read.value.ask().to_string(), "4:512");
/// assert_eq!(read.notes, ["web.xml:9:3: <uuid>: not used"]);
///
/// let error = domain::parse("web.xml", b"<domain type='lxc'>\n <vcpu place='auto'/>\n</domain>");
/// assert_eq!(
///     error.unwrap_err().to_string(),
///     "web.xml:2:2: <vcpu>: unknown attribute \"place\"; known here: placement, cpuset, current",
/// );
/// # Ok::<(), placer_launcher::definition::DefinitionError>(())
/// ```
pub fn parse(file: &str, bytes: &[u8]) -> Result<Read<Guest>, DefinitionError> {
    let text = definition::text(file, bytes, MAX_BYTES)?;
    let domain = tree::parse(file, text)?;
    let source = Source::new(file, text);
    let value = guest(&source, &domain)?;
    Ok(Read { value, notes: source.into_notes() })
}

/// The elements of a domain that are read.
const USED: &[&str] = &[
    "name",
    "memory",
    "currentMemory",
    "memoryBacking",
    "vcpu",
    "iothreads",
    "cputune",
    "numatune",
    "os",
    "devices",
    "qemu:commandline",
];

fn guest(source: &Source<'_>, domain: &Element) -> Result<Guest, DefinitionError> {
    if domain.name != "domain" {
        return Err(source.error(domain, "expected <domain>"));
    }
    let accelerator = match source.wanted(domain, "type")? {
        "kvm" => Some(Accelerator::Kvm),
        "qemu" => Some(Accelerator::Tcg),
        "lxc" => None,
        other => {
            let found = quoted(other);
            let what = format!("attribute type: expected kvm, qemu or lxc, found {found}");
            return Err(source.error(domain, what));
        }
    };
    let iothreads = source.only(domain, "iothreads")?;
    let iothreads = iothreads.map_or(Ok(0), |element| source.number_in(element, 0xffff))?;
    // Their errors first: they are the ones that a placement is about.
    let place = place::parse(source, domain, iothreads)?;
    let Some(name) = source.only(domain, "name")? else {
        return Err(source.error(domain, "expected <name>, found none"));
    };
    let name: GuestName =
        name.text.parse().map_err(|error| source.error(name, format!("{error}")))?;
    let program = match accelerator {
        Some(accelerator) => Program::Qemu(os::machine(source, domain, accelerator, iothreads)?),
        None => Program::Lxc(os::container(source, domain)?),
    };
    let mut guest = Guest::new(name, program);
    guest.cpus = place.cpus;
    guest.memory = memory(source, domain)?;
    if guest.memory.maximum == Bytes::ZERO && accelerator.is_some() {
        return Err(source.error(domain, "expected <memory>, found none"));
    }
    guest.required = place.required;
    guest.pages = pages(source, domain)?;
    guest.mode = place.mode;
    guest.mode_given = place.mode_given;
    guest.nodes = place.nodes;
    guest.placement = place.placement;
    guest.pins = place.pins;
    let rest = domain.children.iter().filter(|child| !USED.contains(&child.name.as_str()));
    rest.for_each(|child| source.unused(child));
    Ok(guest)
}

fn memory(source: &Source<'_>, domain: &Element) -> Result<MemorySize, DefinitionError> {
    let size = |name| -> Result<_, DefinitionError> {
        let Some(element) = source.only(domain, name)? else { return Ok(None) };
        let size = size::parse(&element.text, element.attribute("unit"));
        size.map(|size| Some((element, size))).map_err(|why| source.error(element, why))
    };
    let current = size("currentMemory")?;
    let maximum = match (size("memory")?, current) {
        (Some((element, Bytes::ZERO)), _) => {
            return Err(source.error(element, "expected memory, found 0"));
        }
        (Some((_, maximum)), Some((element, current))) if current > maximum => {
            let (current, maximum) = (current.whole_kib(), maximum.whole_kib());
            let what = format!("expected at most <memory>, {maximum} KiB, found {current} KiB");
            return Err(source.error(element, what));
        }
        (Some((_, maximum)), _) => maximum,
        (None, current) => current.map_or(Bytes::ZERO, |(_, current)| current),
    };
    Ok(MemorySize { maximum, current: current.map_or(maximum, |(_, current)| current) })
}

fn pages(source: &Source<'_>, domain: &Element) -> Result<Pages, DefinitionError> {
    let Some(backing) = source.only(domain, "memoryBacking")? else { return Ok(Pages::Ordinary) };
    for child in backing.children.iter().filter(|child| child.name != "hugepages") {
        source.unused(child);
    }
    let Some(huge) = source.only(backing, "hugepages")? else { return Ok(Pages::Ordinary) };
    let Some(page) = source.only(huge, "page")? else { return Ok(Pages::HugeDefault) };
    let size = size::parse(source.wanted(page, "size")?, page.attribute("unit"));
    match size {
        Ok(size) if size.get().is_power_of_two() => Ok(Pages::Huge(size)),
        Ok(_) => Err(source.error(page, "attribute size: expected a power of two")),
        Err(why) => Err(source.error(page, format!("attribute size: {why}"))),
    }
}
