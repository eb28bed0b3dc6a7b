//! Where a guest's memory is.

use placer_engine::claims::{Running, Sample};
use placer_engine::{Bytes, NodeId};
use placer_launcher::sys;

/// Fewer pages of a sample say nothing.
const LEAST_PAGES: usize = 8;

/// Returns a guest's memory by node, ascending; `None` where that may not be known.
///
/// Source: its own control group, else the nodes of a sample of its pages.
pub(super) fn residence(running: &Running) -> Option<Vec<(NodeId, Bytes)>> {
    if let Some(by_node) = &running.by_node {
        return Some(by_node.clone());
    }
    if running.resident == Bytes::ZERO {
        return Some(Vec::new());
    }
    let addresses: Vec<u64> = running.samples.iter().map(|sample| sample.address).collect();
    let nodes = match sys::nodes_of_pages(running.pid, &addresses) {
        Ok(nodes) => nodes,
        // A kernel without NUMA.
        Err(nix::errno::Errno::ENOSYS) => return Some(vec![(NodeId(0), running.resident)]),
        Err(_) => return None,
    };
    by_weight(&running.samples, &nodes, running.resident)
}

/// Divides memory as the weights of the pages that are there. `None` where too few are.
fn by_weight(
    samples: &[Sample],
    nodes: &[Option<NodeId>],
    resident: Bytes,
) -> Option<Vec<(NodeId, Bytes)>> {
    let mut weights: Vec<(NodeId, u128)> = Vec::new();
    let mut pages = 0;
    for (sample, node) in samples.iter().zip(nodes) {
        let Some(node) = *node else { continue };
        pages += 1;
        match weights.binary_search_by_key(&node, |&(id, _)| id) {
            Ok(at) => weights[at].1 += u128::from(sample.weight),
            Err(at) => weights.insert(at, (node, u128::from(sample.weight))),
        }
    }
    let all: u128 = weights.iter().map(|&(_, weight)| weight).sum();
    let part = |weight: u128| {
        let exact = u128::from(resident.get()) * weight / all.max(1);
        Bytes::new(u64::try_from(exact).unwrap_or(u64::MAX))
    };
    let divided = weights.iter().map(|&(node, weight)| (node, part(weight)));
    (pages >= LEAST_PAGES).then(|| divided.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_as_its_sample() {
        let sample = |weight| Sample { address: 4096, weight };
        let samples: Vec<Sample> =
            (0..20).map(|at| sample(if at < 10 { 300 } else { 100 })).collect();
        let nodes: Vec<Option<NodeId>> =
            (0..20).map(|at| Some(NodeId(if at < 10 { 3 } else { 0 }))).collect();
        let found = by_weight(&samples, &nodes, Bytes::new(4_000));
        let divided = vec![(NodeId(0), Bytes::new(1_000)), (NodeId(3), Bytes::new(3_000))];
        assert_eq!(found, Some(divided));
        // Pages that were never touched do not count, and of too few nothing is said.
        let mut few = vec![None; 20];
        few[..7].fill(Some(NodeId(0)));
        assert_eq!(by_weight(&samples, &few, Bytes::new(4_000)), None);
        few[7] = Some(NodeId(0));
        assert_eq!(
            by_weight(&samples, &few, Bytes::new(4_000)),
            Some(vec![(NodeId(0), Bytes::new(4_000))])
        );
    }
}
