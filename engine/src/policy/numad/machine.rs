//! The host as numad reads it, with its limits of width; the version of 2015 takes the nodes in the
//! order of the directory, that of 2025 by their ids.

use super::list::{self, room};
use super::{Failure, NodeFigures, Rules, Version};
use std::borrow::Cow;

use crate::files::{HostFiles, NodeFiles, TextFile};
use crate::ids::{CpuId, NodeId};
use crate::idset::{CpuSet, NodeSet};
use crate::parse;
use crate::sample::{CpuTimes, Sample};

/// numad reads a cpulist with one `read` of 4,096 bytes and keeps room for a final NUL byte.
const LIST_READS: usize = 4095;
/// The number of bytes of CPU 0's sibling mask that it reads, the high words.
const SIBLINGS_READS: usize = 1024;
/// Distances are kept in a byte.
const DISTANCE_BITS: u32 = 0xff;

/// A host as numad sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// In the order in which the directory lists them, which decides ties in 2015.
    nodes: Vec<Node>,
    /// Positions in `nodes` by ascending ids, the order of 2025.
    ascending: Vec<usize>,
    cpu_counts: CpuCounts,
    threads_per_core: Result<u64, Failure>,
    /// Set where the machine lacks files that numad needs but placer can do without.
    missing: Option<Failure>,
    without_numa: bool,
}

/// The number of CPUs that each version believes in. Rounded up, it is the end of its CPU ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuCounts {
    /// The larger of those possible and those online.
    v2015: u32,
    /// Those online.
    v2025: u32,
}

impl CpuCounts {
    fn of(self, version: Version) -> u32 {
        match version {
            Version::V2015 => self.v2015,
            Version::V2025 => self.v2025,
        }
    }

    /// Returns the count that has room for what both versions see.
    fn larger(self) -> u32 {
        self.v2015.max(self.v2025)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    id: NodeId,
    /// By numad's reading, below the larger capacity of both versions.
    cpus: CpuSet,
    /// A column for each node, in ascending order of ids; each cut to a byte.
    distances: Vec<u64>,
    /// The same before reading was cut short, to tell a short row from none.
    row: Result<(), Failure>,
}

/// What `-R` leaves: the mask that every node's CPUs are cut with, and what was reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The CPUs that were named and that numad has room for.
    pub named: CpuSet,
    /// The CPUs that may be used.
    usable: CpuSet,
}

impl Machine {
    /// Reads a host's texts as numad does. What is missing or damaged is remembered and becomes a
    /// [`Failure`] when figures are asked for, in the order in which numad comes across it.
    pub fn from_files(files: &HostFiles) -> Self {
        Self::of_nodes(files, |_| true)
    }

    /// Reads the texts of some of a host's nodes, as if the directory listed no others.
    pub fn of_nodes(files: &HostFiles, counts: impl Fn(NodeId) -> bool) -> Self {
        let cpu_counts = cpu_counts(files);
        let capacity = room(cpu_counts.larger());
        let kept = || files.nodes.iter().filter(|node| counts(node.id));
        let width = kept().count();
        let mut missing = None;
        let nodes: Vec<Node> = kept()
            .map(|node| {
                let cpus = cpus(node, capacity, &mut missing);
                let (distances, row) = distances(node, width);
                Node { id: node.id, cpus, distances, row }
            })
            .collect();
        let ascending = ascending(&nodes);
        let threads_per_core = threads_per_core(files);
        let without_numa = files.without_numa;
        Self { nodes, ascending, cpu_counts, threads_per_core, missing, without_numa }
    }

    /// Returns the machine without the nodes and CPUs that are not allowed, as if the kernel had
    /// never listed them. Distances stay those of the nodes that are left.
    #[must_use]
    pub fn restricted(&self, nodes: &NodeSet, cpus: &CpuSet) -> Self {
        let mut ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        ids.sort_unstable();
        let kept = |node: &&Node| nodes.contains(node.id);
        let nodes = self.nodes.iter().filter(kept).map(|node| Node {
            id: node.id,
            cpus: node.cpus.intersection(cpus),
            distances: ids
                .iter()
                .zip(&node.distances)
                .filter(|(id, _)| nodes.contains(**id))
                .map(|(_, &distance)| distance)
                .collect(),
            row: node.row.clone(),
        });
        let nodes: Vec<Node> = nodes.collect();
        let ascending = ascending(&nodes);
        let threads_per_core = self.threads_per_core.clone();
        let (cpu_counts, missing) = (self.cpu_counts, self.missing.clone());
        Self {
            nodes,
            ascending,
            cpu_counts,
            threads_per_core,
            missing,
            without_numa: self.without_numa,
        }
    }

    /// Returns what the text of `-R` reserves.
    pub fn reserve(&self, version: Version, text: &[u8]) -> Reserved {
        let count = self.cpu_counts.of(version);
        let named: CpuSet = list::parse(text, room(count));
        // numad flips the bits of the CPUs it counted. Above the count they stay as they were
        // named, so there the list works the other way round.
        let counted = below(count);
        let usable = counted.difference(&named).union(&named.difference(&counted));
        Reserved { named, usable }
    }

    /// Returns the nodes in the order of a version.
    fn in_order(&self, version: Version) -> impl Iterator<Item = &Node> {
        let position = move |at| match version {
            Version::V2015 => at,
            Version::V2025 => self.ascending[at],
        };
        (0..self.nodes.len()).map(move |at| &self.nodes[position(at)])
    }

    /// Returns the CPUs that a version leaves usable; `None` when all of the nodes' are.
    fn usable(&self, rules: &Rules) -> Option<CpuSet> {
        let capacity = room(self.cpu_counts.of(rules.version));
        match rules.reserved.as_deref() {
            Some(text) => Some(self.reserve(rules.version, text).usable),
            None if capacity < room(self.cpu_counts.larger()) => Some(below(capacity)),
            None => None,
        }
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Checks what numad reads before it samples, in its order.
    ///
    /// Stricter than [`figures`](Self::figures): numad refuses kernels without `cpulist` files,
    /// which placer reads by their masks.
    /// Errors: what makes numad end without an answer.
    pub fn readable_by_numad(&self) -> Result<(), Failure> {
        if self.without_numa {
            return Err(Failure::NoNodes);
        }
        self.threads_per_core.clone()?;
        self.missing.clone().map_or(Ok(()), Err)?;
        self.nodes.iter().try_for_each(|node| node.row.clone())
    }

    /// Returns the distances from each node to the nodes in ascending order of ids; the rows are
    /// in the order of [`figures`](Self::figures).
    ///
    /// Errors: a row that is missing, too short or has a zero. By lenient rules a missing table
    /// becomes one in which every other node is twice as far.
    pub fn distance_rows(&self, rules: &Rules) -> Result<Vec<Cow<'_, [u64]>>, Failure> {
        let missing = |node: &Node| matches!(node.row, Err(Failure::Distance(_)));
        if rules.lenient && self.nodes.iter().any(missing) {
            let by_id = || self.in_order(Version::V2025).map(|node| node.id);
            let row = |from: &Node| by_id().map(|to| if from.id == to { 10 } else { 20 }).collect();
            return Ok(self.in_order(rules.version).map(row).map(Cow::Owned).collect());
        }
        // Not copied: a table of 1,024 nodes is 8 MiB.
        let rows = self.in_order(rules.version);
        rows.map(|node| node.row.clone().map(|()| Cow::Borrowed(node.distances.as_slice())))
            .collect()
    }

    /// Makes numad's figures from two samples: memory from the later one, idle time from both.
    /// Without `before` the load is unknown and every CPU counts as idle. The nodes are in the order
    /// of the version: as the directory lists them (2015), by ascending id (2025).
    ///
    /// Errors: what makes numad end without an answer.
    pub fn figures(
        &self,
        before: Option<&CpuTimes>,
        now: &Sample,
        rules: &Rules,
    ) -> Result<Vec<NodeFigures>, Failure> {
        let threads = match &self.threads_per_core {
            Err(Failure::ThreadsPerCore) if rules.lenient => 1,
            told => told.clone()?,
        };
        let usable = self.usable(rules);
        let gap = match before {
            None => None,
            Some(before) => {
                let from = before.at().centiseconds();
                let gap = now.cpu.at().centiseconds().wrapping_sub(from);
                Some((before, (gap != 0).then_some(gap).ok_or(Failure::NoTimePassed)?))
            }
        };
        let valuation = Valuation { threads, percent: rules.thread_percent };
        self.in_order(rules.version)
            .map(|node| {
                let cut = usable.as_ref().map(|usable| node.cpus.intersection(usable));
                let cpus = cut.as_ref().unwrap_or(&node.cpus);
                let cpus_total = valuation.total(cpus.len());
                let cpus_free = match gap {
                    None => cpus_total,
                    Some((before, gap)) => {
                        let ticks = idle_ticks(before, &now.cpu, cpus);
                        valuation.free(cpus.len(), ticks.wrapping_mul(100) / gap)
                    }
                };
                let (mbs_total, mbs_free) = memory(node.id, now, rules)?;
                Ok(NodeFigures { id: node.id, cpus_total, cpus_free, mbs_total, mbs_free })
            })
            .collect()
    }
}

fn cpu_counts(files: &HostFiles) -> CpuCounts {
    let count = |file: &Option<TextFile>| -> Option<u32> {
        let set: CpuSet = parse::list::parse(&file.as_ref()?.text).ok()?;
        u32::try_from(set.len()).ok().filter(|&count| count > 0)
    };
    let (possible, online) = (count(&files.cpu_possible), count(&files.cpu_online));
    // Kernels before 2.6.26 have neither file: as many as the nodes list.
    let listed = || {
        let last = files.nodes.iter().filter_map(|node| {
            let mut ignored = None;
            cpus(node, parse::list::MAX_ID + 1, &mut ignored).last()
        });
        last.max().map_or(1, |last| last.0.saturating_add(1))
    };
    CpuCounts {
        v2015: possible.max(online).unwrap_or_else(listed),
        v2025: online.or(files.cpus_in_stat).unwrap_or_else(listed),
    }
}

/// Returns the positions of nodes by ascending ids.
fn ascending(nodes: &[Node]) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..nodes.len()).collect();
    positions.sort_unstable_by_key(|&at| nodes[at].id);
    positions
}

/// Returns the CPUs below an id.
fn below(end: u32) -> CpuSet {
    let mut set = CpuSet::new();
    if let Some(last) = end.checked_sub(1) {
        set.insert_range(CpuId(0), CpuId(last));
    }
    set
}

fn cpus(node: &NodeFiles, capacity: u32, missing: &mut Option<Failure>) -> CpuSet {
    let note = |missing: &mut Option<Failure>| {
        missing.get_or_insert(Failure::CpuList(node.id));
    };
    match (&node.cpulist, &node.cpumap) {
        (Some(file), _) => {
            if file.text.is_empty() {
                note(missing);
            }
            list::parse(&file.text[..file.text.len().min(LIST_READS)], capacity)
        }
        (None, Some(map)) => {
            note(missing);
            parse::mask::parse(&map.text).unwrap_or_default().intersection(&below(capacity))
        }
        (None, None) => {
            note(missing);
            CpuSet::new()
        }
    }
}

fn distances(node: &NodeFiles, width: usize) -> (Vec<u64>, Result<(), Failure>) {
    let Some(file) = &node.distance else {
        return (Vec::new(), Err(Failure::Distance(node.id)));
    };
    let line = file.text.split(|&b| b == b'\n').next().unwrap_or_default();
    let row: Vec<u64> = line
        .split(|b| !b.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .take(width)
        .map(|digits| {
            let value = digits
                .iter()
                .fold(0u32, |v, d| v.wrapping_mul(10).wrapping_add(u32::from(d - b'0')));
            u64::from(value & DISTANCE_BITS)
        })
        .collect();
    let fate = if row.len() < width {
        Err(Failure::ShortDistance(node.id))
    } else if row.contains(&0) {
        Err(Failure::ZeroDistance(node.id))
    } else {
        Ok(())
    };
    (row, fate)
}

fn threads_per_core(files: &HostFiles) -> Result<u64, Failure> {
    let Some(file) = &files.cpu0_siblings else { return Err(Failure::ThreadsPerCore) };
    let mut bits = 0;
    for &byte in &file.text[..file.text.len().min(SIBLINGS_READS)] {
        match char::from(byte).to_digit(16) {
            Some(digit) => bits += u64::from(digit.count_ones()),
            None if matches!(byte, b' ' | b'\t' | b',' | b'\n' | 0) => {}
            None => return Err(Failure::UnexpectedCharacter),
        }
    }
    if bits == 0 { Err(Failure::ThreadsPerCore) } else { Ok(bits) }
}

/// What hardware threads are worth.
struct Valuation {
    /// Of CPU 0's core, taken for all.
    threads: u64,
    /// What a further thread of a core is worth.
    percent: u64,
}

impl Valuation {
    fn counts_threads(&self) -> bool {
        self.threads > 1 && self.percent < 100
    }

    fn total(&self, cpus: u64) -> u64 {
        if !self.counts_threads() {
            return 100 * cpus;
        }
        let cores = cpus / self.threads;
        cores * 100 + cores * (self.threads - 1) * self.percent
    }

    fn free(&self, cpus: u64, measured: u64) -> u64 {
        let mut free = measured;
        if self.counts_threads() {
            let discount = (cpus - cpus / self.threads) * (100 - self.percent);
            free = free.saturating_sub(discount);
        }
        free.min(self.total(cpus))
    }
}

/// The idle ticks that a node's CPUs gained. A CPU without a line counts from zero, and sums wrap:
/// one that left between the readings makes its node look wholly idle, as with numad.
fn idle_ticks(before: &CpuTimes, now: &CpuTimes, cpus: &CpuSet) -> u64 {
    let sum = |times: &CpuTimes| times.of(cpus).fold(0u64, |sum, (_, t)| sum.wrapping_add(t));
    sum(now).wrapping_sub(sum(before))
}

/// A node's total and free MiB, each of the two free figures rounded down by itself.
fn memory(node: NodeId, now: &Sample, rules: &Rules) -> Result<(u64, u64), Failure> {
    let fields = match now.memory_of(node) {
        Some(meminfo) => meminfo.numad,
        None if rules.lenient => parse::meminfo::NumadFields::default(),
        None => return Err(Failure::Meminfo(node)),
    };
    let field = |value: Option<u64>, name| match value {
        None if rules.lenient => Ok(0),
        told => told.ok_or(Failure::MeminfoField(node, name)),
    };
    let total = field(fields.total_kib, "MemTotal")? / 1024;
    let mut free = field(fields.free_kib, "MemFree")? / 1024;
    if rules.count_inactive_file {
        free += field(fields.inactive_file_kib, "Inactive(file)")? / 1024;
    }
    Ok((total, free))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::meminfo::{NodeMeminfo, NumadFields};
    use crate::sample::NodeMemory;

    #[test]
    fn threads_beyond_the_first_are_worth_less() {
        let two = Valuation { threads: 2, percent: 20 };
        assert_eq!((two.total(16), two.total(15)), (960, 840));
        // 16 CPUs, all idle: 1600 less 8 threads at 80.
        assert_eq!(two.free(16, 1600), 960);
        assert_eq!(two.free(16, 600), 0);
        let whole = Valuation { threads: 2, percent: 100 };
        assert_eq!((whole.total(15), whole.free(15, 2000)), (1500, 1500));
        let four = Valuation { threads: 4, percent: 20 };
        assert_eq!((four.total(16), four.free(16, 1600)), (640, 640));
    }

    fn file(text: &str) -> Option<TextFile> {
        Some(TextFile { path: "file".into(), text: text.as_bytes().to_vec() })
    }

    #[test]
    fn reserving_works_backwards_above_the_count() {
        let files = HostFiles {
            cpu_possible: file("0-3,40-43\n"),
            cpu_online: file("0-3,40\n"),
            ..HostFiles::default()
        };
        let machine = Machine::from_files(&files);
        for (version, usable) in [(Version::V2015, "0,2-7,41"), (Version::V2025, "0,2-4,41")] {
            let reserved = machine.reserve(version, b"1,41");
            assert_eq!(reserved.named.to_string(), "1,41");
            assert_eq!(reserved.usable.to_string(), usable, "{version}");
        }
    }

    /// A machine with three nodes of 64 CPUs, listed as 2, 0, 1.
    fn listed_otherwise(online: &str, possible: &str) -> Machine {
        let node = |id: u32| NodeFiles {
            id: NodeId(id),
            dir: "node".into(),
            cpulist: file(&format!("{}-{}\n", id * 64, id * 64 + 63)),
            cpumap: None,
            distance: file("10 20 30\n"),
            access: None,
        };
        Machine::from_files(&HostFiles {
            nodes: [2, 0, 1].map(node).to_vec(),
            cpu_online: file(online),
            cpu_possible: file(possible),
            cpu0_siblings: file("1\n"),
            ..HostFiles::default()
        })
    }

    fn idle_cpus(machine: &Machine, version: Version) -> Vec<(u32, u64)> {
        let rules = Rules { version, lenient: true, ..Rules::default() };
        let figures = machine.figures(None, &Sample::default(), &rules).expect("figures");
        figures.iter().map(|node| (node.id.0, node.cpus_total)).collect()
    }

    #[test]
    fn each_version_has_its_own_order_of_nodes() {
        let machine = listed_otherwise("0-191\n", "0-191\n");
        let all = |order: [u32; 3]| order.map(|id| (id, 6400)).to_vec();
        assert_eq!(idle_cpus(&machine, Version::V2015), all([2, 0, 1]));
        assert_eq!(idle_cpus(&machine, Version::V2025), all([0, 1, 2]));
    }

    #[test]
    fn ids_past_the_online_count_rounded_up_vanish_in_2025_alone() {
        // 128 CPUs are online, so 2025 has room for ids 0 to 127.
        let machine = listed_otherwise("0-63,128-191\n", "0-191\n");
        assert_eq!(idle_cpus(&machine, Version::V2015), [(2, 6400), (0, 6400), (1, 6400)]);
        assert_eq!(idle_cpus(&machine, Version::V2025), [(0, 6400), (1, 6400), (2, 0)]);
        // A limit keeps that.
        let nodes: NodeSet = [0, 2].into_iter().map(NodeId).collect();
        let limited = machine.restricted(&nodes, &below(180));
        assert_eq!(idle_cpus(&limited, Version::V2015), [(2, 5200), (0, 6400)]);
        assert_eq!(idle_cpus(&limited, Version::V2025), [(0, 6400), (2, 0)]);
    }

    /// A node with CPUs and distances as its files have them.
    fn node(id: u32, cpulist: &str, distance: Option<&str>) -> NodeFiles {
        let distance = distance.and_then(file);
        let (dir, cpulist) = ("node".into(), file(cpulist));
        NodeFiles { id: NodeId(id), dir, cpulist, cpumap: None, distance, access: None }
    }

    /// Two cores of two threads, a node each.
    fn two_nodes() -> HostFiles {
        HostFiles {
            nodes: vec![node(0, "0-1\n", Some("10 21\n")), node(1, "2-3\n", Some("21 10\n"))],
            cpu_online: file("0-3\n"),
            cpu_possible: file("0-3\n"),
            cpu0_siblings: file("00000000,00000003\n"),
            ..HostFiles::default()
        }
    }

    fn memory_of(node: u32, total_kib: u64, free_kib: Option<u64>, inactive: u64) -> NodeMemory {
        let (total_kib, inactive_file_kib) = (Some(total_kib), Some(inactive));
        let numad = NumadFields { total_kib, free_kib, inactive_file_kib };
        let meminfo = Some(NodeMeminfo { numad, ..NodeMeminfo::default() });
        NodeMemory { node: NodeId(node), meminfo }
    }

    /// Counters of CPUs 0 to 3 after so many hundredths of a second.
    fn times(hundredths: u64, idle: [u64; 4]) -> CpuTimes {
        let at = crate::sample::Instant::from_nanoseconds(hundredths * 10_000_000);
        CpuTimes::new(at, (0..).map(CpuId).zip(idle))
    }

    #[test]
    fn figures_are_idle_ticks_over_the_time_and_mib_rounded_down() {
        let machine = Machine::from_files(&two_nodes());
        assert_eq!((machine.len(), machine.is_empty()), (2, false));
        assert!(Machine::from_files(&HostFiles::default()).is_empty());
        let memory = vec![
            memory_of(0, 4_000_000, Some(1_024_000 + 1023), 1023),
            memory_of(1, 1023, Some(1024), 2048),
        ];
        let cpu = times(300, [150, 199, 400, 400]);
        let now = Sample { cpu, memory, ..Sample::default() };
        let before = times(100, [50, 100, 200, 200]);
        let figures = |rules: &Rules, before| {
            let figures = machine.figures(before, &now, rules)?;
            Ok(figures
                .iter()
                .map(|n| (n.cpus_total, n.cpus_free, n.mbs_total, n.mbs_free))
                .collect())
        };
        let whole = Rules { thread_percent: 100, ..Rules::default() };
        let expected = |busy, idle| Ok(vec![(idle, busy, 3906, 1000), (idle, idle, 0, 3)]);
        // 199 ticks in 2 s are 0.99 CPUs.
        assert_eq!(figures(&whole, Some(&before)), expected(99, 200));
        assert_eq!(figures(&whole, None), expected(200, 200));
        // A second thread is worth a fifth of a CPU.
        assert_eq!(figures(&Rules::default(), Some(&before)), expected(19, 120));
        let without_cache = Rules { count_inactive_file: false, ..whole.clone() };
        let expected: Result<Vec<_>, _> = Ok(vec![(200, 99, 3906, 1000), (200, 200, 0, 1)]);
        assert_eq!(figures(&without_cache, Some(&before)), expected);
        assert_eq!(figures(&whole, Some(&now.cpu)), Err(Failure::NoTimePassed));
    }

    #[test]
    fn what_is_missing_ends_numad_and_counts_as_nothing_by_lenient_rules() {
        let machine = Machine::from_files(&two_nodes());
        let sample = |memory| Sample { memory, ..Sample::default() };
        let (strict, lenient) = (Rules::default(), Rules::lenient(Version::V2025));
        let mib = |sample: &Sample, rules| {
            let figures = machine.figures(None, sample, rules)?;
            Ok(figures.iter().map(|node| (node.mbs_total, node.mbs_free)).collect::<Vec<_>>())
        };
        let without_node = sample(vec![memory_of(0, 2048, Some(1024), 0)]);
        assert_eq!(mib(&without_node, &strict), Err(Failure::Meminfo(NodeId(1))));
        assert_eq!(mib(&without_node, &lenient), Ok(vec![(2, 1), (0, 0)]));
        let without_field =
            sample(vec![memory_of(0, 2048, None, 0), memory_of(1, 2048, Some(1024), 0)]);
        assert_eq!(mib(&without_field, &strict), Err(Failure::MeminfoField(NodeId(0), "MemFree")));
        assert_eq!(mib(&without_field, &lenient), Ok(vec![(2, 0), (2, 1)]));

        let no_siblings = Machine::from_files(&HostFiles { cpu0_siblings: None, ..two_nodes() });
        let figures = no_siblings.figures(None, &without_field, &strict);
        assert_eq!(figures, Err(Failure::ThreadsPerCore));
        let figures = no_siblings.figures(None, &without_field, &lenient).expect("figures");
        assert_eq!(figures[0].cpus_total, 200, "one thread a core");
    }

    #[test]
    fn siblings_are_the_bits_of_a_mask() {
        for (text, threads) in [
            ("00000000,00000003\n", Ok(2)),
            ("f f\t1\n", Ok(9)),
            ("0\n", Err(Failure::ThreadsPerCore)),
            ("", Err(Failure::ThreadsPerCore)),
            ("3g\n", Err(Failure::UnexpectedCharacter)),
            ("3-4\n", Err(Failure::UnexpectedCharacter)),
        ] {
            let files = HostFiles { cpu0_siblings: file(text), ..HostFiles::default() };
            assert_eq!(super::threads_per_core(&files), threads, "{text:?}");
        }
    }

    #[test]
    fn distances_are_the_numbers_of_the_first_line_cut_to_a_byte() {
        let short = Failure::ShortDistance(NodeId(7));
        for (text, width, row, fate) in [
            ("10 21 300\n40\n", 3, vec![10, 21, 44], Ok(())),
            ("10,21 x30 40", 3, vec![10, 21, 30], Ok(())),
            ("10 21\n30\n", 3, vec![10, 21], Err(short.clone())),
            ("10 256\n", 2, vec![10, 0], Err(Failure::ZeroDistance(NodeId(7)))),
            ("", 1, vec![], Err(short)),
        ] {
            assert_eq!(distances(&node(7, "0", Some(text)), width), (row, fate), "{text:?}");
        }
    }

    #[test]
    fn a_missing_table_of_distances_is_one_hop_by_lenient_rules() {
        let table = |files: &HostFiles, rules: &Rules| {
            let machine = Machine::from_files(files);
            let rows = machine.distance_rows(rules);
            rows.map(|rows| rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>())
        };
        let (strict, lenient) = (Rules::default(), Rules::lenient(Version::V2025));
        let all = two_nodes();
        for rules in [&strict, &lenient] {
            assert_eq!(table(&all, rules), Ok(vec![vec![10, 21], vec![21, 10]]));
        }
        let mut one = two_nodes();
        one.nodes[1].distance = None;
        assert_eq!(table(&one, &strict), Err(Failure::Distance(NodeId(1))));
        assert_eq!(table(&one, &lenient), Ok(vec![vec![10, 20], vec![20, 10]]));
    }

    #[test]
    fn a_limit_keeps_the_distances_of_the_nodes_that_are_left() {
        let rows = [(2, "12 22 10\n"), (0, "10 20 30\n"), (1, "20 10 33\n")];
        let nodes = rows.map(|(id, distances)| node(id, "0\n", Some(distances))).to_vec();
        let machine = Machine::from_files(&HostFiles { nodes, ..two_nodes() });
        let limited = machine.restricted(&[0, 2].into_iter().map(NodeId).collect(), &below(64));
        let rows = limited.distance_rows(&Rules::default()).expect("rows");
        assert_eq!(rows, [vec![10, 30], vec![12, 10]], "by ids");
    }

    #[test]
    fn without_lists_of_cpus_the_nodes_say_how_many_there_are() {
        let counted = |online: Option<&str>, list: &str| {
            let nodes = vec![node(0, list, Some("10\n"))];
            let cpu_online = online.and_then(file);
            let machine =
                Machine::from_files(&HostFiles { nodes, cpu_online, ..HostFiles::default() });
            let usable = |version| machine.reserve(version, b"").usable.len();
            assert_eq!(usable(Version::V2015), usable(Version::V2025));
            usable(Version::V2025)
        };
        assert_eq!((counted(None, "0-3\n"), counted(None, "\n")), (4, 1));
        assert_eq!(counted(Some("0\n"), "0-3\n"), 1);
        // An empty list is none.
        assert_eq!((counted(Some("0-1\n"), "0-3\n"), counted(Some("\n"), "0-3\n")), (2, 4));
        assert_eq!(counted(None, "0-2000000\n"), u64::from(parse::list::MAX_ID) + 1);
    }

    #[test]
    fn a_node_without_a_list_of_cpus_is_what_numad_ends_at() {
        let mut files = two_nodes();
        let readable = |files: &HostFiles| Machine::from_files(files).readable_by_numad();
        assert_eq!(readable(&files), Ok(()));
        files.nodes[1].cpulist = None;
        assert_eq!(readable(&files), Err(Failure::CpuList(NodeId(1))));
        files.nodes[0].cpulist = file("");
        assert_eq!(readable(&files), Err(Failure::CpuList(NodeId(0))), "the first");
        files.without_numa = true;
        assert_eq!(readable(&files), Err(Failure::NoNodes));
    }
}
