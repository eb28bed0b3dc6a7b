//! What is wrong with a settings file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a settings file cannot be used: which one, where in it, what was wanted and what was found.
#[derive(Debug)]
pub struct SettingsError {
    path: PathBuf,
    fault: Fault,
}

/// What is wrong, and at which place of the text.
#[derive(Debug)]
pub(super) struct Fault {
    /// From 1; `None` when it is about the whole file.
    pub(super) line: Option<usize>,
    /// "expected ..., found ..."; empty when the kernel's answer says it all.
    pub(super) what: String,
    pub(super) cause: Option<io::Error>,
}

impl Fault {
    /// A fault of the whole file.
    pub(super) fn of_file(what: impl Into<String>) -> Self {
        Self { line: None, what: what.into(), cause: None }
    }

    /// A fault at a byte of the text.
    pub(super) fn at(text: &str, byte: usize, what: impl Into<String>) -> Self {
        let before = text.as_bytes().get(..byte).unwrap_or(text.as_bytes());
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        Self { line: Some(line), what: what.into(), cause: None }
    }

    pub(super) fn in_file(self, path: &Path) -> SettingsError {
        SettingsError { path: path.to_owned(), fault: self }
    }
}

impl From<io::Error> for Fault {
    fn from(cause: io::Error) -> Self {
        Self { line: None, what: String::new(), cause: Some(cause) }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the settings: {}", self.path.display())?;
        let Fault { line, what, .. } = &self.fault;
        if let Some(line) = line {
            write!(f, ":{line}")?;
        }
        if what.is_empty() { Ok(()) } else { write!(f, ": {what}") }
    }
}

impl std::error::Error for SettingsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.cause.as_ref().map(|cause| cause as _)
    }
}
