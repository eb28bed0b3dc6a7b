//! What can go wrong: [`SourceError`] while reading a host, [`AdviseError`] while choosing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::parse::ParseError;
use crate::units::Bytes;

/// Why a host could not be read. Says on which file, what was seen and what was wanted.
#[derive(Debug)]
pub enum SourceError {
    /// The kernel refused to open or read a file.
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file was read, and its text is not what it should be.
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: ParseError,
    },
    /// A file is larger than any kernel makes it.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many bytes were accepted.
        limit: usize,
    },
    /// Something that is no ordinary file lies where a file should be.
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// No node directory was found.
    NoNodes {
        /// The directory that should list them.
        path: PathBuf,
    },
    /// More nodes than any kernel has.
    TooManyNodes {
        /// The directory that lists them.
        path: PathBuf,
        /// How many were accepted.
        limit: usize,
    },
    /// A file that has to be there is not.
    Missing {
        /// The file.
        path: PathBuf,
        /// What it is needed for.
        needed_for: &'static str,
    },
    /// The host kept changing while it was read.
    Unsteady {
        /// How often reading was begun anew.
        tries: u32,
        /// What was missing the last time.
        last: Box<SourceError>,
    },
}

impl SourceError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn parse(path: &Path, error: ParseError) -> Self {
        Self::Parse { path: path.to_owned(), error }
    }

    /// Returns whether what was wanted is simply not there, now: a file or device that is gone.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_gone(source),
            Self::Missing { .. } => true,
            _ => false,
        }
    }
}

/// A sysfs file whose node or CPU has left answers ENODEV when it is still open, ENOENT when not.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Parse { path, error } => write!(f, "{}:{error}", path.display()),
            Self::TooLarge { path, limit } => {
                write!(f, "{}: expected at most {limit} bytes, found more", path.display())
            }
            Self::NotAFile { path } => {
                write!(f, "{}: expected an ordinary file, found something else", path.display())
            }
            Self::NoNodes { path } => {
                let path = path.display();
                write!(f, "{path}: expected node directories (node0, ...), found none")
            }
            Self::TooManyNodes { path, limit } => {
                write!(f, "{}: expected at most {limit} nodes, found more", path.display())
            }
            Self::Missing { path, needed_for } => {
                write!(f, "{}: expected a file (for {needed_for}), found none", path.display())
            }
            Self::Unsteady { tries, .. } => {
                write!(f, "the host changed while it was read, {tries} times in a row")
            }
        }
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Unsteady { last, .. } => Some(last),
            _ => None,
        }
    }
}

/// Why no advice could be given for a host that was read.
#[derive(Clone, Debug, PartialEq)]
pub enum AdviseError {
    /// The request is beyond [`Request::MAX_CPUS`](crate::Request::MAX_CPUS) or
    /// [`Request::MAX_MEMORY`](crate::Request::MAX_MEMORY).
    BeyondAnyHost,
    /// numad's rules have no answer for this host; the text is numad's own where it has one.
    Numad(crate::policy::numad::Failure),
    /// A distance of zero: nothing is nearer than a node to itself.
    ZeroDistance {
        /// From the CPUs of this node.
        from: NodeId,
    },
    /// Figures of the host that policy `best` cannot count with.
    Figures(crate::policy::best::HostError),
    /// Huge pages were asked for, and the snapshot has not read those of this size.
    PagesNotRead(Bytes),
    /// The device is on a node that the host does not have.
    NoSuchNode {
        /// The node.
        node: NodeId,
        /// The nodes of the host.
        host: NodeSet,
    },
    /// None of the host's nodes may be used, or none of those with memory where memory is asked for.
    NoNodeAllowed {
        /// The nodes that were allowed.
        allowed: NodeSet,
        /// The nodes of the host.
        host: NodeSet,
    },
    /// One last-level cache was required for the guest, and none holds it.
    NoCache {
        /// CPUs asked for.
        cpus: crate::units::CpuShare,
        /// Free CPUs of the advised nodes' cache that has most of them; `None` where the host's caches are
        /// not known.
        most: Option<u32>,
    },
}

impl fmt::Display for AdviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondAnyHost => {
                f.write_str("expected at most 1000000 CPUs and 2^56 bytes of memory, found more")
            }
            Self::Numad(failure) => {
                write!(f, "numad's rules have no answer for this host: {failure}")
            }
            Self::ZeroDistance { from } => write!(
                f,
                "node{from}/distance: expected distances of at least 1 (10 is local), found 0"
            ),
            Self::Figures(error) => write!(f, "the figures of this host: {error}"),
            Self::PagesNotRead(size) => {
                write!(f, "pages of {size} were asked for, and the snapshot has not read them")
            }
            Self::NoSuchNode { node, host } => {
                write!(f, "the device is on node {node}, and the host has nodes {host}")
            }
            Self::NoNodeAllowed { allowed, host } => {
                let allowed = if allowed.is_empty() {
                    "no node".to_owned()
                } else {
                    format!("nodes {allowed}")
                };
                write!(f, "nothing to choose from: {allowed} allowed, the host has nodes {host}")
            }
            Self::NoCache { cpus, most } => {
                write!(f, "no last-level cache holds {cpus} CPUs: ")?;
                match most {
                    Some(most) => write!(f, "the one with most has {most} free")?,
                    None => f.write_str("the host's caches are not known")?,
                }
                f.write_str(" (leave out --cache require)")
            }
        }
    }
}

impl std::error::Error for AdviseError {}
