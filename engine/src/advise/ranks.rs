//! Where the equal ranks of one program should run, each near its device.

use std::cmp::Reverse;

use super::error::AdviseError;
use super::together::{Fit, JointGuest, fit, planned};
use super::usable::Usable;
use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::policy::together::{Guest, MAX_GUESTS};
use crate::request::Request;
use crate::snapshot::Snapshot;

/// Advises where the ranks of one program should run: guests that are alike, one for each entry of `near`, which is
/// the node of the rank's device.
///
/// Ranks with a device come first, and the nearest nodes to it that hold them: as many as fit on the device's own
/// node, then as many as fit on the next nearest ones. Of ranks that want the same node, the first in order get it.
/// Those without a device follow: with CPUs of their own on one node each, where most of them fit beside what runs;
/// what no single node holds, and ranks that share CPUs, by the plan of [`advise_together`](super::advise_together()).
///
/// `like` and `own_cpus` are as there; the same snapshot and ranks always give the same places. A rank that does not fit
/// has no advice.
/// Errors: as [`advise_together`](super::advise_together()), but any number of ranks; a device on a node that the host
/// does not have.
///
/// ```
/// use placer_engine::{Guest, NodeId, Request, advise_ranks, testing::MadeHost};
/// # use placer_engine::Bytes;
/// # let gib = |count| Bytes::from_gib(count).unwrap_or_default();
/// let host = MadeHost::new().node(0, "0-7", gib(16)).node(1, "8-15", gib(16));
/// let rank: Request = "4:4G".parse()?;
/// let near = [1, 1, 1, 0].map(|gpu| Some(NodeId(gpu)));
/// let ranks = advise_ranks(&host.snapshot()?, &rank, Guest::of(&rank), &near, true)?;
/// let nodes = ranks.iter().flat_map(|rank| rank.advice.as_ref());
/// let nodes: Vec<String> = nodes.map(|advice| advice.nodes.to_string()).collect();
/// assert_eq!(nodes, ["1", "1", "0", "0"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn advise_ranks(
    snapshot: &Snapshot,
    like: &Request,
    rank: Guest,
    near: &[Option<NodeId>],
    own_cpus: bool,
) -> Result<Vec<JointGuest>, AdviseError> {
    let mut plan =
        Plan { charged: snapshot.clone(), like, rank, own_cpus, answers: vec![None; near.len()] };
    let mut devices: Vec<NodeId> = near.iter().flatten().copied().collect();
    devices.sort_unstable();
    devices.dedup();
    let usable = Usable::of(snapshot, like)?;
    let around = devices.into_iter().map(|node| Ok((node, usable.rings(snapshot, node)?)));
    let around: Vec<(NodeId, Vec<NodeSet>)> = around.collect::<Result<_, AdviseError>>()?;
    let farthest = around.iter().map(|(_, rings)| rings.len()).max().unwrap_or(0);
    for distance in 0..farthest {
        for (node, rings) in &around {
            let Some(ring) = rings.get(distance) else { continue };
            let wanting = (0..near.len()).filter(|&at| near[at] == Some(*node));
            let left: Vec<usize> = wanting.filter(|&at| plan.answers[at].is_none()).collect();
            plan.as_many_as_fit(&left, ring)?;
        }
    }
    let nodes: Vec<NodeSet> =
        snapshot.topology().node_set().iter().map(|node| std::iter::once(node).collect()).collect();
    // A plan may add a node for a rank whose CPUs are busy. With CPUs of its own the rank would then have memory on a
    // node where it has no CPU.
    if own_cpus {
        plan.on_single_nodes(&nodes)?;
    }
    let left = plan.left();
    plan.place(&left, None)?;
    Ok(plan.answers.into_iter().flatten().collect())
}

const NONE: Fit = Fit { guests: 0, on_one_node: 0, with_idle_cpus: 0 };

struct Plan<'a> {
    charged: Snapshot,
    like: &'a Request,
    rank: Guest,
    own_cpus: bool,
    answers: Vec<Option<JointGuest>>,
}

impl Plan<'_> {
    /// Returns the ranks that have no answer yet.
    fn left(&self) -> Vec<usize> {
        (0..self.answers.len()).filter(|&at| self.answers[at].is_none()).collect()
    }

    /// Returns how many more ranks fit on some nodes.
    fn fit(&self, nodes: &NodeSet) -> Result<Fit, AdviseError> {
        let mut request = self.like.clone();
        (request.cpus, request.memory) = (self.rank.cpus, self.rank.memory);
        let within = request.within.as_ref();
        let nodes = within.map_or_else(|| nodes.clone(), |within| nodes.intersection(within));
        if nodes.is_empty() {
            return Ok(NONE);
        }
        request.within = Some(nodes);
        match fit(&self.charged, &request, self.own_cpus) {
            // Its memory may not be used.
            Err(AdviseError::NoNodeAllowed { .. }) => Ok(NONE),
            fits => fits,
        }
    }

    /// Places the first of some ranks, as many as fit, on some nodes.
    fn as_many_as_fit(&mut self, ranks: &[usize], nodes: &NodeSet) -> Result<(), AdviseError> {
        if ranks.is_empty() {
            return Ok(());
        }
        let fits = usize::try_from(self.fit(nodes)?.guests).unwrap_or(usize::MAX);
        self.place(&ranks[..fits.min(ranks.len())], Some(nodes))
    }

    /// Places ranks on one node each, as long as one holds them: each on the node that has room for most of them, with
    /// idle CPUs if there are.
    fn on_single_nodes(&mut self, nodes: &[NodeSet]) -> Result<(), AdviseError> {
        let left = self.left();
        let mut room = nodes.iter().map(|node| self.fit(node)).collect::<Result<Vec<Fit>, _>>()?;
        let mut ranks: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for &rank in &left {
            let most = |&at: &usize| (room[at].with_idle_cpus, room[at].guests, Reverse(at));
            let Some(at) = (0..nodes.len()).filter(|&at| room[at].guests > 0).max_by_key(most)
            else {
                break;
            };
            room[at].guests -= 1;
            room[at].with_idle_cpus = room[at].with_idle_cpus.saturating_sub(1);
            ranks[at].push(rank);
        }
        for (node, ranks) in nodes.iter().zip(ranks).filter(|(_, ranks)| !ranks.is_empty()) {
            self.place(&ranks, Some(node))?;
        }
        Ok(())
    }

    /// Places ranks beside those that are placed; one that does not fit gets an answer only where all nodes could be
    /// used.
    fn place(&mut self, ranks: &[usize], nodes: Option<&NodeSet>) -> Result<(), AdviseError> {
        let mut like = self.like.clone();
        if let Some(nodes) = nodes {
            let within = like.within.as_ref();
            like.within = Some(within.map_or_else(|| nodes.clone(), |all| nodes.intersection(all)));
        }
        for ranks in ranks.chunks(MAX_GUESTS) {
            let guests = vec![self.rank; ranks.len()];
            let (joint, charged) = planned(&self.charged, &like, &guests, self.own_cpus)?;
            self.charged = charged;
            for (&at, guest) in ranks.iter().zip(joint.guests) {
                if nodes.is_none() || guest.advice.is_some() {
                    self.answers[at] = Some(guest);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idset::CpuSet;
    use crate::testing::MadeHost;
    use crate::units::Bytes;
    use crate::{CpuId, advise_together};

    fn gib(count: u64) -> Bytes {
        Bytes::from_gib(count).unwrap_or_default()
    }

    /// Four nodes in two pairs, of 8 CPUs and 16 GiB each.
    fn host() -> MadeHost {
        let distances: [[u8; 4]; 4] =
            [[10, 12, 32, 32], [12, 10, 32, 32], [32, 32, 10, 12], [32, 32, 12, 10]];
        let cpus = [(0, "0-7"), (1, "8-15"), (2, "16-23"), (3, "24-31")];
        let host =
            cpus.iter().fold(MadeHost::new(), |host, (id, cpus)| host.node(*id, cpus, gib(16)));
        host.distances(distances)
    }

    fn nodes(ranks: &[JointGuest]) -> Vec<String> {
        let nodes = |rank: &JointGuest| {
            rank.advice.as_ref().map_or_else(|| "-".to_owned(), |advice| advice.nodes.to_string())
        };
        ranks.iter().map(nodes).collect()
    }

    fn near<const N: usize>(nodes: [u32; N]) -> Vec<Option<NodeId>> {
        nodes.into_iter().map(|node| Some(NodeId(node))).collect()
    }

    #[test]
    fn a_rank_whose_node_is_full_is_on_the_next_nearest() {
        let snapshot = host().snapshot().expect("a host");
        let rank: Request = "4:1G".parse().expect("a request");
        let places = |near: &[Option<NodeId>]| {
            let ranks = advise_ranks(&snapshot, &rank, Guest::of(&rank), near, true);
            nodes(&ranks.expect("places"))
        };
        assert_eq!(places(&near([3, 3, 3, 3, 3])), ["3", "3", "2", "2", "0"]);
        // Those that want a node go before those that are pushed out of another.
        assert_eq!(places(&near([3, 3, 3, 2, 2])), ["3", "3", "0", "2", "2"]);
        // Those without a device take what is left.
        let mixed = [None, Some(NodeId(0)), None, Some(NodeId(0)), None];
        let places = places(&mixed);
        assert_eq!((&*places[1], &*places[3]), ("0", "0"));
        assert!([0, 2, 4].iter().all(|&at| places[at] != "0"), "{places:?}");
    }

    #[test]
    fn memory_counts_as_cpus_do_and_what_does_not_fit_has_no_place() {
        let snapshot = host().free(0, gib(5)).snapshot().expect("a host");
        let rank: Request = "1:4G".parse().expect("a request");
        let ranks = |count: usize| {
            let near = vec![Some(NodeId(0)); count];
            advise_ranks(&snapshot, &rank, Guest::of(&rank), &near, true).expect("places")
        };
        assert_eq!(nodes(&ranks(3)), ["0", "1", "1"]);
        let many = ranks(16);
        let refused: Vec<&JointGuest> = many.iter().filter(|rank| rank.advice.is_none()).collect();
        assert!(!refused.is_empty() && refused.len() < 8, "{:?}", nodes(&many));
        assert!(refused.iter().all(|rank| rank.shortfall.is_some()));
    }

    #[test]
    fn without_devices_ranks_that_share_cpus_are_placed_as_guests_are_together() {
        let snapshot = host().busy("0-3").snapshot().expect("a host");
        let rank: Request = "3:2G".parse().expect("a request");
        let ranks = advise_ranks(&snapshot, &rank, Guest::of(&rank), &[None; 7], false);
        let joint = advise_together(&snapshot, &rank, &[Guest::of(&rank); 7], false);
        assert_eq!(ranks.expect("places"), joint.expect("a plan").guests);
    }

    #[test]
    fn without_devices_ranks_are_on_one_node_each_as_long_as_one_holds_them() {
        let rank: Request = "3:2G".parse().expect("a request");
        let places = |snapshot: &Snapshot, count| {
            let near = vec![None; count];
            let ranks = advise_ranks(snapshot, &rank, Guest::of(&rank), &near, true);
            nodes(&ranks.expect("places"))
        };
        // All CPUs are busy, as where the ranks' own starter makes them so.
        let busy = host().busy("0-31").snapshot().expect("a host");
        assert_eq!(places(&busy, 8), ["0", "1", "2", "3", "0", "1", "2", "3"]);
        let idle = host().busy("0-3").snapshot().expect("a host");
        let found = places(&idle, 7);
        assert_eq!(found.iter().filter(|node| **node == "0").count(), 1, "{found:?}");
        // Two CPUs of each node are left: the others are spread.
        let many = places(&idle, 10);
        assert!(many[8].contains(['-', ',']) && many[9].contains(['-', ',']), "{many:?}");
    }

    #[test]
    fn memory_of_nodes_that_may_not_be_used_is_not_asked_for() {
        let snapshot = host().snapshot().expect("a host");
        let mut rank: Request = "2:2G".parse().expect("a request");
        rank.limits.memory_nodes = Some(std::iter::once(NodeId(1)).collect());
        for near in [vec![None; 3], near([2, 2, 0])] {
            let ranks = advise_ranks(&snapshot, &rank, Guest::of(&rank), &near, true);
            let ranks = ranks.expect("places");
            let memory = ranks.iter().flat_map(|rank| rank.advice.as_ref());
            assert!(
                memory.clone().all(|advice| advice.memory_nodes.to_string() == "1"),
                "{near:?}"
            );
            assert_eq!(memory.count(), 3);
        }
    }

    #[test]
    fn more_ranks_than_one_plan_has_share_no_cpu() {
        let cpus: Vec<(u32, String)> =
            (0..4).map(|node| (node, format!("{}-{}", node * 100, node * 100 + 99))).collect();
        let host =
            cpus.iter().fold(MadeHost::new(), |host, (id, cpus)| host.node(*id, cpus, gib(64)));
        let snapshot = host.snapshot().expect("a host");
        let rank: Request = "1:100M".parse().expect("a request");
        let near: Vec<Option<NodeId>> = (0..390).map(|at| Some(NodeId(at % 4))).collect();
        let ranks = advise_ranks(&snapshot, &rank, Guest::of(&rank), &near, true).expect("places");
        let pinned: Vec<CpuId> = ranks.iter().flat_map(|rank| rank.pinned.clone()).collect();
        let different: CpuSet = pinned.iter().copied().collect();
        assert_eq!((pinned.len(), different.len()), (390, 390));
        assert!(
            near.iter()
                .zip(nodes(&ranks))
                .all(|(near, at)| { near.is_some_and(|near| near.to_string() == at) })
        );
    }

    #[test]
    fn a_device_elsewhere_is_an_error() {
        let snapshot = host().snapshot().expect("a host");
        let rank: Request = "1".parse().expect("a request");
        let ranks = advise_ranks(&snapshot, &rank, Guest::of(&rank), &near([7]), true);
        let wrong = ranks.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(wrong.contains('7'), "{wrong}");
    }
}
