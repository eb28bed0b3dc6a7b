//! Writes the elements of a picture. Every text that reaches a picture goes through [`Canvas::text`]
//! or [`Canvas::title`], which make it fit and escape it.

use std::fmt::Write;

use super::measure;
use crate::report::escape;

/// Elements, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Canvas {
    pub(super) body: String,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Face {
    pub(super) size: f64,
    pub(super) bold: bool,
    /// The class of its colour.
    pub(super) class: &'static str,
}

/// Where a text begins, ends or has its middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A place, and how much room there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) x: f64,
    /// Of the line that letters stand on.
    pub(super) y: f64,
    pub(super) room: f64,
    pub(super) anchor: Anchor,
}

/// A box.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Area {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

pub(super) const fn face(size: f64, class: &'static str) -> Face {
    Face { size, bold: false, class }
}

pub(super) const fn bold(size: f64, class: &'static str) -> Face {
    Face { size, bold: true, class }
}

impl Place {
    /// A text that begins here.
    pub(super) fn start(x: f64, y: f64, room: f64) -> Self {
        Self { x, y, room, anchor: Anchor::Start }
    }

    /// A text that has its middle here.
    pub(super) fn middle(x: f64, y: f64, room: f64) -> Self {
        Self { x, y, room, anchor: Anchor::Middle }
    }

    /// A text that ends here.
    pub(super) fn end(x: f64, y: f64, room: f64) -> Self {
        Self { x, y, room, anchor: Anchor::End }
    }
}

impl Canvas {
    /// Writing to a string does not fail.
    pub(super) fn raw(&mut self, piece: std::fmt::Arguments<'_>) {
        let _ = self.body.write_fmt(piece);
    }

    pub(super) fn rect(&mut self, area: Area, radius: f64, class: &str) {
        self.rect_titled(area, radius, class, "");
    }

    /// Draws a box that tells more to who points at it.
    pub(super) fn rect_titled(&mut self, area: Area, radius: f64, class: &str, title: &str) {
        let Area { x, y, w, h } = area;
        let (x, y, w, h) = (Short(x), Short(y), Short(w), Short(h));
        self.raw(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\""
        ));
        if radius > 0.0 {
            self.raw(format_args!(" rx=\"{}\"", Short(radius)));
        }
        if title.is_empty() {
            self.body.push_str("/>");
        } else {
            self.body.push('>');
            self.title(title);
            self.body.push_str("</rect>");
        }
    }

    /// Draws a text in the room it has. Returns how wide it may be.
    pub(super) fn text(&mut self, place: Place, face: Face, text: &str) -> f64 {
        self.told(place, face, text, "")
    }

    /// Draws a text that says a figure of the host, with its name for who reads the picture by
    /// program.
    pub(super) fn told(&mut self, place: Place, face: Face, text: &str, name: &str) -> f64 {
        let plain = escape::terminal(text);
        let shown = measure::fit(&plain, face.size, face.bold, place.room);
        let (x, y) = (Short(place.x), Short(place.y));
        let (size, class) = (Short(face.size), face.class);
        let weight = if face.bold { " b" } else { "" };
        let anchor = match place.anchor {
            Anchor::Start => "",
            Anchor::Middle => " c",
            Anchor::End => " e",
        };
        self.raw(format_args!(
            "<text class=\"{class}{weight}{anchor}\" x=\"{x}\" y=\"{y}\" font-size=\"{size}\""
        ));
        if !name.is_empty() {
            self.raw(format_args!(" data-is=\"{name}\""));
        }
        self.raw(format_args!(">{}</text>", escape::markup(&shown)));
        measure::width(&shown, face.size, face.bold)
    }

    /// Says what the element that is open is.
    pub(super) fn title(&mut self, title: &str) {
        self.raw(format_args!("<title>{}</title>", escape::markup(title)));
    }

    /// Opens a group at a place; its elements count from there.
    pub(super) fn open(&mut self, x: f64, y: f64, attributes: &str) {
        let (x, y) = (Short(x), Short(y));
        self.raw(format_args!("<g transform=\"translate({x} {y})\"{attributes}>"));
    }

    pub(super) fn close(&mut self) {
        self.body.push_str("</g>");
    }
}

/// A number with at most one decimal.
pub(super) struct Short(pub(super) f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.1}", self.0);
        let text = text.strip_suffix(".0").unwrap_or(&text);
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [(1.0, "1"), (1.25, "1.2"), (0.04, "0"), (-0.01, "0"), (-3.5, "-3.5")]
        {
            assert_eq!(Short(number).to_string(), text);
        }
    }

    #[test]
    fn texts_are_escaped_and_fit() {
        let mut canvas = Canvas::default();
        let width =
            canvas.text(Place::start(1.0, 2.0, 60.0), face(10.0, "t"), "<b>\u{1b}[2J</b> and more");
        assert!(width <= 60.0, "{width}");
        assert_eq!(
            canvas.body,
            "<text class=\"t\" x=\"1\" y=\"2\" font-size=\"10\">&lt;b&gt;\\u{1…</text>"
        );
    }
}
