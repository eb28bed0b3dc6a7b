//! `placer replay --manage`: running guests under several managers.

use std::error::Error;
use std::process::ExitCode;

use placer_engine::policy::numad::Version;

use super::crew::{self, Effort};
use super::{busy, host, made, plan_of, recorded};
use crate::output;
use placer::args::{HostSize, MOST_MANAGED_NODES, ManagerName, Replay, StartName};
use placer::replay::manage::{Managed, Manager, Period, Scene, Start, manage};
use placer::replay::report::{Host, ManageForm, Season, managed};
use placer::replay::{Machine, Stream, Tuning};
use placer::report::json;
use placer::service::notes::Notes;

/// CPUs and GiB of a node, where only their number is given.
const NODE: (u32, u64) = (32, 128);
/// Hours of generated guests.
const HOURS: f64 = 24.0;

pub(super) fn run(args: &Replay, notes: &mut Notes) -> Result<ExitCode, Box<dyn Error>> {
    let mut managers: Vec<Manager> = args.manage.iter().copied().map(manager_of).collect();
    // The others are compared with it.
    managers.push(Manager::None);
    managers.sort_unstable();
    managers.dedup();
    let (stream, name) = match &args.stream {
        Some(path) => recorded(path).map(|(stream, name)| (Some(stream), name))?,
        None => (None, format!("made up, seed {}", args.seed)),
    };
    let mut hosts = Vec::new();
    for (machine, host) in machines(args, notes)? {
        hosts.push(season(args, machine, host, stream.as_ref())?);
    }
    output::notes(notes);
    let jobs: Vec<(&Host, Manager)> = hosts
        .iter()
        .rev()
        .flat_map(|host| managers.iter().map(move |&manager| (host, manager)))
        .collect();
    let effort = Effort {
        threads: args.threads,
        timed: args.times,
        all: jobs.iter().map(|(host, _)| host.period.steps()).sum(),
        unit: "steps",
    };
    let outcomes = crew::work(&jobs, effort, |&(host, manager), watch| {
        let mut outcome = manage(&host.machine, &host.period, manager, &host.scene, watch);
        if let Ok(outcome) = &mut outcome {
            outcome.decision = outcome.decision.filter(|_| args.times);
        }
        Some(outcome.map_err(|error| format!("{}: {error}", host.name)))
    });
    let outcomes =
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Ok(Managed::default())));
    let mut outcomes = outcomes.collect::<Result<Vec<Managed>, String>>()?;
    // The largest hosts were first, as they take longest.
    for host in &mut hosts {
        let own = outcomes.split_off(outcomes.len() - managers.len());
        let none = own[0].clone();
        host.outcomes = managers.iter().copied().zip(own).collect();
        host.outcomes.iter_mut().for_each(|(_, outcome)| outcome.compare(&none));
    }
    let season = Season { guests: name, hosts };
    let answer = if args.json {
        json::text(&ManageForm::new(&season))?
    } else {
        managed(&season).into_bytes()
    };
    output::answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the hosts that are simulated, and what they are called.
fn machines(args: &Replay, notes: &mut Notes) -> Result<Vec<(Machine, String)>, Box<dyn Error>> {
    let mut snapshots = Vec::new();
    for &nodes in &args.nodes {
        let memory = placer_engine::Bytes::new(NODE.1 << 30);
        let size = args.host.unwrap_or(HostSize { nodes, cpus: NODE.0, memory });
        snapshots.push(made(args, HostSize { nodes, ..size })?);
    }
    if args.nodes.is_empty() {
        let (snapshot, name) = host(args, notes)?;
        for note in snapshot.notes() {
            notes.warn(note);
        }
        snapshots.push((snapshot, name));
    }
    let machine = |(snapshot, name): (placer_engine::Snapshot, String)| {
        let found = snapshot.nodes().len();
        if found > MOST_MANAGED_NODES as usize {
            return Err(format!(
                "{name}: expected at most {MOST_MANAGED_NODES} nodes with --manage, found {found}"
            )
            .into());
        }
        let machine = Machine::of(&snapshot).map_err(|error| format!("{name}: {error}"))?;
        Ok((machine, name))
    };
    snapshots.into_iter().map(machine).collect()
}

/// Returns what is simulated on a host.
fn season(
    args: &Replay,
    machine: Machine,
    name: String,
    stream: Option<&Stream>,
) -> Result<Host, Box<dyn Error>> {
    let period = match stream {
        Some(stream) => Period::of(stream, args.hours),
        None => Period::made(&plan_of(args), &machine, args.hours.unwrap_or(HOURS)),
    };
    let period = period.map_err(|error| format!("{name}: {error}"))?;
    let scene = Scene {
        start: match args.start {
            StartName::Best => Start::Best,
            StartName::Unbound => Start::Unbound,
        },
        seed: args.seed,
        busy: busy(args, period.demand(), &machine)?,
        change_s: args.change.as_secs_f64(),
        pinned: args.pinned,
        tuning: Tuning { memory_bound: args.memory_bound, effort: Some(args.effort) },
    };
    Ok(Host { name, machine, period, scene, outcomes: Vec::new() })
}

fn manager_of(name: ManagerName) -> Manager {
    match name {
        ManagerName::None => Manager::None,
        ManagerName::Numad2015 => Manager::Numad(Version::V2015),
        ManagerName::Numad2025 => Manager::Numad(Version::V2025),
        ManagerName::Kernel => Manager::Kernel,
        ManagerName::Placer => Manager::Placer,
    }
}
