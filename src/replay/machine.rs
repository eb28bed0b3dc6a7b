//! What of a host never changes while guests come and go, taken from one snapshot of it.

use std::fmt;
use std::sync::Arc;

use placer_engine::policy::best::{DistanceMatrix, HostError, Rules};
use placer_engine::{Bytes, CpuId, CpuSet, Host, NodeId, Snapshot};

/// Ticks between the two readings of the CPU counters that rules see: 2 s, as numad waits.
pub(super) const WINDOW: u64 = 200;
/// A millionth of a CPU is the unit of load: it adds up exactly.
pub(super) const CPU: i64 = 1_000_000;

/// A host as the replay uses it.
#[derive(Clone, Debug)]
pub struct Machine {
    pub host: Arc<Host>,
    pub fabric: Arc<DistanceMatrix>,
    /// In ascending order of ids.
    pub nodes: Vec<Node>,
    /// Row by row, as policy `best` has them.
    pub distances: Vec<f64>,
    /// What a further hardware thread of a core is worth, as a part of a CPU.
    pub further: f64,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: NodeId,
    /// CPUs that threads may roam over.
    pub cpus: u32,
    /// The same, first threads of all cores before the others.
    pub order: Vec<CpuId>,
    /// CPUs that the kernel keeps threads away from: idle, and only numad counts them.
    pub isolated: Vec<CpuId>,
    /// CPUs that threads may roam over, by last-level cache and core; one cache where none is known.
    pub caches: Vec<Vec<Vec<u32>>>,
    /// Cores.
    pub cores: f64,
    /// In CPUs weighted for hardware threads.
    pub cap: f64,
    /// What runs already, in millionths of a CPU.
    pub busy: i64,
    /// All memory.
    pub total: Bytes,
    /// What guests of the stream may have, in whole MiB.
    pub there: u64,
}

/// Why a host cannot be used.
#[derive(Debug)]
pub enum MachineError {
    /// A distance of zero.
    Distances(HostError),
    /// No CPUs, or no free memory, anywhere.
    Nothing(&'static str),
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distances(error) => write!(f, "its distances are of no use: {error}"),
            Self::Nothing(what) => write!(f, "expected {what} on some node, found none on any"),
        }
    }
}

impl std::error::Error for MachineError {}

impl Machine {
    /// Takes what is needed of a snapshot.
    ///
    /// Errors: a distance of zero, or nothing that a guest could be given.
    pub fn of(snapshot: &Snapshot) -> Result<Self, MachineError> {
        let host = Arc::clone(snapshot.host());
        let fabric = host.fabric().map_err(MachineError::Distances)?;
        let percent = Rules::default().smt_percent;
        let further = f64::from(percent) / 100.0;
        let isolated = host.topology.isolated();
        let mut nodes = Vec::new();
        for (built, state) in host.topology.nodes().iter().zip(snapshot.nodes()) {
            let roaming = built.cpus.difference(isolated);
            let cpus = u32::try_from(roaming.len()).unwrap_or(u32::MAX);
            let cap = snapshot.worth(built, &roaming, percent).capacity;
            let threads = f64::from(cpus);
            let busy = state.cpus_idle.map_or(0.0, |idle| {
                let all = built.cpus.iter().count();
                (f64::from(u32::try_from(all).unwrap_or(u32::MAX)) - idle).clamp(0.0, threads)
            });
            let free = state.memory_free.unwrap_or_default();
            nodes.push(Node {
                id: state.id,
                cpus,
                order: cores_first(built, &roaming.iter().collect::<Vec<_>>()),
                caches: caches(built, &roaming),
                isolated: built.cpus.iter().filter(|&cpu| isolated.contains(cpu)).collect(),
                cores: if further < 1.0 {
                    ((cap - threads * further) / (1.0 - further)).max(0.0)
                } else {
                    threads
                },
                cap,
                busy: millionths(busy),
                total: state.memory_total.unwrap_or_default(),
                there: if built.is_gpu { 0 } else { free.whole_mib() },
            });
        }
        if nodes.iter().all(|node| node.cap <= 0.0) {
            return Err(MachineError::Nothing("CPUs"));
        }
        if nodes.iter().all(|node| node.there == 0) {
            return Err(MachineError::Nothing("free memory"));
        }
        let distances = fabric.rows().flatten().copied().collect();
        Ok(Self { host, fabric, nodes, distances, further })
    }

    /// Returns the memory that guests of the stream may have, in MiB.
    #[expect(clippy::cast_precision_loss, reason = "no host has 2^53 MiB")]
    pub(crate) fn mib(&self) -> f64 {
        self.nodes.iter().map(|node| node.there as f64).sum()
    }

    /// Returns the capacity of all CPUs.
    pub fn capacity(&self) -> f64 {
        self.nodes.iter().map(|node| node.cap).sum()
    }

    /// Returns how many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns all logical CPUs that threads may roam over.
    pub(crate) fn cpus(&self) -> u32 {
        self.nodes.iter().map(|node| node.cpus).fold(0, u32::saturating_add)
    }

    /// Returns the most CPUs of a node, and those of all.
    pub(super) fn widths(&self) -> (f64, f64) {
        let widest = self.nodes.iter().map(|node| node.cpus).max().unwrap_or_default();
        (f64::from(widest), f64::from(self.cpus()))
    }

    /// Returns the distances from the CPUs of the node at a position.
    pub(super) fn row(&self, from: usize) -> &[f64] {
        &self.distances[from * self.nodes.len()..(from + 1) * self.nodes.len()]
    }
}

/// The first thread of each core, then the second ones, and so on: as the kernel fills them.
fn cores_first(built: &placer_engine::Node, cpus: &[CpuId]) -> Vec<CpuId> {
    let rank = |cpu: CpuId| {
        let core = built.cores.iter().find(|core| core.contains(cpu));
        core.map_or(0, |core| core.iter().take_while(|&other| other < cpu).count())
    };
    let mut order: Vec<(usize, CpuId)> = cpus.iter().map(|&cpu| (rank(cpu), cpu)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, cpu)| cpu).collect()
}

/// The CPUs that threads may roam over, by cache and core.
fn caches(built: &placer_engine::Node, roaming: &CpuSet) -> Vec<Vec<Vec<u32>>> {
    let of_cache = |cpus: &CpuSet| {
        let cpus = cpus.intersection(roaming);
        let mut single = cpus.clone();
        let mut cores: Vec<Vec<u32>> = Vec::new();
        for core in built.cores.iter().map(|core| core.intersection(&cpus)) {
            if !core.is_empty() {
                single = single.difference(&core);
                cores.push(core.iter().map(|cpu| cpu.0).collect());
            }
        }
        cores.extend(single.iter().map(|cpu| vec![cpu.0]));
        cores.sort_unstable();
        cores
    };
    let caches = built.caches.iter().map(|cache| of_cache(&cache.cpus));
    caches.filter(|cores| !cores.is_empty()).collect()
}

/// Returns an amount of CPUs in millionths.
#[expect(clippy::cast_possible_truncation, reason = "saturation is meant")]
#[expect(clippy::cast_precision_loss, reason = "a million")]
pub(super) fn millionths(cpus: f64) -> i64 {
    (cpus * CPU as f64).round() as i64
}

/// Returns millionths of CPUs as CPUs.
#[expect(clippy::cast_precision_loss, reason = "no host has 2^33 CPUs")]
pub(super) fn cpus(millionths: i64) -> f64 {
    millionths as f64 / CPU as f64
}
