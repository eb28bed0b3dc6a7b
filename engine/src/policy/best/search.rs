//! Branch and bound for hosts with too many sets to try them all, by counted steps.

use super::bound::{Bounds, Branch, SLACK, Slice, Stand, Sums};
use super::front::{Entry, Front};
use super::grow::Growth;
use super::problem::Prefer;
use super::score::{Case, Shares};
use super::solve::Proof;
use super::sweep::{Quest, Sweep};

/// A slice is cut while it is wider than the gap between its bound and the cut, and than this, relative.
const FINEST: f64 = 5e-3;

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
    inside: Vec<usize>,
    trail: Vec<usize>,
    rooms: Vec<f64>,
    picks: Vec<f64>,
    set: Vec<usize>,
    anchors: Vec<(f64, usize)>,
}

/// What a search came to; the answer is in the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) steps: u64,
    pub(crate) proof: Proof,
    /// The whole tree was seen: the front's best is the rule's exact answer.
    pub(crate) complete: bool,
}

/// What a walk through the tree is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Is there a set that is enough faster to rule out the answer?
    Faster,
    /// Is there a set that counts as equal and comes first by the rule?
    Better,
}

struct Tree<'a> {
    case: &'a Case<'a>,
    useful: &'a [usize],
    front: &'a mut Front,
    shares: &'a mut Shares,
    buffers: &'a mut Buffers,
    aim: Aim,
    /// Bounds from here on end a branch.
    cut: f64,
    /// Nodes and room of the best set so far.
    best: (usize, f64),
    /// Lowest bound of the branches that were ended or left unseen.
    low: f64,
    steps: u64,
    effort: u64,
}

/// Looks whether one node is the answer: only the bounds of sets that may be faster are asked, and no set is
/// grown. Returns the steps, and whether the front's best is the rule's exact answer.
pub(crate) fn certain(
    case: &Case<'_>,
    useful: &[usize],
    effort: u64,
    front: &mut Front,
    shares: &mut Shares,
    buffers: &mut Buffers,
) -> (u64, bool) {
    buffers.start(case, useful);
    let mut tree = Tree::new(case, useful, effort, front, shares, buffers);
    tree.offer_single_nodes();
    if !tree.is_one_node() {
        return (0, false);
    }
    let whole = tree.walk(Aim::Faster, effort);
    (tree.steps, whole && tree.low >= tree.front.goal() && tree.is_one_node())
}

/// Searches for the answer among sets of the `useful` nodes within `effort` steps.
pub(crate) fn search(
    case: &Case<'_>,
    useful: &[usize],
    seeds: &[&[u32]],
    effort: u64,
    front: &mut Front,
    shares: &mut Shares,
    buffers: &mut Buffers,
) -> Found {
    buffers.start(case, useful);
    let mut tree = Tree::new(case, useful, effort, front, shares, buffers);
    tree.plant(seeds);
    tree.prove()
}

impl Buffers {
    /// Prepares for a request.
    fn start(&mut self, case: &Case<'_>, useful: &[usize]) {
        self.bounds.start(case, useful);
        // What the last answer left must not steer this one.
        self.set.clear();
        self.inside.clear();
        self.trail.clear();
        self.rooms.clear();
        self.rooms.resize(case.nodes.len(), 0.0);
        for &at in useful {
            self.rooms[at] = match case.prefer {
                Prefer::Room => case.magnitude(at) as f64,
                Prefer::Pack => -case.free_share(at),
            };
        }
    }
}

/// Finds the answer among all sets of the `useful` nodes after a search that did not; `None` where that takes
/// more than a sweep.
pub(crate) fn sweep(
    case: &Case<'_>,
    useful: &[usize],
    front: &mut Front,
    shares: &mut Shares,
    buffers: &mut Buffers,
) -> Option<u64> {
    let mut sweep = Sweep::new(case, useful)?;
    buffers.bounds.start(case, useful);
    let mut steps = 0;
    for quest in [Quest::Lowest, Quest::First] {
        let cut = match quest {
            Quest::Lowest => front.low(),
            Quest::First => front.limit(),
        };
        let range = Tree::new(case, useful, u64::MAX, front, shares, buffers).range(cut + 1.0);
        steps += sweep.run(quest, &range, front, shares);
    }
    Some(steps)
}

impl Slice {
    /// Returns the two halves of a slice that is wide for the gap between its bound and the cut.
    fn halves(self, cut: f64) -> Option<[Self; 2]> {
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
        // The slowdown hangs on the width through the shares only, an eighth as much in practice.
        if d > c * (1.0 + 8.0 * wide) {
            let middle = (c * d).sqrt();
            return Some([
                Self { width: (c, middle), ..self },
                Self { width: (middle, d), ..self },
            ]);
        }
        None
    }

    /// Says whether a set of that crowding and width is in the slice, up to rounding.
    fn has(&self, crowding: f64, width: f64) -> bool {
        let within = |(low, high): (f64, f64), value: f64| {
            value >= low * (1.0 - SLACK) && value <= high * (1.0 + SLACK)
        };
        within(self.crowding, crowding) && within(self.width, width)
    }
}

impl<'a> Tree<'a> {
    fn new(
        case: &'a Case<'a>,
        useful: &'a [usize],
        effort: u64,
        front: &'a mut Front,
        shares: &'a mut Shares,
        buffers: &'a mut Buffers,
    ) -> Self {
        Self {
            case,
            useful,
            front,
            shares,
            buffers,
            aim: Aim::Faster,
            cut: f64::INFINITY,
            best: (0, 0.0),
            low: f64::INFINITY,
            steps: 0,
            effort,
        }
    }

    /// Offers the seeds, all single nodes, and sets grown and varied.
    fn plant(&mut self, seeds: &[&[u32]]) {
        let (case, useful) = (self.case, self.useful);
        for seed in seeds {
            let set = &mut self.buffers.set;
            set.clear();
            set.extend(useful.iter().filter(|&&i| seed.contains(&case.nodes[i].id)));
            if !set.is_empty() {
                case.consider(set, self.front, self.shares);
            }
        }
        self.offer_single_nodes();
        self.buffers.anchors.clear();
        for &at in useful {
            let node = &case.nodes[at];
            if node.cap > 0.0 {
                let rank = (node.idle / case.cpus).min(1.0) + (node.mem / case.mem).min(1.0);
                self.buffers.anchors.push((rank, at));
            }
        }
        // The whole is a candidate, whatever else is.
        case.consider(useful, self.front, self.shares);
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
            self.steps += buffers.growth.grow(case, anchor, useful, self.front, self.shares);
        }
        self.vary(Front::fastest);
        self.vary(Front::best);
    }

    fn offer_single_nodes(&mut self) {
        for &at in self.useful {
            if self.case.holds_alone(at) {
                let micros = self.case.weigh_one(at).micros;
                self.front.offer(self.case, &[at], micros);
            }
        }
    }

    /// Says whether the best set so far is one node: then no set has fewer, and all that have as many
    /// were offered.
    fn is_one_node(&self) -> bool {
        self.front.best().is_some_and(|best| best.set.len() == 1)
    }

    /// Exchanges members of the fastest set, then of the answer, as long as that changes it.
    fn vary(&mut self, of: impl Fn(&Front) -> Option<&Entry>) {
        for _ in 0..8 {
            let Some(entry) = of(self.front) else { return };
            let buffers = &mut *self.buffers;
            if buffers.set == entry.set || self.steps * 2 > self.effort {
                return;
            }
            buffers.set.clone_from(&entry.set);
            let (set, most) = (&buffers.set, (self.effort / 2).saturating_sub(self.steps));
            self.steps +=
                buffers.growth.vary(self.case, set, self.useful, most, self.front, self.shares);
        }
    }

    /// Alternates between looking for a better set and for a faster one until the answer stays.
    fn prove(&mut self) -> Found {
        let mut proven = f64::NEG_INFINITY;
        let mut complete = false;
        loop {
            let half = self.steps + self.effort.saturating_sub(self.steps) / 2;
            let known = self.is_one_node() || self.walk(Aim::Better, half);
            if let Some(best) = self.front.best() {
                self.buffers.set.clone_from(&best.set);
            }
            let whole = self.walk(Aim::Faster, self.effort);
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
        let micros = self.front.best().map_or(f64::INFINITY, |b| b.micros);
        let proof = if proven >= self.front.goal() {
            Proof::Optimal
        } else {
            Proof::Gap((micros / (proven - 1.0).max(1.0) - 1.0).max(0.02))
        };
        Found { steps: self.steps, proof, complete }
    }

    /// Walks the whole tree for `aim`; false when the steps ended before.
    ///
    /// Leaves in `low` a bound on the slowdown of all sets.
    fn walk(&mut self, aim: Aim, effort: u64) -> bool {
        let total = self.effort;
        self.effort = effort;
        self.aim = aim;
        self.low = f64::INFINITY;
        self.aim_again();
        let (case, useful) = (self.case, self.useful);
        let mut all = Sums::default();
        for &at in useful {
            all.add(case, at);
        }
        self.cut_slices(all);
        let slices = std::mem::take(&mut self.buffers.slices);
        for slice in &slices {
            if slice.low >= self.cut || self.steps >= self.effort {
                self.low = self.low.min(slice.low);
            } else {
                self.explore(slice, Sums::default(), all, 0.0, slice.low);
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
            all.add(self.case, at);
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

    /// Cuts all sets into slices that their bound does not end, lowest bound first.
    fn cut_slices(&mut self, all: Sums) {
        let case = self.case;
        let floor = case.slowdown(1.0, case.fabric.lowest());
        let crowding = case.crowding(all.idle, all.cap);
        // Beyond the last crowding even all memory at the shortest distance is too slow.
        let last = self.cut.min(case.slowdown(1e9, 1e3)) / floor;
        self.low = self.low.min(self.cut);
        self.buffers.slices.clear();
        if all.idle >= case.cpus * (1.0 - SLACK) {
            self.cut_slice(
                Slice {
                    crowding: (1.0, 1.0),
                    width: (case.cpus, all.idle.max(case.cpus)),
                    low: floor,
                },
                all,
            );
        }
        if last >= crowding {
            self.cut_slice(
                Slice { crowding: (crowding, last), width: (case.cpus, case.cpus), low: floor },
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
            self.low = self.low.min(slice.low);
            return;
        }
        let buffers = &mut *self.buffers;
        let sums = Sums::default();
        let branch = Branch { slice: &slice, inside: &[], sums, reachable: all, cut: self.cut };
        let low = buffers.bounds.low(self.case, &branch, self.useful, &mut buffers.trail);
        slice.low = low;
        self.steps += buffers.bounds.steps();
        for at in buffers.trail.drain(..) {
            buffers.bounds.stand[at] = Stand::Free;
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

    /// Takes over what the front has as the mark to beat.
    fn aim_again(&mut self) {
        let Some(best) = self.front.best() else { return };
        self.best = (best.set.len(), best.set.iter().map(|&i| self.buffers.rooms[i]).sum());
        self.cut = match self.aim {
            Aim::Faster => self.front.goal(),
            Aim::Better => self.front.limit() + 1.0,
        };
    }

    /// Sees all sets of `slice` that have the nodes inside and any of the free ones.
    ///
    /// `sums`, `room`: of the nodes inside; `reachable`: of all not out; `low`: a bound known before.
    fn explore(&mut self, slice: &Slice, sums: Sums, mut reachable: Sums, room: f64, low: f64) {
        let (case, useful) = (self.case, self.useful);
        let mark = self.buffers.trail.len();
        let mut low = low;
        loop {
            if self.steps >= self.effort {
                self.low = self.low.min(low);
                break;
            }
            let within = self.within(sums, reachable);
            let buffers = &mut *self.buffers;
            let before = buffers.trail.len();
            let inside = &buffers.inside;
            let branch = Branch { slice, inside, sums, reachable: within, cut: self.cut };
            let gone = &mut buffers.trail;
            let bound = buffers.bounds.low(case, &branch, useful, gone);
            self.steps += buffers.bounds.steps();
            if gone.len() > before {
                // The sets with these were ended at this cut.
                self.low = self.low.min(self.cut);
            }
            low = low.max(bound);
            if low >= self.cut {
                self.low = self.low.min(low);
                break;
            }
            if self.aim == Aim::Better && !self.can_be_better(sums, room) {
                break;
            }
            let gone = &self.buffers.trail[before..];
            let fewer = gone.len();
            for &at in gone {
                reachable.leave(case, at);
            }
            if fewer * 8 > useful.len() {
                continue;
            }
            if let Some(halves) = (Slice { low, ..self.buffers.bounds.range() }).halves(self.cut) {
                for half in halves {
                    self.explore(&half, sums, reachable, room, low);
                }
                break;
            }
            let Some(at) = self.buffers.bounds.next() else { break };
            self.enter(slice, sums, reachable, room, low, at);
            self.buffers.bounds.stand[at] = Stand::Out;
            self.buffers.trail.push(at);
            reachable.leave(case, at);
        }
        for at in self.buffers.trail.drain(mark..) {
            self.buffers.bounds.stand[at] = Stand::Free;
        }
    }

    /// Sees the sets that have node `at` as well.
    fn enter(
        &mut self,
        slice: &Slice,
        sums: Sums,
        reachable: Sums,
        room: f64,
        low: f64,
        at: usize,
    ) {
        let case = self.case;
        let place = self.buffers.inside.partition_point(|&i| i < at);
        self.buffers.inside.insert(place, at);
        self.buffers.bounds.stand[at] = Stand::In;
        let mut with = sums;
        with.add(case, at);
        // The other slices' sets are not this one's business.
        if slice.has(case.crowding(with.idle, with.cap), case.cpus.max(with.idle)) {
            self.steps += self.buffers.inside.len() as u64;
            let before = self.front.changes();
            case.consider(&self.buffers.inside, self.front, self.shares);
            if self.front.changes() != before {
                self.aim_again();
            }
        }
        let room = room + self.buffers.rooms[at];
        if self.aim == Aim::Faster || self.buffers.inside.len() < self.best.0 {
            self.explore(slice, with, reachable, room, low);
        }
        self.buffers.inside.remove(place);
        self.buffers.bounds.stand[at] = Stand::Free;
    }

    /// Says whether a set with the nodes inside can have fewer nodes than the best, or as many and as much
    /// room.
    fn can_be_better(&mut self, sums: Sums, room: f64) -> bool {
        let (size, most) = self.best;
        let slots = size.saturating_sub(self.buffers.inside.len());
        if slots > 1 && self.can_hold(slots - 1, sums) {
            return true;
        }
        if slots == 0 || !self.can_hold(slots, sums) {
            return false;
        }
        // As many nodes it is then, and each must bring what the best others cannot.
        let buffers = &mut *self.buffers;
        let rooms = &buffers.rooms;
        let stand = &mut buffers.bounds.stand;
        let free = self.useful.iter().filter(|&&i| stand[i] == Stand::Free);
        let others = largest(&mut buffers.picks, slots - 1, free.map(|&i| rooms[i]));
        let least = most - room - others;
        let least = least - (most.abs() + room.abs() + others.abs()) * SLACK;
        let mut any = false;
        for &at in self.useful {
            if stand[at] == Stand::Free {
                if rooms[at] < least {
                    stand[at] = Stand::Out;
                    buffers.trail.push(at);
                } else {
                    any = true;
                }
            }
        }
        any
    }

    /// Returns the most that a set with the nodes inside can have: all that are not out, or for a better set
    /// the largest of them, as many as the answer has.
    fn within(&mut self, sums: Sums, mut reachable: Sums) -> Sums {
        if self.aim == Aim::Better {
            let buffers = &mut *self.buffers;
            let (nodes, stand) = (self.case.nodes, &buffers.bounds.stand);
            let slots = self.best.0.saturating_sub(buffers.inside.len());
            let free = self.useful.iter().filter(|&&i| stand[i] == Stand::Free);
            let idle = free.clone().map(|&i| nodes[i].idle);
            let idle = sums.idle + largest(&mut buffers.picks, slots, idle);
            let cap = sums.cap + largest(&mut buffers.picks, slots, free.map(|&i| nodes[i].cap));
            reachable.idle = reachable.idle.min(idle * (1.0 + SLACK));
            reachable.cap = reachable.cap.min(cap * (1.0 + SLACK));
        }
        reachable
    }

    /// Says whether the nodes inside and `slots` more can have all the shares and the memory.
    fn can_hold(&mut self, slots: usize, sums: Sums) -> bool {
        let buffers = &mut *self.buffers;
        let bounds = &buffers.bounds;
        let own: f64 = buffers.inside.iter().map(|&i| bounds.most(i)).sum();
        let free = self.useful.iter().filter(|&&i| bounds.stand[i] == Stand::Free);
        let shares = largest(&mut buffers.picks, slots, free.clone().map(|&i| bounds.most(i)));
        if own + shares < 1.0 - 2.0 * SLACK {
            return false;
        }
        let mem = largest(&mut buffers.picks, slots, free.map(|&i| self.case.nodes[i].mem));
        (sums.mem + mem) * (1.0 + SLACK) >= self.case.need_mem
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
