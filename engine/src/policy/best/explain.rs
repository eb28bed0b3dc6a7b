//! What other sets lack or cost compared with the answer, for `--explain`.

use super::model::{Host, Request};
use super::objective::{Problem, Room, Shares, Sums, rounded};
use super::pareto::limit;
use super::solution::{Prediction, Solution, per_million};

/// Up to that many useful nodes every set is a candidate to show.
const ALL_SETS: usize = 10;

/// Most nodes that pairs to show are made of.
const PAIRED: usize = 64;

/// Why a set is not the answer; the first that applies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// It is the answer.
    Chosen,
    /// None of its nodes has CPUs.
    NoCpus,
    /// It lacks that many MiB of what a candidate must have.
    LacksMemory(f64),
    /// It lacks that many CPUs of what a candidate must have.
    LacksCpus(f64),
    /// It is that many times as slow as the fastest set known, more than 1.02.
    Slower(f64),
    /// As fast, but it has that many nodes more.
    MoreNodes(usize),
    /// As fast with as many nodes, but worse in room: its figure divided by the answer's.
    LessRoom(f64),
    /// Equal in all, but its ids are higher.
    HigherIds,
    /// It would be better than the answer: a search that was cut short did not see it.
    Unseen,
}

/// One set beside the answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// Ids, ascending; ids that the host does not have are left out.
    pub nodes: Vec<u32>,
    /// What it means for the guest; `None` where the set has no CPUs or no memory.
    pub figures: Option<Prediction>,
    /// numad's magnitude of the set with placer's figures, or its free share under `prefer pack`.
    pub room: f64,
    /// Why it is not the answer.
    pub reason: Reason,
}

/// A candidate with the keys that order it.
struct Rank {
    slowdown_ppm: u64,
    room: Room,
    set: Vec<usize>,
}

/// Returns what `nodes` mean for the guest, and why they are not the answer `solution`.
///
/// `nodes` may be any set, such as numad's own answer; ids in any order.
#[must_use]
pub fn judge(host: &Host, request: &Request<'_>, solution: &Solution, nodes: &[u32]) -> Verdict {
    let problem = Problem::new(host, request);
    let set: Vec<usize> = positions(host, nodes);
    let fastest = rounded(solution.fastest * 1e6);
    verdict(&problem, solution, fastest, &set)
}

/// Returns up to `count` candidates that come next after the answer, best first.
///
/// Up to 10 useful nodes all sets are looked at; beyond, single nodes, pairs of the roomiest, and the sets
/// that differ from the answer by one node. Those as fast as the answer come first, by the rule, then the
/// others by slowdown.
#[must_use]
pub fn alternatives(
    host: &Host,
    request: &Request<'_>,
    solution: &Solution,
    count: usize,
) -> Vec<Verdict> {
    let problem = Problem::new(host, request);
    let fastest = rounded(solution.fastest * 1e6);
    let answer = positions(host, &solution.nodes);
    let mut shares = Shares::default();
    let mut ranks: Vec<Rank> = Vec::new();
    let mut look = |set: &[usize]| {
        let mut sums = Sums::default();
        set.iter().for_each(|&i| sums.add(&problem, i));
        if set != answer && problem.is_candidate(sums) {
            let slowdown_ppm = problem.evaluate(set, &mut shares).slowdown_ppm;
            ranks.push(Rank { slowdown_ppm, room: problem.room(set), set: set.to_vec() });
        }
    };
    let useful: Vec<usize> = (0..host.nodes.len()).filter(|&i| host.nodes[i].is_useful()).collect();
    if useful.len() <= ALL_SETS {
        let mut set = Vec::new();
        for mask in 1u32..1 << useful.len() {
            set.clear();
            set.extend(
                useful.iter().enumerate().filter(|(t, _)| mask >> t & 1 == 1).map(|(_, &i)| i),
            );
            look(&set);
        }
    } else {
        neighbours(&problem, &useful, &answer, &mut look);
    }
    let equal = limit(fastest);
    ranks.sort_by(|a, b| {
        let class = |r: &Rank| r.slowdown_ppm > equal;
        let by_rule = || {
            a.set.len().cmp(&b.set.len()).then(b.room.cmp(&a.room)).then_with(|| a.set.cmp(&b.set))
        };
        match (class(a), class(b)) {
            (false, false) => by_rule(),
            (true, true) => a.slowdown_ppm.cmp(&b.slowdown_ppm).then_with(by_rule),
            (a, b) => a.cmp(&b),
        }
    });
    ranks.dedup_by(|a, b| a.set == b.set);
    ranks.iter().take(count).map(|r| verdict(&problem, solution, fastest, &r.set)).collect()
}

/// Looks at single nodes, pairs of the roomiest nodes, and what differs from the answer by one node.
fn neighbours(
    problem: &Problem<'_>,
    useful: &[usize],
    answer: &[usize],
    look: &mut dyn FnMut(&[usize]),
) {
    useful.iter().for_each(|&i| look(&[i]));
    let mut roomy = useful.to_vec();
    roomy.sort_by_key(|&i| (std::cmp::Reverse(problem.room(&[i])), i));
    roomy.truncate(PAIRED);
    roomy.sort_unstable();
    for (t, &a) in roomy.iter().enumerate() {
        roomy.iter().skip(t + 1).for_each(|&b| look(&[a, b]));
    }
    let mut trial = Vec::new();
    for out in 0..=answer.len() {
        let mut with = |new: Option<usize>| {
            trial.clear();
            trial.extend(answer.iter().enumerate().filter(|&(t, _)| t != out).map(|(_, &i)| i));
            trial.extend(new);
            trial.sort_unstable();
            // Single nodes and pairs were looked at.
            if trial.len() > 2 {
                look(&trial);
            }
        };
        with(None);
        useful.iter().filter(|i| !answer.contains(i)).for_each(|&i| with(Some(i)));
    }
}

fn positions(host: &Host, nodes: &[u32]) -> Vec<usize> {
    (0..host.nodes.len()).filter(|&i| nodes.contains(&host.nodes[i].id)).collect()
}

fn verdict(problem: &Problem<'_>, solution: &Solution, fastest: u64, set: &[usize]) -> Verdict {
    let mut sums = Sums::default();
    set.iter().for_each(|&i| sums.add(problem, i));
    let score =
        (sums.cap > 0.0 && sums.mem > 0.0).then(|| problem.evaluate(set, &mut Shares::default()));
    let nodes: Vec<u32> = set.iter().map(|&i| problem.nodes[i].id).collect();
    let answer: Vec<usize> = (0..problem.nodes.len())
        .filter(|&i| solution.nodes.contains(&problem.nodes[i].id))
        .collect();
    let (own, best) = (problem.room(set), problem.room(&answer));
    let reason = match score {
        _ if nodes == solution.nodes => Reason::Chosen,
        _ if sums.cap <= 0.0 => Reason::NoCpus,
        _ if sums.mem < problem.need_mem => Reason::LacksMemory(problem.need_mem - sums.mem),
        _ if sums.cpus < problem.need_cpus => Reason::LacksCpus(problem.need_cpus - sums.cpus),
        None => Reason::LacksMemory(problem.need_mem),
        Some(score) if score.slowdown_ppm > limit(fastest) => {
            Reason::Slower(per_million(score.slowdown_ppm) / per_million(fastest))
        }
        Some(_) if set.len() > answer.len() => Reason::MoreNodes(set.len() - answer.len()),
        Some(_) if set.len() < answer.len() || own > best => Reason::Unseen,
        Some(_) if own < best => {
            Reason::LessRoom(problem.room_figure(set) / problem.room_figure(&answer))
        }
        Some(_) => Reason::HigherIds,
    };
    let figures = score.map(|s| Prediction::from(&s));
    Verdict { nodes, figures, room: problem.room_figure(set), reason }
}
