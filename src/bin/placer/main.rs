//! The `placer` program: parses, runs, prints what went wrong, chooses the exit code.

mod commands;
mod companion;
mod output;
mod plan;
mod save;
mod start_up;
mod terminal;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};
use placer_engine::Request;

use commands as cmd;
use placer::args::{self, Args, Command};
use placer::report::text::wrapped;
use placer::service::notes::Notes;
use placer::settings::Settings;

fn main() -> ExitCode {
    placer_launcher::signals::survive_file_size_limit();
    let mut notes = Notes::default();
    let status = run(&mut notes);
    output::last_notes(&mut notes);
    status
}

fn run(notes: &mut Notes) -> ExitCode {
    let mut argv = std::env::args_os();
    let name = argv.next().unwrap_or_else(|| OsString::from("placer"));
    let rest: Vec<OsString> = argv.collect();
    // By these names the program is another one, whatever it is a link, a copy or a path to.
    match Path::new(&name).file_name().and_then(OsStr::to_str) {
        Some("numad") => return cmd::numad::run(&name, &rest, None, notes),
        Some("placer-runc") => return cmd::runc::run(&rest, notes),
        _ => {}
    }
    if rest.first().is_some_and(|first| first == "numad") {
        return cmd::numad::run(OsStr::new("numad"), &rest[1..], None, notes);
    }
    let plugin = is_plugin(Path::new(&name)) && rest.is_empty();
    let rest = if plugin { vec![OsString::from("nri")] } else { with_command(rest) };
    let argv = std::iter::once(name).chain(rest.iter().cloned());
    let matches = match args::command().try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) => return refused(&error, &rest),
    };
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // `placer --config FILE numad ...`: from here on the options are numad's own.
    if let Command::Numad { args: rest } = &args.command {
        return cmd::numad::run(OsStr::new("numad"), rest, args.config.as_deref(), notes);
    }
    obey(args, &matches, notes).unwrap_or_else(|error| {
        output::notes(notes);
        output::complain("placer", error.as_ref());
        ExitCode::from(2)
    })
}

fn obey(
    mut args: Args,
    matches: &ArgMatches,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let set = Settings::read(args.config.as_deref())?;
    set.fill(&mut args, matches);
    args::refuse_idle(&args, matches)?;
    let config = args.config;
    match args.command {
        Command::Status(args) => cmd::status::run(&args, set.claims, notes),
        Command::Advise(args) => cmd::advise::run(&args, &set, notes),
        Command::Fit(args) => cmd::fit::run(&args, set.claims, notes),
        Command::Launch(args) => cmd::launch::run(&args, set.claims, notes),
        Command::Place(args) => cmd::launch::place(args.into_inner(), set.claims, notes),
        Command::Show(args) => cmd::show::run(&args, set.claims, notes),
        Command::Top(args) => cmd::top::run(&args, set.claims),
        Command::Record(args) => cmd::record::run(&args),
        Command::Replay(args) => cmd::replay::run(&args, notes),
        Command::Schema(args) => cmd::schema::run(&args),
        Command::Ps(args) => cmd::ps::run(&args, &set, notes),
        Command::Balance(args) => cmd::balance::run(&args, &set, notes),
        Command::Adopt(args) => cmd::adopt::run(&args, set.claims),
        Command::Release(args) => cmd::release::run(&args, set.claims),
        Command::Doctor(args) => cmd::doctor::run(&args, set.claims, notes),
        Command::Daemon(args) => cmd::daemon::run(&args, set, config),
        Command::Nri(args) => cmd::nri::run(&args, set),
        // Answered before.
        Command::Numad { .. } => Ok(ExitCode::from(2)),
    }
}

/// Returns whether a container runtime has started this program as its plugin: as it finds it in its folder, with a
/// position for the name, as in `10-placer`.
fn is_plugin(program: &Path) -> bool {
    let name = program.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
    matches!(name, [a, b, b'-', rest @ ..] if a.is_ascii_digit() && b.is_ascii_digit() && rest == b"placer")
}

/// Adds the command that is meant where none is named: `status` to no arguments, `advise` to a
/// request.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let config = args.first().map(|arg| arg.as_encoded_bytes()).unwrap_or_default();
    let at = if config == b"--config" { 2 } else { usize::from(config.starts_with(b"--config=")) };
    let command = match args.get(at) {
        None => "status",
        Some(arg) if arg.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) => "advise",
        Some(_) => return args,
    };
    if at <= args.len() {
        args.insert(at, command.into());
    }
    args
}

/// Returns what could have been typed in place of an unknown option or command.
fn known(kind: ErrorKind, args: &[OsString]) -> Option<String> {
    let mut command = args::command();
    command.build();
    let names: Vec<String> = match kind {
        ErrorKind::InvalidSubcommand => {
            command.get_subcommands().map(|known| known.get_name().to_owned()).collect()
        }
        ErrorKind::UnknownArgument => {
            let mut named = args.iter().filter_map(|arg| command.find_subcommand(arg));
            let command = named.next().unwrap_or(&command);
            let flags = command.get_arguments().filter_map(clap::Arg::get_long);
            flags.map(|flag| format!("--{flag}")).collect()
        }
        _ => return None,
    };
    let what = if kind == ErrorKind::InvalidSubcommand { "commands: " } else { "options: " };
    let text = wrapped(what, &names.join(",")).replace(',', " ");
    Some(text.lines().map(|line| format!("{}\n", line.trim_end())).collect())
}

/// Prints what is wrong with a command line, or the help that was asked for.
fn refused(error: &clap::Error, args: &[OsString]) -> ExitCode {
    // "-1:500" looks like a flag, and is a request that says less than nothing.
    if error.kind() == ErrorKind::UnknownArgument {
        let negative = |arg: &&str| {
            arg.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let request = args.iter().filter_map(|arg| arg.to_str()).find(negative);
        if let Some(Err(error)) = request.map(str::parse::<Request>) {
            output::complain("placer", &error);
            return ExitCode::from(2);
        }
    }
    let Some(known) = known(error.kind(), args) else { error.exit() };
    let text = error.render().to_string();
    let (before, after) = text.split_once("\nFor more information").unwrap_or((&text, ""));
    let after =
        if after.is_empty() { String::new() } else { format!("\nFor more information{after}") };
    eprint!("{before}\n{known}{after}");
    ExitCode::from(2)
}
