//! Several ranks of an MPI job: a rankfile of Open MPI, and the option of MPICH's Hydra.

use placer_engine::{CpuId, CpuSet, HostParts, Topology};

use super::Settings;

/// How Open MPI numbers the cores and hardware threads of a host: from 0 on, online ones alone, packages before nodes
/// before caches before cores, each by its first CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalCores(Vec<CpuSet>);

impl LogicalCores {
    /// Numbers the cores of a host. `parts` are its packages and caches.
    pub fn of(topology: &Topology, parts: &HostParts) -> Self {
        let nodes = topology.nodes();
        let known = nodes.iter().flat_map(|node| node.cores.iter().cloned());
        let mut cores: Vec<CpuSet> = known.collect();
        let several = cores.iter().fold(CpuSet::new(), |all, core| all.union(core));
        let all = topology.cpus_of(&topology.node_set());
        let single = all.difference(&several);
        cores.extend(single.iter().map(|cpu| std::iter::once(cpu).collect::<CpuSet>()));
        let groups = parts.packages.iter().map(|package| &package.cpus);
        let groups = groups.chain(parts.caches.iter().map(|cache| &cache.cpus));
        let mut groups: Vec<&CpuSet> = groups.chain(nodes.iter().map(|node| &node.cpus)).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        // The first CPUs of all groups around a core, the largest group first, and its own.
        let place = |core: &CpuSet| -> Vec<Option<CpuId>> {
            let around = groups.iter().filter(|group| core.is_subset(group));
            around.copied().chain([core]).map(CpuSet::first).collect()
        };
        cores.sort_by_cached_key(place);
        Self(cores)
    }

    /// Returns the cores that some CPUs belong to, by their numbers.
    fn cores(&self, cpus: &CpuSet) -> CpuSet {
        let touched = self.0.iter().zip(0u32..);
        touched.filter(|(core, _)| meet(core, cpus)).map(|(_, at)| CpuId(at)).collect()
    }

    /// Returns the hardware threads, by their numbers.
    fn threads(&self, cpus: &CpuSet) -> CpuSet {
        let threads = self.0.iter().flat_map(CpuSet::iter).zip(0u32..);
        threads.filter(|(cpu, _)| cpus.contains(*cpu)).map(|(_, at)| CpuId(at)).collect()
    }

    /// Returns all CPUs of the cores that some CPUs belong to.
    fn whole(&self, cpus: &CpuSet) -> CpuSet {
        let touched = self.0.iter().filter(|core| meet(core, cpus));
        touched.fold(CpuSet::new(), |all, core| all.union(core))
    }
}

fn meet(a: &CpuSet, b: &CpuSet) -> bool {
    !a.intersection(b).is_empty()
}

/// Returns a rankfile for Open MPI: `mpirun --rankfile FILE` (4.1), `mpirun --map-by rankfile:file=FILE` (5.0).
///
/// Its numbers are logical ones of cores. Where ranks, or a rank and a CPU in `owned` by others, share a core they are
/// those of hardware threads, and a note says which option makes Open MPI read them so.
pub fn rankfile(host: &str, ranks: &[CpuSet], owned: &CpuSet, logical: &LogicalCores) -> Settings {
    let mut settings = Settings::default();
    let mut taken = owned.clone();
    let mut shared = false;
    for cpus in ranks {
        let whole = logical.whole(cpus);
        shared |= meet(&whole, &taken);
        taken = taken.union(&whole);
    }
    for (rank, cpus) in ranks.iter().enumerate() {
        let numbers = if shared { logical.threads(cpus) } else { logical.cores(cpus) };
        settings.text.push_str(&format!("rank {rank}={host} slot={numbers}\n"));
    }
    if shared {
        settings.notes.push(
            "ranks share cores: the numbers are those of hardware threads, for Open MPI 5.0 with \
             --map-by rankfile:file=FILE:hwtcpus; Open MPI 4.1 needs --emit rankfile-physical"
                .to_owned(),
        );
    }
    settings
}

/// Returns a rankfile with the kernel's numbers of CPUs, for Open MPI 4.1 with
/// `-mca rmaps_rank_file_physical 1`. Open MPI 5.0 cannot read such numbers.
pub fn rankfile_physical(host: &str, ranks: &[CpuSet]) -> Settings {
    let line = |(rank, cpus): (usize, &CpuSet)| format!("rank {rank}={host} slot={cpus}\n");
    Settings { text: ranks.iter().enumerate().map(line).collect(), notes: Vec::new() }
}

/// Returns the option with which MPICH's Hydra binds the ranks, as in
/// `mpiexec.hydra $(placer advise 2:1G --copies 4 --emit hydra) -n 4 COMMAND`. Its numbers are the kernel's.
pub fn hydra(ranks: &[CpuSet]) -> Settings {
    let cpus = |cpus: &CpuSet| {
        let numbers: Vec<String> = cpus.iter().map(|cpu| cpu.0.to_string()).collect();
        numbers.join("+")
    };
    let ranks: Vec<String> = ranks.iter().map(cpus).collect();
    let text = if ranks.is_empty() {
        String::new()
    } else {
        format!("-bind-to user:{}\n", ranks.join(","))
    };
    Settings { text, notes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use placer_engine::SysRoot;

    use super::*;

    fn cpus(ids: &[u32]) -> CpuSet {
        ids.iter().copied().map(CpuId).collect()
    }

    fn logical(topology: &Topology) -> LogicalCores {
        LogicalCores::of(topology, &HostParts::default())
    }

    fn slots(ranks: &[CpuSet], logical: &LogicalCores) -> (String, bool) {
        let settings = rankfile("h", ranks, &CpuSet::new(), logical);
        (settings.text, !settings.notes.is_empty())
    }

    /// Seen with Open MPI 4.1 and 5.0: with CPU 1 offline `slot=2` is CPU 3, and Hydra's 2 is CPU 2.
    #[test]
    fn offline_cpus_have_no_number() {
        let topology = Topology::builder().node(0, "0,2-3").node(1, "4-7").build();
        let logical = logical(&topology.expect("a topology"));
        let ranks = [cpus(&[2, 3]), cpus(&[0]), cpus(&[4, 7])];
        let expected = "rank 0=h slot=1-2\nrank 1=h slot=0\nrank 2=h slot=3,6\n";
        assert_eq!(slots(&ranks, &logical), (expected.to_owned(), false));
        let physical = "rank 0=h slot=2-3\nrank 1=h slot=0\nrank 2=h slot=4,7\n";
        assert_eq!(rankfile_physical("h", &ranks).text, physical);
        assert_eq!(hydra(&ranks).text, "-bind-to user:2+3,0,4+7\n");
        assert_eq!(hydra(&[]), Settings::default());
    }

    #[test]
    fn ranks_that_share_cores_are_numbered_by_hardware_threads() {
        let host = Topology::builder().node(0, "0-1,4-5").node(1, "2-3,6-7");
        let host = host.core("0,4").core("1,5").core("2,6").core("3,7").build();
        let logical = logical(&host.expect("a topology"));
        let apart = [cpus(&[0, 1]), cpus(&[2, 6]), cpus(&[7])];
        let expected = "rank 0=h slot=0-1\nrank 1=h slot=2\nrank 2=h slot=3\n";
        assert_eq!(slots(&apart, &logical), (expected.to_owned(), false));
        let shared = [cpus(&[0]), cpus(&[4, 1])];
        let expected = "rank 0=h slot=0\nrank 1=h slot=1-2\n";
        assert_eq!(slots(&shared, &logical), (expected.to_owned(), true));
        // A core of which a claim owns a thread is shared too.
        let beside = rankfile("h", &[cpus(&[3])], &cpus(&[7]), &logical);
        assert_eq!((beside.text.as_str(), beside.notes.len()), ("rank 0=h slot=6\n", 1));
    }

    /// The kernel numbers CPUs from node to node on some hosts; Open MPI never does.
    #[test]
    fn numbers_run_through_packages_nodes_and_caches() {
        let host = Topology::builder().node(0, "0,2,4,6").node(1, "1,3,5,7").build();
        let host = host.expect("a topology");
        let ranks = [cpus(&[1]), cpus(&[2, 4])];
        let expected = "rank 0=h slot=4\nrank 1=h slot=1-2\n";
        assert_eq!(slots(&ranks, &logical(&host)), (expected.to_owned(), false));
    }

    /// The numbers that hwloc gives the CPUs of this recording: 0, 16, 1, 17 and so on.
    #[test]
    fn threads_of_a_recorded_host_are_numbered_core_by_core() {
        let Some(snapshot) = crate::recorded::host("x3d") else { return };
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../sysfs-fixtures/x3d");
        let parts = HostParts::read(&SysRoot::at(dir), snapshot.topology());
        let logical = LogicalCores::of(snapshot.topology(), &parts);
        let number = |cpu| logical.threads(&cpus(&[cpu])).first().map(|number| number.0);
        assert_eq!([0, 16, 1, 17, 15, 31].map(number), [0, 1, 2, 3, 30, 31].map(Some));
        let (text, shared) = slots(&[cpus(&[0, 16]), cpus(&[9])], &logical);
        assert_eq!((text.as_str(), shared), ("rank 0=h slot=0\nrank 1=h slot=9\n", false));
    }
}
