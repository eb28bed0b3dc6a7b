//! Writes what is started: `<os>` and `<devices>`.

use super::writer::Writer;
use crate::guest::{Disk, DiskBus, DiskDevice, Firmware, Lxc, LxcRoot, Network, Qemu, Serial};

/// Writes a machine of QEMU.
pub(super) fn machine(out: &mut Writer, qemu: &Qemu) {
    out.open("os", &[]);
    let arch = qemu.arch.as_deref().map(|arch| ("arch", arch));
    let machine = qemu.machine.as_deref().map(|machine| ("machine", machine));
    out.leaf("type", &arch.into_iter().chain(machine).collect::<Vec<_>>(), "hvm");
    match &qemu.firmware {
        Some(Firmware::Rom(rom)) => out.leaf("loader", &[("type", "rom")], rom),
        Some(Firmware::Flash { code, variables }) => {
            out.leaf("loader", &[("readonly", "yes"), ("type", "pflash")], code);
            out.leaf_if("nvram", variables.as_deref());
        }
        None => {}
    }
    out.leaf_if("kernel", qemu.kernel.as_deref());
    out.leaf_if("initrd", qemu.initrd.as_deref());
    out.leaf_if("cmdline", qemu.cmdline.as_deref());
    out.close("os");
    out.open("devices", &[]);
    out.leaf_if("emulator", qemu.emulator.as_deref());
    // Machines of this type have no IDE, and SATA in its place.
    let sata = qemu.machine.as_deref().is_some_and(|machine| machine.contains("q35"));
    for (position, one) in qemu.disks.iter().enumerate() {
        let (bus, prefix) = match one.bus {
            DiskBus::Virtio => ("virtio", "vd"),
            DiskBus::Ide if sata => ("sata", "sd"),
            DiskBus::Ide => ("ide", "hd"),
        };
        let target = format!("{prefix}{}", letters(position));
        disk(out, one, &[("dev", &target), ("bus", bus)]);
    }
    for serial in &qemu.serials {
        let (kind, source) = match serial {
            Serial::Pty => ("pty", vec![]),
            Serial::Stdio => ("stdio", vec![]),
            Serial::Null => ("null", vec![]),
            Serial::File(path) => ("file", vec![("path", path.as_str())]),
            Serial::Unix(path) => ("unix", vec![("mode", "bind"), ("path", path.as_str())]),
        };
        out.with_children("serial", &[("type", kind)], |out| {
            if !source.is_empty() {
                out.empty("source", &source);
            }
        });
    }
    if let Network::User { model, mac } = &qemu.network {
        out.with_children("interface", &[("type", "user")], |out| {
            if let Some(mac) = mac {
                out.empty("mac", &[("address", mac)]);
            }
            out.empty("model", &[("type", model.as_deref().unwrap_or("virtio"))]);
        });
    }
    out.close("devices");
    if !qemu.args.is_empty() {
        out.open("qemu:commandline", &[]);
        qemu.args.iter().for_each(|value| out.empty("qemu:arg", &[("value", value)]));
        out.close("qemu:commandline");
    }
}

fn disk(out: &mut Writer, disk: &Disk, target: &[(&str, &str)]) {
    let device = match disk.device {
        DiskDevice::Disk => "disk",
        DiskDevice::Cdrom => "cdrom",
    };
    out.open("disk", &[("type", "file"), ("device", device)]);
    out.empty("driver", &[("name", "qemu"), ("type", &disk.format)]);
    out.empty("source", &[("file", &disk.file)]);
    out.empty("target", target);
    if disk.readonly {
        out.empty("readonly", &[]);
    }
    out.close("disk");
}

/// The letters that disks are told apart by: a, b, ... z, aa, ab, ...
fn letters(position: usize) -> String {
    let mut letters = Vec::new();
    let mut left = position + 1;
    while left > 0 {
        left -= 1;
        letters.push(char::from(b'a' + u8::try_from(left % 26).unwrap_or_default()));
        left /= 26;
    }
    letters.iter().rev().collect()
}

/// Writes a container of LXC.
pub(super) fn container(out: &mut Writer, lxc: &Lxc) {
    out.open("os", &[]);
    out.leaf("type", &[], "exe");
    out.leaf_if("init", lxc.init.as_deref());
    lxc.args.iter().for_each(|argument| out.leaf("initarg", &[], argument));
    out.close("os");
    if let LxcRoot::Directory(directory) = &lxc.root {
        out.open("devices", &[]);
        out.open("filesystem", &[("type", "mount")]);
        out.empty("source", &[("dir", directory)]);
        out.empty("target", &[("dir", "/")]);
        out.close("filesystem");
        out.close("devices");
    }
}

#[cfg(test)]
mod tests {
    use super::letters;

    #[test]
    fn disks_have_letters() {
        let names = [0, 25, 26, 701, 702].map(letters);
        assert_eq!(names, ["a", "z", "aa", "zz", "aaa"]);
    }
}
