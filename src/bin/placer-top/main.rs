//! Draws a host in the terminal, for the `placer top` that started it.
//!
//! ```text
//! keys, sizes, snapshots, guests -> Event -> Model -> draw -> Buffer -> terminal
//! `----------- run, watch -----'  `-------- pure values --------'   `- terminal
//! ```
//!
//! A program of its own: the code that draws costs every start of a program that contains it, and
//! terminal input does not belong in a service that runs as root.

mod answer;
mod draw;
mod field;
mod grid;
mod history;
mod look;
#[cfg(test)]
use testkit::machine;
mod model;
mod plan;
mod run;
#[cfg(test)]
mod screens;
mod sheet;
mod terminal;
mod watch;

use std::process::ExitCode;

use placer::protocol::top::Options;
use placer::report::escape;

fn main() -> ExitCode {
    match options().and_then(|options| run::run(&options)) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("placer: top: {}", escape::terminal(&error));
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Options, String> {
    let argument = std::env::args_os().nth(1).ok_or("placer-top is started by placer top")?;
    let text = argument.into_string().map_err(|_| "expected options as UTF-8")?;
    // First the version alone: of another one the rest may not be what it was.
    let version = serde_json::from_str::<serde_json::Value>(&text).map_err(|e| e.to_string())?;
    let (theirs, own) = (version["version"].as_str(), env!("CARGO_PKG_VERSION"));
    if theirs != Some(own) {
        let theirs = theirs.unwrap_or("another version");
        return Err(format!(
            "placer-top is {own} and placer {theirs}: install both from one build"
        ));
    }
    serde_json::from_str(&text).map_err(|e| format!("the options of placer-top: {e}"))
}
