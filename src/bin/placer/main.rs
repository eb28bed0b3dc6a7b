//! The `placer` program: parses, runs, prints what went wrong, chooses the exit code.

mod commands;
mod companion;
mod plan;
mod start_up;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};
use placer_engine::Request;

use commands as cmd;
use placer::args::{self, Args, Command};
use placer::settings::Settings;
use placer::{output, trouble};

fn main() -> ExitCode {
    placer_launcher::signals::survive_file_size_limit();
    let status = run();
    trouble::tell();
    status
}

fn run() -> ExitCode {
    let mut argv = std::env::args_os();
    let name = argv.next().unwrap_or_else(|| OsString::from("placer"));
    let rest: Vec<OsString> = argv.collect();
    // By this name the program is numad, whatever it is a link, a copy or a path to.
    if Path::new(&name).file_name() == Some(OsStr::new("numad")) {
        return cmd::numad::run(&name, &rest, None);
    }
    if rest.first().is_some_and(|first| first == "numad") {
        return cmd::numad::run(OsStr::new("numad"), &rest[1..], None);
    }
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refused(&error, &rest),
    };
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // `placer --config FILE numad ...`: from here on the options are numad's own.
    if let Command::Numad { args: rest } = &args.command {
        return cmd::numad::run(OsStr::new("numad"), rest, args.config.as_deref());
    }
    obey(args, &matches).unwrap_or_else(|error| {
        output::complain("placer", error.as_ref());
        ExitCode::from(2)
    })
}

fn obey(mut args: Args, matches: &ArgMatches) -> Result<ExitCode, Box<dyn Error>> {
    let set = Settings::read(args.config.as_deref())?;
    set.fill(&mut args, matches);
    args::refuse_idle(&args, matches)?;
    let config = args.config;
    match args.command {
        Command::Advise(args) => cmd::advise::run(&args, &set),
        Command::Launch(args) => cmd::launch::run(&args, set.claims),
        Command::Show(args) => cmd::show::run(&args, set.claims),
        Command::Top(args) => cmd::top::run(&args, set.claims),
        Command::Record(args) => cmd::record::run(&args),
        Command::Replay(args) => cmd::replay::run(&args),
        Command::Schema(args) => cmd::schema::run(&args),
        Command::Ps(args) => cmd::ps::run(&args, set.claims),
        Command::Release(args) => cmd::release::run(&args, set.claims),
        Command::Daemon(args) => cmd::daemon::run(&args, set, config),
        // Answered before.
        Command::Numad { .. } => Ok(ExitCode::from(2)),
    }
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
    error.exit()
}
