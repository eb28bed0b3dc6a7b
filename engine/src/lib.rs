//! Samples a NUMA host and advises where a guest should run, inside your process.
//!
//! ```text
//! Source -> Topology + Sample, Sample -> Snapshot -> Policy -> Advice
//! ```
//!
//! Only [`source`] and [`store`] touch the machine; everything between is a function from values
//! to values.

#![forbid(unsafe_code)]

mod advice;
mod advise;
pub mod backend;
mod distance;
mod error;
mod files;
mod host;
mod ids;
mod idset;
pub mod parse;
pub mod policy;
mod read;
mod request;
mod sample;
mod snapshot;
pub mod source;
pub mod store;
mod topology;
mod units;

pub use advice::{Advice, Share, Shortfall};
pub use advise::advise;
pub use distance::{Distance, Distances};
pub use error::{AdviseError, SourceError};
pub use files::{HostFiles, NodeFiles, TextFile};
pub use host::Host;
pub use ids::{CpuId, Id, NodeId};
pub use idset::{CpuSet, IdSet, NodeSet};
pub use policy::Policy;
pub use read::Read;
pub use request::{Limits, Request, RequestError};
pub use sample::{CpuTimes, Instant, NodeMemory, Sample};
pub use snapshot::{NodeState, Snapshot};
pub use source::SysRoot;
pub use topology::{Node, Topology};
pub use units::{Bytes, CpuShare};
