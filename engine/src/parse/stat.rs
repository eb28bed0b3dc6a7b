//! CPU counters. Source: `/proc/stat`, the lines `cpu<N> user nice system idle iowait ...`.
//!
//! Not read through the procfs crate: its list of CPUs has no ids, so with CPUs offline nobody
//! can say which line belongs to which CPU; and it allocates for each line.

use super::list::MAX_ID;
use super::{ParseError, number};
use crate::ids::CpuId;

/// Calls `each` with every CPU's id and its idle time, in ticks of 1/100 s since boot, in the
/// order of the lines. Returns whether the end of the CPU lines was seen; `false` means that the
/// text may have been cut, as when a file is read in pieces.
///
/// Idle is the fourth number; time spent waiting for I/O is not in it. No allocation.
/// Errors: a CPU line without four numbers, an id past [`MAX_ID`].
///
/// ```
/// use placer_engine::parse;
/// let mut idle = vec![];
/// parse::stat::each_cpu(b"cpu  9 9 9 9\ncpu0 1 0 2 70 5\ncpu3 1 0 2 80 5\nintr 1\n", |cpu, ticks| {
///     idle.push((cpu.0, ticks));
/// })?;
/// assert_eq!(idle, [(0, 70), (3, 80)]);
/// # Ok::<(), parse::ParseError>(())
/// ```
pub fn each_cpu(text: &[u8], mut each: impl FnMut(CpuId, u64)) -> Result<bool, ParseError> {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if !rest.starts_with(b"cpu") {
            // The kernel writes the CPUs first; what follows (interrupts) is long and not ours.
            return Ok(true);
        }
        let mut scan = at + 3;
        if text.get(scan).is_some_and(u8::is_ascii_digit) {
            let id = number(&text[scan..]).filter(|&(id, _)| id <= u64::from(MAX_ID));
            let Some((id, digits)) = id.and_then(|(id, n)| Some((u32::try_from(id).ok()?, n)))
            else {
                return Err(ParseError::at(text, scan, format!("a CPU id of at most {MAX_ID}")));
            };
            scan += digits;
            let mut idle = 0;
            for _ in 0..4 {
                let blanks = text[scan..].iter().take_while(|&&b| b == b' ').count();
                let read = if blanks == 0 { None } else { number(&text[scan + blanks..]) };
                let Some((value, digits)) = read else {
                    return Err(ParseError::at(text, scan + blanks, "four numbers of ticks"));
                };
                idle = value;
                scan += blanks + digits;
            }
            each(CpuId(id), idle);
        }
        match text[scan..].iter().position(|&b| b == b'\n') {
            Some(end) => at = scan + end + 1,
            None => break,
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(u32, u64)>, String> {
        let mut cpus = vec![];
        each_cpu(text.as_bytes(), |c, t| cpus.push((c.0, t))).map_err(|e| e.to_string())?;
        Ok(cpus)
    }

    #[test]
    fn good_and_odd_files() {
        for (text, cpus) in [
            ("", vec![]),
            ("cpu  1 2 3 4\n", vec![]),
            ("cpu0 1 2 3 4\ncpu7 1 2 3 99 5 6\nintr 5\ncpu9 1 2 3 4\n", vec![(0, 4), (7, 99)]),
            ("cpu0 1 2 3 4", vec![(0, 4)]),
            ("cpu5 1  2 3   18446744073709551615\n", vec![(5, u64::MAX)]),
        ] {
            assert_eq!(read(text), Ok(cpus), "{text:?}");
        }
    }

    #[test]
    fn damage_is_named() {
        for (text, error) in [
            (
                "cpu0 1 2\ncpu1 1 2 3 4",
                "1:9: expected four numbers of ticks, found the end of the line",
            ),
            ("cpu0x 1 2 3 4", "1:5: expected four numbers of ticks, found \"x 1 2 3 4\""),
            (
                "cpu1048576 1 2 3 4",
                "1:4: expected a CPU id of at most 1048575, found \"1048576 1 2 3 4\"",
            ),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut text = b"cpu0".to_vec();
            text.extend(bytes);
            let _ = each_cpu(&text, |_, _| {});
        }
    }
}
