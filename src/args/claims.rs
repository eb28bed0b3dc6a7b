//! `placer ps` and `placer release`.

use std::path::PathBuf;

use placer_engine::claims::ClaimId;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer ps
  placer ps --json

used: the part of the promised memory that the guest has by now; the rest is
still claimed. there: how much of its memory is on the nodes it was advised;
with ! it is less than 90 % (numastat -p PID says where the rest is). Only root
sees where other users' memory is. by: the user and the program that asked.")]
pub(crate) struct Ps {
    /// Lists the claims of the machine recorded in DIR instead of this one's.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// Prints everything as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer release 5f3a9c01           the claim is free for others at once
  placer release 5f3a9c01 --json    and is printed, as placer ps --json lists it

placer ps lists claims and their ids. The guest runs on; what it has not touched
yet may be promised to others.")]
pub(crate) struct Release {
    /// The claim.
    pub(crate) id: ClaimId,
    /// Ends a claim on the machine recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// Prints the claim that was ended as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
