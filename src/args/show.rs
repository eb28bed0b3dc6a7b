//! `placer show`.

use super::HostArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer show
  placer show --json
  placer show --devices      which network card or disk is near which node
  placer show --root sysfs-fixtures/ring-4")]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// Prints everything as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Shows what hwloc knows beside: devices, caches, memory attributes.
    #[arg(long)]
    pub(crate) devices: bool,
}
