//! How busy each node was over the last readings. Bounded, pure.

use std::collections::{BTreeMap, VecDeque};

use placer_engine::{Instant, NodeId, Snapshot};

use placer::report::view::{View, count};

/// Readings that are kept: more than a line of the widest terminal shows.
const MAX_READINGS: usize = 512;

/// One reading of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    at: Instant,
    /// Busy CPU time and used memory, each as a part from 0 to 1.
    pub(crate) busy: f64,
    pub(crate) used: f64,
}

/// The last readings of every node.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    nodes: BTreeMap<NodeId, VecDeque<Reading>>,
}

impl History {
    /// Adds what is shown, once for each time of reading. Nodes that are gone are forgotten.
    pub(crate) fn add(&mut self, view: &View, snapshot: &Snapshot) {
        let at = snapshot.sample().cpu.at();
        self.nodes.retain(|id, _| view.node(*id).is_some());
        for node in &view.nodes {
            let readings = self.nodes.entry(node.id).or_default();
            if readings.back().is_some_and(|last| last.at == at) {
                continue;
            }
            let cpus = count(node.cpus.len());
            let idle = node.idle.filter(|_| cpus > 0.0);
            let busy = idle.map_or(0.0, |idle| (1.0 - idle / cpus).clamp(0.0, 1.0));
            let used = match (node.memory.free, node.memory.total.filter(|total| total.get() > 0)) {
                (Some(free), Some(total)) => 1.0 - count(free.get()) / count(total.get()),
                _ => 0.0,
            };
            if readings.len() == MAX_READINGS {
                readings.pop_front();
            }
            readings.push_back(Reading { at, busy, used: used.clamp(0.0, 1.0) });
        }
    }

    /// Returns the last readings of a node, oldest first, and the seconds from the first of them to the last.
    /// Nothing where there are not two.
    pub(crate) fn of(&self, node: NodeId, most: usize) -> Option<(Vec<Reading>, f64)> {
        let readings = self.nodes.get(&node)?;
        let skip = readings.len().saturating_sub(most);
        let shown: Vec<Reading> = readings.iter().skip(skip).copied().collect();
        let (first, last) = (shown.first()?, shown.last()?);
        let ns = last.at.since(first.at).filter(|_| shown.len() > 1)?;
        Some((shown, count(ns) / 1e9))
    }
}
