//! What can go wrong: [`SourceError`] while reading a host.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::parse::ParseError;

/// Why a host could not be read. Says on which file, what was seen and what was wanted.
#[derive(Debug)]
#[non_exhaustive]
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
