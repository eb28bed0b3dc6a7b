//! Beyond 16 useful nodes: no certificate and no gap is wrong where that can be told.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test may stop where it stands"
)]

use testkit::best as common;

use common::{Ask, FILL, Rng, SHAPES, brute, plain, random};
use placer_engine::policy::best::{
    Proof, Request, Solution, Workspace, prove_single_node, solve, solve_by_sets, try_single_node,
};

/// Says what the answer claims: no set is below this, in millionths.
fn claim(got: &Solution) -> f64 {
    let micros = got.figures.expect("figures").slowdown * 1e6;
    match got.proof {
        Proof::Optimal => micros / 1.02,
        Proof::Gap(gap) => {
            assert!(gap >= 0.02, "a gap below 2 % is a certificate");
            micros / (1.0 + gap)
        }
    }
}

/// Returns the lowest slowdown of all sets of up to 3 nodes.
fn lowest_of_three(ask: &Ask) -> f64 {
    let n = ask.nodes.len();
    let mut low = f64::INFINITY;
    let mut look = |set: &[usize]| {
        if let Some(p) = plain(ask, set) {
            low = low.min(p.slowdown_ppm as f64);
        }
    };
    for a in 0..n {
        look(&[a]);
        for b in a + 1..n {
            look(&[a, b]);
            for c in b + 1..n {
                look(&[a, b, c]);
            }
        }
    }
    low
}

#[test]
fn every_set_of_17_and_18_nodes_is_above_the_claim() {
    let mut rng = Rng::new(5);
    let mut space = Workspace::new();
    let (mut certified, mut equal, mut rounds) = (0, 0, 0);
    for round in 0..150 {
        let n = 17 + rng.below(2) as usize;
        let (shape, fill, odd) = (*rng.pick(&SHAPES), *rng.pick(&FILL), rng.chance(0.3));
        let ask = random(&mut rng, n, shape, fill, odd);
        // A short search, so that gaps are seen as well.
        let effort = *rng.pick(&[None, None, Some(5_000), Some(0)]);
        let host = ask.host();
        let got = solve(&host, &Request { effort, ..ask.request() }, &mut space);
        let Some(want) = brute(&ask) else { continue };
        rounds += 1;
        assert!(
            want.lowest_ppm as f64 >= claim(got).floor(),
            "round {round}: {got:?} {want:?} {ask:?}"
        );
        certified += usize::from(got.proof == Proof::Optimal);
        equal += usize::from(got.nodes == want.nodes);
    }
    println!("{rounds} hosts, {certified} certified, {equal} answers as by brute force");
    assert!(equal * 100 >= rounds * 80);
}

#[test]
fn what_is_certain_is_the_rules_answer_and_no_search_says_otherwise() {
    let mut rng = Rng::new(11);
    let (mut space, mut other) = (Workspace::new(), Workspace::new());
    let (mut looked, mut found) = (0, 0);
    for round in 0..600 {
        let (shape, fill, odd) = (*rng.pick(&SHAPES), *rng.pick(&FILL), rng.chance(0.3));
        let mut ask = random(&mut rng, 17, shape, fill, odd);
        // Guests of a node or less, on nodes without much idle: where the question comes up.
        let idle = *rng.pick(&[0.0, 0.1, 0.5]);
        ask.nodes.iter_mut().for_each(|node| node.idle *= idle);
        ask.cpus = *rng.pick(&[0.5, 1.0, 2.0, 4.0]);
        let host = ask.host();
        if try_single_node(&host, &ask.request()).is_some()
            || !prove_single_node(&host, &ask.request(), &mut space)
        {
            continue;
        }
        let got = space.solution();
        assert_eq!((got.nodes.len(), got.proof), (1, Proof::Optimal), "round {round}");
        let sought = solve_by_sets(&host, &ask.request(), &mut other);
        if sought.proof == Proof::Optimal {
            assert_eq!(sought.nodes, got.nodes, "round {round}: {ask:?}");
            assert_eq!(sought.figures, got.figures);
            looked += 1;
        }
        // A brute force takes a tenth of a second.
        if found < 25 {
            let want = brute(&ask).expect("an answer");
            assert_eq!(got.nodes, want.nodes, "round {round}: {got:?} {want:?} {ask:?}");
            found += 1;
        }
    }
    println!("{looked} certain answers as searched, {found} as by brute force");
    assert!(looked >= 60 && found == 25, "{looked} {found}");
}

#[test]
fn every_set_of_up_to_3_of_64_nodes_is_above_the_claim() {
    let mut rng = Rng::new(6);
    let mut space = Workspace::new();
    let mut certified = 0;
    for round in 0..300 {
        let (shape, fill, odd) = (*rng.pick(&SHAPES), *rng.pick(&FILL), rng.chance(0.3));
        let n = *rng.pick(&[20, 36, 64]);
        let ask = random(&mut rng, n, shape, fill, odd);
        let host = ask.host();
        let got = solve(&host, &ask.request(), &mut space);
        if got.figures.is_none() {
            continue;
        }
        let low = lowest_of_three(&ask);
        assert!(low >= claim(got).floor(), "round {round}: {got:?} {low} {ask:?}");
        certified += usize::from(got.proof == Proof::Optimal);
    }
    println!("{certified} of 300 certified");
}

#[test]
fn a_limited_search_is_never_slower_than_its_seeds() {
    let mut rng = Rng::new(8);
    let mut space = Workspace::new();
    for _ in 0..200 {
        let ask = random(&mut rng, 40, dice_shape(&mut Rng::new(9)), (0.0, 0.3), false);
        let seed: Vec<u32> =
            ask.nodes.iter().filter(|_| rng.chance(0.3)).map(|node| node.id).collect();
        let set: Vec<usize> = (0..40).filter(|&i| seed.contains(&ask.nodes[i].id)).collect();
        let Some(own) = (set.len() <= 24).then(|| plain(&ask, &set)).flatten() else { continue };
        let seeds = [seed.as_slice()];
        let request = Request { effort: Some(0), seeds: &seeds, ..ask.request() };
        let host = ask.host();
        let got = solve(&host, &request, &mut space);
        assert!(got.figures.unwrap().slowdown * 1e6 <= own.slowdown_ppm as f64 * 1.02 + 0.5);
    }
}

fn dice_shape(rng: &mut Rng) -> common::Shape {
    *rng.pick(&SHAPES)
}
