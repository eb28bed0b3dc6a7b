//! The command line with the variables that stand for flags.

use clap::{Command, CommandFactory};

use crate::args::{Args, without_empty};

/// Returns the command line; a command's own flags are added when it is named.
pub(crate) fn command() -> Command {
    without_empty(Args::command())
}

/// Returns the value of a variable that is set to something.
pub(crate) fn value(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
