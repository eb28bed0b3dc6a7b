//! How large each rank is, and where it runs: a pure decision on one snapshot.

use placer_engine::claims::{Asker, Parts};
use placer_engine::{
    Advice, AdviseError, Bytes, CpuSet, CpuShare, Guest, JointGuest, NodeId, NodeSet, Request,
    Snapshot, advise_ranks, fit,
};
use placer_launcher::MemoryMode;

use crate::report::explain;
use crate::service::host::{CountedHost, USERS_LEFT_OUT};

/// What was asked for each rank; the rest is an equal part of what the step may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankRequest {
    pub cpus: Option<CpuShare>,
    pub memory: Option<Bytes>,
    pub mode: Option<MemoryMode>,
    /// How many ranks share what the step may use.
    pub count: usize,
    /// What the batch system gives the step of memory, if it says so.
    pub job_memory: Option<Bytes>,
    /// Whether ranks start where not all of them fit.
    pub force: bool,
}

/// The places of all ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    pub ranks: Vec<RankPlace>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Where one rank runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RankPlace {
    pub request: Request,
    pub advice: Advice,
    /// The CPUs it may use; no other rank and no claim has them where `own`.
    pub cpus: CpuSet,
    pub own: bool,
    /// How many threads it should start.
    pub threads: u64,
    pub mode: MemoryMode,
}

impl RankPlace {
    /// Returns what is claimed for it.
    pub fn parts(&self) -> Parts {
        let (own, roaming) = match self.own {
            true => (self.cpus.clone(), CpuSet::new()),
            false => (CpuSet::new(), self.cpus.clone()),
        };
        Parts::of(&self.request, &self.advice, own, roaming)
    }
}

/// One way to give CPUs to the ranks.
struct Way {
    /// The CPUs among which they are chosen.
    among: CpuSet,
    /// CPUs of each rank, in hundredths.
    each: u64,
    /// How many threads it should start.
    threads: u64,
    own: bool,
    /// Whether a CPU stands for its core.
    cores: bool,
}

/// The parts of an equal share of memory that are tried, in percent: as much as lets each rank be on one node.
const PARTS: [u64; 12] = [100, 95, 90, 85, 80, 75, 70, 60, 50, 25, 10, 0];

/// Decides where ranks of a step run, one for each entry of `near`, the node of its device: all of them, or one that
/// was started again beside the others. `like` has what they have in common; its CPUs and memory do not count.
///
/// Each rank gets CPUs of its own: whole cores where there are enough, else hardware threads. Where there are fewer
/// CPUs than ranks, they share all of them.
/// Errors: what does not fit, unless it is forced; as [`advise_ranks`].
pub fn decide(
    host: &CountedHost,
    asker: &Asker,
    like: &Request,
    wanted: &RankRequest,
    near: &[Option<NodeId>],
) -> Result<Decided, String> {
    let decided = decide_on(&host.snapshot, like, wanted, near);
    let charges = host.host_charges.as_ref().filter(|_| asker.principal().is_host());
    let (Err(_), Some(charges)) = (&decided, charges) else { return decided };
    // Claims of users never make a request of the host itself fail.
    let without = Snapshot::clone(&host.snapshot).with_charges(charges.clone());
    let mut second = decide_on(&without, like, wanted, near).or(decided)?;
    second.notes.push(USERS_LEFT_OUT.to_owned());
    Ok(second)
}

fn decide_on(
    snapshot: &Snapshot,
    like: &Request,
    wanted: &RankRequest,
    near: &[Option<NodeId>],
) -> Result<Decided, String> {
    let ranks = Ranks {
        placed: near.len().max(1) as u64,
        count: wanted.count.max(near.len()).max(1) as u64,
    };
    let usable = usable_cpus(snapshot, like);
    let free = usable.difference(snapshot.charges().pinned());
    let cores = cores(snapshot, &free);
    let all_cores = self::cores(snapshot, &usable).len() as u64;
    let mut notes = Vec::new();
    let there = There { free: &free, cores: &cores, usable: usable.len(), all_cores };
    let ways = ways(&there, like, wanted, ranks, &mut notes);
    let why = |error: AdviseError| error.to_string();
    let mut refused = None;
    for way in ways {
        let mut like = like.clone();
        like.limits.cpus = Some(way.among.clone());
        let cpus = CpuShare::from_hundredths(way.each);
        let memory = match wanted.memory {
            Some(memory) => memory,
            None => equal_memory(snapshot, &like, wanted, cpus, &way, ranks).map_err(why)?,
        };
        let rank = Guest { cpus, memory };
        let places = advise_ranks(snapshot, &like, rank, near, way.own).map_err(why)?;
        match places.iter().position(|place| place.advice.is_none()) {
            None => {
                let place = |place: JointGuest| {
                    let advice = place.advice?;
                    let cpus = if way.cores {
                        with_siblings(&advice.cpus, &cores)
                    } else {
                        advice.cpus.clone()
                    };
                    Some(RankPlace {
                        mode: mode(snapshot, &like, wanted, &advice),
                        request: place.request,
                        own: way.own,
                        threads: way.threads,
                        advice,
                        cpus,
                    })
                };
                return Ok(Decided {
                    ranks: places.into_iter().filter_map(place).collect(),
                    notes,
                });
            }
            Some(at) => refused = Some(refused.unwrap_or_else(|| refusal(at, &places[at]))),
        }
    }
    let what = refused.unwrap_or_else(|| {
        let cpus = wanted.cpus.unwrap_or_default().hundredths().div_ceil(100);
        let (placed, there) = (ranks.placed, words(free.len()));
        format!("{} for each of {placed} ranks do not fit: {there} may be used", words(cpus))
    });
    if !wanted.force {
        return Err(what);
    }
    // Whatever it costs: they share what there is, and nothing is promised to them.
    notes.push(what);
    let mut like = like.clone();
    like.limits.cpus = Some(free.clone());
    let cpus = CpuShare::from_hundredths((free.len() * 100 / ranks.count).max(1));
    let places = advise_ranks(snapshot, &like, Guest { cpus, memory: Bytes::ZERO }, near, false);
    let place = |place: JointGuest| {
        let advice = place.advice?;
        let threads = cpus.hundredths().div_ceil(100).max(1);
        let mode = wanted.mode.unwrap_or(MemoryMode::Preferred);
        Some(RankPlace {
            request: place.request,
            cpus: advice.cpus.clone(),
            own: false,
            threads,
            mode,
            advice,
        })
    };
    let ranks: Vec<RankPlace> = places.map_err(why)?.into_iter().filter_map(place).collect();
    if ranks.len() < near.len() {
        return Err("no node has CPUs for the ranks".to_owned());
    }
    Ok(Decided { ranks, notes })
}

/// How many ranks are placed, and how many the step has on this host.
#[derive(Clone, Copy, Debug)]
struct Ranks {
    placed: u64,
    count: u64,
}

/// What there is of CPUs.
struct There<'a> {
    free: &'a CpuSet,
    cores: &'a [CpuSet],
    /// How many the step may use, those of claims too: other ranks have some of them.
    usable: u64,
    all_cores: u64,
}

/// Returns the CPUs that the step may use.
fn usable_cpus(snapshot: &Snapshot, like: &Request) -> CpuSet {
    let topology = snapshot.topology();
    let mut nodes = topology.node_set();
    if let Some(within) = &like.within {
        nodes = nodes.intersection(within);
    }
    let all = topology.cpus_of(&nodes).difference(topology.isolated());
    like.limits.cpus.as_ref().map_or_else(|| all.clone(), |own| all.intersection(own))
}

/// Returns cores by those of their CPUs that are free.
fn cores(snapshot: &Snapshot, free: &CpuSet) -> Vec<CpuSet> {
    let known = snapshot.topology().nodes().iter().flat_map(|node| &node.cores);
    let mut cores: Vec<CpuSet> =
        known.map(|core| core.intersection(free)).filter(|core| !core.is_empty()).collect();
    let together = cores.iter().fold(CpuSet::new(), |all, core| all.union(core));
    cores.extend(free.difference(&together).iter().map(|cpu| std::iter::once(cpu).collect()));
    cores
}

fn with_siblings(cpus: &CpuSet, cores: &[CpuSet]) -> CpuSet {
    let touched = cores.iter().filter(|core| !core.intersection(cpus).is_empty());
    touched.fold(cpus.clone(), |all, core| all.union(core))
}

fn ways(
    there: &There<'_>,
    like: &Request,
    wanted: &RankRequest,
    ranks: Ranks,
    notes: &mut Vec<String>,
) -> Vec<Way> {
    let asked = wanted.cpus.map(|cpus| cpus.hundredths().div_ceil(100).max(1));
    // The control group's time is one for all ranks.
    let time = like.limits.cpu_time.as_ref().map(|limit| limit.limit.hundredths() / 100);
    let most = |cpus: u64| time.map_or(cpus, |time| cpus.min(time.max(1)));
    let firsts: CpuSet = there.cores.iter().filter_map(CpuSet::first).collect();
    let (cores, threads) = (firsts.len(), there.free.len());
    let mut ways = Vec::new();
    let mut add = |among: &CpuSet, all: u64, each: u64, threads: u64, cores: bool| {
        let fits = |ranks: u64, there: u64| each.saturating_mul(ranks) <= there;
        if each >= 1 && fits(ranks.placed, among.len()) && fits(ranks.count, all) {
            ways.push(Way { among: among.clone(), each: each * 100, threads, own: true, cores });
        }
    };
    let equal = |all: u64, free: u64| (most(all) / ranks.count).min(free / ranks.placed);
    let each = asked.unwrap_or_else(|| equal(there.all_cores, cores));
    add(&firsts, there.all_cores, each, each, true);
    // As many cores as have so many threads.
    let per_core = (there.usable / there.all_cores.max(1)).max(1);
    if let Some(asked) = asked.filter(|_| per_core > 1) {
        add(&firsts, there.all_cores, asked.div_ceil(per_core), asked, true);
    }
    if threads > cores {
        let each = asked.unwrap_or_else(|| equal(there.usable, threads));
        add(there.free, there.usable, each, each, false);
    }
    if ways.is_empty() && asked.is_none() && threads > 0 {
        notes.push(format!("{} ranks share {}", ranks.count, words(threads)));
        let each = (most(threads) * 100 / ranks.count).max(1);
        let threads = each.div_ceil(100);
        ways.push(Way { among: there.free.clone(), each, threads, own: false, cores: false });
    }
    ways
}

/// Returns an equal part of the memory that the step may use: of the limit of its control group or job, as much of
/// that as lets each rank be on one node, if that can be. Nothing where there is no limit: the whole host is not the
/// step's.
fn equal_memory(
    snapshot: &Snapshot,
    like: &Request,
    wanted: &RankRequest,
    cpus: CpuShare,
    way: &Way,
    ranks: Ranks,
) -> Result<Bytes, AdviseError> {
    let group = like.limits.memory.as_ref();
    let group =
        group.map(|limit| (limit.left.get() / ranks.placed).min(limit.limit.get() / ranks.count));
    let job = wanted.job_memory.map(|memory| memory.get() / ranks.count);
    let Some(whole) = group.into_iter().chain(job).min().filter(|_| like.pages.is_none()) else {
        return Ok(Bytes::ZERO);
    };
    // Whole MiB.
    let part = |percent: u64| Bytes::new(((whole / 100 * percent) >> 20) << 20);
    let mut all_fit = None;
    for percent in PARTS {
        let mut request = like.clone();
        (request.cpus, request.memory) = (cpus, part(percent));
        let fits = fit(snapshot, &request, way.own)?;
        if fits.on_one_node >= ranks.placed && percent >= 50 {
            return Ok(part(percent));
        }
        if fits.guests >= ranks.placed && all_fit.is_none() {
            all_fit = Some(part(percent));
        }
    }
    Ok(all_fit.unwrap_or(Bytes::ZERO))
}

/// Returns how a rank's memory is bound: strictly where it was asked for and claimed, or where the whole limit of the
/// step is free on its nodes, so that it cannot run out there; else its nodes are preferred.
fn mode(snapshot: &Snapshot, like: &Request, wanted: &RankRequest, advice: &Advice) -> MemoryMode {
    if let Some(mode) = wanted.mode {
        return mode;
    }
    let group = like.limits.memory.as_ref().map(|limit| limit.left);
    let limit = group.into_iter().chain(wanted.job_memory).min();
    let roomy = limit.is_some_and(|limit| limit <= room(snapshot, &advice.memory_nodes));
    if wanted.memory.is_some() || roomy { MemoryMode::Strict } else { MemoryMode::Preferred }
}

/// Returns what some nodes have free beside what is promised there.
fn room(snapshot: &Snapshot, nodes: &NodeSet) -> Bytes {
    let there = snapshot.nodes().iter().filter(|node| nodes.contains(node.id));
    let left = there.map(|node| {
        let (free, total) = (node.memory_free.unwrap_or_default(), node.memory_total);
        let free = free.saturating_sub(placer_engine::reserve(total.unwrap_or_default()));
        snapshot.charges().left(node.id, free)
    });
    left.sum()
}

fn words(cpus: u64) -> String {
    explain::cpus(CpuShare::from_cpus(cpus).unwrap_or_default())
}

fn refusal(rank: usize, place: &JointGuest) -> String {
    let short = place.shortfall.map(explain::short).unwrap_or_default();
    let what = explain::request_in_words(&place.request);
    format!("rank {rank} ({what}) does not fit beside the others: {short}")
}
