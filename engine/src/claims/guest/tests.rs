use super::super::claim::tests::claim;
use super::*;

const GIB: u64 = 1 << 30;

fn part(gib: u64, nodes: Option<&[u32]>) -> Part {
    Part { memory: gib * GIB, page: None, nodes: nodes.map(<[u32]>::to_vec) }
}

fn guest(pid: u32, parts: Vec<Part>) -> Guest {
    let memory = parts.iter().map(|part| part.memory).sum();
    Guest {
        process: ProcessId { pid_namespace: 1, pid, start: 1000 },
        uid: 0,
        spec: Spec { cpus: 4, memory, parts, advised: None },
        libvirt: false,
        allowed: None,
        seen_ns: 7,
        resident: 0,
        huge: 0,
    }
}

fn free() -> Vec<(NodeId, Bytes)> {
    [(0, 6), (1, 2), (4, 0)].map(|(node, gib)| (NodeId(node), Bytes::new(gib * GIB))).to_vec()
}

/// What is claimed of each node in MiB, by the size of the pages.
type Claimed = Vec<(Option<u64>, Vec<(u32, u64)>)>;

fn claimed(guest: &Guest) -> Claimed {
    let claims = guest.claims("boot-1", Instant::default(), &free());
    let of = |claim: &Claim| {
        let on = |p: &Promise| (p.node.0, p.memory.get() >> 20);
        (claim.page.map(Bytes::get), claim.promised.iter().map(on).collect())
    };
    claims.iter().map(of).collect()
}

#[test]
fn what_is_missing_of_a_bound_guest_is_missing_there() {
    let mut bound = guest(5, vec![part(4, Some(&[1]))]);
    assert_eq!(claimed(&bound), [(None, vec![(1, 4096)])]);
    bound.resident = 3 * GIB;
    assert_eq!(claimed(&bound), [(None, vec![(1, 1024)])]);
    bound.resident = 4 * GIB;
    assert_eq!(claimed(&bound), []);
    // Ballooned or swapped out: it comes back.
    bound.resident = GIB;
    assert_eq!(claimed(&bound), [(None, vec![(1, 3072)])]);
    // Two guest nodes, each bound: which of them is missing is not known.
    let mut two = guest(5, vec![part(4, Some(&[0])), part(2, Some(&[1]))]);
    two.resident = 3 * GIB;
    assert_eq!(claimed(&two), [(None, vec![(0, 3072), (1, 2048)])]);
}

#[test]
fn what_may_lie_anywhere_is_spread_by_what_is_free() {
    let mut loose = guest(5, vec![part(4, None)]);
    assert_eq!(claimed(&loose), [(None, vec![(0, 3072), (1, 1024)])]);
    loose.resident = 2 * GIB;
    assert_eq!(claimed(&loose), [(None, vec![(0, 1536), (1, 512)])]);
    assert!(loose.is_spread());
    loose.allowed = Some(vec![1, 4]);
    assert_eq!(claimed(&loose), [(None, vec![(1, 2048)])], "its cpuset");
    loose.allowed = Some(vec![4]);
    assert_eq!(claimed(&loose), [(None, vec![(4, 2048)])], "even where nothing is free");
    assert!(!loose.is_spread());
    let wide = guest(5, vec![part(4, Some(&[0, 1]))]);
    assert_eq!(claimed(&wide), [(None, vec![(0, 3072), (1, 1024)])]);
}

#[test]
fn huge_pages_are_missing_apart() {
    let page = 2 << 20;
    let huge = Part { page: Some(page), ..part(2, Some(&[0])) };
    let mut mixed = guest(5, vec![huge, part(1, Some(&[1]))]);
    let both = [(None, vec![(1, 1024)]), (Some(page), vec![(0, 2048)])];
    assert_eq!(claimed(&mixed), both);
    let ids: Vec<ClaimId> =
        mixed.claims("b", Instant::default(), &free()).iter().map(|claim| claim.id).collect();
    assert_ne!(ids[0], ids[1]);
    mixed.huge = GIB;
    mixed.resident = 9 * GIB;
    assert_eq!(claimed(&mixed), [(Some(page), vec![(0, 1024)])]);
    // Given ordinary memory and backed by huge pages none the less.
    let mut plain = guest(5, vec![part(1, Some(&[1]))]);
    plain.huge = GIB;
    assert_eq!(claimed(&plain), []);
}

const MS: u64 = 1_000_000;

/// A hold of 4 CPUs and so much memory for 30 s, made at so many ms.
fn hold(id: u32, made_ms: u64, gib: &[(u32, u64)]) -> Claim {
    let mib: Vec<_> = gib.iter().map(|&(node, gib)| (node, gib * 1024)).collect();
    let made = Instant::from_nanoseconds(made_ms * MS);
    let until = Instant::from_nanoseconds((made_ms + 30_000) * MS);
    let cpus = CpuShare::from_hundredths(400);
    Claim { owner: Owner::Hold { until }, made, cpus, ..claim(id, &mib) }
}

/// Adopts, and returns which hold each guest has got. `guests` come with their starts, ms.
fn adopted(holds: &[Claim], guests: &[(u64, Guest)]) -> Vec<(u32, u32)> {
    let mut ledger = Ledger::default();
    for hold in holds {
        ledger.add(hold.clone()).expect("room");
    }
    let starts: Vec<(ProcessId, u64)> =
        guests.iter().map(|(start, guest)| (guest.process, *start)).collect();
    let started = |guest: &Guest| {
        starts.iter().find(|(process, _)| *process == guest.process).expect("known").1 * MS
    };
    let guests: Vec<Guest> = guests.iter().map(|(_, guest)| guest.clone()).collect();
    let taken = {
        let owned = |guest: &Guest| guest.process.pid == 99;
        adopt(&mut ledger, &guests, "boot-1", &Principals::default(), started, owned)
    };
    let owners: Vec<(u32, u32)> = ledger
        .claims()
        .iter()
        .filter_map(|claim| Some((claim.id.0, claim.owner.process()?.pid)))
        .collect();
    assert_eq!(taken, owners.len());
    owners
}

#[test]
fn a_hold_goes_to_the_guest_that_was_started_with_it() {
    let one = |pid| guest(pid, vec![part(4, None)]);
    let holds = [hold(1, 50_000, &[(0, 4)])];
    for (what, start, other, taken) in [
        ("started after", 50_500, one(7), true),
        ("in the same tick", 49_990, one(7), true),
        ("before", 49_000, one(7), false),
        ("after it had ended", 80_001, one(7), false),
        ("seen late", 79_000, one(7), true),
        ("has a claim", 51_000, one(99), false),
        ("other memory", 51_000, guest(7, vec![part(5, None)]), false),
        ("bound elsewhere", 51_000, guest(7, vec![part(4, Some(&[1]))]), false),
        ("bound there", 51_000, guest(7, vec![part(4, Some(&[0]))]), true),
    ] {
        let wanted: &[(u32, u32)] = if taken { &[(1, 7)] } else { &[] };
        assert_eq!(adopted(&holds, &[(start, other)]), wanted, "{what}");
    }
    let mut cpus = one(7);
    cpus.spec.cpus = 3;
    assert_eq!(adopted(&holds, &[(51_000, cpus)]), []);
    let mut uneven = one(7);
    uneven.spec.memory -= 1000;
    assert_eq!(adopted(&holds, &[(51_000, uneven)]), [(1, 7)], "libvirt rounds up to MiB");
    let mut elsewhen = holds.clone();
    elsewhen[0].boot = "boot-0".to_owned();
    assert_eq!(adopted(&elsewhen, &[(51_000, one(7))]), []);
}

#[test]
fn libvirts_own_word_decides_between_equals() {
    let holds = [hold(1, 50_000, &[(0, 4)]), hold(2, 50_100, &[(1, 2), (2, 2)])];
    let sent = |pid, nodes: &[u32]| {
        let mut guest = guest(pid, vec![part(4, Some(nodes))]);
        (guest.libvirt, guest.spec.advised) = (true, Some(nodes.to_vec()));
        guest
    };
    let by_hand = |pid| guest(pid, vec![part(4, None)]);
    // The first to start is not the first that asked.
    let guests = [(50_300, sent(7, &[1, 2])), (50_400, sent(8, &[0]))];
    assert_eq!(adopted(&holds, &guests), [(1, 8), (2, 7)]);
    // A QEMU by hand gets what libvirt's guests leave.
    let guests = [(50_300, by_hand(7)), (50_400, sent(8, &[0]))];
    assert_eq!(adopted(&holds, &guests), [(1, 8), (2, 7)]);
    // In the order in which they started, where nothing else tells them apart.
    let guests = [(50_400, by_hand(7)), (50_300, by_hand(8)), (50_500, by_hand(9))];
    assert_eq!(adopted(&holds, &guests), [(1, 8), (2, 7)]);
    // A node without memory is advised, and not among those that libvirt keeps.
    let with_empty = [hold(1, 50_000, &[(0, 4), (3, 0)])];
    assert_eq!(adopted(&with_empty, &[(50_300, sent(7, &[0]))]), [(1, 7)]);
    assert_eq!(adopted(&with_empty, &[(50_300, sent(7, &[0, 1]))]), []);
    assert_eq!(adopted(&with_empty, &[(50_300, sent(7, &[3]))]), []);
}

#[test]
fn a_strangers_hold_is_not_handed_to_another_users_guest() {
    for (holder, runs, taken) in
        [(4242, 0, false), (0, 4242, false), (4242, 4243, false), (4242, 4242, true), (0, 0, true)]
    {
        let mut held = hold(1, 50_000, &[(0, 4)]);
        held.principal = Principal::of_uid(holder);
        let guest = Guest { uid: runs, ..guest(7, vec![part(4, None)]) };
        let owners = adopted(&[held], &[(60_000, guest)]);
        assert_eq!(owners.len(), usize::from(taken), "{holder}'s hold, {runs}'s guest");
    }
}
