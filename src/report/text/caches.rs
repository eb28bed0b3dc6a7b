//! The caches of nodes that have several, and cores of different speed.

use placer_engine::CpuSet;

use super::style::{Ink, Style};
use super::{folded, hanging, list_of, put};
use crate::report::view::{Domain, Node, View, count};

/// Up to this many caches are listed one a line.
const MAX_LINES: usize = 16;
/// Where the last column of the table begins.
const INDENT: usize = 56;

/// Draws every cache of every node that has several.
pub(super) fn all(view: &View, style: &Style, text: &mut String) {
    let nodes: Vec<&Node> = view.nodes_with_caches().collect();
    let caches: usize = nodes.iter().map(|node| node.domains.len()).sum();
    if caches <= MAX_LINES {
        table(&nodes, style, text);
    } else {
        nodes.iter().for_each(|node| dense(node, style, text));
    }
}

/// Draws the caches of a single node; of several nodes a line about all of them.
pub(super) fn brief(view: &View, style: &Style, text: &mut String) {
    if view.nodes.len() == 1 {
        return all(view, style, text);
    }
    let domains: Vec<&Domain> = view.nodes_with_caches().flat_map(|node| &node.domains).collect();
    if !domains.is_empty() {
        let sentence = format!("{}; placer show lists them", summary(&domains));
        put(text, &format!("\n{}", folded("caches: ", &sentence, style.width)));
    }
}

/// Says which CPUs are fast and which are not.
pub(super) fn kinds(view: &View, style: &Style, text: &mut String) {
    if let Some(kinds) = view.core_kinds_in_words() {
        put(text, &folded("cores: ", &kinds, style.width));
    }
}

/// Returns how many caches of which kind there are, and how many of them are free: `4 x L3 16 MiB, 3 free`.
fn summary(domains: &[&Domain]) -> String {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for domain in domains {
        let name = if domain.cache.is_some() { domain.name() } else { "not known".to_owned() };
        match kinds.iter_mut().find(|(kind, _)| *kind == name) {
            Some((_, count)) => *count += 1,
            None => kinds.push((name, 1)),
        }
    }
    let kinds: Vec<String> =
        kinds.into_iter().map(|(name, count)| format!("{count} x {name}")).collect();
    let free = domains.iter().filter(|domain| domain.is_free()).count();
    let known = domains.iter().all(|domain| domain.claimed.is_some());
    let free = if known { format!("{free} free") } else { "claims not known".to_owned() };
    format!("{}, {free}", kinds.join(", "))
}

fn idle(domain: &Domain) -> String {
    let idle = domain.idle.map_or_else(|| "?".to_owned(), |idle| format!("{idle:.2}"));
    format!("{idle}/{}", domain.cpus.len())
}

/// The ink of a load, as in the table of nodes.
fn by_load(domain: &Domain, style: &Style, text: &str) -> String {
    let part = domain.idle.map(|idle| idle / count(domain.cpus.len().max(1)));
    match part {
        Some(part) if part < 0.1 => style.ink(Ink::Bad, text),
        Some(part) if part < 0.5 => style.ink(Ink::Warning, text),
        Some(_) => style.ink(Ink::Good, text),
        None => text.to_owned(),
    }
}

fn table(nodes: &[&Node], style: &Style, text: &mut String) {
    if nodes.is_empty() {
        return;
    }
    let title = format!("{:>6}  {:<12} {:>10}  {:<22}CPUs", "node", "cache", "idle/CPUs", "claims");
    put(text, &format!("\n{}\n", style.ink(Ink::Faint, &title)));
    for node in nodes {
        for domain in &node.domains {
            let name = domain.name();
            let name = if name.is_empty() { "not known" } else { &name };
            let load = by_load(domain, style, &format!("{:>10}", idle(domain)));
            let claims = domain.claims();
            let id = node.id.0;
            put(text, &format!("{id:>6}  {name:<12} {load}  {claims:<20}  "));
            let at = INDENT.max(35 + claims.len());
            let list = list_of(&domain.cpus, style.width.saturating_sub(at));
            put(text, &hanging(at, &list, style.width));
        }
    }
}

/// Draws the caches of one node side by side: their CPUs and their idle CPU time, and a mark where claims have
/// some.
fn dense(node: &Node, style: &Style, text: &mut String) {
    const GAP: usize = 2;
    let domains: Vec<&Domain> = node.domains.iter().collect();
    let sentence = format!("{}; CPUs idle/all, = claimed", summary(&domains));
    let lead = format!("caches of node {}: ", node.id);
    put(text, &format!("\n{}", folded(&lead, &sentence, style.width)));
    let cell = |domain: &Domain| {
        let mark = if domain.is_claimed() == Some(true) { "=" } else { " " };
        let cpus: &CpuSet = &domain.cpus;
        (format!("{}{mark}", list_of(cpus, style.width / 3)), idle(domain))
    };
    let cells: Vec<(String, String)> = domains.iter().map(|domain| cell(domain)).collect();
    let longest = |of: fn(&(String, String)) -> &String| {
        cells.iter().map(|cell| of(cell).len()).max().unwrap_or(0)
    };
    let (wide, narrow) = (longest(|cell| &cell.0), longest(|cell| &cell.1));
    let columns = ((style.width + GAP).saturating_sub(4) / (wide + 1 + narrow + GAP)).max(1);
    for (cells, domains) in cells.chunks(columns).zip(domains.chunks(columns)) {
        let mut line = String::from("    ");
        for (at, ((list, load), domain)) in cells.iter().zip(domains).enumerate() {
            let gap = if at > 0 { GAP } else { 0 };
            let load = by_load(domain, style, &format!("{load:>narrow$}"));
            line.push_str(&format!("{:gap$}{list:<wide$} {load}", ""));
        }
        put(text, &format!("{line}\n"));
    }
}
