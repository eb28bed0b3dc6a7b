//! The `placer` program: parses, runs, prints what went wrong, chooses the exit code.

mod args;
mod claiming;
mod cmd;
mod duration;
mod explain;
mod json;
mod numad;
mod output;
mod plan;
mod sampling;
mod second_source;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use placer_engine::Request;

use args::{Args, Command};

fn main() -> ExitCode {
    let mut argv = std::env::args_os();
    let name = argv.next().unwrap_or_else(|| OsString::from("placer"));
    let rest: Vec<OsString> = argv.collect();
    // By this name the program is numad, whatever it is a link, a copy or a path to.
    if Path::new(&name).file_name() == Some(OsStr::new("numad")) {
        return numad::run(&name, &rest);
    }
    if rest.first().is_some_and(|first| first == "numad") {
        return numad::run(OsStr::new("numad"), &rest[1..]);
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refused(&error, &rest),
    };
    let outcome = match args.command {
        Command::Advise(args) => cmd::advise::run(&args),
        Command::Show(args) => cmd::show::run(&args),
        Command::Record(args) => cmd::record::run(&args),
        Command::Ps(args) => cmd::ps::run(&args),
        Command::Release(args) => cmd::release::run(&args),
        #[cfg(feature = "hwloc")]
        Command::HwlocFacts => second_source::serve(),
        // Only `placer help numad` gets here: the command itself has numad's own options.
        Command::Numad { args } => return numad::run(OsStr::new("numad"), &args),
    };
    outcome.unwrap_or_else(|error| {
        output::complain("placer", error.as_ref());
        ExitCode::from(2)
    })
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
