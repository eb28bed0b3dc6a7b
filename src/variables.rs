//! The command line with the variables that stand for flags.

use clap::builder::Resettable;
use clap::{Arg, Command, CommandFactory};

use crate::args::Args;

/// Returns the command line; a command's own flags are added when it is named.
pub(crate) fn command() -> Command {
    without_empty(Args::command())
}

/// Leaves out variables that are set and empty: they are as good as none. That is how service files
/// and scripts take one back.
pub(crate) fn without_empty(command: Command) -> Command {
    let empty = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        value.is_empty() && name.as_encoded_bytes().starts_with(b"PLACER_")
    };
    if !std::env::vars_os().any(empty) {
        return command;
    }
    let is_empty =
        |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
}

/// Returns the value of a variable that is set to something.
pub(crate) fn value(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
