//! Draws the model. Pure: the same model and look give the same screen.

mod bar;
mod boxes;
mod caches;
mod overlay;
mod panel;

use placer_engine::Bytes;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::look::{Look, Paint};
use crate::model::{Mode, Model};
use crate::plan::{self, LEAST};
use crate::sheet;

/// Draws everything.
pub(crate) fn draw(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    let mut pen = Pen { buffer, look, area };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return too_small(&mut pen);
    }
    header(model, &mut pen);
    boxes::draw(model, &mut pen);
    panel::draw(model, &mut pen);
    prompt(model, &mut pen);
    keys(model, &mut pen);
    match model.mode {
        Mode::Help => overlay::help(&mut pen),
        Mode::Notes => overlay::notes(model, &mut pen),
        _ => {}
    }
}

/// Writes into the buffer, never beyond it.
pub(crate) struct Pen<'a> {
    buffer: &'a mut Buffer,
    pub(crate) look: Look,
    pub(crate) area: Rect,
}

impl Pen<'_> {
    /// Writes a text, cut at `right` (the first column that is not written to): then a sign says so in
    /// the last column. Returns where the next one starts.
    pub(crate) fn put(&mut self, x: u16, y: u16, right: u16, text: &str, paint: Paint) -> u16 {
        let right = right.min(self.area.right());
        if x >= right || y >= self.area.bottom() {
            return x;
        }
        let style = self.look.style(paint);
        let room = usize::from(right - x);
        if width(text) <= room {
            return self.buffer.set_stringn(x, y, text, room, style).0;
        }
        let end = self.buffer.set_stringn(x, y, text, room - 1, style).0;
        self.buffer.set_stringn(end, y, self.look.glyphs.cut, usize::from(right - end), style).0
    }

    /// Writes a text that ends before `right`, if it fits behind `left`. Returns where it starts.
    pub(crate) fn put_right(
        &mut self,
        left: u16,
        y: u16,
        right: u16,
        text: &str,
        paint: Paint,
    ) -> u16 {
        let width = plan::cells(width(text));
        let Some(x) = right.checked_sub(width).filter(|&x| x >= left) else { return right };
        self.put(x, y, right, text, paint);
        x
    }

    /// Writes pieces one behind the other.
    pub(crate) fn line(&mut self, x: u16, y: u16, right: u16, pieces: &[(&str, Paint)]) -> u16 {
        pieces.iter().fold(x, |x, (text, paint)| self.put(x, y, right, text, *paint))
    }

    /// Draws a rule over the whole width of an area, with words on its left and on its right.
    pub(crate) fn rule(&mut self, area: Rect, left: &str, right: &str) {
        let rule = self.look.glyphs.rule.repeat(usize::from(area.width));
        self.put(area.x, area.y, area.right(), &rule, Paint::Dim);
        let mut end = area.x;
        if !left.is_empty() {
            end = self.put(area.x + 1, area.y, area.right(), &format!(" {left} "), Paint::Title);
        }
        if !right.is_empty() {
            let right = format!(" {right} ");
            self.put_right(end, area.y, area.right().saturating_sub(1), &right, Paint::Dim);
        }
    }

    /// Sets the style of a piece of a line, whatever is written there.
    pub(crate) fn mark(&mut self, area: Rect, paint: Paint) {
        let style = self.look.style(paint);
        self.buffer.set_style(area.intersection(self.area), style);
    }

    /// Empties an area.
    pub(crate) fn clear(&mut self, area: Rect) {
        for y in area.top()..area.bottom().min(self.area.bottom()) {
            for x in area.left()..area.right().min(self.area.right()) {
                if let Some(cell) = self.buffer.cell_mut((x, y)) {
                    cell.reset();
                }
            }
        }
    }
}

/// Returns how many cells a text takes.
pub(crate) fn width(text: &str) -> usize {
    ratatui::text::Span::raw(text).width()
}

/// Returns an amount in at most six cells: `211M`, `1.5G`, `0`.
pub(crate) fn short(amount: Bytes) -> String {
    let text = amount.to_string();
    let Some((number, unit)) = text.split_once(' ') else { return text };
    if amount == Bytes::ZERO {
        return "0".to_owned();
    }
    let unit = unit.trim_end_matches("iB");
    match number.split_once('.') {
        // One decimal says something below ten, and for sizes past the gibibyte.
        Some((whole, _)) if whole.len() > 1 && matches!(unit, "K" | "M") || whole.len() > 2 => {
            format!("{whole}{unit}")
        }
        _ => format!("{number}{unit}"),
    }
}

fn too_small(pen: &mut Pen<'_>) {
    let Rect { width: columns, height: lines, .. } = pen.area;
    let (least, high) = LEAST;
    let text = [
        format!("placer top needs {least} columns and {high} lines;"),
        format!("this terminal has {columns} and {lines}."),
        "Make it larger, or leave with q:".to_owned(),
        "placer show prints the host once.".to_owned(),
    ];
    let top = lines.saturating_sub(4) / 2;
    for (y, line) in (top..).zip(&text) {
        let x = columns.saturating_sub(plan::cells(width(line))) / 2;
        pen.put(x, y, columns, line, Paint::Plain);
    }
}

fn header(model: &Model, pen: &mut Pen<'_>) {
    let area = model.plan.header;
    let (y, right) = (area.y, area.right());
    let end = pen.put(0, y, right, "placer top", Paint::Title);
    let source = format!("  {}", placer::report::escape::terminal(&model.view.name));
    let total = &model.total;
    let nodes = total.nodes.len();
    let mut facts = vec![
        counted(nodes, "node"),
        counted(total.cpus.len(), "CPU"),
        format!("{} of memory", total.memory.total),
    ];
    if model.paused {
        facts.insert(0, "PAUSED".to_owned());
    }
    let facts = facts.join(&format!(" {} ", pen.look.glyphs.dot));
    let start = pen.put_right(end, y, right, &facts, Paint::Plain);
    pen.put(end, y, start.saturating_sub(1), &source, Paint::Dim);
    if model.paused {
        pen.mark(Rect { x: start, y, width: 6, height: 1 }, Paint::Selected);
    }

    let y = y + 1;
    let (room, memory) = (usize::from(area.width), total.memory);
    let load = total.busy().map_or("  ? %".to_owned(), |busy| format!("{:>3.0} %", busy * 100.0));
    let x = pen.put(0, y, right, "cpu ", Paint::Dim);
    let x = pen.cpu_bar(x, y, plan::cells(room / 10), total);
    let x = pen.put(x, y, right, &format!(" {load}  "), Paint::Plain);
    let x = pen.put(x, y, right, "mem ", Paint::Dim);
    let glyphs = pen.look.glyphs;
    let legend = [
        (glyphs.used, "used", memory.used, Paint::Used),
        (glyphs.claimed, "claimed", memory.claimed, Paint::Claimed),
        (glyphs.cached, "cached", memory.cached, Paint::Cached),
        (glyphs.free, "free", memory.unused, Paint::Free),
    ];
    let words: usize =
        legend.iter().map(|(_, name, amount, _)| 3 + name.len() + short(*amount).len()).sum();
    let bar = right.saturating_sub(x + plan::cells(words)).min(area.width / 3);
    let mut x = pen.memory_bar(x, y, bar, &memory);
    for (glyph, name, amount, paint) in legend {
        let pieces = [(" ", Paint::Plain), (glyph, paint), (name, Paint::Dim)];
        x = pen.line(x, y, right, &pieces);
        x = pen.put(x, y, right, &format!(" {}", short(amount)), Paint::Plain);
    }
}

/// Returns a number with its noun.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The line where things are typed.
fn prompt(model: &Model, pen: &mut Pen<'_>) {
    let area = model.plan.prompt;
    let (what, field, hint) = match model.mode {
        Mode::Filter => ("filter", &model.filter, "nodes as in 0-3, or a guest's name"),
        Mode::Record => ("record into", &model.record, "a new directory; enter records"),
        Mode::Request => ("request", &model.request, "CPUs:memory as in 4:8G"),
        _ if model.request.is_empty() => {
            let text = "type a request, as in 4:8G, to see where that guest would run";
            let x = pen.put(1, area.y, area.right(), text, Paint::Dim);
            return noted(model, x, pen);
        }
        _ => ("request", &model.request, ""),
    };
    let x = pen.put(1, area.y, area.right(), what, Paint::Dim) + 2;
    let (before, behind) = field.halves();
    // Of a text that is longer than the line the part around the caret is shown.
    let room = usize::from(area.width).saturating_sub(usize::from(x) + 4);
    let skip = before.chars().count().saturating_sub(room);
    let before: String = before.chars().skip(skip).collect();
    let mut x = pen.put(x, area.y, area.right(), &before, Paint::Title);
    if matches!(model.mode, Mode::Filter | Mode::Record | Mode::Request) {
        let caret = pen.look.glyphs.caret;
        x = pen.put(x, area.y, area.right(), caret, Paint::Plain);
    }
    x = pen.put(x, area.y, area.right(), &behind, Paint::Title);
    if model.mode == Mode::Browse {
        noted(model, x, pen);
    } else {
        pen.put_right(x + 2, area.y, area.right().saturating_sub(1), hint, Paint::Dim);
    }
}

/// Says that there are notes, and by which key they are shown.
fn noted(model: &Model, x: u16, pen: &mut Pen<'_>) {
    let notes = model.notes().len();
    if notes > 0 {
        let (y, right) = (model.plan.prompt.y, pen.area.right().saturating_sub(1));
        let notes = counted(sheet::as_u64(notes), "note");
        let text = format!("{} {notes}: n", pen.look.glyphs.alert);
        pen.put_right(x + 2, y, right, &text, Paint::Alert);
    }
}

/// The last line: what was said, else the keys.
fn keys(model: &Model, pen: &mut Pen<'_>) {
    let area = model.plan.keys;
    if let Some((message, bad)) = &model.message {
        let paint = if *bad { Paint::Alert } else { Paint::Plain };
        let message = placer::report::escape::terminal(message);
        pen.put(1, area.y, area.right(), &message, paint);
        return;
    }
    let packages = if model.by_package { "nodes" } else { "packages" };
    let guests = if model.show_guests { "answer" } else { "guests" };
    let several = model.items.iter().any(|item| !item.caches.is_empty());
    let caches = if model.show_caches { "back" } else { "caches" };
    let pause = if model.paused { "go on" } else { "pause" };
    let keys: &[(&str, &str)] = match model.mode {
        Mode::Request | Mode::Filter => &[("enter", "keep"), ("esc", "clear"), ("ctrl-c", "quit")],
        Mode::Record => &[("enter", "record"), ("esc", "do not"), ("ctrl-c", "quit")],
        Mode::Help | Mode::Notes => &[("any key", "back")],
        Mode::Browse => &[
            ("q", "quit"),
            ("/", "filter"),
            ("s", "sort"),
            ("p", packages),
            ("g", guests),
            ("space", pause),
            if several { ("c", caches) } else { ("r", "record") },
            ("?", "help"),
        ],
    };
    let mut x = 1;
    for (key, what) in keys {
        x = pen.put(x, area.y, area.right(), key, Paint::Key);
        x = pen.put(x, area.y, area.right(), &format!(" {what}  "), Paint::Dim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023B"),
            (1 << 20, "1.0M"),
            (211 << 20, "211M"),
            (1023 << 20, "1023M"),
            (3 << 29, "1.5G"),
            (96 << 30, "96.0G"),
            (100 << 30, "100G"),
            (5 << 40, "5.0T"),
            (u64::MAX, "16384P"),
        ] {
            assert_eq!(short(Bytes::new(bytes)), text, "{bytes}");
        }
    }
}
