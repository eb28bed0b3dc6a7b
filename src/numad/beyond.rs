//! What a host's settings ask for by numad's name beyond what numad does: policy `best`, huge pages,
//! and holding what was advised until the guest is there.

use std::sync::Arc;

use placer_engine::claims::{ClaimOwner, LOCK_TIMEOUT, Parts};
use placer_engine::policy::cache;
use placer_engine::policy::numad::{Choice, Failure, Query, Rules, Version, charge};
use placer_engine::source::has_v1_cpusets;
use placer_engine::{
    Bytes, CpuSet, CpuShare, Limits, NodeSet, NodeState, Policy, Request, Snapshot, SourceError,
    SysRoot,
};

use super::Chosen;
use super::log::Log;
use super::options::{Advice, Options};
use crate::error_chain::chain;
use crate::service::advise::shortage_of;
use crate::service::claim_session::{Claimed, Desk, Session, claim_as_asked};
use crate::service::host::Figures;
use crate::service::notes::Notes;
use crate::settings::{Hold, PolicyName, Settings};

/// Returns whether the settings ask for anything that numad does not do.
pub fn is_asked_for(set: &Settings) -> bool {
    set.numad.policy == PolicyName::Best || set.numad.hold == Hold::Adopt
}

/// Answers by the settings. `None`, and one line, where that cannot be done: numad's own way then
/// has the last word, since libvirt starts no guest without an answer.
pub(super) fn choose_nodes(
    options: &Options,
    advice: Advice,
    set: &Settings,
    figures: &dyn Figures,
    log: &mut Log,
    notes: &mut Notes,
) -> Option<Chosen> {
    let by_best = set.numad.policy == PolicyName::Best;
    // An amount that numad's arithmetic has wrapped means something to numad's rules alone.
    let hundredths = match u64::try_from(advice.cpus_hundredths) {
        Ok(hundredths) => hundredths,
        Err(_) if by_best => 0,
        Err(_) => return None,
    };
    let megabytes = u64::try_from(advice.megabytes).unwrap_or(0);
    let memory = Bytes::from_mib(megabytes).unwrap_or_default();
    let pages = set.numad.pages;

    let desk =
        (set.numad.hold == Hold::Adopt).then(|| Desk::open(figures.root(), set.claims, notes));
    let before = notes.mark();
    loop {
        notes.back_to(before);
        let taken = match &desk {
            Some(desk) => desk.begin(figures, pages, LOCK_TIMEOUT, notes),
            None => figures.counted(pages, notes).map(|now| (None, now)),
        };
        let (mut session, mut host) = taken.map_err(|error| give_up(set, &error, notes)).ok()?;
        if by_best && !options.count_inactive_file {
            host.snapshot = Arc::new(without_file_cache(&host.snapshot));
        }
        let snapshot = &host.snapshot;
        let within = if by_best {
            within(set, snapshot, figures.root())
                .map_err(|error| give_up(set, &error, notes))
                .ok()?
        } else {
            None
        };
        let request = Request {
            policy: policy(options, set),
            limits: if by_best { limits(options, snapshot) } else { Limits::default() },
            within,
            pages,
            // Nodes alone are printed, and libvirt starts no guest without an answer: no cache is required.
            cache: cache::Rules::default().with_penalty(set.advise.cache_penalty),
            ..Request::new(CpuShare::from_hundredths(hundredths), memory)
        };
        if let Some(told) = session.as_mut().and_then(|session| again(session, &request)) {
            log_answer(options, advice, snapshot, &request, &told.nodes, log);
            return Some(told);
        }
        let answer = host.advise(&request, &figures.asker(), notes);
        let (answer, snapshot) = answer.map_err(|error| give_up(set, &error, notes)).ok()?;
        if answer.nodes.is_empty() {
            // Nothing is left on the host. A client gets what numad would say, which is a node.
            give_up(set, &std::io::Error::other("no node has any memory or CPU left"), notes);
            return None;
        }

        for note in snapshot.notes().iter().chain(&answer.notes) {
            notes.warn(note);
        }
        let holds = session.is_some();
        if let Some(short) = answer.shortfall.filter(|_| by_best || holds) {
            notes.warn(&shortage_of(holds, &request, &answer, short));
        }
        let claim = match session.filter(|_| answer.fits()) {
            None => None,
            Some(session) => {
                let who = ClaimOwner::Hold(set.claims.hold);
                let parts = Parts::of(&request, &answer, CpuSet::new(), CpuSet::new());
                match claim_as_asked(session, &request, parts, who, figures, notes) {
                    Claimed::Made(id) => Some(id),
                    Claimed::Refused => None,
                    Claimed::Outrun => continue,
                }
            }
        };
        log_answer(options, advice, &snapshot, &request, &answer.nodes, log);
        return Some(Chosen { nodes: answer.nodes, claim });
    }
}

/// libvirt's LXC driver runs this for each container, by itself, and it asks twice where memory is
/// interleaved or preferred: once to bind the container's processes, once for its control group.
const ASKS_TWICE: &str = "libvirt_lxc";

/// Returns what the same container was told before: a second answer of other nodes would part its
/// policy from its control group, and a second hold would promise its memory twice. Others that ask
/// twice, as libvirt's daemon does for guest after guest, ask for another guest.
fn again(session: &mut Session<'_>, request: &Request) -> Option<Chosen> {
    if session.asking() != Some(ASKS_TWICE) {
        return None;
    }
    let (claim, nodes) = session.held_before(request)?;
    Some(Chosen { nodes, claim: Some(claim) })
}

/// Logs an answer as numad does. By numad's own rules the choice is made once more, for the lines that
/// are logged of its steps.
fn log_answer(
    options: &Options,
    advice: Advice,
    snapshot: &Snapshot,
    request: &Request,
    nodes: &NodeSet,
    log: &mut Log,
) {
    super::log_reserved(log, options, &snapshot.host().numad);
    super::log_request(log, advice);
    let choice = match &request.policy {
        Policy::Numad(rules) => choose_again(rules, advice, snapshot, log).ok(),
        Policy::Best(_) => None,
    };
    let counts = |node: &&NodeState| {
        options.version == Version::V2025
            || node.memory_total.is_some_and(|total| total > Bytes::ZERO)
    };
    let listed = || snapshot.nodes().iter().filter(counts).map(|node| node.id).collect();
    let all = choice.map_or_else(listed, |choice| choice.all);
    super::log_choice(log, &all, nodes);
}

fn choose_again(
    rules: &Rules,
    advice: Advice,
    snapshot: &Snapshot,
    log: &mut Log,
) -> Result<Choice, Failure> {
    let machine = &snapshot.host().numad;
    let mut figures = machine.figures(snapshot.before(), snapshot.sample(), rules)?;
    charge(&mut figures, snapshot.charges());
    let rows = machine.distance_rows(rules)?;
    let query = Query { cpus: advice.cpus_hundredths, megabytes: advice.megabytes };
    super::choose_and_log(rules, &figures, &rows, query, log)
}

fn policy(options: &Options, set: &Settings) -> Policy {
    let thread_percent = u32::from(options.thread_percent);
    match set.numad.policy {
        PolicyName::Numad | PolicyName::Numad2015 | PolicyName::Numad2025 => {
            Policy::Numad(super::rules(options))
        }
        PolicyName::Best => {
            let mut rules = set.advise.rules();
            if options.given.contains(&b't') {
                rules.smt_percent = thread_percent;
            }
            Policy::Best(rules)
        }
    }
}

/// Returns the nodes that may be named. libvirt writes the answer to `cpuset.mems`, where cgroup v1
/// refuses a list with a node without memory.
fn within(
    set: &Settings,
    snapshot: &Snapshot,
    root: &SysRoot,
) -> Result<Option<NodeSet>, SourceError> {
    let own = set.advise.within.clone();
    let with_memory = with_memory(snapshot);
    if with_memory.is_empty() || !has_v1_cpusets(root)? {
        return Ok(own);
    }
    Ok(Some(own.map_or(with_memory.clone(), |own| own.intersection(&with_memory))))
}

fn with_memory(snapshot: &Snapshot) -> NodeSet {
    let has = |node: &&NodeState| node.memory_total.is_some_and(|total| total > Bytes::ZERO);
    snapshot.nodes().iter().filter(has).map(|node| node.id).collect()
}

/// `-R`: some CPUs are for nobody's guests.
fn limits(options: &Options, snapshot: &Snapshot) -> Limits {
    let Some(list) = &options.reserved else { return Limits::default() };
    let topology = snapshot.topology();
    let all = topology.cpus_of(&topology.node_set());
    let named = snapshot.host().numad.reserve(options.version, list).named;
    Limits { cpus: Some(all.difference(&named)), ..Limits::default() }
}

/// `-C 0`: inactive file cache is not free.
fn without_file_cache(snapshot: &Snapshot) -> Snapshot {
    let mut now = snapshot.sample().clone();
    for memory in &mut now.memory {
        if let Some(meminfo) = &mut memory.meminfo {
            meminfo.inactive_file = None;
        }
    }
    let new = Snapshot::new(snapshot.host().clone(), snapshot.before().cloned(), now)
        .with_charges(snapshot.charges().clone());
    match snapshot.huge_pages() {
        Some(pages) => new.with_huge_pages(pages.clone()),
        None => new,
    }
}

fn give_up(set: &Settings, error: &dyn std::error::Error, notes: &mut Notes) {
    let held = if set.numad.hold == Hold::Adopt { ", and nothing is held" } else { "" };
    let why = chain(error);
    notes.warn(&format!("numad's own rules answer{held}: {why}"));
}
