//! A picture of a host, as SVG, and as a page around it. Pure: from what is shown to text.

mod canvas;
mod card;
mod cells;
mod heat;
mod marks;
mod measure;
mod page;
mod panels;
mod scale;
mod theme;

use placer_engine::NodeId;

use canvas::{Area, Canvas, Place, Short, bold, face};
use scale::Scale;

use crate::report::escape;
use crate::report::view::{Group, Node, View};

pub use marks::Marks;
pub use page::page;

/// Around everything, and between its parts.
const MARGIN: f64 = 24.0;
const SPACE: f64 = 20.0;
/// Around the nodes of a package, and its title.
const FRAME: f64 = 12.0;
const FRAME_TITLE: f64 = 24.0;
/// The least width at which text below the nodes can be read.
const LEAST: f64 = 680.0;
/// What a list of guests needs beside the distances.
const LIST: f64 = 400.0;

/// A picture, and where the nodes lie in it.
pub struct Picture {
    canvas: Canvas,
    pub w: f64,
    pub h: f64,
    pub nodes: Vec<(NodeId, Area)>,
    title: String,
    description: String,
}

impl Picture {
    /// Draws a host, with an advice marked in it.
    pub fn of(view: &View, marks: Option<&Marks>) -> Self {
        let scale = Scale::of(view);
        let rows = rows(&view.groups, &scale);
        let cards = rows.iter().map(|row| width_of(row, &scale)).fold(0.0, f64::max);
        let width = cards.max(LEAST);
        let mut picture = Self {
            canvas: Canvas::default(),
            w: width + 2.0 * MARGIN,
            h: MARGIN,
            nodes: Vec::new(),
            title: title(view),
            description: summary(view),
        };
        picture.head(view, width);
        if let Some(marks) = marks {
            let height = panels::advice(&mut picture.canvas, marks, (MARGIN, picture.h), width);
            picture.h += height + SPACE / 2.0;
        }
        for row in &rows {
            picture.row(view, row, &scale, marks);
        }
        picture.foot(view, width);
        picture
    }

    fn head(&mut self, view: &View, width: f64) {
        let place = Place::start(MARGIN, self.h + 16.0, width);
        self.canvas.text(place, bold(20.0, "t"), &self.title);
        let place = Place::start(MARGIN, self.h + 38.0, width);
        self.canvas.told(place, face(13.0, "m"), &self.description, "host");
        self.h += 54.0;
        let height = panels::odd(&mut self.canvas, view, (MARGIN, self.h), width);
        self.h += if height > 0.0 { height + SPACE } else { 0.0 };
    }

    /// Draws groups side by side, all as high as the highest.
    fn row(&mut self, view: &View, row: &[(&Group, usize)], scale: &Scale, marks: Option<&Marks>) {
        let mut x = MARGIN;
        let drawn: Vec<Vec<(&Node, card::Card)>> = row
            .iter()
            .map(|(group, _)| {
                let nodes = group.nodes.iter().filter_map(|id| view.node(*id));
                nodes.map(|node| (node, card::draw(view, node, scale, marks))).collect()
            })
            .collect();
        // Lines of cards are as high in every group of the row.
        let lines = row.iter().map(|(group, columns)| group.nodes.len().div_ceil(*columns)).max();
        let mut heights = vec![0.0_f64; lines.unwrap_or(0)];
        for ((_, columns), cards) in row.iter().zip(&drawn) {
            for (at, (_, card)) in cards.iter().enumerate() {
                if let Some(height) = heights.get_mut(at / columns) {
                    *height = height.max(card.height);
                }
            }
        }
        let titled = row.iter().any(|(group, _)| !group.title.is_empty());
        let (frame, top) = if titled { (FRAME, FRAME_TITLE + FRAME / 2.0) } else { (0.0, 0.0) };
        let inner: f64 = heights.iter().map(|height| height + scale.gap).sum::<f64>() - scale.gap;
        for ((group, columns), cards) in row.iter().zip(drawn) {
            let width = group_width(*columns, scale) + 2.0 * frame;
            if titled {
                let area = Area { x, y: self.h, w: width, h: inner + top + frame };
                self.canvas.rect(area, 10.0, "gr");
                let place = Place::start(x + frame + 2.0, self.h + 19.0, width - 2.0 * frame);
                self.canvas.text(place, bold(12.0, "m"), &capital(&group.title));
            }
            let mut y = self.h + top;
            for (at, (node, card)) in cards.into_iter().enumerate() {
                let (line, column) = (at / columns, at % columns);
                if at > 0 && column == 0 {
                    y += heights.get(line - 1).copied().unwrap_or(0.0) + scale.gap;
                }
                let step = scale.card + scale.gap;
                let area = Area {
                    x: x + frame + step * f64::from(u32::try_from(column).unwrap_or(0)),
                    y,
                    w: scale.card,
                    h: heights.get(line).copied().unwrap_or(card.height),
                };
                self.place(node, &card, area, marks);
            }
            x += width + scale.gap;
        }
        self.h += inner + top + frame + scale.gap;
    }

    fn place(&mut self, node: &Node, card: &card::Card, area: Area, marks: Option<&Marks>) {
        let whole = Area { x: 0.0, y: 0.0, ..area };
        self.canvas.open(
            area.x,
            area.y,
            &format!(" role=\"group\" aria-label=\"node {}\"", node.id),
        );
        self.canvas.rect(whole, 8.0, "cd");
        if marks.is_some_and(|marks| marks.sets.first().is_some_and(|s| s.nodes.contains(node.id)))
        {
            self.canvas.rect(whole, 8.0, "ad");
        }
        self.canvas.body.push_str(&card.canvas.body);
        self.canvas.close();
        self.nodes.push((node.id, area));
    }

    /// Distances and guests, side by side where there is room, and the key below.
    fn foot(&mut self, view: &View, width: f64) {
        let heat = view.distances.as_ref().and_then(heat::draw);
        self.h += SPACE / 2.0;
        let mut beside = (MARGIN, self.h, width);
        let mut bottom = self.h;
        if let Some(heat) = heat {
            self.canvas.open(MARGIN, self.h, "");
            self.canvas.body.push_str(&heat.canvas.body);
            self.canvas.close();
            bottom = self.h + heat.h;
            let after = heat.w + 2.0 * SPACE;
            beside = if width - after >= LIST {
                (MARGIN + after, self.h, width - after)
            } else {
                (MARGIN, bottom + SPACE / 2.0, width)
            };
        }
        let (x, y, room) = beside;
        let room = room.min(640.0);
        let mut y = y + panels::guests(&mut self.canvas, view, (x, y), room);
        let height = panels::stray(&mut self.canvas, view, (x, y + SPACE / 2.0), room);
        y += if height > 0.0 { height + SPACE / 2.0 } else { 0.0 };
        self.h = bottom.max(y) + SPACE;
        let height = panels::key(&mut self.canvas, view, (MARGIN, self.h), width);
        self.h += height + MARGIN - 8.0;
    }

    /// Returns the picture as a file of its own.
    pub fn svg(&self) -> String {
        let (w, h) = (Short(self.w), Short(self.h));
        let size = format!(" width=\"{w}\" height=\"{h}\"");
        format!("{}\n", self.element(&size))
    }

    /// Returns the picture as an element of a page.
    fn element(&self, attributes: &str) -> String {
        let (w, h) = (Short(self.w), Short(self.h));
        let (title, description) = (escape::markup(&self.title), escape::markup(&self.description));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\"{attributes} role=\"img\" \
             aria-labelledby=\"title description\">\n<title id=\"title\">{title}</title>\n\
             <desc id=\"description\">{description}</desc>\n<style>{}</style>\n{}\n\
             <rect class=\"bg\" width=\"{w}\" height=\"{h}\"/>\n{}\n</svg>",
            theme::STYLE,
            theme::PATTERNS,
            self.canvas.body
        )
    }
}

/// What the host is called.
fn title(view: &View) -> String {
    escape::terminal(&view.name).into_owned()
}

/// The host on a line.
fn summary(view: &View) -> String {
    let (total, free) = view.memory();
    let (nodes, cpus) = (view.nodes.len(), view.cpus());
    let plural = |one: bool, noun: &str| if one { noun.to_owned() } else { format!("{noun}s") };
    let claims = match view.claims() {
        None => "claims not known".to_owned(),
        Some((0, 0)) => "no claims".to_owned(),
        Some((guests, holds)) => format!(
            "{guests} {}, {holds} {}",
            plural(guests == 1, "guest"),
            plural(holds == 1, "hold")
        ),
    };
    format!(
        "{nodes} {}, {cpus} {}, {total} of memory, {free} free; {claims}",
        plural(nodes == 1, "node"),
        plural(cpus == 1, "CPU")
    )
}

fn capital(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn group_width(columns: usize, scale: &Scale) -> f64 {
    let columns = f64::from(u32::try_from(columns).unwrap_or(u32::MAX));
    columns * scale.card + (columns - 1.0) * scale.gap
}

/// Puts groups into rows, each with its columns of cards.
fn rows<'a>(groups: &'a [Group], scale: &Scale) -> Vec<Vec<(&'a Group, usize)>> {
    let mut rows: Vec<Vec<(&Group, usize)>> = Vec::new();
    let mut taken = scale.columns;
    for group in groups.iter().filter(|group| !group.nodes.is_empty()) {
        let columns = group.nodes.len().min(scale.columns);
        if taken + columns > scale.columns || rows.is_empty() {
            rows.push(Vec::new());
            taken = 0;
        }
        taken += columns;
        if let Some(row) = rows.last_mut() {
            row.push((group, columns));
        }
    }
    rows
}

fn width_of(row: &[(&Group, usize)], scale: &Scale) -> f64 {
    let titled = row.iter().any(|(group, _)| !group.title.is_empty());
    let frame = if titled { 2.0 * FRAME } else { 0.0 };
    row.iter().map(|(_, columns)| group_width(*columns, scale) + frame + scale.gap).sum::<f64>()
        - scale.gap
}
