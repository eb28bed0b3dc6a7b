//! `placer record`.

use std::path::PathBuf;
use std::time::Duration;

use crate::settings::duration;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Record this host in a directory that --root reads

Examples:
  placer record /tmp/this-host
  placer record --window 2s /tmp/this-host
  placer advise 4:500 --root /tmp/this-host")]
#[command(after_long_help = "\
The directory must be empty or not exist. The recording contains no user names
and no host names.")]
pub struct Record {
    /// Directory to write.
    pub dir: PathBuf,
    /// Copy the host recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Time between the two readings.
    #[arg(long, value_name = "DURATION", env = "PLACER_WINDOW", hide_env = true)]
    #[arg(default_value = "2s", value_parser = duration::parse)]
    pub window: Duration,
}
