//! From a request to its answer: single nodes first, then every set or a search.

use super::model::{Host, Request};
use super::objective::{Problem, Room, Score, Shares, rounded};
use super::pareto::{ParetoFront, limit};
use super::solution::{Prediction, Proof, Share, SingleNode, Solution, per_million};
use super::{branch_and_bound, enumerate, nodes};

/// Reusable buffers; after the first answers nothing is allocated.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) front: ParetoFront,
    pub(crate) shares: Shares,
    pub(crate) useful: Vec<usize>,
    pub(crate) search: branch_and_bound::Buffers,
    chosen: Vec<usize>,
    solution: Solution,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            front: ParetoFront::default(),
            shares: Shares::default(),
            useful: Vec::new(),
            search: branch_and_bound::Buffers::default(),
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
/// fewest nodes, then most room, then lowest ids. The answer stays in the workspace until the next one.
pub fn solve<'w>(host: &Host, request: &Request<'_>, space: &'w mut Workspace) -> &'w Solution {
    if prove_single_node(host, request, space) {
        return &space.solution;
    }
    let looked = space.solution.steps;
    solve_by_sets(host, request, space);
    space.solution.steps += looked;
    &space.solution
}

/// Answers as [`solve`] where that takes few steps: one node holds the guest, and bounds prove that no set is
/// enough faster. Returns false where [`solve_by_sets`] is needed, so callers can defer computing seeds until then.
/// The answer is in the workspace ([`Workspace::solution`]).
pub fn prove_single_node(host: &Host, request: &Request<'_>, space: &mut Workspace) -> bool {
    let problem = Problem::new(host, request);
    space.solution.steps = 0;
    space.solution.proof = Proof::Optimal;
    space.solution.fits = problem.fits;
    space.solution.fastest = 0.0;
    if let Some(try_single_node) = fast_single_node(&problem, host) {
        let solution = &mut space.solution;
        solution.fastest = try_single_node.fastest;
        solution.steps = host.nodes.len() as u64;
        solution.figures = Some(try_single_node.figures);
        solution.nodes.clear();
        solution.nodes.push(try_single_node.share.node);
        solution.split.clear();
        solution.split.push(try_single_node.share);
        return true;
    }
    space.list_useful(host);
    if space.useful.len() <= enumerate::MAX_NODES || !has_candidates(&problem, &space.useful) {
        return false;
    }
    let effort = effort(request, space.useful.len()) / SINGLE_NODE_PART;
    space.front.clear();
    let Workspace { front, shares, useful, search: buffers, .. } = &mut *space;
    let (steps, found) =
        branch_and_bound::prove_single_node(&problem, useful, effort, front, shares, buffers);
    space.solution.steps = steps;
    if found {
        conclude_best(&problem, space);
    }
    found
}

/// One part in this many of the effort goes into proving a single node, the others into the search.
const SINGLE_NODE_PART: u64 = 16;

/// Returns the steps that a request allows a search among `useful` nodes.
fn effort(request: &Request<'_>, useful: usize) -> u64 {
    match request.effort {
        _ if useful <= enumerate::MAX_NODES => enumerate::SEARCH_STEPS,
        Some(effort) => effort,
        None => branch_and_bound::default_effort(useful),
    }
}

/// Answers as [`solve`] where [`prove_single_node`] does not, by a search with the steps that leaves.
pub fn solve_by_sets<'w>(
    host: &Host,
    request: &Request<'_>,
    space: &'w mut Workspace,
) -> &'w Solution {
    let problem = Problem::new(host, request);
    space.solution.steps = 0;
    space.solution.proof = Proof::Optimal;
    space.solution.fits = problem.fits;
    space.solution.fastest = 0.0;
    space.list_useful(host);
    if !has_candidates(&problem, &space.useful) {
        conclude_without(&problem, space);
        return &space.solution;
    }
    space.front.clear();
    let count = space.useful.len();
    let Workspace { front, shares, useful, search: buffers, solution, .. } = &mut *space;
    if count <= enumerate::ENUMERATED_NODES
        || (count <= enumerate::MAX_NODES && problem.is_coarse())
    {
        solution.steps = enumerate::enumerate(&problem, useful, front, shares);
    } else {
        let whole = effort(request, count);
        let effort =
            if count <= enumerate::MAX_NODES { whole } else { whole - whole / SINGLE_NODE_PART };
        let found = branch_and_bound::search(
            &problem,
            useful,
            request.seeds,
            effort,
            front,
            shares,
            buffers,
        );
        solution.steps = found.steps;
        solution.proof = found.proof;
        if count <= enumerate::MAX_NODES && !found.complete {
            solution.steps +=
                branch_and_bound::sweep(&problem, useful, front, shares, buffers, nodes::SLACK)
                    .unwrap_or_else(|| enumerate::enumerate(&problem, useful, front, shares));
            solution.proof = Proof::Optimal;
        }
    }
    conclude_best(&problem, space);
    &space.solution
}

/// Returns the answer where it is one node that is as fast as any set can be: the ordinary case. Takes O(n)
/// and allocates nothing; `None` where [`solve`] has to look at sets.
#[must_use]
pub fn try_single_node(host: &Host, request: &Request<'_>) -> Option<SingleNode> {
    fast_single_node(&Problem::new(host, request), host)
}

fn fast_single_node(problem: &Problem<'_>, host: &Host) -> Option<SingleNode> {
    // Nothing is less crowded than all nodes together, and nothing nearer than the shortest distance.
    let crowding = problem.crowding(host.total.idle, host.total.cap.max(1e-6));
    let floor = problem.slowdown(crowding, problem.distances.lowest()) * (1.0 - problem.slack);
    // A set at the floor rounds to this or the next.
    let floor = rounded(floor - 0.5);
    let mut low = u64::MAX;
    for at in 0..problem.nodes.len() {
        if problem.single_fits(at) {
            low = low.min(problem.evaluate_single(at).slowdown_ppm);
        }
    }
    // The answer is slower than `low` by at most 2 %; where even the floor is within 2 % of `low`, only the
    // chosen node decides.
    if low > limit(floor) {
        return None;
    }
    let mut best: Option<(Room, usize, Score)> = None;
    for at in 0..problem.nodes.len() {
        if !problem.single_fits(at) {
            continue;
        }
        let score = problem.evaluate_single(at);
        if score.slowdown_ppm > limit(low) {
            continue;
        }
        let room = problem.room(&[at]);
        if best.is_none_or(|(most, _, _)| room > most) {
            best = Some((room, at, score));
        }
    }
    let (_, at, score) = best.filter(|(_, _, score)| score.slowdown_ppm <= limit(floor))?;
    let (cpus, mem) = problem.shares_of_single(at, score.crowding);
    let share = Share { node: problem.nodes[at].id, cpus, mem };
    Some(SingleNode { share, figures: Prediction::from(&score), fastest: per_million(low) })
}

/// Returns the most steps that an answer takes on a host with up to 16 useful nodes; `None` beyond, where
/// the request's effort limits the search.
///
/// Up to 10 useful nodes each set is looked at once. Up to 16 a search of 1,000 steps comes first, then two sweeps,
/// at most 9 steps a set each, or where the figures forbid a sweep four passes over all sets.
#[must_use]
pub fn step_limit(host: &Host) -> Option<u64> {
    let useful = host.useful();
    let sets = 1u64 << useful.min(enumerate::MAX_NODES);
    match useful {
        _ if useful > enumerate::MAX_NODES => None,
        _ if useful <= enumerate::ENUMERATED_NODES => Some(sets.max(host.nodes.len() as u64)),
        // Effort is looked at between whole bounds and whole rows of exchanges: 1,000 covers one of each.
        _ => Some(
            enumerate::SEARCH_STEPS + 2 * branch_and_bound::RANGE_EFFORT + 3 * 1_000 + 22 * sets,
        ),
    }
}

/// Reports whether the useful nodes together are a candidate; if not, no set is.
fn has_candidates(problem: &Problem<'_>, useful: &[usize]) -> bool {
    let (mut cpus, mut cap, mut mem) = (0.0, 0.0, 0.0);
    for &i in useful {
        let node = &problem.nodes[i];
        cpus += f64::from(node.cpus);
        cap += node.cap;
        mem += node.mem;
    }
    mem >= problem.need_mem && cpus >= problem.need_cpus && cap > 0.0
}

/// Writes the answer for a host without any memory or any CPU: all that have either.
fn conclude_without(problem: &Problem<'_>, space: &mut Workspace) {
    let solution = &mut space.solution;
    solution.fits = false;
    solution.figures = None;
    solution.split.clear();
    solution.nodes.clear();
    solution.nodes.extend(space.useful.iter().map(|&i| problem.nodes[i].id));
}

/// Writes the best set of the Pareto front as the answer.
fn conclude_best(problem: &Problem<'_>, space: &mut Workspace) {
    space.solution.fastest = per_million(space.front.low());
    let mut set = std::mem::take(&mut space.chosen);
    set.clear();
    set.extend(space.front.best().map(|e| e.set.as_slice()).unwrap_or_default());
    conclude(problem, &set, space);
    space.chosen = set;
}

/// Writes the answer: the set with its figures and split.
fn conclude(problem: &Problem<'_>, set: &[usize], space: &mut Workspace) {
    let score = problem.evaluate(set, &mut space.shares);
    let (solution, shares) = (&mut space.solution, &space.shares);
    solution.figures = Some(Prediction {
        slowdown: per_million(score.slowdown_ppm),
        near: score.near,
        crowding: score.crowding,
    });
    solution.nodes.clear();
    solution.nodes.extend(set.iter().map(|&i| problem.nodes[i].id));
    solution.split.clear();
    for ((&i, x), y) in set.iter().zip(&shares.cpu).zip(&shares.mem) {
        solution.split.push(Share {
            node: problem.nodes[i].id,
            cpus: x * problem.cpus,
            mem: y * shares.placed,
        });
    }
}
