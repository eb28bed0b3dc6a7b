//! Id lists as numad reads them, which is not how the kernel means them.

use crate::ids::Id;
use crate::idset::IdSet;

/// Reads a list text by numad's rules: every character but a digit separates, a `-` passed on the
/// way to a number makes it the end of a range, a line end or NUL byte ends the list. Ids at or
/// above `capacity` vanish without a word.
///
/// So `3-1` is {3}, `-3` is {0..3}, `abc` is {}. Numbers wrap at 32 bits.
pub(super) fn parse<T: Id>(text: &[u8], capacity: u32) -> IdSet<T> {
    let mut set = IdSet::new();
    // Where the next range would start: one past the last id that was added.
    let mut start: i32 = 0;
    let mut at = 0;
    loop {
        let mut range = false;
        loop {
            match text.get(at) {
                None | Some(b'\n' | 0) => return set,
                Some(b'0'..=b'9') => break,
                Some(b'-') => range = true,
                Some(_) => {}
            }
            at += 1;
        }
        let mut number: i32 = 0;
        while let Some(digit @ b'0'..=b'9') = text.get(at) {
            number = number.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
            at += 1;
        }
        if !range {
            start = number;
        }
        if start <= number {
            add(&mut set, start, number, capacity);
            start = number.wrapping_add(1);
        }
    }
}

fn add<T: Id>(set: &mut IdSet<T>, first: i32, last: i32, capacity: u32) {
    // Negative ids are beyond the capacity as unsigned numbers.
    let Ok(last) = u32::try_from(last) else { return };
    let first = u32::try_from(first).unwrap_or(0);
    if let Some(end) = capacity.checked_sub(1) {
        set.insert_range(T::from_number(first), T::from_number(last.min(end)));
    }
}

/// numad's sets have room for the count rounded up to whole 64-bit words.
pub(super) fn room(count: u32) -> u32 {
    count.div_ceil(64).saturating_mul(64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CpuId;

    #[test]
    fn the_odd_forms_of_the_specification() {
        for (text, set) in [
            ("", ""),
            ("\n", ""),
            ("abc", ""),
            ("0-3,8\n9", "0-3,8"),
            ("3-1", "3"),
            ("3-1-5", "3-5"),
            ("-3", "0-3"),
            ("5-", "5"),
            ("0,2 4;6x8", "0,2,4,6,8"),
            ("0--15", "0-15"),
            ("16-40", "16-31"),
            ("70", ""),
            ("4294967297", "1"),
            ("2147483648", ""),
            // A range begins one past the last id that was added.
            ("2,4 -6", "2,4-6"),
            ("4294967295,-2", "0-2"),
            ("2147483647,-2", "0-2"),
            ("4294967290,-3", "0-3"),
        ] {
            assert_eq!(parse::<CpuId>(text.as_bytes(), 32).to_string(), set, "{text:?}");
        }
    }

    #[test]
    fn sets_have_room_for_whole_words() {
        let counts = [0, 1, 64, 65, 128, u32::MAX];
        assert_eq!(counts.map(room), [0, 64, 64, 128, 128, u32::MAX]);
    }
}
