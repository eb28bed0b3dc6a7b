//! What people want to see of a host and no policy asks for: packages, caches, devices, huge pages,
//! and how the kernel is set. Plain values; `source` reads them.

use crate::ids::NodeId;
use crate::idset::CpuSet;
use crate::snapshot::HugePages;
use crate::units::Bytes;

/// The parts of a host beside its nodes. Values that the host does not report are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostParts {
    /// What the host calls itself; `None` on recorded machines. Print it with care.
    pub name: Option<String>,
    /// The packages (sockets), in ascending order of their first CPU; empty where some CPU does not
    /// tell its own.
    pub packages: Vec<Package>,
    /// The caches that are shared or large: level 2 and up, no instruction caches. By level, then by
    /// their first CPU.
    pub caches: Vec<SharedCache>,
    /// Network, storage, graphics, accelerators: PCI devices in the order of their addresses.
    pub devices: Vec<Attached>,
    /// The huge pages of each size that the host has any of, in ascending order of sizes.
    pub huge_pages: Vec<HugePages>,
    /// CPUs that are there and offline.
    pub offline: CpuSet,
    /// How the kernel is set.
    pub kernel: KernelSettings,
}

/// A package: what is put into one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Package {
    /// The kernel's number, `physical_package_id`; not always small.
    pub id: u64,
    /// Its online CPUs.
    pub cpus: CpuSet,
}

/// A cache and the CPUs that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedCache {
    /// 2 or more.
    pub level: u8,
    /// Its size, if the kernel reports it.
    pub size: Option<Bytes>,
    /// The online CPUs that share it.
    pub cpus: CpuSet,
}

/// A PCI device and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// Its address, as in `0000:45:00.0`. Whatever the directory is called: print it with care.
    pub address: String,
    /// What it is for.
    pub kind: DeviceKind,
    /// The system's names for it, as in `eth0`; the same care.
    pub names: Vec<String>,
    /// The node it is near to; `None` where the kernel does not tell (`numa_node` is -1).
    pub node: Option<NodeId>,
}

/// What a device is for, by its PCI class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeviceKind {
    /// Class 02, and InfiniBand (0c06).
    Network,
    /// Class 01.
    Storage,
    /// Class 03.
    Display,
    /// Class 12, and coprocessors (0b40).
    Accelerator,
}

impl DeviceKind {
    /// Returns the kind of a PCI class of 24 bits; `None` for bridges and the like.
    pub fn of_class(class: u32) -> Option<Self> {
        match (class >> 16, (class >> 8) & 0xff) {
            (0x01, _) => Some(Self::Storage),
            (0x02, _) | (0x0c, 0x06) => Some(Self::Network),
            (0x03, _) => Some(Self::Display),
            (0x12, _) | (0x0b, 0x40) => Some(Self::Accelerator),
            _ => None,
        }
    }

    /// Returns the kind in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Storage => "storage",
            Self::Display => "graphics",
            Self::Accelerator => "accelerator",
        }
    }
}

/// Settings of the kernel that bear on where memory ends up; `None` where the kernel does not report them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelSettings {
    /// `kernel.numa_balancing`: bit 0 moves memory and tasks to one another, bit 1 moves cold memory
    /// to slower nodes.
    pub numa_balancing: Option<u64>,
    /// `vm.zone_reclaim_mode`.
    pub zone_reclaim_mode: Option<u64>,
    /// `MemTotal` of the whole host.
    pub memory_total: Option<Bytes>,
    /// `SwapTotal`.
    pub swap_total: Option<Bytes>,
    /// `SwapFree`.
    pub swap_free: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_the_class() {
        for (class, kind) in [
            (0x02_0000, Some(DeviceKind::Network)),
            (0x0c_0600, Some(DeviceKind::Network)),
            (0x0c_0330, None),
            (0x01_0802, Some(DeviceKind::Storage)),
            (0x03_0200, Some(DeviceKind::Display)),
            (0x0b_4000, Some(DeviceKind::Accelerator)),
            (0x12_0000, Some(DeviceKind::Accelerator)),
            (0x06_0400, None),
        ] {
            assert_eq!(DeviceKind::of_class(class), kind, "{class:06x}");
        }
    }
}
