//! Masks of ids as sysfs writes them: `00000000,0000000f`. Source: `cpumap`, `thread_siblings`.

use super::list::MAX_ID;
use super::{ParseError, trim_end};
use crate::ids::Id;
use crate::idset::IdSet;

/// Reads a hexadecimal mask: words of up to 32 bits, highest first, with commas between; old
/// kernels write one long word. An empty text is the empty set.
///
/// Errors: a character that is neither a hex digit nor a comma, an id past [`MAX_ID`].
///
/// ```
/// use placer_engine::{CpuSet, parse};
/// let cpus: CpuSet = parse::mask::parse(b"00000001,0000000f\n\0")?;
/// assert_eq!(cpus.to_string(), "0-3,32");
/// # Ok::<(), parse::ParseError>(())
/// ```
pub fn parse<T: Id>(text: &[u8]) -> Result<IdSet<T>, ParseError> {
    let body = trim_end(text);
    let mut set = IdSet::new();
    let mut id = 0;
    let words = body.split(|&b| b == b',').count();
    let mut end = body.len();
    for (position, word) in body.rsplit(|&b| b == b',').enumerate() {
        let start = end - word.len();
        if words > 1 && !(1..=8).contains(&word.len()) {
            return Err(ParseError::at(body, start, "a word of 1 to 8 hex digits"));
        }
        let mut bit = if words > 1 { u64::try_from(position).unwrap_or(u64::MAX) * 32 } else { id };
        for (back, &digit) in word.iter().rev().enumerate() {
            let Some(value) = char::from(digit).to_digit(16) else {
                let offset = end - 1 - back;
                return Err(ParseError::at(body, offset, "a hex digit or a comma"));
            };
            for b in 0..4 {
                if value & (1 << b) != 0 {
                    match u32::try_from(bit + b) {
                        Ok(id) if id <= MAX_ID => set.insert(T::from_number(id)),
                        _ => {
                            let wanted = format!("no bit past {MAX_ID}");
                            return Err(ParseError::at(body, start, wanted));
                        }
                    };
                }
            }
            bit += 4;
        }
        id = bit;
        end = start.saturating_sub(1);
    }
    Ok(set)
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
    fn good_and_odd_masks() {
        for (text, set) in [
            ("", ""),
            ("\n", ""),
            ("0", ""),
            ("f\n", "0-3"),
            ("ffffffff,00000000\n", "32-63"),
            ("1,00000000,00000001\n\0", "0,64"),
            ("F", "0-3"),
            ("100000000000000000000000f", "0-3,96"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(set), "{text:?}");
        }
    }

    #[test]
    fn bad_masks_say_where() {
        for (text, error) in [
            ("0x1", "1:2: expected a hex digit or a comma, found \"x1\""),
            ("1,,1", "1:3: expected a word of 1 to 8 hex digits, found \",1\""),
            ("1,123456789", "1:3: expected a word of 1 to 8 hex digits, found \"123456789\""),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text:?}");
        }
        let long = format!("f{}", "0".repeat(400_000));
        assert!(read(&long).is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_the_list(ids in prop::collection::btree_set(0u32..700, 0..60)) {
            let words = (0..22).rev().map(|w| {
                format!("{:08x}", (0..32).filter(|b| ids.contains(&(w * 32 + b)))
                                         .fold(0u32, |m, b| m | 1 << b))
            }).collect::<Vec<_>>();
            let wanted: CpuSet = ids.iter().copied().map(CpuId).collect();
            prop_assert_eq!(parse(words.join(",").as_bytes()), Ok(wanted.clone()));
            prop_assert_eq!(parse(words.concat().as_bytes()), Ok(wanted));
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<CpuId>(&bytes);
        }
    }
}
