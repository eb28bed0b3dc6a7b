//! What lies over the screen until a key is pressed: help, notes.

use ratatui::layout::Rect;

use super::panel::wrapped;
use super::{Pen, width};
use crate::look::Paint;
use crate::model::Model;
use crate::plan::cells;

const HELP: &[(&str, &str)] = &[
    (":  enter  0-9", "type a request: CPUs, or CPUs:memory as in 4:8G"),
    ("arrows", "select a node; the others show how far their memory is"),
    ("s", "sort: by distance, node, load, memory left, claims"),
    ("/", "filter: nodes as in 0-3,8, or a part of a guest's name"),
    ("p", "packages instead of nodes, and back"),
    ("g  tab", "the guests instead of the answer, and back"),
    ("c", "the caches with their guests, of the selected node; and back"),
    ("space", "pause, and go on"),
    ("r", "record this machine as a directory that --root reads"),
    ("n", "notes: what is assumed, unknown or wrong"),
    ("esc", "clears selection, filter and request; x the request"),
    ("ctrl-l  ctrl-z", "draw anew; stop for a while"),
    ("q  ctrl-c", "quit"),
];

pub(super) fn help(pen: &mut Pen<'_>) {
    let glyphs = pen.look.glyphs;
    let signs = [
        format!("{} advised  {} second best", glyphs.advised, glyphs.second),
        "left: free and cached memory less claims; of it placer keeps back".to_owned(),
        "      100 MiB of each node, or 1 % if that is more, at most 5 %".to_owned(),
        "used: of what a guest was promised; there: on the advised nodes".to_owned(),
    ];
    let inner = panel(pen, "keys", cells(HELP.len() + 1 + signs.len()));
    let mut y = inner.y;
    for (key, what) in HELP {
        pen.put(inner.x, y, inner.right(), key, Paint::Key);
        pen.put(inner.x + 15, y, inner.right(), what, Paint::Plain);
        y += 1;
    }
    for (y, line) in (y + 1..).zip(&signs) {
        pen.put(inner.x, y, inner.right(), line, Paint::Dim);
    }
}

pub(super) fn notes(model: &Model, pen: &mut Pen<'_>) {
    let notes = model.notes();
    let room = usize::from(pen.area.width).saturating_sub(8);
    let mut lines: Vec<String> = notes
        .iter()
        .flat_map(|note| wrapped(&placer::report::escape::terminal(note), room))
        .collect();
    if lines.is_empty() {
        lines.push("nothing is assumed, unknown or wrong".to_owned());
    }
    let inner = panel(pen, "notes", cells(lines.len()));
    for (y, line) in (inner.top()..inner.bottom()).zip(&lines) {
        pen.put(inner.x, y, inner.right(), line, Paint::Plain);
    }
}

/// Clears a place in the middle for so many lines, between two rules. Returns it.
fn panel(pen: &mut Pen<'_>, title: &str, lines: u16) -> Rect {
    let area = pen.area;
    let height = (lines + 4).min(area.height);
    let outer = Rect { x: 0, y: (area.height - height) / 2, width: area.width, height };
    pen.clear(outer);
    pen.rule(outer, title, "");
    let last = Rect { y: outer.bottom().saturating_sub(1), height: 1, ..outer };
    pen.rule(last, "", "");
    debug_assert!(width(title) < usize::from(area.width));
    Rect {
        x: 2,
        y: outer.y + 2,
        width: area.width.saturating_sub(4),
        height: height.saturating_sub(4),
    }
}
