//! The single things that are done to start a guest.

mod group;

pub use group::GroupStep;

use std::ffi::OsString;
use std::fmt;

use nix::errno::Errno;
use placer_engine::{Bytes, CpuSet, NodeSet};

use crate::error::LaunchError;
use crate::guest::MemoryMode;
use crate::quote::quoted;

/// One thing that is done to start a guest: by the process that becomes it, in order, up to
/// [`Exec`](Self::Exec); from outside after that. Shown as a dry run shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// By the launcher: something about the guest's control group.
    Group(GroupStep),
    /// Run on these CPUs only.
    Affinity {
        /// The CPUs.
        cpus: CpuSet,
    },
    /// Take memory from these nodes.
    Memory {
        /// How.
        mode: MemoryMode,
        /// The nodes; for [`MemoryMode::None`] they do not matter.
        nodes: NodeSet,
    },
    /// Keep all descriptors past standard error from the program, those that a caller of the launcher left open
    /// too. [`Keep`](Self::Keep) behind it takes single ones out.
    CloseOthers,
    /// Keep this descriptor open in the program, against close-on-exec.
    Keep {
        /// The descriptor.
        fd: i32,
        /// What it is, for people.
        what: &'static str,
    },
    /// Be this user, with the user's groups, from here on.
    User {
        /// The name in `/etc/passwd`, or the number there.
        name: String,
    },
    /// Set a variable in the environment of the program.
    Variable {
        /// The name.
        name: &'static str,
        /// The value.
        value: String,
    },
    /// Become this program.
    Exec {
        /// The program, looked for in PATH, and its arguments.
        argv: Vec<OsString>,
    },
    /// From outside, on a machine that is still stopped: let these threads run on these CPUs only.
    Pin {
        /// Which threads of it.
        thread: Thread,
        /// The CPUs.
        cpus: CpuSet,
    },
    /// From outside: ask the machine to give back memory until it has `size`.
    Balloon {
        /// The memory it keeps.
        size: Bytes,
    },
    /// From outside: let the machine run.
    Continue,
}

/// Threads of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thread {
    /// The vCPU of this number, from 0.
    Vcpu(u32),
    /// The I/O thread of this number, from 1.
    Io(u32),
    /// All others.
    Emulator,
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcpu(number) => write!(f, "vCPU {number}"),
            Self::Io(number) => write!(f, "I/O thread {number}"),
            Self::Emulator => f.write_str("the emulator"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(step) => step.fmt(f),
            Self::Affinity { cpus } => write!(f, "cpus    {cpus}"),
            Self::Memory { mode: MemoryMode::None, .. } => write!(f, "memory  not bound"),
            Self::Memory { mode, nodes } => write!(f, "memory  {mode} on {nodes}"),
            Self::Exec { argv } => exec_line(f, argv),
            Self::CloseOthers => f.write_str("close   inherited descriptors"),
            Self::Keep { fd, what } => write!(f, "keep    descriptor {fd} ({what})"),
            Self::User { name } => write!(f, "user    {name}"),
            Self::Variable { name, value } => write!(f, "set     {name}={value}"),
            Self::Pin { thread, cpus } => write!(f, "pin     {thread} to CPUs {cpus}"),
            Self::Balloon { size } => write!(f, "balloon {} MiB left", size.mib_rounded_up()),
            Self::Continue => f.write_str("run     the machine, stopped until here"),
        }
    }
}

impl Step {
    pub(crate) fn pin(thread: Thread, cpus: &CpuSet) -> Self {
        Self::Pin { thread, cpus: cpus.clone() }
    }

    /// Returns the error for a step after which something else was seen than wanted.
    pub(crate) fn refused_as(&self, errno: Errno, seen: impl Into<String>) -> LaunchError {
        self.refused(errno).but_seen(seen)
    }

    /// Returns the error for a step that the kernel refused.
    pub(crate) fn refused(&self, errno: Errno) -> LaunchError {
        match self {
            Self::Group(step) => step.refused(errno),
            Self::Affinity { cpus } => {
                let error = LaunchError::new(format!("run on CPUs {cpus}"), errno);
                match errno {
                    Errno::EINVAL => error.hint(
                        "none of them is online and allowed by the cpuset this process is in",
                    ),
                    Errno::EPERM => error.hint("CAP_SYS_NICE is required"),
                    _ => error,
                }
            }
            Self::Memory { mode, nodes } => {
                let error = LaunchError::new(format!("bind memory {mode} to nodes {nodes}"), errno);
                match (errno, mode.since()) {
                    (Errno::EINVAL, Some(since)) => error.hint(format!(
                        "the mode {mode} needs Linux {since}, this is {}; or no node of these has \
                         memory that this process may use",
                        release()
                    )),
                    (Errno::EINVAL, None) => {
                        error.hint("no node of these has memory that this process may use")
                    }
                    (Errno::EPERM, _) => error
                        .hint("blocked by a seccomp filter (container runtime?); try --mode none"),
                    (Errno::ENOSYS, _) => error.hint("a kernel without NUMA; try --mode none"),
                    _ => error,
                }
            }
            Self::Exec { argv } => {
                let name = argv.first().map_or_else(|| "nothing".to_owned(), |arg| quoted(arg));
                let error = LaunchError::new(format!("run {name}"), errno);
                match errno {
                    Errno::ENOENT if !name.contains('/') => error.hint("it is not in PATH"),
                    Errno::ENOEXEC => error.hint("it has neither a known format nor a line #!"),
                    _ => error,
                }
            }
            Self::CloseOthers => LaunchError::new("close inherited descriptors", errno),
            Self::Keep { fd, what } => {
                LaunchError::new(format!("keep descriptor {fd} open ({what})"), errno)
            }
            Self::User { name } => {
                let error = LaunchError::new(format!("run as user {name:?}"), errno);
                match errno {
                    Errno::ENOENT => error.hint("/etc/passwd has no such user"),
                    Errno::EPERM => error.hint("only root can start a guest as another user"),
                    _ => error,
                }
            }
            Self::Pin { thread, cpus } => {
                let error = LaunchError::new(format!("run {thread} on CPUs {cpus}"), errno);
                match errno {
                    Errno::EINVAL => {
                        error.hint("none of them is online and allowed by the guest's cpuset")
                    }
                    Errno::EPERM => error.hint("CAP_SYS_NICE is required"),
                    _ => error,
                }
            }
            Self::Balloon { size } => {
                let left = size.mib_rounded_up();
                LaunchError::new(format!("leave the machine {left} MiB"), errno)
            }
            Self::Variable { name, .. } => LaunchError::new(format!("set {name}"), errno),
            Self::Continue => LaunchError::new("let the machine run", errno),
        }
    }
}

fn release() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

/// Writes a command so that a shell would take it, folded where a terminal would.
fn exec_line(f: &mut fmt::Formatter<'_>, argv: &[OsString]) -> fmt::Result {
    const WIDTH: usize = 78;
    const INDENT: usize = 8;
    f.write_str("exec   ")?;
    let mut column = INDENT - 1;
    for arg in argv.iter().map(|arg| quoted(arg)) {
        let width = arg.chars().count();
        if column > INDENT && column + 1 + width > WIDTH {
            write!(f, " \\\n{:INDENT$}{arg}", "")?;
            column = INDENT + width;
        } else {
            write!(f, " {arg}")?;
            column += 1 + width;
        }
    }
    Ok(())
}
