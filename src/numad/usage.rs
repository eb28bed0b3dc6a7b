//! The two texts in which numad describes itself.

use placer_engine::policy::numad::Version;

/// Returns the usage text of a version, which `-h` prints on stderr, for a program started as `argv0`.
pub(crate) fn usage(version: Version, argv0: &[u8]) -> Vec<u8> {
    let utilization = match version {
        Version::V2015 => "85",
        Version::V2025 => "90",
    };
    let options = OPTIONS.replace("@UTILIZATION@", utilization);
    [b"Usage: ".as_slice(), argv0, b" <options> ...\n", options.as_bytes()].concat()
}

/// Returns the line that `-V` prints on stdout for a program started as `argv0`.
///
/// The build dates are those of Debian's packages, so that the output is the same to the byte.
pub(crate) fn version_line(version: Version, argv0: &[u8]) -> Vec<u8> {
    let built = match version {
        Version::V2015 => "Oct 16 2022",
        Version::V2025 => "Feb  8 2026",
    };
    let text = format!(" version: {}: compiled {built}\n", version.program());
    [argv0, text.as_bytes()].concat()
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
-u <N> to specify utilization target percent (default @UTILIZATION@)
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
        for (version, default) in [(Version::V2015, "85"), (Version::V2025, "90")] {
            let text = String::from_utf8_lossy(&usage(version, b"./\xff d")).into_owned();
            assert!(
                text.starts_with(
                    "Usage: ./\u{fffd} d <options> ...\n-C 1  to count inactive file "
                )
            );
            assert!(text.ends_with("\n-x <PID> to add PID to exclusion pid list\n"));
            assert_eq!(text.lines().count(), 22);
            let line = format!("-u <N> to specify utilization target percent (default {default})");
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        let line = version_line(Version::V2015, b"n\xff");
        assert_eq!(line, b"n\xff version: 20150602: compiled Oct 16 2022\n");
        let line = version_line(Version::V2025, b"n");
        assert_eq!(line, b"n version: numad 20251104: compiled Feb  8 2026\n");
    }
}
