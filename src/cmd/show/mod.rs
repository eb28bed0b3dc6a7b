//! `placer show`: the host as placer sees it.

mod distances;
mod style;
mod text;

use std::error::Error;
use std::process::ExitCode;

use crate::args::Show;
use crate::json::{self, HostForm};
use crate::look::Look;
use crate::sampling::Window;
use crate::second_source::SecondSource;
use crate::{output, plan, settings};

pub(crate) use style::Style;
pub(crate) use text::wrapped;

pub(crate) fn run(args: &Show, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root(&args.host);
    // hwloc reads while the load is measured.
    let second = args.devices.then(|| SecondSource::start(&root)).transpose()?;
    let look = Look::at(&root, set, Window::Recent(args.host.window))?;
    let view = look.view();
    for note in &view.notes {
        output::warn(note);
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
