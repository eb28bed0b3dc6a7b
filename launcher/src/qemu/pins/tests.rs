use std::collections::BTreeMap;

use placer_engine::{Bytes, NodeId, Request, Share, advise};
use proptest::prelude::*;

use super::*;
use crate::guest::{Pins, Program, Qemu};
use crate::recorded::host;

fn guest(cpus: u32, pin: ThreadPin) -> Guest {
    let mut guest = Guest::new("web".parse().unwrap(), Program::Qemu(Qemu::default()));
    guest.cpus.current = cpus;
    guest.cpus.maximum = cpus;
    guest.memory.maximum = Bytes::from_mib(64).unwrap();
    guest.memory.current = guest.memory.maximum;
    guest.pin = pin;
    guest
}

/// The advice for these nodes, in equal shares.
fn advice(snapshot: &Snapshot, nodes: &[u32]) -> Advice {
    let nodes: NodeSet = nodes.iter().map(|&node| NodeId(node)).collect();
    let mut request: Request = "1:1".parse().unwrap();
    request.within = Some(nodes.clone());
    let mut advice = advise(snapshot, &request).expect("an answer");
    let topology = snapshot.topology();
    advice.cpus = topology.cpus_of(&nodes).difference(topology.isolated());
    advice.usable_cpus = advice.cpus.clone();
    let share = |node| Share { node, cpus: 1.0, memory: Bytes::from_mib(64).unwrap() };
    advice.split = nodes.iter().map(share).collect();
    advice.nodes = nodes;
    advice
}

fn cpus(text: &str) -> CpuSet {
    crate::definition::parse_list(text).unwrap()
}

fn pinned(guest: &Guest, iothreads: u32, nodes: &[u32], host: &Snapshot) -> ThreadCpus {
    let advice = advice(host, nodes);
    let shape = Shape::of(guest, Some(&advice), host).expect("a shape");
    ThreadCpus::of(guest, iothreads, Some(&advice), host, &shape).expect("CPUs")
}

/// vCPUs, then I/O threads, then the others, with a bar between.
fn shown(cpus: &ThreadCpus) -> String {
    let list = |sets: &[CpuSet]| sets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    format!("{} | {} | {}", list(&cpus.vcpus), list(&cpus.iothreads), cpus.emulator)
}

#[test]
fn by_nodes_a_vcpu_runs_on_its_own_node_and_the_rest_on_all() {
    // Cores of two threads: 0-1, 2-3 on node 0, 4-5, 6-7 on node 1.
    let Some(host) = host("two-nodes") else { return };
    let guest = guest(4, ThreadPin::Nodes);
    assert_eq!(shown(&pinned(&guest, 1, &[0, 1], &host)), "0-3 0-3 4-7 4-7 | 0-7 | 0-7");
    assert_eq!(shown(&pinned(&guest, 0, &[1], &host)), "4-7 4-7 4-7 4-7 |  | 4-7");
}

#[test]
fn vcpus_are_grouped_by_their_dies_and_cpus() {
    let allowed = [cpus("0-3"), cpus("0-3"), cpus("4-7"), cpus("0-3"), cpus("4-7")];
    let groups = |die| -> Vec<Vec<u32>> {
        by_cpus(0..5, &allowed, die).into_iter().map(|(_, members)| members).collect()
    };
    assert_eq!(groups(None), [vec![0, 1, 3], vec![2, 4]]);
    assert_eq!(groups(Some(2)), [vec![0, 1], vec![2], vec![3], vec![4]]);
    assert_eq!(groups(Some(3)), [vec![0, 1], vec![2], vec![3], vec![4]]);
}

#[test]
fn vcpus_of_a_die_are_in_one_cache() {
    // Four caches of two cores of two threads.
    for name in ["caches-4", "caches-4-busy"] {
        let Some(host) = host(name) else { return };
        let caches = &host.topology().nodes()[0].caches;
        for vcpus in [4, 6, 8] {
            let guest = guest(vcpus, ThreadPin::Cores);
            let advice = advice(&host, &[0]);
            let mut shape = Shape::of(&guest, Some(&advice), &host).expect("a shape");
            shape.die = Some(2);
            let threads = ThreadCpus::of(&guest, 0, Some(&advice), &host, &shape).expect("CPUs");
            for die in threads.vcpus.chunks(2) {
                let all = die[0].union(&die[1]);
                assert_eq!(all.len(), 2, "{name}: {vcpus}");
                assert!(caches.iter().any(|cache| all.is_subset(&cache.cpus)), "{name}: {all}");
            }
        }
    }
}

#[test]
fn by_cores_threads_of_a_core_come_after_other_cores() {
    let Some(host) = host("two-nodes") else { return };
    for (vcpus, nodes, expected) in [
        (1, &[0][..], "0 | 2-3 | 2-3"),
        (2, &[0], "0 2 | 1,3 | 1,3"),
        (3, &[0], "0 2 1 | 3 | 3"),
        (4, &[0], "0 2 1 3 | 0-3 | 0-3"),
        // The recorder ran on the core of 4 and 5.
        (2, &[0, 1], "0 6 | 2-5 | 2-5"),
        (5, &[0, 1], "0 2 1 6 4 | 3,5,7 | 3,5,7"),
    ] {
        let guest = guest(vcpus, ThreadPin::Cores);
        assert_eq!(shown(&pinned(&guest, 1, nodes, &host)), expected, "{vcpus} on {nodes:?}");
    }
}

#[test]
fn vcpus_without_a_cpu_of_their_own_roam_over_their_node() {
    let Some(host) = host("ring-4") else { return };
    let threads = pinned(&guest(3, ThreadPin::Cores), 0, &[2], &host);
    assert_eq!(shown(&threads), "4 5 4-5 |  | 4-5");
    assert_eq!(threads.notes, ["vCPUs 2 have no CPU of their own: they run on all of their nodes"]);
}

#[test]
fn a_node_without_cpus_lends_its_guest_those_of_the_others() {
    let Some(host) = host("cpuless") else { return };
    let topology = host.topology();
    let bare = topology.nodes().iter().find(|node| node.cpus.is_empty()).expect("such a node").id;
    let other = topology.nodes().iter().find(|node| !node.cpus.is_empty()).expect("CPUs").id;
    let guest = guest(2, ThreadPin::Nodes);
    let threads = pinned(&guest, 0, &[bare.0, other.0], &host);
    let cpus = topology.cpus_of(&std::iter::once(other).collect());
    assert_eq!(threads.vcpus, [cpus.clone(), cpus]);
}

#[test]
fn isolated_cpus_are_for_vcpus_and_only_when_wanted() {
    // CPUs 6 and 7 of 4-7, node 2, are isolated.
    let Some(host) = host("isolated-4") else { return };
    let mut guest = guest(3, ThreadPin::Cores);
    assert_eq!(shown(&pinned(&guest, 1, &[2], &host)), "4 5 4-5 | 4-5 | 4-5");
    guest.isolated = true;
    assert_eq!(shown(&pinned(&guest, 1, &[2], &host)), "6 7 4 | 5 | 5");
    // No thread that roams is put on them, with whatever pin and placement.
    guest.pin = ThreadPin::Nodes;
    assert_eq!(shown(&pinned(&guest, 0, &[2], &host)), "4-5 4-5 4-5 |  | 4-5");
    guest.placement = CpuPlacement::All;
    assert_eq!(pinned(&guest, 0, &[2], &host).process.to_string(), "0-5,8-9");
}

#[test]
fn what_is_named_by_hand_goes_first() {
    let Some(host) = host("two-nodes") else { return };
    let mut guest = guest(3, ThreadPin::Cores);
    guest.pins = Pins {
        vcpus: BTreeMap::from([(1, cpus("0,99")), (2, cpus("6-7"))]),
        emulator: None,
        iothreads: BTreeMap::from([(2, cpus("5"))]),
    };
    // The core of CPU 0 is taken, so vCPU 0 gets the other one.
    assert_eq!(shown(&pinned(&guest, 2, &[0], &host)), "2 0 6-7 | 1,3 5 | 1,3");
    guest.pins.emulator = Some(cpus("4"));
    assert_eq!(pinned(&guest, 0, &[0], &host).emulator, cpus("4"));
    guest.pins.vcpus.insert(0, cpus("99"));
    let advice = advice(&host, &[0]);
    let shape = Shape::of(&guest, Some(&advice), &host).unwrap();
    let error = ThreadCpus::of(&guest, 0, Some(&advice), &host, &shape).unwrap_err().to_string();
    assert_eq!(error, "cannot run vCPU 0 on CPUs 99: none of them is online; this host has 0-7");
}

#[test]
fn a_cpu_named_by_hand_that_another_guest_owns_stays_its() {
    let Some(host) = host("two-nodes") else { return };
    let host = with_claimed(&host, "1,4");
    let mut guest = guest(2, ThreadPin::Cores);
    guest.pins.vcpus = BTreeMap::from([(0, cpus("0")), (1, cpus("1"))]);
    let threads = pinned(&guest, 0, &[0], &host);
    assert_eq!((threads.vcpus[1].to_string(), threads.own.to_string()), ("1".into(), "0".into()));
    let shared = "CPUs 1 belong to other guests (`placer ps` lists them): vCPUs share them";
    assert_eq!(threads.notes, [shared]);
    // The claim says where the threads are, since not each has a CPU of its own.
    assert_eq!(threads.claimed(), (cpus("0"), threads.process.clone()));
}

#[test]
fn the_definitions_own_cpus_hold_its_threads() {
    let Some(host) = host("two-nodes") else { return };
    let mut guest = guest(2, ThreadPin::Cores);
    guest.placement = CpuPlacement::Fixed(cpus("1,4-5"));
    let threads = pinned(&guest, 0, &[0, 1], &host);
    assert_eq!((shown(&threads), threads.process), ("1 4 |  | 5".to_owned(), cpus("1,4-5")));
}

#[test]
fn without_advice_it_is_all_cpus() {
    let Some(host) = host("two-nodes") else { return };
    let mut guest = guest(1, ThreadPin::Nodes);
    guest.placement = CpuPlacement::All;
    let shape = Shape::of(&guest, None, &host).unwrap();
    let threads = ThreadCpus::of(&guest, 0, None, &host, &shape).unwrap();
    assert_eq!(shown(&threads), "0-7 |  | 0-7");
}

const HOSTS: [&str; 6] = ["two-nodes", "uneven-8", "isolated-4", "cpuless", "sixteen", "memless"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_thread_runs_somewhere_that_it_may(
        host_at in 0..HOSTS.len(),
        vcpus in 1_u32..40,
        mask in 1_u32..256,
        cores in any::<bool>(),
        isolated in any::<bool>(),
        iothreads in 0_u32..3,
    ) {
        let Some(host) = host(HOSTS[host_at]) else { return Ok(()) };
        let topology = host.topology();
        let ids: Vec<u32> = topology.nodes().iter().map(|node| node.id.0).collect();
        let nodes: Vec<u32> = ids.iter().copied().filter(|id| mask >> (id % 8) & 1 == 1).collect();
        prop_assume!(!nodes.is_empty());
        let pin = if cores { ThreadPin::Cores } else { ThreadPin::Nodes };
        let mut guest = guest(vcpus, pin);
        guest.isolated = isolated;
        let advice = advice(&host, &nodes);
        prop_assume!(!advice.cpus.is_empty());
        let shape = Shape::of(&guest, Some(&advice), &host).expect("a shape");
        let threads = ThreadCpus::of(&guest, iothreads, Some(&advice), &host, &shape).expect("CPUs");

        // The shape is a partition of the vCPUs, and all of the memory.
        prop_assert_eq!(shape.total(), guest.memory.maximum);
        for vcpu in 0..vcpus {
            prop_assert_eq!(shape.cells.iter().filter(|cell| cell.has(vcpu)).count(), 1);
        }
        prop_assert_eq!(threads.vcpus.len(), usize::try_from(vcpus).unwrap());
        prop_assert_eq!(threads.iothreads.len(), usize::try_from(iothreads).unwrap());
        let own = topology.isolated();
        for cpus in &threads.vcpus {
            let may = if cores && isolated { advice.cpus.union(own) } else { advice.cpus.clone() };
            prop_assert!(!cpus.is_empty() && cpus.is_subset(&may));
        }
        for cpus in threads.iothreads.iter().chain([&threads.emulator]) {
            prop_assert!(!cpus.is_empty() && cpus.is_subset(&advice.cpus));
        }
        if cores {
            let single: Vec<&CpuSet> = threads.vcpus.iter().filter(|cpus| cpus.len() == 1).collect();
            let used = single.iter().fold(CpuSet::new(), |all, cpus| all.union(cpus));
            // Roaming ones on a node of one CPU look single; then all of the node is taken anyway.
            if threads.notes.is_empty() {
                let count = u64::try_from(single.len()).unwrap();
                prop_assert_eq!((used.len(), count), (u64::from(vcpus), u64::from(vcpus)));
            }
            // Nobody shares a core of a node while another core of it has no vCPU.
            for node in topology.nodes().iter().filter(|_| !isolated) {
                let here = node.cpus.intersection(&advice.cpus);
                let shared = node.cores.iter().any(|core| core.intersection(&used).len() > 1);
                let lone = node.cores.iter().any(|core| {
                    !core.intersection(&here).is_empty() && core.intersection(&used).is_empty()
                });
                prop_assert!(!(shared && lone), "node {}", node.id);
            }
        }
    }
}

/// The host with these CPUs claimed by others.
fn with_claimed(host: &Snapshot, list: &str) -> Snapshot {
    let mut charges = host.charges().clone();
    charges.add_pinned(&cpus(list));
    host.clone().with_charges(charges)
}

#[test]
fn cores_that_another_guest_has_claimed_are_left_to_it() {
    // Cores of two threads: 0-1, 2-3 on node 0, 4-5, 6-7 on node 1.
    let Some(host) = host("two-nodes") else { return };
    let guest = guest(2, ThreadPin::Cores);
    let of = |claimed: &str| pinned(&guest, 0, &[0, 1], &with_claimed(&host, claimed));
    // A core that is whole before a thread beside another guest's.
    assert_eq!(shown(&of("0")), "2 6 |  | 4-5");
    assert_eq!(of("0").own, cpus("2,6"));
    assert_eq!(shown(&of("0,2")), "1 6 |  | 4-5");
    // Nothing is left on one node: its vCPU roams there, and has nothing for itself.
    let full = of("0-3");
    assert_eq!((shown(&full).as_str(), full.own.to_string().as_str()), ("0-3 6 |  | 4-5", "6"));
    assert_eq!(full.notes, ["vCPUs 0 have no CPU of their own: they run on all of their nodes"]);
    // Threads that roam are in nobody's way to a claim.
    assert!(pinned(&super::tests::guest(2, ThreadPin::Nodes), 0, &[0], &host).own.is_empty());
}

proptest! {
    #[test]
    fn two_guests_never_have_the_same_cpu_for_themselves(
        first in 1_u32..9, second in 1_u32..9, nodes in 1_u32..4, before in 0_u32..16,
    ) {
        let Some(host) = host("two-nodes") else { return Ok(()) };
        let nodes: Vec<u32> = (0..2).filter(|node| nodes >> node & 1 == 1).collect();
        let before: CpuSet = (0..4).filter(|cpu| before >> cpu & 1 == 1).map(CpuId).collect();
        let mut claimed = before.clone();
        for count in [first, second] {
            let mut charges = host.charges().clone();
            charges.add_pinned(&claimed);
            let host = host.clone().with_charges(charges);
            let own = pinned(&guest(count, ThreadPin::Cores), 0, &nodes, &host).own;
            prop_assert!(own.intersection(&claimed).is_empty(), "{own} of {claimed}");
            claimed = claimed.union(&own);
        }
    }
}
