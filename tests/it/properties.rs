//! What holds for every machine and every request, on random ones with gaps between their ids.

use testkit::machine;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use placer_engine::policy::numad::{NodeFigures, Query, Rules, Version, choose};
use placer_engine::source::{HostReader, two_samples};
use placer_engine::{
    Advice, Bytes, CpuId, CpuSet, CpuShare, Host, Id, IdSet, Limits, NodeId, NodeSet, NodeState,
    Policy, Request, Snapshot, SysRoot, advise, parse,
};
use proptest::prelude::*;

use machine::{Machine, NODES, Rng, any_machine, put_file, scratch, status};

/// Machines of any shape, drawn by a seed.
fn machines() -> impl Strategy<Value = Machine> {
    any::<u64>().prop_map(|seed| any_machine(&mut Rng::new(seed)))
}

/// Machines whose nodes all have CPUs and between 2 and 10 GiB of memory, so that placer keeps back
/// as much of each node as numad does.
fn plain_machines() -> impl Strategy<Value = Machine> {
    let node = (1_u32..5, 1_u32..9, 2_u64 << 20..10 << 20, 0_u64..=100);
    prop::collection::vec(node, 1..8).prop_map(|nodes| {
        let (mut machine, mut id, mut cpu) = (Machine::new(), 0, 0);
        for (gap, cpus, total, percent) in nodes {
            id += gap;
            machine = machine.node(id, cpu..cpu + cpus, total, total * percent / 100);
            machine = machine.idle(cpu, percent);
            cpu += cpus;
        }
        machine
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let cpus = prop_oneof![0_u64..500, 0_u64..10_000];
    let memory = prop_oneof![0_u64..4 << 30, 0_u64..100 << 30];
    (cpus, memory, versions()).prop_map(|(hundredths, bytes, version)| {
        Request::new(CpuShare::from_hundredths(hundredths), Bytes::new(bytes))
            .with_policy(Policy::Numad(Rules::lenient(version)))
    })
}

fn versions() -> impl Strategy<Value = Version> {
    prop::sample::select(Version::ALL.to_vec())
}

/// Limits as of a process in a cpuset: any ids, those of the machine and others.
fn limits() -> impl Strategy<Value = Limits> {
    fn some<T: Id>(of: u32) -> impl Strategy<Value = Option<IdSet<T>>> {
        prop::option::of(prop::collection::vec(0..of, 0..20))
            .prop_map(|ids| ids.map(|ids| ids.into_iter().map(T::from_number).collect()))
    }
    (some::<CpuId>(70), some::<NodeId>(20)).prop_map(|(cpus, nodes)| Limits {
        cpus,
        memory_nodes: nodes,
        ..Limits::default()
    })
}

fn within<T: Id>(ids: &IdSet<T>, allowed: Option<&IdSet<T>>) -> bool {
    allowed.is_none_or(|allowed| ids.is_subset(allowed))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn advice_stays_within_what_is_allowed(
        machine in machines(), request in requests(), limits in limits(),
    ) {
        let snapshot = machine.snapshot();
        let host = snapshot.topology().node_set();
        let request = request.with_limits(limits.clone());
        match advise(&snapshot, &request) {
            Ok(advice) => {
                prop_assert!(!advice.nodes.is_empty());
                prop_assert!(advice.nodes.is_subset(&host), "{} of {host}", advice.nodes);
                prop_assert!(advice.memory_nodes.is_subset(&advice.nodes));
                prop_assert!(within(&advice.memory_nodes, limits.memory_nodes.as_ref()));
                prop_assert!(within(&advice.cpus, limits.cpus.as_ref()));
                let cpus = snapshot.topology().cpus_of(&advice.nodes);
                prop_assert!(advice.cpus.is_subset(&cpus));
            }
            // Only where memory is asked for and none may be used.
            Err(error) => {
                let has = |node: &&NodeState| node.memory_total.is_some_and(|t| t > Bytes::ZERO);
                let mut left = snapshot.nodes().iter().filter(has).map(|node| node.id);
                let allowed = |id| limits.memory_nodes.as_ref().is_none_or(|all| all.contains(id));
                prop_assert!(request.memory > Bytes::ZERO && !left.any(allowed), "{error}");
            }
        }
    }

    #[test]
    fn an_advice_adds_up(machine in machines(), request in requests()) {
        let advice = advise(&machine.snapshot(), &request).expect("an answer on a good machine");
        let Advice { nodes, split, slowdown, .. } = &advice;
        let split_nodes: NodeSet = split.iter().map(|share| share.node).collect();
        // Where the nodes have no CPU or can promise no memory, nothing is split.
        let nothing = slowdown.is_none() && split.is_empty();
        prop_assert!(nothing || &split_nodes == nodes, "{split:?}");
        prop_assert!(split.windows(2).all(|pair| pair[0].node < pair[1].node));
        prop_assert!(slowdown.is_none_or(|s| s.is_finite() && s >= 0.0), "{slowdown:?}");
        prop_assert!(split.iter().all(|share| share.cpus.is_finite() && share.cpus >= 0.0));
        let memory: Bytes = split.iter().map(|share| share.memory).sum();
        let least = Bytes::new(1 << 20);
        let most = request.memory.max(least).saturating_add(Bytes::new(64));
        prop_assert!(memory <= most, "{} of {}", memory.get(), request.memory.get());
        if let Some(short) = advice.shortfall {
            prop_assert!(short.cpus > CpuShare::ZERO || short.memory > Bytes::ZERO);
            prop_assert!(short.cpus <= request.cpus && short.memory <= request.memory);
        }
    }

    #[test]
    fn the_same_snapshot_gives_the_same_advice(machine in machines(), request in requests()) {
        let snapshot = machine.snapshot();
        let advice = advise(&snapshot, &request);
        prop_assert_eq!(&advise(&snapshot, &request), &advice);
        prop_assert_eq!(&advise(&machine.snapshot(), &request), &advice);
        // What the kernel lists elsewhere in the directory is no reason for other figures.
        prop_assert_eq!(&advise(&snapshot.clone(), &request.clone()), &advice);
    }

    #[test]
    fn nothing_fits_only_where_the_whole_machine_is_too_small(
        machine in plain_machines(), request in requests(),
    ) {
        let snapshot = machine.snapshot();
        let kept_back = Bytes::new(100 << 20);
        let free = snapshot.nodes().iter().filter_map(|node| node.memory_free);
        let free: Bytes = free.map(|free| free.saturating_sub(kept_back)).sum();
        let cpus: u64 = snapshot.nodes().iter().map(|node| node.cpus.len()).sum();
        // A node is rounded down to whole MiB before it is compared with the request.
        let slack = Bytes::new(u64::try_from(snapshot.nodes().len()).expect("few") << 20);
        let roomy = request.memory.saturating_add(slack) <= free;
        let enough = request.cpus <= CpuShare::from_cpus(cpus).expect("few");
        let advice = advise(&snapshot, &request).expect("an answer");
        let fits = advice.fits();
        if roomy && enough {
            // numad rounds its figures and keeps nothing back, so a set that it takes for large enough can be short of
            // memory. There is room nevertheless, which policy best finds.
            let by_best = Request { policy: Policy::default(), ..request.clone() };
            let is_numads = matches!(request.policy, Policy::Numad(_));
            prop_assert!(fits || is_numads, "{:?}", advice.shortfall);
            prop_assert!(advise(&snapshot, &by_best).expect("an answer").fits());
        }
        if fits {
            prop_assert!(enough && request.memory <= free);
        }
    }

    #[test]
    fn more_free_memory_never_turns_fits_into_unfit(
        machine in plain_machines(), request in requests(), more in prop::collection::vec(0_u64..8 << 20, 8),
    ) {
        let snapshot = machine.snapshot();
        let before = advise(&snapshot, &request).expect("an answer");
        let roomier = snapshot.nodes().iter().zip(more).fold(machine.clone(), |machine, (node, more)| {
            let (total, free) = (node.memory_total, node.memory_free);
            let kib = |bytes: Option<Bytes>| bytes.unwrap_or_default().whole_kib();
            machine.free(node.id.0, (kib(free) + more).min(kib(total)))
        });
        let after = advise(&roomier.snapshot(), &request).expect("an answer");
        prop_assert!(after.fits() || !before.fits(), "{before:?}\n{after:?}");
    }

    #[test]
    fn more_free_memory_on_the_same_nodes_is_never_short_of_more(
        machine in machines(), request in requests(), more in 0_u64..8 << 20,
    ) {
        let snapshot = machine.snapshot();
        let before = advise(&snapshot, &request).expect("an answer");
        let roomier = snapshot.nodes().iter().fold(machine.clone(), |machine, node| {
            machine.free(node.id.0, node.memory_free.unwrap_or_default().whole_kib() + more)
        });
        let after = advise(&roomier.snapshot(), &request).expect("an answer");
        let short = |advice: &Advice| advice.shortfall.map_or(Bytes::ZERO, |short| short.memory);
        if after.nodes == before.nodes {
            prop_assert!(short(&after) <= short(&before));
        }
    }

    #[test]
    fn printed_sets_read_back(ids in prop::collection::vec(0..=parse::list::MAX_ID, 0..60)) {
        let cpus: CpuSet = ids.iter().copied().map(CpuId).collect();
        prop_assert_eq!(parse::list::parse(cpus.to_string().as_bytes()), Ok(cpus));
        let nodes: NodeSet = ids.into_iter().map(NodeId).collect();
        prop_assert_eq!(parse::list::parse(format!("{nodes}\n").as_bytes()), Ok(nodes));
    }

    #[test]
    fn sets_are_sets(
        a in prop::collection::btree_set(0_u32..60, 0..40),
        b in prop::collection::btree_set(0_u32..60, 0..40),
        offset in prop_oneof![Just(0), Just(u32::MAX - 59)],
    ) {
        let set = |of: &BTreeSet<u32>| of.iter().map(|id| CpuId(id + offset)).collect::<CpuSet>();
        let (x, y) = (set(&a), set(&b));
        prop_assert_eq!(x.union(&y), set(&a.union(&b).copied().collect()));
        prop_assert_eq!(x.intersection(&y), set(&a.intersection(&b).copied().collect()));
        prop_assert_eq!(x.difference(&y), set(&a.difference(&b).copied().collect()));
        prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
        prop_assert_eq!(x.len(), u64::try_from(a.len()).expect("few"));
        prop_assert!(x.iter().map(|id| id.0 - offset).eq(a.iter().copied()));
        prop_assert_eq!(x.first().map(|id| id.0 - offset), a.first().copied());
        prop_assert_eq!(x.last().map(|id| id.0 - offset), a.last().copied());
    }
}

/// Amounts at the edges of what a figure holds, and some between.
fn figures() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(99),
        Just(100),
        Just(1 << 31),
        Just((1 << 31) - 1),
        Just(1 << 32),
        Just(1 << 63),
        Just(u64::MAX),
        Just(u64::MAX - 100),
        any::<u64>(),
        0_u64..100_000,
    ]
}

fn amounts() -> impl Strategy<Value = i32> {
    prop_oneof![Just(0), Just(i32::MAX), Just(i32::MIN), Just(-1), any::<i32>(), 0..100_000,]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn numads_choice_is_made_from_any_figures(
        nodes in prop::collection::vec((0_u32..300, figures(), figures(), figures(), figures()), 0..9),
        cells in prop::collection::vec(0_u64..256, 81),
        short in prop::bool::weighted(0.1),
        cpus in amounts(),
        megabytes in amounts(),
        version in versions(),
    ) {
        let nodes: Vec<NodeFigures> = nodes
            .into_iter()
            .map(|(id, cpus_total, cpus_free, mbs_total, mbs_free)| NodeFigures {
                id: NodeId(id), cpus_total, cpus_free, mbs_total, mbs_free,
            })
            .collect();
        let width = nodes.len() - usize::from(short && !nodes.is_empty());
        let rows: Vec<&[u64]> = cells.chunks(9).map(|row| &row[..width]).take(nodes.len()).collect();
        let query = Query { cpus, megabytes };
        let first = choose(version, &nodes, &rows, query);
        if let Ok(choice) = &first {
            let ids: NodeSet = nodes.iter().map(|node| node.id).collect();
            prop_assert!(choice.nodes.is_subset(&ids) && choice.all.is_subset(&ids));
        }
        prop_assert_eq!(choose(version, &nodes, &rows, query), first);
    }

    #[test]
    fn numads_figures_are_made_of_any_counters(
        machine in machines(),
        ticks in prop::collection::vec((figures(), figures()), 16),
        percent in 0_u64..=100,
        reserved in prop::option::of("[0-9,x-]{0,20}"),
        lenient in any::<bool>(),
        version in versions(),
    ) {
        use placer_engine::{CpuTimes, Instant};
        let snapshot = machine.snapshot();
        let rules = Rules {
            version,
            thread_percent: percent,
            reserved: reserved.map(String::into_bytes),
            lenient,
            count_inactive_file: true,
        };
        let times = |at, pick: fn(&(u64, u64)) -> u64| {
            let counters = (0..).zip(&ticks).map(|(cpu, pair)| (CpuId(cpu), pick(pair)));
            CpuTimes::new(Instant::from_centiseconds(at), counters)
        };
        let mut now = snapshot.sample().clone();
        now.cpu = times(300, |pair| pair.1);
        for at in [100, 300, 900] {
            let before = times(at, |pair| pair.0);
            let figures = snapshot.host().numad.figures(Some(&before), &now, &rules);
            for node in figures.unwrap_or_default() {
                prop_assert!(node.cpus_free <= node.cpus_total);
            }
            let snapshot = Snapshot::new(Arc::clone(snapshot.host()), Some(before), now.clone());
            for node in snapshot.nodes() {
                let idle = node.cpus_idle.unwrap_or_default();
                let cpus = u32::try_from(node.cpus.len()).expect("few");
                prop_assert!((0.0..=f64::from(cpus)).contains(&idle), "{idle} of {cpus}");
            }
        }
    }
}

#[test]
fn what_is_read_from_files_is_what_was_put_in() {
    for seed in 0..60 {
        let machine = any_machine(&mut Rng::new(seed));
        let dir = scratch();
        machine.write(dir.path());
        let root = SysRoot::at(dir.path());
        let read = Snapshot::take(&root, Duration::from_secs(60)).expect("a good machine");
        let bytes = |amount: Option<Bytes>| amount.expect("it is told").get();
        let states: Vec<_> = read
            .nodes()
            .iter()
            .map(|node| {
                let (total, free) = (bytes(node.memory_total), bytes(node.memory_free));
                let idle = node.cpus_idle.expect("it is told");
                (node.id.0, node.cpus.to_string(), total, free, idle)
            })
            .collect();
        assert_eq!(states, machine.states(), "{seed}");
        let distances = read.topology().distances();
        for (from, to) in
            machine.ids().into_iter().flat_map(|a| machine.ids().into_iter().map(move |b| (a, b)))
        {
            let told = distances.and_then(|table| table.get(NodeId(from), NodeId(to)));
            assert_eq!(told.map(|d| d.0), Some(machine.distance_of(from, to)), "{seed}");
        }

        // The same by hand, and again with the same reader.
        let mut reader = HostReader::open_whole(&root).expect("a good machine");
        let host = Host::from_files(reader.files()).expect("a good machine");
        for _ in 0..2 {
            let (before, now) = two_samples(&mut reader, None, Duration::ZERO).expect("read");
            let again = Snapshot::new(Arc::new(host.value.clone()), before, now);
            assert_eq!(again.nodes(), read.nodes(), "{seed}");
            assert_eq!(again.sample(), read.sample(), "{seed}");
            for request in ["4:500", "0.5:30G", "40:1"] {
                let request: Request = request.parse().expect("a request");
                assert_eq!(advise(&again, &request), advise(&read, &request), "{seed}");
            }
        }
    }
}

#[test]
fn limits_are_read_from_any_bytes() {
    let dir = scratch();
    let root = SysRoot::at(dir.path());
    let good = status("0-3,8", "0,2-3").into_bytes();
    put_file(dir.path(), "proc/self/status", &good);
    let limits = Limits::read(&root).expect("a good status");
    assert_eq!(limits.cpus.map(|cpus| cpus.to_string()).as_deref(), Some("0-3,8"));
    assert_eq!(limits.memory_nodes.map(|nodes| nodes.to_string()).as_deref(), Some("0,2-3"));

    let mut read = 0;
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let mut bytes = good.clone();
        match seed % 4 {
            0 => bytes.truncate(rng.index(bytes.len() + 1)),
            1 => {
                for _ in 0..=rng.below(6) {
                    let at = rng.index(bytes.len());
                    bytes[at] = rng.byte();
                }
            }
            2 => {
                let odd: &[&[u8]] = &[
                    b"",
                    b"-",
                    b",",
                    b"0-4294967295",
                    b"4294967296",
                    b"5-2",
                    b"\n",
                    b":",
                    b"1/2",
                    b"-1",
                    b"18446744073709551616",
                    b"\0",
                    b"0-",
                    b"\xff",
                    b"\t",
                ];
                let from = rng.index(bytes.len());
                let to = (from + rng.index(40)).min(bytes.len());
                bytes.splice(from..to, rng.pick(odd).iter().copied());
            }
            _ => bytes = (0..rng.below(400)).map(|_| rng.byte()).collect(),
        }
        put_file(dir.path(), "proc/self/status", &bytes);
        // Any answer will do: a panic or an endless loop is none.
        read += usize::from(Limits::read(&root).is_ok());
    }
    assert!(read > 100, "{read} of 3000 were read");
}

#[test]
fn topologies_are_read_from_any_bytes() {
    for seed in 0..300 {
        let dir = scratch();
        let root = SysRoot::at(dir.path());
        let mut rng = Rng::new(seed);
        let machine = any_machine(&mut rng);
        // All but the list of online nodes, so that none of the directories is left out.
        let online = format!("{NODES}/online");
        let mut files: Vec<(String, Vec<u8>)> = machine.files().into_iter().collect();
        files.retain(|(path, _)| *path != online);
        put_file(dir.path(), &online, format!("{}\n", machine.snapshot().topology().node_set()));
        for _ in 0..=rng.below(4) {
            let at = rng.index(files.len());
            let bytes = &mut files[at].1;
            match rng.below(3) {
                0 => bytes.truncate(rng.index(bytes.len() + 1)),
                1 if !bytes.is_empty() => {
                    let at = rng.index(bytes.len());
                    bytes[at] = rng.byte();
                }
                _ => *bytes = (0..rng.below(40)).map(|_| rng.byte()).collect(),
            }
        }
        for (path, bytes) in files {
            put_file(dir.path(), &path, bytes);
        }
        if let Ok(snapshot) = Snapshot::take(&root, Duration::ZERO) {
            let request: Request = "4:500".parse().expect("a request");
            if let Ok(advice) = advise(&snapshot, &request) {
                assert!(advice.nodes.is_subset(&snapshot.topology().node_set()), "{seed}");
            }
        }
    }
}
