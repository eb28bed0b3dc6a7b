//! A node: its memory, its CPUs, what is attached to it.

use placer_engine::Bytes;

use super::canvas::{Area, Canvas, Place, bold, face};
use super::cells;
use super::marks::Marks;
use super::measure;
use super::scale::Scale;
use crate::report::view::{Caches, Device, Domain, Node, View};

/// How wide the mark of a runner-up is: six fit on the smallest card.
const MARK: f64 = 16.0;
/// Above this number of caches their frames stand side by side, each at least this wide.
const FEW_CACHES: usize = 4;
const LEAST_FRAME: f64 = 160.0;
/// So many devices are named; the others are counted.
const MOST_DEVICES: usize = 8;

/// What is drawn of a node, from (0, 0) on, and how high it is.
pub(super) struct Card {
    pub(super) canvas: Canvas,
    pub(super) height: f64,
}

/// Where the next line goes.
struct Draft<'a> {
    canvas: Canvas,
    scale: &'a Scale,
    node: &'a Node,
    y: f64,
}

pub(super) fn draw(view: &View, node: &Node, scale: &Scale, marks: Option<&Marks>) -> Card {
    let mut draft = Draft { canvas: Canvas::default(), scale, node, y: scale.pad };
    draft.head();
    if let Some(marks) = marks {
        draft.marks(marks);
    }
    draft.memory();
    if view.nodes.iter().any(|node| node.memory.claimed.is_none_or(|c| c > Bytes::ZERO)) {
        draft.claimed(view);
    }
    if scale.full {
        draft.huge();
    }
    draft.cpus();
    if scale.full {
        draft.devices();
    }
    Card { height: draft.y + scale.pad - 2.0, canvas: draft.canvas }
}

impl Draft<'_> {
    fn inner(&self) -> f64 {
        self.scale.card - 2.0 * self.scale.pad
    }

    /// A line of two texts, one at each end; the right one has its room first.
    fn line(
        &mut self,
        size: f64,
        left: (&str, bool, &'static str, &str),
        right: (&str, &str),
        ink: &'static str,
    ) {
        let (x, inner) = (self.scale.pad, self.inner());
        let y = self.y + size * 0.95;
        let said = self.canvas.told(
            Place::end(x + inner, y, inner * 0.68),
            face(size, ink),
            right.0,
            right.1,
        );
        let ink = if left.1 { bold(size, left.2) } else { face(size, left.2) };
        self.canvas.told(Place::start(x, y, inner - said - 6.0), ink, left.0, left.3);
        self.y += size * 1.3;
    }

    fn head(&mut self) {
        let (node, size) = (self.node, self.scale.title);
        let id = node.id;
        let (y, x, inner) = (self.y + size * 0.9, self.scale.pad, self.inner());
        let title = format!("Node {id}");
        let used = self.canvas.text(Place::start(x, y, inner), bold(size, "t"), &title);
        let cpus = node.cpus.len();
        let noun = if cpus == 1 { "CPU" } else { "CPUs" };
        let said = match (cpus, node.idle, self.scale.full) {
            (0, ..) if node.is_gpu => "GPU memory".to_owned(),
            (0, ..) => "no CPUs".to_owned(),
            (_, Some(idle), true) => format!("{idle:.2} of {cpus} {noun} idle"),
            (_, Some(idle), false) => format!("{idle:.2}/{cpus}"),
            (_, None, true) => format!("{cpus} {noun}, load unknown"),
            (_, None, false) => format!("{cpus} {noun}"),
        };
        let place = Place::end(x + inner, y, inner - used - 6.0);
        self.canvas.told(place, face(self.scale.text, "m"), &said, &format!("node{id}.idle"));
        self.y += size * 1.3 + 4.0;
    }

    /// The sets this node is in, a filled mark for the advised one, and below it the node's part of
    /// the guest: where all cards have room for words.
    fn marks(&mut self, marks: &Marks) {
        let (size, height) = (10.0, 16.0);
        let mut x = self.scale.pad;
        for (rank, set) in marks.sets.iter().enumerate() {
            if !set.nodes.contains(self.node.id) {
                continue;
            }
            let label = match (rank, self.scale.full) {
                (0, true) => "1 advised".to_owned(),
                (rank, _) => (rank + 1).to_string(),
            };
            let width = if rank == 0 { measure::width(&label, size, true) + 12.0 } else { 0.0 };
            let (x0, width) = (x, width.max(MARK));
            let area = Area { x: x0, y: self.y, w: width, h: height };
            let (class, ink) =
                if rank == 0 { ("ap", bold(size, "i")) } else { ("ru", face(size, "m")) };
            self.canvas.rect(area, height / 2.0, class);
            let place = Place::middle(x0 + width / 2.0, self.y + 11.6, width - 4.0);
            self.canvas.text(place, ink, &label);
            x += width + 3.0;
        }
        self.y += height + 6.0;
        if !self.scale.full {
            return;
        }
        match marks.split.iter().find(|share| share.node == self.node.id) {
            Some(share) => {
                let said = format!("{:.2} CPUs, {}", share.cpus, share.memory);
                self.line(self.scale.text, ("of the guest", false, "m", ""), (&said, ""), "t");
            }
            None => self.y += self.scale.text * 1.3,
        }
        self.y += 4.0;
    }

    fn memory(&mut self) {
        let (node, full) = (self.node, self.scale.full);
        let (id, memory) = (node.id, &node.memory);
        let area = Area {
            x: self.scale.pad,
            y: self.y,
            w: self.inner(),
            h: if full { 12.0 } else { 8.0 },
        };
        let amount =
            |amount: Option<Bytes>| amount.map_or_else(|| "?".to_owned(), |b| b.to_string());
        let (free, total) = (amount(memory.free), amount(memory.total));
        let title = format!(
            "node {id}: {total} of memory, {free} free, of that {} file cache, {} claimed",
            amount(memory.cached),
            amount(memory.claimed)
        );
        match memory.parts() {
            None => self.canvas.rect_titled(area, 2.0, "u", &title),
            Some(parts) => {
                let mut x = area.x;
                self.canvas.rect_titled(area, 2.0, "mn", &title);
                for (part, class) in parts.iter().zip(["mu", "hatch", "mf"]) {
                    let w = area.w * part;
                    if w >= 0.5 {
                        bar_part(&mut self.canvas, Area { x, w, ..area }, class);
                    }
                    x += w;
                }
                self.canvas.rect(area, 2.0, "mo");
            }
        }
        self.y += area.h + if full { 6.0 } else { 4.0 };
        let free_is = format!("node{id}.free");
        let total_is = format!("node{id}.total");
        let size = self.scale.text;
        if memory.total == Some(Bytes::ZERO) {
            self.line(size, ("no memory", false, "m", &total_is), ("", ""), "m");
        } else if full {
            let of = format!("of {total}");
            self.line(size, (&format!("{free} free"), true, "t", &free_is), (&of, &total_is), "m");
        } else {
            self.line(size, (&format!("{free} free"), true, "t", &free_is), ("", ""), "m");
        }
    }

    fn claimed(&mut self, view: &View) {
        let id = self.node.id;
        let claimed = match self.node.memory.claimed {
            None => "claims not known".to_owned(),
            Some(Bytes::ZERO) => "nothing claimed".to_owned(),
            Some(claimed) => format!("{claimed} claimed"),
        };
        let guests = view.guests.iter().flatten();
        let here = guests.filter(|guest| guest.promised.iter().any(|on| on.node == id)).count();
        let guests = match (here, self.scale.full) {
            (0, _) | (_, false) => String::new(),
            (1, _) => "1 guest".to_owned(),
            (many, _) => format!("{many} guests"),
        };
        let name = format!("node{id}.claimed");
        self.line(self.scale.text, (&claimed, false, "m", &name), (&guests, ""), "m");
    }

    fn huge(&mut self) {
        let id = self.node.id;
        for huge in &self.node.huge {
            let all = |pages: u64| Bytes::new(huge.page.get().saturating_mul(pages));
            let have =
                huge.pages.map(|pages| format!("{} free of {}", all(pages.free), all(pages.total)));
            let claimed = (huge.claimed > Bytes::ZERO).then(|| format!("{} claimed", huge.claimed));
            let said: Vec<String> = have.into_iter().chain(claimed).collect();
            let left = format!("{} pages", huge.page);
            let name = format!("node{id}.huge{}", huge.page.get());
            self.line(11.0, (&left, false, "m", ""), (&said.join(", "), &name), "m");
        }
    }

    fn cpus(&mut self) {
        if self.node.domains.is_empty() {
            return;
        }
        self.y += 6.0;
        let (x, inner) = (self.scale.pad, self.inner());
        if self.scale.full {
            let caches = caches(&self.node.caches);
            if !caches.is_empty() {
                let place = Place::start(x, self.y + 9.0, inner);
                self.canvas.text(place, face(10.0, "m"), &caches);
                self.y += 15.0;
            }
        }
        if self.node.domains.len() > 1 && self.scale.full {
            return self.boxes(x, inner);
        }
        for domain in &self.node.domains {
            let at = (x, self.y);
            let height = cells::draw(&mut self.canvas, &domain.cores, at, inner, self.scale.cell);
            self.y += height + 4.0;
        }
    }

    /// Draws a frame around the cores of each cache, side by side where there are many.
    fn boxes(&mut self, x: f64, inner: f64) {
        /// Inside of a frame, and between frames.
        const PAD: f64 = 6.0;
        let domains = &self.node.domains;
        let columns = if domains.len() > FEW_CACHES { (inner / LEAST_FRAME).floor() } else { 1.0 };
        let columns = columns.max(1.0);
        let width = (inner + PAD) / columns - PAD;
        let (mut left, mut lowest) = (x, self.y);
        for domain in domains {
            if left + width > x + inner + 0.5 {
                (left, self.y) = (x, lowest + PAD);
            }
            let (mut canvas, top) = (Canvas::default(), self.y);
            let (at, room) = (left + PAD, width - 2.0 * PAD);
            let mut y = top + PAD;
            y += cache(&mut canvas, domain, (at, y), room);
            y += cells::draw(&mut canvas, &domain.cores, (at, y), room, self.scale.cell) + PAD;
            let frame = Area { x: left, y: top, w: width, h: y - top };
            self.canvas.rect_titled(frame, 4.0, "dm", &shared(domain));
            self.canvas.body.push_str(&canvas.body);
            lowest = lowest.max(y);
            left += width + PAD;
        }
        self.y = lowest + PAD;
    }

    fn devices(&mut self) {
        let devices = &self.node.devices;
        if !devices.is_empty() {
            let (at, inner) = ((self.scale.pad, self.y + 6.0), self.inner());
            self.y += 8.0 + chips(&mut self.canvas, devices, at, inner);
        }
    }
}

/// Draws devices as chips, in lines of a width. Returns how high they are.
pub(super) fn chips(canvas: &mut Canvas, devices: &[Device], at: (f64, f64), width: f64) -> f64 {
    let (size, height) = (10.0, 18.0);
    let (mut x, mut y) = (0.0, 0.0);
    let more = devices.len().saturating_sub(MOST_DEVICES);
    let named = devices.iter().take(MOST_DEVICES).map(|device| {
        let title = format!("{} {}: {}", device.kind.name(), device.address, device.label);
        (device.label.clone(), title)
    });
    let rest = (more > 0).then(|| (format!("and {more} more"), String::new()));
    for (label, title) in named.chain(rest) {
        let text = crate::report::escape::terminal(&label);
        let long = (measure::width(&text, size, false) + 12.0).min(width);
        if x > 0.0 && x + long > width {
            (x, y) = (0.0, y + height + 4.0);
        }
        let area = Area { x: at.0 + x, y: at.1 + y, w: long, h: height };
        canvas.rect_titled(area, 4.0, "cp", &title);
        let place = Place::middle(area.x + long / 2.0, area.y + 12.6, long - 8.0);
        canvas.text(place, face(size, "t"), &text);
        x += long + 5.0;
    }
    y + height
}

fn bar_part(canvas: &mut Canvas, area: Area, class: &str) {
    if class == "hatch" {
        let Area { x, y, w, h } = area;
        canvas.raw(format_args!(
            "<rect fill=\"url(#hatch)\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\"/>"
        ));
    } else {
        canvas.rect(area, 0.0, class);
    }
}

/// Writes which cache this is and what claims have of it. Returns how high that is.
fn cache(canvas: &mut Canvas, domain: &Domain, at: (f64, f64), width: f64) -> f64 {
    const SIZE: f64 = 10.0;
    let (x, y) = (at.0, at.1 + 9.0);
    let claims = match domain.claims() {
        claims if claims == "?" => "claims not known".to_owned(),
        claims if claims == "none" => "no claims".to_owned(),
        claims => claims,
    };
    let name = domain.name();
    let name = if name.is_empty() { "cache not known" } else { &name };
    let used = canvas.text(Place::start(x, y, width), face(SIZE, "m"), name);
    let ink = if domain.is_claimed() != Some(true) { face(SIZE, "m") } else { bold(SIZE, "t") };
    canvas.text(Place::end(x + width, y, width - used - 8.0), ink, &claims);
    15.0
}

/// The caches of a node on a line: `L2 2.0 MiB × 8, L3 32 MiB`.
fn caches(caches: &[Caches]) -> String {
    let one = |cache: &Caches| {
        let size = cache.size.map_or_else(String::new, |size| format!(" {}", whole(size)));
        let times = if cache.count > 1 { format!(" × {}", cache.count) } else { String::new() };
        format!("L{}{size}{times}", cache.level)
    };
    caches.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Caches are mostly of a round size: `32 MiB`.
fn whole(size: Bytes) -> String {
    size.to_string().replace(".0 ", " ")
}

fn shared(domain: &Domain) -> String {
    let what = match domain.cache {
        Some((level, Some(size))) => format!("one L{level} cache of {}, ", whole(size)),
        Some((level, None)) => format!("one L{level} cache, "),
        None => String::new(),
    };
    format!("{what}CPUs {}: {}", domain.cpus, domain.claims())
}
