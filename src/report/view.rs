//! What is shown of a host, as plain values: text, pictures, the terminal and JSON draw from here,
//! and so say the same. Pure; names in it are as they were found, and are escaped where they are drawn.

mod build;
mod group;
mod guest;
pub mod odd;

use placer_engine::{
    Bytes, CpuId, CpuSet, CpuShare, DeviceKind, Distances, KernelSettings, NodeId,
};

pub use build::Sources;
pub use group::Group;
pub use guest::{Guest, MATCHES_AT};
pub(crate) use odd::Odd;

/// A host as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What the host is called; of a recorded one its directory.
    pub name: String,
    /// In ascending order of ids.
    pub nodes: Vec<Node>,
    /// Every node once: those of a package together, if there are packages of several nodes.
    pub groups: Vec<Group>,
    pub distances: Option<Distances>,
    /// Guests and holds, those that ask for most memory first; `None` when they are not known.
    pub guests: Option<Vec<Guest>>,
    /// Devices whose node the kernel does not report.
    pub stray: Vec<Device>,
    pub offline: CpuSet,
    pub isolated: CpuSet,
    pub kernel: KernelSettings,
    /// Sizes of huge pages of which some are reserved: how many, and how many are left.
    pub reserved_huge: Vec<(Bytes, u64, u64)>,
    /// `MemTotal` of all nodes by their own files; `None` when one of them does not say.
    pub reported: Option<Bytes>,
    /// How long the load was measured, in seconds; `None` when it is unknown.
    pub measured: Option<f64>,
    /// What is odd about the host, in a sentence each.
    pub odd: Vec<Odd>,
    /// What was assumed or left out when it was read.
    pub notes: Vec<String>,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub id: NodeId,
    /// The online CPUs the kernel lists for it.
    pub listed: CpuSet,
    /// Those that count for placement: each CPU of the host once.
    pub cpus: CpuSet,
    /// Idle CPU time, in CPUs; `None` when the load is unknown.
    pub idle: Option<f64>,
    pub memory: Memory,
    /// CPUs that are promised and not seen to be busy; `None` when that is not known.
    pub cpus_claimed: Option<CpuShare>,
    /// Huge pages by size.
    pub huge: Vec<Huge>,
    /// The packages its CPUs are in.
    pub packages: Vec<u64>,
    /// Its cores, by the highest-level cache that they share, as policies see them; one domain where no
    /// caches are known, none without CPUs.
    pub domains: Vec<Domain>,
    /// Its caches by level and size, ascending.
    pub caches: Vec<Caches>,
    pub devices: Vec<Device>,
    /// Whether it is the memory of a GPU.
    pub is_gpu: bool,
}

/// The memory of a node; `None` is not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: Option<Bytes>,
    /// What programs can have, before claims: unused and cached, less what the kernel keeps.
    pub free: Option<Bytes>,
    /// Unused memory (`MemFree`).
    pub unused: Option<Bytes>,
    /// What the kernel has to give up first: file cache and reclaimable slab.
    pub cached: Option<Bytes>,
    /// What is promised and not yet visible as used; `None` also when claims are not known.
    pub claimed: Option<Bytes>,
    /// What one more guest can be promised: free less claimed, by the host's overcommit.
    pub left: Option<Bytes>,
}

/// The huge pages of one size on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Huge {
    pub page: Bytes,
    /// `None` where the kernel reports no such pages although some are claimed.
    pub pages: Option<Pages>,
    /// What is claimed of them.
    pub claimed: Bytes,
}

/// How many pages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    pub total: u64,
    pub free: u64,
}

/// Cores of a node that share their highest-level cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Its level and size; `None` where the cache is not known.
    pub cache: Option<(u8, Option<Bytes>)>,
    pub cpus: CpuSet,
    pub cores: Vec<Core>,
    /// Idle CPU time, in CPUs; `None` when the load is unknown.
    pub idle: Option<f64>,
    /// What claims have of it; `None` when claims are not known.
    pub claimed: Option<CacheClaims>,
}

/// What claims have of a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheClaims {
    /// CPUs that belong to single threads of guests.
    pub owned: CpuSet,
    /// CPUs that all threads of some guest share.
    pub shared: CpuSet,
    /// How many guests and holds own CPUs of it or are bound to some.
    pub guests: usize,
}

/// One core: its hardware threads.
#[derive(Clone, Debug, PartialEq)]
pub struct Core {
    pub cpus: Vec<Cpu>,
}

/// One CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    pub id: CpuId,
    /// The part of its time that it was busy, 0 to 1; `None` when the load is unknown.
    pub busy: Option<f64>,
    /// Whether the kernel keeps threads away from it (`isolcpus`).
    pub isolated: bool,
    /// Whether it belongs to a single thread of a guest.
    pub owned: bool,
    /// What it is worth beside the host's fastest: 1, or less for a slow core of a hybrid CPU.
    pub capacity: f64,
}

/// Equal caches of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caches {
    pub level: u8,
    pub size: Option<Bytes>,
    pub count: usize,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The system's names for it, or its address where it has none.
    pub label: String,
    pub address: String,
    pub kind: DeviceKind,
}

impl View {
    /// Returns one node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// Returns the number of CPUs, each once.
    pub(crate) fn cpus(&self) -> u64 {
        self.nodes.iter().map(|node| node.cpus.len()).sum()
    }

    /// Returns all memory, and what of it can be promised before claims.
    pub(crate) fn memory(&self) -> (Bytes, Bytes) {
        let sum = |of: fn(&Memory) -> Option<Bytes>| {
            self.nodes.iter().filter_map(|node| of(&node.memory)).sum()
        };
        (sum(|memory| memory.total), sum(|memory| memory.free))
    }

    /// Returns the nodes with several caches, of which a guest's CPUs are chosen.
    pub fn nodes_with_caches(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.has_several_caches())
    }

    /// Returns the CPUs by their capacity, the fastest first; empty where all are alike.
    pub fn core_kinds(&self) -> Vec<(f64, CpuSet)> {
        let mut kinds: Vec<(f64, Vec<CpuId>)> = Vec::new();
        let domains = self.nodes.iter().flat_map(|node| &node.domains);
        for cpu in domains.flat_map(|domain| &domain.cores).flat_map(|core| &core.cpus) {
            let same = |kind: &&mut (f64, Vec<CpuId>)| kind.0.total_cmp(&cpu.capacity).is_eq();
            match kinds.iter_mut().find(same) {
                Some((_, cpus)) => cpus.push(cpu.id),
                None => kinds.push((cpu.capacity, vec![cpu.id])),
            }
        }
        if kinds.len() < 2 {
            return Vec::new();
        }
        kinds.sort_by(|a, b| b.0.total_cmp(&a.0));
        kinds.into_iter().map(|(capacity, cpus)| (capacity, cpus.into_iter().collect())).collect()
    }

    /// Says which CPUs are fast, and what the others are worth; `None` where all are alike.
    pub fn core_kinds_in_words(&self) -> Option<String> {
        let kinds = self.core_kinds();
        let ((_, fast), slow) = kinds.split_first()?;
        let mut pieces = vec![format!("CPUs {fast} are fast")];
        for (capacity, cpus) in slow {
            pieces.push(format!("CPUs {cpus} efficient, each worth {capacity:.2} of a fast one"));
        }
        Some(pieces.join("; "))
    }

    /// Returns how many guests and how many holds there are; `None` when that is not known.
    pub(crate) fn claims(&self) -> Option<(usize, usize)> {
        let guests = self.guests.as_ref()?;
        let holds = guests.iter().filter(|guest| guest.is_hold()).count();
        Some((guests.len() - holds, holds))
    }
}

impl Node {
    /// Returns whether it is known which of its CPUs share a cache.
    pub(crate) fn knows_caches(&self) -> bool {
        self.domains.iter().any(|domain| domain.cache.is_some())
    }

    /// Returns whether it is known that its CPUs belong to several caches.
    pub fn has_several_caches(&self) -> bool {
        self.domains.len() > 1 && self.knows_caches()
    }

    /// Returns the part of its CPU time that was busy, 0 to 1; `None` when the load is unknown, or
    /// there are no CPUs.
    #[allow(dead_code, reason = "for the live view")]
    pub(crate) fn busy(&self) -> Option<f64> {
        let cpus = count(self.cpus.len());
        self.idle.filter(|_| cpus > 0.0).map(|idle| (1.0 - idle / cpus).clamp(0.0, 1.0))
    }
}

impl Domain {
    /// Returns its level and size as a person reads them: `L3 32 MiB`; empty where it is not known.
    pub fn name(&self) -> String {
        match self.cache {
            // Caches are mostly of a round size.
            Some((level, Some(size))) => {
                format!("L{level} {}", size.to_string().replace(".0 ", " "))
            }
            Some((level, None)) => format!("L{level}"),
            None => String::new(),
        }
    }

    /// Returns what claims have of it: `CPUs 0-3 owned`, `2 guests`; without claims `free`, or `none` where others
    /// keep it busy; `?` when claims are not known.
    pub fn claims(&self) -> String {
        let Some(CacheClaims { owned, shared, guests }) = &self.claimed else {
            return "?".to_owned();
        };
        let noun = if owned.len() == 1 { "CPU" } else { "CPUs" };
        match (owned.is_empty(), shared.is_empty(), *guests) {
            (true, true, _) if self.is_free() => "free".to_owned(),
            (true, true, _) => "none".to_owned(),
            (true, false, 1) => "1 guest".to_owned(),
            (true, false, guests) => format!("{guests} guests"),
            (false, true, _) => format!("{noun} {owned} owned"),
            (false, false, _) => format!("{noun} {owned} owned, others shared"),
        }
    }

    /// Returns whether a claim owns a CPU of it or is bound to some; `None` when claims are not known.
    pub fn is_claimed(&self) -> Option<bool> {
        let claimed = self.claimed.as_ref()?;
        Some(!(claimed.owned.is_empty() && claimed.shared.is_empty()))
    }

    /// Returns whether no claim has a part of it and at least three quarters of its CPU time are idle.
    pub fn is_free(&self) -> bool {
        let is_idle = self.idle.is_none_or(|idle| idle >= 0.75 * count(self.cpus.len()));
        self.is_claimed() == Some(false) && is_idle
    }
}

impl Memory {
    /// Returns the parts of all memory, of 1 together: used, claimed, cached, unused. What is claimed
    /// is taken of what is unused, then of the cache. `None` without figures or without memory.
    pub(crate) fn parts(&self) -> Option<[f64; 4]> {
        let total = self.total.filter(|total| *total > Bytes::ZERO)?;
        let free = self.free?.min(total);
        let cached = self.cached.unwrap_or_default().min(free);
        let unused = free.saturating_sub(cached);
        let claimed = self.claimed.unwrap_or_default().min(free);
        let used = total.saturating_sub(free);
        let beyond = claimed.saturating_sub(unused);
        let cached = cached.saturating_sub(beyond);
        let unused = unused.saturating_sub(claimed);
        Some([used, claimed, cached, unused].map(|part| count(part.get()) / count(total.get())))
    }
}

#[expect(clippy::cast_precision_loss, reason = "amounts far below 2^53, or shown as parts")]
pub fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_memory_are_of_one_together() {
        let bytes = |n| Some(Bytes::new(n));
        let memory = |total, unused, cached, claimed| Memory {
            total: bytes(total),
            free: bytes(unused + cached),
            unused: bytes(unused),
            cached: bytes(cached),
            claimed: bytes(claimed),
            left: None,
        };
        for (memory, parts) in [
            (memory(100, 40, 20, 0), [0.4, 0.0, 0.2, 0.4]),
            (memory(100, 40, 20, 30), [0.4, 0.3, 0.2, 0.1]),
            (memory(100, 40, 20, 50), [0.4, 0.5, 0.1, 0.0]),
            // More is promised than there is.
            (memory(100, 40, 20, 900), [0.4, 0.6, 0.0, 0.0]),
        ] {
            let found = memory.parts().expect("figures");
            let close = found.iter().zip(parts).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(close, "{memory:?}: {found:?}");
        }
        assert_eq!(memory(0, 0, 0, 0).parts(), None);
        assert_eq!(Memory::default().parts(), None);
    }
}
