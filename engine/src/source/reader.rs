//! Reads a host: once how it is built, then again and again what changes.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};

use super::detail;
use super::file::{self, Buffer, LARGE, SMALL};
use super::limits;
use super::paths::{CPUS, NODES};
use super::root::{self, Moment, Overlay, SysRoot};
use super::zones;
use crate::error::{SourceError, is_gone};
use crate::files::{HostFiles, NodeFiles, TextFile};
use crate::ids::NodeId;
use crate::parse;
use crate::parse::meminfo::NodeMeminfo;
use crate::sample::{CpuTimes, Instant, NodeHugePages, NodeMemory, Sample};
use crate::snapshot::HugePages;
use crate::units::Bytes;

/// Linux has at most 1,024 nodes (NODES_SHIFT 10).
const MAX_NODES: usize = 4096;
/// How often reading is begun anew on a host whose nodes come and go meanwhile.
const TRIES: u32 = 4;

/// Reads one host, live or recorded.
///
/// Files that are read again stay open; a reading allocates nothing once its buffers have grown.
/// Source: `node<N>/{cpulist,cpumap,distance,meminfo}` and `online` below
/// `/sys/devices/system/node`, `possible`, `online` and `isolated` below `/sys/devices/system/cpu`,
/// `/proc/stat`.
///
/// ```no_run
/// use placer_engine::{Sample, SysRoot, source::HostReader};
/// let mut reader = HostReader::open(&SysRoot::live())?;
/// let mut sample = Sample::default();
/// reader.sample(&mut sample)?;
/// println!("{} CPUs, {} nodes", sample.cpu.len(), sample.memory.len());
/// # Ok::<(), placer_engine::SourceError>(())
/// ```
#[derive(Debug)]
pub struct HostReader {
    root: SysRoot,
    files: HostFiles,
    overlay: Overlay,
    moment: Moment,
    /// When a recorded machine was read at that moment, once it was asked for.
    recorded: Option<Instant>,
    stat: Kept,
    meminfo: Vec<(NodeId, Kept)>,
    /// `/proc/meminfo`, on hosts of one node.
    whole: Option<Kept>,
    /// The kernel's lists of what is online, to notice when they change.
    watched: Vec<(Kept, Vec<u8>)>,
    /// Files stay open below this descriptor.
    kept_below: u64,
    /// One for each kind, so that the small files are not read into the large one's pages.
    stat_buf: Buffer,
    buf: Buffer,
}

/// A file that is read again: kept open if descriptors allow, opened each time if not.
#[derive(Debug)]
struct Kept {
    relative: String,
    /// Where it is at the moment that is read; `None` when it is gone by then.
    path: Option<PathBuf>,
    file: Option<File>,
}

impl HostReader {
    /// Opens a host and reads how it is built.
    ///
    /// A node that leaves while it is read makes the reading start anew, a few times.
    /// Errors: no nodes, a file that cannot be read, a host that never holds still.
    pub fn open(root: &SysRoot) -> Result<Self, SourceError> {
        Self::open_with(root, read_files)
    }

    /// Opens a host and reads, beside, which CPUs share a core and what HMAT reports of memory. On
    /// hosts with hardware threads that is a file for each core.
    ///
    /// Errors: as [`open`](Self::open).
    pub fn open_whole(root: &SysRoot) -> Result<Self, SourceError> {
        Self::open_with(root, |root| detail::read(root, read_files(root)?))
    }

    fn open_with(
        root: &SysRoot,
        read: impl Fn(&SysRoot) -> Result<HostFiles, SourceError>,
    ) -> Result<Self, SourceError> {
        let mut tries = 0;
        let files = loop {
            match read(root) {
                Ok(files) => break files,
                Err(e) if root.is_live() && e.is_gone() => {
                    tries += 1;
                    if tries == TRIES {
                        return Err(SourceError::Unsteady { tries, last: Box::new(e) });
                    }
                }
                Err(e) => return Err(e),
            }
        };
        let overlay = if root.is_live() { Overlay::default() } else { Overlay::read(root)? };
        let meminfo = files
            .nodes
            .iter()
            .map(|node| {
                let path = match files.without_numa {
                    true => "proc/meminfo".to_owned(),
                    false => format!("{NODES}/node{}/meminfo", node.id),
                };
                (node.id, Kept::new(root, path))
            })
            .collect();
        let watched = if root.is_live() { watched(root, &files)? } else { Vec::new() };
        let whole = is_lone(&files).then(|| Kept::new(root, "proc/meminfo".to_owned()));
        Ok(Self {
            stat: Kept::new(root, "proc/stat".to_owned()),
            root: root.clone(),
            files,
            overlay,
            moment: Moment::First,
            recorded: None,
            meminfo,
            whole,
            watched,
            kept_below: kept_below(),
            stat_buf: Buffer::default(),
            buf: Buffer::default(),
        })
    }

    /// Opens files anew at each reading, right after [`open`](Self::open): a program that closes all its
    /// descriptors loses none of its own then, and the reader none of its files.
    #[must_use]
    pub(crate) fn without_kept_files(mut self) -> Self {
        self.kept_below = 0;
        self
    }

    /// Opens the host anew, which is built otherwise now. Files are kept open as by this reader.
    ///
    /// Errors: as [`open`](Self::open).
    pub(crate) fn opened_anew(&self) -> Result<Self, SourceError> {
        let anew = Self::open_whole(&self.root)?;
        Ok(if self.kept_below == 0 { anew.without_kept_files() } else { anew })
    }

    /// Returns the texts that tell how the host is built.
    pub fn files(&self) -> &HostFiles {
        &self.files
    }

    /// Returns the root that is read.
    pub fn root(&self) -> &SysRoot {
        &self.root
    }

    /// Goes to the other moment of a recorded machine. The live host has only now.
    pub fn set_moment(&mut self, moment: Moment) {
        if self.root.is_live() || self.moment == moment {
            return;
        }
        self.moment = moment;
        self.recorded = None;
        let nodes = self.meminfo.iter_mut().map(|(_, kept)| kept);
        for kept in std::iter::once(&mut self.stat).chain(&mut self.whole).chain(nodes) {
            kept.file = None;
            kept.path = match moment {
                Moment::First => Some(self.root.path(&kept.relative)),
                Moment::Second => self.overlay.path(&self.root, &kept.relative),
            };
        }
    }

    /// Returns whether there are two readings of the CPU counters: always live; on a recorded
    /// machine only with `next/proc/stat`.
    pub fn has_second_moment(&self) -> bool {
        self.root.is_live() || self.overlay.has_stat
    }

    /// Reads the CPU counters. A host without `/proc/stat` has none.
    pub fn cpu_times(&mut self, times: &mut CpuTimes) -> Result<(), SourceError> {
        times.restart(self.now()?);
        // What follows the CPUs (interrupts) is long, and not asked for.
        let whole = |text: &[u8]| has_all_cpus(text);
        if !self.stat.read(LARGE, self.kept_below, &mut self.stat_buf, whole)? {
            return Ok(());
        }
        parse::stat::each_cpu(self.stat_buf.text(), |cpu, ticks| times.push(cpu, ticks))
            .map_err(|e| self.stat.error(e))?;
        times.finish();
        Ok(())
    }

    fn now(&mut self) -> Result<Instant, SourceError> {
        if self.root.is_live() {
            return live_clock();
        }
        if let Some(at) = self.recorded {
            return Ok(at);
        }
        let at = root::recorded_clock(&self.root, self.moment)?;
        self.recorded = Some(at);
        Ok(at)
    }

    /// Reads the memory of every node, in the order in which the directory lists them. A node
    /// without the file has no figures.
    pub fn memory(&mut self, memory: &mut Vec<NodeMemory>) -> Result<(), SourceError> {
        memory.clear();
        for (node, kept) in &mut self.meminfo {
            let mut meminfo = None;
            if kept.read(SMALL, self.kept_below, &mut self.buf, |_| false)? {
                let fields = parse::meminfo::parse(self.buf.text());
                meminfo = Some(fields.map_err(|e| kept.error(e))?);
            }
            memory.push(NodeMemory { node: *node, meminfo });
        }
        Ok(())
    }

    /// Reads the memory of the whole host, where it has one node: `/proc/meminfo` counts what the
    /// node's file leaves out (memory that is not initialised yet). `None` on hosts of several nodes.
    ///
    /// Errors: as [`memory`](Self::memory).
    pub fn whole_memory(&mut self) -> Result<Option<NodeMeminfo>, SourceError> {
        let Some(kept) = &mut self.whole else { return Ok(None) };
        if !kept.read(SMALL, self.kept_below, &mut self.buf, |_| false)? {
            return Ok(None);
        }
        parse::meminfo::parse(self.buf.text()).map(Some).map_err(|e| kept.error(e))
    }

    /// Reads the huge pages of one size on every node, in the order in which the directory lists
    /// them. A node without pages of that size has none.
    ///
    /// Source: `node<N>/hugepages/hugepages-<size>kB/{nr,free}_hugepages` and, of the whole host,
    /// `/sys/kernel/mm/hugepages/hugepages-<size>kB/resv_hugepages`.
    /// Errors: a count that is no number.
    pub fn huge_pages(&self, size: Bytes) -> Result<HugePages, SourceError> {
        let kib = size.whole_kib();
        let count = |dir: &str, name: &str| -> Result<u64, SourceError> {
            let file = format!("{dir}/hugepages-{kib}kB/{name}");
            let path = match self.moment {
                Moment::First => Some(self.root.path(&file)),
                Moment::Second => self.overlay.path(&self.root, &file),
            };
            let Some(path) = path else { return Ok(0) };
            let Some(text) = file::read(&path)? else { return Ok(0) };
            match parse::number(&text) {
                Some((count, digits)) if digits == parse::trim_end(&text).len() => Ok(count),
                _ => {
                    let error = parse::ParseError::at(&text, 0, "a number of pages");
                    Err(SourceError::parse(&path, error))
                }
            }
        };
        let of = |node: &NodeFiles| {
            let dir = match self.files.without_numa {
                true => "sys/kernel/mm/hugepages".to_owned(),
                false => format!("{NODES}/node{}/hugepages", node.id),
            };
            let (total, free) = (count(&dir, "nr_hugepages")?, count(&dir, "free_hugepages")?);
            Ok(NodeHugePages { node: node.id, total, free: free.min(total) })
        };
        let reserved = count("sys/kernel/mm/hugepages", "resv_hugepages")?;
        let nodes = self.files.nodes.iter().map(of).collect::<Result<_, SourceError>>()?;
        Ok(HugePages { size, nodes, reserved })
    }

    /// Reads CPU counters and memory.
    pub fn sample(&mut self, sample: &mut Sample) -> Result<(), SourceError> {
        self.cpu_times(&mut sample.cpu)?;
        self.memory(&mut sample.memory)?;
        sample.whole = self.whole_memory()?;
        Ok(())
    }

    /// Returns whether CPUs or nodes have come or gone since [`open`](Self::open), by the kernel's
    /// lists of what is online, or the settings that the zones' watermarks follow from have changed.
    /// The caller then opens the host anew.
    pub fn has_changed(&mut self) -> Result<bool, SourceError> {
        for (kept, before) in &mut self.watched {
            let there = kept.read(SMALL, self.kept_below, &mut self.buf, |_| false)?;
            if !there || self.buf.text() != before.as_slice() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns whether the host has one node, and no other that is hidden: a node can be online without
/// a directory, and is a column of the others' distances then.
fn is_lone(files: &HostFiles) -> bool {
    let [node] = files.nodes.as_slice() else { return false };
    if files.without_numa {
        return false;
    }
    let words = |file: &TextFile| {
        file.text.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).count()
    };
    let online = files.node_online.as_ref().map(|file| parse::list::parse::<NodeId>(&file.text));
    node.distance.as_ref().is_none_or(|file| words(file) == 1)
        && online.is_none_or(|online| online.is_ok_and(|online| online.len() == 1))
}

/// Returns the files by which it is noticed that the host is built otherwise now.
fn watched(root: &SysRoot, files: &HostFiles) -> Result<Vec<(Kept, Vec<u8>)>, SourceError> {
    let lists = [("node", &files.node_online), ("cpu", &files.cpu_online)];
    let lists = lists.into_iter().filter_map(|(kind, file)| {
        let path = format!("sys/devices/system/{kind}/online");
        Some((Kept::new(root, path), file.clone()?.text))
    });
    let mut watched: Vec<_> = lists.collect();
    let settings = if files.zones.is_some() { &zones::SETTINGS[..] } else { &[] };
    for setting in settings {
        if let Some(text) = file::read(&root.path(setting))? {
            watched.push((Kept::new(root, (*setting).to_owned()), text));
        }
    }
    Ok(watched)
}

impl Kept {
    fn new(root: &SysRoot, relative: String) -> Self {
        Self { path: Some(root.path(&relative)), relative, file: None }
    }

    fn error(&self, error: parse::ParseError) -> SourceError {
        SourceError::parse(self.path.as_deref().unwrap_or(Path::new(&self.relative)), error)
    }

    /// Reads the file anew. Returns whether it is there.
    fn read(
        &mut self,
        limit: usize,
        keep: u64,
        buf: &mut Buffer,
        enough: impl Fn(&[u8]) -> bool + Copy,
    ) -> Result<bool, SourceError> {
        let Some(path) = self.path.as_deref() else { return Ok(false) };
        if let Some(file) = &self.file {
            match buf.fill(file, path, limit, enough) {
                Ok(()) => return Ok(true),
                // The node has left, or was taken out and put in again: the open file stays dead.
                Err(SourceError::Io { source, .. }) if is_gone(&source) => self.file = None,
                Err(e) => return Err(e),
            }
        }
        let Some(file) = file::open(path)? else { return Ok(false) };
        match buf.fill(&file, path, limit, enough) {
            Ok(()) => {}
            Err(e) if e.is_gone() => return Ok(false),
            Err(e) => return Err(e),
        }
        if spare_descriptors(&file, keep) {
            self.file = Some(file);
        }
        Ok(true)
    }
}

/// Returns whether a file may stay open: the engine leaves the larger part of the program's
/// descriptors alone, and opens files anew on hosts with more nodes than that.
fn spare_descriptors(file: &File, most: u64) -> bool {
    u64::try_from(file.as_raw_fd()).is_ok_and(|fd| fd < most)
}

/// Returns below which descriptor files may stay open: half of what the program may have.
fn kept_below() -> u64 {
    const MOST: u64 = 400;
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| (soft / 2).min(MOST))
}

fn has_all_cpus(text: &[u8]) -> bool {
    let Some(end) = text.iter().rposition(|&b| b == b'\n') else { return false };
    let line = text[..end].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    !text[line..].starts_with(b"cpu")
}

/// Reads the live host's monotonic clock, as a [`HostReader`] does with each sample.
pub fn live_clock() -> Result<Instant, SourceError> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_err(|e: Errno| SourceError::io(Path::new("CLOCK_MONOTONIC"), e.into()))?;
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Ok(Instant::from_nanoseconds(seconds.saturating_mul(1_000_000_000).saturating_add(rest)))
}

fn read_files(root: &SysRoot) -> Result<HostFiles, SourceError> {
    let text = |relative: &str| -> Result<Option<TextFile>, SourceError> {
        let path = root.path(relative);
        Ok(file::read(&path)?.map(|text| TextFile { path, text }))
    };
    let node_dir = root.path(NODES);
    let cpu_online = text(&format!("{CPUS}/online"))?;
    let mut nodes = Vec::new();
    let mut without_numa = false;
    let ids = match (list_nodes(root), &cpu_online) {
        // A kernel without NUMA: the host is one node.
        (Err(SourceError::NoNodes { .. }), Some(online))
            if !node_dir.exists() && root.path("proc/meminfo").exists() =>
        {
            without_numa = true;
            nodes.push(NodeFiles {
                id: NodeId(0),
                dir: node_dir.clone(),
                cpulist: Some(online.clone()),
                cpumap: None,
                distance: None,
                access: None,
            });
            Vec::new()
        }
        (ids, _) => ids?,
    };
    for id in ids {
        let dir = format!("{NODES}/node{id}");
        let cpulist = text(&format!("{dir}/cpulist"))?;
        let cpumap = if cpulist.is_none() { text(&format!("{dir}/cpumap"))? } else { None };
        let distance = text(&format!("{dir}/distance"))?;
        let dir = root.path(&dir);
        if cpulist.is_none() && cpumap.is_none() && !dir.is_dir() {
            // Listed a moment ago: the node is leaving.
            let needed_for = "the CPUs of the node";
            return Err(SourceError::Missing { path: dir.join("cpulist"), needed_for });
        }
        nodes.push(NodeFiles { id: NodeId(id), dir, cpulist, cpumap, distance, access: None });
    }
    let cpus_in_stat = match cpu_online {
        Some(_) => None,
        None => text("proc/stat")?.and_then(|file| lines_of_cpus(&file.text)),
    };
    Ok(HostFiles {
        nodes,
        node_online: text(&format!("{NODES}/online"))?,
        cpu_online,
        cpus_in_stat,
        cpu_possible: text(&format!("{CPUS}/possible"))?,
        cpu_isolated: text(&format!("{CPUS}/isolated"))?,
        cpu0_siblings: text(&format!("{CPUS}/cpu0/topology/thread_siblings"))?,
        cores: None,
        zones: None,
        gpu_nodes: Vec::new(),
        without_numa,
        allowed_cpus: limits::allowed_cpus(root),
        node_dir,
    })
}

/// Counts the lines of `/proc/stat` that are about one CPU; `None` where there is none.
fn lines_of_cpus(text: &[u8]) -> Option<u32> {
    let is_cpu = |line: &&[u8]| {
        line.strip_prefix(b"cpu").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
    };
    let lines = text.split(|&byte| byte == b'\n').filter(is_cpu).count();
    u32::try_from(lines).ok().filter(|&lines| lines > 0)
}

/// Lists the node directories in the order of the directory, which numad's rules depend on.
fn list_nodes(root: &SysRoot) -> Result<Vec<u32>, SourceError> {
    let path = root.path(NODES);
    let no_nodes = || SourceError::NoNodes { path: path.clone() };
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(no_nodes()),
        Err(e) => return Err(SourceError::io(&path, e)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| SourceError::io(&path, e))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_prefix("node")) else { continue };
        let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
        // "node007" is no name the kernel gives, and would be read as another node's directory.
        if !digits || (id.len() > 1 && id.starts_with('0')) {
            continue;
        }
        let Ok(id) = id.parse::<u32>() else { continue };
        if id > parse::list::MAX_ID {
            continue;
        }
        if ids.len() == MAX_NODES {
            return Err(SourceError::TooManyNodes { path, limit: MAX_NODES });
        }
        ids.push(id);
    }
    if ids.is_empty() {
        return Err(no_nodes());
    }
    if !root.is_live() {
        match root::recorded_order(root)? {
            // Nodes the file does not name come last, by id. Of those named twice the first counts.
            Some(order) => {
                let places = order.iter().enumerate().rev().map(|(place, &id)| (id, place));
                let places: HashMap<u32, usize> = places.collect();
                ids.sort_by_key(|id| (places.get(id).copied().unwrap_or(usize::MAX), *id));
            }
            None => ids.sort_by_cached_key(|id| {
                let name = format!("node{id}");
                (root::listing_key(&name), name)
            }),
        }
    }
    Ok(ids)
}

/// Returns what the live host's clock counts from: its boot and the time namespace, since the same
/// clock reads differently in another one. Source: `/proc/sys/kernel/random/boot_id`,
/// `/proc/self/ns/time` (Linux 5.6; one namespace before that).
///
/// Errors: the boot id cannot be read.
pub fn live_clock_id() -> Result<String, SourceError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let missing = SourceError::Missing { path: path.to_owned(), needed_for: "the boot id" };
    let boot = file::read(path)?.ok_or(missing)?;
    let boot = String::from_utf8_lossy(parse::trim_end(&boot)).into_owned();
    let namespace = std::fs::read_link("/proc/self/ns/time").unwrap_or_default();
    Ok(format!("{boot} {}", namespace.display()))
}
