//! The cost of a set that was chosen elsewhere.

use super::model::{Host, Request};
use super::objective::{Problem, Shares};
use super::solution::{Prediction, Share};

/// What a set of nodes means for a guest, and what each of them carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// What it means for the guest.
    pub figures: Prediction,
    /// One for each node of the set, in ascending order of ids.
    pub split: Vec<Share>,
}

/// Places a guest on nodes given by their ids. `None` when they have no CPUs or no memory.
pub fn place(host: &Host, request: &Request<'_>, nodes: &[u32]) -> Option<Placement> {
    let problem = Problem::new(host, request);
    let position = |id: &u32| host.nodes().binary_search_by_key(id, |node| node.id).ok();
    let mut set: Vec<usize> = nodes.iter().filter_map(position).collect();
    set.sort_unstable();
    set.dedup();
    let sum = |figure: fn(&super::Node) -> f64| -> f64 {
        set.iter().map(|&at| figure(&host.nodes()[at])).sum()
    };
    if sum(|node| node.cap) <= 0.0 || sum(|node| node.mem) <= 0.0 {
        return None;
    }
    let mut shares = Shares::default();
    let score = problem.evaluate(&set, &mut shares);
    let parts = set.iter().zip(shares.cpu.iter().zip(&shares.mem));
    let split = parts.map(|(&at, (x, y))| Share {
        node: host.nodes()[at].id,
        cpus: x * problem.cpus,
        mem: y * shares.placed,
    });
    Some(Placement { figures: Prediction::from(&score), split: split.collect() })
}
