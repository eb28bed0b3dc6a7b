//! From a snapshot and a request to an advice. Pure: no file, no clock, no global.

mod explain;
mod usable;

pub use explain::{Candidate, Explanation, explain};

use crate::advice::{Advice, Share, Shortfall};
use crate::error::AdviseError;
use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::policy::Policy;
use crate::policy::best::{self, Host, Placement, Proof, Workspace, place};
use crate::policy::numad::{self, Query};
use crate::request::Request;
use crate::snapshot::Snapshot;
use crate::units::{Bytes, CpuShare};
use usable::Usable;

/// Advises where a guest should run.
///
/// A request that does not fit is answered too; [`Advice::shortfall`] says what is short. The same
/// snapshot and request always give the same advice.
/// Errors: no node may be used; numad's rules have no answer for the host; huge pages that were not
/// read.
pub fn advise(snapshot: &Snapshot, request: &Request) -> Result<Advice, AdviseError> {
    let usable = Usable::of(snapshot, request)?;
    let host = usable.host(snapshot, request)?;
    let mut notes = Vec::new();
    let (nodes, proof) = match &request.policy {
        Policy::Best(_) => {
            let chosen = by_best(snapshot, request, &host, &usable)?;
            (chosen.0, Some(chosen.1))
        }
        Policy::Numad(rules) => {
            if let (true, Err(failure)) = (rules.lenient, snapshot.host().numad.readable_by_numad())
            {
                notes.push(format!("numad itself has no answer here: {failure}"));
            }
            (by_numad(snapshot, request, rules, &usable)?, None)
        }
    };
    Ok(Advice { notes, proof, ..describe(snapshot, request, &usable, &host, nodes) })
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
    usable: &Usable,
) -> Result<(NodeSet, Proof), AdviseError> {
    // numad's own set is among the candidates of a search that cannot see all.
    let seed: Vec<u32> = if host.nodes().len() > ALL_SETS_ARE_SEEN {
        let lenient = numad::Rules { lenient: true, ..numad::Rules::default() };
        let numads = by_numad(snapshot, request, &lenient, usable);
        numads.map(|nodes| nodes.iter().map(|node| node.0).collect()).unwrap_or_default()
    } else {
        Vec::new()
    };
    let seeds: [&[u32]; 1] = [&seed];
    let question = question(request, &seeds);
    let mut space = Workspace::new();
    let anywhere = best::solve(host, &question, &mut space);
    let answer = (set(&anywhere.nodes), anywhere.proof);
    let Some(device) = request.near else { return Ok(answer) };
    let Some(most) = anywhere.figures.map(|figures| figures.slowdown * WORTH_OF_A_DEVICE) else {
        return Ok(answer);
    };
    if !anywhere.fits {
        return Ok(answer);
    }
    // Ring by ring around the device: the nearest nodes that hold the guest well enough.
    for ring in usable.rings(snapshot, device)? {
        let nearer = usable.only(&ring).host(snapshot, request)?;
        let found = best::solve(&nearer, &question, &mut space);
        if found.fits && found.figures.is_some_and(|figures| figures.slowdown <= most) {
            return Ok((set(&found.nodes), found.proof));
        }
    }
    Ok(answer)
}

/// Up to so many useful nodes policy `best` looks at every set.
const ALL_SETS_ARE_SEEN: usize = 16;

fn set(ids: &[u32]) -> NodeSet {
    ids.iter().copied().map(NodeId).collect()
}

fn by_numad(
    snapshot: &Snapshot,
    request: &Request,
    rules: &numad::Rules,
    usable: &Usable,
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
    numad::charge(&mut figures, snapshot.charges());
    let rows = machine.distance_rows(rules).map_err(AdviseError::Numad)?;
    let choice = numad::choose(&figures, &rows, query).map_err(AdviseError::Numad)?;
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

/// Says what a choice of nodes means.
fn describe(
    snapshot: &Snapshot,
    request: &Request,
    usable: &Usable,
    host: &Host,
    nodes: NodeSet,
) -> Advice {
    let members = || host.nodes().iter().filter(|node| nodes.contains(NodeId(node.id)));
    let free: Bytes = members().map(|node| bytes(node.mem)).sum();
    let has: u64 = members().map(|node| u64::from(node.cpus)).sum();
    let short = Shortfall {
        cpus: request.cpus.saturating_sub(CpuShare::from_cpus(has).unwrap_or_default()),
        memory: request.memory.saturating_sub(free),
    };
    let fits = short.cpus == CpuShare::ZERO && short.memory == Bytes::ZERO;

    let ids: Vec<u32> = nodes.iter().map(|node| node.0).collect();
    let placement = place(host, &question(request, &[]), &ids);
    let split = placement.iter().flat_map(|Placement { split, .. }| split).map(|share| Share {
        node: NodeId(share.node),
        cpus: (share.cpus * 1e6).round() / 1e6,
        memory: bytes(share.mem),
    });
    let figures = placement.as_ref().map(|placement| placement.figures);
    Advice {
        cpus: snapshot.topology().cpus_of(&nodes).intersection(&usable.cpus),
        shortfall: (!fits).then_some(short),
        split: split.collect(),
        slowdown: figures.map(|figures| figures.slowdown),
        near: figures.map(|figures| figures.near),
        crowding: figures.map(|figures| figures.crowding),
        proof: None,
        nodes,
        policy: request.policy.clone(),
        generation: snapshot.generation(),
        notes: Vec::new(),
    }
}
