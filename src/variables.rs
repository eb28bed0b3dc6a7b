//! The command line with the variables that stand for flags.

use clap::builder::Resettable;
use clap::{Arg, Command, CommandFactory};

use crate::args::Args;

/// Returns the command line. A variable that is set and empty is as good as none: that is how
/// service files and scripts take one back.
pub(crate) fn command() -> Command {
    let command = Args::command();
    let empty = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        value.is_empty() && name.as_encoded_bytes().starts_with(b"PLACER_")
    };
    if std::env::vars_os().any(empty) { without_empty(command) } else { command }
}

fn without_empty(command: Command) -> Command {
    let is_empty =
        |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty)
}

/// Returns the value of a variable that is set to something.
pub(crate) fn value(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
