//! The right to claim for a process, and to end a claim.

use placer_engine::claims::{
    Claim, ClaimId, ClaimOwner, Claims, LOCK_TIMEOUT, ProcessId, Processes,
};

use crate::daemon::core::Core;
use crate::daemon::peer::Peer;
use crate::error_chain::chain;
use crate::protocol::forms::ClaimForm;
use crate::report::claims::Row;
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
            let pid = process(pid, peer)?;
            Ok((named(on_behalf(form.caller, peer), nonce)?, ClaimOwner::Pid(pid)))
        }
        (None, None) => Err("expected hold_ms or pid, found neither".to_owned()),
        (Some(_), Some(_)) => Err("expected hold_ms or pid, found both".to_owned()),
    }
}

/// Returns a process that who asks may claim for.
fn process(pid: u32, peer: &Peer) -> Result<u32, String> {
    let mut look = Processes::look().map_err(|error| chain(&error))?;
    let own = peer.pid.ok_or("the calling process is not seen from here: ask for a hold")?;
    let here = look.standing(own).is_some_and(|standing| standing.here);
    let pid = match pid {
        0 => own,
        _ if here => pid,
        // Its numbers name other processes here.
        _ => return Err("the caller is in another pid namespace: only pid 0, itself".to_owned()),
    };
    let standing = look.standing(pid).ok_or_else(|| format!("there is no process {pid}"))?;
    if !may_do_all(peer) && standing.uid != peer.uid {
        let (uid, owner) = (peer.uid, standing.uid);
        return Err(format!("process {pid} belongs to user {owner}, and the caller is user {uid}"));
    }
    Ok(pid)
}

/// Returns which process a number names now.
pub(super) fn identity(who: &ClaimOwner) -> Option<ProcessId> {
    match who {
        ClaimOwner::Pid(pid) => Processes::look().ok()?.identify(*pid),
        _ => None,
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
    let say = |error: &dyn std::error::Error| chain(error);
    let place = counted::place(core.settings().claims);
    let claims = Claims::open_to_claim(&place, core.root()).map_err(|e| say(&e))?;
    let (decision, _) = claims.begin(LOCK_TIMEOUT).map_err(|e| say(&e))?;
    let owner = decision.ledger().get(id).map(|claim| claim.principal);
    if !may_do_all(peer) && owner.is_some_and(|owner| owner != peer.principal) {
        return Err(format!("claim {id} does not belong to user {}", peer.uid));
    }
    let claim = decision.release(id).map_err(|e| say(&e))?;
    core.released(&claim, peer);
    Ok(claim)
}

/// Ends the claim of a client that has gone before its answer. One that the client has replaced meanwhile
/// has another id. What cannot be ended now ends with its time or its process.
pub(super) fn withdraw(id: ClaimId, peer: &Peer, core: &Core) {
    let _ = release(id, peer, core);
}

/// Returns a claim as it is listed. Where its guest's memory is takes long to find out, and is told
/// only to those who could look themselves.
pub(super) fn row(claim: &Claim, look: &mut Processes, peer: &Peer) -> Row {
    if may_do_all(peer) { Row::of(claim, look) } else { Row::without_memory(claim, look) }
}
