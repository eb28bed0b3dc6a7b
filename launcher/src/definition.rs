//! Shared by both guest definitions: errors with line and column, lists of ids, suggestions for
//! misspelt words, and a reader with a size limit.

use std::fmt;
use std::io::{self, Read as _};

use placer_engine::parse::{excerpt, list::MAX_ID};
use placer_engine::{Id, IdSet};

/// Why a text is no definition of a guest: which file, where, what was seen and what was wanted.
///
/// One line: `web.xml:12:5: <vcpu>: attribute cpuset: expected ..., found ...`. Line and column
/// (in characters) are from 1. What is wrong with a file as a whole has neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionError {
    file: String,
    place: Option<Place>,
    what: String,
}

impl DefinitionError {
    pub(crate) fn new(file: &str, place: Option<Place>, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place, what: what.into() }
    }

    /// Returns the line the error is in, from 1.
    pub fn line(&self) -> Option<usize> {
        self.place.map(|place| place.line)
    }

    /// Returns the character of the line the error is at, from 1.
    pub fn column(&self) -> Option<usize> {
        self.place.map(|place| place.column)
    }
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file may be called anything, and an error is one line.
        let file = self.file.escape_debug();
        match self.place {
            Some(Place { line, column }) => write!(f, "{file}:{line}:{column}: {}", self.what),
            None => write!(f, "{file}: {}", self.what),
        }
    }
}

impl std::error::Error for DefinitionError {}

/// Where in a text something is, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    /// Returns the line, from 1.
    pub(crate) fn line(self) -> usize {
        self.line
    }

    /// Returns the place of the byte at `offset`.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        // The first byte of each character is not of the form 10xxxxxx.
        let characters = before[start..].iter().filter(|&&b| b & 0xc0 != 0x80).count();
        Self { line: 1 + before.iter().filter(|&&b| b == b'\n').count(), column: 1 + characters }
    }
}

/// Checks that a definition is text and not longer than `limit` bytes.
pub(crate) fn text<'a>(
    file: &str,
    bytes: &'a [u8],
    limit: usize,
) -> Result<&'a str, DefinitionError> {
    if bytes.len() > limit {
        let what = format!("longer than {limit} bytes: the limit of a guest definition");
        return Err(DefinitionError::new(file, None, what));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (good, bad) = bytes.split_at(error.valid_up_to());
        // Bytes up to here were found valid.
        let place = Place::of(&String::from_utf8_lossy(good), good.len());
        let what = format!("expected UTF-8, found {}", excerpt(bad));
        DefinitionError::new(file, Some(place), what)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads a definition to its end, but at most one byte more than `limit`: the readers of
/// definitions say that it is too long, and it never fills the memory.
///
/// ```
/// use placer_launcher::definition::read_at_most;
/// assert_eq!(read_at_most(&b"0123456789"[..], 4)?, b"01234");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_at_most(reader: impl io::Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a list of ids as libvirt writes them: `N`, `N-M` and `^N` with commas between, in this
/// order, where `^N` takes N out again. Blanks around items are skipped.
///
/// Errors, in the words "expected ..., found ...": `^N-M`, a set that is empty, an id past a
/// million, a list of more than 16 KiB, anything else.
///
/// ```
/// use placer_engine::CpuId;
/// use placer_launcher::definition::parse_list;
/// assert_eq!(parse_list::<CpuId>("1-10,^7,^8").map(|l| l.to_string()).as_deref(), Ok("1-6,9-10"));
/// assert!(parse_list::<CpuId>("0,^0").is_err());
/// ```
pub fn parse_list<T: Id>(list: &str) -> Result<IdSet<T>, String> {
    // Each ^N costs a look at the whole set.
    if list.len() > 16 << 10 {
        return Err(format!("expected a list of at most 16 KiB, found {} bytes", list.len()));
    }
    let mut set = IdSet::new();
    for item in list.split(',') {
        let item = item.trim_matches([' ', '\t', '\r', '\n']);
        let found = excerpt(item.as_bytes());
        if let Some(out) = item.strip_prefix('^') {
            if out.contains('-') {
                return Err(format!("expected ^ and one number, found {found}"));
            }
            let out = T::from_number(id(out)?);
            if set.contains(out) {
                set = set.difference(&std::iter::once(out).collect());
            }
        } else if let Some((first, last)) = item.split_once('-') {
            let (first, last) = (id(first)?, id(last)?);
            if last < first {
                return Err(format!("expected a range that ascends, found {found}"));
            }
            set.insert_range(T::from_number(first), T::from_number(last));
        } else {
            set.insert(T::from_number(id(item)?));
        }
    }
    if set.is_empty() {
        let found = excerpt(list.as_bytes());
        return Err(format!("expected a list that is not empty, found {found}"));
    }
    Ok(set)
}

fn id(digits: &str) -> Result<u32, String> {
    let known = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse::<u32>() {
        Ok(id) if known && id <= MAX_ID => Ok(id),
        _ if known => Err(format!("expected an id of at most {MAX_ID}, found {}", quoted(digits))),
        _ => Err(format!("expected a number N, a range N-M or ^N, found {}", quoted(digits))),
    }
}

/// Returns the start of a text in quotes, on one line.
pub(crate) fn quoted(text: &str) -> String {
    if text.is_empty() { "\"\"".to_owned() } else { excerpt(text.as_bytes()) }
}

/// Returns the known word that was most likely meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // A distance takes time for each pair of letters; nobody misspells that long.
    if word.len() > 64 {
        return None;
    }
    let written = word.to_lowercase().replace('-', "_");
    let near = known.iter().map(|name| (strsim::osa_distance(&written, name), *name));
    let (distance, name) = near.min_by_key(|&(distance, _)| distance)?;
    (distance <= (name.len() / 3).max(1)).then_some(name)
}

/// Returns whether a text is a word that can go into an option of QEMU as it is.
pub(crate) fn is_token(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use placer_engine::NodeId;
    use proptest::prelude::*;

    use super::*;

    fn read(list: &str) -> Result<String, String> {
        parse_list::<NodeId>(list).map(|set| set.to_string())
    }

    #[test]
    fn good_lists() {
        for (text, set) in [
            ("1-4,^3", "1-2,4"),
            ("0", "0"),
            (" 0 ,\n2-3 ", "0,2-3"),
            ("^3,1-4", "1-4"),
            ("5,1-2,2-3", "1-3,5"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(set), "{text:?}");
        }
    }

    #[test]
    fn bad_lists_say_what_was_wanted() {
        for (text, error) in [
            ("^1-2", "expected ^ and one number, found \"^1-2\""),
            ("0,^0", "expected a list that is not empty, found \"0,^0\""),
            ("", "expected a number N, a range N-M or ^N, found \"\""),
            ("1,", "expected a number N, a range N-M or ^N, found \"\""),
            ("3-1", "expected a range that ascends, found \"3-1\""),
            ("+3", "expected a number N, a range N-M or ^N, found \"+3\""),
            ("0-4294967295", "expected an id of at most 1048575, found \"4294967295\""),
            ("all", "expected a number N, a range N-M or ^N, found \"all\""),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn places_count_characters() {
        let text = "ab\ncäd";
        assert_eq!(Place::of(text, 0), Place { line: 1, column: 1 });
        assert_eq!(Place::of(text, 6), Place { line: 2, column: 3 });
        assert_eq!(Place::of(text, 99), Place { line: 2, column: 4 });
    }

    #[test]
    fn too_long_or_not_utf8() {
        let error = text("a\nb", b"12345", 4).unwrap_err().to_string();
        assert_eq!(error, "a\\nb: longer than 4 bytes: the limit of a guest definition");
        let error = text("f", b"ok\n\xff", 4).unwrap_err().to_string();
        assert_eq!(error, "f:2:1: expected UTF-8, found \"\\xff\"");
    }

    #[test]
    fn near_words() {
        let known = ["cpus", "memory", "cgroup_parent"];
        for (word, meant) in [
            ("cpu", Some("cpus")),
            ("Memory", Some("memory")),
            ("cgroup-parent", Some("cgroup_parent")),
            ("disk", None),
            ("name", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
    }

    proptest! {
        #[test]
        fn printed_sets_read_back(ids in prop::collection::vec(0..=MAX_ID, 1..50)) {
            let set: IdSet<NodeId> = ids.into_iter().map(NodeId).collect();
            prop_assert_eq!(parse_list(&set.to_string()), Ok(set));
        }

        #[test]
        fn any_text_is_answered(text in any::<String>(), near in "[0-9,^ -]{0,30}") {
            let _ = parse_list::<NodeId>(&text);
            let _ = parse_list::<NodeId>(&near);
        }
    }
}
