//! The recorded answers of the real numads, tests/golden, with the machines they are about.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::project;

/// The machines, each a directory that `--root` reads.
pub(crate) struct Machines(tempfile::TempDir);

impl Machines {
    /// Unpacks all of them.
    pub(crate) fn unpack() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["machines-2015.txt", "machines-2025.txt"] {
            let packed = std::fs::read(file(name)).expect("the machines are part of the project");
            unpack(&packed, dir.path());
        }
        Self(dir)
    }

    /// Returns the directories of all machines, sorted.
    pub(crate) fn all(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.path()).expect("unpacked");
        let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        all.sort();
        all
    }

    /// Returns the directory of the machine that a row is about.
    pub(crate) fn of(&self, row: &Value) -> PathBuf {
        self.0.path().join(row["machine"].as_str().expect("a machine"))
    }
}

/// Returns the recorded answers of a version.
pub(crate) fn answers(version: &str) -> Vec<Value> {
    let name = format!("answers-{version}.jsonl");
    let rows = std::fs::read_to_string(file(&name)).expect("the answers are part of the project");
    rows.lines().map(|row| serde_json::from_str(row).expect("a row")).collect()
}

/// Returns the arguments of a row, after the program's name.
pub(crate) fn arguments(row: &Value) -> Vec<&str> {
    row["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect()
}

/// Returns whether numad itself has no answer: it crashes, or answers out of foreign memory.
pub(crate) fn is_undefined(row: &Value) -> bool {
    row["undefined"].as_bool() == Some(true)
}

fn file(name: &str) -> PathBuf {
    project().join("tests/golden").join(name)
}

/// Writes the files of a text: for each a line `FILE BYTES PATH`, its bytes, and a newline.
fn unpack(mut packed: &[u8], top: &Path) {
    while let Some(end) = packed.iter().position(|&byte| byte == b'\n') {
        let head = std::str::from_utf8(&packed[..end]).expect("a line");
        let mut words = head.splitn(3, ' ').skip(1);
        let size: usize = words.next().and_then(|size| size.parse().ok()).expect("a size");
        let path = top.join(words.next().expect("a path"));
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, &packed[end + 1..end + 1 + size]).expect("written");
        packed = &packed[end + 2 + size..];
    }
}
