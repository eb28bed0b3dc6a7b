//! What a guest needs, with the options of `placer advise`.

use std::ffi::CStr;

use placer_engine::policy::best::Prefer;
use placer_engine::policy::{cache, numad};
use placer_engine::source::device;
use placer_engine::{IdSet, Limits, Policy, Request, SysRoot};

use crate::failure::{Code, Failure, unknown, wrong};

const KEYS: &str = "policy, within, near, pages, memory-bound, prefer, cache, cores, limits, allowed-cpus, allowed-nodes";

/// `placer_request` of the header.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: Request,
    /// For names of devices, and the limits of this process.
    root: SysRoot,
}

impl Question {
    pub(crate) fn new(root: &SysRoot, text: &str) -> Result<Self, Failure> {
        let request: Request = text.parse().map_err(|error| Failure::of(Code::Argument, &error))?;
        let mut question = Self { request, root: root.clone() };
        question.read_limits()?;
        Ok(question)
    }

    fn read_limits(&mut self) -> Result<(), Failure> {
        let limits = Limits::read(&self.root);
        self.request.limits = limits.map_err(|error| Failure::of(Code::Host, &error))?;
        Ok(())
    }

    pub(crate) fn set(&mut self, key: &str, found: &CStr) -> Result<(), Failure> {
        let value = found.to_str().map_err(|_| wrong(key, "UTF-8", found))?;
        let request = &mut self.request;
        match key {
            "policy" => request.policy = policy(value, found)?,
            "within" => request.within = Some(ids(key, value, found)?),
            "allowed-cpus" => request.limits.cpus = Some(ids(key, value, found)?),
            "allowed-nodes" => request.limits.memory_nodes = Some(ids(key, value, found)?),
            "near" => {
                let node = device::node_of(&self.root, value);
                request.near = Some(node.map_err(|error| Failure::of(Code::Argument, &error))?);
            }
            "pages" => {
                let size = Request::memory_of(value)
                    .map_err(|error| Failure::of(Code::Argument, &error))?;
                if !size.get().is_power_of_two() {
                    return Err(wrong(key, "a size of huge pages", found));
                }
                request.pages = Some(size);
            }
            "memory-bound" | "prefer" => {
                let Policy::Best(rules) = &mut request.policy else {
                    return Err(Failure::new(Code::Argument, format!("{key} is for policy best")));
                };
                if key == "prefer" {
                    rules.prefer = match value {
                        "room" => Prefer::Room,
                        "pack" => Prefer::Pack,
                        _ => return Err(wrong(key, "room or pack", found)),
                    };
                } else {
                    let part = value.parse().ok().filter(|part| (0.0..=1.0).contains(part));
                    rules.memory_bound =
                        part.ok_or_else(|| wrong(key, "a part from 0 to 1", found))?;
                }
            }
            "cache" => {
                let mode = cache::Mode::from_name(value);
                let wanted = "prefer, require, largest or ignore";
                let mode = mode.ok_or_else(|| wrong(key, wanted, found))?;
                request.cache = request.cache.with_mode(mode);
            }
            "cores" => {
                let cores = cache::Cores::from_name(value);
                let cores = cores.ok_or_else(|| wrong(key, "any, fast or efficient", found))?;
                request.cache = request.cache.with_cores(cores);
            }
            "limits" => match value {
                "process" => self.read_limits()?,
                "none" => request.limits = Limits::default(),
                _ => return Err(wrong(key, "process or none", found)),
            },
            _ => return Err(unknown("request", key, KEYS)),
        }
        Ok(())
    }
}

fn policy(value: &str, found: &CStr) -> Result<Policy, Failure> {
    let numads = |version| Ok(Policy::Numad(numad::Rules::lenient(version)));
    match value {
        "best" => Ok(Policy::Best(Default::default())),
        "numad-2015" => numads(numad::Version::V2015),
        "numad-2025" => numads(numad::Version::V2025),
        _ => Err(wrong("policy", "best, numad-2015 or numad-2025", found)),
    }
}

fn ids<T: placer_engine::Id>(key: &str, value: &str, found: &CStr) -> Result<IdSet<T>, Failure> {
    let list = value.parse::<IdSet<T>>().ok().filter(|list| !list.is_empty());
    list.ok_or_else(|| wrong(key, "a list as in 0-3,8", found))
}
