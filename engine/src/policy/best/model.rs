//! The input: a host's nodes and distances, checked once, and a request.

use std::fmt;
use std::sync::Arc;

/// How many nearest nodes of each node a [`DistanceMatrix`] keeps in order.
///
/// Past that many the farthest kept one stands for all others, which only weakens a bound. A guest that
/// spreads over more than 64 nodes is not worth the 16 MiB that all orders of 1,024 nodes would take.
const KEPT: usize = 64;

/// Distances that mean something: 10 is local, and below 1 a slowdown would round to nothing.
pub(crate) const DISTANCES: std::ops::RangeInclusive<f64> = 1.0..=1e9;

/// Most CPUs and most MiB of a node. Sums over 65,535 nodes of what is derived from them fit 128 bits.
const MAX_CPUS: f64 = 1e9;
const MAX_MIB: f64 = 1e15;

/// Least capacity of a node that has CPUs.
const MIN_CAP: f64 = 1e-6;

/// One node as the policy sees it: what is usable on it now.
///
/// A node that must not be used (outside `--within`, not in the caller's cpuset) keeps its place with
/// every figure 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// The kernel's node id. Ids ascend and may have gaps.
    pub id: u32,
    /// Usable logical CPUs.
    pub cpus: u32,
    /// Capacity in CPUs, weighted for hardware threads; 0 for a node without CPUs.
    pub cap: f64,
    /// Idle part of the capacity, in the same unit.
    pub idle: f64,
    /// Memory that can be promised, in MiB, not rounded. Whole bytes divided by 2^20 are exact.
    pub mem: f64,
    /// Installed memory in MiB.
    pub mem_total: f64,
}

/// Why a host was refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HostError {
    /// The distances are not one row and one column a node: (expected cells, found cells).
    Shape(usize, usize),
    /// A distance is not from 1 to 10^9: (row, column, value).
    Distance(usize, usize, f64),
    /// Node ids do not ascend: the id that breaks the order.
    Order(u32),
    /// A node's figure is negative, not finite or absurd: (node id, name, value).
    Figure(u32, &'static str, f64),
    /// More nodes than can be handled: the number found.
    Count(usize),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(want, found) => write!(f, "expected {want} distances, found {found}"),
            Self::Distance(row, column, value) => {
                let (low, high) = (DISTANCES.start(), DISTANCES.end());
                write!(
                    f,
                    "distance in row {row}, column {column}: expected {low} to {high:e}, found {value}"
                )
            }
            Self::Order(id) => write!(f, "expected ascending node ids, found {id} out of order"),
            Self::Figure(id, name, value) => {
                let most = if name.starts_with("mem") { MAX_MIB } else { MAX_CPUS };
                write!(f, "node {id}: expected {name} from 0 to {most:e}, found {value}")
            }
            Self::Count(count) => write!(f, "expected at most 65535 nodes, found {count}"),
        }
    }
}

impl std::error::Error for HostError {}

/// A neighbour in the order of nearness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    pub(crate) distance: f64,
    pub(crate) node: u32,
}

/// The distances of a host and each node's neighbours in order; made once for a topology.
///
/// Cost: n² log n, about 0.2 ms at 64 nodes and 60 ms at 1,024. Room: 8 n² + 2,048 n bytes.
#[derive(Debug)]
pub struct DistanceMatrix {
    size: usize,
    /// Row by row: from the CPUs of the row to the memory of the column; 10 is local.
    cells: Vec<f64>,
    kept: usize,
    /// For each node the nodes whose CPUs are nearest to its memory.
    to: Vec<Neighbour>,
    /// For each node the nodes whose memory is nearest to its CPUs.
    from: Vec<Neighbour>,
    lowest: f64,
    highest: f64,
}

impl DistanceMatrix {
    /// Checks `cells`, `size` rows of `size` distances, and sorts the neighbours.
    ///
    /// Errors: a wrong number of cells, a distance that is not from 1 to 10^9, more than 65,535 nodes.
    pub fn new(size: usize, cells: Vec<f64>) -> Result<Self, HostError> {
        if size > usize::from(u16::MAX) {
            return Err(HostError::Count(size));
        }
        if cells.len() != size * size {
            return Err(HostError::Shape(size * size, cells.len()));
        }
        let (mut lowest, mut highest) = (f64::INFINITY, 0.0_f64);
        for (at, &d) in cells.iter().enumerate() {
            if !DISTANCES.contains(&d) {
                return Err(HostError::Distance(at / size, at % size, d));
            }
            lowest = lowest.min(d);
            highest = highest.max(d);
        }
        let kept = size.min(KEPT);
        let (mut to, mut from) = (Vec::with_capacity(size * kept), Vec::with_capacity(size * kept));
        let mut order: Vec<Neighbour> = Vec::with_capacity(size);
        let mut keep = |list: &mut Vec<Neighbour>, distance: &dyn Fn(usize) -> f64| {
            order.clear();
            order.extend(
                (0u32..).zip(0..size).map(|(node, i)| Neighbour { distance: distance(i), node }),
            );
            order.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.node.cmp(&b.node)));
            list.extend(order.iter().take(kept));
        };
        for at in 0..size {
            keep(&mut to, &|i| cells[i * size + at]);
            keep(&mut from, &|i| cells[at * size + i]);
        }
        Ok(Self { size, cells, kept, to, from, lowest, highest })
    }

    /// Returns the distances from the CPUs of each node to every memory, in the order of the nodes.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.cells.chunks(self.size.max(1))
    }

    /// Returns the distance from the CPUs at position `i` to the memory at position `j`.
    #[inline]
    pub(crate) fn distance(&self, i: usize, j: usize) -> f64 {
        self.cells[i * self.size + j]
    }

    /// Returns the distances from the CPUs at position `i` to every memory.
    #[inline]
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.cells[i * self.size..(i + 1) * self.size]
    }

    /// Returns up to 64 nodes, those whose CPUs are nearest to the memory at `j` first.
    #[inline]
    pub(crate) fn to(&self, j: usize) -> &[Neighbour] {
        &self.to[j * self.kept..(j + 1) * self.kept]
    }

    /// Returns up to 64 nodes, those whose memory is nearest to the CPUs at `i` first.
    #[inline]
    pub(crate) fn from(&self, i: usize) -> &[Neighbour] {
        &self.from[i * self.kept..(i + 1) * self.kept]
    }

    /// Returns the shortest distance of all.
    pub(crate) fn lowest(&self) -> f64 {
        self.lowest
    }

    /// Returns how many times the shortest distance the longest is; 1 without nodes.
    pub(crate) fn spread(&self) -> f64 {
        if self.lowest < self.highest { self.highest / self.lowest } else { 1.0 }
    }
}

/// A host at one instant: its nodes' figures on a shared [`DistanceMatrix`]; made once for a Snapshot, O(n).
#[derive(Clone, Debug)]
pub struct Host {
    pub(crate) nodes: Vec<Node>,
    pub(crate) distances: Arc<DistanceMatrix>,
    pub(crate) total: Total,
}

/// Sums over all nodes of a host, in id order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    pub(crate) cpus: f64,
    pub(crate) cap: f64,
    pub(crate) idle: f64,
    pub(crate) mem: f64,
    pub(crate) installed: f64,
    pub(crate) useful: usize,
    /// The most idle CPUs that a node has for each CPU of its capacity, at least 1.
    pub(crate) fullest: f64,
}

impl Host {
    /// Checks the nodes against the fabric and sums them up.
    ///
    /// Errors: another number of nodes than the fabric has, ids that do not ascend, negative or absurd
    /// figures.
    pub fn new(nodes: Vec<Node>, distances: Arc<DistanceMatrix>) -> Result<Self, HostError> {
        let mut host = Self { nodes, distances, total: Total::default() };
        host.check()?;
        Ok(host)
    }

    /// Takes new figures for the same nodes without allocating.
    ///
    /// Errors: as [`Host::new`]; the host must then not be used before a successful renewal.
    pub fn renew(&mut self, nodes: &[Node]) -> Result<(), HostError> {
        self.nodes.clear();
        self.nodes.extend_from_slice(nodes);
        self.check()
    }

    /// Returns the nodes in ascending id order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns how many nodes have CPUs or memory to give.
    #[must_use]
    pub fn useful(&self) -> usize {
        self.total.useful
    }

    fn check(&mut self) -> Result<(), HostError> {
        if self.nodes.len() != self.distances.size {
            return Err(HostError::Shape(self.distances.size, self.nodes.len()));
        }
        let mut total = Total { fullest: 1.0, ..Total::default() };
        let mut last = None;
        for node in &self.nodes {
            if last.is_some_and(|last| last >= node.id) {
                return Err(HostError::Order(node.id));
            }
            last = Some(node.id);
            let figures = [
                ("cap", node.cap, MAX_CPUS),
                ("idle", node.idle, MAX_CPUS),
                ("mem", node.mem, MAX_MIB),
                ("mem_total", node.mem_total, MAX_MIB),
            ];
            for (name, value, most) in figures {
                // A capacity next to nothing would make the crowding infinite.
                let tiny = name == "cap" && value > 0.0 && value < MIN_CAP;
                if !(0.0..=most).contains(&value) || tiny {
                    return Err(HostError::Figure(node.id, name, value));
                }
            }
            total.cpus += f64::from(node.cpus);
            total.fullest = total.fullest.max(node.idle / node.cap.max(MIN_CAP));
            total.cap += node.cap;
            total.idle += node.idle;
            total.mem += node.mem;
            total.installed += node.mem_total;
            total.useful += usize::from(node.is_useful());
        }
        self.total = total;
        Ok(())
    }
}

impl Node {
    /// Reports whether the node has CPUs or memory to give.
    #[inline]
    pub(crate) fn is_useful(&self) -> bool {
        self.cap > 0.0 || self.mem > 0.0
    }
}

/// Which of equally fast sets is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Most room left, by numad's magnitude.
    #[default]
    Room,
    /// Smallest sum of free shares: fills the host.
    Pack,
}

/// What a guest needs.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// CPUs, to 1/100; below 0.01 counts as 0.01.
    pub cpus: f64,
    /// Memory in MiB; below 1 counts as 1.
    pub memory: f64,
    /// µ: the part of the run time that waits for memory, 0 to 1.
    pub memory_bound: f64,
    /// What decides between equally fast sets.
    pub prefer: Prefer,
    /// Steps a search beyond 16 useful nodes may take; `None`: [`super::default_effort`].
    pub effort: Option<u64>,
    /// Node sets (ids) that a limited search must look at, such as numad's own answer.
    pub seeds: &'a [&'a [u32]],
}

impl Request<'_> {
    /// Returns a request with the defaults: half bound by memory, most room, default effort, no seeds.
    #[must_use]
    pub fn new(cpus: f64, memory: f64) -> Self {
        Self { cpus, memory, memory_bound: 0.5, prefer: Prefer::Room, effort: None, seeds: &[] }
    }
}
