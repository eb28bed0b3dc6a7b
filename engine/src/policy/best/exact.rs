//! Every set of up to 16 useful nodes, one after the other, at a few nanoseconds each.

use super::front::Front;
use super::score::{Case, Shares};

/// Most useful nodes that are enumerated.
pub(crate) const MOST: usize = 16;

/// Up to that many nodes the enumeration is faster than a search.
pub(crate) const FEW: usize = 10;

/// Steps of a search after which a sweep would have been faster.
pub(crate) const EFFORT: u64 = 1_000;

/// The useful nodes side by side, and along the current set what each further node would add.
///
/// `W`: lanes, at least the number of useful nodes, so that the inner loops have a fixed length.
struct Table<'a, const W: usize> {
    case: &'a Case<'a>,
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
    /// Whether a set may have been left out for an answer that no longer stands.
    stale: bool,
    /// Of the answer so far: its nodes, what counts as equal, and what rules it out.
    size: usize,
    limit: f64,
    goal: f64,
    /// Slowdown of a set without crowding and with all memory at the shortest distance, in millionths.
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
    case: &Case<'_>,
    useful: &[usize],
    front: &mut Front,
    shares: &mut Shares,
) -> u64 {
    match useful.len() {
        0..=4 => Table::<4>::new(case, useful).run(front, shares),
        5..=8 => Table::<8>::new(case, useful).run(front, shares),
        _ => Table::<MOST>::new(case, useful).run(front, shares),
    }
}

impl<'a, const W: usize> Table<'a, W> {
    fn new(case: &'a Case<'a>, useful: &[usize]) -> Self {
        let mut table = Self {
            case,
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
            floor: case.slowdown(1.0, case.fabric.lowest()) * (1.0 - 1e-9),
        };
        let mut tail = Sums::default();
        for (t, &at) in useful.iter().enumerate().take(W).rev() {
            let node = &case.nodes[at];
            table.at[t] = at;
            table.cpus[t] = f64::from(node.cpus);
            table.cap[t] = node.cap;
            table.idle[t] = node.idle;
            table.mem[t] = node.mem;
            let row = case.fabric.row(at);
            for (cell, &to) in table.distance[t].iter_mut().zip(useful) {
                *cell = row[to];
            }
            table.thin[t] = match node.mem {
                mem if mem > 0.0 => (node.idle / mem, node.cap / mem),
                _ if node.cap > 0.0 => (f64::INFINITY, f64::INFINITY),
                _ => (0.0, 0.0),
            };
            table.even &= useful.iter().all(|&to| row[to] == case.fabric.distance(to, at));
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
    fn run(&mut self, front: &mut Front, shares: &mut Shares) -> u64 {
        let none = Reach { idle: [0.0; W], cap: [0.0; W] };
        self.known = front.best().is_some();
        let mut steps = 0;
        loop {
            self.learn(front);
            self.stale = false;
            steps += self.extend(0, 0, Sums::default(), &none, front, shares);
            if !self.stale {
                return steps;
            }
        }
    }

    /// Adds each node from `start` on to the `size` chosen ones, offers the set and goes on from there.
    fn extend(
        &mut self,
        size: usize,
        start: usize,
        sums: Sums,
        reach: &Reach<W>,
        front: &mut Front,
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
            thin: (larger(sums.thin.0, thin.0), larger(sums.thin.1, thin.1)),
        }
    }

    /// Says whether a set is a candidate that may be at most `most` slow, without a loop over its members.
    #[inline]
    fn may_count(&self, sums: Sums, most: f64) -> bool {
        let case = self.case;
        if sums.mem < case.need_mem || sums.cpus < case.need_cpus || sums.cap <= 0.0 {
            return false;
        }
        let more = (case.cpus - sums.idle).max(0.0) / sums.cap;
        if (1.0 + more) * self.floor > most {
            return false;
        }
        if !self.even {
            return true;
        }
        let width = 1.0 / case.cpus.max(sums.idle);
        let fullest = (sums.thin.0 + more * sums.thin.1) * width * case.mem.min(sums.mem);
        // Not a number: a member without memory in a set without crowding.
        if fullest.is_nan() || fullest > 1.0 - 1e-9 {
            return true;
        }
        // Every member holds the memory of its own threads, so the pairs are all there is.
        let (both, mixed, all) = sums.pairs;
        let near = (both + more * (mixed + more * all)) * width * width;
        case.slowdown(1.0 + more, near) * (1.0 - 1e-9) <= most
    }

    /// Takes over what the best set so far means for others.
    fn learn(&mut self, front: &Front) {
        let best = front.best().filter(|_| self.known);
        let (size, goal) = (best.map_or(W, |best| best.set.len()), front.goal());
        // Sets of more nodes than the answer were left out for being slower than its goal. That still
        // holds for an answer with fewer nodes or a lower goal.
        self.stale |= self.known && (size > self.size || goal > self.goal);
        self.size = size;
        self.limit = front.limit();
        self.goal = goal;
    }

    /// Returns the slowdown from which on a set of `size` nodes does not count.
    ///
    /// With more nodes than the answer it must be fast enough to rule that out.
    #[inline]
    fn most(&self, size: usize) -> f64 {
        if size > self.size { self.goal } else { self.limit }
    }

    /// Says whether neither this set with all of `tail` nor any set between can be the answer.
    fn is_pointless(&self, sums: Sums, tail: Sums, limit: f64) -> bool {
        // Sums in another order may differ in the last digits.
        const SLACK: f64 = 1.0 + 1e-9;
        let case = self.case;
        // λ falls with every node that comes in, so all of them together have the lowest.
        let crowd = case.cpus - (sums.idle + tail.idle) * SLACK;
        (sums.mem + tail.mem) * SLACK < case.need_mem
            || sums.cpus + tail.cpus < case.need_cpus
            || crowd * self.floor > (limit - self.floor) * (sums.cap + tail.cap) * SLACK
    }

    /// Scores the first `size` chosen nodes without loops over pairs and offers them where they may count.
    fn offer(
        &mut self,
        size: usize,
        sums: Sums,
        reach: &Reach<W>,
        front: &mut Front,
        shares: &mut Shares,
    ) {
        let case = self.case;
        let more = (case.cpus - sums.idle).max(0.0) / sums.cap;
        let most = self.most(size);
        let width = 1.0 / case.cpus.max(sums.idle);
        let placed = 1.0 / case.mem.min(sums.mem);
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
        if rest > 1e-12 {
            // What spills over costs the nearest member's distance at least.
            let least = near + rest * nearest * width;
            if case.slowdown(1.0 + more, least) * (1.0 - 1e-9) > most {
                return;
            }
            near += self.spill(size, rest, more, width, placed, reach);
        }
        let micros = case.slowdown(1.0 + more, near);
        let mut whole = micros.round_ties_even();
        // This sum ran in another order than the objective's: where that could change the last digit, ask it.
        let doubt = (micros * 1e-12).max(1e-4);
        let fraction = micros - micros.floor();

        if (fraction - 0.5).abs() < doubt || doubt > 0.4 {
            whole = self.ask(size, shares);
        }
        if whole <= most {
            let mut set = [0; W];
            for (at, &t) in set.iter_mut().zip(&self.chosen[..size]) {
                *at = self.at[t];
            }
            front.offer(case, &set[..size], whole);
            self.learn(front);
        }
    }

    /// Returns what the part `rest` of the memory costs on the members with room, nearest first.
    fn spill(
        &self,
        size: usize,
        mut rest: f64,
        more: f64,
        width: f64,
        placed: f64,
        reach: &Reach<W>,
    ) -> f64 {
        let mut cost = 0.0;
        let mut done = [false; W];
        while rest > 1e-12 {
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
        }
        cost
    }

    /// Returns what the objective itself says, in millionths.
    fn ask(&self, size: usize, shares: &mut Shares) -> f64 {
        let mut set = [0; W];
        for (at, &t) in set.iter_mut().zip(&self.chosen[..size]) {
            *at = self.at[t];
        }
        self.case.weigh(&set[..size], shares).micros
    }
}

/// Returns the larger of two numbers; unlike `f64::max` one instruction.
#[inline]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}
