//! Why these nodes and no others, what numad would say, what would make a request fit.

use super::error::AdviseError;
use crate::advice::{Advice, CacheShare};
use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::policy::best::{self, Reason, Verdict};
use crate::policy::numad;
use crate::request::{Limits, Request};
use crate::snapshot::Snapshot;
use crate::units::{Bytes, CpuShare};

use super::usable::Usable;
use super::{by_numad, bytes, question, set};

/// Why an advice is what it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// What each node could give, in ascending order of ids.
    pub nodes: Vec<best::Node>,
    /// The sets that come next, best first.
    pub alternatives: Vec<Candidate>,
    /// The version of numad that is compared with.
    pub numad_version: numad::Version,
    /// Its set, by the figures of policy `best`; `None` where it has no answer.
    pub numad: Option<Candidate>,
    /// The caches of the advised nodes that no claim uses, in ascending order of CPUs; `None` where there is no
    /// choice, since no node has several or they are not looked at.
    pub free_caches: Option<Vec<CacheShare>>,
    /// What would make it fit, a clause each; empty when it fits.
    pub remedies: Vec<String>,
}

/// A set of nodes beside the advised one.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The nodes.
    pub nodes: NodeSet,
    /// How much slower than alone on local memory the guest would run; `None` without CPUs or memory.
    pub slowdown: Option<f64>,
    /// The mean distance of its CPUs from its memory.
    pub near: Option<f64>,
    /// How many runnable threads there would be for each CPU.
    pub crowding: Option<f64>,
    /// Why it is not the answer.
    pub reason: Reason,
}

/// The number of alternatives that are explained.
const TOLD: usize = 5;

/// Explains an advice that policy `best` gave for the same snapshot and request, beside what a
/// version of numad would name.
///
/// Takes longer than the advice itself, up to milliseconds on large hosts.
/// Errors: as [`advise`](crate::advise()).
pub fn explain(
    snapshot: &Snapshot,
    request: &Request,
    advice: &Advice,
    version: numad::Version,
) -> Result<Explanation, AdviseError> {
    let usable = Usable::of(snapshot, request)?;
    let host = usable.host(snapshot, request)?;
    let question = question(request, &[]);
    let mut space = best::Workspace::new();
    let mut solution = best::solve(&host, &question, &mut space).clone();
    // The answer as it was given: a device may have drawn it elsewhere.
    solution.nodes = advice.nodes.iter().map(|node| node.0).collect();
    let alternatives = best::alternatives(&host, &question, &solution, TOLD);
    let rules = numad::Rules::lenient(version);
    let numad = by_numad(snapshot, request, &rules, &usable).ok().map(|nodes| {
        let ids: Vec<u32> = nodes.iter().map(|node| node.0).collect();
        candidate(&best::judge(&host, &question, &solution, &ids))
    });
    Ok(Explanation {
        nodes: host.nodes().to_vec(),
        alternatives: alternatives.iter().map(candidate).collect(),
        numad_version: version,
        numad,
        free_caches: super::caches::free(snapshot, advice),
        remedies: remedies(snapshot, request, &usable, advice),
    })
}

fn candidate(verdict: &Verdict) -> Candidate {
    let figures = verdict.figures;
    Candidate {
        nodes: set(&verdict.nodes),
        slowdown: figures.map(|figures| figures.slowdown),
        near: figures.map(|figures| figures.near),
        crowding: figures.map(|figures| figures.crowding),
        reason: verdict.reason,
    }
}

/// Says what would make a request fit: more memory on the roomiest node, other pages, fewer CPUs,
/// the nodes and CPUs that limits keep away.
fn remedies(
    snapshot: &Snapshot,
    request: &Request,
    usable: &Usable<'_>,
    advice: &Advice,
) -> Vec<String> {
    let Some(short) = advice.shortfall else { return Vec::new() };
    let mut remedies = Vec::new();
    let fits = |request: &Request| super::advise(snapshot, request).is_ok_and(|a| a.fits());
    let mut roomy = request.clone();
    if let Some(limit) = request.beyond_memory_limit() {
        remedies.push(format!("a higher {} of control group {}", limit.file, limit.group));
        roomy.limits.memory = None;
    }
    if let Some(limit) = request.beyond_cpu_limit() {
        remedies.push(format!("a higher {} of control group {}", limit.file, limit.group));
        roomy.limits.cpu_time = None;
    }
    if !remedies.is_empty() && fits(&roomy) {
        return remedies;
    }
    if short.memory > Bytes::ZERO {
        let roomiest = usable.host(snapshot, request).ok().and_then(|host| {
            let most = host.nodes().iter().max_by(|a, b| a.mem.total_cmp(&b.mem))?;
            Some((NodeId(most.id), bytes(most.mem)))
        });
        let what = request.pages.map_or_else(String::new, |size| format!(" in pages of {size}"));
        if let Some((node, _)) = roomiest {
            remedies.push(format!("{} more{what} on node {node}", short.memory));
        }
        if request.pages.is_some() && fits(&Request { pages: None, ..request.clone() }) {
            remedies.push("ordinary pages (leave out --pages)".to_owned());
        }
    }
    if short.cpus > CpuShare::ZERO {
        let noun = if short.cpus == CpuShare::from_hundredths(100) { "CPU" } else { "CPUs" };
        remedies.push(format!("{} {noun} fewer", short.cpus));
    }
    if request.within.is_some() && fits(&Request { within: None, ..request.clone() }) {
        remedies.push("other nodes (leave out --within)".to_owned());
    }
    let own = Limits { cpus: None, memory_nodes: None, ..request.limits.clone() };
    if request.limits != own && fits(&Request { limits: own, ..request.clone() }) {
        remedies.push("the whole machine (--machine-wide)".to_owned());
    }
    remedies
}
