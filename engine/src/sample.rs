//! What is read again and again: CPU counters and free memory, each with the instant of reading.

use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::parse::meminfo::NodeMeminfo;
use crate::parse::stat::IdleTicks;
use crate::units::Bytes;

/// A moment on the monotonic clock (`CLOCK_MONOTONIC`), in nanoseconds.
///
/// A value, not a clock: nothing between the ends asks what time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// Returns the moment this many nanoseconds after the clock's start.
    pub const fn from_nanoseconds(ns: u64) -> Self {
        Self(ns)
    }

    /// Returns the moment this many hundredths of a second after the clock's start, at most the last
    /// one that can be represented.
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
/// Source: `/proc/stat`, the fourth and fifth number (`idle`, `iowait`) of each `cpu<N>` line, in
/// ticks of 1/100 s. Empty when the host has no counters. The buffers are kept when it is read again.
///
/// A CPU that waits for I/O is idle, and books `iowait` in place of `idle` while a task of it waits:
/// numad counts `idle` alone, policy `best` both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    at: Instant,
    /// Ascending, each with its ticks at the same place in `idle` and `iowait`.
    ids: Vec<u32>,
    idle: Vec<u64>,
    iowait: Vec<u64>,
}

impl CpuTimes {
    /// Returns the counters read at an instant, from ids and idle ticks in any order; no CPU has
    /// waited for I/O. A CPU that is given twice keeps its first counter.
    ///
    /// ```
    /// use placer_engine::{CpuId, CpuTimes, Instant};
    /// let times = CpuTimes::new(Instant::from_centiseconds(100), [(CpuId(2), 9), (CpuId(0), 7)]);
    /// assert_eq!((times.idle(CpuId(2)), times.idle(CpuId(1))), (Some(9), None));
    /// ```
    pub fn new(at: Instant, counters: impl IntoIterator<Item = (CpuId, u64)>) -> Self {
        let idle = |(cpu, idle)| (cpu, IdleTicks { idle, iowait: 0 });
        Self::with_iowait(at, counters.into_iter().map(idle))
    }

    /// Returns the counters as [`new`](Self::new) does, with the time that CPUs waited for I/O.
    pub fn with_iowait(
        at: Instant,
        counters: impl IntoIterator<Item = (CpuId, IdleTicks)>,
    ) -> Self {
        let mut times = Self::default();
        times.restart(at);
        for (cpu, ticks) in counters {
            times.push(cpu, ticks);
        }
        times.finish();
        times
    }

    /// Empties the counters for another reading, and keeps the buffers.
    pub(crate) fn restart(&mut self, at: Instant) {
        self.at = at;
        self.ids.clear();
        self.idle.clear();
        self.iowait.clear();
    }

    pub(crate) fn push(&mut self, cpu: CpuId, ticks: IdleTicks) {
        self.ids.push(cpu.0);
        self.idle.push(ticks.idle);
        self.iowait.push(ticks.iowait);
    }

    /// Puts the CPUs in order, should a host have listed them otherwise.
    pub(crate) fn finish(&mut self) {
        if self.ids.windows(2).all(|pair| pair[0] < pair[1]) {
            return;
        }
        let mut counters: Vec<(CpuId, IdleTicks)> = self.iter_with_iowait().collect();
        counters.sort_by_key(|&(cpu, _)| cpu);
        counters.dedup_by_key(|&mut (cpu, _)| cpu);
        self.restart(self.at);
        for (cpu, ticks) in counters {
            self.push(cpu, ticks);
        }
    }

    /// Returns when the counters were read.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// Returns whether no CPU is in it.
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

    /// Returns what one CPU has done nothing in; `None` for a CPU that was not listed.
    pub fn ticks(&self, cpu: CpuId) -> Option<IdleTicks> {
        let at = self.ids.binary_search(&cpu.0).ok()?;
        Some(IdleTicks { idle: *self.idle.get(at)?, iowait: *self.iowait.get(at)? })
    }

    /// Returns the ids of all CPUs and what they have done nothing in, ascending.
    pub fn iter_with_iowait(&self) -> impl Iterator<Item = (CpuId, IdleTicks)> + '_ {
        let ticks = self.idle.iter().zip(&self.iowait);
        let ticks = ticks.map(|(&idle, &iowait)| IdleTicks { idle, iowait });
        self.ids.iter().map(|&id| CpuId(id)).zip(ticks)
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

    /// Returns the part of the time since an earlier reading that a CPU was idle or waited for I/O:
    /// 0 to 1. 0 for a CPU that was not listed in both readings, when no time has passed, and for a
    /// counter that ran backwards.
    pub fn idle_since(&self, before: &Self, cpu: CpuId) -> f64 {
        let gained = before.ticks(cpu).zip(self.ticks(cpu)).map_or(0, |(b, now)| now.since(b));
        self.at.since(before.at).map_or(0.0, |ns| part_of(gained, ns))
    }

    /// Returns the sum of [`idle_since`](Self::idle_since) over some CPUs, in CPUs.
    pub fn sum_idle_since(&self, before: &Self, cpus: &CpuSet) -> f64 {
        let Some(ns) = self.at.since(before.at) else { return 0.0 };
        let mut sum = 0.0;
        for (first, last) in cpus.ranges() {
            let from = self.ids.partition_point(|&id| id < first.0);
            let to = self.ids.partition_point(|&id| id <= last.0);
            // The readings mostly list the same CPUs: what is at a place in one is there in the other.
            for at in from..to {
                let cpu = CpuId(self.ids[at]);
                let now = IdleTicks { idle: self.idle[at], iowait: self.iowait[at] };
                let earlier = if before.ids.get(at) == Some(&cpu.0) {
                    Some(IdleTicks { idle: before.idle[at], iowait: before.iowait[at] })
                } else {
                    before.ticks(cpu)
                };
                sum += earlier.map_or(0.0, |earlier| part_of(now.since(earlier), ns));
            }
        }
        sum
    }

    /// Returns whether both readings list the same CPUs.
    pub fn same_cpus(&self, other: &Self) -> bool {
        self.ids == other.ids
    }
}

// Written by hand for `clone_from`, which keeps the buffers; the derived one does not.
impl Clone for CpuTimes {
    fn clone(&self) -> Self {
        let Self { at, ids, idle, iowait } = self;
        Self { at: *at, ids: ids.clone(), idle: idle.clone(), iowait: iowait.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.at = source.at;
        self.ids.clone_from(&source.ids);
        self.idle.clone_from(&source.idle);
        self.iowait.clone_from(&source.iowait);
    }
}

impl IdleTicks {
    /// Returns the ticks of both kinds since an earlier reading. Each counter by itself: the kernel
    /// lets `iowait` step back now and then, and that takes nothing from `idle`.
    fn since(self, earlier: Self) -> u64 {
        let idle = self.idle.saturating_sub(earlier.idle);
        idle.saturating_add(self.iowait.saturating_sub(earlier.iowait))
    }
}

/// Returns the part of some nanoseconds that ticks are, at most 1.
#[expect(clippy::cast_precision_loss, reason = "ticks of one window are far below 2^53")]
fn part_of(ticks: u64, ns: u64) -> f64 {
    // Ticks are of 1/100 s: USER_HZ is 100 on every platform this runs on.
    if ns == 0 { 0.0 } else { (ticks as f64 / (ns as f64 / 1e7)).min(1.0) }
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
    /// Those that no process uses.
    pub free: u64,
}

/// One reading of everything that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The CPU counters; empty if the host reports none.
    pub cpu: CpuTimes,
    /// The memory of each node, in the order in which the directory lists them.
    pub memory: Vec<NodeMemory>,
    /// The memory of the whole host (`/proc/meminfo`), read where it has one node.
    pub whole: Option<NodeMeminfo>,
}

impl Sample {
    /// Returns the figures of the whole host in place of those of its one node, where the node
    /// reports less than the host has: memory that is not initialised yet (`deferred_init`) is in no
    /// node. numad's figures stay.
    pub(crate) fn fuller(&self, of_node: NodeMeminfo) -> NodeMeminfo {
        let Some(whole) = self.whole else { return of_node };
        let less = of_node.total.zip(whole.total).is_some_and(|(part, all)| falls_short(part, all));
        if less { NodeMeminfo { numad: of_node.numad, ..whole } } else { of_node }
    }

    /// Returns one node's memory figures.
    pub fn memory_of(&self, node: NodeId) -> Option<&NodeMeminfo> {
        self.memory.iter().find(|m| m.node == node)?.meminfo.as_ref()
    }
}

/// Returns whether nodes report less memory than the host has by more than can be a matter of when
/// the files were read: less than 97 %.
pub fn falls_short(nodes: Bytes, host: Bytes) -> bool {
    u128::from(nodes.get()) * 100 < u128::from(host.get()) * 97
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
