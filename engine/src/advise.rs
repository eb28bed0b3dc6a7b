//! From a snapshot and a request to an advice. Pure: no file, no clock, no global.

use crate::advice::{Advice, Share, Shortfall};
use crate::error::AdviseError;
use crate::idset::{CpuSet, NodeSet};
use crate::policy::Policy;
use crate::policy::numad::{self, Query};
use crate::policy::score::{Room, spread};
use crate::request::{Limits, Request};
use crate::snapshot::{NodeState, Snapshot};
use crate::units::{Bytes, CpuShare};

/// Advises where a guest should run.
///
/// A request that does not fit is answered too; [`Advice::shortfall`] says what is short. The same
/// snapshot and request always give the same advice.
/// Errors: no node may be used; numad's rules have no answer for the host.
pub fn advise(snapshot: &Snapshot, request: &Request) -> Result<Advice, AdviseError> {
    let usable = Usable::of(snapshot, &request.limits)?;
    let mut notes = Vec::new();
    let nodes = match &request.policy {
        Policy::Numad(rules) => {
            if let (true, Err(failure)) = (rules.lenient, snapshot.host().numad.readable_by_numad())
            {
                notes.push(format!("numad itself has no answer here: {failure}"));
            }
            by_numad(snapshot, request, rules, &usable)?
        }
    };
    Ok(Advice { notes, ..describe(snapshot, request, &usable, nodes) })
}

/// The part of the host that may be used.
struct Usable {
    nodes: NodeSet,
    cpus: CpuSet,
    limited: bool,
}

impl Usable {
    fn of(snapshot: &Snapshot, limits: &Limits) -> Result<Self, AdviseError> {
        let host = snapshot.topology().node_set();
        let nodes = limits.nodes.as_ref().map_or_else(|| host.clone(), |n| n.intersection(&host));
        if nodes.is_empty() {
            let allowed = limits.nodes.clone().unwrap_or_default();
            return Err(AdviseError::NoNodeAllowed { allowed, host });
        }
        let all = snapshot.topology().cpus_of(&host);
        let cpus = limits.cpus.as_ref().map_or_else(|| all.clone(), |c| c.intersection(&all));
        let limited = nodes != host || cpus != all;
        Ok(Self { nodes, cpus, limited })
    }
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
    let figures =
        machine.figures(snapshot.before(), snapshot.sample(), rules).map_err(AdviseError::Numad)?;
    let rows = machine.distance_rows(rules).map_err(AdviseError::Numad)?;
    let choice = numad::choose(&figures, &rows, query).map_err(AdviseError::Numad)?;
    Ok(choice.nodes)
}

/// Memory that is kept back on a node for the kernel and what else lives there.
fn reserve(total: Bytes) -> Bytes {
    Bytes::new((total.get() / 100).max(100 << 20))
}

/// What may be promised of a node.
#[expect(clippy::cast_precision_loss, reason = "no node has 2^53 CPUs or bytes")]
fn room(node: &NodeState, usable: &Usable) -> Room {
    let cpus = node.cpus.intersection(&usable.cpus).len() as f64;
    let free = node.memory_free.unwrap_or_default();
    let memory = free.saturating_sub(reserve(node.memory_total.unwrap_or_default()));
    Room {
        node: node.id,
        capacity: cpus,
        idle: node.cpus_idle.unwrap_or(cpus).min(cpus),
        memory: memory.get() as f64,
    }
}

/// Half of a guest's time is taken to be waiting for memory, where nothing else is known.
const MEMORY_BOUND: f64 = 0.5;

/// Says what a choice of nodes means.
#[expect(clippy::cast_precision_loss, reason = "no request has 2^53 bytes")]
#[expect(clippy::cast_possible_truncation, reason = "a part of an amount that fits")]
#[expect(clippy::cast_sign_loss, reason = "shares are not negative")]
fn describe(snapshot: &Snapshot, request: &Request, usable: &Usable, nodes: NodeSet) -> Advice {
    let rooms: Vec<Room> = snapshot
        .nodes()
        .iter()
        .filter(|node| nodes.contains(node.id))
        .map(|node| room(node, usable))
        .collect();
    let cpus = snapshot.topology().cpus_of(&nodes).intersection(&usable.cpus);
    let free = Bytes::new(rooms.iter().map(|room| room.memory as u64).sum());
    let usable_cpus = CpuShare::from_cpus(cpus.len()).unwrap_or_default();
    let short = Shortfall {
        cpus: request.cpus.saturating_sub(usable_cpus),
        memory: request.memory.saturating_sub(free),
    };
    let fits = short.cpus == CpuShare::ZERO && short.memory == Bytes::ZERO;

    let wanted = request.cpus.as_cpus().max(0.01);
    let memory = (request.memory.get() as f64).max((1u64 << 20) as f64);
    let spread = spread(&rooms, snapshot.topology().distances(), wanted, memory);
    let promised = memory.min(rooms.iter().map(|room| room.memory).sum());
    let split = rooms
        .iter()
        .zip(spread.cpu_shares.iter().zip(&spread.memory_shares))
        .map(|(room, (&x, &y))| Share {
            node: room.node,
            cpus: (x * wanted * 1e6).round() / 1e6,
            memory: Bytes::new((y * promised).round() as u64),
        })
        .collect();
    Advice {
        nodes,
        cpus,
        shortfall: (!fits).then_some(short),
        split,
        slowdown: spread.slowdown(MEMORY_BOUND),
        policy: request.policy.clone(),
        generation: snapshot.generation(),
        notes: Vec::new(),
    }
}
