//! Manual pages: one of placer, one of each command, and those of other names, which are written by hand.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The pages of placer's other names; `@VERSION@` stands for ours.
const OTHER_NAMES: [(&str, &str); 2] = [
    ("numad.8", include_str!("../../numad.8")),
    ("placer-runc.8", include_str!("../../placer-runc.8")),
];

const FILES: [(&str, &str); 5] = [
    ("/etc/placer.toml", "Settings of this host, each with a comment."),
    ("/run/placer", "Claims, and the CPU counters of the last minute. Removed by a reboot."),
    ("/run/placer/placer.sock", "Socket of placer daemon."),
    ("/usr/libexec/placer/placer-hwloc", "Helper program of placer show --devices."),
    ("/usr/libexec/placer/placer-top", "Helper program of placer top."),
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
    for (name, text) in OTHER_NAMES {
        pages.push((name.to_owned(), text.replace("@VERSION@", &version).into_bytes()));
    }
    Ok(pages)
}

fn page(command: &Command, version: &str) -> Result<Vec<u8>, std::io::Error> {
    let whole = command.get_display_name() == Some("placer") || command.get_name() == "placer";
    let (description, examples) = long_about(command);
    // Help leaves the variables out for want of room.
    let shown = command.clone().long_about(description).mut_args(|arg| arg.hide_env(false));
    let man = Man::new(shown).source(version).manual("placer");
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
    section("EXAMPLES", &examples, &mut rest);
    let notes = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    section("NOTES", &notes, &mut rest);
    if whole {
        files(&mut rest);
    }
    see_also(whole, &mut rest);
    rest.to_writer(&mut text)?;
    Ok(text)
}

/// Splits the long help's beginning into the description and the examples.
fn long_about(command: &Command) -> (String, String) {
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    match about.split_once("\n\nExamples:\n") {
        Some((description, examples)) => (description.to_owned(), examples.to_owned()),
        None => (about, String::new()),
    }
}

fn section(heading: &str, text: &str, roff: &mut Roff) {
    if !text.is_empty() {
        roff.control("SH", [heading]);
        as_it_stands(text, roff);
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
