//! The control groups that this process is in, and what they limit.
//!
//! ```text
//! proc/self/cgroup (which group) + mounts (where it is) -> Hierarchy: the group, then its ancestors
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::{SysRoot, file};
use crate::error::SourceError;
use crate::ids::Id;
use crate::idset::{CpuSet, IdSet, NodeSet};
use crate::parse::cgroup::{self as text, Membership, MemoryStat, Mount};
use crate::parse::{self, ParseError};
use crate::request::{CpuLimit, MemoryLimit};
use crate::units::{Bytes, CpuShare};

const MEMBERSHIP: &str = "proc/self/cgroup";
const MOUNTS: &str = "proc/self/mountinfo";
/// Where groups usually are.
const USUAL: &str = "sys/fs/cgroup";

/// The files of a group that limits are read from, in v2 and in the v1 hierarchies. What a recording
/// keeps of a group.
pub(super) const V2_FILES: &[&str] = &[
    "cpu.max",
    "cpuset.cpus.effective",
    "cpuset.mems.effective",
    "memory.current",
    "memory.high",
    "memory.max",
    "memory.stat",
];
const V1_MEMORY_FILES: &[&str] =
    &["memory.limit_in_bytes", "memory.stat", "memory.usage_in_bytes", "memory.use_hierarchy"];
const V1_CPU_FILES: &[&str] = &["cpu.cfs_period_us", "cpu.cfs_quota_us"];
const V1_CPUSET_FILES: &[&str] =
    &["cpuset.cpus", "cpuset.effective_cpus", "cpuset.effective_mems", "cpuset.mems"];

/// The v1 controllers that limits come from, with where each is usually mounted and its files.
pub(super) const V1: [(&str, &[&str], &[&str]); 3] = [
    ("memory", &["memory"], V1_MEMORY_FILES),
    ("cpu", &["cpu,cpuacct", "cpu"], V1_CPU_FILES),
    ("cpuset", &["cpuset"], V1_CPUSET_FILES),
];

/// One group, as far as it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// As `/proc/self/cgroup` names it. Print it with care.
    pub(super) name: String,
    /// How many groups are above it in its cgroup namespace.
    pub(super) depth: usize,
    /// Its directory, relative to the root.
    pub(super) dir: String,
}

/// The group of this process in one hierarchy, then its ancestors, the nearest first.
pub(super) type Hierarchy = Vec<Group>;

/// The groups of this process, in every hierarchy that limits something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) v2: Hierarchy,
    /// In the order of [`V1`].
    pub(super) v1: [Hierarchy; 3],
}

impl Groups {
    /// Finds the groups of this process, or of the recorded one. A host without control groups has
    /// none, and so has a process whose groups are not mounted where it can see them.
    ///
    /// Source: `/proc/self/cgroup`; the usual places below `/sys/fs/cgroup`, and
    /// `/proc/self/mountinfo` where they are elsewhere.
    /// Errors: a file cannot be read or is damaged.
    pub(super) fn read(root: &SysRoot) -> Result<Self, SourceError> {
        Self::find(root, None)
    }

    /// Finds a group that may not be there yet, with its ancestors, in all hierarchies that this process is in.
    ///
    /// Source, errors: as [`read`](Self::read).
    pub(super) fn of(root: &SysRoot, name: &str) -> Result<Self, SourceError> {
        Self::find(root, Some(name))
    }

    fn find(root: &SysRoot, name: Option<&str>) -> Result<Self, SourceError> {
        let path = root.path(MEMBERSHIP);
        let Some(membership) = file::read(&path)? else { return Ok(Self::default()) };
        let all = text::memberships(&membership).map_err(|e| SourceError::parse(&path, e))?;
        let mut mounts = Mounts { root, read: None, own: name.is_none() };
        let mut groups = Self::default();
        for mut one in all {
            one.path = name.map_or(one.path, str::as_bytes);
            if one.controllers.is_empty() {
                groups.v2 = mounts.find(&one, None, &["", "unified"])?;
            }
            for (at, (controller, places, _)) in V1.iter().enumerate() {
                if names(one.controllers, controller) {
                    groups.v1[at] = mounts.find(&one, Some(controller), places)?;
                }
            }
        }
        Ok(groups)
    }

    /// Returns the memory limit that leaves least.
    pub(super) fn memory(&self, root: &SysRoot) -> Result<Option<MemoryLimit>, SourceError> {
        let mut least: Option<MemoryLimit> = None;
        let mut keep = |group: &Group, file: &str, limit: Bytes, used: Bytes| {
            let left = limit.saturating_sub(used);
            if least.as_ref().is_none_or(|least| left < least.left) {
                let (group, file) = (group.name.clone(), file.to_owned());
                least = Some(MemoryLimit { group, file, limit, left });
            }
        };
        for group in &self.v2 {
            for name in ["memory.max", "memory.high"] {
                if let Some(limit) = bytes(root, group, name)? {
                    let stat = stat(root, group)?;
                    keep(group, name, limit, used(root, group, "memory.current", &stat)?);
                }
            }
        }
        let mut hidden = None;
        for (above, group) in self.v1[0].iter().enumerate() {
            // One file says it for all groups above, where none has a limit.
            let own = if above == 0 { Some(stat(root, group)?) } else { None };
            if own.is_some_and(|own| own.unlimited) {
                break;
            }
            let hierarchical = read(root, group, "memory.use_hierarchy")?;
            if above > 0 && hierarchical.is_some_and(|(_, text)| parse::trim_end(&text) == b"0") {
                // Memory of groups below is not charged to this one.
                break;
            }
            let name = "memory.limit_in_bytes";
            let limit = bytes(root, group, name)?;
            if limit.is_none() && above > 0 {
                continue;
            }
            let stat = own.map_or_else(|| stat(root, group), Ok)?;
            let used = used(root, group, "memory.usage_in_bytes", &stat)?;
            if let Some(limit) = limit {
                keep(group, name, limit, used);
            }
            if above == 0 {
                hidden = stat.lowest_limit.map(|limit| (group, limit, used));
            }
        }
        // Last, so that a group that can be seen is named before one that cannot.
        if let Some((group, limit, used)) = hidden {
            keep(group, "hierarchical_memory_limit", limit, used);
        }
        Ok(least)
    }

    /// Returns the lowest limit of CPU time. A group with less than a CPU can still run one thread,
    /// so that no limit is below one CPU.
    pub(super) fn cpu(&self, root: &SysRoot) -> Result<Option<CpuLimit>, SourceError> {
        let mut least: Option<CpuLimit> = None;
        let mut keep = |group: &Group, file: &str, limit: CpuShare| {
            let limit = limit.max(CpuShare::from_hundredths(100));
            if least.as_ref().is_none_or(|least| limit < least.limit) {
                let (group, file) = (group.name.clone(), file.to_owned());
                least = Some(CpuLimit { group, file, limit });
            }
        };
        for group in &self.v2 {
            if let Some((path, text)) = read(root, group, "cpu.max")? {
                let limit = text::cpu_max(&text).map_err(|e| SourceError::parse(&path, e))?;
                limit.into_iter().for_each(|limit| keep(group, "cpu.max", limit));
            }
        }
        for group in &self.v1[1] {
            let quota = read(root, group, "cpu.cfs_quota_us")?;
            let period = read(root, group, "cpu.cfs_period_us")?;
            if let Some(((path, quota), (_, period))) = quota.zip(period) {
                let limit = text::cfs_quota(&quota, &period);
                let limit = limit.map_err(|e| SourceError::parse(&path, e))?;
                limit.into_iter().for_each(|limit| keep(group, "cpu.cfs_quota_us", limit));
            }
        }
        Ok(least)
    }

    /// Returns the CPUs that the cpuset of the group leaves it, whatever the affinity of its processes is; `None`
    /// where no cpuset is seen.
    pub(super) fn cpus(&self, root: &SysRoot) -> Result<Option<CpuSet>, SourceError> {
        self.cpuset(root, "cpuset.cpus.effective", ["cpuset.effective_cpus", "cpuset.cpus"])
    }

    /// Returns the nodes whose memory it leaves, likewise.
    pub(super) fn memory_nodes(&self, root: &SysRoot) -> Result<Option<NodeSet>, SourceError> {
        self.cpuset(root, "cpuset.mems.effective", ["cpuset.effective_mems", "cpuset.mems"])
    }

    fn cpuset<T: Id>(
        &self,
        root: &SysRoot,
        v2: &'static str,
        v1: [&'static str; 2],
    ) -> Result<Option<IdSet<T>>, SourceError> {
        // A group without the controller, or that is not there yet, has the cpuset of the next ancestor that has it.
        let unified = self.v2.iter().map(|group| (group, v2));
        let all = self.v1[2].iter().flat_map(|group| v1.iter().map(move |&name| (group, name)));
        for (group, name) in all.chain(unified) {
            let Some((path, text)) = read(root, group, name)? else { continue };
            let set = parse::list::parse(&text).map_err(|e| SourceError::parse(&path, e))?;
            if !IdSet::is_empty(&set) {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }
}

fn names(controllers: &[u8], controller: &str) -> bool {
    controllers.split(|&b| b == b',').any(|name| name == controller.as_bytes())
}

fn read(
    root: &SysRoot,
    group: &Group,
    name: &str,
) -> Result<Option<(PathBuf, Vec<u8>)>, SourceError> {
    let path = root.path(&group.dir).join(name);
    Ok(file::read(&path)?.map(|text| (path, text)))
}

fn bytes(root: &SysRoot, group: &Group, name: &str) -> Result<Option<Bytes>, SourceError> {
    let Some((path, text)) = read(root, group, name)? else { return Ok(None) };
    text::bytes(&text).map_err(|e| SourceError::parse(&path, e))
}

fn stat(root: &SysRoot, group: &Group) -> Result<MemoryStat, SourceError> {
    let Some((path, text)) = read(root, group, "memory.stat")? else {
        return Ok(MemoryStat::default());
    };
    text::memory_stat(&text).map_err(|e| SourceError::parse(&path, e))
}

/// Returns what a group uses and the kernel does not give up for its limit.
fn used(
    root: &SysRoot,
    group: &Group,
    name: &'static str,
    stat: &MemoryStat,
) -> Result<Bytes, SourceError> {
    let path = root.path(&group.dir).join(name);
    let Some(text) = file::read(&path)? else {
        return Err(SourceError::Missing { path, needed_for: "the memory that the group uses" });
    };
    let wanted = || SourceError::parse(&path, ParseError::at(&text, 0, "a number of bytes"));
    let current = text::bytes(&text).map_err(|e| SourceError::parse(&path, e))?;
    Ok(current.ok_or_else(wanted)?.saturating_sub(stat.file_cache))
}

/// Returns whether the cpusets of a host are in cgroup v1, which takes no node without memory in
/// `cpuset.mems`.
///
/// Source: `/proc/self/cgroup`.
/// Errors: the file cannot be read or is damaged.
pub fn has_v1_cpusets(root: &SysRoot) -> Result<bool, SourceError> {
    let path = root.path(MEMBERSHIP);
    let Some(membership) = file::read(&path)? else { return Ok(false) };
    let all = text::memberships(&membership).map_err(|e| SourceError::parse(&path, e))?;
    Ok(all.iter().any(|one| names(one.controllers, "cpuset")))
}

/// Where cgroup file systems are. On hosts of many containers the table of mounts is megabytes
/// long: it is read only where the usual places do not do.
struct Mounts<'a> {
    root: &'a SysRoot,
    read: Option<Vec<Mount>>,
    /// Whether the groups of this process are looked for, which are there.
    own: bool,
}

impl Mounts<'_> {
    /// Finds a group and its ancestors, in the v1 hierarchy of a controller or in v2.
    fn find(
        &mut self,
        of: &Membership<'_>,
        controller: Option<&str>,
        places: &[&str],
    ) -> Result<Hierarchy, SourceError> {
        let usual = places.iter().rev().find_map(|place| {
            let at = Path::new(USUAL).join(place);
            let groups = groups(&at, b"/", of.path);
            // Another file system may be in the place of the usual one. A recording has only what
            // limits something.
            let found = if self.root.is_live() {
                let there = if self.own { groups.first()? } else { groups.last()? };
                self.root.path(&there.dir).join("cgroup.procs").exists()
            } else {
                self.root.path(at.to_str()?).is_dir()
            };
            found.then_some(groups)
        });
        if self.root.is_live()
            && let Some(groups) = usual
        {
            return Ok(groups);
        }
        if self.read.is_none() {
            self.read = file::read_large(&self.root.path(MOUNTS))?.map(|text| text::mounts(&text));
        }
        let Some(mounts) = &self.read else { return Ok(usual.unwrap_or_default()) };
        let fits = |mount: &&Mount| match controller {
            None => mount.v2,
            Some(controller) => !mount.v2 && names(&mount.options, controller),
        };
        let found = mounts.iter().filter(fits).map(|mount| {
            let at = Path::new(OsStr::from_bytes(&mount.at));
            groups(at.strip_prefix("/").unwrap_or(at), &mount.root, of.path)
        });
        // The mount that shows most ancestors; of equal ones the first.
        let most = found.reduce(|most, one| if one.len() > most.len() { one } else { most });
        Ok(most.unwrap_or_default())
    }
}

/// Returns the directories of a group and its ancestors below a mount point, which shows the group
/// `mounted`. Empty where the group is not below that.
fn groups(at: &Path, mounted: &[u8], path: &[u8]) -> Hierarchy {
    let Some(mut dir) = plain(at).map(|_| at.to_owned()) else { return Vec::new() };
    let mounted = Path::new(OsStr::from_bytes(mounted));
    let Some(parts) = plain(Path::new(OsStr::from_bytes(path))) else { return Vec::new() };
    let above = |part: Component<'_>| matches!(part, Component::ParentDir | Component::RootDir);
    let (first, below) = match plain(mounted) {
        Some(mounted) if parts.starts_with(&mounted) => (mounted.len(), &parts[mounted.len()..]),
        // Mounted outside of the cgroup namespace, at an ancestor of it: only that can be seen.
        None if mounted.components().all(above) => (0, &parts[..0]),
        _ => return Vec::new(),
    };
    let mut groups = Vec::with_capacity(below.len() + 1);
    for depth in first..=first + below.len() {
        if depth > first {
            dir.push(parts[depth - 1]);
        }
        let Some(text) = dir.to_str() else { return Vec::new() };
        let name: PathBuf = parts[..depth].iter().collect();
        groups.push(Group { name: format!("/{}", name.display()), depth, dir: text.to_owned() });
    }
    groups.reverse();
    groups
}

/// Returns the names of a path; `None` where a part of it leads up.
fn plain(path: &Path) -> Option<Vec<&OsStr>> {
    let parts = path.components().filter(|part| !matches!(part, Component::RootDir));
    parts.map(|part| if let Component::Normal(name) = part { Some(name) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(at: &str, mounted: &str, path: &str) -> Vec<(String, String)> {
        let all = groups(Path::new(at), mounted.as_bytes(), path.as_bytes());
        all.into_iter().map(|group| (group.name, group.dir)).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|&(name, dir)| (name.to_owned(), dir.to_owned())).collect()
    }

    #[test]
    fn ancestors_are_those_that_the_mount_shows() {
        assert_eq!(dirs("c", "/", "/a/b"), pairs(&[("/a/b", "c/a/b"), ("/a", "c/a"), ("/", "c")]));
        assert_eq!(dirs("c", "/", "/"), pairs(&[("/", "c")]));
        // A container without a cgroup namespace.
        let seen = pairs(&[("/docker/x/y", "c/y"), ("/docker/x", "c")]);
        assert_eq!(dirs("c", "/docker/x", "/docker/x/y"), seen);
        // Mounted before the cgroup namespace was made.
        assert_eq!(dirs("c", "/../..", "/a"), pairs(&[("/", "c")]));
        // Elsewhere, or outside of the namespace.
        for (mounted, path) in [("/a", "/ab"), ("/a", "/"), ("/", "/../b"), ("/a", "/a/../../etc")]
        {
            assert_eq!(dirs("c", mounted, path), [], "{mounted} {path}");
        }
        assert_eq!(dirs("../c", "/", "/a"), []);
    }

    #[test]
    fn depth_is_counted_from_the_root_of_the_namespace() {
        let all = groups(Path::new("c"), b"/docker/x", b"/docker/x/y");
        assert_eq!(all.iter().map(|group| group.depth).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(groups(Path::new("c"), b"/", &b"/x".repeat(2000)).len(), 2001);
    }
}
