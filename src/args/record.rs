//! `placer record`.

use std::path::PathBuf;
use std::time::Duration;

use crate::duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer record /tmp/this-host
  placer record --window 2s /tmp/this-host
  placer advise 4:500 --root /tmp/this-host

The directory must not exist, or be empty. It holds no names of users or hosts.")]
pub(crate) struct Record {
    /// Where the recording goes.
    pub(crate) dir: PathBuf,
    /// Copies the machine recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// The time between the two readings.
    #[arg(long, value_name = "DURATION", env = "PLACER_WINDOW", hide_env_values = true)]
    #[arg(default_value = "2s", value_parser = duration::parse)]
    pub(crate) window: Duration,
}
