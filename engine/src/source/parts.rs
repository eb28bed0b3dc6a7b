//! Reads the parts of a host that no policy asks for, for people to look at.
//!
//! None of them is needed: what is missing, damaged or out of reach is left out. A file for each
//! package and each cache, not for each CPU: a thousand CPUs take some ms.

use std::collections::BTreeMap;

use super::file;
use super::paths::{CPUS, NODES};
use super::root::{Overlay, SysRoot};
use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::parse;
use crate::parts::{Attached, DeviceKind, HostParts, KernelSettings, Package, SharedCache};
use crate::sample::NodeHugePages;
use crate::snapshot::HugePages;
use crate::topology::Topology;
use crate::units::Bytes;

/// Of each kind; the largest hosts have some hundreds.
const MOST_DEVICES: usize = 4096;
const MOST_PACKAGES: usize = 4096;
const MOST_CACHES: usize = 1 << 16;
const MOST_PAGE_SIZES: usize = 16;
/// Kinds of devices that people name.
const CLASSES: [&str; 5] = ["net", "block", "nvme", "drm", "infiniband"];

impl HostParts {
    /// Reads the parts of a host; `topology` has its CPUs and nodes.
    ///
    /// Source: `cpu<N>/topology/{core_siblings_list,physical_package_id}`, `cpu<N>/cache`,
    /// `/sys/bus/pci/devices`, `/sys/class`, `node<N>/hugepages`, `cpu/present`,
    /// `/proc/sys/kernel/numa_balancing`, `/proc/sys/vm/zone_reclaim_mode`, `/proc/meminfo`.
    ///
    /// ```
    /// use placer_engine::{HostParts, SysRoot, Topology, source::HostReader};
    /// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/two-nodes");
    /// # if !std::path::Path::new(dir).exists() { return Ok(()); }
    /// let root = SysRoot::at(dir);
    /// let topology = Topology::from_files(HostReader::open(&root)?.files())?.value;
    /// let parts = HostParts::read(&root, &topology);
    /// assert_eq!(parts.packages.len(), 2);
    /// # Ok::<(), placer_engine::SourceError>(())
    /// ```
    pub fn read(root: &SysRoot, topology: &Topology) -> Self {
        let online = topology.cpus_of(&topology.node_set());
        let overlay = Overlay::read(root).unwrap_or_default();
        let name = text(root, "proc/sys/kernel/hostname");
        let name = name.map(|text| String::from_utf8_lossy(parse::trim_end(&text)).into_owned());
        Self {
            name: name.filter(|name| !name.is_empty()),
            packages: packages(root, &online),
            caches: caches(root, &online),
            devices: devices(root),
            huge_pages: huge_pages(root, &overlay, topology),
            offline: offline(root, &online),
            kernel: kernel(root, &overlay),
        }
    }
}

fn text(root: &SysRoot, relative: &str) -> Option<Vec<u8>> {
    file::read(&root.path(relative)).unwrap_or_default()
}

pub(super) fn number(text: &[u8]) -> Option<u64> {
    let body = parse::trim_end(text);
    parse::number(body).filter(|(_, digits)| *digits == body.len()).map(|(number, _)| number)
}

/// Reads a set of CPUs from a list, or from the mask that older kernels have alone.
fn cpus(root: &SysRoot, list: &str, mask: &str) -> Option<CpuSet> {
    match text(root, list) {
        Some(text) => parse::list::parse(&text).ok(),
        None => parse::mask::parse(&text(root, mask)?).ok(),
    }
}

fn packages(root: &SysRoot, online: &CpuSet) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut left = online.clone();
    while let Some(cpu) = left.first() {
        let dir = format!("{CPUS}/cpu{cpu}/topology");
        let told = || -> Option<Package> {
            // Some platforms tell -1.
            let id = number(&text(root, &format!("{dir}/physical_package_id"))?)?;
            let siblings = format!("{dir}/core_siblings");
            let cpus = cpus(root, &format!("{siblings}_list"), &siblings)?.intersection(online);
            cpus.contains(cpu).then_some(Package { id, cpus })
        };
        let Some(package) = told().filter(|_| packages.len() < MOST_PACKAGES) else {
            return Vec::new();
        };
        left = left.difference(&package.cpus);
        packages.push(package);
    }
    packages
}

fn caches(root: &SysRoot, online: &CpuSet) -> Vec<SharedCache> {
    let Some(first) = online.first() else { return Vec::new() };
    let mut caches = Vec::new();
    // Which number is which level is the same for all CPUs.
    for index in 0..10 {
        let dir = |cpu: CpuId| format!("{CPUS}/cpu{cpu}/cache/index{index}");
        let level = text(root, &format!("{}/level", dir(first))).and_then(|text| number(&text));
        let Some(level) = level.and_then(|level| u8::try_from(level).ok()) else { break };
        let kind = text(root, &format!("{}/type", dir(first))).unwrap_or_default();
        if level < 2 || parse::trim_end(&kind) == b"Instruction" {
            continue;
        }
        let mut left = online.clone();
        while let Some(cpu) = left.first() {
            let shared = format!("{}/shared_cpu", dir(cpu));
            let cpus = cpus(root, &format!("{shared}_list"), &format!("{shared}_map"));
            let cpus = cpus.map(|cpus| cpus.intersection(online));
            let Some(cpus) = cpus.filter(|cpus| cpus.contains(cpu)) else {
                // A recording may hold only some, and a damaged list of a million CPUs must not be
                // gone through.
                break;
            };
            left = left.difference(&cpus);
            let size = text(root, &format!("{}/size", dir(cpu))).and_then(|text| size(&text));
            caches.push(SharedCache { level, size, cpus });
            if caches.len() >= MOST_CACHES {
                return caches;
            }
        }
    }
    caches.sort_by_key(|cache| (cache.level, cache.cpus.first()));
    caches
}

/// Reads the size of a cache: `32K`, `36608K`.
pub(super) fn size(text: &[u8]) -> Option<Bytes> {
    let body = parse::trim_end(text);
    let (number, digits) = parse::number(body)?;
    let shift = match &body[digits..] {
        b"K" => 10,
        b"M" => 20,
        _ => return None,
    };
    number.checked_mul(1 << shift).map(Bytes::new)
}

/// Lists a directory; names that are not UTF-8 with marks in place of what is not.
fn names(root: &SysRoot, dir: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root.path(dir)) else { return Vec::new() };
    let entries = entries.flatten().take(MOST_DEVICES);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn devices(root: &SysRoot) -> Vec<Attached> {
    let dir = "sys/bus/pci/devices";
    let mut named = names_of_devices(root);
    let device = |address: String| {
        let class = text(root, &format!("{dir}/{address}/class"))?;
        let class = std::str::from_utf8(parse::trim_end(&class)).ok()?.strip_prefix("0x")?;
        let kind = DeviceKind::of_class(u32::from_str_radix(class, 16).ok()?)?;
        // -1 is not told.
        let node = text(root, &format!("{dir}/{address}/numa_node")).and_then(|t| number(&t));
        let node = node.and_then(|node| u32::try_from(node).ok()).map(NodeId);
        let names = named.remove(&address).unwrap_or_default();
        Some(Attached { address, kind, names, node })
    };
    names(root, dir).into_iter().filter_map(device).collect()
}

/// Returns the names that the system has for PCI devices, by their address: the last one on the way
/// to where the link of a name leads. The links are read, not followed.
fn names_of_devices(root: &SysRoot) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for class in CLASSES {
        for name in names(root, &format!("sys/class/{class}")) {
            let path = root.path(&format!("sys/class/{class}/{name}"));
            // `card0-DP-1` is a plug of card0, and `renderD128` another way to it.
            let other = match class {
                "drm" => name.contains('-') || name.starts_with("render"),
                "block" => path.join("partition").exists(),
                _ => false,
            };
            let Ok(to) = std::fs::read_link(&path) else { continue };
            let parts = to.iter().rev().filter_map(|part| part.to_str());
            if let Some(address) = parts.into_iter().find(|part| is_address(part))
                && !other
            {
                found.entry(address.to_owned()).or_default().push(name);
            }
        }
    }
    found
}

/// Returns whether this is a PCI address, as in `0000:45:00.0`.
fn is_address(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let hex = |part: &str, len| part.len() >= len && part.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(parts.as_slice(), [domain, bus, slot, function]
        if hex(domain, 4) && hex(bus, 2) && hex(slot, 2) && hex(function, 1))
}

fn huge_pages(root: &SysRoot, overlay: &Overlay, topology: &Topology) -> Vec<HugePages> {
    let sizes = names(root, "sys/kernel/mm/hugepages");
    let mut sizes: Vec<u64> = sizes.iter().filter_map(|name| kib(name)).collect();
    sizes.sort_unstable();
    sizes.truncate(MOST_PAGE_SIZES);
    let of_size = |kib: u64| {
        let pages = |node: NodeId| {
            let read = |file: &str| {
                let path = format!("{NODES}/node{node}/hugepages/hugepages-{kib}kB/{file}");
                let text = file::read(&overlay.path(root, &path)?).unwrap_or_default()?;
                number(&text)
            };
            let (total, free) = (read("nr_hugepages")?, read("free_hugepages")?);
            (total > 0).then_some(NodeHugePages { node, total, free })
        };
        let size = Bytes::from_kib(kib)?;
        let nodes: Vec<_> = topology.nodes().iter().filter_map(|node| pages(node.id)).collect();
        let reserved = format!("sys/kernel/mm/hugepages/hugepages-{kib}kB/resv_hugepages");
        let reserved = overlay.path(root, &reserved).and_then(|path| file::read(&path).ok()?);
        let reserved = reserved.and_then(|text| number(&text)).unwrap_or_default();
        (!nodes.is_empty()).then_some(HugePages { size, nodes, reserved })
    };
    sizes.into_iter().filter_map(of_size).collect()
}

fn kib(name: &str) -> Option<u64> {
    name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
}

fn offline(root: &SysRoot, online: &CpuSet) -> CpuSet {
    let present = text(root, &format!("{CPUS}/present"));
    let present = present.and_then(|text| parse::list::parse::<CpuId>(&text).ok());
    present.map(|present| present.difference(online)).unwrap_or_default()
}

fn kernel(root: &SysRoot, overlay: &Overlay) -> KernelSettings {
    let setting = |path: &str| text(root, path).and_then(|text| number(&text));
    let meminfo = overlay.path(root, "proc/meminfo");
    let meminfo = meminfo.and_then(|path| file::read(&path).unwrap_or_default());
    let meminfo = meminfo.unwrap_or_default();
    let amount = |key: &str| {
        let mut lines = meminfo.split(|&byte| byte == b'\n');
        let value = lines.find_map(|line| line.strip_prefix(key.as_bytes()))?;
        let blanks = value.iter().take_while(|&&byte| byte == b' ').count();
        Bytes::from_kib(parse::number(&value[blanks..])?.0)
    };
    KernelSettings {
        numa_balancing: setting("proc/sys/kernel/numa_balancing"),
        zone_reclaim_mode: setting("proc/sys/vm/zone_reclaim_mode"),
        memory_total: amount("MemTotal:"),
        swap_total: amount("SwapTotal:"),
        swap_free: amount("SwapFree:"),
    }
}
