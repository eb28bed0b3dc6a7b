//! `placer status`, which `placer` alone runs.

use super::HostArgs;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Print the host, its guests, what is odd, and what to do next

Examples:
  placer                       the same
  placer status --root DIR     a recorded host")]
pub struct Status {
    #[command(flatten)]
    pub host: HostArgs,
}
