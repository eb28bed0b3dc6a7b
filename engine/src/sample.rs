//! What is read again and again: CPU counters and free memory, each with the instant of reading.

use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::parse::meminfo::NodeMeminfo;

/// A moment on the monotonic clock (`CLOCK_MONOTONIC`), in nanoseconds.
///
/// A value, not a clock: nothing between the ends asks what time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// Returns the moment so many nanoseconds after the clock's start.
    pub const fn from_nanoseconds(ns: u64) -> Self {
        Self(ns)
    }

    /// Returns the moment so many hundredths of a second after the clock's start, at most the last
    /// one that can be told.
    pub const fn from_centiseconds(cs: u64) -> Self {
        Self(cs.saturating_mul(10_000_000))
    }

    /// Returns the nanoseconds since the clock's start.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }

    /// Returns the whole hundredths of a second since the clock's start.
    pub const fn centiseconds(self) -> u64 {
        self.0 / 10_000_000
    }

    /// Returns how much later this moment is, in nanoseconds; `None` when it is earlier.
    pub const fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

/// The idle counters of all online CPUs at one instant.
///
/// Source: `/proc/stat`, the fourth number of each `cpu<N>` line, in ticks of 1/100 s. Empty when
/// the host tells no counters. The buffers are kept when it is read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    at: Instant,
    /// Ascending, each with the idle ticks at the same place in `idle`.
    ids: Vec<u32>,
    idle: Vec<u64>,
}

impl CpuTimes {
    /// Returns the counters read at an instant, from ids and idle ticks in any order. A CPU that is
    /// given twice keeps its first counter.
    ///
    /// ```
    /// use placer_engine::{CpuId, CpuTimes, Instant};
    /// let times = CpuTimes::new(Instant::from_centiseconds(100), [(CpuId(2), 9), (CpuId(0), 7)]);
    /// assert_eq!((times.idle(CpuId(2)), times.idle(CpuId(1))), (Some(9), None));
    /// ```
    pub fn new(at: Instant, counters: impl IntoIterator<Item = (CpuId, u64)>) -> Self {
        let mut times = Self::default();
        times.restart(at);
        for (cpu, idle) in counters {
            times.push(cpu, idle);
        }
        times.finish();
        times
    }

    /// Empties the counters for another reading, and keeps the buffers.
    pub(crate) fn restart(&mut self, at: Instant) {
        self.at = at;
        self.ids.clear();
        self.idle.clear();
    }

    pub(crate) fn push(&mut self, cpu: CpuId, idle: u64) {
        self.ids.push(cpu.0);
        self.idle.push(idle);
    }

    /// Puts the CPUs in order, should a host have listed them otherwise.
    pub(crate) fn finish(&mut self) {
        if self.ids.windows(2).all(|pair| pair[0] < pair[1]) {
            return;
        }
        let mut pairs: Vec<_> = self.ids.drain(..).zip(self.idle.drain(..)).collect();
        pairs.sort_by_key(|&(id, _)| id);
        pairs.dedup_by_key(|&mut (id, _)| id);
        (self.ids, self.idle) = pairs.into_iter().unzip();
    }

    /// Returns when the counters were read.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Returns whether no CPU was told.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Returns the number of CPUs.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns one CPU's idle ticks; `None` for a CPU that was not listed.
    pub fn idle(&self, cpu: CpuId) -> Option<u64> {
        let at = self.ids.binary_search(&cpu.0).ok()?;
        self.idle.get(at).copied()
    }

    /// Returns the ids and idle ticks of all CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (CpuId, u64)> + '_ {
        self.ids.iter().map(|&id| CpuId(id)).zip(self.idle.iter().copied())
    }

    /// Returns the ids and idle ticks of the CPUs that are in a set, ascending.
    pub fn of<'a>(&'a self, cpus: &'a CpuSet) -> impl Iterator<Item = (CpuId, u64)> + 'a {
        cpus.ranges().flat_map(|(first, last)| {
            let from = self.ids.partition_point(|&id| id < first.0);
            let to = self.ids.partition_point(|&id| id <= last.0);
            self.ids[from..to].iter().map(|&id| CpuId(id)).zip(self.idle[from..to].iter().copied())
        })
    }

    /// Returns whether both readings list the same CPUs.
    pub fn same_cpus(&self, other: &Self) -> bool {
        self.ids == other.ids
    }
}

// Written by hand for `clone_from`, which keeps the buffers; the derived one does not.
impl Clone for CpuTimes {
    fn clone(&self) -> Self {
        Self { at: self.at, ids: self.ids.clone(), idle: self.idle.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.at = source.at;
        self.ids.clone_from(&source.ids);
        self.idle.clone_from(&source.idle);
    }
}

/// The memory of one node at one instant; no figures when its file was gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMemory {
    /// The node.
    pub node: NodeId,
    /// What its `meminfo` said.
    pub meminfo: Option<NodeMeminfo>,
}

/// The huge pages of one size on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeHugePages {
    /// The node.
    pub node: NodeId,
    /// All pages of the size.
    pub total: u64,
    /// Those that nobody uses.
    pub free: u64,
}

/// One reading of everything that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The CPU counters; empty when the host tells none.
    pub cpu: CpuTimes,
    /// The memory of each node, in the order in which the directory lists them.
    pub memory: Vec<NodeMemory>,
}

impl Sample {
    /// Returns one node's memory figures.
    pub fn memory_of(&self, node: NodeId) -> Option<&NodeMeminfo> {
        self.memory.iter().find(|m| m.node == node)?.meminfo.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_in_any_order_are_found_by_id() {
        let given = [(CpuId(5), 50), (CpuId(1), 10), (CpuId(5), 99), (CpuId(3), 30)];
        let times = CpuTimes::new(Instant::default(), given);
        assert_eq!(
            times.iter().map(|(c, t)| (c.0, t)).collect::<Vec<_>>(),
            [(1, 10), (3, 30), (5, 50)]
        );
        let some: CpuSet = [0, 1, 2, 5, 9].into_iter().map(CpuId).collect();
        assert_eq!(times.of(&some).map(|(_, t)| t).sum::<u64>(), 60);
    }
}
