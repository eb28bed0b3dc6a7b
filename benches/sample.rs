//! One Sample, against just reading the same files; opening a host; the saved CPU counters.
//!
//! The ratios of a Sample to bare reading are printed first (budget: 1.3 on the live host). In a
//! recorded machine, reading is a copy from memory and not the kernel's work of writing the text:
//! there the ratio says how fast the parsers are, not what a Sample costs more than its files.

use testkit::wide as common;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use common::in_turn;
use common::machine::{SIZES, in_memory};
use common::plain::PlainReader;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use placer_engine::source::HostReader;
use placer_engine::store::{SavedLoad, StateDir};
use placer_engine::{Host, Sample, Snapshot, SysRoot};

fn sampling(c: &mut Criterion) {
    println!("one Sample against just reading the same files, medians of 2,000 runs in turn:");
    compare("live host", Path::new("/"));
    let machines = SIZES.map(|machine| (machine.name(), machine.write()));
    for (name, dir) in &machines {
        compare(name, dir.path());
    }

    let mut group = c.benchmark_group("sample");
    let roots = machines.iter().map(|(name, dir)| (name.as_str(), dir.path()));
    for (name, root) in std::iter::once(("live host", Path::new("/"))).chain(roots) {
        let mut reader = HostReader::open(&SysRoot::at(root)).expect("a readable machine");
        let mut sample = Sample::default();
        group.bench_function(BenchmarkId::new("Sample", name), |b| {
            b.iter(|| reader.sample(&mut sample).expect("a sample"));
        });
        let mut plain = PlainReader::open(root);
        group.bench_function(BenchmarkId::new("just reading", name), |b| b.iter(|| plain.read()));
        group.bench_function(BenchmarkId::new("open", name), |b| {
            b.iter(|| {
                let reader = HostReader::open(&SysRoot::at(root)).expect("a readable machine");
                Host::from_files(reader.files()).expect("a host")
            });
        });
    }
    group.finish();
}

fn compare(name: &str, root: &Path) {
    let mut reader = HostReader::open(&SysRoot::at(root)).expect("a readable machine");
    let mut sample = Sample::default();
    let mut plain = PlainReader::open(root);
    let files = plain.files();
    let compared = in_turn(
        2_000,
        || reader.sample(&mut sample).expect("a sample"),
        || {
            black_box(plain.read());
        },
    );
    println!(
        "  {name:20} {files:3} files  Sample {:8.1} us  reading {:8.1} us  ratio {:.2}",
        compared.first.as_secs_f64() * 1e6,
        compared.second.as_secs_f64() * 1e6,
        compared.ratio(),
    );
}

fn saved_counters(c: &mut Criterion) {
    let mut group = c.benchmark_group("saved CPU counters");
    for machine in SIZES {
        let recording = machine.write();
        let snapshot = Snapshot::take(&SysRoot::at(recording.path()), Duration::ZERO);
        let snapshot = snapshot.expect("a snapshot of a recording");
        let place = in_memory();
        let dir = StateDir::open(&place.path().join("state")).expect("a directory of our own");
        let mut saved = SavedLoad::default();
        saved.keep(snapshot.before().expect("two readings"));
        saved.keep(&snapshot.sample().cpu);
        group.bench_function(BenchmarkId::new("encode and write", machine.name()), |b| {
            b.iter(|| saved.write(&dir, "boot time:[1]").expect("written"));
        });
        group.bench_function(BenchmarkId::new("read and decode", machine.name()), |b| {
            b.iter(|| SavedLoad::read(&dir, "boot time:[1]").expect("read"));
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
    targets = sampling, saved_counters
}
criterion_main!(benches);
