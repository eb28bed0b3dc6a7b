//! What stands beside the nodes: what is odd, an advice, guests, and the key to the picture.

use placer_engine::Bytes;

use super::canvas::{Area, Canvas, Place, bold, face};
use super::card;
use super::marks::Marks;
use super::measure;
use crate::report::escape;
use crate::report::view::{Guest, View};

/// So many guests are listed; the others are counted.
pub(super) const MOST_GUESTS: usize = 14;

/// Draws what is odd about the host. Returns how high it is; 0 where nothing is.
pub(super) fn odd(canvas: &mut Canvas, view: &View, at: (f64, f64), width: f64) -> f64 {
    const SIZE: f64 = 12.0;
    let texts = view.odd.iter().map(|odd| odd.text.as_str());
    let texts: Vec<String> = texts
        .chain(view.notes.iter().map(String::as_str))
        .map(|t| escape::terminal(t).into_owned())
        .collect();
    if texts.is_empty() {
        return 0.0;
    }
    let mut inner = Canvas::default();
    let mut y = at.1 + 8.0;
    for text in &texts {
        inner.text(Place::middle(at.0 + 16.0, y + 12.0, 10.0), bold(SIZE, "wt"), "!");
        for line in measure::lines(text, SIZE, false, width - 44.0) {
            inner.text(Place::start(at.0 + 30.0, y + 12.0, width - 40.0), face(SIZE, "wt"), &line);
            y += 17.0;
        }
    }
    let height = y + 8.0 - at.1;
    canvas.rect(Area { x: at.0, y: at.1, w: width, h: height }, 6.0, "wn");
    canvas.body.push_str(&inner.body);
    height
}

/// Draws the advised set and those that came after it. Returns how high it is.
pub(super) fn advice(canvas: &mut Canvas, marks: &Marks, at: (f64, f64), width: f64) -> f64 {
    let (x, mut y) = (at.0, at.1);
    canvas.text(Place::start(x, y + 14.0, width), bold(14.0, "t"), &marks.title);
    y += 28.0;
    for (rank, set) in marks.sets.iter().enumerate() {
        let mark = Area { x, y, w: 20.0, h: 16.0 };
        let (class, ink) =
            if rank == 0 { ("ap", bold(10.0, "i")) } else { ("ru", face(10.0, "m")) };
        canvas.rect(mark, 8.0, class);
        canvas.text(Place::middle(x + 10.0, y + 11.6, 16.0), ink, &(rank + 1).to_string());
        let noun = if set.nodes.len() == 1 { "node" } else { "nodes" };
        let nodes = format!("{noun} {}", set.nodes);
        let column = (width * 0.3).min(220.0);
        let ink = if rank == 0 { bold(12.0, "t") } else { face(12.0, "t") };
        canvas.text(Place::start(x + 30.0, y + 12.0, column - 8.0), ink, &nodes);
        let slow =
            set.slowdown.map_or_else(|| "-".to_owned(), |slow| format!("slowdown {slow:.3}"));
        let after = x + 30.0 + column;
        canvas.text(Place::start(after, y + 12.0, 116.0), face(12.0, "m"), &slow);
        let room = width - 30.0 - column - 122.0;
        canvas.text(Place::start(after + 122.0, y + 12.0, room), face(12.0, "m"), &set.why);
        y += 20.0;
    }
    y + 4.0 - at.1
}

/// Draws the devices whose node is not told. Returns how high they are; 0 where there are none.
pub(super) fn stray(canvas: &mut Canvas, view: &View, at: (f64, f64), width: f64) -> f64 {
    if view.stray.is_empty() {
        return 0.0;
    }
    let (title, said) = ("Devices", "whose node the firmware does not report");
    canvas.text(Place::start(at.0, at.1 + 14.0, width), bold(14.0, "t"), title);
    let after = at.0 + measure::width(title, 14.0, true) + 10.0;
    canvas.text(Place::start(after, at.1 + 14.0, width - after + at.0), face(11.0, "m"), said);
    24.0 + card::chips(canvas, &view.stray, (at.0, at.1 + 24.0), width)
}

/// Draws guests and holds as a table. Returns how high it is.
pub(super) fn guests(canvas: &mut Canvas, view: &View, at: (f64, f64), width: f64) -> f64 {
    let (x, mut y) = at;
    canvas.text(Place::start(x, y + 14.0, width), bold(14.0, "t"), "Guests and holds");
    y += 32.0;
    let said = match &view.guests {
        None => "claims are not known",
        Some(guests) if guests.is_empty() => "nothing is claimed",
        Some(_) => "",
    };
    if !said.is_empty() {
        canvas.text(Place::start(x, y + 2.0, width), face(12.0, "m"), said);
        return y + 10.0 - at.1;
    }
    let guests = view.guests.as_deref().unwrap_or_default();
    // Where each column ends: who, CPUs, memory, there, nodes.
    let ends = [0.42, 0.53, 0.73, 0.84].map(|part| x + width * part);
    let heads = ["CPUs", "memory", "there"];
    canvas.text(Place::start(x, y, width * 0.36), face(11.0, "m"), "who");
    for (end, head) in ends[1..].iter().zip(heads) {
        canvas.text(Place::end(*end, y, width * 0.11), face(11.0, "m"), head);
    }
    canvas.text(Place::start(ends[3] + 12.0, y, width * 0.16 - 12.0), face(11.0, "m"), "nodes");
    y += 6.0;
    for guest in guests.iter().take(MOST_GUESTS) {
        canvas.rect(Area { x, y, w: width, h: 1.0 }, 0.0, "ln");
        y += 15.0;
        canvas.text(Place::start(x, y, width * 0.42 - 6.0), face(12.0, "t"), &who(guest));
        canvas.text(Place::end(ends[1], y, width * 0.11), face(12.0, "t"), &guest.cpus.to_string());
        canvas.text(
            Place::end(ends[2], y, width * 0.2 - 6.0),
            face(12.0, "t"),
            &guest.memory.to_string(),
        );
        canvas.text(Place::end(ends[3], y, width * 0.11), face(12.0, "m"), &there(guest));
        let nodes = guest.nodes().to_string();
        canvas.text(Place::start(ends[3] + 12.0, y, width * 0.16 - 12.0), face(12.0, "t"), &nodes);
        y += 6.0;
    }
    let more = guests.len().saturating_sub(MOST_GUESTS);
    if more > 0 {
        y += 14.0;
        let said = format!("and {more} more: placer ps");
        canvas.text(Place::start(x, y, width), face(11.0, "m"), &said);
    }
    y + 8.0 - at.1
}

/// Who has a claim, in a word.
pub(crate) fn who(guest: &Guest) -> String {
    match (guest.pid, &guest.program) {
        (Some(pid), Some(program)) => format!("{pid} {program}"),
        (Some(pid), None) => format!("{pid}"),
        (None, _) => format!("hold {}", guest.id),
    }
}

/// How much of the promised memory is there by now.
pub(crate) fn there(guest: &Guest) -> String {
    guest.resident.map_or_else(
        || "-".to_owned(),
        |resident| {
            let all = u128::from(guest.memory.max(Bytes::new(1)).get());
            format!("{} %", u128::from(resident.get()) * 100 / all)
        },
    )
}

/// Draws what the shades of the cards mean. Returns how high it is.
pub(super) fn key(canvas: &mut Canvas, view: &View, at: (f64, f64), width: f64) -> f64 {
    let load = match view.measured {
        Some(seconds) => format!("CPU load over {seconds:.1} s"),
        None => "CPU load unknown".to_owned(),
    };
    let known = view.measured.is_some();
    let items: [(&str, &str); 10] = [
        ("", "memory"),
        ("mu", "used"),
        ("hatch", "claimed"),
        ("mf", "file cache"),
        ("mn", "unused"),
        ("", &load),
        (if known { "l0" } else { "u" }, if known { "idle" } else { "not told" }),
        (if known { "l1" } else { "" }, if known { "5 %" } else { "" }),
        (if known { "l2" } else { "" }, if known { "30 %" } else { "" }),
        (if known { "l3" } else { "" }, if known { "60 %" } else { "" }),
    ];
    let last = known.then_some(("l4", "90 % and more"));
    let cores = view.nodes.iter().flat_map(|node| &node.domains).flat_map(|domain| &domain.cores);
    let owned = cores.flat_map(|core| &core.cpus).any(|cpu| cpu.owned);
    let owned = owned.then_some(("ow", "owned by a claim"));
    let slow = (!view.core_kinds().is_empty()).then_some(("", "lower cells: efficient cores"));
    let (mut x, mut y) = at;
    for (class, label) in items
        .into_iter()
        .chain(last)
        .chain(owned)
        .chain(slow)
        .filter(|(_, label)| !label.is_empty())
    {
        let text = measure::width(label, 11.0, class.is_empty());
        let whole = text + if class.is_empty() { 12.0 } else { 37.0 };
        if x > at.0 && x + whole > at.0 + width {
            (x, y) = (at.0, y + 20.0);
        }
        if class.is_empty() {
            canvas.text(Place::start(x, y + 10.0, text + 1.0), bold(11.0, "m"), label);
        } else {
            let area = Area { x, y, w: 16.0, h: 12.0 };
            if class == "hatch" {
                canvas.raw(format_args!(
                    "<rect fill=\"url(#hatch)\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"16\" \
                     height=\"12\"/>"
                ));
            } else {
                canvas.rect(area, 2.0, class);
            }
            canvas.rect(area, 2.0, "mo");
            canvas.text(Place::start(x + 21.0, y + 10.0, text + 1.0), face(11.0, "m"), label);
        }
        x += whole + if class.is_empty() { 0.0 } else { 2.0 };
    }
    y + 16.0 - at.1
}
