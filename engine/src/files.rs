//! The texts that tell how a host is built, as values: read once by a source, understood by
//! [`Topology`](crate::Topology) and by numad's rules, each in its own way.

use std::path::{Path, PathBuf};

use crate::error::SourceError;
use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::parse::{self, ParseError};
use crate::units::Bytes;

/// One file's text, and where it was read, for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its bytes; kernel files are no promise of UTF-8.
    pub text: Vec<u8>,
}

impl TextFile {
    /// Makes the error of this file from one of its text.
    pub(crate) fn error(&self, error: ParseError) -> SourceError {
        SourceError::parse(&self.path, error)
    }
}

/// The files of one node directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    /// The node.
    pub id: NodeId,
    /// Its directory.
    pub dir: PathBuf,
    /// `cpulist`.
    pub cpulist: Option<TextFile>,
    /// `cpumap`, read where `cpulist` is missing (before Linux 2.6.26).
    pub cpumap: Option<TextFile>,
    /// `distance`.
    pub distance: Option<TextFile>,
    /// What HMAT reports of its memory, if it does.
    pub access: Option<AccessFiles>,
}

/// What a node's `access1/initiators` says (seen from CPUs; `access0` where there is no other).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFiles {
    /// The nodes that reach the memory soonest: the links `node<N>` in the directory.
    pub initiators: Vec<NodeId>,
    /// `read_latency`, in ns.
    pub read_latency: TextFile,
}

/// What only some policies ask of a host, and takes a file for each core to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreFiles {
    /// `cpu<N>/topology/thread_siblings_list` of one CPU a core, as far as they are there. Empty
    /// where `smt/active` says that no core runs more than one thread.
    pub siblings: Vec<(CpuId, TextFile)>,
    /// Whether every online CPU is in one of them, or `smt/active` is 0.
    pub complete: bool,
    /// The caches that several CPUs share, of one CPU each; see [`CacheFiles`].
    pub caches: Vec<CacheFiles>,
    /// CPUs slower than the host's fastest, with their capacity in 1/1024 of it.
    pub slow: Vec<(CpuId, u32)>,
}

/// The highest-level cache of some CPU that it shares with CPUs of another core, or that is of level 3
/// or higher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheFiles {
    /// The CPU whose directory was read.
    pub cpu: CpuId,
    /// `cpu<N>/cache/index<M>/level`.
    pub level: u8,
    /// `cpu<N>/cache/index<M>/size`; `None` where it is missing or not understood.
    pub size: Option<Bytes>,
    /// `cpu<N>/cache/index<M>/shared_cpu_list`, or `shared_cpu_map` understood.
    pub cpus: CpuSet,
}

/// `/proc/zoneinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFile {
    /// The file, as far as it was read.
    pub file: TextFile,
    /// Whether that is all of it. Otherwise what is said of the last node may be cut.
    pub whole: bool,
    /// The size of the pages it counts in.
    pub page: Bytes,
}

/// The files that tell how a host is built. A file that is not there is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFiles {
    /// The node directories, in the order in which `sys/devices/system/node` lists them.
    pub nodes: Vec<NodeFiles>,
    /// `sys/devices/system/node/online`.
    pub node_online: Option<TextFile>,
    /// `sys/devices/system/cpu/online`.
    pub cpu_online: Option<TextFile>,
    /// `sys/devices/system/cpu/possible`.
    pub cpu_possible: Option<TextFile>,
    /// How many lines of `/proc/stat` are about one CPU; read where `cpu/online` is missing.
    pub cpus_in_stat: Option<u32>,
    /// `sys/devices/system/cpu/isolated`.
    pub cpu_isolated: Option<TextFile>,
    /// `sys/devices/system/cpu/cpu0/topology/thread_siblings`, the mask of CPU 0's core.
    pub cpu0_siblings: Option<TextFile>,
    /// Which CPUs share a core; `None` when it was not read.
    pub cores: Option<CoreFiles>,
    /// What the kernel keeps of each node; `None` when it was not read or is not shown.
    pub zones: Option<ZoneFile>,
    /// Nodes that are the memory of a GPU, by `/proc/driver/nvidia/gpus/*/numa_status`.
    pub gpu_nodes: Vec<NodeId>,
    /// The directory that lists the nodes.
    pub node_dir: PathBuf,
    /// Whether the kernel has no NUMA: [`nodes`](Self::nodes) is then a node 0 of all CPUs, whose
    /// memory is that of `/proc/meminfo`.
    pub without_numa: bool,
    /// The CPUs that the reading process may run on, by `/proc/self/status`; `None` when they are
    /// not known.
    pub allowed_cpus: Option<CpuSet>,
}

impl HostFiles {
    /// Returns the directory that lists the nodes.
    pub fn node_dir(&self) -> &Path {
        &self.node_dir
    }

    /// Returns the online CPUs: `cpu/online`, united with the CPUs that the reading process may run
    /// on. Containers renumber `cpu/online`, so that it contradicts the process' own limits. A
    /// process without limits may run on all CPUs that could ever come: that says nothing.
    ///
    /// Errors: a damaged list.
    pub fn online_cpus(&self) -> Result<Option<CpuSet>, SourceError> {
        let Some(file) = &self.cpu_online else { return Ok(None) };
        let online: CpuSet = parse::list::parse(&file.text).map_err(|e| file.error(e))?;
        let allowed = self.allowed_cpus.as_ref().filter(|allowed| !online.is_subset(allowed));
        Ok(Some(allowed.map_or_else(|| online.clone(), |allowed| online.union(allowed))))
    }
}
