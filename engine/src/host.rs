//! One host as it was read: how it is built, by placer's reading and by numad's.

use std::sync::{Arc, OnceLock};

use crate::error::SourceError;
use crate::files::{HostFiles, ZoneFile};
use crate::idset::{CpuSet, NodeSet};
use crate::parse;
use crate::policy::best::{self, DistanceMatrix, HostError};
use crate::policy::numad;
use crate::read::Read;
use crate::sample::CpuTimes;
use crate::topology::Topology;
use crate::units::Bytes;

/// How a host is built, shared by all snapshots of it until something is plugged.
#[derive(Clone, Debug)]
pub struct Host {
    /// Nodes, CPUs, distances.
    pub topology: Topology,
    /// The same as numad reads it, from the same texts.
    pub numad: numad::Machine,
    sets: Sets,
    /// The CPUs of the host that the reading process may run on; empty when they are not known.
    own_cpus: CpuSet,
    /// By position in the topology.
    kept: Vec<Kept>,
    /// Made when it is first asked for: sorting 1,024 nodes takes 60 ms.
    fabric: OnceLock<Result<Arc<DistanceMatrix>, HostError>>,
}

/// Memory of a node that programs cannot get; nothing where the kernel does not show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The `low` watermarks of its zones together.
    pub(crate) low: Bytes,
    /// What lies below them, and what they keep for others.
    pub(crate) all: Bytes,
}

/// Returns what is kept of each node. A file that is not understood is as good as none.
fn kept(files: &HostFiles, topology: &Topology, notes: &mut Vec<String>) -> Vec<Kept> {
    let Some(ZoneFile { file, whole, page }) = &files.zones else { return Vec::new() };
    let mut zones = match parse::zoneinfo::parse(&file.text) {
        Ok(zones) => zones,
        Err(error) => {
            let path = file.path.display();
            notes.push(format!("{path}:{error}: the zones' watermarks are not counted"));
            return Vec::new();
        }
    };
    if !whole && let Some(cut) = zones.pop() {
        let (path, from) = (file.path.display(), cut.node);
        notes.push(format!("{path}: too long: watermarks are not counted from node {from} on"));
    }
    let bytes = |pages: u64| Bytes::new(pages.saturating_mul(page.get()));
    let of = |id| {
        let zones = zones.iter().find(|zones| zones.node == id);
        zones.map(|zones| Kept { low: bytes(zones.low), all: bytes(zones.kept) })
    };
    topology.nodes().iter().map(|node| of(node.id).unwrap_or_default()).collect()
}

/// The sets that every answer without limits needs.
#[derive(Clone, Debug)]
struct Sets {
    nodes: NodeSet,
    cpus: CpuSet,
    roaming: CpuSet,
    /// By position in the topology.
    roaming_of: Vec<CpuSet>,
}

impl Sets {
    fn new(topology: &Topology) -> Self {
        let nodes = topology.node_set();
        let cpus = topology.cpus_of(&nodes);
        let roaming = |cpus: &CpuSet| cpus.difference(topology.isolated());
        let roaming_of = topology.nodes().iter().map(|node| roaming(&node.cpus)).collect();
        Self { roaming: roaming(&cpus), nodes, cpus, roaming_of }
    }
}

impl Host {
    /// Understands a host's texts, in both readings.
    ///
    /// Errors: as [`Topology::from_files`]. What only numad cannot do without becomes an error
    /// when its policy is asked.
    pub fn from_files(files: &HostFiles) -> Result<Read<Self>, SourceError> {
        let Read { value: topology, mut notes } = Topology::from_files(files)?;
        // What was left out there is nobody's choice, and has no column in the others' distances.
        let numad = numad::Machine::of_nodes(files, |id| topology.node(id).is_some());
        let sets = Sets::new(&topology);
        let own_cpus = files.allowed_cpus.as_ref().map(|own| own.intersection(&sets.cpus));
        let own_cpus = own_cpus.unwrap_or_default();
        let kept = kept(files, &topology, &mut notes);
        let value = Self { topology, numad, sets, own_cpus, kept, fabric: OnceLock::new() };
        Ok(Read { value, notes })
    }

    /// Returns the CPUs that the reading process may run on and that have no counter in a reading of
    /// `/proc/stat`. Containers renumber that file: its figures are then those of other CPUs.
    pub(crate) fn uncounted(&self, times: &CpuTimes) -> CpuSet {
        if times.is_empty() {
            return CpuSet::new();
        }
        let counted = times.of(&self.own_cpus).count();
        if u64::try_from(counted).is_ok_and(|counted| counted == self.own_cpus.len()) {
            return CpuSet::new();
        }
        self.own_cpus.iter().filter(|&cpu| times.idle(cpu).is_none()).collect()
    }

    /// Returns the ids of all nodes.
    pub(crate) fn nodes(&self) -> &NodeSet {
        &self.sets.nodes
    }

    /// Returns the CPUs of all nodes.
    pub(crate) fn cpus(&self) -> &CpuSet {
        &self.sets.cpus
    }

    /// Returns the CPUs of all nodes that threads may roam over: those not isolated.
    pub fn roaming(&self) -> &CpuSet {
        &self.sets.roaming
    }

    /// Returns the same of the node at a position in the topology.
    pub(crate) fn roaming_of(&self, at: usize) -> Option<&CpuSet> {
        self.sets.roaming_of.get(at)
    }

    /// Returns what programs cannot get of the node at a position in the topology.
    pub(crate) fn kept(&self, at: usize) -> Kept {
        self.kept.get(at).copied().unwrap_or_default()
    }

    /// Returns what the distances come to for policy `best`.
    ///
    /// Errors: a distance of zero.
    pub fn fabric(&self) -> Result<Arc<DistanceMatrix>, HostError> {
        self.fabric.get_or_init(|| best::distance_matrix(&self.topology)).clone()
    }
}
