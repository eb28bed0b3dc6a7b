//! What holds under every manager, step by step.

use std::sync::Arc;

use placer_engine::HostFiles;
use placer_engine::balance::BalanceError;
use placer_engine::policy::numad::{Machine as NumadMachine, Version};

use super::super::tests::{Still, made};
use super::super::{Machine, Plan, Shape, Stream, Tuning, generate};
use super::guests::Starts;
use super::run::Run;
use super::state::{Live, State};
use super::*;
use crate::replay::guest::{Guest, SECOND};

fn machine(nodes: u32) -> Machine {
    made((nodes, 8, 32), Shape::Ring)
}

fn period(machine: &Machine, seed: u64, hours: f64) -> Period {
    let plan = Plan { seed, guests: 1, fill: 0.8, storms: 0.25, storm: 16, unit: 1_024 };
    Period::made(&plan, machine, hours).expect("guests")
}

fn scene(start: Start, seed: u64) -> Scene {
    let tuning = Tuning { memory_bound: 0.5, effort: None };
    Scene { start, seed, busy: 0.6, change_s: 900.0, pinned: 0.1, tuning }
}

#[test]
fn the_sums_are_right_after_each_step_of_each_manager() {
    let machine = machine(4);
    let period = period(&machine, 5, 3.0);
    for manager in Manager::all() {
        for start in [Start::Best, Start::Unbound] {
            let scene = scene(start, 5);
            let mut run = Run::new(&machine, &period, manager, &scene);
            while run.now < period.seconds() {
                run.step(&Still).expect("a step");
                assert_eq!(run.state.wrong(), None, "{manager} {start:?} at {}", run.now);
            }
            let managed = run.end();
            assert!(managed.slowdown >= 1.0 && managed.distance >= 10.0, "{managed:?}");
            let moves = managed.moves > 0 || managed.moved > 0.0;
            let idle =
                manager == Manager::None || (manager, start) == (Manager::Kernel, Start::Best);
            assert!(!(moves && idle), "{manager} {start:?}: {managed:?}");
            assert!(moves || idle || start == Start::Best, "{manager} {start:?}: {managed:?}");
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_figures_and_another_seed_others() {
    let machine = machine(2);
    for manager in Manager::all() {
        let figures = |seed| {
            let period = period(&machine, seed, 2.0);
            let mut managed =
                manage(&machine, &period, manager, &scene(Start::Unbound, seed), &Still)
                    .expect("an outcome");
            managed.decision = None;
            managed
        };
        assert_eq!(figures(1), figures(1), "{manager}");
        assert_ne!(figures(1), figures(2), "{manager}");
    }
}

#[test]
fn all_managers_have_the_same_guests_and_the_same_work() {
    let machine = machine(4);
    let period = period(&machine, 3, 2.0);
    let outcome = |manager| {
        manage(&machine, &period, manager, &scene(Start::Best, 3), &Still).expect("an outcome")
    };
    let none = outcome(Manager::None);
    for manager in Manager::all() {
        let managed = outcome(manager);
        let both = none.each.iter().zip(&managed.each).filter(|(a, b)| a.0 > 0.0 && b.0 > 0.0);
        for (without, with) in both {
            assert!((without.0 - with.0).abs() < 1e-6 * without.0, "{manager}");
        }
    }
}

/// Two guests on the wrong side each: with all their memory far from their threads they are put right, once.
#[test]
fn a_guest_whose_memory_is_far_is_moved_once() {
    let machine = machine(2);
    let guest = |cpus| Guest { arrival: 0, departure: 7_200 * SECOND, cpus, mib: 2_048 };
    let stream = Stream::new(vec![guest(400), guest(600)]);
    let period = Period::of(&stream, None).expect("guests");
    for manager in [Manager::Numad(Version::V2015), Manager::Numad(Version::V2025), Manager::Placer]
    {
        // No guest wants anything else in these hours.
        let scene = Scene { change_s: 1e9, pinned: 0.0, ..scene(Start::Unbound, 1) };
        let mut run = Run::new(&machine, &period, manager, &scene);
        let mut last = 1.0;
        while run.now < period.seconds() {
            run.step(&Still).expect("a step");
            last = run.state.guests.iter().map(|guest| guest.slowdown).fold(1.0, f64::max);
        }
        let managed = run.end();
        let moves = (managed.moves, managed.returns);
        match manager {
            Manager::Placer => {
                assert_eq!(moves, (2, 0));
                assert!((last - 1.0).abs() < 1e-6, "{last}");
            }
            _ => assert!(moves.0 > 0, "{manager}: {moves:?} {last}"),
        }
    }
}

#[test]
fn a_period_has_the_guests_that_are_there_when_it_begins() {
    let machine = machine(4);
    let period = period(&machine, 7, 24.0);
    let there = period.guests().iter().filter(|guest| period.since(guest.arrival) < 0.0).count();
    assert!(there > 5, "{there}");
    let demand = period.demand().mib / machine.mib();
    assert!((0.7..0.9).contains(&demand), "{demand}");
    assert!((period.seconds() - 86_400.0).abs() < 1.0);
    let storm: Vec<Guest> =
        (0..1_025).map(|_| Guest { arrival: 0, departure: 60 * SECOND, cpus: 1, mib: 1 }).collect();
    assert!(matches!(Period::of(&Stream::new(storm), None), Err(PeriodError::Crowd(1_025))));
    assert!(matches!(Period::of(&Stream::new(Vec::new()), None), Err(PeriodError::NoGuests)));
}

#[test]
fn a_period_has_at_most_1000_hours() {
    let alone =
        |departure| Stream::new(vec![Guest { arrival: SECOND, departure, cpus: 100, mib: 1 }]);
    let thousand = SECOND + 1_000 * 3_600 * SECOND;
    assert!(Period::of(&alone(thousand), None).is_ok());
    assert_eq!(Period::of(&alone(thousand + 1), None).err(), Some(PeriodError::TooLong(1_001)));
    let years = alone(31_557_600_000 * SECOND);
    let refused = Period::of(&years, None).expect_err("a thousand years").to_string();
    assert!(refused.contains("found 8766000; give --hours"), "{refused}");
    let short = Period::of(&years, Some(2.0)).expect("hours");
    assert_eq!(short.steps(), 1_440);
}

#[test]
fn all_starts_are_weighed_in_one_pass_as_each_by_itself() {
    let machine = machine(4);
    let plan = Plan { seed: 3, guests: 2_000, fill: 0.8, storms: 0.25, storm: 16, unit: 1_024 };
    let stream = generate(&plan, &machine);
    let last = stream.guests().last().expect("guests").arrival;
    for (first, length) in [(0, 3_600 * SECOND), (7 * SECOND + 1, 90_000 * SECOND + 13)] {
        let all = Starts::between(first, last).demands(stream.guests(), length);
        assert!(all.len() > 100, "{}", all.len());
        for (from, mib) in all {
            let wanted = super::guests::demand(stream.guests(), from, from + length).mib;
            assert!((mib - wanted).abs() < 1e-6 * wanted.max(1.0), "{from}: {mib} {wanted}");
        }
    }
    // A stream of a thousand years has no more moments than another.
    let all = Starts::between(0, 31_557_600_000 * SECOND).demands(stream.guests(), SECOND);
    assert!((2_048..=4_096).contains(&all.len()), "{}", all.len());
}

#[test]
fn sets_of_nodes_that_a_guest_left_are_kept_once() {
    let machine = machine(2);
    let mut state = State::new(&machine, 0.5);
    let mut live = Live::new(0, 1.0, 2);
    live.nodes = vec![0];
    state.start(live, &[0.0, 0.0]);
    for turn in 0..1_000 {
        state.bind(0, &[(turn + 1) % 2], vec![0.0, 0.0], false);
    }
    assert_eq!(state.guests[0].left.len(), 2);
    assert_eq!((state.deeds.moves, state.deeds.returns), (1_000, 999));
}

#[test]
fn a_host_on_which_a_manager_cannot_work_is_an_error() {
    let good = machine(2);
    let period = period(&good, 1, 1.0);
    let outcome = |machine: &Machine, manager| {
        manage(machine, &period, manager, &scene(Start::Best, 1), &Still)
    };
    let mut odd = good.clone();
    odd.nodes[1].cap = 1e10;
    let error = outcome(&odd, Manager::Placer).expect_err("an odd node");
    assert_eq!(error, ManageError::Plan(BalanceError::Figure("capacity")));
    let mut host = placer_engine::Host::clone(&good.host);
    host.numad = NumadMachine::from_files(&HostFiles::default());
    let mut odd = good;
    odd.host = Arc::new(host);
    for version in Version::ALL {
        let error = outcome(&odd, Manager::Numad(version)).expect_err("no nodes");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{} cannot", Manager::Numad(version))), "{text}");
        assert!(text.ends_with("found none; leave it out of --manage"), "{text}");
    }
    assert!(outcome(&odd, Manager::None).is_ok());
}
