//! The JSON forms that other programs rely on. Memory is in bytes; lists of nodes and CPUs are text.

use placer_engine::{Advice, Request, Snapshot};
use serde::Serialize;

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
    slowdown: f64,
    notes: &'a [String],
}

#[derive(Serialize)]
struct RequestForm {
    cpus: f64,
    memory: u64,
}

#[derive(Serialize)]
struct ShareForm {
    node: u32,
    cpus: f64,
    memory: u64,
}

impl<'a> AdviceForm<'a> {
    pub(crate) fn new(request: &Request, advice: &'a Advice, notes: &'a [String]) -> Self {
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
            notes,
        }
    }
}

/// `placer show --json`.
#[derive(Serialize)]
pub(crate) struct HostForm<'a> {
    version: u32,
    nodes: Vec<NodeForm>,
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
}

#[derive(Serialize)]
struct DistancesForm {
    nodes: Vec<u32>,
    matrix: Vec<Vec<u32>>,
}

impl<'a> HostForm<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, hwloc: Option<serde_json::Value>) -> Self {
        let nodes =
            snapshot.nodes().iter().zip(snapshot.topology().nodes()).map(|(node, built)| {
                NodeForm {
                    id: node.id.0,
                    // As found: a CPU that the kernel lists in several nodes is in all of them.
                    cpus: built.listed.to_string(),
                    memory_total: node.memory_total.map(placer_engine::Bytes::get),
                    memory_free: node.memory_free.map(placer_engine::Bytes::get),
                    cpus_free: node.cpus_idle,
                }
            });
        let distances = snapshot.topology().distances().map(|table| DistancesForm {
            nodes: table.nodes().iter().map(|node| node.0).collect(),
            matrix: table.rows().map(<[u32]>::to_vec).collect(),
        });
        Self { version: 1, nodes: nodes.collect(), distances, hwloc, notes: snapshot.notes() }
    }
}

/// Writes a form as text, one object, with a line end.
pub(crate) fn text(form: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(form)?;
    text.push(b'\n');
    Ok(text)
}
