//! `placer balance`.

use std::path::PathBuf;
use std::time::Duration;

use placer_engine::{Bytes, Request};

use crate::settings::duration;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Print which guests are worth moving, and move them

Examples:
  placer balance                      moves, their gains and costs
  placer balance --apply              the same, carried out
  placer balance --undo               the last moves, taken back
  placer balance --make-room 16:64G   the least to move so that this fits")]
#[command(after_long_help = "\
Gains and costs are in CPU seconds over the next 30 minutes, or over the guest's
age if it is younger; moving 1 GiB costs 1 CPU second. A move is listed if it
gains 3 times its cost and 2 % of the time of the guests it moves, slows no
other guest by more than 2 %, and fits in free memory at each step. A plan moves
up to 8 guests and 128 GiB.

Guests are the owners of claims and virtual machines. Those that are bound by
other programs, use huge pages or are younger than a minute are left alone. Only
root sees where the memory of other users' guests is.

--make-room takes CPUS[:MEMORY] as placer advise does, and finds the fewest
nodes that can hold it. Exit status: 1 if no moves make room.

--apply moves threads, then memory in chunks, and lets claims follow. A guest that
is slower after its move than before is put back and left alone for an hour. If
the command is killed, guests keep running: the next --apply finishes the moves,
--undo takes them back. Exit status: 1 if a guest was not moved or was put back.")]
pub struct Balance {
    /// Print what to move so that a guest of this size fits.
    #[arg(long, value_name = "CPUS[:MEMORY]", env = "PLACER_MAKE_ROOM", hide_env = true)]
    pub make_room: Option<Request>,
    /// Measure for this long what guests do; 0: their average since they started.
    #[arg(long, value_name = "DURATION", env = "PLACER_WINDOW", hide_env = true)]
    #[arg(default_value = "2s", value_parser = duration::parse_hold_or_zero)]
    pub window: Duration,
    /// Use the nodes of the host recorded in DIR; the guests run here.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub root: Option<PathBuf>,
    /// Move the guests.
    #[arg(long, conflicts_with_all = ["undo", "root"])]
    pub apply: bool,
    /// Put the guests of the last moves back where they were.
    #[arg(long, conflicts_with_all = ["make_room", "root"])]
    pub undo: bool,
    /// Move at most this much memory a second, in MiB or with a suffix.
    #[arg(long, value_name = "MEMORY", value_parser = rate, default_value = "512M")]
    #[arg(env = "PLACER_RATE", hide_env = true)]
    pub rate: Bytes,
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<Bytes, String> {
    let rate = Request::memory_of(text).map_err(|error| error.to_string())?;
    let least = Bytes::new(1 << 20);
    if rate < least { Err("expected at least 1 MiB a second".to_owned()) } else { Ok(rate) }
}
