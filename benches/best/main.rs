//! How long policy `best` takes for one whole answer, by the size of the host: median, 99th percentile
//! and maximum over thousands of different hosts and requests, beside what trying all subsets takes.
//!
//!     cargo bench --bench best                    the table in docs/src/benchmarks.md
//!     cargo bench --bench best -- 64 --seed 7     lines with "64" in their name, other hosts
//!
//! An answer is `advise` on a ready Snapshot, from the request to the Advice with its CPUs and split.
//! Each is asked some times over and its fastest time counts, so that the percentiles tell of
//! hosts and requests and not of what else the machine does.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program that measures, with its own small figures"
)]

mod hosts;
mod peer;

use std::hint::black_box;
use std::time::{Duration, Instant};

use hosts::{ARBITRARY, BUILT, Plan, Rng, Shape, any_request, ordinary_request};
use placer_engine::policy::best::Proof;
use placer_engine::{Request, Snapshot, advise};

struct Line {
    name: &'static str,
    plan: Plan,
    shapes: &'static [Shape],
    ordinary: bool,
    budget_us: f64,
}

/// Free parts of hosts: from nearly full to empty, and nearly full.
const SOME: (f64, f64) = (0.05, 1.0);
const FULL: (f64, f64) = (0.0, 0.3);

fn lines() -> Vec<Line> {
    let ordinary = |name, nodes, budget_us| Line {
        name,
        plan: Plan::even(nodes, SOME),
        shapes: BUILT,
        ordinary: true,
        budget_us,
    };
    let any =
        |name, plan, budget_us| Line { name, plan, shapes: BUILT, ordinary: false, budget_us };
    let two = |with_memory, free| Plan { nodes: 36, with_cpus: 2, with_memory, free };
    vec![
        ordinary("4, ordinary", 4, 1.0),
        ordinary("8, ordinary", 8, 1.0),
        ordinary("16, ordinary", 16, 3.0),
        ordinary("36, ordinary", 36, 10.0),
        ordinary("64, ordinary", 64, 10.0),
        ordinary("256, ordinary", 256, 200.0),
        ordinary("1,024, ordinary", 1024, 200.0),
        any("4", Plan::even(4, SOME), 2.0),
        any("4, full", Plan::even(4, FULL), 2.0),
        any("8", Plan::even(8, SOME), 30.0),
        any("8, full", Plan::even(8, FULL), 30.0),
        any("36, 2 with CPUs, 8 more with memory", two(8, SOME), 100.0),
        any("36, 2 with CPUs, 8 more, full", two(8, FULL), 100.0),
        any("16", Plan::even(16, SOME), 1_200.0),
        any("16, full", Plan::even(16, FULL), 1_200.0),
        Line {
            name: "16, full, any distances",
            plan: Plan::even(16, FULL),
            shapes: ARBITRARY,
            ordinary: false,
            budget_us: 10_000.0,
        },
        any("36, 2 with CPUs, all with memory", two(34, SOME), 5_000.0),
        any("36, 2 with CPUs, all memory full", two(34, FULL), 5_000.0),
        any("36", Plan::even(36, SOME), 5_000.0),
        any("64", Plan::even(64, SOME), 5_000.0),
        any("64, full", Plan::even(64, FULL), 5_000.0),
        any("256", Plan::even(256, SOME), 10_000.0),
        any("256, full", Plan::even(256, FULL), 10_000.0),
        any("1,024", Plan::even(1024, SOME), 20_000.0),
        any("1,024, full", Plan::even(1024, FULL), 20_000.0),
    ]
}

/// The fastest of some times, and what came out.
///
/// What takes long is measured in time that this thread was on a CPU: other work on the machine would
/// be in every one of its times.
fn fastest<T>(mut ask: impl FnMut() -> T) -> (Duration, T) {
    let start = Instant::now();
    let mut answer = black_box(ask());
    let mut least = start.elapsed();
    let long = least > Duration::from_micros(50);
    for _ in 0..if long { 2 } else { 8 } {
        let (start, busy) = (Instant::now(), long.then(on_cpu));
        answer = black_box(ask());
        let taken = busy.map_or_else(|| start.elapsed(), |busy| on_cpu().saturating_sub(busy));
        least = least.min(taken);
    }
    (least, answer)
}

/// How long this thread has been on a CPU.
fn on_cpu() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).expect("a thread has a clock").into()
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Median, 99th percentile, maximum.
fn spread(times: &mut [f64]) -> (f64, f64, f64) {
    times.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part).ceil() as usize];
    (at(0.5), at(0.99), at(1.0))
}

fn shown(us: f64) -> String {
    match us {
        _ if us < 100.0 => format!("{us:.2}"),
        _ if us < 1e6 => format!("{us:.0}"),
        _ => format!("{:.0} s", us / 1e6),
    }
}

/// Hosts, moments of each, requests to each moment.
fn counts(line: &Line) -> (usize, usize, usize) {
    match line.plan.nodes {
        0..=64 => (line.shapes.len() * 4, if line.shapes.len() > 2 { 10 } else { 25 }, 15),
        65..=256 => (line.shapes.len(), 20, 20),
        // The hosts take longest: their neighbours are sorted, 60 ms each.
        _ => (line.shapes.len(), 8, 25),
    }
}

fn measure(line: &Line, seed: u64) {
    let mut rng = Rng::new(seed);
    let (hosts, moments, requests) = counts(line);
    let (mut times, mut first, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    let mut certified = vec![(0, 0); line.shapes.len()];
    for at in 0..hosts {
        let shape = at % line.shapes.len();
        let host = line.plan.host(&mut rng, line.shapes[shape]);
        for moment in 0..moments {
            let snapshot = line.plan.snapshot(&mut rng, &host);
            for turn in 0..requests {
                let request = if line.ordinary {
                    ordinary_request(&mut rng, &snapshot)
                } else {
                    Some(any_request(&mut rng))
                };
                let Some(request) = request else { continue };
                let ask = || advise(black_box(&snapshot), black_box(&request)).expect("advice");
                if turn == 0 {
                    let start = Instant::now();
                    black_box(ask());
                    if moment > 0 {
                        first.push(us(start.elapsed()));
                    }
                }
                let (time, advice) = fastest(ask);
                times.push(us(time));
                certified[shape].0 += usize::from(advice.proof == Some(Proof::Optimal));
                certified[shape].1 += 1;
                if turn < 2 && line.plan.nodes <= peer::MOST {
                    peers.push(peer_time(&snapshot, &request));
                }
            }
        }
    }
    let (median, most, maximum) = spread(&mut times);
    let (new, ..) = spread(&mut first);
    let held = if most <= line.budget_us { "yes" } else { "**no**" };
    let peer = if peers.is_empty() {
        format!("2^{} sets", line.plan.nodes)
    } else {
        shown(spread(&mut peers).1)
    };
    let (good, all) = certified.iter().fold((0, 0), |(a, b), &(c, d)| (a + c, b + d));
    println!(
        "| {:<36} | {:>9} | {:>9} | {:>9} | {:>7} | {:>6} | {:>9} | {:>10} | {:>9} | {} |",
        line.name,
        shown(median),
        shown(most),
        shown(maximum),
        line.budget_us,
        held,
        shown(new),
        peer,
        format!("{:.1} %", 100.0 * good as f64 / all as f64),
        times.len(),
    );
    if good < all {
        let shares = line.shapes.iter().zip(&certified);
        let shares: Vec<String> = shares
            .map(|(shape, (good, all))| {
                format!("{shape:?} {:.1} %", 100.0 * f64::from(*good as u32) / *all as f64)
            })
            .collect();
        eprintln!("  certified on {}: {}", line.name, shares.join(", "));
    }
}

fn peer_time(snapshot: &Snapshot, request: &Request) -> f64 {
    us(fastest(|| peer::enumerate(black_box(snapshot), black_box(request))).0)
}

fn main() {
    let mut seed = 1;
    let mut filters = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {}
            "--seed" => seed = args.next().and_then(|v| v.parse().ok()).unwrap_or(seed),
            _ => filters.push(arg),
        }
    }
    println!("One answer of policy best, in µs; seed {seed}; the fastest of 3 to 9 times each.\n");
    println!(
        "| {:<36} | {:>9} | {:>9} | {:>9} | {:>7} | {:>6} | {:>9} | {:>10} | {:>9} | asked |",
        "nodes", "median", "p99", "max", "budget", "held", "first", "subsets", "certified"
    );
    println!("| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |");
    for line in lines() {
        if filters.is_empty() || filters.iter().any(|filter| line.name.contains(filter)) {
            measure(&line, seed);
        }
    }
}
