//! `placer release ID`: ends a claim.

use std::error::Error;
use std::process::ExitCode;

use placer_engine::claims::{Claims, LOCK_TIMEOUT, Processes};
use serde::Serialize;

use crate::output;
use crate::plan;
use placer::args::Release;
use placer::report::claims::Row;
use placer::report::json;
use placer::service::counted;
use placer::settings;

pub(crate) fn run(args: &Release, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root_at(args.root.as_ref());
    let claims = Claims::open_to_claim(&counted::place(set), &root)?;
    let (decision, view) = claims.begin(LOCK_TIMEOUT)?;
    for note in &view.notes {
        output::warn(note);
    }
    let claim = decision.release(args.id)?;
    if args.json {
        let mut look = Processes::look()?;
        let released = Row::of(&claim, &mut look);
        output::answer(&json::text(&Form { version: 1, released })?)?;
    }
    let nodes: placer_engine::NodeSet = claim.promised.iter().map(|p| p.node).collect();
    let (cpus, memory) = (claim.cpus, claim.memory);
    let (id, noun) = (claim.id, if nodes.len() == 1 { "node" } else { "nodes" });
    output::line(&format!("placer: released {id}: {cpus} CPUs and {memory} on {noun} {nodes}"));
    Ok(ExitCode::SUCCESS)
}

/// `placer release --json`: the claim as `placer ps --json` would have listed it.
#[derive(Serialize)]
struct Form {
    version: u32,
    released: Row,
}
