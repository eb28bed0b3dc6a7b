//! The claim of a container that is being started, and when it runs.

use std::time::Duration;

use nix::unistd::getuid;
use placer_engine::claims::{
    Claim, ClaimError, ClaimId, ClaimOwner, Claims, Decision, Nonce, Parts, Principal, Processes,
};
use placer_engine::{CpuSet, Limits, NodeSet, SysRoot, fnv64};

use super::request::Wanted;
use crate::error_chain::chain;
use crate::service::advise::shortage;
use crate::service::claim_session::{Desk, process};
use crate::service::counted::place;
use crate::service::host::Figures as _;
use crate::service::local::Local;
use crate::service::notes::Notes;
use crate::service::sampling::Window;
use crate::settings;

/// How long a hold waits for its container.
pub const HOLD: Duration = Duration::from_secs(30);
/// How long any one other process may have the ledger while a container waits to be started: where many are, the one
/// that has it may wait for a CPU.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a container is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub claim: ClaimId,
    /// The CPUs that it may use; empty: all of the host.
    pub cpus: CpuSet,
    /// The nodes that its memory is on; empty: all of the host.
    pub nodes: NodeSet,
}

/// Why nothing is held for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHeld {
    /// It does not fit: what is short and by how much.
    Unfit(String),
    /// The host or the ledger cannot be had.
    Failed(String),
}

/// Returns the name of a container's claim. `engine` distinguishes containers of several engines, which may have the
/// same id: the directory in which the runtime keeps its state. A name outlives this program: claims are found by it
/// after an upgrade.
pub fn name(engine: &str, container: &str) -> Nonce {
    let half = |side: u8| {
        let text = [engine.as_bytes(), &[0], container.as_bytes()].concat();
        u128::from(fnv64(std::iter::once(side).chain(text)))
    };
    Nonce::from_bits(half(0) << 64 | half(1))
}

/// Decides where on the whole host a container runs, whatever this process itself may use, and holds that for
/// [`HOLD`]. A hold of the same name is replaced.
///
/// Errors: it does not fit, or nothing can be held.
pub fn hold(
    wanted: &Wanted,
    name: Nonce,
    root: &SysRoot,
    set: &settings::Settings,
    notes: &mut Notes,
) -> Result<Placement, NotHeld> {
    let desk = Desk::open(root, set.claims, notes);
    place_at(&desk, wanted, name, &ClaimOwner::Hold(HOLD), root, set, notes)
}

/// The same for a container that this process starts, or the program that it becomes: the claim ends with it, unless
/// it is adopted before.
///
/// Errors: as [`hold`]; the container runs already.
pub fn claim(
    wanted: &Wanted,
    name: Nonce,
    root: &SysRoot,
    set: &settings::Settings,
    notes: &mut Notes,
) -> Result<Placement, NotHeld> {
    let own = process(std::process::id()).map_err(|error| NotHeld::Failed(chain(&error)))?;
    let desk = Desk::open(root, set.claims, notes).waiting(PATIENCE);
    place_at(&desk, wanted, name, &ClaimOwner::Process(own), root, set, notes)
}

fn place_at(
    desk: &Desk,
    wanted: &Wanted,
    name: Nonce,
    who: &ClaimOwner,
    root: &SysRoot,
    set: &settings::Settings,
    notes: &mut Notes,
) -> Result<Placement, NotHeld> {
    let failed = |error: &dyn std::error::Error| NotHeld::Failed(chain(error));
    let mut request = wanted.request.clone();
    if let Some(parent) = &wanted.parent {
        request.limits = Limits::of_cpuset(root, parent).map_err(|error| failed(&error))?;
    }
    let request = &request;
    let figures = Local::new(root, set.claims, Window::Recent(set.advise.window)).named(Some(name));
    let before = notes.mark();
    loop {
        notes.back_to(before);
        let begun = desk.begin_to_claim(&figures, None, notes);
        let (session, host) = begun.map_err(NotHeld::Failed)?;
        let asker = figures.asker();
        let (advice, snapshot) =
            host.advise(request, &asker, notes).map_err(|error| failed(&error))?;
        snapshot.notes().iter().chain(&advice.notes).for_each(|note| notes.warn(note));
        if let Some(short) = advice.shortfall {
            return Err(NotHeld::Unfit(shortage(request, &advice, short)));
        }
        let parts = Parts::of(request, &advice, CpuSet::new(), advice.cpus.clone());
        let Some(mut commit) = session.commit().map_err(NotHeld::Failed)? else { continue };
        // Not instead of the claim of a container that runs.
        let earlier = commit.decision.repeated().and_then(|id| commit.decision.find(id));
        let owner = earlier.and_then(|claim| claim.owner.process());
        if let (ClaimOwner::Process(_), Some(owner)) = (who, owner) {
            let why = format!("it has a claim already, of process {}", owner.pid);
            return Err(NotHeld::Failed(why));
        }
        let caller = commit.decision.caller_of(&asker);
        let claim = commit.claim(parts, who.clone(), caller).map_err(NotHeld::Failed)?;
        let topology = snapshot.topology();
        let nodes = topology.node_set();
        let cpus = topology.cpus_of(&nodes).difference(topology.isolated());
        // All of the host is nothing to bind.
        return Ok(Placement {
            claim,
            cpus: if cpus.is_subset(&advice.cpus) { CpuSet::new() } else { advice.cpus },
            nodes: if nodes.is_subset(&advice.nodes) {
                NodeSet::new()
            } else {
                advice.memory_nodes
            },
        });
    }
}

/// Makes what is claimed for a container the claim of its control group, or of its process where that is in no group of its
/// own. Returns the claim. Done twice it is as done once.
///
/// Errors: the claim has ended, the process has, or the ledger cannot be had or written.
pub fn adopt(
    name: Nonce,
    pid: u32,
    root: &SysRoot,
    set: settings::Claims,
) -> Result<Claim, String> {
    let find = || -> Result<_, ClaimError> {
        let (owner, own) = (process(pid)?, process(std::process::id())?);
        let mut look = Processes::look()?;
        // A container without a group of its own is in the one that starts it, beside others.
        let beside = look.own_cgroup(&own);
        Ok((owner, look.own_cgroup(&owner).filter(|group| beside.as_ref() != Some(group))))
    };
    let (owner, group) = find().map_err(|error| chain(&error))?;
    let adopted = change(name, root, set, |decision, id| decision.adopt(id, owner, group))?;
    adopted.ok_or_else(|| "its claim has ended".to_owned())
}

/// Ends the claim of a container that does not start. Returns it; `None` where it has ended.
///
/// Errors: the ledger cannot be had or written.
pub fn release(
    name: Nonce,
    root: &SysRoot,
    set: settings::Claims,
) -> Result<Option<Claim>, String> {
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method has one lifetime")]
    change(name, root, set, |decision, id| decision.release(id))
}

/// Changes the claim of a name under the lock of the ledger; `None` where there is none.
fn change(
    name: Nonce,
    root: &SysRoot,
    set: settings::Claims,
    change: impl FnOnce(Decision<'_>, ClaimId) -> Result<Claim, ClaimError>,
) -> Result<Option<Claim>, String> {
    let changed = || -> Result<Option<Claim>, ClaimError> {
        let claims = Claims::open_to_claim(&place(set), root)?;
        let (decision, _) = claims.begin(PATIENCE)?;
        let mine = Principal::of_uid(getuid().as_raw());
        let Some(id) = decision.ledger().named(name, mine).map(|claim| claim.id) else {
            return Ok(None);
        };
        change(decision, id).map(Some)
    };
    changed().map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims in ledgers of hosts have these names.
    #[test]
    fn a_name_is_the_same_in_each_release() {
        assert_eq!(name("nri", "c1").to_string(), "51277c20ba9a15fe8f56905dc8175811");
        let others = [("nri", "c2"), ("nr", "ic1"), ("", "nri\0c1")];
        assert!(others.iter().all(|(engine, id)| name(engine, id) != name("nri", "c1")));
    }
}
