//! The choice of numad 20150602: nodes are weighed by what they give of the request, and the node
//! that the directory lists first stands for all.

use super::choose::{
    Choice, MARGIN, NodeFigures, as_unsigned, cut, idle, order_by, read_column, squared,
};
use super::list::room;
use super::{Failure, Query};
use crate::ids::{Id, NodeId};
use crate::idset::NodeSet;

/// Chooses nodes for a request; see [`super::choose()`].
pub(super) fn choose<Row: AsRef<[u64]>>(
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

/// Returns the nodes' positions, nearest to the best column first. The best column is the one whose
/// `need` nearest nodes have the largest sum of magnitudes, each divided by its distance squared.
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
        read_column(nodes, distances, c, &mut column)?;
        // Only the nodes that count decide the column; the rest of its order is made if it wins.
        let order = order_by(&column, magnitudes, counted);
        let counting = order.iter().take(counted);
        let share = |&at: &usize| magnitudes[at] / squared(column[at]);
        let total = counting.map(share).fold(0u64, u64::wrapping_add);
        if best.as_ref().is_none_or(|(highest, _)| total > *highest) {
            best = Some((total, column.clone()));
        }
    }
    Ok(best.map(|(_, column)| order_by(&column, magnitudes, column.len())).unwrap_or_default())
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
    fn what_a_node_gives_of_the_request_counts_more_than_what_it_has_beside() {
        let weigh =
            |cpus, megabytes| magnitude(&node(0, 800, 1000, 900), Query { cpus, megabytes });
        assert_eq!(weigh(300, 500), (500 * 10 + 400 * 4) * (300 * 6 + 500));
        assert_eq!(weigh(900, 1000), (900 * 10) * (800 * 6));
    }

    #[test]
    fn the_first_node_listed_stands_for_all_in_the_number_needed() {
        let nodes =
            [node(0, 400, 1000, 900), node(1, 100, 200, 100), node(2, 1, 1, 1), node(3, 1, 1, 1)];
        let needed = |cpus, megabytes| nodes_needed(&nodes, Query { cpus, megabytes });
        assert_eq!((needed(0, 0), needed(1, 0), needed(0, 1)), (0, 1, 1));
        assert_eq!((needed(400, 2000), needed(400, 2001), needed(801, 100)), (2, 3, 3));
        assert_eq!((needed(9000, 0), nodes_needed(&[], Query { cpus: 1, megabytes: 1 })), (4, 0));
        let no_memory = [node(0, 400, 0, 0)];
        assert_eq!(nodes_needed(&no_memory, Query { cpus: -100, megabytes: 1 }), 0);
        let neither = [node(0, 0, 0, 0)];
        assert_eq!(nodes_needed(&neither, Query { cpus: 1, megabytes: 1 }), i32::MIN);
    }

    #[test]
    fn magnitudes_count_by_their_distance_squared() {
        let nodes = [node(0, 400, 1000, 900), node(1, 400, 1000, 900)];
        let order = |rows: [[u64; 2]; 2], magnitudes, need| {
            best_order(&nodes, &rows, magnitudes, need).expect("an order")
        };
        // 100 / 10² is more than 900 / 40².
        assert_eq!(order([[10, 50], [50, 40]], &[100, 900], 1), [0, 1]);
        assert_eq!(order([[10, 20], [20, 10]], &[100, 900], 1), [1, 0]);
        // Where no node counts, or a negative number of them, the first column is as good as any.
        assert_eq!(order([[10, 20], [20, 10]], &[100, 900], 0), [0, 1]);
        assert_eq!(order([[10, 20], [20, 10]], &[100, 900], i32::MIN), [0, 1]);
    }

    #[test]
    fn the_last_hundredth_and_the_last_mib_take_another_node() {
        let idle =
            |id, cpus_free, mbs_free| NodeFigures { cpus_free, ..node(id, 800, 1000, mbs_free) };
        // 199 MiB free give 99.
        let nodes = [idle(0, 700, 199), idle(1, 100, 199), idle(2, 100, 199)];
        assert_eq!(
            [99, 100, 198, 199].map(|mib| answer(&nodes, 0, mib)),
            ["0", "0-1", "0-1", "0-2"]
        );
        let nodes = [idle(0, 700, 900), idle(1, 100, 900), idle(2, 100, 900)];
        assert_eq!(
            [700, 701, 800, 801].map(|cpus| answer(&nodes, cpus, 10)),
            ["0", "0-1", "0-1", "0-2"]
        );
        // Two nodes as small as the first are needed, though the second holds all of it.
        let nodes = [node(0, 800, 500, 400), node(1, 800, 4000, 3900), node(2, 800, 500, 300)];
        assert_eq!(answer(&nodes, 100, 600), "0-1");
    }

    #[test]
    fn nodes_without_memory_are_not_among_all() {
        let nodes = [
            node(0, 400, 0, 0),
            node(1, 400, 1, 0),
            node(2, 400, 1000, 900),
            node(64, 400, 1000, 900),
        ];
        let choice =
            choose(&nodes, &flat(4), Query { cpus: 10, megabytes: 10 }).expect("an answer");
        assert_eq!((choice.all.to_string().as_str(), choice.ran_out), ("1-2", false));
        // Past the end of its tables: every node that has CPUs or memory.
        let nodes = [node(0, 0, 0, 0), node(1, 1, 0, 0), node(2, 0, 1, 0), node(3, 400, 900, 0)];
        let choice =
            choose(&nodes, &flat(4), Query { cpus: 9000, megabytes: 10 }).expect("an answer");
        assert_eq!((choice.nodes.to_string().as_str(), choice.ran_out), ("1-3", true));
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
