//! From a snapshot and a request to an advice. Pure: no file, no clock, no global.

mod caches;
mod error;
mod explain;
mod ranks;
mod together;
mod usable;

pub use caches::pin_cpus;
pub use explain::{Candidate, Explanation, explain};
pub use ranks::advise_ranks;
pub use together::{Fit, JointAdvice, JointGuest, advise_together, fit};

pub use error::AdviseError;

use crate::advice::{Advice, Share, Shortfall};
use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::policy::Policy;
use crate::policy::best::{self, Host, Prediction, Prefer, Proof, Solution, Workspace, place};
use crate::policy::cache::Mode;
use crate::policy::numad::{self, Query};
use crate::request::Request;
use crate::snapshot::Snapshot;
use crate::units::{Bytes, CpuShare};
use usable::Usable;
pub use usable::reserve;

/// Advises where a guest should run.
///
/// A request that does not fit is answered too; [`Advice::shortfall`] says what is short. The same
/// snapshot and request always give the same advice.
/// Errors: the request is larger than any host; no node may be used; numad's rules have no answer for the host; huge pages that were not
/// read.
pub fn advise(snapshot: &Snapshot, request: &Request) -> Result<Advice, AdviseError> {
    if request.is_beyond_any_host() {
        return Err(AdviseError::BeyondAnyHost);
    }
    let usable = Usable::of(snapshot, request)?;
    let host = usable.host(snapshot, request)?;
    match &request.policy {
        Policy::Best(_) => {
            let advice = by_best(snapshot, request, &host, &usable)?;
            if request.cache.mode == Mode::Require && advice.caches.len() != 1 {
                return in_one_cache(snapshot, request, &usable, advice);
            }
            Ok(advice)
        }
        Policy::Numad(rules) => {
            let nodes = by_numad(snapshot, request, rules, &usable)?;
            let ids: Vec<u32> = nodes.iter().map(|node| node.0).collect();
            let placement = place(&host, &question(request, &[]), &ids);
            let chosen = Chosen {
                nodes: &ids,
                figures: placement.as_ref().map(|placement| placement.figures),
                split: placement.as_ref().map_or(&[], |placement| &placement.split),
                proof: None,
            };
            let mut advice = describe(snapshot, request, &usable, &host, &chosen);
            if let (true, Err(failure)) = (rules.lenient, snapshot.host().numad.readable_by_numad())
            {
                let note = format!("numad itself has no answer here: {failure}");
                advice.notes.push(note);
            }
            Ok(advice)
        }
    }
}

/// Makes beforehand what all questions without limits about a snapshot share, so that none of them
/// has to.
pub(crate) fn prepare(snapshot: &Snapshot) {
    usable::ready_figures(snapshot, best::Rules::default().smt_percent);
    caches::ready_offers(snapshot, best::Rules::default().smt_percent, 0);
}

/// The rules that figures are made by where the policy has none of its own.
fn rules(request: &Request) -> best::Rules {
    match &request.policy {
        Policy::Best(rules) => *rules,
        Policy::Numad(_) => best::Rules::default(),
    }
}

/// The request in the terms of policy `best`. `seeds` are sets that a limited search must look at.
fn question<'a>(request: &Request, seeds: &'a [&'a [u32]]) -> best::Request<'a> {
    let best::Rules { memory_bound, prefer, effort, .. } = rules(request);
    let (cpus, memory) = (request.cpus.as_cpus(), mib(request.memory));
    best::Request { cpus, memory, memory_bound, prefer, effort, seeds }
}

/// How much slower a guest may be for the sake of a device, against the fastest place for it.
const WORTH_OF_A_DEVICE: f64 = 1.25;

fn by_best(
    snapshot: &Snapshot,
    request: &Request,
    host: &Host,
    usable: &Usable<'_>,
) -> Result<Advice, AdviseError> {
    let told = |host: &Host, chosen: &Chosen<'_>| describe(snapshot, request, usable, host, chosen);
    let plain = question(request, &[]);
    if request.near.is_none()
        && let Some(lone) = best::try_single_node(host, &plain)
    {
        let (nodes, split) = ([lone.share.node], [lone.share]);
        let (figures, proof) = (Some(lone.figures), Some(Proof::Optimal));
        let advice = told(host, &Chosen { nodes: &nodes, figures, split: &split, proof });
        return by_caches(snapshot, request, host, usable, advice, lone.fastest);
    }
    let mut space = Workspace::new();
    let mut numads: [Vec<u32>; 2] = Default::default();
    let certain = best::prove_single_node(host, &plain, &mut space);
    // numad's own sets are among the candidates of a search that cannot see all.
    if !certain && host.useful() > ALL_SETS_ARE_SEEN {
        for (seed, version) in numads.iter_mut().zip(numad::Version::ALL) {
            let nodes = by_numad(snapshot, request, &numad::Rules::lenient(version), usable);
            seed.extend(nodes.iter().flat_map(NodeSet::iter).map(|node| node.0));
        }
    }
    let seeds = numads.each_ref().map(Vec::as_slice);
    let question = best::Request { seeds: &seeds, ..plain };
    if !certain {
        best::solve_by_sets(host, &question, &mut space);
    }
    let anywhere = space.solution();
    let Some((device, figures)) = request.near.zip(anywhere.figures).filter(|_| anywhere.fits)
    else {
        let fastest = anywhere.fastest;
        let advice = told(host, &Chosen::from(anywhere));
        return by_caches(snapshot, request, host, usable, advice, fastest);
    };
    let most = figures.slowdown * WORTH_OF_A_DEVICE;
    let farther = told(host, &Chosen::from(anywhere));
    // Ring by ring around the device: the nearest nodes that hold the guest well enough.
    for ring in usable.rings(snapshot, device)? {
        let nearer = usable.only(&ring).host(snapshot, request)?;
        let found = best::solve(&nearer, &question, &mut space);
        if found.fits && found.figures.is_some_and(|figures| figures.slowdown <= most) {
            return Ok(told(host, &Chosen::from(found)));
        }
    }
    Ok(farther)
}

/// Between single nodes that are as fast as the advised one, prefers those whose caches suit the guest within
/// 2 % of the best, of these those with the fewest caches for it, and of these the one with most room. `fastest`
/// is the lowest slowdown of any set.
fn by_caches(
    snapshot: &Snapshot,
    request: &Request,
    host: &Host,
    usable: &Usable<'_>,
    advice: Advice,
    fastest: f64,
) -> Result<Advice, AdviseError> {
    let Some(advised) = advice.cache_cost else { return Ok(advice) };
    let owned = snapshot.charges().pinned();
    let has_free =
        |nodes: &NodeSet| owned.is_empty() || !usable.cpus_of(snapshot, nodes).is_subset(owned);
    if advised <= EQUAL && advice.caches.len() < 2 && has_free(&advice.nodes) {
        return Ok(advice);
    }
    let elsewhere = host.nodes().len() > 1 && advice.nodes.len() == 1;
    if !elsewhere || !advice.fits() || request.near.is_some() {
        return Ok(advice);
    }
    let question = question(request, &[]);
    let only = |node: NodeId| -> NodeSet { std::iter::once(node).collect() };
    let equal = |node: &&best::Node| {
        let holds = f64::from(node.cpus) >= question.cpus && node.mem >= question.memory.max(1.0);
        holds
            && has_free(&only(NodeId(node.id)))
            && place(host, &question, &[node.id])
                .is_some_and(|placement| placement.figures.slowdown <= fastest * EQUAL)
    };
    let suit = |request: &Request, node: NodeId| {
        let inside = caches::place(snapshot, request, usable, &only(node), &[]);
        Suit { node, caches: inside.caches.len().max(1), cost: inside.cost.unwrap_or(1.0) }
    };
    let nodes = host.nodes().iter().filter(equal).map(|node| NodeId(node.id));
    let suits: Vec<Suit> = nodes.map(|node| suit(request, node)).collect();
    let lowest = suits.iter().map(|suit| suit.cost).fold(f64::INFINITY, f64::min);
    let equal = |suit: &&Suit| suit.cost <= lowest * EQUAL;
    let Some(fewest) = suits.iter().filter(equal).map(|suit| suit.caches).min() else {
        return Ok(advice);
    };
    let best_of = |request: &Request, nodes: NodeSet| {
        let suited = usable.only(&nodes).host(snapshot, request)?;
        let mut space = Workspace::new();
        let found = best::solve(&suited, &question, &mut space);
        Ok(describe(snapshot, request, usable, &suited, &Chosen::from(found)))
    };
    if fewest > 1 && request.cache.mode == Mode::Prefer {
        // A node whose answer is one cache, but too dear, may have a cheaper one.
        let cheapest = request.clone().with_cache(request.cache.with_mode(Mode::Require));
        let alone = suits.iter().filter(|suit| suit.caches == 1);
        let alone = alone.map(|found| suit(&cheapest, found.node));
        let alone: Vec<Suit> = alone.filter(|suit| suit.caches == 1 && equal(&suit)).collect();
        if !alone.is_empty() {
            return best_of(&cheapest, alone.iter().map(|suit| suit.node).collect());
        }
    }
    let suited = suits.iter().filter(equal).filter(|suit| suit.caches == fewest);
    let suited: NodeSet = suited.map(|suit| suit.node).collect();
    if advice.nodes.is_subset(&suited) { Ok(advice) } else { best_of(request, suited) }
}

/// Returns the answer in one last-level cache where the best one is not, whichever nodes give the memory: on each node
/// the cache that costs least is looked at. Of answers within 2 % of the fastest, the one of the fewest nodes is
/// taken, then that of the most idle cache (`pack`: the least), then that of the lowest nodes.
///
/// Errors: [`AdviseError::NoCache`].
fn in_one_cache(
    snapshot: &Snapshot,
    request: &Request,
    usable: &Usable<'_>,
    best: Advice,
) -> Result<Advice, AdviseError> {
    let pack = rules(request).prefer == Prefer::Pack;
    let nodes = snapshot.topology().nodes();
    let cheapest =
        nodes.iter().filter_map(|node| caches::cheapest(snapshot, request, usable, node));
    let cheapest: Vec<(CpuSet, f64)> = cheapest.collect();
    // All searches together take as many steps as one.
    let effort = rules(request).effort.unwrap_or_else(|| best::default_effort(nodes.len()));
    let effort = effort.div_ceil(u64::try_from(cheapest.len().max(1)).unwrap_or(u64::MAX));
    let mut answers: Vec<(Advice, f64)> = Vec::new();
    for (cpus, idle) in cheapest {
        let mut inside = request.clone();
        inside.limits.cpus = Some(cpus);
        inside.policy = Policy::Best(best::Rules { effort: Some(effort), ..rules(request) });
        let usable = Usable::of(snapshot, &inside)?;
        let host = usable.host(snapshot, &inside)?;
        let advice = by_best(snapshot, &inside, &host, &usable)?;
        answers.push((advice, if pack { idle } else { -idle }));
    }
    let none = answers.is_empty() || best.fits();
    answers.retain(|(advice, _)| advice.fits() && advice.caches.len() == 1);
    let slowdown = |advice: &Advice| advice.slowdown.unwrap_or(f64::INFINITY);
    let fastest = answers.iter().map(|(advice, _)| slowdown(advice)).fold(f64::INFINITY, f64::min);
    answers.retain(|(advice, _)| slowdown(advice) <= fastest * EQUAL);
    let answer = answers.into_iter().min_by(|(a, by_idle_a), (b, by_idle_b)| {
        let by_nodes = a.nodes.len().cmp(&b.nodes.len());
        let by_idle = by_nodes.then(by_idle_a.total_cmp(by_idle_b));
        by_idle.then_with(|| a.nodes.iter().cmp(b.nodes.iter()))
    });
    match answer {
        Some((advice, _)) => Ok(advice),
        None if none => {
            let most = caches::most_free(snapshot, usable);
            Err(AdviseError::NoCache { cpus: request.cpus, most })
        }
        // Its memory is short on all nodes together.
        None => Ok(best),
    }
}

/// How the caches of a node suit a guest.
struct Suit {
    node: NodeId,
    caches: usize,
    cost: f64,
}

/// Slowdowns and costs within this factor of the lowest are equal.
const EQUAL: f64 = 1.02;

/// The number of useful nodes up to which policy `best` examines every set.
const ALL_SETS_ARE_SEEN: usize = 16;

fn set(ids: &[u32]) -> NodeSet {
    ids.iter().copied().map(NodeId).collect()
}

fn by_numad(
    snapshot: &Snapshot,
    request: &Request,
    rules: &numad::Rules,
    usable: &Usable<'_>,
) -> Result<NodeSet, AdviseError> {
    let machine = &snapshot.host().numad;
    let limited = usable.limited.then(|| machine.restricted(&usable.nodes, &usable.cpus));
    let machine = limited.as_ref().unwrap_or(machine);
    let query = Query {
        cpus: i32::try_from(request.cpus.hundredths()).unwrap_or(i32::MAX),
        megabytes: i32::try_from(request.memory.mib_rounded_up()).unwrap_or(i32::MAX),
    };
    let mut figures =
        machine.figures(snapshot.before(), snapshot.sample(), rules).map_err(AdviseError::Numad)?;
    for node in figures.iter_mut().filter(|node| !usable.memory.contains(node.id)) {
        (node.mbs_total, node.mbs_free) = (0, 0);
    }
    numad::charge(&mut figures, snapshot.charges());
    let rows = machine.distance_rows(rules).map_err(AdviseError::Numad)?;
    let choice =
        numad::choose(rules.version, &figures, &rows, query).map_err(AdviseError::Numad)?;
    if choice.nodes.is_empty() {
        return Err(AdviseError::Numad(numad::Failure::NoRoom));
    }
    Ok(choice.nodes)
}

#[expect(clippy::cast_precision_loss, reason = "no host has 2^53 bytes")]
fn mib(memory: Bytes) -> f64 {
    memory.get() as f64 / MIB
}

const MIB: f64 = 1_048_576.0;

#[expect(clippy::cast_possible_truncation, reason = "a part of an amount that fits")]
#[expect(clippy::cast_sign_loss, reason = "amounts are not negative")]
fn bytes(mib: f64) -> Bytes {
    Bytes::new((mib * MIB).round() as u64)
}

/// What a policy chose.
struct Chosen<'a> {
    /// Ids, ascending.
    nodes: &'a [u32],
    figures: Option<Prediction>,
    split: &'a [best::Share],
    proof: Option<Proof>,
}

impl<'a> From<&'a Solution> for Chosen<'a> {
    fn from(solution: &'a Solution) -> Self {
        let Solution { nodes, figures, split, proof, .. } = solution;
        Self { nodes, figures: *figures, split, proof: Some(*proof) }
    }
}

/// Says what a choice of nodes means.
fn describe(
    snapshot: &Snapshot,
    request: &Request,
    usable: &Usable<'_>,
    host: &Host,
    chosen: &Chosen<'_>,
) -> Advice {
    let all = host.nodes();
    let (mut free, mut has) = (Bytes::ZERO, 0u64);
    for id in chosen.nodes {
        if let Ok(at) = all.binary_search_by_key(id, |node| node.id) {
            free = free.saturating_add(bytes(all[at].mem));
            has += u64::from(all[at].cpus);
        }
    }
    let mut has = CpuShare::from_cpus(has).unwrap_or_default();
    if let Some(limit) = request.beyond_cpu_limit() {
        has = has.min(limit.limit);
    }
    if let Some(limit) = request.beyond_memory_limit() {
        free = free.min(limit.left);
    }
    // Huge pages are reserved of the host, not of a node: each node alone may have what all cannot.
    if let Some(pages) = snapshot.huge_pages().filter(|_| request.pages.is_some()) {
        free = free.min(Bytes::new(pages.unreserved().saturating_mul(pages.size.get())));
    }
    let short = Shortfall {
        cpus: request.cpus.saturating_sub(has),
        memory: request.memory.saturating_sub(free),
    };
    let fits = short.cpus == CpuShare::ZERO && short.memory == Bytes::ZERO;
    let split = chosen.split.iter().map(|share| Share {
        node: NodeId(share.node),
        cpus: (share.cpus * 1e6).round() / 1e6,
        memory: bytes(share.mem),
    });
    let nodes = set(chosen.nodes);
    let split: Vec<Share> = split.collect();
    let inside = caches::place(snapshot, request, usable, &nodes, &split);
    Advice {
        cpus: inside.cpus,
        usable_cpus: inside.usable,
        caches: inside.caches,
        cache_cost: inside.cost,
        memory_nodes: usable.memory_of(snapshot, &nodes),
        nodes,
        shortfall: (!fits).then_some(short),
        split,
        slowdown: chosen.figures.map(|figures| figures.slowdown),
        near: chosen.figures.map(|figures| figures.near),
        crowding: chosen.figures.map(|figures| figures.crowding),
        proof: chosen.proof,
        policy: request.policy.clone(),
        generation: snapshot.generation(),
        notes: Vec::new(),
    }
}
