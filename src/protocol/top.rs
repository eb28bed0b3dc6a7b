//! What `placer top` passes to the program that draws, `placer-top`: one JSON text, its only argument.
//!
//! Both take this file in. The flags, variables and settings are read by `placer` alone.

use std::path::PathBuf;

use placer_engine::policy::{Policy, best, cache, numad};
use placer_engine::{Bytes, CpuSet, CpuShare, Limits, NodeId, NodeSet, ParseError, Request};
use serde::{Deserialize, Serialize};

/// All that `placer-top` has to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Both programs are of one version: this text may change with each.
    pub version: String,
    /// The recorded machine; `None`: this one.
    pub root: Option<PathBuf>,
    /// The time between two readings.
    pub interval_ms: u64,
    /// Where the caller's claims are kept.
    pub claims: Option<PathBuf>,
    /// Whether root's claims count beside them.
    pub below: bool,
    /// How many times over memory may be promised.
    pub overcommit: f64,
    /// What stands in the request line at first.
    pub request: Option<String>,
    /// How a place is chosen, and among what.
    pub choice: Choice,
    /// Tests make it panic this many milliseconds after its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_after_ms: Option<u64>,
}

/// A [`Request`] without what is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Whether numad's rules choose.
    by_numad: bool,
    /// The version of numad that chooses, or is compared with: `2015` or `2025`.
    numad_version: String,
    memory_bound: f64,
    pack: bool,
    effort: Option<u64>,
    smt_percent: u32,
    cpus: Option<String>,
    nodes: Option<String>,
    within: Option<String>,
    pages: Option<u64>,
    near: Option<u32>,
    cache_penalty: u32,
    cache: String,
    cores: String,
}

impl Choice {
    /// Returns the choice of a request.
    pub fn of(request: &Request, version: numad::Version) -> Self {
        let (by_numad, rules) = match &request.policy {
            Policy::Best(rules) => (false, *rules),
            Policy::Numad(_) => (true, best::Rules::default()),
        };
        Self {
            by_numad,
            numad_version: version.to_string(),
            memory_bound: rules.memory_bound,
            pack: rules.prefer == best::Prefer::Pack,
            effort: rules.effort,
            smt_percent: rules.smt_percent,
            cpus: request.limits.cpus.as_ref().map(ToString::to_string),
            nodes: request.limits.memory_nodes.as_ref().map(ToString::to_string),
            within: request.within.as_ref().map(ToString::to_string),
            pages: request.pages.map(Bytes::get),
            near: request.near.map(|node| node.0),
            cache_penalty: request.cache.penalty_percent,
            cache: request.cache.mode.name().to_owned(),
            cores: request.cache.cores.name().to_owned(),
        }
    }

    /// Returns a request for nothing with this choice.
    ///
    /// Errors: a list or a version that is none.
    pub fn request(&self) -> Result<Request, String> {
        let prefer = if self.pack { best::Prefer::Pack } else { best::Prefer::Room };
        let policy = if self.by_numad {
            Policy::Numad(numad::Rules::lenient(self.numad_version()?))
        } else {
            Policy::Best(best::Rules {
                memory_bound: self.memory_bound,
                prefer,
                effort: self.effort,
                smt_percent: self.smt_percent,
            })
        };
        let nodes = |text: &Option<String>| -> Result<Option<NodeSet>, String> { list(text) };
        let cpus: Option<CpuSet> = list(&self.cpus)?;
        let limits = Limits { cpus, memory_nodes: nodes(&self.nodes)?, ..Limits::default() };
        let mode = cache::Mode::from_name(&self.cache).ok_or("cache: not a mode")?;
        let cores = cache::Cores::from_name(&self.cores).ok_or("cores: not a kind")?;
        let cache = cache::Rules::default()
            .with_penalty(self.cache_penalty)
            .with_mode(mode)
            .with_cores(cores);
        Ok(Request {
            cache,
            policy,
            limits,
            within: nodes(&self.within)?,
            pages: self.pages.map(Bytes::new),
            near: self.near.map(NodeId),
            ..Request::new(CpuShare::ZERO, Bytes::ZERO)
        })
    }

    /// Returns the version of numad that answers, or is compared with.
    ///
    /// Errors: it is none.
    pub fn numad_version(&self) -> Result<numad::Version, String> {
        self.numad_version.parse()
    }
}

fn list<T: placer_engine::Id>(
    text: &Option<String>,
) -> Result<Option<placer_engine::IdSet<T>>, String> {
    text.as_ref().map(|text| text.parse()).transpose().map_err(|e: ParseError| e.to_string())
}
