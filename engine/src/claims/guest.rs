//! Virtual machines that run on this host, started by placer or not: their size, the memory they have
//! not touched yet, and the hold that was made for them. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claim::{Caller, Claim, ClaimId, Origin, Owner, ProcessId, Promise, Seen};
use super::ledger::Ledger;
use super::principal::{Principal, Principals};
use crate::hash::mixed;
use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::sample::Instant;
use crate::units::{Bytes, CpuShare};

/// What a virtual machine was given, by its command line or by libvirt's file about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Its CPUs at the start.
    pub(super) cpus: u64,
    /// Its memory in bytes, the sum of its parts and of what lies in files.
    pub(super) memory: u64,
    /// The parts of its memory that pages of this host have to be found for.
    pub(super) parts: Vec<Part>,
    /// The nodes that libvirt was advised, and has kept with the guest.
    pub(super) advised: Option<Vec<u32>>,
}

/// A part of a guest's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// How much, in bytes.
    pub(super) memory: u64,
    /// The size of the huge pages it is in, in bytes.
    pub(super) page: Option<u64>,
    /// The nodes it is bound to; `None` when it is not.
    pub(super) nodes: Option<Vec<u32>>,
}

impl Spec {
    /// Cuts its parts in ordinary pages to what its process may have at most, together.
    pub(super) fn bound_by(&mut self, mut most: u64) {
        for part in self.parts.iter_mut().filter(|part| part.page.is_none()) {
            part.memory = part.memory.min(most);
            most -= part.memory;
        }
    }

    /// Returns all nodes that its memory is bound to; `None` when some part is not bound.
    fn bound(&self) -> Option<NodeSet> {
        let mut all = NodeSet::new();
        for part in &self.parts {
            part.nodes.as_ref()?.iter().for_each(|&node| {
                all.insert(NodeId(node));
            });
        }
        (!all.is_empty()).then_some(all)
    }
}

/// A guest that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Guest {
    /// Its process.
    pub(super) process: ProcessId,
    /// The user it runs as.
    pub(super) uid: u32,
    /// What it was given.
    pub(super) spec: Spec,
    /// Whether libvirt's own file tells of it.
    pub(super) libvirt: bool,
    /// The nodes its process may take memory of (`Mems_allowed_list`); `None` when not told.
    pub(super) allowed: Option<Vec<u32>>,
    /// When it was last looked at, in nanoseconds of the monotonic clock.
    pub(super) seen_ns: u64,
    /// What was resident then, in bytes of ordinary pages.
    pub(super) resident: u64,
    /// The same in huge pages.
    pub(super) huge: u64,
}

impl Guest {
    /// Returns the memory that is not there yet: in ordinary pages, and in huge ones.
    pub(super) fn lacking(&self) -> (u64, u64) {
        let of = |huge: bool| -> u64 {
            let parts = self.spec.parts.iter().filter(|part| part.page.is_some() == huge);
            parts.map(|part| part.memory).sum()
        };
        // A guest that was given ordinary memory and uses huge pages takes nothing more of it.
        let (huge, spare) = (of(true), self.huge.saturating_sub(of(true)));
        let there = self.resident.saturating_add(spare);
        (of(false).saturating_sub(there), huge.saturating_sub(self.huge))
    }

    /// Returns the claims for what is not there yet: one for ordinary memory and one for each size
    /// of huge pages. No CPUs: those it uses are seen to be busy.
    ///
    /// A part that is bound to one node is missing there, and no more of it than all that is
    /// missing. A part that may lie on several nodes (those it is bound to, else those its process
    /// may use, else all) is missing on them by what is free there, since the kernel takes memory
    /// from the next node when one is full. `free` tells that, node by node.
    pub(super) fn claims(&self, boot: &str, made: Instant, free: &[(NodeId, Bytes)]) -> Vec<Claim> {
        let (ordinary, huge) = self.lacking();
        let mut pages: Vec<Option<u64>> = self.spec.parts.iter().map(|part| part.page).collect();
        pages.sort_unstable();
        pages.dedup();
        let of_page = |page: Option<u64>| {
            let lacking = if page.is_some() { huge } else { ordinary };
            let parts: Vec<&Part> = self.spec.parts.iter().filter(|p| p.page == page).collect();
            let promised = self.spread(&parts, lacking, free);
            let memory: Bytes = promised.iter().map(|promise| promise.memory).sum();
            (memory > Bytes::ZERO).then(|| Claim {
                id: self.id(page),
                boot: boot.to_owned(),
                owner: Owner::Process(self.process),
                // Nobody asked.
                caller: Caller { uid: self.uid, pid: self.process.pid, program: "-".to_owned() },
                principal: Principal::of_uid(self.uid),
                nonce: None,
                origin: Origin::Observed,
                made,
                cpus: CpuShare::from_hundredths(self.spec.cpus.saturating_mul(100)),
                memory: Bytes::new(self.spec.memory),
                page: page.map(Bytes::new),
                promised,
                seen: Some(Seen {
                    at: Instant::from_nanoseconds(self.seen_ns),
                    resident: Bytes::new(self.resident),
                    huge: Bytes::new(self.huge),
                    ..Seen::default()
                }),
                pinned: CpuSet::new(),
                roaming: CpuSet::new(),
                within: NodeSet::new(),
                checked: None,
            })
        };
        pages.into_iter().filter_map(of_page).collect()
    }

    fn spread(&self, parts: &[&Part], lacking: u64, free: &[(NodeId, Bytes)]) -> Vec<Promise> {
        let all: u64 = parts.iter().map(|part| part.memory).sum();
        let mut on: Vec<(u32, u64)> = Vec::new();
        let mut add = |node: u32, memory: u64| match on.binary_search_by_key(&node, |&(id, _)| id) {
            Ok(at) => on[at].1 = on[at].1.saturating_add(memory),
            Err(at) => on.insert(at, (node, memory)),
        };
        for part in parts {
            let nodes = part.nodes.as_ref().or(self.allowed.as_ref());
            let may = |node: &NodeId| nodes.is_none_or(|nodes| nodes.contains(&node.0));
            if let Some([node]) = nodes.map(Vec::as_slice) {
                add(*node, part.memory.min(lacking));
                continue;
            }
            // In the measure of its size: which part it is that is missing, nobody tells.
            let missing = scale(lacking, part.memory, all);
            let open: Vec<_> = free.iter().filter(|(node, _)| may(node)).collect();
            let room: u64 = open.iter().map(|(_, free)| free.get()).sum();
            for (node, free) in &open {
                add(node.0, scale(missing, free.get(), room));
            }
        }
        let promise = |(node, memory): (u32, u64)| Promise {
            node: NodeId(node),
            memory: Bytes::new(memory),
            cpus: CpuShare::ZERO,
        };
        on.into_iter().filter(|&(_, memory)| memory > 0).map(promise).collect()
    }

    /// Returns whether what is missing has to be divided by what is free.
    pub(super) fn is_spread(&self) -> bool {
        let one = |part: &Part| {
            part.nodes.as_ref().or(self.allowed.as_ref()).is_some_and(|nodes| nodes.len() == 1)
        };
        self.lacking() != (0, 0) && !self.spec.parts.iter().all(one)
    }

    /// A name that stays the same as long as the guest runs.
    fn id(&self, page: Option<u64>) -> ClaimId {
        let (pid, start) = (u64::from(self.process.pid), self.process.start);
        ClaimId(mixed(pid ^ (start << 22) ^ page.unwrap_or(0)))
    }

    /// Returns whether a hold may be meant for this guest: as many CPUs and, to the MiB that
    /// libvirt asks for, as much memory; and where it is known to which nodes it was sent or bound,
    /// the same.
    fn suits(&self, hold: &Claim) -> bool {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let same = hold.cpus.hundredths() == self.spec.cpus.saturating_mul(100)
            && mib(hold.memory.get()) == mib(self.spec.memory);
        let promised: NodeSet = hold.promised.iter().map(|promise| promise.node).collect();
        let with_memory = hold.promised.iter().filter(|promise| promise.memory > Bytes::ZERO);
        let with_memory: NodeSet = with_memory.map(|promise| promise.node).collect();
        let sent = self.spec.advised.as_ref().map(|nodes| nodes.iter().copied().map(NodeId));
        let sent: Option<NodeSet> = sent.map(Iterator::collect).or_else(|| self.spec.bound());
        // libvirt leaves nodes without memory out of what it keeps.
        same && sent.is_none_or(|sent| sent.is_subset(&promised) && with_memory.is_subset(&sent))
    }
}

/// Returns `amount * part / whole`, rounded up; nothing of nothing.
fn scale(amount: u64, part: u64, whole: u64) -> u64 {
    let exact = (u128::from(amount) * u128::from(part)).div_ceil(u128::from(whole.max(1)));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// Starts are told in ticks of 10 ms, and rounded down.
const TICK_NS: u64 = 10_000_000;

/// Hands holds over to the guests that have appeared for them, oldest first: exactly, to those that
/// libvirt's files tell the nodes of; else to the next with as many CPUs and as much memory. Only
/// guests of the account that asked for the hold, which started after it was made and before it ended.
/// Returns how many.
///
/// `started_ns` is when a guest started, on the monotonic clock; `owned` is whether it has a claim already.
pub(super) fn adopt(
    ledger: &mut Ledger,
    guests: &[Guest],
    boot: &str,
    accounts: &Principals,
    started_ns: impl Fn(&Guest) -> u64,
    mut owned: impl FnMut(&Guest) -> bool,
) -> usize {
    let mut open: Vec<(u64, &Guest)> = guests
        .iter()
        .filter(|guest| !owned(guest))
        .map(|guest| (started_ns(guest), guest))
        .collect();
    open.sort_by_key(|(started, guest)| (*started, guest.process));
    let holds: Vec<Arc<Claim>> = ledger
        .claims()
        .iter()
        .filter(|claim| claim.boot == boot && matches!(claim.owner, Owner::Hold { .. }))
        .cloned()
        .collect();
    let mut taken = 0;
    for exact in [true, false] {
        for hold in &holds {
            let Owner::Hold { until } = hold.owner else { continue };
            let found = open.iter().position(|(started, guest)| {
                (guest.spec.advised.is_some() || !exact)
                    // A stranger's hold is no promise to this guest, and its claim would be the
                    // stranger's to end.
                    && accounts.of(guest.uid) == hold.principal
                    && started.saturating_add(2 * TICK_NS) >= hold.made.nanoseconds()
                    && *started <= until.nanoseconds()
                    && guest.suits(hold)
            });
            let Some(at) = found else { continue };
            if ledger.adopt(hold.id, open[at].1.process) {
                open.remove(at);
                taken += 1;
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests;
