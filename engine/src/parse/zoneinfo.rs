//! What the kernel keeps of each node for itself. Source: `/proc/zoneinfo`.

use super::{ParseError, number};
use crate::ids::NodeId;

/// The zones of one node together, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeZones {
    /// The node.
    pub node: NodeId,
    /// `managed`: the pages that the kernel gives out, in use or not.
    pub managed: u64,
    /// The zones' `low` watermarks, without a boost that passes: below them the kernel reclaims
    /// memory, and kills where there is nothing to reclaim.
    pub low: u64,
    /// What programs cannot get: of each zone the pages below `low`, and those that its `protection`
    /// keeps for allocations which no other zone can serve. Never more than the zone has.
    pub kept: u64,
}

/// One zone while its lines are read. `None` is not in the file.
#[derive(Default)]
struct Zone {
    low: u64,
    boost: u64,
    present: Option<u64>,
    managed: Option<u64>,
    protection: u64,
}

/// Reads the zones of all nodes, each node once, in the order of the file.
///
/// Lines that are not understood are passed over: the kernel adds new ones, and most of the file is
/// about single CPUs. Kernels before Linux 3.8 list no `managed` pages: `present` stands for them.
/// Errors: a zone without a node's number, a watermark or a number of pages that is no number of 64
/// bits.
///
/// ```
/// use placer_engine::parse::zoneinfo;
/// let text = b"Node 2, zone   Normal\n  pages free     900\n        low      30\n        managed  1000\n";
/// let zones = zoneinfo::parse(text)?;
/// assert_eq!((zones[0].node.0, zones[0].low, zones[0].managed), (2, 30, 1000));
/// # Ok::<(), placer_engine::parse::ParseError>(())
/// ```
pub fn parse(text: &[u8]) -> Result<Vec<NodeZones>, ParseError> {
    let mut nodes: Vec<NodeZones> = Vec::new();
    let mut zone: Option<(NodeId, Zone)> = None;
    let mut start = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        let blanks = line.iter().take_while(|b| **b == b' ').count();
        let at = start + blanks;
        let body = &line[blanks..];
        start += line.len();
        if blanks == 0 && body.starts_with(b"Node ") {
            close(zone.take(), &mut nodes);
            let id = number(&body[5..]).and_then(|(id, _)| u32::try_from(id).ok());
            let id = id.filter(|&id| id <= super::list::MAX_ID);
            let id = id.ok_or_else(|| ParseError::at(text, at + 5, "the id of a node"))?;
            zone = Some((NodeId(id), Zone::default()));
            continue;
        }
        let Some((_, zone)) = &mut zone else { continue };
        let Some(word) = body.split(u8::is_ascii_whitespace).next() else { continue };
        let value = || -> Result<u64, ParseError> {
            let value = &body[word.len()..];
            let blanks = value.iter().take_while(|b| **b == b' ').count();
            let pages = number(&value[blanks..]).map(|(pages, _)| pages);
            let at = at + word.len() + blanks;
            pages.ok_or_else(|| ParseError::at(text, at, "a number of pages"))
        };
        match word {
            b"low" => zone.low = value()?,
            b"boost" => zone.boost = value()?,
            b"present" => zone.present = Some(value()?),
            b"managed" => zone.managed = Some(value()?),
            b"protection:" => zone.protection = largest(&body[word.len()..]),
            _ => {}
        }
    }
    close(zone, &mut nodes);
    Ok(nodes)
}

/// Adds a zone to its node.
fn close(zone: Option<(NodeId, Zone)>, nodes: &mut Vec<NodeZones>) {
    let Some((node, zone)) = zone else { return };
    let managed = zone.managed.or(zone.present).unwrap_or_default();
    let low = zone.low.saturating_sub(zone.boost).min(managed);
    let kept = low.saturating_add(zone.protection).min(managed);
    // A node's zones follow one another.
    let at = nodes.iter().rposition(|of| of.node == node).unwrap_or_else(|| {
        nodes.push(NodeZones { node, managed: 0, low: 0, kept: 0 });
        nodes.len() - 1
    });
    let sum = &mut nodes[at];
    sum.managed = sum.managed.saturating_add(managed);
    sum.low = sum.low.saturating_add(low);
    sum.kept = sum.kept.saturating_add(kept);
}

/// Returns the largest number of `(0, 2973, 128000)`; 0 where there is none.
fn largest(list: &[u8]) -> u64 {
    let items = list.split(|b| !b.is_ascii_digit());
    items.filter_map(number).map(|(pages, _)| pages).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zones(node: u32, managed: u64, low: u64, kept: u64) -> NodeZones {
        NodeZones { node: NodeId(node), managed, low, kept }
    }

    #[test]
    fn the_zones_of_a_node_are_added_up() {
        let text = b"Node 0, zone      DMA\n  per-node stats\n      nr_inactive_anon 262485\n  \
            pages free     3840\n        boost    0\n        min      10\n        low      13\n        \
            high     16\n        spanned  4095\n        present  3998\n        managed  3840\n        \
            protection: (0, 2973, 24000, 24000)\n  pagesets\n    cpu: 0\n              count:    3\n   \
                       high:     62\n  start_pfn:           1\nNode 0, zone   Normal\n  \
            pages free     900\n        boost    50\n        low      130\n        managed  10000\n        \
            protection: (0, 0, 0, 0)\nNode 1, zone  Movable\n  pages free     0\n        low      32\n       \
            managed  0\n        protection: (0, 0, 0, 0)\nNode 3, zone   Normal\n        low      7\n  \
            present 900\n";
        let found = parse(text).expect("a good file");
        assert_eq!(
            found,
            [zones(0, 13_840, 93, 3840 + 80), zones(1, 0, 0, 0), zones(3, 900, 7, 7)]
        );
        assert_eq!(parse(b""), Ok(Vec::new()));
    }

    #[test]
    fn damage_is_named() {
        for (text, error) in [
            ("Node x, zone DMA\n", "1:6: expected the id of a node, found \"x, zone DMA\""),
            (
                "Node 4294967295, zone DMA",
                "1:6: expected the id of a node, found \"4294967295, zone DMA\"",
            ),
            (
                "Node 0, zone DMA\n  low\n",
                "2:6: expected a number of pages, found the end of the line",
            ),
            ("Node 0, zone DMA\n  low -1\n", "2:7: expected a number of pages, found \"-1\""),
            (
                "Node 0, zone DMA\n managed 18446744073709551616",
                "2:10: expected a number of pages, found \"18446744073709551616\"",
            ),
        ] {
            assert_eq!(
                parse(text.as_bytes()).map_err(|e| e.to_string()),
                Err(error.to_owned()),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        /// A zone never keeps more than it has, whatever its figures.
        #[test]
        fn no_more_is_kept_than_there_is(
            text in "(Node [0-3], zone x\n( (low|boost|present|managed) [0-9]{1,19}\n){0,4}( protection: \\([0-9]{1,19}, [0-9]{1,19}\\)\n)?){0,6}",
        ) {
            for node in parse(text.as_bytes()).into_iter().flatten() {
                prop_assert!(node.low <= node.kept && node.kept <= node.managed, "{:?}", node);
            }
        }
    }
}
