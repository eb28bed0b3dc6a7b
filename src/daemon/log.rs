//! The daemon's log: a line an event, with named fields, to stderr or through it to the journal.
//!
//! A thread writes, so that a slow reader of the log delays no answer. Lines that it cannot write in
//! time are counted, and the count is logged.

use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::report::escape::is_plain;
use crate::settings::Level;
use crate::settings::variables;

/// So many lines wait to be written.
const WAITING: usize = 1024;
/// So many lines of level info and below a second, in bursts of ten seconds' worth: journald itself
/// drops what is more than 10,000 in 30 s.
const A_SECOND: u64 = 200;
/// The same for claims and releases, apart: a flood of questions hides none of them.
const CLAIMS_A_SECOND: u64 = 100;
/// The longest value of a field, in bytes.
const LONGEST: usize = 1000;
/// How long the last lines are waited for.
const LAST: Duration = Duration::from_millis(100);

/// Takes events to be logged. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    lines: Sender<Line>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    level: AtomicU8,
    /// Lines that were not written.
    dropped: AtomicU64,
    /// Under systemd each line begins with its level.
    levels: bool,
    /// In a file it begins with the time.
    stamped: AtomicBool,
    since: Instant,
    /// Lines of level info and below that were let through: of claims, and of all else.
    claims: Bucket,
    others: Bucket,
}

impl Shared {
    fn new(level: Level, levels: bool) -> Self {
        Self {
            level: AtomicU8::new(level as u8),
            dropped: AtomicU64::new(0),
            levels,
            stamped: AtomicBool::new(false),
            since: Instant::now(),
            claims: Bucket::new(CLAIMS_A_SECOND),
            others: Bucket::new(A_SECOND),
        }
    }
}

/// Lines that were let through, of as many as time has earned.
#[derive(Debug)]
struct Bucket {
    a_second: u64,
    spent: AtomicU64,
}

impl Bucket {
    fn new(a_second: u64) -> Self {
        Self { a_second, spent: AtomicU64::new(0) }
    }

    /// Returns whether there is room for one more, so many seconds after the beginning.
    fn takes(&self, seconds: u64) -> bool {
        let earned = (seconds + 10) * self.a_second;
        let spent = self.spent.fetch_add(1, Ordering::Relaxed);
        let floor = earned.saturating_sub(10 * self.a_second);
        if spent >= earned {
            self.spent.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        if spent < floor {
            self.spent.fetch_max(floor, Ordering::Relaxed);
        }
        true
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A claim that was made or has ended: these are never left out for others.
    Claim,
    Other,
}

#[derive(Debug)]
enum Line {
    Text(String),
    /// All before it is written when this is dropped.
    End(Sender<()>),
}

impl Log {
    /// Starts the thread that writes. It ends with the last of the clones.
    ///
    /// Errors: there can be no thread.
    pub(crate) fn start(level: Level) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (lines, receiver) = bounded(WAITING);
        let thread = std::thread::Builder::new()
            .name("placer-log".to_owned())
            .stack_size(super::STACK)
            .spawn(move || write(&receiver))?;
        let shared = Shared::new(level, variables::value("JOURNAL_STREAM").is_some());
        Ok((Self { lines, shared: Arc::new(shared) }, thread))
    }

    /// Returns a log that nobody reads.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn silent() -> Self {
        let shared = Shared::new(Level::Debug, false);
        Self { lines: bounded(0).0, shared: Arc::new(shared) }
    }

    /// Sets up to which level is logged.
    pub(crate) fn set_level(&self, level: Level) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    /// Lets lines begin with the local time from now on, as in numad's log.
    pub fn stamp(&self) {
        self.shared.stamped.store(true, Ordering::Relaxed);
    }

    /// Logs what happened, as in `advised id=7 uid=1000 nodes=0-1`.
    pub(crate) fn tell(&self, level: Level, what: &str, fields: &[(&str, &dyn Display)]) {
        self.tell_about(About::Other, level, what, fields);
    }

    /// The same of what is counted apart.
    pub(crate) fn tell_about(
        &self,
        about: About,
        level: Level,
        what: &str,
        fields: &[(&str, &dyn Display)],
    ) {
        let shared = &self.shared;
        if level as u8 > shared.level.load(Ordering::Relaxed) {
            return;
        }
        let bucket = match about {
            About::Claim => &shared.claims,
            About::Other => &shared.others,
        };
        if level >= Level::Info && !bucket.takes(shared.since.elapsed().as_secs()) {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let dropped = shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.put(self.line(Level::Notice, "log lines left out", &[("count", &dropped)]));
        }
        self.put(self.line(level, what, fields));
    }

    fn put(&self, line: String) {
        if self.lines.try_send(Line::Text(line)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn line(&self, level: Level, what: &str, fields: &[(&str, &dyn Display)]) -> String {
        let mut line = String::new();
        let _ = if self.shared.stamped.load(Ordering::Relaxed) {
            write!(line, "{}: ", chrono::Local::now().format("%a %b %e %H:%M:%S %Y"))
        } else if self.shared.levels {
            write!(line, "<{}>", level as u8)
        } else {
            write!(line, "placer: ")
        };
        line.push_str(what);
        for (name, value) in fields {
            let _ = write!(line, " {name}=");
            put_value(&mut line, &value.to_string());
        }
        line.push('\n');
        line
    }

    /// Waits until all lines are written, and not long.
    pub(crate) fn flush(&self) {
        let (done, waited) = bounded(0);
        if self.lines.send_timeout(Line::End(done), LAST).is_ok() {
            let _ = waited.recv_timeout(LAST);
        }
    }
}

/// Writes a value so that a reader can tell where it ends, and nothing reaches a terminal that it acts
/// on. What is longer than anything of use is cut: a list in a stranger's request may have 64 KiB.
fn put_value(line: &mut String, value: &str) {
    let mut ends = value.char_indices().map(|(at, c)| at + c.len_utf8());
    let short = ends.rfind(|end| *end <= LONGEST).map_or(value, |end| &value[..end]);
    let plain = |c: char| is_plain(c) && !c.is_whitespace() && !matches!(c, '"' | '\\' | '=');
    if !value.is_empty() && short.len() == value.len() && value.chars().all(plain) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in short.chars() {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            c if is_plain(c) => line.push(c),
            c => line.extend(c.escape_default()),
        }
    }
    if short.len() < value.len() {
        line.push_str("...");
    }
    line.push('"');
}

fn write(lines: &Receiver<Line>) {
    for line in lines {
        match line {
            Line::Text(text) => {
                let _ = std::io::stderr().lock().write_all(text.as_bytes());
            }
            Line::End(done) => drop(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_where_they_end_and_move_no_cursor() {
        for (value, written) in [
            ("0-1,3", "0-1,3"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("x\u{1b}[2J\n", "\"x\\u{1b}[2J\\n\""),
            ("x\u{202e}y\u{2028}", "\"x\\u{202e}y\\u{2028}\""),
            ("say \"\\\"", "\"say \\\"\\\\\\\"\""),
        ] {
            let mut line = String::new();
            put_value(&mut line, value);
            assert_eq!(line, written);
        }
        let mut line = String::new();
        put_value(&mut line, &"ä".repeat(40_000));
        assert_eq!(line, format!("\"{}...\"", "ä".repeat(500)));
    }

    #[test]
    fn m10_a_line_has_its_fields_and_a_flood_is_counted_and_hides_no_claim() {
        let (lines, receiver) = bounded(WAITING);
        let shared = Shared::new(Level::Info, true);
        let log = Log { lines, shared: Arc::new(shared) };
        log.tell(Level::Debug, "not told", &[]);
        log.tell(Level::Info, "advised", &[("id", &7), ("program", &"a b")]);
        let Ok(Line::Text(line)) = receiver.try_recv() else { unreachable!("told") };
        assert_eq!(line, "<6>advised id=7 program=\"a b\"\n");
        for _ in 0..10_000 {
            log.tell(Level::Info, "advised", &[]);
            while receiver.len() > WAITING / 2 {
                let _ = receiver.try_recv();
            }
        }
        assert!(log.shared.dropped.load(Ordering::Relaxed) > 5_000);
        // Claims have room of their own.
        receiver.try_iter().for_each(drop);
        log.tell_about(About::Claim, Level::Info, "claimed", &[]);
        let last = receiver.try_iter().last();
        let Some(Line::Text(line)) = last else { unreachable!("told") };
        assert_eq!(line, "<6>claimed\n", "m10: a claim beside a flood");
        for _ in 0..100 {
            log.tell(Level::Info, "advised", &[]);
        }
        log.tell(Level::Error, "grave", &[]);
        let told: Vec<String> = receiver
            .try_iter()
            .filter_map(|line| match line {
                Line::Text(text) => Some(text),
                Line::End(_) => None,
            })
            .collect();
        assert_eq!(told.last().map(String::as_str), Some("<3>grave\n"));
        assert!(told[told.len() - 2].starts_with("<5>log lines left out count="));
    }
}
