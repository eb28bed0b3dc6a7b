//! The kernel's texts about processes, as values.
//!
//! Our own readers: those of procfs-core 0.18 panic on a `stat` whose name is cut (`(` first, `)`
//! last), and hide the start of the process behind forty fields that have to be right as well.

use std::collections::BTreeMap;

use crate::ids::{CpuId, NodeId};
use crate::idset::{CpuSet, IdSet};
use crate::parse::{self, number, trim_end};
use crate::units::Bytes;

/// What `/proc/PID/stat` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// The program's name.
    pub(super) program: String,
    /// The pid of its parent.
    pub(super) parent: u32,
    /// Whether it has ended and waits to be waited for. A leader that ended before its other
    /// threads has not.
    pub(super) ended: bool,
    /// CPU time, in ticks of 1/100 s: of all threads in `/proc/PID/stat`, of one in
    /// `/proc/PID/task/TID/stat`.
    pub(super) used_ticks: u64,
    /// When it started, in ticks since boot.
    pub(super) start: u64,
}

/// Reads `PID (NAME) STATE PPID ...`: the name may hold anything, also brackets and line ends.
pub(super) fn stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')').filter(|&close| close > open)?;
    let program = String::from_utf8_lossy(&text[open + 1..close]).into_owned();
    let rest = trim_end(text.get(close + 2..)?);
    let fields: Vec<&[u8]> = rest.split(|&b| b == b' ').take(20).collect();
    // Numbered as in proc(5), where the state is field 3.
    let field = |n: usize| fields.get(n - 3).copied();
    let count = |n: usize| number(field(n)?).map(|(value, _)| value);
    let state = field(3)?.first()?;
    let threads = count(20)?;
    Some(Stat {
        program,
        parent: u32::try_from(count(4)?).ok()?,
        ended: matches!(state, b'Z' | b'X' | b'x') && threads <= 1,
        used_ticks: count(14)?.saturating_add(count(15)?),
        start: count(22)?,
    })
}

/// What `/proc/PID/status` tells of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// RssAnon + RssShmem (Linux 4.5; VmRSS before that, which counts files as well).
    pub(super) resident: Bytes,
    /// HugetlbPages.
    pub(super) huge: Bytes,
    /// Threads.
    pub(super) threads: u64,
}

/// Reads the lines of memory. A kernel thread has none: all is zero.
pub(super) fn status(text: &[u8]) -> Status {
    let kib = |key: &str| field(text, key).and_then(|value| Bytes::from_kib(number(value)?.0));
    let resident = match (kib("RssAnon"), kib("RssShmem")) {
        (None, None) => kib("VmRSS").unwrap_or_default(),
        (anon, shmem) => anon.unwrap_or_default().saturating_add(shmem.unwrap_or_default()),
    };
    let threads = field(text, "Threads").and_then(number).map_or(0, |(threads, _)| threads);
    Status { resident, huge: kib("HugetlbPages").unwrap_or_default(), threads }
}

/// Returns the memory that is locked for devices (`VmPin`, Linux 3.2).
pub(super) fn pinned(status: &[u8]) -> Bytes {
    let kib = field(status, "VmPin").and_then(number);
    kib.and_then(|(kib, _)| Bytes::from_kib(kib)).unwrap_or_default()
}

/// Who a process is, from its `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The process that a thread belongs to: itself for a process (`Tgid`).
    pub(super) leader: Option<u32>,
    /// The process that started it, or looks after it since (`PPid`).
    pub(super) parent: Option<u32>,
    /// The real user (`Uid`, the first).
    pub(super) uid: Option<u32>,
    /// `Mems_allowed_list`; `None` where it is not told.
    pub(super) allowed: Option<Vec<u32>>,
}

/// Reads who a process is.
pub(super) fn identity(status: &[u8]) -> Identity {
    let first = |key: &str| u32::try_from(number(field(status, key)?)?.0).ok();
    let list = field(status, "Mems_allowed_list").map(trim_end);
    let nodes = list.and_then(|list| parse::list::parse::<NodeId>(list).ok());
    // No host has more nodes: what is done for each of them must end.
    let few = |nodes: &IdSet<NodeId>| nodes.len() <= 4096 && !nodes.is_empty();
    let allowed = nodes.filter(few).map(|nodes| nodes.iter().map(|node| node.0).collect());
    let (leader, parent, uid) = (first("Tgid"), first("PPid"), first("Uid"));
    Identity { leader, parent, uid, allowed }
}

/// Returns the CPUs that a thread may run on, from `Cpus_allowed_list` of its `status`.
pub(super) fn cpus_allowed(status: &[u8]) -> Option<CpuSet> {
    let list = trim_end(field(status, "Cpus_allowed_list")?);
    parse::list::parse::<CpuId>(list).ok().filter(|cpus| !cpus.is_empty())
}

/// Returns whether a process of this name (`comm`: 15 bytes at most) may be a QEMU: most go by the
/// name of the program, those of libvirt's may be called `qemu:NAME`.
pub(super) fn may_be_qemu(comm: &[u8]) -> bool {
    comm.starts_with(b"qemu") || trim_end(comm) == b"kvm"
}

/// Returns the last pid that was given, from `/proc/loadavg`: `0.20 0.18 0.12 1/80 11206`.
pub(super) fn last_pid(text: &[u8]) -> Option<u32> {
    let last = trim_end(text).rsplit(|&b| b == b' ').next()?;
    u32::try_from(number(last)?.0).ok()
}

/// Returns how many processes and threads there are, from the same file.
pub(super) fn running(text: &[u8]) -> Option<usize> {
    let of_all = trim_end(text).rsplit(|&b| b == b' ').nth(1)?;
    let all = of_all.rsplit(|&b| b == b'/').next()?;
    usize::try_from(number(all)?.0).ok()
}

/// Returns the numbers of users by their names, from `/etc/passwd`.
pub(super) fn users(text: &[u8], names: &[&str]) -> Vec<u32> {
    let lines = text.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next()?;
        let uid = u32::try_from(number(fields.nth(1)?)?.0).ok()?;
        names.iter().any(|known| known.as_bytes() == name).then_some(uid)
    });
    lines.collect()
}

/// Returns the host's usual size of huge pages in bytes, from `Hugepagesize` of `/proc/meminfo`.
pub(super) fn huge_page(meminfo: &[u8]) -> Option<u64> {
    number(field(meminfo, "Hugepagesize")?)?.0.checked_mul(1024).filter(|&size| size > 0)
}

/// Returns the memory of the host in bytes, from `MemTotal` of `/proc/meminfo`.
pub(super) fn memory_total(meminfo: &[u8]) -> Option<u64> {
    number(field(meminfo, "MemTotal")?)?.0.checked_mul(1024)
}

/// Returns where file systems in memory are mounted, from `/proc/mounts`:
/// `none /dev/hugepages1G hugetlbfs rw,pagesize=1024M 0 0`. With `Some` for huge pages, and their
/// size where it is told.
pub(super) fn memory_mounts(text: &[u8]) -> BTreeMap<String, Option<Option<u64>>> {
    let text = String::from_utf8_lossy(text);
    let mounts = text.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind, options) = (words.next()?, words.next()?, words.next()?);
        let size = || {
            let size = options.split(',').find_map(|option| option.strip_prefix("pagesize="))?;
            let (amount, digits) = number(size.as_bytes())?;
            let shift = match &size[digits..] {
                "K" => 10,
                "M" => 20,
                "G" => 30,
                _ => return None,
            };
            amount.checked_mul(1 << shift).filter(|&size| size > 0)
        };
        match kind {
            "tmpfs" => Some((path.to_owned(), None)),
            "hugetlbfs" => Some((path.to_owned(), Some(size()))),
            _ => None,
        }
    });
    mounts.collect()
}

/// Returns the pid of a process in its innermost pid namespace, from `NSpid:` of its `status`;
/// `None` when it is in the same one as the reader.
pub(super) fn inner_pid(status: &[u8]) -> Option<u32> {
    let pids = field(status, "NSpid")?;
    let mut pids = pids.split(u8::is_ascii_whitespace).filter(|pid| !pid.is_empty());
    let _outer = pids.next()?;
    u32::try_from(number(pids.next_back()?)?.0).ok()
}

/// Returns the text behind `KEY:`, without blanks before it.
pub(super) fn field<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let lines = text.split(|&b| b == b'\n');
    let mut found = lines.filter_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b":"));
    found.next().map(<[u8]>::trim_ascii_start)
}

/// Reads the number of a namespace from its link: `pid:[4026531836]`.
pub(super) fn namespace(link: &[u8]) -> Option<u64> {
    let open = link.iter().position(|&b| b == b'[')?;
    number(&link[open + 1..]).map(|(value, _)| value)
}

/// How far a time namespace's clocks are ahead of the first one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TimeOffsets {
    pub(super) monotonic_ns: i128,
    pub(super) boot_ns: i128,
}

/// Reads `/proc/PID/timens_offsets`: `monotonic  SECONDS  NANOSECONDS`, and the same for `boottime`.
pub(super) fn time_offsets(text: &[u8]) -> TimeOffsets {
    let of = |clock: &str| -> Option<i128> {
        let text = std::str::from_utf8(text).ok()?;
        let line = text.lines().find(|line| line.starts_with(clock))?;
        let mut numbers = line.split_ascii_whitespace().skip(1);
        let seconds: i64 = numbers.next()?.parse().ok()?;
        let rest: i64 = numbers.next()?.parse().ok()?;
        Some(i128::from(seconds) * 1_000_000_000 + i128::from(rest))
    };
    TimeOffsets { monotonic_ns: of("monotonic").unwrap_or(0), boot_ns: of("boottime").unwrap_or(0) }
}

/// Reads the ticks since boot from `/proc/uptime`: `3491.29 6800.11`.
pub(super) fn uptime_ticks(text: &[u8]) -> u64 {
    let whole = number(text);
    let Some((seconds, digits)) = whole else { return 0 };
    let part = text.get(digits + 1..).and_then(number).map_or(0, |(part, _)| part.min(99));
    seconds.saturating_mul(100).saturating_add(part)
}

/// Returns who holds the `flock` of a file, from `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 4245 00:2f:123 0 EOF`. Those that wait are marked `->`. `None` when
/// nobody does, or somebody who is not seen from this pid namespace (pid 0).
pub(super) fn lock_holder(text: &[u8], major: u64, minor: u64, inode: u64) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    text.split(|&b| b == b'\n').find_map(|line| {
        let mut words = line.split(|&b| b == b' ').filter(|word| !word.is_empty()).skip(1);
        let held = words.next()? == b"FLOCK";
        let pid = u32::try_from(number(words.nth(2)?)?.0).ok()?;
        (held && words.next()? == file.as_bytes() && pid > 0).then_some(pid)
    })
}

/// Reads `memory.numa_stat` of cgroup v2: `anon N0=4096 N1=0`, in bytes. Counts anonymous and
/// shared memory; page cache is nobody's for good.
pub(super) fn numa_stat(text: &[u8]) -> Vec<(NodeId, Bytes)> {
    let mut nodes: Vec<(NodeId, Bytes)> = Vec::new();
    for line in text.split(|&b| b == b'\n') {
        let mut words = line.split(|&b| b == b' ');
        if !matches!(words.next(), Some(b"anon" | b"shmem")) {
            continue;
        }
        for word in words {
            let Some((node, memory)) = on_node(word) else { continue };
            match nodes.binary_search_by_key(&node, |&(id, _)| id) {
                Ok(at) => nodes[at].1 = nodes[at].1.saturating_add(memory),
                Err(at) => nodes.insert(at, (node, memory)),
            }
        }
    }
    nodes
}

/// Reads `N0=4096`.
pub(super) fn on_node(word: &[u8]) -> Option<(NodeId, Bytes)> {
    let (node, digits) = number(word.strip_prefix(b"N")?)?;
    let value = word.get(1 + digits..)?.strip_prefix(b"=")?;
    Some((NodeId(u32::try_from(node).ok()?), Bytes::new(number(value)?.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str =
        "4711 (a) b (c\n) S 1 2 3 0 -1 4194560 9 8 7 6 250 50 0 0 20 0 3 0 12345 99 1";

    #[test]
    fn allowed_cpus_are_read_and_nothing_is_made_up() {
        let list = |text: &[u8]| cpus_allowed(text).map(|cpus| cpus.to_string());
        assert_eq!(
            list(b"Cpus_allowed:\tff\nCpus_allowed_list:\t0-3,8\n"),
            Some("0-3,8".to_owned())
        );
        for text in [&b"Cpus_allowed_list:\t\n"[..], b"Cpus_allowed_list:\t3-\n", b"Name:\tx\n"] {
            assert_eq!(list(text), None);
        }
    }

    #[test]
    fn the_name_may_hold_anything() {
        let read = stat(STAT.as_bytes()).expect("a stat");
        let program = "a) b (c\n".to_owned();
        let wanted = Stat { program, parent: 1, ended: false, used_ticks: 300, start: 12_345 };
        assert_eq!(read, wanted);
        let zombie = STAT.replace(" S ", " Z ");
        assert!(!stat(zombie.as_bytes()).expect("a stat").ended, "other threads run");
        assert!(stat(zombie.replace(" 3 0 12345", " 1 0 12345").as_bytes()).expect("one").ended);
        for cut in 0..STAT.len() - " 12345 99 1".len() {
            assert_eq!(stat(&STAT.as_bytes()[..cut]), None, "{cut}");
        }
        for text in ["", "(", ")(", "1 ()", "1 () ", "()", "1 (x) S -1"] {
            assert_eq!(stat(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn memory_of_a_process() {
        let kib = |n| Bytes::from_kib(n).expect("small");
        let text = "Name:\tx\nNSpid:\t88\t7\nUid:\t1\t2\t3\t4\nVmRSS:\t 99 kB\nRssAnon:\t 10 kB\n\
                    RssFile:\t 5 kB\nRssShmem:\t 2 kB\nHugetlbPages:\t 2048 kB\n\
                    Threads:\t9\n";
        let text = text.as_bytes();
        assert_eq!(status(text), Status { resident: kib(12), huge: kib(2048), threads: 9 });
        assert_eq!(inner_pid(text), Some(7));
        assert_eq!(inner_pid(b"NSpid:\t88\n"), None);
        assert_eq!(status(b"VmRSS:\t 99 kB\n").resident, kib(99), "before Linux 4.5");
        assert_eq!(status(b"Name:\tkthreadd\n"), Status::default());
    }

    #[test]
    fn small_texts() {
        assert_eq!(namespace(b"pid:[4026531836]"), Some(4_026_531_836));
        assert_eq!(namespace(b"pid:4026531836"), None);
        let offsets =
            time_offsets(b"monotonic           1         5\nboottime      -2         0\n");
        assert_eq!(offsets, TimeOffsets { monotonic_ns: 1_000_000_005, boot_ns: -2_000_000_000 });
        assert_eq!(time_offsets(b""), TimeOffsets::default());
        assert_eq!((uptime_ticks(b"3491.29 1\n"), uptime_ticks(b"x")), (349_129, 0));
        let text = b"1: POSIX  ADVISORY  WRITE 7 00:1b:55 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 00:1b:55 \
            0 EOF\n2: -> FLOCK  ADVISORY  WRITE 9 00:1b:56 0 EOF\n3: FLOCK  ADVISORY  READ 0 08:01:5 0\n";
        assert_eq!(lock_holder(text, 0, 0x1b, 55), Some(8));
        assert_eq!(lock_holder(text, 0, 0x1b, 56), None, "it waits");
        assert_eq!((lock_holder(text, 8, 1, 5), lock_holder(text, 8, 1, 6)), (None, None));
        let text = b"anon N0=100 N2=5\nfile N0=9\nshmem N0=1 N1=2 Nx=3 N4\nanon_thp N0=7\n";
        let b = Bytes::new;
        let wanted = [(NodeId(0), b(101)), (NodeId(1), b(2)), (NodeId(2), b(5))];
        assert_eq!(numa_stat(text), wanted);
    }

    #[test]
    fn who_a_process_is() {
        let text = b"Name:\tx\nTgid:\t88\nUid:\t64055\t2\t3\t4\nMems_allowed:\t3\nMems_allowed_list:\t0,2-3\n";
        let wanted = Identity {
            leader: Some(88),
            parent: None,
            uid: Some(64_055),
            allowed: Some(vec![0, 2, 3]),
        };
        assert_eq!(identity(text), wanted);
        assert_eq!(identity(b"Tgid:\tx\nMems_allowed_list:\t\n"), Identity::default());
        let lying = identity(b"Mems_allowed_list:\t0-4294967294\n");
        assert_eq!(lying.allowed, None);
        for (comm, may) in [("qemu-system-x86\n", true), ("qemu:db 1", true), ("kvm\n", true)] {
            assert_eq!(may_be_qemu(comm.as_bytes()), may, "{comm}");
        }
        assert!(!may_be_qemu(b"kvm-pit/7\n") && !may_be_qemu(b"bash\n"));
        assert_eq!(last_pid(b"0.20 0.18 0.12 1/80 11206\n"), Some(11_206));
        assert_eq!(running(b"0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert_eq!((last_pid(b""), last_pid(b"x y"), running(b"x y")), (None, None, None));
        let passwd =
            b"root:x:0:0:r:/:/bin/sh\nlibvirt-qemu:x:64055:108::/:/n\nqemu:*:107:\nqemux:x:5:\n";
        assert_eq!(users(passwd, &["qemu", "libvirt-qemu"]), [64_055, 107]);
        assert_eq!(huge_page(b"MemTotal: 5 kB\nHugepagesize:    2048 kB\n"), Some(2 << 20));
        let mounts = b"none /dev/shm tmpfs rw 0 0\nh /dev/huge hugetlbfs rw,pagesize=1024M 0 0\n\
            h /mnt/h hugetlbfs rw 0 0\n/dev/sda / ext4 rw 0 0\n";
        let wanted = [
            ("/dev/huge".to_owned(), Some(Some(1 << 30))),
            ("/dev/shm".to_owned(), None),
            ("/mnt/h".to_owned(), Some(None)),
        ];
        assert_eq!(memory_mounts(mounts).into_iter().collect::<Vec<_>>(), wanted);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (stat(&bytes), status(&bytes), inner_pid(&bytes), namespace(&bytes));
            let _ = (time_offsets(&bytes), uptime_ticks(&bytes), numa_stat(&bytes));
            let _ = lock_holder(&bytes, 0, 0, 0);
            let _ = (identity(&bytes), may_be_qemu(&bytes), last_pid(&bytes));
            let _ = huge_page(&bytes);
            let _ = (users(&bytes, &["a"]), memory_mounts(&bytes));
        }

        #[test]
        fn near_stats_are_answered(text in "[0-9]{0,3} ?\\(?[ab)(]{0,4}\\)? ?([SZ] )?([0-9-]{0,22} ){0,25}") {
            let _ = stat(text.as_bytes());
        }
    }
}
