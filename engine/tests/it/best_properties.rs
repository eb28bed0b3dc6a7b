//! What holds for every host and request.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test may stop where it stands"
)]

use testkit::best as common;

use common::{FILL, Rng, SHAPES, random};
use placer_engine::policy::best::{Request, Workspace, solve};
use proptest::prelude::*;

fn ask(seed: u64, most: u64) -> common::Ask {
    let mut rng = Rng::new(seed);
    let n = 1 + rng.below(most) as usize;
    let (shape, fill, odd) = (*rng.pick(&SHAPES), *rng.pick(&FILL), rng.chance(0.5));
    random(&mut rng, n, shape, fill, odd)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_same_question_has_the_same_answer(seed: u64, other: u64) {
        let ask = ask(seed, 24);
        let host = ask.host();
        let mut fresh = Workspace::new();
        let mut used = Workspace::new();
        let before = common::Ask { ..self::ask(other, 24) };
        solve(&before.host(), &before.request(), &mut used);
        let a = format!("{:?}", solve(&host, &ask.request(), &mut fresh));
        let b = format!("{:?}", solve(&host, &ask.request(), &mut used));
        prop_assert_eq!(a, b);
    }

    #[test]
    fn more_free_memory_never_turns_fits_into_unfit(seed: u64, more in 0.0..10_000.0) {
        let mut ask = ask(seed, 20);
        let mut space = Workspace::new();
        let before = solve(&ask.host(), &ask.request(), &mut space).fits;
        let at = (seed % ask.nodes.len() as u64) as usize;
        ask.nodes[at].mem += more;
        ask.nodes[at].mem_total += more;
        let after = solve(&ask.host(), &ask.request(), &mut space);
        prop_assert!(!before || after.fits);
    }

    #[test]
    fn the_split_is_the_request_and_stays_inside_the_set(seed: u64) {
        let ask = ask(seed, 20);
        let mut space = Workspace::new();
        let host = ask.host();
        let got = solve(&host, &ask.request(), &mut space);
        prop_assert!(got.nodes.is_sorted());
        if got.figures.is_some() {
            let nodes: Vec<u32> = got.split.iter().map(|s| s.node).collect();
            prop_assert_eq!(&got.nodes, &nodes);
            let cpus: f64 = got.split.iter().map(|s| s.cpus).sum();
            prop_assert!((cpus - ask.cpus.max(0.01)).abs() < 1e-6);
            let mem: f64 = got.split.iter().map(|s| s.mem).sum();
            prop_assert!(!got.fits || (mem - ask.mem.max(1.0)).abs() < 1e-6 * ask.mem.max(1.0));
            for share in &got.split {
                let node = ask.nodes.iter().find(|n| n.id == share.node).unwrap();
                prop_assert!(share.mem <= node.mem * (1.0 + 1e-9));
            }
        }
    }

    #[test]
    fn other_ids_change_nothing_else(seed: u64, step in 1u32..50) {
        let mut ask = ask(seed, 20);
        let mut space = Workspace::new();
        let host = ask.host();
        let before: Vec<usize> = solve(&host, &ask.request(), &mut space).nodes.iter()
            .map(|id| ask.nodes.iter().position(|n| n.id == *id).unwrap()).collect();
        for (i, node) in (1u32..).zip(&mut ask.nodes) {
            node.id = i * step;
        }
        let host = ask.host();
        let after: Vec<usize> = solve(&host, &ask.request(), &mut space).nodes.iter()
            .map(|id| ask.nodes.iter().position(|n| n.id == *id).unwrap()).collect();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn another_order_of_the_nodes_gives_an_equally_good_set(seed: u64) {
        let ask = ask(seed, 12);
        let mut space = Workspace::new();
        let host = ask.host();
        let first = solve(&host, &ask.request(), &mut space).clone();
        let mut turned = ask.clone();
        turned.nodes.reverse();
        for (id, node) in (0u32..).zip(&mut turned.nodes) {
            node.id = id;
        }
        turned.distances.reverse();
        turned.distances.iter_mut().for_each(|row| row.reverse());
        let host = turned.host();
        let second = solve(&host, &turned.request(), &mut space);
        prop_assert_eq!(first.fits, second.fits);
        if let (Some(a), Some(b)) = (first.figures, second.figures) {
            // Equal sets differ by 2 % at most.
            prop_assert!(a.slowdown <= b.slowdown * 1.020_001 && b.slowdown <= a.slowdown * 1.020_001);
        }
    }

    #[test]
    fn less_effort_takes_fewer_steps(seed: u64) {
        let mut rng = Rng::new(seed);
        let ask = random(&mut rng, 24, SHAPES[0], (0.0, 0.3), false);
        let host = ask.host();
        let mut space = Workspace::new();
        let short = solve(&host, &Request { effort: Some(2_000), ..ask.request() }, &mut space).steps;
        prop_assert!(short < 10_000, "{}", short);
    }
}
