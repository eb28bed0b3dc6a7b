//! `placer show`: the host as placer sees it.

mod second_source;

use std::error::Error;
use std::process::ExitCode;

use crate::plan;
use placer::args::Show;
use placer::report::json::{self, HostForm};
use placer::report::save;
use placer::report::svg::{self, Picture};
use placer::report::text::{self, style::Style};
use placer::service::look::Look;
use placer::service::sampling::Window;
use placer::{output, settings};
use second_source::SecondSource;

pub(crate) fn run(args: &Show, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root(&args.host);
    // hwloc reads while the load is measured.
    let second = args.devices.then(|| SecondSource::start(&root)).transpose()?;
    let look = Look::at(&root, set, Window::Recent(args.host.window), None)?;
    let view = look.view();
    for note in &view.notes {
        output::warn(note);
    }
    if let Some(file) = &args.svg {
        save::save(file, Picture::of(&view, None).svg().as_bytes())?;
    }
    if let Some(file) = &args.html {
        save::save(file, svg::page(&view, None).as_bytes())?;
    }
    if args.svg.is_some() || args.html.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    let answer = if args.json {
        let facts = second.map(|second| second.json()).transpose()?;
        json::text(&HostForm::new(&view, facts))?
    } else {
        let facts = second.map(|second| second.text()).transpose()?.unwrap_or_default();
        (text::host(&view, &Style::of_stdout()) + &facts).into_bytes()
    };
    output::answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}
