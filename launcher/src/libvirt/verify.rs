//! Looks at a guest that libvirt has created: whether it is where it was placed.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use placer_engine::{CpuSet, NodeSet};

use super::Driver;
use crate::definition::parse_list;
use crate::domain::{NumaMode, Placement};
use crate::error::LaunchError;
use crate::vhost;

/// Checks that each thread of a guest runs on the CPUs it was placed on and no others, and that its memory
/// is bound to its nodes. `proc` is the host's `/proc`. vhost threads of kernels before 6.4 are looked at
/// with the guest's own.
///
/// Errors: which thread is elsewhere, or whose memory is not bound.
pub fn verify(
    proc: &Path,
    pid: u32,
    placement: &Placement,
    driver: Driver,
) -> Result<Vec<String>, LaunchError> {
    let dir = proc.join(pid.to_string());
    let tasks = ids(&dir.join("task")).map_err(|errno| cannot_look(pid, errno))?;
    let mut seen = 0;
    for task in &tasks {
        seen += usize::from(check_thread(&dir.join(format!("task/{task}")), placement)?);
    }
    if seen == 0 {
        return Err(cannot_look(pid, Errno::ESRCH));
    }
    if driver == Driver::Qemu {
        for thread in vhost::threads(proc, pid) {
            check_thread(&proc.join(thread.to_string()), placement)?;
        }
    }
    let Some(mode) = placement.mode else { return Ok(Vec::new()) };
    check_memory(&dir, pid, placement, mode)
}

fn cannot_look(pid: u32, errno: Errno) -> LaunchError {
    LaunchError::new(format!("look at the threads of process {pid}"), errno)
}

/// Checks one thread. `false`: it has ended.
fn check_thread(dir: &Path, placement: &Placement) -> Result<bool, LaunchError> {
    let Ok(comm) = fs::read_to_string(dir.join("comm")) else { return Ok(false) };
    let Some(allowed) = status_list(dir, "Cpus_allowed_list:") else { return Ok(false) };
    let Ok(allowed) = parse_list(&allowed) else { return Ok(true) };
    let comm = comm.trim_end();
    let wanted = cpus_of(comm, placement);
    if !allowed.is_subset(&wanted) {
        let seen = format!("it may run on CPUs {allowed}; libvirt has not placed it");
        let what = format!("run thread {comm:?} on CPUs {wanted}");
        return Err(LaunchError::seen(what, Errno::EINVAL, seen));
    }
    Ok(true)
}

/// Returns the CPUs of a thread, by the name that QEMU gives it.
fn cpus_of(comm: &str, placement: &Placement) -> CpuSet {
    let others = placement.emulator.as_ref().unwrap_or(&placement.cpus);
    let number = |text: &str| text.parse::<u32>().ok();
    if let Some((vcpu, how)) = comm.strip_prefix("CPU ").and_then(|rest| rest.split_once('/')) {
        let own = number(vcpu).and_then(|vcpu| placement.vcpus.get(&vcpu));
        let own = own.unwrap_or(&placement.cpus);
        // By software emulation one thread may run all vCPUs, and libvirt pins none of them.
        return if how == "TCG" { own.union(others).union(&placement.cpus) } else { own.clone() };
    }
    let iothread = comm.strip_prefix("IO iothread").and_then(number);
    let own = iothread.and_then(|id| placement.iothreads.get(&id));
    own.unwrap_or(others).clone()
}

/// Checks how the memory of a process is bound: by its cpuset, or by a policy on its mappings.
fn check_memory(
    dir: &Path,
    pid: u32,
    placement: &Placement,
    mode: NumaMode,
) -> Result<Vec<String>, LaunchError> {
    let nodes =
        placement.cells.values().fold(placement.nodes.clone(), |all, nodes| all.union(nodes));
    let mems = status_list(dir, "Mems_allowed_list:").and_then(|list| parse_list(&list).ok());
    let held = mems.is_some_and(|mems: NodeSet| mems.is_subset(&nodes));
    if mode == NumaMode::Restrictive && !held {
        let seen = "its cpuset allows others: libvirt needs the controller cpuset for this mode";
        let what = format!("hold the memory of process {pid} to nodes {nodes}");
        return Err(LaunchError::seen(what, Errno::EINVAL, seen));
    }
    let maps = match fs::read_to_string(dir.join("numa_maps")) {
        Ok(maps) => maps,
        Err(_) if held => return Ok(Vec::new()),
        Err(error) => {
            return Ok(vec![format!(
                "where the memory of process {pid} goes was not seen: {error}"
            )]);
        }
    };
    let word = match mode {
        NumaMode::Strict => "bind",
        NumaMode::Preferred => "prefer",
        NumaMode::Interleave => "interleave",
        NumaMode::Restrictive => return Ok(Vec::new()),
    };
    let mut bound = held && mode == NumaMode::Strict;
    for policy in maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(1)) {
        // bind:0-1, bind=static:0, prefer (many):0, interleave:0-1
        let Some((how, list)) = policy.split_once(':') else { continue };
        let Ok(list) = parse_list::<placer_engine::NodeId>(list) else { continue };
        if !list.is_subset(&nodes) {
            let what = format!("hold the memory of process {pid} to nodes {nodes}");
            let seen = format!("a mapping has the policy {policy}");
            return Err(LaunchError::seen(what, Errno::EINVAL, seen));
        }
        bound |= how.starts_with(word);
    }
    if !bound {
        let what = format!("bind the memory of process {pid} to nodes {nodes} ({mode})");
        let seen = "no mapping has this policy; libvirt has not placed it";
        return Err(LaunchError::seen(what, Errno::EINVAL, seen));
    }
    Ok(Vec::new())
}

/// Returns a list in a status file.
fn status_list(dir: &Path, key: &str) -> Option<String> {
    let status = fs::read_to_string(dir.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().to_owned())
}

/// Returns the names in a directory that are numbers.
fn ids(dir: &Path) -> Result<Vec<u32>, Errno> {
    let entries = fs::read_dir(dir)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(Result::ok).filter_map(number).collect())
}
