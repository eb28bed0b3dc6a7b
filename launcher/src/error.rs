//! What can go wrong with a launch.

use std::fmt;

use nix::errno::Errno;

/// Why a guest was not started: the step that failed, on what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchError {
    attempted: String,
    cause: Errno,
    /// What was seen, where it is more than an errno.
    seen: Option<String>,
    /// What the errno means here, where it means more than its text.
    hint: Option<String>,
}

impl LaunchError {
    pub(crate) fn new(attempted: impl Into<String>, cause: Errno) -> Self {
        Self { attempted: attempted.into(), cause, seen: None, hint: None }
    }

    /// Makes an error of what was seen, which `cause` tells in the kernel's terms.
    pub(crate) fn seen(
        attempted: impl Into<String>,
        cause: Errno,
        seen: impl Into<String>,
    ) -> Self {
        Self { attempted: attempted.into(), cause, seen: Some(seen.into()), hint: None }
    }

    /// Puts what was seen in the place of what the errno means.
    pub(crate) fn but_seen(self, seen: impl Into<String>) -> Self {
        Self { seen: Some(seen.into()), hint: None, ..self }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the kernel's answer.
    pub fn errno(&self) -> Errno {
        self.cause
    }
}

/// Returns another program's words for a line of ours: what could steer a terminal is escaped, and
/// they have an end.
pub(crate) fn words(text: &str) -> String {
    const MOST: usize = 300;
    let mut out = String::from("\"");
    for (at, c) in text.trim_end().chars().enumerate() {
        if at == MOST {
            out.push_str("...");
            break;
        }
        match c {
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out + "\""
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen.as_deref().unwrap_or_else(|| self.cause.desc());
        write!(f, "cannot {}: {seen}", self.attempted)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for LaunchError {}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_of_others_steer_no_terminal_and_end() {
        assert_eq!(
            words("Could not open '/a': No such file\n"),
            "\"Could not open '/a': No such file\""
        );
        assert_eq!(words("a\u{1b}[2J\u{9b}b"), "\"a\\u{1b}[2J\\u{9b}b\"");
        assert_eq!(words(&"x".repeat(1 << 20)).len(), 305);
    }
}
