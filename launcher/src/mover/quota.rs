//! Which page goes where, so that each node gets its part. Pure.

use std::collections::BTreeMap;

use placer_engine::{NodeId, NodeSet, split_by_weight};

use super::journal::Share;

/// What each node still has to give and to get.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    target: NodeSet,
    /// Bytes to give, of nodes of the target.
    surplus: BTreeMap<NodeId, u64>,
    /// Bytes to get.
    deficit: BTreeMap<NodeId, u64>,
    /// Where pages go that no node lacks.
    rest: Option<NodeId>,
}

impl Quota {
    /// Divides what is there now as the target says.
    pub(super) fn new(wanted: &[Share], there: &BTreeMap<NodeId, u64>) -> Self {
        let wanted: Vec<&Share> = wanted.iter().filter(|share| share.bytes > 0).collect();
        let weights: Vec<u64> = wanted.iter().map(|share| share.bytes).collect();
        let all = there.values().sum();
        let parts = split_by_weight(all, &weights);
        let mut quota = Self {
            target: wanted.iter().map(|share| NodeId(share.node)).collect(),
            surplus: BTreeMap::new(),
            deficit: BTreeMap::new(),
            rest: wanted.iter().max_by_key(|share| share.bytes).map(|share| NodeId(share.node)),
        };
        for (share, part) in wanted.iter().zip(parts) {
            let node = NodeId(share.node);
            let now = there.get(&node).copied().unwrap_or(0);
            quota.surplus.insert(node, now.saturating_sub(part));
            quota.deficit.insert(node, part.saturating_sub(now));
        }
        quota
    }

    /// Returns where a page of a node goes; `None`: it stays.
    pub(super) fn target_of(&mut self, node: NodeId, bytes: u64) -> Option<NodeId> {
        let inside = self.target.contains(node);
        if inside {
            let surplus = self.surplus.get_mut(&node)?;
            // Half a page more or less is no reason to move it.
            if *surplus < bytes {
                return None;
            }
        }
        let lacking =
            self.deficit.iter().max_by_key(|&(node, &lacks)| (lacks, std::cmp::Reverse(*node)));
        let lacking = lacking.filter(|&(_, &lacks)| lacks > 0).map(|(&node, _)| node);
        let to = match lacking {
            Some(to) => to,
            None if inside => return None,
            None => self.rest?,
        };
        if let Some(surplus) = self.surplus.get_mut(&node) {
            *surplus = surplus.saturating_sub(bytes);
        }
        if let Some(lacks) = self.deficit.get_mut(&to) {
            *lacks = lacks.saturating_sub(bytes);
        }
        (to != node).then_some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(wanted: &[(u32, u64)], there: &[(u32, u64)]) -> BTreeMap<u32, u64> {
        let wanted: Vec<Share> =
            wanted.iter().map(|&(node, bytes)| Share { node, bytes }).collect();
        let now: BTreeMap<NodeId, u64> =
            there.iter().map(|&(n, bytes)| (NodeId(n), bytes)).collect();
        let mut quota = Quota::new(&wanted, &now);
        let mut after = BTreeMap::new();
        for &(node, bytes) in there {
            for _ in 0..bytes {
                let to = quota.target_of(NodeId(node), 1).map_or(node, |node| node.0);
                *after.entry(to).or_insert(0) += 1;
            }
        }
        after
    }

    #[test]
    fn each_node_gets_its_part() {
        let map = |parts: &[(u32, u64)]| parts.iter().copied().collect::<BTreeMap<_, _>>();
        assert_eq!(moved(&[(1, 10)], &[(0, 40), (1, 10), (3, 2)]), map(&[(1, 52)]));
        assert_eq!(moved(&[(0, 1), (2, 1)], &[(0, 30), (1, 30)]), map(&[(0, 30), (2, 30)]));
        assert_eq!(moved(&[(0, 1), (1, 1)], &[(1, 40)]), map(&[(0, 20), (1, 20)]));
        assert_eq!(moved(&[(0, 1), (1, 3)], &[(0, 10), (1, 30)]), map(&[(0, 10), (1, 30)]));
        assert_eq!(moved(&[], &[(0, 10)]), map(&[(0, 10)]));
    }
}
