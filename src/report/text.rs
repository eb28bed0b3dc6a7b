//! The host as a table that fits the terminal.

mod caches;
mod distances;
pub mod style;

use std::fmt::Write;

use placer_engine::{Bytes, CpuSet, NodeSet};

use crate::report::escape;
use crate::report::view::{Memory, Node, View, count};
use style::{Ink, Style};

/// From so many nodes on packages are summed up first.
const MANY: usize = 17;

/// Draws a host.
pub fn host(view: &View, style: &Style) -> String {
    let mut text = nodes(view, style);
    caches::all(view, style, &mut text);
    huge_pages(view, &mut text);
    distances::draw(view, style, &mut text);
    text
}

/// Draws what is odd about a host, its nodes, and the caches of a single node that has several.
pub fn overview(view: &View, style: &Style) -> String {
    let mut text = nodes(view, style);
    caches::brief(view, style, &mut text);
    text
}

fn nodes(view: &View, style: &Style) -> String {
    let mut text = String::new();
    head(view, style, &mut text);
    let columns = Columns::of(style);
    if view.nodes.len() >= MANY && view.groups.len() > 1 {
        columns.title("", "nodes", &mut text);
        for group in &view.groups {
            let nodes: Vec<&Node> = group.nodes.iter().filter_map(|id| view.node(*id)).collect();
            let ids: NodeSet = group.nodes.iter().copied().collect();
            columns.row(&group.title, &Sums::of(&nodes), &ids.to_string(), &mut text);
        }
    }
    columns.title("node", "CPUs", &mut text);
    for node in &view.nodes {
        let list = list_of(&node.cpus, columns.room());
        columns.row(&node.id.to_string(), &Sums::of(&[node]), &list, &mut text);
    }
    if columns.bar > 0 {
        put(&mut text, &format!("{:8}{}\n", "", columns.key()));
    }
    text
}

fn head(view: &View, style: &Style, text: &mut String) {
    let (cpus, (total, free)) = (view.cpus(), view.memory());
    let nodes = view.nodes.len();
    let (node, cpu) = (plural(nodes == 1, "node"), plural(cpus == 1, "CPU"));
    put(text, &format!("{nodes} {node}, {cpus} {cpu}, {total} of memory, {free} free\n"));
    put(text, &format!("claims: {}\n", claims(view)));
    caches::kinds(view, style, text);
    for odd in &view.odd {
        let line = folded("odd: ", &escape::terminal(&odd.text), style.width);
        put(text, &style.ink(Ink::Warning, line.trim_end()));
        text.push('\n');
    }
}

fn claims(view: &View) -> String {
    match view.claims() {
        None => "not known".to_owned(),
        Some((0, 0)) => "none".to_owned(),
        Some((guests, holds)) => format!(
            "{guests} {}, {holds} {} (see placer ps)",
            plural(guests == 1, "guest"),
            plural(holds == 1, "hold")
        ),
    }
}

/// The figures of a line: of one node, or of several together.
struct Sums {
    idle: Option<f64>,
    cpus: u64,
    memory: Memory,
}

impl Sums {
    fn of(nodes: &[&Node]) -> Self {
        // What one of them does not tell is not told of all.
        let sum = |of: fn(&Memory) -> Option<Bytes>| {
            nodes.iter().map(|node| of(&node.memory)).sum::<Option<Bytes>>()
        };
        Self {
            idle: nodes.iter().map(|node| node.idle).sum(),
            cpus: nodes.iter().map(|node| node.cpus.len()).sum(),
            memory: Memory {
                total: sum(|memory| memory.total),
                free: sum(|memory| memory.free),
                unused: sum(|memory| memory.unused),
                cached: sum(|memory| memory.cached),
                claimed: sum(|memory| memory.claimed),
                left: None,
            },
        }
    }
}

/// Where the columns of the table stand.
struct Columns<'a> {
    style: &'a Style,
    /// How wide the bars are; 0 where there is no room for them.
    bar: usize,
}

impl<'a> Columns<'a> {
    /// Used, claimed, cached, unused.
    const ASCII: [char; 4] = ['#', '=', ':', '.'];
    const BLOCKS: [char; 4] = ['█', '▒', '░', '·'];
    const INKS: [Ink; 4] = [Ink::Strong, Ink::Warning, Ink::Calm, Ink::Faint];

    fn of(style: &'a Style) -> Self {
        let bar = match style.width {
            0..76 => 0,
            76..100 => 10,
            _ => 20,
        };
        Self { style, bar }
    }

    fn marks(&self) -> [char; 4] {
        if self.style.blocks { Self::BLOCKS } else { Self::ASCII }
    }

    fn title(&self, first: &str, last: &str, text: &mut String) {
        let bar = self.bar;
        let used = if bar > 0 { format!("  {:<bar$}", "memory") } else { String::new() };
        let line = format!(
            "{first:>6} {:>12}{used} {:>10} {:>10} {:>10}  {last}",
            "idle/CPUs", "free", "of", "claimed"
        );
        put(text, &format!("\n{}\n", self.style.ink(Ink::Faint, &line)));
    }

    fn row(&self, label: &str, sums: &Sums, list: &str, text: &mut String) {
        let idle = sums.idle.map_or_else(|| "?".to_owned(), |idle| format!("{idle:.2}"));
        let load = format!("{:>12}", format!("{idle}/{}", sums.cpus));
        let load = match sums.idle.filter(|_| sums.cpus > 0).map(|idle| idle / count(sums.cpus)) {
            Some(part) if part < 0.1 => self.style.ink(Ink::Bad, &load),
            Some(part) if part < 0.5 => self.style.ink(Ink::Warning, &load),
            Some(_) => self.style.ink(Ink::Good, &load),
            None => load,
        };
        let memory = &sums.memory;
        let amount = |amount: Option<Bytes>| amount.map_or("?".to_owned(), |m| m.to_string());
        let (free, total) = (amount(memory.free), amount(memory.total));
        let claimed = match memory.claimed {
            None => "?".to_owned(),
            Some(Bytes::ZERO) => "-".to_owned(),
            Some(claimed) => claimed.to_string(),
        };
        // A label that is too long for its column stands on a line of its own.
        let label =
            if label.len() > 6 { format!("  {label}\n{:6}", "") } else { format!("{label:>6}") };
        let bar = self.bar(memory);
        put(text, &format!("{label} {load}{bar} {free:>10} {total:>10} {claimed:>10}  "));
        put(text, &hanging(self.indent(), list, self.style.width));
    }

    /// Where the last column begins.
    fn indent(&self) -> usize {
        6 + 1 + 12 + if self.bar > 0 { 2 + self.bar } else { 0 } + 3 * 11 + 2
    }

    /// How wide the last column is.
    fn room(&self) -> usize {
        self.style.width.saturating_sub(self.indent())
    }

    /// Draws what memory is used for, rounded so that what is there shows.
    fn bar(&self, memory: &Memory) -> String {
        if self.bar == 0 {
            return String::new();
        }
        let Some(parts) = memory.parts() else { return format!("  {:<1$}", "", self.bar) };
        let mut text = String::from("  ");
        let (mut sum, mut drawn) = (0.0, 0);
        for ((part, mark), ink) in parts.iter().zip(self.marks()).zip(Self::INKS) {
            sum += part;
            let end = cells(sum, self.bar);
            let piece: String = std::iter::repeat_n(mark, end.saturating_sub(drawn)).collect();
            text.push_str(&self.style.ink(ink, &piece));
            drawn = drawn.max(end);
        }
        text
    }

    fn key(&self) -> String {
        let names = ["used", "claimed", "file cache", "unused"];
        let pieces = self.marks().into_iter().zip(Self::INKS).zip(names);
        let piece = |((mark, ink), name): ((char, Ink), &str)| {
            format!("{} {name}", self.style.ink(ink, &mark.to_string()))
        };
        pieces.map(piece).collect::<Vec<_>>().join("  ")
    }
}

/// Returns a list of CPUs, one that is too long with the step between them where there is one:
/// `0-108:4` is every fourth, as taskset understands it.
fn list_of(cpus: &CpuSet, room: usize) -> String {
    let list = cpus.to_string();
    if list.is_empty() {
        return "-".to_owned();
    }
    let (Some(first), Some(last)) = (cpus.first(), cpus.last()) else { return list };
    let Some(second) = cpus.iter().nth(1).filter(|_| list.len() > room) else { return list };
    let step = second.0 - first.0;
    if step < 2 {
        return list;
    }
    let even = cpus.iter().zip(0u32..).all(|(cpu, at)| {
        Some(cpu.0) == at.checked_mul(step).and_then(|far| first.0.checked_add(far))
    });
    if even { format!("{first}-{last}:{step}") } else { list }
}

#[expect(clippy::cast_possible_truncation, reason = "a part of a bar")]
#[expect(clippy::cast_sign_loss, reason = "parts are not negative")]
fn cells(part: f64, width: usize) -> usize {
    ((part * count(width as u64)).round() as usize).min(width)
}

/// Returns a line for each node and size of huge pages.
fn huge_pages(view: &View, text: &mut String) {
    let mut title = "\nhuge pages\n  node       page       free         of    claimed\n";
    for node in &view.nodes {
        for huge in &node.huge {
            let amount = |pages: Option<u64>| {
                let bytes = pages.map(|pages| Bytes::new(huge.page.get().saturating_mul(pages)));
                bytes.map_or("?".to_owned(), |bytes| bytes.to_string())
            };
            let free = amount(huge.pages.map(|pages| pages.free));
            let total = amount(huge.pages.map(|pages| pages.total));
            let claimed = match huge.claimed {
                Bytes::ZERO => "-".to_owned(),
                claimed => claimed.to_string(),
            };
            let (id, page) = (node.id, huge.page.to_string());
            put(text, std::mem::take(&mut title));
            put(text, &format!("{:>6} {page:>10} {free:>10} {total:>10} {claimed:>10}\n", id.0));
        }
    }
}

pub(super) fn plural(one: bool, noun: &str) -> String {
    if one { noun.to_owned() } else { format!("{noun}s") }
}

/// Writing to a string does not fail.
pub(super) fn put(text: &mut String, piece: &str) {
    let _ = text.write_str(piece);
}

/// Breaks a long list of ids at its commas, below where it began, in 80 columns.
pub fn wrapped(lead: &str, list: &str) -> String {
    lead.to_owned() + &hanging(lead.chars().count(), list, 80)
}

/// Breaks a list that begins in a column, and goes on below.
pub(super) fn hanging(indent: usize, list: &str, width: usize) -> String {
    let mut text = String::new();
    let mut column = indent;
    for (position, piece) in list.split_inclusive(',').enumerate() {
        if position > 0 && column + piece.len() > width {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        }
        text.push_str(piece);
        column += piece.len();
    }
    text.push('\n');
    text
}

/// Breaks a sentence at its blanks, and goes on below where it began.
fn folded(lead: &str, sentence: &str, width: usize) -> String {
    let mut text = lead.to_owned();
    let mut column = lead.len();
    for (position, word) in sentence.split(' ').enumerate() {
        let length = word.chars().count();
        if position > 0 && column + 1 + length > width {
            text.push('\n');
            text.push_str(&" ".repeat(lead.len()));
            column = lead.len();
        } else if position > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use placer_engine::CpuId;

    use super::*;

    #[test]
    fn long_lists_are_told_by_their_step() {
        let every = |step: usize| -> CpuSet { (0..40).step_by(step).map(CpuId).collect() };
        assert_eq!(list_of(&every(4), 12), "0-36:4");
        assert_eq!(list_of(&every(4), 80), "0,4,8,12,16,20,24,28,32,36");
        assert_eq!(list_of(&every(1), 2), "0-39");
        let uneven: CpuSet = [0, 4, 9, 13].map(CpuId).into_iter().collect();
        assert_eq!(list_of(&uneven, 2), "0,4,9,13");
        assert_eq!(list_of(&CpuSet::new(), 2), "-");
    }

    #[test]
    fn sentences_are_folded_at_blanks() {
        assert_eq!(folded("odd: ", "a bb ccc dddd", 12), "odd: a bb\n     ccc\n     dddd\n");
    }
}
