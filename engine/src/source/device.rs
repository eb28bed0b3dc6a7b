//! Where a device is: from what people call it to the node it is attached to, by sysfs.
//!
//! ```text
//! name -> find (directories below sys) -> below (the hardware that they stand on) -> one node
//! ```

mod below;
mod find;
mod gpu;
mod names;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use super::root::SysRoot;
use crate::error::SourceError;
use crate::ids::NodeId;
use below::Hardware;

pub(super) use find::CLASSES;
pub(super) use names::{is_mark, mark};

/// Why the node of a device is not known.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeviceError {
    /// The name cannot be one of a device.
    Name(String),
    /// There is no such device.
    Unknown {
        /// The name.
        name: String,
        /// Devices of the host, each with its node where that is known, at most [`MOST_LISTED`].
        known: Vec<(String, Option<NodeId>)>,
        /// How many more there are.
        more: usize,
    },
    /// The firmware gave the kernel no node for it.
    NotTold {
        /// The device.
        path: PathBuf,
    },
    /// Nothing below it is hardware: a loop device, a tap, a network file system.
    Virtual {
        /// The name.
        name: String,
    },
    /// The devices below it are on several nodes.
    Spread {
        /// The name.
        name: String,
        /// What is below it and where, at most [`MOST_LISTED`], each node at least once.
        parts: Vec<(String, NodeId)>,
    },
    /// A file of it could not be read.
    Source(SourceError),
}

/// Names that one message lists at most.
pub const MOST_LISTED: usize = 32;

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "device {name:?}: expected a PCI address, a network interface, a disk, a volume \
                 or a \
                 GPU, as in 0000:45:00.0, eth0, nvme0n1, vg0/guest, gpu0"
            ),
            Self::Unknown { name, known, more } => {
                write!(f, "no device {name:?} on this host")?;
                for (at, (name, node)) in known.iter().enumerate() {
                    f.write_str(if at == 0 { "; devices: " } else { ", " })?;
                    match node {
                        Some(node) => write!(f, "{name} (node {node})")?,
                        None => write!(f, "{name} (node not known)")?,
                    }
                }
                match more {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::NotTold { path } => write!(
                f,
                "{}: the kernel does not know the node of this device (numa_node is -1): leave it \
                 out, or name the nodes with --within",
                path.display()
            ),
            Self::Virtual { name } => write!(
                f,
                "device {name:?}: no hardware is below it, so it has no node: leave it out, or \
                 name \
                 the nodes with --within"
            ),
            Self::Spread { name, parts } => {
                write!(f, "device {name:?}: the devices below it are on several nodes (")?;
                for (at, (part, node)) in parts.iter().enumerate() {
                    write!(f, "{}{part}: {node}", if at == 0 { "" } else { ", " })?;
                }
                write!(f, "): name one of them, or the nodes with --within")
            }
            Self::Source(_) => f.write_str("cannot read where the device is"),
        }
    }
}

impl std::error::Error for DeviceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            _ => None,
        }
    }
}

/// Returns how many GPUs have a number: `gpu0` and so on.
///
/// Source: `/proc/driver/nvidia/gpus`, else the display controllers of `/sys/bus/pci/devices`. 0 where neither can be read.
pub fn gpus(root: &SysRoot) -> usize {
    gpu::count(root)
}

/// Returns the node of a device, by one of its names:
///
/// - a PCI address: `0000:45:00.0`, `45:00.0`, `45:00`;
/// - a network interface, also a bond, bridge, VLAN: `eth0`, `bond0.100`;
/// - a block device, also a partition, an md array, an LVM volume, by its name or path: `nvme0n1`,
///   `/dev/sda1`, `dm-3`, `vg0/guest`, `vg0-guest`, `/dev/mapper/vg0-guest`;
/// - an NVMe controller or subsystem, an InfiniBand adapter: `nvme0`, `mlx5_0`, `mlx5_0:1`;
/// - a GPU: `card0`, `renderD128`, `gpu1` (the second by PCI address, of NVIDIA's where their driver
///   is loaded), `GPU-8d2f...` (NVIDIA's UUID, or amdgpu's `unique_id`).
///
/// Source: the first `numa_node` on the way from the device up to its bus, below `/sys/devices`. A
/// device without one is as near as those below it: `lower_*`, `slaves/`, the controllers of its NVMe
/// subsystem, the disk of a partition. GPUs also `/proc/driver/nvidia/gpus`.
/// Errors: no such device; no node is known; the devices below it are on several nodes.
///
/// ```no_run
/// use placer_engine::{SysRoot, source::device};
/// println!("{}", device::node_of(&SysRoot::live(), "eth0")?);
/// # Ok::<(), device::DeviceError>(())
/// ```
pub fn node_of(root: &SysRoot, name: &str) -> Result<NodeId, DeviceError> {
    let mut hardware = Hardware::new(root);
    hardware.add(&find::find(root, name)?)?;
    let first = hardware.nodes.first().map(|(_, node)| *node);
    match (first, hardware.unknown.into_iter().next()) {
        (Some(first), _) if hardware.nodes.iter().all(|(_, node)| *node == first) => Ok(first),
        (Some(_), _) => {
            let mut parts: Vec<(String, NodeId)> = Vec::new();
            // Each node once before any of them twice.
            for known in [false, true] {
                for part in &hardware.nodes {
                    let there = parts.iter().any(|(_, node)| *node == part.1);
                    if there == known && parts.len() < MOST_LISTED && !parts.contains(part) {
                        parts.push(part.clone());
                    }
                }
            }
            parts.sort();
            Err(DeviceError::Spread { name: name.to_owned(), parts })
        }
        (None, Some(path)) => Err(DeviceError::NotTold { path }),
        (None, None) => Err(DeviceError::Virtual { name: name.to_owned() }),
    }
}
