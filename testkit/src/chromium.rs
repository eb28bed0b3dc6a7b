//! A headless Chromium that resolves no name: what a page becomes in it, and whom it asks.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::command::{run, text};

/// Seconds that a start may take: on a machine that is busy with other things, some tens.
const LONGEST: &str = "300";

pub struct Chromium {
    program: &'static str,
    profile: tempfile::TempDir,
}

/// What was seen of a page.
pub struct Seen {
    /// The page when it has loaded, and its scripts have run.
    pub dom: String,
    /// What the browser said meanwhile, the console among it.
    pub log: String,
    /// Whom the page asked for something. What the browser asks its maker for itself is not in it.
    pub asked: BTreeSet<String>,
}

impl Chromium {
    /// Finds the program; the test needs `chromium`.
    pub fn find() -> Self {
        let names = ["chromium", "chromium-browser", "google-chrome", "chrome-headless-shell"];
        let there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
        let program = names.into_iter().find(there).expect("Chromium");
        Self { program, profile: tempfile::tempdir().expect("a directory") }
    }

    /// Loads a page. A browser that did not get as far as that, for reasons of its own, is started once
    /// more.
    pub fn load(&self, page: &Path, more: &[&str]) -> Seen {
        let net = self.profile.path().join("net.json");
        let once = || {
            let _ = std::fs::remove_file(&net);
            let mut command = Command::new("timeout");
            command.args([LONGEST, self.program, "--headless", "--no-sandbox", "--disable-gpu"]);
            command.args(["--no-first-run", "--disable-background-networking", "--disable-sync"]);
            command.args(["--disable-component-update", "--disable-quic", "--dump-dom"]);
            // The kernel's shared memory is small in a container.
            command.args(["--disable-dev-shm-usage", "--enable-logging=stderr"]);
            command.arg("--host-resolver-rules=MAP * ~NOTFOUND").args(more);
            command.arg(format!("--user-data-dir={}", self.profile.path().join("own").display()));
            command.arg(format!("--log-net-log={}", net.display()));
            run(command.arg(format!("file://{}", page.display())))
        };
        let mut output = once();
        if !output.status.success() || output.stdout.is_empty() {
            eprintln!("Chromium ended with {}, again: {}", output.status, text(&output.stderr));
            output = once();
        }
        assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
        let log = std::fs::read_to_string(&net).expect("a log of the network");
        Seen { dom: text(&output.stdout), log: text(&output.stderr), asked: asked(&log) }
    }
}

/// Returns what pages asked for, from a log with an event in each line.
fn asked(log: &str) -> BTreeSet<String> {
    let event = |line: &str| serde_json::from_str(line.trim_end_matches([',', ']'])).ok();
    let events = log.lines().filter_map(event);
    let of_page = events.filter_map(|event: serde_json::Value| {
        let (from, url) =
            (event["params"]["initiator"].as_str()?, event["params"]["url"].as_str()?);
        (from != "not an origin" && !url.starts_with("file:")).then(|| url.to_owned())
    });
    of_page.collect()
}
