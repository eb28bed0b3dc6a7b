//! Made-up hosts of equal last-level caches, more or less busy, some CPUs owned by claims.

use std::sync::Arc;

use placer_engine::parse::meminfo::NodeMeminfo;
use placer_engine::{
    Bytes, CacheFiles, Charges, CoreFiles, CpuId, CpuSet, CpuShare, CpuTimes, Host, HostFiles,
    Instant, Node, NodeFiles, NodeId, NodeMemory, Sample, Snapshot, TextFile,
};

use crate::random::Rng;

/// A host of `caches` equal caches on `nodes` nodes, of cores of `threads` threads.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: u32,
    pub caches: u32,
    pub cores: u32,
    pub threads: u32,
    /// Whether the caches take turns in the numbers of CPUs, and threads are neighbours.
    pub interleaved: bool,
    pub adjacent: bool,
}

impl Shape {
    /// Some shape of at most 512 CPUs.
    pub fn any(rng: &mut Rng) -> Self {
        loop {
            let shape = Self {
                nodes: *rng.pick(&[1, 1, 1, 2, 4, 8]),
                caches: *rng.pick(&[1, 2, 2, 3, 4, 4, 6, 8, 8, 12, 16, 24, 32, 64]),
                cores: *rng.pick(&[1, 2, 3, 4, 6, 8, 8, 16]),
                threads: *rng.pick(&[1, 1, 2, 2, 4]),
                interleaved: rng.percent(20),
                adjacent: rng.percent(30),
            };
            let fits = shape.caches * shape.cores * shape.threads <= 512;
            if fits && shape.caches.is_multiple_of(shape.nodes) {
                return shape;
            }
        }
    }

    /// The CPUs of each core of each cache.
    fn cpus(&self) -> Vec<Vec<CpuSet>> {
        let all = self.caches * self.cores;
        let cpu = |cache: u32, core: u32, thread: u32| {
            let at = if self.interleaved {
                core * self.caches + cache
            } else {
                cache * self.cores + core
            };
            CpuId(if self.adjacent { at * self.threads + thread } else { thread * all + at })
        };
        let core = |cache, core| (0..self.threads).map(|thread| cpu(cache, core, thread)).collect();
        let cache = |nth| (0..self.cores).map(|of| core(nth, of)).collect();
        (0..self.caches).map(cache).collect()
    }

    fn host(&self) -> Host {
        let caches = self.cpus();
        let file = |text: String| TextFile { path: "made".into(), text: text.into_bytes() };
        let all = |cores: &[CpuSet]| cores.iter().fold(CpuSet::new(), |all, core| all.union(core));
        let sibling = |core: &CpuSet| Some((core.first()?, file(core.to_string())));
        let shared = caches.iter().map(|cores| {
            let cpus = all(cores);
            let cpu = cpus.first().expect("a CPU");
            CacheFiles { cpu, level: 3, size: Some(Bytes::new(32 << 20)), cpus }
        });
        let each = usize::try_from(self.caches / self.nodes).expect("few");
        let node = |(id, caches): (u32, &[Vec<CpuSet>])| {
            let row: Vec<_> =
                (0..self.nodes).map(|to| if to == id { "10" } else { "21" }).collect();
            NodeFiles {
                id: NodeId(id),
                dir: "node".into(),
                cpulist: Some(file(all(&caches.concat()).to_string())),
                cpumap: None,
                distance: Some(file(row.join(" "))),
                access: None,
            }
        };
        let cores = CoreFiles {
            siblings: caches.iter().flatten().filter_map(sibling).collect(),
            complete: true,
            caches: shared.collect(),
            slow: Vec::new(),
        };
        let files = HostFiles {
            nodes: (0..).zip(caches.chunks(each)).map(node).collect(),
            cores: Some(cores),
            ..HostFiles::default()
        };
        Host::from_files(&files).expect("a good host").value
    }
}

/// A made-up host at some moment: idle or busy, with some CPUs that claims own.
pub fn made(rng: &mut Rng, shape: &Shape) -> Snapshot {
    let (full, busy) = (*rng.pick(&[0, 0, 10, 40, 80]), *rng.pick(&[0, 10, 50, 90]));
    made_with(rng, shape, full, busy)
}

/// The same: claims own `full` percent of the CPUs, and `busy` percent of the caches are loaded.
pub fn made_with(rng: &mut Rng, shape: &Shape, full: u64, busy: u64) -> Snapshot {
    let host = Arc::new(shape.host());
    let mut charges = Charges::default();
    let (mut idle, mut taken) = (Vec::new(), CpuSet::new());
    for cores in shape.cpus() {
        let hot = rng.percent(busy);
        for cpu in cores.iter().flat_map(CpuSet::iter) {
            let any = rng.below(101);
            idle.push((cpu, if hot { any } else { *rng.pick(&[100, 100, 99, 95, any]) }));
            if rng.percent(full) {
                taken.insert(cpu);
            }
        }
    }
    charges.add_pinned(&taken);
    let owned_of = |node: &Node| node.cpus.intersection(&taken).len();
    for node in host.topology.nodes() {
        charges.of_mut(node.id).cpus = CpuShare::from_cpus(owned_of(node)).expect("few");
    }
    let before = idle.iter().map(|&(cpu, _)| (cpu, 0));
    let before = CpuTimes::new(Instant::from_centiseconds(0), before);
    let cpu = CpuTimes::new(Instant::from_centiseconds(100), idle.iter().copied());
    let gib = |n: u64| Some(Bytes::new(n << 30));
    let meminfo = NodeMeminfo { total: gib(64), free: gib(60), ..NodeMeminfo::default() };
    let memory = host.topology.nodes().iter();
    let memory = memory.map(|node| NodeMemory { node: node.id, meminfo: Some(meminfo) }).collect();
    let sample = Sample { cpu, memory, whole: None };
    Snapshot::new(host, Some(before), sample).with_charges(charges)
}
