//! The right to claim for a process, and to end a claim.

use std::sync::Arc;

use placer_engine::claims::{
    Cgroup, Claim, ClaimId, ClaimOwner, Claims, Decision, LOCK_TIMEOUT, Principal, ProcessId,
    Processes, Standing,
};

use crate::daemon::core::{Core, Gone};
use crate::daemon::peer::Peer;
use crate::error_chain::chain;
use crate::protocol::forms::{AdoptForm, ClaimForm, PartsForm};
use crate::report::claims::{OthersRow, Row};
use crate::service::counted;
use std::time::Duration;

/// The longest that anything is held.
const LONGEST_HOLD: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn may_do_all(peer: &Peer) -> bool {
    peer.is_trusted()
}

/// Returns for whom a claim is to be, and on whose behalf it is made.
///
/// Errors: why that may not be.
pub(super) fn claimant(form: &ClaimForm, peer: &Peer) -> Result<(Peer, ClaimOwner), String> {
    let nonce = form.nonce.as_deref();
    match (form.hold_ms, form.pid) {
        (Some(ms), None) => {
            let time = Duration::from_millis(ms);
            if time.is_zero() || time > LONGEST_HOLD {
                return Err(format!("expected a hold of 1 ms to a day, found {ms} ms"));
            }
            Ok((named(on_behalf(form.caller, peer), nonce)?, ClaimOwner::Hold(time)))
        }
        (None, Some(pid)) => {
            let process = process(pid, peer)?;
            Ok((named(on_behalf(form.caller, peer), nonce)?, ClaimOwner::Process(process)))
        }
        (None, None) => Err("expected hold_ms or pid, found neither".to_owned()),
        (Some(_), Some(_)) => Err("expected hold_ms or pid, found both".to_owned()),
    }
}

/// Returns a process that who asks may claim for.
pub(super) fn process(pid: u32, peer: &Peer) -> Result<ProcessId, String> {
    let mut look = Processes::look().map_err(|error| chain(&error))?;
    let own = peer.pid.ok_or("the calling process is not seen from here: ask for a hold")?;
    let here = look.standing(own).is_some_and(|standing| standing.here);
    let pid = match pid {
        0 => own,
        _ if here => pid,
        // Its numbers name other processes here.
        _ => return Err("the caller is in another pid namespace: only pid 0, itself".to_owned()),
    };
    let uid = (!may_do_all(peer)).then_some(peer.uid);
    process_of(&mut look, uid, pid, Processes::identify, Processes::standing)
}

/// Returns which process a pid names, if it is the user's: named before it is looked at, and once more after, so
/// that it is one and the same.
fn process_of<L>(
    look: &mut L,
    uid: Option<u32>,
    pid: u32,
    identify: impl Fn(&mut L, u32) -> Option<ProcessId>,
    standing: impl Fn(&mut L, u32) -> Option<Standing>,
) -> Result<ProcessId, String> {
    let gone = || format!("there is no process {pid}");
    let process = identify(look, pid).ok_or_else(gone)?;
    let owner = standing(look, pid).ok_or_else(gone)?.uid;
    if identify(look, pid) != Some(process) {
        return Err(gone());
    }
    match uid {
        Some(uid) if uid != owner => {
            Err(format!("process {pid} belongs to user {owner}, and the caller is user {uid}"))
        }
        _ => Ok(process),
    }
}

/// Returns the peer with the name that it gives its claim.
///
/// Errors: that is no such name.
pub(super) fn named(mut peer: Peer, nonce: Option<&str>) -> Result<Peer, String> {
    peer.nonce = nonce.map(str::parse).transpose()?;
    Ok(peer)
}

/// Returns the peer with its parent as the one who asks, where it says so and it is true: placer's
/// own client is about to end.
pub(super) fn on_behalf(caller: Option<u32>, peer: &Peer) -> Peer {
    let mut peer = peer.clone();
    if let (Some(caller), Some(pid)) = (caller, peer.pid)
        && Processes::look()
            .ok()
            .and_then(|mut look| look.standing(pid))
            .is_some_and(|standing| standing.parent == caller)
    {
        peer.caller = caller;
    }
    peer
}

/// Ends a claim.
///
/// Errors: why not.
pub(super) fn release(id: ClaimId, peer: &Peer, core: &Core) -> Result<Claim, String> {
    let _turn = core.turn(peer, &|| false);
    let claims = claims(core)?;
    let decision = changed(&claims, id, peer)?;
    let claim = decision.release(id).map_err(|error| chain(&error))?;
    core.released(&claim, peer);
    Ok(claim)
}

/// Makes a claim that of a process of the same user, or of its cgroup.
///
/// Errors: why not.
pub(super) fn adopt(form: &AdoptForm, peer: &Peer, core: &Core) -> Result<Claim, String> {
    let id: ClaimId = form.claim.parse()?;
    let process = process(form.pid, peer)?;
    let cgroup = form.cgroup.unwrap_or(false).then(|| cgroup(&process, peer)).transpose()?;
    let _turn = core.turn(peer, &|| false);
    let claims = claims(core)?;
    let decision = changed(&claims, id, peer)?;
    let claim = decision.adopt(id, process, cgroup).map_err(|error| chain(&error))?;
    core.adopted(&claim, peer);
    Ok(claim)
}

fn cgroup(process: &ProcessId, peer: &Peer) -> Result<Cgroup, String> {
    let mut look = Processes::look().map_err(|error| chain(&error))?;
    let none = || format!("process {} is in no cgroup (v2) of its own", process.pid);
    let cgroup = look.own_cgroup(process).ok_or_else(none)?;
    if !may_do_all(peer) && look.user_of_cgroup(&cgroup) != Some(peer.uid) {
        let (uid, path) = (peer.uid, &cgroup.path);
        return Err(format!("control group {path} does not belong to user {uid}"));
    }
    Ok(cgroup)
}

fn claims(core: &Core) -> Result<Claims, String> {
    let place = counted::place(core.settings().claims);
    Claims::open_to_claim(&place, core.root()).map_err(|error| chain(&error))
}

/// Begins to change a claim, which only its account and root may.
fn changed<'a>(claims: &'a Claims, id: ClaimId, peer: &Peer) -> Result<Decision<'a>, String> {
    let (decision, _) = claims.begin(LOCK_TIMEOUT).map_err(|error| chain(&error))?;
    let owner = decision.find(id).map(|claim| claim.principal);
    if !may_do_all(peer) && owner.is_some_and(|owner| !is_own(owner, peer)) {
        return Err(format!("claim {id} does not belong to user {}", peer.uid));
    }
    Ok(decision)
}

/// Returns whether a claim of some account is the peer's. Clients that cannot be told apart share nothing.
pub(super) fn is_own(owner: Principal, peer: &Peer) -> bool {
    owner == peer.principal && owner != Principal::Container(0)
}

/// What came of a claim that was decided by its client.
pub(super) enum Claimed {
    Made(ClaimId),
    /// It does not fit any more beside what was claimed meanwhile: the client decides again.
    Changed,
}

/// Claims what a client has decided on, if it still fits: the host is compared under the lock of the ledger.
///
/// Errors: the name of a parameter that is not as it has to be (the first), or why nothing is claimed.
pub(super) fn claim_parts(
    form: PartsForm,
    peer: &Peer,
    core: &Core,
    gone: Gone<'_>,
) -> Result<Result<Claimed, String>, &'static str> {
    let (pid, caller, nonce) = (form.pid, form.caller, form.nonce.clone());
    let forced = form.forced.unwrap_or(false);
    let parts = form.read()?;
    let peer = named(on_behalf(caller, peer), nonce.as_deref()).map_err(|_| "nonce")?;
    Ok(process(pid, &peer).and_then(|process| {
        core.claim_parts(parts, forced, process, &peer, gone)
            .map(|id| id.map_or(Claimed::Changed, Claimed::Made))
    }))
}

/// Ends the claim of a client that has gone before its answer. One that the client has replaced meanwhile
/// has another id. What cannot be ended now ends with its time or its process.
pub(super) fn withdraw(id: ClaimId, peer: &Peer, core: &Core) {
    let _ = release(id, peer, core);
}

/// Lists claims as one may see them: those of others as a sum for each node. Where a guest's memory is takes
/// long to find out, and is told only to those who could look themselves.
pub(super) fn rows(
    claims: &[Arc<Claim>],
    look: &mut Processes,
    peer: &Peer,
    gone: Gone<'_>,
) -> (Vec<Row>, Vec<OthersRow>) {
    // Each row may take milliseconds: no more of them once the client has gone.
    let all = claims.iter().take_while(|_| !gone());
    if may_do_all(peer) {
        return (all.map(|claim| Row::of(claim, look)).collect(), Vec::new());
    }
    let (own, others): (Vec<&Claim>, Vec<&Claim>) =
        all.map(Arc::as_ref).partition(|claim| is_own(claim.principal, peer));
    let rows = own.into_iter().map(|claim| Row::without_memory(claim, look)).collect();
    (rows, OthersRow::sums(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_a_pid_that_changes_hands_while_it_is_looked_at_is_claimed_for_by_nobody() {
        let process = |start| ProcessId { pid_namespace: 1, pid: 7, start };
        let standing = |uid| Standing { uid, parent: 1, here: true };
        let of = |uid, starts: &[u64], owner| {
            let identify = |starts: &mut std::slice::Iter<'_, u64>, _| {
                starts.next().map(|&start| process(start))
            };
            process_of(&mut starts.iter(), uid, 7, identify, |_, _| Some(standing(owner)))
        };
        let own = Some(1000);
        assert_eq!(of(own, &[5, 5], 1000), Ok(process(5)));
        // Root's process has the pid by the time that its owner, or its identity, is asked for.
        assert!(of(own, &[5, 6], 1000).is_err());
        assert!(of(own, &[5], 1000).is_err());
        assert!(of(own, &[], 1000).is_err());
        assert!(of(own, &[5, 5], 0).is_err());
        assert_eq!(of(None, &[5, 5], 1000), Ok(process(5)));
    }
}
