//! `placer doctor`.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Find what makes guests slow on this host, and how to change it

Examples:
  placer doctor
  placer doctor --json
  placer doctor --root DIR     a recorded host")]
#[command(after_long_help = "\
Each finding has its cost, the command that changes it (mend) and the one that
takes the change back (undo). Nothing is changed by placer doctor itself.
Exit status: 0 nothing was found; 1 something was; 2 usage error or failure.")]
pub struct Doctor {
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
    /// Examine the host recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
}
