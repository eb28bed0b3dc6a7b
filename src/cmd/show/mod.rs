//! `placer show`: the host as placer sees it.

mod distances;
mod style;
mod text;

use std::error::Error;
use std::process::ExitCode;

use crate::args::Show;
use crate::json::{self, HostForm};
use crate::look::Look;
use crate::picture::{self, Picture};
use crate::sampling::Window;
use crate::second_source::SecondSource;
use crate::{output, plan, save, settings};

pub(crate) use style::Style;
pub(crate) use text::wrapped;

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
        save::save(file, picture::page(&view, None).as_bytes())?;
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
