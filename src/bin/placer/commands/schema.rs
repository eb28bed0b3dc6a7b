//! `placer schema`: what the JSON of other commands is made of, as a JSON Schema.

use std::error::Error;
use std::process::ExitCode;

use crate::output;
use placer::args::{Form, Schema};
use placer::report::schema::{ADVISE, BALANCE, FIT, LAUNCH, MANAGE, REPLAY, SHOW, TOGETHER};

pub(crate) fn run(args: &Schema) -> Result<ExitCode, Box<dyn Error>> {
    let text = match args.of {
        Form::Advise => ADVISE,
        Form::Launch => LAUNCH,
        Form::Together => TOGETHER,
        Form::Fit => FIT,
        Form::Show => SHOW,
        Form::Replay => REPLAY,
        Form::Balance => BALANCE,
        Form::Manage => MANAGE,
    };
    output::answer(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
