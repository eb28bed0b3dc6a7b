//! `placer nri`.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Place containers of containerd or CRI-O as an NRI plugin

Examples:
  placer nri                               systemctl start placer-nri does it
  placer nri --index 90                    after plugins with a lower index
  ln -s /usr/bin/placer /opt/nri/plugins/10-placer
                                           the runtime starts it")]
#[command(after_long_help = "\
CPUs and memory come from the container's quota or CPU shares and its memory
limit; annotation org.placer.request (2:4G) of pod or container overrides them.
Containers without requests and limits, or with CPUs of their own, are left
alone. A container that does not fit is created unplaced, with the reason in
annotation org.placer.note; it is refused if its pod has the annotation
org.placer.strict: \"true\". Decisions are for the whole host, by the settings of
section advise.")]
pub struct Nri {
    /// Position among the plugins of the runtime, 0 to 99.
    #[arg(long, value_name = "N", env = "PLACER_INDEX", hide_env = true)]
    #[arg(default_value = "10", value_parser = clap::value_parser!(u8).range(0..=99))]
    pub index: u8,
    /// Socket of the runtime.
    #[arg(long, value_name = "PATH", env = "PLACER_SOCKET", hide_env = true)]
    #[arg(default_value = "/var/run/nri/nri.sock")]
    pub socket: PathBuf,
    /// Place containers on the host recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
}
