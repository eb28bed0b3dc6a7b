//! Hosts that are made up: so many equal nodes, joined in one of the ways that machines are built.

use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;

use placer_engine::parse::meminfo::NodeMeminfo;
use placer_engine::{
    Bytes, CpuTimes, Host, HostFiles, Instant, NodeFiles, NodeId, NodeMemory, Sample, Snapshot,
    SourceError, TextFile,
};

/// How the nodes of a host are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All others at 21.
    Flat,
    /// Two nodes a package: the other at 12, all others at 22.
    Pairs,
    /// Nodes in a ring, 6 more for each hop.
    Ring,
    /// A square grid, 4 more for each hop.
    Mesh,
}

/// A host of equal nodes, idle and empty: `4x16x128G` is four nodes with 16 CPUs and 128 GiB each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) nodes: u32,
    pub(crate) cpus: u32,
    pub(crate) memory: Bytes,
}

/// Bounds of what is made: 1,024 nodes take a table of a million distances.
const MOST: (u32, u32) = (1_024, 1_024);

impl FromStr for Made {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "expected NODESxCPUSxMEMORY, as in 4x16x128G, with up to {} nodes and {} CPUs on each, \
                 found {text:?}",
                MOST.0, MOST.1
            )
        };
        let mut parts = text.split('x');
        let (Some(nodes), Some(cpus), Some(memory), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wanted());
        };
        let number = |text: &str, most| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let read = digits.then(|| text.parse::<u32>().ok()).flatten();
            read.filter(|number| (1..=most).contains(number)).ok_or_else(wanted)
        };
        let (nodes, cpus) = (number(nodes, MOST.0)?, number(cpus, MOST.1)?);
        // The engine's own reading of memory.
        let memory = format!("1:{memory}").parse::<placer_engine::Request>();
        let memory = memory.map_err(|_| wanted())?.memory;
        if memory.whole_mib() == 0 || memory.whole_mib() >= 1 << 40 {
            return Err(wanted());
        }
        Ok(Self { nodes, cpus, memory })
    }
}

impl Made {
    /// Returns the host, with all its CPUs idle and all its memory free.
    ///
    /// Errors: none are known; the texts are made to be good.
    pub(crate) fn snapshot(self, shape: Shape) -> Result<Snapshot, SourceError> {
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
        let files =
            HostFiles { nodes: nodes.collect(), cpu0_siblings: mask, ..HostFiles::default() };
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
        let now = Sample { cpu: times(200, 200), memory };
        Ok(Snapshot::new(Arc::clone(&host), Some(times(0, 0)), now))
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
    fn hosts_are_read_strictly() {
        let host = "4x16x128G".parse::<Made>();
        assert_eq!(host, Ok(Made { nodes: 4, cpus: 16, memory: Bytes::new(128 << 30) }));
        for text in [
            "",
            "4",
            "4x16",
            "4x16x",
            "x16x1G",
            "0x16x1G",
            "4x0x1G",
            "4x16x0",
            "4x16x1GB",
            "+4x1x1G",
            "4x16x1Gx2",
            "1025x1x1G",
            "4x99999x1G",
            "4x16x-1",
            "4x16x1:1",
            "4 x16x1G",
        ] {
            let error = text.parse::<Made>().expect_err(text);
            assert!(error.ends_with(&format!("found {text:?}")), "{error}");
        }
    }

    #[test]
    fn shapes_have_their_distances() {
        let host: Made = "6x2x1G".parse().expect("a host");
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
