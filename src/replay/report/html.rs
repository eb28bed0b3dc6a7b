//! The figures as a page: charts in the page itself, light and dark, without a script, a font or an
//! image from anywhere.

mod chart;

use std::fmt::Write;

use super::{Report, table};
use crate::replay::{Course, Outcome, Pins, Rule};
use crate::report::escape::markup as escaped;

/// Colours by class, so that a page is readable by day and by night. The colours of rules are told
/// apart by those who see no red or no green as well; what has claims is drawn solid, what has none
/// dashed or pale.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;max-width:60rem;\
margin:2rem auto;padding:0 1rem;background:#fff;color:#1f2328}\
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:2rem 0 .3rem}p{margin:.3rem 0;color:#57606a}\
svg{display:block;width:100%;height:auto}\
svg text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}\
svg .m{fill:#57606a}svg .e{text-anchor:end}svg .c{text-anchor:middle}\
.ax{stroke:#d0d7de;fill:none}.pale{fill-opacity:.4}.dash{stroke-dasharray:5 3}\
.s0{fill:#0757b8}.s1{fill:#1b7f79}.s2{fill:#c2410c}.s3{fill:#6d43b1}.s4{fill:#a16207}.s5{fill:#be185d}\
.s6{fill:#57606a}.s7{fill:#9f1f1f}.s8{fill:#0f6b34}.s9{fill:#7c4a21}\
.l{fill:none;stroke-width:2}\
.l.s0{stroke:#0757b8}.l.s1{stroke:#1b7f79}.l.s2{stroke:#c2410c}.l.s3{stroke:#6d43b1}.l.s4{stroke:#a16207}\
.l.s5{stroke:#be185d}.l.s6{stroke:#57606a}.l.s7{stroke:#9f1f1f}.l.s8{stroke:#0f6b34}.l.s9{stroke:#7c4a21}\
.l{fill:none!important}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}\
th,td{padding:.2rem .55rem;text-align:right;border-bottom:1px solid #d0d7de;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}\
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#eef3f8}p{color:#9ba7b4}\
svg text{fill:#eef3f8}svg .m{fill:#9ba7b4}.ax{stroke:#3d4650}th,td{border-color:#343c46}\
.s0{fill:#58a6ff}.s1{fill:#4fd1c5}.s2{fill:#ff9d4d}.s3{fill:#b79cf0}.s4{fill:#e3b341}.s5{fill:#f783ac}\
.s6{fill:#9ba7b4}.s7{fill:#f47067}.s8{fill:#7ee2a0}.s9{fill:#d9a679}\
.l.s0{stroke:#58a6ff}.l.s1{stroke:#4fd1c5}.l.s2{stroke:#ff9d4d}.l.s3{stroke:#b79cf0}.l.s4{stroke:#e3b341}\
.l.s5{stroke:#f783ac}.l.s6{stroke:#9ba7b4}.l.s7{stroke:#f47067}.l.s8{stroke:#7ee2a0}.l.s9{stroke:#d9a679}}";

/// Returns the page.
pub fn page(report: &Report) -> String {
    let mut page =
        String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page += "<meta name=\"viewport\" content=\"width=device-width\">";
    page += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src ";
    page += "'unsafe-inline'\">";
    let _ = writeln!(page, "<title>placer replay</title><style>{STYLE}</style></head><body>");
    page += "<h1>placer replay</h1>\n";
    for line in table::heading(report).lines() {
        let _ = writeln!(page, "<p>{}</p>", escaped(line.trim()));
    }
    for (title, text, bars) in charts() {
        let _ = writeln!(page, "<h2>{title}</h2><p>{text}</p>");
        page += &chart::bars(&report.outcomes, title, &bars);
    }
    page += "<h2>Slowdown of all guests</h2>";
    page +=
        "<p>From the fastest guest to the slowest; 1 is alone on local memory. Solid with claims, ";
    page += "dashed without.</p>\n";
    page += &chart::curves(&report.outcomes);
    page += "<h2>All figures</h2>\n";
    page += &figures(&report.outcomes);
    page += "</body></html>\n";
    page
}

/// A figure of an outcome, and how it is written.
pub(super) struct Bars {
    pub(super) figure: fn(&Outcome) -> f64,
    pub(super) shown: fn(f64) -> String,
    /// Where a bar begins.
    pub(super) from: f64,
}

fn charts() -> [(&'static str, &'static str, Bars); 6] {
    let percent: fn(f64) -> String = |part| format!("{:.1} %", part * 100.0);
    let plain: fn(f64) -> String = |figure| format!("{figure:.2}");
    [
        (
            "Memory promised beyond what is there",
            "Part of all memory promised that was not there, other promises counted.",
            Bars { figure: |o| share(o.beyond, o.promised), shown: percent, from: 0.0 },
        ),
        (
            "Mean slowdown over life",
            "Crowding times distance, over the work of each guest; 1 is alone on local memory.",
            Bars { figure: |o| o.slowdown.mean.max(1.0), shown: plain, from: 1.0 },
        ),
        (
            "Slowdown of the slowest hundredth",
            "99 of 100 guests live faster.",
            Bars { figure: |o| o.slowdown.p99.max(1.0), shown: plain, from: 1.0 },
        ),
        (
            "Mean distance of memory",
            "From the CPUs that use it, weighted by memory; 10 is local.",
            Bars { figure: |o| o.distance, shown: plain, from: 10.0 },
        ),
        (
            "Hottest node",
            "Its load over that of the host, as guests found it when they arrived; 1 is even.",
            Bars { figure: |o| o.hottest, shown: plain, from: 1.0 },
        ),
        (
            "Guests refused",
            "Part of all that arrived.",
            Bars { figure: |o| share(o.refused, o.arrivals), shown: percent, from: 0.0 },
        ),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, all: u64) -> f64 {
    if all > 0 { part as f64 / all as f64 } else { 0.0 }
}

/// Returns the class of a rule's colour.
fn class(course: &Course) -> String {
    let mut rules = Rule::all().into_iter().chain(Rule::of_cpus());
    let number = rules.position(|rule| rule == course.rule).unwrap_or(0);
    format!("s{number}")
}

fn figures(outcomes: &[(Course, Outcome)]) -> String {
    let mut text = String::from("<div class=\"wide\"><table><tr><th>rule</th>");
    for name in [
        "guests",
        "refused",
        "beyond",
        "spilled",
        "swapped",
        "distance",
        "one node",
        "hottest",
        "mean",
        "p50",
        "p99",
        "decision p50",
        "p99",
    ] {
        let _ = write!(text, "<th>{name}</th>");
    }
    let pinned = outcomes.iter().any(|(_, outcome)| outcome.pins.is_some());
    if pinned {
        text += "<th>across caches</th><th>whole caches free</th>";
    }
    text += "</tr>\n";
    for (course, o) in outcomes {
        let part = |part, all| format!("{:.1} %", share(part, all) * 100.0);
        let time = |which: fn(&(u64, u64)) -> u64| table::shown(o.decision.as_ref().map(which));
        let cells = [
            o.arrivals.to_string(),
            part(o.refused, o.arrivals),
            part(o.beyond, o.promised),
            part(o.spilled, o.promised),
            part(o.swapped, o.promised),
            format!("{:.2}", o.distance),
            format!("{:.1} %", o.one_node * 100.0),
            format!("{:.2}", o.hottest),
            format!("{:.3}", o.slowdown.mean),
            format!("{:.3}", o.slowdown.p50),
            format!("{:.3}", o.slowdown.p99),
            time(|times| times.0),
            time(|times| times.1),
        ];
        let _ = write!(text, "<tr><td>{}</td>", escaped(&table::name(course)));
        cells.iter().for_each(|cell| _ = write!(text, "<td>{}</td>", escaped(cell)));
        if let Some(Pins { guests, across, whole, possible }) = o.pins {
            let across = part(across, guests);
            let _ = write!(text, "<td>{across}</td><td>{whole} of {possible}</td>");
        }
        text += "</tr>\n";
    }
    text += "</table></div>\n";
    text
}
