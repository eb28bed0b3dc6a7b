//! The command line of QEMU.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;

use nix::errno::Errno;
use placer_engine::Distances;

use super::memory;
use super::shape::Shape;
use crate::error::LaunchError;
use crate::guest::{
    Accelerator, Disk, DiskBus, DiskDevice, Firmware, Guest, Network, Qemu, Serial,
};

/// Refuses arguments under which the machine could not be followed.
pub(super) fn check(guest: &Guest, qemu: &Qemu) -> Result<(), LaunchError> {
    let Some(arg) = qemu.args.iter().find(|arg| arg.trim_start_matches('-') == "daemonize") else {
        return Ok(());
    };
    Err(LaunchError::seen(
        format!("start guest {} with {arg}", guest.name),
        Errno::EINVAL,
        "QEMU would leave the process that placer binds and waits for; remove it",
    ))
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

/// Returns the program and its arguments.
///
/// The machine starts stopped, and is spoken to over the descriptor `channel`. It has the devices
/// that its definition names and none besides: no display, no monitor, nothing that a configuration
/// of this host adds. The definition's own arguments come last.
pub fn argv(
    guest: &Guest,
    qemu: &Qemu,
    shape: &Shape,
    distances: Option<&Distances>,
    channel: i32,
) -> Vec<OsString> {
    let mut argv = vec![emulator(qemu)];
    let mut add = |option: &str, value: Option<String>| {
        argv.push(option.to_owned());
        argv.extend(value);
    };
    add("-name", Some(format!("guest={},debug-threads=on", doubled(guest.name.as_str()))));
    for option in ["-S", "-no-user-config", "-nodefaults"] {
        add(option, None);
    }
    add("-display", Some("none".to_owned()));
    let backend = memory::machine(shape);
    let machine: Vec<&str> = qemu.machine.as_deref().into_iter().chain(backend).collect();
    if !machine.is_empty() {
        add("-machine", Some(machine.join(",")));
    }
    for accelerator in accelerators(qemu) {
        add("-accel", Some((*accelerator).to_owned()));
    }
    for (option, value) in memory::options(guest.cpus, shape, distances) {
        add(option, value);
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
    argv.extend(control(channel));
    argv.extend(qemu.args.iter().cloned());
    argv.into_iter().map(OsString::from).collect()
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
