//! `placer fit`.

use placer_engine::Request;
use placer_launcher::guest::ThreadPin;

use super::{Choice, HostArgs};

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Print how many more guests of a size fit

Examples:
  placer fit 4:8G                   the number of guests that fit now
  placer fit 4:8G --explain         also on one node each, and with idle CPUs
  placer fit 4:8G --pin cores       guests with a CPU for each vCPU
  placer fit 8:16G --pages 1G       count free huge pages of 1 GiB only")]
#[command(after_long_help = "\
Claims of others count as used; for root, claims of users do not where more
guests fit without them. A guest may be spread over several nodes, and busy CPUs
do not keep one from fitting, unless each vCPU has a CPU of its own.
Exit status: 0 success; 2 usage error or failure.")]
pub struct Fit {
    /// CPUs and memory of each guest, such as 4:500 (MiB) or 2.5:8G.
    pub request: Request,
    /// Print all figures in words.
    #[arg(long, conflicts_with = "json")]
    pub explain: bool,
    /// Print all figures as JSON.
    #[arg(long)]
    pub json: bool,
    /// Share CPUs (nodes), or one CPU for each vCPU (cores).
    #[arg(long, value_name = "HOW", env = "PLACER_PIN", hide_env = true)]
    pub pin: Option<ThreadPin>,
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub host: HostArgs,
}
