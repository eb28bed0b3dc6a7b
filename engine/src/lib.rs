//! Samples a NUMA host and advises where a guest should run, inside your process.
//!
//! ```text
//! Source -> Topology + Sample, Sample -> Snapshot -> Policy -> Advice
//! ```
//!
//! Only the sources, the state directory and the claims touch the machine; everything between is a function
//! from values to values. An [`Engine`] samples in a thread of its own and answers many requests:
//!
//! ```
//! use placer_engine::claims::{ClaimDirs, ClaimOwner};
//! use placer_engine::{Engine, Request, SysRoot};
//! # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
//! # if !std::path::Path::new(dir).exists() { return Ok(()); }
//! # let root = SysRoot::at(dir);
//! # let state = tempfile::tempdir()?;
//! # let dirs = ClaimDirs::at(state.path());
//! # let owner = ClaimOwner::Hold(std::time::Duration::from_secs(30));
//! // root: SysRoot::live(), dirs: ClaimDirs::system(), owner: ClaimOwner::Pid(guest)
//! let engine = Engine::builder(root).claims(dirs).start()?;
//! let request: Request = "2:100".parse()?;
//! let placement = engine.place(&request, owner)?;
//! println!("nodes {}, CPUs {}", placement.advice.nodes, placement.advice.cpus);
//! engine.release(placement.claim)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For a single answer without threads and claims, see [`Snapshot::take`] and [`advise()`].
//!
//! What these pages show is the API. Other public items are for placer's own programs: they are hidden, and
//! any release may change them.

#![forbid(unsafe_code)]

mod advice;
mod advise;
#[doc(hidden)]
pub mod backend;
#[doc(hidden)]
pub mod balance;
mod charges;
pub mod claims;
mod distance;
mod error;
mod files;
mod hash;
mod host;
mod ids;
mod idset;
#[cfg(feature = "serde")]
mod json;
#[doc(hidden)]
pub mod parse;
mod parts;
pub mod policy;
mod read;
mod request;
mod sample;
mod sampler;
mod snapshot;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod topology;
mod units;

pub use advice::{Advice, CacheShare, Share, Shortfall};
pub use advise::{
    AdviseError, Candidate, Explanation, Fit, JointAdvice, JointGuest, advise, advise_ranks,
    advise_together, explain, fit,
};
#[doc(hidden)]
pub use advise::{pin_cpus, reserve};
#[doc(hidden)]
pub use charges::{Charge, Charges};
pub use distance::{Distance, Distances};
pub use error::SourceError;
#[doc(hidden)]
pub use files::{AccessFiles, CacheFiles, CoreFiles, HostFiles, NodeFiles, TextFile};
#[doc(hidden)]
pub use hash::fnv64;
#[doc(hidden)]
pub use host::Host;
pub use ids::{CpuId, Id, NodeId};
pub use idset::{CpuSet, IdSet, NodeSet};
pub use parse::ParseError;
#[doc(hidden)]
pub use parts::{Attached, DeviceKind, HostParts, KernelSettings, Package, SharedCache};
pub use policy::Policy;
pub use policy::together::Guest;
#[doc(hidden)]
pub use read::Read;
pub use request::{CpuLimit, Limits, MemoryLimit, Request, RequestError};
#[doc(hidden)]
pub use sample::{CpuTimes, Instant, NodeHugePages, NodeMemory, Sample, falls_short};
pub use sampler::{Engine, EngineBuilder, EngineError, Placement, Subscription};
pub use snapshot::Snapshot;
#[doc(hidden)]
pub use snapshot::{HugePages, NodeState, Worth};
pub use source::{SnapshotOptions, SysRoot};
pub use topology::{Cache, Latency, Node, Topology, TopologyBuilder};
#[doc(hidden)]
pub use units::split_by_weight;
pub use units::{Bytes, CpuShare};
