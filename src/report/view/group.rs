//! Which nodes are drawn together: those of a package, and the memory beside it.

use std::collections::BTreeMap;

use placer_engine::{Distances, NodeId};

use super::Node;

/// Nodes that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are; empty where there is nothing to say.
    pub title: String,
    /// Ascending.
    pub nodes: Vec<NodeId>,
}

/// Puts the nodes of a package together, and memory without CPUs to the package that is nearest, if
/// one is. Where packages and nodes are the same, or a node has several packages, all nodes are one
/// group without a title.
pub(super) fn groups(nodes: &[Node], distances: Option<&Distances>) -> Vec<Group> {
    let all = || vec![Group { title: String::new(), nodes: nodes.iter().map(|n| n.id).collect() }];
    let mut of_package: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
    let (with, without): (Vec<&Node>, Vec<&Node>) =
        nodes.iter().partition(|node| !node.cpus.is_empty());
    for node in &with {
        let [package] = node.packages[..] else { return all() };
        of_package.entry(package).or_default().push(node.id);
    }
    if of_package.values().all(|nodes| nodes.len() == 1) && without.is_empty() {
        return all();
    }
    let homes: Vec<_> =
        without.iter().map(|node| nearest(node.id, &of_package, distances?)).collect();
    let mut homeless = Vec::new();
    for (node, home) in without.iter().zip(homes) {
        match home.and_then(|home| of_package.get_mut(&home)) {
            Some(nodes) => nodes.push(node.id),
            None => homeless.push(node.id),
        }
    }
    let mut groups: Vec<Group> = of_package
        .into_iter()
        .map(|(package, nodes)| Group { title: format!("package {package}"), nodes })
        .collect();
    groups.iter_mut().for_each(|group| group.nodes.sort_unstable());
    groups.sort_by_key(|group| group.nodes.first().copied());
    if !homeless.is_empty() {
        groups.push(Group { title: "memory without CPUs".to_owned(), nodes: homeless });
    }
    groups
}

/// Returns the package from whose CPUs a node's memory is nearest, if there is one such.
fn nearest(
    memory: NodeId,
    packages: &BTreeMap<u64, Vec<NodeId>>,
    distances: &Distances,
) -> Option<u64> {
    let far =
        |nodes: &Vec<NodeId>| nodes.iter().filter_map(|node| distances.get(*node, memory)).min();
    let least = packages.values().filter_map(far).min()?;
    let mut near = packages.iter().filter(|(_, nodes)| far(nodes) == Some(least));
    let (package, _) = near.next()?;
    near.next().is_none().then_some(*package)
}
