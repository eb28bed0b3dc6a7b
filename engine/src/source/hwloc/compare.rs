//! Caches as hwloc sees them, beside those of the topology.

use super::{Cache, CacheKind, Hwloc};
use crate::idset::CpuSet;
use crate::topology::{self, Topology};

impl Hwloc {
    /// Returns what differs between the caches by which placer chooses CPUs and those that hwloc sees, in a
    /// sentence; `None` where both agree.
    ///
    /// Both read sysfs. hwloc knows the quirks of more platforms and reads the device tree of others, so a
    /// difference hints at a file that is wrong or missing.
    pub fn differing_caches(&self, topology: &Topology) -> Option<String> {
        let nodes = topology.nodes().iter();
        let caches = nodes.flat_map(|node| node.caches.iter().map(|cache| (cache, &node.cpus)));
        let mut differences = caches.filter_map(|(cache, node)| self.difference(cache, node));
        let first = differences.next()?;
        let more = match differences.count() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(format!("hwloc sees other caches than sysfs, which placer uses: {first}{more}"))
    }

    fn difference(&self, cache: &topology::Cache, node: &CpuSet) -> Option<String> {
        // hwloc leaves out CPUs without a topology directory.
        let cpus = cache.cpus.intersection(&self.cpus);
        let first = cpus.first()?;
        let holds = |seen: &&Cache| seen.kind != CacheKind::MemorySide && seen.cpus.contains(first);
        let mut seen = self.caches.iter().filter(holds);
        if cache.level == 0 {
            // Not known from sysfs: a cache of several cores would have been used.
            let shared = |seen: &&Cache| {
                seen.level > 1 && !self.cores.iter().any(|core| seen.cpus.is_subset(core))
            };
            let seen = seen.filter(shared).max_by_key(|seen| seen.level)?;
            return Some(format!(
                "CPUs {} share an L{} cache by hwloc alone",
                seen.cpus, seen.level
            ));
        }
        let seen = seen.find(|seen| seen.level == cache.level);
        let by_hwloc: CpuSet = seen.map(|seen| seen.cpus.clone()).unwrap_or_default();
        // The topology cuts a cache to a node; hwloc does not.
        if by_hwloc.intersection(node) == cpus {
            return None;
        }
        let by_hwloc =
            if by_hwloc.is_empty() { "none".to_owned() } else { format!("one of CPUs {by_hwloc}") };
        Some(format!("CPUs {cpus} share an L{} cache by sysfs, {by_hwloc} by hwloc", cache.level))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::snapshot::Snapshot;
    use crate::source::SysRoot;

    fn topology(fixture: &str) -> Topology {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sysfs-fixtures").join(fixture);
        let snapshot = Snapshot::take(&SysRoot::at(dir), Duration::ZERO).expect("a good fixture");
        snapshot.topology().clone()
    }

    /// What hwloc says of 16 CPUs in cores of two threads, with some caches.
    fn hwloc(caches: &[(u8, &str)]) -> Hwloc {
        let cores: Vec<String> = (0..8).map(|at| format!("{}-{}", at * 2, at * 2 + 1)).collect();
        let cache = |(level, cpus): &(u8, &str)| serde_json::json!({"level": level, "kind": "unified", "size": null, "cpus": cpus});
        let facts = serde_json::json!({
            "nodes": [], "cpus": "0-15", "allowed_cpus": "0-15", "allowed_nodes": "0", "distances": null,
            "packages": ["0-15"], "cores": cores, "attributes": [], "devices": [],
            "caches": caches.iter().map(cache).collect::<Vec<_>>(),
        });
        Hwloc::from_json(facts.to_string().as_bytes()).expect("good facts")
    }

    #[test]
    fn caches_that_differ_are_reported() {
        let four = topology("caches-4");
        let good = [(3, "0-3"), (3, "4-7"), (3, "8-11"), (3, "12-15"), (2, "0-1")];
        assert_eq!(hwloc(&good).differing_caches(&four), None);
        let said =
            |facts: &[(u8, &str)]| hwloc(facts).differing_caches(&four).expect("a difference");
        assert_eq!(
            said(&[(3, "0-7"), (3, "8-11"), (3, "12-15")]),
            "hwloc sees other caches than sysfs, which placer uses: CPUs 0-3 share an L3 cache by sysfs, one of \
             CPUs 0-7 by hwloc, and 1 more"
        );
        assert_eq!(
            said(&good[1..]),
            "hwloc sees other caches than sysfs, which placer uses: CPUs 0-3 share an L3 cache by sysfs, none by \
             hwloc"
        );
    }

    #[test]
    fn a_cache_of_several_nodes_is_cut_to_each() {
        let two = topology("caches-2x2");
        assert_eq!(hwloc(&[(3, "0-3"), (3, "4-11"), (3, "12-15")]).differing_caches(&two), None);
    }
}
