//! `placer show`.

use std::path::PathBuf;

use super::HostArgs;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer show
  placer show --json
  placer show --devices      which network card or disk is near which node
  placer show --svg host.svg
  placer show --html - | ssh desk 'cat >host.html'
  placer show --root sysfs-fixtures/ring-4")]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// Prints everything as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes a picture of the host to FILE, as SVG; - is standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) svg: Option<PathBuf>,
    /// Writes a page with the picture and all figures to FILE, which needs no network; - as above.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) html: Option<PathBuf>,
    /// Shows what hwloc knows beside: devices, caches, memory attributes.
    #[arg(long)]
    pub(crate) devices: bool,
}
