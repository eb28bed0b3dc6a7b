//! Manual pages: one of placer, one of each command, and numad(8), which is written by hand.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The compatibility page; `@VERSION@` stands for ours.
const NUMAD: &str = include_str!("../../numad.8");

const FILES: [(&str, &str); 5] = [
    ("/etc/placer.toml", "The settings of this host; each is explained there."),
    ("/run/placer", "Claims, and the CPU counters of the last minute. Gone with a reboot."),
    ("/run/placer/placer.sock", "Where placer daemon answers, if it runs."),
    ("/usr/libexec/placer/placer-hwloc", "What placer show --devices asks."),
    ("/usr/libexec/placer/placer-top", "What placer top draws with."),
];

/// Returns the file name and the text of every page.
pub(crate) fn pages(command: &Command) -> Result<Vec<(String, Vec<u8>)>, std::io::Error> {
    let mut command = command.clone();
    command.build();
    let version = format!("placer {}", command.get_version().unwrap_or_default());
    let mut pages = vec![("placer.1".to_owned(), page(&command, &version)?)];
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages.push((format!("placer-{}.1", sub.get_name()), page(sub, &version)?));
    }
    pages.push(("numad.8".to_owned(), NUMAD.replace("@VERSION@", &version).into_bytes()));
    Ok(pages)
}

fn page(command: &Command, version: &str) -> Result<Vec<u8>, std::io::Error> {
    let whole = command.get_display_name() == Some("placer") || command.get_name() == "placer";
    let man = Man::new(command.clone()).source(version).manual("placer");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    after_help(command, &mut rest);
    if whole {
        files(&mut rest);
    }
    see_also(whole, &mut rest);
    rest.to_writer(&mut text)?;
    Ok(text)
}

/// The help's examples, as they stand there, and what it says below them.
fn after_help(command: &Command, roff: &mut Roff) {
    let Some(help) = command.get_after_help() else {
        return;
    };
    let help = help.to_string();
    let (examples, notes) = match help.strip_prefix("Examples:\n") {
        Some(rest) => rest.split_once("\n\n").unwrap_or((rest, "")),
        None => ("", help.as_str()),
    };
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        as_it_stands(examples, roff);
    }
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        as_it_stands(notes, roff);
    }
}

fn as_it_stands(text: &str, roff: &mut Roff) {
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    for (path, what) in FILES {
        roff.control("TP", []);
        roff.text([bold(path)]);
        roff.text([roman(what)]);
    }
}

fn see_also(whole: bool, roff: &mut Roff) {
    roff.control("SH", ["SEE ALSO"]);
    if !whole {
        roff.text([bold("placer"), roman("(1), "), bold("numad"), roman("(8)")]);
        return;
    }
    roff.text([
        bold("numad"),
        roman("(8), "),
        bold("numactl"),
        roman("(8), "),
        bold("lstopo"),
        roman("(1)"),
    ]);
}
