use std::sync::Arc;

use super::super::model::{DistanceMatrix, Host, Node, Prefer, Request};
use super::*;

/// Nodes with that much free memory; more is more room.
fn host(mem: &[f64]) -> Host {
    let nodes = (0..).zip(mem).map(|(id, &mem)| Node {
        id,
        cpus: 4,
        cap: 4.0,
        idle: 4.0,
        mem,
        mem_total: 4096.0,
    });
    let distances =
        DistanceMatrix::new(mem.len(), vec![10.0; mem.len() * mem.len()]).expect("distances");
    Host::new(nodes.collect(), Arc::new(distances)).expect("a host")
}

/// Offers the sets in turn and returns the set and slowdown of the answer.
fn answer(mem: &[f64], offers: &[(&[usize], u64)]) -> (Vec<usize>, u64) {
    let (host, mut front) = (host(mem), ParetoFront::default());
    let problem = Problem::new(&host, &Request::new(4.0, 100.0));
    front.clear();
    offers.iter().for_each(|&(set, slowdown)| front.offer(&problem, set, slowdown));
    let best = front.best().expect("an answer");
    (best.set.clone(), best.slowdown_ppm)
}

#[test]
fn two_percent_is_counted_in_whole_parts() {
    assert_eq!(limit(1_000_000), 1_020_000);
    assert_eq!(limit(1_000_049), 1_020_049);
    assert_eq!(limit(1_000_050), 1_020_051);
    assert_eq!((limit(0), limit(49), limit(50)), (0, 49, 51));
    assert_eq!(limit(u64::MAX), u64::MAX);
    assert_eq!((above(1_000_000), above(u64::MAX)), (1_000_001.0, f64::INFINITY));
}

#[test]
fn the_lowest_equal_slowdown_is_the_least_whose_limit_reaches() {
    let around = |middle: u64| middle.saturating_sub(60)..=middle.saturating_add(60);
    let middles = [60, 1_000_000, 1_020_000, 1 << 53, 1 << 60, u64::MAX - 200, u64::MAX];
    for slowdown in middles.into_iter().flat_map(around) {
        let low = lowest_equal(slowdown);
        assert!(limit(low) >= slowdown, "{slowdown}");
        assert!(low == 0 || limit(low - 1) < slowdown, "{slowdown}");
    }
}

#[test]
fn the_goal_of_a_huge_slowdown_is_found_at_once() {
    let (host, mut front) = (host(&[100.0]), ParetoFront::default());
    let problem = Problem::new(&host, &Request::new(4.0, 100.0));
    for slowdown in [1 << 53, 1 << 60, u64::MAX] {
        front.clear();
        assert_eq!(front.goal(), f64::INFINITY);
        front.offer(&problem, &[0], slowdown);
        let part = front.goal() / above(slowdown).min(u64::MAX as f64);
        assert!((part - 1.0 / 1.02).abs() < 1e-8, "{slowdown}: {part}");
    }
}

#[test]
fn what_rounds_to_the_goal_rules_nothing_out() {
    let (host, mut front) = (host(&[100.0]), ParetoFront::default());
    let problem = Problem::new(&host, &Request::new(4.0, 100.0));
    front.clear();
    front.offer(&problem, &[0], 1_020_000);
    // 1,000,000 leaves it equal, 999,999 does not; between them rounding decides.
    let goal = front.goal();
    assert!(goal > 999_999.5 && goal < 999_999.6, "{goal}");
    // The margin grows with the slowdown, and is never below a thousandth.
    for (slowdown, low, margin) in [(102_000_000, 1e8, 0.1), (51, 50.0, 1e-3)] {
        front.clear();
        front.offer(&problem, &[0], slowdown);
        let over = front.goal() - (low - 0.5);
        assert!((over - margin).abs() < 1e-6, "{slowdown}: {over}");
    }
}

#[test]
fn fewer_nodes_win_among_equals_and_faster_ones_beyond() {
    let mem = [100.0, 100.0, 100.0];
    assert_eq!(answer(&mem, &[(&[0, 1], 1_000_000), (&[2], 1_020_000)]).0, [2]);
    assert_eq!(answer(&mem, &[(&[2], 1_020_000), (&[0, 1], 1_000_000)]).0, [2]);
    assert_eq!(answer(&mem, &[(&[0, 1], 1_000_000), (&[2], 1_020_001)]).0, [0, 1]);
    assert_eq!(answer(&mem, &[(&[2], 1_020_001), (&[0, 1], 1_000_000)]).0, [0, 1]);
}

#[test]
fn room_then_low_ids_decide_among_as_many_nodes() {
    let mem = [100.0, 300.0, 300.0];
    let in_any_order: [[usize; 3]; 3] = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];
    for order in in_any_order {
        let offers = order.map(|at| (std::slice::from_ref(&[0, 1, 2][at]), 1_000_000));
        assert_eq!(answer(&mem, &offers).0, [1], "{order:?}");
    }
    // Slower, with more room, and still equal.
    assert_eq!(answer(&mem, &[(&[0], 1_000_000), (&[2], 1_010_000)]), (vec![2], 1_010_000));
}

#[test]
fn a_set_beaten_under_one_lowest_slowdown_comes_back_under_none() {
    // [0] wins at first, and is out once [0, 1] and then [1, 2] are faster.
    let mem = [100.0, 200.0, 300.0];
    let offers: [(&[usize], u64); 4] =
        [(&[0], 1_020_000), (&[0, 1], 1_000_000), (&[1, 2], 990_000), (&[0, 1], 1_000_000)];
    assert_eq!(answer(&mem, &offers), (vec![1, 2], 990_000));
}

#[test]
fn only_what_may_become_the_answer_is_kept() {
    let (host, mut front) = (host(&[100.0, 200.0, 300.0]), ParetoFront::default());
    let problem =
        Problem::new(&host, &Request { prefer: Prefer::Room, ..Request::new(4.0, 100.0) });
    front.clear();
    assert_eq!((front.low(), front.changes()), (u64::MAX, 0));
    front.offer(&problem, &[1], 1_000_000);
    assert_eq!((front.low(), front.limit(), front.changes()), (1_000_000, 1_020_000, 1));
    // Too slow; as fast with less room; slower with more nodes; the same again.
    front.offer(&problem, &[2], 1_020_001);
    front.offer(&problem, &[0], 1_000_000);
    front.offer(&problem, &[1, 2], 1_000_001);
    front.offer(&problem, &[1], 1_000_000);
    assert_eq!((front.low(), front.changes(), front.entries().len()), (1_000_000, 1, 1));
    // As fast with more room: it takes the place.
    front.offer(&problem, &[2], 1_000_000);
    assert_eq!((front.changes(), front.entries().len()), (2, 1));
    assert_eq!(front.best().map(|e| e.set.clone()), Some(vec![2]));
    // Faster with more nodes: both may be the answer. The fastest is not the best.
    front.offer(&problem, &[1, 2], 999_999);
    assert_eq!((front.low(), front.entries().len()), (999_999, 2));
    assert_eq!(front.fastest().map(|e| e.slowdown_ppm), Some(999_999));
    assert_eq!(front.best().map(|e| e.slowdown_ppm), Some(1_000_000));
    // So much faster that neither counts; their buffers stay.
    front.offer(&problem, &[0, 1, 2], 900_000);
    assert_eq!((front.entries().len(), front.entries.len()), (1, 2));
    // Before the first offer of the next request nothing is known.
    front.clear();
    assert!(front.best().is_none() && front.fastest().is_none() && front.limit() == u64::MAX);
}
