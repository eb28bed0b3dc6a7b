//! The choice of numad 20251104: nodes are weighed by their free memory and idle CPU alone, so the
//! centre of the choice is the same for every request.

use super::choose::{
    Choice, MARGIN, NodeFigures, Step, as_unsigned, cut, idle, order_by, read_column, squared,
};
use super::list::room;
use super::{Failure, Query};
use crate::ids::Id;
use crate::idset::NodeSet;

/// A node with no more idle CPU than this is never named, in hundredths.
const BUSY: u64 = 10;

/// Chooses nodes for a request; see [`super::choose()`].
pub(super) fn choose<Row: AsRef<[u64]>>(
    nodes: &[NodeFigures],
    distances: &[Row],
    query: Query,
    mut report: impl FnMut(Step),
) -> Result<Choice, Failure> {
    let magnitudes: Vec<u64> =
        nodes.iter().map(|node| node.mbs_free.wrapping_mul(idle(node))).collect();
    for (position, (node, &magnitude)) in nodes.iter().zip(&magnitudes).enumerate() {
        let (mbs_free, cpus_free) = (node.mbs_free, idle(node));
        report(Step::Weighed { position, mbs_free, cpus_free, magnitude });
    }
    let order = best_order(nodes, distances, &magnitudes, &mut report)?;

    let room = room(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
    let fits = |node: &&NodeFigures| node.id.number() < room;
    let all: NodeSet = nodes.iter().filter(fits).map(|node| node.id).collect();

    let mut left = query;
    let mut chosen = NodeSet::new();
    for node in order.iter().filter_map(|&at| nodes.get(at)) {
        report(Step::Asked(left));
        if idle(node) > BUSY {
            report(Step::Taken(node.id));
            if fits(&node) {
                chosen.insert(node.id);
            }
        }
        if chosen == all {
            break;
        }
        // What a node has counts as got also where it is too busy to be named.
        left = rest(left, node);
        if left.megabytes <= 0 && left.cpus <= 0 {
            break;
        }
    }
    if chosen.is_empty() {
        report(Step::NothingTaken);
        chosen.clone_from(&all);
    }
    Ok(Choice { nodes: chosen, all, ran_out: false })
}

/// Returns what is still asked after a node has given what it can.
fn rest(Query { cpus, megabytes }: Query, node: &NodeFigures) -> Query {
    let with_margin = megabytes.wrapping_add(MARGIN);
    let megabytes = if node.mbs_free >= as_unsigned(with_margin) {
        0
    } else if node.mbs_free > as_unsigned(MARGIN) {
        cut(as_unsigned(with_margin).wrapping_sub(node.mbs_free))
    } else {
        megabytes
    };
    let idle = idle(node);
    let cpus = if idle >= as_unsigned(cpus) { 0 } else { cpus.wrapping_sub(cut(idle)) };
    Query { cpus, megabytes }
}

/// Returns the nodes' positions, nearest to the best column first: the lowest one with the largest
/// sum of all magnitudes, each divided by its distance squared.
fn best_order<Row: AsRef<[u64]>>(
    nodes: &[NodeFigures],
    distances: &[Row],
    magnitudes: &[u64],
    report: &mut impl FnMut(Step),
) -> Result<Vec<usize>, Failure> {
    let mut best: Option<(usize, u64)> = None;
    let mut column = Vec::with_capacity(nodes.len());
    for position in 0..nodes.len() {
        read_column(nodes, distances, position, &mut column)?;
        let shares = magnitudes.iter().zip(&column).map(|(magnitude, &d)| magnitude / squared(d));
        let total = shares.fold(0u64, u64::wrapping_add);
        report(Step::Column { position, total });
        if best.is_none_or(|(_, highest)| total > highest) {
            best = Some((position, total));
        }
    }
    let Some((position, _)) = best else { return Ok(Vec::new()) };
    report(Step::BestColumn(position));
    read_column(nodes, distances, position, &mut column)?;
    Ok(order_by(&column, magnitudes, column.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    /// A node with this idle CPU and free memory.
    fn node(id: u32, cpus_free: u64, mbs_free: u64) -> NodeFigures {
        NodeFigures { id: NodeId(id), cpus_total: 800, cpus_free, mbs_total: 4000, mbs_free }
    }

    fn flat(n: usize) -> Vec<Vec<u64>> {
        (0..n).map(|i| (0..n).map(|j| if i == j { 10 } else { 20 }).collect()).collect()
    }

    fn answer(nodes: &[NodeFigures], cpus: i32, megabytes: i32) -> String {
        let query = Query { cpus, megabytes };
        let choice = choose(nodes, &flat(nodes.len()), query, |_| ()).expect("an answer");
        choice.nodes.to_string()
    }

    #[test]
    fn a_small_request_goes_to_the_largest_idle_place() {
        let nodes = [node(0, 200, 600), node(1, 800, 4000)];
        for cpus in [0, 1, 200] {
            assert_eq!(answer(&nodes, cpus, 100), "1");
        }
    }

    #[test]
    fn a_busy_node_is_passed_over_and_its_memory_counts_as_got() {
        // 0.10 CPU is too little to be named, 0.11 is enough.
        let nodes = |idle| [node(0, idle, 2_000_000), node(1, 100, 150)];
        assert_eq!(answer(&nodes(10), 50, 5000), "1");
        assert_eq!(answer(&nodes(11), 50, 5000), "0-1");
        // It satisfies a request for memory alone: then no node is named, and so all are.
        assert_eq!(answer(&nodes(10), 0, 5000), "0-1");
        assert_eq!(answer(&nodes(11), 0, 5000), "0");
    }

    #[test]
    fn where_all_are_busy_all_are_named() {
        let nodes = [node(0, 10, 900), node(1, 0, 900), node(5, 3, 900)];
        for (cpus, megabytes) in [(0, 0), (100, 0), (0, 100), (400, 9000)] {
            assert_eq!(answer(&nodes, cpus, megabytes), "0-1,5");
        }
    }

    #[test]
    fn little_free_memory_adds_nothing_to_the_request() {
        let nodes = [node(0, 800, 100), node(1, 100, 200), node(2, 100, 200)];
        // 200 MiB asked: node 0 has none beyond the margin, the others 100 each.
        assert_eq!(answer(&nodes, 0, 200), "0-2");
        assert_eq!(answer(&nodes, 0, 0), "0");
        let nodes = [node(0, 800, 101), node(1, 20, 300), node(2, 20, 300)];
        assert_eq!(answer(&nodes, 0, 201), "0-1");
        assert_eq!(answer(&nodes, 0, 202), "0-2");
        // The last hundredth and the last MiB take another node.
        let nodes = [node(0, 700, 900), node(1, 100, 900), node(2, 100, 900)];
        assert_eq!(
            [700, 701, 800, 801].map(|cpus| answer(&nodes, cpus, 10)),
            ["0", "0-1", "0-1", "0-2"]
        );
        let nodes = [node(0, 700, 199), node(1, 100, 199), node(2, 100, 199)];
        assert_eq!([99, 100].map(|mib| answer(&nodes, 0, mib)), ["0", "0-1"]);
    }

    #[test]
    fn the_list_ends_where_all_were_looked_at() {
        let nodes = [node(0, 400, 900), node(1, 400, 0), node(2, 400, 900)];
        assert_eq!(answer(&nodes, 10_000, 10), "0-2");
        assert_eq!(answer(&[], 100, 0), "");
    }

    #[test]
    fn negative_amounts_are_met_by_the_first_node() {
        let nodes = [node(0, 400, 900), node(1, 400, 900)];
        assert_eq!(answer(&nodes, -100, 0), "0");
        // With the margin it wraps below zero, which no node holds; less what one has, it wraps back.
        assert_eq!(answer(&nodes, 0, i32::MAX), "0-1");
    }

    #[test]
    fn ids_without_room_are_not_named() {
        assert_eq!(answer(&[node(3, 400, 100), node(70, 400, 900)], 100, 100), "3");
        assert_eq!(answer(&[node(70, 400, 900)], 0, 0), "");
        assert_eq!(answer(&[node(63, 400, 100), node(64, 400, 900)], 100, 100), "63");
    }

    #[test]
    fn a_distance_of_zero_anywhere_is_an_error() {
        let nodes = [node(0, 400, 900), node(1, 400, 900)];
        let query = Query { cpus: 100, megabytes: 1 };
        let failure = choose(&nodes, &[[10, 20], [0, 10]], query, |_| ());
        assert_eq!(failure, Err(Failure::ZeroDistance(NodeId(1))));
        let short: [&[u64]; 2] = [&[10, 20], &[10]];
        let failure = choose(&nodes, &short, query, |_| ());
        assert_eq!(failure, Err(Failure::ShortDistance(NodeId(1))));
    }

    #[test]
    fn the_steps_are_those_numad_logs() {
        let nodes = [node(0, 5, 900), node(1, 300, 1000)];
        let mut steps = Vec::new();
        let query = Query { cpus: 400, megabytes: 500 };
        choose(&nodes, &flat(2), query, |step| steps.push(step)).expect("an answer");
        let weighed = |position, mbs_free, cpus_free, magnitude| Step::Weighed {
            position,
            mbs_free,
            cpus_free,
            magnitude,
        };
        let expected = [
            weighed(0, 900, 5, 4500),
            weighed(1, 1000, 300, 300_000),
            Step::Column { position: 0, total: 795 },
            Step::Column { position: 1, total: 3011 },
            Step::BestColumn(1),
            Step::Asked(query),
            Step::Taken(NodeId(1)),
            Step::Asked(Query { cpus: 100, megabytes: 0 }),
        ];
        assert_eq!(steps, expected);
    }
}
