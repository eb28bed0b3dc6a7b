//! Two kinds of charts, drawn in the page.

use std::fmt::Write;

use super::{Bars, class};
use crate::replay::report::table;
use crate::replay::{Course, Outcome};
use crate::report::escape::markup as escaped;

/// In the units of the pictures, which are as wide as the page.
const WIDTH: f64 = 860.0;
const NAMES: f64 = 165.0;
const FIGURES: f64 = 70.0;
const ROW: f64 = 18.0;

/// Returns a chart with a bar for each outcome.
pub(super) fn bars(outcomes: &[(Course, Outcome)], title: &str, bars: &Bars) -> String {
    let figure = |outcome: &Outcome| ((bars.figure)(outcome) - bars.from).max(0.0);
    let most = outcomes.iter().map(|(_, outcome)| figure(outcome)).fold(1e-9, f64::max);
    let height = count(outcomes.len()) * ROW + 4.0;
    let mut svg = opened(height, title);
    let room = WIDTH - NAMES - FIGURES;
    for (row, (course, outcome)) in outcomes.iter().enumerate() {
        let top = count(row) * ROW + 2.0;
        let wide = figure(outcome) / most * room;
        let pale = if course.claims { "" } else { " pale" };
        let _ = writeln!(
            svg,
            "<text class=\"e\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <rect class=\"{}{pale}\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>\
             <text class=\"m\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 8.0,
            top + 13.0,
            escaped(&table::name(course)),
            class(course),
            top + 2.0,
            ROW - 4.0,
            NAMES + wide + 6.0,
            top + 13.0,
            escaped(&(bars.shown)((bars.figure)(outcome))),
        );
    }
    let _ = writeln!(svg, "<path class=\"ax\" d=\"M{NAMES} 0V{height:.1}\"/></svg>");
    svg
}

const TALL: f64 = 320.0;
const LEFT: f64 = 44.0;
const BELOW: f64 = 34.0;
/// Names stand to the right of the curves.
const RIGHT: f64 = 175.0;

/// Returns the slowdown of each hundredth of the guests, a curve for each outcome.
pub(super) fn curves(outcomes: &[(Course, Outcome)]) -> String {
    let mut svg = opened(TALL, "Slowdown of all guests");
    // The very slowest of a few thousand would press all others together.
    let last = |outcome: &Outcome| outcome.quantiles.get(99).copied().unwrap_or(1.0);
    let most = outcomes.iter().map(|(_, outcome)| last(outcome)).fold(1.1, f64::max);
    let across = |hundredth: f64| LEFT + (WIDTH - LEFT - RIGHT) * hundredth / 100.0;
    let down = |slow: f64| {
        let part = ((slow - 1.0) / (most - 1.0)).clamp(0.0, 1.0);
        10.0 + (TALL - 10.0 - BELOW) * (1.0 - part)
    };
    for step in 0..=4 {
        let slow = 1.0 + (most - 1.0) * f64::from(step) / 4.0;
        let y = down(slow);
        let _ = writeln!(
            svg,
            "<path class=\"ax\" d=\"M{LEFT} {y:.1}H{:.1}\"/>\
             <text class=\"m e\" x=\"{:.1}\" y=\"{:.1}\">{slow:.2}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        );
    }
    for part in [0.0, 25.0, 50.0, 75.0, 99.0] {
        let _ = writeln!(
            svg,
            "<text class=\"m c\" x=\"{:.1}\" y=\"{:.1}\">{part:.0} %</text>",
            across(part),
            TALL - BELOW + 18.0
        );
    }
    for (row, (course, outcome)) in outcomes.iter().enumerate() {
        let mut path = String::new();
        for (hundredth, &slow) in (0u8..100).zip(&outcome.quantiles) {
            let first = if hundredth == 0 { 'M' } else { 'L' };
            let x = across(f64::from(hundredth));
            let _ = write!(path, "{first}{x:.1} {:.1}", down(slow));
        }
        let dash = if course.claims { "" } else { " dash" };
        let (kind, y) = (class(course), 16.0 + count(row) * 19.0);
        let from = WIDTH - RIGHT + 12.0;
        let _ = writeln!(
            svg,
            "<path class=\"l {kind}{dash}\" d=\"{path}\"/>\
             <path class=\"l {kind}{dash}\" d=\"M{from:.1} {y:.1}h24\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            from + 30.0,
            y + 4.0,
            escaped(&table::name(course))
        );
    }
    svg + "</svg>\n"
}

fn opened(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.1}\" role=\"img\" \
         aria-label=\"{}\">\n",
        escaped(title)
    )
}

#[expect(clippy::cast_precision_loss, reason = "a few rows")]
fn count(rows: usize) -> f64 {
    rows as f64
}
