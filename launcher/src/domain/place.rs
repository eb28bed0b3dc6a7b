//! What a domain fixes about its place: `<vcpu>`, `<numatune>`, `<cputune>`. What is not understood in
//! them is an error: a placement that is only partly heeded is a wrong one.

use std::collections::BTreeMap;

use placer_engine::{Bytes, CpuShare, NodeSet};

use super::NumaMode;
use super::amount;
use super::cursor::Source;
use super::sizes::Sizes;
use super::tree::Element;
use crate::definition::{DefinitionError, quoted};
use crate::guest::{CpuCount, MOST_CPUS, NodeChoice, Pins, Required};

/// What the three elements fix together.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) cpus: CpuCount,
    pub(super) required: Required,
    /// The CPUs that the guest is held to; `None` leaves them to advice.
    pub(super) cpuset: Option<placer_engine::CpuSet>,
    pub(super) memory: Option<(NumaMode, NodeChoice)>,
    /// By cell: the nodes of its memory.
    pub(super) memnodes: BTreeMap<u32, NodeSet>,
    pub(super) pins: Pins,
}

/// What else libvirt knows inside `<cputune>`. None of it says where a thread runs.
const TUNING: &[&str] = &[
    "shares",
    "period",
    "quota",
    "global_period",
    "global_quota",
    "emulator_period",
    "emulator_quota",
    "iothread_period",
    "iothread_quota",
    "vcpusched",
    "iothreadsched",
    "emulatorsched",
    "cachetune",
    "memorytune",
];

impl Place {
    pub(super) fn parse(
        source: &Source<'_>,
        domain: &Element,
        cpus: CpuCount,
        sizes: &Sizes,
    ) -> Result<Self, DefinitionError> {
        let vcpu = source.only(domain, "vcpu")?;
        let cpuset = vcpu.map_or(Ok(None), |vcpu| source.list(vcpu, "cpuset"))?;
        let auto = vcpu.map_or(Ok(None), |vcpu| auto(source, vcpu))? == Some(true);
        if let (true, Some(_), Some(vcpu)) = (auto, &cpuset, vcpu) {
            source.note(vcpu, "placement='auto' puts the cpuset beside it out of use");
        }
        let pins = match source.only(domain, "cputune")? {
            Some(cputune) => pins(source, cputune, cpus.maximum, sizes)?,
            None => Pins::default(),
        };
        let (mut memory, mut required, mut memnodes) = (None, None, BTreeMap::new());
        if let Some(numatune) = source.only(domain, "numatune")? {
            source.strictly(numatune, &[], &["memory", "memnode", "cpu"], false)?;
            required = source.only(numatune, "cpu")?.map(|cpu| asked(source, cpu)).transpose()?;
            let element = source.only(numatune, "memory")?;
            memory = element.map(|element| binding(source, element, auto)).transpose()?;
            memnodes = memnode(source, numatune, sizes)?;
        }
        let cpuset = cpuset.filter(|_| !auto && required.is_none());
        let required = required.unwrap_or_default();
        Ok(Self { cpus, required, cpuset, memory, memnodes, pins })
    }
}

/// Reads how many vCPUs there are: one where nothing is said.
pub(super) fn count(source: &Source<'_>, domain: &Element) -> Result<CpuCount, DefinitionError> {
    let Some(vcpu) = source.only(domain, "vcpu")? else {
        return Ok(CpuCount { maximum: 1, current: 1 });
    };
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

fn mode(source: &Source<'_>, element: &Element) -> Result<NumaMode, DefinitionError> {
    let word = element.attribute("mode").map(str::parse).transpose();
    let mode = word.map_err(|why| source.error(element, format!("attribute mode: {why}")))?;
    Ok(mode.unwrap_or_default())
}

/// Reads `<memory>` inside `<numatune>`. `advised`: the CPUs are left to advice, and memory goes with them.
fn binding(
    source: &Source<'_>,
    memory: &Element,
    advised: bool,
) -> Result<(NumaMode, NodeChoice), DefinitionError> {
    source.strictly(memory, &["mode", "nodeset", "placement"], &[], false)?;
    let mode = mode(source, memory)?;
    let nodeset: Option<NodeSet> = source.list(memory, "nodeset")?;
    let auto = auto(source, memory)?;
    if nodeset.is_some() && auto == Some(true) {
        source.note(memory, "placement='auto' puts the nodeset beside it out of use");
    }
    let nodes = match (auto, nodeset) {
        (Some(true), _) => NodeChoice::Advised,
        (_, Some(nodes)) => NodeChoice::Fixed(nodes),
        (None, None) if advised => NodeChoice::Advised,
        (_, None) => {
            let what = "nodeset for NUMA memory tuning must be set; \
                        write nodeset='NODES', or placement='auto' to have them advised";
            return Err(source.error(memory, what));
        }
    };
    Ok((mode, nodes))
}

fn memnode(
    source: &Source<'_>,
    numatune: &Element,
    sizes: &Sizes,
) -> Result<BTreeMap<u32, NodeSet>, DefinitionError> {
    let mut found = BTreeMap::new();
    for memnode in numatune.children.iter().filter(|child| child.name == "memnode") {
        source.strictly(memnode, &["cellid", "mode", "nodeset"], &[], false)?;
        mode(source, memnode)?;
        source.wanted(memnode, "cellid")?;
        source.wanted(memnode, "nodeset")?;
        let cell = source.number(memnode, "cellid", MOST_CPUS)?.unwrap_or_default();
        if !sizes.cells.iter().any(|known| known.id == cell) {
            let what = format!("attribute cellid: the guest has no NUMA cell {cell}");
            return Err(source.error(memnode, what));
        }
        let nodes = source.list(memnode, "nodeset")?.unwrap_or_default();
        if found.insert(cell, nodes).is_some() {
            return Err(source.error(memnode, format!("a second one for cell {cell}")));
        }
    }
    Ok(found)
}

/// Reads `<cpu required_cpus= required_memory=>` of the proposal of 2012, memory in KiB.
///
/// Its schema called the first one `required_cpu` and its parser `required_cpus`. The parser's name is
/// the one that ever worked.
fn asked(source: &Source<'_>, cpu: &Element) -> Result<Required, DefinitionError> {
    if cpu.attribute("required_cpu").is_some() {
        return Err(source.error(cpu, "the attribute required_cpu is called required_cpus"));
    }
    source.strictly(cpu, &["required_cpus", "required_memory"], &[], false)?;
    let cpus = source.number(cpu, "required_cpus", MOST_CPUS)?;
    let kib = cpu.attribute("required_memory");
    let memory = kib.map(|kib| amount::parse(kib, None)).transpose();
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
    sizes: &Sizes,
) -> Result<Pins, DefinitionError> {
    let pinning = ["vcpupin", "emulatorpin", "iothreadpin"];
    let known: Vec<&str> = pinning.iter().chain(TUNING).copied().collect();
    source.strictly(cputune, &[], &known, false)?;
    let mut pins = Pins::default();
    for pin in cputune.children.iter().filter(|child| pinning.contains(&child.name.as_str())) {
        source.wanted(pin, "cpuset")?;
        let cpus = source.list(pin, "cpuset")?.unwrap_or_default();
        let attribute = match pin.name.as_str() {
            "vcpupin" => "vcpu",
            "iothreadpin" => "iothread",
            _ => {
                source.strictly(pin, &["cpuset"], &[], false)?;
                if pins.emulator.replace(cpus).is_some() {
                    return Err(source.error(pin, "a second one: expected one"));
                }
                continue;
            }
        };
        source.strictly(pin, &[attribute, "cpuset"], &[], false)?;
        source.wanted(pin, attribute)?;
        let thread = source.number(pin, attribute, u32::MAX)?.unwrap_or_default();
        let threads = match attribute {
            "vcpu" if thread >= vcpus => {
                // libvirt takes such a pin too, and does not use it.
                source.note(pin, &format!("not used: the guest has no vCPU {thread}"));
                continue;
            }
            "vcpu" => &mut pins.vcpus,
            _ if !sizes.iothreads.contains(&thread) => {
                let what = format!("attribute iothread: the guest has no I/O thread {thread}");
                return Err(source.error(pin, what));
            }
            _ => &mut pins.iothreads,
        };
        if threads.insert(thread, cpus).is_some() {
            return Err(source.error(pin, format!("a second one for {attribute} {thread}")));
        }
    }
    Ok(pins)
}
