//! Flags that are made only when their command is given.

use std::ops::{Deref, DerefMut};

use clap::builder::Resettable;
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

/// The flags of a command, which clap knows only once that command was named. All commands' flags
/// together are some 150 values of 600 bytes, made for each question and thrown away.
#[derive(Debug)]
pub struct Lazily<T>(Box<T>);

impl<T> Lazily<T> {
    /// Returns the flags.
    pub fn into_inner(self) -> T {
        *self.0
    }
}

impl<T: Args> Args for Lazily<T> {
    fn augment_args(command: Command) -> Command {
        command.defer(|command| without_empty(T::augment_args(command)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        command.defer(|command| without_empty(T::augment_args_for_update(command)))
    }
}

impl<T: Args> FromArgMatches for Lazily<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(|args| Self(Box::new(args)))
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(|args| Self(Box::new(args)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T> Deref for Lazily<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Lazily<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Leaves out variables that are set and empty: they are as good as none. That is how service files
/// and scripts take one back.
pub fn without_empty(command: Command) -> Command {
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
