//! `placer top`.

use std::path::PathBuf;
use std::time::Duration;

use super::Choice;
use crate::settings::duration;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Show the host live, and where a guest would run

Examples:
  placer top                   this host, updated every second
  placer top 4:8G              and where a guest of 4 CPUs and 8 GiB would run
  placer top --interval 5s
  placer top --root DIR        a recorded host")]
#[command(after_long_help = "\
Keys: ? lists them, q quits. A terminal of 80 columns and 24 lines is enough.
The screen is plain ASCII if the locale is not UTF-8, and has no colour if
NO_COLOR is set. placer show prints the same once, for pipes and files.")]
pub struct Top {
    /// Request to start with: CPUs and memory, such as 4:8G.
    pub request: Option<String>,
    /// Show the host recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Time between readings, from 100ms to 1m.
    #[arg(long, value_name = "DURATION", env = "PLACER_INTERVAL", hide_env = true)]
    #[arg(default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    #[command(flatten)]
    pub choice: Choice,
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("expected from 100ms to 1m, found {text:?}"))
    }
}
