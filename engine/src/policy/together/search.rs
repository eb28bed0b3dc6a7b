//! Branch and bound over the guests in the order in which they are charged.

use super::bound::{self, Buffer};
use super::model::{Guest, Place, Plan, Question};
use super::state::State;
use crate::policy::best::{self, Host, Prediction, Problem, Proof, Shares, Sums, Workspace};

/// Most guests of one plan.
pub const MAX_GUESTS: usize = 256;

/// Up to that many useful nodes all their sets are looked at; beyond, single nodes and what policy `best` chooses.
const ALL_SETS: usize = 10;

/// How many sets of each guest the passes of the search go on with; the last pass leaves none out.
const WIDTHS: [usize; 4] = [1, 2, 4, usize::MAX];

/// The part of the effort that each pass but the last may take.
const PASS: u64 = 6;

/// Returns the steps that a search takes at most: some 3 ms, and no limit up to 4 guests on 6 useful nodes.
pub fn default_effort(guests: usize, useful: usize) -> u64 {
    if guests <= 4 && useful <= 6 { u64::MAX } else { 30_000 }
}

/// What plans are compared by: less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// Guests that do not fit.
    refused: usize,
    /// Slowdowns in parts per million, each times its guest's weight.
    total: u128,
    /// Nodes of all sets.
    nodes: usize,
}

const NOTHING: Cost = Cost { refused: 0, total: 0, nodes: 0 };

/// Places several guests at once. See the module's documentation. Guests beyond [`MAX_GUESTS`] are refused.
pub fn solve(host: &Host, question: &Question<'_>) -> Plan {
    let mut search = Search::new(host, question);
    search.one_by_one(&[]);
    let least = search.bounds(0);
    search.without_the_largest(least.refused);
    if search.best > least {
        search.passes();
    }
    search.plan(least)
}

/// A set that a guest may be placed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Child {
    slowdown_ppm: u64,
    nodes: usize,
    /// Its memory in whole MiB: sets that are as good are tried by how little they would have left.
    memory: u64,
    /// Its position in `Search::sets`.
    set: usize,
}

/// Reusable for the guests of one depth.
#[derive(Debug, Default)]
struct Level {
    children: Vec<Child>,
    /// Lower bounds in parts per million for this guest and all after it; `None` for one that does not fit.
    bounds: Vec<Option<u64>>,
}

struct Search<'a> {
    question: &'a Question<'a>,
    /// Guests in the order in which they are charged.
    guests: Vec<Guest>,
    /// Their positions as given.
    order: Vec<usize>,
    /// The state before each guest is charged, and after the last.
    states: Vec<State>,
    levels: Vec<Level>,
    /// Ascending positions. The first are all sets of useful nodes, or each one alone.
    sets: Vec<Vec<usize>>,
    all_sets: bool,
    /// How many those are.
    listed: usize,
    chosen: Vec<Option<usize>>,
    best: Cost,
    best_chosen: Vec<Option<usize>>,
    least: Cost,
    steps: u64,
    limit: u64,
    effort: u64,
    /// What policy `best` may take of it for one guest, where it does not look at all sets.
    each: Option<u64>,
    width: usize,
    /// Whether this pass left something out.
    cut: bool,
    complete: bool,
    shares: Shares,
    buffer: Buffer,
    space: Workspace,
}

impl<'a> Search<'a> {
    fn new(host: &Host, question: &'a Question<'a>) -> Self {
        let mut order: Vec<usize> = (0..question.guests.len().min(MAX_GUESTS)).collect();
        // Largest first. Guests that are alike are neighbours, in the order given.
        order.sort_by_key(|&at| (std::cmp::Reverse(question.guests[at]), at));
        let guests: Vec<Guest> = order.iter().map(|&at| question.guests[at]).collect();
        let useful: Vec<usize> =
            (0..host.nodes().len()).filter(|&at| host.nodes()[at].is_useful()).collect();
        let all_sets = useful.len() <= ALL_SETS;
        let sets: Vec<Vec<usize>> = if all_sets {
            let members = |mask: usize| {
                let set = useful.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
                set.map(|(_, &at)| at).collect()
            };
            (1..1 << useful.len()).map(members).collect()
        } else {
            useful.iter().map(|&at| vec![at]).collect()
        };
        let count = guests.len();
        let effort = question.effort.unwrap_or_else(|| default_effort(count, useful.len()));
        Self {
            question,
            states: vec![State::new(host, question); count + 1],
            levels: std::iter::repeat_with(Level::default).take(count + 1).collect(),
            guests,
            order,
            listed: sets.len(),
            sets,
            all_sets,
            chosen: vec![None; count],
            best: Cost { refused: usize::MAX, ..NOTHING },
            best_chosen: vec![None; count],
            least: NOTHING,
            steps: 0,
            limit: effort,
            effort,
            each: Some(default_effort(count, usize::MAX) / count.max(1) as u64),
            width: usize::MAX,
            cut: false,
            complete: false,
            shares: Shares::default(),
            buffer: Buffer::default(),
            space: Workspace::new(),
        }
    }

    /// Refuses the largest guests where that leaves room for more of the others: by their memory, and where each has
    /// CPUs of its own by these. `least` guests have to be refused.
    fn without_the_largest(&mut self, least: usize) {
        let by_memory: Vec<usize> = (0..self.guests.len()).collect();
        let mut by_cpus = by_memory.clone();
        by_cpus.sort_by_key(|&depth| (std::cmp::Reverse(self.guests[depth].cpus), depth));
        let orders =
            if self.question.own_cpus { vec![by_memory, by_cpus] } else { vec![by_memory] };
        for order in orders {
            for count in least.max(1)..self.best.refused {
                if self.one_by_one(&order[..count]) == count {
                    break;
                }
            }
        }
    }

    /// Places each guest by policy `best`, but those at the depths in `refused`: a plan to start from. Returns how many
    /// guests it refuses.
    fn one_by_one(&mut self, refused: &[usize]) -> usize {
        let mut cost = NOTHING;
        for depth in 0..self.guests.len() {
            let guest = self.guests[depth];
            let request = State::request(self.question, guest);
            let set = {
                let state = &self.states[depth];
                let problem = Problem::new(&state.host, &request);
                if state.fits(&problem, guest) && !refused.contains(&depth) {
                    let request = best::Request { effort: self.each, ..request };
                    let found = best::solve(&state.host, &request, &mut self.space);
                    let nodes = state.host.nodes();
                    let at = |id: &u32| nodes.binary_search_by_key(id, |node| node.id).ok();
                    Some(found.nodes.iter().filter_map(at).collect::<Vec<usize>>())
                } else {
                    None
                }
            };
            self.chosen[depth] = set.map(|set| self.intern(set));
            cost = self.charge(depth, cost);
        }
        self.keep(cost);
        cost.refused
    }

    /// Returns the position of a set among the sets.
    fn intern(&mut self, set: Vec<usize>) -> usize {
        if let Some(at) = self.sets.iter().position(|known| *known == set) {
            return at;
        }
        self.sets.push(set);
        self.sets.len() - 1
    }

    /// Charges the guest of a depth on its chosen set, or refuses it; returns the cost with that.
    fn charge(&mut self, depth: usize, cost: Cost) -> Cost {
        let guest = self.guests[depth];
        let (before, after) = self.states.split_at_mut(depth + 1);
        let (Some(state), Some(next)) = (before.last(), after.first_mut()) else { return cost };
        let Some(set) = self.chosen[depth] else {
            next.clone_from(state);
            return Cost { refused: cost.refused + 1, ..cost };
        };
        let set = &self.sets[set];
        let request = State::request(self.question, guest);
        let score = Problem::new(&state.host, &request).evaluate(set, &mut self.shares);
        state.charge(self.question, guest, set, &self.shares, next);
        let weighed = u128::from(score.slowdown_ppm) * u128::from(guest.weight());
        Cost {
            refused: cost.refused,
            total: cost.total.saturating_add(weighed),
            nodes: cost.nodes + set.len(),
        }
    }

    /// Keeps the chosen plan if it is better than all before.
    fn keep(&mut self, cost: Cost) {
        if cost < self.best {
            self.best = cost;
            self.best_chosen.clone_from(&self.chosen);
        }
    }

    /// Makes the bounds of a depth's guest and all after it on its state. Returns what these cost at least.
    fn bounds(&mut self, depth: usize) -> Cost {
        let mut bounds = std::mem::take(&mut self.levels[depth].bounds);
        bounds.clear();
        let state = &self.states[depth];
        let count = state.host.nodes().len() as u64;
        for at in depth..self.guests.len() {
            if at > depth && self.guests[at] == self.guests[at - 1] {
                bounds.extend(bounds.last().copied());
                continue;
            }
            let guest = self.guests[at];
            let request = State::request(self.question, guest);
            let problem = Problem::new(&state.host, &request);
            let fits = state.fits(&problem, guest);
            self.steps += 1 + count * count / 16;
            bounds.push(fits.then(|| bound::lowest(&problem, &mut self.buffer)));
        }
        self.levels[depth].bounds = bounds;
        self.least_of(depth, depth)
    }

    /// Returns what the guests from `from` on cost at least, by the bounds of a depth.
    fn least_of(&self, depth: usize, from: usize) -> Cost {
        let level = &self.levels[depth];
        let bounds = level.bounds.get(from - depth..).unwrap_or_default();
        let guests = &self.guests[from..];
        let refused = self.least_refused(depth, guests, bounds);
        let placed = guests.len() - refused;
        let mut weighed: Vec<u128> = Vec::with_capacity(guests.len());
        for (guest, bound) in guests.iter().zip(bounds) {
            let slowdown = bound.unwrap_or(0);
            weighed.push(u128::from(slowdown) * u128::from(guest.weight()));
        }
        if refused > 0 {
            // Those that are refused may be those that would cost most.
            weighed.sort_unstable();
        }
        let total = weighed.iter().take(placed).fold(0u128, |sum, cost| sum.saturating_add(*cost));
        Cost { refused, total, nodes: placed }
    }

    /// Returns how many of the guests cannot have their memory at least, or own CPUs, since there is less of it.
    fn least_refused(&self, depth: usize, guests: &[Guest], bounds: &[Option<u64>]) -> usize {
        let state = &self.states[depth];
        let nodes = state.host.nodes();
        // Each part of a guest is rounded to a byte, and 1e-12 of its memory may be placed nowhere.
        let most = state.most_bytes();
        let mut sum = 0u128;
        let mut fit = 0;
        for (guest, _) in guests.iter().zip(bounds).rev().filter(|(_, bound)| bound.is_some()) {
            let memory = u128::from(guest.memory.get());
            sum += memory - (memory >> 30) - (nodes.len() as u128).min(memory >> 10);
            if sum > most {
                break;
            }
            fit += 1;
        }
        if self.question.own_cpus {
            let free: u64 = nodes.iter().map(|node| u64::from(node.cpus)).sum();
            let there = guests.iter().zip(bounds).filter(|(_, bound)| bound.is_some());
            let mut cpus: Vec<u64> =
                there.map(|(guest, _)| guest.cpus.hundredths().div_ceil(100).max(1)).collect();
            cpus.sort_unstable();
            let mut sum = 0u64;
            let within = |cpus: &&u64| {
                sum = sum.saturating_add(**cpus);
                sum <= free
            };
            fit = fit.min(cpus.iter().take_while(within).count());
        }
        guests.len() - fit
    }

    /// Searches, wider from pass to pass, until nothing was left out or the effort is used up.
    fn passes(&mut self) {
        self.least = self.bounds(0);
        for width in WIDTHS {
            self.width = width;
            self.cut = false;
            let last = width == usize::MAX;
            let part = if last { self.effort } else { self.effort / PASS };
            self.limit = if last { self.effort } else { self.steps.saturating_add(part) };
            self.limit = self.limit.min(self.effort);
            self.extend(0, NOTHING);
            if !self.cut {
                self.complete = self.all_sets;
                return;
            }
            if self.best <= self.least {
                return;
            }
        }
    }

    /// Tries every set for the guest of a depth that can lead to a better plan.
    fn extend(&mut self, depth: usize, cost: Cost) {
        if depth == self.guests.len() {
            self.keep(cost);
            return;
        }
        if self.steps >= self.limit {
            self.cut = true;
            return;
        }
        let least = self.least_of(depth, depth + 1);
        let guest = self.guests[depth];
        let twin = depth > 0 && self.guests[depth - 1] == guest;
        let mut children = std::mem::take(&mut self.levels[depth].children);
        children.clear();
        // Of guests that are alike the first ones are placed.
        let refuse_only = twin && self.chosen[depth - 1].is_none();
        if !refuse_only && self.levels[depth].bounds.first().copied().flatten().is_some() {
            self.find_children(depth, cost, least, &mut children);
        }
        children.sort_unstable();
        if children.len() > self.width {
            self.cut = true;
            children.truncate(self.width);
        }
        for child in &children {
            if self.steps >= self.limit {
                self.cut = true;
                break;
            }
            let with = self.with(cost, guest, child.slowdown_ppm, child.nodes);
            if sum(with, least) >= self.best {
                continue;
            }
            self.chosen[depth] = Some(child.set);
            let next = self.charge(depth, cost);
            let rest = self.bounds(depth + 1);
            if sum(next, rest) < self.best {
                self.extend(depth + 1, next);
            }
        }
        self.levels[depth].children = children;
        let refused = Cost { refused: cost.refused + 1, ..cost };
        if sum(refused, least) < self.best {
            self.chosen[depth] = None;
            let next = self.charge(depth, cost);
            let rest = self.bounds(depth + 1);
            if sum(next, rest) < self.best {
                self.extend(depth + 1, next);
            }
        }
    }

    fn with(&self, cost: Cost, guest: Guest, slowdown_ppm: u64, nodes: usize) -> Cost {
        let weighed = u128::from(slowdown_ppm) * u128::from(guest.weight());
        let total = cost.total.saturating_add(weighed);
        Cost { refused: cost.refused, total, nodes: cost.nodes + nodes }
    }

    /// Lists the sets that hold the guest of a depth and may lead to a better plan; `least` is what those after it
    /// cost at least.
    fn find_children(&mut self, depth: usize, cost: Cost, least: Cost, found: &mut Vec<Child>) {
        let guest = self.guests[depth];
        let request = State::request(self.question, guest);
        let mut beyond = None;
        if !self.all_sets {
            let state = &self.states[depth];
            let request = best::Request { effort: self.each, ..request };
            let set = best::solve(&state.host, &request, &mut self.space);
            self.steps += set.steps;
            let nodes = state.host.nodes();
            let at = |id: &u32| nodes.binary_search_by_key(id, |node| node.id).ok();
            let set: Vec<usize> = set.nodes.iter().filter_map(at).collect();
            beyond = Some(self.intern(set));
        }
        let before = match depth.checked_sub(1) {
            Some(last) if self.guests[last] == guest => self.chosen[last],
            _ => None,
        };
        let all = self.listed;
        let state = &self.states[depth];
        let problem = Problem::new(&state.host, &request);
        let lowest = problem.slowdown(1.0, problem.distances.lowest()) * (1.0 - problem.slack);
        for at in (0..all).chain(beyond.filter(|&at| at >= all)) {
            let set = &self.sets[at];
            let mut sums = Sums::default();
            set.iter().for_each(|&at| sums.add(&problem, at));
            if !problem.is_candidate(sums) {
                continue;
            }
            // Guests that are alike and have no node in common may change places: one order is enough.
            if before.is_some_and(|before| before > at && is_disjoint(&self.sets[before], set)) {
                continue;
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bound")]
            let floor = (problem.crowding(sums.idle, sums.cap) * lowest - 0.5) as u64;
            if sum(self.with(cost, guest, floor, set.len()), least) >= self.best {
                continue;
            }
            self.steps += 1 + set.len() as u64 / 3;
            let slowdown_ppm = problem.evaluate(set, &mut self.shares).slowdown_ppm;
            if sum(self.with(cost, guest, slowdown_ppm, set.len()), least) < self.best {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "MiB")]
                let memory = sums.mem as u64;
                found.push(Child { slowdown_ppm, nodes: set.len(), memory, set: at });
            }
        }
    }

    /// Returns the best plan found.
    fn plan(mut self, least: Cost) -> Plan {
        let mut places = vec![None; self.question.guests.len()];
        self.chosen.clone_from(&self.best_chosen);
        for depth in 0..self.guests.len() {
            let Some(set) = self.chosen[depth] else {
                self.charge(depth, NOTHING);
                continue;
            };
            let guest = self.guests[depth];
            let request = State::request(self.question, guest);
            let (before, after) = self.states.split_at_mut(depth + 1);
            let (Some(state), Some(next)) = (before.last(), after.first_mut()) else { break };
            let set = &self.sets[set];
            let score = Problem::new(&state.host, &request).evaluate(set, &mut self.shares);
            let split = state.charge(self.question, guest, set, &self.shares, next);
            places[self.order[depth]] = Some(Place {
                nodes: set.iter().map(|&at| state.host.nodes()[at].id).collect(),
                split,
                figures: Prediction::from(&score),
            });
        }
        let refused = self.best.refused + (self.question.guests.len() - self.guests.len());
        let placed = self.guests.len() - self.best.refused;
        let weights = places.iter().zip(self.question.guests);
        let weights: u64 =
            weights.filter(|(place, _)| place.is_some()).map(|(_, guest)| guest.weight()).sum();
        let proven = self.complete || self.best <= least;
        let proof = if proven {
            Proof::Optimal
        } else if self.best.refused > least.refused || placed == 0 {
            Proof::Gap(f64::INFINITY)
        } else {
            Proof::Gap(gap(self.best.total, least.total))
        };
        Plan {
            slowdown: if weights == 0 { 1.0 } else { mean(self.best.total, weights) },
            least_refused: if proven { refused } else { least.refused.min(refused) },
            proof,
            places,
            order: self.order,
            steps: self.steps,
        }
    }
}

/// Returns the cost of two parts of a plan.
fn sum(a: Cost, b: Cost) -> Cost {
    Cost {
        refused: a.refused.saturating_add(b.refused),
        total: a.total.saturating_add(b.total),
        nodes: a.nodes + b.nodes,
    }
}

fn is_disjoint(a: &[usize], b: &[usize]) -> bool {
    a.iter().all(|at| b.binary_search(at).is_err())
}

/// Returns a total as a mean of slowdowns.
#[expect(clippy::cast_precision_loss, reason = "to be shown")]
fn mean(total: u128, weights: u64) -> f64 {
    (total as f64 / weights as f64).round() / 1e6
}

/// Returns the part by which `total` is above `least`, rounded up.
#[expect(clippy::cast_precision_loss, reason = "rounded up by more than is lost")]
fn gap(total: u128, least: u128) -> f64 {
    ((total as f64 / least.max(1) as f64 - 1.0).max(0.0) * 1e6 + 1e-3).ceil() / 1e6
}
