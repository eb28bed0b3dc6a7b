//! Good sets quickly: grown from one node by the neighbour that helps most, then improved by exchange.

use super::objective::{Problem, Shares, Sums};
use super::pareto::ParetoFront;

/// Most members a set is grown to.
const MAX_MEMBERS: usize = 64;

/// Sums over the pairs of a growing set, so that one more node is judged without a loop.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// Both ways' distances from each node to the members, weighted by their idle and by all their CPUs.
    idle: Vec<f64>,
    cap: Vec<f64>,
    member: Vec<bool>,
    set: Vec<usize>,
    trial: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pairs {
    sums: Sums,
    idle: f64,
    mixed: f64,
    cap: f64,
}

impl Growth {
    /// Grows a set from `anchor` and offers each stage of it; returns its steps.
    pub(crate) fn grow(
        &mut self,
        problem: &Problem<'_>,
        anchor: usize,
        useful: &[usize],
        front: &mut ParetoFront,
        shares: &mut Shares,
    ) -> u64 {
        let count = problem.nodes.len();
        for list in [&mut self.idle, &mut self.cap] {
            list.clear();
            list.resize(count, 0.0);
        }
        self.member.clear();
        self.member.resize(count, false);
        self.set.clear();
        let mut pairs = Pairs::default();
        let mut next = anchor;
        let mut lowest = u64::MAX;
        let mut worse = 0;
        let mut steps = 0;
        while self.set.len() < MAX_MEMBERS {
            pairs = self.with(problem, pairs, next);
            self.join(problem, next, useful);
            steps += 1 + useful.len() as u64 / 4;
            if let Some(slowdown_ppm) = front.evaluate_and_offer(problem, &self.set, shares) {
                // Two stages in a row that do not help end the growth.
                worse = if slowdown_ppm < lowest { 0 } else { worse + 1 };
                lowest = lowest.min(slowdown_ppm);
                if worse == 2 {
                    break;
                }
            }
            let mut best = (f64::INFINITY, None);
            for &at in useful {
                if !self.member[at] {
                    let score = self.judge(problem, self.with(problem, pairs, at));
                    if score < best.0 {
                        best = (score, Some(at));
                    }
                }
            }
            let Some(at) = best.1 else { break };
            next = at;
        }
        steps
    }

    fn with(&self, problem: &Problem<'_>, mut pairs: Pairs, at: usize) -> Pairs {
        let node = &problem.nodes[at];
        let own = problem.distances.distance(at, at);
        pairs.sums.add(problem, at);
        pairs.idle += node.idle * (self.idle[at] + node.idle * own);
        pairs.mixed +=
            node.idle * self.cap[at] + node.cap * (self.idle[at] + 2.0 * node.idle * own);
        pairs.cap += node.cap * (self.cap[at] + node.cap * own);
        pairs
    }

    fn join(&mut self, problem: &Problem<'_>, at: usize, useful: &[usize]) {
        let node = &problem.nodes[at];
        for &j in useful {
            let both = problem.distances.distance(at, j) + problem.distances.distance(j, at);
            self.idle[j] += node.idle * both;
            self.cap[j] += node.cap * both;
        }
        self.member[at] = true;
        let place = self.set.partition_point(|&i| i < at);
        self.set.insert(place, at);
    }

    /// Returns the slowdown as if memory lay where the threads run, worse for what the set lacks.
    fn judge(&self, problem: &Problem<'_>, pairs: Pairs) -> f64 {
        let sums = pairs.sums;
        if sums.cap <= 0.0 {
            return f64::MAX;
        }
        let more = (problem.cpus - sums.idle).max(0.0) / sums.cap;
        let width = problem.cpus.max(sums.idle);
        let near = (pairs.idle + more * (pairs.mixed + more * pairs.cap)) / (width * width);
        let lack = (problem.need_mem - sums.mem).max(0.0) / problem.need_mem
            + (problem.need_cpus - sums.cpus).max(0.0) / problem.need_cpus;
        problem.slowdown(1.0 + more, near) * (1.0 + lack)
    }

    /// Offers every set that differs from `set` by one node less, one more or another one, until `most` steps are
    /// done; returns its steps.
    pub(crate) fn vary(
        &mut self,
        problem: &Problem<'_>,
        set: &[usize],
        useful: &[usize],
        most: u64,
        front: &mut ParetoFront,
        shares: &mut Shares,
    ) -> u64 {
        let mut steps = 0;
        // Position in `set` to leave out; past its end: none.
        for out in 0..=set.len() {
            if steps > most {
                break;
            }
            for &new in std::iter::once(&usize::MAX).chain(useful) {
                if (new == usize::MAX && out == set.len()) || set.contains(&new) {
                    continue;
                }
                self.trial.clear();
                self.trial
                    .extend(set.iter().enumerate().filter(|&(t, _)| t != out).map(|(_, &i)| i));
                if new != usize::MAX {
                    let place = self.trial.partition_point(|&i| i < new);
                    self.trial.insert(place, new);
                }
                steps += 4 + self.trial.len() as u64 / 2;
                front.evaluate_and_offer(problem, &self.trial, shares);
            }
        }
        steps
    }
}
