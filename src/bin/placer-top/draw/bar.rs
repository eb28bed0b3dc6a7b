//! Bars: parts of a whole in cells.

use placer_engine::Bytes;

use super::Pen;
use crate::look::Paint;
use crate::sheet::{Item, Memory};
use placer::report::view::count;

impl Pen<'_> {
    /// Draws what CPUs do: busy, claimed, idle. Returns where it ends.
    pub(crate) fn cpu_bar(&mut self, x: u16, y: u16, width: u16, item: &Item) -> u16 {
        let glyphs = self.look.glyphs;
        let Some(busy) = item.busy() else {
            return self.bar(x, y, width, &[(0.0, glyphs.used, Paint::Calm)], glyphs.free);
        };
        let claimed = (item.cpus_claimed / count(item.cpus.len())).min(1.0 - busy);
        let paint = by_load(busy);
        let parts = [(busy, glyphs.used, paint), (claimed, glyphs.claimed, Paint::Claimed)];
        self.bar(x, y, width, &parts, glyphs.free)
    }

    /// Draws what is done with memory: used, claimed, cached, free. Returns where it ends.
    pub(crate) fn memory_bar(&mut self, x: u16, y: u16, width: u16, memory: &Memory) -> u16 {
        let glyphs = self.look.glyphs;
        let total = count(memory.total.get().max(1));
        let part = |amount: Bytes| count(amount.get()) / total;
        let parts = [
            (part(memory.used), glyphs.used, Paint::Used),
            (part(memory.claimed), glyphs.claimed, Paint::Claimed),
            (part(memory.cached), glyphs.cached, Paint::Cached),
        ];
        self.bar(x, y, width, &parts, glyphs.free)
    }

    /// Draws parts of a whole, each as a share from 0 to 1, and the rest as free. Each boundary is
    /// rounded by itself, so that a part never moves what is behind it by more than a cell.
    pub(crate) fn bar(
        &mut self,
        x: u16,
        y: u16,
        width: u16,
        parts: &[(f64, &str, Paint)],
        free: &str,
    ) -> u16 {
        let (mut sum, mut at) = (0.0, 0);
        for &(share, glyph, paint) in parts {
            sum += share;
            let end = boundary(sum, width);
            for column in at..end {
                self.put(x + column, y, x + width, glyph, paint);
            }
            at = at.max(end);
        }
        for column in at..width {
            self.put(x + column, y, x + width, free, Paint::Free);
        }
        x + width
    }
}

/// How CPUs of a load are drawn.
pub(crate) fn by_load(busy: f64) -> Paint {
    match busy {
        busy if busy > 0.9 => Paint::Hot,
        busy if busy > 0.6 => Paint::Warm,
        _ => Paint::Calm,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most the width")]
#[expect(clippy::cast_sign_loss, reason = "at least 0")]
fn boundary(share: f64, width: u16) -> u16 {
    (share.clamp(0.0, 1.0) * f64::from(width)).round() as u16
}
