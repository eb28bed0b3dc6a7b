//! Why an engine could not do what it was asked for.

use std::fmt;
use std::io;

use crate::advice::Shortfall;
use crate::advise::AdviseError;
use crate::claims::ClaimError;
use crate::error::SourceError;

/// Why an [`Engine`](crate::Engine) could not start, advise, place, claim or release.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// The host cannot be read.
    Source(SourceError),
    /// The request cannot be answered on this host.
    Advise(AdviseError),
    /// The claims cannot be read or changed.
    Claims(ClaimError),
    /// The request does not fit, so nothing was claimed.
    DoesNotFit(Shortfall),
    /// Not all claims of the host could be read, so memory would be promised again: why, a sentence each.
    UnreadClaims(Vec<String>),
    /// What was advised has been claimed or used since, so nothing was claimed.
    Changed,
    /// The engine was started without claims.
    WithoutClaims,
    /// This process was forked after the engine had started, and the thread is the parent's.
    Forked,
    /// The sampling thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::Advise(error) => error.fmt(f),
            Self::Claims(error) => error.fmt(f),
            Self::DoesNotFit(Shortfall { cpus, memory }) => {
                write!(f, "the request does not fit: {cpus} CPUs and {memory} are missing")
            }
            Self::UnreadClaims(why) => {
                write!(f, "not all claims of this host can be read: {}", why.join("; "))
            }
            Self::WithoutClaims => {
                f.write_str("the engine counts no claims: start it with EngineBuilder::claims")
            }
            Self::Changed => f.write_str("what was advised does not fit any more: it was claimed or used since"),
            Self::Forked => f.write_str(
                "the engine was started before this process was forked: its thread is the parent's; start another",
            ),
            Self::Thread(_) => f.write_str("cannot start the sampling thread"),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => error.source(),
            Self::Advise(error) => error.source(),
            Self::Claims(error) => error.source(),
            Self::DoesNotFit(_)
            | Self::UnreadClaims(_)
            | Self::Changed
            | Self::WithoutClaims
            | Self::Forked => None,
            Self::Thread(error) => Some(error),
        }
    }
}

impl From<SourceError> for EngineError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<AdviseError> for EngineError {
    fn from(error: AdviseError) -> Self {
        Self::Advise(error)
    }
}

impl From<ClaimError> for EngineError {
    fn from(error: ClaimError) -> Self {
        Self::Claims(error)
    }
}
