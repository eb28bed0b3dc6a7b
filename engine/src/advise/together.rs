//! Where several guests should run, and how many more fit.

use super::usable::{Usable, reserve};
use super::{Chosen, MIB, describe, mib, question, rules};
use crate::advice::{Advice, CacheShare, Shortfall};
use crate::charges::Charges;
use crate::ids::{CpuId, NodeId};
use crate::idset::CpuSet;
use crate::policy::Policy;
use crate::policy::best::{self, Host, Node, Proof, place};
use crate::policy::cache::Mode;
use crate::policy::together::{self, Guest, Place, Question};
use crate::request::Request;
use crate::snapshot::Snapshot;
use crate::units::{Bytes, CpuShare};

use super::error::AdviseError;

/// Where several guests should run beside each other.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JointAdvice {
    /// One for each guest, in the order given.
    pub guests: Vec<JointGuest>,
    /// The slowdown expected of the guests that fit, weighted by their memory; 1 where none fits.
    pub slowdown: f64,
    /// How many guests have to be refused at least: where that is less than are refused, a better plan may exist.
    pub least_refused: usize,
    /// [`Proof::Optimal`]: no plan refuses fewer guests or is faster. A gap: none that refuses as many is faster by
    /// more than this part.
    pub proof: Proof,
}

impl JointAdvice {
    /// Returns how many guests do not fit.
    pub fn refused(&self) -> usize {
        self.guests.iter().filter(|guest| guest.advice.is_none()).count()
    }
}

/// One of several guests.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JointGuest {
    /// What it needs; whole CPUs where guests have CPUs of their own.
    pub request: Request,
    /// Where it should run, as [`advise`](crate::advise()) says it, beside those charged before it; `None` where it
    /// does not fit. [`Advice::proof`] is that of the plan.
    pub advice: Option<Advice>,
    /// The CPU of each vCPU, which no other guest is given; empty where CPUs are shared.
    pub pinned: Vec<CpuId>,
    /// What is short when it does not fit beside the others.
    pub shortfall: Option<Shortfall>,
}

/// How many more guests of one kind fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fit {
    /// All that fit.
    pub guests: u64,
    /// Of these, those that fit with each on a single node.
    pub on_one_node: u64,
    /// Of these, those for which each node also has idle CPUs.
    pub with_idle_cpus: u64,
}

/// Advises where several guests should run beside each other: the plan of
/// [`policy::together`](crate::policy::together), with each guest's CPUs.
///
/// `like` has what all of them have in common: limits, nodes, pages, rules; its own CPUs and memory do not count.
/// With `own_cpus` each vCPU gets a CPU of its own that no claim owns. The same snapshot and guests always give the
/// same plan.
/// Errors: as [`advise`](crate::advise()); a rule that is for single guests.
///
/// ```
/// use placer_engine::{Guest, Request, advise_together, testing::MadeHost};
/// # use placer_engine::Bytes;
/// # let gib = |count| Bytes::from_gib(count).unwrap_or_default();
/// let host = MadeHost::new().node(0, "0-7", gib(16)).node(1, "8-15", gib(16));
/// let like: Request = "0".parse()?;
/// let guests: Vec<Guest> =
///     ["2:6G", "2:8G", "2:7G"].map(|text| text.parse::<Request>().map(|r| Guest::of(&r)))
///         .into_iter().collect::<Result<_, _>>()?;
/// let plan = advise_together(&host.snapshot()?, &like, &guests, false)?;
/// let nodes = plan.guests.iter().flat_map(|guest| guest.advice.as_ref());
/// let nodes: Vec<String> = nodes.map(|advice| advice.nodes.to_string()).collect();
/// assert_eq!(nodes, ["1", "0", "1"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn advise_together(
    snapshot: &Snapshot,
    like: &Request,
    guests: &[Guest],
    own_cpus: bool,
) -> Result<JointAdvice, AdviseError> {
    Ok(planned(snapshot, like, guests, own_cpus)?.0)
}

/// The same, and the host with those guests charged that are placed.
pub(super) fn planned(
    snapshot: &Snapshot,
    like: &Request,
    guests: &[Guest],
    own_cpus: bool,
) -> Result<(JointAdvice, Snapshot), AdviseError> {
    let of = |guest: &Guest| {
        let mut request = like.clone();
        request.memory = guest.memory;
        request.cpus = guest.cpus_taken(own_cpus);
        request
    };
    let requests: Vec<Request> = guests.iter().map(of).collect();
    if requests.iter().any(Request::is_beyond_any_host) {
        return Err(AdviseError::BeyondAnyHost);
    }
    if guests.len() > together::MAX_GUESTS {
        return Err(AdviseError::TooManyGuests { most: together::MAX_GUESTS });
    }
    let usable = usable(snapshot, like)?;
    let host = figures(snapshot, like, &usable, own_cpus)?;
    // A control group's limit of CPU time is one for each guest: CPUs are not used up.
    let most_cpus = like.limits.cpu_time.as_ref().map(|limit| limit.limit);
    let held = |request: &Request| most_cpus.is_none_or(|most| request.cpus <= most);
    let asked: Vec<usize> = (0..guests.len()).filter(|&at| held(&requests[at])).collect();
    let askers: Vec<Guest> = asked.iter().map(|&at| guests[at]).collect();
    let beyond = beyond(snapshot, like, &host);
    let best::Rules { memory_bound, prefer, effort, .. } = rules(like);
    let plan = together::solve(
        &host,
        &Question {
            memory_bound,
            prefer,
            own_cpus,
            budget: budget(snapshot, like),
            beyond: &beyond,
            effort,
            ..Question::new(&askers)
        },
    );
    let mut charged = snapshot.clone();
    let none = |request| JointGuest { request, advice: None, pinned: Vec::new(), shortfall: None };
    let mut answers: Vec<JointGuest> = requests.into_iter().map(none).collect();
    for &at in &plan.order {
        let Some(place) = &plan.places[at] else { continue };
        let answer = &mut answers[asked[at]];
        let made = made(&charged, &answer.request, place, own_cpus, plan.proof)?;
        (answer.advice, answer.pinned) = (Some(made.0), made.1);
        let charges = charge(charged.charges().clone(), answer, place, like.pages);
        charged = charged.with_charges(charges);
    }
    let placed = answers.iter().filter(|answer| answer.advice.is_some());
    let taken = placed.map(|answer| answer.request.memory).sum();
    for answer in answers.iter_mut().filter(|answer| answer.advice.is_none()) {
        answer.shortfall = Some(short(&charged, &answer.request, taken, own_cpus)?);
    }
    let refused = guests.len() - asked.len();
    let joint = JointAdvice {
        guests: answers,
        slowdown: plan.slowdown,
        least_refused: plan.least_refused + refused,
        proof: plan.proof,
    };
    Ok((joint, charged))
}

/// Returns how many more guests of one kind fit now, each of its size and under the limits in `request`: the most
/// that [`advise_together`] would place. With `own_cpus` each vCPU takes a CPU that no claim owns.
///
/// Errors: as [`advise_together`].
///
/// ```
/// use placer_engine::{Bytes, fit, testing::MadeHost};
/// # let gib = |count| Bytes::from_gib(count).unwrap_or_default();
/// let host = MadeHost::new().node(0, "0-7", gib(16)).node(1, "8-15", gib(16));
/// let fit = fit(&host.snapshot()?, &"4:5G".parse()?, false)?;
/// assert_eq!((fit.guests, fit.on_one_node, fit.with_idle_cpus), (6, 6, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fit(snapshot: &Snapshot, request: &Request, own_cpus: bool) -> Result<Fit, AdviseError> {
    if request.is_beyond_any_host() {
        return Err(AdviseError::BeyondAnyHost);
    }
    let usable = usable(snapshot, request)?;
    let host = figures(snapshot, request, &usable, own_cpus)?;
    let none = Fit { guests: 0, on_one_node: 0, with_idle_cpus: 0 };
    if request.beyond_cpu_limit().is_some() {
        return Ok(none);
    }
    let guest = Guest::of(request);
    let question = Question {
        own_cpus,
        budget: budget(snapshot, request),
        beyond: &beyond(snapshot, request, &host),
        ..Question::new(&[])
    };
    let counts = together::count(&host, &question, guest);
    let [guests, on_one_node, with_idle_cpus] = counts;
    Ok(Fit { guests, on_one_node, with_idle_cpus })
}

impl Guest {
    /// Returns the CPUs and memory of a request.
    pub fn of(request: &Request) -> Self {
        Self { memory: request.memory, cpus: request.cpus }
    }

    /// Returns the CPUs that it takes: whole ones, at least one, where it has CPUs of its own.
    #[doc(hidden)]
    pub fn cpus_taken(&self, own_cpus: bool) -> CpuShare {
        let whole = self.cpus.hundredths().div_ceil(100).max(1);
        let whole = if own_cpus { CpuShare::from_cpus(whole) } else { None };
        whole.unwrap_or(self.cpus)
    }
}

/// Returns what may be used, if the rules are those of several guests.
fn usable<'a>(snapshot: &'a Snapshot, like: &Request) -> Result<Usable<'a>, AdviseError> {
    let single = [
        (matches!(like.policy, Policy::Numad(_)), "a policy of numad"),
        (like.near.is_some(), "a device to be near to"),
        (like.cache.mode == Mode::Require, "a required cache"),
    ];
    if let Some((_, what)) = single.iter().find(|(given, _)| *given) {
        return Err(AdviseError::ForOneGuest(what));
    }
    Usable::of(snapshot, like)
}

/// Returns what the nodes can give; with `own_cpus` their CPUs are those that no claim owns.
fn figures(
    snapshot: &Snapshot,
    like: &Request,
    usable: &Usable<'_>,
    own_cpus: bool,
) -> Result<Host, AdviseError> {
    let host = usable.host(snapshot, like)?;
    if !own_cpus {
        return Ok(host.into_owned());
    }
    let own = |node: &Node| {
        let free = free_cpus(snapshot, usable, NodeId(node.id)).len();
        Node { cpus: u32::try_from(free).unwrap_or(u32::MAX), ..*node }
    };
    let nodes = host.nodes().iter().map(own).collect();
    Host::new(nodes, std::sync::Arc::clone(&host.distances)).map_err(AdviseError::Figures)
}

/// Returns the usable CPUs of a node that no claim owns.
fn free_cpus(snapshot: &Snapshot, usable: &Usable<'_>, node: NodeId) -> CpuSet {
    if !usable.nodes.contains(node) {
        return CpuSet::new();
    }
    let all = usable.cpus_of(snapshot, &std::iter::once(node).collect());
    all.difference(snapshot.charges().pinned())
}

/// Returns what all guests together may take of memory, beside what the nodes have.
fn budget(snapshot: &Snapshot, like: &Request) -> Option<Bytes> {
    let huge = snapshot.huge_pages().filter(|_| like.pages.is_some());
    let huge = huge.map(|pages| Bytes::new(pages.unreserved().saturating_mul(pages.size.get())));
    let group = like.limits.memory.as_ref().filter(|_| like.pages.is_none());
    huge.into_iter().chain(group.map(|limit| limit.left)).min()
}

/// Returns what may be promised of each node beyond its memory, in MiB.
fn beyond(snapshot: &Snapshot, like: &Request, host: &Host) -> Vec<f64> {
    if like.pages.is_some() {
        return Vec::new();
    }
    let charges = snapshot.charges();
    let states = snapshot.nodes().iter().zip(host.nodes());
    let beyond = states.map(|(state, node)| {
        let (free, total) = (state.memory_free, state.memory_total);
        let free = free.unwrap_or_default().saturating_sub(reserve(total.unwrap_or_default()));
        if node.mem > 0.0 { mib(charges.beyond(state.id, free)) } else { 0.0 }
    });
    beyond.collect()
}

/// Returns the advice for a planned place, beside the guests that are charged, and the CPU of each vCPU.
fn made(
    charged: &Snapshot,
    request: &Request,
    planned: &Place,
    own_cpus: bool,
    proof: Proof,
) -> Result<(Advice, Vec<CpuId>), AdviseError> {
    let usable = Usable::of(charged, request)?;
    let host = usable.host(charged, request)?;
    let placement = place(&host, &question(request, &[]), &planned.nodes);
    let chosen = Chosen {
        nodes: &planned.nodes,
        figures: placement.as_ref().map(|placement| placement.figures),
        split: placement.as_ref().map_or(&[], |placement| &placement.split),
        proof: Some(proof),
    };
    let mut advice = describe(charged, request, &usable, &host, &chosen);
    // What they are short of alone is in the budget, which the plan keeps.
    advice.shortfall = None;
    let mut pinned = Vec::new();
    if own_cpus {
        for part in &planned.split {
            let free = free_cpus(charged, &usable, NodeId(part.node));
            let taken = charged.charges().pinned();
            let vcpus = usize::try_from(part.cpus.hundredths() / 100).unwrap_or(usize::MAX);
            pinned.extend(super::pin_cpus(charged, &free, taken, vcpus));
        }
        advice.cpus = pinned.iter().copied().collect();
        (advice.caches, advice.cache_cost) = (caches_of(charged, &advice), None);
        for (share, part) in advice.split.iter_mut().zip(&planned.split) {
            share.cpus = part.cpus.as_cpus();
        }
    }
    Ok((advice, pinned))
}

/// Returns the caches that the CPUs of an advice belong to.
fn caches_of(snapshot: &Snapshot, advice: &Advice) -> Vec<CacheShare> {
    let nodes = snapshot.topology().nodes().iter().filter(|node| node.knows_caches());
    let caches = nodes.flat_map(|node| node.caches.iter().map(|cache| (node.id, cache)));
    let shares = caches.map(|(node, cache)| CacheShare {
        node,
        level: cache.level,
        size: cache.size,
        cpus: cache.cpus.intersection(&advice.cpus),
    });
    shares.filter(|share| !share.cpus.is_empty()).collect()
}

/// Adds what a guest takes, as its claim will.
fn charge(
    mut charges: Charges,
    guest: &JointGuest,
    place: &Place,
    pages: Option<Bytes>,
) -> Charges {
    let Some(advice) = &guest.advice else { return charges };
    let pinned: CpuSet = guest.pinned.iter().copied().collect();
    let roams = pinned.is_empty() && !advice.usable_cpus.is_subset(&advice.cpus);
    let roaming = if roams { advice.cpus.clone() } else { CpuSet::new() };
    charges.add_pinned(&pinned);
    charges.add_shared(&roaming);
    for part in &place.split {
        let charge = charges.of_mut(NodeId(part.node));
        charge.cpus = charge.cpus.saturating_add(part.cpus);
        charge.add_roaming(&roaming, part.cpus);
        charge.add(part.memory, pages);
    }
    charges
}

/// Returns what a guest is short of that does not fit beside those that are charged, which have `taken` so much of
/// the memory.
fn short(
    charged: &Snapshot,
    request: &Request,
    taken: Bytes,
    own_cpus: bool,
) -> Result<Shortfall, AdviseError> {
    let usable = usable(charged, request)?;
    let host = figures(charged, request, &usable, own_cpus)?;
    let mut free: f64 = host.nodes().iter().map(|node| node.mem).sum();
    if let Some(budget) = budget(charged, request) {
        free = free.min(mib(budget.saturating_sub(taken)));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
    let free = Bytes::new((free * MIB) as u64);
    let cpus: u64 = host.nodes().iter().map(|node| u64::from(node.cpus)).sum();
    let mut cpus = CpuShare::from_cpus(cpus).unwrap_or_default();
    if let Some(limit) = request.beyond_cpu_limit() {
        cpus = cpus.min(limit.limit);
    }
    Ok(Shortfall {
        cpus: request.cpus.saturating_sub(cpus),
        memory: request.memory.saturating_sub(free),
    })
}
