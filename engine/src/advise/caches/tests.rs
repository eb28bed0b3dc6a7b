//! The choice of caches through `advise`, on hosts made of the kernel's texts.

#![allow(clippy::panic, reason = "a test may stop where it stands")]

use std::sync::Arc;

use crate::files::{CacheFiles, CoreFiles, HostFiles, NodeFiles, TextFile};
use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::parse::meminfo::NodeMeminfo;
use crate::policy::best::{Prefer, Rules};
use crate::policy::cache;
use crate::policy::cache::{Cores, Mode};
use crate::sample::{CpuTimes, Instant, NodeMemory, Sample};
use crate::units::Bytes;
use crate::{AdviseError, Charges, CpuShare, Host, Policy, Request, Snapshot, advise};

/// A thread as a recorded question writes it: CPU, idle percent, whether a claim owns it.
type Thread = (u32, u64, bool);

/// A host of one node whose caches have these cores.
fn host(caches: &[Vec<Vec<Thread>>], slow: &[u32]) -> Snapshot {
    host_of(&[caches.to_vec()], &[60], slow)
}

/// A host of equal nodes with these caches and so many GiB free.
fn host_of(nodes: &[Vec<Vec<Vec<Thread>>>], free: &[u64], slow: &[u32]) -> Snapshot {
    let caches: Vec<Vec<Vec<Thread>>> = nodes.concat();
    let set = |cpus: &[Thread]| -> CpuSet { cpus.iter().map(|thread| CpuId(thread.0)).collect() };
    let text = |text: String| TextFile { path: "a file".into(), text: text.into_bytes() };
    let all: Vec<Thread> = caches.iter().flatten().flatten().copied().collect();
    let siblings = caches
        .iter()
        .flatten()
        .filter_map(|core| Some((CpuId(core.first()?.0), text(set(core).to_string()))));
    let shared = caches.iter().map(|cores| {
        let cpus = set(&cores.concat());
        let cpu = cpus.first().expect("a CPU");
        CacheFiles { cpu, level: 3, size: Some(Bytes::new(32 << 20)), cpus }
    });
    let cores = CoreFiles {
        siblings: siblings.collect(),
        complete: true,
        caches: shared.collect(),
        slow: slow.iter().map(|&cpu| (CpuId(cpu), 614)).collect(),
    };
    let ids = || 0..u32::try_from(nodes.len()).expect("few nodes");
    let one_node = |(id, caches): (u32, &Vec<Vec<Vec<Thread>>>)| {
        let distances = ids().map(|other| if other == id { "10" } else { "21" });
        NodeFiles {
            id: NodeId(id),
            dir: "node".into(),
            cpulist: Some(text(set(&caches.concat().concat()).to_string())),
            cpumap: None,
            distance: Some(text(distances.collect::<Vec<_>>().join(" "))),
            access: None,
        }
    };
    let files = HostFiles {
        nodes: ids().zip(nodes).map(one_node).collect(),
        cores: Some(cores),
        ..HostFiles::default()
    };
    let host = Arc::new(Host::from_files(&files).expect("a good host").value);
    let times = |at: u64, idle: fn(u64) -> u64| {
        let counters = all.iter().map(|&(cpu, percent, _)| (CpuId(cpu), idle(percent)));
        CpuTimes::new(Instant::from_centiseconds(at), counters)
    };
    let gib = |n: u64| Some(Bytes::new(n << 30));
    let memory = ids().zip(free).map(|(id, &free)| {
        let meminfo = NodeMeminfo { total: gib(64), free: gib(free), ..NodeMeminfo::default() };
        NodeMemory { node: NodeId(id), meminfo: Some(meminfo) }
    });
    let memory = memory.collect();
    let sample = Sample { cpu: times(100, |percent| percent), memory, whole: None };
    let mut charges = Charges::default();
    let taken = all.iter().filter(|thread| thread.2).map(|thread| CpuId(thread.0));
    charges.add_pinned(&taken.collect());
    Snapshot::new(host, Some(times(0, |_| 0)), sample).with_charges(charges)
}

fn request(cpus: f64, prefer: Prefer) -> Request {
    let hundredths = format!("{cpus:.2}").parse::<f64>().expect("a number") * 100.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few CPUs")]
    let cpus = CpuShare::from_hundredths(hundredths.round() as u64);
    let rules = Rules { prefer, ..Rules::default() };
    Request::new(cpus, Bytes::new(1 << 20)).with_policy(Policy::Best(rules))
}

fn idle_core(cpu: u32) -> Vec<Thread> {
    vec![(cpu, 100, false)]
}

#[test]
fn every_golden_row_is_advised_alike() {
    let rows = include_str!("../../../tests/golden/caches.txt");
    let mut asked = 0;
    for row in rows.lines().filter(|row| row.starts_with("nodes")) {
        let parts: Vec<&str> = row.split(" | ").collect();
        let [_, cpus, prefer, caches, answer] = parts[..] else { panic!("five parts in {row}") };
        let thread = |text: &str| {
            let (text, taken) = text.strip_suffix('!').map_or((text, false), |text| (text, true));
            let (cpu, percent) = text.split_once('=').expect("CPU=percent");
            (cpu.parse().expect("a CPU"), percent.parse().expect("percent"), taken)
        };
        let caches: Vec<Vec<Vec<Thread>>> = caches
            .split(" / ")
            .map(|cores| {
                cores.split_whitespace().map(|core| core.split(',').map(thread).collect()).collect()
            })
            .collect();
        let prefer = if prefer == "pack" { Prefer::Pack } else { Prefer::Room };
        let snapshot = host(&caches, &[]);
        let request = request(cpus.parse().expect("a number"), prefer);
        let advice = advise(&snapshot, &request).expect("an answer");
        let wanted: Vec<&str> = answer.split(' ').collect();
        let wanted_cpus: CpuSet =
            wanted[2].split(',').map(|cpu| CpuId(cpu.parse().expect("a CPU"))).collect();
        assert_eq!(advice.cpus, wanted_cpus, "{row}");
        assert_eq!(advice.cache_cost, wanted[1].parse().ok(), "{row}");
        assert_eq!(advice.caches.len(), wanted[0].split(',').count(), "{row}");
        asked += 1;
    }
    assert!(asked > 150, "{asked} rows");
}

#[test]
fn eight_vcpus_get_the_idle_cache_of_four() {
    // Three caches half busy, one idle: looking at the node alone, all 32 CPUs would do.
    let cache = |first: u32, idle: u64| -> Vec<Vec<Thread>> {
        (first..first + 8).map(|cpu| vec![(cpu, idle, false)]).collect()
    };
    let snapshot = host(&[cache(0, 50), cache(8, 50), cache(16, 50), cache(24, 100)], &[]);
    let advice = advise(&snapshot, &request(8.0, Prefer::Room)).expect("an answer");
    assert_eq!(advice.cpus.to_string(), "24-31");
    assert_eq!(advice.cache_cost, Some(1.0));
    let ignoring =
        request(8.0, Prefer::Room).with_cache(cache::Rules::default().with_mode(Mode::Ignore));
    let advice = advise(&snapshot, &ignoring).expect("an answer");
    assert_eq!((advice.cpus.to_string(), advice.caches.len()), ("0-31".to_owned(), 0));
}

#[test]
fn a_guest_that_no_cache_holds_is_refused_where_one_is_required() {
    let cache = |first: u32| (first..first + 4).map(idle_core).collect::<Vec<_>>();
    let snapshot = host(&[cache(0), cache(4)], &[]);
    let required = |cpus| {
        request(cpus, Prefer::Room).with_cache(cache::Rules::default().with_mode(Mode::Require))
    };
    assert_eq!(advise(&snapshot, &required(4.0)).expect("one cache").caches.len(), 1);
    let error = advise(&snapshot, &required(5.0)).expect_err("no cache has 5 CPUs");
    assert!(matches!(error, AdviseError::NoCache { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "no last-level cache has 5 free CPUs: at most 4 are free in one (omit --cache require to use several)"
    );
}

/// One cache required, with so much memory.
fn required(cpus: f64, gib: u64) -> Request {
    let request = request(cpus, Prefer::Room);
    Request { memory: Bytes::new(gib << 30), ..request }
        .with_cache(cache::Rules::default().with_mode(Mode::Require))
}

/// A cache of cores of one thread that idles so much.
fn cache_of(cpus: std::ops::Range<u32>, idle: u64) -> Vec<Vec<Thread>> {
    cpus.map(|cpu| vec![(cpu, idle, false)]).collect()
}

#[test]
fn a_required_cache_is_taken_where_the_advised_node_has_none() {
    // Node 0 is idle and its caches are small, node 1 is busy and has the only cache that holds the guest.
    let small = vec![cache_of(0..4, 100), cache_of(4..8, 100)];
    let large = vec![cache_of(8..14, 60), cache_of(14..16, 100)];
    let snapshot = host_of(&[small, large], &[60, 40], &[]);
    let preferred = advise(&snapshot, &request(6.0, Prefer::Room)).expect("an answer");
    assert_eq!(preferred.nodes.to_string(), "0");
    let advice = advise(&snapshot, &required(6.0, 1)).expect("one cache holds it");
    assert_eq!((advice.nodes.to_string(), advice.cpus.to_string()), ("1".into(), "8-13".into()));
    assert_eq!(advice.usable_cpus.to_string(), "8-13", "for pinned guests too");
    let error = advise(&snapshot, &required(7.0, 1)).expect_err("no cache has 7 CPUs");
    assert!(error.to_string().contains("at most 6 are free in one"), "{error}");
    // Only the nodes that may be used count.
    let within = required(6.0, 1).with_nodes([NodeId(0)].into_iter().collect());
    let error = advise(&snapshot, &within).expect_err("no cache of node 0 has 6 CPUs");
    assert!(error.to_string().contains("at most 4 are free in one"), "{error}");
}

#[test]
fn a_required_cache_may_have_its_memory_on_several_nodes() {
    let node = |first| vec![cache_of(first..first + 4, 100), cache_of(first + 4..first + 8, 100)];
    let snapshot = host_of(&[node(0), node(8)], &[60, 40], &[]);
    let advice = advise(&snapshot, &required(4.0, 80)).expect("one cache holds it");
    assert!(advice.fits());
    assert_eq!((advice.memory_nodes.to_string(), advice.caches.len()), ("0-1".into(), 1));
    assert_eq!(advice.cpus.to_string(), "0-3");
    // Too much for the host: that is what is said, whatever the caches.
    let advice = advise(&snapshot, &required(4.0, 200)).expect("an answer");
    assert!(advice.shortfall.is_some_and(|short| short.memory > Bytes::ZERO));
    // Without a penalty a cache can be required still.
    let free = required(4.0, 1)
        .with_cache(cache::Rules::default().with_mode(Mode::Require).with_penalty(0));
    assert_eq!(advise(&snapshot, &free).expect("one cache").caches.len(), 1);
}

#[test]
fn slow_cores_are_used_last() {
    // Four fast cores, eight slow ones behind the same cache.
    let cores: Vec<Vec<Thread>> = (0..12).map(idle_core).collect();
    let slow: Vec<u32> = (4..12).collect();
    let snapshot = host(&[cores], &slow);
    let cpus = |cpus, kind| {
        let rules = cache::Rules::default().with_cores(kind);
        let request = request(cpus, Prefer::Room).with_cache(rules);
        advise(&snapshot, &request).expect("an answer").cpus.to_string()
    };
    assert_eq!(cpus(4.0, Cores::Any), "0-3");
    assert_eq!(cpus(6.0, Cores::Any), "0-11");
    assert_eq!(cpus(4.0, Cores::Efficient), "4-11");
    assert_eq!(cpus(2.0, Cores::Fast), "0-3");
}

#[test]
fn of_equal_nodes_the_one_with_an_idle_cache_is_preferred() {
    let cache = |first: u32, idle: u64| -> Vec<Vec<Thread>> {
        (first..first + 8).map(|cpu| vec![(cpu, idle, false)]).collect()
    };
    // As many idle CPUs on both; node 0 has more room, but its idle CPUs are in two caches.
    let straddled = vec![cache(0, 50), cache(8, 50)];
    let whole = vec![cache(16, 100), cache(24, 0)];
    let snapshot = host_of(&[straddled, whole], &[60, 40], &[]);
    let advice = advise(&snapshot, &request(8.0, Prefer::Room)).expect("an answer");
    assert_eq!((advice.nodes.to_string(), advice.cpus.to_string()), ("1".into(), "16-23".into()));
    let ignoring = request(8.0, Prefer::Room).with_cache(cache::Rules::default().with_penalty(0));
    let advice = advise(&snapshot, &ignoring).expect("an answer");
    assert_eq!((advice.nodes.to_string(), advice.cpus.to_string()), ("0".into(), "0-15".into()));
}

/// Two caches of four cores, and what claims say of them.
fn two_caches(charge: impl Fn(&mut Charges)) -> Snapshot {
    let cache = |first: u32| (first..first + 4).map(idle_core).collect::<Vec<_>>();
    let mut charges = Charges::default();
    charge(&mut charges);
    host(&[cache(0), cache(4)], &[]).with_charges(charges)
}

fn cpus(range: std::ops::Range<u32>) -> CpuSet {
    range.map(CpuId).collect()
}

#[test]
fn a_second_roaming_guest_takes_another_cache() {
    let free = two_caches(|_| ());
    let asked = request(2.0, Prefer::Room);
    let first = advise(&free, &asked).expect("an answer");
    assert_eq!(first.cpus, cpus(0..4));
    let of_first = |charges: &mut Charges| {
        let share = CpuShare::from_hundredths(200);
        charges.add_shared(&first.cpus);
        let charge = charges.of_mut(NodeId(0));
        charge.cpus = share;
        charge.add_roaming(&first.cpus, share);
    };
    let claimed = two_caches(of_first);
    let second = advise(&claimed, &asked).expect("an answer");
    assert_eq!(second.cpus, cpus(4..8), "the claim's cache counts");
    // So it is for pinned guests.
    let pinned = |snapshot| super::pin_cpus(snapshot, &cpus(0..8), &CpuSet::new(), 3);
    assert_eq!(pinned(&free), [0, 1, 2].map(CpuId));
    assert_eq!(pinned(&claimed), [4, 5, 6].map(CpuId));
    // Where it is not known which cache a claim is in, it counts in all alike, and the first is as good.
    let anywhere = two_caches(|charges| {
        charges.of_mut(NodeId(0)).cpus = CpuShare::from_hundredths(200);
    });
    assert_eq!(advise(&anywhere, &asked).expect("an answer").cpus, cpus(0..4));
    let explained = |snapshot: &Snapshot, advice| {
        let version = crate::policy::numad::Version::default();
        let why = crate::explain(snapshot, &asked, advice, version).expect("an explanation");
        let free = why.free_caches.expect("a choice of caches");
        free.into_iter().map(|share| share.cpus).collect::<Vec<_>>()
    };
    assert_eq!(explained(&free, &first), [cpus(0..4), cpus(4..8)]);
    assert_eq!(explained(&claimed, &second), [cpus(4..8)]);
}

#[test]
fn guests_of_several_caches_take_from_each_what_is_idle_there() {
    let snapshot = two_caches(|charges| {
        let share = CpuShare::from_hundredths(400);
        let charge = charges.of_mut(NodeId(0));
        charge.cpus = share;
        charge.add_roaming(&cpus(2..8), share);
    });
    let node = &snapshot.topology().nodes()[0];
    let offers = super::offers(&snapshot, node, &node.cpus, 20);
    // Two of its six CPUs are in the first cache.
    let idle: Vec<f64> = offers.iter().map(|offer| (offer.idle * 1e3).round() / 1e3).collect();
    assert_eq!(idle, [2.667, 1.333]);
}
