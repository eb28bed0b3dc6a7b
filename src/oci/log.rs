//! The log of an OCI runtime: containerd, Docker and podman take the text of an error from it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use chrono::{SecondsFormat, Utc};
use nix::fcntl::OFlag;

use super::line::Line;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// A file that lines are added to, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    file: Option<PathBuf>,
    json: bool,
}

impl Log {
    /// Returns the log that a command line names. crun also knows logs that are no files.
    pub fn of(line: &Line) -> Self {
        let file = line.log.as_deref().and_then(|log| {
            let bytes = log.as_bytes();
            let elsewhere =
                [&b"journald:"[..], b"syslog:"].iter().any(|kind| bytes.starts_with(kind));
            let path = bytes.strip_prefix(b"file:").unwrap_or(bytes);
            (!elsewhere && !path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
        });
        Self { file, json: line.log_format.as_deref() == Some(OsStr::new("json")) }
    }

    /// Adds a line. What cannot be logged is not: standard error has it too.
    pub fn write(&self, severity: Severity, text: &str) {
        let Some(path) = &self.file else { return };
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let line = self.line(severity, &time, text);
        // A pipe that nobody reads is not waited for.
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let opened = File::options().append(true).create(true).custom_flags(flags).open(path);
        let _ = opened.and_then(|mut file| file.write_all(line.as_bytes()));
    }

    fn line(&self, severity: Severity, time: &str, text: &str) -> String {
        let level = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if self.json {
            let line = serde_json::json!({ "level": level, "msg": text, "time": time });
            format!("{line}\n")
        } else {
            format!("time={time:?} level={level} msg={text:?}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn log(line: &str) -> Log {
        Log::of(&Line::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>()))
    }

    #[test]
    fn both_formats() {
        let text = "\"x\" does not fit\n\u{1b}";
        let json = log("--log /l --log-format json state").line(Severity::Error, "T", text);
        assert_eq!(
            json,
            "{\"level\":\"error\",\"msg\":\"\\\"x\\\" does not fit\\n\\u001b\",\"time\":\"T\"}\n"
        );
        let plain = log("--log /l state").line(Severity::Warning, "T", text);
        assert_eq!(plain, "time=\"T\" level=warning msg=\"\\\"x\\\" does not fit\\n\\u{1b}\"\n");
    }

    #[test]
    fn files_and_what_is_none() {
        let file = |line| log(line).file.map(|file| file.display().to_string());
        assert_eq!(file("--log /a/b state").as_deref(), Some("/a/b"));
        assert_eq!(file("--log=file:/a state").as_deref(), Some("/a"));
        for none in ["state", "--log= state", "--log syslog:x state", "--log journald: state"] {
            assert_eq!(file(none), None, "{none}");
        }
    }
}
