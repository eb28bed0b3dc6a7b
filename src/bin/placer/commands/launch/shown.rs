//! What `--json` and `--explain` print of a launch: the advice, the steps, the claim.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use placer_engine::claims::{ClaimId, Parts};
use placer_engine::{Advice, NodeSet, Request, Snapshot, explain};

use crate::{output, plan};
use placer::args::Launch;
use placer::report;
use placer::report::json::LaunchForm;
use placer::settings::PolicyName;

/// Refuses what cannot be explained.
pub(super) fn check(args: &Launch) -> Result<(), String> {
    let explained = !args.explain || args.choice.policy == PolicyName::Best;
    let why = "--explain needs --policy best: numad's rules do not support it";
    if explained { Ok(()) } else { Err(why.to_owned()) }
}

/// What was decided about a guest.
pub(super) struct Decision<'a> {
    pub(super) guest: &'a str,
    pub(super) request: &'a Request,
    pub(super) advice: &'a Advice,
    pub(super) snapshot: &'a Snapshot,
    /// A line each.
    pub(super) steps: &'a str,
    pub(super) claim: Option<(ClaimId, &'a Parts)>,
}

impl Decision<'_> {
    /// Prints what was asked for. Returns whether it was all that there is to print of a dry run. `guests_output`: stdout
    /// is the guest's.
    pub(super) fn print(&self, args: &Launch, guests_output: bool) -> Result<bool, Box<dyn Error>> {
        if !args.json && !args.explain {
            return Ok(false);
        }
        let Self { guest, request, advice, snapshot, steps, claim } = *self;
        let best = args.choice.policy == PolicyName::Best;
        let numad = plan::numad_version(&args.choice)?;
        let why = best.then(|| explain(snapshot, request, advice, numad)).transpose()?;
        let mut text = Vec::new();
        if args.json {
            let notes: Vec<String> =
                snapshot.notes().iter().chain(&advice.notes).cloned().collect();
            let decided = (request, advice);
            let form = LaunchForm::new(guest, decided, &notes, why.as_ref(), steps, claim);
            text = serde_json::to_vec(&form)?;
            text.push(b'\n');
        } else if let Some(why) = &why {
            let distances = snapshot.topology().distances();
            let mut explained = report::explain::text(request, advice, why, distances, false);
            explained.push_str(steps);
            if let Some((id, parts)) = claim {
                let nodes: NodeSet = parts.promised.iter().map(|promise| promise.node).collect();
                let _ = writeln!(explained, "claim   {id} on {nodes}");
            }
            text = explained.into_bytes();
        }
        if guests_output {
            // Nowhere to report a failure.
            let _ = std::io::stderr().lock().write_all(&text);
        } else {
            output::answer(&text)?;
        }
        Ok(true)
    }
}
