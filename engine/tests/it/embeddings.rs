//! The engine as its users embed it: public items alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use placer_engine::claims::{ClaimDirs, ClaimOwner, Claims};
use placer_engine::policy::numad::Version;
use placer_engine::testing::MadeHost;
use placer_engine::{
    Bytes, CpuShare, Engine, EngineError, NodeId, NodeSet, Policy, Request, Snapshot, SysRoot,
    advise, explain,
};
use testkit::machine::Machine;

const GIB: u64 = 1 << 20;

/// What a VMM passes to mbind(2) for one part of a guest's memory.
struct Binding {
    start: u64,
    len: u64,
    mask: Vec<u64>,
}

fn bindings(snapshot: &Snapshot, memory: Bytes, page: Bytes) -> Vec<Binding> {
    let request = Request::new(CpuShare::from_cpus(8).expect("8 CPUs"), memory);
    let advice = advise(snapshot, &request).expect("an advice");
    assert!(advice.fits(), "{advice:?}");
    let mut start = 0;
    let parts = advice.split_pages(memory, page);
    let bind = |(node, len): (_, Bytes)| {
        let mask = std::iter::once(node).collect::<NodeSet>().to_mask();
        let binding = Binding { start, len: len.get(), mask };
        start += len.get();
        binding
    };
    parts.into_iter().map(bind).collect()
}

#[test]
fn a_vmm_binds_16_gib_in_huge_pages() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = Machine::new().node(0, 0..8, 16 * GIB, 12 * GIB).node(2, 8..16, 16 * GIB, 12 * GIB);
    host.write(dir.path());
    let snapshot = Snapshot::take(&SysRoot::at(dir.path()), Duration::ZERO).expect("a snapshot");
    let (memory, page) = (Bytes::from_gib(16).expect("16 GiB"), Bytes::new(2 << 20));
    let bindings = bindings(&snapshot, memory, page);

    let masks: Vec<&[u64]> = bindings.iter().map(|binding| binding.mask.as_slice()).collect();
    assert_eq!(masks, [[0b001], [0b100]]);
    let mut end = 0;
    for binding in &bindings {
        assert_eq!((binding.start, binding.start % page.get()), (end, 0));
        assert_eq!(binding.len % page.get(), 0);
        end += binding.len;
    }
    assert_eq!(end, memory.get());
}

/// Eight threads stand for the workers of a server; an async runtime would call the same functions where
/// blocking is allowed, and needs no crate here.
#[test]
fn a_server_answers_10_000_requests_and_promises_no_memory_twice() {
    const WORKERS: usize = 8;
    const REQUESTS: usize = 10_000 / WORKERS;
    let (dir, state) = (tempfile::tempdir().expect("a host"), tempfile::tempdir().expect("claims"));
    // Room for five guests of 1 GiB.
    let host =
        Machine::new().node(0, 0..16, 8 * GIB, 5 * GIB / 2).node(1, 16..32, 8 * GIB, 5 * GIB / 2);
    host.write(dir.path());
    let root = SysRoot::at(dir.path());
    let dirs = ClaimDirs::at(state.path());
    let engine = Engine::builder(root.clone()).claims(dirs.clone()).start().expect("an engine");
    let large: Request = "1:4G".parse().expect("a request");
    let (guest, hold): (Request, _) = ("1:1G".parse().expect("a guest"), Duration::from_secs(3600));
    let (held, placed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                for number in 0..REQUESTS {
                    if number % 10 > 0 {
                        engine.advise(&guest).expect("an advice");
                        continue;
                    }
                    match engine.place(&guest, ClaimOwner::Hold(hold)) {
                        Ok(placement) => {
                            assert!(held.fetch_add(1, Ordering::SeqCst) < 5, "promised twice");
                            assert!(placement.advice.fits());
                            placed.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            held.fetch_sub(1, Ordering::SeqCst);
                            engine.release(placement.claim).expect("our claim");
                        }
                        Err(EngineError::DoesNotFit(short)) => assert!(short.memory > Bytes::ZERO),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(placed.load(Ordering::SeqCst) >= REQUESTS / 10, "{placed:?}");
    assert!(engine.advise(&large).expect("an advice").fits(), "something is still claimed");
    let claims = Claims::open(&dirs, &root).expect("the ledger").view().expect("its claims");
    assert!(claims.claims.is_empty());
}

#[test]
fn a_claim_is_counted_by_the_next_advice_and_ends_with_release() {
    let (dir, state) = (tempfile::tempdir().expect("a host"), tempfile::tempdir().expect("claims"));
    Machine::new().node(0, 0..4, 8 * GIB, 6 * GIB).write(dir.path());
    let builder = Engine::builder(SysRoot::at(dir.path())).claims(ClaimDirs::at(state.path()));
    let request: Request = "1:4G".parse().expect("a request");
    let hold = || ClaimOwner::Hold(Duration::from_secs(60));
    for engine in [builder.clone().start(), builder.without_thread().start()] {
        let engine = engine.expect("an engine");
        let placement = engine.place(&request, hold()).expect("room");
        assert!(!engine.advise(&request).expect("an advice").fits());
        let refused = engine.place(&request, hold());
        assert!(matches!(refused, Err(EngineError::DoesNotFit(_))), "{refused:?}");
        engine.release(placement.claim).expect("our claim");
        assert!(engine.advise(&request).expect("an advice").fits());
        assert!(engine.release(placement.claim).is_err());
    }
    let engine = Engine::builder(SysRoot::at(dir.path())).claims(ClaimDirs::at(state.path()));
    an_advice_is_claimed_while_it_fits(&engine.start().expect("an engine"), &request);

    let without = Engine::builder(SysRoot::at(dir.path())).start().expect("an engine");
    let refused = without.place(&request, ClaimOwner::Hold(Duration::from_secs(60)));
    assert!(matches!(refused, Err(EngineError::WithoutClaims)), "{refused:?}");
}

fn an_advice_is_claimed_while_it_fits(engine: &Engine, request: &Request) {
    let hold = || ClaimOwner::Hold(Duration::from_secs(60));
    let advice = engine.advise(request).expect("an advice");
    let claim = engine.claim(request, &advice, hold()).expect("room");
    let late = engine.claim(request, &advice, hold());
    assert!(matches!(late, Err(EngineError::Changed)), "{late:?}");
    let full = engine.advise(request).expect("an advice");
    let refused = engine.claim(request, &full, hold());
    assert!(matches!(refused, Err(EngineError::DoesNotFit(_))), "{refused:?}");
    engine.release(claim).expect("our claim");
    let claim = engine.claim(request, &advice, hold()).expect("room again");
    engine.release(claim).expect("our claim");
}

/// An embedder's own rule: a guest on one node, or none.
fn only_node(snapshot: &Snapshot, request: &Request) -> Option<NodeId> {
    let advice = advise(snapshot, request).ok().filter(placer_engine::Advice::fits)?;
    let mut nodes = advice.nodes.iter();
    nodes.next().filter(|_| nodes.next().is_none())
}

#[test]
fn a_unit_test_on_a_made_up_host() {
    let gib = |count| Bytes::from_gib(count).expect("GiB");
    let host = MadeHost::new().node(0, "0-7", gib(16)).node(1, "8-15", gib(64));
    let only = |host: &MadeHost, request: &str| {
        only_node(&host.snapshot().expect("a host"), &request.parse().expect("a request"))
    };
    assert_eq!(only(&host, "4:8G"), Some(NodeId(1)), "the one with most room");
    assert_eq!(only(&host.clone().busy("8-15"), "4:8G"), Some(NodeId(0)));
    assert_eq!(only(&host.clone().free(1, gib(4)), "4:8G"), Some(NodeId(0)));
    assert_eq!(only(&host, "4:70G"), None, "it takes both nodes");
    assert_eq!(only(&host, "4:700G"), None, "it does not fit");

    let host = host.distances([[10, 32], [32, 10]]).cache(3, gib(0), "8-11").core("8,9");
    let snapshot = host.snapshot().expect("a host");
    let mut request: Request = "2:20G".parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an advice");
    assert_eq!((advice.nodes.to_string().as_str(), advice.slowdown), ("1", Some(1.0)));
    let why = explain(&snapshot, &request, &advice, Version::V2025).expect("an explanation");
    assert!(why.alternatives.iter().any(|other| other.nodes.to_string() == "0-1"), "{why:?}");
    // That of 2015 names at least as many nodes as the memory is of the size of the first one.
    for (version, nodes) in [(Version::V2015, "0-1"), (Version::V2025, "1")] {
        request.policy = Policy::Numad(placer_engine::policy::numad::Rules::lenient(version));
        let advice = advise(&snapshot, &request).expect("an advice");
        assert_eq!(advice.nodes.to_string(), nodes, "{version}");
    }
}
