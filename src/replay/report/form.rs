//! The answer of `placer replay --json`.

use serde::Serialize;

use super::Report;
use crate::replay::{Course, Outcome, Spread};

/// The answer of `placer replay --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Replay"))]
pub struct ReplayForm<'a> {
    /// Of this form; more fields may come without a new one.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    host: HostForm<'a>,
    guests: GuestsForm<'a>,
    /// Steps that a search of policy best might take for a guest; null: as many as for an advice.
    effort: Option<u64>,
    /// What came of each rule.
    rules: Vec<RuleForm<'a>>,
}

/// The host that the guests came to.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Host"))]
struct HostForm<'a> {
    /// Where it is from, in words.
    name: &'a str,
    nodes: usize,
    /// CPUs that threads may roam over.
    cpus: u32,
    /// Bytes that guests could be given when none was there.
    memory: u64,
}

/// The guests that came.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Guests"))]
struct GuestsForm<'a> {
    /// Where they are from, in words.
    name: &'a str,
    /// What all that is random followed from.
    seed: u64,
    count: usize,
    /// From the first arrival to the last.
    seconds: f64,
    /// What they asked for on the average, refused or not: CPUs.
    cpus: f64,
    /// Bytes.
    memory: u64,
    /// The part of their CPUs that was busy, on the average.
    busy: f64,
    /// How long they had not touched their memory, on the average, in seconds.
    touch: f64,
    /// The part of their time that they waited for memory.
    memory_bound: f64,
    /// How they were made up; null where they were read.
    made: Option<MadeForm>,
}

/// How guests were made up.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Made"))]
struct MadeForm {
    /// The part of the free memory that they were to ask for.
    fill: f64,
    /// The part of them that came in storms.
    storms: f64,
    /// How many came together in a storm.
    storm_size: u32,
    /// Bytes that they took for a GiB.
    unit: u64,
}

/// What came of one rule.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Rule"))]
struct RuleForm<'a> {
    rule: &'a str,
    /// Whether it saw claims.
    claims: bool,
    arrivals: u64,
    refused: u64,
    /// Bytes that were promised to guests.
    promised: u64,
    /// Bytes of that which were not there, other promises counted.
    beyond: u64,
    /// Guests that were promised such memory.
    beyond_guests: u64,
    /// Bytes that found no room where they were promised, and went to other nodes.
    spilled: u64,
    /// Bytes that found no room on any node.
    swapped: u64,
    /// Mean distance of memory from the CPUs that use it, weighted by memory; 10 is local.
    distance: f64,
    /// The part of the guests placed that was given one node.
    one_node: f64,
    /// Load for each CPU of the hottest node over that of the host, averaged over arrivals.
    hottest: f64,
    /// Runnable threads for each CPU of the host, averaged over arrivals.
    load: f64,
    /// Over the work of each guest's life; 1 is alone on local memory.
    slowdown: SpreadForm,
    /// Of each hundredth of the guests, from the fastest to the slowest; empty where none worked.
    slowdowns: Vec<f64>,
    /// Where guests own their CPUs; null where their threads roam.
    pins: Option<PinsForm>,
    /// How long a decision took; null where times are not reported.
    decision: Option<DecisionForm>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Spread"))]
struct SpreadForm {
    mean: f64,
    p50: f64,
    p99: f64,
}

/// What came of the CPUs of guests that own theirs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Pins"))]
struct PinsForm {
    /// Guests that a last-level cache of the host has enough CPUs for.
    guests: u64,
    /// How many of them were given CPUs of several.
    across: u64,
    /// Caches without an owner when the last guest had come: the number of guests of a whole cache that still fit.
    whole: u64,
    /// How many the CPUs without an owner would make up.
    possible: u64,
}

/// Nanoseconds.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Decision"))]
struct DecisionForm {
    p50: u64,
    p99: u64,
}

impl<'a> ReplayForm<'a> {
    pub fn new(report: &'a Report) -> Self {
        let (demand, machine) = (report.stream.demand(), &report.machine);
        Self {
            version: 1,
            host: HostForm {
                name: &report.host,
                nodes: machine.len(),
                cpus: machine.cpus(),
                memory: bytes(machine.mib()),
            },
            guests: GuestsForm {
                name: &report.guests,
                seed: report.habits.seed,
                count: report.stream.guests().len(),
                seconds: millionths(report.stream.seconds()),
                cpus: millionths(demand.cpus),
                memory: bytes(demand.mib),
                busy: millionths(report.habits.busy),
                touch: millionths(crate::replay::seconds(report.habits.touch)),
                memory_bound: report.tuning.memory_bound,
                made: report.plan.map(|plan| MadeForm {
                    fill: plan.fill,
                    storms: plan.storms,
                    storm_size: plan.storm,
                    unit: u64::from(plan.unit) << 20,
                }),
            },
            effort: report.tuning.effort,
            rules: report.outcomes.iter().map(RuleForm::new).collect(),
        }
    }
}

impl<'a> RuleForm<'a> {
    fn new((course, outcome): &'a (Course, Outcome)) -> Self {
        let Spread { mean, p50, p99 } = outcome.slowdown;
        Self {
            rule: course.rule.name(),
            claims: course.claims,
            arrivals: outcome.arrivals,
            refused: outcome.refused,
            promised: outcome.promised << 20,
            beyond: outcome.beyond << 20,
            beyond_guests: outcome.beyond_guests,
            spilled: outcome.spilled << 20,
            swapped: outcome.swapped << 20,
            distance: millionths(outcome.distance),
            one_node: millionths(outcome.one_node),
            hottest: millionths(outcome.hottest),
            load: millionths(outcome.load),
            slowdown: SpreadForm {
                mean: millionths(mean),
                p50: millionths(p50),
                p99: millionths(p99),
            },
            slowdowns: outcome.quantiles.iter().copied().map(millionths).collect(),
            pins: outcome.pins.map(|pins| PinsForm {
                guests: pins.guests,
                across: pins.across,
                whole: pins.whole,
                possible: pins.possible,
            }),
            decision: outcome.decision.map(|(p50, p99)| DecisionForm { p50, p99 }),
        }
    }
}

/// Rounds to what is meant by a figure.
pub(super) fn millionths(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
pub(super) fn bytes(mib: f64) -> u64 {
    (mib * 1_048_576.0).round() as u64
}
