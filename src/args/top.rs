//! `placer top`.

use std::path::PathBuf;
use std::time::Duration;

use super::Choice;
use crate::duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer top                   this host, read anew each second
  placer top 4:8G              and where a guest of 4 CPUs and 8 GiB would run
  placer top --interval 5s
  placer top --root DIR        a machine saved with placer record

Keys: ? lists them; q leaves. A terminal of 80 columns and 24 lines is enough.
What is drawn is plain ASCII where the locale is not UTF-8, and without colour
where NO_COLOR is set. placer show prints the same once, for pipes and files.")]
pub(crate) struct Top {
    /// A request to begin with: CPUs and memory, as in 4:8G.
    pub(crate) request: Option<String>,
    /// Shows the machine recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// The time between two readings, from 100ms to 1m.
    #[arg(long, value_name = "DURATION", env = "PLACER_INTERVAL", hide_env_values = true)]
    #[arg(default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    #[command(flatten)]
    pub(crate) choice: Choice,
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("expected from 100ms to 1m, found {text:?}"))
    }
}
