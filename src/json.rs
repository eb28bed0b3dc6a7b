//! The JSON forms that other programs rely on. Memory is in bytes; lists of nodes and CPUs are text.

use placer_engine::claims::{Claim, ClaimId};
use placer_engine::policy::best::Proof;
use placer_engine::{Advice, Candidate, Explanation, Request, Snapshot};
use serde::Serialize;

use crate::explain;

/// `placer advise --json`.
#[derive(Serialize)]
pub(crate) struct AdviceForm<'a> {
    version: u32,
    request: RequestForm,
    policy: &'a str,
    nodes: String,
    cpus: String,
    fits: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<RequestForm>,
    split: Vec<ShareForm>,
    slowdown: Option<f64>,
    near: Option<f64>,
    crowding: Option<f64>,
    /// `"optimal"`, `{"gap": 0.05}`, or null by numad's rules.
    proof: Option<ProofForm>,
    alternatives: Vec<CandidateForm>,
    /// numad's own answer, by the same figures; null where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    numad: Option<CandidateForm>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remedies: Vec<String>,
    /// What `placer release` takes; not there when nothing was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct RequestForm {
    cpus: f64,
    memory: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ProofForm {
    Optimal,
    Gap(f64),
}

#[derive(Serialize)]
struct CandidateForm {
    nodes: String,
    slowdown: Option<f64>,
    near: Option<f64>,
    crowding: Option<f64>,
    reason: String,
}

impl CandidateForm {
    fn new(candidate: &Candidate) -> Self {
        Self {
            nodes: candidate.nodes.to_string(),
            slowdown: candidate.slowdown,
            near: candidate.near,
            crowding: candidate.crowding,
            reason: explain::reason(candidate),
        }
    }
}

#[derive(Serialize)]
struct ShareForm {
    node: u32,
    cpus: f64,
    memory: u64,
}

impl<'a> AdviceForm<'a> {
    pub(crate) fn new(
        request: &Request,
        advice: &'a Advice,
        notes: &'a [String],
        claim: Option<ClaimId>,
        why: Option<&Explanation>,
    ) -> Self {
        Self {
            version: 1,
            request: RequestForm { cpus: request.cpus.as_cpus(), memory: request.memory.get() },
            policy: advice.policy.name(),
            nodes: advice.nodes.to_string(),
            cpus: advice.cpus.to_string(),
            fits: advice.fits(),
            short: advice.shortfall.map(|short| RequestForm {
                cpus: short.cpus.as_cpus(),
                memory: short.memory.get(),
            }),
            split: advice
                .split
                .iter()
                .map(|share| ShareForm {
                    node: share.node.0,
                    cpus: share.cpus,
                    memory: share.memory.get(),
                })
                .collect(),
            slowdown: advice.slowdown,
            near: advice.near.map(millionths),
            crowding: advice.crowding.map(millionths),
            proof: advice.proof.map(|proof| match proof {
                Proof::Optimal => ProofForm::Optimal,
                Proof::Gap(gap) => ProofForm::Gap(gap),
            }),
            alternatives: why
                .map(|why| why.alternatives.iter().map(CandidateForm::new).collect())
                .unwrap_or_default(),
            numad: why.and_then(|why| why.numad.as_ref()).map(CandidateForm::new),
            remedies: why.map(|why| why.remedies.clone()).unwrap_or_default(),
            claim: claim.map(|id| id.to_string()),
            notes,
        }
    }
}

/// `placer show --json`.
#[derive(Serialize)]
pub(crate) struct HostForm<'a> {
    version: u32,
    nodes: Vec<NodeForm>,
    /// How many claims and holds there are; null when that cannot be told.
    claims: Option<CountForm>,
    distances: Option<DistancesForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hwloc: Option<serde_json::Value>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct NodeForm {
    id: u32,
    cpus: String,
    memory_total: Option<u64>,
    memory_free: Option<u64>,
    cpus_free: Option<f64>,
    /// What is promised of it and not yet visible as used; null when that cannot be told.
    claimed: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    claimed_huge: Vec<HugeForm>,
}

/// What is promised of a node in huge pages of one size.
#[derive(Serialize)]
struct HugeForm {
    page: u64,
    memory: u64,
}

#[derive(Serialize)]
struct CountForm {
    guests: usize,
    holds: usize,
}

#[derive(Serialize)]
struct DistancesForm {
    nodes: Vec<u32>,
    matrix: Vec<Vec<u32>>,
}

impl<'a> HostForm<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        claims: Option<&[Claim]>,
        hwloc: Option<serde_json::Value>,
    ) -> Self {
        let nodes =
            snapshot.nodes().iter().zip(snapshot.topology().nodes()).map(|(node, built)| {
                let charge = snapshot.charges().of(node.id);
                let huge = charge.huge.iter();
                NodeForm {
                    id: node.id.0,
                    // As found: a CPU that the kernel lists in several nodes is in all of them.
                    cpus: built.listed.to_string(),
                    memory_total: node.memory_total.map(placer_engine::Bytes::get),
                    memory_free: node.memory_free.map(placer_engine::Bytes::get),
                    cpus_free: node.cpus_idle,
                    claimed: claims.map(|_| charge.memory.get()),
                    claimed_huge: huge
                        .map(|(page, memory)| HugeForm { page: page.get(), memory: memory.get() })
                        .collect(),
                }
            });
        let distances = snapshot.topology().distances().map(|table| DistancesForm {
            nodes: table.nodes().iter().map(|node| node.0).collect(),
            matrix: table.rows().map(<[u32]>::to_vec).collect(),
        });
        let claims = claims.map(|claims| {
            let holds = claims.iter().filter(|claim| claim.owner.process().is_none()).count();
            CountForm { guests: claims.len() - holds, holds }
        });
        let (nodes, notes) = (nodes.collect(), snapshot.notes());
        Self { version: 1, nodes, claims, distances, hwloc, notes }
    }
}

/// Rounds to what is meant by a figure.
fn millionths(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

/// Writes a form as text, one object, with a line end.
pub(crate) fn text(form: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(form)?;
    text.push(b'\n');
    Ok(text)
}
