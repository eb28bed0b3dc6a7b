//! The node that a guest is drawn to by its host devices.

use std::error::Error;

use placer_engine::source::device::{self, DeviceError};
use placer_engine::{NodeId, SysRoot};

use placer::args::Launch;
use placer::service::notes::Notes;

/// Returns the node that draws the guest: that of --near, else that of most of its host devices.
pub(super) fn near(
    args: &Launch,
    devices: &[String],
    root: &SysRoot,
    notes: &mut Notes,
) -> Result<Option<NodeId>, Box<dyn Error>> {
    if let Some(name) = &args.choice.near {
        return Ok(Some(device::node_of(root, name)?));
    }
    let mut nodes: Vec<(NodeId, usize)> = Vec::new();
    for name in devices {
        match device::node_of(root, name) {
            Ok(node) => match nodes.iter_mut().find(|(known, _)| *known == node) {
                Some((_, count)) => *count += 1,
                None => nodes.push((node, 1)),
            },
            Err(DeviceError::Unknown { .. }) => {
                notes
                    .warn(&format!("{name} does not draw the guest: this host has no such device"));
            }
            Err(error) => notes.warn(&format!("{name} does not draw the guest: {error}")),
        }
    }
    // Of equally many the lowest.
    nodes.sort_by_key(|&(node, count)| (std::cmp::Reverse(count), node));
    if nodes.len() > 1 {
        let all: Vec<String> = nodes.iter().map(|(node, _)| node.to_string()).collect();
        notes.warn(&format!(
            "the devices of the guest are on nodes {}: it is placed near node {}",
            all.join(", "),
            nodes[0].0
        ));
    }
    Ok(nodes.first().map(|&(node, _)| node))
}
