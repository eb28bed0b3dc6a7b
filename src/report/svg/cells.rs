//! The CPUs of a node: a cell for each, shaded by its load, the threads of a core side by side.

use super::canvas::{Area, Canvas, Place, face};
use super::scale::Cell;
use super::theme;
use crate::report::view::{Core, Cpu};

/// Between the threads of a core, and between cores.
const NEAR: f64 = 1.0;
const APART: f64 = 4.0;

/// Draws cores from a place on, in lines of a width. Returns how high they are.
pub(super) fn draw(
    canvas: &mut Canvas,
    cores: &[Core],
    at: (f64, f64),
    width: f64,
    cell: Cell,
) -> f64 {
    let (w, h) = match cell {
        Cell::Numbered { w, h, .. } => (w, h),
        Cell::Small { side } | Cell::Core { side } => (side, side),
        Cell::Bar => return bar(canvas, cores, at, width),
    };
    let apart = if w < 8.0 { 2.0 } else { APART };
    let (mut x, mut y) = (0.0, 0.0);
    for core in cores {
        let threads = threads(core, cell);
        let length = threads.iter().fold(-NEAR, |sum, _| sum + w + NEAR);
        // A core that is wider than all the room is broken where it must be.
        if x > 0.0 && x + length > width {
            (x, y) = (0.0, y + h + apart);
        }
        for thread in &threads {
            if x > 0.0 && x + w > width {
                (x, y) = (0.0, y + h + NEAR);
            }
            // A slow CPU has a lower cell.
            let lower = if thread.slow { (h * 0.3).round() } else { 0.0 };
            let area = Area { x: at.0 + x, y: at.1 + y + lower, w, h: h - lower };
            one(canvas, thread, area, cell);
            x += w + NEAR;
        }
        x += apart - NEAR;
    }
    if cores.is_empty() { 0.0 } else { y + h }
}

/// What one cell stands for.
struct Shown {
    label: String,
    title: String,
    busy: Option<f64>,
    isolated: bool,
    owned: bool,
    slow: bool,
}

fn threads(core: &Core, cell: Cell) -> Vec<Shown> {
    let load = |busy: Option<f64>| match busy {
        Some(busy) => format!("{:.0} % busy", busy * 100.0),
        None => "load unknown".to_owned(),
    };
    if let (Cell::Core { .. }, Some(first)) = (cell, core.cpus.first()) {
        let all: Vec<String> = core.cpus.iter().map(|cpu| cpu.id.to_string()).collect();
        let busy = mean(&core.cpus);
        let title = format!("CPUs {}: {}", all.join(","), load(busy));
        let owned = core.cpus.iter().any(|cpu| cpu.owned);
        let (isolated, slow) = (first.isolated, first.capacity < 1.0);
        return vec![Shown { label: String::new(), title, busy, isolated, owned, slow }];
    }
    let of = |cpu: &Cpu| Shown {
        label: cpu.id.to_string(),
        title: format!("CPU {}: {}{}", cpu.id, load(cpu.busy), special(cpu)),
        busy: cpu.busy,
        isolated: cpu.isolated,
        owned: cpu.owned,
        slow: cpu.capacity < 1.0,
    };
    core.cpus.iter().map(of).collect()
}

/// What is special about a CPU, behind its load.
fn special(cpu: &Cpu) -> String {
    let isolated = if cpu.isolated { ", isolated" } else { "" };
    let owned = if cpu.owned { ", owned by a claim" } else { "" };
    let slow = match cpu.capacity {
        capacity if capacity < 1.0 => format!(", efficient: worth {capacity:.2} of a fast CPU"),
        _ => String::new(),
    };
    format!("{isolated}{owned}{slow}")
}

fn mean(cpus: &[Cpu]) -> Option<f64> {
    let sum = cpus.iter().map(|cpu| cpu.busy).sum::<Option<f64>>()?;
    Some(sum / f64::from(u32::try_from(cpus.len()).unwrap_or(u32::MAX)))
}

fn one(canvas: &mut Canvas, shown: &Shown, area: Area, cell: Cell) {
    let Area { x, y, w, h } = area;
    let radius = if w > 12.0 { 3.0 } else { 1.5 };
    let (class, ink) = shown.busy.map_or(("u", "t"), theme::load);
    let numbered = if let Cell::Numbered { text, .. } = cell { Some(text) } else { None };
    // Small cells fill from below; those with a number have a gauge under it.
    let ground = if numbered.is_some() { class } else { shown.busy.map_or("u", |_| "l0") };
    canvas.rect_titled(area, radius, ground, &shown.title);
    let level = shown.busy.filter(|busy| *busy >= 0.05);
    match (numbered, level) {
        (Some(_), Some(busy)) => {
            let gauge = Area { x: x + 3.0, y: y + h - 4.0, w: (w - 6.0) * busy, h: 2.0 };
            canvas.rect(gauge, 1.0, "lg");
        }
        (None, Some(busy)) => {
            let fill = h * busy.min(1.0);
            canvas.rect(Area { x, y: y + h - fill, w, h: fill }, 0.0, class);
        }
        _ => {}
    }
    if let Some(text) = numbered {
        let line = y + h / 2.0 + text * 0.36 - 1.0;
        canvas.text(Place::middle(x + w / 2.0, line, w - 2.0), face(text, ink), &shown.label);
    }
    if shown.owned {
        let inner = Area { x: x + 1.0, y: y + 1.0, w: w - 2.0, h: h - 2.0 };
        canvas.rect(inner, radius, "ow");
    }
    if shown.isolated {
        let inner = Area { x: x + 0.5, y: y + 0.5, w: w - 1.0, h: h - 1.0 };
        canvas.rect(inner, radius, "ru");
    }
}

/// One bar for all: how much of the time they were busy.
fn bar(canvas: &mut Canvas, cores: &[Core], at: (f64, f64), width: f64) -> f64 {
    const HEIGHT: f64 = 10.0;
    let cpus: Vec<Cpu> = cores.iter().flat_map(|core| core.cpus.iter().copied()).collect();
    let area = Area { x: at.0, y: at.1, w: width, h: HEIGHT };
    let Some(busy) = mean(&cpus).filter(|_| !cpus.is_empty()) else {
        canvas.rect_titled(area, 3.0, "u", &format!("{} CPUs: load unknown", cpus.len()));
        return HEIGHT;
    };
    canvas.rect_titled(
        area,
        3.0,
        "l0",
        &format!("{} CPUs: {:.0} % busy", cpus.len(), busy * 100.0),
    );
    canvas.rect(Area { w: width * busy, ..area }, 3.0, theme::load(busy).0);
    HEIGHT
}
