//! The grid: a box for each node, or each package.

use ratatui::layout::Rect;

use super::bar::by_load;
use super::{Pen, caches, short, width};
use crate::history::Reading;
use crate::look::Paint;
use crate::model::Model;
use crate::plan::{Detail, GAP, cells};
use crate::sheet::{self, Item, What};
use placer::report::view::count;

/// Room for the figures behind a bar.
const FIGURES: u16 = 18;

/// Draws the boxes that are seen.
pub(super) fn draw(model: &Model, pen: &mut Pen<'_>) {
    let plan = &model.plan;
    if model.items.is_empty() {
        let text = format!("no node matches the filter {}", model.filter.text());
        pen.put(1, plan.grid.y + 1, plan.grid.right(), &text, Paint::Dim);
        return;
    }
    let first = plan.first_row(model.selected_at());
    let seen = first * plan.columns..(first + plan.fitting()) * plan.columns;
    for (at, item) in model.items.iter().enumerate().filter(|(at, _)| seen.contains(at)) {
        let (row, column) = (cells(at / plan.columns - first), cells(at % plan.columns));
        let area = Rect {
            x: plan.grid.x + column * (plan.width + GAP),
            y: plan.grid.y + row * plan.height,
            width: plan.width,
            height: plan.height,
        };
        one(model, item, area, pen);
    }
}

fn one(model: &Model, item: &Item, area: Rect, pen: &mut Pen<'_>) {
    let detail = model.plan.detail;
    if detail == Detail::Line {
        return on_one_line(model, item, area, pen);
    }
    title(model, item, area, pen);
    let figures = if detail == Detail::Narrow { 6 } else { FIGURES };
    let bar = area.width.saturating_sub(4 + figures);
    let (x, right) = (area.x, area.right());

    let y = area.y + 1;
    pen.put(x, y, right, "cpu ", Paint::Dim);
    if item.cpus.is_empty() {
        pen.put(x + 4, y, right, "none", Paint::Dim);
    } else {
        pen.cpu_bar(x + 4, y, bar, item);
        let text = match (item.busy(), item.idle) {
            (Some(busy), _) if detail == Detail::Narrow => format!("{:.0} %", busy * 100.0),
            (_, Some(idle)) => format!("{} of {} idle", hundredths(idle), item.cpus.len()),
            _ => "?".to_owned(),
        };
        pen.put_right(x + 4 + bar, y, right, &text, Paint::Plain);
    }

    let y = area.y + 2;
    pen.put(x, y, right, "mem ", Paint::Dim);
    let memory = &item.memory;
    if memory.total.get() == 0 {
        let text = if memory.told { "none" } else { "not told" };
        pen.put(x + 4, y, right, text, Paint::Dim);
    } else {
        pen.memory_bar(x + 4, y, bar, memory);
        let text = match detail {
            Detail::Narrow => short(memory.left),
            _ => format!("{} left", memory.left),
        };
        pen.put_right(x + 4 + bar, y, right, &text, Paint::Plain);
    }
    if detail == Detail::Full {
        rest(model, item, area, pen);
    }
}

/// What else there is to say, on the lines that are left: memory in figures, huge pages, caches, what was,
/// guests. The figures give way to the others, the last line is the gap.
fn rest(model: &Model, item: &Item, area: Rect, pen: &mut Pen<'_>) {
    let (x, right) = (area.x, area.right());
    let (mut y, last) = (area.y + 3, area.bottom().saturating_sub(2));
    let [pages, has_caches, guests] =
        [item.pages.is_empty(), item.caches.is_empty(), item.guests.is_empty()]
            .map(|none| u16::from(!none));
    let wanted = pages + has_caches + guests;
    if last + 1 - y > wanted && item.memory.total.get() > 0 {
        let glyphs = pen.look.glyphs;
        let memory = &item.memory;
        let parts = [
            (glyphs.used, "used", memory.used, Paint::Used),
            (glyphs.claimed, "claimed", memory.claimed, Paint::Claimed),
            (glyphs.cached, "cached", memory.cached, Paint::Cached),
        ];
        let mut at = x + 4;
        for (glyph, name, amount, paint) in parts {
            at = pen.put(at, y, right, glyph, paint);
            at = pen.put(at, y, right, &format!("{name} {} ", short(amount)), Paint::Dim);
        }
        y += 1;
    }
    match item.pages.as_slice() {
        [] => {}
        [pages] => {
            let bar = area.width.saturating_sub(4 + FIGURES);
            let used = count(pages.total - pages.free.min(pages.total)) / count(pages.total);
            let glyphs = pen.look.glyphs;
            pen.put(x, y, right, &format!("{:<4}", unit(pages.size)), Paint::Dim);
            pen.bar(x + 4, y, bar, &[(used, glyphs.used, Paint::Used)], glyphs.free);
            let text = format!("{} of {} free", pages.free, pages.total);
            pen.put_right(x + 4 + bar, y, right, &text, Paint::Plain);
            y += 1;
        }
        several => {
            let one = |p: &sheet::Pages| format!("{} {} of {}", unit(p.size), p.free, p.total);
            let text: Vec<String> = several.iter().map(one).collect();
            pen.put(x, y, right, &format!("free {}", text.join(", ")), Paint::Plain);
            y += 1;
        }
    }
    let left = |y: u16| (last + 1).saturating_sub(y + guests);
    let past = past(model, item, usize::from(area.width.saturating_sub(4 + FIGURES)));
    let lines = if past.is_some() { 2 } else { 0 };
    if has_caches > 0 && left(y) > 0 {
        let area = Rect { y, height: left(y).saturating_sub(lines).max(1), ..area };
        y += caches::draw(&item.caches, area, pen);
    }
    if let Some(past) = past.filter(|_| left(y) >= lines) {
        y += draw_past(&past, Rect { y, ..area }, pen);
    }
    draw_guests(item, Rect { y, height: (last + 1).saturating_sub(y), ..area }, pen);
}

/// The last readings of a node, and the seconds that they span; `None` of several nodes together.
fn past(model: &Model, item: &Item, most: usize) -> Option<(Vec<Reading>, f64)> {
    let What::Node(id) = item.what else { return None };
    model.history.of(id, most)
}

/// Draws how busy the CPUs were and how much memory was used, the last reading at the right. Returns the lines.
fn draw_past((readings, seconds): &(Vec<Reading>, f64), area: Rect, pen: &mut Pen<'_>) -> u16 {
    let room = area.width.saturating_sub(4 + FIGURES);
    let levels = pen.look.glyphs.levels;
    for (y, name) in (area.y..).zip(["cpu", "mem"]) {
        pen.put(area.x, y, area.right(), &format!("{name:<4}"), Paint::Dim);
        let start = area.x + 4 + room.saturating_sub(cells(readings.len()));
        for (x, reading) in (start..).zip(readings) {
            let (part, paint) = match name {
                "mem" => (reading.used, Paint::Used),
                _ => (reading.busy, by_load(reading.busy)),
            };
            pen.put(x, y, area.right(), levels[step(part)], paint);
        }
    }
    let text = format!("last {seconds:.0} s");
    pen.put_right(area.x + 4 + room, area.y, area.right(), &text, Paint::Dim);
    2
}

/// Returns one of eight steps for a part from 0 to 1.
#[expect(clippy::cast_possible_truncation, reason = "0 to 7")]
#[expect(clippy::cast_sign_loss, reason = "0 to 7")]
fn step(part: f64) -> usize {
    (part.clamp(0.0, 1.0) * 7.0).round() as usize
}

/// Guests with their share, one behind the other; at the end how many are not named. A name that is
/// longer than a line loses its end, and never its share.
fn draw_guests(item: &Item, area: Rect, pen: &mut Pen<'_>) {
    let (right, last) = (area.right(), area.bottom().saturating_sub(1));
    let (mut at, mut y) = (area.x, area.y);
    for (seen, (name, share)) in item.guests.iter().enumerate() {
        let share = format!(" {share} %");
        let more = item.guests.len() - seen;
        let room = |y| if y == last && more > 1 { right.saturating_sub(9) } else { right };
        if at > area.x && at + cells(width(name) + width(&share)) > room(y) {
            if y >= last {
                pen.put(at, y, right, &format!("+{more} more"), Paint::Dim);
                return;
            }
            (at, y) = (area.x, y + 1);
        }
        let end = room(y).saturating_sub(cells(width(&share)));
        let end = pen.put(at, y, end, name, Paint::Plain);
        at = pen.put(end, y, right, &share, Paint::Plain) + 2;
    }
}

/// A size as a flag takes it: `2M`, `1G`.
fn unit(size: placer_engine::Bytes) -> String {
    short(size).replace(".0", "")
}

/// At most five cells: what is behind the point matters least on large hosts.
fn hundredths(idle: f64) -> String {
    if idle < 100.0 { format!("{idle:.2}") } else { format!("{idle:.1}") }
}

/// The sign in front of a box: advised, second, or neither.
fn sign(model: &Model, item: &Item, pen: &Pen<'_>) -> (&'static str, Paint) {
    let Some(advised) = model.answer.advised() else { return (" ", Paint::Plain) };
    let touches = |nodes: &placer_engine::NodeSet| !nodes.intersection(&item.nodes).is_empty();
    let second = advised.why.as_ref().and_then(|why| why.alternatives.first());
    if touches(&advised.advice.nodes) {
        (pen.look.glyphs.advised, Paint::Advised)
    } else if second.is_some_and(|second| touches(&second.nodes)) {
        (pen.look.glyphs.second, Paint::Second)
    } else {
        (" ", Paint::Plain)
    }
}

fn title(model: &Model, item: &Item, area: Rect, pen: &mut Pen<'_>) {
    let (glyph, paint) = sign(model, item, pen);
    let (y, right) = (area.y, area.right());
    let narrow = model.plan.detail == Detail::Narrow;
    let x = pen.put(area.x, y, right, glyph, paint);
    let name = match &item.what {
        What::Node(id) if narrow => id.to_string(),
        What::Node(id) => format!("node {id}"),
        What::Group(title) if title.is_empty() => "no package".to_owned(),
        What::Group(title) => title.clone(),
    };
    let name_paint = if paint == Paint::Advised { paint } else { Paint::Title };
    let end = pen.put(x, y, right, &name, name_paint);
    let package = match &item.what {
        What::Node(id) => package(model, *id, narrow),
        What::Group(_) if narrow => String::new(),
        What::Group(_) => format!("nodes {}", item.nodes),
    };
    let away = away(model, item);
    let facts = match (&away, narrow) {
        (Some(away), true) => format!("d {away}"),
        (Some(away), false) => format!("distance {away}"),
        (None, _) => package,
    };
    let start = pen.put_right(end + 1, y, right, &facts, Paint::Dim);
    if !narrow {
        let cpus = match item.cpus.to_string() {
            list if list.is_empty() => "no CPUs".to_owned(),
            list => format!("CPUs {list}"),
        };
        pen.put(end + 2, y, start.saturating_sub(2), &cpus, Paint::Dim);
    }
    if model.selected.as_ref() == Some(&item.nodes) {
        pen.mark(Rect { height: 1, ..area }, Paint::Selected);
    }
}

/// Returns the package of a node, as far as one is told.
fn package(model: &Model, id: placer_engine::NodeId, narrow: bool) -> String {
    let packages = model.view.node(id).map_or(&[][..], |node| &node.packages);
    match packages {
        [id] if narrow => format!("p{id}"),
        [id] => format!("package {id}"),
        _ => String::new(),
    }
}

/// Returns how far a node's memory is from the CPUs of the selected one.
fn away(model: &Model, item: &Item) -> Option<u32> {
    let from = model.selected.as_ref()?.first()?;
    let table = model.snapshot.topology().distances()?;
    Some(table.get(from, item.nodes.first()?)?.0)
}

fn on_one_line(model: &Model, item: &Item, area: Rect, pen: &mut Pen<'_>) {
    let (glyph, paint) = sign(model, item, pen);
    let Rect { x, y, .. } = area;
    let right = area.right();
    let id = match &item.what {
        What::Node(id) => id.to_string(),
        What::Group(title) => title.replace("package ", "p"),
    };
    let name_paint = if paint == Paint::Advised { paint } else { Paint::Title };
    pen.put(x, y, right, glyph, paint);
    pen.put(x + 1, y, right, &id, name_paint);
    let figure = match away(model, item) {
        Some(away) => format!("d {away}"),
        None => short(item.memory.left),
    };
    let bars = area.width.saturating_sub(4 + 2 + 5);
    let at = pen.cpu_bar(x + 5, y, bars / 2, item);
    pen.memory_bar(at + 1, y, bars - bars / 2 - 1, &item.memory);
    pen.put_right(x, y, right, &figure, Paint::Plain);
    if model.selected.as_ref() == Some(&item.nodes) {
        pen.mark(area, Paint::Selected);
    }
}
