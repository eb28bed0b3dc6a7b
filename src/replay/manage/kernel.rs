//! The kernel's NUMA balancing, as far as it matters here.
//!
//! It looks after guests that are bound nowhere. Their threads are drawn to the node that has most of their
//! memory, as long as that is at most a quarter busier than its CPUs; the load balancer draws them off a node
//! that is, to the least busy one. Pages follow the threads that use them. The faults by which it learns all this
//! cost 0.5 % of the guest's time.

use super::state::{Live, State, whole_mib};

/// The part of threads that moves in a second, each way.
const DRAWN: f64 = 0.04;
/// How many threads for each CPU a node may have before threads leave it.
const IMBALANCE: f64 = 1.25;
/// MiB of a guest that follow in a second.
const RATE: f64 = 64.0;
const FAULTS: f64 = 0.005;

/// Lets the kernel work for some seconds.
pub(super) fn look(state: &mut State<'_>, seconds: f64) {
    for at in 0..state.guests.len() {
        if state.guests[at].bound || state.machine.len() < 2 {
            continue;
        }
        state.guests[at].steered = true;
        let faults = state.guests[at].demand * seconds * FAULTS;
        state.guests[at].cost += faults;
        draw(state, at, (DRAWN * seconds).min(1.0));
        if !state.guests[at].pinned {
            follow(state, at, RATE * seconds);
        }
        state.touch();
    }
}

fn busy(state: &State<'_>, at: usize) -> f64 {
    state.load[at] / state.machine.nodes[at].cap.max(1e-6)
}

/// Moves threads to the memory, and off nodes that are crowded.
fn draw(state: &mut State<'_>, guest: usize, part: f64) {
    let count = state.machine.len();
    let with_cpus = |at: &usize| state.machine.nodes[*at].cap > 0.0;
    let nodes: Vec<usize> = (0..count).filter(with_cpus).collect();
    let memory = &state.guests[guest].memory;
    let most =
        nodes.iter().copied().max_by(|&a, &b| memory[a].total_cmp(&memory[b]).then(b.cmp(&a)));
    let Some(wanted) = most else { return };
    for &from in nodes.iter().filter(|&&from| from != wanted) {
        let share = state.guests[guest].shares[from] * part;
        let demand = state.guests[guest].demand;
        let cap = state.machine.nodes[wanted].cap;
        if share > 0.0 && state.load[wanted] + share * demand <= IMBALANCE * cap {
            shift_threads(state, guest, from, wanted, share);
        }
    }
    for &from in &nodes {
        let least = nodes
            .iter()
            .copied()
            .min_by(|&a, &b| busy(state, a).total_cmp(&busy(state, b)).then(a.cmp(&b)));
        let share = state.guests[guest].shares[from] * part;
        if let Some(least) = least
            && share > 0.0
            && busy(state, from) > IMBALANCE
            && busy(state, least) < 1.0
        {
            shift_threads(state, guest, from, least, share);
        }
    }
}

fn shift_threads(state: &mut State<'_>, guest: usize, from: usize, to: usize, share: f64) {
    let live: &mut Live = &mut state.guests[guest];
    live.shares[from] -= share;
    live.shares[to] += share;
    state.load[from] -= share * live.demand;
    state.load[to] += share * live.demand;
}

/// Moves memory to the threads.
fn follow(state: &mut State<'_>, guest: usize, most: f64) {
    let count = state.machine.len();
    let mut left = most;
    let all = state.guests[guest].resident();
    for from in 0..count {
        for to in 0..count {
            let live = &state.guests[guest];
            let excess = live.memory[from] - live.shares[from] * all;
            let lacks = live.shares[to] * all - live.memory[to];
            let mib = excess.min(lacks).min(state.free(to)).min(left);
            // Whole pages only.
            if mib > whole_mib(1) {
                state.shift(guest, from, to, mib);
                left -= mib;
            }
        }
    }
}
