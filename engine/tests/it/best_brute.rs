//! Brute force agrees on every random host.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test may stop where it stands"
)]

use testkit::best as common;

use common::unusual::{differs, unusual};
use common::{FILL, Rng, SHAPES, brute, random};
use placer_engine::policy::best::{Proof, Workspace, solve};

fn agree(rng: &mut Rng, sizes: std::ops::RangeInclusive<usize>, count: usize) {
    let mut space = Workspace::new();
    for round in 0..count {
        let n = sizes.start() + rng.below((sizes.end() - sizes.start() + 1) as u64) as usize;
        let (shape, fill, odd) = (*rng.pick(&SHAPES), *rng.pick(&FILL), rng.chance(0.4));
        let ask = random(rng, n, shape, fill, odd);
        let got = solve(&ask.host(), &ask.request(), &mut space);
        assert_eq!(got.proof, Proof::Optimal);
        match brute(&ask) {
            Some(want) => {
                assert_eq!(got.nodes, want.nodes, "round {round}: {ask:?}");
                let figures = got.figures.expect("figures");
                assert_eq!(
                    figures.slowdown,
                    want.slowdown_ppm as f64 / 1e6,
                    "round {round}: {ask:?}"
                );
                for (share, (cpus, mem)) in got.split.iter().zip(&want.split) {
                    assert!((share.cpus - cpus).abs() < 1e-9 && (share.mem - mem).abs() < 1e-6);
                }
            }
            None => {
                assert!(got.figures.is_none() && !got.fits, "round {round}: {ask:?}");
            }
        }
    }
}

/// Other hosts with `BEST_SEED=n`.
fn seed(own: u64) -> u64 {
    own + 1000 * std::env::var("BEST_SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(0)
}

#[test]
fn twenty_thousand_hosts_up_to_8_nodes() {
    agree(&mut Rng::new(seed(1)), 1..=8, 20_000);
}

#[test]
fn a_thousand_hosts_of_9_to_16_nodes() {
    agree(&mut Rng::new(seed(2)), 9..=12, 2_000);
    agree(&mut Rng::new(seed(3)), 12..=16, 1_000);
}

/// Compares `count` hosts of unusual shape, one in four with a request that does not fit, and prints what
/// came of it. Most have up to 10 nodes, a fifth 11 to 13, one in a hundred up to 16.
fn compare(seed: u64, count: u64) {
    let (mut rng, mut space) = (Rng::new(seed), Workspace::new());
    let (mut unfit, mut differ, mut past) = (0, 0, 0);
    for round in 0..count {
        let n = match rng.below(100) {
            0 => 14 + rng.below(3),
            1..=20 => 11 + rng.below(3),
            21..=60 => 7 + rng.below(4),
            _ => 1 + rng.below(6),
        };
        let ask = unusual(&mut rng, n as usize, round % 4 == 0);
        if let Err(what) = differs(&ask, &mut space) {
            let steps = what.ends_with("steps");
            *if steps { &mut past } else { &mut differ } += 1;
            println!("host {round} of seed {seed}: {what}\n    {ask:?}");
        }
        unfit += u64::from(!space.solution().fits);
    }
    println!(
        "{count} hosts, {unfit} with a request that does not fit, {differ} differ, \
         {past} past the step limit"
    );
    assert_eq!((differ, past), (0, 0));
    assert!(unfit * 5 >= count, "{unfit} of {count} do not fit");
}

#[test]
fn four_thousand_hosts_of_unusual_shape_are_as_by_brute_force() {
    compare(seed(4), 4_000);
}

/// Code review A1: a node's largest part of the memory was taken for its least, so that sets with the answer
/// were excluded, and the answer was called optimal. 3 in 100 of these hosts were answered wrongly.
#[test]
fn requests_beyond_the_hosts_memory_are_as_optimal_as_claimed() {
    let (mut rng, mut space) = (Rng::new(seed(6)), Workspace::new());
    let mut unfit = 0;
    for round in 0..500 {
        let n = 11 + rng.below(3) as usize;
        let ask = unusual(&mut rng, n, true);
        assert_eq!(differs(&ask, &mut space), Ok(()), "round {round}: {ask:?}");
        unfit += usize::from(!space.solution().fits);
    }
    assert!(unfit > 400, "{unfit}");
}

/// The stable twin of fuzz/fuzz_targets/best.rs.
#[test]
fn three_thousand_inputs_of_the_fuzz_target_are_as_by_brute_force() {
    let mut rng = Rng::new(seed(7));
    for _ in 0..3_000 {
        let input: Vec<u8> = (0..rng.below(400)).map(|_| rng.number() as u8).collect();
        common::bytes::compare(&input);
    }
}

/// `make test-best`; `BEST_HOSTS`: how many.
#[test]
#[ignore = "minutes: make test-best"]
fn a_hundred_thousand_hosts_of_unusual_shape() {
    let hosts = std::env::var("BEST_HOSTS").ok().and_then(|v| v.parse().ok());
    compare(seed(5), hosts.unwrap_or(100_000));
}
