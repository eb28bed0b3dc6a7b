//! How far a long replay is: one line on the terminal, gone when it is done.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use placer::settings::variables;

/// A line on standard error.
pub(super) struct Progress {
    all: u64,
    unit: &'static str,
    bold: bool,
    next: Duration,
    shown: bool,
}

/// Nothing is shown of what takes no longer.
const AT_ONCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(200);
const WIDTH: usize = 30;

impl Progress {
    /// Returns a line for so many arrivals, or what else passes; `None` where nobody would see it.
    pub(super) fn new(all: u64, unit: &'static str) -> Option<Self> {
        let plain = variables::value("NO_COLOR").is_some();
        let seen =
            io::stderr().is_terminal() && variables::value("TERM").is_none_or(|t| t != "dumb");
        seen.then_some(Self { all, unit, bold: !plain, next: AT_ONCE, shown: false })
    }

    /// Shows how far it is, now and then.
    pub(super) fn show(&mut self, passed: u64, time: Duration) {
        if time < self.next {
            return;
        }
        self.next = time + PAUSE;
        self.shown = true;
        let line = line(passed, self.all, self.unit, time);
        let (on, off) = if self.bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        let _ = write!(io::stderr().lock(), "\r\x1b[K{on}{line}{off}");
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// Returns the line: a bar, what has passed, and how long it will take.
#[expect(clippy::cast_precision_loss, reason = "a share of guests")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a bar")]
fn line(passed: u64, all: u64, unit: &str, time: Duration) -> String {
    let part = if all > 0 { (passed as f64 / all as f64).min(1.0) } else { 1.0 };
    let full = (part * WIDTH as f64) as usize;
    let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
    let left = if part > 0.001 {
        let seconds = (time.as_secs_f64() / part * (1.0 - part)).ceil() as u64;
        format!("{}:{:02} left", seconds / 60, seconds % 60)
    } else {
        String::new()
    };
    format!("[{bar}] {:3.0} %  {passed}/{all} {unit}  {left}", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_it_is() {
        let line =
            |passed, seconds| line(passed, 14_000_000, "arrivals", Duration::from_secs(seconds));
        assert_eq!(line(0, 1), "[..............................]   0 %  0/14000000 arrivals  ");
        assert_eq!(
            line(3_500_000, 30),
            "[#######.......................]  25 %  3500000/14000000 arrivals  1:30 left"
        );
        assert_eq!(
            line(14_000_000, 120),
            "[##############################] 100 %  14000000/14000000 arrivals  0:00 left"
        );
        assert!(line(13_999_999, 7_000).len() <= 80);
    }
}
