//! `--cache require` on made-up hosts of up to 8 nodes and 64 caches: an answer in one cache wherever one has the free
//! CPUs, and no slower than the best of all caches, each asked by itself.

use placer_engine::policy::cache::{Mode, Rules};
use placer_engine::{AdviseError, Bytes, CpuSet, CpuShare, Limits, Request, advise};
use testkit::caches::{Shape, made};
use testkit::random::Rng;

#[test]
fn a_required_cache_is_refused_only_where_none_holds_the_guest() {
    let mut rng = Rng::new(16);
    let (mut refused, mut elsewhere, mut over_nodes) = (0, 0, 0);
    for _ in 0..300 {
        let shape = Shape::any(&mut rng);
        let snapshot = made(&mut rng, &shape);
        let cache = u64::from(shape.cores * shape.threads);
        let cpus = CpuShare::from_cpus(1 + rng.below(cache + 1)).expect("few CPUs");
        // A node has 60 GiB free.
        let gib = *rng.pick(&[1, 1, 1, 50, 100]);
        let request = Request::new(cpus, Bytes::new(gib << 30));
        let required = request.clone().with_cache(Rules::default().with_mode(Mode::Require));
        let plain = advise(&snapshot, &request).expect("an answer");
        let answer = advise(&snapshot, &required);
        let topology = snapshot.topology();
        let nodes = topology.nodes().iter().filter(|node| node.knows_caches());
        let owned = snapshot.charges().pinned();
        let caches = nodes.flat_map(|node| node.caches.iter().map(|cache| &cache.cpus));
        let free = caches.map(|cpus| cpus.difference(owned));
        let holds =
            |free: &CpuSet| CpuShare::from_cpus(free.len()).is_some_and(|free| free >= cpus);
        // The fastest of all caches.
        let alone = free.filter(holds).filter_map(|free| {
            let limits = Limits { cpus: Some(free), ..Limits::default() };
            let inside = advise(&snapshot, &request.clone().with_limits(limits)).ok()?;
            inside.slowdown.filter(|_| inside.fits())
        });
        let fastest = alone.fold(f64::INFINITY, f64::min);
        match answer {
            Ok(advice) if advice.fits() => {
                assert_eq!(advice.caches.len(), 1, "{shape:?}");
                assert_eq!(advice.cpus, advice.caches[0].cpus, "{shape:?}");
                let slowdown = advice.slowdown.expect("it fits");
                let moved = advice.nodes != plain.nodes;
                assert!(slowdown <= fastest * 1.021 || !moved, "{slowdown} {fastest} {shape:?}");
                elsewhere += u32::from(moved);
                over_nodes += u32::from(advice.memory_nodes.len() > 1);
            }
            Ok(_) => assert!(!plain.fits(), "{shape:?}"),
            Err(AdviseError::NoCache { .. }) => {
                assert!(fastest.is_infinite(), "{fastest} {shape:?}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 10 && elsewhere > 5 && over_nodes > 5, "{refused} {elsewhere} {over_nodes}");
}
