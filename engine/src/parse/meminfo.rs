//! One node's memory. Source: `node<N>/meminfo`: `Node 0 MemTotal:  16384000 kB` and so on; without
//! the first two words `/proc/meminfo`, that of the whole host.

use super::{ParseError, number};
use crate::units::Bytes;

/// What a node's `meminfo` says. A field that is not in the file is `None`, never zero: old
/// kernels and nodes of device memory leave some out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMeminfo {
    /// `MemTotal`: all memory the kernel manages on the node.
    pub total: Option<Bytes>,
    /// `MemFree`: unused memory.
    pub free: Option<Bytes>,
    /// `Inactive(file)`: page cache that is given up first.
    pub inactive_file: Option<Bytes>,
    /// `Active(file)`: page cache that was used more than once.
    pub active_file: Option<Bytes>,
    /// `SReclaimable`: what the kernel caches beside files (inodes, directory entries) and gives up.
    pub slab_reclaimable: Option<Bytes>,
    /// The fields numad reads as it would find them.
    pub numad: NumadFields,
}

/// The three fields as numad finds them: each is looked for behind the one before, and only in
/// the first 4,095 bytes of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumadFields {
    /// `MemTotal:` in KiB.
    pub total_kib: Option<u64>,
    /// The first `MemFree:` behind it, in KiB.
    pub free_kib: Option<u64>,
    /// The first `Inactive(file):` behind that, in KiB.
    pub inactive_file_kib: Option<u64>,
}

/// The bytes of the file that numad reads.
const NUMAD_READS: usize = 4095;

/// Reads the fields of a node's `meminfo` in one pass and without allocating.
///
/// Lines that are not understood are passed over: the kernel adds new ones.
/// Errors: one of the fields without a number, or with one past 64 bits.
///
/// ```
/// use placer_engine::{Bytes, parse};
/// let m = parse::meminfo::parse(b"Node 3 MemTotal:  2048 kB\nNode 3 MemFree:   1024 kB\n")?;
/// assert_eq!((m.free, m.inactive_file), (Bytes::from_mib(1), None));
/// # Ok::<(), parse::ParseError>(())
/// ```
pub fn parse(text: &[u8]) -> Result<NodeMeminfo, ParseError> {
    let mut found = NodeMeminfo::default();
    let mut start = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        if let Some((key, value_at)) = key_of(line) {
            let slot = match key {
                b"MemTotal" => Some(&mut found.total),
                b"MemFree" => Some(&mut found.free),
                b"Inactive(file)" => Some(&mut found.inactive_file),
                b"Active(file)" => Some(&mut found.active_file),
                b"SReclaimable" => Some(&mut found.slab_reclaimable),
                _ => None,
            };
            if let Some(slot) = slot {
                let kib = kib(text, start + value_at)?;
                slot.get_or_insert(kib.bytes);
                if start + value_at + kib.digits_end <= NUMAD_READS {
                    found.numad.note(key, kib.number);
                }
                // They are among the first thirty of some forty lines.
                if found.is_whole() {
                    break;
                }
            }
        }
        start += line.len();
    }
    Ok(found)
}

impl NodeMeminfo {
    /// Returns what the kernel gives up before it kills a program: file cache and reclaimable slab,
    /// each less half of it or the `low` watermarks of the zones, whichever is smaller. By that rule
    /// the kernel itself computes `MemAvailable`.
    pub fn reclaimable(&self, low: Bytes) -> Bytes {
        let cache = self.active_file.unwrap_or_default();
        let cache = cache.saturating_add(self.inactive_file.unwrap_or_default());
        let slab = self.slab_reclaimable.unwrap_or_default();
        let half = |all: Bytes| Bytes::new(all.get() / 2);
        let given_up = |all: Bytes| all.saturating_sub(low.min(half(all)));
        given_up(cache).saturating_add(given_up(slab))
    }

    /// Returns what programs can have of the node: what is free or [given up](Self::reclaimable),
    /// less `kept`, which the kernel keeps for itself, and never more than all memory. `None` without
    /// `MemFree`.
    pub fn available(&self, low: Bytes, kept: Bytes) -> Option<Bytes> {
        let all = self.total.unwrap_or(Bytes::new(u64::MAX));
        // Some firmware and hypervisors report more free memory than there is.
        let free = self.free?.min(all);
        Some(free.saturating_add(self.reclaimable(low)).saturating_sub(kept).min(all))
    }

    /// Returns whether no later line can add anything.
    fn is_whole(&self) -> bool {
        // numad's last field is noted only behind the two others.
        self.total.is_some()
            && self.free.is_some()
            && self.inactive_file.is_some()
            && self.active_file.is_some()
            && self.slab_reclaimable.is_some()
            && self.numad.inactive_file_kib.is_some()
    }
}

impl NumadFields {
    fn note(&mut self, key: &[u8], kib: u64) {
        match (key, self.total_kib, self.free_kib, self.inactive_file_kib) {
            (b"MemTotal", None, ..) => self.total_kib = Some(kib),
            (b"MemFree", Some(_), None, _) => self.free_kib = Some(kib),
            (b"Inactive(file)", _, Some(_), None) => self.inactive_file_kib = Some(kib),
            _ => {}
        }
    }
}

/// Splits `Node 0 MemTotal:  5 kB` into its key and where the value starts.
fn key_of(line: &[u8]) -> Option<(&[u8], usize)> {
    let colon = line.iter().position(|&b| b == b':')?;
    let key = line[..colon].rsplit(|&b| b == b' ').next()?;
    Some((key, colon + 1))
}

struct Kib {
    number: u64,
    bytes: Bytes,
    /// How far behind the colon the number ends.
    digits_end: usize,
}

fn kib(text: &[u8], value_at: usize) -> Result<Kib, ParseError> {
    let rest = &text[value_at..];
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    number(&rest[blanks..])
        .map(|(number, digits)| {
            // No node has 16 EiB; a damaged figure must not wrap to a small one.
            let bytes = Bytes::from_kib(number).unwrap_or(Bytes::new(u64::MAX));
            Kib { number, bytes, digits_end: blanks + digits }
        })
        .ok_or_else(|| ParseError::at(text, value_at + blanks, "a number of kB"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kib(n: u64) -> Option<Bytes> {
        Bytes::from_kib(n)
    }

    #[test]
    fn a_whole_file() {
        let text = b"\nNode 12 MemTotal:       33554432 kB\nNode 12 MemFree:        1000 kB\n\
            Node 12 MemUsed:  5 kB\nNode 12 Inactive:  9 kB\nNode 12 Inactive(file):  7 kB\n\
            Node 12 HugePages_Free:      0\n";
        let m = parse(text).expect("a good file");
        assert_eq!((m.total, m.free, m.inactive_file), (kib(33_554_432), kib(1000), kib(7)));
        assert_eq!(m.numad.inactive_file_kib, Some(7));
    }

    #[test]
    fn active_file_cache_and_slab_can_be_had_less_what_the_kernel_keeps() {
        let text =
            b"Node 0 MemTotal: 100000 kB\nNode 0 MemFree: 1000 kB\nNode 0 Active(file): 60000 kB\n\
            Node 0 Inactive(file): 5000 kB\nNode 0 SReclaimable: 300 kB\n";
        let m = parse(text).expect("a good file");
        let figure = |low: u64, kept: u64| {
            m.available(Bytes::new(low << 10), Bytes::new(kept << 10)).map(Bytes::whole_kib)
        };
        assert_eq!(figure(0, 0), Some(66_300));
        // Half of the slab is less than the watermark.
        assert_eq!(figure(400, 500), Some(1000 + 64_600 + 150 - 500));
        assert_eq!(figure(0, 70_000), Some(0));
        let more = NodeMeminfo { free: kib(99_000), ..m };
        assert_eq!(more.available(Bytes::ZERO, Bytes::ZERO), kib(100_000), "never above MemTotal");
        let above = NodeMeminfo { free: kib(500_000), ..m };
        assert_eq!(above.available(Bytes::ZERO, Bytes::new(30_000 << 10)), kib(100_000));
        assert_eq!(NodeMeminfo::default().available(Bytes::ZERO, Bytes::ZERO), None);
    }

    #[test]
    fn absent_is_not_zero() {
        let m = parse(b"Node 0 MemTotal: 0 kB\n").expect("a good file");
        assert_eq!((m.total, m.free, m.inactive_file), (kib(0), None, None));
        assert_eq!(parse(b""), Ok(NodeMeminfo::default()));
    }

    #[test]
    fn numad_looks_in_one_order_and_not_far() {
        let m =
            parse(b"Node 0 MemFree: 1 kB\nNode 0 MemTotal: 2 kB\nNode 0 Inactive(file): 3 kB\n")
                .expect("a good file");
        assert_eq!((m.free, m.numad.total_kib, m.numad.free_kib), (kib(1), Some(2), None));
        assert_eq!(m.numad.inactive_file_kib, None);
        let far = format!("Node 0 MemTotal: 2 kB\n{}\nNode 0 MemFree: 1 kB\n", "x".repeat(4096));
        let m = parse(far.as_bytes()).expect("a good file");
        assert_eq!((m.free, m.numad.free_kib), (kib(1), None));
    }

    #[test]
    fn damage_is_named() {
        for (text, error) in [
            ("Node 0 MemTotal: kB\n", "1:18: expected a number of kB, found \"kB\""),
            ("a\nNode 0 MemFree:", "2:16: expected a number of kB, found nothing"),
            (
                "Node 0 MemFree: 99999999999999999999 kB",
                "1:17: expected a number of kB, found \"99999999999999999999 kB\"",
            ),
        ] {
            assert_eq!(parse(text.as_bytes()).map_err(|e| e.to_string()), Err(error.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn near_files_are_answered(text in "(Node 0 (MemTotal|MemFree|Inactive\\(file\\)): *[0-9]{0,22} kB\n?){0,6}") {
            let _ = parse(text.as_bytes());
        }
    }
}
