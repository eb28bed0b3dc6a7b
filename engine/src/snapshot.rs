//! A host at one moment: how it is built and how full it is. What every policy decides on.

use std::sync::Arc;

use crate::host::Host;
use crate::ids::NodeId;
use crate::idset::CpuSet;
use crate::sample::{CpuTimes, NodeMemory, Sample};
use crate::topology::Topology;
use crate::units::Bytes;

/// One node at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeState {
    /// The node.
    pub id: NodeId,
    /// The online CPUs that count for placement.
    pub cpus: CpuSet,
    /// All memory of the node (`MemTotal`); `None` when it is not told.
    pub memory_total: Option<Bytes>,
    /// What can be promised: `MemFree` + `Inactive(file)`; `None` when `MemFree` is not told.
    pub memory_free: Option<Bytes>,
    /// Idle CPU time, in CPUs: 3.5 means that three and a half were idle. `None` when the load is
    /// unknown.
    pub cpus_idle: Option<f64>,
}

/// A host at one moment. A value: asking it twice gives the same answer.
///
/// ```no_run
/// use std::time::Duration;
/// use placer_engine::{Request, Snapshot, SysRoot, advise};
/// let snapshot = Snapshot::take(&SysRoot::live(), Duration::from_millis(100))?;
/// let advice = advise(&snapshot, &"4:500".parse::<Request>()?)?;
/// println!("{}", advice.nodes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    host: Arc<Host>,
    nodes: Vec<NodeState>,
    before: Option<CpuTimes>,
    now: Sample,
    generation: u64,
    notes: Vec<String>,
}

impl Snapshot {
    /// Puts a snapshot together. Load is what the CPUs did between `before` and `now`; without
    /// `before`, or when no time lies between, it is unknown, and every CPU counts as idle.
    pub fn new(host: Arc<Host>, before: Option<CpuTimes>, now: Sample) -> Self {
        let mut notes = Vec::new();
        let before = before.filter(|earlier| {
            !earlier.is_empty() && now.cpu.at().since(earlier.at()).is_some_and(|ns| ns > 0)
        });
        if before.is_none() {
            notes.push("CPU load is unknown: every CPU counts as idle".to_owned());
        }
        let nodes = host
            .topology
            .nodes()
            .iter()
            .map(|node| {
                let memory = now.memory.iter().find(|memory| memory.node == node.id);
                let memory_free = free(memory);
                if memory.is_none_or(|memory| memory.meminfo.is_none()) {
                    let id = node.id;
                    notes.push(format!(
                        "node {id} tells no memory (has it left?): none is promised"
                    ));
                } else if memory_free.is_none() {
                    let id = node.id;
                    notes.push(format!("node {id} tells no MemFree: no memory of it is promised"));
                }
                NodeState {
                    id: node.id,
                    cpus: node.cpus.clone(),
                    memory_total: memory.and_then(|memory| memory.meminfo?.total),
                    memory_free,
                    cpus_idle: before.as_ref().map(|before| idle(before, &now.cpu, &node.cpus)),
                }
            })
            .collect();
        Self { host, nodes, before, now, generation: 0, notes }
    }

    /// Sets the running number by which readers tell snapshots apart.
    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Adds what a source had to say about its reading.
    #[must_use]
    pub fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.splice(0..0, notes);
        self
    }

    /// Returns how the host is built.
    pub fn topology(&self) -> &Topology {
        &self.host.topology
    }

    /// Returns the host, by placer's reading and by numad's.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Returns the nodes, in ascending order of ids.
    pub fn nodes(&self) -> &[NodeState] {
        &self.nodes
    }

    /// Returns one node.
    pub fn node(&self, id: NodeId) -> Option<&NodeState> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// Returns the reading of memory and CPU counters that the snapshot stands for.
    pub fn sample(&self) -> &Sample {
        &self.now
    }

    /// Returns the earlier CPU counters, `None` when the load is unknown.
    pub fn before(&self) -> Option<&CpuTimes> {
        self.before.as_ref()
    }

    /// Returns the running number: 0 for a single snapshot, rising with each one of an
    /// [`Engine`](crate::Engine).
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns what a person should know: what was assumed, left out or is unknown.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn free(memory: Option<&NodeMemory>) -> Option<Bytes> {
    let meminfo = memory?.meminfo?;
    Some(meminfo.free?.saturating_add(meminfo.inactive_file.unwrap_or_default()))
}

/// Idle time of some CPUs between two readings, in CPUs. A CPU that lacks a reading, or whose
/// counter ran backwards, counts as busy: no promise is made on what is not known.
#[expect(clippy::cast_precision_loss, reason = "ticks of one window are far below 2^53")]
fn idle(before: &CpuTimes, now: &CpuTimes, cpus: &CpuSet) -> f64 {
    let Some(ns) = now.at().since(before.at()) else { return 0.0 };
    // Ticks are of 1/100 s: USER_HZ is 100 on every platform this runs on.
    let window = ns as f64 / 1e7;
    let gained = now.of(cpus).map(|(cpu, ticks)| {
        let earlier = before.idle(cpu).unwrap_or(ticks);
        (ticks.saturating_sub(earlier) as f64 / window).min(1.0)
    });
    // Rounded to millionths, so that the order of summing can never show. From zero, since the sum
    // of nothing is -0.
    (gained.fold(0.0, |sum, idle| sum + idle) * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CpuId;
    use crate::sample::Instant;

    fn times(cs: u64, idle: &[(u32, u64)]) -> CpuTimes {
        let at = Instant::from_centiseconds(cs);
        CpuTimes::new(at, idle.iter().map(|&(cpu, ticks)| (CpuId(cpu), ticks)))
    }

    #[test]
    fn idle_time_is_counted_cpu_by_cpu() {
        let cpus: CpuSet = [0, 1, 2, 3, 4].into_iter().map(CpuId).collect();
        let before = times(0, &[(0, 100), (1, 100), (2, 100), (3, 100)]);
        // Idle; half idle; counted more than passed; ran backwards; came online meanwhile.
        let now = times(200, &[(0, 300), (1, 200), (2, 900), (3, 50), (4, 77)]);
        assert!((idle(&before, &now, &cpus) - 2.5).abs() < 1e-9);
    }
}
