//! GPUs by their number or UUID.

use std::path::PathBuf;

use super::names::{is_disguised, names};
use crate::parse;
use crate::parts::DeviceKind;
use crate::source::file;
use crate::source::root::SysRoot;

const PCI: &str = "sys/bus/pci/devices";
const NVIDIA: &str = "proc/driver/nvidia/gpus";

/// Finds `gpu1`: the second by PCI address, of those of NVIDIA's driver where it is loaded, as
/// nvidia-smi counts them.
pub(super) fn by_index(root: &SysRoot, name: &str) -> Option<PathBuf> {
    let digits = name.strip_prefix("gpu").filter(|id| id.bytes().all(|b| b.is_ascii_digit()))?;
    let at: usize = digits.parse().ok()?;
    directory(root, addresses(root).get(at)?)
}

/// Finds a GPU by NVIDIA's UUID (`GPU-8d2f...`) or amdgpu's `unique_id`, which ROCm writes behind
/// `GPU-`.
pub(super) fn by_uuid(root: &SysRoot, name: &str) -> Option<PathBuf> {
    let nvidia = |address: &String| {
        let text = file::read(&root.path(&format!("{NVIDIA}/{address}/information"))).ok()??;
        let mut lines = text.split(|&b| b == b'\n');
        let uuid = lines.find_map(|line| line.strip_prefix(b"GPU UUID:"))?;
        is_disguised(uuid.trim_ascii(), name.as_bytes()).then(|| directory(root, address))?
    };
    let amd = |address: &String| {
        let text = file::read(&root.path(&format!("{PCI}/{address}/unique_id"))).ok()??;
        let id = name.to_ascii_lowercase();
        let id = id.strip_prefix("gpu-").unwrap_or(&id);
        let id = id.strip_prefix("0x").unwrap_or(id);
        let text = parse::trim_end(&text);
        let text = text.strip_prefix(b"0x").unwrap_or(text);
        is_disguised(text, id.as_bytes()).then(|| directory(root, address))?
    };
    names(root, NVIDIA).iter().find_map(nvidia).or_else(|| names(root, PCI).iter().find_map(amd))
}

/// Returns how many GPUs have a number.
pub(super) fn count(root: &SysRoot) -> usize {
    addresses(root).len()
}

fn addresses(root: &SysRoot) -> Vec<String> {
    let nvidia = names(root, NVIDIA);
    if !nvidia.is_empty() {
        return nvidia;
    }
    let mut all = names(root, PCI);
    all.retain(|address| {
        let class = file::read(&root.path(&format!("{PCI}/{address}/class"))).ok().flatten();
        let class = class.unwrap_or_default();
        let class = std::str::from_utf8(parse::trim_end(&class)).ok();
        let class = class.and_then(|class| u32::from_str_radix(class.strip_prefix("0x")?, 16).ok());
        class.and_then(DeviceKind::of_class) == Some(DeviceKind::Display)
    });
    all
}

fn directory(root: &SysRoot, address: &str) -> Option<PathBuf> {
    root.path(&format!("{PCI}/{}", address.to_ascii_lowercase())).canonicalize().ok()
}
