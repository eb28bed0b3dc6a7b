//! Brute force agrees on every random host.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test may stop where it stands"
)]

#[path = "best_common/mod.rs"]
mod common;

use common::{Dice, FILL, SHAPES, brute, random};
use placer_engine::policy::best::{Proof, Workspace, solve};

fn agree(dice: &mut Dice, sizes: std::ops::RangeInclusive<usize>, count: usize) {
    let mut space = Workspace::new();
    for round in 0..count {
        let n = sizes.start() + dice.below((sizes.end() - sizes.start() + 1) as u64) as usize;
        let (shape, fill, odd) = (dice.pick(&SHAPES), dice.pick(&FILL), dice.chance(0.4));
        let ask = random(dice, n, shape, fill, odd);
        let got = solve(&ask.host(), &ask.request(), &mut space);
        assert_eq!(got.proof, Proof::Optimal);
        match brute(&ask) {
            Some(want) => {
                assert_eq!(got.nodes, want.nodes, "round {round}: {ask:?}");
                let figures = got.figures.expect("figures");
                assert_eq!(figures.slowdown, want.micros / 1e6, "round {round}: {ask:?}");
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
    agree(&mut Dice(seed(1)), 1..=8, 20_000);
}

#[test]
fn a_thousand_hosts_of_9_to_16_nodes() {
    agree(&mut Dice(seed(2)), 9..=12, 2_000);
    agree(&mut Dice(seed(3)), 12..=16, 1_000);
}
