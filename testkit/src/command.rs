//! Runs programs, and reads what they print.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// Copies a program that is to be run, by another process: a child that is forked while this one had the
/// copy open for writing would keep it so until it runs something else, and the kernel runs no such file.
pub fn copy_program(from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) {
    let output = run(Command::new("cp").arg(from).arg(to));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Returns what was written, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a JSON object from what was written to stdout.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr)))
}
