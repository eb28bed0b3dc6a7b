//! Which guests to move so that a request fits, with the least memory moved.

use super::model::{BalanceError, Guest, Host, Rules};
use super::order::{self, Transfer, legal_order};
use super::search::{nodes_of, targets};
use super::state::{self, CRUMB, Part, State, amount, bytes};
use crate::idset::NodeSet;
use crate::units::Bytes;

/// What room is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomRequest {
    /// CPUs of the guest to come.
    pub cpus: f64,
    /// Its memory.
    pub memory: Bytes,
    /// The nodes it may use.
    pub within: NodeSet,
}

/// One guest that makes room.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomStep {
    /// The guest's position in the list.
    pub guest: usize,
    /// The nodes of its threads and memory before.
    pub from: NodeSet,
    /// The node after.
    pub to: NodeSet,
    /// Resident memory that is moved.
    pub memory: Bytes,
    /// The guest's slowdown before the plan and after it, the guest to come not counted.
    pub slowdown: (f64, f64),
}

/// How to make room.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomPlan {
    /// The nodes on which the request then fits.
    pub nodes: NodeSet,
    /// What to move, in an order in which every target has room; nothing where the request fits already.
    pub steps: Vec<RoomStep>,
    /// Memory that is moved.
    pub memory: Bytes,
    /// No plan moves less than this: `memory` itself where that is proven.
    pub least: Bytes,
}

/// The answer to a request for room.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomAnswer {
    /// The plan with the least memory moved; `None` where none was found.
    pub plan: Option<RoomPlan>,
    /// Whether the search ended by itself: the plan moves least, or there is none.
    pub proven: bool,
    /// Positions of the search that were looked at.
    pub steps: u32,
}

/// Guests weighed in one search: each position weighs those that could leave, for each node that lacks memory.
const EFFORT: u64 = 10_000_000;

/// Places of a request that are tried, at most.
const MAX_PLACES: usize = 4_096;

/// One guest that is moved: its position, and that of the node it goes to.
type Leaving = (usize, usize);

/// Nodes that lack memory, and the MiB they lack.
type Lack = (Vec<usize>, f64);

/// The least that was found: MiB moved, the moves in a legal order, and the place of the request.
#[derive(Clone, Debug)]
struct Found {
    moved_mib: f64,
    moves: Vec<Leaving>,
    place: Vec<usize>,
}

/// Branch and bound over the guests that leave overfull nodes.
struct Search<'a> {
    state: &'a State<'a>,
    /// The single nodes that each guest may go to; none for one that must stay.
    targets: Vec<Vec<usize>>,
    /// For each guest the MiB moved for each MiB of room that it gives back, at least.
    ratios: Vec<f64>,
    /// The place that is tried, and the MiB it needs.
    place: Vec<usize>,
    needs_mib: f64,
    /// MiB left on each node on this branch.
    room: Vec<f64>,
    /// Nodes that guests were moved to.
    received: Vec<u32>,
    /// Guests that were moved or are kept on this branch.
    decided: Vec<bool>,
    moves: Vec<Leaving>,
    best: Option<Found>,
    looked_at: u32,
    /// Guests weighed, of [`EFFORT`].
    weighed: u64,
    /// The lowest bound of a branch that was given up for lack of steps.
    cut_mib: f64,
}

/// Makes room on the fewest nodes that can hold a request.
///
/// Rest times and gains do not count: the caller asked for it. The limits of a plan do. Guests wider than a node
/// stay.
/// Errors: a guest has a figure that is negative or absurd.
pub fn make_room(
    host: &Host,
    guests: &[Guest],
    rules: &Rules,
    request: &RoomRequest,
) -> Result<RoomAnswer, BalanceError> {
    guests.iter().try_for_each(Guest::check)?;
    let state = State::new(host, guests, rules);
    let mut search = Search::new(&state, guests, state::mib(request.memory));
    let (places, all) = places(&state, request);
    for place in places {
        search.place = place;
        search.descend(0.0);
    }
    if !all {
        search.cut_mib = 0.0;
    }
    let least_mib = search.best.as_ref().map(|best| best.moved_mib.min(search.cut_mib));
    let plan = search.best.as_ref().zip(least_mib);
    Ok(RoomAnswer {
        plan: plan.map(|(found, least)| answer(&state, found, least)),
        proven: search.cut_mib >= search.best.as_ref().map_or(f64::INFINITY, |best| best.moved_mib),
        steps: search.looked_at,
    })
}

fn answer(state: &State<'_>, found: &Found, least_mib: f64) -> RoomPlan {
    let mut after = state.clone();
    found.moves.iter().for_each(|&(guest, _)| after.remove(guest));
    for &(guest, to) in &found.moves {
        if let Some(spot) = after.spot_on(guest, &[to]) {
            after.insert(guest, spot);
        }
    }
    let step = |&(guest, to): &Leaving| RoomStep {
        guest,
        from: state.host.ids(&nodes_of(&state.spots[guest])),
        to: state.host.ids(&[to]),
        memory: bytes(state.moved_to(guest, to)),
        slowdown: (state.slowdown(guest), after.slowdown(guest)),
    };
    RoomPlan {
        nodes: state.host.ids(&found.place),
        steps: found.moves.iter().map(step).collect(),
        memory: bytes(found.moved_mib),
        least: bytes(least_mib),
    }
}

/// Returns the node sets that could hold the request if they were empty, of the fewest nodes that can; and whether
/// these are all. Where there are too many, each node is there with those nearest to it.
fn places(state: &State<'_>, request: &RoomRequest) -> (Vec<Vec<usize>>, bool) {
    let allowed = state.host.positions(&request.within);
    let mib = state::mib(request.memory);
    let holds = |set: &[usize]| {
        let nodes = set.iter().map(|&at| &state.host.nodes[at]);
        let (cpus, all) =
            nodes.fold((0.0, 0.0), |sum, node| (sum.0 + node.cpus, sum.1 + node.total_mib));
        cpus + 1e-9 >= request.cpus && all + CRUMB >= mib
    };
    for count in 1..=allowed.len() {
        let every = sets_of(&allowed, count);
        let all = every.is_some();
        let mut sets = every.unwrap_or_else(|| {
            let near = |&seed: &usize| state.nearest(seed, &allowed, count);
            let mut sets: Vec<Vec<usize>> = allowed.iter().map(near).collect();
            sets.sort();
            sets.dedup();
            sets
        });
        sets.retain(|set| holds(set));
        if !sets.is_empty() {
            return (sets, all);
        }
    }
    (Vec::new(), true)
}

/// Returns all sets of that many nodes, unless there are more than [`MAX_PLACES`].
fn sets_of(nodes: &[usize], count: usize) -> Option<Vec<Vec<usize>>> {
    let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
    for missing in (0..count).rev() {
        let grown = sets.iter().flat_map(|set| {
            let next = set.last().map_or(0, |&last| nodes.partition_point(|&node| node <= last));
            // As many are left behind as are missing still.
            let rest = nodes.get(next..nodes.len() - missing).unwrap_or_default();
            rest.iter().map(|&node| set.iter().copied().chain([node]).collect())
        });
        sets = grown.take(MAX_PLACES + 1).collect();
        if sets.len() > MAX_PLACES {
            return None;
        }
    }
    Some(sets)
}

impl<'a> Search<'a> {
    fn new(state: &'a State<'a>, guests: &[Guest], needs_mib: f64) -> Self {
        let single = |(at, guest): (usize, &Guest)| -> Vec<usize> {
            let sets = if guest.fixed.is_none() { targets(state, at, guest) } else { Vec::new() };
            sets.iter().filter(|set| set.len() == 1).map(|set| set[0]).collect()
        };
        let targets: Vec<Vec<usize>> = guests.iter().enumerate().map(single).collect();
        let ratio = |(at, targets): (usize, &Vec<usize>)| {
            let moved =
                targets.iter().map(|&to| state.moved_to(at, to)).fold(f64::INFINITY, f64::min);
            moved / state::sum(&state.spots[at].held).max(CRUMB)
        };
        Self {
            ratios: targets.iter().enumerate().map(ratio).collect(),
            targets,
            place: Vec::new(),
            needs_mib,
            room: state.nodes.iter().map(|node| node.room).collect(),
            received: vec![0; state.nodes.len()],
            decided: vec![false; guests.len()],
            moves: Vec::new(),
            best: None,
            looked_at: 0,
            weighed: 0,
            cut_mib: f64::INFINITY,
            state,
        }
    }

    /// Looks at one position: the moves so far, which moved that much.
    fn descend(&mut self, moved_mib: f64) {
        if self.weighed >= EFFORT {
            self.cut_mib = self.cut_mib.min(moved_mib);
            return;
        }
        let Some((bound, worst)) = self.bound(moved_mib) else { return };
        let limit =
            self.best.as_ref().map_or(self.state.rules.most_mib, |best| best.moved_mib - CRUMB);
        if bound > limit {
            return;
        }
        // Where everything fits and cannot be done in any order, one more guest may give way.
        let (nodes, lacks) = match worst {
            Some(worst) => worst,
            None if self.keep(moved_mib) => return,
            None => ((0..self.room.len()).collect(), 0.0),
        };
        self.looked_at += 1;
        if self.moves.len() >= self.state.rules.most_guests.min(order::MOST) {
            return;
        }
        let leaving = self.leaving(&nodes, lacks);
        // Each guest leaves, with all guests before it in the list kept: no set of moves is met twice.
        for &guest in &leaving {
            self.decided[guest] = true;
            for to in self.destinations(guest) {
                self.take(guest, to, 1.0);
                self.moves.push((guest, to));
                self.descend(moved_mib + self.state.moved_to(guest, to));
                self.moves.pop();
                self.take(guest, to, -1.0);
            }
        }
        leaving.iter().for_each(|&guest| self.decided[guest] = false);
    }

    /// Moves a guest to a node, or back with -1.
    fn take(&mut self, guest: usize, to: usize, sign: f64) {
        for &(at, held) in &self.state.spots[guest].held {
            self.room[at] += sign * held;
        }
        self.room[to] -= sign * self.state.guests[guest].needs_mib;
        if sign > 0.0 { self.received[to] += 1 } else { self.received[to] -= 1 }
    }

    /// Returns what any completion moves at least, and the nodes that lack most with how much they lack. `None` where
    /// no completion exists.
    fn bound(&mut self, moved_mib: f64) -> Option<(f64, Option<Lack>)> {
        let overfull = (0..self.room.len())
            .filter(|at| !self.place.contains(at) && self.received[*at] > 0)
            .map(|at| (vec![at], -self.room[at]));
        let lacking: Vec<Lack> =
            std::iter::once(self.wanted()).chain(overfull).filter(|node| node.1 > CRUMB).collect();
        self.weighed += (1 + lacking.len() as u64) * (1 + self.decided.len() as u64);
        let mut bound = moved_mib;
        for (nodes, lacks) in &lacking {
            bound += self.least_moved(nodes, *lacks)?;
        }
        // The first of those that lack most.
        let worst = lacking.into_iter().reduce(|a, b| if b.1 > a.1 { b } else { a });
        Some((bound, worst))
    }

    /// Returns the place of the request, and what it lacks.
    fn wanted(&self) -> Lack {
        let there: f64 = self.place.iter().map(|&at| self.room[at].max(0.0)).sum();
        let overfull = |&&at: &&usize| self.received[at] > 0 && self.room[at] < 0.0;
        let over: f64 = self.place.iter().filter(overfull).map(|&at| -self.room[at]).sum();
        (self.place.clone(), self.needs_mib - there + over)
    }

    /// Returns the least memory that undecided guests move to give back that much of some nodes: the cheapest
    /// first, the last of them in part. `None` where they do not have it.
    fn least_moved(&self, nodes: &[usize], lacks: f64) -> Option<f64> {
        let mut offers: Vec<(f64, f64)> = (0..self.decided.len())
            .filter(|&guest| !self.decided[guest] && !self.targets[guest].is_empty())
            .map(|guest| (self.ratios[guest], self.given_back(guest, nodes)))
            .filter(|offer| offer.1 > 0.0)
            .collect();
        offers.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut left, mut moved) = (lacks, 0.0);
        for (ratio, room) in offers {
            let part = room.min(left);
            moved += part * ratio;
            left -= part;
        }
        (left <= CRUMB).then_some(moved)
    }

    /// Returns the MiB that a guest has on some nodes.
    fn given_back(&self, guest: usize, nodes: &[usize]) -> f64 {
        nodes.iter().map(|&at| amount(&self.state.spots[guest].held, at)).sum()
    }

    /// Returns the undecided guests of some nodes: those first that are enough alone, the smallest of them
    /// first, then the others by size.
    fn leaving(&self, nodes: &[usize], lacks: f64) -> Vec<usize> {
        let mut guests: Vec<(bool, f64, usize)> = (0..self.decided.len())
            .filter(|&guest| !self.decided[guest] && !self.targets[guest].is_empty())
            .map(|guest| (guest, self.given_back(guest, nodes)))
            .filter(|&(_, room)| room > 0.0)
            .map(|(guest, room)| {
                let enough = room + CRUMB >= lacks;
                (!enough, if enough { room } else { -room }, guest)
            })
            .collect();
        guests.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        guests.into_iter().map(|(_, _, guest)| guest).collect()
    }

    /// Returns where a guest may go, those with most room first. One that is spread may gather on a node that lacks
    /// memory, where others leave that.
    fn destinations(&self, guest: usize) -> Vec<usize> {
        let held = &self.state.spots[guest].held;
        let mut nodes = self.targets[guest].clone();
        nodes.retain(|&node| held.iter().any(|&(at, _)| at != node));
        nodes.sort_by(|&a, &b| self.room[b].total_cmp(&self.room[a]).then(a.cmp(&b)));
        nodes
    }

    /// Keeps moves after which everything fits, if they can be done in some order. Returns whether they can.
    fn keep(&mut self, moved_mib: f64) -> bool {
        let room: Vec<f64> = self.state.nodes.iter().map(|node| node.room).collect();
        let after: Vec<[Part; 1]> = self
            .moves
            .iter()
            .map(|&(guest, to)| [(to, self.state.guests[guest].needs_mib)])
            .collect();
        let transfers = self.moves.iter().zip(&after);
        let transfers: Vec<Transfer<'_>> = transfers
            .map(|(&(guest, _), to)| Transfer { from: &self.state.spots[guest].held, to })
            .collect();
        let order = legal_order(&room, &transfers);
        if let Some(order) = &order {
            let moves = order.iter().map(|&at| self.moves[at]).collect();
            self.best = Some(Found { moved_mib, moves, place: self.place.clone() });
        }
        order.is_some()
    }
}
