//! The rules of a plan as a program of its own: tries every assignment of guests to single nodes.

use placer_engine::NodeId;
use placer_engine::balance::roam::{Room, shares};
use placer_engine::balance::{Guest, Plan, RoomPlan, Rules};

use super::made::{Case, mib};

pub(super) struct Reference<'a> {
    case: &'a Case,
    rules: Rules,
    /// Shares of each guest's CPU time on the nodes, as it is.
    shares: Vec<Vec<f64>>,
    before: Outcome,
}

/// What an assignment comes to.
#[derive(Clone, Debug)]
struct Outcome {
    objective: f64,
    slowdowns: Vec<f64>,
}

/// Where each guest goes: a node, or where it is.
type Assignment = Vec<Option<usize>>;

fn movable(guest: &Guest) -> f64 {
    guest.memory.iter().map(|memory| mib(memory.resident) - mib(memory.pinned)).sum()
}

fn needs(guest: &Guest) -> f64 {
    movable(guest) + guest.memory.iter().map(|memory| mib(memory.claimed)).sum::<f64>()
}

impl<'a> Reference<'a> {
    pub(super) fn new(case: &'a Case) -> Self {
        let mut load: Vec<f64> = case.nodes.iter().map(|node| node.others).collect();
        let mut all = vec![vec![0.0; case.nodes.len()]; case.guests.len()];
        for single in [true, false] {
            for (at, guest) in case.guests.iter().enumerate() {
                if (guest.threads.len() == 1) != single {
                    continue;
                }
                let set: Vec<usize> = guest.threads.iter().map(|id| case.position(id)).collect();
                let rooms: Vec<Room> = set
                    .iter()
                    .map(|&node| Room { cap: case.nodes[node].capacity, busy: load[node] })
                    .collect();
                let parts = if single { vec![1.0] } else { shares(&rooms, guest.demand.max(1e-3)) };
                for (&node, part) in set.iter().zip(parts) {
                    all[at][node] = part;
                    load[node] += part * guest.demand;
                }
            }
        }
        let mut reference = Self {
            case,
            rules: Rules::default(),
            shares: all,
            before: Outcome { objective: 0.0, slowdowns: Vec::new() },
        };
        reference.before = reference.outcome(&vec![None; case.guests.len()]);
        reference
    }

    fn distance(&self, from: usize, to: usize) -> f64 {
        self.case.distances[from * self.case.nodes.len() + to]
    }

    fn outcome(&self, assignment: &Assignment) -> Outcome {
        let count = self.case.nodes.len();
        let mut load: Vec<f64> = self.case.nodes.iter().map(|node| node.others).collect();
        let share = |guest: usize, node: usize| match assignment[guest] {
            Some(to) => f64::from(u8::from(to == node)),
            None => self.shares[guest][node],
        };
        for (at, guest) in self.case.guests.iter().enumerate() {
            (0..count).for_each(|node| load[node] += share(at, node) * guest.demand);
        }
        let slowdown = |at: usize, guest: &Guest| {
            let crowded: f64 = (0..count)
                .map(|node| {
                    let capacity = self.case.nodes[node].capacity.max(1e-6);
                    share(at, node) * (load[node] / capacity).max(1.0)
                })
                .sum();
            let near: f64 = (0..count)
                .map(|node| share(at, node) * self.reach(guest, node, assignment[at]))
                .sum();
            crowded * (0.5 + 0.5 * near / 10.0)
        };
        let slowdowns: Vec<f64> =
            self.case.guests.iter().enumerate().map(|(at, guest)| slowdown(at, guest)).collect();
        let seconds = self.case.guests.iter().zip(&slowdowns);
        let objective = seconds.map(|(guest, slow)| self.seconds(guest) * slow).sum();
        Outcome { objective, slowdowns }
    }

    fn seconds(&self, guest: &Guest) -> f64 {
        guest.age_s.min(self.rules.horizon_s) * guest.demand
    }

    /// The mean distance of a guest's memory from a node's CPUs.
    fn reach(&self, guest: &Guest, from: usize, moved: Option<usize>) -> f64 {
        let mut all = 0.0;
        let mut sum = 0.0;
        for memory in &guest.memory {
            let at = self.case.position(memory.node);
            let stays = mib(memory.pinned);
            let moves = mib(memory.resident) - stays;
            sum += stays * self.distance(from, at);
            sum += moves * self.distance(from, moved.unwrap_or(at));
            all += stays + moves;
        }
        if all > 1e-6 { sum / all } else { self.distance(from, from) }
    }

    fn moved_mib(&self, guest: &Guest, to: usize) -> f64 {
        let there = guest.memory.iter().filter(|memory| self.case.position(memory.node) == to);
        movable(guest) - there.map(|m| mib(m.resident) - mib(m.pinned)).sum::<f64>()
    }

    /// Returns what the guests that move may do, and `None` where they must not.
    fn worth(&self, assignment: &Assignment) -> Option<f64> {
        let after = self.outcome(assignment);
        let gain = self.before.objective - after.objective;
        let (mut cost, mut value, mut moved) = (0.0, 0.0, 0.0);
        for (at, guest) in self.case.guests.iter().enumerate() {
            if let Some(to) = assignment[at] {
                let memory = self.moved_mib(guest, to);
                moved += memory;
                cost += memory / 1024.0 * self.rules.cost_per_gib;
                value += self.seconds(guest) * self.before.slowdowns[at];
            }
        }
        let worth = gain - self.rules.gain_per_cost * cost;
        let small = worth <= 1e-6 || gain < self.rules.least_gain * value - 1e-9;
        if small || moved > self.rules.most_mib {
            return None;
        }
        for (at, guest) in self.case.guests.iter().enumerate() {
            let (was, is) = (self.before.slowdowns[at], after.slowdowns[at]);
            let worse = is > was * 1.02 + 2e-9;
            let passes = is > 1.25 + 2e-9 && was <= 1.25 && is > was + 2e-9;
            if guest.demand > 0.0 && (worse || passes) {
                return None;
            }
        }
        Some(worth)
    }

    /// Returns the room of each node, and whether all targets have some.
    fn performed(&self, room: &mut [f64], guest: usize, to: usize) -> bool {
        let guest = &self.case.guests[guest];
        let mut there = 0.0;
        for memory in &guest.memory {
            let at = self.case.position(memory.node);
            let held = mib(memory.resident) - mib(memory.pinned) + mib(memory.claimed);
            room[at] += held;
            there += if at == to { held } else { 0.0 };
        }
        room[to] -= needs(guest);
        room[to] >= -1e-3 || needs(guest) <= there + 1e-3
    }

    fn has_order(&self, room: &[f64], pending: &[(usize, usize)]) -> bool {
        pending.is_empty()
            || (0..pending.len()).any(|at| {
                let mut room = room.to_vec();
                let mut rest = pending.to_vec();
                let (guest, to) = rest.remove(at);
                self.performed(&mut room, guest, to) && self.has_order(&room, &rest)
            })
    }

    fn room(&self) -> Vec<f64> {
        self.case.nodes.iter().map(|node| node.room_mib).collect()
    }

    /// Returns the nodes that a guest may go to.
    fn targets(&self, guest: &Guest) -> Vec<usize> {
        let stays = guest.fixed.is_some()
            || guest.age_s < self.rules.youngest_s
            || guest.rested_s.is_some_and(|rested| rested < self.rules.rest_s);
        let fits = |&at: &usize| {
            let node = &self.case.nodes[at];
            !stays
                && guest.allowed.contains(node.id)
                && node.capacity > 0.0
                && node.capacity + 1e-9 >= 1.25 * guest.peak.max(guest.demand)
                && node.total_mib >= needs(guest)
        };
        (0..self.case.nodes.len()).filter(fits).collect()
    }

    /// Returns what the best of all assignments is worth; 0 where none is worth its cost.
    pub(super) fn best(&self) -> f64 {
        let targets: Vec<Vec<usize>> =
            self.case.guests.iter().map(|guest| self.targets(guest)).collect();
        let mut assignment = vec![None; targets.len()];
        let mut best = 0.0;
        self.all(0, &targets, &mut assignment, &mut best);
        best
    }

    /// Returns the least memory that any assignment moves so that one node has that much room; infinite where
    /// none has.
    pub(super) fn least_moved(&self, cpus: f64, wanted: f64) -> f64 {
        let mut targets: Vec<Vec<usize>> = Vec::new();
        for guest in &self.case.guests {
            // Rest and age do not count here.
            let asked = Guest { age_s: 1e6, rested_s: None, ..guest.clone() };
            targets.push(self.targets(&asked));
        }
        let places = (0..self.case.nodes.len()).filter(|&at| {
            let node = &self.case.nodes[at];
            node.capacity + 1e-9 >= cpus && node.total_mib + 1e-6 >= wanted
        });
        let places: Vec<usize> = places.collect();
        let mut least = f64::INFINITY;
        let mut moves = Vec::new();
        self.all_rooms(0, &targets, &mut moves, &places, wanted, &mut least);
        least
    }

    fn all_rooms(
        &self,
        at: usize,
        targets: &[Vec<usize>],
        moves: &mut Vec<(usize, usize)>,
        places: &[usize],
        wanted: f64,
        least: &mut f64,
    ) {
        if at < targets.len() {
            self.all_rooms(at + 1, targets, moves, places, wanted, least);
            for &to in &targets[at] {
                moves.push((at, to));
                self.all_rooms(at + 1, targets, moves, places, wanted, least);
                moves.pop();
            }
            return;
        }
        let moved = moves.iter().map(|&(guest, to)| self.moved_mib(&self.case.guests[guest], to));
        let moved: f64 = moved.sum();
        if moved >= *least || moved > self.rules.most_mib || moves.len() > self.rules.most_guests {
            return;
        }
        let mut room = self.room();
        for &(guest, to) in moves.iter() {
            self.performed(&mut room, guest, to);
        }
        let fits = moves.iter().all(|&(_, to)| room[to] >= -1e-3)
            && places.iter().any(|&place| room[place] >= wanted - 1e-3);
        if fits && self.has_order(&self.room(), moves) {
            *least = moved;
        }
    }

    /// Returns the memory that an operator moves who empties the node with most room, its smallest guest first, and
    /// puts each guest on the node with most room; `None` where that does not make room.
    pub(super) fn moved_by_operator(&self, cpus: f64, wanted: f64) -> Option<f64> {
        let mut room = self.room();
        let most = |room: &[f64], of: &dyn Fn(usize) -> bool| {
            let nodes = (0..room.len()).filter(|&at| of(at));
            nodes.max_by(|&a, &b| room[a].total_cmp(&room[b]))
        };
        let place = most(&room, &|at| {
            let node = &self.case.nodes[at];
            node.capacity + 1e-9 >= cpus && node.total_mib + 1e-6 >= wanted
        })?;
        let there = |guest: &Guest| {
            guest.memory.iter().any(|memory| {
                self.case.position(memory.node) == place && memory.resident > memory.pinned
            })
        };
        let guests = self.case.guests.iter().enumerate().filter(|(_, guest)| there(guest));
        let mut guests: Vec<usize> = guests.map(|(at, _)| at).collect();
        let size = |at: &usize| movable(&self.case.guests[*at]);
        guests.sort_by(|a, b| size(a).total_cmp(&size(b)));
        let mut moved = 0.0;
        for at in guests {
            if room[place] >= wanted {
                break;
            }
            let guest = &self.case.guests[at];
            let asked = Guest { age_s: 1e6, rested_s: None, ..guest.clone() };
            let targets = self.targets(&asked);
            let to = most(&room, &|node| node != place && targets.contains(&node));
            let Some(to) = to.filter(|&to| room[to] >= needs(guest)) else { continue };
            self.performed(&mut room, at, to);
            moved += self.moved_mib(guest, to);
        }
        (room[place] >= wanted).then_some(moved)
    }

    /// Performs the steps one after the other: each has room, and in the end the place has what was wanted.
    pub(super) fn check_room(&self, plan: &RoomPlan, wanted: f64) {
        let mut room = self.room();
        let mut moved = 0.0;
        for step in &plan.steps {
            let to = step.to.iter().next().expect("a node");
            let to = self.case.position(to);
            assert!(self.performed(&mut room, step.guest, to), "{step:?}: no room");
            moved += self.moved_mib(&self.case.guests[step.guest], to);
        }
        let place: f64 = plan.nodes.iter().map(|id| room[self.case.position(id)]).sum();
        assert!(place >= wanted - 1e-3, "{place} of {wanted}: {plan:#?}");
        assert!((moved - mib(plan.memory)).abs() < 1e-3, "{moved}: {plan:#?}");
    }

    fn all(&self, at: usize, targets: &[Vec<usize>], assignment: &mut Assignment, best: &mut f64) {
        if at == targets.len() {
            if let Some(worth) = self.worth(assignment)
                && worth > *best
            {
                let moves = assignment.iter().enumerate();
                let moves: Vec<(usize, usize)> =
                    moves.filter_map(|(guest, to)| Some((guest, (*to)?))).collect();
                if self.has_order(&self.room(), &moves) {
                    *best = worth;
                }
            }
            return;
        }
        self.all(at + 1, targets, assignment, best);
        for &to in &targets[at] {
            assignment[at] = Some(to);
            self.all(at + 1, targets, assignment, best);
        }
        assignment[at] = None;
    }

    /// Checks a plan of single nodes, step by step. Returns what it is worth.
    pub(super) fn check(&self, plan: &Plan) -> f64 {
        let mut assignment = vec![None; self.case.guests.len()];
        let mut room = self.room();
        for step in &plan.steps {
            let guest = &self.case.guests[step.guest];
            let node = step.placed.first().map(|&(node, _)| node);
            let node: NodeId = node.or_else(|| step.to.iter().next()).expect("a node");
            let to = self.case.position(node);
            assert_eq!(assignment[step.guest], None, "moved twice: {plan:#?}");
            assert!(self.targets(guest).contains(&to), "{step:?} is not allowed: {guest:#?}");
            assert!(
                self.performed(&mut room, step.guest, to),
                "{step:?}: no room, {:#?}",
                self.case
            );
            assignment[step.guest] = Some(to);
        }
        if plan.steps.is_empty() {
            return 0.0;
        }
        let after = self.outcome(&assignment);
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * (1.0 + a.abs());
        assert!(near(plan.before, self.before.objective), "{} {:?}", plan.before, self.before);
        assert!(near(plan.after, after.objective), "{} {after:?}", plan.after);
        for ((was, is), (a, b)) in
            plan.slowdowns.iter().zip(self.before.slowdowns.iter().zip(&after.slowdowns))
        {
            assert!(near(*was, *a) && near(*is, *b));
        }
        let worth = self.worth(&assignment);
        worth.unwrap_or_else(|| panic!("the plan is not allowed: {plan:#?}\n{:#?}", self.case))
    }
}
