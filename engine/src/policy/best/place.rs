//! How a guest would live on a set that somebody else has chosen.

use super::problem::{Host, Request};
use super::score::{Case, Shares};
use super::solve::{Figures, Share};

/// How a guest would live on a set of nodes, and what each of them carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// What it means for the guest.
    pub figures: Figures,
    /// One for each node of the set, in ascending order of ids.
    pub split: Vec<Share>,
}

/// Places a guest on nodes given by their ids. `None` when they have no CPUs or no memory.
pub fn place(host: &Host, request: &Request<'_>, nodes: &[u32]) -> Option<Placement> {
    let case = Case::new(host, request);
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
    let score = case.weigh(&set, &mut shares);
    let parts = set.iter().zip(shares.cpu.iter().zip(&shares.mem));
    let split = parts.map(|(&at, (x, y))| Share {
        node: host.nodes()[at].id,
        cpus: x * case.cpus,
        mem: y * shares.placed,
    });
    Some(Placement { figures: Figures::from(&score), split: split.collect() })
}
