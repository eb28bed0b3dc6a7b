//! The last-level caches of nodes that have several: in the box of a node, and as a list.

use ratatui::layout::Rect;

use super::bar::by_load;
use super::{Pen, width};
use crate::look::Paint;
use crate::model::Model;
use crate::plan::cells;
use crate::sheet::{self, Cache};

/// Room for the words behind the bars.
const WORDS: u16 = 18;

/// Draws the caches of a box: one a line where there is room, else all on one line. Returns the lines.
pub(super) fn draw(caches: &[Cache], area: Rect, pen: &mut Pen<'_>) -> u16 {
    if caches.len() > usize::from(area.height) {
        strip(caches, area, pen);
        return 1;
    }
    let bar = area.width.saturating_sub(4 + WORDS);
    for (y, cache) in (area.y..).zip(caches) {
        let right = area.right();
        // Its level; the size is in the list.
        let level = cache.name.split(' ').next().unwrap_or_default();
        pen.put(area.x, y, right, &format!("{level:<4}"), Paint::Dim);
        let list = cache.cpus.to_string();
        // The bar, the CPUs behind it, then what claims have.
        let room = bar.saturating_sub(cells(width(&list)) + 2).max(bar / 2);
        load(cache, area.x + 4, y, room, pen);
        pen.put(area.x + 5 + room, y, area.x + 4 + bar, &list, Paint::Dim);
        claims(cache, area.x + 4 + bar, y, right, pen);
    }
    cells(caches.len())
}

/// What claims have of a cache, at the right.
fn claims(cache: &Cache, left: u16, y: u16, right: u16, pen: &mut Pen<'_>) {
    let paint = if cache.is_claimed { Paint::Claimed } else { Paint::Plain };
    let text = match cache.guests.as_slice() {
        [one] => one.clone(),
        _ => cache.claims.clone(),
    };
    let room = right.saturating_sub(left + 1);
    if width(&text) <= usize::from(room) {
        pen.put_right(left, y, right, &text, paint);
    } else {
        pen.put(left + 1, y, right, &text, paint);
    }
}

fn load(cache: &Cache, x: u16, y: u16, bar: u16, pen: &mut Pen<'_>) -> u16 {
    let (busy, glyphs) = (cache.busy(), pen.look.glyphs);
    pen.bar(x, y, bar, &[(busy, glyphs.used, by_load(busy))], glyphs.free)
}

/// All caches on a line: a bar for each, or a cell where there are many, and how many are free.
fn strip(caches: &[Cache], area: Rect, pen: &mut Pen<'_>) {
    let (y, right) = (area.y, area.right());
    let level = caches.first().and_then(|cache| cache.name.split(' ').next()).unwrap_or_default();
    pen.put(area.x, y, right, &format!("{level:<4}"), Paint::Dim);
    let room = area.width.saturating_sub(4 + WORDS);
    let count = cells(caches.len());
    let bar = (room + 1) / count.max(1);
    let mut x = area.x + 4;
    for cache in caches {
        if bar >= 3 {
            x = load(cache, x, y, bar - 1, pen) + 1;
        } else if count <= room {
            let glyphs = pen.look.glyphs;
            let (glyph, paint) = match (cache.is_claimed, cache.is_free) {
                (true, _) => (glyphs.claimed, Paint::Claimed),
                (false, true) => (glyphs.free, Paint::Free),
                (false, false) => (glyphs.used, by_load(cache.busy())),
            };
            x = pen.put(x, y, right, glyph, paint);
        }
    }
    let free = caches.iter().filter(|cache| cache.is_free).count();
    let text = format!("{free} of {count} free");
    pen.put_right(area.x + 4, y, right, &text, Paint::Plain);
}

/// Lists the caches with the guests that have them: those of the selected box, or all; below them what cores of
/// different speed are worth.
pub(super) fn list(model: &Model, area: Rect, right: &str, pen: &mut Pen<'_>) {
    let selected = model.selected_at().and_then(|at| model.items.get(at));
    let all: Vec<&Cache> = match selected {
        Some(item) => item.caches.iter().collect(),
        None => model.items.iter().flat_map(|item| &item.caches).collect(),
    };
    let free = all.iter().filter(|cache| cache.is_free).count();
    let noun = super::counted(sheet::as_u64(all.len()), "cache");
    pen.rule(area, &format!("{noun}, {free} free"), right);
    let (x, end) = (area.x + 1, area.right());
    let mut area = area;
    if let Some(kinds) = model.view.core_kinds_in_words().filter(|_| area.height > 3) {
        area.height -= 1;
        pen.put(x, area.bottom(), end, &kinds, Paint::Dim);
    }
    if all.is_empty() {
        let text = "no node has several last-level caches";
        pen.put(x, area.y + 1, end, text, Paint::Dim);
        return;
    }
    let head = "node  cache        idle  CPUs                claims";
    pen.put(x, area.y + 1, end, head, Paint::Dim);
    let room = usize::from(area.height).saturating_sub(2);
    for (at, (y, cache)) in (area.y + 2..area.bottom()).zip(&all).enumerate() {
        if all.len() > room && y + 1 == area.bottom() {
            let text = format!("{} more: select a node, or placer show", all.len() - at);
            pen.put(x, y, end, &text, Paint::Dim);
            return;
        }
        let idle = cache.idle.map_or("?".to_owned(), |idle| format!("{idle:.2}"));
        let text = format!("{:>4}  {:<11} {idle:>6}", cache.node.0, cache.name);
        let at = pen.put(x, y, end, &text, Paint::Plain);
        pen.put(at + 2, y, at + 20, &cache.cpus.to_string(), Paint::Plain);
        let paint = if cache.is_claimed { Paint::Claimed } else { Paint::Plain };
        let guests = cache.guests.join(", ");
        let claims = match (cache.is_claimed, guests.is_empty()) {
            (true, false) if cache.claims.contains("owned") => {
                format!("{}: {guests}", cache.claims)
            }
            (true, false) => guests,
            _ => cache.claims.clone(),
        };
        pen.put(at + 22, y, end, &claims, paint);
    }
}
