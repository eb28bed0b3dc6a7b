//! `placer show`: the host as placer sees it.

mod second_source;

use std::error::Error;
use std::process::ExitCode;

use crate::output;
use crate::plan;
use crate::save;
use crate::terminal::style_of_stdout;
use placer::args::Show;
use placer::report::json::{self, HostForm};
use placer::report::svg::{self, Picture};
use placer::report::text;
use placer::service::look::Look;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::settings;
use second_source::SecondSource;

pub(crate) fn run(
    args: &Show,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root(&args.host);
    // hwloc reads while the load is measured.
    let second = args.devices.then(|| SecondSource::start(&root)).transpose()?;
    let look = Look::at(&root, set, Window::Recent(args.host.window), None, notes)?;
    let mut view = look.view();
    if let Some(second) = &second {
        view.notes.extend(second.differences(look.snapshot.topology())?);
    }
    for note in &view.notes {
        notes.warn(note);
    }
    output::notes(notes);
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
        (text::host(&view, &style_of_stdout()) + &facts).into_bytes()
    };
    output::answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}
