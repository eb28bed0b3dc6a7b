//! The two texts numad tells about itself.

/// Returns numad's usage text, which `-h` prints on stderr, for a program started as `argv0`.
pub(crate) fn usage(argv0: &[u8]) -> Vec<u8> {
    [b"Usage: ".as_slice(), argv0, b" <options> ...\n", OPTIONS.as_bytes()].concat()
}

/// Returns the line that `-V` prints on stdout for a program started as `argv0`.
///
/// The build date is that of Debian 12's numad, so that the output is the same to the byte.
pub(crate) fn version(argv0: &[u8]) -> Vec<u8> {
    [argv0, b" version: 20150602: compiled Oct 16 2022\n"].concat()
}

const OPTIONS: &str = "\
-C 1  to count inactive file cache as available memory (default 1)
-C 0  to count inactive file cache memory as unavailable (default 1)
-d for debug logging (same effect as '-l 7')
-h to print this usage info
-H <N> to set THP scan_sleep_ms (default 1000)
-i [<MIN>:]<MAX> to specify interval seconds
-K 1  to keep interleaved memory spread across nodes (default 0)
-K 0  to merge interleaved memory to local NUMA nodes (default 0)
-l <N> to specify logging level (usually 5, 6, or 7 -- default 5)
-m <N> to specify memory locality target percent (default 90)
-p <PID> to add PID to inclusion pid list
-r <PID> to remove PID from explicit pid lists
-R <CPU_LIST> to reserve some CPUs for non-numad use
-S 1  to scan all processes (default 1)
-S 0  to scan only explicit PID list processes (default 1)
-t <N> to specify thread / logical CPU valuation percent (default 20)
-u <N> to specify utilization target percent (default 85)
-v for verbose  (same effect as '-l 6')
-V to show version info
-w <CPUs>[:<MBs>] for NUMA node suggestions
-x <PID> to add PID to exclusion pid list
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_named_as_it_was_started() {
        let text = usage(b"./\xff d");
        assert!(text.starts_with(b"Usage: ./\xff d <options> ...\n-C 1  to count inactive file "));
        assert!(text.ends_with(b"\n-x <PID> to add PID to exclusion pid list\n"));
        assert_eq!(text.split_inclusive(|&byte| byte == b'\n').count(), 22);
        assert_eq!(version(b"n"), b"n version: 20150602: compiled Oct 16 2022\n");
    }
}
