//! The search for moves: relocations first, then exchanges and chains.

use super::model::{Guest, Host, LeftAlone, Move, Plan, Rules, Step};
use super::order::{self, Transfer, legal_order};
use super::state::{CRUMB, Node, Spot, State, bytes};

/// Worth up to this is rounding, in busy-CPU seconds.
pub(super) const ROUNDING: f64 = 1e-6;

/// Guests in one chain.
const LONGEST_CHAIN: usize = 3;

/// Guests that move together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// In an order in which there is room.
    pub(super) moves: Vec<(usize, Spot)>,
    pub(super) worth: f64,
}

/// What moving a guest to one target is worth, in busy-CPU seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    /// Gain less what it has to be for its cost; infinite where it takes a trial to find out.
    pub(super) worth: f64,
    pub(super) gain: f64,
    pub(super) cost: f64,
}

/// Why a group is not adopted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Refusal {
    /// Gain and cost.
    Small(f64, f64),
    /// A node lacks memory.
    NoRoom,
    /// The guest that would be slowed.
    Slows(usize),
    TooLarge,
}

pub(super) struct Search<'a> {
    pub(super) state: State<'a>,
    pub(super) guests: &'a [Guest],
    /// Where each guest may go; none for one that must stay.
    pub(super) targets: Vec<Vec<Vec<usize>>>,
    /// Slowdowns before the plan.
    pub(super) before: Vec<f64>,
    origin: Vec<Spot>,
    objective_before: f64,
    steps: Vec<Step>,
    is_moved: Vec<bool>,
    moved_mib: f64,
    groups: usize,
    trials: u32,
    /// The nodes as they were before a trial.
    saved: Vec<Node>,
}

impl<'a> Search<'a> {
    pub(super) fn new(host: &'a Host, guests: &'a [Guest], rules: &'a Rules) -> Self {
        let state = State::new(host, guests, rules);
        let targets = guests.iter().enumerate().map(|(at, guest)| {
            let stays = guest.must_stay(rules).is_some();
            if stays { Vec::new() } else { targets(&state, at, guest) }
        });
        Self {
            targets: targets.collect(),
            before: (0..guests.len()).map(|at| state.slowdown(at)).collect(),
            origin: state.spots.clone(),
            objective_before: state.objective(),
            steps: Vec::new(),
            is_moved: vec![false; guests.len()],
            moved_mib: 0.0,
            groups: 0,
            trials: 0,
            saved: Vec::new(),
            state,
            guests,
        }
    }

    fn moved(&self) -> usize {
        self.steps.len()
    }

    fn may_move(&self, guest: usize) -> bool {
        !self.is_moved[guest] && !self.targets[guest].is_empty()
    }

    /// Returns the single move that is worth most.
    fn best_relocation(&mut self) -> Option<Group> {
        let mut best: Option<Group> = None;
        let mut weights = Vec::new();
        for guest in 0..self.guests.len() {
            if !self.may_move(guest) {
                continue;
            }
            self.weigh(guest, &mut weights);
            for (target, weight) in weights.iter().enumerate() {
                let least = best.as_ref().map_or(ROUNDING, |group| group.worth);
                if weight.worth > least
                    && let Ok(group) = self.attempt(&[(guest, target)])
                    && group.worth > least
                {
                    best = Some(group);
                }
            }
        }
        best
    }

    /// Finds out what moving a guest to each of its targets is worth, room and harm to others aside.
    pub(super) fn weigh(&mut self, guest: usize, weights: &mut Vec<Weight>) {
        let now = self.state.objective();
        self.saved.clone_from(&self.state.nodes);
        self.state.remove(guest);
        let without = self.state.objective();
        weights.clear();
        weights.extend(self.targets[guest].iter().map(|set| {
            let [only] = **set else {
                // Where memory goes depends on room: found out when it is tried.
                return Weight { worth: f64::INFINITY, gain: 0.0, cost: 0.0 };
            };
            let gain = now - self.state.objective_with(without, guest, only);
            let cost = self.state.cost(self.state.moved_to(guest, only));
            Weight { worth: gain - self.state.rules.gain_per_cost * cost, gain, cost }
        }));
        std::mem::swap(&mut self.state.nodes, &mut self.saved);
    }

    /// Tries some moves together: what they are worth, in an order in which there is room.
    pub(super) fn attempt(&mut self, moves: &[(usize, usize)]) -> Result<Group, Refusal> {
        let now = self.state.objective();
        let saved = self.state.nodes.clone();
        let origin: Vec<Spot> =
            moves.iter().map(|&(guest, _)| self.state.spots[guest].clone()).collect();
        let tried = self.tried(moves, now, &saved, &origin);
        for (&(guest, _), spot) in moves.iter().zip(origin) {
            self.state.spots[guest] = spot;
        }
        self.state.nodes = saved;
        tried
    }

    fn tried(
        &mut self,
        moves: &[(usize, usize)],
        now: f64,
        saved: &[Node],
        origin: &[Spot],
    ) -> Result<Group, Refusal> {
        moves.iter().for_each(|&(guest, _)| self.state.remove(guest));
        let mut moved_mib = 0.0;
        let mut value = 0.0;
        for &(guest, target) in moves {
            let spot = self.state.spot_on(guest, &self.targets[guest][target]);
            let spot = spot.ok_or(Refusal::NoRoom)?;
            moved_mib += spot.moved_mib;
            value += self.state.guests[guest].seconds(self.before[guest]);
            self.state.insert(guest, spot);
        }
        let rules = self.state.rules;
        let (gain, cost) = (now - self.state.objective(), self.state.cost(moved_mib));
        let worth = gain - rules.gain_per_cost * cost;
        if worth <= ROUNDING || gain < rules.least_gain * value {
            return Err(Refusal::Small(gain, cost));
        }
        let room: Vec<f64> = saved.iter().map(|node| node.room).collect();
        let spots = moves.iter().map(|&(guest, _)| &self.state.spots[guest]);
        let transfers: Vec<Transfer<'_>> = origin
            .iter()
            .zip(spots)
            .map(|(from, to)| Transfer { from: &from.held, to: &to.held })
            .collect();
        let order = legal_order(&room, &transfers).ok_or(Refusal::NoRoom)?;
        if let Some(slowed) = self.slowed() {
            return Err(Refusal::Slows(slowed));
        }
        let fits = self.moved() + moves.len() <= rules.most_guests.min(order::MOST)
            && self.moved_mib + moved_mib <= rules.most_mib + CRUMB;
        if !fits {
            return Err(Refusal::TooLarge);
        }
        let moved = |at: usize| (moves[at].0, self.state.spots[moves[at].0].clone());
        Ok(Group { moves: order.into_iter().map(moved).collect(), worth })
    }

    /// Returns a guest that is now slower than the rules allow.
    fn slowed(&self) -> Option<usize> {
        let rules = self.state.rules;
        (0..self.guests.len()).find(|&guest| {
            let (was, is) = (self.before[guest], self.state.slowdown(guest));
            let worse = is > was * (1.0 + rules.most_loss) + 1e-9;
            let passes = is > rules.most_slowdown + 1e-9 && was <= rules.most_slowdown;
            self.guests[guest].demand > 0.0 && (worse || (passes && is > was + 1e-9))
        })
    }

    /// Returns the exchange or chain that is worth most: a guest goes to a node that others leave for it.
    fn best_chain(&mut self) -> Option<Group> {
        let mut best = None;
        for guest in self.by_potential() {
            for target in 0..self.targets[guest].len() {
                if self.targets[guest][target].len() == 1 {
                    let mut chain = vec![(guest, target)];
                    self.extend(&mut chain, &mut best);
                }
            }
        }
        best
    }

    /// Returns the guests that may gain, those that may gain most first.
    fn by_potential(&mut self) -> Vec<usize> {
        let now = self.state.objective();
        let mut order = Vec::new();
        for guest in 0..self.guests.len() {
            if !self.may_move(guest) {
                continue;
            }
            self.saved.clone_from(&self.state.nodes);
            self.state.remove(guest);
            let undisturbed = self.state.guests[guest].seconds(self.lowest_factor());
            let potential = now - self.state.objective() - undisturbed;
            std::mem::swap(&mut self.state.nodes, &mut self.saved);
            if potential > ROUNDING {
                order.push((potential, guest));
            }
        }
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        order.into_iter().map(|(_, guest)| guest).collect()
    }

    /// The lowest distance factor that a guest can have.
    fn lowest_factor(&self) -> f64 {
        let bound = self.state.rules.memory_bound;
        1.0 - bound + bound * self.state.host.distances.lowest() / 10.0
    }

    /// Tries to let one more guest leave the last target of a chain.
    fn extend(&mut self, chain: &mut Vec<(usize, usize)>, best: &mut Option<Group>) {
        let Some(&(last, target)) = chain.last() else { return };
        let crowded = self.targets[last][target][0];
        for guest in 0..self.guests.len() {
            let there = self.state.spots[guest].held.iter().chain(&self.state.spots[guest].threads);
            let leaves = there.clone().any(|part| part.0 == crowded);
            let member = chain.iter().any(|&(member, _)| member == guest);
            if !leaves || member || !self.may_move(guest) {
                continue;
            }
            for target in 0..self.targets[guest].len() {
                let set = &self.targets[guest][target];
                if set.len() != 1 || set[0] == crowded {
                    continue;
                }
                if self.trials >= self.state.rules.effort {
                    return;
                }
                self.trials += 1;
                chain.push((guest, target));
                let least = best.as_ref().map_or(ROUNDING, |group| group.worth);
                if self.optimistic(chain) > least {
                    match self.attempt(chain) {
                        Ok(group) if group.worth > least => *best = Some(group),
                        Err(Refusal::NoRoom) if chain.len() < LONGEST_CHAIN => {
                            self.extend(chain, best);
                        }
                        _ => {}
                    }
                }
                chain.pop();
            }
        }
    }

    /// Returns what a chain is worth, room and harm to others aside.
    fn optimistic(&mut self, chain: &[(usize, usize)]) -> f64 {
        let now = self.state.objective();
        self.saved.clone_from(&self.state.nodes);
        let mut cost = 0.0;
        let mut after = now;
        // Single nodes: what is inserted last is only weighed.
        for (at, &(guest, target)) in chain.iter().enumerate() {
            let only = self.targets[guest][target][0];
            cost += self.state.cost(self.state.moved_to(guest, only));
            self.state.take_load(guest);
            if at + 1 == chain.len() {
                after = self.state.objective_with(self.state.objective(), guest, only);
            } else {
                self.state.put_load(guest, only);
            }
        }
        std::mem::swap(&mut self.state.nodes, &mut self.saved);
        now - after - self.state.rules.gain_per_cost * cost
    }

    fn adopt(&mut self, group: Group) {
        let kind = kind(&self.state.spots, &group);
        group.moves.iter().for_each(|&(guest, _)| self.state.remove(guest));
        for (guest, spot) in group.moves {
            self.is_moved[guest] = true;
            self.moved_mib += spot.moved_mib;
            self.steps.push(Step {
                guest,
                group: self.groups,
                kind,
                from: self.state.host.ids(&nodes_of(&self.origin[guest])),
                to: self.state.host.ids(&nodes_of(&spot)),
                memory: bytes(spot.moved_mib),
                placed: self.state.placed(&spot),
                cost: self.state.cost(spot.moved_mib),
                slowdown: (self.before[guest], 0.0),
            });
            self.state.insert(guest, spot);
        }
        self.groups += 1;
    }

    /// Adopts groups until none is worth its cost, or the plan is full.
    pub(super) fn run(&mut self) {
        while self.moved() < self.state.rules.most_guests.min(order::MOST) {
            let Some(group) = self.best_relocation().or_else(|| self.best_chain()) else { break };
            self.adopt(group);
        }
    }

    /// Returns the plan, with the reasons of the guests that stay.
    pub(super) fn finish(mut self, left_alone: Vec<(usize, LeftAlone)>) -> Plan {
        let after: Vec<f64> = (0..self.guests.len()).map(|at| self.state.slowdown(at)).collect();
        for step in &mut self.steps {
            step.slowdown.1 = after[step.guest];
        }
        Plan {
            steps: self.steps,
            left_alone,
            before: self.objective_before,
            after: self.state.objective(),
            cost: self.state.cost(self.moved_mib),
            slowdowns: self.before.into_iter().zip(after).collect(),
            limited: self.trials >= self.state.rules.effort,
        }
    }

    pub(super) fn has_moved(&self, guest: usize) -> bool {
        self.is_moved[guest]
    }
}

/// Returns what a group is: two guests that change places, or more.
fn kind(spots: &[Spot], group: &Group) -> Move {
    match group.moves.as_slice() {
        [_] => Move::Relocation,
        [(a, to_a), (b, to_b)] => {
            let swapped =
                nodes_of(to_a) == nodes_of(&spots[*b]) && nodes_of(to_b) == nodes_of(&spots[*a]);
            if swapped { Move::Exchange } else { Move::Chain }
        }
        _ => Move::Chain,
    }
}

/// Returns the positions of a guest's threads and memory, ascending.
pub(super) fn nodes_of(spot: &Spot) -> Vec<usize> {
    let mut nodes: Vec<usize> = spot.threads.iter().chain(&spot.held).map(|part| part.0).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Returns the node sets that a guest may go to: single nodes with CPUs enough for it; where there is none, the
/// smallest sets of near nodes.
pub(super) fn targets(state: &State<'_>, at: usize, guest: &Guest) -> Vec<Vec<usize>> {
    let standing = &state.guests[at];
    let allowed = state.host.positions(&guest.allowed);
    let holds = |set: &[usize]| {
        let all = |figure: fn(&super::HostNode) -> f64| -> f64 {
            set.iter().map(|&at| figure(&state.host.nodes[at])).sum()
        };
        let cpus = all(|node| node.capacity);
        cpus > 0.0
            && cpus + 1e-9 >= standing.cpus
            && all(|node| node.total_mib) >= standing.needs_mib
    };
    let single: Vec<Vec<usize>> =
        allowed.iter().map(|&node| vec![node]).filter(|set| holds(set)).collect();
    if !single.is_empty() {
        return single;
    }
    let grown = |&seed: &usize| {
        (2..=allowed.len()).map(|count| state.nearest(seed, &allowed, count)).find(|set| holds(set))
    };
    let mut sets: Vec<Vec<usize>> = allowed.iter().filter_map(grown).collect();
    sets.sort();
    sets.dedup();
    sets
}
