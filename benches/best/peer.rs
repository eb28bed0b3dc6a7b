//! The same question answered by trying all subsets, as Kubernetes' topology manager does.
//!
//! It visits every subset of the nodes, keeps those whose free CPUs and memory together suffice,
//! and of these the narrowest, then the one with the lowest average distance. Written after what it
//! does, not after its code; Go and a hint provider for each resource make the original slower.

use placer_engine::{Request, Snapshot};

/// Most nodes whose subsets are tried here: 2^20 already take tenths of a second.
pub(crate) const MOST: usize = 20;

/// Returns the chosen positions as a mask, 0 where nothing suffices.
pub(crate) fn enumerate(snapshot: &Snapshot, request: &Request) -> u64 {
    let nodes = snapshot.nodes();
    let n = nodes.len();
    let cpus: Vec<f64> = nodes.iter().map(|node| node.cpus_idle.unwrap_or_default()).collect();
    let free = nodes.iter().map(|node| node.memory_free.unwrap_or_default().get());
    let free: Vec<u64> = free.collect();
    let rows = snapshot.topology().distances();
    let table: Vec<f64> = rows
        .map(|table| table.rows().flatten().copied().map(f64::from).collect())
        .unwrap_or_default();
    let (want_cpus, want_memory) = (request.cpus.as_cpus(), request.memory.get());
    let mut best = (u32::MAX, f64::INFINITY, 0);
    for mask in 1u64..1 << n {
        let members = || (0..n).filter(|&i| mask >> i & 1 == 1);
        let size = mask.count_ones();
        if size > best.0 {
            continue;
        }
        let has_cpus: f64 = members().map(|i| cpus[i]).sum();
        let has_memory: u64 = members().map(|i| free[i]).sum();
        if has_cpus < want_cpus || has_memory < want_memory {
            continue;
        }
        let sum: f64 = members().map(|i| members().map(|j| table[i * n + j]).sum::<f64>()).sum();
        let average = sum / f64::from(size * size);
        if (size, average) < (best.0, best.1) {
            best = (size, average, mask);
        }
    }
    best.2
}
