//! The command line of QEMU for a guest file. The definition alone decides it, so that the guest is the same machine
//! on every host and at every start: what binds it is added as to a user's own line.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;

use nix::errno::Errno;
use placer_engine::Bytes;
use serde_json::Value;

use super::memory::{object, smp};
use super::shape::MIB;
use crate::error::LaunchError;
use crate::guest::line::{Line, option_names};
use crate::guest::{
    Accelerator, Disk, DiskBus, DiskDevice, Firmware, Guest, Network, Pages, Qemu, Sandbox, Serial,
};
use crate::sys::is_inherited;

/// Returns the line of a guest, as placer reads it.
///
/// Errors: a size that does not divide into the parts that the definition names; arguments that change the size, or
/// under which QEMU could not be followed.
pub(super) fn line(guest: &Guest, qemu: &Qemu) -> Result<Line, LaunchError> {
    let refuse = |seen: String| {
        LaunchError::seen(format!("start guest {} with QEMU", guest.name), Errno::EINVAL, seen)
    };
    let parts = Parts::of(guest, qemu).map_err(refuse)?;
    let words = words(guest, qemu, &parts);
    let size = ["m", "smp", "numa", "mem-path"];
    if let Some(option) =
        option_names(&qemu.args).into_iter().find(|name| size.contains(&name.as_str()))
    {
        let what = format!(
            "-{option} in its args: cpus, memory, pages and cells of the definition say that"
        );
        return Err(refuse(what));
    }
    let Some(line) = Line::read(&words)? else {
        return Err(refuse("its args only print something".to_owned()));
    };
    let memory = parts.memory.iter().fold(Bytes::ZERO, |sum, &part| sum.saturating_add(part));
    if (line.cpus, line.memory, line.cells.len()) != (guest.cpus, memory, parts.cells()) {
        let what = "its args change how many vCPUs, how much memory or which NUMA nodes it has: cpus, memory and \
                    cells of the definition say that";
        return Err(refuse(what.to_owned()));
    }
    Ok(line)
}

/// The parts of a guest.
#[derive(Debug)]
struct Parts {
    /// Of each NUMA node: its memory. One: the guest has no NUMA nodes.
    memory: Vec<Bytes>,
    /// vCPUs of a NUMA node.
    vcpus: u32,
    /// vCPUs of a die, where there are several.
    die: Option<u32>,
}

impl Parts {
    /// Divides a guest into equal parts. Memory is divided into GiB where it is whole ones, else into pieces of 2 MiB: a
    /// part that began in between would cost the guest behind it the host's huge pages.
    fn of(guest: &Guest, qemu: &Qemu) -> Result<Self, String> {
        const GIB: u64 = 1 << 30;
        let (cells, dies) = (qemu.cells.max(1), qemu.dies.max(1));
        let vcpus = guest.cpus.maximum;
        let all = guest.memory.maximum.mib_rounded_up().saturating_mul(MIB);
        let page = match guest.pages {
            Pages::Huge(size) => size.get().max(MIB),
            Pages::Ordinary | Pages::HugeDefault => MIB,
        };
        let unit = match cells {
            1 => page,
            _ if all.is_multiple_of(GIB) && all / GIB >= cells.into() => page.max(GIB),
            _ => page.max(2 * MIB),
        };
        if !all.is_multiple_of(unit) || (cells > 1 && all / unit < cells.into()) {
            let (have, unit_mib) = (all / MIB, unit / MIB);
            let up = all.div_ceil(unit).max(cells.into()).saturating_mul(unit) / MIB;
            let nodes = if cells > 1 { format!(" in {cells} NUMA nodes") } else { String::new() };
            return Err(format!(
                "memory: {have} MiB are no multiple of {unit_mib} MiB{nodes}; write {up}"
            ));
        }
        if !vcpus.is_multiple_of(cells) {
            return Err(format!("cells = {cells}: {vcpus} vCPUs are no multiple of it"));
        }
        if dies > 1 && (!vcpus.is_multiple_of(dies) || !dies.is_multiple_of(cells)) {
            return Err(format!(
                "dies = {dies}: expected a multiple of {cells} (cells) that divides {vcpus} vCPUs"
            ));
        }
        let units = all / unit;
        let part = |cell: u32| {
            let more = u64::from(u64::from(cell) < units % u64::from(cells));
            Bytes::new((units / u64::from(cells) + more).saturating_mul(unit))
        };
        let memory = (0..cells).map(part).collect();
        Ok(Self { memory, vcpus: vcpus / cells, die: (dies > 1).then(|| vcpus / dies) })
    }

    /// Returns how many NUMA nodes the guest has of its own.
    fn cells(&self) -> usize {
        if self.memory.len() > 1 { self.memory.len() } else { 0 }
    }
}

/// Refuses firmware in another format than raw, which is the only one that it is opened in: the guest's
/// variables would be written over the image's own tables.
pub(super) fn check_firmware(guest: &Guest, qemu: &Qemu) -> Result<(), LaunchError> {
    let files = match &qemu.firmware {
        Some(Firmware::Rom(file)) => vec![file],
        Some(Firmware::Flash { code, variables }) => {
            std::iter::once(code).chain(variables).collect()
        }
        None => Vec::new(),
    };
    for file in files {
        let mut magic = [0; 4];
        // A file that is not there is QEMU's to complain about.
        let read = File::open(file).and_then(|mut file| file.read_exact(&mut magic));
        if read.is_ok() && magic == *b"QFI\xfb" {
            let seen = "it is a qcow2 image; convert it: qemu-img convert -O raw";
            let what = format!("start guest {} with firmware {file}", guest.name);
            return Err(LaunchError::seen(what, Errno::EINVAL, seen));
        }
    }
    Ok(())
}

/// Checks that the descriptors its args name were passed to placer: none is closed, none is placer's own.
pub(super) fn check_descriptors(guest: &Guest, qemu: &Qemu) -> Result<(), LaunchError> {
    let named = named_descriptors(&qemu.args);
    let Some(fd) = named.into_iter().find(|&fd| !is_inherited(fd)) else { return Ok(()) };
    let what = format!("start guest {} with descriptor {fd} of its args", guest.name);
    let error = LaunchError::seen(what, Errno::EBADF, "it was not passed to placer");
    Err(error.hint("open it for placer, as a shell does with 7<>FILE"))
}

/// Returns the program and its arguments.
///
/// The machine has the devices that its definition names and none besides: no display, no monitor, nothing that a
/// configuration of this host adds. The definition's own arguments come last.
fn words(guest: &Guest, qemu: &Qemu, parts: &Parts) -> Vec<OsString> {
    let mut argv = vec![emulator(qemu)];
    let mut add = |option: &str, value: Option<String>| {
        argv.push(option.to_owned());
        argv.extend(value);
    };
    add("-name", Some(format!("guest={},debug-threads=on", doubled(guest.name.as_str()))));
    for option in ["-no-user-config", "-nodefaults"] {
        add(option, None);
    }
    add("-display", Some("none".to_owned()));
    if qemu.sandbox == Sandbox::On {
        let denied = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        add("-sandbox", Some(denied.to_owned()));
    }
    let memory = guest.memory.maximum > Bytes::ZERO;
    let backend = (memory && parts.cells() == 0).then_some("memory-backend=ram0");
    let machine: Vec<&str> = qemu.machine.as_deref().into_iter().chain(backend).collect();
    if !machine.is_empty() {
        add("-machine", Some(machine.join(",")));
    }
    for accelerator in accelerators(qemu) {
        add("-accel", Some((*accelerator).to_owned()));
    }
    let sockets = u32::try_from(parts.memory.len()).unwrap_or(1);
    add("-smp", Some(smp(guest.cpus, sockets, parts.die)));
    if memory {
        let all = parts.memory.iter().map(|part| part.whole_mib()).sum::<u64>();
        add("-m", Some(format!("{all}M")));
    }
    let pages = match guest.pages {
        Pages::Ordinary => None,
        Pages::HugeDefault => Some(None),
        Pages::Huge(size) => Some(Some(size)),
    };
    for (id, &part) in parts.memory.iter().enumerate().filter(|_| memory) {
        add("-object", Some(object(id, part, pages)));
    }
    for (id, first) in
        (0..parts.cells()).zip((0_u32..).step_by(parts.vcpus.max(1).try_into().unwrap_or(1)))
    {
        let last = first + parts.vcpus - 1;
        let cpus = if first == last { first.to_string() } else { format!("{first}-{last}") };
        add("-numa", Some(format!("node,nodeid={id},cpus={cpus},memdev=ram{id}")));
    }
    for (option, value) in firmware(qemu) {
        add(option, Some(value));
    }
    for number in 1..=qemu.iothreads {
        add("-object", Some(format!("iothread,id={}", iothread(number))));
    }
    let mut attached = 0;
    for (number, disk) in qemu.disks.iter().enumerate() {
        let (drive, mut device) = disk_options(number, disk);
        if disk.bus == DiskBus::Virtio && qemu.iothreads > 0 {
            // Disks in turn: a thread without a disk would have nothing to do.
            device.push_str(&format!(",iothread={}", iothread(attached % qemu.iothreads + 1)));
            attached += 1;
        }
        add("-drive", Some(drive));
        add("-device", Some(device));
    }
    for (number, serial) in qemu.serials.iter().enumerate() {
        add("-chardev", Some(chardev(number, serial)));
        add("-serial", Some(format!("chardev:serial{number}")));
    }
    if let Network::User { model, mac } = &qemu.network {
        let model = model.as_deref().unwrap_or("virtio-net-pci");
        let mac = mac.as_ref().map_or_else(String::new, |mac| format!(",mac={mac}"));
        add("-netdev", Some("user,id=net0".to_owned()));
        add("-device", Some(format!("{model},netdev=net0{mac}")));
    }
    if guest.memory.current < guest.memory.maximum {
        add("-device", Some("virtio-balloon,id=balloon0".to_owned()));
    }
    argv.extend(qemu.args.iter().cloned());
    argv.into_iter().map(OsString::from).collect()
}

/// Returns the descriptors that arguments name (`fd=3`, `vhostfds=3:4`, `fd:3`, `{"fd":"3"}`): they are not closed.
pub(super) fn named_descriptors(args: &[String]) -> Vec<i32> {
    let mut lists = Vec::new();
    for arg in args {
        if let Ok(object @ Value::Object(_)) = serde_json::from_str(arg) {
            add_named(&object, &mut lists);
            continue;
        }
        let properties = arg.split(',').filter_map(|property| property.split_once(['=', ':']));
        let named = properties.filter(|(key, _)| names_descriptors(key));
        lists.extend(named.map(|(_, list)| list.to_owned()));
    }
    let all = lists.iter().flat_map(|list| list.split(':'));
    all.filter_map(|fd| fd.parse().ok()).filter(|&fd| fd > 2).collect()
}

fn names_descriptors(key: &str) -> bool {
    key.ends_with("fd") || key.ends_with("fds")
}

/// Adds what the members of a JSON value name, at any depth.
fn add_named(value: &Value, lists: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(list) if names_descriptors(key) => lists.push(list.clone()),
                    Value::Number(fd) if names_descriptors(key) => lists.push(fd.to_string()),
                    value => add_named(value, lists),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| add_named(value, lists)),
        _ => {}
    }
}

/// Returns the options by which QEMU is spoken to over a descriptor.
pub(super) fn control(channel: i32) -> [String; 4] {
    let socket = format!("socket,id=placer-qmp,fd={channel}");
    ["-chardev", &socket, "-mon", "chardev=placer-qmp,mode=control"].map(str::to_owned)
}

/// Returns the name of an I/O thread, numbered from 1.
pub(super) fn iothread(number: u32) -> String {
    format!("iothread{number}")
}

/// What is in the way of QEMU's separator is doubled.
fn doubled(text: &str) -> String {
    text.replace(',', ",,")
}

/// QEMU's name for the architecture of this host.
fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i386",
        "powerpc64" => "ppc64",
        other => other,
    }
}

fn emulator(qemu: &Qemu) -> String {
    let arch = || qemu.arch.as_deref().unwrap_or(host_arch());
    qemu.emulator.clone().unwrap_or_else(|| format!("qemu-system-{}", arch()))
}

fn accelerators(qemu: &Qemu) -> &'static [&'static str] {
    let foreign = qemu.arch.as_deref().is_some_and(|arch| arch != host_arch());
    match qemu.accelerator {
        Accelerator::Kvm => &["kvm"],
        Accelerator::Tcg => &["tcg"],
        Accelerator::Auto if foreign => &["tcg"],
        // Taken in turn.
        Accelerator::Auto => &["kvm", "tcg"],
    }
}

/// What the machine starts with. Only what QEMU takes apart at commas has them doubled.
fn firmware(qemu: &Qemu) -> Vec<(&'static str, String)> {
    let mut options = Vec::new();
    match &qemu.firmware {
        None => {}
        Some(Firmware::Rom(file)) => options.push(("-bios", file.clone())),
        Some(Firmware::Flash { code, variables }) => {
            let flash = "if=pflash,format=raw";
            let file = format!("{flash},unit=0,readonly=on,file.filename={}", doubled(code));
            options.push(("-drive", file));
            if let Some(variables) = variables {
                let file = format!("{flash},unit=1,file.filename={}", doubled(variables));
                options.push(("-drive", file));
            }
        }
    }
    let linux = [("-kernel", &qemu.kernel), ("-initrd", &qemu.initrd), ("-append", &qemu.cmdline)];
    options.extend(linux.into_iter().filter_map(|(option, value)| Some((option, value.clone()?))));
    options
}

/// `file.filename` instead of `file`: the name is that of a file, whatever protocol it may look
/// like (`nbd:a`).
fn disk_options(number: usize, disk: &Disk) -> (String, String) {
    let file = doubled(&disk.file);
    let readonly = disk.readonly || disk.device == DiskDevice::Cdrom;
    let readonly = if readonly { ",readonly=on" } else { "" };
    let format = &disk.format;
    let drive = format!("if=none,id=disk{number},format={format}{readonly},file.filename={file}");
    let device = match (disk.bus, disk.device) {
        (DiskBus::Virtio, _) => "virtio-blk",
        (DiskBus::Ide, DiskDevice::Disk) => "ide-hd",
        (DiskBus::Ide, DiskDevice::Cdrom) => "ide-cd",
    };
    (drive, format!("{device},drive=disk{number}"))
}

fn chardev(number: usize, serial: &Serial) -> String {
    match serial {
        Serial::Pty => format!("pty,id=serial{number}"),
        Serial::Stdio => format!("stdio,id=serial{number}"),
        Serial::Null => format!("null,id=serial{number}"),
        Serial::File(path) => format!("file,id=serial{number},path={}", doubled(path)),
        Serial::Unix(path) => {
            format!("socket,id=serial{number},path={},server=on,wait=off", doubled(path))
        }
    }
}

#[cfg(test)]
mod tests;
