//! `placer show`: the host as placer sees it.

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

use placer_engine::claims::Claim;
use placer_engine::{Bytes, Distances, Snapshot};

use crate::args::Show;
use crate::json::{self, HostForm};
use crate::sampling::Window;
use crate::second_source::SecondSource;
use crate::{claiming, output, plan, settings};

pub(crate) fn run(args: &Show, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root(&args.host);
    // hwloc reads while the load is measured.
    let second = args.devices.then(|| SecondSource::start(&root)).transpose()?;
    let (snapshot, claims) =
        claiming::snapshot_and_claims(&root, set, Window::Recent(args.host.window), None)?;
    let claims = claims.as_deref();
    for note in snapshot.notes() {
        output::warn(note);
    }
    let answer = if args.json {
        let facts = second.map(|second| second.json()).transpose()?;
        json::text(&HostForm::new(&snapshot, claims, facts))?
    } else {
        let facts = second.map(|second| second.text()).transpose()?.unwrap_or_default();
        (table(&snapshot, claims) + &facts).into_bytes()
    };
    output::answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

/// Draws the host in 80 columns.
fn table(snapshot: &Snapshot, claims: Option<&[Claim]>) -> String {
    let mut text = String::new();
    let cpus: u64 = snapshot.nodes().iter().map(|node| node.cpus.len()).sum();
    let total: Bytes = snapshot.nodes().iter().filter_map(|node| node.memory_total).sum();
    let free: Bytes = snapshot.nodes().iter().filter_map(|node| node.memory_free).sum();
    let count = snapshot.nodes().len();
    let (nodes, threads) = (plural(count == 1, "node"), plural(cpus == 1, "CPU"));
    put(&mut text, &format!("{count} {nodes}, {cpus} {threads}, {total} of memory, {free} free\n"));
    put(&mut text, &format!("claims: {}\n", count_of(claims)));
    put(&mut text, "\n  node     idle/CPUs       free /     memory    claimed  CPUs\n");
    for node in snapshot.nodes() {
        let idle = node.cpus_idle.map_or_else(|| "?".to_owned(), |idle| format!("{idle:.2}"));
        let load = format!("{idle}/{}", node.cpus.len());
        let memory = |amount: Option<Bytes>| amount.map_or("?".to_owned(), |m| m.to_string());
        let (free, total) = (memory(node.memory_free), memory(node.memory_total));
        let claimed = match (claims, snapshot.charges().of(node.id).memory) {
            (None, _) => "?".to_owned(),
            (Some(_), Bytes::ZERO) => "-".to_owned(),
            (Some(_), claimed) => claimed.to_string(),
        };
        let id = node.id.to_string();
        let lead = format!("{id:>6} {load:>13} {free:>10} / {total:>10} {claimed:>10}  ");
        let list = match node.cpus.to_string() {
            list if list.is_empty() => "-".to_owned(),
            list => list,
        };
        put(&mut text, &wrapped(&lead, &list));
    }
    put(&mut text, &claimed_pages(snapshot));
    match snapshot.topology().distances() {
        Some(table) => put(&mut text, &distances(table)),
        None => put(&mut text, "\ndistances: not told\n"),
    }
    text
}

fn count_of(claims: Option<&[Claim]>) -> String {
    let Some(claims) = claims else { return "not told".to_owned() };
    let holds = claims.iter().filter(|claim| claim.owner.process().is_none()).count();
    match (claims.len() - holds, holds) {
        (0, 0) => "none".to_owned(),
        (guests, holds) => format!(
            "{guests} {}, {holds} {} (see placer ps)",
            plural(guests == 1, "guest"),
            plural(holds == 1, "hold")
        ),
    }
}

/// Returns a line for each node and size of huge pages that something is claimed of.
fn claimed_pages(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for (node, charge) in snapshot.charges().iter() {
        for (page, memory) in &charge.huge {
            let claimed = memory.to_string();
            put(&mut text, &format!("{node:>6} {claimed:>50}  in pages of {page}\n"));
        }
    }
    text
}

fn plural(one: bool, noun: &str) -> String {
    if one { noun.to_owned() } else { format!("{noun}s") }
}

/// Writing to a string does not fail.
fn put(text: &mut String, piece: &str) {
    let _ = text.write_str(piece);
}

/// Breaks a long list of ids at its commas, below where it began.
pub(super) fn wrapped(lead: &str, list: &str) -> String {
    const WIDTH: usize = 80;
    let mut text = lead.to_owned();
    let mut column = lead.len();
    for (position, piece) in list.split_inclusive(',').enumerate() {
        if position > 0 && column + piece.len() > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(lead.len()));
            column = lead.len();
        }
        text.push_str(piece);
        column += piece.len();
    }
    text.push('\n');
    text
}

/// Draws the table of distances, if it is not too wide to be read.
fn distances(table: &Distances) -> String {
    let width = table.nodes().iter().map(|node| node.0.to_string().len());
    let cells = table.rows().flatten().map(|cell| cell.to_string().len());
    let width = width.chain(cells).max().unwrap_or(1) + 1;
    let mut text = String::from("\ndistances from the CPUs of a node (row) to memory (column)\n");
    if 6 + width * table.nodes().len() > 80 {
        let mut values: Vec<u32> = table.rows().flatten().copied().collect();
        values.sort_unstable();
        values.dedup();
        let list = values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        put(&mut text, &wrapped("values: ", &list));
        put(&mut text, "the table is wider than 80 columns: see --json\n");
        return text;
    }
    put(&mut text, "      ");
    for node in table.nodes() {
        put(&mut text, &format!("{:>width$}", node.0));
    }
    text.push('\n');
    for (node, row) in table.nodes().iter().zip(table.rows()) {
        put(&mut text, &format!("{:>6}", node.0));
        for cell in row {
            put(&mut text, &format!("{cell:>width$}"));
        }
        text.push('\n');
    }
    text
}
