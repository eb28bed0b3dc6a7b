//! Where a process's memory is, from `/proc/PID/numa_maps`.

use super::proc_text::on_node;
use crate::ids::NodeId;
use crate::parse::number;
use crate::units::Bytes;

/// Adds up the memory of a process on each node, in ascending order of ids.
///
/// Lines read `7f3a.. default anon=512 N0=500 N1=12 kernelpagesize_kB=4`. Files that are mapped
/// (libraries, disks) are left out, as they are in the resident memory that claims go by; shared
/// memory (`memfd`, `/dev/shm`, `/dev/zero`) and huge pages count.
pub(super) fn parse(text: &[u8]) -> Vec<(NodeId, Bytes)> {
    let mut nodes: Vec<(NodeId, Bytes)> = Vec::new();
    for line in text.split(|&b| b == b'\n') {
        let words = || line.split(|&b| b == b' ').filter(|word| !word.is_empty());
        let value = |key: &[u8]| words().find_map(|word| word.strip_prefix(key));
        if value(b"file=").is_some_and(|file| !is_memory(file)) {
            continue;
        }
        let kib = value(b"kernelpagesize_kB=").and_then(number).map_or(4, |(n, _)| n);
        for (node, pages) in words().filter_map(on_node) {
            let bytes = Bytes::new(pages.get().saturating_mul(kib).saturating_mul(1024));
            match nodes.binary_search_by_key(&node, |&(id, _)| id) {
                Ok(at) => nodes[at].1 = nodes[at].1.saturating_add(bytes),
                Err(at) => nodes.insert(at, (node, bytes)),
            }
        }
    }
    nodes
}

/// Returns whether a command line of QEMU's gives its memory a policy: `policy=bind` and the like, or
/// the same in JSON.
pub(super) fn line_binds(line: &[u8]) -> bool {
    let policies: [&[u8]; 4] = [b"bind", b"preferred", b"interleave", b"restrictive"];
    let keys: [&[u8]; 3] = [b"policy=", b"\"policy\":\"", b"\"policy\": \""];
    let at = |key: &[u8]| {
        let found = line.windows(key.len()).enumerate().filter(|(_, text)| *text == key);
        found
            .map(|(at, text)| at + text.len())
            .any(|at| policies.iter().any(|policy| line[at..].starts_with(policy)))
    };
    keys.into_iter().any(at)
}

/// Returns whether the kernel's balancing moves the memory of a process, by the policies of its first
/// mappings, which are those of the process. `None` where no line is whole.
pub(super) fn is_balanced(text: &[u8]) -> Option<bool> {
    let lines = text.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"));
    let policies = lines.filter_map(|line| line.trim_ascii_end().split(|&b| b == b' ').nth(1));
    let mut moved = policies
        .map(|policy| policy == b"default" || policy.windows(9).any(|part| part == b"balancing"));
    let first = moved.next()?;
    Some(first || moved.any(|moved| moved))
}

/// Returns whether the file of a mapping is memory: shared, or of huge pages.
pub(super) fn is_memory(file: &[u8]) -> bool {
    let known: [&[u8]; 5] =
        [b"/memfd:", b"/dev/shm/", b"/dev/zero", b"/anon_hugepage", b"/dev/hugepages/"];
    known.iter().any(|name| file.starts_with(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_counted_and_files_are_not() {
        let text = b"00400000 default file=/usr/bin/x mapped=9 N0=9 kernelpagesize_kB=4\n\
            7f01 default anon=3 dirty=3 N0=1 N2=2 kernelpagesize_kB=4\n\
            7f02 bind:1 file=/memfd:ram\\040(deleted) dirty=2 N1=2 kernelpagesize_kB=4\n\
            7f03 bind:2 file=/anon_hugepage\\040(deleted) huge anon=1 N2=1 kernelpagesize_kB=2048\n\
            7f04 default\n";
        let kib = |n| Bytes::from_kib(n).expect("small");
        let wanted = [(NodeId(0), kib(4)), (NodeId(1), kib(8)), (NodeId(2), kib(2056))];
        assert_eq!(parse(text), wanted);
    }

    #[test]
    fn strictly_bound_memory_is_not_moved_by_the_kernel() {
        for (text, balanced) in [
            ("7f00 default file=/usr/bin/x N0=9\n7f01 default anon=3\n", Some(true)),
            ("7f00 bind:1 file=/usr/bin/x N0=9\n7f01 bind:1 anon=3\n", Some(false)),
            ("7f00 prefer:1\n", Some(false)),
            ("7f00 interleave:0-1 anon=1\n", Some(false)),
            ("7f00 bind=balancing:1 anon=1\n", Some(true)),
            ("7f00 bind:1\n7f01 default\n", Some(true)),
            ("7f00 def", None),
            ("", None),
            ("\n", None),
        ] {
            assert_eq!(is_balanced(text.as_bytes()), balanced, "{text:?}");
        }
        for (line, binds) in [
            ("qemu\0-object\0memory-backend-ram,id=r,host-nodes=1,policy=bind\0", true),
            ("-object\0{\"qom-type\":\"memory-backend-ram\",\"policy\":\"preferred\"}", true),
            ("-object\0memory-backend-ram,policy=default", false),
            ("-m\0policy=", false),
            ("", false),
        ] {
            assert_eq!(line_binds(line.as_bytes()), binds, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn near_files_are_answered(text in "([0-9a-f]{4} (N[0-9]{1,22}=[0-9]{0,22} ?|file=/ |anon=1 |kernelpagesize_kB=[0-9]{0,22} ?){0,5}\n?){0,4}") {
            let _ = parse(text.as_bytes());
        }
    }
}
