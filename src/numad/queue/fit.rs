//! Node lists that are longer than a message of numad's may be.
//!
//! A real client takes 95 characters; numad's daemon ends when its answer is longer. A list that is
//! too long gets its gaps filled: it then names more nodes than were chosen, never fewer, so it
//! still holds the guest. Gaps that hold no node of the host go first: to name an id that is not
//! there costs nothing (libvirt and the kernel pass over it); then those with the fewest nodes.

use placer_engine::{NodeId, NodeSet};

/// A list that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fitted {
    pub(crate) nodes: NodeSet,
    /// How many nodes of the host are named beyond those chosen; `None`: the list fitted as it was.
    pub(crate) added: Option<usize>,
}

/// Returns `chosen` with as many gaps filled as it takes to print it in `room` characters, of which
/// there are at least 21. `host` are the nodes there are.
pub(crate) fn fit(chosen: &NodeSet, host: &NodeSet, room: usize) -> Fitted {
    let mut length = chosen.to_string().len();
    if length <= room {
        return Fitted { nodes: chosen.clone(), added: None };
    }
    let mut gaps = gaps(chosen, host);
    // Stable: of gaps that cost as much the lowest goes first.
    gaps.sort_by_key(|gap| gap.cost);
    let mut nodes = chosen.clone();
    let mut added = 0;
    for gap in gaps {
        if length <= room {
            break;
        }
        nodes.insert_range(gap.first, gap.last);
        added += gap.cost;
        length = nodes.to_string().len();
    }
    Fitted { nodes, added: Some(added) }
}

/// Ids between two runs of chosen ones.
struct Gap {
    first: NodeId,
    last: NodeId,
    /// The nodes of the host among them.
    cost: usize,
}

fn gaps(chosen: &NodeSet, host: &NodeSet) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut ids = chosen.iter();
    let mut before = ids.next();
    for id in ids {
        if let Some(NodeId(low)) = before
            && let (Some(first), Some(last)) = (low.checked_add(1), id.0.checked_sub(1))
            && first <= last
        {
            let inside = host.iter().filter(|node| (first..=last).contains(&node.0));
            gaps.push(Gap { first: NodeId(first), last: NodeId(last), cost: inside.count() });
        }
        before = Some(id);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: impl IntoIterator<Item = u32>) -> NodeSet {
        ids.into_iter().map(NodeId).collect()
    }

    fn fitted(chosen: &NodeSet, host: &NodeSet, room: usize) -> (String, Option<usize>) {
        let fitted = fit(chosen, host, room);
        assert!(fitted.nodes.to_string().len() <= room);
        assert_eq!(chosen.difference(&fitted.nodes), NodeSet::new(), "all that was chosen stays");
        (fitted.nodes.to_string(), fitted.added)
    }

    #[test]
    fn a_list_that_fits_stays_as_it_is() {
        let chosen = set([0, 2, 4, 5, 6]);
        assert_eq!(fitted(&chosen, &set(0..8), 7), ("0,2,4-6".to_owned(), None));
    }

    #[test]
    fn gaps_without_nodes_are_filled_first() {
        // 10 to 12 are nodes, the other gaps hold none.
        let chosen = set([0, 2, 4, 8, 9, 13, 20, 22, 24, 26, 28, 30]);
        let host = chosen.union(&set(10..=12));
        assert_eq!(fitted(&chosen, &host, 21), ("0-9,13-22,24,26,28,30".to_owned(), Some(0)));
    }

    #[test]
    fn forty_alternating_nodes() {
        let chosen = set((0..80).step_by(2));
        assert_eq!(chosen.to_string().len(), 114);
        // Of a host that has no others: all its nodes, in other words.
        let (text, added) = fitted(&chosen, &chosen, 95);
        assert_eq!((text.len(), added), (94, Some(0)));
        // Of one that has the others too: as few of them as will do.
        let (text, added) = fitted(&chosen, &set(0..80), 95);
        assert_eq!(
            text,
            "0-18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62,64,66,68,70,72,74,76,78"
        );
        assert_eq!(added, Some(9));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_chosen_fits(
            chosen in proptest::collection::btree_set(0_u32..2000, 0..600),
            others in proptest::collection::btree_set(0_u32..2000, 0..600),
            room in 21_usize..120,
        ) {
            let chosen = set(chosen);
            let host = chosen.union(&set(others));
            let (_, added) = fitted(&chosen, &host, room);
            proptest::prop_assert_eq!(added.is_none(), chosen.to_string().len() <= room);
        }
    }
}
