//! The name of a guest.

use std::fmt;
use std::str::FromStr;

/// The name of a guest. It becomes part of file names and of options of other programs.
///
/// 1 to [`MAX`](Self::MAX) bytes, no slash, no control character, neither `.` nor `..`.
///
/// ```
/// use placer_launcher::guest::GuestName;
/// let name: GuestName = "db 1".parse()?;
/// assert_eq!(name.as_str(), "db 1");
/// assert_eq!(
///     "a/b".parse::<GuestName>().unwrap_err().to_string(),
///     "expected a name without a slash, found \"a/b\"",
/// );
/// # Ok::<(), placer_launcher::guest::BadName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestName(String);

impl GuestName {
    /// The most bytes of a name. With what a control group adds it stays below the 255 of a file.
    pub const MAX: usize = 128;

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GuestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text is no name for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName {
    found: String,
    expected: String,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = placer_engine::parse::excerpt(self.found.as_bytes());
        write!(f, "expected {}, found {found}", self.expected)
    }
}

impl std::error::Error for BadName {}

impl FromStr for GuestName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let expected = if text.is_empty() {
            "a name".to_owned()
        } else if text.len() > Self::MAX {
            format!("a name of at most {} bytes", Self::MAX)
        } else if text.contains('/') {
            "a name without a slash".to_owned()
        } else if text.contains(char::is_control) {
            "a name without control characters".to_owned()
        } else if matches!(text, "." | "..") {
            "a name that is no directory".to_owned()
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(BadName { found: text.to_owned(), expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_not_be_file_names_are_refused() {
        for (text, error) in [
            ("", "expected a name, found nothing"),
            ("..", "expected a name that is no directory, found \"..\""),
            ("a\u{7}", "expected a name without control characters, found \"a\\x07\""),
        ] {
            assert_eq!(text.parse::<GuestName>().unwrap_err().to_string(), error);
        }
        assert!("x".repeat(GuestName::MAX).parse::<GuestName>().is_ok());
        assert!("x".repeat(GuestName::MAX + 1).parse::<GuestName>().is_err());
    }
}
