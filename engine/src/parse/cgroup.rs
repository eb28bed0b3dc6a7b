//! Files of control groups, v1 and v2, and where a process is among the groups.

use super::{ParseError, number, trim_end};
use crate::units::{Bytes, CpuShare};

/// The longest path of a group: PATH_MAX.
const MAX_PATH: usize = 4096;
/// v1 writes "no limit" as the largest number of whole pages in 63 bits. No host has an exbibyte.
const UNLIMITED: u64 = 1 << 60;

/// The group of a process in one hierarchy: a line of `/proc/self/cgroup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership<'a> {
    /// The controllers of a v1 hierarchy, with commas between; empty for v2.
    pub controllers: &'a [u8],
    /// The path of the group, from the root of the cgroup namespace.
    pub path: &'a [u8],
}

/// Reads `/proc/self/cgroup`: lines such as `0::/user.slice/job` (v2) and `4:memory:/job` (v1).
///
/// Errors: a line without two colons, a path that is not absolute or longer than 4,096 bytes.
pub fn memberships(text: &[u8]) -> Result<Vec<Membership<'_>>, ParseError> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        if !body.is_empty() {
            let mut fields = body.splitn(3, |&b| b == b':');
            let wanted = "HIERARCHY:CONTROLLERS:/PATH";
            match (fields.next(), fields.next(), fields.next()) {
                (Some(_), Some(controllers), Some(path))
                    if path.starts_with(b"/") && path.len() <= MAX_PATH =>
                {
                    found.push(Membership { controllers, path });
                }
                _ => return Err(ParseError::at(text, start, wanted)),
            }
        }
        start += line.len();
    }
    Ok(found)
}

/// A mounted cgroup file system: a line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The group that is at the mount point, from the root of the cgroup namespace.
    pub root: Vec<u8>,
    /// The mount point.
    pub at: Vec<u8>,
    /// Whether it is cgroup v2.
    pub v2: bool,
    /// The options of the file system, with commas between: for v1 its controllers are among them.
    pub options: Vec<u8>,
}

/// Reads the cgroup mounts of `/proc/self/mountinfo`. Lines of other file systems and lines that
/// are cut short are passed over.
pub fn mounts(text: &[u8]) -> Vec<Mount> {
    let one = |line: &[u8]| {
        let mut fields = line.split(|&b| b == b' ');
        // ID, parent, device, root, mount point, options, tags up to "-", type, source, options.
        let (root, at) = (fields.nth(3)?, fields.next()?);
        let mut rest = fields.skip_while(|&field| field != b"-").skip(1);
        let kind = rest.next()?;
        let options = rest.nth(1)?.to_vec();
        let v2 = kind == b"cgroup2";
        (v2 || kind == b"cgroup").then(|| Mount {
            root: unescaped(root),
            at: unescaped(at),
            v2,
            options,
        })
    };
    text.split(|&b| b == b'\n').filter_map(one).collect()
}

/// Undoes `\040` and the like, as the kernel writes blanks in mountinfo.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let digits = text.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Reads a number of bytes: `memory.current`, `memory.max`, `memory.limit_in_bytes`. `None` for
/// `max` and for v1's largest number, which are no limit.
///
/// Errors: anything else.
pub fn bytes(text: &[u8]) -> Result<Option<Bytes>, ParseError> {
    let body = trim_end(text);
    if body == b"max" {
        return Ok(None);
    }
    let all_digits = !body.is_empty() && body.iter().all(u8::is_ascii_digit);
    match number(body) {
        Some((bytes, digits)) if digits == body.len() => {
            Ok((bytes < UNLIMITED).then_some(Bytes::new(bytes)))
        }
        // Past 64 bits.
        None if all_digits => Ok(None),
        _ => Err(ParseError::at(text, 0, "a number of bytes or \"max\"")),
    }
}

/// Reads `cpu.max`: the CPU time in a period and the period, in microseconds. `None` for `max`.
///
/// Errors: anything but two numbers, or a period of 0.
pub fn cpu_max(text: &[u8]) -> Result<Option<CpuShare>, ParseError> {
    let body = trim_end(text);
    let wanted = || ParseError::at(text, 0, "\"max\" or a time, and a period");
    let blank = body.iter().position(|&b| b == b' ').ok_or_else(wanted)?;
    let period = whole(&body[blank + 1..]).filter(|&period| period > 0).ok_or_else(wanted)?;
    match &body[..blank] {
        b"max" => Ok(None),
        time => Ok(Some(share(whole(time).ok_or_else(wanted)?, period))),
    }
}

/// Reads `cpu.cfs_quota_us` and `cpu.cfs_period_us` of v1. `None` for a quota of -1.
///
/// Errors: the first of the two that is no number; a period of 0.
pub fn cfs_quota(quota: &[u8], period: &[u8]) -> Result<Option<CpuShare>, ParseError> {
    let body = trim_end(quota);
    if body.strip_prefix(b"-").is_some_and(|digits| whole(digits).is_some()) {
        return Ok(None);
    }
    let time = whole(body).ok_or_else(|| ParseError::at(quota, 0, "a number of microseconds"))?;
    let wanted = || ParseError::at(period, 0, "a number of microseconds above 0");
    let period = whole(trim_end(period)).filter(|&period| period > 0).ok_or_else(wanted)?;
    Ok(Some(share(time, period)))
}

fn whole(text: &[u8]) -> Option<u64> {
    number(text).filter(|(_, digits)| *digits == text.len()).map(|(number, _)| number)
}

fn share(time: u64, period: u64) -> CpuShare {
    CpuShare::from_hundredths(time.saturating_mul(100) / period)
}

/// What `memory.stat` of a group says, its descendants included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStat {
    /// File cache, inactive and active, which the kernel gives up before it kills for the limit.
    pub file_cache: Bytes,
    /// v1: the lowest limit of the group and its ancestors, also of those that cannot be seen.
    pub lowest_limit: Option<Bytes>,
    /// v1: whether it says that no group limits memory, neither this one nor one above it.
    pub unlimited: bool,
}

/// Reads `memory.stat`. Lines that are not needed are passed over.
///
/// Errors: a line that is needed without a number.
pub fn memory_stat(text: &[u8]) -> Result<MemoryStat, ParseError> {
    let (mut own, mut total) = (Bytes::ZERO, None);
    let (mut lowest_limit, mut unlimited) = (None, false);
    let mut start = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        let body = trim_end(line);
        if let Some(blank) = body.iter().position(|&b| b == b' ') {
            let value = || {
                let wanted = "a number of bytes";
                let value = whole(&body[blank + 1..]);
                value.ok_or_else(|| ParseError::at(text, start + blank + 1, wanted))
            };
            match &body[..blank] {
                b"inactive_file" | b"active_file" => {
                    own = own.saturating_add(Bytes::new(value()?));
                }
                // v1: with those of the descendants.
                b"total_inactive_file" | b"total_active_file" => {
                    let sum: Bytes = total.unwrap_or_default();
                    total = Some(sum.saturating_add(Bytes::new(value()?)));
                }
                b"hierarchical_memory_limit" => {
                    lowest_limit = Some(value()?).filter(|&b| b < UNLIMITED).map(Bytes::new);
                    unlimited = lowest_limit.is_none();
                }
                _ => {}
            }
        }
        start += line.len();
    }
    Ok(MemoryStat { file_cache: total.unwrap_or(own), lowest_limit, unlimited })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memberships_of_both_versions() {
        let text = b"9:cpuset:/x\n4:cpu,cpuacct:/a:b/c\n1:name=systemd:/\n0::/user.slice/a b\n";
        let found = memberships(text).expect("good lines");
        let of = |at: usize| (found[at].controllers, found[at].path);
        assert_eq!(of(0), (&b"cpuset"[..], &b"/x"[..]));
        assert_eq!(of(1), (&b"cpu,cpuacct"[..], &b"/a:b/c"[..]));
        assert_eq!(of(3), (&b""[..], &b"/user.slice/a b"[..]));
        assert_eq!(memberships(b""), Ok(Vec::new()));
        let long = [b"0::/".as_slice(), &[b'x'; MAX_PATH]].concat();
        for bad in [&b"0:/x\n"[..], b"0::x\n", b"0::\n", b"\x00\n", &long] {
            let error = memberships(bad).expect_err("a damaged line").to_string();
            assert!(error.starts_with("1:1: expected HIERARCHY:CONTROLLERS:/PATH"), "{error}");
        }
    }

    #[test]
    fn damaged_mount_lines_are_passed_over() {
        let text = b"20 1 0:18 /part /srv/part rw - cgroup2 cgroup2 rw\n\
            21 1 0:18 / /mnt/other\\040one rw,nosuid shared:9 master:1 - cgroup cgroup rw,memory\n\
            22 1 0:19 / /proc rw - proc proc rw\n";
        let all = mounts(text);
        let expected = [
            Mount {
                root: b"/part".to_vec(),
                at: b"/srv/part".to_vec(),
                v2: true,
                options: b"rw".to_vec(),
            },
            Mount {
                root: b"/".to_vec(),
                at: b"/mnt/other one".to_vec(),
                v2: false,
                options: b"rw,memory".to_vec(),
            },
        ];
        assert_eq!(all, expected);
        for cut in 0..text.len() {
            assert!(mounts(&text[..cut]).len() <= all.len());
        }
        assert_eq!(unescaped(b"a\\04\\999\\"), b"a\\04\\999\\");
    }

    #[test]
    fn memory_limits() {
        for (text, limit) in [
            ("max\n", None),
            ("209715200\n", Some(200 * MIB)),
            ("0", Some(0)),
            ("9223372036854771712\n", None),
            ("99999999999999999999999\n", None),
        ] {
            assert_eq!(bytes(text.as_bytes()), Ok(limit.map(Bytes::new)), "{text:?}");
        }
        for text in ["", "-1", "max 5", "12k", "0x10", "maximum"] {
            assert!(bytes(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn cpu_limits_are_rounded_down_to_hundredths() {
        for (text, limit) in [
            ("max 100000\n", None),
            ("200000 100000\n", Some(200)),
            ("150000 100000", Some(150)),
            ("1000 100000", Some(1)),
            ("99999 100000", Some(99)),
            ("18446744073709551615 1", Some(u64::MAX)),
        ] {
            let limit = limit.map(CpuShare::from_hundredths);
            assert_eq!(cpu_max(text.as_bytes()), Ok(limit), "{text:?}");
        }
        for text in ["", "max", "100000", "100000 0", "-1 100000", "1 2 3", "max x"] {
            assert!(cpu_max(text.as_bytes()).is_err(), "{text:?}");
        }
        let cfs = |quota: &str, period: &str| cfs_quota(quota.as_bytes(), period.as_bytes());
        assert_eq!(cfs("-1\n", "100000\n"), Ok(None));
        assert_eq!(cfs("250000\n", "100000\n"), Ok(Some(CpuShare::from_hundredths(250))));
        for (quota, period) in [("", "100000"), ("-", "1"), ("5", "0"), ("5", ""), ("5 5", "5")] {
            assert!(cfs(quota, period).is_err(), "{quota:?} {period:?}");
        }
    }

    #[test]
    fn file_cache_of_v1_counts_its_descendants() {
        let v2 = b"anon 5\nfile 9\ninactive_file 4096\nactive_file 8192\n";
        let stat = MemoryStat { file_cache: Bytes::new(12288), ..MemoryStat::default() };
        assert_eq!(memory_stat(v2), Ok(stat));
        let v1 = b"inactive_file 1\nactive_file 2\nhierarchical_memory_limit 209715200\n\
            hierarchical_memsw_limit 9223372036854771712\n\
            total_inactive_file 10\ntotal_active_file 20\n";
        let lowest_limit = Some(Bytes::new(200 * MIB));
        let stat = MemoryStat { file_cache: Bytes::new(30), lowest_limit, ..MemoryStat::default() };
        assert_eq!(memory_stat(v1), Ok(stat));
        let free = memory_stat(b"hierarchical_memory_limit 9223372036854771712\n");
        assert_eq!(free, Ok(MemoryStat { unlimited: true, ..MemoryStat::default() }));
        assert_eq!(memory_stat(b""), Ok(MemoryStat::default()));
        let error = memory_stat(b"anon 5\ninactive_file x\n").expect_err("no number");
        assert_eq!(error.to_string(), "2:15: expected a number of bytes, found \"x\"");
    }
}
