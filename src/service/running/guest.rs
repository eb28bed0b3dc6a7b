//! One guest that runs, as a plan sees it.

use std::time::Duration;

use placer_engine::balance::{Fixed, Guest, GuestMemory};
use placer_engine::claims::{Claim, Origin, Owner, Processes, Running, ThreadTimes};
use placer_engine::{Bytes, CpuSet, NodeId, NodeSet, Snapshot};

use super::Subject;
use super::residence::residence;
use crate::report::balance::GuestName;

/// A guest that runs.
#[derive(Clone, Debug)]
pub struct RunningGuest {
    /// What it is called.
    pub name: GuestName,
    /// What a plan is made from.
    pub guest: Guest,
    /// CPUs that its threads used, without the time they waited.
    pub ran: f64,
    /// The owner of its claims.
    pub(crate) owner: Owner,
    /// The claims that were asked for it.
    pub(crate) claims: Vec<std::sync::Arc<Claim>>,
}

/// What the threads of a guest did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// CPUs wanted: ran and waited.
    demand: f64,
    /// CPUs used.
    ran: f64,
    /// CPU time since the start, in seconds.
    all_s: f64,
}

impl Used {
    /// Returns what threads did between two readings; without a time between them only the sum is known.
    pub(super) fn between(
        before: &ThreadTimes,
        after: &ThreadTimes,
        elapsed: Option<Duration>,
    ) -> Self {
        let (ran, waited) = after.since(before);
        let all_s = Duration::from_nanos(after.ran_ns()).as_secs_f64();
        let Some(elapsed) = elapsed else { return Self { demand: f64::NAN, ran: f64::NAN, all_s } };
        let share = |ns: u64| Duration::from_nanos(ns).as_secs_f64() / elapsed.as_secs_f64();
        Self { demand: share(ran.saturating_add(waited)), ran: share(ran), all_s }
    }
}

impl RunningGuest {
    /// Returns the CPUs that it used on a node: by the capacity of its nodes.
    pub(super) fn ran_on(&self, node: NodeId, snapshot: &Snapshot) -> f64 {
        let cpus = |id: NodeId| {
            let built = snapshot.topology().node(id);
            built.map_or(0, |built| built.cpus.len())
        };
        if !self.guest.threads.contains(node) {
            return 0.0;
        }
        let all: u64 = self.guest.threads.iter().map(cpus).sum();
        #[expect(clippy::cast_precision_loss, reason = "no host has 2^53 CPUs")]
        let part = cpus(node) as f64 / all.max(1) as f64;
        self.ran * part
    }
}

/// Looks at a guest; `None` where it has ended, or is not seen from here.
pub(super) fn look_at(
    subject: &Subject,
    used: Option<Used>,
    look: &mut Processes,
    snapshot: &Snapshot,
) -> Option<RunningGuest> {
    let own = nix::unistd::geteuid().as_raw();
    let believed = subject.claims.iter().all(|claim| {
        claim.principal.is_host() || claim.caller.uid == own || claim.origin == Origin::Observed
    });
    let running = look.running(&subject.owner, believed)?;
    let residence = residence(&running);
    let fixed = fixed(subject, &running, residence.is_none() || used.is_none(), snapshot);
    let average = used.map_or(0.0, |used| used.all_s / running.age_s.max(1.0));
    let measured = used.filter(|used| used.demand.is_finite());
    let (demand, ran) = measured.map_or((average, average), |used| (used.demand, used.ran));
    Some(RunningGuest {
        name: GuestName {
            claim: subject.asked().map(|claim| claim.id),
            pid: running.pid,
            program: running.program.clone(),
            tried: None,
        },
        ran,
        owner: subject.owner.clone(),
        claims: subject
            .claims
            .iter()
            .filter(|claim| claim.origin == Origin::Asked)
            .cloned()
            .collect(),
        guest: Guest {
            threads: nodes_of(snapshot, &running.cpus),
            memory: memory(subject, &running, &residence.unwrap_or_default()),
            demand,
            peak: average.max(ran),
            allowed: allowed(subject, &running, snapshot),
            age_s: running.age_s,
            rested_s: None,
            fixed,
        },
    })
}

/// Returns the nodes that a guest may be moved to: where placer chose its nodes, those it was to choose from.
fn allowed(subject: &Subject, running: &Running, snapshot: &Snapshot) -> NodeSet {
    let all = snapshot.topology().node_set();
    let asked = subject.claims.iter().filter(|claim| claim.origin == Origin::Asked);
    let within = asked.map(|claim| &claim.within).filter(|within| !within.is_empty());
    let all = within.fold(all, |all, within| all.intersection(within));
    if subject.asked().is_some() || running.memory_nodes.is_empty() {
        return all;
    }
    all.intersection(&running.memory_nodes)
}

/// Returns the nodes of some CPUs.
fn nodes_of(snapshot: &Snapshot, cpus: &CpuSet) -> NodeSet {
    let nodes = snapshot.topology().nodes().iter();
    nodes.filter(|node| !node.cpus.intersection(cpus).is_empty()).map(|node| node.id).collect()
}

/// Returns why a guest must not be moved.
fn fixed(
    subject: &Subject,
    running: &Running,
    unknown: bool,
    snapshot: &Snapshot,
) -> Option<Fixed> {
    let placed = subject.asked();
    let all = snapshot.host().roaming();
    // What placer chose for a guest it may choose anew.
    let ours =
        |cpus: &CpuSet| placed.is_some_and(|claim| cpus.is_subset(&cpus_of(claim, snapshot)));
    let own_group = matches!(subject.owner, Owner::Cgroup(..));
    let group = running.group_cpus.as_ref().filter(|group| !own_group && !all.is_subset(group));
    let bound = !all.is_subset(&running.cpus) && !ours(&running.cpus);
    // Pools of huge pages are not looked at.
    if running.huge > Bytes::ZERO || subject.claims.iter().any(|claim| claim.page.is_some()) {
        Some(Fixed::HugePages)
    } else if placed.is_some_and(|claim| !claim.pinned.is_empty()) {
        Some(Fixed::Pinned)
    } else if group.is_some_and(|group| !ours(group)) {
        Some(Fixed::Cpuset)
    } else if bound || !running.same_cpus || (running.binds_memory && placed.is_none()) {
        Some(Fixed::Bound)
    } else {
        unknown.then_some(Fixed::Unknown)
    }
}

/// Returns the CPUs of the nodes that a claim was promised.
fn cpus_of(claim: &Claim, snapshot: &Snapshot) -> CpuSet {
    let nodes: NodeSet = claim.promised.iter().map(|promise| promise.node).collect();
    snapshot.topology().cpus_of(&nodes)
}

/// Returns a guest's memory by node: what is there, what of it cannot move, and what was promised.
fn memory(subject: &Subject, running: &Running, residence: &[(NodeId, Bytes)]) -> Vec<GuestMemory> {
    let all: Bytes = residence.iter().map(|&(_, memory)| memory).sum();
    let pinned = if running.has_device { all } else { running.pinned.min(all) };
    let mut memory: Vec<GuestMemory> = residence
        .iter()
        .map(|&(node, resident)| GuestMemory {
            node,
            resident,
            // Which pages are pinned is not known: as many on each node as it has of all.
            pinned: part(pinned, resident, all),
            claimed: Bytes::ZERO,
        })
        .collect();
    let ordinary = subject.claims.iter().filter(|claim| claim.page.is_none());
    for claim in ordinary {
        let observed = claim.origin == Origin::Observed;
        let there = if observed { Bytes::ZERO } else { all };
        let mut lacking = claim.promised_memory().saturating_sub(there);
        for promise in &claim.promised {
            let found = memory.iter().position(|memory| memory.node == promise.node);
            let at = found.unwrap_or_else(|| {
                let (node, none) = (promise.node, Bytes::ZERO);
                memory.push(GuestMemory { node, resident: none, pinned: none, claimed: none });
                memory.len() - 1
            });
            let resident = if observed { Bytes::ZERO } else { memory[at].resident };
            let missing = promise.memory.saturating_sub(resident).min(lacking);
            memory[at].claimed = memory[at].claimed.saturating_add(missing);
            lacking = lacking.saturating_sub(missing);
        }
    }
    memory.sort_by_key(|memory| memory.node);
    memory
}

/// Returns `amount * part / whole`.
fn part(amount: Bytes, part: Bytes, whole: Bytes) -> Bytes {
    let exact = u128::from(amount.get()) * u128::from(part.get()) / u128::from(whole.get().max(1));
    Bytes::new(u64::try_from(exact).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "whole MiB are exact up to 2^73 bytes")]
pub(super) fn mib(bytes: Bytes) -> f64 {
    bytes.get() as f64 / f64::from(1 << 20)
}
