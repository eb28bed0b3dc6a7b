//! `placer balance`.

use std::path::PathBuf;
use std::time::Duration;

use placer_engine::Request;

use crate::settings::duration;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Print which guests are worth moving to other nodes

Examples:
  placer balance                      moves, their gains and costs
  placer balance --window 1m          by what guests do in a minute
  placer balance --make-room 16:64G   the least to move so that this fits
  placer balance --json")]
#[command(after_long_help = "\
Nothing is moved. Gains and costs are in CPU seconds over the next 30 minutes,
or over the guest's age if it is younger; moving 1 GiB costs 1 CPU second. A
move is listed if it gains 3 times its cost and 2 % of the time of the guests
it moves, slows no other guest by more than 2 %, and fits in free memory at
each step. A plan moves up to 8 guests and 128 GiB.

Guests are the owners of claims and virtual machines. Those that are bound by
other programs, use huge pages or are younger than a minute are left alone. Only
root sees where the memory of other users' guests is.

--make-room takes CPUS[:MEMORY] as placer advise does, and finds the fewest
nodes that can hold it. Exit status: 1 if no moves make room.")]
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
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}
