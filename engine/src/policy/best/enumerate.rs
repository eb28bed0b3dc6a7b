//! Every set of up to 16 useful nodes, one after the other, at a few nanoseconds each.

use super::objective::{Problem, SLACK, SPILLED, Shares, rounded};
use super::pareto::{ParetoFront, above};

/// Most useful nodes that are enumerated.
pub(crate) const MAX_NODES: usize = 16;

/// Most passes over all sets; the last one needs no answer to start from, and is always enough.
const PASSES: u32 = 4;

/// Up to that many nodes the enumeration is faster than a search.
pub(crate) const ENUMERATED_NODES: usize = 10;

/// Steps of a search after which a sweep would have been faster.
pub(crate) const SEARCH_STEPS: u64 = 1_000;

/// The useful nodes side by side, and along the current set what each further node would add.
///
/// `W`: lanes, at least the number of useful nodes, so that the inner loops have a fixed length.
struct Table<'a, const W: usize> {
    problem: &'a Problem<'a>,
    /// Positions on the host, ascending.
    at: [usize; W],
    count: usize,
    cpus: [f64; W],
    cap: [f64; W],
    idle: [f64; W],
    mem: [f64; W],
    /// Row: from the CPUs of; column: to the memory of.
    distance: [[f64; W]; W],
    /// Whether every distance is the same both ways.
    even: bool,
    /// Idle and all CPUs for each MiB.
    thin: [(f64, f64); W],
    /// What the nodes from this one on have together.
    tail: [Sums; W],
    chosen: [usize; W],
    /// Whether an answer was known before.
    known: bool,
    /// Whether a set may have been left out because of an answer that was replaced since.
    stale: bool,
    /// Of the answer so far: its nodes, what counts as equal, and what rules it out.
    size: usize,
    limit: f64,
    goal: f64,
    /// Largest difference of a slowdown computed here and the objective's, relative.
    doubt: f64,
    /// Slowdown of a set without crowding and with all memory at the shortest distance, in parts per million.
    floor: f64,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    cpus: f64,
    cap: f64,
    idle: f64,
    mem: f64,
    /// Over all pairs: distance times idle and idle, idle and all (both ways), all and all CPUs.
    pairs: (f64, f64, f64),
    /// The most idle, and the most CPUs, that a member has for each MiB.
    thin: (f64, f64),
}

/// Mean distances to each memory, times the weight: from idle CPUs, and from all CPUs.
#[derive(Clone, Copy)]
struct Reach<const W: usize> {
    idle: [f64; W],
    cap: [f64; W],
}

/// Offers every feasible set of the useful nodes that may be the answer; returns how many it looked at.
pub(crate) fn enumerate(
    problem: &Problem<'_>,
    useful: &[usize],
    front: &mut ParetoFront,
    shares: &mut Shares,
) -> u64 {
    match useful.len() {
        0..=4 => Table::<4>::new(problem, useful).run(front, shares),
        5..=8 => Table::<8>::new(problem, useful).run(front, shares),
        _ => Table::<MAX_NODES>::new(problem, useful).run(front, shares),
    }
}

impl<'a, const W: usize> Table<'a, W> {
    fn new(problem: &'a Problem<'a>, useful: &[usize]) -> Self {
        let mut table = Self {
            problem,
            at: [0; W],
            count: useful.len().min(W),
            cpus: [0.0; W],
            cap: [0.0; W],
            idle: [0.0; W],
            mem: [0.0; W],
            distance: [[0.0; W]; W],
            even: true,
            thin: [(0.0, 0.0); W],
            tail: [Sums::default(); W],
            chosen: [0; W],
            known: false,
            stale: false,
            size: W,
            limit: f64::INFINITY,
            goal: f64::INFINITY,
            doubt: 1e-12 + (problem.slack - SLACK),
            floor: problem.slowdown(1.0, problem.distances.lowest()) * (1.0 - problem.slack),
        };
        let mut tail = Sums::default();
        for (t, &at) in useful.iter().enumerate().take(W).rev() {
            let node = &problem.nodes[at];
            table.at[t] = at;
            table.cpus[t] = f64::from(node.cpus);
            table.cap[t] = node.cap;
            table.idle[t] = node.idle;
            table.mem[t] = node.mem;
            let row = problem.distances.row(at);
            for (cell, &to) in table.distance[t].iter_mut().zip(useful) {
                *cell = row[to];
            }
            table.thin[t] = match node.mem {
                mem if mem > 0.0 => (node.idle / mem, node.cap / mem),
                _ if node.cap > 0.0 => (f64::INFINITY, f64::INFINITY),
                _ => (0.0, 0.0),
            };
            table.even &= useful.iter().all(|&to| row[to] == problem.distances.distance(to, at));
            tail.cpus += table.cpus[t];
            tail.cap += node.cap;
            tail.idle += node.idle;
            tail.mem += node.mem;
            table.tail[t] = tail;
        }
        table
    }

    /// Passes over all sets until the answer stays the same.
    ///
    /// A pass that starts without an answer leaves out only what is too slow for any, and is enough.
    fn run(&mut self, front: &mut ParetoFront, shares: &mut Shares) -> u64 {
        let none = Reach { idle: [0.0; W], cap: [0.0; W] };
        self.known = front.best().is_some();
        let mut steps = 0;
        for pass in 1.. {
            self.known &= pass < PASSES;
            self.learn(front);
            self.stale = false;
            steps += self.extend(0, 0, Sums::default(), &none, front, shares);
            if !self.stale {
                break;
            }
        }
        steps
    }

    /// Adds each node from `start` on to the `size` chosen ones, offers the set and goes on from there.
    fn extend(
        &mut self,
        size: usize,
        start: usize,
        sums: Sums,
        reach: &Reach<W>,
        front: &mut ParetoFront,
        shares: &mut Shares,
    ) -> u64 {
        let mut steps = 0;
        for t in start..self.count {
            if self.is_pointless(sums, self.tail[t], self.most(size + 1)) {
                break;
            }
            steps += 1;
            let sums = self.with(sums, reach, t);
            let last = t + 1 == self.count;
            let worth = self.may_count(sums, self.most(size + 1));
            if last && !worth {
                continue;
            }
            let (idle, cap) = (self.idle[t], self.cap[t]);
            let mut next = *reach;
            for (j, &d) in self.distance[t].iter().enumerate() {
                next.idle[j] += idle * d;
                next.cap[j] += cap * d;
            }
            self.chosen[size] = t;
            if worth {
                self.offer(size + 1, sums, &next, front, shares);
            }
            if !last {
                steps += self.extend(size + 1, t + 1, sums, &next, front, shares);
            }
        }
        steps
    }

    /// Returns the sums with node `t` as well.
    #[inline]
    fn with(&self, sums: Sums, reach: &Reach<W>, t: usize) -> Sums {
        let (idle, cap, own) = (self.idle[t], self.cap[t], self.distance[t][t]);
        let (both, mixed, all) = sums.pairs;
        let thin = self.thin[t];
        Sums {
            cpus: sums.cpus + self.cpus[t],
            cap: sums.cap + cap,
            idle: sums.idle + idle,
            mem: sums.mem + self.mem[t],
            pairs: (
                both + idle * (2.0 * reach.idle[t] + idle * own),
                mixed + 2.0 * (idle * (reach.cap[t] + cap * own) + cap * reach.idle[t]),
                all + cap * (2.0 * reach.cap[t] + cap * own),
            ),
            thin: (max(sums.thin.0, thin.0), max(sums.thin.1, thin.1)),
        }
    }

    /// Reports whether a set is a candidate that may be at most `most` slow, without a loop over its members.
    #[inline]
    fn may_count(&self, sums: Sums, most: f64) -> bool {
        let problem = self.problem;
        if sums.mem < problem.need_mem || sums.cpus < problem.need_cpus || sums.cap <= 0.0 {
            return false;
        }
        let more = (problem.cpus - sums.idle).max(0.0) / sums.cap;
        if (1.0 + more) * self.floor > most {
            return false;
        }
        if !self.even {
            return true;
        }
        let width = 1.0 / problem.cpus.max(sums.idle);
        let fullest = (sums.thin.0 + more * sums.thin.1) * width * problem.mem.min(sums.mem);
        // Not a number: a member without memory in a set without crowding.
        if fullest.is_nan() || fullest > 1.0 - problem.slack {
            return true;
        }
        // Every member holds the memory of its own threads, so the pairs are all there is.
        let (both, mixed, all) = sums.pairs;
        let near = (both + more * (mixed + more * all)) * width * width;
        problem.slowdown(1.0 + more, near) * (1.0 - problem.slack) <= most
    }

    /// Updates the limits from the best set so far.
    fn learn(&mut self, front: &ParetoFront) {
        let best = front.best().filter(|_| self.known);
        let (size, goal) = (best.map_or(W, |best| best.set.len()), front.goal());
        // Sets of more nodes than the answer were left out for being slower than its goal. That still
        // holds for an answer with fewer nodes or a lower goal.
        self.stale |= self.known && (size > self.size || goal > self.goal);
        self.size = size;
        self.limit = above(front.limit());
        self.goal = goal;
    }

    /// Returns the slowdown from which on a set of `size` nodes does not count.
    ///
    /// With more nodes than the answer it must be fast enough to rule that out.
    #[inline]
    fn most(&self, size: usize) -> f64 {
        if size > self.size { self.goal } else { self.limit }
    }

    /// Reports whether neither this set with all of `tail` nor any set between can be the answer.
    fn is_pointless(&self, sums: Sums, tail: Sums, limit: f64) -> bool {
        // Sums in another order may differ in the last digits.
        let problem = self.problem;
        let more = 1.0 + problem.slack;
        // λ falls with every node that comes in, so all of them together have the lowest.
        let crowd = problem.cpus - (sums.idle + tail.idle) * more;
        (sums.mem + tail.mem) * more < problem.need_mem
            || sums.cpus + tail.cpus < problem.need_cpus
            || crowd * self.floor > (limit - self.floor) * (sums.cap + tail.cap) * more
    }

    /// Scores the first `size` chosen nodes without loops over pairs and offers them where they may count.
    fn offer(
        &mut self,
        size: usize,
        sums: Sums,
        reach: &Reach<W>,
        front: &mut ParetoFront,
        shares: &mut Shares,
    ) {
        let problem = self.problem;
        let more = (problem.cpus - sums.idle).max(0.0) / sums.cap;
        let most = self.most(size);
        let width = 1.0 / problem.cpus.max(sums.idle);
        let placed = 1.0 / problem.mem.min(sums.mem);
        let (mut near, mut rest, mut nearest) = (0.0, 1.0, f64::INFINITY);
        for &t in &self.chosen[..size] {
            let share = (self.idle[t] + more * self.cap[t]) * width;
            let hold = self.mem[t] * placed;
            let part = if share < hold { share } else { hold };
            let far = reach.idle[t] + more * reach.cap[t];
            near += part * far;
            rest -= part;
            if far < nearest {
                nearest = far;
            }
        }
        near *= width;
        let mut edge = is_edge(rest);
        if rest > SPILLED {
            // What spills over costs the nearest member's distance at least.
            let least = near + rest * nearest * width;
            if problem.slowdown(1.0 + more, least) * (1.0 - problem.slack) > most {
                return;
            }
            let (cost, on_edge) = self.spill(size, rest, more, width, placed, reach);
            near += cost;
            edge |= on_edge;
        }
        let slowdown_ppm = problem.slowdown(1.0 + more, near);
        let mut whole = rounded(slowdown_ppm);
        // The objective sums in another order: where that could change the last digit, it decides.
        let doubt = (slowdown_ppm * self.doubt).max(1e-4);
        let fraction = slowdown_ppm - slowdown_ppm.floor();
        if edge || (fraction - 0.5).abs() < doubt || doubt > 0.4 {
            whole = self.ask(size, shares);
        }
        #[expect(clippy::cast_precision_loss, reason = "the front compares exactly")]
        if whole as f64 <= most {
            let mut set = [0; W];
            for (at, &t) in set.iter_mut().zip(&self.chosen[..size]) {
                *at = self.at[t];
            }
            front.offer(problem, &set[..size], whole);
            self.learn(front);
        }
    }

    /// Returns what the part `rest` of the memory costs on the members with room, nearest first, and whether
    /// rounding decides where that ends.
    fn spill(
        &self,
        size: usize,
        mut rest: f64,
        more: f64,
        width: f64,
        placed: f64,
        reach: &Reach<W>,
    ) -> (f64, bool) {
        let (mut cost, mut edge) = (0.0, false);
        let mut done = [false; W];
        while rest > SPILLED {
            let mut nearest = None;
            let mut low = f64::INFINITY;
            for &t in &self.chosen[..size] {
                let far = (reach.idle[t] + more * reach.cap[t]) * width;
                if !done[t] && far < low {
                    low = far;
                    nearest = Some(t);
                }
            }
            let Some(t) = nearest else { break };
            done[t] = true;
            let have = self.mem[t] * placed;
            let share = (self.idle[t] + more * self.cap[t]) * width;
            let add = rest.min(have - share.min(have));
            cost += add * low;
            rest -= add;
            edge |= is_edge(rest);
        }
        (cost, edge)
    }

    /// Returns the slowdown by the objective itself, in parts per million.
    fn ask(&self, size: usize, shares: &mut Shares) -> u64 {
        let mut set = [0; W];
        for (at, &t) in set.iter_mut().zip(&self.chosen[..size]) {
            *at = self.at[t];
        }
        self.problem.evaluate(&set[..size], shares).slowdown_ppm
    }
}

/// Reports whether a part of the memory is so close to the limit of nothing that rounding decides.
#[inline]
fn is_edge(rest: f64) -> bool {
    rest > 0.1 * SPILLED && rest < 10.0 * SPILLED
}

/// Returns the larger of two numbers; unlike `f64::max` one instruction.
#[inline]
fn max(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}
