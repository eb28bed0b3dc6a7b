//! `placer replay`: guests that come and go, by several rules side by side.

mod crew;
mod managed;
mod progress;

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use placer_engine::Snapshot;
use placer_engine::policy::numad::Version;
use placer_engine::source::SnapshotReader;

use crate::output;
use crate::plan;
use crate::save::save;
use crew::Effort;
use placer::args::{ClaimsName, HostSize, PinName, Replay, RuleName, ShapeName};
use placer::replay::{
    Course, Demand, Habits, Machine, Made, Plan, Rule, Shape, Stream, Tuning, generate, read,
    replay, report,
};
use placer::report::json;
use placer::service::notes::Notes;
use placer::service::sampling::{self, Window};

/// The load of guests made up, for each CPU.
const LOAD: f64 = 0.7;
/// The part of the CPUs of other guests that is busy.
const BUSY: f64 = 0.5;

pub(crate) fn run(args: &Replay, notes: &mut Notes) -> Result<ExitCode, Box<dyn Error>> {
    if !args.manage.is_empty() {
        return managed::run(args, notes);
    }
    let (snapshot, host) = host(args, notes)?;
    for note in snapshot.notes() {
        notes.warn(note);
    }
    output::notes(notes);
    let machine = Machine::of(&snapshot).map_err(|error| format!("{host}: {error}"))?;
    let (stream, guests, made) = stream(args, &machine)?;
    let busy = busy(args, stream.demand(), &machine)?;
    let touch = u64::try_from(args.touch.as_micros()).unwrap_or(u64::MAX);
    let habits = Habits { seed: args.seed, touch, busy };
    let tuning = Tuning { memory_bound: args.memory_bound, effort: Some(args.effort) };
    let courses = courses(args, tuning, habits)?;
    let effort = Effort {
        threads: args.threads,
        timed: args.times,
        all: courses.len() as u64 * stream.guests().len() as u64,
        unit: "arrivals",
    };
    let outcomes = crew::work(&courses, effort, |course, watch| {
        let mut outcome = replay(&machine, &stream, course, watch);
        outcome.decision = outcome.decision.filter(|_| args.times);
        outcome
    });
    let outcomes = courses.into_iter().zip(outcomes).collect();
    let report =
        report::Report { machine, host, guests, stream, habits, tuning, plan: made, outcomes };
    if let Some(path) = &args.html {
        save(path, report::html::page(&report).as_bytes())?;
    }
    let answer = if args.json {
        json::text(&report::ReplayForm::new(&report))?
    } else {
        report::table::text(&report).into_bytes()
    };
    output::answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the host, idle or as it is now, and says which it is.
fn host(args: &Replay, notes: &mut Notes) -> Result<(Snapshot, String), Box<dyn Error>> {
    if let Some(size) = args.host {
        return made(args, size);
    }
    let root = plan::root_at(args.root.as_ref());
    let window = Window::Recent(Duration::from_millis(100));
    let name = match &args.root {
        Some(dir) => dir.display().to_string(),
        None => "this host as it is now".to_owned(),
    };
    let mut host = SnapshotReader::open(&root, None)?;
    Ok((sampling::snapshot(&mut host, window, notes)?, name))
}

/// Makes a host of a size.
fn made(args: &Replay, size: HostSize) -> Result<(Snapshot, String), Box<dyn Error>> {
    let caches = args.caches;
    if !size.cpus.is_multiple_of(caches) {
        let cpus = size.cpus;
        return Err(format!("--caches {caches}: the {cpus} CPUs of a node do not divide").into());
    }
    let made = Made { nodes: size.nodes, cpus: size.cpus, caches, memory: size.memory };
    let shape = format!("{:?}", args.shape).to_lowercase();
    let several = if caches > 1 { format!(" in {caches} caches") } else { String::new() };
    let name = format!(
        "made up: {} nodes of {} CPUs{several} and {} in a {shape}",
        made.nodes, made.cpus, made.memory
    );
    Ok((made.snapshot(shape_of(args.shape))?, name))
}

fn stream(
    args: &Replay,
    machine: &Machine,
) -> Result<(Stream, String, Option<Plan>), Box<dyn Error>> {
    let Some(path) = &args.stream else {
        let plan = plan_of(args);
        let name = format!("made up, seed {}", args.seed);
        return Ok((generate(&plan, machine), name, Some(plan)));
    };
    let (stream, name) = recorded(path)?;
    Ok((stream, name, None))
}

fn plan_of(args: &Replay) -> Plan {
    Plan {
        seed: args.seed,
        guests: args.guests,
        fill: args.fill,
        storms: args.storms,
        storm: args.storm_size,
        unit: args.unit,
    }
}

/// Reads guests from a file, and says which.
fn recorded(path: &Path) -> Result<(Stream, String), Box<dyn Error>> {
    if path == Path::new("-") {
        let stream = read(io::stdin().lock()).map_err(|e| told("standard input", &e))?;
        return Ok((stream, "standard input".to_owned()));
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| format!("cannot open {name}: {e}"))?;
    let stream = read(BufReader::new(file)).map_err(|e| told(&name, &e))?;
    Ok((stream, name))
}

fn told(name: &str, error: &placer::replay::CsvError) -> String {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    match error {
        placer::replay::CsvError::Read(_) => format!("{name} {error}{cause}"),
        placer::replay::CsvError::Text { .. } => format!("{name}:{error}"),
    }
}

/// Returns the part of the guests' CPUs that has to be busy for the load that is wanted.
fn busy(args: &Replay, demand: Demand, machine: &Machine) -> Result<f64, String> {
    let Some(load) = args.load.or(args.stream.is_none().then_some(LOAD)) else { return Ok(BUSY) };
    let most = demand.cpus / machine.capacity();
    if args.load.is_none() {
        return Ok((load / most).min(1.0));
    }
    if load > most {
        let more = match args.stream {
            Some(_) => String::new(),
            None => format!(", or let more of them come (--fill {:.2})", args.fill * load / most),
        };
        return Err(format!(
            "--load {load}: the guests have {most:.2} CPUs for each of the host's, and cannot keep more \
             busy; lower it{more}"
        ));
    }
    Ok(load / most)
}

fn courses(args: &Replay, tuning: Tuning, habits: Habits) -> Result<Vec<Course>, String> {
    let mut rules: Vec<Rule> = args.rules.iter().copied().map(rule_of).collect();
    if rules.is_empty() {
        rules = Rule::all().to_vec();
        if args.pin == PinName::Cores {
            rules.extend(Rule::of_cpus());
        }
    }
    rules.sort_unstable();
    rules.dedup();
    let claims: &[bool] = match args.claims {
        ClaimsName::Both => &[false, true],
        ClaimsName::Yes => &[true],
        ClaimsName::No => &[false],
    };
    let pinned = args.pin == PinName::Cores;
    if let Some(rule) = rules.iter().find(|rule| !pinned && Rule::of_cpus().contains(rule)) {
        return Err(format!("rule {rule} gives guests CPUs of their own: add --pin cores"));
    }
    let each =
        |rule| claims.iter().map(move |&claims| Course { rule, claims, pinned, tuning, habits });
    Ok(rules.into_iter().flat_map(each).collect())
}

fn shape_of(name: ShapeName) -> Shape {
    match name {
        ShapeName::Flat => Shape::Flat,
        ShapeName::Pairs => Shape::Pairs,
        ShapeName::Ring => Shape::Ring,
        ShapeName::Mesh => Shape::Mesh,
    }
}

fn rule_of(name: RuleName) -> Rule {
    match name {
        RuleName::Best => Rule::Best,
        RuleName::Pack => Rule::Pack,
        RuleName::Numad => Rule::Numad(Version::V2015),
        RuleName::Numad2025 => Rule::Numad(Version::V2025),
        RuleName::FirstFit => Rule::FirstFit,
        RuleName::MostFree => Rule::MostFree,
        RuleName::Narrowest => Rule::Narrowest,
        RuleName::Xen => Rule::Xen,
        RuleName::Kubelet => Rule::Kubelet,
        RuleName::LowestIdle => Rule::LowestIdle,
    }
}
