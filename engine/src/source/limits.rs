//! What the asking process may use.

use std::io::Cursor;

use procfs_core::FromBufRead;
use procfs_core::process::Status;

use super::{SysRoot, file};
use crate::error::SourceError;
use crate::ids::Id;
use crate::idset::IdSet;
use crate::parse::ParseError;
use crate::request::Limits;

impl Limits {
    /// Reads what this process may use, or what the recorded one might. A recording without
    /// `proc/self/status` has no limits.
    ///
    /// Source: `Cpus_allowed_list` and `Mems_allowed_list` of `/proc/self/status`, which already
    /// hold the effective cpuset of cgroup v1 and v2.
    ///
    /// ```no_run
    /// use placer_engine::{Limits, SysRoot};
    /// let limits = Limits::read(&SysRoot::live())?;
    /// println!("{:?}", limits.nodes);
    /// # Ok::<(), placer_engine::SourceError>(())
    /// ```
    pub fn read(root: &SysRoot) -> Result<Self, SourceError> {
        let path = root.path("proc/self/status");
        let Some(text) = file::read(&path)? else { return Ok(Self::default()) };
        // procfs knows this file well, and parses it from any text.
        let status = Status::from_buf_read(Cursor::new(text.as_slice())).map_err(|e| {
            SourceError::parse(&path, ParseError::at(&text, 0, format!("a process status ({e})")))
        })?;
        Ok(Self { cpus: set(status.cpus_allowed_list), nodes: set(status.mems_allowed_list) })
    }
}

fn set<T: Id>(ranges: Option<Vec<(u32, u32)>>) -> Option<IdSet<T>> {
    let mut set = IdSet::new();
    for (first, last) in ranges? {
        set.insert_range(T::from_number(first), T::from_number(last));
    }
    Some(set)
}
