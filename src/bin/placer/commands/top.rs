//! `placer top`: the host, live, in the terminal. Drawn by a program of its own, `placer-top`, so that
//! an advice does not carry what only a screen needs.

use std::error::Error;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use placer_engine::{Bytes, CpuShare, Request};

use crate::{companion, plan};
use placer::args::Top;
use placer::protocol::top::{Choice, Options};
use placer::service::counted;
use placer::settings;
use placer::settings::variables;

pub(crate) fn run(args: &Top, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    terminal()?;
    if let Some(request) = &args.request {
        let _: Request = request.parse()?;
    }
    let root = plan::root_at(args.root.as_ref());
    let nothing = Request::new(CpuShare::ZERO, Bytes::ZERO);
    let request = plan::request(&nothing, &args.choice, &root)?;
    let place = counted::place(set);
    let options = Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        root: args.root.clone(),
        interval_ms: u64::try_from(args.interval.as_millis()).unwrap_or(u64::MAX),
        claims: place.own,
        below: place.below.is_some(),
        overcommit: place.overcommit.factor(),
        request: args.request.clone(),
        choice: Choice::of(&request, plan::numad_version(&args.choice)?),
        panic_after_ms: None,
    };
    let program = companion::program("placer-top", "top")?;
    let options = serde_json::to_string(&options)?;
    // Only a failure comes back.
    let error = Command::new(&program).arg(options).exec();
    Err(format!("top: cannot start {}: {error}", program.display()).into())
}

/// Refuses what nothing can be drawn on.
fn terminal() -> Result<(), String> {
    let what = if !std::io::stdout().is_terminal() {
        "expected a terminal as standard output, found a file or a pipe"
    } else if variables::value("TERM").is_none_or(|term| term == "dumb") {
        "expected a terminal that moves its cursor, found TERM=dumb or no TERM"
    } else {
        return Ok(());
    };
    Err(format!("top: {what}; placer show prints the host once"))
}
