//! `placer release ID`: ends a claim.

use std::error::Error;
use std::process::ExitCode;

use placer_engine::claims::{Claims, PATIENCE};

use crate::args::Release;
use crate::{claiming, output, plan, settings};

pub(crate) fn run(args: &Release, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root_at(args.root.as_ref());
    let claims = Claims::open_to_claim(&claiming::place(set), &root)?;
    let (decision, view) = claims.begin(PATIENCE)?;
    for note in &view.notes {
        output::warn(note);
    }
    let claim = decision.release(args.id)?;
    let nodes: placer_engine::NodeSet = claim.promised.iter().map(|p| p.node).collect();
    let (cpus, memory) = (claim.cpus, claim.memory);
    output::line(&format!(
        "placer: released {}: {cpus} CPUs and {memory} on nodes {nodes}",
        claim.id
    ));
    Ok(ExitCode::SUCCESS)
}
