//! Lower bounds on the slowdown of all sets between some nodes and those plus others.
//!
//! The sets are cut into slices by crowding λ and width W = max(C, F). Within a slice each member's CPU
//! share x = (idle + (λ−1)·cap)/W lies in a known interval, whatever the other members are: the shares are
//! forced to spread over as many nodes as it takes to make 1. So the mean distance to a member's memory is
//! at least what filling 1 from its nearest nodes gives, and the mean over the members at least what filling
//! 1 from the cheapest of those gives.

use super::problem::Hop;
use super::score::Case;

/// Room for sums that ran in another order, relative.
pub(crate) const SLACK: f64 = 1e-9;

/// A range of sets: by crowding (width = the CPUs requested) or, where idle CPUs suffice, by width.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slice {
    pub(crate) crowding: (f64, f64),
    pub(crate) width: (f64, f64),
    /// Lower bound in millionths on the slowdown of the sets in here.
    pub(crate) low: f64,
}

/// Where a node stands in a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stand {
    #[default]
    Out,
    Free,
    In,
}

/// What the nodes that are in, or that are not out, have together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) cpus: f64,
    pub(crate) cap: f64,
    pub(crate) idle: f64,
    pub(crate) mem: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, case: &Case<'_>, at: usize) {
        let node = &case.nodes[at];
        self.cpus += f64::from(node.cpus);
        self.cap += node.cap;
        self.idle += node.idle;
        self.mem += node.mem;
    }

    /// Takes a node's figures out again; up to rounding.
    pub(crate) fn leave(&mut self, case: &Case<'_>, at: usize) {
        let node = &case.nodes[at];
        self.cpus -= f64::from(node.cpus);
        self.cap -= node.cap;
        self.idle -= node.idle;
        self.mem -= node.mem;
        // Less than any capacity there is: what rounding left.
        if self.cap < 1e-7 {
            self.cap = 0.0;
        }
    }
}

/// A node not out and the least that a further share of the guest costs on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    pub(crate) price: f64,
    /// The share that it can take.
    spare: f64,
    pub(crate) at: usize,
}

/// What is asked of a bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch<'a> {
    pub(crate) slice: &'a Slice,
    /// The nodes inside, ascending, and their sums.
    pub(crate) inside: &'a [usize],
    pub(crate) sums: Sums,
    /// Sums of all that are not out.
    pub(crate) reachable: Sums,
    /// The bound from which on the caller stops anyway, in millionths.
    pub(crate) cut: f64,
}

/// Buffers by position on the host, and the state of the nodes that bounds are taken for.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) stand: Vec<Stand>,
    /// Nodes that are not out.
    alive: Vec<usize>,
    /// Part of the request's memory that a node can hold, at most 1.
    hold: Vec<f64>,
    /// Least and most CPU share of a member in the slice.
    least: Vec<f64>,
    most: Vec<f64>,
    /// CPU share that a fill may take from a node: beyond `least` where it is in.
    spare: Vec<f64>,
    /// Part of the memory that a node inside is sure to hold, since its threads run there.
    kept: Vec<f64>,
    /// Part of the memory that a fill may put on a node: beyond `kept` where it is in.
    room: Vec<f64>,
    reach: Vec<f64>,
    /// What a share of a node costs for the memory kept inside.
    cross: Vec<f64>,
    /// After a bound: every node not out.
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
    pub(crate) fn start(&mut self, case: &Case<'_>, useful: &[usize]) {
        let count = case.nodes.len();
        for list in [
            &mut self.hold,
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
        self.stand.clear();
        self.stand.resize(count, Stand::Out);
        for &at in useful {
            self.stand[at] = Stand::Free;
            // A host without enough memory places what the set has, which is `need_mem` at least.
            self.hold[at] = (case.nodes[at].mem / case.need_mem * (1.0 + SLACK)).min(1.0);
        }
        let by_cpus = self.fewest_for(case.need_cpus, useful, |i| f64::from(case.nodes[i].cpus));
        let by_mem = self.fewest_for(case.need_mem, useful, |i| case.nodes[i].mem);
        self.fewest = by_cpus.max(by_mem).max(1);
    }

    fn fewest_for(&mut self, need: f64, useful: &[usize], of: impl Fn(usize) -> f64) -> usize {
        self.sorter.clear();
        self.sorter.extend(useful.iter().map(|&i| of(i)));
        self.sorter.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut sum = 0.0;
        for (count, part) in self.sorter.iter().enumerate() {
            if sum >= need * (1.0 - SLACK) {
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
            if self.stand[p.at] == Stand::Free {
                let idle = self.most[p.at] <= 0.0;
                if best.is_none_or(|(i, price, _)| (idle, p.price) < (i, price)) {
                    best = Some((idle, p.price, p.at));
                }
            }
        }
        best.map(|(_, _, at)| at)
    }

    /// Returns a lower bound in millionths for the sets of a slice that have all nodes inside and, beyond
    /// them, free nodes of `nodes` only; infinite where there is none.
    ///
    /// Puts out, and lists in `gone`, free nodes that no set below the cut can have.
    pub(crate) fn low(
        &mut self,
        case: &Case<'_>,
        branch: &Branch<'_>,
        nodes: &[usize],
        gone: &mut Vec<usize>,
    ) -> f64 {
        self.prices.clear();
        self.steps = 1 + nodes.len() as u64 / 16;
        let Some((crowding, rest)) = self.spread(case, branch, nodes) else { return f64::INFINITY };
        let far = case.near(crowding, branch.cut) * (1.0 + SLACK);
        let short = self.alive.iter().any(|&i| self.hold[i] < self.most[i]);
        // A node costs a fill and two products with each node inside.
        let work = self.alive.len() * (10 + branch.inside.len()) / 10;
        self.steps += work as u64;
        let near = self.near_by_cpus(case, branch.inside, rest, far, gone);
        let low = case.slowdown(crowding, near) * (1.0 - SLACK);
        if low >= branch.cut || !short {
            return low;
        }
        self.steps += work as u64;
        let near = self.near_by_memory(case, branch.inside, rest, far, gone);
        low.max(case.slowdown(crowding, near) * (1.0 - SLACK))
    }

    /// Finds the interval of every node's CPU share, and returns the least crowding and the share that the
    /// nodes inside leave; `None` where no set is in the slice.
    fn spread(
        &mut self,
        case: &Case<'_>,
        branch: &Branch<'_>,
        nodes: &[usize],
    ) -> Option<(f64, f64)> {
        let (sums, reachable) = (branch.sums, branch.reachable);
        if reachable.mem * (1.0 + SLACK) < case.need_mem
            || reachable.cpus < case.need_cpus
            || reachable.cap <= 0.0
        {
            return None;
        }
        // Every node that comes in lowers the crowding and widens the set.
        let (mut crowd_low, mut crowd_high) = branch.slice.crowding;
        let (mut width_low, mut width_high) = branch.slice.width;
        crowd_low = crowd_low.max(case.crowding(reachable.idle, reachable.cap) * (1.0 - SLACK));
        if sums.cap > 0.0 {
            crowd_high = crowd_high.min(case.crowding(sums.idle, sums.cap) * (1.0 + SLACK));
        }
        width_low = width_low.max(sums.idle * (1.0 - SLACK));
        width_high = width_high.min(reachable.idle.max(case.cpus) * (1.0 + SLACK));
        if crowd_low > crowd_high || width_low > width_high {
            return None;
        }
        self.range =
            Slice { crowding: (crowd_low, crowd_high), width: (width_low, width_high), low: 0.0 };
        let (per_low, per_high) = ((1.0 - SLACK) / width_high, (1.0 + SLACK) / width_low);
        let (mut must, mut can, mut least_free) = (0.0, 0.0, f64::INFINITY);
        self.alive.clear();
        for &at in nodes {
            let stand = self.stand[at];
            if stand == Stand::Out {
                self.spare[at] = 0.0;
                self.room[at] = 0.0;
                continue;
            }
            self.alive.push(at);
            let node = &case.nodes[at];
            let least = (node.idle + (crowd_low - 1.0) * node.cap) * per_low;
            let most = less((node.idle + (crowd_high - 1.0) * node.cap) * per_high, 1.0);
            self.least[at] = least;
            self.most[at] = most;
            can += most;
            if stand == Stand::In {
                let kept = less(least, self.hold[at]);
                self.spare[at] = most - least;
                self.kept[at] = kept;
                self.room[at] = self.hold[at] - kept;
                must += least;
            } else {
                self.spare[at] = most;
                self.room[at] = self.hold[at];
                least_free = less(least, least_free);
            }
        }
        let lacking = self.fewest.saturating_sub(branch.inside.len());
        let lacking = u32::try_from(lacking).unwrap_or(u32::MAX);
        let forced = if lacking == 0 { 0.0 } else { f64::from(lacking) * least_free };
        let none = must + forced > 1.0 + 2.0 * SLACK || can < 1.0 - 2.0 * SLACK;
        (!none).then_some((crowd_low, 1.0 - must))
    }

    /// Returns a lower bound on the mean distance from the spread of the CPU shares.
    ///
    /// What the nodes inside cost each other is known. What they and a free node cost each other is put on
    /// the free node, so that the free nodes are chosen once for all of them.
    fn near_by_cpus(
        &mut self,
        case: &Case<'_>,
        inside: &[usize],
        rest: f64,
        far: f64,
        gone: &mut Vec<usize>,
    ) -> f64 {
        let fabric = case.fabric;
        let (mut nearest, mut near, mut spilled) = (f64::INFINITY, 0.0, 0.0);
        for &j in &self.alive {
            let (mut reach, mut cross) = (0.0, 0.0);
            let row = fabric.row(j);
            for &i in inside {
                reach += self.least[i] * fabric.distance(i, j);
                cross += self.kept[i] * row[i];
            }
            if self.stand[j] == Stand::In {
                near += self.kept[j] * reach;
                spilled += self.least[j] - self.kept[j];
            }
            reach += fill(fabric.to(j), &self.spare, rest);
            self.reach[j] = reach;
            self.cross[j] = cross;
            if self.hold[j] > 0.0 {
                nearest = less(reach, nearest);
            }
        }
        // A member's own memory takes what it can hold; what spills over goes to the nearest at best.
        if spilled > 0.0 {
            near += spilled * nearest;
        }
        for &at in &self.alive {
            let (most, hold, reach) = (self.most[at], self.hold[at], self.reach[at]);
            let cost = if hold >= most {
                reach
            } else {
                let cost = |share: f64| share * nearest + less(share, hold) * (reach - nearest);
                let least = if self.stand[at] == Stand::In { self.least[at] } else { 0.0 };
                // The cost bends downwards, so its chord is below it.
                if most - least > 1e-12 {
                    (cost(most) - cost(least)) / (most - least)
                } else {
                    less(reach, nearest)
                }
            };
            self.prices.push(Price { price: self.cross[at] + cost, spare: self.spare[at], at });
        }
        let (cost, margin) = self.take(rest);
        near += cost;
        self.put_out(far - near, margin, gone);
        near
    }

    /// Returns a lower bound on the mean distance from the spread of the memory; the prices stay.
    fn near_by_memory(
        &mut self,
        case: &Case<'_>,
        inside: &[usize],
        rest: f64,
        far: f64,
        gone: &mut Vec<usize>,
    ) -> f64 {
        let fabric = case.fabric;
        let rest_mem = 1.0 - inside.iter().map(|&i| self.kept[i]).sum::<f64>();
        // What memory beyond the kept costs for the threads inside.
        let mut near = 0.0;
        if !inside.is_empty() {
            for t in 0..self.prices.len() {
                let j = self.prices[t].at;
                let mut reach = 0.0;
                for &i in inside {
                    reach += self.least[i] * fabric.distance(i, j);
                }
                if self.stand[j] == Stand::In {
                    near += self.kept[j] * reach;
                }
                self.prices[t] = Price { price: reach, spare: self.room[j], at: j };
            }
            near += self.take(rest_mem).0;
        }
        for t in 0..self.prices.len() {
            let at = self.prices[t].at;
            let price = self.cross[at] + fill(fabric.from(at), &self.room, rest_mem);
            self.prices[t] = Price { price, spare: self.spare[at], at };
        }
        let (cost, margin) = self.take(rest);
        near += cost;
        self.put_out(far - near, margin, gone);
        near
    }

    /// Returns what the share `rest` costs on the cheapest of `prices`, and the price of its last bit.
    fn take(&mut self, rest: f64) -> (f64, f64) {
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
            let part = less(left, p.spare);
            cost += part * p.price;
            left -= part;
        }
        let margin = if have >= rest { taken.last().map(|p| p.price) } else { None };
        (cost, margin.unwrap_or(f64::INFINITY))
    }

    /// Puts out the free nodes whose least share alone would lift the mean distance by more than `slack`.
    fn put_out(&mut self, slack: f64, margin: f64, gone: &mut Vec<usize>) {
        for p in &self.prices {
            if p.price > margin
                && self.stand[p.at] == Stand::Free
                && self.least[p.at] * (p.price - margin) > slack
            {
                self.stand[p.at] = Stand::Out;
                gone.push(p.at);
            }
        }
    }
}

/// Returns what `rest` costs when the nearest nodes take as much as they can.
#[inline]
fn fill(hops: &[Hop], spare: &[f64], rest: f64) -> f64 {
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
fn less(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
