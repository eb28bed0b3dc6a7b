//! What the owners of claims run, for those who show them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claim::{Claim, ClaimId, Origin};
use super::proc::Processes;
use crate::idset::CpuSet;
use crate::source::SysRoot;

/// The process that a claim is for, as far as it is seen from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerProcess {
    /// Its program; as it was found, so escape it where it is shown.
    pub program: Option<String>,
    /// The CPUs that its first thread may run on: of a machine of QEMU those of the emulator.
    pub cpus: Option<CpuSet>,
    /// Whether the kernel may move its memory by itself (`kernel.numa_balancing`); `None` where that
    /// is not known.
    pub balanced: Option<bool>,
}

/// Returns the processes that claims on a host are for; those that are not seen are absent.
///
/// Owners that were asked for run here, also those of a recorded machine's claims; guests that were
/// found on a recorded machine were recorded with it.
pub fn owners(root: &SysRoot, claims: &[Arc<Claim>]) -> BTreeMap<ClaimId, OwnerProcess> {
    let recorded = |claim: &&Claim| !root.is_live() && claim.origin == Origin::Observed;
    let all = claims.iter().map(Arc::as_ref);
    let with_process = all.filter(|claim| claim.owner.process().is_some());
    let (there, here): (Vec<&Claim>, Vec<&Claim>) = with_process.partition(recorded);
    let mut owners = BTreeMap::new();
    let mut add = |claims: Vec<&Claim>, look: &dyn Fn() -> Option<Processes>| {
        let Some(mut look) = (!claims.is_empty()).then(look).flatten() else { return };
        for claim in claims {
            let (program, cpus) = (look.program(claim), look.cpus_allowed(claim));
            let balanced = look.balanced(claim);
            if program.is_some() {
                owners.insert(claim.id, OwnerProcess { program, cpus, balanced });
            }
        }
    };
    add(here, &|| Processes::look().ok());
    add(there, &|| Processes::recorded(root).ok());
    owners
}
