//! Reads what the kernel keeps of each node for itself, with a bound on the cost: `/proc/zoneinfo`
//! has some lines for every CPU in every zone.

use std::fs::File;

use nix::unistd::{SysconfVar, sysconf};

use super::file::{self, Buffer, LARGE};
use super::paths::NODES;
use super::root::SysRoot;
use crate::error::SourceError;
use crate::files::{HostFiles, TextFile, ZoneFile};
use crate::parse;
use crate::units::Bytes;

pub(super) const ZONEINFO: &str = "proc/zoneinfo";
/// Enough for 1,024 CPUs in 30 zones. The kernel writes some 200 MB of it a second.
const LONGEST: usize = 4 << 20;
/// Settings by which the watermarks change.
pub(super) const SETTINGS: [&str; 2] =
    ["proc/sys/vm/min_free_kbytes", "proc/sys/vm/watermark_scale_factor"];

/// Asked while the file is read: whether the rest is too much.
pub(super) fn is_enough(text: &[u8]) -> bool {
    text.len() >= LONGEST
}

/// Reads the zones of all nodes. `None` where the kernel does not show them; a file that cannot be
/// read is as good as none, with the reason.
pub(super) fn read(root: &SysRoot, files: &HostFiles) -> Option<ZoneFile> {
    let path = root.path(ZONEINFO);
    let text = |file: File| -> Result<Vec<u8>, SourceError> {
        let mut buffer = Buffer::default();
        buffer.fill(&file, &path, LARGE, is_enough)?;
        Ok(buffer.text().to_vec())
    };
    let text = match file::open(&path).and_then(|file| file.map(text).transpose()) {
        Ok(text) => text?,
        // Some sandboxes show the file and do not let it be read.
        Err(_) => return None,
    };
    let whole = !is_enough(&text);
    let page = if root.is_live() { live_page() } else { recorded_page(root, files, &text) };
    Some(ZoneFile { file: TextFile { path, text }, whole, page })
}

fn live_page() -> Bytes {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).map_or(SMALLEST_PAGE, Bytes::new)
}

const SMALLEST_PAGE: Bytes = Bytes::new(4096);

/// Returns the page size of a recorded host, which no file holds: `MemTotal` is what all zones
/// manage, so that the nearest power of two to bytes by pages is a page.
fn recorded_page(root: &SysRoot, files: &HostFiles, text: &[u8]) -> Bytes {
    let zones = parse::zoneinfo::parse(text).unwrap_or_default();
    let (mut pages, mut bytes) = (0u64, 0u64);
    for node in &files.nodes {
        let path = root.path(&format!("{NODES}/node{}/meminfo", node.id));
        let meminfo = file::read(&path).unwrap_or_default().unwrap_or_default();
        let total = parse::meminfo::parse(&meminfo).ok().and_then(|meminfo| meminfo.total);
        let zones = zones.iter().find(|zones| zones.node == node.id);
        if let (Some(total), Some(zones)) = (total, zones) {
            pages = pages.saturating_add(zones.managed);
            bytes = bytes.saturating_add(total.get());
        }
    }
    // From 4 KiB to 256 KiB, the largest page of a kernel.
    let size = (12..=18)
        .map(|shift| 1u64 << shift)
        .find(|size| u128::from(bytes) * 2 < u128::from(pages) * u128::from(*size) * 3);
    if pages == 0 { SMALLEST_PAGE } else { Bytes::new(size.unwrap_or(SMALLEST_PAGE.get())) }
}
