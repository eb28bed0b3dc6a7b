//! Lists of ids as sysfs writes them: `0-3,8`. Source: `cpulist`, `online`, `possible`, ...

use std::ops::Range;
use std::str::FromStr;

use super::{ParseError, number, trim_end};
use crate::ids::Id;
use crate::idset::IdSet;

/// The highest id that is believed. No kernel has a million CPUs or nodes, and what is done for
/// each id of a set must not be driven by a damaged file.
pub const MAX_ID: u32 = (1 << 20) - 1;

/// Reads a list of ids: numbers and ascending ranges with commas between. An empty text or a lone
/// line end is the empty set. Overlaps and any order are accepted, as the kernel does.
///
/// Errors: anything else: `3-`, `5-2`, `1,,2`, `0 1`, an id past [`MAX_ID`].
///
/// ```
/// use placer_engine::{NodeSet, parse};
/// let nodes: NodeSet = parse::list::parse(b"0-1,8\n")?;
/// assert_eq!(nodes.to_string(), "0-1,8");
/// let error = parse::list::parse::<placer_engine::CpuId>(b"0-3,5-2\n").unwrap_err();
/// assert_eq!(error.to_string(), r#"1:5: expected a range that ascends, found "5-2""#);
/// # Ok::<(), parse::ParseError>(())
/// ```
pub fn parse<T: Id>(text: &[u8]) -> Result<IdSet<T>, ParseError> {
    parse_at(text, 0..text.len())
}

/// Reads a list as the kernel writes it: `0-3,8`; an empty text is the empty set.
///
/// Errors: anything else: `3-`, `5-2`, `1,,2`, `0 1`, an id of 2^20 or more.
impl<T: Id> FromStr for IdSet<T> {
    type Err = ParseError;

    fn from_str(list: &str) -> Result<Self, ParseError> {
        parse(list.as_bytes())
    }
}

/// Reads a list that is a piece of a larger text, so that errors say where in that text they are.
pub(crate) fn parse_at<T: Id>(text: &[u8], piece: Range<usize>) -> Result<IdSet<T>, ParseError> {
    let body = &text[..piece.start + trim_end(&text[piece.clone()]).len()];
    let mut at = piece.start;
    let mut ranges = Vec::new();
    if at == body.len() {
        return Ok(IdSet::new());
    }
    loop {
        let start = at;
        let first = id(body, &mut at)?;
        let mut last = first;
        if body.get(at) == Some(&b'-') {
            at += 1;
            last = id(body, &mut at)?;
            if last < first {
                return Err(ParseError::at(body, start, "a range that ascends"));
            }
        }
        ranges.push((first, last));
        match body.get(at) {
            None => return Ok(IdSet::from_ranges(ranges)),
            Some(b',') => at += 1,
            Some(_) => return Err(ParseError::at(body, at, "a comma or the end of the list")),
        }
    }
}

fn id(body: &[u8], at: &mut usize) -> Result<u32, ParseError> {
    let rest = &body[*at..];
    match number(rest) {
        Some((value, digits)) => match u32::try_from(value) {
            Ok(id) if id <= MAX_ID => {
                *at += digits;
                Ok(id)
            }
            _ => Err(ParseError::at(body, *at, format!("an id of at most {MAX_ID}"))),
        },
        None if rest.first().is_some_and(u8::is_ascii_digit) => {
            Err(ParseError::at(body, *at, format!("an id of at most {MAX_ID}")))
        }
        None => Err(ParseError::at(body, *at, "a number")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::CpuId;
    use crate::idset::CpuSet;

    fn read(text: &str) -> Result<String, String> {
        parse::<CpuId>(text.as_bytes()).map(|s| s.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn good_and_odd_lists() {
        for (text, set) in [
            ("", ""),
            ("\n", ""),
            ("0\n", "0"),
            ("0-3,5\r\n", "0-3,5"),
            ("5,0-3\n\0", "0-3,5"),
            ("0-3,2-7", "0-7"),
            ("007", "7"),
            ("1048575", "1048575"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(set), "{text:?}");
        }
    }

    #[test]
    fn bad_lists_say_where() {
        for (text, error) in [
            ("3-", "1:3: expected a number, found nothing"),
            ("5-2", "1:1: expected a range that ascends, found \"5-2\""),
            ("1,,2", "1:3: expected a number, found \",2\""),
            ("0 1", "1:2: expected a comma or the end of the list, found \" 1\""),
            ("-3", "1:1: expected a number, found \"-3\""),
            ("0-4294967295", "1:3: expected an id of at most 1048575, found \"4294967295\""),
            (
                "99999999999999999999999999",
                "1:1: expected an id of at most 1048575, found \"999999999999999999999999...\"",
            ),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_list_of_many_pieces_is_read_in_any_order() {
        let list = |ids: &mut dyn Iterator<Item = u32>| {
            ids.map(|i| (2 * i).to_string()).collect::<Vec<_>>().join(",")
        };
        for text in [list(&mut (0..150_000)), list(&mut (0..150_000).rev())] {
            assert_eq!(parse::<CpuId>(text.as_bytes()).map(|s| s.len()), Ok(150_000));
        }
    }

    proptest! {
        #[test]
        fn printed_sets_read_back(ids in prop::collection::vec(0..=MAX_ID, 0..50)) {
            let set: CpuSet = ids.into_iter().map(CpuId).collect();
            prop_assert_eq!(parse(set.to_string().as_bytes()), Ok(set));
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<CpuId>(&bytes);
        }

        #[test]
        fn near_lists_are_answered(text in "[0-9,\\-\n ]{0,40}") {
            if let Ok(set) = parse::<CpuId>(text.as_bytes()) {
                prop_assert_eq!(parse(set.to_string().as_bytes()), Ok(set));
            }
        }
    }
}
