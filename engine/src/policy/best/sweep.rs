//! Every set of 7 to 16 useful nodes at a few nanoseconds each: bounds on many sets side by side, and the
//! objective itself for the few that no bound rules out.
//!
//! A set is a part of the first [`LOW`] nodes and a part of the others. What the parts of the first come to
//! is tabled once; beside each part of the others a set's figures are then sums of two. They run in another
//! order than the objective's and in single precision: they rule sets out, with room for that, and decide
//! nothing.

use super::bound::Slice;
use super::front::Front;
use super::lanes::{LOW, Marks, Part, Table, Verge};
use super::problem::Prefer;
use super::score::{Case, Shares};

/// Most useful nodes that are swept.
pub(crate) const MOST: usize = 16;

/// Room for single precision and another order of sums, relative. What [`is_plain`] asks for keeps the
/// error below half of it.
pub(crate) const SLACK: f32 = 1e-4;

/// The useful nodes side by side: CPUs as parts of the request's, memory as parts of its memory, distances
/// with 1 for local.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) count: usize,
    pub(crate) cpus: [f32; MOST],
    pub(crate) cap: [f32; MOST],
    pub(crate) idle: [f32; MOST],
    pub(crate) mem: [f32; MOST],
    /// Keys add up to the rank of a set by the rule, less is better: one a node, less up to a half in all
    /// for the room.
    pub(crate) key: [f32; MOST],
    /// From the CPUs of to the memory of, and the same both ways.
    pub(crate) distance: [[f32; MOST]; MOST],
    pub(crate) pair: [[f32; MOST]; MOST],
}

/// What a sweep looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quest {
    /// The lowest slowdown.
    Lowest,
    /// With that known, the first by the rule.
    First,
}

/// A request's walk through all sets of a host's useful nodes.
pub(crate) struct Sweep<'a> {
    case: &'a Case<'a>,
    /// Positions on the host, ascending.
    at: [usize; MOST],
    nodes: Nodes,
    table: Table,
    /// What the first nodes, and of the others those from each one on, have together.
    tail: [Part; MOST + 1],
    chosen: [usize; MOST],
    quest: Quest,
    verge: Verge,
    steps: u64,
}

/// Says whether single precision is enough: distances as kernels tell them, not more idle than there is,
/// and nothing beyond all measure.
fn is_plain(case: &Case<'_>, useful: &[usize]) -> bool {
    let nearest = case.fabric.lowest();
    (LOW + 1..=MOST).contains(&useful.len())
        && useful.iter().all(|&at| {
            let (node, row) = (&case.nodes[at], case.fabric.row(at));
            node.idle <= node.cap
                && node.cap <= 1e9 * case.cpus
                && useful.iter().all(|&to| row[to] <= 32.0 * nearest && row[to] <= 1e6)
        })
}

impl<'a> Sweep<'a> {
    /// Returns a sweep of the `useful` nodes; `None` where their number or their figures forbid it.
    pub(crate) fn new(case: &'a Case<'a>, useful: &[usize]) -> Option<Self> {
        if !is_plain(case, useful) {
            return None;
        }
        let nodes = Nodes::new(case, useful);
        let mut at = [0; MOST];
        at[..useful.len()].copy_from_slice(useful);
        let mut first = Part::default();
        (0..LOW).for_each(|t| first.add(&nodes, t));
        let mut tail = [first; MOST + 1];
        for t in (LOW..nodes.count).rev() {
            tail[t] = tail[t + 1];
            tail[t].add(&nodes, t);
        }
        let table = Table::new(&nodes);
        let verge = Verge::default();
        Some(Self {
            case,
            at,
            nodes,
            table,
            tail,
            chosen: [0; MOST],
            quest: Quest::Lowest,
            verge,
            steps: 0,
        })
    }

    /// Offers every set that may be what is looked for, and whose crowding and width are in `range`;
    /// returns how many sets it looked at.
    pub(crate) fn run(
        &mut self,
        quest: Quest,
        range: &Slice,
        front: &mut Front,
        shares: &mut Shares,
    ) -> u64 {
        self.quest = quest;
        self.steps = 0;
        self.verge = Verge::new(self.case, range);
        self.learn(front);
        self.extend(0, LOW, &Part::default(), front, shares);
        self.steps
    }

    /// Takes over what the best sets so far mean for others.
    fn learn(&mut self, front: &Front) {
        let (most, key) = match self.quest {
            Quest::Lowest => (front.low(), f32::INFINITY),
            Quest::First => {
                let best = front.best().map(|best| best.set.as_slice()).unwrap_or_default();
                let keys = self.at.iter().zip(&self.nodes.key).take(self.nodes.count);
                let key: f32 = keys.filter(|(at, _)| best.contains(at)).map(|(_, key)| key).sum();
                (front.limit(), key + SLACK)
            }
        };
        self.verge.most = single(most);
        self.verge.key = key;
    }

    /// Looks at all sets that have, of the nodes from [`LOW`] to `start`, the `size` chosen ones.
    fn extend(
        &mut self,
        size: usize,
        start: usize,
        part: &Part,
        front: &mut Front,
        shares: &mut Shares,
    ) {
        if self.verge.rules_out(part, &self.tail[start]) {
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
    fn block(&mut self, size: usize, part: &Part, front: &mut Front, shares: &mut Shares) {
        self.steps += 1 << LOW;
        let marks = self.table.marks(&self.nodes, part, &self.chosen[..size], &self.verge);
        let Some(Marks(marks)) = marks else { return };
        for (bits, _) in marks.as_flattened().iter().enumerate().filter(|(_, mark)| **mark != 0) {
            let mut set = [0; MOST];
            let first = (0..LOW).filter(|t| bits >> t & 1 == 1);
            let members = first.chain(self.chosen[..size].iter().copied());
            let mut len = 0;
            for (place, t) in set.iter_mut().zip(members) {
                *place = self.at[t];
                len += 1;
            }
            self.steps += 8;
            let before = front.changes();
            if len > 0 {
                self.case.consider(&set[..len], front, shares);
            }
            if front.changes() != before {
                self.learn(front);
            }
        }
    }
}

impl Nodes {
    fn new(case: &Case<'_>, useful: &[usize]) -> Self {
        let zero = [0.0; MOST];
        let mut nodes = Self {
            count: useful.len().min(MOST),
            cpus: zero,
            cap: zero,
            idle: zero,
            mem: zero,
            key: zero,
            distance: [zero; MOST],
            pair: [zero; MOST],
        };
        let room = |at: usize| match case.prefer {
            Prefer::Room => -(case.magnitude(at) as f64),
            Prefer::Pack => case.free_share(at),
        };
        let rooms: f64 = useful.iter().map(|&at| room(at).abs()).sum();
        for (t, &at) in useful.iter().enumerate().take(MOST) {
            let node = &case.nodes[at];
            nodes.cpus[t] = single(f64::from(node.cpus) / case.cpus);
            nodes.cap[t] = single(node.cap / case.cpus);
            nodes.idle[t] = single(node.idle / case.cpus);
            nodes.mem[t] = single(node.mem / case.mem);
            nodes.key[t] = single(1.0 + if rooms > 0.0 { room(at) / (2.0 * rooms) } else { 0.0 });
            let row = case.fabric.row(at);
            for (u, &to) in useful.iter().enumerate().take(MOST) {
                nodes.distance[t][u] = single(row[to] / 10.0);
                nodes.pair[t][u] = single((row[to] + case.fabric.distance(to, at)) / 10.0);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::exact;
    use super::super::problem::{Fabric, Host, Node, Request};
    use super::super::search::{Buffers, sweep};
    use super::*;

    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: u32) -> u32 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(self.0 >> 33).expect("31 bits") % n
        }

        fn real(&mut self, high: f64) -> f64 {
            high * f64::from(self.below(1 << 20)) / f64::from(1 << 20)
        }
    }

    fn host(dice: &mut Dice, count: u32) -> Host {
        let flat = dice.below(2) == 0;
        let mut cells = Vec::new();
        for i in 0..count {
            for j in 0..count {
                let far = if flat { 21 } else { 11 + dice.below(30) };
                cells.push(f64::from(if i == j { 10 } else { far }));
            }
        }
        let full = 0.1 + dice.real(0.9);
        let nodes = (0..count).map(|id| {
            let (cpus, mem) = match dice.below(8) {
                0 => (0, 65_536.0),
                1 => (16, 0.0),
                _ => (16, 65_536.0),
            };
            let cap = f64::from(cpus);
            let (idle, free) = (dice.real(full) * cap, dice.real(full) * mem);
            Node { id, cpus, cap, idle, mem: free, mem_total: mem }
        });
        let fabric = Fabric::new(cells.len().isqrt(), cells).expect("distances");
        Host::new(nodes.collect(), Arc::new(fabric)).expect("a host")
    }

    #[test]
    fn a_sweep_from_nothing_finds_what_the_enumeration_finds() {
        let mut dice = Dice(1);
        let (mut shares, mut buffers, mut swept) = (Shares::default(), Buffers::default(), 0);
        for round in 0..600 {
            let count = 7 + dice.below(7);
            let host = host(&mut dice, count);
            let mut request = Request::new(0.5 + dice.real(40.0), 1.0 + dice.real(120_000.0));
            request.memory_bound = dice.real(1.0);
            request.prefer = if dice.below(3) == 0 { Prefer::Pack } else { Prefer::Room };
            let case = Case::new(&host, &request);
            let useful: Vec<usize> =
                (0..host.nodes.len()).filter(|&i| host.nodes[i].is_useful()).collect();
            let (mut one, mut other) = (Front::default(), Front::default());
            one.clear();
            other.clear();
            exact::enumerate(&case, &useful, &mut one, &mut shares);
            if sweep(&case, &useful, &mut other, &mut shares, &mut buffers).is_none() {
                continue;
            }
            swept += 1;
            let answer = |front: &Front| front.best().map(|best| (best.set.clone(), best.micros));
            assert_eq!(answer(&one), answer(&other), "round {round}: {host:?} {request:?}");
        }
        assert!(swept > 400, "{swept} hosts only");
    }
}
