//! The objective in one place: the slowdown of a guest on a node set, and how much room the set has.

use super::model::{DistanceMatrix, Host, Node, Prefer, Request};

/// A request on a host with everything derived from the two that no set changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) distances: &'a DistanceMatrix,
    /// CPUs and MiB requested, at least 0.01 and 1.
    pub(crate) cpus: f64,
    pub(crate) mem: f64,
    /// What a set must have: the request, or what the host can give of it.
    pub(crate) need_cpus: f64,
    pub(crate) need_mem: f64,
    /// µ, from 0 to 1.
    pub(crate) bound: f64,
    pub(crate) prefer: Prefer,
    all_cap: f64,
    all_installed: f64,
    pub(crate) fits: bool,
    /// Room for rounding in every comparison of a bound, relative: see the module's documentation.
    pub(crate) slack: f64,
    /// Most memory that a set can place, in MiB: the request, or all there is.
    pub(crate) max_placed: f64,
    magnitude: Magnitude,
}

/// numad's figures of the request: hundredths of a CPU and MiB, whole.
#[derive(Clone, Copy, Debug)]
struct Magnitude {
    cpus: u64,
    mem: u64,
}

/// What one node set means for a guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score {
    /// Slowdown in parts per million: what sets are compared by. The largest value stands for all from there.
    pub(crate) slowdown_ppm: u64,
    /// λ: runnable threads for each CPU.
    pub(crate) crowding: f64,
    /// Mean distance of the memory used, 10 is local.
    pub(crate) near: f64,
}

/// Sums of the figures of some nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) cpus: f64,
    pub(crate) cap: f64,
    pub(crate) idle: f64,
    pub(crate) mem: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, problem: &Problem<'_>, at: usize) {
        let node = &problem.nodes[at];
        self.cpus += f64::from(node.cpus);
        self.cap += node.cap;
        self.idle += node.idle;
        self.mem += node.mem;
    }

    /// Subtracts a node's figures, up to rounding.
    pub(crate) fn subtract(&mut self, problem: &Problem<'_>, at: usize) {
        let node = &problem.nodes[at];
        self.cpus -= f64::from(node.cpus);
        self.cap -= node.cap;
        self.idle -= node.idle;
        self.mem -= node.mem;
        // Below any capacity of a node: a rest of rounding.
        if self.cap < 1e-7 {
            self.cap = 0.0;
        }
    }
}

/// Shares of the members of one set, in the order of the set; reused from set to set.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// Part of the guest's CPU time on each member; sums to 1.
    pub(crate) cpu: Vec<f64>,
    /// Part of the guest's memory on each member; sums to 1.
    pub(crate) mem: Vec<f64>,
    /// Mean distance of the guest's threads to each member's memory.
    reach: Vec<f64>,
    order: Vec<usize>,
    /// MiB placed: the request, or all the set has.
    pub(crate) placed: f64,
}

impl<'a> Problem<'a> {
    pub(crate) fn new(host: &'a Host, request: &Request<'_>) -> Self {
        let cpus = within(request.cpus, 0.01, 1e9);
        let mem = within(request.memory, 1.0, 1e15);
        let all = &host.total;
        let short = (all.mem - mem / 64.0).max(1.0);
        Self {
            nodes: &host.nodes,
            distances: &host.distances,
            cpus,
            mem,
            need_cpus: cpus.min(all.cpus),
            need_mem: if all.mem >= mem { mem } else { short },
            bound: within(request.memory_bound, 0.0, 1.0),
            prefer: request.prefer,
            all_cap: if all.cap > 0.0 { all.cap } else { 1.0 },
            all_installed: if all.installed > 0.0 { all.installed } else { 1.0 },
            fits: all.mem >= mem && all.cpus >= cpus,
            slack: slack(host, cpus),
            max_placed: mem.min(all.mem).max(1.0),
            magnitude: Magnitude { cpus: whole((cpus * 100.0).round_ties_even()), mem: whole(mem) },
        }
    }

    /// Reports whether rounding may exceed what bounds are worth: then only trying all sets is safe.
    pub(crate) fn is_coarse(&self) -> bool {
        self.slack > 1e-3
    }

    /// Returns the slowdown in parts per million, not rounded, of a crowding and a mean distance.
    #[inline]
    pub(crate) fn slowdown(&self, crowding: f64, near: f64) -> f64 {
        crowding * (1.0 - self.bound + self.bound * near / 10.0) * 1e6
    }

    /// Returns the mean distance at which that crowding comes to `slowdown_ppm`; infinite where µ is 0.
    pub(crate) fn near(&self, crowding: f64, slowdown_ppm: f64) -> f64 {
        if self.bound <= 0.0 {
            return f64::INFINITY;
        }
        10.0 * (slowdown_ppm / 1e6 / crowding - 1.0 + self.bound) / self.bound
    }

    /// Returns λ for a set with that much idle and whole capacity.
    #[inline]
    pub(crate) fn crowding(&self, idle: f64, cap: f64) -> f64 {
        1.0 + (self.cpus - idle).max(0.0) / cap
    }

    /// Returns the largest λ of any set: that of the node with the smallest capacity, all busy.
    pub(crate) fn most_crowding(&self, useful: &[usize]) -> f64 {
        let caps = useful.iter().map(|&at| self.nodes[at].cap).filter(|&cap| cap > 0.0);
        self.crowding(0.0, caps.fold(f64::INFINITY, f64::min))
    }

    /// Reports whether nodes with these sums are a candidate.
    pub(crate) fn is_candidate(&self, sums: Sums) -> bool {
        sums.mem >= self.need_mem && sums.cpus >= self.need_cpus && sums.cap > 0.0
    }

    /// Reports whether one node is a candidate by itself.
    #[inline]
    pub(crate) fn single_fits(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.mem >= self.need_mem && f64::from(node.cpus) >= self.need_cpus && node.cap > 0.0
    }

    /// Scores one node that has CPUs and all the memory: `Case::weigh` without its loops.
    #[inline]
    pub(crate) fn evaluate_single(&self, at: usize) -> Score {
        let node = &self.nodes[at];
        let crowding = self.crowding(node.idle, node.cap);
        let share = (node.idle + (crowding - 1.0) * node.cap) / self.cpus.max(node.idle);
        let stored = share.min(node.mem / self.mem.min(node.mem));
        let near = stored * (share * self.distances.distance(at, at));
        Score { slowdown_ppm: rounded(self.slowdown(crowding, near)), crowding, near }
    }

    /// Returns the CPUs and the MiB of the guest on one node that has all of it.
    pub(crate) fn shares_of_single(&self, at: usize, crowding: f64) -> (f64, f64) {
        let node = &self.nodes[at];
        let placed = self.mem.min(node.mem);
        let share = (node.idle + (crowding - 1.0) * node.cap) / self.cpus.max(node.idle);
        let (stored, room) = (share.min(node.mem / placed), node.mem / placed);
        let rest = 1.0 - stored;
        let stored = if rest > SPILLED { stored + rest.min(room - stored) } else { stored };
        (share * self.cpus, stored * placed)
    }

    /// Scores `set` (ascending positions; some CPUs and some memory) and leaves its shares in `shares`.
    ///
    /// Threads roam, memory follows them, what finds no room there goes to the nearest member with room.
    /// Sums run in id order, so the last digit is the same everywhere.
    pub(crate) fn evaluate(&self, set: &[usize], shares: &mut Shares) -> Score {
        let (mut idle, mut cap, mut mem) = (0.0, 0.0, 0.0);
        for &i in set {
            let node = &self.nodes[i];
            idle += node.idle;
            cap += node.cap;
            mem += node.mem;
        }
        let crowding = self.crowding(idle, cap);
        let width = self.cpus.max(idle);
        let placed = self.mem.min(mem);
        shares.placed = placed;
        shares.cpu.clear();
        shares.cpu.extend(set.iter().map(|&i| {
            let node = &self.nodes[i];
            (node.idle + (crowding - 1.0) * node.cap) / width
        }));
        shares.mem.clear();
        shares.reach.clear();
        shares.reach.resize(set.len(), 0.0);
        // Row by row, as the distances are stored: each sum still runs in the order of ids.
        for (&i, &share) in set.iter().zip(&shares.cpu) {
            let row = self.distances.row(i);
            for (reach, &j) in shares.reach.iter_mut().zip(set) {
                *reach += share * row[j];
            }
        }
        let mut stored = 0.0;
        for (&j, &own) in set.iter().zip(&shares.cpu) {
            let part = own.min(self.nodes[j].mem / placed);
            shares.mem.push(part);
            stored += part;
        }
        self.spill(set, 1.0 - stored, shares);
        let near = shares.mem.iter().zip(&shares.reach).map(|(y, d)| y * d).sum();
        Score { slowdown_ppm: rounded(self.slowdown(crowding, near)), crowding, near }
    }

    /// Puts the part `rest` of the memory on the members with room, nearest first.
    fn spill(&self, set: &[usize], mut rest: f64, shares: &mut Shares) {
        if rest <= SPILLED {
            return;
        }
        let reach = &shares.reach;
        shares.order.clear();
        shares.order.extend(0..set.len());
        // Positions ascend with ids, so they are the tie-break.
        shares.order.sort_unstable_by(|&a, &b| reach[a].total_cmp(&reach[b]).then(a.cmp(&b)));
        for &at in &shares.order {
            if rest <= SPILLED {
                break;
            }
            let add = rest.min(self.nodes[set[at]].mem / shares.placed - shares.mem[at]);
            shares.mem[at] += add;
            rest -= add;
        }
    }

    /// Returns the room of one node, larger is better: numad's magnitude with our figures.
    ///
    /// Under [`Prefer::Pack`] it is the free share, turned so that a smaller one is larger.
    pub(crate) fn room(&self, set: &[usize]) -> Room {
        match self.prefer {
            Prefer::Room => Room(set.iter().map(|&i| self.magnitude(i)).sum()),
            Prefer::Pack => Room::packed(set.iter().map(|&i| self.free_share(i)).sum()),
        }
    }

    /// Returns the room of a set as a number to show: larger is better under [`Prefer::Room`] only.
    pub(crate) fn room_figure(&self, set: &[usize]) -> f64 {
        match self.prefer {
            Prefer::Room => set.iter().map(|&i| self.magnitude(i) as f64).sum(),
            Prefer::Pack => set.iter().map(|&i| self.free_share(i)).sum(),
        }
    }

    /// Returns the node's part of the host's idle CPUs plus its part of the memory.
    pub(crate) fn free_share(&self, at: usize) -> f64 {
        let node = &self.nodes[at];
        node.idle / self.all_cap + node.mem / self.all_installed
    }

    /// Returns numad's magnitude of a node: what it has for the request, and some of what would remain.
    pub(crate) fn magnitude(&self, at: usize) -> u128 {
        let node = &self.nodes[at];
        let split = |have: u64, want: u64| {
            if have > want { (want, have - want) } else { (have, 0) }
        };
        let idle = whole(node.idle * 100.0 + 1e-6).max(1);
        let (used_mem, spare_mem) = split(whole(node.mem), self.magnitude.mem);
        let (used_cpus, spare_cpus) = split(idle, self.magnitude.cpus);
        let mem = 10 * u128::from(used_mem) + 4 * u128::from(spare_mem);
        mem * (6 * u128::from(used_cpus) + u128::from(spare_cpus))
    }
}

/// How much room a set has; larger is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Room(pub(crate) u128);

impl Room {
    /// Turns a sum of free shares, at least 0, into an order where the smallest sum is the largest room.
    pub(crate) fn packed(sum: f64) -> Self {
        // The bits of floats that are not negative are in the floats' order.
        Self(u128::from(u64::MAX - sum.max(0.0).to_bits()))
    }
}

/// A part of the memory up to this is no more than rounding, and is placed nowhere.
pub(crate) const SPILLED: f64 = 1e-12;

/// Room for the rounding of a bound where nothing is extreme, relative.
pub(crate) const SLACK: f64 = 1e-9;

/// Returns the room that bounds leave for rounding, relative.
///
/// More than [`SLACK`] only where distances differ by a factor of 10^5, a request is for a millionth of the
/// host or a node has more idle CPUs than CPUs: see the error budget in the module's documentation.
#[expect(clippy::cast_precision_loss, reason = "at most 65,535 nodes")]
fn slack(host: &Host, cpus: f64) -> f64 {
    let (nodes, total) = (host.nodes.len() as f64, &host.total);
    let extreme = nodes * (host.distances.spread() + total.fullest - 1.0) + total.cap / cpus;
    (SLACK + 1e-15 * extreme).min(1.0)
}

/// Returns a slowdown in whole parts per million; the largest value stands for all from there on.
#[inline]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
pub(crate) fn rounded(slowdown: f64) -> u64 {
    slowdown.round_ties_even() as u64
}

/// Returns `value` limited to the range; `low` for NaN, which `clamp` would keep.
fn within(value: f64, low: f64, high: f64) -> f64 {
    if value > low { value.min(high) } else { low }
}

/// Returns the whole part of `value`; 0 below 0 and for NaN, the largest `u64` above it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn whole(value: f64) -> u64 {
    value as u64
}
