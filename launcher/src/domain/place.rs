//! Where a domain wants to be: `<vcpu>`, `<numatune>`, `<cputune>`. What is not understood in them is
//! an error: a placement that is only partly heeded is a wrong one.

use std::collections::BTreeMap;

use placer_engine::{Bytes, CpuShare, NodeSet};

use super::cursor::Source;
use super::tree::Element;
use crate::definition::{DefinitionError, quoted};
use crate::guest::{CpuCount, CpuPlacement, MOST_CPUS, MemoryMode, NodeChoice, Pins, Required};

/// What the three elements say together.
pub(super) struct Place {
    pub(super) cpus: CpuCount,
    pub(super) required: Required,
    pub(super) placement: CpuPlacement,
    pub(super) mode: MemoryMode,
    pub(super) mode_given: bool,
    pub(super) nodes: NodeChoice,
    pub(super) pins: Pins,
}

/// Reads them. `iothreads` is how many I/O threads there are to pin.
pub(super) fn parse(
    source: &Source<'_>,
    domain: &Element,
    iothreads: u32,
) -> Result<Place, DefinitionError> {
    let vcpu = source.only(domain, "vcpu")?;
    let cpus = vcpu.map_or(Ok(CpuCount { maximum: 1, current: 1 }), |vcpu| count(source, vcpu))?;
    let cpuset = vcpu.map_or(Ok(None), |vcpu| source.list(vcpu, "cpuset"))?;
    let auto = vcpu.map_or(Ok(None), |vcpu| auto(source, vcpu))? == Some(true);
    let pins = match source.only(domain, "cputune")? {
        Some(cputune) => pins(source, cputune, cpus.maximum, iothreads)?,
        None => Pins::default(),
    };
    let (mut memory, mut asked, mut mode_given) = (None, None, false);
    if let Some(numatune) = source.only(domain, "numatune")? {
        if let Some(memnode) = source.only(numatune, "memnode")? {
            let what = "not understood inside <numatune>: placer makes the guest's own nodes itself; \
                        remove it";
            return Err(source.error(memnode, what));
        }
        source.strictly(numatune, &[], &["memory", "cpu"], false)?;
        asked = source.only(numatune, "cpu")?.map(|cpu| required(source, cpu)).transpose()?;
        let follows = auto.then_some(NodeChoice::Advised);
        let element = source.only(numatune, "memory")?;
        mode_given = element.is_some_and(|memory| memory.attribute("mode").is_some());
        memory = element.map(|element| binding(source, element, follows)).transpose()?;
    }
    let advised = auto || asked.is_some();
    let (mode, nodes) = match memory {
        Some(memory) => memory,
        None if advised => (MemoryMode::Strict, NodeChoice::Advised),
        None => (MemoryMode::None, NodeChoice::Advised),
    };
    let memory_advised = mode != MemoryMode::None && nodes == NodeChoice::Advised;
    let placement = match cpuset {
        Some(_) if auto => {
            if let Some(vcpu) = vcpu {
                source.note(vcpu, "placement='auto' puts the cpuset beside it out of use");
            }
            CpuPlacement::default()
        }
        own if advised => CpuPlacement::Advised { instead_of: own },
        Some(cpus) => CpuPlacement::Fixed(cpus),
        // As libvirt has it: memory by advice takes the CPUs along, unless they were named.
        None if memory_advised && pins.is_empty() => CpuPlacement::default(),
        None => CpuPlacement::All,
    };
    let required = asked.unwrap_or_default();
    Ok(Place { cpus, required, placement, mode, mode_given, nodes, pins })
}

fn count(source: &Source<'_>, vcpu: &Element) -> Result<CpuCount, DefinitionError> {
    source.strictly(vcpu, &["placement", "cpuset", "current"], &[], true)?;
    let maximum = source.number_in(vcpu, MOST_CPUS)?;
    let current = source.number(vcpu, "current", MOST_CPUS)?.unwrap_or(maximum);
    if maximum == 0 {
        return Err(source.error(vcpu, "expected at least 1 CPU, found 0"));
    }
    if current == 0 || current > maximum {
        let what = format!("attribute current: expected 1 to {maximum}, found {current}");
        return Err(source.error(vcpu, what));
    }
    Ok(CpuCount { maximum, current })
}

/// Reads the attribute placement: whether it says auto.
fn auto(source: &Source<'_>, element: &Element) -> Result<Option<bool>, DefinitionError> {
    match element.attribute("placement") {
        None => Ok(None),
        Some("auto") => Ok(Some(true)),
        Some("static") => Ok(Some(false)),
        Some(other) => {
            let found = quoted(other);
            let what = format!("attribute placement: expected auto or static, found {found}");
            Err(source.error(element, what))
        }
    }
}

/// Reads `<memory>` inside `<numatune>`. `follows` is where memory is when nothing names nodes.
fn binding(
    source: &Source<'_>,
    memory: &Element,
    follows: Option<NodeChoice>,
) -> Result<(MemoryMode, NodeChoice), DefinitionError> {
    source.strictly(memory, &["mode", "nodeset", "placement"], &[], false)?;
    let mode = match memory.attribute("mode") {
        None => MemoryMode::Strict,
        Some("restrictive") => {
            let what = "attribute mode: expected strict, preferred or interleave, found \
                        \"restrictive\"; to bind all memory write strict";
            return Err(source.error(memory, what));
        }
        Some(word) => word
            .parse()
            .map_err(|error| source.error(memory, format!("attribute mode: {error}")))?,
    };
    let nodeset: Option<NodeSet> = source.list(memory, "nodeset")?;
    let auto = auto(source, memory)?;
    let unused = nodeset.is_some() && (auto == Some(true) || mode == MemoryMode::None);
    if unused {
        let why = if auto == Some(true) { "placement='auto'" } else { "mode='none'" };
        source.note(memory, &format!("{why} puts the nodeset beside it out of use"));
    }
    let nodes = match (auto, nodeset) {
        _ if mode == MemoryMode::None => NodeChoice::Advised,
        (Some(true), _) => NodeChoice::Advised,
        (_, Some(nodes)) => NodeChoice::Fixed(nodes),
        (auto, None) => follows.filter(|_| auto.is_none()).ok_or_else(|| {
            let what = "nodeset for NUMA memory tuning must be set; \
                        write nodeset='NODES', or placement='auto' to have them advised";
            source.error(memory, what)
        })?,
    };
    Ok((mode, nodes))
}

/// Reads `<cpu required_cpus= required_memory=>` of the proposal of 2012, memory in KiB.
///
/// Its schema called the first one `required_cpu` and its parser `required_cpus`. The parser's name is
/// the one that ever worked.
fn required(source: &Source<'_>, cpu: &Element) -> Result<Required, DefinitionError> {
    if cpu.attribute("required_cpu").is_some() {
        return Err(source.error(cpu, "the attribute required_cpu is called required_cpus"));
    }
    source.strictly(cpu, &["required_cpus", "required_memory"], &[], false)?;
    let cpus = source.number(cpu, "required_cpus", MOST_CPUS)?;
    let kib = cpu.attribute("required_memory");
    let memory = kib.map(|kib| super::size::parse(kib, None)).transpose();
    let memory =
        memory.map_err(|why| source.error(cpu, format!("attribute required_memory: {why}")))?;
    match (cpus, memory) {
        (None, None) => {
            Err(source.error(cpu, "expected required_cpus or required_memory (KiB), found neither"))
        }
        (Some(0), _) => {
            Err(source.error(cpu, "attribute required_cpus: expected at least 1, found 0"))
        }
        (_, Some(Bytes::ZERO)) => {
            let what = "attribute required_memory: expected at least 1 KiB, found 0; leave it out";
            Err(source.error(cpu, what))
        }
        (cpus, memory) => {
            let share = |cpus| CpuShare::from_hundredths(u64::from(cpus) * 100);
            Ok(Required { cpus: cpus.map(share), memory })
        }
    }
}

fn pins(
    source: &Source<'_>,
    cputune: &Element,
    vcpus: u32,
    iothreads: u32,
) -> Result<Pins, DefinitionError> {
    source.strictly(cputune, &[], &["vcpupin", "emulatorpin", "iothreadpin"], false)?;
    let mut pins = Pins::default();
    for pin in &cputune.children {
        let cpus = {
            source.wanted(pin, "cpuset")?;
            source.list(pin, "cpuset")?.unwrap_or_default()
        };
        let threads: &mut BTreeMap<_, _> = match pin.name.as_str() {
            "vcpupin" => &mut pins.vcpus,
            "iothreadpin" => &mut pins.iothreads,
            _ => {
                source.strictly(pin, &["cpuset"], &[], false)?;
                if pins.emulator.replace(cpus).is_some() {
                    return Err(source.error(pin, "a second one: expected one"));
                }
                continue;
            }
        };
        let (attribute, first, last) = match pin.name.as_str() {
            "vcpupin" => ("vcpu", 0, vcpus - 1),
            _ => ("iothread", 1, iothreads),
        };
        source.strictly(pin, &[attribute, "cpuset"], &[], false)?;
        source.wanted(pin, attribute)?;
        let thread = source.number(pin, attribute, u32::MAX)?.unwrap_or_default();
        if thread < first || thread > last {
            let what = match last.checked_sub(first) {
                Some(_) => {
                    format!("attribute {attribute}: expected {first} to {last}, found {thread}")
                }
                None => format!(
                    "attribute {attribute}: the domain has none, found {thread}; add <iothreads>"
                ),
            };
            return Err(source.error(pin, what));
        }
        if threads.insert(thread, cpus).is_some() {
            return Err(source.error(pin, format!("a second one for {attribute} {thread}")));
        }
    }
    Ok(pins)
}
