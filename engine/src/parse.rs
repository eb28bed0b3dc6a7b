//! Text of kernel files to values: one file for each kind of file, no file is opened here.
//!
//! Parsers take bytes, since nothing promises that a file is UTF-8, and never guess: what is not
//! understood is a [`ParseError`] that says where, what was wanted and what was found.

pub mod cgroup;
pub mod distance;
pub mod list;
pub mod mask;
pub mod meminfo;
pub mod stat;
pub mod zoneinfo;

use std::fmt;

/// Why a text could not be read.
///
/// Shown as `1:3: expected a number, found "x-4"`: line and byte in it, both from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    line: usize,
    column: usize,
    expected: String,
    found: String,
}

impl ParseError {
    /// Makes the error for the byte at `offset` of `text`.
    pub(crate) fn at(text: &[u8], offset: usize, expected: impl Into<String>) -> Self {
        let offset = offset.min(text.len());
        let (before, rest) = text.split_at(offset);
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        Self {
            line: 1 + before.iter().filter(|&&b| b == b'\n').count(),
            column: 1 + offset - line_start,
            expected: expected.into(),
            found: excerpt(rest),
        }
    }

    /// Returns the line the error is in, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns the byte of the line the error is at, from 1.
    pub fn column(&self) -> usize {
        self.column
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, expected, found } = self;
        write!(f, "{line}:{column}: expected {expected}, found {found}")
    }
}

impl std::error::Error for ParseError {}

/// Returns the first bytes of a text, quoted and made printable; `nothing` at its end.
pub fn excerpt(text: &[u8]) -> String {
    const SHOWN: usize = 24;
    let line = text.split(|&b| b == b'\n').next().unwrap_or_default();
    match (line.is_empty(), text.is_empty()) {
        (_, true) => "nothing".to_owned(),
        (true, false) => "the end of the line".to_owned(),
        _ if line.len() <= SHOWN => format!("\"{}\"", line.escape_ascii()),
        _ => format!("\"{}...\"", line[..SHOWN].escape_ascii()),
    }
}

/// Reads the decimal number at the start of a text: its value and how many digits it has.
/// `None` without a digit, or past 64 bits.
pub(crate) fn number(text: &[u8]) -> Option<(u64, usize)> {
    let mut value: u64 = 0;
    let mut digits = 0;
    for &b in text {
        if !b.is_ascii_digit() {
            break;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(b - b'0'))?;
        digits += 1;
    }
    (digits > 0).then_some((value, digits))
}

/// Returns the text without the line end, NUL bytes and blanks behind it: some kernels end masks
/// with a NUL byte, and recordings keep it.
pub(crate) fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !matches!(b, 0 | b'\n' | b'\r' | b' ' | b'\t'));
    &text[..end.map_or(0, |at| at + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_line_and_byte_and_show_a_short_printable_piece() {
        let e = ParseError::at(b"one\ntwo \xff\x00three", 8, "a number");
        assert_eq!(e.to_string(), r#"2:5: expected a number, found "\xff\x00three""#);
        let e = ParseError::at(b"x", 400, "more");
        assert_eq!(e.to_string(), "1:2: expected more, found nothing");
        let e = ParseError::at(&[b'a'; 100], 0, "less");
        assert_eq!(e.to_string(), r#"1:1: expected less, found "aaaaaaaaaaaaaaaaaaaaaaaa...""#);
    }

    #[test]
    fn numbers_end_at_64_bits() {
        assert_eq!(number(b"18446744073709551615 "), Some((u64::MAX, 20)));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"-1"), None);
    }
}
