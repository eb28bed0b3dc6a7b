//! The figures as a table of 80 columns.

use std::fmt::Write;

use super::Report;
use crate::replay::{Course, Outcome, Pins};
use crate::report::escape::terminal;

/// Returns the whole answer.
pub fn text(report: &Report) -> String {
    let mut text = heading(report);
    text += "\n                          memory         one          slowdown      decision\n";
    text += "rule              refused beyond  dist  node  hot  mean   p50   p99   p50   p99\n";
    for (course, outcome) in &report.outcomes {
        let name = name(course);
        let _ = writeln!(text, "{name:<18}{}", figures(outcome));
    }
    text + &pins(report)
}

/// What came of the CPUs of guests that own theirs; nothing where they roam.
fn pins(report: &Report) -> String {
    let mut text = String::new();
    for (course, outcome) in &report.outcomes {
        let Some(Pins { guests, across, whole, possible }) = outcome.pins else { continue };
        if text.is_empty() {
            text += "\nrule             across caches   whole caches free at the end\n";
        }
        let across = share(across, guests);
        let _ = writeln!(text, "{:<20}{across:>10}{whole:>8} of {possible} possible", name(course));
    }
    text
}

/// Says what was replayed.
pub(super) fn heading(report: &Report) -> String {
    let (demand, machine) = (report.stream.demand(), &report.machine);
    let mut text = format!("host    {}\n", terminal(&report.host));
    let _ = writeln!(
        text,
        "guests  {} in {}, {}",
        report.stream.guests().len(),
        span(report.stream.seconds()),
        terminal(&report.guests)
    );
    let vcpus = demand.cpus / f64::from(machine.cpus().max(1));
    let _ = writeln!(
        text,
        "        asking for {:.0} % of the memory and {vcpus:.2} vCPUs a CPU, {:.0} % of them busy",
        demand.mib / machine.mib() * 100.0,
        report.habits.busy * 100.0,
    );
    // On smaller hosts every set is looked at.
    let searches = report.outcomes.iter().any(|(course, _)| course.rule.searches());
    if let Some(effort) = report.tuning.effort.filter(|_| searches && machine.len() > 16) {
        let advice = placer_engine::policy::best::default_effort(machine.len());
        let _ = writeln!(
            text,
            "search  of best and pack: at most {effort} steps a guest (an advice: {advice})"
        );
    }
    text
}

/// Returns what a row is called.
pub(super) fn name(course: &Course) -> String {
    format!("{}{}", course.rule, if course.claims { " +claims" } else { "" })
}

fn figures(outcome: &Outcome) -> String {
    let Outcome { distance, one_node, hottest, slowdown, decision, .. } = outcome;
    let refused = share(outcome.refused, outcome.arrivals);
    let beyond = share(outcome.beyond, outcome.promised);
    let time = |which: fn(&(u64, u64)) -> u64| decision.as_ref().map(which);
    format!(
        "{refused:>7}{beyond:>7}{distance:>6.2}{:>6}{:>5}{:>6.2}{:>6.2}{:>6.2}{:>6}{:>6}",
        percent(*one_node),
        if *hottest < 10.0 { format!("{hottest:.2}") } else { format!("{hottest:.1}") },
        slowdown.mean,
        slowdown.p50,
        slowdown.p99,
        shown(time(|times| times.0)),
        shown(time(|times| times.1)),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, all: u64) -> String {
    percent(if all > 0 { part as f64 / all as f64 } else { 0.0 })
}

pub(super) fn percent(part: f64) -> String {
    let percent = part * 100.0;
    // 100 alone would take a place more.
    if percent < 99.95 { format!("{percent:.1}%") } else { "100%".to_owned() }
}

/// Returns a time in three digits or so.
#[expect(clippy::cast_precision_loss, reason = "a time to be shown")]
pub(super) fn shown(ns: Option<u64>) -> String {
    let Some(ns) = ns else { return "-".to_owned() };
    let ns = ns as f64;
    match ns {
        _ if ns < 1e3 => format!("{ns:.0}ns"),
        _ if ns < 9_950.0 => format!("{:.1}us", ns / 1e3),
        _ if ns < 999_500.0 => format!("{:.0}us", ns / 1e3),
        _ if ns < 9_950_000.0 => format!("{:.1}ms", ns / 1e6),
        _ => format!("{:.0}ms", ns / 1e6),
    }
}

pub(super) fn span(seconds: f64) -> String {
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}
