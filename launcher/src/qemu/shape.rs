//! What the guest's own NUMA nodes are: which vCPUs and how much memory belong to which host nodes.

use nix::errno::Errno;
use placer_engine::{Advice, Bytes, NodeId, NodeSet, Share, Snapshot, split_by_weight};

use super::split;
use crate::error::LaunchError;
use crate::guest::{Guest, MemoryMode, NodeChoice, Pages};

/// The shape of a machine. Pure: the same guest, advice and snapshot make the same shape.
///
/// One cell is a machine without NUMA nodes of its own. Several cells are its nodes, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The machine's nodes; at least one.
    pub cells: Vec<Cell>,
    /// How its memory is bound.
    pub mode: MemoryMode,
    /// All nodes that its memory is bound to.
    pub memory: NodeSet,
    /// The node that carries most of it.
    pub preferred: NodeSet,
    /// How many vCPUs share a last-level cache of the machine (a die), where it has several. Those of a die are
    /// pinned to CPUs of one cache.
    pub die: Option<u32>,
    /// The pages of its memory. `Some(None)`: huge pages of the host's default size.
    pub pages: Option<Option<Bytes>>,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

/// A part of a machine: a NUMA node of it, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The host nodes that its memory is on.
    pub memory_nodes: NodeSet,
    /// Its memory, in whole MiB. Zero: a node without memory, or nothing was said.
    pub memory: Bytes,
    /// The host nodes whose CPUs run its vCPUs. Empty: any that the guest may run on.
    pub cpu_nodes: NodeSet,
    /// Its vCPUs, in ranges of first and last. Empty: a node of memory alone.
    pub vcpus: Vec<(u32, u32)>,
}

impl Cell {
    /// Returns whether a vCPU belongs here.
    pub fn has(&self, vcpu: u32) -> bool {
        self.vcpus.iter().any(|&(first, last)| (first..=last).contains(&vcpu))
    }
}

impl Shape {
    /// Shapes a machine as it is advised, for another launcher that is given this shape once.
    ///
    /// A machine that is wider than a node gets nodes of its own where memory is bound node by node
    /// (strict, preferred). Where its pages go round (interleave) or anywhere (preferred-many), its
    /// pages have no fixed node, so it is one cell over all host nodes; so is one whose nodes were
    /// named by hand, for which the share of each is not known.
    ///
    /// Errors: memory that its huge pages cannot make.
    pub fn of(
        guest: &Guest,
        advice: Option<&Advice>,
        snapshot: &Snapshot,
    ) -> Result<Self, LaunchError> {
        let mut notes = Vec::new();
        let named = match &guest.nodes {
            NodeChoice::Fixed(nodes) => Some(nodes),
            NodeChoice::Advised => advice.map(|advice| &advice.nodes),
        };
        let memory: NodeSet = named
            .into_iter()
            .flat_map(NodeSet::iter)
            .filter(|&id| has_memory(snapshot, id))
            .collect();
        let mode = if memory.is_empty() { MemoryMode::None } else { guest.mode };
        let (pages, unit) = pages(guest.pages, snapshot);
        let total = units(guest.memory.maximum, unit)?;

        // The split speaks of the advised nodes, so it serves where these are the chosen ones.
        let split =
            advice.filter(|advice| Some(&advice.nodes) == named).map(|advice| &advice.split);
        let split: &[Share] = split.map_or(&[], |split| split.as_slice());
        let most = split
            .iter()
            .filter(|share| memory.contains(share.node))
            .reduce(|most, share| if share.memory > most.memory { share } else { most });
        let preferred = most.map(|share| share.node).or_else(|| memory.first());
        let by_node = matches!(mode, MemoryMode::Strict | MemoryMode::Preferred);
        let cells = if by_node && split.len() > 1 && total > 0 {
            cells(guest, split, snapshot, total, unit)
        } else {
            let memory_nodes = match mode {
                MemoryMode::Preferred => preferred.into_iter().collect(),
                _ => memory.clone(),
            };
            vec![Cell {
                memory_nodes,
                memory: Bytes::new(total.saturating_mul(unit)),
                cpu_nodes: NodeSet::new(),
                vcpus: ranges(0, guest.cpus.maximum).collect(),
            }]
        };
        if matches!(mode, MemoryMode::PreferredMany | MemoryMode::WeightedInterleave) {
            notes.push(format!(
                "QEMU has no memory policy {mode}: its memory takes that of its process"
            ));
        }
        let preferred = preferred.into_iter().collect();
        Ok(Self { cells, mode, memory, preferred, die: None, pages, notes })
    }

    /// Returns whether the machine has NUMA nodes of its own.
    pub fn is_numa(&self) -> bool {
        self.cells.len() > 1
    }

    /// Returns all its memory.
    pub fn total(&self) -> Bytes {
        self.cells.iter().fold(Bytes::ZERO, |sum, cell| sum.saturating_add(cell.memory))
    }
}

/// What memory is divided into at least.
pub(super) const MIB: u64 = 1 << 20;

pub(super) fn has_memory(snapshot: &Snapshot, id: NodeId) -> bool {
    let total = snapshot.node(id).and_then(|state| state.memory_total);
    total.is_some_and(|total| total.get() > 0)
}

/// Returns the pages, and of how many bytes memory is a multiple.
fn pages(pages: Pages, snapshot: &Snapshot) -> (Option<Option<Bytes>>, u64) {
    let size = match pages {
        Pages::Ordinary => return (None, MIB),
        Pages::Huge(size) => Some(size),
        Pages::HugeDefault => snapshot.huge_pages().map(|pages| pages.size),
    };
    (Some(size), size.map_or(MIB, Bytes::get).max(MIB))
}

/// Returns how many units make the memory of a guest; parts of a MiB are rounded up.
fn units(memory: Bytes, unit: u64) -> Result<u64, LaunchError> {
    let bytes = memory.mib_rounded_up().saturating_mul(MIB);
    if bytes.is_multiple_of(unit) {
        return Ok(bytes / unit);
    }
    let (have, page) = (bytes / MIB, unit / MIB);
    let up = bytes.div_ceil(unit).saturating_mul(unit) / MIB;
    Err(LaunchError::seen(
        format!("make {have} MiB of memory from huge pages of {page} MiB"),
        Errno::EINVAL,
        format!("not a multiple; the next one is {up} MiB"),
    ))
}

/// Makes a cell of each advised node.
fn cells(guest: &Guest, split: &[Share], snapshot: &Snapshot, total: u64, unit: u64) -> Vec<Cell> {
    let shares: Vec<u64> = split
        .iter()
        .map(|share| if has_memory(snapshot, share.node) { share.memory.get() } else { 0 })
        .collect();
    // A part that began between two huge pages of the host would cost the guest those behind it.
    let whole = if unit < 2 * MIB { 2 } else { 1 };
    let mut memory: Vec<u64> =
        split_by_weight(total / whole, &shares).into_iter().map(|part| part * whole).collect();
    if let Some(last) = memory.iter_mut().rev().find(|part| **part > 0) {
        *last += total % whole;
    }
    let places: Vec<split::Place> = split
        .iter()
        .map(|share| split::Place {
            share: share.cpus,
            room: snapshot.node(share.node).map_or(0, |state| state.cpus.len()),
        })
        .collect();
    let (now, all) = (guest.cpus.current, guest.cpus.maximum.max(guest.cpus.current));
    let present = split::among_places(now, &places);
    // Those that may be plugged in later are split in the same measure, behind the others.
    let every = split::among_places(all, &places);
    let mut later: Vec<u32> =
        every.iter().zip(&present).map(|(all, now)| all.saturating_sub(*now)).collect();
    // A node may have fewer of all than of those present: what that makes too many is taken back.
    let mut over = later.iter().sum::<u32>().saturating_sub(all - now);
    for count in later.iter_mut().rev() {
        let back = over.min(*count);
        *count -= back;
        over -= back;
    }
    let (mut next, mut next_later) = (0, now);
    let mut cells: Vec<Cell> = Vec::with_capacity(split.len());
    for (at, share) in split.iter().enumerate() {
        let mut vcpus: Vec<(u32, u32)> = ranges(next, present[at]).collect();
        next += present[at];
        for (first, last) in ranges(next_later, later[at]) {
            match vcpus.last_mut() {
                Some((_, end)) if *end + 1 == first => *end = last,
                _ => vcpus.push((first, last)),
            }
        }
        next_later += later[at];
        let node: NodeSet = std::iter::once(share.node).collect();
        cells.push(Cell {
            memory_nodes: if memory[at] > 0 { node.clone() } else { NodeSet::new() },
            memory: Bytes::new(memory[at].saturating_mul(unit)),
            cpu_nodes: node,
            vcpus,
        });
    }
    cells.retain(|cell| cell.memory > Bytes::ZERO || !cell.vcpus.is_empty());
    // The machine's first memory, which its firmware uses, belongs to its first node.
    cells.sort_by_key(|cell| cell.memory == Bytes::ZERO);
    cells
}

fn ranges(first: u32, count: u32) -> impl Iterator<Item = (u32, u32)> {
    (count > 0).then(|| (first, first + count - 1)).into_iter()
}
