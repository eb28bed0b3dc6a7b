//! Lower bounds on the slowdown of all sets between some nodes and those plus others.
//!
//! The proof is in the module's documentation. The sets are cut into slices by crowding λ and width W = max(C, F). Within a slice each member's CPU
//! share x = (idle + (λ−1)·cap)/W is in a known interval, whatever the other members are: the shares are
//! forced to spread over as many nodes as it takes to make 1. So the mean distance to a member's memory is
//! at least what filling 1 from its nearest nodes gives, and the mean over the members at least what filling
//! 1 from the cheapest of those gives.

use super::model::Neighbour;
use super::objective::{Problem, Sums};

/// A slice is cut while it is wider than the gap between its bound and the cut, and than this, relative.
const FINEST: f64 = 5e-3;

/// A range of sets: by crowding (width = the CPUs requested) or, where idle CPUs suffice, by width.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slice {
    pub(crate) crowding: (f64, f64),
    pub(crate) width: (f64, f64),
    /// Lower bound in parts per million on the slowdown of the sets in here.
    pub(crate) low: f64,
}

impl Slice {
    /// Returns the two halves of a slice that is wide for the gap between its bound and the cut.
    pub(crate) fn halves(self, cut: f64) -> Option<[Self; 2]> {
        let wide = FINEST.max(cut / self.low - 1.0);
        let (a, b) = self.crowding;
        let (c, d) = self.width;
        if b > a * (1.0 + wide) {
            let middle = if b > 2.0 * a { (a * b).sqrt() } else { (a + b) / 2.0 };
            return Some([
                Self { crowding: (a, middle), ..self },
                Self { crowding: (middle, b), ..self },
            ]);
        }
        // The width changes the slowdown only through the shares: an eighth as much in practice.
        if d > c * (1.0 + 8.0 * wide) {
            let middle = (c * d).sqrt();
            return Some([
                Self { width: (c, middle), ..self },
                Self { width: (middle, d), ..self },
            ]);
        }
        None
    }

    /// Reports whether a set of that crowding and width is in the slice, up to rounding.
    pub(crate) fn contains(&self, slack: f64, crowding: f64, width: f64) -> bool {
        let within = |(low, high): (f64, f64), value: f64| {
            value >= low * (1.0 - slack) && value <= high * (1.0 + slack)
        };
        within(self.crowding, crowding) && within(self.width, width)
    }
}

/// Whether a node is in the sets of a subtree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Membership {
    #[default]
    Excluded,
    Undecided,
    Included,
}

/// A node not excluded and the lowest cost of a further share of the guest on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    pub(crate) price: f64,
    /// The share that it can take.
    spare: f64,
    pub(crate) at: usize,
}

/// The sets that a bound is taken for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch<'a> {
    pub(crate) slice: &'a Slice,
    /// The included nodes, ascending, and their sums.
    pub(crate) included: &'a [usize],
    pub(crate) sums: Sums,
    /// Sums of all nodes not excluded.
    pub(crate) reachable: Sums,
    /// The bound from which on the caller stops anyway, in parts per million.
    pub(crate) cut: f64,
}

/// Buffers by position on the host, and the state of the nodes that bounds are taken for.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) membership: Vec<Membership>,
    /// Nodes not excluded.
    open: Vec<usize>,
    /// Most of the guest's memory that a node can hold, as a part of what is placed, at most 1.
    most_held: Vec<f64>,
    /// Least of it that a node can hold, whatever set it is in; less than `most_held` where the host has less
    /// memory than the request, since then each set places what it has.
    least_held: Vec<f64>,
    /// Least and most CPU share of a member in the slice.
    least: Vec<f64>,
    most: Vec<f64>,
    /// CPU share that a fill may take from a node: beyond `least` if it is included.
    spare: Vec<f64>,
    /// Part of the memory that an included node holds at least, since its threads run there.
    kept: Vec<f64>,
    /// Part of the memory that a fill may put on a node: beyond `kept` if it is included.
    room: Vec<f64>,
    reach: Vec<f64>,
    /// Cost of a CPU share on a node for the memory kept on the included ones.
    cross: Vec<f64>,
    /// After a bound: every node not excluded.
    pub(crate) prices: Vec<Price>,
    /// The cheapest of them that make the rest, ascending.
    taken: Vec<Price>,
    /// Fewest nodes that a candidate has.
    pub(crate) fewest: usize,
    sorter: Vec<f64>,
    range: Slice,
    steps: u64,
}

impl Bounds {
    /// Prepares for a request: every useful node free.
    pub(crate) fn start(&mut self, problem: &Problem<'_>, useful: &[usize]) {
        let count = problem.nodes.len();
        for list in [
            &mut self.most_held,
            &mut self.least_held,
            &mut self.least,
            &mut self.most,
            &mut self.spare,
            &mut self.kept,
            &mut self.room,
            &mut self.reach,
            &mut self.cross,
        ] {
            list.clear();
            list.resize(count, 0.0);
        }
        self.membership.clear();
        self.membership.resize(count, Membership::Excluded);
        for &at in useful {
            self.membership[at] = Membership::Undecided;
            // A set places from `need_mem` to `most_mem`.
            let mem = problem.nodes[at].mem;
            self.most_held[at] = (mem / problem.need_mem * (1.0 + problem.slack)).min(1.0);
            self.least_held[at] =
                (mem / problem.max_placed * (1.0 - problem.slack)).clamp(0.0, 1.0);
        }
        let by_cpus = self.fewest_for(problem.need_cpus, problem.slack, useful, |i| {
            f64::from(problem.nodes[i].cpus)
        });
        let by_mem =
            self.fewest_for(problem.need_mem, problem.slack, useful, |i| problem.nodes[i].mem);
        self.fewest = by_cpus.max(by_mem).max(1);
    }

    fn fewest_for(
        &mut self,
        need: f64,
        slack: f64,
        useful: &[usize],
        of: impl Fn(usize) -> f64,
    ) -> usize {
        self.sorter.clear();
        self.sorter.extend(useful.iter().map(|&i| of(i)));
        self.sorter.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut sum = 0.0;
        for (count, part) in self.sorter.iter().enumerate() {
            if sum >= need * (1.0 - slack) {
                return count;
            }
            sum += part;
        }
        self.sorter.len()
    }

    /// Returns the part of the slice of the last bound that its sets can be in.
    pub(crate) fn range(&self) -> Slice {
        self.range
    }

    /// Returns the steps that the last bound counts as: about one for each 40 ns.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns the largest CPU share of a node in the slice that the last bound was for.
    pub(crate) fn most(&self, at: usize) -> f64 {
        self.most[at]
    }

    /// Returns the free node to decide on next: the cheapest that runs threads.
    pub(crate) fn next(&self) -> Option<usize> {
        let mut best: Option<(bool, f64, usize)> = None;
        for p in &self.prices {
            if self.membership[p.at] == Membership::Undecided {
                let idle = self.most[p.at] <= 0.0;
                if best.is_none_or(|(i, price, _)| (idle, p.price) < (i, price)) {
                    best = Some((idle, p.price, p.at));
                }
            }
        }
        best.map(|(_, _, at)| at)
    }

    /// Returns a lower bound in parts per million for the sets of a slice that have all included nodes and, beyond
    /// them, undecided nodes of `nodes` only; infinite where there is none.
    ///
    /// Excludes undecided nodes that no set below the cut has, and lists them in `excluded`.
    pub(crate) fn low(
        &mut self,
        problem: &Problem<'_>,
        branch: &Branch<'_>,
        nodes: &[usize],
        excluded: &mut Vec<usize>,
    ) -> f64 {
        self.prices.clear();
        self.steps = 1 + nodes.len() as u64 / 16;
        let Some((crowding, rest)) = self.spread(problem, branch, nodes) else {
            return f64::INFINITY;
        };
        let far = problem.near(crowding, branch.cut) * (1.0 + problem.slack);
        let short = self.open.iter().any(|&i| self.least_held[i] < self.most[i]);
        // A node costs a fill and two products with each included node.
        let work = self.open.len() * (10 + branch.included.len()) / 10;
        self.steps += work as u64;
        let near = self.near_by_cpus(problem, branch.included, rest, far, excluded);
        let low = problem.slowdown(crowding, near) * (1.0 - problem.slack);
        if low >= branch.cut || !short {
            return low;
        }
        self.steps += work as u64;
        let near = self.near_by_memory(problem, branch.included, rest, far, excluded);
        low.max(problem.slowdown(crowding, near) * (1.0 - problem.slack))
    }

    /// Finds the interval of every node's CPU share, and returns the least crowding and the share that the
    /// included nodes leave; `None` where no set is in the slice.
    fn spread(
        &mut self,
        problem: &Problem<'_>,
        branch: &Branch<'_>,
        nodes: &[usize],
    ) -> Option<(f64, f64)> {
        let (sums, reachable) = (branch.sums, branch.reachable);
        if reachable.mem * (1.0 + problem.slack) < problem.need_mem
            || reachable.cpus < problem.need_cpus
            || reachable.cap <= 0.0
        {
            return None;
        }
        // Every node that comes in lowers the crowding and widens the set.
        let (mut crowd_low, mut crowd_high) = branch.slice.crowding;
        let (mut width_low, mut width_high) = branch.slice.width;
        crowd_low =
            crowd_low.max(problem.crowding(reachable.idle, reachable.cap) * (1.0 - problem.slack));
        if sums.cap > 0.0 {
            crowd_high =
                crowd_high.min(problem.crowding(sums.idle, sums.cap) * (1.0 + problem.slack));
        }
        width_low = width_low.max(sums.idle * (1.0 - problem.slack));
        width_high = width_high.min(reachable.idle.max(problem.cpus) * (1.0 + problem.slack));
        if crowd_low > crowd_high || width_low > width_high {
            return None;
        }
        self.range =
            Slice { crowding: (crowd_low, crowd_high), width: (width_low, width_high), low: 0.0 };
        let (per_low, per_high) =
            ((1.0 - problem.slack) / width_high, (1.0 + problem.slack) / width_low);
        let (mut must, mut can, mut least_free) = (0.0, 0.0, f64::INFINITY);
        self.open.clear();
        for &at in nodes {
            let membership = self.membership[at];
            if membership == Membership::Excluded {
                self.spare[at] = 0.0;
                self.room[at] = 0.0;
                continue;
            }
            self.open.push(at);
            let node = &problem.nodes[at];
            let least = (node.idle + (crowd_low - 1.0) * node.cap) * per_low;
            let most = min((node.idle + (crowd_high - 1.0) * node.cap) * per_high, 1.0);
            self.least[at] = least;
            self.most[at] = most;
            can += most;
            if membership == Membership::Included {
                let kept = min(least, self.least_held[at]);
                self.spare[at] = most - least;
                self.kept[at] = kept;
                self.room[at] = self.most_held[at] - kept;
                must += least;
            } else {
                self.spare[at] = most;
                self.room[at] = self.most_held[at];
                least_free = min(least, least_free);
            }
        }
        let lacking = self.fewest.saturating_sub(branch.included.len());
        let lacking = u32::try_from(lacking).unwrap_or(u32::MAX);
        let forced = if lacking == 0 { 0.0 } else { f64::from(lacking) * least_free };
        let none = must + forced > 1.0 + 2.0 * problem.slack || can < 1.0 - 2.0 * problem.slack;
        (!none).then_some((crowd_low, 1.0 - must))
    }

    /// Returns a lower bound on the mean distance from the spread of the CPU shares.
    ///
    /// The cost among the included nodes is known. The cost between them and an undecided node is counted in its
    /// price, so that one fill of the undecided nodes serves all of them.
    fn near_by_cpus(
        &mut self,
        problem: &Problem<'_>,
        included: &[usize],
        rest: f64,
        far: f64,
        excluded: &mut Vec<usize>,
    ) -> f64 {
        let distances = problem.distances;
        let (mut nearest, mut near, mut spilled) = (f64::INFINITY, 0.0, 0.0);
        for &j in &self.open {
            let (mut reach, mut cross) = (0.0, 0.0);
            let row = distances.row(j);
            for &i in included {
                reach += self.least[i] * distances.distance(i, j);
                cross += self.kept[i] * row[i];
            }
            if self.membership[j] == Membership::Included {
                near += self.kept[j] * reach;
                spilled += self.least[j] - self.kept[j];
            }
            reach += fill(distances.to(j), &self.spare, rest);
            self.reach[j] = reach;
            self.cross[j] = cross;
            if self.most_held[j] > 0.0 {
                nearest = min(reach, nearest);
            }
        }
        // A member's own memory takes what it can hold; what spills over goes to the nearest at best.
        if spilled > 0.0 {
            near += spilled * nearest;
        }
        for &at in &self.open {
            let (most, least_held, reach) = (self.most[at], self.least_held[at], self.reach[at]);
            let cost = if least_held >= most {
                reach
            } else {
                let cost =
                    |share: f64| share * nearest + min(share, least_held) * (reach - nearest);
                let least =
                    if self.membership[at] == Membership::Included { self.least[at] } else { 0.0 };
                // The cost is concave, so its chord is below it.
                if most - least > 1e-12 {
                    (cost(most) - cost(least)) / (most - least)
                } else {
                    min(reach, nearest)
                }
            };
            self.prices.push(Price { price: self.cross[at] + cost, spare: self.spare[at], at });
        }
        let (cost, margin) = self.fill_cheapest(rest);
        near += cost;
        self.exclude_expensive(far - near, margin, excluded);
        near
    }

    /// Returns a lower bound on the mean distance from the spread of the memory; the prices stay.
    fn near_by_memory(
        &mut self,
        problem: &Problem<'_>,
        included: &[usize],
        rest: f64,
        far: f64,
        excluded: &mut Vec<usize>,
    ) -> f64 {
        let distances = problem.distances;
        let rest_mem = 1.0 - included.iter().map(|&i| self.kept[i]).sum::<f64>();
        // Cost of the memory beyond the kept for the threads on the included nodes.
        let mut near = 0.0;
        if !included.is_empty() {
            for t in 0..self.prices.len() {
                let j = self.prices[t].at;
                let mut reach = 0.0;
                for &i in included {
                    reach += self.least[i] * distances.distance(i, j);
                }
                if self.membership[j] == Membership::Included {
                    near += self.kept[j] * reach;
                }
                self.prices[t] = Price { price: reach, spare: self.room[j], at: j };
            }
            near += self.fill_cheapest(rest_mem).0;
        }
        for t in 0..self.prices.len() {
            let at = self.prices[t].at;
            let price = self.cross[at] + fill(distances.from(at), &self.room, rest_mem);
            self.prices[t] = Price { price, spare: self.spare[at], at };
        }
        let (cost, margin) = self.fill_cheapest(rest);
        near += cost;
        self.exclude_expensive(far - near, margin, excluded);
        near
    }

    /// Returns what the share `rest` costs on the cheapest of `prices`, and the price of its last bit.
    fn fill_cheapest(&mut self, rest: f64) -> (f64, f64) {
        let taken = &mut self.taken;
        taken.clear();
        let mut have = 0.0;
        for &p in &self.prices {
            if p.spare <= 0.0 || (have >= rest && taken.last().is_some_and(|l| p.price >= l.price))
            {
                continue;
            }
            let mut place = taken.len();
            while place > 0 && taken[place - 1].price > p.price {
                place -= 1;
            }
            taken.insert(place, p);
            have += p.spare;
            while let Some(last) = taken.last() {
                if have - last.spare < rest {
                    break;
                }
                have -= last.spare;
                taken.pop();
            }
        }
        let mut left = rest;
        let mut cost = 0.0;
        for p in &*taken {
            let part = min(left, p.spare);
            cost += part * p.price;
            left -= part;
        }
        let margin = if have >= rest { taken.last().map(|p| p.price) } else { None };
        (cost, margin.unwrap_or(f64::INFINITY))
    }

    /// Excludes the undecided nodes whose least share alone raises the mean distance by more than `slack`.
    fn exclude_expensive(&mut self, slack: f64, margin: f64, excluded: &mut Vec<usize>) {
        for p in &self.prices {
            if p.price > margin
                && self.membership[p.at] == Membership::Undecided
                && self.least[p.at] * (p.price - margin) > slack
            {
                self.membership[p.at] = Membership::Excluded;
                excluded.push(p.at);
            }
        }
    }
}

/// Returns what `rest` costs when the nearest nodes take as much as they can.
#[inline]
fn fill(hops: &[Neighbour], spare: &[f64], rest: f64) -> f64 {
    let (mut have, mut cost, mut last) = (0.0, 0.0, 0.0);
    for hop in hops {
        let part = spare[hop.node as usize];
        last = hop.distance;
        if have + part >= rest {
            break;
        }
        cost += part * last;
        have += part;
    }
    // Where the list ends before, the farthest in it is nearer than all others.
    cost + (rest - have).max(0.0) * last
}

/// Returns the smaller of two numbers; unlike `f64::min` one instruction.
#[inline]
fn min(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
