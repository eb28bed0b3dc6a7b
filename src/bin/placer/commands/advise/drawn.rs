//! `placer advise --explain --svg FILE`: why, with a picture.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use placer_engine::{SysRoot, advise, explain};

use crate::output;
use crate::plan;
use crate::save;
use placer::args::Advise;
use placer::report::explain;
use placer::report::svg::{self, Marks, Picture};
use placer::service::advise::shortage;
use placer::service::look::Look;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::settings;

/// Answers, draws what was answered, and says why unless standard output has the picture.
pub(super) fn run(
    args: &Advise,
    set: settings::Claims,
    root: &SysRoot,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    if args.hold.is_some() {
        let why = "a picture claims nothing";
        return Err(format!("--hold excludes --svg and --html: {why}").into());
    }
    let request = plan::request(super::request_of(args)?, &args.choice, root)?;
    let look = Look::at(root, set, Window::Recent(args.host.window), request.pages, notes)?;
    let advice = advise(&look.snapshot, &request)?;
    let why = explain(&look.snapshot, &request, &advice, plan::numad_version(&args.choice)?)?;
    for note in look.snapshot.notes().iter().chain(&advice.notes) {
        notes.warn(note);
    }
    if let Some(short) = advice.shortfall {
        notes.warn(&shortage(&request, &advice, short));
    }
    if args.strict && !advice.fits() {
        return Ok(ExitCode::from(1));
    }
    output::notes(notes);
    let (view, marks) = (look.view(), Marks::of(&request, &advice, &why));
    if let Some(file) = &args.svg {
        save::save(file, Picture::of(&view, Some(&marks)).svg().as_bytes())?;
    }
    if let Some(file) = &args.html {
        save::save(file, svg::page(&view, Some(&marks)).as_bytes())?;
    }
    let taken = [&args.svg, &args.html].iter().any(|file| file.as_deref() == Some(Path::new("-")));
    if !taken {
        let distances = look.snapshot.topology().distances();
        let text = explain::text(&request, &advice, &why, distances, args.verbose);
        output::answer(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
