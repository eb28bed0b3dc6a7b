//! A topology from an inventory of one's own, by the same texts and checks as one that is read.

use std::fmt::Write as _;

use crate::error::SourceError;
use crate::files::{CacheFiles, CoreFiles, HostFiles, NodeFiles, TextFile};
use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::parse;
use crate::topology::Topology;
use crate::units::Bytes;

/// Builds a [`Topology`] from values instead of the files of a host.
///
/// CPU lists are written as the kernel writes them: `0-3,8`. Nothing is checked before
/// [`build`](Self::build), whose errors name what was given.
///
/// ```
/// use placer_engine::{Bytes, NodeId, Topology};
/// let topology = Topology::builder()
///     .node(0, "0-3")
///     .node(2, "4-7")
///     .distances([[10, 21], [21, 10]])
///     .cache(3, Bytes::from_mib(32), "0-3")
///     .core("0,2")
///     .build()?;
/// assert_eq!(topology.node_set().to_string(), "0,2");
/// assert_eq!(topology.distances().and_then(|all| all.get(NodeId(2), NodeId(0))).map(|d| d.0), Some(21));
/// # Ok::<(), placer_engine::SourceError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TopologyBuilder {
    nodes: Vec<(NodeId, String)>,
    distances: Vec<Vec<u8>>,
    cores: Vec<String>,
    caches: Vec<(u8, Option<Bytes>, String)>,
    isolated: Option<String>,
}

impl TopologyBuilder {
    /// Adds a node and its CPUs; an empty list is a node of memory alone.
    pub fn node(mut self, id: u32, cpus: &str) -> Self {
        self.nodes.push((NodeId(id), cpus.to_owned()));
        self
    }

    /// Sets the distances: a row for each node in ascending order of ids, from its CPUs to the memory of each
    /// node. Without them no distances are known.
    pub fn distances<R: AsRef<[u8]>>(mut self, rows: impl IntoIterator<Item = R>) -> Self {
        self.distances = rows.into_iter().map(|row| row.as_ref().to_vec()).collect();
        self
    }

    /// Adds a core of several hardware threads. CPUs that are in none are cores of their own.
    pub fn core(mut self, cpus: &str) -> Self {
        self.cores.push(cpus.to_owned());
        self
    }

    /// Adds a cache that these CPUs share.
    pub fn cache(mut self, level: u8, size: Option<Bytes>, cpus: &str) -> Self {
        self.caches.push((level, size, cpus.to_owned()));
        self
    }

    /// Sets the CPUs that the kernel keeps threads away from (`isolcpus`).
    pub fn isolated(mut self, cpus: &str) -> Self {
        self.isolated = Some(cpus.to_owned());
        self
    }

    /// Returns the topology.
    ///
    /// Errors: no node; a list that is not understood; rows of distances that are not one for each node, or
    /// not as long as there are nodes.
    pub fn build(self) -> Result<Topology, SourceError> {
        Ok(Topology::from_files(&self.files()?)?.value)
    }

    /// Returns the texts that a host of this kind would show.
    pub(crate) fn files(&self) -> Result<HostFiles, SourceError> {
        let mut given: Vec<&(NodeId, String)> = self.nodes.iter().collect();
        given.sort_by_key(|(id, _)| *id);
        let mut rows = self.distances.iter();
        let mut nodes = Vec::with_capacity(given.len());
        for (id, cpus) in given {
            let dir = format!("node{id}");
            // A row that is missing, or one too many, has the wrong length: the parser says so.
            let missing: &[u8] = &[];
            let row = rows.next().map_or(missing, Vec::as_slice);
            let known = !self.distances.is_empty();
            nodes.push(NodeFiles {
                id: *id,
                cpulist: Some(file(&format!("{dir}/cpulist"), cpus)),
                cpumap: None,
                distance: known.then(|| file(&format!("{dir}/distance"), &spaced(row))),
                access: None,
                dir: dir.into(),
            });
        }
        if let (Some(row), Some(last)) = (rows.next(), nodes.last_mut()) {
            let both = last.distance.take().map(|file| file.text).unwrap_or_default();
            let text = format!("{} {}", String::from_utf8_lossy(&both).trim_end(), spaced(row));
            last.distance = Some(file("distances", &text));
        }
        Ok(HostFiles {
            nodes,
            cpu_isolated: self.isolated.as_deref().map(|list| file("isolated", list)),
            cpu0_siblings: Some(file("thread_siblings", &self.mask_of_cpu0()?)),
            cores: Some(self.core_files()?),
            ..HostFiles::default()
        })
    }

    fn core_files(&self) -> Result<CoreFiles, SourceError> {
        let mut cores = CoreFiles { complete: true, ..CoreFiles::default() };
        for list in &self.cores {
            let first = cpus("core", list)?.first().unwrap_or(CpuId(0));
            cores.siblings.push((first, file("core", list)));
        }
        for (level, size, list) in &self.caches {
            let cpus = cpus("cache", list)?;
            let cpu = cpus.first().unwrap_or(CpuId(0));
            cores.caches.push(CacheFiles { cpu, level: *level, size: *size, cpus });
        }
        cores.caches.sort_by_key(|cache| (std::cmp::Reverse(cache.level), cache.cpu));
        Ok(cores)
    }

    /// numad counts the bits of this mask, and takes every core to have as many threads.
    fn mask_of_cpu0(&self) -> Result<String, SourceError> {
        let mut threads = 1;
        for list in &self.cores {
            let core = cpus("core", list)?;
            if core.contains(CpuId(0)) {
                threads = core.len().clamp(1, 32);
            }
        }
        Ok(format!("{:x}", (1u64 << threads) - 1))
    }
}

impl Topology {
    /// Begins a topology from values instead of files.
    pub fn builder() -> TopologyBuilder {
        TopologyBuilder::default()
    }
}

fn file(name: &str, text: &str) -> TextFile {
    TextFile { path: name.into(), text: format!("{text}\n").into_bytes() }
}

pub(crate) fn cpus(name: &str, list: &str) -> Result<CpuSet, SourceError> {
    let file = file(name, list);
    parse::list::parse(&file.text).map_err(|error| file.error(error))
}

fn spaced(row: &[u8]) -> String {
    row.iter().fold(String::new(), |mut text, cell| {
        let _ = write!(text, "{}{cell}", if text.is_empty() { "" } else { " " });
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_in_any_order_cores_and_caches_are_sorted_to_their_nodes() {
        let topology = Topology::builder()
            .node(8, "")
            .node(3, "4-7")
            .node(0, "0-3")
            .distances([[10, 21, 17], [21, 10, 28], [17, 28, 10]])
            .core("0,2")
            .core("1,3")
            .cache(2, None, "0,2")
            .cache(3, Bytes::from_mib(16), "0-5")
            .isolated("7")
            .build()
            .expect("a topology");
        assert_eq!(topology.node_set().to_string(), "0,3,8");
        let row = topology.distances().and_then(|all| all.row(NodeId(3)));
        assert_eq!(row, Some(&[21, 10, 28][..]));
        let node = topology.node(NodeId(0)).expect("node 0");
        let cores: Vec<String> = node.cores.iter().map(ToString::to_string).collect();
        assert_eq!(cores, ["0,2", "1,3"]);
        let caches = |id| {
            let node = topology.node(NodeId(id)).expect("a node");
            let caches = node.caches.iter();
            caches.map(|cache| (cache.level, cache.cpus.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(caches(0), [(3, "0-3".to_owned())]);
        assert_eq!(caches(3), [(3, "4-5".to_owned()), (0, "6-7".to_owned())]);
        assert_eq!(topology.isolated().to_string(), "7");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let two = || Topology::builder().node(0, "0-1").node(1, "2-3");
        let said = |builder: TopologyBuilder| builder.build().expect_err("an error").to_string();
        assert!(said(Topology::builder()).contains("no"), "{}", said(Topology::builder()));
        for (builder, what) in [
            (Topology::builder().node(0, "3-"), "node0/cpulist"),
            (two().distances([[10, 21]]), "node1/distance"),
            (two().distances([[10, 21, 3], [21, 10, 3]]), "node0/distance"),
            (two().distances([[10, 21], [21, 10], [3, 3]]), "distances"),
            (two().core("x"), "core"),
            (two().cache(3, None, "5-2"), "cache"),
            (two().isolated("-"), "isolated"),
        ] {
            let said = said(builder);
            assert!(said.contains(what), "{what}: {said}");
        }
    }
}
