//! Silly answers that were found in simulation; each rule of the policy removes one.

#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test may stop where it stands"
)]

use placer_engine::policy::best::{
    DistanceMatrix, Host, Node, Proof, Request, Solution, Workspace, solve,
};
use std::sync::Arc;

/// Answers a request on nodes of (CPUs, idle CPUs, free MiB), 21 apart.
fn answer(nodes: &[(u32, f64, f64)], cpus: f64, mem: f64) -> Solution {
    let count = nodes.len();
    let cells = (0..count * count).map(|at| if at / count == at % count { 10.0 } else { 21.0 });
    let fabric = Arc::new(DistanceMatrix::new(count, cells.collect()).unwrap());
    let nodes = (0u32..)
        .zip(nodes)
        .map(|(id, &(cpus, idle, mem))| Node {
            id,
            cpus,
            cap: f64::from(cpus),
            idle,
            mem,
            mem_total: mem.max(65536.0),
        })
        .collect();
    let host = Host::new(nodes, fabric).unwrap();
    solve(&host, &Request::new(cpus, mem), &mut Workspace::new()).clone()
}

#[test]
fn sixteen_cpus_on_an_idle_4_node_host_with_noise_stay_on_one_node() {
    let nodes =
        [(16, 15.9, 60000.0), (16, 15.7, 60500.0), (16, 15.97, 59000.0), (16, 15.8, 61000.0)];
    let got = answer(&nodes, 16.0, 4096.0);
    assert_eq!(got.nodes.len(), 1, "{got:?}");
}

#[test]
fn two_cpus_on_a_full_host_do_not_take_all_nodes() {
    let nodes = [(16, 0.1, 60000.0), (16, 0.2, 60500.0), (16, 0.15, 59000.0), (16, 0.05, 61000.0)];
    let got = answer(&nodes, 2.0, 4096.0);
    assert_eq!(got.nodes.len(), 1, "{got:?}");
}

#[test]
fn twenty_cpus_do_not_go_onto_one_idle_16_cpu_node() {
    let nodes = [(16, 16.0, 60000.0), (16, 1.0, 60500.0), (16, 1.0, 59000.0), (16, 1.0, 61000.0)];
    let got = answer(&nodes, 20.0, 4096.0);
    assert!(got.nodes.len() >= 2 && got.fits, "{got:?}");
}

#[test]
fn a_node_without_cpus_costs_its_distance() {
    let nodes = [(16, 16.0, 4096.0), (0, 0.0, 60000.0)];
    let got = answer(&nodes, 4.0, 8192.0);
    assert_eq!(got.nodes, [0, 1]);
    let figures = got.figures.unwrap();
    assert_eq!(figures.near, 15.5);
    assert_eq!(figures.slowdown, 1.275);
    assert_eq!(got.split[1].cpus, 0.0);
    assert_eq!(got.split[1].mem, 4096.0);
}

#[test]
fn no_node_is_named_for_3_mib() {
    // All nodes together lack memory; what node 3 has is crumbs.
    let nodes = [(16, 16.0, 4096.0), (16, 16.0, 4096.0), (16, 16.0, 4096.0), (16, 16.0, 3.0)];
    let got = answer(&nodes, 4.0, 16384.0);
    assert_eq!(got.nodes, [0, 1, 2]);
    assert!(!got.fits);
}

#[test]
fn a_guest_without_stated_memory_does_not_land_on_a_node_without_memory() {
    let nodes = [(16, 8.0, 1000.0), (16, 16.0, 0.0)];
    let got = answer(&nodes, 4.0, 0.0);
    assert_eq!(got.nodes, [0]);
    assert!(got.fits);
}

#[test]
fn a_host_without_any_memory_names_all_and_fits_nothing() {
    let got = answer(&[(16, 8.0, 0.0), (16, 16.0, 0.0)], 4.0, 100.0);
    assert_eq!(got.nodes, [0, 1]);
    assert!(!got.fits && got.figures.is_none());
    assert_eq!(got.proof, Proof::Optimal);
}

#[test]
fn an_empty_host_is_answered() {
    let got = answer(&[], 4.0, 100.0);
    assert!(got.nodes.is_empty() && !got.fits);
}

#[test]
fn bad_figures_are_refused_by_name() {
    let fabric = Arc::new(DistanceMatrix::new(1, vec![10.0]).unwrap());
    let node = Node { id: 3, cpus: 4, cap: 4.0, idle: f64::NAN, mem: 1.0, mem_total: 1.0 };
    let error = Host::new(vec![node], fabric).unwrap_err();
    assert_eq!(error.to_string(), "node 3: expected idle from 0 to 1e9, found NaN");
    assert!(DistanceMatrix::new(2, vec![10.0]).is_err());
    for bad in [0.0, 0.99, -10.0, 1.1e9, f64::NAN, f64::INFINITY] {
        let error = DistanceMatrix::new(1, vec![bad]).unwrap_err().to_string();
        let want = format!("distance in row 0, column 0: expected 1 to 1e9, found {bad}");
        assert_eq!(error, want);
    }
    assert!(DistanceMatrix::new(1, vec![1.0]).is_ok() && DistanceMatrix::new(1, vec![1e9]).is_ok());
}

/// Code review A2: `ParetoFront::goal` counted down by 1 in double precision from 2^53 on, and never came down.
#[test]
fn a_slowdown_of_ten_thousand_million_ends() {
    let fabric = Arc::new(DistanceMatrix::new(2, vec![10.0, 254.0, 254.0, 10.0]).unwrap());
    let node = |id, cpus, mem| Node {
        id,
        cpus,
        cap: f64::from(cpus),
        idle: f64::from(cpus),
        mem,
        mem_total: mem,
    };
    let host = Host::new(vec![node(0, 1, 0.0), node(1, 0, 4096.0)], fabric).unwrap();
    let got = solve(&host, &Request::new(1e9, 100.0), &mut Workspace::new()).clone();
    assert_eq!((got.nodes.as_slice(), got.fits), ([0, 1].as_slice(), false));
    assert_eq!(got.figures.unwrap().slowdown, 1.32e10);
}

/// Where every set is slower than 64 bits of parts per million hold, they are equal, and the rest decides.
#[test]
fn slowdowns_beyond_all_measure_are_equal() {
    let fabric = Arc::new(DistanceMatrix::new(12, vec![1e9; 144]).unwrap());
    let node = |id| Node { id, cpus: 1, cap: 1e-6, idle: 0.0, mem: 100.0, mem_total: 100.0 };
    let host = Host::new((0..12).map(node).collect(), fabric).unwrap();
    let mut request = Request::new(12.0, 100.0);
    let got = solve(&host, &request, &mut Workspace::new()).clone();
    assert_eq!(got.nodes.len(), 12);
    request.cpus = 1e9;
    request.memory = 1e6;
    let got = solve(&host, &request, &mut Workspace::new()).clone();
    assert_eq!((got.nodes.len(), got.fits, got.proof), (12, false, Proof::Optimal));
}

#[test]
fn requests_without_sense_are_answered() {
    let nodes = [(16, 8.0, 1000.0), (16, 16.0, 1000.0)];
    for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
        assert!(!answer(&nodes, bad, 100.0).nodes.is_empty());
        assert!(!answer(&nodes, 1.0, bad).nodes.is_empty());
    }
}
