//! What a domain starts: `<os>` and `<devices>`. What is not used is noted.

use super::cursor::Source;
use super::tree::Element;
use crate::definition::{DefinitionError, is_mac, is_token, quoted};
use crate::guest::{
    Accelerator, Disk, DiskBus, DiskDevice, Firmware, Lxc, LxcRoot, Network, Qemu, Serial,
};

/// Reads a machine of QEMU.
pub(super) fn machine(
    source: &Source<'_>,
    domain: &Element,
    accelerator: Accelerator,
    iothreads: u32,
) -> Result<Qemu, DefinitionError> {
    let mut qemu = Qemu { accelerator, iothreads, ..Qemu::default() };
    if let Some(os) = source.only(domain, "os")? {
        if let Some(kind) = os_type(source, os, "hvm")? {
            qemu.arch = token(source, kind, "arch")?;
            qemu.machine = token(source, kind, "machine")?;
        }
        qemu.kernel = source.line_of(os, "kernel")?;
        qemu.initrd = source.line_of(os, "initrd")?;
        qemu.cmdline = source.line_of(os, "cmdline")?;
        qemu.firmware = firmware(source, os)?;
        let used = ["type", "kernel", "initrd", "cmdline", "loader", "nvram"];
        rest(source, os, &used);
    }
    let devices = source.only(domain, "devices")?;
    for device in devices.map_or(&[][..], |devices| &devices.children) {
        match device.name.as_str() {
            "emulator" => {
                if qemu.emulator.is_some() {
                    return Err(source.error(device, "a second one: expected one"));
                }
                qemu.emulator = source.line(device, &device.text)?;
            }
            "disk" => qemu.disks.extend(disk(source, device)?),
            "serial" => qemu.serials.extend(serial(source, device)?),
            "interface" if qemu.network == Network::None => qemu.network = network(source, device)?,
            "interface" => source.unused_but(device, "not used: a machine has at most one"),
            "console" => {}
            _ => source.unused(device),
        }
    }
    // A console is the first serial port by another name, and that port where there is none.
    let consoles = devices.map_or(&[][..], |devices| &devices.children);
    for console in consoles.iter().filter(|device| device.name == "console") {
        let target = source.only(console, "target")?.and_then(|target| target.attribute("type"));
        match target {
            None | Some("serial") if qemu.serials.is_empty() => {
                qemu.serials.extend(serial(source, console)?);
            }
            None | Some("serial") => {}
            Some(_) => source.unused_but(console, "not used: consoles are serial ports"),
        }
    }
    if let Some(commandline) = source.only(domain, "qemu:commandline")? {
        for child in &commandline.children {
            match child.name.as_str() {
                "qemu:arg" => {
                    qemu.args.push(argument(source, child, source.wanted(child, "value")?)?);
                }
                _ => source.unused(child),
            }
        }
    }
    Ok(qemu)
}

/// Reads a container of LXC.
pub(super) fn container(source: &Source<'_>, domain: &Element) -> Result<Lxc, DefinitionError> {
    let mut lxc = Lxc::default();
    if let Some(os) = source.only(domain, "os")? {
        os_type(source, os, "exe")?;
        lxc.init = source.line_of(os, "init")?;
        for child in os.children.iter().filter(|child| child.name == "initarg") {
            lxc.args.push(argument(source, child, &child.text)?);
        }
        rest(source, os, &["type", "init", "initarg"]);
    }
    let devices = source.only(domain, "devices")?;
    for device in devices.map_or(&[][..], |devices| &devices.children) {
        match device.name.as_str() {
            "filesystem" => {
                let target = source.only(device, "target")?.and_then(|t| t.attribute("dir"));
                let mount = matches!(device.attribute("type"), None | Some("mount"));
                if target != Some("/") || !mount {
                    let what = "not used: only a directory (type='mount') that is the root is";
                    source.unused_but(device, what);
                    continue;
                }
                let Some(from) = source.only(device, "source")? else {
                    return Err(source.error(device, "expected <source dir='...'/>, found none"));
                };
                if lxc.root != LxcRoot::Host {
                    return Err(source.error(device, "a second root: expected one"));
                }
                let directory = source.line(from, source.wanted(from, "dir")?)?;
                let empty = || source.error(from, "attribute dir: expected a path, found \"\"");
                lxc.root = LxcRoot::Directory(directory.ok_or_else(empty)?);
            }
            // LXC gives every container a console.
            "console" => {}
            _ => source.unused(device),
        }
    }
    Ok(lxc)
}

/// Notes the children that have none of these names.
fn rest(source: &Source<'_>, parent: &Element, used: &[&str]) {
    let rest = parent.children.iter().filter(|child| !used.contains(&child.name.as_str()));
    rest.for_each(|child| source.unused(child));
}

/// Returns `<type>`, if it is there and says what is wanted.
fn os_type<'e>(
    source: &Source<'_>,
    os: &'e Element,
    wanted: &str,
) -> Result<Option<&'e Element>, DefinitionError> {
    let kind = source.only(os, "type")?;
    if let Some(kind) = kind.filter(|kind| kind.text.trim() != wanted) {
        let what = format!("expected {wanted}, found {}", quoted(kind.text.trim()));
        return Err(source.error(kind, what));
    }
    Ok(kind)
}

/// Reads an attribute that goes into an option of QEMU as it is.
fn token(
    source: &Source<'_>,
    element: &Element,
    attribute: &str,
) -> Result<Option<String>, DefinitionError> {
    match element.attribute(attribute) {
        Some(word) if !is_token(word) => {
            let found = quoted(word);
            let what = format!(
                "attribute {attribute}: expected a word of letters, digits, '.', '-' and '_', found {found}"
            );
            Err(source.error(element, what))
        }
        word => Ok(word.map(str::to_owned)),
    }
}

fn argument(source: &Source<'_>, element: &Element, text: &str) -> Result<String, DefinitionError> {
    match text.contains('\0') {
        true => Err(source.error(element, "expected text without NUL bytes, found one")),
        false => Ok(text.to_owned()),
    }
}

fn firmware(source: &Source<'_>, os: &Element) -> Result<Option<Firmware>, DefinitionError> {
    let variables = source.line_of(os, "nvram")?;
    let loader = source.only(os, "loader")?;
    let Some(code) = source.line_of(os, "loader")? else { return Ok(None) };
    match loader.and_then(|loader| loader.attribute("type")) {
        None | Some("rom") => Ok(Some(Firmware::Rom(code))),
        Some("pflash") => Ok(Some(Firmware::Flash { code, variables })),
        Some(other) => {
            let what = format!("attribute type: expected rom or pflash, found {}", quoted(other));
            Err(source.error(loader.unwrap_or(os), what))
        }
    }
}

fn disk(source: &Source<'_>, disk: &Element) -> Result<Option<Disk>, DefinitionError> {
    let device = match disk.attribute("device") {
        None | Some("disk") => DiskDevice::Disk,
        Some("cdrom") => DiskDevice::Cdrom,
        Some(_) => {
            source.unused_but(disk, "not used: only device='disk' and device='cdrom' are");
            return Ok(None);
        }
    };
    if !matches!(disk.attribute("type"), None | Some("file")) {
        source.unused_but(disk, "not used: only disks that are files (type='file') are");
        return Ok(None);
    }
    let target = source.only(disk, "target")?;
    let name = target.and_then(|target| target.attribute("dev")).unwrap_or_default();
    let bus = match target.and_then(|target| target.attribute("bus")) {
        Some("virtio") => DiskBus::Virtio,
        Some("ide" | "sata") => DiskBus::Ide,
        None if name.starts_with("hd") || name.starts_with("sd") => DiskBus::Ide,
        None if device == DiskDevice::Cdrom => DiskBus::Ide,
        None => DiskBus::Virtio,
        Some(_) => {
            source.unused_but(disk, "not used: only disks with bus virtio, ide or sata are");
            return Ok(None);
        }
    };
    let Some(from) = source.only(disk, "source")? else {
        if device == DiskDevice::Disk {
            return Err(source.error(disk, "expected <source file='...'/>, found none"));
        }
        source.unused_but(disk, "not used: there is no CD in it");
        return Ok(None);
    };
    let file = source.line(from, source.wanted(from, "file")?)?;
    let file =
        file.ok_or_else(|| source.error(from, "attribute file: expected a path, found \"\""))?;
    let driver = source.only(disk, "driver")?;
    let format = driver.map_or(Ok(None), |driver| token(source, driver, "type"))?;
    let readonly = device == DiskDevice::Cdrom || source.only(disk, "readonly")?.is_some();
    rest(source, disk, &["driver", "source", "target", "readonly"]);
    // libvirt's default as well; a guest must not choose its own by what it writes.
    let format = format.unwrap_or_else(|| "raw".to_owned());
    Ok(Some(Disk { file, format, device, bus, readonly }))
}

/// Reads a serial port, or a console in its place.
fn serial(source: &Source<'_>, port: &Element) -> Result<Option<Serial>, DefinitionError> {
    let path = || -> Result<String, DefinitionError> {
        let missing = || source.error(port, "expected <source path='...'/>, found none");
        let from = source.only(port, "source")?.ok_or_else(missing)?;
        source.line(from, source.wanted(from, "path")?)?.ok_or_else(missing)
    };
    Ok(Some(match port.attribute("type") {
        None | Some("pty") => Serial::Pty,
        Some("stdio") => Serial::Stdio,
        Some("null") => Serial::Null,
        Some("file") => Serial::File(path()?),
        Some("unix") => {
            let from = source.only(port, "source")?;
            if from.and_then(|from| from.attribute("mode")) != Some("bind") {
                source
                    .unused_but(port, "not used: of Unix sockets only those with mode='bind' are");
                return Ok(None);
            }
            Serial::Unix(path()?)
        }
        Some(_) => {
            source.unused_but(port, "not used: only types pty, stdio, null, file and unix are");
            return Ok(None);
        }
    }))
}

fn network(source: &Source<'_>, interface: &Element) -> Result<Network, DefinitionError> {
    if interface.attribute("type") != Some("user") {
        source.unused_but(interface, "not used: only type='user' is");
        return Ok(Network::None);
    }
    let model = source.only(interface, "model")?;
    let model = model.map_or(Ok(None), |model| token(source, model, "type"))?;
    // libvirt's word for what QEMU calls virtio-net-pci, and this has by default.
    let model = model.filter(|model| model != "virtio");
    let mac = source.only(interface, "mac")?;
    let mac = mac.map(|mac| source.wanted(mac, "address").map(|text| (mac, text))).transpose()?;
    if let Some((element, text)) = mac.filter(|(_, text)| !is_mac(text)) {
        let found = quoted(text);
        let what =
            format!("attribute address: expected six bytes as in 52:54:00:12:34:56, found {found}");
        return Err(source.error(element, what));
    }
    rest(source, interface, &["model", "mac"]);
    Ok(Network::User { model, mac: mac.map(|(_, text)| text.to_owned()) })
}
