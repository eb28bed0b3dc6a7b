//! The decision for one task, and its binding.

use std::time::Duration;

use placer::service::claim_session::{Claimed, Desk, claim_for_own};
use placer::service::host::Figures as _;
use placer::service::local::Local;
use placer::service::notes::Notes;
use placer::service::ranks::{Devices, RankPlace, RankRequest, decide};
use placer::service::sampling::Window;
use placer::settings::Settings;
use placer_engine::{Bytes, CpuSet, CpuShare, Limits, Request, SysRoot};
use placer_launcher::sys::{self, Mask, Policy};
use placer_launcher::{Binding, MemoryMode};

use crate::slurm::{Item, Slurm};

/// The load of the CPUs is that of a recent sample, if one is kept: a task does not wait for a measurement.
const WINDOW: Duration = Duration::ZERO;
/// For any one holder of the ledger's lock.
const PATIENCE: Duration = Duration::from_millis(150);
/// From this number on steps are Slurm's own: the batch script, an interactive shell.
const FIRST_OF_SLURM: u64 = 0xffff_fff0;
/// MB that Slurm takes for all of a host's memory, or for a number that is not known.
const NO_MEMORY: u64 = 1 << 40;

/// What was asked for each task of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asked {
    cpus: Option<CpuShare>,
    memory: Option<Bytes>,
    /// Whether the host's plugstack.conf asks, and not the user: such a task starts wherever there is room.
    by_host: bool,
}

impl Asked {
    /// Reads the argument of `--placer`; without one each task gets what Slurm gives it.
    ///
    /// Errors: it is no request.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text.filter(|text| !text.is_empty() && *text != "(null)") else {
            return Ok(Self::default());
        };
        let request: Request =
            text.parse().map_err(|error: placer_engine::RequestError| error.to_string())?;
        let memory = Some(request.memory).filter(|_| text.contains(':'));
        Ok(Self { cpus: Some(request.cpus), memory, by_host: false })
    }

    /// Returns what plugstack.conf asks for with `all`.
    pub(crate) fn by_host() -> Self {
        Self { by_host: true, ..Self::default() }
    }

    /// Returns what Slurm is told where a task cannot be placed.
    pub(crate) fn status(&self) -> i32 {
        if self.by_host { 0 } else { -1 }
    }
}

/// The place of a task.
#[derive(Debug)]
pub(crate) struct Chosen {
    cpus: CpuSet,
    memory: Policy,
    /// For the message when it is refused.
    words: String,
}

/// Chooses the place of this process within what its job may use, and claims it for this process. `None`: it cannot be
/// claimed, which was said.
///
/// Errors: what does not fit, or cannot be read.
pub(crate) fn choose(slurm: &impl Slurm, asked: &Asked) -> Result<Option<Chosen>, String> {
    // Batch scripts and interactive shells are steps to Slurm; their CPUs are those of the job.
    if slurm.number(Item::Step).is_some_and(|step| step >= FIRST_OF_SLURM) {
        return Ok(None);
    }
    let root = SysRoot::live();
    let mut notes = Notes::default();
    // What is wrong with the file is said by placer itself.
    let set = Settings::read(None).map(|set| set.claims).unwrap_or_default();
    let text = |error: placer_engine::SourceError| error.to_string();
    let limits = Limits::read(&root).map_err(text)?;
    let job = slurm.variable("SLURM_CPUS_ON_NODE").and_then(|cpus| cpus.parse::<u64>().ok());
    let allowed = limits.cpus.as_ref().map(CpuSet::len);
    if allowed.zip(job).is_some_and(|(allowed, job)| allowed > job) {
        slurm.say(
            "not placed: no cpuset keeps the job to its CPUs (ConstrainCores=yes in cgroup.conf)",
        );
        return Ok(None);
    }
    let count = slurm.number(Item::LocalTasks).and_then(|count| usize::try_from(count).ok());
    let count = count.unwrap_or(1).clamp(1, 4096);
    let task =
        slurm.number(Item::LocalTask).and_then(|task| usize::try_from(task).ok()).unwrap_or(0);
    let variable = |name: &str| slurm.variable(name);
    let devices = Devices::find(&variable, count, None, &root, &mut notes);
    let near = devices.near.get(task).copied().flatten().or(devices.own);
    let given =
        slurm.number(Item::CpusPerTask).filter(|&cpus| cpus > 1).and_then(CpuShare::from_cpus);
    let memory = slurm.number(Item::StepMemory).filter(|&mib| mib > 0 && mib < NO_MEMORY);
    if let Some(each) = asked.memory {
        let step = memory
            .and_then(Bytes::from_mib)
            .ok_or("--placer: the job has no memory of its own (--mem)")?;
        if each.get().saturating_mul(count as u64) > step.get() {
            return Err(format!(
                "--placer: {each} for each of {count} tasks do not fit in the step's memory, {step}"
            ));
        }
    }
    let wanted = RankRequest {
        cpus: asked.cpus.or(given),
        memory: asked.memory,
        mode: None,
        count,
        job_memory: memory.and_then(Bytes::from_mib),
        force: asked.by_host,
    };
    let like = Request { limits, ..Request::new(CpuShare::ZERO, Bytes::ZERO) };
    let figures = Local::new(&root, set, Window::Recent(WINDOW));
    let desk = Desk::open(&root, set, &mut notes);
    let (place, nodes) = loop {
        // Others may be faster three times; the fourth decision has the lock.
        let (session, host) = desk.begin(&figures, None, PATIENCE, &mut notes).map_err(text)?;
        let decided = decide(&host, &figures.asker(), &like, &wanted, &[near])?;
        decided.notes.iter().for_each(|note| notes.warn(note));
        let place = decided.ranks.into_iter().next().ok_or("no place")?;
        let nodes = host.snapshot.topology().nodes().len();
        let Some(session) = session else { break (None, nodes) };
        match claim_for_own(session, place.parts(), &mut notes) {
            Claimed::Outrun => {}
            Claimed::Made(_) => break (Some(place), nodes),
            Claimed::Refused => break (None, nodes),
        }
    };
    notes.take_lines().iter().for_each(|line| slurm.say(line));
    // Where nothing can be claimed another task may be given the same CPUs: what Slurm binds is better.
    let Some(place) = place else { return Ok(None) };
    slurm.set_variable("OMP_NUM_THREADS", &place.threads.to_string());
    // On one node a policy would change nothing.
    Ok(Some(Chosen::of(&place, nodes > 1)))
}

impl Chosen {
    fn of(place: &RankPlace, has_nodes: bool) -> Self {
        let mode = if has_nodes { place.mode } else { MemoryMode::None };
        let binding = Binding::of(&place.advice, mode);
        let nodes = match binding.mode {
            MemoryMode::Preferred => &binding.preferred,
            _ => &binding.memory,
        };
        Self {
            cpus: place.cpus.clone(),
            memory: Policy::new(binding.mode, nodes),
            words: format!("CPUs {}, memory {} on {nodes}", place.cpus, binding.mode),
        }
    }

    /// Binds this process.
    ///
    /// Errors: the kernel refuses it.
    pub(crate) fn bind(&self) -> Result<(), String> {
        sys::set_affinity(0, &Mask::of_cpus(&self.cpus))
            .and_then(|()| sys::set_memory_policy(&self.memory))
            .map_err(|errno| format!("cannot bind to {}: {}", self.words, errno.desc()))
    }
}

#[cfg(test)]
mod tests;
