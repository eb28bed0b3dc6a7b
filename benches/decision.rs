//! The decision by numad's rules on a ready Snapshot, putting a Snapshot together, and a question
//! to a running Engine.

use testkit::wide as common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use common::machine::SIZES;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use placer_engine::{CpuId, CpuSet, Engine, Limits, Request, Snapshot, SysRoot, advise};

fn decision(c: &mut Criterion) {
    let mut group = c.benchmark_group("advise");
    for machine in SIZES {
        let dir = machine.write();
        let root = SysRoot::at(dir.path());
        let snapshot = Snapshot::take(&root, Duration::ZERO).expect("a snapshot of a recording");
        let ask = |text: &str| text.parse::<Request>().expect("a request");
        // Three nodes' worth, and more than any node has free.
        let large = ask(&format!("{}:160G", 3 * machine.cpus / machine.nodes));
        let half: CpuSet = (0..machine.cpus / 2).map(CpuId).collect();
        let limits = Limits { cpus: Some(half), ..Limits::default() };
        for (what, request) in [
            ("4:500", ask("4:500")),
            ("three nodes", large),
            ("4:500 within half the CPUs", ask("4:500").with_limits(limits)),
        ] {
            group.bench_function(BenchmarkId::new(what, machine.name()), |b| {
                b.iter(|| advise(black_box(&snapshot), black_box(&request)).expect("advice"));
            });
        }
        group.bench_function(BenchmarkId::new("making the Snapshot", machine.name()), |b| {
            b.iter(|| {
                let (before, now) = (snapshot.before().cloned(), snapshot.sample().clone());
                Snapshot::new(Arc::clone(snapshot.host()), before, now)
            });
        });
        // Sampling goes on meanwhile, four times a second.
        let engine = Engine::builder(root).start().expect("a machine to sample");
        let request = ask("4:500");
        group.bench_function(BenchmarkId::new("Engine, 4:500", machine.name()), |b| {
            b.iter(|| engine.advise(black_box(&request)).expect("advice"));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    targets = decision
}
criterion_main!(benches);
