//! The NUMA cells of a guest, and which host nodes carry which.

use std::collections::BTreeMap;

use placer_engine::{
    Advice, Bytes, CpuSet, CpuShare, NodeId, NodeSet, Request, Share, Snapshot, advise,
};

use crate::guest::Pages;

/// A NUMA node of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) id: u32,
    /// The numbers of its vCPUs.
    pub(crate) vcpus: CpuSet,
    pub(crate) memory: Bytes,
    pub(crate) pages: Pages,
}

/// vCPUs and memory that were put on each node.
pub(crate) type Loads = BTreeMap<NodeId, (u64, Bytes)>;

/// The nodes of each cell, by its id.
pub(crate) type Homes = BTreeMap<u32, NodeSet>;

/// Says where the cells of a guest go: where its definition fixes it (`fixed`); else whole, each on a node
/// that has room for it beside those before it, the advised nodes first. A cell for which no node has room
/// goes over all advised nodes. `only`: the nodes that a definition fixes for all its memory.
pub(crate) fn homes(
    cells: &[Cell],
    fixed: impl Fn(&Cell) -> Option<NodeSet>,
    only: Option<&NodeSet>,
    snapshot: &Snapshot,
    advice: &Advice,
) -> Homes {
    let mut loads = Loads::new();
    let mut homes = Homes::new();
    let mut free: Vec<&Cell> = Vec::new();
    for cell in cells {
        match fixed(cell) {
            Some(nodes) => {
                if let (1, Some(node)) = (nodes.len(), nodes.first()) {
                    add(&mut loads, node, cell);
                }
                homes.insert(cell.id, nodes);
            }
            None => free.push(cell),
        }
    }
    // Where memory may be is fixed for all cells alike, unless it is fixed cell by cell.
    let advised = only.unwrap_or(&advice.memory_nodes);
    let mut others: Vec<NodeId> = match only {
        Some(_) => Vec::new(),
        None => snapshot.topology().nodes().iter().map(|node| node.id).collect(),
    };
    others.retain(|node| !advised.contains(*node));
    let near = |node: &NodeId| {
        let distances = snapshot.topology().distances();
        let to = |from| distances.and_then(|table| table.get(from, *node)).map_or(20, |d| d.0);
        advised.iter().map(to).min().unwrap_or(0)
    };
    others.sort_by_key(|node| (near(node), *node));
    free.sort_by_key(|cell| (std::cmp::Reverse(cell.memory), cell.id));
    for cell in free {
        let mut order: Vec<NodeId> = advised.iter().collect();
        order.sort_by_key(|node| (loads.get(node).copied().unwrap_or_default(), *node));
        order.extend(&others);
        let home = order.into_iter().find(|&node| has_room(cell, node, &loads, snapshot, advice));
        if let Some(node) = home {
            add(&mut loads, node, cell);
        }
        let nodes = home.map_or_else(|| advised.clone(), |node| std::iter::once(node).collect());
        homes.insert(cell.id, nodes);
    }
    homes
}

/// What each node is expected to carry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares(BTreeMap<NodeId, (f64, u64)>);

impl Shares {
    /// Puts vCPUs on nodes, in equal parts.
    pub(crate) fn add_vcpus(&mut self, nodes: &NodeSet, vcpus: u64) {
        #[expect(clippy::cast_precision_loss, reason = "65536 vCPUs at most")]
        let each = vcpus as f64 / nodes.len().max(1) as f64;
        nodes.iter().for_each(|node| self.0.entry(node).or_default().0 += each);
    }

    /// Puts memory on nodes, in equal parts.
    pub(crate) fn add_memory(&mut self, nodes: &NodeSet, memory: Bytes) {
        let count = nodes.len().max(1);
        for (nth, node) in (0..).zip(nodes.iter()) {
            let rest = u64::from(nth < memory.get() % count);
            let share = &mut self.0.entry(node).or_default().1;
            *share = share.saturating_add(memory.get() / count + rest);
        }
    }

    pub(crate) fn split(self) -> Vec<Share> {
        let share = |(node, (cpus, memory))| Share { node, cpus, memory: Bytes::new(memory) };
        self.0.into_iter().map(share).collect()
    }
}

fn add(loads: &mut Loads, node: NodeId, cell: &Cell) {
    let load = loads.entry(node).or_default();
    load.0 += cell.vcpus.len();
    load.1 = load.1.saturating_add(cell.memory);
}

/// Asks the engine whether a cell fits on a node beside the load that is there.
pub(crate) fn has_room(
    cell: &Cell,
    node: NodeId,
    loads: &Loads,
    snapshot: &Snapshot,
    advice: &Advice,
) -> bool {
    let (cpus, memory) = loads.get(&node).copied().unwrap_or_default();
    let cpus = CpuShare::from_hundredths((cpus + cell.vcpus.len()).saturating_mul(100));
    let known = snapshot.huge_pages().map(|pages| pages.size);
    let pages = match cell.pages {
        Pages::Ordinary => None,
        Pages::Huge(size) => Some(size),
        Pages::HugeDefault => known,
    };
    // Of other pages than those that were read, libvirt finds out at the start.
    let unread = pages.is_some() && pages != known;
    let memory = if unread { Bytes::ZERO } else { memory.saturating_add(cell.memory) };
    let within = std::iter::once(node).collect();
    let mut request =
        Request::new(cpus, memory).with_policy(advice.policy.clone()).with_nodes(within);
    request.pages = pages.filter(|_| !unread);
    advise(snapshot, &request).is_ok_and(|advice| advice.fits())
}
