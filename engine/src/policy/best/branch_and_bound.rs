//! Branch and bound for hosts with too many sets to try them all. Effort is counted in steps.

use super::bounds::{Bounds, Branch, Membership, Slice};
use super::grow::Growth;
use super::model::Prefer;
use super::objective::{Problem, Shares, Sums};
use super::pareto::{Entry, ParetoFront, above};
use super::solution::Proof;
use super::sweep::{Pass, Sweep};

/// Steps that the range of a sweep may take to find; what is not bounded by then is swept.
pub(crate) const RANGE_EFFORT: u64 = 10_000;

/// Most nodes that sets are grown from.
const ANCHORS: usize = 64;

/// Returns the steps a search takes at most by default, for a host with that many useful nodes.
///
/// A step is about 40 ns: 100,000 are under 5 ms at 64 nodes, 140,000 under 20 ms at 1,024, where the
/// distances no longer fit a cache.
#[must_use]
pub fn default_effort(useful: usize) -> u64 {
    if useful <= 64 { 100_000 } else { 140_000 }
}

/// Buffers of a search.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    bounds: Bounds,
    growth: Growth,
    slices: Vec<Slice>,
    included: Vec<usize>,
    trail: Vec<usize>,
    rooms: Vec<f64>,
    picks: Vec<f64>,
    set: Vec<usize>,
    anchors: Vec<(f64, usize)>,
}

/// The outcome of a search; the answer is in the Pareto front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) steps: u64,
    pub(crate) proof: Proof,
    /// The whole tree was searched: the best set of the Pareto front is exactly the rule's answer.
    pub(crate) complete: bool,
}

/// What a search of the tree looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A set that is enough faster to rule out the answer.
    Faster,
    /// A set that counts as equal and comes first by the rule.
    Better,
}

struct BranchAndBound<'a> {
    problem: &'a Problem<'a>,
    useful: &'a [usize],
    front: &'a mut ParetoFront,
    shares: &'a mut Shares,
    buffers: &'a mut Buffers,
    target: Target,
    /// A subtree with this bound or a higher one is not searched.
    cut: f64,
    /// Nodes and room of the best set so far.
    best: (usize, f64),
    /// Lowest bound of the subtrees that were not searched.
    low: f64,
    steps: u64,
    effort: u64,
}

/// Tries to prove that a single node is the answer, without growing sets. Returns the steps, and whether the
/// best set of the Pareto front is exactly the rule's answer.
pub(crate) fn prove_single_node(
    problem: &Problem<'_>,
    useful: &[usize],
    effort: u64,
    front: &mut ParetoFront,
    shares: &mut Shares,
    buffers: &mut Buffers,
) -> (u64, bool) {
    buffers.start(problem, useful);
    let mut tree = BranchAndBound::new(problem, useful, effort, front, shares, buffers);
    tree.offer_single_nodes();
    if !tree.is_single_node() {
        return (0, false);
    }
    let whole = tree.search_tree(Target::Faster, effort);
    (tree.steps, whole && tree.low >= tree.front.goal() && tree.is_single_node())
}

/// Searches for the answer among sets of the `useful` nodes within `effort` steps.
pub(crate) fn search(
    problem: &Problem<'_>,
    useful: &[usize],
    seeds: &[&[u32]],
    effort: u64,
    front: &mut ParetoFront,
    shares: &mut Shares,
    buffers: &mut Buffers,
) -> Found {
    buffers.start(problem, useful);
    let mut tree = BranchAndBound::new(problem, useful, effort, front, shares, buffers);
    tree.offer_seeds(seeds);
    tree.search_and_prove()
}

impl Buffers {
    /// Prepares for a request.
    fn start(&mut self, problem: &Problem<'_>, useful: &[usize]) {
        self.bounds.start(problem, useful);
        // Nothing of the last request may influence this one.
        self.set.clear();
        self.included.clear();
        self.trail.clear();
        self.rooms.clear();
        self.rooms.resize(problem.nodes.len(), 0.0);
        for &at in useful {
            self.rooms[at] = match problem.prefer {
                Prefer::Room => problem.magnitude(at) as f64,
                Prefer::Pack => -problem.free_share(at),
            };
        }
    }
}

/// Finds the answer among all sets of the `useful` nodes after a search that did not; `None` where that takes
/// more than a sweep. `slack`: [`nodes::SLACK`](super::nodes::SLACK), or less in tests.
pub(crate) fn sweep(
    problem: &Problem<'_>,
    useful: &[usize],
    front: &mut ParetoFront,
    shares: &mut Shares,
    buffers: &mut Buffers,
    slack: f32,
) -> Option<u64> {
    let mut sweep = Sweep::new(problem, useful, slack)?;
    buffers.bounds.start(problem, useful);
    let mut steps = 0;
    for pass in [Pass::FindMinimum, Pass::FindBest] {
        let cut = match pass {
            Pass::FindMinimum => front.low(),
            Pass::FindBest => front.limit(),
        };
        let mut tree = BranchAndBound::new(problem, useful, RANGE_EFFORT, front, shares, buffers);
        let range = tree.range(above(cut));
        steps += tree.steps;
        steps += sweep.run(pass, &range, front, shares);
    }
    Some(steps)
}

/// The sets of a slice that have all included nodes and any of the undecided ones.
#[derive(Clone, Copy)]
struct Subtree {
    /// Its `low` is the best bound known for the subtree.
    slice: Slice,
    /// Sums of the included nodes.
    sums: Sums,
    /// Sums of the included and undecided nodes.
    reachable: Sums,
    /// Room of the included nodes.
    room: f64,
}

/// How the search of a subtree goes on.
enum Next {
    /// No set is left that may count.
    Done,
    /// Many nodes were excluded: bound again.
    Narrow,
    /// The slice is too wide for a good bound.
    Split([Slice; 2]),
    /// Look at the sets with this node, then at those without.
    Decide(usize),
}

impl<'a> BranchAndBound<'a> {
    fn new(
        problem: &'a Problem<'a>,
        useful: &'a [usize],
        effort: u64,
        front: &'a mut ParetoFront,
        shares: &'a mut Shares,
        buffers: &'a mut Buffers,
    ) -> Self {
        Self {
            problem,
            useful,
            front,
            shares,
            buffers,
            target: Target::Faster,
            cut: f64::INFINITY,
            best: (0, 0.0),
            low: f64::INFINITY,
            steps: 0,
            effort,
        }
    }

    /// Offers the seeds, all single nodes, and sets grown and varied from them.
    fn offer_seeds(&mut self, seeds: &[&[u32]]) {
        let (problem, useful) = (self.problem, self.useful);
        for seed in seeds {
            let set = &mut self.buffers.set;
            set.clear();
            set.extend(useful.iter().filter(|&&i| seed.contains(&problem.nodes[i].id)));
            if !set.is_empty() {
                self.front.evaluate_and_offer(problem, set, self.shares);
            }
        }
        self.offer_single_nodes();
        self.buffers.anchors.clear();
        for &at in useful {
            let node = &problem.nodes[at];
            if node.cap > 0.0 {
                let rank = (node.idle / problem.cpus).min(1.0) + (node.mem / problem.mem).min(1.0);
                self.buffers.anchors.push((rank, at));
            }
        }
        // All nodes together are always a candidate.
        self.front.evaluate_and_offer(problem, useful, self.shares);
        let buffers = &mut *self.buffers;
        if buffers.anchors.len() > ANCHORS {
            buffers.anchors.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            buffers.anchors.truncate(ANCHORS);
        }
        for t in 0..buffers.anchors.len() {
            if self.steps * 4 > self.effort {
                break;
            }
            let anchor = buffers.anchors[t].1;
            self.steps += buffers.growth.grow(problem, anchor, useful, self.front, self.shares);
        }
        self.vary(ParetoFront::fastest);
        self.vary(ParetoFront::best);
    }

    fn offer_single_nodes(&mut self) {
        for &at in self.useful {
            if self.problem.single_fits(at) {
                let slowdown_ppm = self.problem.evaluate_single(at).slowdown_ppm;
                self.front.offer(self.problem, &[at], slowdown_ppm);
            }
        }
    }

    /// Reports whether the best set so far is one node: then no set has fewer, and all that have as many
    /// were offered.
    fn is_single_node(&self) -> bool {
        self.front.best().is_some_and(|best| best.set.len() == 1)
    }

    /// Exchanges members of the fastest set, then of the answer, as long as that changes it.
    fn vary(&mut self, of: impl Fn(&ParetoFront) -> Option<&Entry>) {
        for _ in 0..8 {
            let Some(entry) = of(self.front) else { return };
            let buffers = &mut *self.buffers;
            if buffers.set == entry.set || self.steps * 2 > self.effort {
                return;
            }
            buffers.set.clone_from(&entry.set);
            let (set, most) = (&buffers.set, (self.effort / 2).saturating_sub(self.steps));
            self.steps +=
                buffers.growth.vary(self.problem, set, self.useful, most, self.front, self.shares);
        }
    }

    /// Alternates between looking for a better set and for a faster one until the answer stays.
    fn search_and_prove(&mut self) -> Found {
        let mut proven = f64::NEG_INFINITY;
        let mut complete = false;
        loop {
            let half = self.steps + self.effort.saturating_sub(self.steps) / 2;
            let known = self.is_single_node() || self.search_tree(Target::Better, half);
            if let Some(best) = self.front.best() {
                self.buffers.set.clone_from(&best.set);
            }
            let whole = self.search_tree(Target::Faster, self.effort);
            proven = proven.max(self.low);
            // A lower minimum that leaves the answer within 2 % leaves it the best of fewer sets.
            if self.front.best().is_none_or(|best| best.set == self.buffers.set) {
                complete = known && whole && proven >= self.front.goal();
                break;
            }
            if self.steps >= self.effort {
                break;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a gap has no more digits")]
        let slowdown_ppm = self.front.best().map_or(f64::INFINITY, |b| b.slowdown_ppm as f64);
        let proof = if proven >= self.front.goal() {
            Proof::Optimal
        } else {
            Proof::Gap((slowdown_ppm / (proven - 1.0).max(1.0) - 1.0).max(0.02))
        };
        Found { steps: self.steps, proof, complete }
    }

    /// Searches the whole tree for `target`; returns false when the steps ran out.
    ///
    /// Leaves in `low` a bound on the slowdown of all sets.
    fn search_tree(&mut self, target: Target, effort: u64) -> bool {
        let total = self.effort;
        self.effort = effort;
        self.target = target;
        self.low = f64::INFINITY;
        self.update_cut();
        let (problem, useful) = (self.problem, self.useful);
        let mut all = Sums::default();
        for &at in useful {
            all.add(problem, at);
        }
        self.cut_slices(all);
        let slices = std::mem::take(&mut self.buffers.slices);
        for slice in &slices {
            if slice.low >= self.cut || self.steps >= self.effort {
                self.low = self.low.min(slice.low);
            } else {
                let slice = *slice;
                let sums = Sums::default();
                self.explore(Subtree { slice, sums, reachable: all, room: 0.0 });
            }
        }
        self.buffers.slices = slices;
        let whole = self.steps < self.effort;
        self.effort = total;
        whole
    }

    /// Returns the range of all sets that may be below `cut`.
    fn range(&mut self, cut: f64) -> Slice {
        let mut all = Sums::default();
        for &at in self.useful {
            all.add(self.problem, at);
        }
        self.cut = cut;
        self.cut_slices(all);
        let none = (f64::INFINITY, 0.0);
        let hull = |a: (f64, f64), b: (f64, f64)| (a.0.min(b.0), a.1.max(b.1));
        self.buffers.slices.iter().fold(
            Slice { crowding: none, width: none, low: 0.0 },
            |all, one| Slice {
                crowding: hull(all.crowding, one.crowding),
                width: hull(all.width, one.width),
                low: 0.0,
            },
        )
    }

    /// Cuts all sets into the slices whose bound is below the cut, lowest bound first.
    fn cut_slices(&mut self, all: Sums) {
        let problem = self.problem;
        let floor = problem.slowdown(1.0, problem.distances.lowest());
        let crowding = problem.crowding(all.idle, all.cap);
        // Beyond the last crowding even all memory at the shortest distance is too slow, or there is no set.
        let last =
            (self.cut / floor).min(problem.most_crowding(self.useful)) * (1.0 + problem.slack);
        self.low = self.low.min(self.cut);
        self.buffers.slices.clear();
        if all.idle >= problem.cpus * (1.0 - self.problem.slack) {
            self.cut_slice(
                Slice {
                    crowding: (1.0, 1.0),
                    width: (problem.cpus, all.idle.max(problem.cpus)),
                    low: floor,
                },
                all,
            );
        }
        if last >= crowding {
            self.cut_slice(
                Slice {
                    crowding: (crowding, last),
                    width: (problem.cpus, problem.cpus),
                    low: floor,
                },
                all,
            );
        }
        self.buffers.slices.sort_unstable_by(|a, b| {
            let by_crowding = || a.crowding.0.total_cmp(&b.crowding.0);
            let by_width = || a.width.0.total_cmp(&b.width.0);
            a.low.total_cmp(&b.low).then_with(by_crowding).then_with(by_width)
        });
    }

    fn cut_slice(&mut self, mut slice: Slice, all: Sums) {
        if self.steps >= self.effort {
            // A slice is left out by its bound only.
            self.buffers.slices.push(slice);
            return;
        }
        let buffers = &mut *self.buffers;
        let sums = Sums::default();
        let branch = Branch { slice: &slice, included: &[], sums, reachable: all, cut: self.cut };
        let low = buffers.bounds.low(self.problem, &branch, self.useful, &mut buffers.trail);
        slice.low = low;
        self.steps += buffers.bounds.steps();
        for at in buffers.trail.drain(..) {
            buffers.bounds.membership[at] = Membership::Undecided;
        }
        if slice.low >= self.cut {
            self.low = self.low.min(slice.low);
            return;
        }
        match slice.halves(self.cut) {
            Some(halves) => halves.into_iter().for_each(|half| self.cut_slice(half, all)),
            None => self.buffers.slices.push(slice),
        }
    }

    /// Updates what has to be beaten from the Pareto front.
    fn update_cut(&mut self) {
        let Some(best) = self.front.best() else { return };
        self.best = (best.set.len(), best.set.iter().map(|&i| self.buffers.rooms[i]).sum());
        self.cut = match self.target {
            Target::Faster => self.front.goal(),
            Target::Better => above(self.front.limit()),
        };
    }

    /// Looks at all sets of a subtree.
    fn explore(&mut self, mut subtree: Subtree) {
        let mark = self.buffers.trail.len();
        loop {
            match self.narrow(&mut subtree) {
                Next::Done => break,
                Next::Narrow => {}
                Next::Split(halves) => {
                    for slice in halves {
                        self.explore(Subtree { slice, ..subtree });
                    }
                    break;
                }
                Next::Decide(at) => {
                    self.with_node(&subtree, at);
                    self.buffers.bounds.membership[at] = Membership::Excluded;
                    self.buffers.trail.push(at);
                    subtree.reachable.subtract(self.problem, at);
                }
            }
        }
        for at in self.buffers.trail.drain(mark..) {
            self.buffers.bounds.membership[at] = Membership::Undecided;
        }
    }

    /// Bounds a subtree, excludes the nodes that none of its remaining sets has, and says how to go on.
    fn narrow(&mut self, subtree: &mut Subtree) -> Next {
        if self.steps >= self.effort {
            self.low = self.low.min(subtree.slice.low);
            return Next::Done;
        }
        let before = self.buffers.trail.len();
        let bound = self.bound(subtree);
        if self.buffers.trail.len() > before {
            // The sets with the nodes excluded are at the cut or above.
            self.low = self.low.min(self.cut);
        }
        subtree.slice.low = subtree.slice.low.max(bound);
        if subtree.slice.low >= self.cut {
            self.low = self.low.min(subtree.slice.low);
            return Next::Done;
        }
        if self.target == Target::Better && !self.can_be_better(subtree.sums, subtree.room) {
            return Next::Done;
        }
        let excluded = &self.buffers.trail[before..];
        for &at in excluded {
            subtree.reachable.subtract(self.problem, at);
        }
        // With this many nodes fewer another bound is worth its steps.
        if excluded.len() * 8 > self.useful.len() {
            return Next::Narrow;
        }
        let range = Slice { low: subtree.slice.low, ..self.buffers.bounds.range() };
        if let Some(halves) = range.halves(self.cut) {
            return Next::Split(halves);
        }
        self.buffers.bounds.next().map_or(Next::Done, Next::Decide)
    }

    /// Returns a lower bound on the slowdown of a subtree's sets; puts nodes that no set below the cut has on
    /// the trail.
    fn bound(&mut self, subtree: &Subtree) -> f64 {
        let reachable = self.within(subtree.sums, subtree.reachable);
        let Buffers { bounds, included, trail, .. } = &mut *self.buffers;
        let (slice, sums, cut) = (&subtree.slice, subtree.sums, self.cut);
        let branch = Branch { slice, included, sums, reachable, cut };
        let low = bounds.low(self.problem, &branch, self.useful, trail);
        self.steps += bounds.steps();
        low
    }

    /// Looks at the sets of a subtree that have node `at` as well.
    fn with_node(&mut self, subtree: &Subtree, at: usize) {
        let problem = self.problem;
        let place = self.buffers.included.partition_point(|&i| i < at);
        self.buffers.included.insert(place, at);
        self.buffers.bounds.membership[at] = Membership::Included;
        let mut sums = subtree.sums;
        sums.add(problem, at);
        // A set outside the slice is looked at in its own.
        let crowding = problem.crowding(sums.idle, sums.cap);
        if subtree.slice.contains(problem.slack, crowding, problem.cpus.max(sums.idle)) {
            self.steps += self.buffers.included.len() as u64;
            let before = self.front.changes();
            self.front.evaluate_and_offer(problem, &self.buffers.included, self.shares);
            if self.front.changes() != before {
                self.update_cut();
            }
        }
        if self.target == Target::Faster || self.buffers.included.len() < self.best.0 {
            let room = subtree.room + self.buffers.rooms[at];
            self.explore(Subtree { sums, room, ..*subtree });
        }
        self.buffers.included.remove(place);
        self.buffers.bounds.membership[at] = Membership::Undecided;
    }

    /// Reports whether a set with the included nodes can have fewer nodes than the best, or as many and as much
    /// room; excludes nodes with too little.
    fn can_be_better(&mut self, sums: Sums, room: f64) -> bool {
        let (size, most) = self.best;
        let slots = size.saturating_sub(self.buffers.included.len());
        if slots > 1 && self.can_hold(slots - 1, sums) {
            return true;
        }
        if slots == 0 || !self.can_hold(slots, sums) {
            return false;
        }
        // Only sets of as many nodes are left: each node must have the room that the best others lack.
        let buffers = &mut *self.buffers;
        let rooms = &buffers.rooms;
        let membership = &mut buffers.bounds.membership;
        let free = self.useful.iter().filter(|&&i| membership[i] == Membership::Undecided);
        let others = largest(&mut buffers.picks, slots - 1, free.map(|&i| rooms[i]));
        let least = most - room - others;
        let least = least - (most.abs() + room.abs() + others.abs()) * self.problem.slack;
        let mut any = false;
        for &at in self.useful {
            if membership[at] == Membership::Undecided {
                if rooms[at] < least {
                    membership[at] = Membership::Excluded;
                    buffers.trail.push(at);
                } else {
                    any = true;
                }
            }
        }
        any
    }

    /// Returns the most that a set with the included nodes can have: all nodes not excluded, or for a better set
    /// the largest of them, as many as the answer has.
    fn within(&mut self, sums: Sums, mut reachable: Sums) -> Sums {
        if self.target == Target::Better {
            let buffers = &mut *self.buffers;
            let (nodes, membership) = (self.problem.nodes, &buffers.bounds.membership);
            let slots = self.best.0.saturating_sub(buffers.included.len());
            let free = self.useful.iter().filter(|&&i| membership[i] == Membership::Undecided);
            let idle = free.clone().map(|&i| nodes[i].idle);
            let idle = sums.idle + largest(&mut buffers.picks, slots, idle);
            let cap = sums.cap + largest(&mut buffers.picks, slots, free.map(|&i| nodes[i].cap));
            reachable.idle = reachable.idle.min(idle * (1.0 + self.problem.slack));
            reachable.cap = reachable.cap.min(cap * (1.0 + self.problem.slack));
        }
        reachable
    }

    /// Reports whether the included nodes and `slots` more can have all the shares and the memory.
    fn can_hold(&mut self, slots: usize, sums: Sums) -> bool {
        let buffers = &mut *self.buffers;
        let bounds = &buffers.bounds;
        let own: f64 = buffers.included.iter().map(|&i| bounds.most(i)).sum();
        let free = self.useful.iter().filter(|&&i| bounds.membership[i] == Membership::Undecided);
        let shares = largest(&mut buffers.picks, slots, free.clone().map(|&i| bounds.most(i)));
        if own + shares < 1.0 - 2.0 * self.problem.slack {
            return false;
        }
        let mem = largest(&mut buffers.picks, slots, free.map(|&i| self.problem.nodes[i].mem));
        (sums.mem + mem) * (1.0 + self.problem.slack) >= self.problem.need_mem
    }
}

/// Returns the sum of the `count` largest of `values`.
fn largest(picks: &mut Vec<f64>, count: usize, values: impl Iterator<Item = f64>) -> f64 {
    picks.clear();
    picks.extend(values);
    if count < picks.len() && count > 0 {
        picks.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    }
    picks.iter().take(count).sum()
}
