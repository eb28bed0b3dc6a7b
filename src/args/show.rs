//! `placer show`.

use std::path::PathBuf;

use super::HostArgs;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Print the host: nodes, CPUs, memory, claims, distances, load

Examples:
  placer show
  placer show --json
  placer show --devices      which devices are near which node
  placer show --svg host.svg
  placer show --html - | ssh desk 'cat >host.html'
  placer show --root sysfs-fixtures/ring-4")]
pub struct Show {
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write a picture of the host to FILE as SVG; - is stdout.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub svg: Option<PathBuf>,
    /// Write a web page with all figures to FILE; - is stdout.
    ///
    /// The page needs no network.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub html: Option<PathBuf>,
    /// Print hwloc's devices, caches and memory attributes too.
    #[arg(long)]
    pub devices: bool,
    #[command(flatten)]
    pub host: HostArgs,
}
