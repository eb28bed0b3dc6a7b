//! Whether a file or a directory is to be believed: by its owner and its mode.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

use nix::unistd::geteuid;

/// Checks that none but root and the caller can have written a file, or to a directory.
///
/// Errors: others can.
pub fn check(meta: &Metadata) -> Result<(), String> {
    by_owner_and_mode(meta, &[])
}

/// As [`check`], and the owner may be a user of the host that the caller's user namespace does not map.
///
/// For a rootless container engine, root of the host is such a user, and looks like all other users of the host:
/// use it only for a path that no user but root can create.
///
/// Errors: others can.
pub fn check_in_host(meta: &Metadata) -> Result<(), String> {
    let overflow = if has_all_users() { None } else { overflow_user() };
    by_owner_and_mode(meta, overflow.as_slice())
}

/// Returns whether the caller sees all users of the host: it is in no user namespace but the first.
pub fn has_all_users() -> bool {
    // Where it cannot be read the kernel has no such namespaces.
    fs::read_to_string("/proc/self/uid_map").map_or(true, |map| is_whole(&map))
}

fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns the user that stands for all users that a user namespace does not map.
fn overflow_user() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()
}

fn by_owner_and_mode(meta: &Metadata, others: &[u32]) -> Result<(), String> {
    trusted(meta.uid(), meta.mode(), geteuid().as_raw(), others)
}

fn trusted(owner: u32, mode: u32, me: u32, others: &[u32]) -> Result<(), String> {
    if owner != 0 && owner != me && !others.contains(&owner) {
        return Err(format!("owned by user {owner}, not by root or user {me}; run chown root"));
    }
    let mode = mode & 0o7777;
    if mode & 0o022 != 0 {
        return Err(format!("writable by group or others (mode {mode:04o}); run chmod go-w"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_or_oneself_is_believed() {
        assert_eq!(trusted(0, 0o644, 1000, &[]), Ok(()));
        assert_eq!(trusted(1000, 0o100_600, 1000, &[]), Ok(()));
        assert!(trusted(1001, 0o644, 1000, &[]).is_err());
        assert!(trusted(1000, 0o644, 0, &[]).is_err());
        for mode in [0o620, 0o602, 0o666] {
            assert!(trusted(0, mode, 0, &[]).is_err(), "{mode:o}");
        }
    }

    #[test]
    fn the_root_of_a_host_is_believed_in_a_namespace_without_it() {
        assert_eq!(trusted(65534, 0o644, 0, &[65534]), Ok(()));
        assert!(trusted(65534, 0o664, 0, &[65534]).is_err(), "others can write it");
        assert!(trusted(65534, 0o644, 0, &[]).is_err(), "the host's own user nobody");
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0       1000          1\n         1     100000      65536\n"));
    }
}
