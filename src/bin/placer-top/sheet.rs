//! The host as boxes to draw, each a node or a package: sums and shares, pure.

use placer_engine::{Bytes, HostParts, NodeId, NodeSet, Snapshot};

use crate::guest::Guest;

/// One box: a node, or the nodes of a package.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) nodes: NodeSet,
    /// The node, or the package.
    pub(crate) what: What,
    pub(crate) cpus: u64,
    /// The list of the CPUs.
    pub(crate) cpu_list: String,
    /// `None` when the load is unknown.
    pub(crate) idle: Option<f64>,
    pub(crate) cpus_claimed: f64,
    pub(crate) memory: Memory,
    pub(crate) pages: Vec<Pages>,
    /// Guests with their share here, in percent; the largest share first.
    pub(crate) guests: Vec<(String, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Node {
        id: NodeId,
        package: Option<u64>,
    },
    /// `None`: the nodes that belong to no package.
    Package(Option<u64>),
}

/// Memory by what is done with it; together all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Whether the host tells it.
    pub(crate) told: bool,
    pub(crate) total: Bytes,
    pub(crate) used: Bytes,
    pub(crate) claimed: Bytes,
    pub(crate) cached: Bytes,
    pub(crate) free: Bytes,
    /// What one more guest can be promised: free and cached memory after claims.
    pub(crate) left: Bytes,
}

/// The huge pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) size: Bytes,
    pub(crate) total: u64,
    pub(crate) free: u64,
}

impl Memory {
    /// Splits a node's memory. What is claimed is taken from free memory first, then from the page
    /// cache that would be given up for it.
    fn of(snapshot: &Snapshot, node: NodeId) -> Self {
        let Some(state) = snapshot.node(node) else { return Self::default() };
        let Some(promise) = state.memory_free else { return Self::default() };
        let total = state.memory_total.unwrap_or(promise).max(promise);
        let inactive = snapshot.sample().memory_of(node).and_then(|told| told.inactive_file);
        let inactive = inactive.unwrap_or_default().min(promise);
        let claimed = snapshot.charges().of(node).memory.min(promise);
        let free = promise.saturating_sub(inactive);
        let beyond = claimed.saturating_sub(free);
        Self {
            told: true,
            total,
            used: total.saturating_sub(promise),
            claimed,
            cached: inactive.saturating_sub(beyond),
            free: free.saturating_sub(claimed),
            left: snapshot.charges().left(node, promise),
        }
    }

    fn add(&mut self, other: &Self) {
        let sum = |a: &mut Bytes, b: Bytes| *a = a.saturating_add(b);
        self.told |= other.told;
        sum(&mut self.total, other.total);
        sum(&mut self.used, other.used);
        sum(&mut self.claimed, other.claimed);
        sum(&mut self.cached, other.cached);
        sum(&mut self.free, other.free);
        sum(&mut self.left, other.left);
    }
}

impl Item {
    /// Returns how much of the CPUs is busy, 0 to 1; `None` when that is unknown or there are none.
    pub(crate) fn busy(&self) -> Option<f64> {
        let cpus = count(self.cpus);
        let idle = self.idle.filter(|_| self.cpus > 0)?;
        Some(((cpus - idle) / cpus).clamp(0.0, 1.0))
    }
}

/// Returns a box for each node, in ascending order of ids.
pub(crate) fn nodes(snapshot: &Snapshot, parts: &HostParts, guests: &[Guest]) -> Vec<Item> {
    let one = |node: &placer_engine::NodeState| {
        let package = node.cpus.first().and_then(|cpu| parts.package_of(cpu));
        let what = What::Node { id: node.id, package: package.map(|package| package.id) };
        item(snapshot, parts, guests, std::iter::once(node.id).collect(), what)
    };
    snapshot.nodes().iter().map(one).collect()
}

/// Returns a box for each package in the order of their first nodes, last the nodes of none.
pub(crate) fn packages(snapshot: &Snapshot, parts: &HostParts, guests: &[Guest]) -> Vec<Item> {
    let mut sets: Vec<(Option<u64>, NodeSet)> = Vec::new();
    for node in snapshot.nodes() {
        let package = node.cpus.first().and_then(|cpu| parts.package_of(cpu)).map(|p| p.id);
        match sets.iter_mut().find(|(id, _)| *id == package) {
            Some((_, set)) => _ = set.insert(node.id),
            None => sets.push((package, std::iter::once(node.id).collect())),
        }
    }
    sets.sort_by_key(|(id, _)| id.is_none());
    let one = |(id, set): (Option<u64>, NodeSet)| {
        item(snapshot, parts, guests, set, What::Package(id))
    };
    sets.into_iter().map(one).collect()
}

/// Returns the whole host as one box.
pub(crate) fn whole(snapshot: &Snapshot, parts: &HostParts, guests: &[Guest]) -> Item {
    let all = snapshot.topology().node_set();
    item(snapshot, parts, guests, all, What::Package(None))
}

fn item(
    snapshot: &Snapshot,
    parts: &HostParts,
    guests: &[Guest],
    nodes: NodeSet,
    what: What,
) -> Item {
    let states = || snapshot.nodes().iter().filter(|node| nodes.contains(node.id));
    let mut memory = Memory::default();
    states().for_each(|node| memory.add(&Memory::of(snapshot, node.id)));
    let idle = states().map(|node| node.cpus_idle).sum::<Option<f64>>();
    let claimed = states().map(|node| snapshot.charges().of(node.id).cpus.as_cpus()).sum();
    let mut here: Vec<(String, u64)> =
        guests.iter().filter_map(|g| Some((g.name.clone(), g.share(&nodes)?))).collect();
    here.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let pages = parts.huge_pages.iter().filter_map(|pages| {
        let mut sum = Pages { size: pages.size, total: 0, free: 0 };
        for node in pages.nodes.iter().filter(|pages| nodes.contains(pages.node)) {
            sum.total += node.total;
            sum.free += node.free;
        }
        (sum.total > 0).then_some(sum)
    });
    Item {
        what,
        cpus: states().map(|node| node.cpus.len()).sum(),
        cpu_list: snapshot.topology().cpus_of(&nodes).to_string(),
        idle,
        cpus_claimed: claimed,
        memory,
        pages: pages.collect(),
        guests: here,
        nodes,
    }
}

/// A count as a number to divide.
#[expect(clippy::cast_precision_loss, reason = "no host has 2^53 of anything that is counted")]
pub(crate) fn count(n: u64) -> f64 {
    n as f64
}

/// A length as a count.
pub(crate) fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
