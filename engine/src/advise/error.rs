//! Why there is no advice.

use std::fmt;

use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::units::Bytes;

/// Why no advice could be given for a host that was read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AdviseError {
    /// The request is beyond [`Request::MAX_CPUS`](crate::Request::MAX_CPUS) or
    /// [`Request::MAX_MEMORY`](crate::Request::MAX_MEMORY).
    BeyondAnyHost,
    /// numad's rules have no answer for this host; why is the error's source.
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
        /// Free CPUs of the cache that has most of them; `None` where the host's caches are not known.
        most: Option<u32>,
    },
    /// A rule of the request is for one guest alone, and several are asked about.
    ForOneGuest(&'static str),
    /// More guests than are placed at once.
    TooManyGuests {
        /// The most.
        most: usize,
    },
}

impl fmt::Display for AdviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondAnyHost => {
                f.write_str("expected at most 1000000 CPUs and 2^56 bytes of memory, found more")
            }
            Self::Numad(_) => f.write_str("numad's rules have no answer for this host"),
            Self::ZeroDistance { from } => write!(
                f,
                "node{from}/distance: expected distances of at least 1 (10 is local), found 0"
            ),
            Self::Figures(_) => f.write_str("the figures of this host"),
            Self::PagesNotRead(size) => {
                write!(f, "the snapshot has no counts of {size} huge pages")
            }
            Self::NoSuchNode { node, host } => {
                write!(f, "the device is on node {node}, which does not exist (nodes: {host})")
            }
            Self::NoNodeAllowed { allowed, host } => {
                f.write_str("no node to choose from: ")?;
                match allowed.is_empty() {
                    true => write!(f, "none of the host's nodes ({host}) is allowed"),
                    false => write!(f, "nodes {allowed} are allowed, the host has nodes {host}"),
                }
            }
            Self::NoCache { cpus, most } => {
                write!(f, "no last-level cache has {cpus} free CPUs: ")?;
                match most {
                    Some(most) => write!(f, "at most {most} are free in one")?,
                    None => f.write_str("the host's caches are not known")?,
                }
                f.write_str(" (omit --cache require to use several)")
            }
            Self::ForOneGuest(what) => {
                write!(f, "{what} is for one guest: several are placed without it")
            }
            Self::TooManyGuests { most } => {
                write!(f, "expected at most {most} guests at once, found more")
            }
        }
    }
}

impl std::error::Error for AdviseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Numad(failure) => Some(failure),
            Self::Figures(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::policy::numad::Failure;

    #[test]
    fn the_cause_is_the_source_and_not_repeated() {
        let error = AdviseError::Numad(Failure::Distance(NodeId(1)));
        let cause = error.source().expect("a cause").to_string();
        assert!(cause.starts_with("node1/distance: "), "{cause}");
        assert!(!error.to_string().contains(&cause), "{error}");
    }
}
