//! What the asking process may use.
//!
//! Two lines of `/proc/self/status` are read here and not by procfs: its reader refuses the whole
//! file for a process name that is not UTF-8, and takes a damaged list for no limit at all.

use super::cgroup::Groups;
use super::{SysRoot, file};
use crate::error::SourceError;
use crate::ids::Id;
use crate::idset::{CpuSet, IdSet};
use crate::parse::{ParseError, list};
use crate::request::Limits;

impl Limits {
    /// Reads what this process may use, or what the recorded one might. A recording without
    /// `proc/self/status` has no limits, and a kernel without cpusets none of nodes.
    ///
    /// Source: `Cpus_allowed_list` and `Mems_allowed_list` of `/proc/self/status`, which already
    /// hold the effective cpuset of cgroup v1 and v2; the limits of memory and CPU time of the
    /// control groups that `/proc/self/cgroup` names and of all their ancestors that can be seen:
    /// `memory.max`, `memory.high`, `cpu.max` (v2), `memory.limit_in_bytes`, `cpu.cfs_quota_us` (v1).
    /// Errors: a file cannot be read; one is damaged, or a list is empty: what is allowed is not
    /// known then, and no kernel writes that.
    ///
    /// ```no_run
    /// use placer_engine::{Limits, SysRoot};
    /// let limits = Limits::read(&SysRoot::live())?;
    /// println!("{:?}", limits.cpus);
    /// # Ok::<(), placer_engine::SourceError>(())
    /// ```
    pub fn read(root: &SysRoot) -> Result<Self, SourceError> {
        let path = root.path("proc/self/status");
        let error = |e| SourceError::parse(&path, e);
        let text = file::read(&path)?.unwrap_or_default();
        let groups = Groups::read(root)?;
        Ok(Self {
            cpus: allowed(&text, b"Cpus_allowed_list:").map_err(error)?,
            memory_nodes: allowed(&text, b"Mems_allowed_list:").map_err(error)?,
            memory: groups.memory(root)?,
            cpu_time: groups.cpu(root)?,
        })
    }

    /// Reads what this process could use if it gave itself the widest affinity: what its control
    /// groups leave it, whatever `taskset` has narrowed it to. What it starts cannot have more
    /// without leaving the group.
    ///
    /// Source: as [`read`](Self::read), with `cpuset.cpus.effective` and `cpuset.mems.effective` (v2)
    /// or `cpuset.effective_cpus` and `cpuset.effective_mems` (v1) in place of `/proc/self/status`.
    /// Errors: as there.
    pub fn of_group(root: &SysRoot) -> Result<Self, SourceError> {
        let groups = Groups::read(root)?;
        Ok(Self {
            cpus: groups.cpus(root)?,
            memory_nodes: groups.memory_nodes(root)?,
            memory: groups.memory(root)?,
            cpu_time: groups.cpu(root)?,
        })
    }

    /// Reads which CPUs and nodes a control group leaves those in it. It need not be there yet: the nearest ancestor that
    /// has a cpuset counts. `name` is its path from the root of the hierarchies, as in `/machine.slice`; one outside of
    /// what this process can see limits nothing.
    ///
    /// Source: `cpuset.cpus.effective` and `cpuset.mems.effective` (v2), `cpuset.effective_cpus` and
    /// `cpuset.effective_mems` (v1).
    /// Errors: a file cannot be read or is damaged.
    ///
    /// ```no_run
    /// use placer_engine::{Limits, SysRoot};
    /// let limits = Limits::of_cpuset(&SysRoot::live(), "/machine.slice")?;
    /// println!("{:?}", limits.memory_nodes);
    /// # Ok::<(), placer_engine::SourceError>(())
    /// ```
    pub fn of_cpuset(root: &SysRoot, name: &str) -> Result<Self, SourceError> {
        let groups = Groups::of(root, name)?;
        let (cpus, memory_nodes) = (groups.cpus(root)?, groups.memory_nodes(root)?);
        Ok(Self { cpus, memory_nodes, ..Self::default() })
    }
}

/// Reads the CPUs that this process may run on. `None` also where the file is damaged: what depends
/// on limits reads them itself and says so.
pub(super) fn allowed_cpus(root: &SysRoot) -> Option<CpuSet> {
    let text = file::read(&root.path("proc/self/status")).ok()??;
    allowed(&text, b"Cpus_allowed_list:").ok()?
}

/// Reads the list behind `key`. `None` when no line has that key.
fn allowed<T: Id>(text: &[u8], key: &[u8]) -> Result<Option<IdSet<T>>, ParseError> {
    let mut start = 0;
    for line in text.split_inclusive(|&b| b == b'\n') {
        if let Some(value) = line.strip_prefix(key) {
            let blanks = value.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
            let set = list::parse_at(text, start + key.len() + blanks..start + line.len())?;
            let wanted = "at least one id that is allowed";
            let missing = || ParseError::at(text, start + key.len() + blanks, wanted);
            return if set.is_empty() { Err(missing()) } else { Ok(Some(set)) };
        }
        start += line.len();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    fn nodes(text: &[u8]) -> Result<Option<String>, String> {
        let set = allowed::<NodeId>(text, b"Mems_allowed_list:");
        set.map(|set| set.map(|set| set.to_string())).map_err(|e| e.to_string())
    }

    #[test]
    fn the_rest_of_the_file_does_not_matter() {
        let text = b"Name:\t\xff\xfe(\nMems_allowed:\t3\nMems_allowed_list:\t0-1,7\nx";
        assert_eq!(nodes(text), Ok(Some("0-1,7".to_owned())));
        assert_eq!(nodes(b"Name:\tsh\nCpus_allowed_list:\t0-1\n"), Ok(None));
        assert_eq!(nodes(b""), Ok(None));
    }

    #[test]
    fn a_damaged_list_is_no_freedom() {
        let wrong =
            |list: &str| nodes(format!("Name:\tsh\nMems_allowed_list:\t{list}\n").as_bytes());
        for (list, error) in [
            ("0-1,", "2:24: expected a number, found nothing"),
            ("0-", "2:22: expected a number, found nothing"),
            ("3-1", "2:20: expected a range that ascends, found \"3-1\""),
            ("", "2:20: expected at least one id that is allowed, found the end of the line"),
        ] {
            assert_eq!(wrong(list), Err(error.to_owned()), "{list:?}");
        }
    }
}
