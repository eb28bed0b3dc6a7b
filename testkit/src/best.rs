//! The objective once more, plainly, by trying every set; and random hosts to ask about.
#![allow(clippy::needless_range_loop, reason = "plain code is the point")]

use placer_engine::policy::best::{DistanceMatrix, Host, Node, Prefer, Request};
use std::sync::Arc;

pub use crate::random::Rng;

pub mod bytes;
pub mod unusual;

/// A host and a request, as one line of the golden file has them.
#[derive(Clone, Debug)]
pub struct Ask {
    pub nodes: Vec<Node>,
    pub distances: Vec<Vec<f64>>,
    pub cpus: f64,
    pub mem: f64,
    pub bound: f64,
    pub prefer: Prefer,
}

impl Ask {
    pub fn host(&self) -> Host {
        let cells = self.distances.iter().flatten().copied().collect();
        let fabric = DistanceMatrix::new(self.nodes.len(), cells).expect("square distances");
        Host::new(self.nodes.clone(), Arc::new(fabric)).expect("valid nodes")
    }

    pub fn request(&self) -> Request<'static> {
        Request {
            memory_bound: self.bound,
            prefer: self.prefer,
            ..Request::new(self.cpus, self.mem)
        }
    }
}

/// What brute force says.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub nodes: Vec<u32>,
    /// Slowdown in parts per million, and the lowest of any set.
    pub slowdown_ppm: u64,
    pub lowest_ppm: u64,
    pub split: Vec<(f64, f64)>,
}

pub struct Plain {
    pub slowdown_ppm: u64,
    pub split: Vec<(f64, f64)>,
}

fn needs(ask: &Ask) -> (f64, f64, f64, f64) {
    // What the policy takes a request beyond all measure for.
    let cpus = ask.cpus.clamp(0.01, 1e9);
    let mem = ask.mem.clamp(1.0, 1e15);
    let all_cpus: f64 = ask.nodes.iter().map(|n| f64::from(n.cpus)).sum();
    let all_mem: f64 = ask.nodes.iter().map(|n| n.mem).sum();
    let need_mem = if all_mem >= mem { mem } else { (all_mem - mem / 64.0).max(1.0) };
    (cpus, mem, cpus.min(all_cpus), need_mem)
}

/// Slowdown and split of one feasible set.
pub fn plain(ask: &Ask, set: &[usize]) -> Option<Plain> {
    let (c, m, need_c, need_m) = needs(ask);
    let n = &ask.nodes;
    let mut mem = 0.0;
    let mut cpus = 0.0;
    let mut idle = 0.0;
    let mut cap = 0.0;
    for &i in set {
        mem += n[i].mem;
        cpus += f64::from(n[i].cpus);
        idle += n[i].idle;
        cap += n[i].cap;
    }
    if mem < need_m || cpus < need_c || cap <= 0.0 {
        return None;
    }
    let lam = 1.0 + f64::max(0.0, c - idle) / cap;
    let w = f64::max(c, idle);
    let m = m.min(mem);
    let k = set.len();
    let mut x = [0.0; 24];
    let mut d = [0.0; 24];
    let mut y = [0.0; 24];
    for a in 0..k {
        x[a] = (n[set[a]].idle + (lam - 1.0) * n[set[a]].cap) / w;
    }
    let mut sum = 0.0;
    for b in 0..k {
        for a in 0..k {
            d[b] += x[a] * ask.distances[set[a]][set[b]];
        }
        y[b] = f64::min(x[b], n[set[b]].mem / m);
        sum += y[b];
    }
    let mut rest = 1.0 - sum;
    if rest > 1e-12 {
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| d[a].partial_cmp(&d[b]).unwrap().then(a.cmp(&b)));
        for j in order {
            if rest <= 1e-12 {
                break;
            }
            let add = f64::min(rest, n[set[j]].mem / m - y[j]);
            y[j] += add;
            rest -= add;
        }
    }
    let mut near = 0.0;
    for j in 0..k {
        near += y[j] * d[j];
    }
    let slowdown = lam * (1.0 - ask.bound + ask.bound * near / 10.0) * 1e6;
    let slowdown_ppm = slowdown.round_ties_even() as u64;
    Some(Plain { slowdown_ppm, split: (0..k).map(|a| (x[a] * c, y[a] * m)).collect() })
}

fn magnitude(n: &Node, c: f64, m: f64) -> i128 {
    let (c, m) = ((c * 100.0).round_ties_even() as i128, m as i128);
    let (f, g) = (((n.idle * 100.0 + 1e-6) as i128).max(1), n.mem as i128);
    let (um, sm) = if g > m { (m, g - m) } else { (g, 0) };
    let (uc, sc) = if f > c { (c, f - c) } else { (f, 0) };
    (10 * um + 4 * sm) * (6 * uc + sc)
}

/// Tries all sets; `None` where no set is a candidate.
pub fn brute(ask: &Ask) -> Option<Answer> {
    let n = &ask.nodes;
    let (c, m, _, _) = needs(ask);
    let useful: Vec<usize> = (0..n.len()).filter(|&i| n[i].cap > 0.0 || n[i].mem > 0.0).collect();
    let mut set = Vec::new();
    let mut scores = vec![None; 1 << useful.len()];
    let mut low = u64::MAX;
    for mask in 1usize..1 << useful.len() {
        set.clear();
        set.extend((0..useful.len()).filter(|t| mask >> t & 1 == 1).map(|t| useful[t]));
        if let Some(p) = plain(ask, &set) {
            scores[mask] = Some(p.slowdown_ppm);
            low = low.min(p.slowdown_ppm);
        }
    }
    let tc: f64 = n.iter().map(|n| n.cap).sum();
    let tm: f64 = n.iter().map(|n| n.mem_total).sum();
    let (tc, tm) = (if tc == 0.0 { 1.0 } else { tc }, if tm == 0.0 { 1.0 } else { tm });
    let mut best: Option<(usize, i128, f64, Vec<usize>, u64)> = None;
    for (mask, &score) in scores.iter().enumerate() {
        let Some(s) = score else { continue };
        if u128::from(s) * 50 > u128::from(low) * 51 {
            continue;
        }
        let size = mask.count_ones() as usize;
        if best.as_ref().is_some_and(|b| b.0 < size) {
            continue;
        }
        set.clear();
        set.extend((0..useful.len()).filter(|t| mask >> t & 1 == 1).map(|t| useful[t]));
        let (room, pack) = match ask.prefer {
            Prefer::Room => (-set.iter().map(|&i| magnitude(&n[i], c, m)).sum::<i128>(), 0.0),
            Prefer::Pack => {
                let mut sum = 0.0;
                for &i in &set {
                    sum += n[i].idle / tc + n[i].mem / tm;
                }
                (0, sum)
            }
        };
        let key = (size, room, pack, set.clone(), s);
        if best.as_ref().is_none_or(|b| key.partial_cmp(b).unwrap().is_lt()) {
            best = Some(key);
        }
    }
    let (_, _, _, set, slowdown_ppm) = best?;
    let split = plain(ask, &set).unwrap().split;
    let nodes = set.iter().map(|&i| n[i].id).collect();
    Some(Answer { nodes, slowdown_ppm, lowest_ppm: low, split })
}

/// How the nodes of a random host are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Flat,
    Pairs,
    Ring,
    /// 10, 12 within 4, 16 within 16, 28 beyond.
    Tree,
    Mesh,
    /// Any, another one each way.
    Random,
    /// Any, the same both ways.
    Even,
}

pub const SHAPES: [Shape; 7] =
    [Shape::Flat, Shape::Pairs, Shape::Ring, Shape::Tree, Shape::Mesh, Shape::Random, Shape::Even];

pub fn distances(rng: &mut Rng, shape: Shape, n: usize) -> Vec<Vec<f64>> {
    let side = (1..).find(|s| s * s >= n).unwrap();
    let mut rows = vec![vec![10.0; n]; n];
    for i in 0..n {
        for j in 0..n {
            if i == j {
                continue;
            }
            rows[i][j] = match shape {
                Shape::Flat => 21.0,
                Shape::Pairs => {
                    if i / 2 == j / 2 {
                        12.0
                    } else {
                        22.0
                    }
                }
                Shape::Ring => {
                    let hops = ((n + i - j) % n).min((n + j - i) % n);
                    10.0 + 6.0 * hops.min(20) as f64
                }
                Shape::Tree => {
                    if i / 4 == j / 4 {
                        12.0
                    } else if i / 16 == j / 16 {
                        16.0
                    } else {
                        28.0
                    }
                }
                Shape::Mesh => {
                    let hops = (i / side).abs_diff(j / side) + (i % side).abs_diff(j % side);
                    10.0 + 4.0 * hops as f64
                }
                Shape::Random => 11.0 + rng.below(30) as f64,
                Shape::Even => {
                    if i < j {
                        11.0 + rng.below(30) as f64
                    } else {
                        rows[j][i]
                    }
                }
            };
        }
    }
    rows
}

/// How full the host is.
pub const FILL: [(f64, f64); 5] = [(1.0, 1.0), (0.6, 1.0), (0.05, 1.0), (0.0, 0.3), (0.0, 0.05)];

/// A random host of `n` nodes with a random request; `odd`: unequal nodes, some without CPUs or memory.
pub fn random(rng: &mut Rng, n: usize, shape: Shape, fill: (f64, f64), odd: bool) -> Ask {
    let mut id = 0;
    let gaps = rng.chance(0.3);
    let mut nodes = Vec::new();
    for i in 0..n {
        let mut cpus = if odd { *rng.pick(&[4, 8, 16]) } else { 8 };
        let mut total = if odd { *rng.pick(&[4096.0, 16384.0, 65536.0]) } else { 16384.0 };
        if odd && i > 0 && rng.chance(0.15) {
            cpus = 0;
        } else if odd && i > 0 && rng.chance(0.15) {
            total = 0.0;
        }
        let smt = if rng.chance(0.5) { 1.0 } else { 0.65 };
        let idle: f64 = (0..cpus).map(|_| (200.0 * rng.real(fill.0, fill.1)).floor() / 200.0).sum();
        let free = (total * rng.real(fill.0, fill.1)).floor();
        nodes.push(Node {
            id,
            cpus,
            cap: f64::from(cpus) * smt,
            idle: idle * smt,
            mem: if total > 0.0 { (free - f64::max(100.0, total / 100.0)).max(0.0) } else { 0.0 },
            mem_total: total,
        });
        id += 1 + if gaps { rng.below(4) as u32 } else { 0 };
    }
    let top = f64::from(nodes.iter().map(|n| n.cpus).max().unwrap());
    let most = nodes.iter().map(|n| n.mem_total).fold(0.0, f64::max);
    let cpus = (top * 3f64.powf(rng.real(-2.5, 1.2)) * 100.0).round().max(25.0) / 100.0;
    let mem = (most * 3f64.powf(rng.real(-3.0, 1.0))).floor().max(if rng.chance(0.1) {
        0.0
    } else {
        64.0
    });
    Ask {
        distances: distances(rng, shape, n),
        nodes,
        cpus: if rng.chance(0.02) { cpus * 10.0 } else { cpus },
        mem: if rng.chance(0.05) { mem * 10.0 } else { mem },
        bound: *rng.pick(&[0.5, 0.5, 0.5, 0.0, 0.2, 1.0]),
        prefer: *rng.pick(&[Prefer::Room, Prefer::Room, Prefer::Room, Prefer::Pack]),
    }
}
