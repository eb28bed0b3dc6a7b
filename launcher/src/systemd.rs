//! A control group that systemd makes: a transient scope around a process that has not begun.
//!
//! systemd is asked through its own `busctl`, by argument lists and without a shell, as libvirt is through virsh.
//! A client of our own took 800 lines; the crate `zbus` brings some sixty others and a runtime.
//!
//! # Whose the group is
//!
//! systemd's: it makes the group, holds it to the CPUs and nodes, and removes it with the last process
//! in it. Nothing of it has to be undone. What is in it belongs to the guest (`Delegate=yes`).
//!
//! | process, when it ends | what is left |
//! |---|---|
//! | the launcher, before the scope is asked for | nothing: the child sees the end of its pipe |
//! | the launcher, while systemd makes the scope | nothing: the child ends, and the scope with it; one that never had a process fails, and is forgotten (`CollectMode`) |
//! | the launcher, later | the guest and its scope |
//! | systemd, or the bus | an error within the time limit; the child is ended |

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use placer_engine::{CpuSet, NodeSet, claims};

mod make;

pub(crate) use make::make;

use crate::error::LaunchError;
use crate::guest::GuestName;

/// How long systemd may take. A busy one answers within a second, one that is being loaded anew within
/// some; on a host with far more work than CPUs each takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A scope that systemd made. It is removed by systemd when the last process in it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its directory.
    pub dir: PathBuf,
    /// The inode number of that directory, which distinguishes it from a later one of the same name.
    pub inode: u64,
}

impl Scope {
    /// Returns how a claim names it. `None` where it is not below `mount`, where groups are mounted.
    pub fn claimed(&self, mount: Option<&Path>) -> Option<claims::Cgroup> {
        let below = self.dir.strip_prefix(mount?).ok()?;
        Some(claims::Cgroup { path: format!("/{}", below.to_str()?), inode: self.inode })
    }

    /// Returns when no process is in it any more.
    ///
    /// Errors: some are, also after a second.
    pub(crate) fn drained(&self) -> Result<(), LaunchError> {
        const TRIES: u32 = 200;
        for _ in 0..TRIES {
            let told = std::fs::read_to_string(self.dir.join("cgroup.events"));
            // Not there: systemd has removed it.
            if !told.is_ok_and(|text| text.lines().any(|line| line == "populated 1")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let what = format!("see the end of the systemd scope {}", self.dir.display());
        Err(LaunchError::new(what, Errno::EBUSY))
    }
}

/// A scope that systemd is to make. A value: nothing is done by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeStep {
    /// The name of the unit, as in `placer-db1-1234.scope`.
    pub unit: String,
    /// What people read of it.
    pub description: String,
    /// The slice it is put in; `None`: where systemd puts scopes.
    pub slice: Option<String>,
    /// The CPUs it is held to; the empty set holds it to none.
    pub cpus: CpuSet,
    /// The nodes its memory is held to; the empty set holds it to none.
    pub nodes: NodeSet,
    /// Whether the guest starts in a group of its own within the scope, for a program that makes
    /// groups beside its own.
    pub inner: bool,
    /// The program that speaks to systemd: `busctl`.
    pub busctl: PathBuf,
    /// Whether it is the host's systemd that is asked, and not the user's own.
    pub system: bool,
    /// Where control groups are.
    pub mount: PathBuf,
    /// How long all of it may take.
    pub limit: Duration,
}

impl fmt::Display for ScopeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systemd {}", self.unit)?;
        if let Some(slice) = &self.slice {
            write!(f, " in {slice}")?;
        }
        if !self.cpus.is_empty() {
            write!(f, "\ngroup   AllowedCPUs={}", self.cpus)?;
        }
        if !self.nodes.is_empty() {
            write!(f, "\ngroup   AllowedMemoryNodes={}", self.nodes)?;
        }
        Ok(())
    }
}

/// Returns the name of the scope of a guest: its own name, as systemd allows it, and that of its
/// launcher, since names of guests need not be unique.
pub(crate) fn unit(name: &GuestName, launcher: u32) -> String {
    // A unit's name has at most 255 bytes.
    const MOST: usize = 200;
    let mut escaped = String::new();
    for byte in name.as_str().bytes() {
        let one = match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b':' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("\\x{byte:02x}"),
        };
        if escaped.len() + one.len() > MOST {
            break;
        }
        escaped.push_str(&one);
    }
    format!("placer-{escaped}-{launcher}.scope")
}

/// Returns whether a text names a slice, as systemd's units that hold others are called.
pub(crate) fn is_slice(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
    let stem = name.strip_suffix(".slice").unwrap_or_default();
    let dashes = stem.starts_with('-') || stem.ends_with('-') || stem.contains("--");
    !stem.is_empty() && !dashes && name.len() < 256 && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_systemd_allows_them() {
        for (name, unit_name) in [
            ("db1", "placer-db1-7.scope"),
            ("a.b:c_d", "placer-a.b:c_d-7.scope"),
            ("a-b c\\", "placer-a\\x2db\\x20c\\x5c-7.scope"),
            ("\u{e9}", "placer-\\xc3\\xa9-7.scope"),
        ] {
            assert_eq!(unit(&name.parse().unwrap(), 7), unit_name);
        }
        let long = unit(&"-".repeat(GuestName::MAX).parse().unwrap(), u32::MAX);
        assert!(long.len() < 256 && long.contains("\\x2d-4294967295.scope"), "{long}");
    }

    #[test]
    fn slices_are_told_from_paths() {
        for good in ["machine.slice", "a-b.slice", "a\\x2d.slice"] {
            assert!(is_slice(good), "{good}");
        }
        for bad in
            ["", ".slice", "a", "/a.slice", "a/b.slice", "-a.slice", "a--b.slice", "a\n.slice"]
        {
            assert!(!is_slice(bad), "{bad}");
        }
    }
}
