//! Parsing of each kind of file, from made texts in memory.

use testkit::wide as common;

use std::hint::black_box;
use std::time::Duration;

use common::machine::SIZES;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use placer_engine::parse::{distance, list, mask, meminfo, stat};
use placer_engine::{CpuSet, Request};

fn files(c: &mut Criterion) {
    for machine in SIZES {
        let mut group = c.benchmark_group(format!("parse {}", machine.name()));
        let mut bench = |kind: &str, text: &str, parse: &dyn Fn(&[u8])| {
            let bytes = u64::try_from(text.len()).expect("a short text");
            group.throughput(Throughput::Bytes(bytes));
            group.bench_with_input(BenchmarkId::from_parameter(kind), text, |b, text| {
                b.iter(|| parse(black_box(text.as_bytes())));
            });
        };
        bench("cpulist", &machine.cpulist(1), &|text| {
            black_box(list::parse::<placer_engine::CpuId>(text).expect("a list"));
        });
        bench("cpulist with gaps", &machine.gappy_list(), &|text| {
            black_box(list::parse::<placer_engine::CpuId>(text).expect("a list"));
        });
        bench("cpumap", &machine.mask(&[0, 3, 5]), &|text| {
            black_box(mask::parse::<placer_engine::CpuId>(text).expect("a mask"));
        });
        let width = usize::try_from(machine.nodes).expect("a few nodes");
        bench("distance", &machine.distance(1), &|text| {
            black_box(distance::parse(text, width).expect("a row"));
        });
        bench("meminfo", &machine.meminfo(1, 0), &|text| {
            black_box(meminfo::parse(text).expect("a node's memory"));
        });
        bench("stat", &machine.stat(0), &|text| {
            let mut sum = 0u64;
            stat::each_cpu(text, |_, ticks| sum = sum.wrapping_add(ticks.idle)).expect("counters");
            black_box(sum);
        });
        group.finish();
    }
}

fn small(c: &mut Criterion) {
    c.bench_function("parse request 2.5:8G", |b| {
        b.iter(|| black_box("2.5:8G").parse::<Request>().expect("a request"));
    });
    let cpus: CpuSet = list::parse(SIZES[5].cpulist(7).as_bytes()).expect("a list");
    c.bench_function("print a cpulist", |b| b.iter(|| black_box(&cpus).to_string()));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    targets = files, small
}
criterion_main!(benches);
