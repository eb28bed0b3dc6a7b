//! From what people call a device to its directory below sys.

use std::path::PathBuf;

use super::below::Hardware;
use super::names::{is_disguised, names};
use super::{DeviceError, MOST_LISTED, gpu};
use crate::parse;
use crate::source::file;
use crate::source::root::SysRoot;

/// Where the kernel keeps devices by their names.
pub(in crate::source) const CLASSES: [&str; 6] =
    ["net", "block", "nvme", "infiniband", "drm", "nvme-subsystem"];

/// Returns the directory of a device. It exists, and may lie outside sys.
pub(super) fn find(root: &SysRoot, name: &str) -> Result<PathBuf, DeviceError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":._-!@+/".contains(c);
    // Links of /dev (by-id, LVM's) lead to the kernel's name; a recorded host has none.
    let real = Some(name).filter(|name| root.is_live() && name.starts_with("/dev/"));
    let real = real.and_then(|name| std::fs::canonicalize(name).ok());
    let real = real.as_deref().and_then(|path| path.to_str()).unwrap_or(name);
    let short = real.strip_prefix("/dev/").unwrap_or(real);
    let short = short.strip_prefix("mapper/").unwrap_or(short);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.');
    if short.len() > 128 || !short.chars().all(plain) || !short.split('/').all(part) {
        return Err(DeviceError::Name(name.to_owned()));
    }
    dir(root, short).ok_or_else(|| unknown(root, name))
}

fn dir(root: &SysRoot, short: &str) -> Option<PathBuf> {
    pci(root, short)
        .or_else(|| by_class(root, short))
        .or_else(|| by_volume(root, short))
        .or_else(|| gpu::by_index(root, short))
        .or_else(|| gpu::by_uuid(root, short))
}

/// Finds a PCI address. lspci leaves out the domain where there is only one, people the function
/// where there is only one, and NVIDIA's tools write domains of eight digits.
fn pci(root: &SysRoot, name: &str) -> Option<PathBuf> {
    let (rest, function) = name.split_once('.').unwrap_or((name, "0"));
    let mut parts = rest.rsplit(':');
    let hex = |part: &str, most: usize| {
        u32::from_str_radix(part, 16).ok().filter(|_| part.len() <= most && !part.starts_with('+'))
    };
    let slot = hex(parts.next()?, 2)?;
    let bus = hex(parts.next()?, 2)?;
    let domain = parts.next().map_or(Some(0), |domain| hex(domain, 8))?;
    let function = hex(function, 1)?;
    if parts.next().is_some() {
        return None;
    }
    let address = format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}");
    existing(root, &format!("sys/bus/pci/devices/{address}"))
}

fn by_class(root: &SysRoot, name: &str) -> Option<PathBuf> {
    // The kernel writes `cciss!c0d0` for /dev/cciss/c0d0; UCX `mlx5_0:1` for the first port.
    let name = name.replace('/', "!");
    let device = name.split_once(':').map_or(name.as_str(), |(device, _)| device);
    let mut paths = CLASSES.iter().map(|class| format!("sys/class/{class}/{name}"));
    paths.find_map(|path| existing(root, &path)).or_else(|| {
        let port = device != name;
        port.then(|| existing(root, &format!("sys/class/infiniband/{device}"))).flatten()
    })
}

/// Finds a volume of the device mapper: by its name, `vg0-guest`, or as LVM writes it, `vg0/guest`.
fn by_volume(root: &SysRoot, name: &str) -> Option<PathBuf> {
    // The mapper's names double the hyphens of LVM's.
    let lvm = name.split_once('/').map(|(group, volume)| {
        format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
    });
    let wanted = lvm.as_deref().unwrap_or(name);
    let block = "sys/class/block";
    let volumes = names(root, block).into_iter().filter(|name| name.starts_with("dm-"));
    let is_it = |dir: &String| {
        let text = file::read(&root.path(&format!("{block}/{dir}/dm/name"))).ok().flatten();
        text.is_some_and(|text| is_disguised(parse::trim_end(&text), wanted.as_bytes()))
    };
    volumes.into_iter().find(is_it).and_then(|dir| existing(root, &format!("{block}/{dir}")))
}

fn existing(root: &SysRoot, relative: &str) -> Option<PathBuf> {
    root.path(relative).canonicalize().ok()
}

fn unknown(root: &SysRoot, name: &str) -> DeviceError {
    let mut there = std::collections::BTreeSet::new();
    for class in CLASSES {
        // `card0-DP-1` is a plug of card0.
        let names = names(root, &format!("sys/class/{class}"));
        there.extend(names.into_iter().filter(|name| class != "drm" || !name.contains('-')));
    }
    there.extend((0..gpu::count(root)).map(|at| format!("gpu{at}")));
    let mut left = there.into_iter();
    let mut known = Vec::new();
    while known.len() < MOST_LISTED
        && let Some(name) = left.next()
    {
        let mut hardware = Hardware::new(root);
        let dirs = dir(root, &name).into_iter();
        if dirs.map(|dir| hardware.add(&dir)).all(|added| added.is_ok()) {
            let node = hardware.nodes.first().map(|(_, node)| *node);
            let same = hardware.nodes.iter().all(|(_, other)| Some(*other) == node);
            // Loopback, taps and the like belong to no hardware.
            if node.is_some() || !hardware.unknown.is_empty() {
                known.push((name.escape_debug().to_string(), node.filter(|_| same)));
            }
        }
    }
    DeviceError::Unknown { name: name.to_owned(), known, more: left.count() }
}
