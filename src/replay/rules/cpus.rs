//! Which CPUs of one node each rule gives a guest that owns its CPUs, from the cores of each cache.
//!
//! Policy `best` is [`pin::choose`]; the others stand here. `None`: fewer CPUs are free than are asked for.

use placer_engine::policy::cache::{Core, Thread, pin};

/// A rule for the CPUs inside a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuRule {
    /// Policy `best`: see [`pin`].
    Caches,
    /// The static policy of the kubelet with `prefer-align-cpus-by-uncorecache`: whole free caches, the
    /// lowest first, for as many vCPUs as a cache has; the rest in the lowest cache that has room for it.
    /// It counts what it has given away, and not the load.
    Kubelet,
    /// The lowest CPUs that are free and idle, then the lowest that are free.
    LowestIdle,
    /// placer before it knew caches: the idlest free core of the node for each vCPU, then threads beside one.
    Node,
}

impl CpuRule {
    /// Returns a CPU for each vCPU, in ascending order.
    pub fn choose(self, caches: &[Vec<Core>], vcpus: usize) -> Option<Vec<u32>> {
        let free = caches.iter().flatten().flat_map(free).count();
        if vcpus == 0 || free < vcpus {
            return None;
        }
        let mut cpus = match self {
            Self::Caches => pin::choose(caches, vcpus, EFFORT)?.cpus,
            Self::Kubelet => kubelet(caches, vcpus),
            Self::LowestIdle => lowest_idle(caches, vcpus),
            Self::Node => idlest_cores(caches, vcpus),
        };
        cpus.sort_unstable();
        Some(cpus)
    }
}

/// Search nodes for one guest: as many as an advice takes.
const EFFORT: u64 = 20_000;
/// From this part of its time on a CPU counts as idle.
const IDLE: f64 = 0.75;

fn free(core: &Core) -> impl Iterator<Item = &Thread> {
    core.threads.iter().filter(|thread| !thread.taken)
}

fn is_whole(core: &Core) -> bool {
    core.threads.iter().all(|thread| !thread.taken)
}

fn kubelet(caches: &[Vec<Core>], vcpus: usize) -> Vec<u32> {
    let mut cpus: Vec<u32> = Vec::new();
    let mut left: Vec<&Core> = Vec::new();
    for cores in caches {
        let wanted = vcpus - cpus.len();
        let size = cores.iter().flat_map(|core| &core.threads).count();
        let room = cores.iter().flat_map(free).count();
        let takes_whole = size > 0 && room == size && wanted >= size;
        if takes_whole || (wanted > 0 && wanted <= room) {
            cpus.extend(whole_cores_first(cores.iter(), wanted.min(room)));
        } else {
            left.extend(cores);
        }
    }
    let wanted = vcpus - cpus.len();
    cpus.extend(whole_cores_first(left.into_iter(), wanted));
    cpus
}

/// All threads of whole cores while they fit, the lowest first, then single CPUs.
fn whole_cores_first<'a>(cores: impl Iterator<Item = &'a Core>, vcpus: usize) -> Vec<u32> {
    let mut cores: Vec<&Core> = cores.collect();
    cores.sort_by_key(|core| core.threads.iter().map(|thread| thread.cpu).min());
    let mut cpus: Vec<u32> = Vec::new();
    let mut rest: Vec<u32> = Vec::new();
    for core in cores {
        let threads = free(core).map(|thread| thread.cpu);
        if is_whole(core) && core.threads.len() <= vcpus - cpus.len() {
            cpus.extend(threads);
        } else {
            rest.extend(threads);
        }
    }
    rest.sort_unstable();
    let wanted = vcpus - cpus.len();
    cpus.extend(rest.into_iter().take(wanted));
    cpus
}

fn lowest_idle(caches: &[Vec<Core>], vcpus: usize) -> Vec<u32> {
    let threads = caches.iter().flatten().flat_map(free);
    let mut order: Vec<(bool, u32)> = threads.map(|t| (t.idle < IDLE, t.cpu)).collect();
    order.sort_unstable();
    order.into_iter().take(vcpus).map(|(_, cpu)| cpu).collect()
}

fn idlest_cores(caches: &[Vec<Core>], vcpus: usize) -> Vec<u32> {
    let mut order: Vec<(bool, usize, u8, u32)> = Vec::new();
    for core in caches.iter().flatten() {
        let load = free(core).map(|thread| quarters(thread.idle)).max().unwrap_or(4);
        let mut cpus: Vec<u32> = free(core).map(|thread| thread.cpu).collect();
        cpus.sort_unstable();
        let beside = !is_whole(core);
        order.extend(cpus.into_iter().enumerate().map(|(nth, cpu)| {
            let shares = beside || nth > 0;
            (shares, if beside { 0 } else { nth }, load, cpu)
        }));
    }
    order.sort_unstable();
    order.into_iter().take(vcpus).map(|(.., cpu)| cpu).collect()
}

/// Load in quarters of a CPU, rounded up.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 4")]
fn quarters(idle: f64) -> u8 {
    4 - (idle.clamp(0.0, 1.0) * 4.0 + 1e-9).min(4.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Caches of cores of two threads, from CPU numbers; `x` marks those that are taken, `b` busy ones.
    fn caches(text: &str) -> Vec<Vec<Core>> {
        let thread = |text: &str| Thread {
            cpu: text.trim_end_matches(['x', 'b']).parse().expect("a CPU"),
            idle: if text.ends_with('b') { 0.1 } else { 1.0 },
            taken: text.ends_with('x'),
        };
        let core = |text: &str| Core { threads: text.split(',').map(thread).collect() };
        text.split(" / ").map(|cores| cores.split(' ').map(core).collect()).collect()
    }

    #[test]
    fn each_rule_by_hand() {
        use CpuRule::{Caches, Kubelet, LowestIdle, Node};
        let choose = |rule: CpuRule, host: &str, vcpus| rule.choose(&caches(host), vcpus);
        // The first cache has a CPU taken: the kubelet fills the lowest hole, both threads of a core first.
        let host = "0,4x 1,5 / 2,6 3,7";
        assert_eq!(choose(Kubelet, host, 3), Some(vec![0, 1, 5]));
        assert_eq!(choose(Kubelet, host, 4), Some(vec![2, 3, 6, 7]));
        assert_eq!(choose(Kubelet, host, 5), Some(vec![0, 2, 3, 6, 7]));
        assert_eq!(choose(Caches, host, 2), Some(vec![2, 3]));
        assert_eq!(choose(LowestIdle, host, 2), Some(vec![0, 1]));
        assert_eq!(choose(LowestIdle, host, 3), Some(vec![0, 1, 2]));
        assert_eq!(choose(Node, host, 2), Some(vec![1, 2]), "across both caches");
        assert_eq!(choose(Node, host, 4), Some(vec![0, 1, 2, 3]));
        assert_eq!(choose(Kubelet, host, 8), None);
        // Load: the kubelet does not see it.
        let host = "0b 1b 2 3 / 4 5 6 7";
        assert_eq!(choose(Kubelet, host, 2), Some(vec![0, 1]));
        assert_eq!(choose(LowestIdle, host, 3), Some(vec![2, 3, 4]));
        assert_eq!(choose(Node, host, 3), Some(vec![2, 3, 4]));
        assert_eq!(choose(Caches, host, 3), Some(vec![4, 5, 6]));
        assert_eq!(choose(Caches, host, 0), None);
    }
}
