//! What one claim still takes from the nodes: promised, and not yet visible as used.

use super::claim::{Claim, Origin};
use crate::charges::{Charges, Overcommit};
use crate::ids::NodeId;
use crate::units::{Bytes, CpuShare};

/// Adds what a claim still takes from each node.
///
/// Memory: `promised - max(0, resident - promised on the other nodes)`, so it is right without
/// figures node by node: what is resident is first taken to lie on all other nodes. That is the
/// same as: what was promised here, and no more than the guest still lacks. Where figures of a
/// cgroup are there, a node's own resident memory counts. `overcommit` goes along with the charges:
/// what it comes to depends on what is free.
///
/// CPUs: those that the guest has not been seen to use, spread as they were promised.
pub(super) fn add(charges: &mut Charges, claim: &Claim, overcommit: Overcommit) {
    charges.set_overcommit(overcommit);
    charges.add_pinned(&claim.pinned);
    charges.add_shared(&claim.roaming);
    let seen = claim.seen.as_ref();
    let resident = match (seen, claim.page) {
        // What was observed is claimed for what is missing alone.
        _ if claim.origin == Origin::Observed => Bytes::ZERO,
        (None, _) => Bytes::ZERO,
        // A guest that was given ordinary memory and uses huge pages takes nothing more of it.
        (Some(seen), None) => seen.resident.saturating_add(seen.huge),
        (Some(seen), Some(_)) => seen.huge,
    };
    let lacking = claim.promised_memory().saturating_sub(resident);
    let on_node = |node: NodeId| {
        let per_node = seen.filter(|_| claim.page.is_none()).map(|seen| &seen.per_node);
        let found = per_node.and_then(|list| list.iter().find(|&&(id, _)| id == node));
        found.map_or(Bytes::ZERO, |&(_, memory)| memory)
    };
    let cpus = claim.promised_cpus();
    let waiting = cpus.saturating_sub(seen.map_or(CpuShare::ZERO, |seen| seen.cpus));
    // What is pinned is counted where it is owned: only the rest roams.
    let roaming = claim.roaming.difference(&claim.pinned);
    let pinned = 100 * u128::from(claim.pinned.len());
    let all = u128::from(cpus.hundredths()).max(1);
    let roams = |part: CpuShare| {
        let rest = u128::from(part.hundredths()) * all.saturating_sub(pinned) / all;
        CpuShare::from_hundredths(u64::try_from(rest).unwrap_or(u64::MAX))
    };
    for promise in &claim.promised {
        let memory = promise.memory.saturating_sub(on_node(promise.node)).min(lacking);
        let part = u128::from(promise.cpus.hundredths()) * u128::from(waiting.hundredths());
        let part = part.div_ceil(u128::from(cpus.hundredths()).max(1));
        let part = CpuShare::from_hundredths(u64::try_from(part).unwrap_or(u64::MAX));
        if memory == Bytes::ZERO && part == CpuShare::ZERO {
            continue;
        }
        let charge = charges.of_mut(promise.node);
        charge.cpus = charge.cpus.saturating_add(part);
        charge.add_roaming(&roaming, roams(part));
        charge.add(memory, claim.page);
    }
}

#[cfg(test)]
mod tests {
    use super::super::claim::Seen;
    use super::super::claim::tests::claim;
    use super::*;
    use crate::ids::CpuId;
    use crate::idset::CpuSet;

    fn mib(n: u64) -> Bytes {
        Bytes::new(n << 20)
    }

    fn charged(claim: &Claim) -> Vec<u64> {
        let mut charges = Charges::default();
        add(&mut charges, claim, Overcommit::default());
        (0..3).map(|node| charges.of(NodeId(node)).memory.whole_mib()).collect()
    }

    #[test]
    fn claims_shrink_as_memory_becomes_resident() {
        let mut claim = claim(1, &[(0, 600), (1, 400)]);
        for (resident, left) in [
            (0, [600, 400, 0]),
            // It could all lie on node 0, or on node 1: nothing is known but the sum.
            (300, [600, 400, 0]),
            (500, [500, 400, 0]),
            (900, [100, 100, 0]),
            (1000, [0, 0, 0]),
            (2000, [0, 0, 0]),
            // Ballooned or swapped out: the claim grows back.
            (100, [600, 400, 0]),
        ] {
            claim.seen = Some(Seen { resident: mib(resident), ..Seen::default() });
            assert_eq!(charged(&claim), left, "{resident} MiB resident");
        }
    }

    #[test]
    fn the_formula_is_the_one_of_the_design() {
        for resident in 0..120 {
            let promised = [30_u64, 50, 20];
            let mut claim = claim(1, &[(0, 30), (1, 50), (2, 20)]);
            claim.seen = Some(Seen { resident: mib(resident), ..Seen::default() });
            let all: u64 = promised.iter().sum();
            let design: Vec<u64> = promised
                .iter()
                .map(|&n| n.saturating_sub(resident.saturating_sub(all - n)))
                .collect();
            assert_eq!(charged(&claim), design, "{resident}");
        }
    }

    #[test]
    fn figures_of_a_cgroup_are_believed_node_by_node() {
        let mut claim = claim(1, &[(0, 600), (1, 400)]);
        let per_node = vec![(NodeId(0), mib(500)), (NodeId(2), mib(100))];
        claim.seen = Some(Seen { resident: mib(600), per_node, ..Seen::default() });
        // 100 of node 0's are to come, and of the 400 that are lacking all may come on node 1.
        assert_eq!(charged(&claim), [100, 400, 0]);
    }

    #[test]
    fn huge_pages_are_counted_apart() {
        let page = mib(2);
        let mut claim = claim(1, &[(0, 600)]);
        claim.page = Some(page);
        claim.seen = Some(Seen { resident: mib(999), huge: mib(200), ..Seen::default() });
        let mut charges = Charges::default();
        add(&mut charges, &claim, Overcommit::default());
        let charge = charges.of(NodeId(0));
        assert_eq!((charge.memory, charge.huge_of(page)), (Bytes::ZERO, mib(400)));
        assert_eq!(charge.huge_of(mib(1024)), Bytes::ZERO);
        // Promised ordinary memory, and backed by huge pages: no more ordinary memory will be used.
        claim.page = None;
        claim.seen = Some(Seen { huge: mib(600), ..Seen::default() });
        assert_eq!(charged(&claim), [0, 0, 0]);
    }

    #[test]
    fn cpus_are_busy_until_they_are_seen_to_be() {
        let mut claim = claim(1, &[(0, 1), (1, 1)]);
        let cpus = |claim: &Claim| {
            let mut charges = Charges::default();
            add(&mut charges, claim, Overcommit::default());
            charges.of(NodeId(0)).cpus.hundredths() + charges.of(NodeId(1)).cpus.hundredths()
        };
        assert_eq!(cpus(&claim), 200);
        claim.seen = Some(Seen { cpus: CpuShare::from_hundredths(50), ..Seen::default() });
        assert_eq!(cpus(&claim), 150);
        claim.seen = Some(Seen { cpus: CpuShare::from_hundredths(900), ..Seen::default() });
        assert_eq!(cpus(&claim), 0);
    }

    #[test]
    fn cpus_that_are_pinned_do_not_roam_as_well() {
        let cpus = |range: std::ops::Range<u32>| -> CpuSet { range.map(CpuId).collect() };
        let mut claim = claim(1, &[(0, 600)]);
        claim.promised[0].cpus = CpuShare::from_hundredths(400);
        claim.roaming = cpus(0..8);
        let roaming = |claim: &Claim| {
            let mut charges = Charges::default();
            add(&mut charges, claim, Overcommit::default());
            let charge = charges.of(NodeId(0));
            (charge.cpus.hundredths(), charge.roaming.clone())
        };
        assert_eq!(roaming(&claim), (400, vec![(cpus(0..8), CpuShare::from_hundredths(400))]));
        claim.pinned = cpus(0..2);
        assert_eq!(roaming(&claim), (400, vec![(cpus(2..8), CpuShare::from_hundredths(200))]));
    }
}
