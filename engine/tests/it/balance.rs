//! Plans against all assignments on small hosts, and what holds for every plan.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::panic,
    reason = "small figures, and a test may stop where it stands"
)]

mod made;
mod reference;
mod room;

use std::time::Duration;

use made::{Case, after};
use nix::time::{ClockId, clock_gettime};
use placer_engine::balance::{Plan, Rules, plan};
use reference::Reference;
use testkit::random::Rng;

fn planned(case: &Case) -> Plan {
    plan(&case.host(), &case.guests, &Rules::default()).expect("sound figures")
}

/// What plans came to on some hosts.
#[derive(Debug, Default)]
struct Tally {
    hosts: usize,
    /// Hosts where some assignment is worth its cost.
    improvable: usize,
    /// Hosts where the plan is within 1 % of the best assignment.
    near: usize,
    /// The same of those that can be improved.
    near_improvable: usize,
    /// Sums of what plans and the best assignments are worth.
    worth: (f64, f64),
}

fn compare(seed: u64, hosts: usize) -> Tally {
    let mut rng = Rng::new(seed);
    let mut tally = Tally { hosts, ..Tally::default() };
    for _ in 0..hosts {
        let case = Case::small(&mut rng);
        let found = planned(&case);
        let reference = Reference::new(&case);
        let worth = reference.check(&found);
        let best = reference.best();
        let before = found.before;
        assert!(worth <= best + 1e-3, "the plan is worth {worth}, the best {best}: {case:#?}");
        let near = before - worth <= (before - best) * 1.01 + 1e-9;
        tally.near += usize::from(near);
        tally.worth.0 += worth;
        tally.worth.1 += best;
        if best > 1e-3 {
            tally.improvable += 1;
            tally.near_improvable += usize::from(near);
        }
    }
    tally
}

#[test]
fn plans_are_near_the_best_of_all_assignments_on_300_small_hosts() {
    let tally = compare(1, 300);
    eprintln!("{tally:?}");
    assert!(tally.improvable * 3 > tally.hosts, "{tally:?}");
    assert!(tally.near_improvable * 100 >= tally.improvable * 95, "{tally:?}");
}

#[test]
#[ignore = "minutes: make test-balance"]
fn plans_are_near_the_best_of_all_assignments_on_5000_small_hosts() {
    let tally = compare(2, 5_000);
    eprintln!("{tally:?}");
    assert!(tally.near_improvable * 100 >= tally.improvable * 95, "{tally:?}");
}

/// No plan makes the host worse, and a plan made after a plan is empty, where no threads roam that would spread anew.
#[test]
fn a_plan_after_a_plan_is_empty() {
    let mut rng = Rng::new(3);
    let (mut moved, mut compared) = (0, 0);
    for round in 0..300 {
        let case = Case::any(&mut rng);
        let first = planned(&case);
        assert!(first.after <= first.before + 1e-6, "{case:#?}");
        assert!(first.steps.is_empty() || first.gain() >= 3.0 * first.cost - 1e-6, "{case:#?}");
        assert_eq!(first, planned(&case), "the same input, the same plan");
        // A group of three may not have found a place in the plan.
        let full = first.steps.len() > 5 || first.limited;
        let roams = case.guests.iter().any(|guest| guest.threads.len() > 1);
        moved += first.steps.len();
        if !full && !roams {
            let second = planned(&after(&case, &first, 0.0));
            assert_eq!(second.steps, [], "round {round}: {first:#?}\n{case:#?}");
            compared += usize::from(!first.steps.is_empty());
        }
    }
    assert!(moved > 200 && compared > 20, "{moved} moves, {compared} compared");
}

/// Guests that have rested may move again, and yet plans come to an end: nothing is moved back and forth.
#[test]
fn plans_come_to_an_end() {
    let mut rng = Rng::new(5);
    let mut most = 0;
    for round in 0..100 {
        let mut case = Case::any(&mut rng);
        let mut plans = 0;
        loop {
            let found = planned(&case);
            if found.steps.is_empty() {
                break;
            }
            plans += 1;
            assert!(plans <= 12, "round {round}: {found:#?}");
            case = after(&case, &found, 1e4);
        }
        most = most.max(plans);
    }
    assert!(most > 1, "{most}");
}

/// The CPU time of this thread: other programs of a busy machine do not count.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).expect("a clock")
}

#[test]
#[ignore = "times: make test-balance"]
fn planning_200_guests_on_16_nodes_takes_at_most_10_ms() {
    let mut rng = Rng::new(4);
    let cases: Vec<Case> = (0..300).map(|_| Case::large(&mut rng, 16, 200)).collect();
    let mut times: Vec<f64> = Vec::new();
    let (mut steps, mut limited) = (0, 0);
    for case in &cases {
        let start = cpu_time();
        let found = planned(case);
        times.push((cpu_time() - start).as_secs_f64() * 1e3);
        steps += found.steps.len();
        limited += usize::from(found.limited);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[(times.len() as f64 * part) as usize];
    println!(
        "16 nodes, 200 guests, {} plans: CPU time p50 {:.2} ms, p99 {:.2} ms, {steps} moves, {limited} limited",
        times.len(),
        at(0.5),
        at(0.99)
    );
    assert!(at(0.99) <= 10.0, "p99 {:.2} ms", at(0.99));
}
