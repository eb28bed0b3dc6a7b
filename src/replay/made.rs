//! Generated hosts: a number of equal nodes, connected as real machines are.

use std::fmt::Write;
use std::sync::Arc;

use placer_engine::parse::meminfo::NodeMeminfo;
use placer_engine::{
    Bytes, CacheFiles, CoreFiles, CpuId, CpuTimes, Host, HostFiles, Instant, NodeFiles, NodeId,
    NodeMemory, Sample, Snapshot, SourceError, TextFile,
};

/// How the nodes of a host are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All others at 21.
    Flat,
    /// Two nodes a package: the other at 12, all others at 22.
    Pairs,
    /// Nodes in a ring, 6 more for each hop.
    Ring,
    /// A square grid, 4 more for each hop.
    Mesh,
}

/// A host of equal nodes, idle and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub nodes: u32,
    pub cpus: u32,
    /// Last-level caches of each node, which share its CPUs evenly: 1, no cache is known.
    pub caches: u32,
    pub memory: Bytes,
}

impl Made {
    /// Returns the host, with all its CPUs idle and all its memory free.
    ///
    /// Errors: none are known; the texts are made to be good.
    pub fn snapshot(self, shape: Shape) -> Result<Snapshot, SourceError> {
        let file = |text: String| TextFile { path: "made".into(), text: text.into_bytes() };
        let nodes = (0..self.nodes).map(|id| {
            let mut row = String::new();
            for to in 0..self.nodes {
                let _ = write!(row, "{} ", shape.distance(self.nodes, id, to));
            }
            row.pop();
            let first = id * self.cpus;
            NodeFiles {
                id: NodeId(id),
                dir: format!("node{id}").into(),
                cpulist: Some(file(format!("{first}-{}\n", first + self.cpus - 1))),
                cpumap: None,
                distance: Some(file(row + "\n")),
                access: None,
            }
        });
        let mask = Some(file("1\n".to_owned()));
        let files = HostFiles {
            nodes: nodes.collect(),
            cpu0_siblings: mask,
            cores: (self.caches > 1).then(|| self.cores()),
            ..HostFiles::default()
        };
        let host = Arc::new(Host::from_files(&files)?.value);
        let cpus = || host.topology.nodes().iter().flat_map(|node| node.cpus.iter());
        let times = |cs, ticks| {
            CpuTimes::new(Instant::from_centiseconds(cs), cpus().map(|cpu| (cpu, ticks)))
        };
        let all = Some(self.memory);
        let meminfo = NodeMeminfo { total: all, free: all, ..NodeMeminfo::default() };
        let memory = (0..self.nodes)
            .map(|id| NodeMemory { node: NodeId(id), meminfo: Some(meminfo) })
            .collect();
        let now = Sample { cpu: times(200, 200), memory, whole: None };
        Ok(Snapshot::new(Arc::clone(&host), Some(times(0, 0)), now))
    }
}

impl Made {
    /// Cores of one thread, and the caches that they share.
    fn cores(self) -> CoreFiles {
        let each = (self.cpus / self.caches).max(1);
        let firsts = (0..self.nodes * self.cpus).step_by(each as usize);
        let cache = |first: u32| CacheFiles {
            cpu: CpuId(first),
            level: 3,
            size: None,
            cpus: (first..first + each).map(CpuId).collect(),
        };
        CoreFiles { complete: true, caches: firsts.map(cache).collect(), ..CoreFiles::default() }
    }
}

impl Shape {
    fn distance(self, nodes: u32, from: u32, to: u32) -> u32 {
        let side = (1..).find(|side| side * side >= nodes).unwrap_or(1);
        let hops = match self {
            _ if from == to => return 10,
            Self::Flat => return 21,
            Self::Pairs => return if from / 2 == to / 2 { 12 } else { 22 },
            Self::Ring => from.abs_diff(to).min(nodes - from.abs_diff(to)) * 6,
            Self::Mesh => {
                ((from / side).abs_diff(to / side) + (from % side).abs_diff(to % side)) * 4
            }
        };
        // Firmware writes a byte.
        (10 + hops).min(254)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_their_distances() {
        let host = Made { nodes: 6, cpus: 2, caches: 1, memory: Bytes::new(1 << 30) };
        for (shape, row) in [
            (Shape::Flat, [10, 21, 21, 21, 21, 21]),
            (Shape::Pairs, [10, 12, 22, 22, 22, 22]),
            (Shape::Ring, [10, 16, 22, 28, 22, 16]),
            (Shape::Mesh, [10, 14, 18, 14, 18, 22]),
        ] {
            let snapshot = host.snapshot(shape).expect("a host");
            let table = snapshot.topology().distances().expect("a table").clone();
            assert_eq!(table.row(NodeId(0)), Some(&row[..]), "{shape:?}");
            assert_eq!(snapshot.nodes()[5].cpus.to_string(), "10-11");
            assert_eq!(snapshot.nodes()[5].cpus_idle, Some(2.0));
            assert_eq!(snapshot.notes(), [""; 0]);
        }
    }
}
