//! Reading with hwloc in this process (feature `hwloc`): from hwloc's tree to our own types.

use std::env;
use std::ffi::CStr;
use std::io::Write;

use hwlocality::Topology as Tree;
use hwlocality::memory::attribute::{
    Initiator, MemoryAttribute as TreeAttribute, MemoryAttributeFlags,
};
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::distance::DistancesKind;
use hwlocality::object::types::{CacheType, OSDeviceType, ObjectType};
use hwlocality::topology::builder::{BuildFlags, TypeFilter};

use super::{
    AttributeValue, Cache, CacheKind, Device, Hwloc, HwlocError, HwlocLoader, HwlocNode,
    MemoryAttribute, OsDevice, OsDeviceKind, environment,
};
use crate::distance::Distances;
use crate::ids::{Id, NodeId};
use crate::idset::{CpuSet, IdSet};
use crate::parse;
use crate::source::SysRoot;
use crate::units::Bytes;

/// Boxed, since each step of hwlocality fails with a type of its own.
type TreeError = Box<dyn std::error::Error + Send + Sync>;

fn load_tree() -> Result<Tree, TreeError> {
    let tree = Tree::builder()
        // Without it CPUs and nodes that a cgroup forbids are not in the tree at all.
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)?
        .with_type_filter(ObjectType::PCIDevice, TypeFilter::KeepAll)?
        .with_type_filter(ObjectType::OSDevice, TypeFilter::KeepAll)?
        .with_type_filter(ObjectType::MemCache, TypeFilter::KeepAll)?
        .build()?;
    // Nothing is cut out of the tree afterwards: in hwlocality 1.0.0-alpha.13
    // `RestrictFlags::REMOVE_EMPTIED` always fails (it is all bits; two of them are cleared before
    // it is looked for, so the others reach hwloc, which refuses them).
    Ok(tree)
}

impl Hwloc {
    /// Reads a host with hwloc, **in this process**, and waits for it: 5 to 35 ms on real machines.
    ///
    /// Works only where the environment was right when the process started, see [`environment`]:
    /// with `HWLOC_FSROOT` and the like for a recorded machine, without plugins for every machine.
    /// Other programs use [`load_with`](Self::load_with).
    ///
    /// Errors: [`HwlocError::Environment`] when a variable is not what it must be;
    /// [`HwlocError::Root`] when the directory is not there; [`HwlocError::Hwloc`] when hwloc makes
    /// no sense of the host.
    pub fn load(root: &SysRoot) -> Result<Self, HwlocError> {
        check_environment(root)?;
        let tree = load_tree().map_err(HwlocError::Hwloc)?;
        let facts = Self::from_tree(&tree);
        // Did the variables do what they are for?
        if root.is_live() != tree.is_this_system() {
            return Err(HwlocError::OtherMachine { root: root.dir().to_owned() });
        }
        Ok(facts)
    }

    fn from_tree(tree: &Tree) -> Self {
        let mut nodes: Vec<HwlocNode> = tree
            .objects_with_type(ObjectType::NUMANode)
            .filter_map(|object| {
                let memory = match object.attributes() {
                    Some(ObjectAttributes::NUMANode(node)) => node.local_memory(),
                    _ => None,
                };
                Some(HwlocNode {
                    id: NodeId(u32::try_from(object.os_index()?).ok()?),
                    cpus: cpus_of(object),
                    memory: memory.map(|bytes| Bytes::new(bytes.get())),
                    subtype: object.subtype().map(text),
                })
            })
            .collect();
        nodes.sort_by_key(|node| node.id);
        Self {
            nodes,
            cpus: set(tree.cpuset().iter_set().map(usize::from)),
            allowed_cpus: set(tree.allowed_cpuset().iter_set().map(usize::from)),
            allowed_nodes: set(tree.allowed_nodeset().iter_set().map(usize::from)),
            distances: distances(tree),
            packages: tree.objects_with_type(ObjectType::Package).map(cpus_of).collect(),
            cores: tree.objects_with_type(ObjectType::Core).map(cpus_of).collect(),
            caches: caches(tree),
            attributes: attributes(tree),
            devices: devices(tree),
        }
    }
}

fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

/// hwloc has sets without an end; ids past the highest believed one are left out.
fn set<T: Id>(ids: impl Iterator<Item = usize>) -> IdSet<T> {
    ids.map_while(|id| u32::try_from(id).ok().filter(|id| *id <= parse::list::MAX_ID))
        .map(T::from_number)
        .collect()
}

fn cpus_of(object: &TopologyObject) -> CpuSet {
    object.cpuset().map(|cpus| set(cpus.iter_set().map(usize::from))).unwrap_or_default()
}

fn distances(tree: &Tree) -> Option<Distances> {
    let kind = DistancesKind::FROM_OS | DistancesKind::MEANS_LATENCY;
    for table in tree.distances(Some(kind)).ok()? {
        let ids: Option<Vec<NodeId>> = table
            .objects()
            .map(|object| {
                let node = object.filter(|o| o.object_type() == ObjectType::NUMANode)?;
                Some(NodeId(u32::try_from(node.os_index()?).ok()?))
            })
            .collect();
        let Some(ids) = ids else { continue };
        // hwloc keeps its own order of nodes, by where their CPUs are.
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&at| ids[at]);
        let cells: Option<Vec<u32>> = order
            .iter()
            .flat_map(|&row| order.iter().map(move |&column| (row, column)))
            .map(|(row, column)| {
                let cell = table.distances().get(row * ids.len() + column)?;
                u32::try_from(*cell).ok()
            })
            .collect();
        if let Some(cells) = cells {
            return Distances::new(order.iter().map(|&at| ids[at]).collect(), cells);
        }
    }
    None
}

fn caches(tree: &Tree) -> Vec<Cache> {
    use ObjectType as T;
    [T::L1Cache, T::L2Cache, T::L3Cache, T::L4Cache, T::L5Cache, T::MemCache]
        .into_iter()
        .flat_map(|ty| tree.objects_with_type(ty))
        .filter_map(|object| {
            let Some(ObjectAttributes::Cache(cache)) = object.attributes() else { return None };
            let kind = match (object.object_type(), cache.cache_type()) {
                (ObjectType::MemCache, _) => CacheKind::MemorySide,
                (_, CacheType::Data) => CacheKind::Data,
                _ => CacheKind::Unified,
            };
            Some(Cache {
                level: u8::try_from(cache.depth()).ok()?,
                kind,
                size: cache.size().map(|bytes| Bytes::new(bytes.get())),
                cpus: cpus_of(object),
            })
        })
        .collect()
}

fn attributes(tree: &Tree) -> Vec<MemoryAttribute> {
    [
        TreeAttribute::capacity(tree),
        TreeAttribute::locality(tree),
        TreeAttribute::bandwidth(tree),
        TreeAttribute::read_bandwidth(tree),
        TreeAttribute::write_bandwidth(tree),
        TreeAttribute::latency(tree),
        TreeAttribute::read_latency(tree),
        TreeAttribute::write_latency(tree),
    ]
    .into_iter()
    .filter_map(|attribute| {
        let flags = attribute.flags();
        let values = values(attribute, flags.contains(MemoryAttributeFlags::NEED_INITIATOR))?;
        (!values.is_empty()).then(|| MemoryAttribute {
            name: text(attribute.name()),
            higher_is_better: flags.contains(MemoryAttributeFlags::HIGHER_IS_BEST),
            values,
        })
    })
    .collect()
}

fn values(attribute: TreeAttribute<'_>, from_somewhere: bool) -> Option<Vec<AttributeValue>> {
    let (targets, plain) = attribute.targets(None).ok()?;
    let mut plain = plain.unwrap_or_default().into_iter();
    let mut values = Vec::new();
    for target in targets {
        let at_target = plain.next();
        let Some(id) = target.os_index().and_then(|id| u32::try_from(id).ok()) else { continue };
        let node = NodeId(id);
        if !from_somewhere {
            values.extend(at_target.map(|value| AttributeValue { node, initiator: None, value }));
            continue;
        }
        // Nobody to see it from: no value.
        let Ok((initiators, seen)) = attribute.initiators(target) else { continue };
        for (initiator, value) in initiators.iter().zip(seen) {
            let cpus = match initiator {
                Initiator::CpuSet(cpus) => set(cpus.iter_set().map(usize::from)),
                Initiator::Object(object) => cpus_of(object),
            };
            values.push(AttributeValue { node, initiator: Some(cpus), value });
        }
    }
    values.sort_by_key(|value| (value.node, value.initiator.as_ref().and_then(CpuSet::first)));
    Some(values)
}

fn devices(tree: &Tree) -> Vec<Device> {
    let mut devices = Vec::new();
    // By hwloc's own number of each object, to find the PCI device an OS device belongs to.
    let mut pci = std::collections::HashMap::new();
    for object in tree.pci_devices() {
        let Some(ObjectAttributes::PCIDevice(attributes)) = object.attributes() else { continue };
        pci.insert(object.global_persistent_index(), devices.len());
        devices.push(Device {
            address: Some(format!(
                "{:04x}:{:02x}:{:02x}.{:x}",
                attributes.domain(),
                attributes.bus_id(),
                attributes.bus_device(),
                attributes.function()
            )),
            class: Some(attributes.class_id()),
            vendor: Some(attributes.vendor_id()),
            product: Some(attributes.device_id()),
            ..near(object)
        });
    }
    for object in tree.os_devices() {
        let Some(ObjectAttributes::OSDevice(attributes)) = object.attributes() else { continue };
        let Some(name) = object.name().map(text) else { continue };
        let kind = match attributes.device_type() {
            OSDeviceType::Storage => OsDeviceKind::Block,
            OSDeviceType::GPU => OsDeviceKind::Gpu,
            OSDeviceType::Network => OsDeviceKind::Network,
            OSDeviceType::OpenFabrics => OsDeviceKind::OpenFabrics,
            OSDeviceType::DMA => OsDeviceKind::Dma,
            OSDeviceType::CoProcessor => OsDeviceKind::Coprocessor,
            _ => OsDeviceKind::Other,
        };
        // Not always the parent: a disk may hang below a controller's own OS device.
        let owner = object.ancestors().find_map(|o| pci.get(&o.global_persistent_index()));
        let os = OsDevice { name, kind };
        match owner.and_then(|at: &usize| devices.get_mut(*at)) {
            Some(device) => device.os.push(os),
            None => devices.push(Device { name: None, os: vec![os], ..near(object) }),
        }
    }
    devices
}

/// Returns an unnamed device where this object is.
fn near(object: &TopologyObject) -> Device {
    let place = object.first_non_io_ancestor();
    let nodes = place.and_then(TopologyObject::nodeset);
    Device {
        address: None,
        class: None,
        vendor: None,
        product: None,
        name: object.name().map(text),
        os: Vec::new(),
        cpus: place.map(cpus_of).unwrap_or_default(),
        nodes: nodes.map(|nodes| set(nodes.iter_set().map(usize::from))).unwrap_or_default(),
    }
}

fn check_environment(root: &SysRoot) -> Result<(), HwlocError> {
    for (variable, wanted) in environment(root)? {
        let found = env::var_os(variable);
        if found != wanted {
            return Err(HwlocError::Environment { variable, wanted, found });
        }
    }
    Ok(())
}

/// What the child of a [`Helper`](super::Helper) does: reads the machine its environment names and writes the
/// facts as JSON.
///
/// Errors: as [`Hwloc::load`]; [`HwlocError::Write`] when the parent has gone. The child ends with an
/// exit code other than zero then, and says why on stderr.
pub fn serve(mut out: impl Write) -> Result<(), HwlocError> {
    let root = match env::var_os("HWLOC_FSROOT") {
        Some(dir) => SysRoot::at(dir),
        None => SysRoot::live(),
    };
    let text = Hwloc::load(&root)?.to_json()?;
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(HwlocError::Write)
}

impl HwlocLoader {
    /// Begins reading in this process, as [`Hwloc::load`] does: with the wrong environment the
    /// result is at once [`HwlocError::Environment`].
    pub fn spawn(root: SysRoot) -> Self {
        Self::start(None, move |_| Hwloc::load(&root))
    }
}
