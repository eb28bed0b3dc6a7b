//! A host in memory, whose guests want what they are given to want, and a manager that moves them.

use std::sync::Arc;

use super::super::{HostNode, Step};
use crate::ids::NodeId;
use crate::policy::best::DistanceMatrix;

use super::*;

const GIB: u64 = 1 << 30;

fn on(node: u32) -> NodeSet {
    NodeSet::from_iter([NodeId(node)])
}

/// Four nodes of 8 CPUs and 64 GiB, guests by number, and the manager.
struct World {
    guests: Vec<Guest>,
    left: Vec<Vec<NodeSet>>,
    manager: Manager<u32>,
    rules: Rules,
    others: [f64; 4],
    may_plan: bool,
    now_s: f64,
    moves: Vec<(f64, usize, NodeSet)>,
    undone: Vec<u32>,
}

impl World {
    /// Guests that want so many CPUs and have so many GiB, each on a node.
    fn new(guests: &[(u32, f64, u64)]) -> Self {
        let guest = |&(node, demand, gib): &(u32, f64, u64)| Guest {
            threads: on(node),
            memory: vec![memory(node, gib * GIB)],
            demand,
            peak: demand,
            allowed: (0..4).map(NodeId).collect(),
            age_s: 7_200.0,
            rested_s: None,
            fixed: None,
        };
        Self {
            guests: guests.iter().map(guest).collect(),
            left: vec![Vec::new(); guests.len()],
            manager: Manager::default(),
            rules: Rules::default(),
            others: [0.0; 4],
            may_plan: true,
            now_s: 0.0,
            moves: Vec::new(),
            undone: Vec::new(),
        }
    }

    fn host(&self) -> Host {
        let distance = |a: u32, b: u32| if a == b { 10.0 } else { 20.0 };
        let cells = (0..16).map(|at| distance(at / 4, at % 4)).collect();
        let used = |node: u32| -> f64 {
            let here = self.guests.iter().filter(|guest| guest.threads == on(node));
            here.map(|guest| guest.memory[0].resident.get() as f64 / f64::from(1 << 20)).sum()
        };
        let node = |id: u32| HostNode {
            id: NodeId(id),
            cpus: 8.0,
            capacity: 8.0,
            others: self.others[id as usize],
            room_mib: 64.0 * 1_024.0 - used(id),
            total_mib: 64.0 * 1_024.0,
        };
        let distances = Arc::new(DistanceMatrix::new(4, cells).expect("square"));
        Host::new((0..4).map(node).collect(), distances).expect("good figures")
    }

    /// A minute passes, and the manager does what it decides.
    fn minute(&mut self) -> Decision<u32> {
        self.now_s += 60.0;
        for guest in &mut self.guests {
            guest.rested_s = guest.rested_s.map(|rested| rested + 60.0);
            // As on a host: the average since the start is no peak.
            guest.peak = 0.0;
        }
        let ids: Vec<u32> = (0..).take(self.guests.len()).collect();
        let host = self.host();
        let (rules, now_s, may_plan) = (self.rules, self.now_s, self.may_plan);
        let (guests, left) = (self.guests.clone(), &self.left);
        let look = Look { host: &host, guests, ids: &ids, left, rules, now_s, may_plan };
        let decision = self.manager.look(look).expect("good figures");
        for Worse { guest, .. } in &decision.worse {
            let at = *guest as usize;
            let from = self.left[at].pop().expect("it was moved");
            self.left[at].push(self.guests[at].threads.clone());
            self.place(at, &from);
            self.undone.push(*guest);
        }
        for Step { guest, to, .. } in &decision.plan.steps {
            let before = self.guests[*guest].clone();
            let id = u32::try_from(*guest).expect("few");
            self.manager.moved(id, &before, decision.plan.slowdowns[*guest].0);
            self.left[*guest].push(before.threads);
            self.place(*guest, to);
            self.moves.push((self.now_s, *guest, to.clone()));
        }
        decision
    }

    fn place(&mut self, at: usize, to: &NodeSet) {
        let guest = &mut self.guests[at];
        let node = to.first().expect("a node");
        guest.memory[0].node = node;
        guest.threads = to.clone();
        guest.rested_s = Some(0.0);
    }

    fn minutes(&mut self, count: usize) {
        for _ in 0..count {
            self.minute();
        }
    }
}

fn memory(node: u32, bytes: u64) -> GuestMemory {
    GuestMemory {
        node: NodeId(node),
        resident: Bytes::new(bytes),
        pinned: Bytes::ZERO,
        claimed: Bytes::ZERO,
    }
}

#[test]
fn crowded_guests_are_spread_and_then_left_alone() {
    let mut world = World::new(&[(0, 6.0, 4), (0, 6.0, 4), (0, 6.0, 4), (0, 6.0, 4)]);
    let first = world.minute();
    assert_eq!(first.plan.steps.len(), 3);
    // What came of them is seen at the next look, before anything else is planned.
    let second = world.minute();
    assert!(
        second.seen_gain > 0.0 && (second.seen_gain - first.plan.gain()).abs() < first.plan.gain()
    );
    world.minutes(600);
    assert_eq!((world.moves.len(), world.undone.len()), (3, 0));
    let nodes: std::collections::BTreeSet<String> =
        world.guests.iter().map(|guest| guest.threads.to_string()).collect();
    assert_eq!(nodes.len(), 4);
}

#[test]
fn a_guest_that_is_slower_at_three_looks_is_put_back_if_that_pays() {
    // One guest of two moves from a crowded node to an idle one, which others take at once.
    let crowded = || {
        let mut world = World::new(&[(0, 6.0, 1), (0, 6.0, 1)]);
        world.minute();
        assert_eq!(world.moves.len(), 1);
        world
    };
    let to = |world: &World| world.moves[0].2.first().expect("a node").0 as usize;

    let mut world = crowded();
    let (node, moved) = (to(&world), world.moves[0].1);
    world.others[node] = 16.0;
    for look in 0..2 {
        let decision = world.minute();
        assert_eq!((decision.worse, decision.plan.steps.len()), (vec![], 0), "look {look}");
    }
    let decision = world.minute();
    assert_eq!(decision.worse.len(), 1);
    let Worse { guest, slowdown: (before, after) } = decision.worse[0];
    assert!(guest as usize == moved && after > before * 1.02 && decision.seen_gain < 0.0);
    assert_eq!(world.guests[moved].threads, on(0));

    // Another process moves guests now: it is named again, and nothing is planned meanwhile.
    let mut world = crowded();
    let node = to(&world);
    world.others[node] = 16.0;
    world.minutes(2);
    let worse = world.minute().worse;
    world.place(moved, &on(u32::try_from(node).expect("a node")));
    world.manager.put_off(worse.clone());
    world.left[moved].push(on(0));
    let again = world.minute();
    assert_eq!((again.worse, again.plan.steps.len()), (worse, 0));
    assert_eq!(world.minute().worse, []);

    // It was slower at two looks only.
    let mut world = crowded();
    let node = to(&world);
    world.others[node] = 16.0;
    world.minutes(2);
    world.others[node] = 0.0;
    world.minutes(10);
    assert_eq!(world.undone, [] as [u32; 0]);

    // The node that it left is as bad by now.
    let mut world = crowded();
    let node = to(&world);
    (world.others[node], world.others[0]) = (16.0, 40.0);
    world.minutes(3);
    assert_eq!(world.undone, [] as [u32; 0]);
}

#[test]
fn nothing_is_planned_while_memory_is_short() {
    let mut world = World::new(&[(0, 6.0, 1), (0, 6.0, 1)]);
    world.may_plan = false;
    world.minutes(5);
    assert_eq!(world.moves.len(), 0);
    world.may_plan = true;
    world.minute();
    assert_eq!(world.moves.len(), 1);
}

#[test]
fn guests_are_judged_beside_new_plans() {
    let mut world = World::new(&[(0, 6.0, 1), (0, 6.0, 1), (3, 1.0, 1), (3, 1.0, 1)]);
    world.minute();
    let (_, moved, to) = world.moves[0].clone();
    assert_eq!((world.moves.len(), world.manager.judged().len()), (1, 1));
    // Others take the moved guest's new node, and the two of node 3 come to want too much for one node.
    world.others[to.first().expect("a node").0 as usize] = 16.0;
    (world.guests[2].demand, world.guests[3].demand) = (7.0, 7.0);
    world.minutes(2);
    assert_eq!((world.moves.len(), world.undone.len()), (2, 0));
    assert!(world.moves[1].1 >= 2, "{:?}", world.moves);
    world.minute();
    assert_eq!(world.undone, [u32::try_from(moved).expect("few")]);
    assert_eq!(world.guests[moved].threads, on(0));
}

#[test]
fn no_guest_goes_back_and_forth() {
    // Two guests on two nodes; load of others comes and goes on either, every half hour.
    let mut world = World::new(&[(0, 4.0, 2), (1, 4.0, 2)]);
    for hour in 0..48 {
        world.others = if hour % 2 == 0 { [12.0, 0.0, 12.0, 0.0] } else { [0.0, 12.0, 0.0, 12.0] };
        world.minutes(30);
    }
    let mut places: Vec<Vec<NodeSet>> = vec![vec![on(0)], vec![on(1)]];
    for (_, guest, to) in &world.moves {
        assert!(!places[*guest].contains(to), "guest {guest} was on {to} before: {places:?}");
        places[*guest].push(to.clone());
    }
    assert!(!world.moves.is_empty());
}

#[test]
fn the_highest_demand_of_the_last_hour_is_the_peak() {
    // A guest that wanted 7 CPUs half an hour ago is not put on a node that has 4 for it.
    let run = |minutes| {
        let mut world = World::new(&[(0, 7.0, 1), (0, 5.0, 1)]);
        world.may_plan = false;
        world.minute();
        world.guests[0].demand = 3.0;
        world.guests[1].demand = 7.0;
        world.guests[1].fixed = Some(super::super::Fixed::Bound);
        world.minutes(minutes);
        world.may_plan = true;
        // 1.25 times 7 are more than the 8 CPUs of a node, 1.25 times 3 are not.
        world.minute();
        world.moves.iter().filter(|(_, _, to)| to.len() == 1).count()
    };
    assert_eq!((run(30), run(70)), (0, 1));
}
