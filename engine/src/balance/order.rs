//! The order in which a group of guests can move.

use super::state::{CRUMB, Part, amount};

/// One guest's move as far as room goes.
#[derive(Clone, Debug)]
pub(super) struct Transfer<'a> {
    /// MiB that it gives back.
    pub(super) from: &'a [Part],
    /// MiB that it takes.
    pub(super) to: &'a [Part],
}

/// More transfers than this are not put in order.
pub(super) const MOST: usize = 16;

/// Returns an order in which every target has room when its turn comes; `None` where there is none.
///
/// `room` is what each node has before the first of them. What is left on the nodes depends only on which transfers
/// are done, so every set of them is looked at once: 2^n sets, n at most 16.
pub(super) fn legal_order(room: &[f64], transfers: &[Transfer<'_>]) -> Option<Vec<usize>> {
    let count = transfers.len();
    if count > MOST {
        return None;
    }
    let mut dead = vec![false; 1 << count];
    let mut order = Vec::with_capacity(count);
    let mut room = room.to_vec();
    extend(&mut room, transfers, 0, &mut dead, &mut order).then_some(order)
}

fn extend(
    room: &mut [f64],
    transfers: &[Transfer<'_>],
    done: usize,
    dead: &mut [bool],
    order: &mut Vec<usize>,
) -> bool {
    if order.len() == transfers.len() {
        return true;
    }
    for (at, transfer) in transfers.iter().enumerate() {
        let with = done | 1 << at;
        if with == done || dead[with] {
            continue;
        }
        if perform(room, transfer) {
            order.push(at);
            if extend(room, transfers, with, dead, order) {
                return true;
            }
            order.pop();
        }
        undo(room, transfer);
    }
    dead[done] = true;
    false
}

/// Moves one guest. Returns whether its targets had room for it.
fn perform(room: &mut [f64], transfer: &Transfer<'_>) -> bool {
    transfer.from.iter().for_each(|&(at, mib)| room[at] += mib);
    transfer.to.iter().for_each(|&(at, mib)| room[at] -= mib);
    transfer.to.iter().all(|&(at, mib)| {
        // A guest that stays in part on a node that is overfull makes nothing worse there.
        let had: f64 = amount(transfer.from, at);
        room[at] >= -CRUMB || mib <= had + CRUMB
    })
}

fn undo(room: &mut [f64], transfer: &Transfer<'_>) {
    transfer.from.iter().for_each(|&(at, mib)| room[at] -= mib);
    transfer.to.iter().for_each(|&(at, mib)| room[at] += mib);
}
