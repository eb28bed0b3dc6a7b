//! Up to 16 useful nodes in single precision, relative to the request, for the sweep.

use super::model::Prefer;
use super::objective::Problem;

/// Most useful nodes that are swept.
pub(crate) const MAX_NODES: usize = 16;

/// Room for single precision and another order of sums, relative: some twenty times the error that
/// [`is_plain`](super::sweep) leaves, by the error budget in the module's documentation.
pub(crate) const SLACK: f32 = 1e-4;

/// The useful nodes side by side: CPUs as parts of the request's, memory as parts of its memory, distances
/// with 1 for local.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) count: usize,
    pub(crate) cpus: [f32; MAX_NODES],
    pub(crate) cap: [f32; MAX_NODES],
    pub(crate) idle: [f32; MAX_NODES],
    pub(crate) mem: [f32; MAX_NODES],
    /// Keys add up to the rank of a set by the rule, less is better: one a node, less up to a half in all
    /// for the room.
    pub(crate) key: [f32; MAX_NODES],
    /// From the CPUs of to the memory of, and the same both ways.
    pub(crate) distance: [[f32; MAX_NODES]; MAX_NODES],
    pub(crate) pair: [[f32; MAX_NODES]; MAX_NODES],
}

impl Nodes {
    pub(crate) fn new(problem: &Problem<'_>, useful: &[usize]) -> Self {
        let zero = [0.0; MAX_NODES];
        let mut nodes = Self {
            count: useful.len().min(MAX_NODES),
            cpus: zero,
            cap: zero,
            idle: zero,
            mem: zero,
            key: zero,
            distance: [zero; MAX_NODES],
            pair: [zero; MAX_NODES],
        };
        let room = |at: usize| match problem.prefer {
            Prefer::Room => -(problem.magnitude(at) as f64),
            Prefer::Pack => problem.free_share(at),
        };
        let rooms: f64 = useful.iter().map(|&at| room(at).abs()).sum();
        for (t, &at) in useful.iter().enumerate().take(MAX_NODES) {
            let node = &problem.nodes[at];
            nodes.cpus[t] = single(f64::from(node.cpus) / problem.cpus);
            nodes.cap[t] = single(node.cap / problem.cpus);
            nodes.idle[t] = single(node.idle / problem.cpus);
            nodes.mem[t] = single(node.mem / problem.mem);
            nodes.key[t] = single(1.0 + if rooms > 0.0 { room(at) / (2.0 * rooms) } else { 0.0 });
            let row = problem.distances.row(at);
            for (u, &to) in useful.iter().enumerate().take(MAX_NODES) {
                nodes.distance[t][u] = single(row[to] / 10.0);
                nodes.pair[t][u] = single((row[to] + problem.distances.distance(to, at)) / 10.0);
            }
        }
        nodes
    }
}

/// Returns `value` in single precision.
#[expect(clippy::cast_possible_truncation, reason = "less precision is meant")]
pub(crate) fn single(value: f64) -> f32 {
    value as f32
}
