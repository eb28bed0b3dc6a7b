//! The single things that the launcher does on control groups.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::LaunchError;
use crate::systemd::ScopeStep;

/// One thing that the launcher itself does on control groups. Shown as a dry run shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupStep {
    /// Move the launcher into a new group, so that its own may have groups with controllers.
    /// Undone by moving back.
    Leave {
        /// The group it is in.
        from: PathBuf,
        /// The new one in there.
        to: PathBuf,
    },
    /// Let the groups in a group have controllers. Undone only after [`Leave`](Self::Leave), since
    /// other guests in there may have come to need them.
    Enable {
        /// The group.
        dir: PathBuf,
        /// The controllers.
        controllers: Vec<&'static str>,
        /// Whether it is undone.
        undone: bool,
    },
    /// Make the guest's group. Undone by removing it.
    Make {
        /// Its directory.
        dir: PathBuf,
    },
    /// Hold the group to CPUs or nodes. Undone with the group.
    Hold {
        /// Its directory.
        dir: PathBuf,
        /// `cpuset.cpus` or `cpuset.mems`.
        file: &'static str,
        /// A list of CPUs or nodes.
        list: String,
    },
    /// Make a group without controllers in the guest's group, for a program that makes groups beside
    /// its own. Undone with the group.
    Inner {
        /// Its directory.
        dir: PathBuf,
    },
    /// Start the guest's process in the group. Undone by ending that.
    Enter {
        /// Its directory.
        dir: PathBuf,
    },
    /// Have systemd put the process that waits into a scope. Undone by ending that.
    Scope(Box<ScopeStep>),
    /// When the guest has ended: remove the group. Has no undo.
    Remove {
        /// Its directory.
        dir: PathBuf,
    },
}

impl fmt::Display for GroupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("group   ")?;
        match self {
            Self::Leave { to, .. } => write!(f, "move the launcher to {}", shown(to)),
            Self::Enable { dir, controllers, .. } => {
                write!(f, "enable {} in {}", controllers.join(" "), shown(dir))
            }
            Self::Make { dir } | Self::Inner { dir } => write!(f, "make {}", shown(dir)),
            Self::Hold { file, list, .. } => write!(f, "{file} {list}"),
            Self::Scope(scope) => scope.fmt(f),
            Self::Enter { dir } => write!(f, "start in {}", shown(dir)),
            Self::Remove { dir } => write!(f, "remove {} at the end", shown(dir)),
        }
    }
}

impl GroupStep {
    /// Returns the error for a step that the kernel refused.
    pub(crate) fn refused(&self, errno: Errno) -> LaunchError {
        let (what, dir) = match self {
            Self::Scope(scope) => (format!("make the systemd scope {}", scope.unit), &scope.mount),
            Self::Leave { from, to } => (format!("move the launcher to {}", shown(to)), from),
            Self::Enable { dir, controllers, .. } => {
                let names = controllers.join(", ");
                (format!("enable {names} in {}/cgroup.subtree_control", shown(dir)), dir)
            }
            Self::Make { dir } | Self::Inner { dir } => {
                (format!("make the control group {}", shown(dir)), dir)
            }
            Self::Hold { dir, file, list } => {
                (format!("write {list:?} to {}/{file}", shown(dir)), dir)
            }
            Self::Enter { dir } => (format!("start the guest in {}", shown(dir)), dir),
            Self::Remove { dir } => (format!("remove the control group {}", shown(dir)), dir),
        };
        let error = LaunchError::new(what, errno);
        match (self, errno) {
            (Self::Enter { .. }, Errno::EACCES | Errno::EPERM) => error.hint(
                "no permission to write cgroup.procs, in this group or in the common parent of it \
                 and the launcher",
            ),
            (_, Errno::EACCES | Errno::EPERM) => error.hint(format!(
                "no permission to change {}: have it delegated, or name another with \
                 --cgroup-parent",
                shown(dir.parent().unwrap_or(dir))
            )),
            (_, Errno::EROFS) => error.hint("control groups are mounted read-only here"),
            (Self::Make { .. }, Errno::EEXIST) => error.hint(
                "a guest of this name runs there, and its launcher was killed; start this one \
                 again to get another name",
            ),
            (Self::Make { .. } | Self::Inner { .. }, Errno::EAGAIN) => error.hint(
                "the limit cgroup.max.descendants or cgroup.max.depth of a parent group is reached",
            ),
            (Self::Make { .. }, Errno::ENOENT) => error.hint("its parent group does not exist"),
            (Self::Enable { .. } | Self::Enter { .. } | Self::Leave { .. }, Errno::EBUSY) => error
                .hint(
                    "a group cannot have both processes and groups with controllers: name an \
                     empty one with --cgroup-parent",
                ),
            (Self::Enable { .. } | Self::Hold { .. }, Errno::ENOENT) => {
                error.hint("the group around it has no cpuset controller")
            }
            (Self::Enter { .. }, Errno::EOPNOTSUPP) => {
                error.hint("a parent group is threaded, or was when this one was created")
            }
            _ => error,
        }
    }
}

/// Returns a path on one line.
fn shown(path: &Path) -> String {
    crate::quote::quoted(path.as_os_str())
}
