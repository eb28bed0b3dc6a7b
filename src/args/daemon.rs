//! `placer daemon`.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Run the placement daemon

Examples:
  placer daemon                       systemctl start placer does it
  placer daemon --manage              moves running guests when that pays
  placer advise 4:500                 uses the daemon if it runs
  placer advise 4:500 --via engine    does not use it
  curl --unix-socket /run/placer/placer.sock http://placer/metrics")]
#[command(after_long_help = "\
The daemon answers varlink calls on the socket placer.sock in the state
directory (/run/placer for root). Section daemon of /etc/placer.toml limits what
users can claim. SIGHUP reloads the settings; SIGTERM stops the daemon. Claims
outlive it.")]
pub struct Daemon {
    /// Answer for the host recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Move running guests when that pays.
    ///
    /// Section manage of /etc/placer.toml says which guests, when, and how much; enabled = true
    /// there does the same.
    #[arg(long, conflicts_with = "root")]
    pub manage: bool,
}
