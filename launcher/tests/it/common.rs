//! What the tests of definitions share.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why")]
#![allow(dead_code, reason = "not every test uses all of it")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use placer_launcher::domain::Domain;

/// Validates a text against the shipped schema with xmllint: its complaint, if any.
pub(crate) fn invalid(text: &str) -> Option<String> {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/domain.rng");
    let mut child = Command::new("xmllint")
        .args(["--noout", "--nonet", "--relaxng", schema, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    // 3 and 4: the text does not validate, 1: it is no XML; anything else is about the schema.
    assert!(matches!(output.status.code(), Some(0 | 1 | 3 | 4)), "{complaint}");
    (!output.status.success()).then_some(complaint)
}

/// Reads a definition, or returns the error as text.
pub(crate) fn read(text: &str) -> Result<Domain, String> {
    Domain::parse("d.xml", text.as_bytes())
        .map(|read| read.value)
        .map_err(|error| error.to_string())
}
