//! Writes a guest as a domain definition, with or without what came of a launch.

mod program;
mod writer;

use std::collections::BTreeMap;
use std::fmt;

use placer_engine::{CpuSet, NodeSet};

use self::writer::Writer;
use crate::guest::{
    Accelerator, CpuPlacement, Guest, Lxc, LxcRoot, MemoryMode, NodeChoice, Pages, Pins, Program,
    Qemu, Required,
};

/// What came of a launch, or will: it fills in what a definition leaves to advice, and is never
/// part of the definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The CPUs, never the nodes, that the guest may run on.
    pub cpus: CpuSet,
    /// The nodes of its memory.
    pub nodes: NodeSet,
    /// The CPUs of single threads.
    pub pins: Pins,
}

/// Why a guest has no domain definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotPrint {
    guest: String,
    why: &'static str,
}

impl fmt::Display for CannotPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {:?} has no domain definition: {}", self.guest, self.why)
    }
}

impl std::error::Error for CannotPrint {}

/// Writes a guest as a domain definition, ending in a newline.
///
/// Without an outcome it is the definition that [`super::parse`] read, with the CPUs that its user
/// named. With one, what was left to advice is filled in: the CPUs as `cpuset`, the nodes of the memory as
/// `nodeset`. What the proposal of 2012 asked for (`<cpu required_cpus=...>`) stays there, so that
/// the next launch asks again.
///
/// Left out is what a domain definition has no words for: `near`, `pin`, `isolated`, `cgroup`.
///
/// Errors: commands, containers that LXC's own configuration describes, texts with characters that XML
/// cannot hold.
///
/// ```
/// use placer_engine::{CpuId, NodeId};
/// use placer_launcher::domain::{Outcome, parse, print};
/// let text = b"<domain type='lxc'><name>web</name><vcpu placement='auto'>2</vcpu></domain>";
/// let guest = parse("web.xml", text)?.value;
/// let outcome = Outcome {
///     cpus: (4..8).map(CpuId).collect(),
///     nodes: [NodeId(1)].into_iter().collect(),
///     ..Outcome::default()
/// };
/// assert_eq!(
///     print(&guest, Some(&outcome))?,
///     "<domain type='lxc'>
///   <name>web</name>
///   <vcpu cpuset='4-7'>2</vcpu>
///   <numatune>
///     <memory mode='strict' nodeset='1'/>
///   </numatune>
///   <os>
///     <type>exe</type>
///   </os>
/// </domain>
/// ",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn print(guest: &Guest, outcome: Option<&Outcome>) -> Result<String, CannotPrint> {
    let cannot = |why| CannotPrint { guest: guest.name.to_string(), why };
    let mut out = Writer::default();
    let kind = match &guest.program {
        Program::Command(_) => return Err(cannot("it is a command")),
        Program::Qemu(Qemu { accelerator: Accelerator::Tcg, .. }) => "qemu",
        Program::Qemu(_) => "kvm",
        Program::Lxc(Lxc { root: LxcRoot::Container(_), .. }) => {
            return Err(cannot("a container of LXC's own has its definition there"));
        }
        Program::Lxc(lxc) if !lxc.config.is_empty() => {
            return Err(cannot("items of LXC's configuration have no place in one"));
        }
        Program::Lxc(_) => "lxc",
    };
    let arguments = matches!(&guest.program, Program::Qemu(qemu) if !qemu.args.is_empty());
    let namespace = "http://libvirt.org/schemas/domain/qemu/1.0";
    let namespace = arguments.then_some(("xmlns:qemu", namespace));
    out.open("domain", &[("type", kind)].into_iter().chain(namespace).collect::<Vec<_>>());
    out.leaf("name", &[], guest.name.as_str());
    if guest.memory.maximum.get() > 0 {
        let kib = [("unit", "KiB")];
        out.leaf("memory", &kib, &guest.memory.maximum.get().div_ceil(1024).to_string());
        out.leaf("currentMemory", &kib, &guest.memory.current.get().div_ceil(1024).to_string());
    }
    pages(&mut out, guest.pages);
    vcpu(&mut out, guest, outcome);
    if let Program::Qemu(Qemu { iothreads: iothreads @ 1.., .. }) = &guest.program {
        out.leaf("iothreads", &[], &iothreads.to_string());
    }
    pins(&mut out, &guest.pins, outcome.map(|outcome| &outcome.pins));
    numatune(&mut out, guest, outcome);
    match &guest.program {
        Program::Qemu(qemu) => program::machine(&mut out, qemu),
        Program::Lxc(lxc) => program::container(&mut out, lxc),
        Program::Command(_) => {}
    }
    out.close("domain");
    out.finish().ok_or_else(|| cannot("it holds a character that XML cannot"))
}

fn pages(out: &mut Writer, pages: Pages) {
    match pages {
        Pages::Ordinary => return,
        Pages::HugeDefault => {
            out.open("memoryBacking", &[]);
            out.empty("hugepages", &[]);
        }
        Pages::Huge(size) => {
            out.open("memoryBacking", &[]);
            out.open("hugepages", &[]);
            let size = size.get().div_ceil(1024).to_string();
            out.empty("page", &[("size", &size), ("unit", "KiB")]);
            out.close("hugepages");
        }
    }
    out.close("memoryBacking");
}

fn vcpu(out: &mut Writer, guest: &Guest, outcome: Option<&Outcome>) {
    let found = outcome.map(|outcome| &outcome.cpus).filter(|cpus| !cpus.is_empty());
    let asks = guest.required != Required::default();
    let (placement, cpus) = match &guest.placement {
        CpuPlacement::Fixed(cpus) => (None, Some(cpus)),
        CpuPlacement::All => (found.is_none().then_some("static"), found),
        CpuPlacement::Advised { .. } if found.is_some() => (None, found),
        CpuPlacement::Advised { instead_of } if asks => (None, instead_of.as_ref()),
        CpuPlacement::Advised { .. } => (Some("auto"), None),
    };
    let cpus = cpus.map(ToString::to_string);
    let current =
        (guest.cpus.current != guest.cpus.maximum).then(|| guest.cpus.current.to_string());
    let attributes =
        [("placement", placement), ("cpuset", cpus.as_deref()), ("current", current.as_deref())];
    let attributes: Vec<_> =
        attributes.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    out.leaf("vcpu", &attributes, &guest.cpus.maximum.to_string());
}

fn pins(out: &mut Writer, own: &Pins, found: Option<&Pins>) {
    let none = Pins::default();
    let found = found.unwrap_or(&none);
    if own.is_empty() && found.is_empty() {
        return;
    }
    // What was named by hand goes first.
    let merged = |own: &BTreeMap<u32, CpuSet>, found| {
        let mut all: BTreeMap<u32, CpuSet> = Clone::clone(found);
        all.extend(own.iter().map(|(thread, cpus)| (*thread, cpus.clone())));
        all
    };
    out.open("cputune", &[]);
    for (thread, cpus) in merged(&own.vcpus, &found.vcpus) {
        out.empty("vcpupin", &[("vcpu", &thread.to_string()), ("cpuset", &cpus.to_string())]);
    }
    if let Some(cpus) = own.emulator.as_ref().or(found.emulator.as_ref()) {
        out.empty("emulatorpin", &[("cpuset", &cpus.to_string())]);
    }
    for (thread, cpus) in merged(&own.iothreads, &found.iothreads) {
        let thread = thread.to_string();
        out.empty("iothreadpin", &[("iothread", &thread), ("cpuset", &cpus.to_string())]);
    }
    out.close("cputune");
}

fn numatune(out: &mut Writer, guest: &Guest, outcome: Option<&Outcome>) {
    let advised = matches!(guest.placement, CpuPlacement::Advised { .. });
    let asks = advised && guest.required != Required::default();
    // Without advice unbound memory is what no word about it means.
    let said = guest.mode != MemoryMode::None || advised;
    if !said && !asks {
        return;
    }
    out.open("numatune", &[]);
    let mode = guest.mode.to_string();
    let found = outcome.map(|outcome| &outcome.nodes).filter(|nodes| !nodes.is_empty());
    let nodes = match (&guest.nodes, found) {
        (NodeChoice::Fixed(nodes), _) | (NodeChoice::Advised, Some(nodes)) => {
            Some(nodes.to_string())
        }
        (NodeChoice::Advised, None) => None,
    };
    let place = match &nodes {
        _ if guest.mode == MemoryMode::None => None,
        Some(nodes) => Some(("nodeset", nodes.as_str())),
        None => Some(("placement", "auto")),
    };
    let attributes: Vec<_> = [("mode", mode.as_str())].into_iter().chain(place).collect();
    out.empty("memory", &attributes);
    if asks {
        let cpus = guest.required.cpus.map(|cpus| cpus.hundredths().div_ceil(100).to_string());
        let memory = guest.required.memory.map(|memory| memory.get().div_ceil(1024).to_string());
        let cpus = cpus.as_deref().map(|cpus| ("required_cpus", cpus));
        let memory = memory.as_deref().map(|memory| ("required_memory", memory));
        out.empty("cpu", &cpus.into_iter().chain(memory).collect::<Vec<_>>());
    }
    out.close("numatune");
}
