//! The root of a host: `/`, or a directory that holds a recorded one.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::file;
use crate::error::SourceError;
use crate::parse::{ParseError, number, trim_end};
use crate::sample::Instant;

/// A directory that holds a host's `sys` and `proc`.
///
/// The live host is the root `/`. Any number of roots work side by side in one process: a root is
/// a value, not a global.
///
/// ```
/// use placer_engine::SysRoot;
/// assert!(SysRoot::live().is_live());
/// assert!(!SysRoot::at("sysfs-fixtures/ring-4").is_live());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysRoot {
    dir: PathBuf,
    live: bool,
}

/// Which of the two readings of a recorded machine is meant. The live machine has only now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The files as recorded.
    First,
    /// The files under `next/`, and the others as they were.
    Second,
}

impl SysRoot {
    /// Returns the host this process runs on.
    pub fn live() -> Self {
        Self { dir: PathBuf::from("/"), live: true }
    }

    /// Returns the host recorded in a directory. The directory `/` is the live host.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        let mut parts = dir.components();
        let live = parts.next() == Some(Component::RootDir) && parts.next().is_none();
        Self { dir, live }
    }

    /// Returns whether this is the host the process runs on.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }
}

/// A recorded machine's second moment: what lies under `next/`.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Whether there is a second reading of the CPU counters, without which there is no load.
    pub(super) has_stat: bool,
    /// Paths that no longer exist, relative to the root; a directory goes with its contents.
    removed: BTreeSet<PathBuf>,
}

impl Overlay {
    pub(super) fn read(root: &SysRoot) -> Result<Self, SourceError> {
        let removed = file::read(&root.path("next/.removed"))?.unwrap_or_default();
        let removed = removed
            .split(u8::is_ascii_whitespace)
            .filter(|line| !line.is_empty())
            .map(|line| PathBuf::from(String::from_utf8_lossy(line).into_owned()))
            .collect();
        let has_stat = file::open(&root.path("next/proc/stat"))?.is_some();
        Ok(Self { has_stat, removed })
    }

    /// Returns where a file is found at the second moment; `None` when it is gone by then.
    pub(super) fn path(&self, root: &SysRoot, relative: &str) -> Option<PathBuf> {
        let gone = Path::new(relative).ancestors().any(|part| self.removed.contains(part));
        if gone {
            return None;
        }
        let next = root.path("next").join(relative);
        Some(if next.exists() { next } else { root.path(relative) })
    }
}

/// Reads the file `clock` of a recorded machine: when it was first read and how much later again.
/// Both in hundredths of a second; without the file 100000 and 200.
pub(super) fn recorded_clock(root: &SysRoot, moment: Moment) -> Result<Instant, SourceError> {
    let path = root.path("clock");
    let Some(text) = file::read(&path)? else {
        return Ok(Instant::from_centiseconds(match moment {
            Moment::First => 100_000,
            Moment::Second => 100_200,
        }));
    };
    let body = trim_end(&text);
    let read = || -> Option<(u64, u64)> {
        let (first, digits) = number(body)?;
        let rest = &body[digits..];
        let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let (gap, more) = number(&rest[blanks..])?;
        (blanks > 0 && blanks + more == rest.len()).then_some((first, gap))
    };
    let wanted = "two numbers, the first moment and the gap in hundredths of a second";
    let complaint = || SourceError::parse(&path, ParseError::at(body, 0, wanted));
    let (first, gap) = read().ok_or_else(complaint)?;
    let at = match moment {
        Moment::First => Some(first),
        Moment::Second => first.checked_add(gap),
    };
    // Below half of what 64 bits of nanoseconds hold: the two moments stay apart, and no later sum
    // can wrap.
    const LAST: u64 = u64::MAX / 2 / 10_000_000;
    at.filter(|&cs| cs <= LAST).map(Instant::from_centiseconds).ok_or_else(complaint)
}

/// Reads the file `node-order` of a recorded machine: node ids with blanks between.
pub(super) fn recorded_order(root: &SysRoot) -> Result<Option<Vec<u32>>, SourceError> {
    let path = root.path("node-order");
    let Some(text) = file::read(&path)? else { return Ok(None) };
    let mut order = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].iter().take_while(|b| b.is_ascii_whitespace() || **b == b',').count();
        if at == text.len() {
            return Ok(Some(order));
        }
        match number(&text[at..]).and_then(|(id, n)| Some((u32::try_from(id).ok()?, n))) {
            Some((id, digits)) => {
                order.push(id);
                at += digits;
            }
            None => {
                return Err(SourceError::parse(&path, ParseError::at(&text, at, "node ids")));
            }
        }
    }
}

/// Returns the key by which sysfs lists a directory since Linux 4.8 on 64-bit: a hash of the name.
/// A copy of a sysfs directory loses its order; with this it is made again.
pub(super) fn listing_key(name: &str) -> u64 {
    let mut hash: u64 = 0;
    for byte in name.bytes().map(u64::from) {
        hash = hash.wrapping_add(byte << 4).wrapping_add(byte >> 4).wrapping_mul(11);
    }
    let key = (hash.wrapping_mul(0x61C8_8646_80B5_83EB) >> 32) & 0x7fff_ffff;
    // 0 and 1 stand for "." and "..", the highest for the end of the directory.
    if key < 2 { key + 2 } else { key.min(0x7fff_fffe) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_directory_is_live() {
        for (dir, live) in [("/", true), ("//", true), ("/.", true), ("/tmp", false), (".", false)]
        {
            assert_eq!(SysRoot::at(dir).is_live(), live, "{dir}");
        }
    }

    #[test]
    fn the_order_of_sysfs_as_seen_on_real_kernels() {
        for (count, order) in [
            (2, vec![0, 1]),
            (4, vec![2, 0, 3, 1]),
            (8, vec![4, 2, 0, 7, 5, 3, 1, 6]),
            (16, vec![4, 2, 15, 0, 13, 9, 11, 7, 5, 3, 1, 14, 12, 8, 10, 6]),
        ] {
            let mut ids: Vec<u32> = (0..count).collect();
            ids.sort_by_key(|id| listing_key(&format!("node{id}")));
            assert_eq!(ids, order);
        }
    }
}
