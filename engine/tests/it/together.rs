//! Several guests at once: brute force agrees on every generated host.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures that are printed, and small numbers"
)]

use std::time::Duration;

use nix::time::ClockId;
use placer_engine::policy::best::{self, Proof, Workspace};
use placer_engine::policy::together::{Guest, Question, count, default_effort, solve};
use placer_engine::{Bytes, CpuShare};
use testkit::best::Ask;
use testkit::random::Rng;
use testkit::together::{Asked, Cost, asked, brute, until_it_fits};

/// Compares `count` hosts of 2 to 6 nodes with 1 to 4 guests each; `most`: sets of nodes for all guests.
fn agree(seed: u64, count: usize, most: u32) {
    let mut rng = Rng::new(seed);
    let (mut refused, mut not_alike) = (0, 0);
    for round in 0..count {
        let guests = 1 + rng.index(4);
        let few = (2..=6).take_while(|nodes| nodes * guests as u32 <= most).count();
        let nodes = 2 + rng.index(few);
        let asked = asked(&mut rng, nodes, guests);
        let plan = solve(&asked.host.host(), &asked.question());
        assert_eq!(plan.proof, Proof::Optimal, "host {round} of seed {seed}: {asked:?}");
        assert_eq!(asked.follow(&plan), Ok(()), "host {round} of seed {seed}: {asked:?}");
        let (cost, want) = (asked.cost(&plan), brute(&asked));
        assert_eq!(cost, want, "host {round} of seed {seed}: {asked:?}\n{plan:?}");
        refused += usize::from(plan.refused() > 0);
        not_alike += usize::from(asked.guests.windows(2).any(|pair| pair[0] != pair[1]));
    }
    println!("{count} hosts: {refused} refuse a guest, {not_alike} have guests of several sizes");
    assert!(refused * 20 >= count && not_alike * 5 >= count);
}

#[test]
fn three_hundred_hosts_are_as_by_brute_force() {
    agree(1, 300, 15);
}

#[test]
#[ignore = "minutes: make test-together"]
fn five_thousand_hosts_are_as_by_brute_force() {
    agree(2, 5_000, 24);
}

fn guest(cpus: u64, gib: u64) -> Guest {
    Guest { memory: Bytes::new(gib << 30), cpus: CpuShare::from_hundredths(cpus * 100) }
}

/// A host of equal nodes with 8 CPUs and 32 GiB each, 21 apart.
fn equal(nodes: usize, guests: &[Guest]) -> Asked {
    let node = |id: usize| best::Node {
        id: id as u32,
        cpus: 8,
        cap: 8.0,
        idle: 8.0,
        mem: 32.0 * 1024.0,
        mem_total: 32.0 * 1024.0,
    };
    let row = |from| (0..nodes).map(|to| if from == to { 10.0 } else { 21.0 }).collect();
    let host = Ask {
        nodes: (0..nodes).map(node).collect(),
        distances: (0..nodes).map(row).collect(),
        cpus: 0.0,
        mem: 0.0,
        bound: 0.5,
        prefer: best::Prefer::Room,
    };
    Asked { host, guests: guests.to_vec(), own_cpus: false, budget: None }
}

/// Cases of 2 and 4 equal nodes whose answer is known without a search.
#[test]
fn closed_cases() {
    let local = 1_000_000;
    let cases = [
        // Two pairs fill two nodes only if each large guest shares with a small one.
        (2, vec![guest(2, 20), guest(2, 12), guest(2, 20), guest(2, 12)], 0, local, 4),
        // By policy best one by one, in the order given, the last guest would need two nodes.
        (2, vec![guest(2, 12), guest(2, 12), guest(2, 20), guest(2, 20)], 0, local, 4),
        // Nine of 8 GiB on two nodes of 32: one is refused.
        (2, vec![guest(1, 8); 9], 1, local, 8),
        // Two of 4 and one of 8 CPUs: no CPU has two threads.
        (2, vec![guest(4, 4), guest(4, 4), guest(8, 4)], 0, local, 3),
        // 3 CPUs too many on a node of 8: 1 + 3/8 for one of three equal guests.
        (2, vec![guest(8, 8), guest(8, 8), guest(3, 8)], 0, local + 375_000 / 3, 3),
        (4, vec![guest(8, 32); 4], 0, local, 4),
        (4, vec![guest(2, 16); 8], 0, local, 8),
        // Five of 32 GiB on 128 GiB: one is refused, and none is split for its sake.
        (4, vec![guest(2, 32); 5], 1, local, 4),
        // Two nodes are needed for the first alone.
        (4, vec![guest(16, 64), guest(8, 32), guest(8, 32)], 0, 1_137_500, 4),
    ];
    for (nodes, guests, refused, mean_ppm, sets) in cases {
        let asked = equal(nodes, &guests);
        let plan = solve(&asked.host.host(), &asked.question());
        assert_eq!(plan.proof, Proof::Optimal, "{guests:?}");
        assert_eq!(asked.follow(&plan), Ok(()), "{guests:?}");
        let (was_refused, _, were_sets) = asked.cost(&plan);
        assert_eq!((was_refused, were_sets), (refused, sets), "{guests:?}: {plan:?}");
        assert!((plan.slowdown * 1e6 - f64::from(mean_ppm)).abs() < 1.0, "{guests:?}: {plan:?}");
    }
}

/// As many guests of one kind are placed as are counted, and not one more.
#[test]
fn counts_are_those_of_the_plan_and_of_single_nodes() {
    let mut rng = Rng::new(3);
    let mut compared = 0;
    for _ in 0..400 {
        let nodes = 1 + rng.index(6);
        let mut asked = asked(&mut rng, nodes, 1);
        let host = asked.host.host();
        let one = asked.guests[0];
        // Guests between a fortieth of the host and all of it.
        let memory = (one.memory.get() >> 20).div_ceil(1 + rng.below(40)).max(1);
        let one = Guest { memory: Bytes::new(memory << 20), ..one };
        let question =
            Question { own_cpus: asked.own_cpus, budget: asked.budget, ..Question::new(&[]) };
        let [all, on_one_node, with_idle] = count(&host, &question, one);
        assert!(on_one_node <= all && with_idle <= on_one_node);
        if all > 60 {
            continue;
        }
        asked.guests = vec![one; all as usize + 1];
        let plan = solve(&host, &Question { effort: Some(0), ..asked.question() });
        assert_eq!(plan.refused(), 1, "{asked:?}");
        asked.guests.pop();
        let plan = solve(&host, &Question { effort: Some(0), ..asked.question() });
        assert_eq!(plan.refused(), 0, "{asked:?}");
        let filled = |idle: bool| fill_single_nodes(&asked, one, idle).min(all);
        assert_eq!((filled(false), filled(true)), (on_one_node, with_idle), "{asked:?}");
        compared += 1;
    }
    assert!(compared > 200, "{compared}");
}

/// Puts guests on single nodes until none holds a further one.
fn fill_single_nodes(asked: &Asked, guest: Guest, idle: bool) -> u64 {
    let cpus = guest.cpus.hundredths();
    let cpus = if asked.own_cpus { cpus.div_ceil(100).max(1) * 100 } else { cpus };
    let mut placed = 0;
    for node in &asked.host.nodes {
        let (mut mem, mut own) = ((node.mem * 1_048_576.0) as u64, u64::from(node.cpus) * 100);
        let mut left = node.idle + 1e-9;
        while node.cap > 0.0 && mem >= guest.memory.get() && own >= cpus {
            if idle && left < cpus as f64 / 100.0 {
                break;
            }
            mem -= guest.memory.get();
            left -= cpus as f64 / 100.0;
            own -= if asked.own_cpus { cpus } else { 0 };
            placed += 1;
        }
    }
    placed
}

/// The CPU time of this thread, which other programs do not lengthen.
fn cpu_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock.now().map(Duration::from).expect("a clock")
}

/// 16 guests on 8 nodes: the search keeps to its effort, and gaps are gaps. Times are printed.
fn sixteen_on_eight(seed: u64, rounds: usize) {
    let mut rng = Rng::new(seed);
    let (mut times, mut gaps, mut proven) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let asked = asked(&mut rng, 8, 16);
        let host = asked.host.host();
        let started = cpu_time();
        let plan = solve(&host, &asked.question());
        times.push((cpu_time() - started).as_secs_f64() * 1e3);
        assert_eq!(asked.follow(&plan), Ok(()), "{asked:?}");
        assert!(plan.steps <= default_effort(16, 8) + 10_000, "{} steps: {asked:?}", plan.steps);
        match plan.proof {
            Proof::Optimal => proven += 1,
            Proof::Gap(gap) => gaps.push(gap),
        }
    }
    times.sort_by(f64::total_cmp);
    gaps.sort_by(f64::total_cmp);
    let at = |list: &[f64], part: f64| {
        let last = list.len().saturating_sub(1);
        list.get((last as f64 * part) as usize).copied().unwrap_or(0.0)
    };
    println!(
        "16 guests on 8 nodes, {rounds} hosts: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms; {:.1} % proven; gap of \
         the others: median {:.1} %, p90 {:.1} %",
        at(&times, 0.5),
        at(&times, 0.99),
        at(&times, 1.0),
        100.0 * f64::from(proven) / rounds as f64,
        100.0 * at(&gaps, 0.5),
        100.0 * at(&gaps, 0.9),
    );
}

#[test]
fn sixteen_guests_on_eight_nodes_keep_to_the_effort() {
    sixteen_on_eight(4, 20);
}

/// Rules that place guests one by one, beside a plan.
#[test]
#[ignore = "minutes: make test-together"]
fn plans_beside_rules_one_by_one() {
    sixteen_on_eight(5, 2_000);
    let first = |host: &Ask| until_it_fits(host, (0..host.nodes.len()).collect());
    let most_free = |host: &Ask| {
        let mut order: Vec<usize> = (0..host.nodes.len()).collect();
        let free = |at: usize| host.nodes[at].mem * host.nodes[at].idle.max(0.01);
        order.sort_by(|&a, &b| free(b).total_cmp(&free(a)).then(a.cmp(&b)));
        until_it_fits(host, order)
    };
    let by_best = |host: &Ask| {
        let mut space = Workspace::new();
        let found = best::solve(&host.host(), &host.request(), &mut space);
        let at = |id: &u32| host.nodes.iter().position(|node| node.id == *id);
        found.nodes.iter().filter_map(at).collect()
    };
    for (nodes, guests, hosts) in [(2, 4, 1_000), (4, 8, 1_000), (8, 16, 1_000)] {
        let mut rng = Rng::new(6);
        let mut rows = [
            ("first node that holds it", Row::default()),
            ("node with most free", Row::default()),
            ("policy best, one by one", Row::default()),
            ("together", Row::default()),
        ];
        for _ in 0..hosts {
            let asked = asked(&mut rng, nodes, guests);
            let plan = solve(&asked.host.host(), &asked.question());
            let costs = [
                asked.one_by_one(first),
                asked.one_by_one(most_free),
                asked.one_by_one(by_best),
                asked.cost(&plan),
            ];
            let none_refused = costs.iter().all(|cost| cost.0 == 0);
            let least = costs[3].1;
            for ((_, row), cost) in rows.iter_mut().zip(costs) {
                row.add(&asked, cost, none_refused.then_some(least));
            }
        }
        println!("\n{hosts} hosts of {nodes} nodes, {guests} guests each");
        println!("{:<26} {:>8} {:>9} {:>18}", "", "refused", "slowdown", "2 % slower hosts");
        for (rule, row) in &rows {
            let mean = row.slowdowns / row.compared.max(1) as f64;
            let slower = 100.0 * row.slower as f64 / row.compared.max(1) as f64;
            println!("{rule:<26} {:>8} {mean:>9.3} {slower:>16.1} %", row.refused);
        }
        for (rule, row) in &rows {
            assert!(row.refused >= rows[3].1.refused, "{rule} refuses fewer");
        }
    }
}

#[derive(Default)]
struct Row {
    refused: usize,
    /// Weighted slowdowns of the hosts on which no rule refuses a guest.
    slowdowns: f64,
    slower: usize,
    compared: usize,
}

impl Row {
    fn add(&mut self, asked: &Asked, cost: Cost, least: Option<u128>) {
        self.refused += cost.0;
        let Some(least) = least else { return };
        let weights: u64 =
            asked.guests.iter().map(|g| g.memory.get().div_ceil(1 << 20).max(1)).sum();
        self.slowdowns += cost.1 as f64 / weights as f64 / 1e6;
        self.slower += usize::from(cost.1 as f64 > least as f64 * 1.02);
        self.compared += 1;
    }
}
