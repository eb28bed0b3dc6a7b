//! Distances between nodes, looked up by id and never by position.

use crate::ids::NodeId;

/// How far a node's memory is from a node's CPUs: 10 is local, 20 takes twice as long.
///
/// Firmware writes one byte (ACPI SLIT), but other platforms and recordings go past 255, so a
/// wider number is kept. An unknown distance is the absence of a `Distance`, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(pub u32);

impl Distance {
    /// The distance of a node to itself.
    pub const LOCAL: Self = Self(10);
}

/// The square table of distances, from the CPUs of one node to the memory of another.
///
/// ```
/// use placer_engine::{Distance, Distances, NodeId};
/// let table = Distances::new(vec![NodeId(0), NodeId(3)], vec![10, 21, 22, 10]).expect("square");
/// assert_eq!(table.get(NodeId(3), NodeId(0)), Some(Distance(22)));
/// assert_eq!(table.get(NodeId(1), NodeId(0)), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distances {
    /// Ascending.
    nodes: Vec<NodeId>,
    /// Row by row: from, then to.
    cells: Vec<u32>,
}

impl Distances {
    /// Returns the table of these nodes, or `None` when the ids do not ascend or the cells are
    /// not their number squared. Cells are row by row: from the CPUs of, to the memory of.
    pub fn new(nodes: Vec<NodeId>, cells: Vec<u32>) -> Option<Self> {
        let ascending = nodes.windows(2).all(|pair| pair[0] < pair[1]);
        let square = nodes.len().checked_mul(nodes.len()) == Some(cells.len());
        (ascending && square).then_some(Self { nodes, cells })
    }

    /// Returns the distance from the CPUs of one node to the memory of another.
    pub fn get(&self, from: NodeId, to: NodeId) -> Option<Distance> {
        let column = self.nodes.binary_search(&to).ok()?;
        self.row(from)?.get(column).copied().map(Distance)
    }

    /// Returns the nodes of the table, ascending.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Returns one node's row, a column for each of [`nodes`](Self::nodes).
    pub fn row(&self, from: NodeId) -> Option<&[u32]> {
        let row = self.nodes.binary_search(&from).ok()?;
        let width = self.nodes.len();
        self.cells.get(row * width..(row + 1) * width)
    }

    /// Returns the rows, in ascending order of nodes.
    pub fn rows(&self) -> impl Iterator<Item = &[u32]> {
        self.cells.chunks(self.nodes.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_square_tables_of_ascending_ids_exist() {
        let (a, b) = (NodeId(1), NodeId(3));
        assert!(Distances::new(vec![], vec![]).is_some());
        assert!(Distances::new(vec![a, b], vec![10, 20, 20]).is_none());
        assert!(Distances::new(vec![b, a], vec![10, 20, 20, 10]).is_none());
        assert!(Distances::new(vec![a, a], vec![10, 20, 20, 10]).is_none());
    }
}
