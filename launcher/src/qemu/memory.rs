//! The options of QEMU that say how large a machine is, and where its memory comes from.

use placer_engine::{Bytes, Distances, NodeSet};

use super::shape::{Cell, Shape};
use crate::guest::{CpuCount, MemoryMode};

/// An option and its value, where it has one.
pub(super) type Option_ = (&'static str, Option<String>);

/// What the `-machine` option has to say about memory.
pub(super) fn machine(shape: &Shape) -> Option<&'static str> {
    (!shape.is_numa() && backend(shape, 0, &shape.cells[0]).is_some())
        .then_some("memory-backend=ram0")
}

/// Returns `-smp`, `-m`, and for bound memory `-object` and `-numa`.
pub(super) fn options(
    cpus: CpuCount,
    shape: &Shape,
    distances: Option<&Distances>,
) -> Vec<Option_> {
    let mut options = vec![("-smp", Some(smp(cpus, sockets(cpus, shape), None)))];
    let total = shape.total();
    if total > Bytes::ZERO {
        options.push(("-m", Some(format!("{}M", total.whole_mib()))));
    }
    let cells = || shape.cells.iter().enumerate();
    for (id, cell) in cells() {
        options.extend(backend(shape, id, cell).map(|object| ("-object", Some(object))));
    }
    if !shape.is_numa() {
        return options;
    }
    for (id, cell) in cells() {
        let mut node = format!("node,nodeid={id}");
        for (first, last) in &cell.vcpus {
            node.push_str(&format!(",cpus={}", range(*first, *last)));
        }
        if cell.memory > Bytes::ZERO {
            node.push_str(&format!(",memdev=ram{id}"));
        }
        options.push(("-numa", Some(node)));
    }
    let table = distances.and_then(|distances| told(shape, distances)).unwrap_or_default();
    options.extend(table.into_iter().map(|distance| ("-numa", Some(distance))));
    options
}

/// Returns how many sockets a shape has: one for each node where the nodes are alike, for each two or more vCPUs that
/// they are multiples of, else one. A socket of one vCPU would hide all caches that are shared.
fn sockets(cpus: CpuCount, shape: &Shape) -> u32 {
    let count = |cell: &Cell| match cell.vcpus[..] {
        [] => Some(0),
        [(first, last)] => Some(last - first + 1),
        _ => None,
    };
    let counts: Option<Vec<u32>> = shape.cells.iter().map(count).collect();
    let divisor = |a: u32, b: u32| {
        let (mut a, mut b) = (a, b);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let cores = counts.map_or(0, |counts| counts.into_iter().fold(0, divisor));
    let alone = shape.cells.iter().filter(|cell| !cell.vcpus.is_empty()).count() < 2;
    let each_one = u32::try_from(shape.cells.len()).is_ok_and(|cells| cells == cpus.maximum);
    match cores {
        _ if alone => 1,
        2.. => cpus.maximum / cores,
        1 if each_one => cpus.maximum,
        _ => 1,
    }
}

/// Returns `-smp`: vCPUs as cores of so many sockets, and of dies of `die` vCPUs.
pub(super) fn smp(cpus: CpuCount, sockets: u32, die: Option<u32>) -> String {
    let mut smp = format!("cpus={}", cpus.current);
    if cpus.maximum > cpus.current {
        smp.push_str(&format!(",maxcpus={}", cpus.maximum));
    }
    let of_socket = cpus.maximum / sockets.max(1);
    smp.push_str(&format!(",sockets={sockets}"));
    if let Some(cores) = die.filter(|&cores| cores > 0) {
        smp.push_str(&format!(",dies={}", of_socket / cores));
    }
    smp + &format!(",cores={},threads=1", die.unwrap_or(of_socket))
}

/// Returns the backend of a cell's memory; `None` where QEMU's own is as good, or there is none.
fn backend(shape: &Shape, id: usize, cell: &Cell) -> Option<String> {
    let policy = policy(shape.mode);
    let needed = shape.is_numa() || policy.is_some() || shape.pages.is_some();
    if cell.memory == Bytes::ZERO || !needed {
        return None;
    }
    let mut object = object(id, cell.memory, shape.pages);
    if let Some(policy) = policy {
        object.push_str(&host_nodes(&cell.memory_nodes));
        object.push_str(&format!(",policy={policy}"));
    }
    Some(object)
}

/// Returns a memory backend that is bound to no node. `pages`: the size of its huge pages; `Some(None)` is the host's
/// default.
pub(super) fn object(id: usize, memory: Bytes, pages: Option<Option<Bytes>>) -> String {
    let kind = if pages.is_some() { "memfd" } else { "ram" };
    let mut object = format!("memory-backend-{kind},id=ram{id},size={}M", memory.whole_mib());
    if let Some(size) = pages {
        object.push_str(",hugetlb=on");
        if let Some(size) = size {
            object.push_str(&format!(",hugetlbsize={}", page_size(size)));
        }
        // What a node lacks of huge pages is found out here, and not by killing the guest at its first
        // touch.
        object.push_str(",prealloc=on");
    }
    object
}

/// Returns QEMU's word for a mode. Without one the memory takes the policy of the process.
pub(super) fn policy(mode: MemoryMode) -> Option<&'static str> {
    match mode {
        MemoryMode::Strict => Some("bind"),
        MemoryMode::Preferred => Some("preferred"),
        MemoryMode::Interleave => Some("interleave"),
        // Neither is QEMU's. Its `preferred` takes several nodes on some builds and the first of
        // them on others, which is another mode.
        MemoryMode::PreferredMany | MemoryMode::WeightedInterleave | MemoryMode::None => None,
    }
}

pub(super) fn page_size(size: Bytes) -> String {
    match size.get() % (1 << 20) {
        0 => format!("{}M", size.whole_mib()),
        _ => format!("{}K", size.whole_kib()),
    }
}

/// Returns the distances between the machine's nodes, those of the host's. `None` where the host
/// does not tell them, or tells some that QEMU has no way to say: nodes nearer than local, or as
/// near, or not reachable.
fn told(shape: &Shape, distances: &Distances) -> Option<Vec<String>> {
    let mut table = Vec::new();
    for src in 0..shape.cells.len() {
        for (dst, value) in distances_of(shape, src, distances)? {
            table.push(format!("dist,src={src},dst={dst},val={value}"));
        }
    }
    Some(table)
}

/// Returns the distances from one of the machine's nodes to the others; none where not all can be said.
pub(super) fn distances_from(
    shape: &Shape,
    src: usize,
    distances: Option<&Distances>,
) -> Vec<(usize, u32)> {
    let all = distances.filter(|distances| told(shape, distances).is_some());
    all.and_then(|distances| distances_of(shape, src, distances)).unwrap_or_default()
}

fn distances_of(shape: &Shape, src: usize, distances: &Distances) -> Option<Vec<(usize, u32)>> {
    let from = shape.cells.get(src)?;
    let others = shape.cells.iter().enumerate().filter(|&(dst, _)| dst != src);
    let one = |(dst, to): (usize, &Cell)| {
        let (from, to) = (from.cpu_nodes.first()?, to.cpu_nodes.first()?);
        let value = distances.get(from, to)?.0;
        (11..=254).contains(&value).then_some((dst, value))
    };
    others.map(one).collect()
}

/// Returns the property that names host nodes, once for each range of them.
pub(super) fn host_nodes(nodes: &NodeSet) -> String {
    nodes.ranges().map(|(first, last)| format!(",host-nodes={}", range(first.0, last.0))).collect()
}

fn range(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}
