//! Below the grid: where the typed guest would run, and which guests are there.

use placer_engine::Distances;
use ratatui::layout::Rect;

use super::{Pen, caches, counted, short};
use crate::answer::{Advised, Answer};
use crate::look::Paint;
use crate::model::Model;
use crate::sheet;
use placer::report::explain;
use placer::report::view::{Guest, MATCHES_AT};

/// Draws the answer or the guests, or both side by side.
pub(super) fn draw(model: &Model, pen: &mut Pen<'_>) {
    let area = model.plan.panel;
    if let Some(beside) = model.plan.beside {
        if model.show_caches {
            caches::list(model, area, "", pen);
        } else {
            answer(model, area, "", pen);
        }
        guests(model, beside, pen);
    } else if model.show_caches {
        caches::list(model, area, &shown(model, pen), pen);
    } else if model.show_guests || model.answer == Answer::Nothing {
        guests(model, area, pen);
    } else {
        answer(model, area, &shown(model, pen), pen);
    }
}

/// Says how the boxes are sorted, and which of them are out of sight.
fn shown(model: &Model, pen: &Pen<'_>) -> String {
    let plan = &model.plan;
    let first = plan.first_row(model.selected_at()) * plan.columns;
    let (all, last) = (model.items.len(), first + plan.visible());
    let mut text = Vec::new();
    let glyphs = pen.look.glyphs;
    if first > 0 {
        text.push(format!("{} {first} more", glyphs.more_above));
    }
    if last < all {
        text.push(format!("{} {} more", glyphs.more_below, all - last));
    }
    if !model.filter.is_empty() {
        text.push(format!("filter {}", model.filter.text()));
    }
    text.push(format!("by {}", model.sort.name()));
    text.join(&format!(" {} ", glyphs.dot))
}

/// The lines of an area below its rule.
fn below(area: Rect) -> impl Iterator<Item = u16> {
    area.y + 1..area.bottom()
}

fn answer(model: &Model, area: Rect, right: &str, pen: &mut Pen<'_>) {
    match &model.answer {
        Answer::Nothing => {
            pen.rule(area, "advice", right);
            let text = "type a request, as in 4:8G: 4 CPUs and 8 GiB";
            pen.put(area.x + 1, area.y + 1, area.right(), text, Paint::Dim);
        }
        Answer::Wrong(why) => {
            pen.rule(area, "no advice", right);
            for (y, line) in below(area).zip(wrapped(why, usize::from(area.width) - 2)) {
                pen.put(area.x + 1, y, area.right(), &line, Paint::Dim);
            }
        }
        Answer::Advice(advised) => {
            let asked = explain::request_in_words(&advised.request);
            pen.rule(area, &asked, right);
            let end = area.right();
            let lines = {
                let distances = model.view.distances.as_ref();
                in_lines(advised, distances, usize::from(area.height) - 1)
            };
            for (y, (sign, text, paint)) in below(area).zip(lines) {
                let glyphs = pen.look.glyphs;
                let sign = match sign {
                    Sign::None => " ",
                    Sign::Advised => glyphs.advised,
                    Sign::Second => glyphs.second,
                    Sign::Alert => glyphs.alert,
                };
                let x = pen.put(area.x, y, end, sign, paint);
                pen.put(x, y, end, &cut(&text, usize::from(end.saturating_sub(x))), paint);
            }
        }
    }
}

/// Cuts a text that is too long, and says so.
fn cut(text: &str, room: usize) -> String {
    if super::width(text) <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(4)).collect();
    short.push_str(" ...");
    short
}

#[derive(Clone, Copy)]
enum Sign {
    None,
    Advised,
    Second,
    Alert,
}

/// The advice in so many lines: where, the sets that come next, what numad would say, the split.
fn in_lines(
    advised: &Advised,
    distances: Option<&Distances>,
    lines: usize,
) -> Vec<(Sign, String, Paint)> {
    let Advised { advice, why, .. } = advised;
    let mut text = Vec::new();
    if !advice.fits() {
        text.push((Sign::Alert, explain::verdict(advice), Paint::Alert));
        if let Some(why) = why.as_ref().filter(|why| !why.remedies.is_empty()) {
            let remedies = why.remedies.join(", or ");
            text.push((Sign::None, format!("it would fit with {remedies}"), Paint::Plain));
        }
    }
    text.push((Sign::None, explain::HEAD[1..].to_owned(), Paint::Dim));
    let chosen = explain::row(&explain::chosen(advice), &explain::proof(advice));
    text.push((Sign::Advised, chosen[1..].to_owned(), Paint::Advised));
    // The split and numad's answer come last, and are kept.
    let kept = 1 + usize::from(why.is_some());
    let room = lines.saturating_sub(text.len() + kept);
    let others = why.iter().flat_map(|why| &why.alternatives).take(room);
    for (at, other) in others.enumerate() {
        let row = explain::row(other, &explain::reason(other));
        let (sign, paint) =
            if at == 0 { (Sign::Second, Paint::Second) } else { (Sign::None, Paint::Plain) };
        text.push((sign, row[1..].to_owned(), paint));
    }
    if let Some(why) = why {
        let numad = explain::numad(advice, why, distances);
        text.push((Sign::None, format!(" {numad}"), Paint::Dim));
    }
    let share = |share: &placer_engine::Share| {
        format!("{}: {:.2} CPUs {}", share.node, share.cpus, share.memory)
    };
    let split: Vec<String> = advice.split.iter().map(share).collect();
    let split = if split.is_empty() { "nothing".to_owned() } else { split.join(", ") };
    text.push((Sign::None, format!(" on node {split}"), Paint::Dim));
    text
}

fn guests(model: &Model, area: Rect, pen: &mut Pen<'_>) {
    let guests = model.guests();
    let all = model.view.guests.as_ref().map_or(0, Vec::len);
    let right = shown(model, pen);
    pen.rule(area, &counted(sheet::as_u64(all), "guest"), &right);
    let (x, end) = (area.x + 1, area.right());
    if guests.is_empty() {
        let text = match all {
            0 => "no claims yet; placer launch and --hold make them",
            _ => "no guest matches the filter",
        };
        pen.put(x, area.y + 1, end, text, Paint::Dim);
        return;
    }
    let head = "guest                              CPUs    memory   used  there  nodes";
    pen.put(x, area.y + 1, end, head, Paint::Dim);
    let room = usize::from(area.height).saturating_sub(2);
    let left = guests.len().saturating_sub(room);
    for (y, guest) in (area.y + 2..area.bottom()).zip(&guests) {
        if left > 0 && y + 1 == area.bottom() {
            let text = format!("{} more: placer ps lists them", left + 1);
            pen.put(x, y, end, &text, Paint::Dim);
            return;
        }
        row(guest, x, y, end, pen);
    }
}

fn row(guest: &Guest, x: u16, y: u16, end: u16, pen: &mut Pen<'_>) {
    let percent = |percent: Option<u64>| percent.map_or("-".to_owned(), |p| format!("{p} %"));
    let part = |part: placer_engine::Bytes| {
        let percent = u128::from(part.get()) * 100 / u128::from(guest.memory.get().max(1));
        u64::try_from(percent).unwrap_or(u64::MAX)
    };
    let name =
        if guest.asked { sheet::name(guest) } else { format!("{} (found)", sheet::name(guest)) };
    let paint = if guest.is_hold() { Paint::Dim } else { Paint::Plain };
    pen.put(x, y, x + 31, &name, paint);
    let (used, there) = (percent(guest.resident.map(part)), guest.on_advised());
    let text = format!("{:>7} {:>9} {used:>6}", guest.cpus.to_string(), short(guest.memory));
    let at = pen.put(x + 32, y, end, &text, Paint::Plain);
    let elsewhere = there.is_some_and(|there| there < MATCHES_AT);
    let paint = if elsewhere { Paint::Alert } else { Paint::Plain };
    let at = pen.put(at, y, end, &format!(" {:>6}", percent(there)), paint);
    pen.put(at + 2, y, end, &guest.nodes().to_string(), Paint::Plain);
}

/// Breaks a text at its blanks.
pub(super) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| super::width(line));
        if last > 0 && last + 1 + super::width(word) > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
