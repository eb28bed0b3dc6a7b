//! The decision as settings of programs that start virtual machines: QEMU, cloud-hypervisor, Proxmox VE.

use std::ffi::OsStr;

use placer_engine::{Advice, Bytes, CpuId, CpuSet, Request, Snapshot};

use super::memory;
use super::shape::{Cell, Shape};
use crate::emit::Settings;
use crate::error::LaunchError;
use crate::guest::{Guest, GuestName, MemoryMode, Pages, Program, Qemu};
use crate::quote::quoted;

/// Returns the options for a machine of a request's size where the advice says, a line each; as
/// they stand they can be pasted into a command line.
///
/// Parts of a CPU become a whole one. How threads are pinned has no option: that takes a launcher.
///
/// Errors: memory that its huge pages cannot make.
pub fn emit(
    request: &Request,
    advice: &Advice,
    snapshot: &Snapshot,
    mode: MemoryMode,
) -> Result<Vec<String>, LaunchError> {
    let (guest, shape) = shaped(request, advice, snapshot, mode)?;
    let machine = memory::machine(&shape).map(|value| ("-machine", Some(value.to_owned())));
    let options = memory::options(guest.cpus, &shape, snapshot.topology().distances());
    let line = |(option, value): memory::Option_| match value {
        Some(value) => format!("{option} {}", quoted(OsStr::new(&value))),
        None => option.to_owned(),
    };
    Ok(machine.into_iter().chain(options).map(line).collect())
}

/// Makes a machine of a request's size, in the shape that the advice gives it.
fn shaped(
    request: &Request,
    advice: &Advice,
    snapshot: &Snapshot,
    mode: MemoryMode,
) -> Result<(Guest, Shape), LaunchError> {
    let name: Result<GuestName, _> = "emitted".parse();
    // Never shown, and a good one.
    let name = name.map_err(|_| LaunchError::new("name a guest", nix::errno::Errno::EINVAL))?;
    let mut guest = Guest::new(name, Program::Qemu(Qemu::default()));
    let cpus = u32::try_from(request.cpus.hundredths().div_ceil(100)).unwrap_or(u32::MAX).max(1);
    guest.cpus.current = cpus;
    guest.cpus.maximum = cpus;
    guest.memory.maximum = request.memory;
    guest.memory.current = request.memory;
    guest.pages = request.pages.map_or(Pages::Ordinary, Pages::Huge);
    guest.mode = mode;
    let shape = Shape::of(&guest, Some(advice), snapshot)?;
    Ok((guest, shape))
}

/// Returns the vCPUs of a cell as a list, and the host CPUs that run them.
fn threads(cell: &Cell, advice: &Advice, snapshot: &Snapshot) -> (CpuSet, CpuSet) {
    let mut vcpus = CpuSet::new();
    for &(first, last) in &cell.vcpus {
        vcpus.insert_range(CpuId(first), CpuId(last));
    }
    let here = snapshot.topology().cpus_of(&cell.cpu_nodes).intersection(&advice.cpus);
    (vcpus, if here.is_empty() { advice.cpus.clone() } else { here })
}

/// Returns options of cloud-hypervisor, a line each: vCPUs on the CPUs of their node, a memory zone for each node.
///
/// Its memory is bound strictly or not at all, which a note says of other modes.
/// Errors: memory that its huge pages cannot make.
pub fn cloud_hypervisor(
    request: &Request,
    advice: &Advice,
    snapshot: &Snapshot,
    mode: MemoryMode,
) -> Result<Settings, LaunchError> {
    let (guest, shape) = shaped(request, advice, snapshot, mode)?;
    let mut settings = Settings::default();
    let mut affinity = Vec::new();
    for cell in &shape.cells {
        let (vcpus, cpus) = threads(cell, advice, snapshot);
        if !cpus.is_empty() {
            affinity.extend(vcpus.iter().map(|vcpu| format!("{vcpu}@[{cpus}]")));
        }
    }
    let boot = guest.cpus.current;
    let affinity = match affinity.is_empty() {
        true => String::new(),
        false => format!(",affinity=[{}]", affinity.join(",")),
    };
    settings.text.push_str(&format!("--cpus boot={boot}{affinity}\n"));
    let pages = match shape.pages {
        None => String::new(),
        Some(None) => ",hugepages=on".to_owned(),
        Some(Some(size)) => format!(",hugepages=on,hugepage_size={}", memory::page_size(size)),
    };
    let mut zones = Vec::new();
    let bound = mode == MemoryMode::Strict;
    let alone = |cell: &Cell| (cell.memory_nodes.len() == 1).then(|| cell.memory_nodes.first());
    if bound && shape.cells.iter().all(|cell| cell.memory == Bytes::ZERO || alone(cell).is_some()) {
        for (id, cell) in shape.cells.iter().enumerate() {
            let Some(node) = alone(cell).flatten().filter(|_| cell.memory > Bytes::ZERO) else {
                continue;
            };
            let size = cell.memory.whole_mib();
            zones.push(format!(
                "--memory-zone id=ram{id},size={size}M,host_numa_node={node}{pages}\n"
            ));
        }
    }
    if zones.is_empty() {
        settings.text.push_str(&format!("--memory size={}M{pages}\n", shape.total().whole_mib()));
        if mode != MemoryMode::None {
            settings.notes.push(format!(
                "cloud-hypervisor binds memory node by node in mode strict only: mode {mode} needs numactl, or \
                 placer launch -- cloud-hypervisor"
            ));
        }
        return Ok(settings);
    }
    settings.text.push_str("--memory size=0\n");
    zones.iter().for_each(|zone| settings.text.push_str(zone));
    if !shape.is_numa() {
        return Ok(settings);
    }
    for (id, cell) in shape.cells.iter().enumerate() {
        let (vcpus, _) = threads(cell, advice, snapshot);
        let mut node = format!("--numa guest_numa_id={id}");
        if !vcpus.is_empty() {
            node.push_str(&format!(",cpus=[{vcpus}]"));
        }
        if cell.memory > Bytes::ZERO {
            node.push_str(&format!(",memory_zones=[ram{id}]"));
        }
        let to = memory::distances_from(&shape, id, snapshot.topology().distances());
        if !to.is_empty() {
            let to: Vec<String> = to.iter().map(|(id, value)| format!("{id}@{value}")).collect();
            node.push_str(&format!(",distances=[{}]", to.join(",")));
        }
        settings.text.push_str(&node);
        settings.text.push('\n');
    }
    Ok(settings)
}

/// Returns lines of a guest's configuration of Proxmox VE.
///
/// Errors: memory that its huge pages cannot make.
pub fn proxmox(
    request: &Request,
    advice: &Advice,
    snapshot: &Snapshot,
    mode: MemoryMode,
) -> Result<Settings, LaunchError> {
    let (guest, shape) = shaped(request, advice, snapshot, mode)?;
    let mut settings = Settings::default();
    let cpus = guest.cpus.current;
    let cells = u32::try_from(shape.cells.len()).unwrap_or(u32::MAX);
    // A socket for each node where they are alike.
    let alike = shape.cells.iter().all(|cell| {
        let (vcpus, _) = threads(cell, advice, snapshot);
        vcpus.len() == u64::from(cpus / cells)
    });
    let sockets = if alike && cpus.is_multiple_of(cells) { cells } else { 1 };
    let mut line = |text: String| settings.text.push_str(&(text + "\n"));
    line(format!("sockets: {sockets}"));
    line(format!("cores: {}", cpus / sockets));
    line(format!("memory: {}", shape.total().whole_mib()));
    line("numa: 1".to_owned());
    let list = |set: String| set.replace(',', ";");
    for (id, cell) in shape.cells.iter().enumerate() {
        let (vcpus, _) = threads(cell, advice, snapshot);
        let mut node = format!("numa{id}: cpus={}", list(vcpus.to_string()));
        if let Some(policy) = memory::policy(shape.mode) {
            node.push_str(&format!(",hostnodes={}", list(cell.memory_nodes.to_string())));
            line(format!("{node},memory={},policy={policy}", cell.memory.whole_mib()));
        } else {
            line(format!("{node},memory={}", cell.memory.whole_mib()));
        }
    }
    if let Some(size) = shape.pages {
        line(format!(
            "hugepages: {}",
            size.map_or("any".to_owned(), |size| size.whole_mib().to_string())
        ));
    }
    if !advice.cpus.is_empty() {
        line(format!("affinity: {}", advice.cpus));
    }
    if memory::policy(mode).is_none() && mode != MemoryMode::None {
        settings.notes.push(format!("Proxmox VE has no memory mode {mode}: choose another mode"));
    }
    let crumbs = shape.cells.iter().any(|cell| cell.vcpus.is_empty());
    if crumbs {
        settings.notes.push(
            "Proxmox VE has no NUMA nodes without vCPUs: name fewer nodes with --within".to_owned(),
        );
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use placer_engine::advise;

    use super::*;

    fn emitted(request: &str, mode: MemoryMode) -> Option<(Settings, Settings)> {
        let host = crate::recorded::host("ring-4")?;
        let request = request.parse().expect("a request");
        let advice = advise(&host, &request).expect("an answer");
        let cloud = cloud_hypervisor(&request, &advice, &host, mode).expect("settings");
        Some((cloud, proxmox(&request, &advice, &host, mode).expect("settings")))
    }

    #[test]
    fn a_guest_of_one_node_and_one_of_two_are_bound_node_by_node() {
        let Some((cloud, proxmox)) = emitted("2:100", MemoryMode::Strict) else { return };
        assert_eq!(
            cloud.text,
            "--cpus boot=2,affinity=[0@[0-1],1@[0-1]]\n--memory size=0\n\
             --memory-zone id=ram0,size=100M,host_numa_node=0\n"
        );
        assert_eq!(
            proxmox.text,
            "sockets: 1\ncores: 2\nmemory: 100\nnuma: 1\n\
             numa0: cpus=0-1,hostnodes=0,memory=100,policy=bind\naffinity: 0-1\n"
        );
        let (cloud, proxmox) = emitted("4:300", MemoryMode::Strict).expect("a host");
        assert_eq!(
            cloud.text,
            "--cpus boot=4,affinity=[0@[0-1],1@[0-1],2@[2-3],3@[2-3]]\n--memory size=0\n\
             --memory-zone id=ram0,size=150M,host_numa_node=0\n\
             --memory-zone id=ram1,size=150M,host_numa_node=1\n\
             --numa guest_numa_id=0,cpus=[0-1],memory_zones=[ram0],distances=[1@20]\n\
             --numa guest_numa_id=1,cpus=[2-3],memory_zones=[ram1],distances=[0@20]\n"
        );
        assert_eq!(
            proxmox.text,
            "sockets: 2\ncores: 2\nmemory: 300\nnuma: 1\n\
             numa0: cpus=0-1,hostnodes=0,memory=150,policy=bind\n\
             numa1: cpus=2-3,hostnodes=1,memory=150,policy=bind\naffinity: 0-3\n"
        );
        assert!(cloud.notes.is_empty() && proxmox.notes.is_empty());
    }

    #[test]
    fn modes_that_they_lack_are_noted() {
        let Some((cloud, proxmox)) = emitted("2:100", MemoryMode::PreferredMany) else { return };
        assert!(
            cloud.text.ends_with("--memory size=100M\n") && cloud.notes.len() == 1,
            "{cloud:?}"
        );
        assert!(proxmox.text.contains("numa0: cpus=0-1,memory=100\n"), "{proxmox:?}");
        assert_eq!(
            proxmox.notes,
            ["Proxmox VE has no memory mode preferred-many: choose another mode"]
        );
        let (cloud, proxmox) = emitted("4:300", MemoryMode::Interleave).expect("a host");
        assert!(
            cloud.text.ends_with("--memory size=300M\n") && cloud.notes.len() == 1,
            "{cloud:?}"
        );
        let bound = "numa0: cpus=0-3,hostnodes=0-1,memory=300,policy=interleave\n";
        assert!(proxmox.text.contains(bound) && proxmox.notes.is_empty(), "{proxmox:?}");
    }
}
