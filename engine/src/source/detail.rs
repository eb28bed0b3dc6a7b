//! What is read beside the lean files: cores, HMAT, GPU memory. A file for each core and node.

use super::caches;
use super::file;
use super::paths::{CPUS, NODES};
use super::root::SysRoot;
use super::zones;
use crate::error::SourceError;
use crate::files::{AccessFiles, CoreFiles, HostFiles, TextFile};
use crate::ids::NodeId;
use crate::idset::CpuSet;
use crate::parse;

/// More than any host has of either.
const MOST_INITIATORS: usize = 4096;
const MOST_GPUS: usize = 1024;

pub(super) fn read(root: &SysRoot, mut files: HostFiles) -> Result<HostFiles, SourceError> {
    let mut cores = cores(root, &files)?;
    let online = files.cpu_online.as_ref().map(|file| parse::list::parse(&file.text));
    if let Some(Ok(online)) = online {
        cores.caches = caches::shared(root, &online, &cores.siblings)?;
        cores.slow = caches::slow_cpus(root, &online)?;
    }
    files.cores = Some(cores);
    for node in &mut files.nodes {
        let dir = format!("{NODES}/node{}", node.id);
        // access1 counts CPUs alone; access0, the only one before Linux 5.17, also devices.
        node.access = match access(root, &format!("{dir}/access1"))? {
            None => access(root, &format!("{dir}/access0"))?,
            told => told,
        };
    }
    files.zones = zones::read(root, &files);
    files.gpu_nodes = gpu_nodes(root)?;
    Ok(files)
}

fn text(root: &SysRoot, relative: &str) -> Result<Option<TextFile>, SourceError> {
    let path = root.path(relative);
    Ok(file::read(&path)?.map(|text| TextFile { path, text }))
}

/// Reads the siblings of one CPU a core. Ends at the first CPU that reports none: a recording may
/// hold only some, and a damaged list of a million CPUs must not be gone through.
fn cores(root: &SysRoot, files: &HostFiles) -> Result<CoreFiles, SourceError> {
    let smt = file::read(&root.path(&format!("{CPUS}/smt/active")))?;
    if smt.is_some_and(|text| parse::trim_end(&text) == b"0") {
        return Ok(CoreFiles { complete: true, ..CoreFiles::default() });
    }
    let Ok(Some(online)) = files.online_cpus() else { return Ok(CoreFiles::default()) };
    let mut cores = CoreFiles { complete: true, ..CoreFiles::default() };
    let mut seen = CpuSet::new();
    for cpu in CpuSet::iter(&online) {
        if seen.contains(cpu) {
            continue;
        }
        let path = format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list");
        let Some(file) = text(root, &path)? else {
            cores.complete = false;
            break;
        };
        // Damage is named where the text is understood.
        if let Ok(siblings) = parse::list::parse(&file.text) {
            seen = seen.union(&siblings);
        }
        cores.siblings.push((cpu, file));
    }
    Ok(cores)
}

fn access(root: &SysRoot, dir: &str) -> Result<Option<AccessFiles>, SourceError> {
    let dir = format!("{dir}/initiators");
    let Some(read_latency) = text(root, &format!("{dir}/read_latency"))? else { return Ok(None) };
    let mut initiators = Vec::new();
    if let Ok(entries) = std::fs::read_dir(root.path(&dir)) {
        for entry in entries.flatten().take(MOST_INITIATORS) {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix("node")?.parse().ok());
            initiators.extend(id.map(NodeId));
        }
    }
    initiators.sort_unstable();
    Ok(Some(AccessFiles { initiators, read_latency }))
}

/// Looks for nodes that are the memory of a GPU. The driver reports the node of each in a line
/// `Node: 255`.
fn gpu_nodes(root: &SysRoot) -> Result<Vec<NodeId>, SourceError> {
    let dir = root.path("proc/driver/nvidia/gpus");
    let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(Vec::new()) };
    let mut nodes = Vec::new();
    for entry in entries.flatten().take(MOST_GPUS) {
        let Some(status) = file::read(&entry.path().join("numa_status"))? else { continue };
        let status = String::from_utf8_lossy(&status);
        let told = status.lines().find_map(|line| line.trim().strip_prefix("Node:"));
        nodes.extend(told.and_then(|id| id.trim().parse().ok()).map(NodeId));
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}
