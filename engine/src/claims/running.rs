//! What a guest does while it runs: the CPU time of its threads, and what it takes to find its memory.
//!
//! Everything is bounded: threads, mappings and descriptors of a process are counted up to a limit, and the
//! addresses whose pages are asked about are a sample. `numa_maps`, which walks all pages of a guest, is not read.

use std::collections::BTreeMap;

use super::claim::{Owner, ProcessId};
use super::numa_maps;
use super::proc::Processes;
use super::proc_text;
use crate::hash::mixed;
use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::parse;
use crate::units::Bytes;

/// A process with more threads is not looked at.
const MAX_THREADS: usize = 4_096;
/// Descriptors looked through for devices.
const MAX_DESCRIPTORS: usize = 1_024;
/// Mappings whose pages are asked about: the largest.
const MAX_MAPPINGS: usize = 512;
/// Addresses in a sample: about 2 % of spread where memory lies on two nodes in equal parts.
const SAMPLES: u64 = 2_048;
/// The page size that addresses are multiples of.
const PAGE: u64 = 4_096;

/// A guest at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Running {
    /// The pid by which it is seen from here.
    pub pid: u32,
    /// The program.
    pub program: String,
    /// Seconds since it started.
    pub age_s: f64,
    /// The CPUs that any of its threads may run on.
    pub cpus: CpuSet,
    /// Whether all threads may run on the same CPUs.
    pub same_cpus: bool,
    /// The CPUs of its control group; `None` where that is not known.
    pub group_cpus: Option<CpuSet>,
    /// The nodes it may take memory of.
    pub memory_nodes: NodeSet,
    /// Memory in ordinary pages.
    pub resident: Bytes,
    /// Memory in huge pages of a pool.
    pub huge: Bytes,
    /// Memory that is locked for devices and cannot be moved (`VmPin`).
    pub pinned: Bytes,
    /// Whether a device of the host is passed through (vfio): then all its memory is pinned.
    pub has_device: bool,
    /// Whether its command line binds its memory to nodes.
    pub binds_memory: bool,
    /// Memory by node, where a control group of its own reports it.
    pub by_node: Option<Vec<(NodeId, Bytes)>>,
    /// A sample of its addresses, to ask for the nodes of their pages.
    pub samples: Vec<Sample>,
}

/// An address of a process, and how much memory it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The start of a page.
    pub address: u64,
    /// The bytes of its mapping that it stands for.
    pub weight: u64,
}

/// Nanoseconds that each thread of a process ran, and waited for a CPU, since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadTimes {
    threads: BTreeMap<u32, (u64, u64)>,
}

impl ThreadTimes {
    /// Returns the nanoseconds that threads ran and waited since an earlier reading. What a thread that has ended
    /// did meanwhile is not known.
    pub fn since(&self, earlier: &Self) -> (u64, u64) {
        let mut sum = (0u64, 0u64);
        for (thread, now) in &self.threads {
            let before = earlier.threads.get(thread).copied().unwrap_or_default();
            sum.0 = sum.0.saturating_add(now.0.saturating_sub(before.0));
            sum.1 = sum.1.saturating_add(now.1.saturating_sub(before.1));
        }
        sum
    }

    /// Returns the nanoseconds that threads ran since they started.
    pub fn ran_ns(&self) -> u64 {
        self.threads.values().fold(0, |sum, times| sum.saturating_add(times.0))
    }
}

impl Processes {
    /// Reads what the threads of a process have done so far; `None` where it is not seen from here or has more than
    /// 4,096.
    ///
    /// Source: `/proc/PID/task/TID/schedstat`, which counts also where `kernel.sched_schedstats` is 0.
    pub fn thread_times(&mut self, process: &ProcessId) -> Option<ThreadTimes> {
        let pid = self.pid_here(process)?;
        let mut times = ThreadTimes::default();
        for thread in self.dir().threads(pid, MAX_THREADS)? {
            // One that has ended meanwhile has no file any more.
            if self.dir().read(pid, &format!("task/{thread}/schedstat"))
                && let Some(read) = schedstat(self.dir().text())
            {
                times.threads.insert(thread, read);
            }
        }
        (!times.threads.is_empty()).then_some(times)
    }

    /// Looks at a guest that runs; `None` where it is not seen from here, or has ended. The command line of a user's
    /// guest that is not `believed` is not read: its owner can make that take as long as it likes.
    ///
    /// Source: `status`, `stat`, `maps`, `cmdline`, `cgroup` and the links in `fd` of its process, `memory.numa_stat`
    /// and `cpuset.cpus.effective` of its control group.
    pub fn running(&mut self, owner: &Owner, believed: bool) -> Option<Running> {
        let process = owner.process()?;
        let pid = self.pid_here(process)?;
        let stat = self.stat(pid).filter(|stat| stat.start.abs_diff(process.start) <= 1)?;
        let age_ticks = self.now_ticks().saturating_sub(stat.start);
        let (cpus, same_cpus) = self.cpus_of_threads(pid)?;
        let status = self.dir().read(pid, "status").then(|| self.dir().text().to_vec())?;
        let memory = proc_text::status(&status);
        let nodes = proc_text::identity(&status).allowed.unwrap_or_default();
        let binds_memory =
            believed && self.dir().read(pid, "cmdline") && numa_maps::line_binds(self.dir().text());
        let mut samples = Vec::new();
        if self.dir().read_maps(pid) {
            samples = sample(&mappings(self.dir().text()));
        }
        Some(Running {
            pid,
            program: stat.program,
            #[expect(clippy::cast_precision_loss, reason = "no host is up for 2^53 ticks")]
            age_s: age_ticks as f64 / 100.0,
            cpus,
            same_cpus,
            group_cpus: self.cpus_of_group(pid),
            memory_nodes: nodes.into_iter().map(NodeId).collect(),
            resident: memory.resident,
            huge: memory.huge,
            pinned: proc_text::pinned(&status),
            has_device: self.has_device(pid),
            binds_memory,
            by_node: self.memory_by_node(owner),
            samples,
        })
    }

    /// Returns the CPUs that any thread may run on, and whether all may run on the same.
    fn cpus_of_threads(&mut self, pid: u32) -> Option<(CpuSet, bool)> {
        let mut all: Option<CpuSet> = None;
        let mut same = true;
        for thread in self.dir().threads(pid, MAX_THREADS)? {
            if !self.dir().read(pid, &format!("task/{thread}/status")) {
                continue;
            }
            let Some(cpus) = proc_text::cpus_allowed(self.dir().text()) else { continue };
            all = Some(match all {
                None => cpus,
                Some(all) if all == cpus => all,
                Some(all) => {
                    same = false;
                    all.union(&cpus)
                }
            });
        }
        all.map(|all| (all, same))
    }

    fn cpus_of_group(&mut self, pid: u32) -> Option<CpuSet> {
        let text = self.read_of_group(pid, "cpuset.cpus.effective")?;
        parse::list::parse(parse::trim_end(&text)).ok()
    }

    /// Returns whether a process has a device of the host open (vfio).
    fn has_device(&mut self, pid: u32) -> bool {
        let open = self.dir().descriptors(pid, MAX_DESCRIPTORS);
        open.into_iter().any(|descriptor| {
            let link = self.dir().link(pid, &format!("fd/{descriptor}"));
            link.is_some_and(|link| link.starts_with(b"/dev/vfio/"))
        })
    }
}

/// Reads `RAN WAITED SLICES`, in nanoseconds.
fn schedstat(text: &[u8]) -> Option<(u64, u64)> {
    let mut words = text.split(|&b| b == b' ');
    let mut next = || Some(parse::number(words.next()?)?.0);
    Some((next()?, next()?))
}

/// Reads the mappings that hold memory of a process's own, the largest first: start and size.
fn mappings(text: &[u8]) -> Vec<(u64, u64)> {
    // The last line may be cut.
    let lines = text.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"));
    let mut all: Vec<(u64, u64)> = lines.filter_map(mapping).collect();
    all.sort_by_key(|&(start, size)| (std::cmp::Reverse(size), start));
    all.truncate(MAX_MAPPINGS);
    all
}

/// Reads `START-END PERMISSIONS OFFSET DEVICE INODE PATH`; `None` for what is not writable memory.
fn mapping(line: &[u8]) -> Option<(u64, u64)> {
    let line = std::str::from_utf8(line.trim_ascii_end()).ok()?;
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let writable = rest.as_bytes().get(1) == Some(&b'w');
    // Everything after the fifth field is the path, blanks and all.
    let path = rest.split_ascii_whitespace().nth(4).unwrap_or_default();
    let own = !path.starts_with('/') || numa_maps::is_memory(path.as_bytes());
    let special = path.starts_with("[vvar") || path.starts_with("[vsyscall");
    let size = end.checked_sub(start).filter(|&size| size > 0)?;
    (writable && own && !special).then_some((start, size))
}

/// Chooses addresses: two of each mapping, the others by size. Each part of a mapping gives one, at a place of its
/// own, so that pages that alternate between nodes are not all met on one.
fn sample(mappings: &[(u64, u64)]) -> Vec<Sample> {
    let all: u128 = mappings.iter().map(|&(_, size)| u128::from(size)).sum();
    let mut samples = Vec::new();
    for &(start, size) in mappings {
        let pages = size / PAGE;
        let by_size = u128::from(size) * u128::from(SAMPLES) / all.max(1);
        let count = u64::try_from(by_size).unwrap_or(SAMPLES).max(2).min(pages);
        for nth in 0..count {
            let (from, to) = (scaled(pages, nth, count), scaled(pages, nth + 1, count));
            let page = from + u64::from(mixed(start ^ nth)) % (to - from).max(1);
            samples.push(Sample { address: start + page * PAGE, weight: (to - from) * PAGE });
        }
    }
    samples
}

fn scaled(pages: u64, part: u64, parts: u64) -> u64 {
    let exact = u128::from(pages) * u128::from(part) / u128::from(parts.max(1));
    u64::try_from(exact).unwrap_or(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_threads() {
        assert_eq!(schedstat(b"12 34 5\n"), Some((12, 34)));
        for text in [&b""[..], b"12", b"x 3 4", b"12 "] {
            assert_eq!(schedstat(text), None, "{text:?}");
        }
        let times = |threads: &[(u32, (u64, u64))]| ThreadTimes {
            threads: threads.iter().copied().collect(),
        };
        let (before, now) =
            (times(&[(1, (10, 1)), (2, (5, 5))]), times(&[(1, (30, 4)), (3, (7, 0))]));
        assert_eq!((now.since(&before), now.ran_ns()), ((27, 3), 37));
    }

    #[test]
    fn mappings_of_a_process() {
        let text = b"00400000-00500000 r-xp 00000000 fe:01 1  /usr/bin/qemu\n\
            00600000-00700000 rw-p 00100000 fe:01 1  /usr/bin/qemu\n\
            01000000-01200000 rw-p 00000000 00:00 0  [heap]\n\
            7f0000000000-7f0040000000 rw-s 00000000 00:01 9 /memfd:ram (deleted)\n\
            7f1000000000-7f1000001000 ---p 00000000 00:00 0 \n\
            7f2000000000-7f2000004000 rw-p 00000000 00:00 0 \n\
            7fff00000000-7fff00100000 rw-p 00000000 00:0";
        let found = mappings(text);
        assert_eq!(
            found,
            [(0x7f00_0000_0000, 0x4000_0000), (0x0100_0000, 0x20_0000), (0x7f20_0000_0000, 0x4000)]
        );
        let samples = sample(&found);
        let all: u64 = samples.iter().map(|sample| sample.weight).sum();
        assert_eq!(all, 0x4000_0000 + 0x20_0000 + 0x4000);
        assert!((2_000..2_100).contains(&samples.len()), "{}", samples.len());
        assert!(samples.iter().all(|sample| {
            sample.address % PAGE == 0
                && found
                    .iter()
                    .any(|&(start, size)| (start..start + size).contains(&sample.address))
        }));
        // Pages in turn on two nodes are met in equal parts.
        let odd = samples.iter().filter(|sample| sample.address / PAGE % 2 == 1).count();
        assert!((900..1_150).contains(&odd), "{odd}");
    }

    #[test]
    fn this_process_is_looked_at() {
        let mut look = Processes::look().expect("a live host");
        let this = look.identify(std::process::id()).expect("this process");
        let before = look.thread_times(&this).expect("threads");
        let mut sum = 0u64;
        while look.thread_times(&this).expect("threads").since(&before).0 < 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let running = look.running(&Owner::Process(this), true).expect("it runs");
        assert!(running.resident > Bytes::ZERO && !running.has_device, "{running:?}");
        assert!(!running.cpus.is_empty() && running.samples.len() > 10);
        let other = ProcessId { start: this.start + 500, ..this };
        assert_eq!(look.running(&Owner::Process(other), true), None);
    }

    mod any {
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn any_text_is_answered(text in prop::collection::vec(any::<u8>(), 0..300)) {
                let _ = super::super::sample(&super::super::mappings(&text));
                let _ = super::super::schedstat(&text);
            }

            #[test]
            fn near_maps_are_answered(text in "([0-9a-f]{0,16}-?[0-9a-f]{0,16} rw-p 0 0:0 0 ?/?[a-z]{0,5}\n){0,20}") {
                let all = super::super::mappings(text.as_bytes());
                let samples = super::super::sample(&all);
                prop_assert!(samples.len() <= 512 * 2 + 2_048);
            }
        }
    }
}
