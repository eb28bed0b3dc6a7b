//! Every set of 7 to 16 useful nodes at a few nanoseconds each: bounds on many sets side by side, and the
//! objective itself for the few that no bound rules out.
//!
//! A set is a part of the first [`TABLE_NODES`] nodes and a part of the others. What the parts of the first sum up to
//! is tabled once; beside each part of the others a set's figures are then sums of two. They run in another
//! order than the objective's and in single precision: they rule sets out, with room for that, and decide
//! nothing.

use super::bounds::Slice;
use super::nodes::{MAX_NODES, Nodes, single};
use super::objective::{Problem, Shares};
use super::pareto::{ParetoFront, above};
use super::simd_bounds::{Marks, Part, TABLE_NODES, Table, Thresholds};

/// The purpose of a pass over all sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The lowest slowdown.
    FindMinimum,
    /// With that known, the first by the rule.
    FindBest,
}

/// A request's walk through all sets of a host's useful nodes.
pub(crate) struct Sweep<'a> {
    problem: &'a Problem<'a>,
    /// Positions on the host, ascending.
    at: [usize; MAX_NODES],
    nodes: Nodes,
    table: Table,
    /// What the first nodes, and of the others those from each one on, have together.
    tail: [Part; MAX_NODES + 1],
    chosen: [usize; MAX_NODES],
    pass: Pass,
    thresholds: Thresholds,
    slack: f32,
    steps: u64,
}

/// Reports whether single precision is enough: distances as kernels report them, not more idle than there is,
/// and no extreme ratios.
fn is_plain(problem: &Problem<'_>, useful: &[usize]) -> bool {
    let nearest = problem.distances.lowest();
    (TABLE_NODES + 1..=MAX_NODES).contains(&useful.len())
        && useful.iter().all(|&at| {
            let (node, row) = (&problem.nodes[at], problem.distances.row(at));
            node.idle <= node.cap
                && node.cap <= 1e9 * problem.cpus
                && useful.iter().all(|&to| row[to] <= 32.0 * nearest && row[to] <= 1e6)
        })
}

impl<'a> Sweep<'a> {
    /// Returns a sweep of the `useful` nodes; `None` where their number or their figures forbid it.
    pub(crate) fn new(problem: &'a Problem<'a>, useful: &[usize], slack: f32) -> Option<Self> {
        if !is_plain(problem, useful) {
            return None;
        }
        let nodes = Nodes::new(problem, useful);
        let mut at = [0; MAX_NODES];
        at[..useful.len()].copy_from_slice(useful);
        let mut first = Part::default();
        (0..TABLE_NODES).for_each(|t| first.add(&nodes, t));
        let mut tail = [first; MAX_NODES + 1];
        for t in (TABLE_NODES..nodes.count).rev() {
            tail[t] = tail[t + 1];
            tail[t].add(&nodes, t);
        }
        let table = Table::new(&nodes);
        let thresholds = Thresholds::default();
        Some(Self {
            problem,
            at,
            nodes,
            table,
            tail,
            chosen: [0; MAX_NODES],
            pass: Pass::FindMinimum,
            thresholds,
            slack,
            steps: 0,
        })
    }

    /// Offers every set that is not ruled out, and whose crowding and width are in `range`;
    /// returns how many sets it looked at.
    pub(crate) fn run(
        &mut self,
        pass: Pass,
        range: &Slice,
        front: &mut ParetoFront,
        shares: &mut Shares,
    ) -> u64 {
        self.pass = pass;
        self.steps = 0;
        self.thresholds = Thresholds::new(self.problem, range, self.slack);
        self.learn(front);
        self.extend(0, TABLE_NODES, &Part::default(), front, shares);
        self.steps
    }

    /// Updates the limits from the best sets so far.
    fn learn(&mut self, front: &ParetoFront) {
        let (most, key) = match self.pass {
            Pass::FindMinimum => (above(front.low()), f32::INFINITY),
            Pass::FindBest => {
                let best = front.best().map(|best| best.set.as_slice()).unwrap_or_default();
                let keys = self.at.iter().zip(&self.nodes.key).take(self.nodes.count);
                let key: f32 = keys.filter(|(at, _)| best.contains(at)).map(|(_, key)| key).sum();
                (above(front.limit()), key + self.slack)
            }
        };
        self.thresholds.most = single(most);
        self.thresholds.key = key;
    }

    /// Looks at all sets that have, of the nodes from [`TABLE_NODES`] to `start`, the `size` chosen ones.
    fn extend(
        &mut self,
        size: usize,
        start: usize,
        part: &Part,
        front: &mut ParetoFront,
        shares: &mut Shares,
    ) {
        if self.thresholds.rules_out(part, &self.tail[start]) {
            return;
        }
        if start == self.nodes.count {
            self.block(size, part, front, shares);
            return;
        }
        let mut with = *part;
        with.join(&self.nodes, start);
        self.chosen[size] = start;
        self.extend(size + 1, start + 1, &with, front, shares);
        self.extend(size, start + 1, part, front, shares);
    }

    /// Looks at all parts of the first nodes beside the `size` chosen ones.
    fn block(&mut self, size: usize, part: &Part, front: &mut ParetoFront, shares: &mut Shares) {
        self.steps += 1 << TABLE_NODES;
        let marks = self.table.marks(&self.nodes, part, &self.chosen[..size], &self.thresholds);
        let Some(Marks(marks)) = marks else { return };
        for (bits, _) in marks.as_flattened().iter().enumerate().filter(|(_, mark)| **mark != 0) {
            let mut set = [0; MAX_NODES];
            let first = (0..TABLE_NODES).filter(|t| bits >> t & 1 == 1);
            let members = first.chain(self.chosen[..size].iter().copied());
            let mut len = 0;
            for (place, t) in set.iter_mut().zip(members) {
                *place = self.at[t];
                len += 1;
            }
            self.steps += 8;
            let before = front.changes();
            if len > 0 {
                front.evaluate_and_offer(self.problem, &set[..len], shares);
            }
            if front.changes() != before {
                self.learn(front);
            }
        }
    }
}

#[cfg(test)]
mod tests;
