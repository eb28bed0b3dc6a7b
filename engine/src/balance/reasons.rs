//! Why guests stay where they are.

use super::model::LeftAlone;
use super::search::{ROUNDING, Refusal, Search};
use super::state::{amount, bytes};

/// Returns the reason for each guest that the plan does not move.
pub(super) fn of_all(search: &mut Search<'_>) -> Vec<(usize, LeftAlone)> {
    let left = (0..search.guests.len()).filter(|&guest| !search.has_moved(guest));
    let left: Vec<usize> = left.collect();
    left.into_iter().map(|guest| (guest, of(search, guest))).collect()
}

fn of(search: &mut Search<'_>, guest: usize) -> LeftAlone {
    if let Some(stays) = search.guests[guest].must_stay(search.state.rules) {
        return stays;
    }
    if search.targets[guest].is_empty() {
        return LeftAlone::NoOtherNode;
    }
    let mut weights = Vec::new();
    search.weigh(guest, &mut weights);
    let worths = weights.iter().map(|weight| weight.worth).enumerate();
    let best = worths.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
    let Some((target, _)) = best.filter(|&(_, worth)| worth > ROUNDING) else {
        let most = weights.iter().max_by(|a, b| a.gain.total_cmp(&b.gain));
        return too_small(most.map_or((0.0, 0.0), |most| (most.gain, most.cost)));
    };
    match search.attempt(&[(guest, target)]) {
        Err(Refusal::NoRoom) => no_room(search, guest, target),
        Err(Refusal::Slows(other)) => LeftAlone::SlowsAnother(other),
        Err(Refusal::Small(gain, cost)) => too_small((gain, cost)),
        Ok(_) | Err(Refusal::TooLarge) => LeftAlone::PlanIsFull,
    }
}

fn too_small((gain, cost): (f64, f64)) -> LeftAlone {
    if gain <= ROUNDING { LeftAlone::WellPlaced } else { LeftAlone::GainTooSmall { gain, cost } }
}

fn no_room(search: &Search<'_>, guest: usize, target: usize) -> LeftAlone {
    let set = &search.targets[guest][target];
    let room: f64 = set.iter().map(|&at| search.state.nodes[at].room).sum();
    let own = |at: &usize| amount(&search.state.spots[guest].held, *at);
    let own: f64 = set.iter().map(own).sum();
    let lacks = (search.state.guests[guest].needs_mib - own - room).max(0.0);
    LeftAlone::NoRoom(search.state.host.ids(set), bytes(lacks))
}
