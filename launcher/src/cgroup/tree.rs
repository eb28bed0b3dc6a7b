//! How the control groups of a host are built, and where this process is among them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use placer_engine::parse::cgroup::{self, Mount};

/// Where the cpuset controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpuset {
    /// In cgroup v2, where it can be had.
    V2,
    /// In cgroup v1, whose cpusets are left alone.
    V1,
    /// Nowhere.
    Missing,
}

/// The control groups of a host, as seen by this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Where cgroup v2 is mounted, if it is.
    pub mount: Option<PathBuf>,
    /// The group of this process below that, as in `/proc/self/cgroup`.
    pub own: String,
    /// Where the cpuset controller is.
    pub cpuset: Cpuset,
    /// Whether systemd runs this host, and so owns all groups that it did not delegate.
    pub systemd: bool,
    /// Whether this process is root, and may change groups that were not delegated to it.
    pub root: bool,
}

impl Tree {
    /// Returns a tree of which nothing is known, for a guest that has no group of its own.
    pub fn none() -> Self {
        let (mount, own, cpuset) = (None, "/".to_owned(), Cpuset::Missing);
        Self { mount, own, cpuset, systemd: false, root: false }
    }

    /// Reads the tree of the host whose root directory is `root`.
    ///
    /// Source: `proc/self/mountinfo`, `proc/self/cgroup`, `cgroup.controllers` of the mount, and
    /// whether `run/systemd/system` is there, by which sd_booted(3) goes. What cannot be read is
    /// not there.
    pub fn read(root: &Path) -> Self {
        let bytes = |path: &Path| whole(path).unwrap_or_default();
        // Mounts of a part of a hierarchy lack the groups above it.
        let mut mounts = cgroup::mounts(&bytes(&root.join("proc/self/mountinfo")));
        mounts.retain(|mount| mount.root == b"/");
        // Of several the usual one: other programs look for groups there.
        let usual = |mount: &&Mount| mount.at == b"/sys/fs/cgroup";
        let unified = || mounts.iter().filter(|mount| mount.v2);
        let unified = unified().find(usual).or_else(|| unified().next());
        let mount = unified.map(|mount| {
            let below = mount.at.strip_prefix(b"/").unwrap_or(&mount.at);
            root.join(OsStr::from_bytes(below))
        });
        let text = bytes(&root.join("proc/self/cgroup"));
        let own = String::from_utf8_lossy(&text);
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
        let controllers = mount.as_ref().map(|mount| bytes(&mount.join("cgroup.controllers")));
        let controllers = String::from_utf8_lossy(&controllers.unwrap_or_default()).into_owned();
        let cpuset = if controllers.split_whitespace().any(|name| name == "cpuset") {
            Cpuset::V2
        } else if mounts.iter().any(is_v1_cpuset) {
            Cpuset::V1
        } else {
            Cpuset::Missing
        };
        let systemd = root.join("run/systemd/system").is_dir();
        Self { mount, own, cpuset, systemd, root: nix::unistd::geteuid().is_root() }
    }
}

fn is_v1_cpuset(mount: &Mount) -> bool {
    !mount.v2 && mount.options.split(|&b| b == b',').any(|option| option == b"cpuset")
}

/// Reads a file of the kernel, which makes it anew for each piece that is asked for: in large ones.
/// A recorded machine may have anything in its place.
fn whole(path: &Path) -> std::io::Result<Vec<u8>> {
    // A host of ten thousand containers has some megabytes of mounts.
    const MOST: u64 = 64 << 20;
    let mut text = Vec::with_capacity(16 << 10);
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() {
        file.take(MOST).read_to_end(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        22 1 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        23 22 0:21 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset\n\
        24 22 0:22 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str = "\
        20 1 0:18 /part /srv/part rw - cgroup2 cgroup2 rw\n\
        21 1 0:18 / /mnt/other\\040one rw - cgroup2 cgroup2 rw\n\
        22 1 0:18 / /sys/fs/cgroup rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn host(mountinfo: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let tmp = tempfile::tempdir().unwrap();
        for (path, text) in [("proc/self/mountinfo", mountinfo)].iter().chain(files) {
            let path = tmp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        tmp
    }

    #[test]
    fn the_cpuset_is_found_where_it_is() {
        let root = nix::unistd::geteuid().is_root();
        let files = [("proc/self/cgroup", "9:cpuset:/x\n0::/a/b\n")];
        let tmp = host(HYBRID, &files);
        let mount = Some(tmp.path().join("sys/fs/cgroup/unified"));
        let own = "/a/b".to_owned();
        let tree = Tree { mount, own, cpuset: Cpuset::V1, systemd: false, root };
        assert_eq!(Tree::read(tmp.path()), tree);

        let files = [
            ("sys/fs/cgroup/cgroup.controllers", "cpu cpuset memory\n"),
            ("run/systemd/system/x", ""),
        ];
        let tmp = host(UNIFIED, &files);
        let mount = Some(tmp.path().join("sys/fs/cgroup"));
        let tree = Tree { mount, own: "/".to_owned(), cpuset: Cpuset::V2, systemd: true, root };
        assert_eq!(Tree::read(tmp.path()), tree);

        let tmp = host("", &[]);
        let tree = Tree {
            mount: None,
            own: "/".to_owned(),
            cpuset: Cpuset::Missing,
            systemd: false,
            root,
        };
        assert_eq!(Tree::read(tmp.path()), tree);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let tmp = host("", &[]);
        let fifo = tmp.path().join("proc/self/mountinfo");
        let _ = std::fs::remove_file(&fifo);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("made");
        assert_eq!(Tree::read(tmp.path()).mount, None);
    }
}
