use std::sync::Arc;

use super::super::branch_and_bound::{Buffers, search, sweep};
use super::super::enumerate;
use super::super::model::{DistanceMatrix, Host, Node, Prefer, Request};
use super::super::nodes::SLACK;
use super::*;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).expect("31 bits") % n
    }

    fn real(&mut self, high: f64) -> f64 {
        high * f64::from(self.below(1 << 20)) / f64::from(1 << 20)
    }
}

/// A host of unequal nodes, some without CPUs or memory; `far`: the longest distance.
fn host(dice: &mut Dice, count: u32, far: u32) -> Host {
    let flat = dice.below(2) == 0;
    let mut cells = Vec::new();
    for i in 0..count {
        for j in 0..count {
            let other = if flat { 21 } else { 11 + dice.below(far - 10) };
            cells.push(f64::from(if i == j { 10 } else { other }));
        }
    }
    let full = 0.1 + dice.real(0.9);
    let nodes = (0..count).map(|id| {
        let (cpus, mem) = match dice.below(8) {
            0 => (0, 65_536.0),
            1 => (16, 0.0),
            _ => (16, 65_536.0),
        };
        let cap = f64::from(cpus);
        let (idle, free) = (dice.real(full) * cap, dice.real(full) * mem);
        Node { id, cpus, cap, idle, mem: free, mem_total: mem }
    });
    let distances = DistanceMatrix::new(cells.len().isqrt(), cells).expect("distances");
    Host::new(nodes.collect(), Arc::new(distances)).expect("a host")
}

/// Sweeps `rounds` hosts with so much room for rounding and compares with the enumeration.
fn agree(mut dice: Dice, rounds: u32, far: u32, slack: f32) {
    let (mut shares, mut buffers, mut swept) = (Shares::default(), Buffers::default(), 0);
    for round in 0..rounds {
        let count = 7 + dice.below(7);
        let host = host(&mut dice, count, far);
        // One request in four is for up to 10,000 times the host's memory.
        let mem = 1.0 + dice.real(120_000.0);
        let mem = if dice.below(4) == 0 { mem * 10f64.powf(1.0 + dice.real(4.0)) } else { mem };
        let mut request = Request::new(0.5 + dice.real(40.0), mem);
        request.memory_bound = dice.real(1.0);
        request.prefer = if dice.below(3) == 0 { Prefer::Pack } else { Prefer::Room };
        let problem = Problem::new(&host, &request);
        let useful: Vec<usize> =
            (0..host.nodes.len()).filter(|&i| host.nodes[i].is_useful()).collect();
        let (mut one, mut other) = (ParetoFront::default(), ParetoFront::default());
        one.clear();
        other.clear();
        enumerate::enumerate(&problem, &useful, &mut one, &mut shares);
        if sweep(&problem, &useful, &mut other, &mut shares, &mut buffers, slack).is_none() {
            continue;
        }
        swept += 1;
        let answer =
            |front: &ParetoFront| front.best().map(|best| (best.set.clone(), best.slowdown_ppm));
        assert_eq!(answer(&one), answer(&other), "round {round}: {host:?} {request:?}");
    }
    assert!(swept * 3 > rounds * 2, "{swept} of {rounds} hosts only");
}

#[test]
fn a_sweep_from_nothing_finds_what_the_enumeration_finds() {
    agree(Dice(1), 600, 40, SLACK);
}

#[test]
fn a_tenth_of_the_single_precision_slack_is_enough() {
    agree(Dice(2), 400, 40, SLACK / 10.0);
    agree(Dice(3), 400, 320, SLACK / 10.0);
}

#[test]
fn bounds_with_a_thousandth_of_the_slack_prove_what_the_enumeration_finds() {
    let mut dice = Dice(4);
    let (mut shares, mut buffers, mut complete) = (Shares::default(), Buffers::default(), 0);
    for round in 0..200 {
        let host = {
            let count = 5 + dice.below(6);
            host(&mut dice, count, 40)
        };
        let mem = (1.0 + dice.real(120_000.0)) * 10f64.powf(dice.real(3.0));
        let request = Request::new(0.5 + dice.real(40.0), mem);
        let mut problem = Problem::new(&host, &request);
        problem.slack = 1e-12;
        let useful: Vec<usize> =
            (0..host.nodes.len()).filter(|&i| host.nodes[i].is_useful()).collect();
        let (mut one, mut other) = (ParetoFront::default(), ParetoFront::default());
        one.clear();
        other.clear();
        enumerate::enumerate(&Problem::new(&host, &request), &useful, &mut one, &mut shares);
        if one.best().is_none() {
            continue;
        }
        let found = search(&problem, &useful, &[], 100_000, &mut other, &mut shares, &mut buffers);
        if found.complete {
            complete += 1;
            let answer = |front: &ParetoFront| {
                front.best().map(|best| (best.set.clone(), best.slowdown_ppm))
            };
            assert_eq!(answer(&one), answer(&other), "round {round}: {host:?} {request:?}");
        }
    }
    assert!(complete > 100, "{complete} only");
}
