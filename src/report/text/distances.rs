//! The table of distances, or what can be said of it where it is too wide.

use std::collections::BTreeMap;

use placer_engine::{Distances, NodeId, NodeSet};

use super::style::Style;
use super::{hanging, put};
use crate::report::view::View;

/// So many different rows are told apart where the table itself is too wide.
const MOST_KINDS: usize = 8;

pub(super) fn draw(view: &View, style: &Style, text: &mut String) {
    let Some(table) = &view.distances else {
        put(text, "\ndistances: not known\n");
        return;
    };
    let width = table.nodes().iter().map(|node| node.0.to_string().len());
    let cells = table.rows().flatten().map(|cell| cell.to_string().len());
    let width = width.chain(cells).max().unwrap_or(1) + 1;
    if 6 + width * table.nodes().len() > style.width {
        summary(table, style, text);
        return;
    }
    put(text, "\ndistances from the CPUs of a node (row) to memory (column)\n      ");
    for node in table.nodes() {
        put(text, &format!("{:>width$}", node.0));
    }
    text.push('\n');
    for (node, row) in table.nodes().iter().zip(table.rows()) {
        put(text, &format!("{:>6}", node.0));
        for cell in row {
            put(text, &format!("{cell:>width$}"));
        }
        text.push('\n');
    }
}

/// Says how many others are how far, for all nodes that see the same.
fn summary(table: &Distances, style: &Style, text: &mut String) {
    let mut kinds: BTreeMap<Vec<(u32, usize)>, NodeSet> = BTreeMap::new();
    for (node, row) in table.nodes().iter().zip(table.rows()) {
        kinds.entry(profile(table.nodes(), *node, row)).or_default().insert(*node);
    }
    put(text, &format!("\ndistances ({0} x {0}: see --json, --svg)\n", table.nodes().len()));
    if kinds.len() > MOST_KINDS {
        let mut values: Vec<u32> = table.rows().flatten().copied().collect();
        values.sort_unstable();
        values.dedup();
        let list = values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        put(text, "values: ");
        put(text, &hanging(8, &list, style.width));
        return;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, nodes)| nodes.first());
    for (profile, nodes) in kinds {
        let far = |(distance, count): &(u32, usize)| {
            let noun = if *count == 1 { "node" } else { "nodes" };
            format!("{count} {noun} at {distance}")
        };
        let list = profile.iter().map(far).collect::<Vec<_>>().join(", ");
        let from = if nodes.len() == 1 { "from node" } else { "from each of nodes" };
        let lead = format!("{from} {nodes}: ");
        put(text, &lead);
        put(text, &hanging(lead.len().min(style.width / 2), &list, style.width));
    }
}

/// Returns how many other nodes are at each distance, nearest first.
fn profile(nodes: &[NodeId], own: NodeId, row: &[u32]) -> Vec<(u32, usize)> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for (_, distance) in nodes.iter().zip(row).filter(|(node, _)| **node != own) {
        *counts.entry(*distance).or_default() += 1;
    }
    counts.into_iter().collect()
}
