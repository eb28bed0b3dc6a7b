//! `placer schema`: what the JSON of other commands is made of, as a JSON Schema.

use std::error::Error;
use std::process::ExitCode;

use crate::args::{Form, Schema};
use crate::output;

/// Of `placer advise --json`; a test in `json.rs` holds both to the types there.
pub(crate) const ADVISE: &str = include_str!("../schema/advise.json");
/// Of `placer show --json`.
pub(crate) const SHOW: &str = include_str!("../schema/show.json");
/// Of `placer replay --json`.
pub(crate) const REPLAY: &str = include_str!("../schema/replay.json");

pub(crate) fn run(args: &Schema) -> Result<ExitCode, Box<dyn Error>> {
    let text = match args.of {
        Form::Advise => ADVISE,
        Form::Show => SHOW,
        Form::Replay => REPLAY,
    };
    output::answer(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
