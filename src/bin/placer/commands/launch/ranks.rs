//! `placer launch --ranks`: this process is one of the ranks that srun, mpirun or torchrun starts.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use nix::unistd::getppid;
use placer_engine::claims::{ClaimError, Nonce, Processes};
use placer_engine::source::device;
use placer_engine::store::StateDir;
use placer_engine::{Bytes, CpuId, CpuSet, CpuShare, Limits, NodeId, Request, Snapshot, SysRoot};
use placer_launcher::sys::{self, Mask, may_set_memory_policy};
use placer_launcher::{Binding, MemoryMode, Step, exec_in_place};

use super::ledger::{Held, Ledger};
use super::nothing_started;
use crate::output;
use crate::plan;
use placer::args::Launch;
use placer::service::host::Figures as _;
use placer::service::local::Local;
use placer::service::notes::Notes;
use placer::service::ranks::{
    Decided, Devices, Place, Rank, RankClaim, RankPlace, RankRequest, Shared, SharedPlan, decide,
};
use placer::service::sampling::{Window, state_dir};
use placer::settings;

const THREADS: &str = "OMP_NUM_THREADS";

pub(super) fn run(
    args: &Launch,
    root: &SysRoot,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    refuse(args)?;
    let mut look = Processes::look()?;
    let parent = u32::try_from(getppid().as_raw()).unwrap_or_default();
    let rank = Rank::find(&variable, &mut look, parent)?;
    let (limits, bound) = limits(args, &rank, root)?;
    let near = args.choice.near.as_ref().map(|name| device::node_of(root, name)).transpose()?;
    let devices = Devices::find(&variable, rank.count, near, root, notes);
    let nothing = Request::new(CpuShare::ZERO, Bytes::ZERO);
    let mut like = plan::request_within(&nothing, &args.choice, limits, root)?;
    like.near = None;
    // A bound rank already has only its own CPUs; the memory limit is still that of the whole step.
    let parts = if bound { rank.count as u64 } else { 1 };
    let part = |memory: Bytes| Bytes::new(memory.get() / parts);
    if let Some(limit) = &mut like.limits.memory {
        (limit.limit, limit.left) = (part(limit.limit), part(limit.left));
    }
    let wanted = RankRequest {
        cpus: args.cpus,
        memory: args.memory,
        mode: args.mode,
        count: if bound { 1 } else { rank.count },
        job_memory: job_memory().map(part),
        force: args.force,
    };
    let figures = Local::new(root, set, Window::Recent(args.host.window));
    let ledger =
        (!args.dry_run).then(|| Ledger::open(root, set, Nonce::random(), args.force, notes));
    let mut start = Start { args, rank, devices, like, wanted, figures, ledger, look };
    let placed = match &start.ledger {
        _ if bound => start.alone(notes)?,
        None => start.decide(&start.devices.near, notes)?.map(|mut all| {
            let place = all.swap_remove(start.rank.local);
            (place, None)
        }),
        Some(_) => start.shared(notes)?,
    };
    let (place, held) = match placed {
        Ok(placed) => placed,
        Err(what) => {
            output::notes(notes);
            return Ok(nothing_started(&what));
        }
    };
    let steps = start.steps(&place);
    if args.dry_run {
        output::notes(notes);
        let text: String = steps.iter().map(|step| format!("{step}\n")).collect();
        output::answer(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    output::last_notes(notes);
    let failed = exec_in_place(&steps).map(|never| match never {});
    if let Some(ledger) = &start.ledger {
        ledger.release(held);
    }
    failed?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses what ranks do not have.
fn refuse(args: &Launch) -> Result<(), String> {
    let given = [
        (args.guest.is_some(), "a guest definition"),
        (args.pin.is_some(), "--pin"),
        (args.cgroup.is_some(), "--cgroup"),
        (args.cgroup_parent.is_some(), "--cgroup-parent"),
        (args.isolated, "--isolated"),
        (args.stop_timeout.is_some(), "--stop-timeout"),
        (args.connect.is_some(), "--connect"),
        (args.define, "--define"),
        (args.print_xml, "--print-xml"),
        (args.json, "--json"),
        (args.explain, "--explain"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(format!("--ranks is for plain commands: omit {what}")),
        None => Ok(()),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns what all ranks of the step may use together, and whether this rank is bound to CPUs of its own which the
/// others do not have.
///
/// mpirun and srun bind each rank before it runs. What counts is what they could have bound it to: what its cpuset
/// allows, and what they themselves may use.
fn limits(args: &Launch, rank: &Rank, root: &SysRoot) -> Result<(Limits, bool), Box<dyn Error>> {
    if args.choice.machine_wide == Some(true) {
        return Ok((Limits::default(), false));
    }
    let mut limits = Limits::read(root)?;
    if !root.is_live() {
        return Ok((limits, false));
    }
    let Ok(own) = sys::affinity(0) else { return Ok((limits, false)) };
    let all: CpuSet = (0..own.last().map_or(0, |CpuId(last)| last).max(8191)).map(CpuId).collect();
    let widest = sys::set_affinity(0, &Mask::of_cpus(&all)).and_then(|()| sys::affinity(0));
    sys::set_affinity(0, &Mask::of_cpus(&own))?;
    let Ok(widest) = widest else { return Ok((limits, false)) };
    let pid = rank.starter.and_then(|starter| i32::try_from(starter.pid).ok());
    // One that cannot be seen may be bound itself.
    let Some(starters) = pid.and_then(|pid| sys::affinity(pid).ok()) else {
        return Ok((limits, own != widest));
    };
    let together = widest.intersection(&starters);
    // Where no cpuset keeps a job to its CPUs, what it is bound to is all that is known of them.
    let given = variable("SLURM_CPUS_ON_NODE").and_then(|text| text.parse::<u64>().ok());
    let escapes = rank.by == "Slurm" && given.is_some_and(|given| together.len() > given);
    if escapes || !own.is_subset(&together) {
        return Ok((limits, own != together));
    }
    limits.cpus = Some(together);
    Ok((limits, false))
}

/// Returns what Slurm gives the job of memory on this host.
fn job_memory() -> Option<Bytes> {
    let number = |name: &str| variable(name)?.parse::<u64>().ok().filter(|&mib| mib > 0);
    let per_cpu = || number("SLURM_MEM_PER_CPU")?.checked_mul(number("SLURM_CPUS_ON_NODE")?);
    number("SLURM_MEM_PER_NODE").or_else(per_cpu).and_then(Bytes::from_mib)
}

/// A rank that is being started.
struct Start<'a> {
    args: &'a Launch,
    rank: Rank,
    devices: Devices,
    like: Request,
    wanted: RankRequest,
    figures: Local<'a>,
    /// `None` for a dry run.
    ledger: Option<Ledger>,
    look: Processes,
}

/// A place and its claim, or what does not fit.
type Placed = Result<(Place, Option<Held>), String>;

impl Start<'_> {
    /// Takes the place that the first rank has decided on, or decides for all.
    fn shared(&mut self, notes: &mut Notes) -> Result<Placed, Box<dyn Error>> {
        let opened = match state_dir() {
            None => Err("XDG_RUNTIME_DIR and PLACER_STATE_DIR are not set".to_owned()),
            Some(path) => StateDir::open(&path)
                .map_err(|error| error.to_string())
                .and_then(|dir| Shared::open(&dir, &self.rank)),
        };
        let mut shared = match opened {
            Ok(shared) => shared,
            Err(why) if self.ledger.as_ref().is_some_and(Ledger::is_by_daemon) => {
                notes.warn(&format!("this rank decides without the others: {why}"));
                return self.alone(notes);
            }
            Err(why) => {
                notes.warn(&format!("neither CPUs nor memory are claimed: {why}"));
                return self.by_topology(notes);
            }
        };
        let mut plan = match shared.read(&self.rank, &mut self.look) {
            Some(plan) => plan,
            None => {
                shared.sweep(&mut self.look);
                match self.decide(&self.devices.near, notes)? {
                    Ok(places) => SharedPlan::new(&self.rank, places),
                    Err(what) => {
                        shared.remove();
                        return Ok(Err(what));
                    }
                }
            }
        };
        let near = self.devices.own;
        let is_near = |place: &Place| near.is_none_or(|node| place.memory.contains(node));
        let taken = plan.take(self.rank.local, is_near);
        if plan.is_all_taken() {
            shared.remove();
        } else if let Err(why) = shared.write(&plan) {
            notes.warn(&format!("the other ranks decide without this one: {why}"));
            shared.remove();
        } else {
            drop(shared);
        }
        let Some(place) = taken else {
            notes.warn("this rank has been started before: it decides without the others");
            return self.alone(notes);
        };
        let may_use = self.like.limits.cpus.as_ref().is_none_or(|own| place.cpus.is_subset(own));
        if !may_use {
            return self.alone(notes);
        }
        let held = place.claim.map(|claim| Held::known(claim.id, claim.by_daemon));
        if let (Some(held), Some(ledger)) = (held, &self.ledger)
            && let Err(why) = ledger.try_to_adopt(held, std::process::id(), None)
        {
            if why == ClaimError::NoSuchClaim(held.id()).to_string() {
                // The first rank has ended, or this one comes late.
                return self.alone(notes);
            }
            notes.warn(&format!("claim {} is not this rank's: {why}", held.id()));
        }
        Ok(Ok((place, held)))
    }

    /// Decides for all by what no rank sees differently: neither load nor memory, and no claim is made. So each rank
    /// finds the same plan.
    fn by_topology(&mut self, notes: &mut Notes) -> Result<Placed, Box<dyn Error>> {
        self.ledger = None;
        self.figures =
            Local::new(self.figures.root, self.figures.set, Window::Recent(Duration::ZERO));
        self.like.limits.memory = None;
        self.wanted.job_memory = None;
        self.wanted.memory = None;
        let decided = self.decide(&self.devices.near, notes)?;
        Ok(decided.map(|mut all| (all.swap_remove(self.rank.local), None)))
    }

    /// Decides for this rank alone, beside the claims of the others.
    fn alone(&self, notes: &mut Notes) -> Result<Placed, Box<dyn Error>> {
        let own = self.devices.near.get(self.rank.local).copied().flatten().or(self.devices.own);
        let decided = self.decide(&[own], notes)?;
        Ok(decided.map(|mut places| {
            let place = places.swap_remove(0);
            let held = place.claim.map(|claim| Held::known(claim.id, claim.by_daemon));
            (place, held)
        }))
    }

    /// Decides for ranks, and claims their places for this process. Returns what does not fit, if anything.
    fn decide(
        &self,
        near: &[Option<NodeId>],
        notes: &mut Notes,
    ) -> Result<Result<Vec<Place>, String>, Box<dyn Error>> {
        loop {
            let (session, host) = match &self.ledger {
                Some(ledger) => ledger.begin(&self.figures, self.like.pages, notes)?,
                None => (None, self.figures.counted(self.like.pages, notes)?),
            };
            let decided = decide(&host, &self.figures.asker(), &self.like, &self.wanted, near);
            let Decided { ranks, notes: said } = match decided {
                Ok(decided) => decided,
                Err(what) => return Ok(Err(what)),
            };
            let held = match &self.ledger {
                None => Vec::new(),
                Some(ledger) => {
                    let parts = ranks.iter().map(RankPlace::parts).collect();
                    let own = if near.len() == 1 { 0 } else { self.rank.local };
                    match ledger.claim_each(session, parts, own, notes) {
                        Ok(Some(held)) => held,
                        Ok(None) => {
                            drop(notes.take_lines());
                            continue;
                        }
                        Err(what) => return Ok(Err(what)),
                    }
                }
            };
            host.snapshot.notes().iter().chain(&said).for_each(|note| notes.warn(note));
            let forbidden = self.memory_stays_unbound(&host.snapshot, notes);
            let mut held = held.into_iter();
            let place = |rank: RankPlace| {
                let mode = if forbidden { MemoryMode::None } else { rank.mode };
                let binding = Binding::of(&rank.advice, mode);
                Place {
                    cpus: rank.cpus,
                    memory: binding.memory,
                    preferred: binding.preferred,
                    mode: binding.mode,
                    threads: rank.threads,
                    claim: held
                        .next()
                        .map(|held| RankClaim { id: held.id(), by_daemon: held.is_by_daemon() }),
                }
            };
            return Ok(Ok(ranks.into_iter().map(place).collect()));
        }
    }

    /// Returns whether memory is not bound: there is one node, or this process may set no memory policy, as under a
    /// container runtime's filter of system calls.
    fn memory_stays_unbound(&self, snapshot: &Snapshot, notes: &mut Notes) -> bool {
        if snapshot.topology().nodes().len() == 1 {
            return true;
        }
        if self.args.mode.is_some() || !self.figures.root.is_live() {
            return false;
        }
        match may_set_memory_policy() {
            Ok(()) => false,
            Err(errno) => {
                notes.warn(&super::unbound(errno));
                true
            }
        }
    }

    fn steps(&self, place: &Place) -> Vec<Step> {
        let binding = Binding {
            cpus: place.cpus.clone(),
            memory: place.memory.clone(),
            preferred: place.preferred.clone(),
            mode: place.mode,
        };
        let mut steps = binding.steps(self.args.command.clone());
        if variable(THREADS).is_none() {
            let value = place.threads.to_string();
            steps.insert(steps.len() - 1, Step::Variable { name: THREADS, value });
        }
        steps
    }
}
