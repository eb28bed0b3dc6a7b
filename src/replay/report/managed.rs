//! What came of managers: a table of 80 columns for each host, and the answer of `placer replay --manage --json`.

use std::fmt::Write;

use serde::Serialize;

use super::form::{bytes, millionths};
use super::table::{percent, span};
use crate::replay::Machine;
use crate::replay::manage::{Managed, Manager, Period, Scene};
use crate::report::escape::terminal;

/// All that was simulated, and what came of it.
pub struct Season {
    /// Where the guests are from, in words.
    pub guests: String,
    pub hosts: Vec<Host>,
}

/// One host, and what came of each manager on it.
pub struct Host {
    /// Where it is from, in words.
    pub name: String,
    pub machine: Machine,
    pub period: Period,
    pub scene: Scene,
    pub outcomes: Vec<(Manager, Managed)>,
}

/// Returns the tables.
pub fn text(season: &Season) -> String {
    let mut text = String::new();
    for host in &season.hosts {
        if !text.is_empty() {
            text.push('\n');
        }
        heading(&mut text, season, host);
        text +=
            "\n             slow-        95 of                            stuck  worse better\n";
        text += "manager       down   dist   100  GiB moved  moves returns     GiB   work   work\n";
        for (manager, outcome) in &host.outcomes {
            let _ = writeln!(text, "{manager:<11}{}", figures(outcome));
        }
    }
    let shown = |host: &Host| host.outcomes.iter().any(|(manager, _)| *manager == Manager::Placer);
    if season.hosts.iter().any(shown) {
        text += "\nplacer runs all the time, with rules that placer balance lacks: see --help\n";
    }
    text
}

fn heading(text: &mut String, season: &Season, host: &Host) {
    let Host { machine, period, scene, outcomes, .. } = host;
    let demand = period.demand();
    let refused = outcomes.iter().map(|(_, outcome)| outcome.refused).max().unwrap_or_default();
    let _ = writeln!(text, "host    {}", terminal(&host.name));
    let _ = writeln!(
        text,
        "guests  {} in {}, {}; at most {refused} refused",
        period.count(),
        span(period.seconds()),
        terminal(&season.guests)
    );
    let _ = writeln!(
        text,
        "        asking for {:.0} % of the memory and {:.2} vCPUs a CPU, {:.0} % of them busy,",
        demand.mib / machine.mib() * 100.0,
        demand.cpus / f64::from(machine.cpus().max(1)),
        scene.busy * 100.0,
    );
    let _ = writeln!(
        text,
        "        changing every {}; start: {}",
        span(scene.change_s),
        scene.start.name()
    );
}

fn figures(outcome: &Managed) -> String {
    let Managed { slowdown, distance, p95, moves, returns, .. } = outcome;
    let gib = |mib: f64| mib / 1_024.0;
    format!(
        "{slowdown:>8.4}{distance:>7.2}{p95:>6.2}{:>11.1}{moves:>7}{returns:>8}{:>8.0}{:>7}{:>7}",
        gib(outcome.moved),
        gib(outcome.stuck),
        percent(outcome.worse),
        percent(outcome.better),
    )
}

/// The answer of `placer replay --manage --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Manage"))]
pub struct ManageForm<'a> {
    /// Of this form; more fields may come without a new one.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    hosts: Vec<HostForm<'a>>,
}

/// A host, its guests, and what came of each manager.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ManagedHost"))]
struct HostForm<'a> {
    /// Where it is from, in words.
    name: &'a str,
    nodes: usize,
    /// CPUs that threads may roam over.
    cpus: u32,
    /// Bytes that guests could be given when none was there.
    memory: u64,
    guests: GuestsForm<'a>,
    managers: Vec<ManagerForm>,
}

/// The guests of a host.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ManagedGuests"))]
struct GuestsForm<'a> {
    /// Where they are from, in words.
    name: &'a str,
    /// What all that is random followed from.
    seed: u64,
    /// How they started: `"best"` or `"unbound"`.
    start: &'a str,
    count: usize,
    seconds: f64,
    /// What they asked for on the average, refused or not: CPUs.
    cpus: f64,
    /// Bytes.
    memory: u64,
    /// The part of their CPUs that was busy, on the average.
    busy: f64,
    /// How long a guest wanted the same, on the average, in seconds.
    change: f64,
    /// The part of them whose memory could not be moved.
    pinned: f64,
    /// The part of their time that they waited for memory.
    memory_bound: f64,
}

/// What came of one manager.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Manager"))]
struct ManagerForm {
    manager: &'static str,
    /// Guests that ran, and that were refused.
    guests: u64,
    refused: u64,
    /// What all work took for what it was, cost of moves included; 1 is alone on local memory.
    slowdown: f64,
    /// 95 of 100 guests were slowed no more.
    p95: f64,
    /// Runnable threads for each CPU, at least 1, over the work.
    crowding: f64,
    /// Mean distance of memory over the work; 10 is local.
    distance: f64,
    /// What moving and watching cost, as a part of the work.
    cost: f64,
    /// Bytes.
    moved: u64,
    moves: u64,
    /// Moves of a guest to nodes that it had been moved away from before.
    returns: u64,
    /// Moves that placer took back.
    undone: u64,
    /// Bytes that were to be moved and could not.
    stuck: u64,
    /// Part of the work of guests that were more than 2 % slower than without a manager.
    worse: f64,
    /// The same of those that were more than 2 % faster.
    better: f64,
    /// Time of a look in nanoseconds; null where no times are wanted, or there is no manager.
    decision: Option<DecisionForm>,
}

/// Nanoseconds.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "LookTime"))]
struct DecisionForm {
    p50: u64,
    p99: u64,
}

impl<'a> ManageForm<'a> {
    pub fn new(season: &'a Season) -> Self {
        let hosts = season.hosts.iter().map(|host| HostForm::new(&season.guests, host));
        Self { version: 1, hosts: hosts.collect() }
    }
}

impl<'a> HostForm<'a> {
    fn new(guests: &'a str, host: &'a Host) -> Self {
        let Host { machine, period, scene, .. } = host;
        let demand = period.demand();
        Self {
            name: &host.name,
            nodes: machine.len(),
            cpus: machine.cpus(),
            memory: bytes(machine.mib()),
            guests: GuestsForm {
                name: guests,
                seed: scene.seed,
                start: scene.start.name(),
                count: period.count(),
                seconds: millionths(period.seconds()),
                cpus: millionths(demand.cpus),
                memory: bytes(demand.mib),
                busy: millionths(scene.busy),
                change: millionths(scene.change_s),
                pinned: scene.pinned,
                memory_bound: scene.tuning.memory_bound,
            },
            managers: host.outcomes.iter().map(ManagerForm::new).collect(),
        }
    }
}

impl ManagerForm {
    fn new((manager, outcome): &(Manager, Managed)) -> Self {
        Self {
            manager: manager.name(),
            guests: outcome.guests,
            refused: outcome.refused,
            slowdown: millionths(outcome.slowdown),
            p95: millionths(outcome.p95),
            crowding: millionths(outcome.crowding),
            distance: millionths(outcome.distance),
            cost: millionths(outcome.cost),
            moved: bytes(outcome.moved),
            moves: outcome.moves,
            returns: outcome.returns,
            undone: outcome.undone,
            stuck: bytes(outcome.stuck),
            worse: millionths(outcome.worse),
            better: millionths(outcome.better),
            decision: outcome.decision.map(|(p50, p99)| DecisionForm { p50, p99 }),
        }
    }
}
