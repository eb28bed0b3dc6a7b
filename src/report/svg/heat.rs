//! The table of distances as a heat map.

use std::collections::BTreeMap;

use placer_engine::Distances;

use super::canvas::{Area, Canvas, Place, Short, bold, face};
use super::theme;

/// With more nodes the cells of a row that are as far are one shape: there are few such.
const CELLS: usize = 16;
/// With more nodes than this a cell would be no larger than a dot.
const MOST: usize = 256;
/// So many shades have a name in the key.
const KEYS: usize = 6;

/// What is drawn, from (0, 0) on, and how large it is.
pub(super) struct Heat {
    pub(super) canvas: Canvas,
    pub(super) w: f64,
    pub(super) h: f64,
}

/// Where cells lie.
struct Grid<'a> {
    table: &'a Distances,
    /// All distances that there are, nearest first.
    values: Vec<u32>,
    w: f64,
    h: f64,
    /// What labels take at the left and above.
    left: f64,
    top: f64,
}

pub(super) fn draw(table: &Distances) -> Option<Heat> {
    let count = table.nodes().len();
    if count < 2 {
        return None;
    }
    let mut canvas = Canvas::default();
    canvas.text(Place::start(0.0, 14.0, 420.0), bold(14.0, "t"), "Distances");
    let said = "from a node's CPUs (row) to memory (column)";
    canvas.text(Place::start(84.0, 14.0, 330.0), face(11.0, "m"), said);
    let mut values: Vec<u32> = table.rows().flatten().copied().collect();
    values.sort_unstable();
    values.dedup();
    if count > MOST {
        let said = format!("{count} x {count}: too many to draw, see placer show --json");
        canvas.text(Place::start(0.0, 40.0, 420.0), face(12.0, "m"), &said);
        return Some(Heat { canvas, w: 420.0, h: 48.0 });
    }
    let (w, h) = match count {
        0..=8 => (44.0, 30.0),
        9..=16 => (32.0, 24.0),
        17..=64 => (9.0, 9.0),
        _ => (4.0, 4.0),
    };
    let grid = Grid { table, values, w, h, left: 34.0, top: 44.0 };
    grid.labels(&mut canvas);
    if count <= CELLS {
        grid.cells(&mut canvas);
    } else {
        grid.runs(&mut canvas);
    }
    let (width, bottom) = (grid.left + w * f(count), grid.top + h * f(count));
    let key = grid.key(&mut canvas, bottom + 12.0);
    Some(Heat { canvas, w: width.max(key).max(420.0), h: bottom + 36.0 })
}

fn f(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Grid<'_> {
    fn shade(&self, distance: u32) -> (&'static str, &'static str) {
        let rank = self.values.binary_search(&distance).unwrap_or(0);
        theme::distance(rank, self.values.len())
    }

    /// Names every node, or so many that the names do not touch.
    fn labels(&self, canvas: &mut Canvas) {
        let size = if self.h > 12.0 { 11.0 } else { 9.0 };
        let nodes = self.table.nodes();
        let digits = nodes.iter().map(|node| node.0.to_string().len()).max().unwrap_or(1);
        let across = (f(digits) * size * 0.72 + 4.0) / self.w;
        let down = size * 1.25 / self.h;
        let every = |needs: f64| (1..).find(|&n| f(n) >= needs).unwrap_or(1);
        let (across, down) = (every(across), every(down));
        for (at, node) in nodes.iter().enumerate() {
            let label = node.0.to_string();
            if at % across == 0 {
                let room = self.w * f(across) - 2.0;
                let x = self.left + self.w * (f(at) + 0.5);
                canvas.text(Place::middle(x, self.top - 6.0, room), face(size, "m"), &label);
            }
            if at % down == 0 {
                let y = self.top + self.h * (f(at) + 0.5) + size * 0.36;
                canvas.text(
                    Place::end(self.left - 6.0, y, self.left - 8.0),
                    face(size, "m"),
                    &label,
                );
            }
        }
    }

    fn cells(&self, canvas: &mut Canvas) {
        let nodes = self.table.nodes();
        for (row, (from, cells)) in nodes.iter().zip(self.table.rows()).enumerate() {
            for (column, (to, distance)) in nodes.iter().zip(cells).enumerate() {
                let (class, ink) = self.shade(*distance);
                let area = Area {
                    x: self.left + self.w * f(column) + 1.0,
                    y: self.top + self.h * f(row) + 1.0,
                    w: self.w - 2.0,
                    h: self.h - 2.0,
                };
                let title = format!("from node {from} to node {to}: {distance}");
                canvas.rect_titled(area, 3.0, class, &title);
                let place =
                    Place::middle(area.x + area.w / 2.0, area.y + area.h / 2.0 + 4.0, area.w);
                let name = format!("distance{from}-{to}");
                canvas.told(place, face(11.0, ink), &distance.to_string(), &name);
            }
        }
    }

    /// Draws a shape for each row and distance.
    fn runs(&self, canvas: &mut Canvas) {
        let nodes = self.table.nodes();
        for (row, (from, cells)) in nodes.iter().zip(self.table.rows()).enumerate() {
            let mut of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            for (column, distance) in cells.iter().enumerate() {
                of.entry(*distance).or_default().push(column);
            }
            for (distance, columns) in of {
                let (class, _) = self.shade(distance);
                canvas.raw(format_args!("<path class=\"{class}\" d=\""));
                for (first, length) in runs(&columns) {
                    let (x, y) = (self.left + self.w * f(first), self.top + self.h * f(row));
                    let (w, h) = (self.w * f(length) - 0.5, self.h - 0.5);
                    let (x, y, w, h) = (Short(x), Short(y), Short(w), Short(h));
                    canvas.raw(format_args!("M{x} {y}h{w}v{h}h-{w}z"));
                }
                let to: placer_engine::NodeSet =
                    columns.iter().filter_map(|column| nodes.get(*column)).copied().collect();
                canvas.raw(format_args!(
                    "\" data-is=\"distance{from}-{to}\" data-at=\"{distance}\">"
                ));
                canvas.title(&format!("from node {from} to {to}: {distance}"));
                canvas.body.push_str("</path>");
            }
        }
    }

    /// Draws what the shades mean. Returns how far it goes.
    fn key(&self, canvas: &mut Canvas, y: f64) -> f64 {
        let mut x = self.left;
        let last = self.values.len().saturating_sub(1);
        let step = |at: usize| last * at / (KEYS - 1).max(1);
        let mut shown: Vec<usize> =
            if last < KEYS { (0..=last).collect() } else { (0..KEYS).map(step).collect() };
        shown.dedup();
        for at in shown {
            let Some(value) = self.values.get(at) else { continue };
            let (class, _) = self.shade(*value);
            canvas.rect(Area { x, y, w: 16.0, h: 12.0 }, 2.0, class);
            let label = if *value == 10 { "10 local".to_owned() } else { value.to_string() };
            let width =
                canvas.text(Place::start(x + 21.0, y + 10.0, 70.0), face(11.0, "m"), &label);
            x += 21.0 + width + 14.0;
        }
        x
    }
}

/// Returns where each run of numbers begins and how long it is.
fn runs(columns: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &column in columns {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == column => *length += 1,
            _ => runs.push((column, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_joined() {
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [(0, 3), (5, 1), (7, 2)]);
        assert_eq!(runs(&[]), []);
    }
}
