//! What to ask the engine for a domain, so that what its definition fixes is honoured.

use placer_engine::{Bytes, CpuSet, CpuShare, NodeId, NodeSet, Snapshot, Topology};

use super::Domain;
use super::tree::Element;
use crate::definition::{DefinitionError, parse_list};
use crate::guest::NodeChoice;

/// A question to the engine: a part of a [`placer_engine::Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// CPUs.
    pub cpus: CpuShare,
    /// Memory.
    pub memory: Bytes,
    /// The only nodes that may be named.
    pub within: Option<NodeSet>,
    /// The only CPUs that may be named.
    pub allowed: Option<CpuSet>,
    /// A node to be near to.
    pub near: Option<NodeId>,
}

/// What a definition fixes, on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fixed {
    /// All CPUs that the guest is held to: its cpuset and its pins.
    pub(super) cpus: Option<CpuSet>,
    /// Nodes of single pins, where not all vCPUs have one.
    pub(super) some: NodeSet,
    /// The nodes of its memory.
    pub(super) memory: Option<NodeSet>,
    /// Whether every vCPU is pinned.
    pub(super) all_pinned: bool,
}

impl Domain {
    /// Returns what to ask, the best first: the next one is for when that does not fit. `near` is the node
    /// of a device that draws the guest.
    ///
    /// Errors: CPUs or nodes in the definition that this host does not have.
    pub fn asks(
        &self,
        snapshot: &Snapshot,
        near: Option<NodeId>,
    ) -> Result<Vec<Ask>, DefinitionError> {
        let topology = snapshot.topology();
        let fixed = self.fixed(snapshot)?;
        let required = &self.place.required;
        let vcpus = CpuShare::from_hundredths(u64::from(self.place.cpus.current) * 100);
        let cpus = required.cpus.unwrap_or(vcpus);
        let memory = required.memory.unwrap_or(self.sizes.memory);
        let near = near.or_else(|| self.device_nodes.first());
        // Not more than the CPUs the user has chosen: that they are too few is known to the user.
        let at_most = |share: CpuShare, cpus: &CpuSet| {
            share.min(CpuShare::from_hundredths(cpus.len().saturating_mul(100)))
        };
        let ask = Ask { cpus, memory, within: None, allowed: None, near };
        Ok(match (&fixed.cpus, &fixed.memory) {
            (own, Some(nodes)) => {
                let there = topology.cpus_of(nodes);
                let elsewhere =
                    Ask { memory: Bytes::ZERO, near: nodes.first().or(near), ..ask.clone() };
                let elsewhere = match own {
                    Some(own) => Ask { cpus: at_most(cpus, own), ..elsewhere },
                    None => elsewhere,
                };
                if there.is_empty() {
                    return Ok(vec![elsewhere]);
                }
                let within = Ask { within: Some(nodes.clone()), ..ask };
                match own {
                    // Nothing is left to choose: only whether the memory is there.
                    Some(own) => {
                        let cpus = at_most(at_most(cpus, own), &there);
                        vec![Ask { cpus, ..within }]
                    }
                    None => vec![
                        within.clone(),
                        Ask { cpus: at_most(cpus, &there), ..within },
                        elsewhere,
                    ],
                }
            }
            (Some(own), None) => {
                let nodes = nodes_with_memory(snapshot, own);
                if nodes.is_empty() {
                    let near = nodes_of(topology, own).first().or(near);
                    vec![Ask { cpus: at_most(cpus, own), near, ..ask }]
                } else {
                    let here = topology.cpus_of(&nodes).intersection(own);
                    let cpus = at_most(cpus, &here);
                    vec![Ask { cpus, within: Some(nodes), allowed: Some(own.clone()), ..ask }]
                }
            }
            (None, None) if !fixed.some.is_empty() => {
                let near = fixed.some.first();
                vec![Ask { within: Some(fixed.some.clone()), ..ask.clone() }, Ask { near, ..ask }]
            }
            (None, None) => vec![ask],
        })
    }

    /// Returns what the definition fixes. Errors: this host does not have it.
    pub(super) fn fixed(&self, snapshot: &Snapshot) -> Result<Fixed, DefinitionError> {
        let topology = snapshot.topology();
        self.check_ids(topology)?;
        let host = topology.cpus_of(&topology.node_set());
        let place = &self.place;
        let pins = &place.pins.vcpus;
        let all_pinned = (0..place.cpus.current).all(|vcpu| pins.contains_key(&vcpu));
        let pinned = pins.values().fold(CpuSet::new(), |all, cpus| all.union(cpus));
        let pinned = pinned.intersection(&host);
        let mut fixed = Fixed { all_pinned, ..Fixed::default() };
        match &place.cpuset {
            _ if all_pinned => fixed.cpus = Some(pinned),
            Some(cpus) => fixed.cpus = Some(cpus.intersection(&host).union(&pinned)),
            None => fixed.some = nodes_with_memory(snapshot, &pinned),
        }
        fixed.memory = match &place.memory {
            Some((_, NodeChoice::Fixed(nodes))) => Some(nodes.clone()),
            _ if self.cells().is_empty() => None,
            _ => {
                let all = self.cells().iter().map(|cell| self.fixed_cell(cell, snapshot));
                let all: Option<Vec<NodeSet>> = all.collect();
                all.map(|all| all.iter().fold(NodeSet::new(), |sum, nodes| sum.union(nodes)))
            }
        };
        Ok(fixed)
    }

    /// Returns the nodes that the definition fixes for the memory of a cell: by `<memnode>`, or by the pins
    /// of all its vCPUs.
    pub(super) fn fixed_cell(&self, cell: &super::Cell, snapshot: &Snapshot) -> Option<NodeSet> {
        if let Some(nodes) = self.place.memnodes.get(&cell.id) {
            return Some(nodes.clone());
        }
        let mut cpus = CpuSet::new();
        for vcpu in cell.vcpus.iter() {
            cpus = cpus.union(self.place.pins.vcpus.get(&vcpu.0)?);
        }
        Some(nodes_with_memory(snapshot, &cpus)).filter(|nodes| !nodes.is_empty())
    }

    /// Makes the error for nodes that were asked for beside the definition and that it rules out.
    pub fn not_within(&self, asked: &NodeSet, fixed: &NodeSet) -> DefinitionError {
        let what =
            format!("this holds the guest to nodes {fixed}, of which --within {asked} has none");
        let by_memory = self.fixed_memory().is_some() || !self.place.memnodes.is_empty();
        match (by_memory, self.place.cpuset.is_some()) {
            (true, _) => self.error(&["numatune"], what),
            (false, true) => self.error(&["vcpu"], what),
            (false, false) => self.error(&["cputune"], what),
        }
    }

    /// Checks that the CPUs and nodes that the definition names are there.
    fn check_ids(&self, topology: &Topology) -> Result<(), DefinitionError> {
        let source = self.source();
        let host = topology.cpus_of(&topology.node_set());
        let cpus = |element: &Element, attribute: &str| -> Result<(), DefinitionError> {
            let list: Option<CpuSet> = source.list(element, attribute)?;
            if list.as_ref().is_some_and(|list| list.intersection(&host).is_empty()) {
                let found = element.attribute(attribute).unwrap_or_default();
                let what = format!("attribute {attribute}: none of CPUs {found} is online");
                return Err(source.error(element, format!("{what}; this host has {host}")));
            }
            Ok(())
        };
        let nodes = |element: &Element, list: NodeSet| -> Result<(), DefinitionError> {
            let missing = list.difference(&topology.node_set());
            if !missing.is_empty() {
                let all = topology.node_set();
                let what = format!("this host has no node {missing}; it has nodes {all}");
                return Err(source.error(element, what));
            }
            Ok(())
        };
        if let (Some(_), Some(vcpu)) = (&self.place.cpuset, self.root.child("vcpu")) {
            cpus(vcpu, "cpuset")?;
        }
        let tuning = self.root.child("cputune").map_or(&[][..], |element| &element.children);
        for pin in tuning.iter().filter(|child| child.name.ends_with("pin")) {
            cpus(pin, "cpuset")?;
        }
        let numatune = self.root.child("numatune").map_or(&[][..], |element| &element.children);
        for memory in numatune {
            let used = memory.attribute("placement") != Some("auto");
            if let Some(list) = source.list(memory, "nodeset")?.filter(|_| used) {
                nodes(memory, list)?;
            }
        }
        for device in self.root.child("devices").map_or(&[][..], |element| &element.children) {
            if let Some(mask) =
                device.at(&["source", "nodemask"]).filter(|_| device.name == "memory")
            {
                let list = parse_list(&mask.text).map_err(|why| source.error(mask, why))?;
                nodes(mask, list)?;
            }
        }
        Ok(())
    }
}

/// Returns the nodes that some CPUs are of.
pub(super) fn nodes_of(topology: &Topology, cpus: &CpuSet) -> NodeSet {
    let has = |of: &CpuSet| !of.intersection(cpus).is_empty();
    topology.nodes().iter().filter(|node| has(&node.cpus)).map(|node| node.id).collect()
}

/// The same, of those that have memory.
pub(super) fn nodes_with_memory(snapshot: &Snapshot, cpus: &CpuSet) -> NodeSet {
    let nodes = nodes_of(snapshot.topology(), cpus);
    let has = |id: &NodeId| {
        let total = snapshot.node(*id).and_then(|node| node.memory_total);
        total.is_some_and(|total| total > Bytes::ZERO)
    };
    nodes.iter().filter(has).collect()
}
