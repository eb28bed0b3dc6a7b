//! The host as boxes to draw, each a node or a package: sums and shares of the view, pure.

use std::collections::BTreeMap;

use placer_engine::{Bytes, CpuSet, NodeId, NodeSet};

use placer::report::view::{self, Guest, Node, View, count};

/// One box: a node, or the nodes of a package.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) what: What,
    pub(crate) nodes: NodeSet,
    pub(crate) cpus: CpuSet,
    /// `None` when the load is unknown.
    pub(crate) idle: Option<f64>,
    pub(crate) cpus_claimed: f64,
    pub(crate) memory: Memory,
    pub(crate) pages: Vec<Pages>,
    /// The caches of nodes that have several.
    pub(crate) caches: Vec<Cache>,
    /// Guests with their share here, in percent; the largest share first.
    pub(crate) guests: Vec<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Node(NodeId),
    /// By its title; empty for nodes that belong to none.
    Group(String),
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
    pub(crate) unused: Bytes,
    /// What one more guest can be promised: unused and cached, less what is claimed.
    pub(crate) left: Bytes,
}

/// The huge pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) size: Bytes,
    pub(crate) total: u64,
    pub(crate) free: u64,
}

/// A highest-level cache of a node that has several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cache {
    pub(crate) node: NodeId,
    /// Its level and size.
    pub(crate) name: String,
    pub(crate) cpus: CpuSet,
    pub(crate) idle: Option<f64>,
    /// What claims have of it.
    pub(crate) claims: String,
    pub(crate) is_claimed: bool,
    pub(crate) is_free: bool,
    /// The guests that own CPUs of it or are bound to it.
    pub(crate) guests: Vec<String>,
}

impl Cache {
    fn of(view: &View, node: NodeId, domain: &view::Domain) -> Self {
        let has = |guest: &&Guest| {
            let all = guest.owns.union(&guest.bound);
            !all.intersection(&domain.cpus).is_empty()
        };
        let name = domain.name();
        Self {
            node,
            name: if name.is_empty() { "not known".to_owned() } else { name },
            cpus: domain.cpus.clone(),
            idle: domain.idle,
            claims: domain.claims(),
            is_claimed: domain.is_claimed() == Some(true),
            is_free: domain.is_free(),
            guests: view.guests.iter().flatten().filter(has).map(self::name).collect(),
        }
    }

    /// Returns how much of its CPUs is busy, 0 to 1; 0 when that is unknown.
    pub(crate) fn busy(&self) -> f64 {
        let cpus = count(self.cpus.len().max(1));
        self.idle.map_or(0.0, |idle| (1.0 - idle / cpus).clamp(0.0, 1.0))
    }
}

impl Memory {
    /// Splits a node's memory. What is claimed is taken from unused memory first, then from the page
    /// cache that would be given up for it.
    fn of(memory: &view::Memory) -> Self {
        let Some(free) = memory.free else { return Self::default() };
        let total = memory.total.unwrap_or(free).max(free);
        let cached = memory.cached.unwrap_or_default().min(free);
        let claimed = memory.claimed.unwrap_or_default().min(free);
        let unused = free.saturating_sub(cached);
        let beyond = claimed.saturating_sub(unused);
        Self {
            told: true,
            total,
            used: total.saturating_sub(free),
            claimed,
            cached: cached.saturating_sub(beyond),
            unused: unused.saturating_sub(claimed),
            left: memory.left.unwrap_or(free),
        }
    }

    fn add(&mut self, other: &Self) {
        let sum = |a: &mut Bytes, b: Bytes| *a = a.saturating_add(b);
        self.told |= other.told;
        sum(&mut self.total, other.total);
        sum(&mut self.used, other.used);
        sum(&mut self.claimed, other.claimed);
        sum(&mut self.cached, other.cached);
        sum(&mut self.unused, other.unused);
        sum(&mut self.left, other.left);
    }
}

impl Item {
    /// Returns how much of the CPUs is busy, 0 to 1; `None` when that is unknown or there are none.
    pub(crate) fn busy(&self) -> Option<f64> {
        let cpus = count(self.cpus.len());
        let idle = self.idle.filter(|_| cpus > 0.0)?;
        Some(((cpus - idle) / cpus).clamp(0.0, 1.0))
    }
}

/// Returns a box for each node, in ascending order of ids.
pub(crate) fn nodes(view: &View) -> Vec<Item> {
    let one = |node: &Node| item(view, std::iter::once(node.id).collect(), What::Node(node.id));
    view.nodes.iter().map(one).collect()
}

/// Returns a box for each package, with the memory beside it.
pub(crate) fn groups(view: &View) -> Vec<Item> {
    let mut of_package: BTreeMap<Option<u64>, NodeSet> = BTreeMap::new();
    // Where each package is a node the view has no groups.
    if let [whole] = view.groups.as_slice()
        && whole.title.is_empty()
    {
        for node in &view.nodes {
            let package = node.packages.first().copied();
            of_package.entry(package).or_default().insert(node.id);
        }
        let title = |package: Option<u64>| package.map_or_else(String::new, package_title);
        let mut items: Vec<Item> = of_package
            .into_iter()
            .map(|(package, nodes)| item(view, nodes, What::Group(title(package))))
            .collect();
        items.sort_by_key(|item| (item.what == What::Group(String::new()), item.nodes.first()));
        return items;
    }
    let one = |group: &view::Group| {
        let nodes: NodeSet = group.nodes.iter().copied().collect();
        item(view, nodes, What::Group(group.title.clone()))
    };
    view.groups.iter().map(one).collect()
}

fn package_title(id: u64) -> String {
    format!("package {id}")
}

/// Returns the whole host as one box.
pub(crate) fn whole(view: &View) -> Item {
    let all = view.nodes.iter().map(|node| node.id).collect();
    item(view, all, What::Group(String::new()))
}

fn item(view: &View, nodes: NodeSet, what: What) -> Item {
    let members = || view.nodes.iter().filter(|node| nodes.contains(node.id));
    let mut memory = Memory::default();
    members().for_each(|node| memory.add(&Memory::of(&node.memory)));
    let claimed = |node: &Node| node.cpus_claimed.map_or(0.0, placer_engine::CpuShare::as_cpus);
    let guests = view.guests.iter().flatten();
    let mut guests: Vec<(String, u64)> =
        guests.filter_map(|guest| Some((name(guest), share(guest, &nodes)?))).collect();
    guests.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut pages: BTreeMap<Bytes, Pages> = BTreeMap::new();
    for huge in members().flat_map(|node| &node.huge) {
        if let Some(here) = huge.pages.filter(|pages| pages.total > 0) {
            let none = Pages { size: huge.page, total: 0, free: 0 };
            let sum = pages.entry(huge.page).or_insert(none);
            sum.total = sum.total.saturating_add(here.total);
            sum.free = sum.free.saturating_add(here.free);
        }
    }
    let several = members().filter(|node| node.has_several_caches());
    let caches =
        several.flat_map(|node| node.domains.iter().map(|d| Cache::of(view, node.id, d))).collect();
    Item {
        what,
        caches,
        cpus: members().fold(CpuSet::new(), |all, node| all.union(&node.cpus)),
        // A sum of nothing is -0.
        idle: members().try_fold(0.0, |sum, node| Some(sum + node.idle?)),
        cpus_claimed: members().map(claimed).fold(0.0, |sum, cpus| sum + cpus),
        memory,
        pages: pages.into_values().collect(),
        guests,
        nodes,
    }
}

/// Returns what a guest is called, without anything that moves a cursor.
pub(crate) fn name(guest: &Guest) -> String {
    match (guest.pid, &guest.program) {
        (Some(pid), Some(program)) => {
            format!("{pid} {}", placer::report::escape::terminal(program))
        }
        (Some(pid), None) => pid.to_string(),
        (None, _) => format!("hold {}", guest.id),
    }
}

/// Returns a guest's part on some nodes, in percent: of the memory it has, or of what it was promised
/// where that is not known. `None` when it has nothing to do with them.
pub(crate) fn share(guest: &Guest, nodes: &NodeSet) -> Option<u64> {
    let promised = guest.promised.iter().map(|promise| (promise.node, promise.memory));
    let parts: Vec<_> = guest.now.clone().unwrap_or_else(|| promised.collect());
    let sum = |here: &mut dyn Iterator<Item = &(NodeId, Bytes)>| -> u128 {
        here.map(|(_, memory)| u128::from(memory.get())).sum()
    };
    let here = sum(&mut parts.iter().filter(|(node, _)| nodes.contains(*node)));
    let all = sum(&mut parts.iter());
    // Of all there is no more than all.
    (here > 0).then(|| u64::try_from(here * 100 / all).unwrap_or(100))
}

/// A length as a count.
pub(crate) fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
