//! `placer daemon`.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer daemon                  as a service; systemctl start placer does it
  placer advise 4:500            asks it, if it is there
  placer advise 4:500 --via engine    asks the engine in this process
  curl --unix-socket /run/placer/placer.sock http://placer/metrics

It answers on the socket placer.sock in the directory of claims (/run/placer for
root), by varlink. Section daemon of /etc/placer.toml says who may claim how
much. SIGHUP reads the settings anew; SIGTERM ends it. Claims outlive it.")]
pub(crate) struct Daemon {
    /// Answers for the machine recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
}
