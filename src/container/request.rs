//! From what a container's definition says to what is asked for it. Pure.

use std::path::Path;

use placer_engine::policy::{Policy, cache};
use placer_engine::{Bytes, CpuShare, Request};

use crate::settings;
use crate::settings::PlaceName;

/// The annotation with a request, as in `4:8G`.
pub const REQUEST: &str = "org.placer.request";
/// The annotation that refuses a container which does not fit, or not: `true` or `false`.
pub const STRICT: &str = "org.placer.strict";

/// The kernel's period where a quota comes without one, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
/// The weight that Kubernetes gives a container which asks for no CPU.
const LEAST_SHARES: u64 = 2;

/// What the definition of a container says about its size and its place, in the terms of the OCI runtime
/// specification. Of its numbers zero and less are no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// The annotation [`REQUEST`].
    pub request: Option<String>,
    /// CPU time in a period, in microseconds.
    pub quota: Option<i64>,
    pub period: Option<u64>,
    /// The weight of its CPU time.
    pub shares: Option<u64>,
    /// Whether `shares` is a request for CPUs, 1,024 each, as kubelet writes it. Elsewhere it is a weight without
    /// a unit.
    pub shares_are_cpus: bool,
    /// The memory limit, in bytes.
    pub memory: Option<i64>,
    /// Whether it may use huge pages, which its memory limit does not count.
    pub huge_pages: bool,
    /// Whether it has CPUs, nodes or a memory policy already.
    pub placed: bool,
    /// Whether it is the sandbox of a pod, in which nothing runs that needs a place.
    pub sandbox: bool,
    /// Its control group, as engines name it to runtimes: a path, or `SLICE:PREFIX:NAME` for systemd.
    pub group: Option<String>,
}

/// What is asked for a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub request: Request,
    /// Whether what is claimed covers all memory that the container may use. Bound to the nodes of a smaller claim
    /// the kernel would end it where those are full and others are not.
    pub covers_limit: bool,
    /// The control group above the container's, in which it has only the CPUs and nodes of that: a path. `None`: not known.
    pub parent: Option<String>,
}

/// Returns the path of the control group above one that is named as in [`Definition::group`]. `None` where that depends on
/// the runtime.
fn parent(group: &str) -> Option<String> {
    if group.starts_with('/') {
        let above = Path::new(group).parent().and_then(Path::to_str);
        return Some(above.unwrap_or("/").to_owned());
    }
    let (slice, unit) = group.split_once(':')?;
    unit.contains(':').then_some(())?;
    let stem = match slice {
        "" => "system",
        "-.slice" => return Some("/".to_owned()),
        slice => slice.strip_suffix(".slice")?,
    };
    // a-b.slice is in a.slice.
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    Some(ends.map(|end| format!("/{}.slice", &stem[..end])).collect())
}

impl Definition {
    /// Returns what to ask for a container by the rules of the settings; `None` where it is to be left alone.
    ///
    /// Errors: its request is not readable.
    pub fn wanted(
        &self,
        place: PlaceName,
        set: &settings::Advise,
    ) -> Result<Option<Wanted>, String> {
        if self.placed || self.sandbox {
            return Ok(None);
        }
        let limit = self.memory_limit();
        let cpus = self.cpus();
        let mut request = match &self.request {
            Some(text) => {
                let why = |error| format!("annotation {REQUEST}: {error}");
                let mut request = text.parse::<Request>().map_err(why)?;
                // A request of CPUs alone has the memory that the container has.
                if request.memory == Bytes::ZERO {
                    request.memory = limit.unwrap_or_default();
                }
                request
            }
            None => {
                let limited = cpus.is_some() || limit.is_some();
                let asked = match place {
                    PlaceName::Annotated => false,
                    PlaceName::Limited => limited,
                    PlaceName::All => true,
                };
                if !asked {
                    return Ok(None);
                }
                Request::new(cpus.unwrap_or(CpuShare::ZERO), limit.unwrap_or_default())
            }
        };
        request.policy = Policy::Best(set.rules());
        request.within.clone_from(&set.within);
        request.cache = cache::Rules::default()
            .with_penalty(set.cache_penalty)
            .with_cores(set.cores.into())
            // How many CPUs it will use is not known: not those of one cache, but all of its nodes.
            .with_mode(if request.cpus == CpuShare::ZERO {
                cache::Mode::Ignore
            } else {
                set.cache.into()
            });
        let covers_limit = !self.huge_pages && limit.is_some_and(|limit| limit <= request.memory);
        let parent = self.group.as_deref().and_then(parent);
        Ok(Some(Wanted { request, covers_limit, parent }))
    }

    /// Returns the CPUs that it may use or asks for.
    fn cpus(&self) -> Option<CpuShare> {
        let quota =
            self.quota.and_then(|quota| u64::try_from(quota).ok()).filter(|&quota| quota > 0);
        if let Some(quota) = quota {
            let period = self.period.filter(|&period| period > 0).unwrap_or(DEFAULT_PERIOD);
            return Some(hundredths(quota, period));
        }
        let shares = self.shares.filter(|&shares| self.shares_are_cpus && shares > LEAST_SHARES);
        shares.map(|shares| hundredths(shares, 1024))
    }

    fn memory_limit(&self) -> Option<Bytes> {
        let limit = self.memory.and_then(|limit| u64::try_from(limit).ok());
        // What no host has is how some engines write that there is no limit.
        limit.map(Bytes::new).filter(|&limit| limit > Bytes::ZERO && limit <= Request::MAX_MEMORY)
    }
}

/// Returns a part of a whole in hundredths of a CPU, rounded up.
fn hundredths(part: u64, whole: u64) -> CpuShare {
    let hundredths = (u128::from(part) * 100).div_ceil(u128::from(whole));
    let hundredths = u64::try_from(hundredths).unwrap_or(u64::MAX);
    CpuShare::from_hundredths(hundredths).min(Request::MAX_CPUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_above_a_container_is_known_by_its_path_or_its_slice() {
        for (group, above) in [
            ("/docker/abc", Some("/docker")),
            ("/abc", Some("/")),
            ("/", Some("/")),
            ("/machine.slice/libpod-1.scope", Some("/machine.slice")),
            ("system.slice:docker:abc", Some("/system.slice")),
            (":docker:abc", Some("/system.slice")),
            ("-.slice:docker:abc", Some("/")),
            (
                "kubepods-burstable-pod1.slice:cri-containerd:abc",
                Some("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"),
            ),
            // Below the group of the runtime itself, or no name of a group.
            ("docker/abc", None),
            ("a:b", None),
            ("machine:docker:abc", None),
            ("", None),
        ] {
            assert_eq!(parent(group).as_deref(), above, "{group:?}");
        }
    }

    const GIB: i64 = 1 << 30;

    /// Returns CPUs in hundredths, memory in MiB and whether that covers the limit.
    fn asked(container: &Definition, place: PlaceName) -> Option<(u64, u64, bool)> {
        let wanted = container.wanted(place, &settings::Advise::default()).expect("readable")?;
        let Request { cpus, memory, .. } = wanted.request;
        Some((cpus.hundredths(), memory.get() >> 20, wanted.covers_limit))
    }

    #[test]
    fn what_is_asked_for_a_container() {
        use PlaceName::{All, Annotated, Limited};
        let none = Definition::default();
        let limited = Definition { quota: Some(150_000), memory: Some(GIB), ..none.clone() };
        let of = |request: &str, memory| Definition {
            request: Some(request.to_owned()),
            memory,
            ..none.clone()
        };
        let shares = |shares, shares_are_cpus| Definition {
            shares: Some(shares),
            shares_are_cpus,
            ..none.clone()
        };
        for (container, place, wanted) in [
            (none.clone(), Annotated, None),
            (none.clone(), Limited, None),
            (none.clone(), All, Some((0, 0, false))),
            (limited.clone(), Annotated, None),
            (limited.clone(), Limited, Some((150, 1024, true))),
            (limited.clone(), All, Some((150, 1024, true))),
            // An annotation counts in each mode, and goes before limits.
            (
                Definition { request: Some("4:8G".to_owned()), ..limited.clone() },
                Annotated,
                Some((400, 8192, true)),
            ),
            (of("4", Some(GIB)), Annotated, Some((400, 1024, true))),
            (of("4:512", Some(GIB)), Limited, Some((400, 512, false))),
            (of("4:8G", None), All, Some((400, 8192, false))),
            // No limits: what engines write for none.
            (Definition { quota: Some(-1), memory: Some(-1), ..none.clone() }, Limited, None),
            (Definition { quota: Some(0), memory: Some(0), ..none.clone() }, Limited, None),
            (Definition { memory: Some(i64::MAX), ..none.clone() }, Limited, None),
            (Definition { memory: Some(GIB), ..none.clone() }, Limited, Some((0, 1024, true))),
            // Rounded up, with any period, and no overflow.
            (
                Definition { quota: Some(1), period: Some(1_000_000), ..none.clone() },
                Limited,
                Some((1, 0, false)),
            ),
            (
                Definition { quota: Some(i64::MAX), period: Some(1), ..none.clone() },
                Limited,
                Some((Request::MAX_CPUS.hundredths(), 0, false)),
            ),
            (
                Definition { quota: Some(1000), period: Some(0), ..none.clone() },
                Limited,
                Some((1, 0, false)),
            ),
            // Weights are CPUs where kubelet writes them, and a limit goes before.
            (shares(2048, false), Limited, None),
            (shares(2048, true), Limited, Some((200, 0, false))),
            (shares(2, true), Limited, None),
            (
                Definition { shares: Some(2048), shares_are_cpus: true, ..limited.clone() },
                Limited,
                Some((150, 1024, true)),
            ),
            // Left alone whatever it asks for.
            (Definition { placed: true, ..of("4:8G", None) }, All, None),
            (Definition { sandbox: true, ..of("4:8G", None) }, All, None),
            (Definition { huge_pages: true, ..limited.clone() }, Limited, Some((150, 1024, false))),
        ] {
            assert_eq!(asked(&container, place), wanted, "{container:?} {place:?}");
        }
    }

    #[test]
    fn a_request_that_cannot_be_read_is_an_error() {
        let container = Definition { request: Some("4:8GB".to_owned()), ..Definition::default() };
        let error = container.wanted(PlaceName::All, &settings::Advise::default());
        let error = error.expect_err("refused");
        assert!(error.starts_with("annotation org.placer.request: request \"4:8GB\""), "{error}");
        assert!(error.ends_with("write 4:8G"), "{error}");
    }

    #[test]
    fn settings_of_advice_count_and_unknown_cpus_are_those_of_whole_nodes() {
        let set = settings::Advise {
            within: Some("1-2".parse().expect("nodes")),
            cache: settings::CacheName::Require,
            memory_bound: 0.9,
            ..settings::Advise::default()
        };
        let wanted = |quota| {
            let container = Definition { quota, memory: Some(GIB), ..Definition::default() };
            let wanted = container.wanted(PlaceName::Limited, &set).expect("readable");
            wanted.expect("placed").request
        };
        let request = wanted(Some(100_000));
        assert_eq!((&request.within, request.cache.mode), (&set.within, cache::Mode::Require));
        assert_eq!(request.policy, Policy::Best(set.rules()));
        assert_eq!(wanted(None).cache.mode, cache::Mode::Ignore);
    }
}
