//! Sockets, cores and threads of a guest, and the NUMA nodes that its vCPUs are in.

use std::collections::BTreeMap;

use placer_engine::{Bytes, CpuId, CpuSet};

use super::values::{Properties, number, range, size};
use super::{Backend, LineCell, MOST_CELLS};
use crate::guest::MOST_CPUS;

/// What contains a vCPU, the widest first, and the property of `-numa cpu` that names it.
const LEVELS: [(&str, &str); 8] = [
    ("drawers", "drawer-id"),
    ("books", "book-id"),
    ("sockets", "socket-id"),
    ("dies", "die-id"),
    ("clusters", "cluster-id"),
    ("modules", "module-id"),
    ("cores", "core-id"),
    ("threads", "thread-id"),
];
const SOCKETS: usize = 2;
const DIES: usize = 3;
const CORES: usize = 6;
const THREADS: usize = 7;

/// How many vCPUs are compared with options at most: what a line may cost.
const MOST_LOOKS: usize = 1 << 24;

/// The vCPUs of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topology {
    pub(super) current: u32,
    pub(super) maximum: u32,
    /// How many of each level one of the level above has.
    counts: [u32; LEVELS.len()],
    naming: Naming,
}

/// How machines of an architecture number vCPUs, and put those into NUMA nodes that no option names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// On each level from 0 in what is around it; by sockets.
    Levels,
    /// A core by its first thread, counted over the machine; by sockets.
    Cores,
    /// A vCPU by its number, called core-id; nodes have equally many that follow one another.
    Numbers,
}

impl Topology {
    /// Reads `-smp`, and fills in what it leaves out as QEMU does since 6.2: cores before sockets.
    ///
    /// Errors: numbers that are none, 0, or more vCPUs than [`MOST_CPUS`].
    pub(super) fn of(smp: &Properties, arch: &str) -> Result<Self, String> {
        let naming = match arch {
            "ppc64" | "ppc64le" => Naming::Cores,
            "riscv32" | "riscv64" | "s390x" => Naming::Numbers,
            _ => Naming::Levels,
        };
        let read = |key: &str| match smp.last(key).map(number).transpose() {
            Ok(Some(0)) => Err(format!("-smp: expected {key} of at least 1, found 0")),
            Ok(Some(many)) if many > MOST_CPUS => {
                Err(format!("-smp: expected {key} of at most {MOST_CPUS}, found {many}"))
            }
            Ok(count) => Ok(count),
            Err(why) => Err(format!("-smp: {key}: {why}")),
        };
        let (cpus, maxcpus) = (read("cpus")?, read("maxcpus")?);
        let mut said = [None; LEVELS.len()];
        for (at, (key, _)) in LEVELS.iter().enumerate() {
            said[at] = read(key)?;
        }
        let mut counts = said.map(|count| count.unwrap_or(1));
        let product = |counts: &[u32]| {
            counts.iter().fold(1_u64, |all, &count| all.saturating_mul(count.into()))
        };
        if let Some(maximum) = maxcpus.or(cpus) {
            let missing =
                [CORES, SOCKETS, THREADS].into_iter().find(|&level| said[level].is_none());
            if let Some(level) = missing {
                let share = u64::from(maximum) / product(&counts);
                counts[level] = u32::try_from(share.max(1)).unwrap_or(1);
            }
        }
        let all = u32::try_from(product(&counts)).unwrap_or(u32::MAX);
        let maximum = maxcpus.or(cpus).unwrap_or(all);
        let current = cpus.unwrap_or(maximum);
        if maximum > MOST_CPUS || current > maximum {
            let what = "expected at most maxcpus";
            return Err(format!(
                "-smp: {what} ({}) vCPUs, found {current}",
                maximum.min(MOST_CPUS)
            ));
        }
        Ok(Self { current, maximum, counts, naming })
    }

    /// Returns how many vCPUs share a last-level cache, where the guest has several.
    pub(super) fn die(&self) -> Option<u32> {
        let below = self.counts.iter().skip(DIES + 1);
        let die = below.fold(1_u32, |all, &count| all.saturating_mul(count));
        (die > 1 && die < self.maximum).then_some(die)
    }

    /// Returns a vCPU's number on each level.
    fn place(&self, vcpu: u32) -> [u32; LEVELS.len()] {
        let mut place = [0; LEVELS.len()];
        let mut rest = vcpu;
        for level in (0..LEVELS.len()).rev() {
            place[level] = rest % self.counts[level];
            rest /= self.counts[level];
        }
        match self.naming {
            Naming::Levels => {}
            Naming::Cores => place[CORES] = vcpu - place[THREADS],
            Naming::Numbers => place[CORES] = vcpu,
        }
        place
    }

    /// Returns the vCPUs that are in a NUMA node when some are: a core is in one altogether where it has a number.
    fn slots(&self, vcpus: CpuSet) -> CpuSet {
        if self.naming != Naming::Cores {
            return vcpus;
        }
        let mut all = CpuSet::new();
        for (first, last) in vcpus.ranges() {
            let end = last.0 - last.0 % self.threads() + self.threads() - 1;
            all.insert_range(CpuId(first.0 - first.0 % self.threads()), CpuId(end));
        }
        all
    }

    /// Returns how many vCPUs a core has.
    pub(super) fn threads(&self) -> u32 {
        self.counts[THREADS]
    }

    /// Returns which of some NUMA nodes a vCPU is in when no option names any.
    fn node_of(&self, vcpu: u32, nodes: u32) -> u32 {
        let below = self.counts[SOCKETS + 1..].iter();
        let below = below.fold(1_u32, |all, &count| all.saturating_mul(count));
        match self.naming {
            Naming::Levels | Naming::Cores => vcpu / below % nodes,
            Naming::Numbers => (vcpu / (self.current / nodes).max(1)).min(nodes - 1),
        }
    }
}

/// Reads `-numa`: the guest's NUMA nodes, by their numbers.
///
/// Errors: numbers that are none; more nodes than QEMU has; vCPUs or nodes that the guest lacks.
pub(super) fn cells(
    numa: &[Properties],
    topology: &Topology,
    backends: &[Backend],
) -> Result<Vec<LineCell>, String> {
    let mut cells: BTreeMap<u32, LineCell> = BTreeMap::new();
    for node in numa.iter().filter(|node| node.last("type") == Some("node")) {
        let error = |why: String| format!("-numa node: {why}");
        let count = u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let id = node.last("nodeid").map_or(Ok(count), number).map_err(error)?;
        if id >= MOST_CELLS {
            return Err(error(format!("expected a nodeid below {MOST_CELLS}, found {id}")));
        }
        let mut cell = LineCell { id, ..LineCell::default() };
        for list in node.list("cpus") {
            cell.vcpus = cell.vcpus.union(&topology.slots(range(list).map_err(error)?));
        }
        if let Some(beyond) = cell.vcpus.iter().find(|vcpu| vcpu.0 >= topology.maximum) {
            return Err(error(format!("the guest has no vCPU {beyond}")));
        }
        if let Some(backend) = node.last("memdev") {
            let known = backends.iter().find(|known| known.id == backend);
            let missing = || error(format!("there is no memory backend {backend:?}"));
            cell.memory = known.ok_or_else(missing)?.size;
            cell.backend = Some(backend.to_owned());
        } else if let Some(memory) = node.last("mem") {
            cell.memory = size(memory, 1 << 20).map_err(error)?;
        }
        if cells.insert(id, cell).is_some() {
            return Err(error(format!("a second node {id}")));
        }
    }
    let named = || numa.iter().filter(|node| node.last("type") == Some("cpu"));
    if named().count() > MOST_LOOKS / usize::try_from(topology.maximum).unwrap_or(usize::MAX) {
        return Err(format!("-numa cpu: more options than {} vCPUs need", topology.maximum));
    }
    for cpu in named() {
        let error = |why: String| format!("-numa cpu: {why}");
        let id = number(cpu.last("node-id").unwrap_or_default()).map_err(error)?;
        let mut wanted = [None; LEVELS.len()];
        for (at, (_, key)) in LEVELS.iter().enumerate() {
            wanted[at] = cpu.last(key).map(number).transpose().map_err(error)?;
        }
        let is_there = |vcpu: &u32| {
            let place = topology.place(*vcpu);
            wanted.iter().zip(place).all(|(wanted, found)| wanted.is_none_or(|it| it == found))
        };
        let cell =
            cells.get_mut(&id).ok_or_else(|| error(format!("the guest has no node {id}")))?;
        (0..topology.maximum).filter(is_there).for_each(|vcpu| {
            cell.vcpus.insert(CpuId(vcpu));
        });
    }
    assign_the_rest(&mut cells, topology);
    if cells.values().all(|cell| cell.memory == Bytes::ZERO) {
        // Without memory of their own the nodes share that of the machine.
        return Ok(Vec::new());
    }
    Ok(cells.into_values().collect())
}

/// Puts vCPUs that no option names where QEMU puts them: as the machine does where none is named, else into node 0.
fn assign_the_rest(cells: &mut BTreeMap<u32, LineCell>, topology: &Topology) {
    let named = cells.values().fold(CpuSet::new(), |all, cell| all.union(&cell.vcpus));
    let ids: Vec<u32> = cells.keys().copied().collect();
    let Some(first) = ids.first().copied() else { return };
    let nodes = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    for vcpu in (0..topology.maximum).filter(|&vcpu| !named.contains(CpuId(vcpu))) {
        let own = usize::try_from(topology.node_of(vcpu, nodes)).unwrap_or(0);
        let id = if named.is_empty() { ids[own] } else { first };
        cells.entry(id).or_default().vcpus.insert(CpuId(vcpu));
    }
}
