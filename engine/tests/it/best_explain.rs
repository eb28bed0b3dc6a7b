//! What is said about the sets that were not chosen.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test may stop where it stands"
)]

use testkit::best as common;

use common::{FILL, Rng, SHAPES, random};
use placer_engine::policy::best::{Reason, Workspace, alternatives, judge, solve};

#[test]
fn every_other_set_has_its_reason() {
    let mut rng = Rng::new(11);
    let mut space = Workspace::new();
    for round in 0..400 {
        let n = 1 + rng.below(9) as usize;
        let (shape, fill, odd) = (*rng.pick(&SHAPES), *rng.pick(&FILL), rng.chance(0.4));
        let ask = random(&mut rng, n, shape, fill, odd);
        let (host, request) = (ask.host(), ask.request());
        let got = solve(&host, &request, &mut space).clone();
        if got.figures.is_none() {
            continue;
        }
        assert_eq!(judge(&host, &request, &got, &got.nodes).reason, Reason::Chosen);
        let list = alternatives(&host, &request, &got, usize::MAX);
        for verdict in &list {
            assert!(
                !matches!(
                    verdict.reason,
                    Reason::Chosen
                        | Reason::NoCpus
                        | Reason::LacksMemory(_)
                        | Reason::LacksCpus(_)
                        | Reason::Unseen
                ),
                "round {round}: {verdict:?} {got:?}"
            );
            assert_eq!(&judge(&host, &request, &got, &verdict.nodes), verdict);
        }
        assert_eq!(alternatives(&host, &request, &got, 1).len(), list.len().min(1));
    }
}

#[test]
fn large_hosts_show_neighbours_of_the_answer() {
    let mut rng = Rng::new(12);
    let mut space = Workspace::new();
    let ask = random(&mut rng, 64, SHAPES[3], (0.0, 0.3), false);
    let (host, request) = (ask.host(), ask.request());
    let got = solve(&host, &request, &mut space).clone();
    let list = alternatives(&host, &request, &got, 5);
    assert_eq!(list.len(), 5);
    assert!(list.iter().all(|v| v.nodes != got.nodes && v.figures.is_some()));
}
