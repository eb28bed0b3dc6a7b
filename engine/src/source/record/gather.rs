//! Which files of a host are recorded.

use super::RecordError;
use super::reduce;
use super::tree::{Entry, Tree};
use super::view::View;
use crate::parse::list::MAX_ID;
use crate::source::cgroup::{self, Groups};
use crate::source::{device, zones};

pub(super) const NODES: &str = "sys/devices/system/node";
const CPUS: &str = "sys/devices/system/cpu";

const NODE_MASKS: [&str; 5] =
    ["possible", "has_cpu", "has_memory", "has_normal_memory", "has_generic_initiator"];
const PERFORMANCE: [&str; 4] =
    ["read_bandwidth", "read_latency", "write_bandwidth", "write_latency"];
const SIDE_CACHE: [&str; 5] = ["address_mode", "indexing", "line_size", "size", "write_policy"];
const HUGE_PAGES: [&str; 3] = ["free_hugepages", "nr_hugepages", "surplus_hugepages"];
const ALL_HUGE_PAGES: [&str; 5] = [
    "free_hugepages",
    "nr_hugepages",
    "nr_overcommit_hugepages",
    "resv_hugepages",
    "surplus_hugepages",
];
/// The masks are what hwloc reads, the lists what people read. `ppin`, a serial number, is not here.
const TOPOLOGY: [&str; 16] = [
    "cluster_cpus",
    "cluster_cpus_list",
    "cluster_id",
    "core_cpus",
    "core_cpus_list",
    "core_id",
    "core_siblings",
    "core_siblings_list",
    "die_cpus",
    "die_cpus_list",
    "die_id",
    "package_cpus",
    "package_cpus_list",
    "physical_package_id",
    "thread_siblings",
    "thread_siblings_list",
];
const CACHE: [&str; 7] =
    ["coherency_line_size", "id", "level", "shared_cpu_list", "shared_cpu_map", "size", "type"];
/// The kinds of cores of an Intel hybrid CPU, each with a directory of its own.
const CORE_KINDS: [&str; 3] = ["cpu_core", "cpu_atom", "cpu_lowpower"];
const PCI: [&str; 6] = ["class", "device", "local_cpulist", "local_cpus", "numa_node", "vendor"];
/// Of each kind. The largest hosts have some hundreds.
const MAX_DEVICES: usize = 4096;

/// Whether the recording would answer otherwise without a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The host is not recorded when the file is there and cannot be read.
    Core,
    /// The file is left out with a note then.
    Detail,
}

/// Reads what changes all the time: the CPU counters, then the memory of each node.
pub(super) fn counters(view: &View<'_>, tree: &mut Tree) -> Result<(), RecordError> {
    copy_reduced(view, tree, "proc/stat", Need::Core, reduce::whole, reduce::stat)?;
    for node in nodes(view)? {
        copy(view, tree, &format!("{NODES}/{node}/meminfo"), Need::Core)?;
    }
    copy(view, tree, "proc/meminfo", Need::Detail)
}

/// Reads everything else.
pub(super) fn structure(view: &View<'_>, tree: &mut Tree) -> Result<(), RecordError> {
    copy(view, tree, &format!("{NODES}/online"), Need::Core)?;
    details(view, tree, NODES, &NODE_MASKS)?;
    for node in nodes(view)? {
        one_node(view, tree, &format!("{NODES}/{node}"))?;
    }
    for name in ["isolated", "online", "possible"] {
        copy(view, tree, &format!("{CPUS}/{name}"), Need::Core)?;
    }
    details(view, tree, CPUS, &["kernel_max", "offline", "present", "smt/active", "smt/control"])?;
    for cpu in view.names(CPUS)?.iter().filter(|name| is_numbered(name, "cpu")) {
        one_cpu(view, tree, &format!("{CPUS}/{cpu}"))?;
    }
    for kind in CORE_KINDS {
        details(view, tree, &format!("sys/devices/{kind}"), &["cpus"])?;
    }
    huge_pages(view, tree, "sys/kernel/mm/hugepages", &ALL_HUGE_PAGES)?;
    let tiers = "sys/devices/virtual/memory_tiering";
    for tier in view.names(tiers)?.iter().filter(|name| is_numbered(name, "memory_tier")) {
        copy(view, tree, &format!("{tiers}/{tier}/nodelist"), Need::Detail)?;
    }
    pci_devices(view, tree)?;
    for class in device::CLASSES {
        class_devices(view, tree, class)?;
    }
    gpus(view, tree)?;
    // Memory used as a disk; `show --devices` lists it.
    let dax = "sys/bus/dax/devices";
    for name in view.names(dax)?.iter().take(MAX_DEVICES) {
        let link = format!("{dax}/{name}");
        if let Some(to) = view.link(&link).filter(|to| to.starts_with("sys/devices/")) {
            add(view, tree, &to, Entry::Dir)?;
            details(view, tree, &to, &["numa_node", "size", "target_node"])?;
            add(view, tree, &link, Entry::Link(to))?;
        }
    }
    let proc = [
        ("proc/self/status", Need::Core, reduce::status as fn(&[u8]) -> Vec<u8>),
        ("proc/self/cgroup", Need::Detail, reduce::cgroup),
        ("proc/version", Need::Detail, reduce::version),
        ("proc/sys/kernel/numa_balancing", Need::Detail, <[u8]>::to_vec),
        ("proc/sys/vm/zone_reclaim_mode", Need::Detail, <[u8]>::to_vec),
    ];
    for (path, need, reduced) in proc {
        copy_reduced(view, tree, path, need, reduce::whole, reduced)?;
    }
    groups(view, tree)?;
    // hwloc asks the kernel what kind of CPU it runs on, and of a recording this file.
    let kind = "proc/hwloc-nofile-info";
    if view.root.is_live() {
        let text = format!("Architecture: {}\n", std::env::consts::ARCH);
        add(view, tree, kind, Entry::Text(text.into_bytes()))?;
    } else {
        copy_reduced(view, tree, kind, Need::Detail, reduce::whole, reduce::architecture)?;
    }
    let enough = zones::is_enough;
    copy_reduced(view, tree, zones::ZONEINFO, Need::Detail, enough, reduce::zoneinfo)?;
    let first = reduce::has_first_cpu;
    copy_reduced(view, tree, "proc/cpuinfo", Need::Detail, first, reduce::cpuinfo)
}

/// Reads what limits the control groups of this process. Names are taken out, as in
/// `proc/self/cgroup`: each group is called `x`, in the usual place of its hierarchy.
fn groups(view: &View<'_>, tree: &mut Tree) -> Result<(), RecordError> {
    let root = view.root;
    let groups = Groups::read(root)
        .map_err(|source| RecordError::Source { root: root.dir().to_owned(), source })?;
    let v1 = groups
        .v1
        .iter()
        .zip(cgroup::V1)
        .map(|(all, (_, places, files))| (all, format!("sys/fs/cgroup/{}", places[0]), files));
    let v2 = (&groups.v2, "sys/fs/cgroup".to_owned(), cgroup::V2_FILES);
    for (hierarchy, at, files) in std::iter::once(v2).chain(v1) {
        for group in hierarchy {
            let dir = format!("{at}{}", "/x".repeat(group.depth));
            for name in files {
                let Some(text) = view.read(&format!("{}/{name}", group.dir), reduce::whole)? else {
                    continue;
                };
                let text = if *name == "memory.stat" { reduce::memory_stat(&text) } else { text };
                add(view, tree, &format!("{dir}/{name}"), Entry::Text(text))?;
            }
        }
    }
    Ok(())
}

fn nodes(view: &View<'_>) -> Result<Vec<String>, RecordError> {
    let mut names = view.names(NODES)?;
    names.retain(|name| is_numbered(name, "node"));
    Ok(names)
}

fn one_node(view: &View<'_>, tree: &mut Tree, dir: &str) -> Result<(), RecordError> {
    if view.is_dir(dir) {
        add(view, tree, dir, Entry::Dir)?;
    }
    for name in ["cpulist", "cpumap", "distance"] {
        copy(view, tree, &format!("{dir}/{name}"), Need::Core)?;
    }
    details(view, tree, dir, &["numastat", "vmstat"])?;
    huge_pages(view, tree, &format!("{dir}/hugepages"), &HUGE_PAGES)?;
    for access in ["access0", "access1"] {
        details(view, tree, &format!("{dir}/{access}/initiators"), &PERFORMANCE)?;
        for side in ["initiators", "targets"] {
            let side = format!("{dir}/{access}/{side}");
            for other in view.names(&side)?.iter().filter(|name| is_numbered(name, "node")) {
                let link = format!("{side}/{other}");
                if let Some(to) = view.link(&link) {
                    add(view, tree, &link, Entry::Link(to))?;
                }
            }
        }
    }
    let caches = format!("{dir}/memory_side_cache");
    for index in view.names(&caches)?.iter().filter(|name| is_numbered(name, "index")) {
        details(view, tree, &format!("{caches}/{index}"), &SIDE_CACHE)?;
    }
    Ok(())
}

fn one_cpu(view: &View<'_>, tree: &mut Tree, dir: &str) -> Result<(), RecordError> {
    details(view, tree, dir, &["cpu_capacity", "online"])?;
    for name in TOPOLOGY {
        // numad's rules count the threads of CPU 0's core.
        let core = name == "thread_siblings" && dir.ends_with("/cpu0");
        let need = if core { Need::Core } else { Need::Detail };
        copy(view, tree, &format!("{dir}/topology/{name}"), need)?;
    }
    let caches = format!("{dir}/cache");
    for index in view.names(&caches)?.iter().filter(|name| is_numbered(name, "index")) {
        details(view, tree, &format!("{caches}/{index}"), &CACHE)?;
    }
    Ok(())
}

fn huge_pages(
    view: &View<'_>,
    tree: &mut Tree,
    dir: &str,
    files: &[&str],
) -> Result<(), RecordError> {
    let is_size = |name: &&String| {
        let kib = name.strip_prefix("hugepages-").and_then(|rest| rest.strip_suffix("kB"));
        kib.is_some_and(|kib| !kib.is_empty() && kib.bytes().all(|b| b.is_ascii_digit()))
    };
    for size in view.names(dir)?.iter().filter(is_size) {
        details(view, tree, &format!("{dir}/{size}"), files)?;
    }
    Ok(())
}

/// Reads the PCI devices: a link for each, and the files of the directory it leads to.
fn pci_devices(view: &View<'_>, tree: &mut Tree) -> Result<(), RecordError> {
    let dir = "sys/bus/pci/devices";
    let names = view.names(dir)?;
    note_left_out(tree, dir, names.len());
    for name in names.iter().take(MAX_DEVICES) {
        let link = format!("{dir}/{name}");
        match view.link(&link).filter(|to| to.starts_with("sys/devices/")) {
            Some(to) => {
                details(view, tree, &to, &PCI)?;
                // A serial number: only its mark is recorded.
                marked(view, tree, &format!("{to}/unique_id"))?;
                add(view, tree, &link, Entry::Link(to))?;
            }
            // Some recordings have the files in place of the link.
            None if !view.is_link(&link) => {
                details(view, tree, &link, &PCI)?;
                marked(view, tree, &format!("{link}/unique_id"))?;
            }
            None => tree.note(format!("{link} is left out: it leads to no device")),
        }
    }
    Ok(())
}

/// Reads the devices of a class: the link to the device's directory, and in that what leads to the
/// hardware: `device`, the devices below a virtual one, and `numa_node` on the way up.
fn class_devices(view: &View<'_>, tree: &mut Tree, class: &str) -> Result<(), RecordError> {
    let dir = format!("sys/class/{class}");
    let mut names = view.names(&dir)?;
    names.retain(|name| match class {
        // `card0-DP-1` is a plug of card0.
        "drm" => !name.contains('-'),
        _ => !is_hardware_address(name),
    });
    note_left_out(tree, &dir, names.len());
    for name in names.iter().take(MAX_DEVICES) {
        let link = format!("{dir}/{name}");
        let in_devices = |to: &String| to.starts_with("sys/devices/");
        let Some(real) = view.link(&link).filter(in_devices) else { continue };
        add(view, tree, &real, Entry::Dir)?;
        let is_below = |name: &str| name == "device" || name.starts_with("lower_");
        let below = view.names(&real)?;
        links(view, tree, &real, below.into_iter().filter(|name| is_below(name)))?;
        for list in ["slaves", "multipath"] {
            let dir = format!("{real}/{list}");
            links(view, tree, &dir, view.names(&dir)?.into_iter())?;
        }
        copy(view, tree, &format!("{real}/partition"), Need::Detail)?;
        // Volumes are named after hosts and users.
        marked(view, tree, &format!("{real}/dm/name"))?;
        let mut dir = real.as_str();
        while dir != "sys/devices" {
            copy(view, tree, &format!("{dir}/numa_node"), Need::Detail)?;
            let Some((parent, name)) = dir.rsplit_once('/') else { break };
            dir = parent;
            // The controllers of a subsystem lie beside its namespaces.
            if name.starts_with("nvme-subsys") {
                let subsystem = format!("{parent}/{name}");
                let controller = |name: &String| is_numbered(name, "nvme");
                let names = view.names(&subsystem)?;
                links(view, tree, &subsystem, names.into_iter().filter(controller))?;
            }
        }
        add(view, tree, &link, Entry::Link(real))?;
    }
    Ok(())
}

/// Reads links of a directory that lead to devices.
fn links(
    view: &View<'_>,
    tree: &mut Tree,
    dir: &str,
    names: impl Iterator<Item = String>,
) -> Result<(), RecordError> {
    for name in names.take(MAX_DEVICES) {
        let link = format!("{dir}/{name}");
        if let Some(to) = view.link(&link).filter(|to| to.starts_with("sys/devices/")) {
            add(view, tree, &link, Entry::Link(to))?;
        }
    }
    Ok(())
}

/// Reads what NVIDIA's driver says of its GPUs: which node is the memory of one, and its UUID.
fn gpus(view: &View<'_>, tree: &mut Tree) -> Result<(), RecordError> {
    let dir = "proc/driver/nvidia/gpus";
    for gpu in view.names(dir)?.iter().take(MAX_DEVICES) {
        let dir = format!("{dir}/{gpu}");
        if view.is_dir(&dir) {
            add(view, tree, &dir, Entry::Dir)?;
        }
        let (status, about) = (format!("{dir}/numa_status"), format!("{dir}/information"));
        copy_reduced(view, tree, &status, Need::Detail, reduce::whole, reduce::gpu_status)?;
        copy_reduced(view, tree, &about, Need::Detail, reduce::whole, reduce::gpu_information)?;
    }
    Ok(())
}

/// Reads a file that holds a name, of which the mark is recorded.
fn marked(view: &View<'_>, tree: &mut Tree, path: &str) -> Result<(), RecordError> {
    copy_reduced(view, tree, path, Need::Detail, reduce::whole, reduce::marked)
}

fn note_left_out(tree: &mut Tree, dir: &str, count: usize) {
    if count > MAX_DEVICES {
        tree.note(format!("{dir}: {count} devices, of which {MAX_DEVICES} are recorded"));
    }
}

/// `enx` and twelve hex digits: an interface that is named after its hardware address.
fn is_hardware_address(name: &str) -> bool {
    name.strip_prefix("enx")
        .is_some_and(|mac| mac.len() == 12 && mac.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn details(view: &View<'_>, tree: &mut Tree, dir: &str, names: &[&str]) -> Result<(), RecordError> {
    names.iter().try_for_each(|name| copy(view, tree, &format!("{dir}/{name}"), Need::Detail))
}

fn copy(view: &View<'_>, tree: &mut Tree, path: &str, need: Need) -> Result<(), RecordError> {
    copy_reduced(view, tree, path, need, reduce::whole, <[u8]>::to_vec)
}

fn copy_reduced(
    view: &View<'_>,
    tree: &mut Tree,
    path: &str,
    need: Need,
    enough: fn(&[u8]) -> bool,
    reduced: fn(&[u8]) -> Vec<u8>,
) -> Result<(), RecordError> {
    match view.read(path, enough) {
        Ok(Some(text)) => add(view, tree, path, Entry::Text(reduced(&text))),
        Ok(None) => Ok(()),
        Err(error) if need == Need::Detail => {
            let cause = match &error {
                RecordError::Source { source, .. } => with_causes(source),
                other => with_causes(other),
            };
            tree.note(format!("{path} is left out: {cause}"));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn add(view: &View<'_>, tree: &mut Tree, path: &str, entry: Entry) -> Result<(), RecordError> {
    if tree.add(path, entry) { Ok(()) } else { Err(super::too_much(view.root)) }
}

/// Returns whether a name is a word and a number as the kernel writes it, without leading zeros.
pub(super) fn is_numbered(name: &str, word: &str) -> bool {
    let Some(digits) = name.strip_prefix(word) else { return false };
    let plain = digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'));
    plain && digits.parse::<u32>().is_ok_and(|id| id <= MAX_ID)
}
