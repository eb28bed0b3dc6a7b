//! Guests of libvirt's: virsh changes their CPUs and nodes, so that what libvirt knows of them is true.

use std::path::Path;

use nix::errno::Errno;
use placer_engine::claims::ProcessId;
use placer_engine::{CpuSet, NodeSet};

use super::error::MoveError;
use super::host::Host;
use super::journal::{Cage, LibvirtGuest};
use super::memory::check;
use super::steps::Direction;
use crate::definition::parse_list;
use crate::domain::{Domain, NumaMode};
use crate::libvirt::STATUS;

/// Where libvirt keeps the pids of the guests of `qemu:///system`.
pub const QEMU_RUN: &str = "/run/libvirt/qemu";

/// A thread that libvirt pins, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinned {
    Vcpu(u32),
    IoThread(u32),
    Emulator,
}

/// Returns how libvirt holds a guest of `qemu:///system` that runs under a name. `dir` is the control group of its
/// process; `moves` whether memory moves beside threads.
///
/// Errors: why it cannot be moved; virsh is missing, or libvirt does not answer.
pub fn libvirt_cage(
    host: &mut dyn Host,
    name: &str,
    guest: &ProcessId,
    dir: &Path,
    moves: bool,
) -> Result<Cage, String> {
    let about = host.virsh(&["dominfo", "--domain", name])?;
    let says = |key: &str| {
        let line = about.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.strip_prefix(':')).map(str::trim).unwrap_or_default()
    };
    // virsh takes a number for the id of a guest first.
    if says("Name") != name {
        return Err(format!("virsh found {:?} by this name", says("Name")));
    }
    let libvirt = LibvirtGuest { name: name.to_owned(), uuid: says("UUID").to_owned() };
    let uuid = libvirt.uuid.as_str();
    let is_persistent = says("Persistent") == "yes";
    let read = |text: String| Domain::parse(name, text.as_bytes()).map(|read| read.value);
    let live = read(host.virsh(&["dumpxml", "--domain", uuid])?);
    let live = live.map_err(|error| error.to_string())?;
    if let Some(why) = live.stays() {
        return Err(why);
    }
    let fixed = match is_persistent {
        true => {
            let kept = read(host.virsh(&["dumpxml", "--inactive", "--domain", uuid])?);
            kept.map_err(|error| error.to_string())?.is_fixed_by_hand(true)
        }
        false => live.is_fixed_by_hand(false),
    };
    if fixed {
        return Err("its definition binds it in part: its user chose".to_owned());
    }
    let pins = pins(host, guest, &libvirt).map_err(|error| error.to_string())?;
    let mut cpus = pins.into_iter().map(|(_, cpus)| cpus);
    let first = cpus.next().unwrap_or_default();
    if first.is_empty() || cpus.any(|cpus| cpus != first) {
        return Err("its threads have different CPUs: they were pinned".to_owned());
    }
    // Where the definition says nothing of memory libvirt has no nodes for it.
    let mems = match live.mode() {
        Some(_) => nodes(host, guest, &libvirt).map_err(|error| error.to_string())?.to_string(),
        None => String::new(),
    };
    if moves && live.mode() == Some(NumaMode::Strict) {
        // Since release 9.0 libvirt refuses that, also for the nodes that it has.
        let same = ["numatune", "--live", "--domain", uuid, "--nodeset", &mems];
        host.virsh(&same).map_err(|why| {
            format!("{why}; start it with <memory mode='restrictive' placement='auto'/>")
        })?;
    }
    let (dir, cpus) = (dir.to_string_lossy().into_owned(), first.to_string());
    Ok(Cage { dir, cpus, mems, libvirt: Some(libvirt) })
}

/// Says whether an error of [`libvirt_cage`] is that libvirt does not answer.
pub fn is_no_answer(why: &str) -> bool {
    why.contains(STATUS)
}

/// Asks virsh about a guest, as long as libvirt runs it by that process.
fn ask(
    host: &mut dyn Host,
    guest: &ProcessId,
    libvirt: &LibvirtGuest,
    arguments: &[&str],
) -> Result<String, MoveError> {
    check(host, guest)?;
    let file = Path::new(QEMU_RUN).join(format!("{}.pid", libvirt.name));
    let pid = match host.read(&file) {
        Ok(text) => text.trim().parse().ok(),
        Err(Errno::ENOENT) => None,
        Err(errno) => {
            return Err(MoveError::Refused(format!("read {}", file.display()), errno));
        }
    };
    if pid != Some(guest.pid) {
        let why =
            format!("libvirt does not run process {} as {} any more", guest.pid, libvirt.name);
        return Err(MoveError::Libvirt(why));
    }
    host.virsh(arguments).map_err(MoveError::Libvirt)
}

/// Returns the CPUs of each vCPU, each I/O thread and the other threads, as libvirt has them.
fn pins(
    host: &mut dyn Host,
    guest: &ProcessId,
    libvirt: &LibvirtGuest,
) -> Result<Vec<(Pinned, CpuSet)>, MoveError> {
    let mut all = Vec::new();
    for question in ["vcpupin", "iothreadinfo", "emulatorpin"] {
        let said = ask(host, guest, libvirt, &[question, "--domain", &libvirt.uuid])?;
        // ` 0   4-5`, in older releases `   0: 4-5`; `*: 4-5` or the list alone for the emulator.
        for line in said.lines() {
            let mut words = line.split_ascii_whitespace().rev();
            let Some(list) = words.next() else { continue };
            let number = words.next().map(|word| word.trim_end_matches(':').parse());
            let pinned = match (question, number) {
                ("vcpupin", Some(Ok(number))) => Pinned::Vcpu(number),
                ("iothreadinfo", Some(Ok(number))) => Pinned::IoThread(number),
                ("emulatorpin", _) => Pinned::Emulator,
                _ => continue,
            };
            if let Ok(cpus) = parse_list(list) {
                all.push((pinned, cpus));
            }
        }
    }
    Ok(all)
}

/// Returns the nodes of a guest's memory, as libvirt has them; none where it has none.
fn nodes(
    host: &mut dyn Host,
    guest: &ProcessId,
    libvirt: &LibvirtGuest,
) -> Result<NodeSet, MoveError> {
    let said = ask(host, guest, libvirt, &["numatune", "--domain", &libvirt.uuid])?;
    let list = said.lines().find_map(|line| line.trim_start().strip_prefix("numa_nodeset"));
    let list = list.and_then(|rest| rest.trim_start().strip_prefix(':')).map(str::trim);
    match list {
        Some("") => Ok(NodeSet::new()),
        list => list.and_then(|list| parse_list(list).ok()).ok_or_else(|| {
            MoveError::Libvirt(format!("virsh numatune does not say the nodes: {said:?}"))
        }),
    }
}

/// Lets libvirt pin all threads that it has as they were; those that were given other CPUs since keep them.
pub(super) fn pin(
    host: &mut dyn Host,
    guest: &ProcessId,
    libvirt: &LibvirtGuest,
    (from, to): (&CpuSet, &CpuSet),
) -> Result<(), MoveError> {
    let list = to.to_string();
    for (pinned, now) in pins(host, guest, libvirt)? {
        if now == *to || now != *from {
            continue;
        }
        let domain = ["--live", "--domain", &libvirt.uuid, "--cpulist", &list];
        let number;
        let how: &[&str] = match pinned {
            Pinned::Vcpu(vcpu) => {
                number = vcpu.to_string();
                &["vcpupin", "--vcpu", &number]
            }
            Pinned::IoThread(id) => {
                number = id.to_string();
                &["iothreadpin", "--iothread", &number]
            }
            Pinned::Emulator => &["emulatorpin"],
        };
        ask(host, guest, libvirt, &[how, &domain].concat())?;
    }
    Ok(())
}

/// Lets libvirt hold the memory of a guest to nodes: the kernel moves what is elsewhere.
pub(super) fn hold_to(
    host: &mut dyn Host,
    guest: &ProcessId,
    (libvirt, before): (&LibvirtGuest, &str),
    list: &str,
    direction: Direction,
) -> Result<(), MoveError> {
    let has = nodes(host, guest, libvirt)?.to_string();
    // One that was never let go from its nodes has all its memory there. That it is back is written in any case: an
    // earlier question to which no answer came may be done later.
    let is_last = direction == Direction::Back && list == before;
    if !is_last && (has == list || (direction == Direction::Back && has == before)) {
        return Ok(());
    }
    let numatune = ["numatune", "--live", "--domain", &libvirt.uuid, "--nodeset", list];
    ask(host, guest, libvirt, &numatune).map(drop)
}
