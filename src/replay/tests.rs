//! Small streams computed by hand, what always holds, and what the replay is for.

use std::path::Path;

use placer_engine::policy::numad::Version;
use placer_engine::{Bytes, Snapshot, SysRoot};
use proptest::prelude::*;

use super::guest::{Guest, SECOND};
use super::run::Run;
use super::*;

/// No time passes, and nobody looks.
pub(super) struct Still;

impl Watch for Still {
    fn now(&self) -> u64 {
        0
    }

    fn passed(&self, _: u64) {}
}

/// Returns a host by nodes, CPUs and GiB of each.
pub(super) fn made((nodes, cpus, gib): (u32, u32, u64), shape: Shape) -> Machine {
    let made = Made { nodes, cpus, caches: 1, memory: Bytes::new(gib << 30) };
    Machine::of(&made.snapshot(shape).expect("a host")).expect("a machine")
}

pub(super) fn recorded(name: &str) -> Machine {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sysfs-fixtures").join(name);
    let root = SysRoot::at(dir);
    let snapshot = Snapshot::take(&root, std::time::Duration::ZERO).expect("a snapshot");
    Machine::of(&snapshot).expect("a machine")
}

/// A course of guests that keep all their CPUs busy.
fn course(rule: Rule, claims: bool, touch: u64) -> Course {
    let habits = Habits { seed: 1, touch: touch * SECOND, busy: 1.0 };
    let tuning = Tuning { memory_bound: 0.5, effort: None };
    Course { rule, claims, pinned: false, tuning, habits }
}

fn stream(guests: &[(u64, u64, u32, u32)]) -> Stream {
    let guests = guests.iter().map(|&(from, to, cpus, mib)| Guest {
        arrival: from * SECOND,
        departure: to * SECOND,
        cpus: cpus * 100,
        mib,
    });
    Stream::new(guests.collect())
}

/// Returns whether a rule names nodes only if their memory, less what is claimed, holds the guest. All do but
/// numad's of 2025, which counts the memory of a busy node and does not name the node.
fn keeps_promises(rule: Rule) -> bool {
    rule != Rule::Numad(Version::V2025)
}

fn close(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-6, "{found}, wanted {wanted}");
}

#[test]
fn two_guests_on_one_node_slow_each_other_while_both_are_there() {
    let machine = made((2, 2, 4), Shape::Flat);
    let guests = stream(&[(0, 100, 2, 1000), (50, 150, 2, 1000)]);
    let outcome = replay(&machine, &guests, &course(Rule::FirstFit, false, 0), &Still);
    // Each is alone for 50 s, and for 50 s there are 4 threads on 2 CPUs.
    close(outcome.slowdown.mean, 1.5);
    close(outcome.slowdown.p99, 1.5);
    close(outcome.distance, 10.0);
    // The first finds an idle host, the second one node with all of its load.
    close(outcome.hottest, (1.0 + 2.0) / 2.0);
    close(outcome.load, (0.0 + 0.5) / 2.0);
    assert_eq!((outcome.arrivals, outcome.refused, outcome.departed), (2, 0, 2));

    // The policy that looks at load puts the second where it is alone.
    let outcome = replay(&machine, &guests, &course(Rule::Best, false, 0), &Still);
    close(outcome.slowdown.mean, 1.0);
    close(outcome.one_node, 1.0);
}

#[test]
fn a_guest_wider_than_a_node_has_half_of_its_memory_farther() {
    let machine = made((2, 2, 4), Shape::Flat);
    let guests = stream(&[(0, 100, 4, 3000)]);
    for rule in Rule::all() {
        let outcome = replay(&machine, &guests, &course(rule, true, 0), &Still);
        close(outcome.distance, 15.5);
        // Half of its time it waits for memory that is 1.55 times as far.
        close(outcome.slowdown.mean, 0.5 + 0.5 * 1.55);
        close(outcome.one_node, 0.0);
    }
}

#[test]
fn threads_that_may_roam_go_where_it_is_idle() {
    let machine = made((2, 2, 4), Shape::Flat);
    // The wide guest comes to a host whose node 0 is full: it runs on node 1, as far as that goes,
    // and until the other ends there are 6 threads on 4 CPUs.
    let guests = stream(&[(0, 50, 2, 100), (10, 110, 4, 100)]);
    let outcome = replay(&machine, &guests, &course(Rule::FirstFit, false, 0), &Still);
    // Spread evenly at once: 1 thread on node 0 and 3 on node 1, all 1.5 times crowded for 40 s. When
    // the other has ended, threads stay until their load changes, which they do at some time.
    assert!(outcome.slowdown.mean > 1.0 + 0.4 * 0.5, "{:?}", outcome.slowdown);
    close(outcome.quantiles[0], (10.0 + 40.0 * 1.5) / 50.0);
}

#[test]
fn a_storm_without_claims_promises_memory_twice() {
    // 4,096 MiB on each of two nodes, and three guests of 3,000 before any has touched a page.
    let machine = made((2, 2, 4), Shape::Flat);
    let guests = stream(&[(0, 100, 1, 3000), (1, 100, 1, 3000), (2, 100, 1, 3000)]);
    let outcome = replay(&machine, &guests, &course(Rule::FirstFit, false, 60), &Still);
    assert_eq!((outcome.refused, outcome.promised), (0, 9_000));
    // All on node 0; the second and the third have what is left of node 1, and no more is there.
    assert_eq!((outcome.beyond, outcome.beyond_guests), (9_000 - 4_096, 2));
    assert_eq!((outcome.spilled, outcome.swapped), (4_096, 9_000 - 8_192));
    close(outcome.distance, f64::from(10 * 4_096 + 21 * 4_096) / 8_192.0);

    let outcome = replay(&machine, &guests, &course(Rule::FirstFit, true, 60), &Still);
    assert_eq!((outcome.refused, outcome.promised, outcome.beyond), (1, 6_000, 0));
    assert_eq!((outcome.spilled, outcome.swapped), (0, 0));
    close(outcome.distance, 10.0);
}

#[test]
fn numad_of_2025_promises_memory_twice_with_claims_too() {
    // The first keeps node 0 busy. Its free memory counts for the second, which is sent to node 1 alone.
    let machine = made((2, 2, 4), Shape::Flat);
    let guests = stream(&[(0, 100, 2, 1000), (10, 100, 1, 5_000)]);
    let beyond = |version, claims| {
        let outcome = replay(&machine, &guests, &course(Rule::Numad(version), claims, 0), &Still);
        assert_eq!(outcome.refused, 0);
        outcome.beyond
    };
    for claims in [false, true] {
        assert_eq!(beyond(Version::V2025, claims), 5_000 - 4_096, "claims {claims}");
        assert_eq!(beyond(Version::V2015, claims), 0, "claims {claims}");
    }
}

#[test]
fn guests_that_are_too_large_for_the_host_are_refused_by_all() {
    let machine = made((2, 2, 4), Shape::Flat);
    let guests = stream(&[(0, 100, 5, 100), (0, 100, 1, 8_193)]);
    for rule in Rule::all() {
        let outcome = replay(&machine, &guests, &course(rule, false, 0), &Still);
        assert_eq!((outcome.arrivals, outcome.refused, outcome.departed), (2, 2, 0), "{rule}");
    }
}

#[test]
fn a_guest_that_departs_before_it_wakes_leaves_nothing() {
    let machine = made((2, 2, 4), Shape::Flat);
    let guests = stream(&[(0, 5, 1, 1000), (10, 100, 1, 1000)]);
    let outcome = replay(&machine, &guests, &course(Rule::Best, true, 20), &Still);
    assert_eq!((outcome.departed, outcome.quantiles.len()), (2, 101));
    close(outcome.slowdown.mean, 1.0);
}

/// Hosts of many kinds: gaps, memory without CPUs, CPUs without memory, hardware threads, load.
const KINDS: &[&str] = &[
    "ring-4-busy",
    "uneven-8-busy",
    "cpuless",
    "memless-busy",
    "hmat-busy",
    "sixteen-busy",
    "one-node-busy",
    "isolated-4",
    "hugepages-4",
    "two-nodes-busy",
];

fn any_guests() -> impl Strategy<Value = Vec<Guest>> {
    let guest = (0u64..400, 1u64..300, 1u32..600, 1u32..400).prop_map(|(from, life, cpus, mib)| {
        let arrival = from * SECOND;
        Guest { arrival, departure: arrival + life * SECOND, cpus, mib }
    });
    proptest::collection::vec(guest, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever comes: no node holds more than it has, all that came has gone, and with claims no rule but
    /// numad's of 2025 promises memory twice.
    #[test]
    fn memory_and_guests_add_up(
        kind in 0..KINDS.len(),
        guests in any_guests(),
        touch in 0u64..60,
        busy in 0.05f64..1.0,
    ) {
        let machine = recorded(KINDS[kind]);
        let stream = Stream::new(guests);
        for rule in Rule::all() {
            for claims in [false, true] {
                let mut course = course(rule, claims, touch);
                course.habits.busy = busy;
                let mut run = Run::new(&machine, &stream, &course);
                for (number, guest) in (0u32..).zip(stream.guests()) {
                    run.until(guest.arrival);
                    run.arrive(number, &Still);
                    prop_assert_eq!(run.state.overfull(), None);
                }
                run.until(u64::MAX);
                prop_assert_eq!(run.state.leftovers(), None, "{}", rule);
                let outcome = replay(&machine, &stream, &course, &Still);
                prop_assert_eq!(outcome.arrivals, stream.guests().len() as u64);
                prop_assert_eq!(outcome.refused + outcome.departed, outcome.arrivals);
                prop_assert!(outcome.beyond <= outcome.promised);
                if claims && keeps_promises(rule) {
                    let Outcome { beyond, spilled, swapped, .. } = outcome;
                    prop_assert_eq!((beyond, spilled, swapped), (0, 0, 0), "{}", rule);
                }
                // Nobody is faster than alone on the nearest memory there is.
                let nearest = machine.distances.iter().copied().fold(10.0, f64::min);
                let floor = 0.5 + 0.5 * nearest / 10.0;
                prop_assert!(outcome.quantiles.iter().all(|&slow| slow >= floor - 1e-6));
            }
        }
    }
}

fn plan(guests: u32) -> Plan {
    Plan { seed: 1, guests, fill: 0.8, storms: 0.25, storm: 16, unit: 1024 }
}

/// Replays a stream made up by some rules, with the CPUs as busy as for this load.
fn outcomes(machine: &Machine, plan: &Plan, load: f64, rules: &[(Rule, bool)]) -> Vec<Outcome> {
    let stream = generate(plan, machine);
    let busy = load * machine.capacity() / stream.demand().cpus;
    let each = rules.iter().map(|&(rule, claims)| {
        let mut course = course(rule, claims, 20);
        course.habits.busy = busy;
        replay(machine, &stream, &course, &Still)
    });
    each.collect()
}

#[test]
fn the_guests_made_up_ask_for_what_they_should() {
    let machine = made((4, 16, 128), Shape::Ring);
    let stream = generate(&plan(20_000), &machine);
    let demand = stream.demand();
    assert!((0.7..0.9).contains(&(demand.mib / machine.mib())), "{demand:?}");
    let count = |test: fn(&Guest) -> bool| {
        stream.guests().iter().filter(|guest| test(guest)).count() * 100 / stream.guests().len()
    };
    assert!((48..=52).contains(&count(|guest| guest.cpus == 100)));
    assert!((1..=3).contains(&count(|guest| guest.cpus > 1_600)), "wider than a node");
    assert!((76..=82).contains(&count(|guest| guest.life() < 5 * 3_600 * SECOND)));
    // Storms: a quarter arrives within a second of fifteen others.
    let arrivals: Vec<u64> = stream.guests().iter().map(|guest| guest.arrival).collect();
    let stormy = arrivals.windows(16).filter(|w| w[15] - w[0] <= SECOND).count() * 16;
    assert!((20..=30).contains(&(stormy * 100 / arrivals.len())), "{stormy}");
    assert_eq!(generate(&plan(500), &machine), generate(&plan(500), &machine));
    assert_ne!(generate(&Plan { seed: 2, ..plan(500) }, &machine), generate(&plan(500), &machine));
}

#[test]
fn the_same_stream_gives_the_same_figures() {
    let machine = made((4, 16, 128), Shape::Ring);
    let all: Vec<_> = Rule::all().into_iter().map(|rule| (rule, true)).collect();
    let plan = plan(400);
    assert_eq!(outcomes(&machine, &plan, 1.2, &all), outcomes(&machine, &plan, 1.2, &all));
}

/// What docs/src/replay.md shows in full: claims decide storms.
#[test]
fn claims_decide_storms() {
    let machine = made((4, 16, 128), Shape::Ring);
    let rules = Rule::all();
    let pairs: Vec<_> = rules.iter().flat_map(|&rule| [(rule, false), (rule, true)]).collect();
    let all = outcomes(&machine, &plan(4_000), 0.7, &pairs);
    for ((rule, _), pair) in pairs.chunks(2).map(|pair| pair[0]).zip(all.chunks(2)) {
        let [without, with] = pair else { unreachable!("pairs") };
        assert!(without.beyond * 50 > without.promised, "{rule}: more than 2 %");
        if keeps_promises(rule) {
            assert_eq!((with.beyond, with.spilled, with.swapped), (0, 0, 0), "{rule}");
        } else {
            assert!(with.beyond < without.beyond, "{rule}: {}", with.beyond);
        }
        // Between rules the difference is smaller: nobody gets by without.
        assert!(with.refused < with.arrivals / 10, "{rule}: {}", with.refused);
    }
}

/// What docs/src/replay.md says of a busy host of two nodes.
#[test]
fn numad_of_2025_promises_memory_twice_on_busy_hosts() {
    let machine = made((2, 16, 64), Shape::Ring);
    let rules = Version::ALL.map(|version| (Rule::Numad(version), true));
    let all = outcomes(&machine, &Plan { fill: 0.9, ..plan(3_000) }, 1.0, &rules);
    let [older, newer] = all.as_slice() else { unreachable!("two") };
    let count = |outcome: &Outcome| (outcome.beyond_guests, outcome.beyond, outcome.promised);
    println!("guests promised memory that is not there, MiB of it, MiB promised:");
    println!("numad {:?}, numad-2025 {:?}", count(older), count(newer));
    assert_eq!((older.beyond_guests, older.beyond), (0, 0));
    assert!(newer.beyond_guests > 0 && newer.beyond * 100 > newer.promised, "{:?}", count(newer));
}

/// What docs/src/replay.md shows in full: numad's guests live slower where CPUs are overcommitted.
#[test]
fn numads_guests_live_slower_on_overcommitted_cpus() {
    let machine = made((4, 16, 128), Shape::Ring);
    for claims in [false, true] {
        let rules = [(Rule::Best, claims), (Rule::Numad(Version::V2015), claims)];
        let all = outcomes(&machine, &plan(4_000), 1.2, &rules);
        let [best, numad] = all.as_slice() else { unreachable!("two") };
        assert!(best.load > 0.9, "{}", best.load);
        let longer = (numad.slowdown.mean - 1.0) / (best.slowdown.mean - 1.0);
        assert!(longer > 1.2, "claims {claims}: {:?} {:?}", numad.slowdown, best.slowdown);
        assert!(numad.distance > best.distance + 1.0, "claims {claims}");
    }
}

/// A course of guests that own their CPUs.
fn pinned(rule: Rule) -> Course {
    Course { pinned: true, ..course(rule, true, 0) }
}

/// Returns a host of one node of so many caches of four CPUs.
fn of_caches(caches: u32) -> Machine {
    let made = Made { nodes: 1, cpus: 4 * caches, caches, memory: Bytes::new(64 << 30) };
    Machine::of(&made.snapshot(Shape::Flat).expect("a host")).expect("a machine")
}

#[test]
fn guests_that_own_their_cpus_are_counted_by_caches() {
    let machine = of_caches(3);
    // Two small guests, a guest of a whole cache, and one that departs first of all.
    let guests = stream(&[(0, 9, 1, 10), (1, 99, 3, 10), (10, 99, 2, 10), (20, 99, 4, 10)]);
    let pins = |rule| replay(&machine, &guests, &pinned(rule), &Still).pins.expect("pinned");
    // best fills the hole of the first cache with none: 3 there, 2 in the second, 4 in the third.
    let best = pins(Rule::Best);
    assert_eq!((best.guests, best.across, best.whole, best.possible), (4, 0, 0, 0));
    // The lowest idle CPUs: 0; 1-3; 0 and 4; 5-8.
    assert_eq!(pins(Rule::LowestIdle), Pins { guests: 4, across: 2, whole: 0, possible: 0 });
    // A guest that finds too few CPUs is refused; none may share.
    let full = stream(&[(0, 99, 12, 10), (1, 99, 1, 10)]);
    for rule in Rule::all().into_iter().chain(Rule::of_cpus()) {
        let outcome = replay(&machine, &full, &pinned(rule), &Still);
        assert_eq!((outcome.refused, outcome.departed), (1, 1), "{rule}");
    }
    // What departs gives its CPUs back: three whole caches for the last guests.
    let turns = stream(&[(0, 5, 12, 10), (6, 9, 12, 10), (10, 20, 1, 10)]);
    let pins = replay(&machine, &turns, &pinned(Rule::Best), &Still).pins.expect("pinned");
    assert_eq!((pins.guests, pins.across, pins.whole, pins.possible), (1, 0, 2, 2));
}

#[test]
fn best_leaves_more_whole_caches_than_rules_without_them() {
    let machine = of_caches(16);
    let plan = Plan { seed: 1, guests: 2_000, fill: 0.2, storms: 0.0, storm: 2, unit: 1024 };
    let guests = generate(&plan, &machine);
    let share = |rule| {
        let pins = replay(&machine, &guests, &pinned(rule), &Still).pins.expect("pinned");
        assert!(pins.whole <= pins.possible.max(1), "{pins:?}");
        pins.across
    };
    let (best, kubelet, lowest) =
        (share(Rule::Best), share(Rule::Kubelet), share(Rule::LowestIdle));
    assert!(best <= kubelet && kubelet < lowest, "{best} {kubelet} {lowest}");
}
