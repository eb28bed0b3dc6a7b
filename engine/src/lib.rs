//! Samples a NUMA host and advises where a guest should run, inside your process.
//!
//! ```text
//! Source -> Topology + Sample, Sample -> Snapshot -> Policy -> Advice
//! ```
//!
//! Only [`source`], [`store`] and [`backend`] touch the machine; everything between is a function
//! from values to values. There are two ways to embed it. Without threads:
//!
//! ```
//! use std::time::Duration;
//! use placer_engine::{Request, Snapshot, SysRoot, advise};
//!
//! # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
//! # if !std::path::Path::new(dir).exists() { return Ok(()); }
//! # let root = SysRoot::at(dir);
//! // let root = SysRoot::live();
//! let snapshot = Snapshot::take(&root, Duration::from_millis(100))?;
//! let request: Request = "2:100".parse()?;
//! let advice = advise(&snapshot, &request)?;
//! println!("nodes {}, CPUs {}", advice.nodes, advice.cpus);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Or with an [`Engine`], whose thread keeps the newest snapshot where any thread takes it without
//! a lock, and whose answers take microseconds.

#![forbid(unsafe_code)]

mod advice;
mod advise;
pub mod backend;
mod charges;
pub mod claims;
mod distance;
mod error;
mod files;
mod hash;
mod host;
mod ids;
mod idset;
pub mod parse;
mod parts;
pub mod policy;
mod read;
mod request;
mod sample;
mod sampler;
mod snapshot;
pub mod source;
pub mod store;
mod topology;
mod units;

pub use advice::{Advice, CacheShare, Share, Shortfall};
pub use advise::{AdviseError, Candidate, Explanation, advise, explain, pin_cpus, reserve};
pub use charges::{Charge, Charges};
pub use distance::{Distance, Distances};
pub use error::SourceError;
pub use files::{AccessFiles, CacheFiles, CoreFiles, HostFiles, NodeFiles, TextFile};
pub use host::Host;
pub use ids::{CpuId, Id, NodeId};
pub use idset::{CpuSet, IdSet, NodeSet};
pub use parse::ParseError;
pub use parts::{Attached, DeviceKind, HostParts, KernelSettings, Package, SharedCache};
pub use policy::Policy;
pub use read::Read;
pub use request::{CpuLimit, Limits, MemoryLimit, Request, RequestError};
pub use sample::{CpuTimes, Instant, NodeHugePages, NodeMemory, Sample, falls_short};
pub use sampler::{Engine, Pace};
pub use snapshot::{HugePages, NodeState, Snapshot, Worth};
pub use source::SysRoot;
pub use topology::{Cache, Latency, Node, Topology};
pub use units::{Bytes, CpuShare, split_by_weight};

/// The programs on the user guide's page about this crate, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/embedding.md")]
struct Guide;
