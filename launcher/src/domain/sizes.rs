//! How large a guest is: memory, NUMA cells, I/O threads, and the host devices it gets.

use std::collections::BTreeSet;

use placer_engine::{Bytes, CpuId, CpuSet, NodeId, NodeSet};

use super::amount;
use super::cursor::Source;
use super::tree::Element;
use crate::cells::Cell;
use crate::definition::{DefinitionError, parse_list, quoted};
use crate::guest::{MOST_CPUS, Pages};

/// The most NUMA cells of a guest. QEMU has 128.
const MOST_CELLS: usize = 128;
/// The most devices whose nodes are looked up.
const MOST_DEVICES: usize = 64;

/// The size of a guest.
#[derive(Debug)]
pub(super) struct Sizes {
    /// All its memory; for a container what it has now.
    pub(super) memory: Bytes,
    /// The pages of most of it.
    pub(super) pages: Pages,
    /// Its NUMA cells, by id. Empty: it has no NUMA topology of its own.
    pub(super) cells: Vec<Cell>,
    /// How many vCPUs share a last-level cache, where its `<topology>` has several dies or sockets.
    pub(super) die: Option<u32>,
    /// The ids of its I/O threads.
    pub(super) iothreads: BTreeSet<u32>,
}

impl Sizes {
    pub(super) fn parse(
        source: &Source<'_>,
        domain: &Element,
        vcpus: u32,
    ) -> Result<Self, DefinitionError> {
        let mut cells = cells(source, domain, vcpus)?;
        let pages = pages(source, domain, &mut cells)?;
        let said = memory(source, domain)?;
        let memory = match cells.is_empty() {
            true => said,
            // libvirt takes the sizes of the cells, and puts their sum into <memory>.
            false => {
                let sum = cells.iter().map(|cell| cell.memory);
                sum.chain(memory_devices(source, domain)?.into_iter().map(|(_, size)| size))
                    .fold(Bytes::ZERO, Bytes::saturating_add)
            }
        };
        let die = die(source, domain).filter(|&die| die > 1 && die < vcpus);
        Ok(Self { memory, pages, cells, die, iothreads: iothreads(source, domain)? })
    }
}

fn amount_of(source: &Source<'_>, element: &Element) -> Result<Bytes, DefinitionError> {
    amount::parse(&element.text, element.attribute("unit"))
        .map_err(|why| source.error(element, why))
}

fn memory(source: &Source<'_>, domain: &Element) -> Result<Bytes, DefinitionError> {
    let maximum = source.only(domain, "memory")?;
    let current = source.only(domain, "currentMemory")?;
    let size = |element: Option<&Element>| element.map(|it| amount_of(source, it)).transpose();
    let (all, now) = (size(maximum)?, size(current)?);
    if let (Some(element), Some(Bytes::ZERO)) = (maximum, all) {
        return Err(source.error(element, "expected memory, found 0"));
    }
    // A container has no more than it has now, so that is what libvirt asks for as well.
    let container = domain.attribute("type") == Some("lxc");
    Ok(match (all, now) {
        (Some(all), Some(now)) if container => now.min(all),
        (Some(all), _) => all,
        (None, now) => now.unwrap_or(Bytes::ZERO),
    })
}

fn cells(source: &Source<'_>, domain: &Element, vcpus: u32) -> Result<Vec<Cell>, DefinitionError> {
    let Some(numa) = domain.at(&["cpu", "numa"]) else { return Ok(Vec::new()) };
    let mut cells: Vec<Cell> = Vec::new();
    for element in numa.children.iter().filter(|child| child.name == "cell") {
        if cells.len() == MOST_CELLS {
            return Err(source.error(element, format!("more than {MOST_CELLS} cells")));
        }
        let next = u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let id = source.number(element, "id", MOST_CPUS)?.unwrap_or(next);
        if cells.iter().any(|cell| cell.id == id) {
            return Err(source.error(element, format!("a second one with id {id}")));
        }
        let members: CpuSet = source.list(element, "cpus")?.unwrap_or_default();
        if let Some(CpuId(last)) = members.last().filter(|last| last.0 >= vcpus) {
            let what = format!("attribute cpus: the guest has {vcpus} vCPUs, found vCPU {last}");
            return Err(source.error(element, what));
        }
        let memory = amount::parse(source.wanted(element, "memory")?, element.attribute("unit"));
        let memory =
            memory.map_err(|why| source.error(element, format!("attribute memory: {why}")))?;
        cells.push(Cell { id, vcpus: members, memory, pages: Pages::Ordinary });
    }
    Ok(cells)
}

/// Reads the pages of each cell, and returns those of most memory.
fn pages(
    source: &Source<'_>,
    domain: &Element,
    cells: &mut [Cell],
) -> Result<Pages, DefinitionError> {
    let Some(huge) = domain.at(&["memoryBacking", "hugepages"]) else { return Ok(Pages::Ordinary) };
    let mut all = Pages::HugeDefault;
    let mut chosen: Vec<(NodeSet, Pages)> = Vec::new();
    for page in huge.children.iter().filter(|child| child.name == "page") {
        let size = amount::parse(source.wanted(page, "size")?, page.attribute("unit"));
        let size = match size {
            Ok(size) if size.get().is_power_of_two() => Pages::Huge(size),
            Ok(_) => return Err(source.error(page, "attribute size: expected a power of two")),
            Err(why) => return Err(source.error(page, format!("attribute size: {why}"))),
        };
        // These are nodes of the guest. One without NUMA has node 0.
        match source.list(page, "nodeset")? {
            None => all = size,
            Some(nodes) => chosen.push((nodes, size)),
        }
    }
    let of = |id: u32| {
        chosen.iter().find(|(ids, _)| ids.contains(NodeId(id))).map_or(all, |&(_, size)| size)
    };
    for cell in cells.iter_mut() {
        cell.pages = of(cell.id);
    }
    let sum = |pages: Pages| {
        let its = cells.iter().filter(|cell| cell.pages == pages).map(|cell| cell.memory);
        its.fold(Bytes::ZERO, Bytes::saturating_add)
    };
    let most = cells.iter().map(|cell| cell.pages).max_by_key(|&pages| sum(pages));
    Ok(most.unwrap_or_else(|| of(0)))
}

/// Reads the ids of I/O threads: those that are listed, and the lowest free ones for the rest.
fn iothreads(source: &Source<'_>, domain: &Element) -> Result<BTreeSet<u32>, DefinitionError> {
    let count = source.only(domain, "iothreads")?;
    let count = count.map_or(Ok(0), |element| source.number_in(element, 0xffff))?;
    let mut ids = BTreeSet::new();
    if let Some(listed) = source.only(domain, "iothreadids")? {
        for thread in listed.children.iter().filter(|child| child.name == "iothread") {
            source.wanted(thread, "id")?;
            let id = source.number(thread, "id", 0xffff)?.unwrap_or_default();
            if id == 0 {
                return Err(source.error(thread, "attribute id: expected at least 1, found 0"));
            }
            if !ids.insert(id) {
                return Err(source.error(thread, format!("a second one with id {id}")));
            }
        }
    }
    let listed = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let mut next = 1;
    for _ in listed..count {
        while ids.contains(&next) {
            next += 1;
        }
        ids.insert(next);
    }
    Ok(ids)
}

/// Reads how many vCPUs a die has. Numbers that are none are libvirt's to refuse.
fn die(source: &Source<'_>, domain: &Element) -> Option<u32> {
    let topology = domain.at(&["cpu", "topology"])?;
    let below = ["clusters", "cores", "threads"]
        .iter()
        .map(|name| source.number(topology, name, MOST_CPUS).ok().flatten().unwrap_or(1));
    Some(below.fold(1, u32::saturating_mul))
}

fn devices(domain: &Element) -> &[Element] {
    domain.child("devices").map_or(&[], |devices| &devices.children)
}

/// Reads DIMMs and the like: each with its size.
fn memory_devices<'e>(
    source: &Source<'_>,
    domain: &'e Element,
) -> Result<Vec<(&'e Element, Bytes)>, DefinitionError> {
    let mut found = Vec::new();
    for device in devices(domain).iter().filter(|device| device.name == "memory") {
        if let Some(size) = device.at(&["target", "size"]) {
            found.push((device, amount_of(source, size)?));
        }
    }
    Ok(found)
}

/// Reads the host nodes that memory devices name.
pub(super) fn memory_device_nodes(
    source: &Source<'_>,
    domain: &Element,
) -> Result<NodeSet, DefinitionError> {
    let mut nodes = NodeSet::new();
    for (device, _) in memory_devices(source, domain)? {
        if let Some(mask) = device.at(&["source", "nodemask"]) {
            let list = parse_list(&mask.text).map_err(|why| source.error(mask, why))?;
            nodes = nodes.union(&list);
        }
    }
    Ok(nodes)
}

/// Reads the devices of the host that the guest gets: PCI devices that are assigned to it, and network
/// interfaces that it is attached to directly.
pub(super) fn host_devices(
    source: &Source<'_>,
    domain: &Element,
) -> Result<Vec<String>, DefinitionError> {
    let mut found = Vec::new();
    for device in devices(domain) {
        let kind = device.attribute("type");
        let from = device.child("source");
        let name = match (device.name.as_str(), kind, from) {
            ("hostdev", Some("pci"), Some(from))
            | ("interface", Some("hostdev"), Some(from))
            | ("disk", Some("nvme"), Some(from)) => match from.child("address") {
                Some(address) => Some(pci(source, address)?),
                None => None,
            },
            ("interface", Some("direct"), Some(from)) => from.attribute("dev").map(str::to_owned),
            _ => None,
        };
        found.extend(name.filter(|name| !found.contains(name) && found.len() < MOST_DEVICES));
    }
    Ok(found)
}

/// Reads a PCI address, as the kernel writes it.
fn pci(source: &Source<'_>, address: &Element) -> Result<String, DefinitionError> {
    let part = |name: &str, most: u32| {
        let text = address.attribute(name).unwrap_or("0");
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let number = match digits {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => text.parse(),
        };
        number.ok().filter(|&number| number <= most).ok_or_else(|| {
            let what = format!("attribute {name}: expected a number up to {most:#x}");
            source.error(address, format!("{what}, found {}", quoted(text)))
        })
    };
    let (domain, bus) = (part("domain", 0xffff_ffff)?, part("bus", 0xff)?);
    let (slot, function) = (part("slot", 0x1f)?, part("function", 7)?);
    Ok(format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"))
}
