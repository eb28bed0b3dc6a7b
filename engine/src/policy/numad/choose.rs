//! numad's choice of nodes, step by step. Amounts are hundredths of a CPU and MiB.

use super::machine::room;
use super::{Failure, Query};
use crate::charges::Charges;
use crate::ids::{Id, NodeId};
use crate::idset::NodeSet;
use crate::units::Bytes;

/// What numad knows of a node when it chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFigures {
    /// The node.
    pub id: NodeId,
    /// Hundredths of a CPU it has.
    pub cpus_total: u64,
    /// Hundredths of a CPU that are idle.
    pub cpus_free: u64,
    /// MiB it has.
    pub mbs_total: u64,
    /// MiB that are free.
    pub mbs_free: u64,
}

/// Counts what claims take as used memory and busy CPUs, before numad's arithmetic begins. Without
/// claims nothing changes.
pub fn charge(nodes: &mut [NodeFigures], charges: &Charges) {
    for (id, charge) in charges.iter() {
        for node in nodes.iter_mut().filter(|node| node.id == id) {
            node.mbs_free = match Bytes::from_mib(node.mbs_free) {
                Some(free) => charges.left(id, free).whole_mib(),
                // More than any host has: by arithmetic that wrapped.
                None => node.mbs_free.saturating_sub(charge.memory.mib_rounded_up()),
            };
            node.cpus_free = node.cpus_free.saturating_sub(charge.cpus.hundredths());
        }
    }
}

/// numad's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The nodes named. Empty when the only node has an id that numad has no room for.
    pub nodes: NodeSet,
    /// The nodes numad's log says the guest moves from: those with memory.
    pub all: NodeSet,
    /// Whether numad would have run past its tables here. The answer is then every node that has
    /// CPUs or memory, where numad crashes.
    pub ran_out: bool,
}

/// Memory that is kept back on each node, in MiB.
const MARGIN: i32 = 100;

/// Chooses nodes for a request. `nodes` are in the order in which the directory lists them;
/// `distances` has a row for each of them, and a column for each node in ascending order of ids.
///
/// Errors: a distance of zero, or a row that is too short.
///
/// ```
/// use placer_engine::policy::numad::{NodeFigures, Query, choose};
/// use placer_engine::NodeId;
/// let node = |id, free| NodeFigures {
///     id: NodeId(id), cpus_total: 800, cpus_free: 800, mbs_total: 16_000, mbs_free: free,
/// };
/// let nodes = [node(0, 2_000), node(1, 9_000)];
/// let rows: [&[u64]; 2] = [&[10, 21], &[21, 10]];
/// let choice = choose(&nodes, &rows, Query { cpus: 400, megabytes: 500 })?;
/// assert_eq!(choice.nodes.to_string(), "1");
/// # Ok::<(), placer_engine::policy::numad::Failure>(())
/// ```
pub fn choose<Row: AsRef<[u64]>>(
    nodes: &[NodeFigures],
    distances: &[Row],
    query: Query,
) -> Result<Choice, Failure> {
    let magnitudes: Vec<u64> = nodes.iter().map(|node| magnitude(node, query)).collect();
    let mut need = nodes_needed(nodes, query);
    let order = best_order(nodes, distances, &magnitudes, need)?;

    let room = room(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
    let fits = |id: NodeId| id.number() < room;
    let with_memory = nodes.iter().filter(|node| node.mbs_total >= 1 && fits(node.id));
    let all: NodeSet = with_memory.map(|node| node.id).collect();

    let Query { mut cpus, mut megabytes } = query;
    let mut chosen = NodeSet::new();
    let mut left = order.iter();
    let mut ran_out = false;
    while need > 0 || megabytes > 0 || cpus > 0 {
        let Some(node) = left.next().and_then(|&at| nodes.get(at)) else {
            // numad goes on behind the end of its tables.
            ran_out = true;
            let useful = nodes.iter().filter(|node| node.mbs_total >= 1 || node.cpus_total >= 1);
            chosen = useful.map(|node| node.id).collect();
            break;
        };
        if fits(node.id) {
            chosen.insert(node.id);
        }
        need = need.wrapping_sub(1);
        if chosen == all {
            break;
        }
        // Less free than the margin makes the request grow, even from nothing.
        if node.mbs_free >= as_unsigned(megabytes.wrapping_add(MARGIN)) {
            megabytes = 0;
        } else {
            let given = cut(node.mbs_free.wrapping_sub(as_unsigned(MARGIN)));
            megabytes = megabytes.wrapping_sub(given);
        }
        let idle = idle(node);
        cpus = if idle >= as_unsigned(cpus) { 0 } else { cpus.wrapping_sub(cut(idle)) };
    }
    if chosen.is_empty() {
        chosen.extend(nodes.first().map(|node| node.id).filter(|&id| fits(id)));
    }
    Ok(Choice { nodes: chosen, all, ran_out })
}

/// A node without idle CPU counts as having a hundredth.
fn idle(node: &NodeFigures) -> u64 {
    node.cpus_free.max(1)
}

/// How attractive a node is: what it can give of the request counts more than what it has beside.
fn magnitude(node: &NodeFigures, query: Query) -> u64 {
    let split = |has: u64, wanted: i32| {
        let wanted = as_unsigned(wanted);
        if has > wanted { (wanted, has.wrapping_sub(wanted)) } else { (has, 0) }
    };
    let (used_mbs, spare_mbs) = split(node.mbs_free, query.megabytes);
    let (used_cpus, spare_cpus) = split(idle(node), query.cpus);
    let memory = used_mbs.wrapping_mul(10).wrapping_add(spare_mbs.wrapping_mul(4));
    let cpu = used_cpus.wrapping_mul(6).wrapping_add(spare_cpus);
    memory.wrapping_mul(cpu)
}

/// The least number of nodes, were all as large as the first one listed.
fn nodes_needed(nodes: &[NodeFigures], query: Query) -> i32 {
    let Some(first) = nodes.first() else { return 0 };
    let quotient = |wanted: i32, total: u64| -> i32 {
        if total == 0 {
            // What x86 makes of an infinite or undefined quotient.
            return i32::MIN;
        }
        // Rounded up, exactly: both sides are far below 2^53 for numad's real division.
        let up = i128::from(wanted).div_euclid(i128::from(total))
            + i128::from(i128::from(wanted).rem_euclid(i128::from(total)) != 0);
        i32::try_from(up).unwrap_or(i32::MIN)
    };
    let wanted =
        quotient(query.megabytes, first.mbs_total).max(quotient(query.cpus, first.cpus_total));
    wanted.min(i32::try_from(nodes.len()).unwrap_or(i32::MAX))
}

/// The order of nodes, as positions, for the column whose nearest nodes have most to give.
fn best_order<Row: AsRef<[u64]>>(
    nodes: &[NodeFigures],
    distances: &[Row],
    magnitudes: &[u64],
    need: i32,
) -> Result<Vec<usize>, Failure> {
    let counted = usize::try_from(need).unwrap_or(0);
    let mut best: Option<(u64, Vec<u64>)> = None;
    let mut column = Vec::with_capacity(nodes.len());
    for c in 0..nodes.len() {
        column.clear();
        for (node, row) in nodes.iter().zip(distances) {
            match row.as_ref().get(c) {
                Some(0) => return Err(Failure::ZeroDistance(node.id)),
                Some(&distance) => column.push(distance),
                None => return Err(Failure::ShortDistance(node.id)),
            }
        }
        if column.len() < nodes.len() {
            let id = nodes[column.len()].id;
            return Err(Failure::ShortDistance(id));
        }
        // Only the nodes that count decide the column; the rest of its order is made if it wins.
        let order = order_for(&column, magnitudes, counted);
        // numad's distances have 8 bits; a caller's may have more.
        let squared = |at: usize| column[at].saturating_mul(column[at]);
        let counting = order.iter().take(counted);
        let total = counting.fold(0u64, |sum, &at| sum.wrapping_add(magnitudes[at] / squared(at)));
        if best.as_ref().is_none_or(|(highest, _)| total > *highest) {
            best = Some((total, column.clone()));
        }
    }
    Ok(best.map(|(_, column)| order_for(&column, magnitudes, column.len())).unwrap_or_default())
}

/// Nearest first, of equally near ones the most attractive. A selection sort, and by swapping: ties
/// that a swap has moved stay moved. Only the first `wanted` places are put in order.
fn order_for(column: &[u64], magnitudes: &[u64], wanted: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..column.len()).collect();
    for a in 0..order.len().min(wanted) {
        let mut best = a;
        for b in a + 1..order.len() {
            let (x, y) = (order[b], order[best]);
            if column[x] < column[y] || (column[x] == column[y] && magnitudes[x] > magnitudes[y]) {
                best = b;
            }
        }
        order.swap(a, best);
    }
    order
}

/// Widens as C does: a negative amount becomes a huge one.
#[expect(clippy::cast_sign_loss, reason = "numad compares with 64-bit unsigned figures")]
fn as_unsigned(amount: i32) -> u64 {
    i64::from(amount) as u64
}

/// Cuts as C does.
#[expect(clippy::cast_possible_truncation, reason = "numad keeps what is left in 32 bits")]
fn cut(amount: u64) -> i32 {
    amount as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32, cpus: u64, mbs_total: u64, mbs_free: u64) -> NodeFigures {
        NodeFigures { id: NodeId(id), cpus_total: cpus, cpus_free: cpus, mbs_total, mbs_free }
    }

    fn flat(n: usize) -> Vec<Vec<u64>> {
        (0..n).map(|i| (0..n).map(|j| if i == j { 10 } else { 20 }).collect()).collect()
    }

    fn answer(nodes: &[NodeFigures], cpus: i32, megabytes: i32) -> String {
        let query = Query { cpus, megabytes };
        choose(nodes, &flat(nodes.len()), query).expect("an answer").nodes.to_string()
    }

    #[test]
    fn nothing_asked_names_the_first_listed() {
        let nodes = [node(2, 0, 0, 0), node(0, 800, 1000, 900)];
        assert_eq!(answer(&nodes, 0, 0), "2");
    }

    #[test]
    fn low_memory_makes_the_request_grow() {
        let full: Vec<_> = (0..4).map(|id| node(id, 800, 1000, 50)).collect();
        assert_eq!(answer(&full, 100, 0), "0-3");
    }

    #[test]
    fn a_node_without_memory_no_longer_crashes() {
        // Node 1 lies between the two with memory, is taken on the way to the second, and then the
        // answer can never equal the set of nodes with memory.
        let nodes = [node(0, 400, 1000, 900), node(1, 400, 0, 0), node(2, 400, 1000, 900)];
        let rows = [[10, 15, 30], [15, 10, 30], [30, 30, 10]];
        let query = Query { cpus: 10_000, megabytes: 10 };
        let choice = choose(&nodes, &rows, query).expect("an answer");
        assert_eq!((choice.nodes.to_string().as_str(), choice.ran_out), ("0-2", true));
    }

    #[test]
    fn division_by_zero_is_an_error() {
        let nodes = [node(0, 400, 1000, 900)];
        let failure = choose(&nodes, &[vec![0]], Query { cpus: 100, megabytes: 1 });
        assert_eq!(failure, Err(Failure::ZeroDistance(NodeId(0))));
    }

    #[test]
    fn distances_of_any_size_are_answered() {
        let nodes = [node(0, 400, 1000, 900), node(1, 400, 1000, 900)];
        let query = Query { cpus: 100, megabytes: 1 };
        let far = [[10, 1 << 32], [u64::MAX, 10]];
        assert_eq!(choose(&nodes, &far, query).map(|c| c.nodes.to_string()), Ok("0".to_owned()));
    }

    #[test]
    fn an_id_without_room_gives_an_empty_line() {
        assert_eq!(answer(&[node(70, 400, 1000, 900)], 0, 0), "");
    }
}
