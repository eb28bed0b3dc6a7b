//! A machine of QEMU: claimed for while it waits at its gate, then bound, started, waited for.

use std::error::Error;
use std::process::ExitCode;

use placer_engine::claims::{Decision, For};
use placer_engine::{Advice, Request};
use placer_launcher::qemu;

use crate::claiming::{self, Desk};
use crate::{output, trouble};

/// Starts the machine, and returns when it has ended: with its status.
pub(super) fn run(
    launch: &qemu::Launch,
    desk: Option<&Desk>,
    decision: Option<Decision<'_>>,
    request: &Request,
    advice: &Advice,
) -> Result<ExitCode, Box<dyn Error>> {
    launch.notes().for_each(output::warn);
    let waiting = launch.fork(&[], None)?;
    let who = For::Pid(waiting.pid());
    let claim = decision.and_then(|decision| claiming::claim_for(decision, request, advice, who));
    // From here on stderr is the machine's.
    trouble::tell();
    let ended = waiting.start().and_then(placer_launcher::Running::wait);
    if let (Some(desk), Some(claim)) = (desk, claim) {
        desk.release(claim);
    }
    Ok(ExitCode::from(ended?.status()))
}
