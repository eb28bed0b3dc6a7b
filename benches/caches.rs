//! What the choice of caches adds to an answer: percentiles of `advise` on made-up hosts of 1 to 64 caches of 8
//! cores, of one node and of 64, with caches and with `--cache ignore`, in one run.
//!
//!     cargo bench --bench caches

use std::hint::black_box;
use std::time::Instant;

use placer_engine::policy::cache::{Mode, Rules};
use placer_engine::{Bytes, CpuShare, Request, Snapshot, advise};
use testkit::caches::{Shape, made_with};
use testkit::random::Rng;

/// Hosts of a row, and questions about each.
const HOSTS: usize = 60;
const QUESTIONS: usize = 20;
/// How often each is asked; its fastest time counts.
const REPEATED: usize = 25;

fn main() {
    // cargo test runs benchmarks too.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    println!("| caches, host | with: median | p99 | max | without: p99 | p99 added |");
    println!("| ------------ | -----------: | --: | --: | -----------: | --------: |");
    for caches in [1, 2, 4, 8, 12, 16, 32, 64] {
        row("idle", 1, caches, 0, 0);
    }
    for caches in [8, 12, 16, 64] {
        row("half of them busy", 1, caches, 10, 50);
    }
    for caches in [8, 12, 16, 64] {
        row("all busy, CPUs owned", 1, caches, 20, 100);
    }
    row("64 nodes, idle", 64, 64, 0, 0);
    row("64 nodes, all busy, CPUs owned", 64, 64, 20, 100);
}

/// Measures one kind of host. The guests of idle hosts fit one cache, those of busy ones are up to half as large
/// again.
fn row(name: &str, nodes: u32, caches: u32, full: u64, busy: u64) {
    let mut rng = Rng::new(16);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let ordinary = busy == 0;
    for _ in 0..HOSTS {
        let threads = if caches > 32 { 1 } else { 2 };
        let shape = Shape { nodes, caches, cores: 8, threads, interleaved: false, adjacent: false };
        let snapshot = made_with(&mut rng, &shape, full, busy);
        for _ in 0..QUESTIONS {
            let cpus = 1 + rng.below(if ordinary { 8 } else { 12 });
            let cpus = CpuShare::from_cpus(cpus).expect("few CPUs");
            let request = Request::new(cpus, Bytes::new(1 << 20));
            let ignoring = request.clone().with_cache(Rules::default().with_mode(Mode::Ignore));
            with.push(fastest(&snapshot, &request));
            without.push(fastest(&snapshot, &ignoring));
        }
    }
    with.sort_unstable();
    without.sort_unstable();
    let at = |times: &[u64], part: usize| times[(times.len() - 1) * part / 100];
    let us = |ns: u64| format!("{}.{:02}", ns / 1000, ns % 1000 / 10);
    println!(
        "| {caches}, {name} | {} | {} | {} | {} | {} |",
        us(at(&with, 50)),
        us(at(&with, 99)),
        us(at(&with, 100)),
        us(at(&without, 99)),
        us(at(&with, 99).saturating_sub(at(&without, 99))),
    );
}

/// Nanoseconds of the fastest of some answers.
fn fastest(snapshot: &Snapshot, request: &Request) -> u64 {
    let once = |_| {
        let start = Instant::now();
        let _ = black_box(advise(black_box(snapshot), black_box(request)));
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    };
    (0..REPEATED).map(once).min().unwrap_or_default()
}
