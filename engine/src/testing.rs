//! Hosts that are made up, for unit tests of programs that embed the engine. Feature `testing`.
//!
//! ```
//! use placer_engine::{Bytes, advise, testing::MadeHost};
//!
//! let gib = |count| Bytes::from_gib(count).unwrap_or_default();
//! let host = MadeHost::new().node(0, "0-7", gib(16)).node(1, "8-15", gib(64));
//! let advice = advise(&host.snapshot()?, &"4:32G".parse()?)?;
//! assert_eq!(advice.nodes.to_string(), "1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use crate::error::SourceError;
use crate::host::Host;
use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::parse;
use crate::sample::{CpuTimes, Instant, NodeMemory, Sample};
use crate::snapshot::Snapshot;
use crate::topology::TopologyBuilder;
use crate::units::Bytes;

/// The time between the two readings of a made-up host: 2 s, in ticks of 1/100 s.
const WINDOW: u64 = 200;

/// A host in memory: no file is read or written. Its CPUs are idle and its memory is free unless the test says
/// otherwise.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MadeHost {
    topology: TopologyBuilder,
    memory: Vec<Memory>,
    busy: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Memory {
    node: NodeId,
    total: Bytes,
    free: Bytes,
}

impl MadeHost {
    /// Returns a host without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node with its CPUs (`0-3,8`; an empty list is a node of memory alone) and memory.
    pub fn node(mut self, id: u32, cpus: &str, memory: Bytes) -> Self {
        self.topology = self.topology.node(id, cpus);
        self.memory.push(Memory { node: NodeId(id), total: memory, free: memory });
        self
    }

    /// Changes how much of a node's memory is free. A node that was not added is left out.
    pub fn free(mut self, id: u32, memory: Bytes) -> Self {
        let node = self.memory.iter_mut().filter(|node| node.node == NodeId(id));
        node.for_each(|node| node.free = memory.min(node.total));
        self
    }

    /// Lets these CPUs have no idle time.
    pub fn busy(mut self, cpus: &str) -> Self {
        self.busy.push(cpus.to_owned());
        self
    }

    /// Sets the distances, a row for each node: [`TopologyBuilder::distances`].
    pub fn distances<R: AsRef<[u8]>>(mut self, rows: impl IntoIterator<Item = R>) -> Self {
        self.topology = self.topology.distances(rows);
        self
    }

    /// Adds a cache that these CPUs share.
    pub fn cache(mut self, level: u8, size: Bytes, cpus: &str) -> Self {
        self.topology = self.topology.cache(level, Some(size), cpus);
        self
    }

    /// Adds a core of several hardware threads.
    pub fn core(mut self, cpus: &str) -> Self {
        self.topology = self.topology.core(cpus);
        self
    }

    /// Returns the host at one moment, for [`advise`](crate::advise()) and [`explain`](crate::explain).
    ///
    /// Errors: those of [`TopologyBuilder::build`].
    pub fn snapshot(&self) -> Result<Snapshot, SourceError> {
        let host = Arc::new(Host::from_files(&self.topology.files()?)?.value);
        let mut busy = CpuSet::new();
        for list in &self.busy {
            busy = busy.union(&crate::topology::builder::cpus("busy", list)?);
        }
        let cpus: Vec<CpuId> = host.topology.cpus_of(&host.topology.node_set()).iter().collect();
        let idle = |cpu| if busy.contains(cpu) { 0 } else { WINDOW };
        let reading = |at, ticks: &dyn Fn(CpuId) -> u64| {
            CpuTimes::new(Instant::from_centiseconds(at), cpus.iter().map(|&cpu| (cpu, ticks(cpu))))
        };
        let memory = self.memory.iter().map(|node| NodeMemory {
            node: node.node,
            meminfo: parse::meminfo::parse(&meminfo(node)).ok(),
        });
        let now = Sample { cpu: reading(WINDOW, &idle), memory: memory.collect(), whole: None };
        Ok(Snapshot::new(host, Some(reading(0, &|_| 0)), now))
    }
}

/// Returns the file as the kernel writes it, so that all readers of it find their fields.
fn meminfo(Memory { node, total, free }: &Memory) -> Vec<u8> {
    let line = |name, memory: &Bytes| format!("Node {node} {name}: {} kB\n", memory.whole_kib());
    let text =
        [line("MemTotal", total), line("MemFree", free), line("Inactive(file)", &Bytes::ZERO)];
    text.concat().into_bytes()
}
