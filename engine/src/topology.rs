//! How a host is built: its nodes, their CPUs, the distances. Immutable, checked when it is made.

use crate::distance::Distances;
use crate::error::SourceError;
use crate::files::{HostFiles, NodeFiles};
use crate::ids::{CpuId, NodeId};
use crate::idset::{CpuSet, NodeSet};
use crate::parse;
use crate::units::Bytes;

pub(crate) mod builder;

pub use builder::TopologyBuilder;

/// One NUMA node. It may have CPUs without memory, memory without CPUs, or neither.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// The kernel's id.
    pub id: NodeId,
    /// The online CPUs that the kernel lists for it. On broken firmware a CPU may be listed in
    /// several nodes: shown as found, see [`cpus`](Self::cpus).
    pub listed: CpuSet,
    /// The online CPUs that count for placement: each CPU once, in the lowest node that lists it.
    pub cpus: CpuSet,
    /// Of these, the CPUs of each core that runs more than one thread. The others are cores of
    /// their own.
    pub cores: Vec<CpuSet>,
    /// Whether the node is the memory of a GPU.
    pub is_gpu: bool,
    /// Its CPUs by the highest-level cache that they share, in ascending order of first CPUs. One of level
    /// 0 where none is known; empty on a node without CPUs.
    pub caches: Vec<Cache>,
}

/// CPUs of one node that share their highest-level cache.
///
/// Source: `cpu<N>/cache/index<M>/{level,size,shared_cpu_list}`. Clusters without an L3 (some arm64 CPUs,
/// low-power modules) go by the highest level that more than one core shares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cache {
    /// The level; 0 for the CPUs of a node that share no cache that is known.
    pub level: u8,
    /// The size of the whole cache, also where it reaches into other nodes.
    pub size: Option<Bytes>,
    /// The online CPUs of the node that share it.
    pub cpus: CpuSet,
    /// The same by cores, those of one thread too.
    pub(crate) cores: Vec<CpuSet>,
}

impl Node {
    /// Returns whether it is known which of its CPUs share a cache.
    pub fn knows_caches(&self) -> bool {
        self.caches.iter().any(|cache| cache.level > 0)
    }
}

/// A host's nodes, CPUs and distances.
///
/// Built from [`HostFiles`], see there for the kernel's files. Sizes of memory are not in it: they
/// change with hot-added memory and are read with each [`Sample`](crate::Sample).
///
/// ```
/// use placer_engine::{SysRoot, Topology, source::HostReader};
/// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
/// # if !std::path::Path::new(dir).exists() { return Ok(()); }
/// let reader = HostReader::open(&SysRoot::at(dir))?;
/// let topology = Topology::from_files(reader.files())?.value;
/// assert_eq!(topology.node_set().to_string(), "0-3");
/// # Ok::<(), placer_engine::SourceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Ascending by id.
    nodes: Vec<Node>,
    distances: Option<Distances>,
    isolated: CpuSet,
    latencies: Vec<Latency>,
    /// The number of threads that each core is assumed to run if the cores are not known, else 1.
    threads: u64,
    /// CPUs slower than the fastest, ascending, with their capacity in 1/1024.
    slow: Vec<(CpuId, u32)>,
}

/// What HMAT reports of a node's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// The node whose memory is meant.
    pub node: NodeId,
    /// The nodes whose CPUs reach it soonest.
    pub initiators: NodeSet,
    /// How long a read takes from there, in ns.
    pub read_ns: u64,
}

impl Topology {
    /// Understands the texts of a host. Notes say what was assumed or left out.
    ///
    /// Errors: no node at all; a list, mask or row of distances that is not understood.
    pub fn from_files(files: &HostFiles) -> Result<crate::read::Read<Self>, SourceError> {
        let mut notes = Vec::new();
        let online_nodes = optional(files.node_online.as_ref(), parse::list::parse)?;
        let online_cpus = files.online_cpus()?;
        let isolated = optional(files.cpu_isolated.as_ref(), parse::list::parse)?;

        let mut dirs: Vec<&NodeFiles> = files.nodes.iter().collect();
        dirs.sort_by_key(|dir| dir.id);
        if let Some(online) = &online_nodes {
            leave_out_unlisted(&mut dirs, online, &mut notes);
        }
        if dirs.is_empty() {
            return Err(SourceError::NoNodes { path: files.node_dir.clone() });
        }

        let mut nodes: Vec<Node> = Vec::with_capacity(dirs.len());
        let mut taken = CpuSet::new();
        let mut from_masks = NodeSet::new();
        let mut shared = CpuSet::new();
        for dir in &dirs {
            let (mut listed, from_mask) = cpus_of(dir)?;
            if from_mask {
                from_masks.insert(dir.id);
            }
            if let Some(online) = &online_cpus {
                // Without NUMA the list of the only node is that of the online CPUs.
                listed =
                    if files.without_numa { online.clone() } else { listed.intersection(online) };
            }
            let cpus = listed.difference(&taken);
            shared = shared.union(&listed.intersection(&taken));
            taken = taken.union(&listed);
            let is_gpu = files.gpu_nodes.contains(&dir.id);
            nodes.push(Node {
                id: dir.id,
                listed,
                cpus,
                cores: Vec::new(),
                is_gpu,
                caches: Vec::new(),
            });
        }
        let threads = share_cores(files, &mut nodes, &mut notes)?;
        share_caches(files, &mut nodes);
        let slow = files.cores.as_ref().map(|cores| cores.slow.clone()).unwrap_or_default();
        if !from_masks.is_empty() {
            notes.push(format!("nodes {from_masks} have no cpulist file: their cpumap is used"));
        }
        if !shared.is_empty() {
            notes.push(format!(
                "CPUs {shared} are listed in several nodes: for placement each belongs to the \
                 lowest"
            ));
        }
        let columns = online_nodes.unwrap_or_else(|| dirs.iter().map(|dir| dir.id).collect());
        let distances = if files.without_numa {
            notes.push(
                "this kernel has no NUMA: the whole host is node 0, with the memory of \
                 /proc/meminfo"
                    .to_owned(),
            );
            None
        } else {
            distances(&dirs, &columns, &mut notes)?
        };
        let isolated = isolated.unwrap_or_default();
        let latencies = latencies(&dirs)?;
        let value = Self { nodes, distances, isolated, latencies, threads, slow };
        Ok(crate::read::Read { value, notes })
    }

    /// Returns the nodes, in ascending order of ids.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns one node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// Returns the ids of all nodes.
    pub fn node_set(&self) -> NodeSet {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// Returns the distances, `None` when the host does not tell them.
    pub fn distances(&self) -> Option<&Distances> {
        self.distances.as_ref()
    }

    /// Returns the CPUs that the kernel keeps threads away from (`isolcpus`).
    pub fn isolated(&self) -> &CpuSet {
        &self.isolated
    }

    /// Returns what HMAT reports of the nodes' memory; nothing on most hosts.
    pub fn latencies(&self) -> &[Latency] {
        &self.latencies
    }

    /// Returns how many threads every core is taken to run, where the host does not tell which
    /// CPUs share a core but how many do; 1 where it reports them, or where nothing is known.
    pub fn threads_per_core(&self) -> u64 {
        self.threads
    }

    /// Returns what a CPU is worth beside the host's fastest: 1, or less for a slow core of a hybrid CPU.
    ///
    /// Source: `cpu<N>/cpu_capacity`; 0.6 for the CPUs of `/sys/devices/cpu_atom/cpus`.
    pub fn capacity_of(&self, cpu: CpuId) -> f64 {
        let found = self.slow.binary_search_by_key(&cpu, |&(slow, _)| slow).ok();
        let capacity = found.and_then(|at| self.slow.get(at));
        capacity.map_or(1.0, |&(_, capacity)| f64::from(capacity) / 1024.0)
    }

    /// Returns the CPUs that are slower than the host's fastest; none on most hosts.
    pub fn slow_cpus(&self) -> CpuSet {
        self.slow.iter().map(|&(cpu, _)| cpu).collect()
    }

    /// Returns the CPUs of some nodes.
    pub fn cpus_of(&self, nodes: &NodeSet) -> CpuSet {
        self.nodes
            .iter()
            .filter(|node| nodes.contains(node.id))
            .fold(CpuSet::new(), |all, node| all.union(&node.cpus))
    }
}

/// Sorts the CPUs of cores with several threads to their nodes. Returns the threads of every core
/// where only CPU 0's core is known.
fn share_cores(
    files: &HostFiles,
    nodes: &mut [Node],
    notes: &mut Vec<String>,
) -> Result<u64, SourceError> {
    let Some(cores) = &files.cores else { return Ok(1) };
    if !cores.complete {
        let mask = files.cpu0_siblings.as_ref().map(|file| parse::mask::parse::<CpuId>(&file.text));
        let threads = mask.and_then(Result::ok).map_or(1, |mask| mask.len().max(1));
        if threads > 1 {
            notes.push(format!(
                "only CPU 0 reports its core: every core is assumed to run {threads} threads"
            ));
        }
        return Ok(threads);
    }
    for (_, file) in &cores.siblings {
        let siblings: CpuSet = parse::list::parse(&file.text).map_err(|e| file.error(e))?;
        for node in nodes.iter_mut() {
            let here = siblings.intersection(&node.cpus);
            if here.len() > 1 {
                node.cores.push(here);
            }
        }
    }
    Ok(1)
}

/// Sorts the shared caches to the nodes, cut to each. CPUs that are in none share what is not known.
fn share_caches(files: &HostFiles, nodes: &mut [Node]) {
    let caches = files.cores.as_ref().map(|cores| cores.caches.as_slice()).unwrap_or_default();
    for node in nodes {
        let mut left = node.cpus.clone();
        for cache in caches {
            let cpus = cache.cpus.intersection(&left);
            if !cpus.is_empty() {
                left = left.difference(&cpus);
                let (level, size) = (cache.level, cache.size);
                node.caches.push(Cache { level, size, cpus, cores: Vec::new() });
            }
        }
        if !left.is_empty() {
            node.caches.push(Cache { level: 0, size: None, cpus: left, cores: Vec::new() });
        }
        node.caches.sort_by_key(|cache| cache.cpus.first());
        for cache in &mut node.caches {
            let here = node.cores.iter().map(|core| core.intersection(&cache.cpus));
            cache.cores = here.filter(|core| !core.is_empty()).collect();
            let shared = cache.cores.iter().fold(CpuSet::new(), |all, core| all.union(core));
            let single = cache.cpus.difference(&shared);
            cache.cores.extend(CpuSet::iter(&single).map(|cpu| std::iter::once(cpu).collect()));
        }
    }
}

fn latencies(dirs: &[&NodeFiles]) -> Result<Vec<Latency>, SourceError> {
    let mut told = Vec::new();
    for dir in dirs {
        let Some(access) = &dir.access else { continue };
        let file = &access.read_latency;
        let body = parse::trim_end(&file.text);
        let read_ns = match parse::number(body) {
            Some((ns, digits)) if digits == body.len() => ns,
            _ => {
                let wanted = "a number of nanoseconds";
                return Err(file.error(parse::ParseError::at(&file.text, 0, wanted)));
            }
        };
        let initiators = access.initiators.iter().copied().collect();
        told.push(Latency { node: dir.id, initiators, read_ns });
    }
    Ok(told)
}

fn optional<T>(
    file: Option<&crate::files::TextFile>,
    parse: impl Fn(&[u8]) -> Result<T, parse::ParseError>,
) -> Result<Option<T>, SourceError> {
    file.map(|file| parse(&file.text).map_err(|e| file.error(e))).transpose()
}

fn leave_out_unlisted(dirs: &mut Vec<&NodeFiles>, online: &NodeSet, notes: &mut Vec<String>) {
    let found: NodeSet = dirs.iter().map(|dir| dir.id).collect();
    let extra = found.difference(online);
    if !extra.is_empty() {
        notes.push(format!("nodes {extra} have a directory and are not online: left out"));
        dirs.retain(|dir| online.contains(dir.id));
    }
    let absent = online.difference(&found);
    if !absent.is_empty() {
        notes.push(format!("nodes {absent} are online and have no directory: left out"));
    }
}

/// Returns a node's CPUs, and whether they come from the mask for want of a list.
fn cpus_of(dir: &NodeFiles) -> Result<(CpuSet, bool), SourceError> {
    if let Some(file) = &dir.cpulist {
        return Ok((parse::list::parse(&file.text).map_err(|e| file.error(e))?, false));
    }
    match &dir.cpumap {
        Some(file) => Ok((parse::mask::parse(&file.text).map_err(|e| file.error(e))?, true)),
        None => Err(SourceError::Missing {
            path: dir.dir.join("cpulist"),
            needed_for: "the CPUs of the node",
        }),
    }
}

/// Reads the table. Columns stand for the online nodes in ascending order, not for the ids.
fn distances(
    dirs: &[&NodeFiles],
    columns: &NodeSet,
    notes: &mut Vec<String>,
) -> Result<Option<Distances>, SourceError> {
    let ids: Vec<NodeId> = dirs.iter().map(|dir| dir.id).collect();
    let width = usize::try_from(columns.len()).unwrap_or(usize::MAX);
    let mut cells = Vec::new();
    for dir in dirs {
        let Some(file) = &dir.distance else {
            notes.push(format!(
                "node {} reports no distances: the distance table is ignored",
                dir.id
            ));
            return Ok(None);
        };
        match parse::distance::parse(&file.text, width) {
            Ok(row) => cells.extend(
                columns.iter().zip(row).filter(|(id, _)| ids.contains(id)).map(|(_, cell)| cell),
            ),
            // With one node nothing turns on the table, so it can be left out honestly.
            Err(error) if dirs.len() == 1 => {
                notes.push(format!("{}: the table is left out", file.error(error)));
                return Ok(None);
            }
            Err(error) => return Err(file.error(error)),
        }
    }
    Ok(Distances::new(ids, cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::TextFile;

    fn text(path: &str, text: &str) -> Option<TextFile> {
        Some(TextFile { path: path.into(), text: text.as_bytes().to_vec() })
    }

    fn node(id: u32, cpulist: &str, distance: &str) -> NodeFiles {
        let dir = std::path::PathBuf::from(format!("node{id}"));
        NodeFiles {
            id: NodeId(id),
            cpulist: text(&format!("node{id}/cpulist"), cpulist),
            cpumap: None,
            distance: text(&format!("node{id}/distance"), distance),
            access: None,
            dir,
        }
    }

    #[test]
    fn nodes_with_gaps_keep_their_distances() {
        let files = HostFiles {
            nodes: vec![
                node(8, "4-7\n", "22 10 30\n"),
                node(0, "0-3\n", "10 20 25\n"),
                node(250, "\n", "25 30 10\n"),
            ],
            ..HostFiles::default()
        };
        let t = Topology::from_files(&files).expect("a good host").value;
        let table = t.distances().expect("a table");
        assert_eq!(table.get(NodeId(8), NodeId(0)).map(|d| d.0), Some(22));
        assert_eq!(table.get(NodeId(250), NodeId(8)).map(|d| d.0), Some(30));
        assert_eq!(t.cpus_of(&t.node_set()).to_string(), "0-7");
    }

    #[test]
    fn a_cpu_of_two_nodes_counts_once_and_offline_cpus_never() {
        let files = HostFiles {
            nodes: vec![node(0, "0-5", "10 20"), node(1, "4-9", "20 10")],
            cpu_online: text("online", "1-9\n"),
            ..HostFiles::default()
        };
        let read = Topology::from_files(&files).expect("a good host");
        let [a, b] = read.value.nodes() else { unreachable!("two nodes") };
        assert_eq!((a.cpus.to_string(), b.cpus.to_string()), ("1-5".to_owned(), "6-9".to_owned()));
        assert_eq!(b.listed.to_string(), "4-9");
        assert_eq!(
            read.notes,
            ["CPUs 4-5 are listed in several nodes: for placement each belongs to the lowest"]
        );
    }

    #[test]
    fn a_node_that_is_not_online_takes_no_column() {
        let files = HostFiles {
            nodes: vec![node(0, "0", "10 20"), node(1, "1", "20 10"), node(2, "2", "30 30")],
            node_online: text("online", "0-1\n"),
            ..HostFiles::default()
        };
        let read = Topology::from_files(&files).expect("a good host");
        assert_eq!(read.value.node_set().to_string(), "0-1");
        assert_eq!(read.notes, ["nodes 2 have a directory and are not online: left out"]);
    }

    #[test]
    fn damage_names_the_file_and_the_byte() {
        let files = HostFiles {
            nodes: vec![node(0, "0", "10 20"), node(1, "1", "10 x")],
            ..HostFiles::default()
        };
        let error = Topology::from_files(&files).expect_err("a damaged row").to_string();
        assert_eq!(
            error,
            "node1/distance:1:4: expected 2 distances (one for each online node), found \"x\""
        );
    }

    #[test]
    fn one_node_needs_no_distances() {
        let files = HostFiles { nodes: vec![node(1, "0", "21 10")], ..HostFiles::default() };
        let read = Topology::from_files(&files).expect("a good host");
        assert_eq!(read.value.distances(), None);
        assert_eq!(read.notes.len(), 1);
    }
}
