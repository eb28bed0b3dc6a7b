//! Each oddity, and a host that has none.

use placer_engine::claims::Promise;
use placer_engine::{CpuId, CpuShare, Distances, KernelSettings};

use super::*;
use crate::report::view::Memory;

const GIB: u64 = 1 << 30;

fn node(id: u32, cpus: std::ops::Range<u32>, gib: u64) -> Node {
    let cpus: CpuSet = cpus.map(CpuId).collect();
    let free = Some(Bytes::new(gib * GIB / 2));
    let total = Some(Bytes::new(gib * GIB));
    Node {
        id: NodeId(id),
        listed: cpus.clone(),
        cpus,
        idle: None,
        memory: Memory { total, free, claimed: Some(Bytes::ZERO), ..Memory::default() },
        cpus_claimed: None,
        huge: Vec::new(),
        packages: Vec::new(),
        domains: Vec::new(),
        caches: Vec::new(),
        devices: Vec::new(),
        is_gpu: false,
    }
}

/// Three nodes, 0, 1 and 4, of which nothing is odd.
fn plain() -> View {
    View {
        name: "host".to_owned(),
        nodes: vec![node(0, 0..4, 8), node(1, 4..8, 8), node(4, 8..12, 8)],
        groups: Vec::new(),
        distances: table([10, 20, 20, 20, 10, 20, 20, 20, 10]),
        guests: Some(vec![guest("0000000a", 1, &[(1, GIB)])]),
        stray: Vec::new(),
        offline: CpuSet::new(),
        isolated: CpuSet::new(),
        kernel: KernelSettings {
            numa_balancing: Some(0),
            memory_total: Some(Bytes::new(24 * GIB)),
            zone_reclaim_mode: Some(0),
            swap_total: Some(Bytes::new(GIB)),
            swap_free: Some(Bytes::new(GIB - 1)),
        },
        reserved_huge: Vec::new(),
        reported: Some(Bytes::new(24 * GIB)),
        measured: None,
        odd: Vec::new(),
        notes: Vec::new(),
    }
}

fn table(cells: [u32; 9]) -> Option<Distances> {
    Distances::new([0, 1, 4].map(NodeId).to_vec(), cells.to_vec())
}

fn guest(id: &str, advised: u32, now: &[(u32, u64)]) -> Guest {
    Guest {
        id: id.to_owned(),
        pid: Some(7),
        program: None,
        asked: true,
        pinned: true,
        owns: CpuSet::new(),
        bound: CpuSet::new(),
        balanced: Some(true),
        cpus: CpuShare::from_hundredths(100),
        memory: Bytes::new(GIB),
        page: None,
        promised: vec![Promise {
            node: NodeId(advised),
            memory: Bytes::new(GIB),
            cpus: CpuShare::from_hundredths(100),
        }],
        resident: None,
        now: Some(now.iter().map(|&(node, memory)| (NodeId(node), Bytes::new(memory))).collect()),
    }
}

/// Returns what is odd about the plain host after a change.
fn odd(change: impl FnOnce(&mut View)) -> Vec<(&'static str, String)> {
    let mut view = plain();
    change(&mut view);
    all(&view).into_iter().map(|odd| (odd.kind, odd.text)).collect()
}

fn check(kind: &'static str, text: &str, change: impl FnOnce(&mut View)) {
    assert_eq!(odd(change), [(kind, text.to_owned())]);
}

#[test]
fn a_plain_host_is_not_odd() {
    assert_eq!(odd(|_| ()), []);
    assert_eq!(odd(|view| view.guests = None), []);
    assert_eq!(odd(|view| view.distances = None), []);
}

#[test]
fn distances() {
    let kind = "asymmetric-distances";
    check(kind, "distances differ by direction: 0 to 4 is 21, 4 to 0 is 20", |view| {
        view.distances = table([10, 20, 21, 20, 10, 20, 20, 20, 10]);
    });
    let text = "distances differ by direction: 0 to 1 is 30, 1 to 0 is 20, and so are 2 more pairs";
    check(kind, text, |view| view.distances = table([10, 30, 21, 20, 10, 22, 20, 20, 10]));
    let kind = "strange-distances";
    let text = "node 4 is nearer to node 0 (20) than to itself (25): the firmware's table is wrong";
    check(kind, text, |view| view.distances = table([10, 20, 20, 20, 10, 20, 20, 20, 25]));
    let text =
        "all nodes are as near to one another as to themselves: the firmware reports no distances";
    check(kind, text, |view| view.distances = table([10; 9]));
}

#[test]
fn nodes_that_lack_something() {
    let text = "node 1 has CPUs and no memory: what runs on its CPUs uses other nodes' memory";
    check("no-memory", text, |view| view.nodes[1] = node(1, 4..8, 0));
    let text =
        "nodes 0-1 have CPUs and no memory: what runs on their CPUs uses other nodes' memory";
    check("no-memory", text, |view| {
        view.nodes[0] = node(0, 0..4, 0);
        view.nodes[1] = node(1, 4..8, 0);
    });
    let text = "node 4 has memory and no CPUs (CXL, HBM, persistent memory or a GPU)";
    check("no-cpus", text, |view| view.nodes[2] = node(4, 0..0, 8));
    check("no-cpus", "node 4 has memory and no CPUs (a GPU's)", |view| {
        view.nodes[2] = Node { is_gpu: true, ..node(4, 0..0, 8) };
    });
    check("empty-node", "node 4 has neither CPUs nor memory", |view| {
        view.nodes[2] = node(4, 0..0, 0);
    });
    // Memory that is not told is not none.
    assert_eq!(odd(|view| view.nodes[2].memory = Memory::default()), []);
}

#[test]
fn cpus() {
    let text = "CPU 4 is listed in several nodes: the firmware's tables contradict each other";
    check("shared-cpus", text, |view| {
        view.nodes[2].listed.insert(CpuId(4));
    });
    check("offline-cpus", "CPUs 12-13 are offline", |view| {
        view.offline = [12, 13].map(CpuId).into_iter().collect();
    });
    let text = "CPU 3 is isolated (isolcpus): threads that roam never run there";
    check("isolated-cpus", text, |view| view.isolated = [CpuId(3)].into_iter().collect());
}

#[test]
fn guests_and_promises() {
    check("overpromised", "node 1 is promised 1.0 GiB beyond what is free", |view| {
        view.nodes[1].memory.claimed = Some(Bytes::new(5 * GIB));
    });
    let text = "node 0 is promised 4.0 GiB beyond what is free, and 1 more node is as well";
    check("overpromised", text, |view| {
        view.nodes[0].memory.claimed = Some(Bytes::new(8 * GIB));
        view.nodes[1].memory.claimed = Some(Bytes::new(5 * GIB));
    });
    let text = "memory of a guest is elsewhere: claim 0000000b has 25 % of it on node 1";
    let astray = || guest("0000000b", 1, &[(0, 3 * GIB), (1, GIB)]);
    check("misplaced-guest", text, |view| view.guests = Some(vec![astray()]));
    let text = format!("{text}, and 1 more guest is");
    check("misplaced-guest", &text, |view| {
        view.guests = Some(vec![guest("0000000c", 1, &[(0, GIB), (1, GIB)]), astray()]);
    });
    // The program's own memory may be anywhere.
    let near = || guest("0000000d", 1, &[(0, 10), (1, 90)]);
    assert_eq!(odd(|view| view.guests = Some(vec![near()])), []);
}

#[test]
fn the_kernels_settings() {
    let text = "the kernel may move the memory of claim 0000000a, pinned and without a memory \
        policy: \
                bind it, or sysctl kernel.numa_balancing=0";
    check("numa-balancing", text, |view| view.kernel.numa_balancing = Some(1));
    // Bound strictly the kernel passes it over; what is not seen is not said.
    for balanced in [Some(false), None] {
        let bound = Guest { balanced, ..guest("0000000b", 1, &[(1, GIB)]) };
        let change = |view: &mut View| {
            view.kernel.numa_balancing = Some(1);
            view.guests = Some(vec![bound]);
        };
        assert_eq!(odd(change), []);
    }
    // Mode 2 only moves cold memory to slower nodes; without guests nobody minds.
    assert_eq!(odd(|view| view.kernel.numa_balancing = Some(2)), []);
    assert_eq!(
        odd(|view| {
            view.kernel.numa_balancing = Some(1);
            view.guests = Some(Vec::new());
        }),
        []
    );
    // Who roams over the whole host is helped by it.
    let roams = Guest { pinned: false, ..guest("0000000b", 1, &[(1, GIB)]) };
    assert_eq!(
        odd(|view| {
            view.kernel.numa_balancing = Some(1);
            view.guests = Some(vec![roams]);
        }),
        []
    );
    let text = "vm.zone_reclaim_mode is 1: a full node drops its file cache before it uses \
        another's memory";
    check("zone-reclaim", text, |view| view.kernel.zone_reclaim_mode = Some(1));
    check("swap", "512.0 MiB are swapped out: guests may wait for the disk", |view| {
        view.kernel.swap_free = Some(Bytes::new(GIB / 2));
    });
    assert_eq!(odd(|view| view.kernel = KernelSettings::default()), []);
}

#[test]
fn memory_that_nodes_report_wrongly() {
    let text = "node 1 reports 9.0 GiB free of 8.0 GiB: never more than all of it is promised";
    check("free-above-total", text, |view| view.nodes[1].memory.unused = Some(Bytes::new(9 * GIB)));
    let text = "the nodes report 12.0 GiB of the host's 24.0 GiB (memory that is not initialised \
        yet, \
                or offline): what no node reports is not promised";
    check("unreported-memory", text, |view| view.reported = Some(Bytes::new(12 * GIB)));
    assert_eq!(odd(|view| view.reported = None), []);
    assert_eq!(odd(|view| view.kernel.memory_total = None), []);
    let text = "100 huge pages of 2.0 MiB are reserved by programs that have not touched them: 50 \
        of the \
                free ones are left";
    check("reserved-huge-pages", text, |view| {
        view.reserved_huge = vec![(Bytes::new(2 << 20), 100, 50)];
    });
}

#[test]
fn each_oddity_has_a_name_of_its_own() {
    let mut kinds = kinds();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), RULES.len());
}
