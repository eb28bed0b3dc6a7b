//! From flags as typed to what the engine is asked.

use std::error::Error;
use std::path::PathBuf;

use placer_engine::policy::best;
use placer_engine::policy::cache;
use placer_engine::policy::numad::{self, Version};
use placer_engine::source::device;
use placer_engine::{Limits, Policy, Request, SysRoot};

use placer::args::{Choice, HostArgs};
use placer::settings::PolicyName;

/// Returns the host that is asked about.
pub(crate) fn root(args: &HostArgs) -> SysRoot {
    root_at(args.root.as_ref())
}

/// Returns the machine recorded in a directory, or this one.
pub(crate) fn root_at(dir: Option<&PathBuf>) -> SysRoot {
    dir.map_or_else(SysRoot::live, SysRoot::at)
}

/// Returns the request with its policy and with what may be used.
///
/// Errors: a device that is not there or whose node is not known; what numad's rules never ask is
/// asked of them; a version of numad that is not known.
pub(crate) fn request(
    asked: &Request,
    choice: &Choice,
    root: &SysRoot,
) -> Result<Request, Box<dyn Error>> {
    let wide = choice.machine_wide == Some(true);
    let limits = if wide { Limits::default() } else { Limits::read(root)? };
    request_within(asked, choice, limits, root)
}

/// Returns the request with its policy, within limits that are known.
///
/// Errors: as [`request`].
pub(crate) fn request_within(
    asked: &Request,
    choice: &Choice,
    limits: Limits,
    root: &SysRoot,
) -> Result<Request, Box<dyn Error>> {
    let policy = policy(choice)?;
    let near = choice.near.as_ref().map(|name| device::node_of(root, name)).transpose()?;
    let (within, pages) = (choice.within.clone(), choice.pages);
    let cache = cache::Rules::default()
        .with_penalty(choice.cache_penalty)
        .with_mode(choice.cache.into())
        .with_cores(choice.cores.into());
    Ok(Request { policy, limits, within, pages, near, cache, ..asked.clone() })
}

/// Returns the version of numad that is asked, or compared with.
///
/// Errors: `PLACER_NUMAD_VERSION` is none.
pub(crate) fn numad_version(choice: &Choice) -> Result<Version, String> {
    Ok(match choice.policy {
        PolicyName::Numad2015 => Version::V2015,
        PolicyName::Numad2025 => Version::V2025,
        PolicyName::Best | PolicyName::Numad => choice.numad.or_variable()?.in_force(),
    })
}

fn policy(choice: &Choice) -> Result<Policy, Box<dyn Error>> {
    match choice.policy {
        PolicyName::Best => Ok(Policy::Best(best::Rules {
            memory_bound: choice.memory_bound,
            prefer: choice.prefer.into(),
            effort: choice.effort,
            smt_percent: choice.smt_percent,
        })),
        PolicyName::Numad | PolicyName::Numad2015 | PolicyName::Numad2025 => {
            let refused = [(choice.pages.is_some(), "--pages"), (choice.near.is_some(), "--near")];
            if let Some((_, flag)) = refused.iter().find(|(given, _)| *given) {
                let why = "numad's rules do not support it";
                return Err(format!("{flag} needs --policy best: {why}").into());
            }
            // An answer on every host: numad's own end for want of a file serves nobody here.
            Ok(Policy::Numad(numad::Rules::lenient(numad_version(choice)?)))
        }
    }
}
