//! What is true on the host in a step: where guests run, where their memory is, how slow that makes them.

use std::collections::BTreeSet;

use placer_engine::balance::roam::{Room, shares};

use super::super::machine::{Machine, cpus, millionths};
use super::super::rules::Seen;
use super::super::state::busy_ticks;

/// A guest that is there.
#[derive(Clone, Debug)]
pub(super) struct Live {
    /// Its place in the period.
    pub(super) number: u32,
    pub(super) vcpus: f64,
    /// Seconds since the period's begin.
    pub(super) born: f64,
    pub(super) leaves: f64,
    pub(super) changes: f64,
    pub(super) turn: u64,
    /// CPUs that its threads want.
    pub(super) demand: f64,
    /// Its memory cannot be moved.
    pub(super) pinned: bool,
    /// Where its threads may run, ascending.
    pub(super) nodes: Vec<usize>,
    /// The part of its threads on each node.
    pub(super) shares: Vec<f64>,
    /// It was bound to its nodes, be they all: the kernel leaves it there.
    pub(super) bound: bool,
    /// Who spreads its threads: the kernel's NUMA balancing, not idle CPUs.
    pub(super) steered: bool,
    /// MiB on each node.
    pub(super) memory: Vec<f64>,
    /// Where its memory is being moved.
    goal: Option<Vec<f64>>,
    /// MiB that others may not take meanwhile.
    booked: Vec<f64>,
    /// CPU seconds that its threads ran.
    pub(super) ran: f64,
    pub(super) slowdown: f64,
    /// Mean distance of its memory, 10 is local.
    near: f64,
    crowding: f64,
    /// The sets of nodes that it was moved away from.
    pub(super) left: BTreeSet<Vec<usize>>,
    /// Busy-CPU seconds: its work, what that took, what of it moving cost; and sums weighted by work.
    pub(super) work: f64,
    pub(super) taken: f64,
    pub(super) cost: f64,
    pub(super) far: f64,
    pub(super) crowded: f64,
}

/// What managers did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Deeds {
    pub(super) moves: u64,
    /// Moves to nodes that the guest had left before.
    pub(super) returns: u64,
    pub(super) undone: u64,
    pub(super) moved_mib: f64,
    /// MiB that were to be moved and could not.
    pub(super) stuck_mib: f64,
}

/// All guests on all nodes.
pub(super) struct State<'a> {
    pub(super) machine: &'a Machine,
    memory_bound: f64,
    /// In the order of their numbers.
    pub(super) guests: Vec<Live>,
    pub(super) load: Vec<f64>,
    used: Vec<f64>,
    booked: Vec<f64>,
    stale: bool,
    pub(super) deeds: Deeds,
}

/// Memory up to this is rounding, in MiB.
pub(super) const CRUMB: f64 = 1e-3;
/// What moving a GiB costs the guest, in busy-CPU seconds.
const COST_PER_GIB: f64 = 1.0;

impl Live {
    /// Returns a guest that has neither threads nor memory anywhere.
    pub(super) fn new(number: u32, vcpus: f64, count: usize) -> Self {
        Self {
            number,
            vcpus,
            born: 0.0,
            leaves: f64::INFINITY,
            changes: f64::INFINITY,
            turn: 0,
            demand: 0.0,
            pinned: false,
            nodes: Vec::new(),
            shares: vec![0.0; count],
            bound: false,
            steered: false,
            memory: vec![0.0; count],
            goal: None,
            booked: vec![0.0; count],
            ran: 0.0,
            slowdown: 1.0,
            near: 10.0,
            crowding: 1.0,
            left: BTreeSet::new(),
            work: 0.0,
            taken: 0.0,
            cost: 0.0,
            far: 0.0,
            crowded: 0.0,
        }
    }

    /// Returns the memory that is there.
    pub(super) fn resident(&self) -> f64 {
        self.memory.iter().sum()
    }
}

impl<'a> State<'a> {
    pub(super) fn new(machine: &'a Machine, memory_bound: f64) -> Self {
        let none = vec![0.0; machine.len()];
        Self {
            machine,
            memory_bound,
            guests: Vec::new(),
            load: none.clone(),
            used: none.clone(),
            booked: none,
            stale: true,
            deeds: Deeds::default(),
        }
    }

    /// Shows the nodes as rules see them.
    pub(super) fn show(&self, seen: &mut Vec<Seen>) {
        seen.clear();
        let nodes = self.machine.nodes.iter().enumerate();
        seen.extend(nodes.map(|(at, built)| Seen {
            free: whole(self.unused(at)),
            claimed: whole(self.booked[at].ceil()),
            busy: busy_ticks(millionths(self.load[at].min(f64::from(built.cpus)))),
            claimed_cpus: 0,
            vcpus: self.guests.iter().filter(|guest| guest.nodes.contains(&at)).count() as u64,
            cpus: built.cpus,
            cap: built.cap,
        }));
    }

    /// Returns the MiB of a node that no guest uses.
    pub(super) fn unused(&self, at: usize) -> f64 {
        (whole_mib(self.machine.nodes[at].there) - self.used[at]).max(0.0)
    }

    /// Returns the MiB of a node that are free and that no move needs.
    pub(super) fn free(&self, at: usize) -> f64 {
        (self.unused(at) - self.booked[at]).max(0.0)
    }

    /// Returns the runnable threads for each CPU of a node, at least 1.
    pub(super) fn crowding(&self, at: usize) -> f64 {
        (self.load[at] / self.machine.nodes[at].cap.max(1e-6)).max(1.0)
    }

    pub(super) fn find(&self, number: u32) -> Option<usize> {
        self.guests.binary_search_by_key(&number, |guest| guest.number).ok()
    }

    /// Lets a guest start with some memory on each node; what finds no room goes to the nearest nodes with room.
    pub(super) fn start(&mut self, mut live: Live, wanted: &[f64]) {
        let mut left = 0.0;
        for (at, &wanted) in wanted.iter().enumerate() {
            let taken = wanted.min(self.free(at));
            live.memory[at] = taken;
            left += wanted - taken;
        }
        if left > CRUMB {
            let reach = |to: usize| -> f64 {
                live.nodes.iter().map(|&from| self.machine.row(from)[to]).sum()
            };
            let mut order: Vec<usize> = (0..self.machine.len()).collect();
            order.sort_by(|&a, &b| reach(a).total_cmp(&reach(b)).then(a.cmp(&b)));
            for at in order {
                let taken = left.min(self.free(at) - live.memory[at]).max(0.0);
                live.memory[at] += taken;
                left -= taken;
            }
        }
        for (at, mib) in live.memory.iter().enumerate() {
            self.used[at] += mib;
        }
        let place = self.guests.partition_point(|other| other.number < live.number);
        self.guests.insert(place, live);
        self.stale = true;
    }

    /// Lets guests go whose time is over.
    pub(super) fn depart(&mut self, now: f64, mut ended: impl FnMut(&Live)) {
        let mut at = 0;
        while at < self.guests.len() {
            if self.guests[at].leaves > now {
                at += 1;
                continue;
            }
            let live = self.guests.remove(at);
            for node in 0..self.machine.len() {
                self.used[node] = (self.used[node] - live.memory[node]).max(0.0);
                self.booked[node] = (self.booked[node] - live.booked[node]).max(0.0);
            }
            self.stale = true;
            ended(&live);
        }
    }

    /// Says that loads, threads or memory have changed.
    pub(super) fn touch(&mut self) {
        self.stale = true;
    }

    /// Brings loads and slowdowns up to date: guests of one node first, then those that roam over several.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        for (load, built) in self.load.iter_mut().zip(&self.machine.nodes) {
            *load = cpus(built.busy);
        }
        for guest in &mut self.guests {
            if let [only] = *guest.nodes.as_slice() {
                guest.shares.fill(0.0);
                guest.shares[only] = 1.0;
                self.load[only] += guest.demand;
            } else if guest.steered {
                add(&mut self.load, guest);
            }
        }
        for at in 0..self.guests.len() {
            let guest = &self.guests[at];
            if guest.nodes.len() == 1 || guest.steered {
                continue;
            }
            let shares = self.roam(&guest.nodes, guest.demand);
            let guest = &mut self.guests[at];
            guest.shares = shares;
            add(&mut self.load, guest);
        }
        for at in 0..self.guests.len() {
            let guest = &self.guests[at];
            let crowding = self.crowded(&guest.shares);
            let near = self.near(&guest.shares, &guest.memory);
            let guest = &mut self.guests[at];
            (guest.crowding, guest.near) = (crowding, near);
            guest.slowdown = crowding * (1.0 - self.memory_bound + self.memory_bound * near / 10.0);
        }
    }

    /// Returns how threads roam over nodes, beside what is there.
    pub(super) fn roam(&self, nodes: &[usize], demand: f64) -> Vec<f64> {
        let room = |&at: &usize| Room { cap: self.machine.nodes[at].cap, busy: self.load[at] };
        let rooms: Vec<Room> = nodes.iter().map(room).collect();
        let mut all = vec![0.0; self.machine.len()];
        for (&at, share) in nodes.iter().zip(shares(&rooms, demand.max(1e-3))) {
            all[at] = share;
        }
        all
    }

    fn crowded(&self, shares: &[f64]) -> f64 {
        let each = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
        each.map(|(at, share)| share * self.crowding(at)).sum()
    }

    fn near(&self, shares: &[f64], memory: &[f64]) -> f64 {
        let all: f64 = memory.iter().sum();
        let mut near = 0.0;
        for (from, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let row = self.machine.row(from);
            if all > CRUMB {
                let reach: f64 = memory.iter().zip(row).map(|(mib, far)| mib * far).sum();
                near += share * reach / all;
            } else {
                near += share * row[from];
            }
        }
        near
    }

    /// Lets time go on.
    pub(super) fn pass(&mut self, seconds: f64) {
        let crowding: Vec<f64> = (0..self.load.len()).map(|at| self.crowding(at)).collect();
        for guest in &mut self.guests {
            let work = guest.demand * seconds;
            guest.work += work;
            guest.taken += work * guest.slowdown;
            guest.far += work * guest.near;
            guest.crowded += work * guest.crowding;
            let parts = guest.shares.iter().zip(&crowding);
            guest.ran += work * parts.map(|(share, crowding)| share / crowding).sum::<f64>();
        }
    }

    /// Lets a guest's threads run on other nodes, and begins to move its memory.
    pub(super) fn bind(&mut self, guest: usize, nodes: &[usize], goal: Vec<f64>, books: bool) {
        let live = &mut self.guests[guest];
        if live.nodes != nodes {
            self.deeds.moves += 1;
            self.deeds.returns += u64::from(live.left.contains(nodes));
            let left = std::mem::replace(&mut live.nodes, nodes.to_vec());
            live.left.insert(left);
            (live.bound, live.steered) = (true, false);
        }
        if live.pinned {
            let stuck = |(wanted, there): (&f64, &f64)| (there - wanted).max(0.0);
            self.deeds.stuck_mib += goal.iter().zip(&live.memory).map(stuck).sum::<f64>();
        } else {
            if books {
                for (at, booked) in live.booked.iter_mut().enumerate() {
                    *booked = (goal[at] - live.memory[at]).max(0.0);
                    self.booked[at] += *booked;
                }
            }
            live.goal = Some(goal);
        }
        self.stale = true;
    }

    /// Moves up to so much of a guest's memory; returns true when there is nothing left to move.
    pub(super) fn transfer(&mut self, guest: usize, most: f64) -> bool {
        let Some(goal) = self.guests[guest].goal.take() else { return true };
        let mut left = most;
        for from in 0..goal.len() {
            for to in 0..goal.len() {
                let live = &self.guests[guest];
                let room = self.free(to) + live.booked[to];
                let excess = live.memory[from] - goal[from];
                let mib = excess.min(goal[to] - live.memory[to]).min(room).min(left);
                if mib > 0.0 {
                    self.shift(guest, from, to, mib);
                    left -= mib;
                }
            }
        }
        if left <= CRUMB {
            self.guests[guest].goal = Some(goal);
            return false;
        }
        let live = &mut self.guests[guest];
        let lacks = |(wanted, there): (&f64, &f64)| (there - wanted).max(0.0);
        self.deeds.stuck_mib += goal.iter().zip(&live.memory).map(lacks).sum::<f64>();
        for (all, booked) in self.booked.iter_mut().zip(&mut live.booked) {
            *all = (*all - *booked).max(0.0);
            *booked = 0.0;
        }
        true
    }

    /// Moves memory of a guest, which there is room for.
    pub(super) fn shift(&mut self, guest: usize, from: usize, to: usize, mib: f64) {
        let live = &mut self.guests[guest];
        live.memory[from] -= mib;
        live.memory[to] += mib;
        self.used[from] = (self.used[from] - mib).max(0.0);
        self.used[to] += mib;
        let given_back = mib.min(live.booked[to]);
        live.booked[to] -= given_back;
        self.booked[to] = (self.booked[to] - given_back).max(0.0);
        live.cost += mib / 1_024.0 * COST_PER_GIB;
        self.deeds.moved_mib += mib;
        self.stale = true;
    }

    /// Says what is wrong with the sums; nothing, where they are right.
    #[cfg(test)]
    pub(super) fn wrong(&self) -> Option<String> {
        let count = self.machine.len();
        let guests = |figure: fn(&Live) -> &Vec<f64>, at: usize| -> f64 {
            self.guests.iter().map(|guest| figure(guest)[at]).sum()
        };
        let node = (0..count).find(|&at| {
            let used = guests(|guest| &guest.memory, at);
            let booked = guests(|guest| &guest.booked, at);
            (used - self.used[at]).abs() > 0.1
                || (booked - self.booked[at]).abs() > 0.1
                || used > whole_mib(self.machine.nodes[at].there) + 0.1
        });
        let strange = |guest: &&Live| {
            (guest.shares.iter().sum::<f64>() - 1.0).abs() > 1e-6
                || guest.slowdown < 1.0 - 1e-9
                || !guest.slowdown.is_finite()
        };
        let guest = self.guests.iter().find(strange);
        node.map(|at| format!("node {at}: {} {}", self.used[at], self.booked[at]))
            .or_else(|| guest.map(|guest| format!("{guest:?}")))
    }
}

fn add(load: &mut [f64], guest: &Live) {
    for (load, share) in load.iter_mut().zip(&guest.shares) {
        *load += share * guest.demand;
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
pub(super) fn whole(mib: f64) -> u64 {
    mib as u64
}

#[expect(clippy::cast_precision_loss, reason = "no host has 2^53 MiB")]
pub(super) fn whole_mib(mib: u64) -> f64 {
    mib as f64
}
