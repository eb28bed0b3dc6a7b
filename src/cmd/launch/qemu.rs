//! A machine of QEMU: claimed for while it waits at its gate, then bound, started, waited for.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use placer_engine::claims::{Decision, For};
use placer_engine::{Advice, Request};
use placer_launcher::cgroup::{Live, Planned, Tree, plan};
use placer_launcher::guest::Guest;
use placer_launcher::{LaunchError, Step, qemu};

use crate::claiming::{self, Desk};
use crate::{output, trouble};

/// Returns what is done, for a dry run.
pub(super) fn steps(launch: &qemu::Launch, guest: &Guest) -> Result<Vec<Step>, LaunchError> {
    Ok(group(launch, guest)?.around(launch.steps()))
}

/// Plans its control group, as wide as all of its threads together.
fn group(launch: &qemu::Launch, guest: &Guest) -> Result<Planned, LaunchError> {
    plan(&Live, &Tree::read(Path::new("/")), guest, &launch.binding())
}

/// Starts the machine, and returns when it has ended: with its status.
pub(super) fn run(
    launch: &qemu::Launch,
    guest: &Guest,
    desk: Option<&Desk>,
    decision: Option<Decision<'_>>,
    request: &Request,
    advice: &Advice,
) -> Result<ExitCode, Box<dyn Error>> {
    let group = group(launch, guest)?;
    let notes = launch.notes().chain(group.notes.iter().map(String::as_str));
    notes.for_each(output::warn);
    let waiting = launch.prepare(&Live, group)?;
    let who = For::Pid(waiting.pid());
    let claim = decision.and_then(|decision| claiming::claim_for(decision, request, advice, who));
    // From here on stderr is the machine's.
    trouble::tell();
    let end = waiting.start().and_then(placer_launcher::Started::wait);
    if let (Some(desk), Some(claim)) = (desk, claim) {
        desk.release(claim);
    }
    let end = end?;
    if let Some(left) = end.left {
        output::warn(&left.to_string());
    }
    Ok(ExitCode::from(end.ended.status()))
}
