//! What claims take from the nodes of a host, as a value that policies can count with.

use crate::ids::NodeId;
use crate::units::{Bytes, CpuShare};

/// What claims take from one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Ordinary memory, to be counted as used.
    pub memory: Bytes,
    /// CPUs, to be counted as busy.
    pub cpus: CpuShare,
    /// Memory in huge pages: the size of a page and how much, in ascending order of sizes.
    pub huge: Vec<(Bytes, Bytes)>,
}

impl Charge {
    /// Returns the memory that is claimed in huge pages of one size.
    pub fn huge_of(&self, page: Bytes) -> Bytes {
        let found = self.huge.iter().find(|(size, _)| *size == page);
        found.map_or(Bytes::ZERO, |&(_, memory)| memory)
    }

    /// Adds memory, in huge pages of one size or in ordinary ones.
    pub fn add(&mut self, memory: Bytes, page: Option<Bytes>) {
        let Some(page) = page else {
            self.memory = self.memory.saturating_add(memory);
            return;
        };
        match self.huge.binary_search_by_key(&page, |&(size, _)| size) {
            Ok(at) => self.huge[at].1 = self.huge[at].1.saturating_add(memory),
            Err(at) => self.huge.insert(at, (page, memory)),
        }
    }
}

/// What claims take from each node of a host. A host without claims has an empty one, which costs
/// nothing.
///
/// ```
/// use placer_engine::{Bytes, Charges, NodeId};
/// let none = Charges::default();
/// assert_eq!(none.of(NodeId(3)).memory, Bytes::ZERO);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// Ascending by id.
    nodes: Vec<(NodeId, Charge)>,
}

/// A node that nothing is claimed of.
const FREE: &Charge = &Charge { memory: Bytes::ZERO, cpus: CpuShare::ZERO, huge: Vec::new() };

impl Charges {
    /// Returns whether nothing is claimed anywhere.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns what is claimed of one node.
    pub fn of(&self, node: NodeId) -> &Charge {
        match self.nodes.binary_search_by_key(&node, |&(id, _)| id) {
            Ok(at) => &self.nodes[at].1,
            Err(_) => FREE,
        }
    }

    /// Returns what is claimed of one node, to be added to.
    pub fn of_mut(&mut self, node: NodeId) -> &mut Charge {
        let at = match self.nodes.binary_search_by_key(&node, |&(id, _)| id) {
            Ok(at) => at,
            Err(at) => {
                self.nodes.insert(at, (node, Charge::default()));
                at
            }
        };
        &mut self.nodes[at].1
    }

    /// Returns the nodes that something is claimed of, in ascending order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Charge)> {
        self.nodes.iter().map(|(node, charge)| (*node, charge))
    }
}
