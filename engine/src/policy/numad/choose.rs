//! What the choices of both versions share. Amounts are hundredths of a CPU and MiB.

use super::{Failure, Query};
use crate::charges::Charges;
use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::units::Bytes;

/// What numad knows of a node when it chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFigures {
    /// The node.
    pub id: NodeId,
    /// Hundredths of a CPU it has.
    pub cpus_total: u64,
    /// Hundredths of a CPU that are idle.
    pub cpus_free: u64,
    /// MiB it has.
    pub mbs_total: u64,
    /// MiB that are free.
    pub mbs_free: u64,
}

/// Counts what claims take as used memory and busy CPUs, before numad's arithmetic begins. Without
/// claims nothing changes.
pub fn charge(nodes: &mut [NodeFigures], charges: &Charges) {
    for (id, charge) in charges.iter() {
        for node in nodes.iter_mut().filter(|node| node.id == id) {
            node.mbs_free = match Bytes::from_mib(node.mbs_free) {
                Some(free) => charges.left(id, free).whole_mib(),
                // More than any host has: by arithmetic that wrapped.
                None => node.mbs_free.saturating_sub(charge.memory.mib_rounded_up()),
            };
            node.cpus_free = node.cpus_free.saturating_sub(charge.cpus.hundredths());
        }
    }
}

/// numad's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The nodes named. Empty when no node that could be named has an id that numad has room for.
    pub nodes: NodeSet,
    /// The nodes numad's log says the guest moves from: those with memory (2015), every one (2025).
    pub all: NodeSet,
    /// Whether numad would have run past its tables here, as that of 2015 does. The answer is then
    /// every node that has CPUs or memory, where numad crashes.
    pub ran_out: bool,
}

/// A step of the choice that numad logs: by the version of 2025 and with `-d`, but for
/// [`NothingTaken`](Self::NothingTaken), which is logged without it.
///
/// Positions count the nodes in the order in which they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node was weighed.
    Weighed {
        /// The node's position.
        position: usize,
        /// MiB that are free.
        mbs_free: u64,
        /// Hundredths of a CPU that are idle, at least one.
        cpus_free: u64,
        /// Their product.
        magnitude: u64,
    },
    /// A column of the distance table was added up.
    Column {
        /// The position of the node that the distances lead to.
        position: usize,
        /// The sum of all magnitudes, each divided by its distance squared.
        total: u64,
    },
    /// The column with the largest sum was found.
    BestColumn(usize),
    /// A node is looked at while this much is asked.
    Asked(Query),
    /// The node that is looked at is named.
    Taken(NodeId),
    /// No node was named, so all are.
    NothingTaken,
}

/// Memory that is kept back on each node, in MiB.
pub(super) const MARGIN: i32 = 100;

/// Returns the idle CPU of a node; one that has none counts as having a hundredth.
pub(super) fn idle(node: &NodeFigures) -> u64 {
    node.cpus_free.max(1)
}

/// Puts the distances from all nodes to one of them into `column`.
///
/// Errors: one is zero, or not there.
pub(super) fn read_column<Row: AsRef<[u64]>>(
    nodes: &[NodeFigures],
    distances: &[Row],
    position: usize,
    column: &mut Vec<u64>,
) -> Result<(), Failure> {
    column.clear();
    for (node, row) in nodes.iter().zip(distances) {
        match row.as_ref().get(position) {
            Some(0) => return Err(Failure::ZeroDistance(node.id)),
            Some(&distance) => column.push(distance),
            None => return Err(Failure::ShortDistance(node.id)),
        }
    }
    match nodes.get(column.len()) {
        Some(node) => Err(Failure::ShortDistance(node.id)),
        None => Ok(()),
    }
}

/// Squares a distance: 8 bits with numad, any number with another caller.
pub(super) fn squared(distance: u64) -> u64 {
    distance.saturating_mul(distance)
}

/// Returns the nodes' positions, nearest first, of equally near ones the one of largest magnitude. A
/// selection sort, and by swapping: ties that a swap has moved stay moved. Only the first `wanted`
/// places are put in order.
pub(super) fn order_by(column: &[u64], magnitudes: &[u64], wanted: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..column.len()).collect();
    for a in 0..order.len().min(wanted) {
        let mut best = a;
        for b in a + 1..order.len() {
            let (x, y) = (order[b], order[best]);
            if column[x] < column[y] || (column[x] == column[y] && magnitudes[x] > magnitudes[y]) {
                best = b;
            }
        }
        order.swap(a, best);
    }
    order
}

/// Widens as C does: a negative amount becomes a huge one.
#[expect(clippy::cast_sign_loss, reason = "numad compares with 64-bit unsigned figures")]
pub(super) fn as_unsigned(amount: i32) -> u64 {
    i64::from(amount) as u64
}

/// Cuts as C does.
#[expect(clippy::cast_possible_truncation, reason = "numad keeps what is left in 32 bits")]
pub(super) fn cut(amount: u64) -> i32 {
    amount as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::CpuShare;

    fn node(id: u32, cpus_free: u64, mbs_free: u64) -> NodeFigures {
        NodeFigures { id: NodeId(id), cpus_total: 800, cpus_free, mbs_total: 1000, mbs_free }
    }

    #[test]
    fn claims_are_taken_off_what_is_free() {
        let mut charges = Charges::default();
        let charge = charges.of_mut(NodeId(1));
        charge.memory = Bytes::from_mib(300).expect("fits");
        charge.cpus = CpuShare::from_hundredths(250);
        let mut nodes = [node(0, 400, 900), node(1, 400, 900)];
        super::charge(&mut nodes, &charges);
        assert_eq!(nodes, [node(0, 400, 900), node(1, 150, 600)]);
        let mut full = [node(1, 200, 200)];
        super::charge(&mut full, &charges);
        assert_eq!(full, [node(1, 0, 0)]);
        // Arithmetic that wrapped leaves more MiB than there are bytes.
        let mut wrapped = [node(1, 400, u64::MAX)];
        super::charge(&mut wrapped, &charges);
        assert_eq!(wrapped, [node(1, 150, u64::MAX - 300)]);
    }

    #[test]
    fn a_swap_moves_ties_out_of_their_order() {
        assert_eq!(order_by(&[20, 20, 10], &[5, 5, 5], 3), [2, 1, 0]);
        // A larger magnitude goes first among equally near ones, and only a larger one.
        assert_eq!(order_by(&[20, 20, 20], &[5, 6, 6], 3), [1, 2, 0]);
        assert_eq!(order_by(&[20, 20, 10], &[5, 5, 5], 1), [2, 1, 0]);
        // Only the places that are wanted are put in order, and no more than there are.
        assert_eq!(order_by(&[30, 20, 10], &[5, 5, 5], 1), [2, 1, 0]);
        assert_eq!(order_by(&[40, 30, 20, 10], &[5, 5, 5, 5], 1), [3, 1, 2, 0]);
        assert_eq!(order_by(&[30, 20, 10], &[5, 5, 5], 9), [2, 1, 0]);
    }

    #[test]
    fn a_node_without_idle_cpu_counts_as_having_a_hundredth() {
        assert_eq!([0, 1, 2].map(|idle| super::idle(&node(0, idle, 100))), [1, 1, 2]);
    }
}
