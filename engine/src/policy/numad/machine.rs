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

    #[test]
    fn threads_beyond_the_first_are_worth_less() {
        let two = Valuation { threads: 2, percent: 20 };
        assert_eq!((two.total(16), two.total(15)), (960, 840));
        // 16 CPUs, all idle: 1600 less 8 threads at 80.
        assert_eq!(two.free(16, 1600), 960);
        assert_eq!(two.free(16, 600), 0);
        let whole = Valuation { threads: 2, percent: 100 };
        assert_eq!((whole.total(15), whole.free(15, 2000)), (1500, 1500));
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
}
