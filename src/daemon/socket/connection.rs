//! One connection, from the first message to the last.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::clients::Account;
use super::methods::{self, Next};
use super::{Served, http};
use crate::daemon::peer::{Peer, Way};
use crate::protocol::LONGEST_CALL;
use crate::protocol::wire::{Lost, Patience, Wire};

/// How long a message may take from its first byte to its last, and an answer to be read.
const MESSAGE: Duration = Duration::from_secs(5);

/// How long the first message of a connection is waited for: one that asks nothing holds a place that
/// another could have.
const FIRST: Duration = Duration::from_secs(5);

/// Returns who has connected.
pub(super) fn peer(uid: u32, pid: i32, served: &Served) -> Peer {
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0);
    let principal = served.core.principal(uid, pid);
    let caller = pid.unwrap_or(0);
    Peer { uid, principal, pid, caller, nonce: None, in_doubt: None, way: Way::Socket }
}

/// Answers until the client closes, says nothing for too long, or cannot be understood.
pub(super) fn serve(stream: UnixStream, peer: &Peer, served: &Served) {
    let mut wire = Wire::new(stream);
    let metrics = served.core.metrics();
    metrics.clients.add(1);
    if let Err(lost) = answer_all(&mut wire, peer, served) {
        match lost {
            Lost::End => {}
            Lost::Broken | Lost::Cut => metrics.cut.add(1),
            Lost::Late => metrics.late.add(1),
            Lost::Long => metrics.damaged.add(1),
        }
    }
    metrics.clients.sub(1);
}

fn answer_all(wire: &mut Wire<UnixStream>, peer: &Peer, served: &Served) -> Result<(), Lost> {
    let idle = served.core.settings().daemon.idle;
    let first = if peer.is_trusted() { idle } else { idle.min(FIRST) };
    let mut patience = Patience { idle: first, message: MESSAGE };
    if wire.begins(b"GET ", patience)? {
        let account = Account::of(peer);
        let leave = served.clients.heavy(account).zip(served.clients.turn(account));
        return match leave {
            Some(_leave) => http::serve(wire, &served.core, patience, |_| true),
            None => http::busy(wire, patience),
        };
    }
    loop {
        let message = wire.message(LONGEST_CALL, patience)?.to_vec();
        patience.idle = idle;
        if served.ends.load(std::sync::atomic::Ordering::Acquire) {
            return Ok(());
        }
        let working = served.clients.work();
        let next = methods::answer(&message, peer, served, &|| wire.is_gone());
        match next {
            Next::Reply(text, leave) => {
                wire.send(&text, MESSAGE)?;
                drop(leave);
            }
            Next::Nothing => {}
            Next::Watch => {
                // Somebody who watches is not waited for at the end.
                drop(working);
                return methods::watch(wire, peer, served, MESSAGE);
            }
            Next::Close => {
                served.core.metrics().damaged.add(1);
                return Ok(());
            }
        }
    }
}
