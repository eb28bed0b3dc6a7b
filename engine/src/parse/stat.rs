//! CPU counters. Source: `/proc/stat`, the lines `cpu<N> user nice system idle iowait ...`.
//!
//! Not read through the procfs crate: its list of CPUs has no ids, so with CPUs offline the CPU of
//! a line is not known; and it allocates for each line.

use super::list::MAX_ID;
use super::{ParseError, number};
use crate::ids::CpuId;

/// What a CPU has done nothing in, in ticks of 1/100 s since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleTicks {
    /// The fourth number of the line: no task waited for I/O that was started on this CPU.
    pub idle: u64,
    /// The fifth number: the CPU was as idle, and a task waited for I/O. 0 before Linux 2.5.41.
    pub iowait: u64,
}

/// Calls `each` with every CPU's id and its idle time in the order of the lines. Returns whether
/// the end of the CPU lines was seen; `false` means that the text may have been cut, as when a file
/// is read in pieces. No allocation.
///
/// Errors: a CPU line without four numbers, a fifth one past 64 bits, an id past [`MAX_ID`].
///
/// ```
/// use placer_engine::parse;
/// let mut idle = vec![];
/// parse::stat::each_cpu(b"cpu  9 9 9 9\ncpu0 1 0 2 70 5\ncpu3 1 0 2 80\nintr 1\n", |cpu, ticks| {
///     idle.push((cpu.0, ticks.idle, ticks.iowait));
/// })?;
/// assert_eq!(idle, [(0, 70, 5), (3, 80, 0)]);
/// # Ok::<(), parse::ParseError>(())
/// ```
pub fn each_cpu(text: &[u8], mut each: impl FnMut(CpuId, IdleTicks)) -> Result<bool, ParseError> {
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
            let mut ticks = IdleTicks::default();
            for column in 0..5 {
                let blanks = text[scan..].iter().take_while(|&&b| b == b' ').count();
                let at = scan + blanks;
                if column == 4 && text.get(at).is_none_or(|&b| b == b'\n') {
                    break;
                }
                let read = if blanks == 0 { None } else { number(&text[at..]) };
                let Some((value, digits)) = read else {
                    return Err(ParseError::at(text, at, "four or more numbers of ticks"));
                };
                match column {
                    3 => ticks.idle = value,
                    4 => ticks.iowait = value,
                    _ => {}
                }
                scan = at + digits;
            }
            each(CpuId(id), ticks);
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

    fn read(text: &str) -> Result<Vec<(u32, u64, u64)>, String> {
        let mut cpus = vec![];
        each_cpu(text.as_bytes(), |cpu, ticks| cpus.push((cpu.0, ticks.idle, ticks.iowait)))
            .map_err(|e| e.to_string())?;
        Ok(cpus)
    }

    #[test]
    fn good_and_odd_files() {
        for (text, cpus) in [
            ("", vec![]),
            ("cpu  1 2 3 4\n", vec![]),
            (
                "cpu0 1 2 3 4\ncpu7 1 2 3 99 5 6\nintr 5\ncpu9 1 2 3 4\n",
                vec![(0, 4, 0), (7, 99, 5)],
            ),
            ("cpu0 1 2 3 4", vec![(0, 4, 0)]),
            ("cpu0 1 2 3 4 ", vec![(0, 4, 0)]),
            ("cpu0 1 2 3 4 17", vec![(0, 4, 17)]),
            ("cpu5 1  2 3   18446744073709551615\n", vec![(5, u64::MAX, 0)]),
        ] {
            assert_eq!(read(text), Ok(cpus), "{text:?}");
        }
    }

    #[test]
    fn damage_is_named() {
        for (text, error) in [
            (
                "cpu0 1 2\ncpu1 1 2 3 4",
                "1:9: expected four or more numbers of ticks, found the end of the line",
            ),
            ("cpu0x 1 2 3 4", "1:5: expected four or more numbers of ticks, found \"x 1 2 3 4\""),
            ("cpu0 1 2 3 4 x", "1:14: expected four or more numbers of ticks, found \"x\""),
            (
                "cpu0 1 2 3 4 99999999999999999999",
                "1:14: expected four or more numbers of ticks, found \"99999999999999999999\"",
            ),
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
