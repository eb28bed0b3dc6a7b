//! A host at one moment: how it is built and how full it is. What every policy decides on.

use std::sync::{Arc, OnceLock};

use crate::charges::Charges;
use crate::host::Host;
use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::policy::best;
use crate::policy::cache::roam::Ranked;
use crate::sample::{CpuTimes, NodeHugePages, NodeMemory, Sample};
use crate::topology::{Node, Topology};
use crate::units::Bytes;

/// One node at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NodeState {
    /// The node.
    pub id: NodeId,
    /// The online CPUs that count for placement.
    pub cpus: CpuSet,
    /// All memory of the node (`MemTotal`); `None` when it is not known.
    pub memory_total: Option<Bytes>,
    /// What programs can have: `MemFree` and [`memory_cached`](Self::memory_cached), less what lies
    /// below the watermarks of its zones (`/proc/zoneinfo`); at most all memory. `None` without
    /// `MemFree`.
    pub memory_free: Option<Bytes>,
    /// What of `memory_free` the kernel has to give up first: file cache and reclaimable slab.
    pub memory_cached: Option<Bytes>,
    /// Idle CPU time, in CPUs: 3.5 means that three and a half were idle or waited for I/O. `None`
    /// when the load is unknown.
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
    charges: Charges,
    huge_pages: Option<HugePages>,
    generation: u64,
    notes: Vec<String>,
    /// The number of notes, from the first on, that came from outside.
    told: usize,
    /// Made by the first question, or before anyone can ask; then read without a lock.
    figures: OnceLock<Option<Arc<Figures>>>,
    /// What the caches of each node offer a guest without limits, made like the figures.
    offers: OnceLock<Arc<CacheOffers>>,
}

/// What the caches of each node offer, by position in the topology.
#[derive(Debug)]
struct CacheOffers {
    smt_percent: u32,
    nodes: Vec<NodeOffers>,
}

/// What the caches of a node offer a guest without limits.
#[derive(Debug)]
pub(crate) struct NodeOffers {
    /// The CPUs that threads may roam over and no claim owns; all of the former where claims own every one.
    pub(crate) free: CpuSet,
    /// What of that each cache has.
    pub(crate) caches: Ranked,
}

/// What policy `best` decides on, for questions about the whole host in ordinary pages.
#[derive(Debug)]
struct Figures {
    smt_percent: u32,
    host: best::Host,
}

/// The huge pages of one size on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HugePages {
    /// The size of a page.
    pub size: Bytes,
    /// How many there are on each node.
    pub nodes: Vec<NodeHugePages>,
    /// How many of the free ones are reserved (`resv_hugepages`): mapped by programs that have not
    /// touched them yet. The kernel reserves pages of the host, not of a node.
    pub reserved: u64,
}

impl HugePages {
    /// Returns how many pages of all nodes are free and not reserved.
    pub fn unreserved(&self) -> u64 {
        let free = self.nodes.iter().fold(0u64, |sum, node| sum.saturating_add(node.free));
        free.saturating_sub(self.reserved)
    }
}

/// What some CPUs can do, in CPUs weighted for hardware threads: the first thread of a core counts
/// as one, each further one as a part.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Worth {
    /// All of them.
    pub capacity: f64,
    /// What of that is idle.
    pub idle: f64,
}

impl Snapshot {
    /// Puts a snapshot together. Load is what the CPUs did between `before` and `now`; without
    /// `before`, or when no time lies between, it is unknown, and every CPU counts as idle.
    pub fn new(host: Arc<Host>, before: Option<CpuTimes>, now: Sample) -> Self {
        let mut notes = Vec::new();
        let uncounted = host.uncounted(&now.cpu);
        let before = before.filter(|earlier| {
            uncounted.is_empty()
                && !earlier.is_empty()
                && now.cpu.at().since(earlier.at()).is_some_and(|ns| ns > 0)
        });
        if before.is_none() {
            let why = if uncounted.is_empty() {
                String::new()
            } else {
                format!(
                    " (/proc/stat has no line for CPUs {uncounted}, which this process may use)"
                )
            };
            notes.push(format!("CPU load is unknown{why}: every CPU counts as idle"));
        }
        let nodes = host
            .topology
            .nodes()
            .iter()
            .enumerate()
            .map(|(at, node)| {
                let memory = now.memory.iter().find(|memory| memory.node == node.id);
                let meminfo = memory.and_then(|memory| memory.meminfo);
                let meminfo = meminfo.map(|meminfo| now.fuller(meminfo));
                let kept = host.kept(at);
                let memory_free = meminfo.and_then(|meminfo| meminfo.available(kept.low, kept.all));
                let cached = meminfo.map(|meminfo| meminfo.reclaimable(kept.low));
                if memory.is_none_or(|memory| memory.meminfo.is_none()) {
                    let id = node.id;
                    notes.push(format!(
                        "node {id} reports no memory (offlined?): it counts as full"
                    ));
                } else if memory_free.is_none() {
                    let id = node.id;
                    notes.push(format!("node {id} reports no MemFree: it counts as full"));
                }
                NodeState {
                    id: node.id,
                    cpus: node.cpus.clone(),
                    memory_total: meminfo.and_then(|meminfo| meminfo.total),
                    memory_free,
                    memory_cached: cached.zip(memory_free).map(|(cached, free)| cached.min(free)),
                    cpus_idle: before.as_ref().map(|before| idle(before, &now.cpu, &node.cpus)),
                }
            })
            .collect();
        let charges = Charges::default();
        let (figures, offers) = (OnceLock::new(), OnceLock::new());
        let (huge_pages, generation, told) = (None, 0, 0);
        Self {
            host,
            nodes,
            before,
            now,
            charges,
            huge_pages,
            generation,
            notes,
            told,
            figures,
            offers,
        }
    }

    /// Sets the running number by which readers tell snapshots apart.
    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Adds the huge pages of one size.
    #[must_use]
    pub fn with_huge_pages(mut self, huge_pages: HugePages) -> Self {
        let HugePages { size, reserved, .. } = huge_pages;
        if reserved > 0 {
            let left = huge_pages.unreserved();
            self.notes.push(format!(
                "{reserved} free huge pages of {size} are reserved by programs that have not \
                 touched \
                 them yet: {left} can be promised"
            ));
        }
        self.huge_pages = Some(huge_pages);
        self
    }

    /// Adds what a source had to say about its reading.
    #[must_use]
    pub fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        let before = self.notes.len();
        self.notes.splice(0..0, notes);
        self.told += self.notes.len() - before;
        self
    }

    /// Returns the same host with the same load, and other memory: read anew, while the counters of
    /// its CPUs are as good as they were. Huge pages and claims have to be added again.
    #[must_use]
    pub fn with_memory(&self, memory: Vec<NodeMemory>) -> Self {
        let now = Sample { cpu: self.now.cpu.clone(), memory, whole: self.now.whole };
        let notes = self.notes.iter().take(self.told).cloned();
        Self::new(Arc::clone(&self.host), self.before.clone(), now)
            .with_generation(self.generation)
            .with_notes(notes)
    }

    /// Sets what claims take from the nodes. What is in [`nodes`](Self::nodes) stays as it was
    /// measured; policies count claimed memory as used and claimed CPUs as busy.
    #[must_use]
    pub fn with_charges(mut self, charges: Charges) -> Self {
        self.charges = charges;
        self.figures = OnceLock::new();
        self.offers = OnceLock::new();
        self
    }

    /// Returns what policy `best` decides on where nothing limits a request: what `make` made of
    /// this snapshot when it was asked the first time. `None` where it was made for another worth of
    /// hardware threads, or cannot be made.
    pub(crate) fn figures(
        &self,
        smt_percent: u32,
        make: impl FnOnce() -> Option<best::Host>,
    ) -> Option<&best::Host> {
        let made = || make().map(|host| Arc::new(Figures { smt_percent, host }));
        let figures = self.figures.get_or_init(made).as_ref()?;
        (figures.smt_percent == smt_percent).then_some(&figures.host)
    }

    /// Returns what the caches of the node at a position offer a guest without limits: what `make` made of
    /// this snapshot when it was asked the first time. `None` where it was made for another worth of hardware
    /// threads.
    pub(crate) fn cache_offers(
        &self,
        smt_percent: u32,
        at: usize,
        make: impl FnOnce() -> Vec<NodeOffers>,
    ) -> Option<&NodeOffers> {
        let made = || Arc::new(CacheOffers { smt_percent, nodes: make() });
        let offers = self.offers.get_or_init(made);
        let nodes = (offers.smt_percent == smt_percent).then_some(&offers.nodes)?;
        nodes.get(at)
    }

    /// Returns what claims take from the nodes; nothing if no claims were given.
    pub fn charges(&self) -> &Charges {
        &self.charges
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

    /// Returns the idle time of some CPUs, in CPUs; `None` when the load is unknown. A CPU whose counter
    /// is not known counts as busy.
    pub fn idle_of(&self, cpus: &CpuSet) -> Option<f64> {
        self.before.as_ref().map(|before| idle(before, &self.now.cpu, cpus))
    }

    /// Returns the share of time that one CPU was idle or waited for I/O, from 0 to 1; 1 where the load is
    /// unknown.
    pub fn idle_of_cpu(&self, cpu: CpuId) -> f64 {
        self.before.as_ref().map_or(1.0, |before| self.now.cpu.idle_since(before, cpu))
    }

    /// Returns the huge pages that were read; `None` if none were requested.
    pub fn huge_pages(&self) -> Option<&HugePages> {
        self.huge_pages.as_ref()
    }

    /// Returns what some of a node's CPUs can do. A further hardware thread of a core is worth
    /// `percent` of a CPU, and is taken to be idle last: what is busy of a core fills its first
    /// thread. Where the load is unknown all is idle.
    pub fn worth(&self, node: &Node, cpus: &CpuSet, percent: u32) -> Worth {
        let further = f64::from(percent.min(100)) / 100.0;
        let whole = node.cpus.is_subset(cpus);
        let allowed = if whole { None } else { Some(node.cpus.intersection(cpus)) };
        let allowed = allowed.as_ref().unwrap_or(&node.cpus);
        let busy = |of: &CpuSet| -> f64 {
            let count = count(of);
            self.before.as_ref().map_or(0.0, |b| (count - idle(b, &self.now.cpu, of)).max(0.0))
        };
        let mut all = Worth { capacity: 0.0, idle: 0.0 };
        let mut add = |cores: f64, threads: f64, busy: f64| {
            let capacity = cores + (threads - cores) * further;
            let used = busy.min(cores) + (busy - cores).max(0.0) * further;
            all.capacity += capacity;
            all.idle += (capacity - used).max(0.0);
        };
        let mut single = allowed.clone();
        for core in &node.cores {
            let core = core.intersection(allowed);
            if core.len() > 1 {
                add(1.0, count(&core), busy(&core));
                single = single.difference(&core);
            }
        }
        if !single.is_empty() {
            #[expect(clippy::cast_precision_loss, reason = "a few threads")]
            let threads = self.topology().threads_per_core() as f64;
            let of_single = count(&single);
            add(of_single / threads, of_single, busy(&single));
        }
        let millionths = |figure: f64| (figure * 1e6).round() / 1e6;
        Worth { capacity: millionths(all.capacity), idle: millionths(all.idle) }
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

#[expect(clippy::cast_precision_loss, reason = "no host has 2^53 CPUs")]
fn count(cpus: &CpuSet) -> f64 {
    cpus.len() as f64
}

/// Idle time of some CPUs between two readings, in CPUs: idle, or waiting for I/O. A CPU that lacks
/// a reading, or whose counter ran backwards, counts as busy.
fn idle(before: &CpuTimes, now: &CpuTimes, cpus: &CpuSet) -> f64 {
    // Rounded to millionths, so that the order of summing can never show.
    (now.sum_idle_since(before, cpus) * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Instant;

    fn times(cs: u64, idle: &[(u32, u64)]) -> CpuTimes {
        let at = Instant::from_centiseconds(cs);
        CpuTimes::new(at, idle.iter().map(|&(cpu, ticks)| (CpuId(cpu), ticks)))
    }

    /// A host of one node, by the list of its CPUs and the cores that run several threads.
    fn host(cpulist: &str, siblings: &[&str]) -> Arc<Host> {
        use crate::files::{CoreFiles, HostFiles, NodeFiles, TextFile};
        let text = |text: &str| TextFile { path: "a file".into(), text: text.as_bytes().to_vec() };
        let siblings = siblings.iter().map(|list| (CpuId(0), text(list))).collect();
        let files = HostFiles {
            nodes: vec![NodeFiles {
                id: NodeId(0),
                dir: "node0".into(),
                cpulist: Some(text(cpulist)),
                cpumap: None,
                distance: Some(text("10")),
                access: None,
            }],
            cores: Some(CoreFiles { siblings, complete: true, ..CoreFiles::default() }),
            ..HostFiles::default()
        };
        Arc::new(Host::from_files(&files).expect("a good host").value)
    }

    #[test]
    fn further_threads_of_a_core_are_worth_a_part_and_idle_last() {
        let all: CpuSet = (0..4).map(CpuId).collect();
        let before = times(0, &[(0, 0), (1, 0), (2, 0), (3, 0)]);
        // Cores {0,2} and {1,3}: one thread of the first is busy, the second core idles.
        let now = Sample {
            cpu: times(100, &[(0, 0), (1, 100), (2, 100), (3, 100)]),
            ..Sample::default()
        };
        let snapshot = Snapshot::new(host("0-3", &["0,2", "1,3"]), Some(before), now);
        let node = &snapshot.topology().nodes()[0];
        let close = |a: Worth, capacity: f64, idle: f64| {
            assert!((a.capacity - capacity).abs() < 1e-9 && (a.idle - idle).abs() < 1e-9, "{a:?}");
        };
        close(snapshot.worth(node, &all, 20), 2.4, 1.4);
        close(snapshot.worth(node, &all, 100), 4.0, 3.0);
        // Of the second core only one thread may be used: it is a core of its own.
        let some: CpuSet = [0, 1, 2].into_iter().map(CpuId).collect();
        close(snapshot.worth(node, &some, 20), 2.2, 1.2);
    }

    #[test]
    fn memory_that_is_read_anew_changes_nothing_else() {
        use crate::parse::meminfo::NodeMeminfo;
        let meminfo = |free: u64| NodeMeminfo {
            total: Some(Bytes::new(100)),
            free: Some(Bytes::new(free)),
            ..NodeMeminfo::default()
        };
        let of = |free| vec![NodeMemory { node: NodeId(0), meminfo: Some(meminfo(free)) }];
        let (before, cpu) = (times(0, &[(0, 0)]), times(100, &[(0, 50)]));
        let first = Snapshot::new(
            host("0", &[]),
            Some(before),
            Sample { cpu, memory: of(70), whole: None },
        )
        .with_generation(7)
        .with_notes(["from outside".to_owned()]);
        let second = first.with_memory(of(30));
        assert_eq!(second.nodes()[0].memory_free, Some(Bytes::new(30)));
        assert_eq!(second.nodes()[0].cpus_idle, first.nodes()[0].cpus_idle);
        assert_eq!((second.generation(), second.notes()), (7, first.notes()));
        // What the memory itself says is said of the new one.
        let gone = second.with_memory(Vec::new());
        assert_eq!(gone.notes().len(), 2);
        assert_eq!(gone.with_memory(of(1)).notes(), first.notes());
    }

    #[test]
    fn a_cpu_that_waits_for_io_is_idle() {
        use crate::parse::stat::IdleTicks;
        let times = |cs, ticks: &[(u64, u64)]| {
            let ticks = ticks.iter().map(|&(idle, iowait)| IdleTicks { idle, iowait });
            CpuTimes::with_iowait(Instant::from_centiseconds(cs), (0..).map(CpuId).zip(ticks))
        };
        let before = times(0, &[(100, 100), (100, 100), (100, 100), (100, 100)]);
        // All idle; half of each; iowait that steps back; more than the window together.
        let now = times(200, &[(300, 100), (200, 200), (200, 50), (300, 300)]);
        let close = |cpu: u32, part: f64| {
            let one: CpuSet = std::iter::once(CpuId(cpu)).collect();
            assert!((idle(&before, &now, &one) - part).abs() < 1e-9, "CPU {cpu}");
            assert!((now.idle_since(&before, CpuId(cpu)) - part).abs() < 1e-9, "CPU {cpu}");
        };
        close(0, 1.0);
        close(1, 1.0);
        close(2, 0.5);
        close(3, 1.0);
        assert!(now.idle_since(&now, CpuId(0)).abs() < f64::EPSILON, "no time has passed");
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
