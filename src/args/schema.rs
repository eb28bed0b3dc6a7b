//! `placer schema`.

use clap::ValueEnum;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer schema advise
  placer schema show
  placer schema replay")]
pub(crate) struct Schema {
    /// The command.
    pub(crate) of: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// placer advise --json.
    Advise,
    /// placer show --json.
    Show,
    /// placer replay --json.
    Replay,
}
