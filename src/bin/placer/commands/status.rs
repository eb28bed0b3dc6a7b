//! `placer status`: the host, what runs where, what is odd, and the next command to type.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use placer_engine::Bytes;

use crate::output;
use crate::plan;
use crate::terminal::style_of_stdout;
use placer::args::Status;
use placer::report::text::overview;
use placer::report::view::{Guest, View};
use placer::report::{doctor, escape};
use placer::service::look::Look;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::settings;

/// Guests that are listed; `placer ps` lists all.
const MAX_GUESTS: usize = 10;

pub(crate) fn run(
    args: &Status,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root(&args.host);
    let look = Look::at(&root, set, Window::Recent(args.host.window), None, notes)?;
    let view = look.view();
    view.notes.iter().for_each(|note| notes.warn(note));
    let mut text = overview(&view, &style_of_stdout());
    guests(&view, &mut text);
    let next = next(&view, args.host.root.as_deref());
    // Writing to a string does not fail.
    let _ = writeln!(text, "\nnext: {next}");
    output::notes(notes);
    output::answer(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Lists the guests and holds that have reserved most memory.
fn guests(view: &View, text: &mut String) {
    let guests = view.guests.as_deref().unwrap_or_default();
    if guests.is_empty() {
        return;
    }
    text.push_str("\nguest                      cpus     memory  nodes\n");
    for guest in guests.iter().take(MAX_GUESTS) {
        let (name, cpus, memory) = (name(guest), guest.cpus, guest.memory.to_string());
        let nodes = guest.nodes();
        let _ = writeln!(text, "{name:<24.24} {cpus:>6} {memory:>10}  {nodes}");
    }
    if guests.len() > MAX_GUESTS {
        let _ = writeln!(text, "and {} more (placer ps)", guests.len() - MAX_GUESTS);
    }
}

fn name(guest: &Guest) -> String {
    match (guest.pid, &guest.program) {
        (Some(pid), Some(program)) => format!("{pid} {}", escape::terminal(program)),
        (Some(pid), None) => pid.to_string(),
        (None, _) => format!("hold {}", guest.id),
    }
}

/// Returns the command that is worth typing next.
fn next(view: &View, root: Option<&Path>) -> String {
    let command = if !doctor::of_host(view).is_empty() {
        "placer doctor".to_owned()
    } else if view.guests.as_ref().is_some_and(|guests| !guests.is_empty()) {
        "placer ps".to_owned()
    } else {
        format!("placer advise {} --explain", request(view))
    };
    match root {
        Some(root) => format!("{command} --root {}", escape::terminal(&root.to_string_lossy())),
        None => command,
    }
}

/// Returns a request that the roomiest node of the host can hold.
fn request(view: &View) -> String {
    let free = view.nodes.iter().filter_map(|node| node.memory.left.or(node.memory.free)).max();
    let quarter = free.unwrap_or(Bytes::ZERO).whole_mib() / 4;
    let mib = 1_u64 << quarter.max(1).ilog2();
    let cpus = view.nodes.iter().map(|node| node.cpus.len()).max().unwrap_or(1).clamp(1, 4);
    if mib >= 1024 { format!("{cpus}:{}G", mib >> 10) } else { format!("{cpus}:{mib}M") }
}
