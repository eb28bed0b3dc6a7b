//! Numbers in text as C's `strtol` and numad read them, with the wraps that numad's 32-bit
//! variables add.

/// What numad reads from the value of `-w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Hundredths of a CPU; wrapped to 32 bits, so negative for some large requests.
    pub(crate) cpus_hundredths: i32,
    /// MiB, 0 or more; none: the value says nothing of memory.
    pub(crate) megabytes: Option<i32>,
}

/// What numad reads from the value of `-i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intervals {
    /// Seconds; none: the value is a single number.
    pub(crate) min_s: Option<u32>,
    /// Seconds.
    pub(crate) max_s: u32,
}

/// Returns the number that `text` starts with as C's `atol` reads it.
///
/// That is white space, a sign, decimal digits; what follows is ignored. No digits: 0. Too large or
/// too small: the nearest `i64`.
pub(crate) fn atol(text: &[u8]) -> i64 {
    strtol(text).map_or(0, |number| number.value)
}

/// Returns the number that `text` starts with as glibc's `atoi` reads it: the low 32 bits of
/// [`atol`].
pub(crate) fn atoi(text: &[u8]) -> i32 {
    low_32_bits(atol(text))
}

/// Returns the CPUs and memory that `text`, the value of `-w` (`CPUS[.DECIMALS][:MB]`), asks numad
/// for.
///
/// None: numad refuses it. Much that looks wrong is accepted, since numad reads as far as it can
/// and ignores the rest: `4x:500` → 4 CPUs and no word of memory.
pub(crate) fn parse_amounts(text: &[u8]) -> Option<Amounts> {
    let Pair { first, decimals, second } = pair(text)?;
    let mut decimals = decimals.iter().map(|digit| i32::from(digit - b'0'));
    // The decimals are added even below zero: `-0.5` is half a CPU.
    let mut shift = |n: i32| n.wrapping_mul(10).wrapping_add(decimals.next().unwrap_or(0));
    let tenths = shift(first);
    Some(Amounts { cpus_hundredths: shift(tenths), megabytes: second })
}

/// Returns the intervals that `text`, the value of `-i` (`[MIN:]MAX`), asks for; none: numad
/// refuses it.
///
/// Decimals of the first number are skipped: `5.7:9` → 5 and 9 seconds.
pub(crate) fn parse_intervals(text: &[u8]) -> Option<Intervals> {
    let Pair { first, second, .. } = pair(text)?;
    let (min, max) = second.map_or((None, first), |second| (Some(first), second));
    // `natural` lets nothing negative through, so the absolute values are the values.
    Some(Intervals { min_s: min.map(i32::unsigned_abs), max_s: max.unsigned_abs() })
}

/// `FIRST[.DECIMALS][:SECOND]`.
struct Pair<'a> {
    first: i32,
    /// Digits only.
    decimals: &'a [u8],
    second: Option<i32>,
}

fn pair(text: &[u8]) -> Option<Pair<'_>> {
    let (first, rest) = natural(text)?;
    let (decimals, rest) = rest.strip_prefix(b".").map_or((&[][..], rest), split_digits);
    let second = match rest.strip_prefix(b":") {
        Some(rest) => Some(natural(rest)?.0),
        None => None,
    };
    Some(Pair { first, decimals, second })
}

/// Reads a number that is not negative once cut to 32 bits, which `-4294967295` is not: it is cut
/// to 1.
fn natural(text: &[u8]) -> Option<(i32, &[u8])> {
    let Number { value, in_range, rest } = strtol(text)?;
    let value = low_32_bits(value);
    (in_range && value >= 0).then_some((value, rest))
}

struct Number<'a> {
    /// The nearest `i64` if not `in_range`.
    value: i64,
    in_range: bool,
    rest: &'a [u8],
}

/// Reads a number as C's `strtol` does in base 10; none: no digits.
fn strtol(text: &[u8]) -> Option<Number<'_>> {
    let spaces = text.iter().take_while(|&&byte| is_space(byte)).count();
    let text = text.get(spaces..)?;
    let (negative, text) = match text.split_first() {
        Some((b'-', text)) => (true, text),
        Some((b'+', text)) => (false, text),
        _ => (false, text),
    };
    let (digits, rest) = split_digits(text);
    if digits.is_empty() {
        return None;
    }
    // A negative number is built downwards from 0, because i64::MIN has no positive counterpart.
    let value = digits.iter().map(|digit| i64::from(digit - b'0')).try_fold(0_i64, |sum, digit| {
        sum.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
    });
    let nearest = if negative { i64::MIN } else { i64::MAX };
    Some(Number { value: value.unwrap_or(nearest), in_range: value.is_some(), rest })
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// `isspace` in the C locale, the only one numad runs in. It has the vertical tab, which
/// `is_ascii_whitespace` lacks.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[expect(clippy::cast_possible_truncation, reason = "numad keeps these numbers in an int")]
fn low_32_bits(value: i64) -> i32 {
    value as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atol_and_atoi_read_as_far_as_they_can() {
        let rows: &[(&[u8], i64, i32)] = &[
            (b"", 0, 0),
            (b"7", 7, 7),
            (b"+7x", 7, 7),
            (b" \t\n\x0b\x0c\r-7.9", -7, -7),
            (b"\xa07", 0, 0),
            (b"- 7", 0, 0),
            (b"+-7", 0, 0),
            (b"x7", 0, 0),
            (b"0x10", 0, 0),
            (b"010", 10, 10),
            (b"2147483648", 2_147_483_648, i32::MIN),
            (b"4294967297", 4_294_967_297, 1),
            (b"9223372036854775807", i64::MAX, -1),
            (b"9223372036854775808", i64::MAX, -1),
            (b"-9223372036854775808", i64::MIN, 0),
            (b"-99999999999999999999", i64::MIN, 0),
        ];
        for &(text, long, int) in rows {
            assert_eq!((atol(text), atoi(text)), (long, int), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn the_value_of_w() {
        let rows: &[(&[u8], i32, Option<i32>)] = &[
            (b"4", 400, None),
            (b"0", 0, None),
            (b"0:0", 0, Some(0)),
            (b"0:500", 0, Some(500)),
            (b"4:500", 400, Some(500)),
            (b"+4:+500", 400, Some(500)),
            (b"007:010", 700, Some(10)),
            (b" 4:5", 400, Some(5)),
            (b"\n3:5", 300, Some(5)),
            (b"\x0b\x0c\r 4", 400, None),
            (b"4: 500", 400, Some(500)),
            (b"4:500xyz", 400, Some(500)),
            (b"4:5.5", 400, Some(5)),
            (b"4:0x10", 400, Some(0)),
            // Anything but a colon after the CPUs hides the memory.
            (b"4 :500", 400, None),
            (b"3\n:5", 300, None),
            (b"\t4 : 5", 400, None),
            (b"4x:500", 400, None),
            (b"4,5", 400, None),
            (b"4;\xff", 400, None),
            (b"1e3", 100, None),
            (b"0x10", 0, None),
            // Decimals.
            (b"4.", 400, None),
            (b"4.:7", 400, Some(7)),
            (b"4.9:1", 490, Some(1)),
            (b"4.05:1", 405, Some(1)),
            (b"4.567", 456, None),
            (b"4.123456789:1", 412, Some(1)),
            (b"4.5,", 450, None),
            (b"4.5x:100", 450, None),
            (b"4.5.6:100", 450, None),
            (b"-0:5", 0, Some(5)),
            (b"-0.5", 50, None),
            // Wraps: once when the number is cut, once when it is scaled.
            (b"4294967296", 0, None),
            (b"4294967297", 100, None),
            (b"-4294967295", 100, None),
            (b"-9223372036854775807", 100, None),
            (b"-9223372036854775808:-4294967295", 0, Some(1)),
            (b"21474836:1", 2_147_483_600, Some(1)),
            (b"21474837", -2_147_483_596, None),
            (b"42949673", 4, None),
            (b"99999999.99:7", 1_410_065_407, Some(7)),
            (b"2147483647", -100, None),
            (b"1:2147483647", 100, Some(i32::MAX)),
            (b"1:4294967300", 100, Some(4)),
        ];
        for &(text, cpus_hundredths, megabytes) in rows {
            let expected = Some(Amounts { cpus_hundredths, megabytes });
            assert_eq!(parse_amounts(text), expected, "{}", text.escape_ascii());
        }
    }

    const REFUSED: &[&[u8]] = &[
        b"",
        b" ",
        b"x",
        b"+",
        b"-",
        b"+-4",
        b"- 4",
        b"-1",
        b"-1.5",
        b".5",
        b":",
        b":5",
        b"\xa04",
        b"4:",
        b"4: ",
        b"4::5",
        b"4:x",
        b"4:.5",
        b"4:-1",
        b"4:+-5",
        b"4.5:",
        b"2147483648",
        b"1:2147483648",
        b"9223372036854775807",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"1:99999999999999999999",
    ];

    #[test]
    fn w_and_i_refuse_the_same_texts() {
        for &text in REFUSED {
            assert_eq!(parse_amounts(text), None, "{}", text.escape_ascii());
            assert_eq!(parse_intervals(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn the_value_of_i() {
        let rows: &[(&[u8], Option<u32>, u32)] = &[
            (b"9", None, 9),
            (b"0", None, 0),
            (b"5:10", Some(5), 10),
            (b"0:0", Some(0), 0),
            (b"5.7:9.9", Some(5), 9),
            (b"5.7", None, 5),
            (b"-0.5", None, 0),
            (b"7x:9", None, 7),
            (b"7: 9x", Some(7), 9),
            (b"4294967303", None, 7),
            (b"1:2147483647", Some(1), 2_147_483_647),
            (b"-4294967295:9", Some(1), 9),
        ];
        for &(text, min_s, max_s) in rows {
            let expected = Some(Intervals { min_s, max_s });
            assert_eq!(parse_intervals(text), expected, "{}", text.escape_ascii());
        }
    }
}
