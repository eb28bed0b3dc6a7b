//! Texts of /proc cut down to what a recording is for: no names of users, hosts or jobs, no serial
//! numbers, nothing that is long for no use. Reducing a reduced text changes nothing.

use crate::source::device::{is_mark, mark};

/// Asked while a file is read: all of it is wanted.
pub(super) fn whole(_: &[u8]) -> bool {
    false
}

/// Asked while `/proc/cpuinfo` is read: whether the first CPU's lines are there.
pub(super) fn has_first_cpu(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair == b"\n\n")
}

/// Cuts the long lines of `/proc/stat` to their sum: one number for each of thousands of
/// interrupts is of no use here.
pub(super) fn stat(text: &[u8]) -> Vec<u8> {
    each_line(text, |line, out| {
        let mut words = line.split(|&b| b == b' ');
        match (words.next(), words.next(), words.next()) {
            (Some(name @ (b"intr" | b"softirq")), Some(sum), Some(_)) => {
                out.extend_from_slice(name);
                out.push(b' ');
                out.extend_from_slice(sum);
                true
            }
            _ => keep(line, out),
        }
    })
}

/// Keeps the kind of CPU, of all that hwloc saved of a host.
pub(super) fn architecture(text: &[u8]) -> Vec<u8> {
    each_line(text, |line, out| line.starts_with(b"Architecture:") && keep(line, out))
}

/// Keeps which node is the memory of a GPU: the line `Node: 1` of its `numa_status`.
pub(super) fn gpu_status(text: &[u8]) -> Vec<u8> {
    each_line(text, |line, out| line.trim_ascii_start().starts_with(b"Node:") && keep(line, out))
}

/// Keeps the mark of a GPU's UUID, of all that its `information` says.
pub(super) fn gpu_information(text: &[u8]) -> Vec<u8> {
    const UUID: &[u8] = b"GPU UUID:";
    each_line(text, |line, out| {
        let Some(uuid) = line.strip_prefix(UUID) else { return false };
        out.extend_from_slice(UUID);
        out.push(b' ');
        out.extend_from_slice(&marked(uuid.trim_ascii()));
        true
    })
}

/// Puts a mark in place of a name, a mark of which stays: it can be asked for and not be read.
pub(super) fn marked(text: &[u8]) -> Vec<u8> {
    let name = crate::parse::trim_end(text);
    let name = name.strip_prefix(b"0x").unwrap_or(name);
    if is_mark(name) { text.to_vec() } else { mark(name).into_bytes() }
}

/// Keeps what `/proc/zoneinfo` says of the watermarks and sizes of zones: most of it is about single
/// CPUs.
pub(super) fn zoneinfo(text: &[u8]) -> Vec<u8> {
    const KEPT: [&[u8]; 8] =
        [b"boost", b"min", b"low", b"high", b"spanned", b"present", b"managed", b"protection:"];
    each_line(text, |line, out| {
        let word = line.trim_ascii_start().split(|&b| b == b' ').next().unwrap_or_default();
        (line.starts_with(b"Node ") || KEPT.contains(&word)) && keep(line, out)
    })
}

/// Keeps the lines of `/proc/self/status` that tell limits. Those that its readers insist on, and
/// that tell about the user or the process, get the value of an ordinary process.
pub(super) fn status(text: &[u8]) -> Vec<u8> {
    const KEPT: [&[u8]; 5] =
        [b"Name", b"Cpus_allowed", b"Cpus_allowed_list", b"Mems_allowed", b"Mems_allowed_list"];
    const PLAIN: [(&[u8], &[u8]); 19] = [
        (b"State", b"R (running)"),
        (b"Tgid", b"1"),
        (b"Pid", b"1"),
        (b"PPid", b"0"),
        (b"TracerPid", b"0"),
        (b"Uid", b"0\t0\t0\t0"),
        (b"Gid", b"0\t0\t0\t0"),
        (b"FDSize", b"64"),
        (b"Groups", b""),
        (b"Threads", b"1"),
        (b"SigQ", b"0/0"),
        (b"SigPnd", NONE),
        (b"ShdPnd", NONE),
        (b"SigBlk", NONE),
        (b"SigIgn", NONE),
        (b"SigCgt", NONE),
        (b"CapInh", NONE),
        (b"CapPrm", NONE),
        (b"CapEff", NONE),
    ];
    const NONE: &[u8] = b"0000000000000000";
    each_line(text, |line, out| {
        let Some(colon) = line.iter().position(|&b| b == b':') else { return false };
        let name = &line[..colon];
        let plain = PLAIN.iter().find(|(plain, _)| *plain == name).map(|(_, value)| *value);
        match plain {
            Some(value) => {
                out.extend_from_slice(name);
                out.extend_from_slice(b":\t");
                out.extend_from_slice(value);
                true
            }
            None => KEPT.contains(&name) && keep(line, out),
        }
    })
}

/// Keeps the lines of a group's `memory.stat` that bear on its limit.
pub(super) fn memory_stat(text: &[u8]) -> Vec<u8> {
    const KEPT: [&[u8]; 5] = [
        b"inactive_file",
        b"active_file",
        b"total_inactive_file",
        b"total_active_file",
        b"hierarchical_memory_limit",
    ];
    each_line(text, |line, out| {
        let name = line.split(|&b| b == b' ').next().unwrap_or_default();
        KEPT.contains(&name) && keep(line, out)
    })
}

/// Takes the names out of the paths of `/proc/self/cgroup`, which are those of users, containers
/// and jobs: `9:cpuset:/user.slice/user-1000.slice` becomes `9:cpuset:/x/x`.
pub(super) fn cgroup(text: &[u8]) -> Vec<u8> {
    each_line(text, |line, out| {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        let kind = if controllers.starts_with(b"name=") { b"name=x" } else { controllers };
        let depth = path.split(|&b| b == b'/').filter(|name| !name.is_empty()).count();
        let path = if depth == 0 { "/".to_owned() } else { "/x".repeat(depth) };
        out.extend_from_slice(&[id, kind, path.as_bytes()].join(&b':'));
        true
    })
}

/// Keeps the lines that name the model, of the first CPU.
pub(super) fn cpuinfo(text: &[u8]) -> Vec<u8> {
    const KEPT: [&[u8]; 21] = [
        b"processor",
        b"vendor_id",
        b"vendor",
        b"arch",
        b"cpu",
        b"cpu family",
        b"family",
        b"model",
        b"model name",
        b"stepping",
        b"revision",
        b"microcode",
        b"cache size",
        b"flags",
        b"Features",
        b"CPU implementer",
        b"CPU architecture",
        b"CPU variant",
        b"CPU part",
        b"CPU revision",
        b"address sizes",
    ];
    let end = text.windows(2).position(|pair| pair == b"\n\n").map_or(text.len(), |at| at + 1);
    each_line(&text[..end], |line, out| {
        let name = line.split(|&b| b == b':').next().unwrap_or_default().trim_ascii_end();
        KEPT.contains(&name) && keep(line, out)
    })
}

/// Leaves out of `/proc/version` the user and host that built the kernel: ` (user@host)`.
pub(super) fn version(text: &[u8]) -> Vec<u8> {
    let Some(open) = text.iter().position(|&b| b == b'(') else { return text.to_vec() };
    let Some(length) = text[open..].iter().position(|&b| b == b')') else { return text.to_vec() };
    let (before, after) = (&text[..open], &text[open + length + 1..]);
    if !text[open..open + length].contains(&b'@') {
        return text.to_vec();
    }
    [before.trim_ascii_end(), after].concat()
}

fn keep(line: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(line);
    true
}

/// Rewrites a text line by line. `write` returns whether there is such a line; line ends stay.
fn each_line(text: &[u8], write: impl Fn(&[u8], &mut Vec<u8>) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|&b| b == b'\n') {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        if write(body, &mut out) {
            out.extend_from_slice(&line[body.len()..]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(reduce: fn(&[u8]) -> Vec<u8>, text: &str) -> String {
        String::from_utf8(reduce(text.as_bytes())).expect("text stays text")
    }

    #[test]
    fn the_long_lines_of_stat_are_cut_to_their_sum() {
        let before = "cpu  1 2 3 4\ncpu0 1 2 3 4\nintr 120 0 7 0\nctxt 9\nsoftirq 5 1 4\n";
        let after = "cpu  1 2 3 4\ncpu0 1 2 3 4\nintr 120\nctxt 9\nsoftirq 5\n";
        assert_eq!(text(stat, before), after);
        assert_eq!(text(stat, "intr 1\ncpu0 1 2"), "intr 1\ncpu0 1 2");
    }

    #[test]
    fn status_tells_the_limits_and_nothing_of_the_user() {
        let before = "Name:\tplacer\nUmask:\t0077\nUid:\t1000\t1000\t1000\t1000\nPid:\t4711\n\
                      Groups:\t4 27 \nCpus_allowed_list:\t0-3\nMems_allowed_list:\t0\nno colon\n";
        let after = "Name:\tplacer\nUid:\t0\t0\t0\t0\nPid:\t1\nGroups:\t\n\
                     Cpus_allowed_list:\t0-3\nMems_allowed_list:\t0\n";
        assert_eq!(text(status, before), after);
    }

    #[test]
    fn cgroups_keep_their_depth_and_not_their_names() {
        let before = "9:cpu,cpuacct:/slurm/uid_1000/job_7\n3:cpuset:/\n1:name=vms:/a\n\
                      0::/u.slice/u@0\nx\n";
        let after = "9:cpu,cpuacct:/x/x/x\n3:cpuset:/\n1:name=x:/x\n0::/x/x\n";
        assert_eq!(text(cgroup, before), after);
    }

    #[test]
    fn cpuinfo_tells_the_model_of_the_first_cpu() {
        let before = "processor\t: 0\nmodel name\t: Xeon\ncpu MHz\t\t: 800.1\nSerial\t: 42\n\n\
                      processor\t: 1\nmodel name\t: Xeon\n\n";
        assert_eq!(text(cpuinfo, before), "processor\t: 0\nmodel name\t: Xeon\n");
        assert!(has_first_cpu(before.as_bytes()) && !has_first_cpu(&before.as_bytes()[..40]));
    }

    #[test]
    fn version_does_not_tell_who_built_the_kernel() {
        for (before, after) in [
            (
                "Linux version 6.1.0 (me@home) (gcc 12 (Debian)) #1 SMP\n",
                "Linux version 6.1.0 (gcc 12 (Debian)) #1 SMP\n",
            ),
            ("Linux version 6.1.0 (gcc 12)\n", "Linux version 6.1.0 (gcc 12)\n"),
            ("Linux (me@", "Linux (me@"),
        ] {
            assert_eq!(text(version, before), after);
        }
    }

    proptest! {
        #[test]
        fn reducing_any_bytes_twice_is_reducing_them_once(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(b'\n'), Just(b':'), Just(b' '), Just(b'/')], 0..200),
        ) {
            for reduce in [stat, status, cgroup, cpuinfo] {
                let once = reduce(&bytes);
                prop_assert_eq!(reduce(&once), once);
            }
            version(&bytes);
        }
    }
}
