//! `placer ps`: guests and their claims, and where their memory is now.

use std::error::Error;
use std::process::ExitCode;

use crate::output;
use placer::args::Ps;
use placer::report::claims::{Form, Row, table};
use placer::report::json;
use placer::service::counted;
use placer::service::notes::Notes;
use placer::service::running::worth_moving;
use placer::settings::Settings;
use placer_engine::claims::{Processes, owners};

use crate::plan;

pub(crate) fn run(
    args: &Ps,
    set: &Settings,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root_at(args.root.as_ref());
    let Some(view) = counted::view(&root, set.claims, notes) else { return Ok(ExitCode::from(2)) };
    let mut look = Processes::look()?;
    let mut rows: Vec<Row> = view.claims.iter().map(|claim| Row::of(claim, &mut look)).collect();
    if !root.is_live() {
        // Guests that were recorded with a machine do not run here.
        let mut recorded = owners(&root, &view.claims);
        for (row, claim) in rows.iter_mut().zip(&view.claims) {
            let owner = || recorded.remove(&claim.id)?.program;
            row.program = row.program.take().or_else(owner);
        }
    }
    if rows.iter().any(|row| row.pid().is_some()) {
        match worth_moving(&root, set) {
            Ok(steps) => {
                for row in &mut rows {
                    row.worth_moving =
                        steps.iter().find(|step| Some(step.pid()) == row.pid()).cloned();
                }
            }
            Err(error) => notes.warn(&format!("what is worth moving is not known: {error}")),
        }
    }
    let answer = if args.json {
        json::text(&Form { version: 1, claims: &rows })?
    } else {
        table(&rows).into_bytes()
    };
    output::notes(notes);
    output::answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}
