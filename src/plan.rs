//! From flags as typed to what the engine is asked.

use std::error::Error;

use placer_engine::policy::numad::Rules;
use placer_engine::{Limits, Policy, Request, SysRoot};

use crate::args::{Advise, HostArgs, PolicyName};

/// Returns the host that is asked about.
pub(crate) fn root(args: &HostArgs) -> SysRoot {
    args.root.as_ref().map_or_else(SysRoot::live, SysRoot::at)
}

/// Returns the request with its policy and with what may be used.
pub(crate) fn request(args: &Advise, root: &SysRoot) -> Result<Request, Box<dyn Error>> {
    let policy = match args.policy {
        // An answer on every host: numad's own end for want of a file serves nobody here.
        PolicyName::Numad => Policy::Numad(Rules { lenient: true, ..Rules::default() }),
    };
    let own = if args.machine_wide { Limits::default() } else { Limits::read(root)? };
    let within = Limits { nodes: args.within.clone(), cpus: None };
    Ok(args.request.clone().with_policy(policy).with_limits(own.and(within)))
}
