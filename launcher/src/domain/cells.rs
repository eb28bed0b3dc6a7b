//! Which host nodes carry which NUMA cell of a guest.

use std::collections::BTreeMap;

use placer_engine::{Advice, Bytes, CpuShare, NodeId, NodeSet, Request, Snapshot, advise};

use super::Domain;
use super::sizes::Cell;
use crate::guest::Pages;

/// The nodes of each cell, by its id.
pub(super) type Homes = BTreeMap<u32, NodeSet>;

/// Says where the cells of a guest go: where the definition fixes it; else whole, each on a node that has
/// room for it beside those before it, the advised nodes first. A cell for which no node has room goes over
/// all advised nodes.
pub(super) fn homes(domain: &Domain, snapshot: &Snapshot, advice: &Advice) -> Homes {
    let mut loads: BTreeMap<NodeId, (u64, Bytes)> = BTreeMap::new();
    let mut homes = Homes::new();
    let mut free: Vec<&Cell> = Vec::new();
    for cell in domain.cells() {
        match domain.fixed_cell(cell, snapshot) {
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
    let only = domain.fixed_memory();
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

fn add(loads: &mut BTreeMap<NodeId, (u64, Bytes)>, node: NodeId, cell: &Cell) {
    let load = loads.entry(node).or_default();
    load.0 += cell.vcpus.len();
    load.1 = load.1.saturating_add(cell.memory);
}

/// Asks the engine whether a cell fits on a node beside the load that is there.
fn has_room(
    cell: &Cell,
    node: NodeId,
    loads: &BTreeMap<NodeId, (u64, Bytes)>,
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
