//! `placer schema`.

use clap::ValueEnum;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Print the JSON Schema of a command's --json output

Examples:
  placer schema advise
  placer schema launch
  placer schema together
  placer schema show
  placer schema replay
  placer schema balance
  placer schema manage")]
pub struct Schema {
    /// Command whose output the schema describes.
    pub of: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// placer advise --json.
    Advise,
    /// placer launch --json.
    Launch,
    /// placer advise --together --json.
    Together,
    /// placer fit --json.
    Fit,
    /// placer show --json.
    Show,
    /// placer replay --json.
    Replay,
    /// placer balance --apply --json, and --undo --json.
    Balance,
    /// placer replay --manage LIST --json.
    Manage,
}
