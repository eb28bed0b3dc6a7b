//! `placer fit`: how many more guests of a size fit?

use std::error::Error;
use std::process::ExitCode;

use placer_engine::Guest;
use placer_launcher::guest::ThreadPin;

use crate::output;
use crate::plan;
use placer::args::Fit;
use placer::service::local::Local;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::service::together::{CountForm, count};
use placer::settings;

pub(crate) fn run(
    args: &Fit,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root(&args.host);
    let own_cpus = args.pin == Some(ThreadPin::Cores);
    let mut request = plan::request(&args.request, &args.choice, &root)?;
    request.cpus = Guest::of(&request).cpus_taken(own_cpus);
    let form = match (args.json, args.explain) {
        (true, _) => CountForm::Json,
        (_, true) => CountForm::Explain,
        _ => CountForm::Number,
    };
    let figures = Local::new(&root, set, Window::Recent(args.host.window));
    let text = count(&request, own_cpus, form, &figures, notes)?;
    output::notes(notes);
    output::answer(&text)?;
    Ok(ExitCode::SUCCESS)
}
