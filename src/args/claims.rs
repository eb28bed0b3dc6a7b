//! `placer ps`, `placer adopt` and `placer release`.

use std::path::PathBuf;

use placer_engine::claims::ClaimId;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
List guests, their claims, and where their memory is

Examples:
  placer ps
  placer ps --json")]
#[command(after_long_help = "\
used: the part of the claimed memory that the guest uses; the rest is reserved.
there: the part of its memory that is on the chosen nodes, marked with ! below
90 % (numastat -p PID shows where the rest is). Only root sees where the memory
of other users' guests is. by: the user and the program that made the claim.
worth moving: a move that placer balance --window 0 lists.")]
pub struct Ps {
    /// List the claims of the host recorded in DIR.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(long_about = "\
End a claim

Examples:
  placer release 5f3a9c01           the claimed CPUs and memory are free again
  placer release 5f3a9c01 --json    and print the claim, as placer ps --json does")]
#[command(after_long_help = "\
placer ps lists claims and their ids. The guest keeps running; memory it has not
touched yet can be given to others.")]
pub struct Release {
    /// Id of the claim, as placer ps prints it.
    pub id: ClaimId,
    /// End a claim on the host recorded in DIR.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Print the ended claim as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Make a claim that of a running process

Examples:
  placer adopt 5f3a9c01 --pid 4711             it ends with process 4711
  placer adopt 5f3a9c01 --pid 4711 --cgroup    and with the last process of its
                                               control group")]
#[command(after_long_help = "\
placer advise --hold 30s makes a hold; adopt it when the guest has started. What
was claimed stays claimed in between. Users adopt their own claims for their own
processes.")]
pub struct Adopt {
    /// Id of the claim, as placer ps prints it.
    pub id: ClaimId,
    /// Process that the claim is for from now on.
    #[arg(long, value_name = "PID")]
    pub pid: u32,
    /// Count all memory of the process's control group, and end with it.
    #[arg(long)]
    pub cgroup: bool,
    /// Adopt a claim on the host recorded in DIR.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Print the claim as JSON.
    #[arg(long)]
    pub json: bool,
}
