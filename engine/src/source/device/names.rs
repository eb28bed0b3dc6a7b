//! Names of devices, and the marks that stand for them in recordings.

use crate::hash::fnv64;
use crate::source::root::SysRoot;

/// Of each kind. The largest hosts have some hundreds.
const MOST_NAMES: usize = 4096;

/// Lists a directory, sorted; names that are not UTF-8 are none of a device.
pub(super) fn names(root: &SysRoot, dir: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root.path(dir)) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.take(MOST_NAMES).collect();
    names.sort_unstable();
    names
}

/// Returns a mark by which a name or serial number is found again in a recording that does not hold
/// it: 128 bits that it cannot be made from again.
pub(in crate::source) fn mark(name: &[u8]) -> String {
    let there = fnv64(name.iter().map(u8::to_ascii_lowercase));
    let back = fnv64(name.iter().rev().map(u8::to_ascii_lowercase));
    format!("{MARK}{there:016x}{back:016x}")
}

const MARK: &str = "mark-";

/// Returns whether this is a mark.
pub(in crate::source) fn is_mark(text: &[u8]) -> bool {
    text.strip_prefix(MARK.as_bytes())
        .is_some_and(|hash| hash.len() == 32 && hash.iter().all(u8::is_ascii_hexdigit))
}

/// Returns whether a text of a file is a name, or the mark of it.
pub(in crate::source) fn is_disguised(text: &[u8], name: &[u8]) -> bool {
    if is_mark(text) { text == mark(name).as_bytes() } else { text.eq_ignore_ascii_case(name) }
}
