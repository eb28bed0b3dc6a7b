//! Why a claim could not be kept.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::claim::ClaimId;
use crate::error::SourceError;
use crate::idset::CpuSet;
use crate::store::StoreError;

/// Why the ledger could not be read or changed. An answer can be given without it; it is then not
/// protected, or does not count what others were promised.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClaimError {
    /// The directory, or the ledger in it, cannot be used.
    Store(StoreError),
    /// The processes of this host cannot be looked at.
    Processes(SourceError),
    /// Another holds the lock, and has not let go of it in time.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, where it has said so.
        holder: Option<u32>,
        /// How long it has been waited for.
        waited: Duration,
    },
    /// The kernel refused a step.
    Io {
        /// What was done: "lock", "write", ...
        attempted: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The ledger has no room.
    Full {
        /// The number of claims it holds at most.
        limit: usize,
    },
    /// The ledger would be larger than readers accept.
    TooLarge {
        /// Its largest size in bytes.
        limit: usize,
    },
    /// There is no claim of this id.
    NoSuchClaim(ClaimId),
    /// The claim of a guest started without placer, which is not for others to change.
    Observed(ClaimId),
    /// Other claims own CPUs that single threads of the guest were to have for themselves.
    Owned(CpuSet),
    /// There is no place for the ledger.
    NoPlace,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Processes(error) => write!(f, "cannot examine the processes: {error}"),
            Self::Locked { path, holder, waited } => {
                let holder =
                    holder.map_or("another process".to_owned(), |p| format!("process {p}"));
                let (path, ms) = (path.display(), waited.as_millis());
                write!(f, "cannot lock {path}: {holder} has held it for {ms} ms (is it stopped?)")
            }
            Self::Io { attempted, path, .. } => write!(f, "cannot {attempted} {}", path.display()),
            Self::Full { limit } => write!(
                f,
                "cannot claim: expected room among at most {limit} claims, found none \
                 (`placer ps` lists them, `placer release ID` ends one)"
            ),
            Self::TooLarge { limit } => write!(
                f,
                "cannot claim: the ledger would be larger than {limit} bytes \
                 (`placer ps` lists the claims, `placer release ID` ends one)"
            ),
            Self::NoSuchClaim(id) => {
                write!(f, "there is no claim {id} (`placer ps` lists them)")
            }
            Self::Observed(id) => write!(
                f,
                "cannot change claim {id}: it was detected, not requested, and ends with its \
                 guest or when the guest has touched all its memory"
            ),
            Self::Owned(cpus) => write!(
                f,
                "cannot claim CPUs {cpus}: other guests own them (`placer ps` lists the claims)"
            ),
            Self::NoPlace => {
                write!(f, "no directory for claims: set XDG_RUNTIME_DIR or PLACER_STATE_DIR")
            }
        }
    }
}

impl std::error::Error for ClaimError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The message is theirs: what follows is their cause.
            Self::Store(error) => error.source(),
            Self::Processes(error) => error.source(),
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<StoreError> for ClaimError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SourceError> for ClaimError {
    fn from(error: SourceError) -> Self {
        Self::Processes(error)
    }
}
