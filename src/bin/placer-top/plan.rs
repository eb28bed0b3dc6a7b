//! How the screen is divided: pure arithmetic on the terminal's size and the number of boxes.

use placer_engine::{NodeSet, Topology};
use ratatui::layout::Rect;

use crate::grid;

/// Below this nothing sensible can be shown.
pub(crate) const LEAST: (u16, u16) = (80, 24);
/// From here on answer and guests stand side by side.
const BOTH: u16 = 150;

const HEADER: u16 = 2;
/// The request line and the line of keys.
const FOOTER: u16 = 2;
/// Between two boxes.
pub(crate) const GAP: u16 = 2;
/// Wider boxes say no more, unless there is one alone.
const WIDEST: u16 = 60;
const WIDEST_ALONE: u16 = 120;

/// How much a box says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Detail {
    /// CPUs, memory, huge pages, guests.
    #[default]
    Full,
    /// CPUs and memory, with figures.
    Plain,
    /// The same in half the width.
    Narrow,
    /// The same on one line.
    Line,
}

/// Each with the least width of a box and its height, the most telling first.
const DETAILS: [(Detail, u16, u16); 7] = [
    (Detail::Full, 38, 8),
    (Detail::Full, 38, 6),
    (Detail::Plain, 38, 4),
    (Detail::Plain, 38, 3),
    (Detail::Narrow, 18, 4),
    (Detail::Narrow, 18, 3),
    (Detail::Line, 18, 1),
];

/// Where everything stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) header: Rect,
    pub(crate) grid: Rect,
    /// The rule with the answer or the guests below it.
    pub(crate) panel: Rect,
    /// The guests beside the answer, where there is room for both.
    pub(crate) beside: Option<Rect>,
    pub(crate) prompt: Rect,
    pub(crate) keys: Rect,
    pub(crate) detail: Detail,
    pub(crate) columns: usize,
    /// Rows of boxes, seen or not.
    pub(crate) rows: usize,
    /// A box with its gap below.
    pub(crate) height: u16,
    pub(crate) width: u16,
}

impl Plan {
    /// Divides a terminal for so many boxes.
    pub(crate) fn of(boxes: usize, (columns, lines): (u16, u16)) -> Self {
        let panel = (lines / 3).clamp(8, 16);
        let body = lines.saturating_sub(HEADER + FOOTER + panel);
        let rect = |y, height| Rect { x: 0, y, width: columns, height };
        let both = columns >= BOTH;
        let left = if both { columns / 2 } else { columns };
        let panel = Rect { width: left, ..rect(HEADER + body, panel) };
        let beside = both.then(|| Rect { x: left + GAP, width: columns - left - GAP, ..panel });
        let mut plan = Self {
            header: rect(0, HEADER),
            grid: rect(HEADER, body),
            panel,
            beside,
            prompt: rect(lines.saturating_sub(FOOTER), 1),
            keys: rect(lines.saturating_sub(1), 1),
            ..Self::default()
        };
        for (detail, least, height) in DETAILS {
            (plan.detail, plan.height) = (detail, height);
            let most = usize::from(((columns + GAP) / (least + GAP)).max(1));
            plan.columns = square(boxes, most);
            while plan.columns < most.min(boxes) && !plan.holds(boxes) {
                plan.columns += 1;
            }
            if plan.holds(boxes) {
                break;
            }
        }
        if boxes == 1 {
            // The only box has the lines of all.
            plan.height = plan.height.max(body);
        }
        plan.rows = boxes.div_ceil(plan.columns.max(1));
        let gaps = GAP.saturating_mul(cells(plan.columns.saturating_sub(1)));
        let widest = if boxes == 1 { WIDEST_ALONE } else { WIDEST };
        plan.width = (columns.saturating_sub(gaps) / cells(plan.columns.max(1))).min(widest);
        plan
    }

    fn holds(&self, boxes: usize) -> bool {
        boxes.div_ceil(self.columns.max(1)) <= self.fitting()
    }

    /// Returns how many rows of boxes are seen at once. The last may do without the gap below it.
    pub(crate) fn fitting(&self) -> usize {
        if self.rows == 1 && self.height == self.grid.height {
            return usize::from(self.height > 0);
        }
        let gap = u16::from(matches!(self.height, 4 | 6 | 8));
        usize::from((self.grid.height + gap) / self.height.max(1))
    }

    /// Returns how many boxes are seen at once.
    pub(crate) fn visible(&self) -> usize {
        self.fitting() * self.columns
    }

    /// Returns the first row that is seen, so that the selected box is in the middle if it can be.
    pub(crate) fn first_row(&self, selected: Option<usize>) -> usize {
        let row = selected.unwrap_or(0) / self.columns.max(1);
        let last = self.rows.saturating_sub(self.fitting());
        row.saturating_sub(self.fitting() / 2).min(last)
    }
}

/// Returns how many columns make so many boxes about a square; better a little wider than with a row
/// that is not full.
fn square(boxes: usize, most: usize) -> usize {
    let side = boxes.isqrt() + usize::from(boxes.isqrt().pow(2) < boxes);
    let full =
        (side..=most.min(2 * side)).find(|columns| *columns > 0 && boxes.is_multiple_of(*columns));
    full.unwrap_or(side).min(most)
}

/// Returns a number of cells of the terminal.
pub(crate) fn cells(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// Returns the order of boxes in which near ones are neighbours.
pub(crate) fn by_distance(sets: &[NodeSet], columns: usize, topology: &Topology) -> Vec<usize> {
    let Some(table) = topology.distances() else { return (0..sets.len()).collect() };
    let distance = |a: usize, b: usize| -> u32 {
        let ends = sets[a].first().zip(sets[b].first());
        ends.and_then(|(a, b)| table.get(a, b)).map_or(20, |distance| distance.0)
    };
    grid::arrange(sets.len(), columns, distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_say_as_much_as_there_is_room_for() {
        for (boxes, size, detail, columns) in [
            (1, (80, 24), Detail::Full, 1),
            (4, (80, 24), Detail::Full, 2),
            (8, (80, 24), Detail::Plain, 2),
            (16, (80, 24), Detail::Narrow, 4),
            (64, (80, 24), Detail::Line, 4),
            (64, (160, 60), Detail::Narrow, 8),
            (8, (200, 60), Detail::Full, 4),
            (0, (80, 24), Detail::Full, 0),
        ] {
            let plan = Plan::of(boxes, size);
            assert_eq!((plan.detail, plan.columns), (detail, columns), "{boxes} in {size:?}");
        }
    }

    #[test]
    fn every_box_can_be_reached_on_any_terminal() {
        for boxes in 0..300 {
            for size in [(0, 0), (1, 1), (79, 23), (80, 24), (132, 43), (300, 80), (9999, 3)] {
                let plan = Plan::of(boxes, size);
                for at in 0..boxes {
                    let row = at / plan.columns.max(1);
                    let first = plan.first_row(Some(at));
                    let seen =
                        plan.fitting() == 0 || (first..first + plan.fitting()).contains(&row);
                    assert!(seen, "{at} of {boxes} in {size:?}: {plan:?}");
                }
            }
        }
    }
}
