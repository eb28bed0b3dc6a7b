//! Bounds on the slowdown of many sets side by side, in loops that compilers turn into vector code.

use super::bounds::Slice;
use super::nodes::{MAX_NODES, Nodes, single};
use super::objective::Problem;

/// Number of nodes whose sets are in the table.
pub(crate) const TABLE_NODES: usize = 6;

/// Sets in one loop. Loops of 8 or 16 are unrolled before they are turned into vector code, which then is
/// half as fast.
const LANES: usize = 32;
const ROWS: usize = (1 << TABLE_NODES) / LANES;

type Lanes = [f32; LANES];
/// A figure of each set of the first nodes; bit `t` of the index: node `t` is a member.
type Column = [Lanes; ROWS];

/// Not 0: the set is not ruled out.
pub(crate) struct Marks(pub(crate) [[u32; LANES]; ROWS]);

/// Limits that rule a set out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Thresholds {
    /// Slowdown in parts per million.
    pub(crate) most: f32,
    pub(crate) key: f32,
    need_cpus: f32,
    need_mem: f32,
    /// λ, and max(C, F)/C.
    crowding: (f32, f32),
    width: (f32, f32),
    /// Slowdown without crowding: `base` + `slope` × near, and the lowest of all.
    base: f32,
    slope: f32,
    floor: f32,
    /// Most of its own threads' memory that a member holds for sure.
    held: f32,
}

impl Thresholds {
    pub(crate) fn new(problem: &Problem<'_>, range: &Slice, slack: f32) -> Self {
        let (low, high) = (1.0 - slack, 1.0 + slack);
        Self {
            most: f32::INFINITY,
            key: f32::INFINITY,
            need_cpus: single(problem.need_cpus / problem.cpus) * low,
            need_mem: single(problem.need_mem / problem.mem) * low,
            crowding: (single(range.crowding.0) * low, single(range.crowding.1) * high),
            width: (
                single(range.width.0 / problem.cpus) * low,
                single(range.width.1 / problem.cpus) * high,
            ),
            base: single((1.0 - problem.bound) * 1e6) * low,
            slope: single(problem.bound * 1e6) * low,
            floor: single(problem.slowdown(1.0, problem.distances.lowest())) * low,
            held: low,
        }
    }

    /// Reports whether `part` and all its unions with nodes of `tail` are ruled out.
    pub(crate) fn rules_out(&self, part: &Part, tail: &Part) -> bool {
        let crowding = |idle: f32, cap: f32| 1.0 + max(1.0 - idle, 0.0) / cap;
        part.mem + tail.mem < self.need_mem
            || part.cpus + tail.cpus < self.need_cpus
            || part.key > self.key
            || part.idle > self.width.1
            || crowding(part.idle + tail.idle, part.cap + tail.cap) > self.crowding.1
            || crowding(part.idle, part.cap) < self.crowding.0
    }
}

/// Sums over some nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    cpus: f32,
    cap: f32,
    idle: f32,
    mem: f32,
    key: f32,
    thin: Thin,
    pairs: Pairs,
    /// Sums of distance times idle, and times all CPUs: to the memory of each node, and both ways.
    to_idle: [f32; MAX_NODES],
    to_cap: [f32; MAX_NODES],
    pair_idle: [f32; MAX_NODES],
    pair_cap: [f32; MAX_NODES],
}

/// The most idle, and the most CPUs, that a member has for its memory.
#[derive(Clone, Copy, Debug, Default)]
struct Thin {
    idle: f32,
    cap: f32,
}

/// Over all pairs: distance times idle and idle, idle and all (both ways), all and all CPUs.
#[derive(Clone, Copy, Debug, Default)]
struct Pairs {
    both: f32,
    mixed: f32,
    all: f32,
}

impl Part {
    /// Adds the node's own figures, without its distances to others.
    pub(crate) fn add(&mut self, nodes: &Nodes, t: usize) {
        self.cpus += nodes.cpus[t];
        self.cap += nodes.cap[t];
        self.idle += nodes.idle[t];
        self.mem += nodes.mem[t];
        self.key += nodes.key[t];
        let thin = Thin::of(nodes, t);
        self.thin =
            Thin { idle: max(self.thin.idle, thin.idle), cap: max(self.thin.cap, thin.cap) };
    }

    pub(crate) fn join(&mut self, nodes: &Nodes, t: usize) {
        self.add(nodes, t);
        self.pairs = self.pairs.with(nodes, t, self.pair_idle[t], self.pair_cap[t]);
        let (idle, cap) = (nodes.idle[t], nodes.cap[t]);
        for j in 0..MAX_NODES {
            let (distance, pair) = (nodes.distance[t][j], nodes.pair[t][j]);
            self.to_idle[j] += idle * distance;
            self.to_cap[j] += cap * distance;
            self.pair_idle[j] += idle * pair;
            self.pair_cap[j] += cap * pair;
        }
    }
}

impl Thin {
    fn of(nodes: &Nodes, t: usize) -> Self {
        let (idle, cap, mem) = (nodes.idle[t], nodes.cap[t], nodes.mem[t]);
        match mem {
            _ if mem > 0.0 => Self { idle: idle / mem, cap: cap / mem },
            _ if cap > 0.0 => Self { idle: f32::INFINITY, cap: f32::INFINITY },
            _ => Self::default(),
        }
    }
}

impl Pairs {
    /// Returns the sums with node `t`, to which the others are `idle` and `cap` both ways.
    fn with(self, nodes: &Nodes, t: usize, idle: f32, cap: f32) -> Self {
        let own = nodes.distance[t][t];
        let (its_idle, its_cap) = (nodes.idle[t], nodes.cap[t]);
        Self {
            both: self.both + its_idle * (idle + its_idle * own),
            mixed: self.mixed + its_idle * (cap + 2.0 * its_cap * own) + its_cap * idle,
            all: self.all + its_cap * (cap + its_cap * own),
        }
    }
}

/// Sums of each set of the first nodes.
pub(crate) struct Table {
    cpus: Column,
    cap: Column,
    idle: Column,
    mem: Column,
    key: Column,
    thin_idle: Column,
    thin_cap: Column,
    both: Column,
    mixed: Column,
    all: Column,
    to_idle: [Column; MAX_NODES],
    to_cap: [Column; MAX_NODES],
    /// Memory of each of the first nodes if it is in the set, else 0.
    hold: [Column; TABLE_NODES],
    /// 0 if it is in the set, else infinite.
    absent: [Column; TABLE_NODES],
}

/// What the first bound leaves for the second.
struct Shape {
    /// λ − 1, C/max(C, F), and 1 by the memory placed.
    more: Lanes,
    width: Lanes,
    placed: Lanes,
}

impl Table {
    pub(crate) fn new(nodes: &Nodes) -> Self {
        let thin: [Thin; TABLE_NODES] = std::array::from_fn(|t| Thin::of(nodes, t));
        let (mut both, mut mixed, mut all) = (zero(), zero(), zero());
        let mut pairs = [Pairs::default(); 1 << TABLE_NODES];
        for t in 0..TABLE_NODES {
            let idle = sums(|i| if i < t { nodes.idle[i] * nodes.pair[i][t] } else { 0.0 });
            let cap = sums(|i| if i < t { nodes.cap[i] * nodes.pair[i][t] } else { 0.0 });
            for set in 0..1 << t {
                let (idle, cap) = (idle.as_flattened()[set], cap.as_flattened()[set]);
                pairs[set | 1 << t] = pairs[set].with(nodes, t, idle, cap);
            }
        }
        for (set, pairs) in pairs.iter().enumerate() {
            both.as_flattened_mut()[set] = pairs.both;
            mixed.as_flattened_mut()[set] = pairs.mixed;
            all.as_flattened_mut()[set] = pairs.all;
        }
        let by_set = |t: usize, has: f32, lacks: f32| {
            let mut column = zero();
            for (set, cell) in column.as_flattened_mut().iter_mut().enumerate() {
                *cell = if set >> t & 1 == 1 { has } else { lacks };
            }
            column
        };
        Self {
            cpus: sums(|t| nodes.cpus[t]),
            cap: sums(|t| nodes.cap[t]),
            idle: sums(|t| nodes.idle[t]),
            mem: sums(|t| nodes.mem[t]),
            key: sums(|t| nodes.key[t]),
            thin_idle: joined(max, |t| thin[t].idle),
            thin_cap: joined(max, |t| thin[t].cap),
            both,
            mixed,
            all,
            to_idle: std::array::from_fn(|j| sums(|i| nodes.idle[i] * nodes.distance[i][j])),
            to_cap: std::array::from_fn(|j| sums(|i| nodes.cap[i] * nodes.distance[i][j])),
            hold: std::array::from_fn(|t| by_set(t, nodes.mem[t], 0.0)),
            absent: std::array::from_fn(|t| by_set(t, 0.0, f32::INFINITY)),
        }
    }

    /// Marks the sets that `part`, made of the `chosen` nodes, and a set of the first nodes make, where no
    /// bound rules them out; `None` if there is none.
    pub(crate) fn marks(
        &self,
        nodes: &Nodes,
        part: &Part,
        chosen: &[usize],
        thresholds: &Thresholds,
    ) -> Option<Marks> {
        let both = sums(|t| nodes.idle[t] * part.pair_idle[t]);
        let mixed = sums(|t| nodes.idle[t] * part.pair_cap[t] + nodes.cap[t] * part.pair_idle[t]);
        let all = sums(|t| nodes.cap[t] * part.pair_cap[t]);
        let mut marks = Marks([[0; LANES]; ROWS]);
        let mut any = 0;
        for row in 0..ROWS {
            let mut shape = Shape { more: [0.0; LANES], width: [0.0; LANES], placed: [0.0; LANES] };
            let cross = (&both[row], &mixed[row], &all[row]);
            let lanes = &mut marks.0[row];
            let thin = self.by_pairs(row, part, cross, thresholds, &mut shape, lanes);
            if thin {
                self.by_memory(row, nodes, part, chosen, thresholds, &shape, lanes);
            }
            any |= lanes.iter().fold(0, |any, mark| any | mark);
        }
        (any != 0).then_some(marks)
    }

    /// Marks the sets that the sums do not rule out; returns whether for some of them the pairs are no bound.
    ///
    /// Where every member holds the memory of its own threads, the pairs are all there is.
    fn by_pairs(
        &self,
        row: usize,
        part: &Part,
        (cross_both, cross_mixed, cross_all): (&Lanes, &Lanes, &Lanes),
        thresholds: &Thresholds,
        shape: &mut Shape,
        marks: &mut [u32; LANES],
    ) -> bool {
        let (idles, caps, mems, cpus) =
            (&self.idle[row], &self.cap[row], &self.mem[row], &self.cpus[row]);
        let (keys, thin_idle, thin_cap) =
            (&self.key[row], &self.thin_idle[row], &self.thin_cap[row]);
        let (both, mixed, all) = (&self.both[row], &self.mixed[row], &self.all[row]);
        let (part, thresholds) = (*part, *thresholds);
        let mut thins = [0; LANES];
        for l in 0..LANES {
            let idle = part.idle + idles[l];
            let mem = part.mem + mems[l];
            let more = max(1.0 - idle, 0.0) / (part.cap + caps[l]);
            let wide = max(1.0, idle);
            let width = 1.0 / wide;
            let placed = min(1.0, mem);
            let both = part.pairs.both + both[l] + cross_both[l];
            let mixed = part.pairs.mixed + mixed[l] + cross_mixed[l];
            let all = part.pairs.all + all[l] + cross_all[l];
            let near = (both + more * (mixed + more * all)) * width * width;
            let crowding = 1.0 + more;
            let thin_idle = max(part.thin.idle, thin_idle[l]);
            let thin_cap = max(part.thin.cap, thin_cap[l]);
            // Not a number: a member without memory in a set without crowding.
            let held = (thin_idle + more * thin_cap) * width * placed <= thresholds.held;
            let slow =
                if held { thresholds.base + thresholds.slope * near } else { thresholds.floor };
            let beyond = crowding * slow > thresholds.most;
            let mark = !beyond
                & (crowding >= thresholds.crowding.0)
                & (crowding <= thresholds.crowding.1)
                & (wide >= thresholds.width.0)
                & (wide <= thresholds.width.1)
                & (mem >= thresholds.need_mem)
                & (part.cpus + cpus[l] >= thresholds.need_cpus)
                & (part.key + keys[l] <= thresholds.key);
            shape.more[l] = more;
            shape.width[l] = width;
            shape.placed[l] = 1.0 / placed;
            marks[l] = u32::from(mark);
            thins[l] = u32::from(mark & !held);
        }
        thins.iter().fold(0, |any, thin| any | thin) != 0
    }

    /// Clears the marks of sets that are too slow even if what members cannot hold is on the nearest of them.
    #[expect(clippy::too_many_arguments, reason = "one place calls it")]
    fn by_memory(
        &self,
        row: usize,
        nodes: &Nodes,
        part: &Part,
        chosen: &[usize],
        thresholds: &Thresholds,
        shape: &Shape,
        marks: &mut [u32; LANES],
    ) {
        let (mut near, mut rest, mut nearest) =
            ([0.0; LANES], [1.0; LANES], [f32::INFINITY; LANES]);
        let mut put = |j: usize, hold: &Lanes, absent: &Lanes| {
            let (part_idle, part_cap) = (part.to_idle[j], part.to_cap[j]);
            let (to_idle, to_cap) = (&self.to_idle[j][row], &self.to_cap[j][row]);
            let (idle, cap) = (nodes.idle[j], nodes.cap[j]);
            for l in 0..LANES {
                let more = shape.more[l];
                let far = (part_idle + to_idle[l]) + more * (part_cap + to_cap[l]);
                let share = (idle + more * cap) * shape.width[l];
                let stored = min(share, hold[l] * shape.placed[l]);
                near[l] += stored * far;
                rest[l] -= stored;
                nearest[l] = min(nearest[l], far + absent[l]);
            }
        };
        for j in 0..TABLE_NODES {
            put(j, &self.hold[j][row], &self.absent[j][row]);
        }
        for &j in chosen {
            put(j, &[nodes.mem[j]; LANES], &[0.0; LANES]);
        }
        for l in 0..LANES {
            // 1e-5: what rounding may have left of the 1 at most.
            let spilled = max(rest[l] - 1e-5, 0.0) * nearest[l];
            let near = (near[l] + spilled) * shape.width[l];
            let beyond = (1.0 + shape.more[l]) * (thresholds.base + thresholds.slope * near)
                > thresholds.most;
            marks[l] &= u32::from(!beyond);
        }
    }
}

fn zero() -> Column {
    [[0.0; LANES]; ROWS]
}

/// Returns for every set of the first nodes the sum of `of` over its nodes.
fn sums(of: impl Fn(usize) -> f32) -> Column {
    joined(|a, b| a + b, of)
}

fn joined(join: impl Fn(f32, f32) -> f32, of: impl Fn(usize) -> f32) -> Column {
    let mut column = zero();
    let flat = column.as_flattened_mut();
    for t in 0..TABLE_NODES {
        let own = of(t);
        let (known, new) = flat.split_at_mut(1 << t);
        for (to, &from) in new.iter_mut().zip(&*known) {
            *to = join(from, own);
        }
    }
    column
}

/// Returns the larger of two numbers; unlike `f32::max` one instruction.
#[inline]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Returns the smaller of two numbers; the second where one is not a number.
#[inline]
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}
