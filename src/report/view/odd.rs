//! What is odd about a host, for administrators. Each finding is a function from the view to a
//! sentence.

use placer_engine::{Bytes, CpuSet, NodeId, NodeSet, falls_short};

use super::guest::MATCHES_AT;
use super::{Guest, Node, View};

/// Something odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Odd {
    /// What it is, for programs.
    pub kind: &'static str,
    /// What it is, for people: a sentence without a full stop.
    pub text: String,
}

/// Something to look for.
struct Rule {
    kind: &'static str,
    find: fn(&View) -> Option<String>,
}

/// A guest whose memory is not where it was advised.
#[allow(dead_code, reason = "for the daemon")]
pub const MISPLACED: &str = "misplaced-guest";

const RULES: [Rule; 16] = [
    Rule { kind: "asymmetric-distances", find: asymmetric },
    Rule { kind: "strange-distances", find: strange },
    Rule { kind: "no-memory", find: no_memory },
    Rule { kind: "free-above-total", find: free_above_total },
    Rule { kind: "unreported-memory", find: unreported },
    Rule { kind: "no-cpus", find: no_cpus },
    Rule { kind: "empty-node", find: empty },
    Rule { kind: "shared-cpus", find: shared },
    Rule { kind: "offline-cpus", find: offline },
    Rule { kind: "isolated-cpus", find: isolated },
    Rule { kind: "reserved-huge-pages", find: reserved },
    Rule { kind: "overpromised", find: overpromised },
    Rule { kind: MISPLACED, find: misplaced },
    Rule { kind: "numa-balancing", find: balancing },
    Rule { kind: "zone-reclaim", find: reclaim },
    Rule { kind: "swap", find: swap },
];

/// The names of all oddities, for the schema.
#[cfg(test)]
pub(crate) fn kinds() -> Vec<&'static str> {
    RULES.iter().map(|rule| rule.kind).collect()
}

/// Returns everything that is odd.
pub(super) fn all(view: &View) -> Vec<Odd> {
    let odd = |rule: &Rule| (rule.find)(view).map(|text| Odd { kind: rule.kind, text });
    RULES.iter().filter_map(odd).collect()
}

/// Returns the pairs of different nodes, with their distances there and back.
fn pairs(view: &View) -> impl Iterator<Item = (NodeId, NodeId, u32, u32)> + '_ {
    view.distances.iter().flat_map(|table| {
        let nodes = table.nodes();
        nodes.iter().enumerate().flat_map(move |(at, a)| {
            nodes[at + 1..]
                .iter()
                .filter_map(move |b| Some((*a, *b, table.get(*a, *b)?.0, table.get(*b, *a)?.0)))
        })
    })
}

fn asymmetric(view: &View) -> Option<String> {
    let mut differ = pairs(view).filter(|(_, _, there, back)| there != back);
    let (a, b, there, back) = differ.next()?;
    let more = match differ.count() {
        0 => String::new(),
        1 => ", and so is 1 more pair".to_owned(),
        more => format!(", and so are {more} more pairs"),
    };
    Some(format!(
        "distances differ by direction: {a} to {b} is {there}, {b} to {a} is {back}{more}"
    ))
}

/// A node that is not nearest to itself, or a table that tells no node from another.
fn strange(view: &View) -> Option<String> {
    let table = view.distances.as_ref()?;
    let own = |id: NodeId| table.get(id, id).map(|distance| distance.0);
    let nearer = pairs(view).find_map(|(a, b, there, back)| {
        let beats =
            |from, to, far| own(from).filter(|own| far < *own).map(|own| (from, to, far, own));
        beats(a, b, there).or_else(|| beats(b, a, back))
    });
    if let Some((from, to, far, own)) = nearer {
        return Some(format!(
            "node {from} is nearer to node {to} ({far}) than to itself ({own}): the firmware's \
             table is wrong"
        ));
    }
    let flat = pairs(view).all(|(a, _, there, back)| Some(there) == own(a) && there == back);
    (flat && table.nodes().len() > 1).then(|| {
        "all nodes are as near to one another as to themselves: the firmware reports no distances"
            .to_owned()
    })
}

fn nodes_where(view: &View, which: impl Fn(&Node) -> bool) -> NodeSet {
    view.nodes.iter().filter(|node| which(node)).map(|node| node.id).collect()
}

fn has_memory(node: &Node) -> bool {
    node.memory.total != Some(Bytes::ZERO)
}

fn no_memory(view: &View) -> Option<String> {
    let nodes = nodes_where(view, |node| !node.cpus.is_empty() && !has_memory(node));
    let (have, their) = if nodes.len() == 1 { ("has", "its") } else { ("have", "their") };
    some(&nodes).map(|list| {
        format!(
            "{list} {have} CPUs and no memory: what runs on {their} CPUs uses other nodes' memory"
        )
    })
}

fn free_above_total(view: &View) -> Option<String> {
    let above = |node: &Node| node.memory.unused.zip(node.memory.total).is_some_and(|(f, t)| f > t);
    let nodes = nodes_where(view, above);
    let first = view.nodes.iter().find(|node| nodes.contains(node.id))?;
    let (free, total) = (first.memory.unused?, first.memory.total?);
    let id = first.id;
    let more = match nodes.len() {
        1 => String::new(),
        more => format!(", and so {} {} more", if more == 2 { "does" } else { "do" }, more - 1),
    };
    Some(format!(
        "node {id} reports {free} free of {total}{more}: never more than all of it is promised"
    ))
}

/// Memory that the host has and no node reports.
fn unreported(view: &View) -> Option<String> {
    let (nodes, host) = (view.reported?, view.kernel.memory_total?);
    let used = match view.nodes.len() {
        1 => "/proc/meminfo is used",
        _ => "what no node reports is not promised",
    };
    falls_short(nodes, host).then(|| {
        format!(
            "the nodes report {nodes} of the host's {host} (memory that is not initialised yet, or \
             offline): {used}"
        )
    })
}

fn no_cpus(view: &View) -> Option<String> {
    let nodes = nodes_where(view, |node| node.cpus.is_empty() && has_memory(node));
    let gpu = nodes_where(view, |node| node.is_gpu && nodes.contains(node.id));
    let what = match (gpu.is_empty(), gpu == nodes) {
        (true, _) => "CXL, HBM, persistent memory or a GPU",
        (_, true) => "a GPU's",
        _ => "CXL, HBM, or a GPU's",
    };
    let have = if nodes.len() == 1 { "has" } else { "have" };
    some(&nodes).map(|list| format!("{list} {have} memory and no CPUs ({what})"))
}

fn empty(view: &View) -> Option<String> {
    let nodes = nodes_where(view, |node| node.cpus.is_empty() && !has_memory(node));
    let have = if nodes.len() == 1 { "has" } else { "have" };
    some(&nodes).map(|list| format!("{list} {have} neither CPUs nor memory"))
}

fn shared(view: &View) -> Option<String> {
    let twice = view
        .nodes
        .iter()
        .fold(CpuSet::new(), |all, node| all.union(&node.listed.difference(&node.cpus)));
    some_cpus(&twice).map(|list| {
        let are = if twice.len() == 1 { "is" } else { "are" };
        format!("{list} {are} listed in several nodes: the firmware's tables contradict each other")
    })
}

fn offline(view: &View) -> Option<String> {
    let are = if view.offline.len() == 1 { "is" } else { "are" };
    some_cpus(&view.offline).map(|list| format!("{list} {are} offline"))
}

fn isolated(view: &View) -> Option<String> {
    let are = if view.isolated.len() == 1 { "is" } else { "are" };
    some_cpus(&view.isolated)
        .map(|list| format!("{list} {are} isolated (isolcpus): threads that roam never run there"))
}

fn reserved(view: &View) -> Option<String> {
    let mut sizes = view.reserved_huge.iter();
    let &(page, reserved, left) = sizes.next()?;
    let (pages, are, them) =
        if reserved == 1 { ("page", "is", "it") } else { ("pages", "are", "them") };
    let more: String =
        sizes.map(|(page, reserved, _)| format!(" ({reserved} of {page})")).collect();
    Some(format!(
        "{reserved} huge {pages} of {page}{more} {are} reserved by programs that have not touched \
         {them}: {left} of the free ones are left"
    ))
}

fn overpromised(view: &View) -> Option<String> {
    let beyond = |node: &Node| {
        let over = node.memory.claimed?.saturating_sub(node.memory.free?);
        (over > Bytes::ZERO).then_some((node.id, over))
    };
    let mut over = view.nodes.iter().filter_map(beyond);
    let (id, most) = over.next()?;
    let more = over.count();
    let more = match more {
        0 => String::new(),
        more => format!(", and {more} more {} as well", noun(more, "node is", "nodes are")),
    };
    Some(format!("node {id} is promised {most} beyond what is free{more}"))
}

fn misplaced(view: &View) -> Option<String> {
    let guests = view.guests.as_ref()?;
    let astray = |guest: &&Guest| guest.on_advised().is_some_and(|percent| percent < MATCHES_AT);
    let mut astray: Vec<&Guest> = guests.iter().filter(astray).collect();
    astray.sort_by_key(|guest| (guest.on_advised(), guest.id.clone()));
    let first = astray.first()?;
    let (id, nodes, percent) = (&first.id, first.nodes(), first.on_advised()?);
    let more = match astray.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more {}", noun(more, "guest is", "guests are")),
    };
    Some(format!(
        "memory of a guest is elsewhere: claim {id} has {percent} % of it on {}{more}",
        named(&nodes)
    ))
}

fn balancing(view: &View) -> Option<String> {
    let on = view.kernel.numa_balancing.is_some_and(|mode| mode & 1 == 1);
    // The kernel passes over memory that is bound by a policy.
    let moved = |guest: &&Guest| guest.pinned && guest.balanced == Some(true);
    let mut moved = view.guests.iter().flatten().filter(moved);
    let first = moved.next().filter(|_| on)?;
    let more = match moved.count() {
        0 => String::new(),
        more => format!(" and of {more} more {}", noun(more, "guest", "guests")),
    };
    Some(format!(
        "the kernel may move the memory of claim {}{more}, pinned and without a memory policy: \
         bind it, \
         or sysctl kernel.numa_balancing=0",
        first.id
    ))
}

fn reclaim(view: &View) -> Option<String> {
    let mode = view.kernel.zone_reclaim_mode.filter(|mode| *mode != 0)?;
    Some(format!(
        "vm.zone_reclaim_mode is {mode}: a full node drops its file cache before it uses \
         another's memory"
    ))
}

/// Some pages are swapped out on any host that is up for long: a hundredth of memory is a sign.
fn swap(view: &View) -> Option<String> {
    let kernel = &view.kernel;
    let (total, free) = (kernel.swap_total?, kernel.swap_free?);
    let used = total.saturating_sub(free);
    let (memory, _) = view.memory();
    let much = used.get() > 0 && u128::from(used.get()) * 100 >= u128::from(memory.get());
    much.then(|| format!("{used} are swapped out: guests may wait for the disk"))
}

fn noun(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// Names nodes: `node 3`, `nodes 0-1`.
fn named(nodes: &NodeSet) -> String {
    let noun = if nodes.len() == 1 { "node" } else { "nodes" };
    format!("{noun} {nodes}")
}

fn some(nodes: &NodeSet) -> Option<String> {
    (!nodes.is_empty()).then(|| named(nodes))
}

fn some_cpus(cpus: &CpuSet) -> Option<String> {
    let noun = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    (!cpus.is_empty()).then(|| format!("{noun} {cpus}"))
}

#[cfg(test)]
mod tests;
