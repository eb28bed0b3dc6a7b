//! One plan for each rule, on hosts small enough to follow by hand.

use std::sync::Arc;

use super::{
    Fixed, Guest, GuestMemory, Host, HostNode, LeftAlone, Move, Plan, RoomRequest, Rules,
    make_room, plan,
};
use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::policy::best::DistanceMatrix;
use crate::units::Bytes;

/// Nodes of that many CPUs and that much room in GiB, at distance 20 from one another.
fn host(capacity: f64, rooms: &[f64]) -> Host {
    let nodes = (0u32..).zip(rooms).map(|(id, room)| HostNode {
        id: NodeId(id),
        cpus: capacity,
        capacity,
        others: 0.0,
        room_mib: room * 1024.0,
        total_mib: 64.0 * 1024.0,
    });
    let count = rooms.len();
    let cell = |at: usize| if at / count == at % count { 10.0 } else { 20.0 };
    let distances = DistanceMatrix::new(count, (0..count * count).map(cell).collect());
    Host::new(nodes.collect(), Arc::new(distances.expect("square"))).expect("sound")
}

/// A guest of some GiB and CPUs: its threads on one node, its memory on another.
fn guest(threads: u32, memory: u32, gib: u64, cpus: f64) -> Guest {
    Guest {
        threads: set(&[threads]),
        memory: vec![GuestMemory {
            node: NodeId(memory),
            resident: Bytes::new(gib << 30),
            pinned: Bytes::ZERO,
            claimed: Bytes::ZERO,
        }],
        demand: cpus,
        peak: cpus,
        allowed: (0..8).map(NodeId).collect(),
        age_s: 1e5,
        rested_s: None,
        fixed: None,
    }
}

fn set(ids: &[u32]) -> NodeSet {
    ids.iter().map(|&id| NodeId(id)).collect()
}

fn planned(host: &Host, guests: &[Guest]) -> Plan {
    plan(host, guests, &Rules::default()).expect("sound figures")
}

fn moves(plan: &Plan) -> Vec<(usize, String, Move)> {
    plan.steps.iter().map(|step| (step.guest, step.to.to_string(), step.kind)).collect()
}

#[test]
fn threads_go_to_their_memory_for_nothing() {
    let found = planned(&host(8.0, &[10.0, 10.0]), &[guest(0, 1, 4, 2.0)]);
    assert_eq!(moves(&found), [(0, "1".to_owned(), Move::Relocation)]);
    // Two CPUs, half as slow again, half an hour.
    assert_eq!((found.gain(), found.cost, found.memory()), (1_800.0, 0.0, Bytes::ZERO));
    assert_eq!(found.slowdowns, [(1.5, 1.0)]);
}

#[test]
fn memory_goes_where_the_threads_have_room() {
    // Node 1 has no CPU to spare: another guest would be slowed.
    let guests = [guest(0, 1, 4, 2.0), guest(1, 1, 4, 8.0)];
    let found = planned(&host(10.0, &[10.0, 10.0]), &guests);
    assert_eq!(moves(&found), [(0, "1".to_owned(), Move::Relocation)]);
    let found = planned(&host(10.0, &[10.0, 10.0]), &[guest(0, 1, 4, 4.0), guest(1, 1, 4, 8.0)]);
    assert_eq!(moves(&found), [(0, "0".to_owned(), Move::Relocation)]);
    assert_eq!((found.cost, found.memory()), (4.0, Bytes::new(4 << 30)));
}

#[test]
fn pinned_memory_stays_and_draws_its_threads() {
    let mut one = guest(0, 1, 4, 2.0);
    one.memory[0].pinned = Bytes::new(4 << 30);
    let found = planned(&host(8.0, &[10.0, 10.0]), std::slice::from_ref(&one));
    assert_eq!(moves(&found), [(0, "1".to_owned(), Move::Relocation)]);
    // Where node 1 may not be used its memory cannot come along.
    one.allowed = set(&[0]);
    let found = planned(&host(8.0, &[10.0, 10.0]), &[one]);
    assert_eq!((found.steps, found.left_alone), (vec![], vec![(0, LeftAlone::WellPlaced)]));
}

#[test]
fn a_crowded_node_is_relieved() {
    let guests: Vec<Guest> = (0..4).map(|_| guest(0, 0, 4, 4.0)).collect();
    let found = planned(&host(8.0, &[10.0, 32.0]), &guests);
    assert_eq!(found.steps.len(), 2);
    assert!(found.slowdowns.iter().all(|&slowdown| slowdown == (2.0, 1.0)), "{found:?}");
}

#[test]
fn a_move_must_gain_three_times_its_cost() {
    // 10 GiB cost 10. The node of its memory is full; half an hour of 1 CPU slowed by a half is 900.
    let guests = |cpus: f64| [guest(0, 1, 10, cpus), guest(1, 1, 1, 7.9)];
    let full = host(8.0, &[20.0, 20.0]);
    assert_eq!(moves(&planned(&full, &guests(1.0))), [(0, "0".to_owned(), Move::Relocation)]);
    let mut little = guests(0.03);
    little[0].allowed = set(&[0]);
    let found = planned(&full, &little);
    let Some((0, LeftAlone::GainTooSmall { gain, cost })) = found.left_alone.first() else {
        panic!("{found:?}");
    };
    assert!((gain - 27.0).abs() < 1e-6 && (cost - 10.0).abs() < 1e-6, "{gain} {cost}");
    // A guest of ten minutes gains for ten minutes.
    let mut young = guests(0.06);
    young[0].allowed = set(&[0]);
    assert_eq!(planned(&full, &young).steps.len(), 1);
    young[0].age_s = 600.0;
    assert_eq!(planned(&full, &young).steps, []);
}

/// A guest of 8 GiB on a node, half of it pinned to another.
fn drawn(threads: u32, pinned: u32, cpus: f64) -> Guest {
    let mut one = guest(threads, threads, 4, cpus);
    let half = Bytes::new(4 << 30);
    one.memory.push(GuestMemory { node: NodeId(pinned), pinned: half, ..one.memory[0] });
    one
}

#[test]
fn guests_change_places_where_one_alone_would_crowd_the_other() {
    let guests = [drawn(0, 1, 6.0), drawn(1, 0, 6.0)];
    let found = planned(&host(8.0, &[5.0, 0.0]), &guests);
    // Only node 0 has room for another: guest 1 goes first.
    let exchange = [(1, "0".to_owned(), Move::Exchange), (0, "1".to_owned(), Move::Exchange)];
    assert_eq!(moves(&found), exchange);
    assert_eq!(found.slowdowns, [(1.25, 1.0); 2]);
    // Without room for either there is no order.
    assert_eq!(planned(&host(8.0, &[3.0, 3.0]), &guests).steps, []);
}

#[test]
fn a_guest_makes_room_for_another() {
    // Guest 1 runs as well on node 2, which guest 0 may not use.
    let mut guests = [drawn(1, 0, 2.0), guest(0, 0, 4, 0.5)];
    guests[0].allowed = set(&[0, 1]);
    let found = planned(&host(8.0, &[0.0, 0.0, 9.0]), &guests);
    let chain = [(1, "2".to_owned(), Move::Chain), (0, "0".to_owned(), Move::Chain)];
    assert_eq!(moves(&found), chain);
    // Fixed, it is in the way.
    guests[1].fixed = Some(Fixed::Bound);
    let found = planned(&host(8.0, &[0.0, 0.0, 9.0]), &guests);
    let lacks = LeftAlone::NoRoom(set(&[0]), Bytes::new(4 << 30));
    assert_eq!(found.left_alone, [(0, lacks), (1, LeftAlone::Fixed(Fixed::Bound))]);
}

#[test]
fn rest_youth_and_fixed_guests() {
    let away = || guest(0, 1, 4, 2.0);
    let guests = [
        Guest { age_s: 59.0, ..away() },
        Guest { rested_s: Some(599.0), ..away() },
        Guest { fixed: Some(Fixed::Cpuset), ..away() },
        Guest { rested_s: Some(600.0), ..away() },
    ];
    let found = planned(&host(16.0, &[10.0, 10.0]), &guests);
    let left =
        [(0, LeftAlone::Young), (1, LeftAlone::Resting), (2, LeftAlone::Fixed(Fixed::Cpuset))];
    assert_eq!((moves(&found).len(), found.left_alone), (1, left.to_vec()));
}

#[test]
fn a_plan_has_a_size() {
    let guests: Vec<Guest> = (0..12).map(|_| guest(0, 1, 1, 0.5)).collect();
    let found = planned(&host(16.0, &[20.0, 20.0]), &guests);
    assert_eq!(found.steps.len(), 8);
    assert_eq!(found.left_alone.len(), 4);
    assert!(found.left_alone.iter().all(|(_, why)| *why == LeftAlone::PlanIsFull), "{found:?}");
}

#[test]
fn figures_that_make_no_sense_are_refused() {
    for bad in [f64::NAN, -1.0, f64::INFINITY] {
        let guests = [Guest { demand: bad, ..guest(0, 1, 1, 1.0) }];
        assert!(plan(&host(8.0, &[1.0, 1.0]), &guests, &Rules::default()).is_err());
        let guests = [Guest { age_s: bad, ..guest(0, 1, 1, 1.0) }];
        assert!(plan(&host(8.0, &[1.0, 1.0]), &guests, &Rules::default()).is_err());
    }
    // A node that the host does not have is no reason to fail.
    let lost = Guest { threads: set(&[7]), ..guest(0, 6, 1, 1.0) };
    assert!(plan(&host(8.0, &[1.0, 1.0]), &[lost], &Rules::default()).is_ok());
    assert!(plan(&host(8.0, &[]), &[guest(0, 0, 1, 1.0)], &Rules::default()).is_ok());
}

#[test]
fn room_is_made_with_the_least_memory() {
    // Node 0 has 4 GiB left and needs 10: the guest of 7, not that of 8, goes where room for it is.
    let guests =
        [guest(0, 0, 8, 1.0), guest(0, 0, 7, 1.0), guest(0, 0, 3, 1.0), guest(1, 1, 20, 1.0)];
    let request =
        |gib: u64| RoomRequest { cpus: 4.0, memory: Bytes::new(gib << 30), within: set(&[0, 1]) };
    let asked = |gib| {
        make_room(&host(8.0, &[4.0, 7.5]), &guests, &Rules::default(), &request(gib))
            .expect("sound")
    };
    let fits = asked(7).plan.expect("it fits");
    assert_eq!((fits.nodes, fits.steps.len()), (set(&[1]), 0));
    let answer = asked(10);
    let found = answer.plan.expect("there is a way");
    assert!(answer.proven);
    assert_eq!((found.nodes, found.memory), (set(&[0]), Bytes::new(7 << 30)));
    assert_eq!(found.steps[0].guest, 1);
    // As much as the host has, and more.
    assert_eq!(asked(64).plan, None);
    let beyond = asked(500);
    assert_eq!((beyond.plan, beyond.proven), (None, true));
}

#[test]
fn room_is_looked_for_on_all_sets_of_the_fewest_nodes() {
    let room = |host: &Host, cpus: f64, gib: u64| {
        let within = host.nodes.iter().map(|node| node.id).collect();
        let request = RoomRequest { cpus, memory: Bytes::new(gib << 30), within };
        make_room(host, &[], &Rules::default(), &request).expect("sound figures")
    };
    // Two of four nodes that are equally near to one another; each node alone is too small.
    let answer = room(&host(8.0, &[2.0, 2.0, 40.0, 40.0]), 1.0, 70);
    let plan = answer.plan.expect("there is room");
    assert_eq!((plan.nodes, plan.steps.len(), answer.proven), (set(&[2, 3]), 0, true));
    // More sets than are tried prove nothing.
    let answer = room(&host(8.0, &[2.0; 16]), 1.0, 480);
    assert_eq!((answer.plan, answer.proven), (None, false));
    // A guest may have as many CPUs as there are hardware threads.
    let mut wide = host(4.8, &[8.0]);
    wide.nodes[0].cpus = 8.0;
    assert!(room(&wide, 8.0, 1).plan.is_some_and(|plan| plan.steps.is_empty()));
    assert_eq!(room(&wide, 9.0, 1).plan, None);
}
