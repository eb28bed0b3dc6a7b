//! From a request to its answer: single nodes first, then every set or a search.

use super::exact;
use super::front::{Front, limit};
use super::problem::{Host, Request};
use super::score::{Case, Room, Score, Shares};
use super::search;

/// How sure the answer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Proof {
    /// No set is more than 2 % faster; up to 16 useful nodes also the rule's exact answer.
    Optimal,
    /// No set is faster by more than this part, above 0.02: 0.05 means that the answer is at most 1.05
    /// times as slow as the fastest set.
    Gap(f64),
}

/// What a member of the chosen set carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The node's id.
    pub node: u32,
    /// CPUs of the guest that run there on the average.
    pub cpus: f64,
    /// MiB of the guest that lie there.
    pub mem: f64,
}

/// How the guest would live on the chosen set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// λ × (1 − µ + µ × near/10), rounded to 1e-6; 1 is an idle local node.
    pub slowdown: f64,
    /// Mean distance of the memory used; 10 is local.
    pub near: f64,
    /// λ: runnable threads for each CPU, at least 1.
    pub crowding: f64,
}

impl From<&Score> for Figures {
    fn from(score: &Score) -> Self {
        Self { slowdown: score.micros / 1e6, near: score.near, crowding: score.crowding }
    }
}

/// The chosen node set.
#[derive(Clone, Debug)]
pub struct Solution {
    /// Ids, ascending.
    pub nodes: Vec<u32>,
    /// False when the whole host has less than was asked for.
    pub fits: bool,
    /// `None` only on a host without any memory or without any CPU: then `nodes` are all that have either.
    pub figures: Option<Figures>,
    /// One for each node, in the order of `nodes`; empty without figures.
    pub split: Vec<Share>,
    /// Slowdown of the fastest set seen, which the answer is within 2 % of; 0 without figures.
    pub fastest: f64,
    /// How sure the answer is.
    pub proof: Proof,
    /// Work done, in node sets or nodes looked at; the same for the same input.
    pub steps: u64,
}

/// Buffers that answers are made in; nothing is allocated once they are warm.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) front: Front,
    pub(crate) shares: Shares,
    pub(crate) useful: Vec<usize>,
    pub(crate) search: search::Buffers,
    chosen: Vec<usize>,
    solution: Solution,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            front: Front::default(),
            shares: Shares::default(),
            useful: Vec::new(),
            search: search::Buffers::default(),
            chosen: Vec::new(),
            solution: Solution {
                nodes: Vec::new(),
                fits: false,
                figures: None,
                split: Vec::new(),
                fastest: 0.0,
                proof: Proof::Optimal,
                steps: 0,
            },
        }
    }
}

impl Workspace {
    /// Returns empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the last answer.
    #[must_use]
    pub fn solution(&self) -> &Solution {
        &self.solution
    }

    fn list_useful(&mut self, host: &Host) {
        self.useful.clear();
        self.useful.extend((0..host.nodes.len()).filter(|&i| host.nodes[i].is_useful()));
    }
}

/// Chooses the node set for a request by the rule of policy `best`.
///
/// Of all sets that hold the request those within 2 % of the lowest slowdown are equal; of these the
/// fewest nodes, then most room, then lowest ids. The answer lies in the workspace until the next one.
pub fn solve<'w>(host: &Host, request: &Request<'_>, space: &'w mut Workspace) -> &'w Solution {
    if certain(host, request, space) {
        return &space.solution;
    }
    let looked = space.solution.steps;
    solve_by_sets(host, request, space);
    space.solution.steps += looked;
    &space.solution
}

/// Answers as [`solve`] where that takes little: one node holds the guest, and bounds show that no set is
/// enough faster. False where it takes [`solve_by_sets`]; who makes seeds for that need not make them before.
/// The answer lies in the workspace ([`Workspace::solution`]).
pub fn certain(host: &Host, request: &Request<'_>, space: &mut Workspace) -> bool {
    let case = Case::new(host, request);
    space.solution.steps = 0;
    space.solution.proof = Proof::Optimal;
    space.solution.fits = case.fits;
    space.solution.fastest = 0.0;
    if let Some(lone) = ordinary(&case, host) {
        let solution = &mut space.solution;
        solution.fastest = lone.fastest;
        solution.steps = host.nodes.len() as u64;
        solution.figures = Some(lone.figures);
        solution.nodes.clear();
        solution.nodes.push(lone.share.node);
        solution.split.clear();
        solution.split.push(lone.share);
        return true;
    }
    space.list_useful(host);
    if space.useful.len() <= exact::MOST || !has_candidates(&case, &space.useful) {
        return false;
    }
    let effort = effort(request, space.useful.len()) / LOOK;
    space.front.clear();
    let Workspace { front, shares, useful, search: buffers, .. } = &mut *space;
    let (steps, found) = search::certain(&case, useful, effort, front, shares, buffers);
    space.solution.steps = steps;
    if found {
        conclude_best(&case, space);
    }
    found
}

/// One part in so many of the effort goes into the look whether one node is the answer, the others into
/// the search.
const LOOK: u64 = 16;

/// Returns the steps that a request allows a search among so many nodes.
fn effort(request: &Request<'_>, useful: usize) -> u64 {
    match request.effort {
        _ if useful <= exact::MOST => exact::EFFORT,
        Some(effort) => effort,
        None => search::default_effort(useful),
    }
}

/// Answers as [`solve`] where nothing is [`certain`], by a search with the steps that has left.
pub fn solve_by_sets<'w>(
    host: &Host,
    request: &Request<'_>,
    space: &'w mut Workspace,
) -> &'w Solution {
    let case = Case::new(host, request);
    space.solution.steps = 0;
    space.solution.proof = Proof::Optimal;
    space.solution.fits = case.fits;
    space.solution.fastest = 0.0;
    space.list_useful(host);
    if !has_candidates(&case, &space.useful) {
        conclude_without(&case, space);
        return &space.solution;
    }
    space.front.clear();
    let count = space.useful.len();
    let Workspace { front, shares, useful, search: buffers, solution, .. } = &mut *space;
    if count <= exact::FEW {
        solution.steps = exact::enumerate(&case, useful, front, shares);
    } else {
        let whole = effort(request, count);
        let effort = if count <= exact::MOST { whole } else { whole - whole / LOOK };
        let found = search::search(&case, useful, request.seeds, effort, front, shares, buffers);
        solution.steps = found.steps;
        solution.proof = found.proof;
        if count <= exact::MOST && !found.complete {
            solution.steps += search::sweep(&case, useful, front, shares, buffers)
                .unwrap_or_else(|| exact::enumerate(&case, useful, front, shares));
            solution.proof = Proof::Optimal;
        }
    }
    conclude_best(&case, space);
    &space.solution
}

/// One node that is certainly the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lone {
    /// The node, and all of the guest.
    pub share: Share,
    /// How the guest would live there.
    pub figures: Figures,
    /// Slowdown of the fastest node that holds the guest.
    pub fastest: f64,
}

/// Returns the answer where it is one node, and as fast as anything can be: the ordinary case. Takes
/// O(n) and allocates nothing; `None` where [`solve`] has to look at sets.
#[must_use]
pub fn lone(host: &Host, request: &Request<'_>) -> Option<Lone> {
    ordinary(&Case::new(host, request), host)
}

fn ordinary(case: &Case<'_>, host: &Host) -> Option<Lone> {
    // Nothing is less crowded than all nodes together, and nothing nearer than the shortest distance.
    let crowding = case.crowding(host.total.idle, host.total.cap.max(1e-6));
    let floor = case.slowdown(crowding, case.fabric.lowest());
    let mut low = f64::INFINITY;
    for at in 0..case.nodes.len() {
        if case.holds_alone(at) {
            low = low.min(case.weigh_one(at).micros);
        }
    }
    // The answer is slower than `low` by at most 2 %; where even the floor is within 2 % of `low`, only the
    // chosen node decides.
    if low * (1.0 - 1e-9) > limit(floor) {
        return None;
    }
    let mut best: Option<(Room, usize, Score)> = None;
    for at in 0..case.nodes.len() {
        if !case.holds_alone(at) {
            continue;
        }
        let score = case.weigh_one(at);
        if score.micros > limit(low) {
            continue;
        }
        let room = case.room(&[at]);
        if best.is_none_or(|(most, _, _)| room > most) {
            best = Some((room, at, score));
        }
    }
    // 1: the floor is not rounded, and its sums may run in another order.
    let (_, at, score) = best.filter(|(_, _, score)| score.micros <= limit(floor - 1.0))?;
    let (cpus, mem) = case.shares_of_one(at, score.crowding);
    let share = Share { node: case.nodes[at].id, cpus, mem };
    Some(Lone { share, figures: Figures::from(&score), fastest: low / 1e6 })
}

/// Says whether the useful nodes together are a candidate; if not, no set is.
fn has_candidates(case: &Case<'_>, useful: &[usize]) -> bool {
    let (mut cpus, mut cap, mut mem) = (0.0, 0.0, 0.0);
    for &i in useful {
        let node = &case.nodes[i];
        cpus += f64::from(node.cpus);
        cap += node.cap;
        mem += node.mem;
    }
    mem >= case.need_mem && cpus >= case.need_cpus && cap > 0.0
}

/// Writes the answer for a host without any memory or any CPU: all that have either.
fn conclude_without(case: &Case<'_>, space: &mut Workspace) {
    let solution = &mut space.solution;
    solution.fits = false;
    solution.figures = None;
    solution.split.clear();
    solution.nodes.clear();
    solution.nodes.extend(space.useful.iter().map(|&i| case.nodes[i].id));
}

/// Writes the answer that the front has.
fn conclude_best(case: &Case<'_>, space: &mut Workspace) {
    space.solution.fastest = space.front.low() / 1e6;
    let mut set = std::mem::take(&mut space.chosen);
    set.clear();
    set.extend(space.front.best().map(|e| e.set.as_slice()).unwrap_or_default());
    conclude(case, &set, space);
    space.chosen = set;
}

/// Writes the answer: the set with its figures and split.
fn conclude(case: &Case<'_>, set: &[usize], space: &mut Workspace) {
    let score = case.weigh(set, &mut space.shares);
    let (solution, shares) = (&mut space.solution, &space.shares);
    solution.figures =
        Some(Figures { slowdown: score.micros / 1e6, near: score.near, crowding: score.crowding });
    solution.nodes.clear();
    solution.nodes.extend(set.iter().map(|&i| case.nodes[i].id));
    solution.split.clear();
    for ((&i, x), y) in set.iter().zip(&shares.cpu).zip(&shares.mem) {
        solution.split.push(Share {
            node: case.nodes[i].id,
            cpus: x * case.cpus,
            mem: y * shares.placed,
        });
    }
}
