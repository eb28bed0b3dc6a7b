//! What memory of a process can be moved, from `/proc/PID/maps` and `numa_maps`. Pure.

/// Memory of a process's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// Its size.
    pub bytes: u64,
    /// Whether other processes may have it as well.
    pub shared: bool,
}

/// Reads the mappings that hold memory of a process's own: no files, no code.
pub(super) fn parse(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(line).collect()
}

/// Reads `START-END PERMISSIONS OFFSET DEVICE INODE PATH`.
fn line(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let bytes = end.checked_sub(start).filter(|&bytes| bytes > 0)?;
    let permissions = rest.as_bytes();
    let path = rest.split_ascii_whitespace().nth(4).unwrap_or_default();
    let own = !path.starts_with('/') || is_memory(path);
    let special = path.starts_with("[v");
    let mapping = Mapping { start, bytes, shared: permissions.get(3) == Some(&b's') };
    (permissions.get(1) == Some(&b'w') && own && !special).then_some(mapping)
}

fn is_memory(path: &str) -> bool {
    ["/memfd:", "/dev/shm/", "/dev/zero"].iter().any(|name| path.starts_with(name))
}

/// Returns the memory policy that a process gave itself or its mappings, if any: no other process can change it, but a
/// cpuset of its own takes it along.
///
/// Source: the second word of the lines of `/proc/PID/numa_maps`.
pub fn bound_by_itself(text: &str) -> Option<&str> {
    let policies = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(1));
    let mut bound = policies.filter(|policy| {
        let name = policy.split([':', '=']).next().unwrap_or_default();
        // `local` and `prefer` without nodes go wherever the thread runs.
        name != "default" && name != "local"
    });
    bound.next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_of_a_process() {
        let text = "00400000-00500000 r-xp 00000000 fe:01 1  /usr/bin/qemu\n\
            00600000-00700000 rw-p 00100000 fe:01 1  /usr/bin/qemu\n\
            01000000-01200000 rw-p 00000000 00:00 0  [heap]\n\
            7f0000000000-7f0040000000 rw-s 00000000 00:01 9 /memfd:ram (deleted)\n\
            7f1000000000-7f1000001000 ---p 00000000 00:00 0 \n\
            7f2000004000-7f2000000000 rw-p 00000000 00:00 0 \n\
            7fff00000000-7fff00100000 rw-p 00000000 00:00 0 [vvar]\n";
        let of = |start, bytes, shared| Mapping { start, bytes, shared };
        let wanted = [of(0x0100_0000, 0x20_0000, false), of(0x7f00_0000_0000, 0x4000_0000, true)];
        assert_eq!(parse(text), wanted);
    }

    #[test]
    fn policies() {
        for (text, bound) in [
            ("7f00 default file=/x N0=9\n7f01 default anon=3\n", None),
            ("7f00 default\n7f01 bind:1 anon=3\n", Some("bind:1")),
            ("7f00 bind=static:0\n", Some("bind=static:0")),
            ("7f00 prefer:1 anon=1\n", Some("prefer:1")),
            ("7f00 local\n7f01 interleave:0-1\n", Some("interleave:0-1")),
            ("7f00\n\n", None),
        ] {
            assert_eq!(bound_by_itself(text), bound, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,200}", near in "([0-9a-f]{0,17}-?[0-9a-f]{0,17} rw-[ps] 0 0:0 0 ?/?[a-z]{0,5}\n){0,5}") {
            let _ = (parse(&text), bound_by_itself(&text), parse(&near));
        }
    }
}
