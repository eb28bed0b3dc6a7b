//! A slowdown that a guest cannot go below, whatever the guests before it take.

use crate::policy::best::Problem;

/// The slices of crowding that a bound is the least of: the first is this wide, each one twice as wide as the one
/// before, up to the last.
const SLICES: std::ops::RangeInclusive<f64> = 1e-4..=0.02;

/// Reusable: for each node with CPUs the mean distance of the guest's memory from there, and its position.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<(f64, usize)>);

/// Returns, in parts per million, a slowdown that no set is below, neither on the host as it is in `problem` nor
/// on one where any node has less idle CPUs or memory. See "The bound" in the module's documentation.
pub(super) fn lowest(problem: &Problem<'_>, buffer: &mut Buffer) -> u64 {
    let (mut idle, mut cap) = (0.0, 0.0);
    buffer.0.clear();
    for (at, node) in problem.nodes.iter().enumerate() {
        if node.cap > 0.0 {
            idle += node.idle;
            cap += node.cap;
            buffer.0.push((from_node(problem, at), at));
        }
    }
    buffer.0.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let Some(&(nearest, _)) = buffer.0.first() else { return 0 };
    let mut from = problem.crowding(idle, cap);
    let (mut least, mut width) = (f64::INFINITY, *SLICES.start());
    while problem.slowdown(from, nearest) < least {
        let to = from * (1.0 + width);
        least = least.min(problem.slowdown(from, spread(problem, &buffer.0, to)));
        from = to;
        width = (2.0 * width).min(*SLICES.end());
    }
    whole(least * (1.0 - problem.slack))
}

/// Returns the mean distance of the guest's memory from the CPUs of one node, each node giving as much as it has.
fn from_node(problem: &Problem<'_>, at: usize) -> f64 {
    let (mut near, mut rest, mut farthest) = (0.0, 1.0, 0.0);
    for neighbour in problem.distances.from(at) {
        let there = problem.nodes[neighbour.node as usize].mem / problem.mem;
        let part = f64::min(rest, there);
        near += part * neighbour.distance;
        rest -= part;
        farthest = neighbour.distance;
        if rest <= 0.0 {
            break;
        }
    }
    near + rest.max(0.0) * farthest
}

/// Returns the mean distance where the threads are on the nodes from which it is shortest, on each as many as the
/// crowding allows.
fn spread(problem: &Problem<'_>, nodes: &[(f64, usize)], crowding: f64) -> f64 {
    let (mut near, mut rest, mut farthest) = (0.0, 1.0, 0.0);
    for &(from_here, at) in nodes {
        let node = &problem.nodes[at];
        let part = f64::min(rest, (node.idle + (crowding - 1.0) * node.cap) / problem.cpus);
        near += part * from_here;
        rest -= part;
        farthest = from_here;
        if rest <= 0.0 {
            break;
        }
    }
    near + rest.max(0.0) * farthest
}

/// Returns the least whole number that a slowdown of at least `bound` rounds to.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn whole(bound: f64) -> u64 {
    (bound - 0.5).ceil() as u64
}
