//! What is true on the host at one moment, whatever rules see of it.

use placer_engine::balance::roam::{Room, shares};

use super::guest::{Guest, seconds};
use super::machine::{CPU, Machine, WINDOW, cpus, millionths};
use super::rules::{Part, Seen};

/// One node's truth.
#[derive(Clone, Debug)]
struct Node {
    /// Runnable threads, in millionths.
    demand: i64,
    /// What all guests that are there were promised, in MiB.
    promised: u64,
    /// What they have touched.
    touched: u64,
    claimed: u64,
    /// Hundredths of a CPU.
    claimed_cpus: u64,
    /// Hundredths of the vCPUs that may run here.
    vcpus: u64,
    /// The integral of crowding over time, in seconds, as of `since`.
    crowded: f64,
    since: u64,
}

/// One node's part of a guest that is there.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: usize,
    /// Of the set the guest was given: its threads run there.
    member: bool,
    promised: u64,
    touched: u64,
    claimed: u64,
    /// Hundredths of a CPU that were promised, and what is claimed of them.
    cpus: u64,
    claimed_cpus: u64,
    /// Millionths of a CPU: its runnable threads here.
    running: i64,
    /// The node's integral when the threads came to run here.
    crowded: f64,
}

/// A guest that is there.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pieces: Vec<Piece>,
    /// Hundredths of a CPU.
    cpus: u32,
    mib: u32,
    swapped: u64,
    woke: Option<u64>,
    since: u64,
    /// Integrals over the time since it woke: its work, and the time that takes.
    work: f64,
    taken: f64,
}

/// Memory that was not where it was promised, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Misplaced {
    pub(super) spilled: u64,
    pub(super) swapped: u64,
}

/// All nodes, and whether guests are claimed for.
pub(super) struct State<'a> {
    machine: &'a Machine,
    nodes: Vec<Node>,
    claims: bool,
    memory_bound: f64,
    order: Vec<(f64, usize)>,
    rooms: Vec<Room>,
}

impl<'a> State<'a> {
    pub(super) fn new(machine: &'a Machine, claims: bool, memory_bound: f64) -> Self {
        let nodes = machine.nodes.iter().map(|node| Node {
            demand: node.busy,
            promised: 0,
            touched: 0,
            claimed: 0,
            claimed_cpus: 0,
            vcpus: 0,
            crowded: 0.0,
            since: 0,
        });
        Self {
            machine,
            nodes: nodes.collect(),
            claims,
            memory_bound,
            order: Vec::new(),
            rooms: Vec::new(),
        }
    }

    /// Shows the nodes as rules see them.
    pub(super) fn show(&self, seen: &mut Vec<Seen>) {
        seen.clear();
        seen.extend(self.machine.nodes.iter().zip(&self.nodes).map(|(built, node)| {
            let all = i64::from(built.cpus) * CPU;
            let busy = u64::try_from(node.demand.clamp(0, all)).unwrap_or_default();
            Seen {
                free: built.there.saturating_sub(node.touched),
                claimed: node.claimed,
                busy: ticks(busy),
                claimed_cpus: node.claimed_cpus,
                vcpus: node.vcpus,
                cpus: built.cpus,
                cap: built.cap,
            }
        }));
    }

    /// Returns the load for each CPU of the host, and how many times that the hottest node has.
    pub(super) fn heat(&self) -> (f64, f64) {
        let (mut demand, mut cap, mut hottest) = (0.0, 0.0, 0.0f64);
        for (built, node) in self.machine.nodes.iter().zip(&self.nodes) {
            if built.cap > 0.0 {
                let here = cpus(node.demand);
                demand += here;
                cap += built.cap;
                hottest = hottest.max(here / built.cap);
            }
        }
        let load = demand / cap;
        (load, if load > 0.0 { hottest / load } else { 1.0 })
    }

    /// Starts a guest where a rule has put it. Returns it, and how much of the promised memory is
    /// not there.
    pub(super) fn start(&mut self, guest: &Guest, named: &[usize], parts: &[Part]) -> (Live, u64) {
        let mut pieces: Vec<Piece> = parts
            .iter()
            .map(|part| Piece {
                at: part.at,
                member: true,
                promised: 0,
                touched: 0,
                claimed: 0,
                cpus: hundredths(part.cpus),
                claimed_cpus: 0,
                running: 0,
                crowded: 0.0,
            })
            .collect();
        self.promise(guest, parts, &mut pieces);
        for &at in named {
            self.nodes[at].vcpus += u64::from(guest.cpus);
        }
        let mut beyond = 0;
        for piece in &mut pieces {
            let there = self.machine.nodes[piece.at].there;
            let node = &mut self.nodes[piece.at];
            let before = node.promised.saturating_sub(there);
            node.promised += piece.promised;
            beyond += node.promised.saturating_sub(there) - before;
            if self.claims {
                (piece.claimed, piece.claimed_cpus) = (piece.promised, piece.cpus);
                node.claimed += piece.claimed;
                node.claimed_cpus += piece.claimed_cpus;
            }
        }
        let live = Live {
            pieces,
            cpus: guest.cpus,
            mib: guest.mib,
            swapped: 0,
            woke: None,
            since: guest.arrival,
            work: 0.0,
            taken: 0.0,
        };
        (live, beyond)
    }

    /// Splits a guest's memory in whole MiB: as it was expected, what is left by rounding where a
    /// node has room, and what nobody has in equal parts.
    fn promise(&self, guest: &Guest, parts: &[Part], pieces: &mut [Piece]) {
        let mut left = u64::from(guest.mib);
        for (piece, part) in pieces.iter_mut().zip(parts) {
            piece.promised = whole(part.mib).min(left);
            left -= piece.promised;
        }
        for piece in pieces.iter_mut() {
            let room = self.left(piece.at).saturating_sub(piece.promised).min(left);
            piece.promised += room;
            left -= room;
        }
        let count = pieces.len() as u64;
        for (at, piece) in (0u64..).zip(pieces.iter_mut()) {
            piece.promised += left / count + u64::from(at < left % count);
        }
    }

    /// Returns what a rule sees of a node's memory.
    fn left(&self, at: usize) -> u64 {
        let (built, node) = (&self.machine.nodes[at], &self.nodes[at]);
        built.there.saturating_sub(node.touched).saturating_sub(node.claimed)
    }

    /// Lets a guest touch its memory and run. Returns what of the memory went elsewhere.
    pub(super) fn wake(&mut self, live: &mut Live, now: u64, busy: f64) -> Misplaced {
        live.woke = Some(now);
        live.since = now;
        self.spread(live, now, busy);
        let mut left = u64::from(live.mib);
        for at in 0..live.pieces.len() {
            let wanted = live.pieces[at].promised;
            left -= self.touch(live, at, wanted);
        }
        let homeless = left;
        // The nearest room first, the guest's own nodes before others.
        if left > 0 {
            let members = live.pieces.len();
            for member in [true, false] {
                self.order.clear();
                for node in 0..self.nodes.len() {
                    if live.pieces[..members].iter().any(|piece| piece.at == node) == member {
                        let far = self.distance_to(live, node);
                        self.order.push((far, node));
                    }
                }
                self.order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                for (_, node) in std::mem::take(&mut self.order) {
                    if left == 0 {
                        break;
                    }
                    let found = live.pieces.iter().position(|piece| piece.at == node);
                    let at = found.unwrap_or_else(|| {
                        live.pieces.push(Piece {
                            at: node,
                            member: false,
                            promised: 0,
                            touched: 0,
                            claimed: 0,
                            cpus: 0,
                            claimed_cpus: 0,
                            running: 0,
                            crowded: 0.0,
                        });
                        live.pieces.len() - 1
                    });
                    left -= self.touch(live, at, left);
                }
            }
        }
        live.swapped = left;
        self.shrink_claims(live, now);
        Misplaced { spilled: homeless - left, swapped: left }
    }

    /// Takes up to so much of a node for a piece of a guest; returns how much.
    fn touch(&mut self, live: &mut Live, at: usize, wanted: u64) -> u64 {
        let piece = &mut live.pieces[at];
        let node = &mut self.nodes[piece.at];
        let room = self.machine.nodes[piece.at].there.saturating_sub(node.touched);
        let taken = wanted.min(room);
        node.touched += taken;
        piece.touched += taken;
        taken
    }

    /// The mean distance of a guest's threads from a node's memory.
    fn distance_to(&self, live: &Live, node: usize) -> f64 {
        let (mut sum, mut all) = (0.0, 0.0);
        for piece in live.pieces.iter().filter(|piece| piece.member) {
            let threads = live.threads(piece);
            sum += threads * self.machine.row(piece.at)[node];
            all += threads;
        }
        sum / all
    }

    /// Returns the mean distance of a guest's memory from its threads, 10 is local, and the memory
    /// in MiB.
    #[expect(clippy::cast_precision_loss, reason = "no guest has 2^53 MiB")]
    pub(super) fn distance(&self, live: &Live) -> (f64, f64) {
        let all: f64 = live.pieces.iter().map(|piece| piece.touched as f64).sum();
        let (mut sum, mut threads) = (0.0, 0.0);
        // Row by row, as the distances lie in memory.
        for member in live.pieces.iter().filter(|piece| piece.member) {
            let here = live.threads(member);
            if here > 0.0 {
                let row = self.machine.row(member.at);
                let reach = |piece: &Piece| piece.touched as f64 * row[piece.at];
                sum += here * live.pieces.iter().map(reach).sum::<f64>();
                threads += here;
            }
        }
        // What is swapped has no distance.
        (if all > 0.0 { sum / (threads * all) } else { 10.0 }, all)
    }

    /// Changes the load of a guest that is awake.
    pub(super) fn change(&mut self, live: &mut Live, now: u64, busy: f64) {
        self.settle(live, now);
        self.spread(live, now, busy);
        self.shrink_claims(live, now);
    }

    /// Ends a guest. Returns its slowdown; `None` where it has done no work.
    pub(super) fn end(&mut self, live: &mut Live, named: &[usize], now: u64) -> Option<f64> {
        self.settle(live, now);
        for &at in named {
            self.nodes[at].vcpus -= u64::from(live.cpus);
        }
        for piece in live.pieces.drain(..) {
            let node = &mut self.nodes[piece.at];
            node.promised -= piece.promised;
            node.touched -= piece.touched;
            node.claimed -= piece.claimed;
            node.claimed_cpus -= piece.claimed_cpus;
        }
        (live.work > 0.0).then(|| live.taken / live.work)
    }

    /// Adds up what a guest did since it was last looked at, and takes its threads off the nodes.
    fn settle(&mut self, live: &mut Live, now: u64) {
        if live.woke.is_none() {
            return;
        }
        let (near, _) = self.distance(live);
        let farther = 1.0 - self.memory_bound + self.memory_bound * near / 10.0;
        let time = seconds(now - live.since);
        live.since = now;
        for piece in live.pieces.iter_mut().filter(|piece| piece.running > 0) {
            self.advance(piece.at, now);
            let node = &mut self.nodes[piece.at];
            let running = cpus(piece.running);
            live.work += running * time;
            live.taken += running * (node.crowded - piece.crowded) * farther;
            node.demand -= piece.running;
            piece.running = 0;
        }
    }

    /// Brings a node's integral of crowding up to now.
    fn advance(&mut self, at: usize, now: u64) {
        let crowding = self.crowding(at);
        let node = &mut self.nodes[at];
        node.crowded += crowding * seconds(now - node.since);
        node.since = now;
    }

    /// Runnable threads for each CPU, at least 1.
    fn crowding(&self, at: usize) -> f64 {
        (cpus(self.nodes[at].demand) / self.machine.nodes[at].cap.max(1e-6)).max(1.0)
    }

    /// Puts a guest's threads on its nodes, as they roam.
    fn spread(&mut self, live: &mut Live, now: u64, busy: f64) {
        let wanted = millionths(busy * f64::from(live.cpus) / 100.0);
        self.rooms.clear();
        self.rooms.extend(live.pieces.iter().map(|piece| Room {
            cap: if piece.member { self.machine.nodes[piece.at].cap } else { 0.0 },
            busy: cpus(self.nodes[piece.at].demand),
        }));
        let shares = shares(&self.rooms, cpus(wanted));
        // Whole millionths that add up: what rounding leaves goes to the last that has a share.
        let last = shares.iter().rposition(|&share| share > 0.0);
        let mut left = wanted;
        for (at, share) in shares.into_iter().enumerate() {
            let here = if Some(at) == last { left } else { millionths(cpus(wanted) * share) };
            let here = here.clamp(0, left);
            left -= here;
            let node = live.pieces[at].at;
            self.advance(node, now);
            self.nodes[node].demand += here;
            live.pieces[at].running = here;
            live.pieces[at].crowded = self.nodes[node].crowded;
        }
    }

    /// Lets a guest's claims shrink as placer's do: memory to what is not resident, CPUs to what it
    /// has not used on the average since it started.
    fn shrink_claims(&mut self, live: &mut Live, now: u64) {
        if !self.claims {
            return;
        }
        let life = seconds(now - live.woke.unwrap_or(now));
        let used = if life > 0.0 { live.work / life } else { 0.0 };
        let waiting = u64::from(live.cpus).saturating_sub(hundredths(used));
        for piece in &mut live.pieces {
            let node = &mut self.nodes[piece.at];
            let memory = piece.promised.min(live.swapped);
            let cpus = (piece.cpus * waiting).div_ceil(u64::from(live.cpus).max(1));
            node.claimed = node.claimed - piece.claimed + memory;
            node.claimed_cpus = node.claimed_cpus - piece.claimed_cpus + cpus;
            (piece.claimed, piece.claimed_cpus) = (memory, cpus);
        }
    }

    /// Says whether the host is as it was before the first guest, and if not, why.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> Option<String> {
        let strange = self.machine.nodes.iter().zip(&self.nodes).find(|(built, node)| {
            let left = (node.promised, node.touched, node.claimed, node.claimed_cpus, node.vcpus);
            left != (0, 0, 0, 0, 0) || node.demand != built.busy
        });
        strange.map(|(built, node)| format!("node {}: {node:?}", built.id))
    }

    /// Says whether the nodes hold no more than they have.
    #[cfg(test)]
    pub(super) fn overfull(&self) -> Option<String> {
        let strange = self.machine.nodes.iter().zip(&self.nodes);
        let mut strange = strange.filter(|(built, node)| {
            node.touched > built.there || node.demand < built.busy || node.crowded.is_nan()
        });
        strange.next().map(|(built, node)| format!("node {}: {node:?}", built.id))
    }
}

/// Busy ticks of a window, from millionths of CPUs.
pub(super) fn busy_ticks(millionths: i64) -> u64 {
    ticks(u64::try_from(millionths).unwrap_or_default())
}

/// Rounded up, as what is not known to be idle is not promised.
fn ticks(busy: u64) -> u64 {
    busy.div_ceil(CPU.unsigned_abs() / WINDOW)
}

impl Live {
    /// Whether none of its threads runs.
    fn idle(&self) -> bool {
        self.pieces.iter().all(|piece| piece.running == 0)
    }

    /// Returns how many of its threads a piece has. A guest without any load has them where it was
    /// promised CPUs.
    fn threads(&self, piece: &Piece) -> f64 {
        if self.idle() { 1.0 } else { cpus(piece.running) }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn hundredths(cpus: f64) -> u64 {
    (cpus * 100.0).round() as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn whole(mib: f64) -> u64 {
    mib.floor() as u64
}
