//! Guests whose threads run on several caches although one could hold them.

use placer_engine::policy::cache::Rules;
use placer_engine::{CpuSet, NodeId};

use super::Finding;
use crate::report::view::{Domain, Guest, View, count};

/// A cache, and how many CPUs of it no guest has.
struct Room<'a> {
    node: NodeId,
    domain: &'a Domain,
    cpus: f64,
}

/// Finds guests across caches, by the CPUs that claims record. `seen` knows the CPUs that all threads of a guest may
/// use now; in a recording those of its claim, [`recorded`].
///
/// Each guest is shown a cache with room for it beside those found before.
pub fn across(view: &View, seen: impl Fn(&Guest) -> Option<CpuSet>) -> Vec<Finding> {
    if view.nodes_with_caches().next().is_none() {
        return Vec::new();
    }
    let guests: Vec<(&Guest, CpuSet)> = view
        .guests
        .iter()
        .flatten()
        .filter_map(|guest| Some((guest, runs_on(guest, seen(guest))?)))
        .collect();
    let caches = view
        .nodes_with_caches()
        .flat_map(|node| node.domains.iter().map(|domain| (node.id, domain)));
    let room = |(node, domain): (NodeId, _)| {
        let taken: f64 = guests.iter().map(|(guest, cpus)| part(guest, cpus, domain)).sum();
        Room { node, domain, cpus: count(domain.cpus.len()) - taken }
    };
    let mut rooms: Vec<Room<'_>> = caches.map(room).collect();
    guests.iter().filter_map(|(guest, cpus)| one(guest, cpus, &mut rooms)).collect()
}

/// Returns the CPUs that the threads of a guest run on: those it owns, or those they may all use now, of them those
/// that its claim records. `None` where the latter is not known: no one command puts right threads that differ.
fn runs_on(guest: &Guest, seen: Option<CpuSet>) -> Option<CpuSet> {
    if !guest.owns.is_empty() {
        return Some(guest.owns.clone());
    }
    let seen = seen?;
    let both = seen.intersection(&guest.bound);
    Some(if both.is_empty() { seen } else { both })
}

/// Returns the CPUs of a guest's claim, where it records any: all that is known in a recording.
pub fn recorded(guest: &Guest) -> Option<CpuSet> {
    Some(guest.bound.clone()).filter(|bound| !bound.is_empty())
}

/// Returns how many CPUs of a cache a guest takes: those it owns there, or its share by the CPUs it may use.
fn part(guest: &Guest, cpus: &CpuSet, domain: &Domain) -> f64 {
    let here = count(cpus.intersection(&domain.cpus).len());
    if guest.owns.is_empty() {
        guest.cpus.as_cpus() * here / count(cpus.len().max(1))
    } else {
        here
    }
}

fn one(guest: &Guest, cpus: &CpuSet, rooms: &mut [Room<'_>]) -> Option<Finding> {
    let (pid, nodes) = (guest.pid?, guest.nodes());
    if nodes.len() != 1 {
        return None;
    }
    let wanted = guest.cpus.as_cpus();
    let here = |(_, room): &(usize, &Room<'_>)| nodes.contains(room.node);
    let shares: Vec<f64> = rooms
        .iter()
        .filter(|room| nodes.contains(room.node))
        .map(|room| count(cpus.intersection(&room.domain.cpus).len()))
        .filter(|share| *share > 0.0)
        .collect();
    // With one thread at a time there is no other to share data with.
    if shares.len() < 2 || wanted <= 1.0 {
        return None;
    }
    let holds =
        |(_, room): &(usize, &Room<'_>)| room.cpus + part(guest, cpus, room.domain) >= wanted;
    // Its own caches first: the limits of its control group may leave out others.
    let order = |(_, a): &(usize, &Room<'_>), (_, b): &(usize, &Room<'_>)| {
        let is_own = |room: &Room<'_>| room.domain.cpus.is_subset(cpus);
        let by_room = is_own(a).cmp(&is_own(b)).then(a.cpus.total_cmp(&b.cpus));
        by_room.then_with(|| b.domain.cpus.first().cmp(&a.domain.cpus.first()))
    };
    let target = rooms.iter().enumerate().filter(here).filter(holds).max_by(order)?;
    let (at, to) = (target.0, target.1.domain.cpus.clone());
    for (other, room) in rooms.iter_mut().enumerate() {
        room.cpus += part(guest, cpus, room.domain) - if other == at { wanted } else { 0.0 };
    }

    let all: f64 = shares.iter().sum();
    let apart = 1.0 - shares.iter().map(|share| (share / all).powi(2)).sum::<f64>();
    let penalty = f64::from(Rules::default().penalty_percent);
    let cost = format!(
        "about {:.0} % of its speed where threads share data: {:.0} of 100 pairs are on different caches",
        penalty * apart,
        100.0 * apart
    );
    let (mend, undo) = if guest.owns.is_empty() {
        (format!("taskset -acp {to} {pid}"), Some(format!("taskset -acp {cpus} {pid}")))
    } else {
        // Each of its vCPUs has a CPU of its own: they move when it starts again.
        let memory = guest.memory.whole_mib();
        (format!("placer advise {}:{memory}M --cpus --cache require", guest.cpus), None)
    };
    Some(Finding {
        kind: "across-caches",
        text: format!(
            "guest {pid} runs on {} caches (CPUs {cpus}), and one could hold it (CPUs {to})",
            shares.len()
        ),
        cost,
        mend: Some(mend),
        undo,
    })
}

#[cfg(test)]
mod tests {
    use placer_engine::claims::Promise;
    use placer_engine::{Bytes, CpuId, CpuShare};

    use super::*;
    use crate::report::view::CacheClaims;

    fn cpus(list: std::ops::Range<u32>) -> CpuSet {
        list.map(CpuId).collect()
    }

    fn guest(pid: u32, wanted: u64, owns: CpuSet, bound: CpuSet) -> Guest {
        let node = NodeId(0);
        let (cpus, memory) = (CpuShare::from_hundredths(wanted * 100), Bytes::new(1 << 30));
        Guest {
            id: format!("{pid:08x}"),
            pid: Some(pid),
            program: None,
            asked: true,
            pinned: true,
            owns,
            bound,
            balanced: None,
            cpus,
            memory,
            page: None,
            promised: vec![Promise { node, memory, cpus }],
            resident: None,
            now: None,
        }
    }

    /// A node of four caches of four CPUs each.
    fn host(guests: Vec<Guest>) -> View {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/sysfs-fixtures/caches-4");
        let root = placer_engine::SysRoot::at(dir);
        let snapshot = placer_engine::Snapshot::take(&root, std::time::Duration::ZERO);
        let snapshot = snapshot.expect("a good fixture");
        let parts = placer_engine::HostParts::read(&root, snapshot.topology());
        let mut view = View::of(crate::report::view::Sources {
            name: "a host",
            snapshot: &snapshot,
            parts: &parts,
            claims: Some(&[]),
            owners: &std::collections::BTreeMap::new(),
        });
        assert_eq!(view.nodes[0].domains.len(), 4);
        assert_eq!(view.nodes[0].domains[0].claimed, Some(CacheClaims::default()));
        view.guests = Some(guests);
        view
    }

    fn lines(view: &View) -> Vec<(String, Option<String>, Option<String>)> {
        across(view, recorded).into_iter().map(|f| (f.text, f.mend, f.undo)).collect()
    }

    #[test]
    fn each_guest_is_shown_a_cache_of_its_own() {
        let none = CpuSet::new;
        let view = host(vec![
            guest(1, 4, none(), cpus(0..8)),
            guest(2, 4, none(), cpus(0..8)),
            guest(3, 4, none(), cpus(12..16)),
        ]);
        let found = lines(&view);
        let line = |pid: u32, to: &str| {
            (
                format!(
                    "guest {pid} runs on 2 caches (CPUs 0-7), and one could hold it (CPUs {to})"
                ),
                Some(format!("taskset -acp {to} {pid}")),
                Some(format!("taskset -acp 0-7 {pid}")),
            )
        };
        // Neither fits into a cache that the other has half of: the first gets the free one, and leaves room.
        assert_eq!(found, [line(1, "8-11"), line(2, "0-3")]);
        assert_eq!(
            across(&view, recorded)[0].cost,
            "about 10 % of its speed where threads share data: 50 of 100 pairs are on different caches"
        );
    }

    #[test]
    fn its_own_caches_come_first() {
        let view = host(vec![guest(1, 3, CpuSet::new(), cpus(0..8))]);
        let found = lines(&view);
        assert_eq!(found[0].1.as_deref(), Some("taskset -acp 0-3 1"));
    }

    #[test]
    fn vcpus_with_cpus_of_their_own_are_not_moved() {
        let view = host(vec![guest(1, 4, cpus(2..6), CpuSet::new())]);
        let found = lines(&view);
        assert_eq!(found[0].1.as_deref(), Some("placer advise 4:1024M --cpus --cache require"));
        assert_eq!(found[0].2, None);
    }

    #[test]
    fn guests_that_no_cache_holds_are_no_fault() {
        let none = CpuSet::new;
        let wide = guest(1, 6, none(), cpus(0..8));
        let single = guest(2, 1, none(), cpus(8..16));
        let unknown = guest(3, 2, none(), none());
        assert_eq!(lines(&host(vec![wide, single, unknown])), []);
        // All caches belong to others.
        let owners = (0..4).map(|at| guest(10 + at, 2, cpus(at * 4..at * 4 + 2), none()));
        let across = guest(1, 3, none(), cpus(0..8));
        assert_eq!(lines(&host(owners.chain([across]).collect())), []);
    }

    #[test]
    fn a_guest_that_was_mended_is_found_no_more() {
        let view = host(vec![guest(1, 4, CpuSet::new(), cpus(0..8))]);
        assert_eq!(across(&view, recorded).len(), 1);
        assert_eq!(across(&view, |_| Some(cpus(4..8))), []);
    }

    #[test]
    fn what_is_seen_of_processes_counts_where_claims_have_no_cpus() {
        let view = host(vec![guest(7, 2, CpuSet::new(), CpuSet::new())]);
        let found = across(&view, |guest| (guest.pid == Some(7)).then(|| cpus(0..16)));
        assert_eq!(found[0].mend.as_deref(), Some("taskset -acp 0-3 7"));
        assert_eq!(found[0].undo.as_deref(), Some("taskset -acp 0-15 7"));
    }
}
