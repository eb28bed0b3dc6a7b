//! Random hosts and requests, the same on every run with the same seed.

use std::fmt::Write;
use std::sync::Arc;

pub(crate) use testkit::random::Rng;

use placer_engine::parse::meminfo::NodeMeminfo;
use placer_engine::{
    Bytes, CpuId, CpuShare, CpuTimes, Host, HostFiles, Instant, NodeFiles, NodeId, NodeMemory,
    Request, Sample, Snapshot, TextFile,
};

/// How the nodes of a host are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// All others as far.
    Flat,
    /// Two and two nodes on a socket.
    Pairs,
    Ring,
    /// Four nodes on a socket, four sockets on a board.
    Tree,
    /// A square grid.
    Mesh,
    /// Any distance, another one each way.
    Any,
    /// Any distance, the same both ways.
    Even,
}

/// Those that machines are built as.
pub(crate) const BUILT: &[Shape] =
    &[Shape::Flat, Shape::Pairs, Shape::Ring, Shape::Tree, Shape::Mesh];
/// Those that only a test thinks of.
pub(crate) const ARBITRARY: &[Shape] = &[Shape::Any, Shape::Even];

fn distance(rng: &mut Rng, shape: Shape, n: usize, i: usize, j: usize) -> u64 {
    let side = (1..).find(|s| s * s >= n).unwrap_or(1);
    let hops = match shape {
        _ if i == j => return 10,
        Shape::Flat => return 21,
        Shape::Pairs => return if i / 2 == j / 2 { 12 } else { 22 },
        Shape::Tree if i / 4 == j / 4 => return 12,
        Shape::Tree => return if i / 16 == j / 16 { 16 } else { 28 },
        Shape::Any | Shape::Even => return 11 + rng.below(30),
        Shape::Ring => ((n + i - j) % n).min((n + j - i) % n),
        Shape::Mesh => (i / side).abs_diff(j / side) + (i % side).abs_diff(j % side),
    };
    10 + hops.min(20) as u64 * if shape == Shape::Ring { 6 } else { 4 }
}

/// What kind of nodes a host has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// The first so many have CPUs, and memory.
    pub(crate) with_cpus: usize,
    /// So many more have memory.
    pub(crate) with_memory: usize,
    /// Free parts of the CPUs and the memory, from and to.
    pub(crate) free: (f64, f64),
}

const CPUS: u32 = 16;
const MIB: u64 = 65_536;
/// Ticks between the readings.
const WINDOW: u64 = 200;

impl Plan {
    pub(crate) const fn even(nodes: usize, free: (f64, f64)) -> Self {
        Self { nodes, with_cpus: nodes, with_memory: 0, free }
    }

    /// Returns how such a host is built.
    pub(crate) fn host(&self, rng: &mut Rng, shape: Shape) -> Arc<Host> {
        let n = self.nodes;
        let mut table = vec![0; n * n];
        for i in 0..n {
            for j in 0..n {
                let twin = if shape == Shape::Even && j < i { table[j * n + i] } else { 0 };
                table[i * n + j] = if twin > 0 { twin } else { distance(rng, shape, n, i, j) };
            }
        }
        let file = |text: String| TextFile { path: "made".into(), text: text.into_bytes() };
        let mut first = 0;
        let nodes = (0u32..).zip(table.chunks(n)).map(|(id, row)| {
            let cpus = if (id as usize) < self.with_cpus { CPUS } else { 0 };
            let list =
                if cpus > 0 { format!("{first}-{}\n", first + cpus - 1) } else { "\n".into() };
            first += cpus;
            let mut line = String::new();
            row.iter().for_each(|cell| _ = write!(line, "{cell} "));
            line.pop();
            NodeFiles {
                id: NodeId(id),
                dir: format!("node{id}").into(),
                cpulist: Some(file(list)),
                cpumap: None,
                distance: Some(file(line + "\n")),
                access: None,
            }
        });
        let files = HostFiles { nodes: nodes.collect(), ..HostFiles::default() };
        Arc::new(Host::from_files(&files).expect("a good host").value)
    }

    /// Returns such a host at one moment.
    pub(crate) fn snapshot(&self, rng: &mut Rng, host: &Arc<Host>) -> Snapshot {
        let (mut before, mut now) = (Vec::new(), Vec::new());
        let mut memory = Vec::new();
        let (low, high) = self.free;
        for (at, node) in host.topology.nodes().iter().enumerate() {
            for cpu in node.cpus.iter() {
                before.push((cpu, 1000));
                now.push((CpuId(cpu.0), 1000 + (WINDOW as f64 * rng.real(low, high)) as u64));
            }
            let total = if at < self.with_cpus + self.with_memory { MIB } else { 0 };
            let free = (total as f64 * rng.real(low, high)) as u64;
            let meminfo = NodeMeminfo {
                total: Bytes::from_mib(total),
                free: Bytes::from_mib(free),
                ..NodeMeminfo::default()
            };
            memory.push(NodeMemory { node: node.id, meminfo: Some(meminfo) });
        }
        let times = |cs, idle| CpuTimes::new(Instant::from_centiseconds(cs), idle);
        let now = Sample { cpu: times(1000 + WINDOW, now), memory, whole: None };
        Snapshot::new(Arc::clone(host), Some(times(1000, before)), now)
    }
}

/// Returns a request from half a CPU to three nodes, as much memory as may be or more.
pub(crate) fn any_request(rng: &mut Rng) -> Request {
    let most = 3.0 * f64::from(CPUS);
    let cpus = 0.5 * (most / 0.5f64).powf(rng.real(0.0, 1.0));
    let memory = MIB as f64 * 0.01 * 300f64.powf(rng.real(0.0, 1.0));
    request(cpus, memory)
}

/// Returns a request that one of the nodes holds with idle CPUs; `None` where none has any.
pub(crate) fn ordinary_request(rng: &mut Rng, snapshot: &Snapshot) -> Option<Request> {
    let fitting: Vec<(f64, f64)> = snapshot
        .nodes()
        .iter()
        .filter_map(|node| {
            let free = node.memory_free?.whole_mib() as f64 - MIB as f64 / 100.0;
            Some((node.cpus_idle?, free))
        })
        .filter(|&(idle, free)| idle >= 0.5 && free >= 64.0)
        .collect();
    if fitting.is_empty() {
        return None;
    }
    let (idle, free) = *rng.pick(&fitting);
    Some(request(rng.real(0.25, idle - 0.01), rng.real(1.0, free - 1.0)))
}

fn request(cpus: f64, mib: f64) -> Request {
    let cpus = CpuShare::from_hundredths((cpus * 100.0).round() as u64);
    Request::new(cpus, Bytes::from_mib(mib as u64).unwrap_or(Bytes::ZERO))
}
