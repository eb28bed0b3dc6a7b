//! Hosts and requests of unusual shape, and the comparison of an answer with brute force.

use super::{Ask, Rng, SHAPES, brute, distances};
use placer_engine::policy::best::{Node, Prefer, Proof, Workspace, solve, step_limit};

/// Where random choices come from: a generator, or the bytes of a fuzzer.
pub trait Choices {
    /// Returns a number below `n`, which is not 0.
    fn below(&mut self, n: u64) -> u64;
    /// Returns a number between the two.
    fn real(&mut self, low: f64, high: f64) -> f64;

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
    /// Returns a number between the powers of ten.
    fn decade(&mut self, low: f64, high: f64) -> f64 {
        10f64.powf(self.real(low, high))
    }
}

impl Choices for Rng {
    fn below(&mut self, n: u64) -> u64 {
        Rng::below(self, n)
    }
    fn real(&mut self, low: f64, high: f64) -> f64 {
        Rng::real(self, low, high)
    }
}

/// Returns a host of `n` nodes and a request; `unfit`: one for more than the host has.
pub fn unusual(from: &mut impl Choices, n: usize, unfit: bool) -> Ask {
    let nodes = nodes(from, n);
    let distances = unusual_distances(from, &nodes);
    let all_cpus: f64 = nodes.iter().map(|node| f64::from(node.cpus)).sum();
    let all_mem: f64 = nodes.iter().map(|node| node.mem).sum();
    let idle: f64 = nodes.iter().map(|node| node.idle).sum();
    let one = from.pick(&nodes);
    // A part of the host, a node's worth, or exactly what is there.
    let mut cpus = match from.below(6) {
        0 => 0.01,
        1 => f64::from(one.cpus),
        2 => all_cpus,
        3 => idle,
        _ => all_cpus * from.decade(-3.0, 0.0),
    };
    let mut mem = match from.below(6) {
        0 => 0.0,
        1 => one.mem,
        2 => all_mem,
        _ => all_mem * from.decade(-4.0, 0.0),
    };
    if unfit {
        let which = from.below(8);
        if which != 0 {
            mem = all_mem.max(1.0) * from.decade(0.001, 4.0);
        }
        if which < 2 {
            let most = from_most(from);
            cpus = all_cpus.max(1.0) * from.decade(0.001, most);
        }
    }
    Ask {
        nodes,
        distances,
        cpus,
        mem,
        bound: match from.below(6) {
            0 => 0.0,
            1 => 1.0,
            2 => from.real(0.0, 1.0),
            _ => 0.5,
        },
        prefer: from.pick(&[Prefer::Room, Prefer::Room, Prefer::Room, Prefer::Pack]),
    }
}

/// Powers of ten of the host's CPUs that a request is for at most: seldom beyond all measure.
fn from_most(from: &mut impl Choices) -> f64 {
    if from.below(4) == 0 { 9.0 } else { 2.0 }
}

fn nodes(from: &mut impl Choices, n: usize) -> Vec<Node> {
    let kind = from.below(9);
    let (low, high) = from.pick(&super::FILL);
    let with_cpus = 1 + from.below(n as u64) as usize;
    let (own_idle, own_mem) = (from.real(low, high), from.real(low, high));
    let smt = from.pick(&[1.0, 1.0, 0.6]);
    let mut id = 0;
    let mut list = Vec::new();
    for i in 0..n {
        let mut cpus = from.pick(&[4, 8, 16]);
        let mut total = from.pick(&[4096.0, 16384.0, 65536.0]);
        let (mut idle, mut free) = (from.real(low, high), from.real(low, high));
        match kind {
            // All alike, or but for a millionth.
            0 | 1 => {
                let off = if kind == 1 { 1e-6 * from.real(0.0, 1.0) } else { 0.0 };
                (cpus, total) = (8, 16384.0);
                (idle, free) = ((own_idle - off).max(0.0), (own_mem - off).max(0.0));
            }
            // Memory alone on most nodes, as of CXL.
            2 if i >= with_cpus.div_ceil(3) => cpus = 0,
            // CPUs alone on most.
            3 if i >= with_cpus.div_ceil(3) => total = 0.0,
            // One CPU in all, or one a node.
            4 => cpus = u32::from(i == 0),
            5 => (cpus, idle) = (1, from.pick(&[0.0, 0.5, 1.0])),
            // Small, large and in between.
            6 => {
                cpus = from.pick(&[0, 1, 64, 4_000_000]);
                total = from.decade(-1.0, 9.0);
            }
            7 => match from.below(4) {
                0 => cpus = 0,
                1 => total = 0.0,
                _ => {}
            },
            _ => {}
        }
        let cap = f64::from(cpus) * smt;
        let free = total * free;
        list.push(Node {
            id,
            cpus,
            // A capacity next to nothing makes slowdowns huge.
            cap: if kind == 6 && cpus == 1 { from.pick(&[1e-6, 1.0]) } else { cap },
            idle: if idle > 0.99 { cap * (1.0 + 1e-12) } else { cap * idle },
            mem: if from.below(2) == 0 { free } else { free.floor() },
            mem_total: total,
        });
        id += 1 + from.below(2) as u32;
    }
    list
}

fn unusual_distances(from: &mut impl Choices, nodes: &[Node]) -> Vec<Vec<f64>> {
    let n = nodes.len();
    let kind = from.below(10);
    if kind < 3 {
        let shape = from.pick(&SHAPES);
        return distances(&mut Rng::new(from.below(1 << 32)), shape, n);
    }
    let mut rows = vec![vec![10.0; n]; n];
    let all = from.pick(&[1.0, 10.0, 254.0, 1e9]);
    for i in 0..n {
        for j in 0..n {
            rows[i][j] = match kind {
                // Memory-only nodes near all CPUs, or nearer than their own memory.
                3 | 4 if nodes[j].cpus == 0 => 11.0 + from.below(6) as f64,
                5 if nodes[j].cpus == 0 => 1.0 + from.below(12) as f64,
                3..=5 if i == j => 10.0,
                3..=5 => 11.0 + from.below(30) as f64,
                // One way, the other, or as far everywhere.
                6 => {
                    if i < j {
                        11.0
                    } else if i == j {
                        10.0
                    } else {
                        255.0
                    }
                }
                7 => all,
                8 => from.decade(0.0, 9.0).min(1e9),
                // The same both ways, local not nearest.
                _ => {
                    if i <= j {
                        from.decade(0.0, 3.0)
                    } else {
                        rows[j][i]
                    }
                }
            };
        }
    }
    rows
}

/// Asks and tries all sets: says what differs, if anything does.
pub fn differs(ask: &Ask, space: &mut Workspace) -> Result<(), String> {
    let host = ask.host();
    let got = solve(&host, &ask.request(), space);
    let Some(want) = brute(ask) else {
        let alike = got.figures.is_none() && !got.fits;
        return if alike { Ok(()) } else { Err(format!("{got:?}, and nothing is a candidate")) };
    };
    let figures = got.figures.ok_or("no figures")?;
    let mut alike = got.proof == Proof::Optimal
        && got.nodes == want.nodes
        && figures.slowdown == want.slowdown_ppm as f64 / 1e6
        && got.split.len() == want.split.len();
    for (share, (cpus, mem)) in got.split.iter().zip(&want.split) {
        alike &= (share.cpus - cpus).abs() <= 1e-9 * ask.cpus.max(1.0);
        alike &= (share.mem - mem).abs() <= 1e-9 * ask.mem.max(1.0);
    }
    if !alike {
        return Err(format!("{got:?}, and by brute force {want:?}"));
    }
    match step_limit(&host) {
        Some(limit) if got.steps > limit => Err(format!("{} of {limit} steps", got.steps)),
        _ => Ok(()),
    }
}
