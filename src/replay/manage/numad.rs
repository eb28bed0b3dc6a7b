//! numad's daemon, both versions: which guests it moves, when and where, from a description of what it does.
//!
//! A pass looks at all guests that use more than half a CPU and 300 MB, those never bound before others, then by
//! CPU use times memory, and moves at most one. It binds the threads to the nodes it chooses and moves all memory
//! there while it waits. A pass follows 15 s after one without a move and 5 s after a move. Five minutes pass
//! between two moves of a guest, unless the version of 2025 holds it for urgent or saw the number of guests or of
//! their running threads change. A guest that others bound to fewer than all nodes counts as bound.
//!
//! What it does not do: it sets no memory policy, keeps no room for memory on its way, and tries to move pinned
//! memory again each time.

mod choose;

use std::collections::BTreeMap;

use placer_engine::policy::numad::{Failure, NodeFigures, Version};

use super::super::dice::Dice;
use super::super::rules::{Seen, numad_figures};
use super::state::{CRUMB, State, whole, whole_mib};
use choose::{Want, choose};

const MIN_S: f64 = 5.0;
const MAX_S: f64 = 15.0;
/// A guest rests that long after it was bound.
const REST_S: f64 = 300.0;
/// MB of memory and hundredths of a CPU from which on a process is looked at.
const MEMORY: f64 = 300.0;
const CPU: u64 = 50;
/// MiB moved in a second: by migrate_pages, in one thread.
const RATE: f64 = 1_024.0;
/// The part of the memory, in percent, that is to be on the nodes: `-m`.
const LOCALITY: f64 = 0.9;

/// What it remembers of a guest.
#[derive(Clone, Debug, Default)]
struct Process {
    ran: f64,
    /// Hundredths of a CPU, the newest last.
    rates: Vec<u64>,
    bound: Option<f64>,
    moved_before: bool,
    candidate_before: bool,
}

/// A guest that it may move in a pass.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    number: u32,
    /// Hundredths of a CPU.
    used: u64,
    mib: u64,
    /// Running threads: of the version of 2025.
    active: u64,
}

pub(super) struct Numad {
    version: Version,
    seed: u64,
    processes: BTreeMap<u32, Process>,
    next: f64,
    last: f64,
    pass: u64,
    quick: u64,
    crowd: (usize, u64),
    moving: Option<u32>,
    seen: Vec<Seen>,
}

impl Numad {
    pub(super) fn new(version: Version, seed: u64) -> Self {
        Self {
            version,
            seed,
            processes: BTreeMap::new(),
            next: 0.0,
            last: 0.0,
            pass: 0,
            quick: 0,
            crowd: (0, 0),
            moving: None,
            seen: Vec::new(),
        }
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Lets it work for some seconds that end now.
    ///
    /// Errors: what makes numad end on this host.
    pub(super) fn look(
        &mut self,
        state: &mut State<'_>,
        now: f64,
        seconds: f64,
    ) -> Result<(), Failure> {
        if let Some(number) = self.moving {
            let there = state.find(number);
            if there.is_none_or(|guest| state.transfer(guest, RATE * seconds)) {
                self.moving = None;
                self.next = now + MIN_S;
            }
            return Ok(());
        }
        if now < self.next {
            return Ok(());
        }
        let grown = self.scan(state, now);
        state.show(&mut self.seen);
        let (figures, rows) = numad_figures(self.version, state.machine, &self.seen)?;
        let candidates = self.candidates(state, now);
        let crowd = (candidates.len(), candidates.iter().map(|each| each.active).sum());
        let first = self.pass == 1;
        if self.version == Version::V2025 && crowd != self.crowd && !first {
            self.quick += 3;
        }
        self.crowd = crowd;
        let may_move = self.version == Version::V2015 || !(grown || first);
        let moved = may_move && self.manage(state, now, &figures, &rows, &candidates);
        self.next = now
            + if moved || grown {
                MIN_S
            } else if self.version == Version::V2025 && self.quick > 0 {
                2.0 * MIN_S
            } else {
                MAX_S
            };
        if !moved {
            self.quick = self.quick.saturating_sub(1);
        }
        Ok(())
    }

    /// Measures what CPU time guests used since the last pass. Returns whether there are new ones.
    fn scan(&mut self, state: &State<'_>, now: f64) -> bool {
        let gap = (now - self.last).max(1e-3);
        self.last = now;
        self.pass += 1;
        let kept = if self.version == Version::V2015 { 8 } else { 4 };
        self.processes.retain(|&number, _| state.find(number).is_some());
        let mut grown = false;
        for guest in state.guests.iter().filter(|guest| guest.resident() > MEMORY) {
            let known = self.processes.contains_key(&guest.number);
            let process = self.processes.entry(guest.number).or_default();
            if known {
                let rate = whole((guest.ran - process.ran) / gap * 100.0);
                process.rates.push(rate);
                if process.rates.len() > kept {
                    process.rates.remove(0);
                }
            }
            grown |= !known;
            process.ran = guest.ran;
        }
        grown
    }

    fn candidates(&mut self, state: &State<'_>, now: f64) -> Vec<Candidate> {
        let mut all = Vec::new();
        for guest in &state.guests {
            let Some(process) = self.processes.get_mut(&guest.number) else { continue };
            let used = process.rates.iter().copied().max().unwrap_or_default();
            if used <= CPU {
                continue;
            }
            if !process.candidate_before {
                process.candidate_before = true;
                let subset = guest.nodes.len() < state.machine.len();
                if self.version == Version::V2015 && subset {
                    process.bound = Some(now - 1_800.0);
                }
            }
            // A thread is running or it is not: as many as are wanted, on the average.
            let part = Dice::of(self.seed ^ 0x6e75_6d61, u64::from(guest.number), self.pass).part();
            all.push(Candidate {
                number: guest.number,
                used,
                mib: whole(guest.resident()),
                active: whole((guest.demand + part).min(guest.vcpus)),
            });
        }
        let never = |each: &Candidate| {
            let process = &self.processes[&each.number];
            match self.version {
                Version::V2015 => process.bound.is_none(),
                Version::V2025 => !process.moved_before,
            }
        };
        let product = |each: &Candidate| each.used * each.mib;
        all.sort_by_key(|each| (!never(each), std::cmp::Reverse(product(each)), each.number));
        // Of those bound before, one with nearly as large a product goes first if it was bound no later.
        let bound = |each: &Candidate| self.processes[&each.number].bound.unwrap_or(f64::MIN);
        for at in 1..all.len() {
            let (first, second) = (all[at - 1], all[at]);
            let near = product(&second) * 5 > product(&first) * 4;
            if !never(&first) && near && bound(&second) < bound(&first) {
                all.swap(at - 1, at);
            }
        }
        all
    }

    /// Moves the first guest that is to be moved. Returns whether one was.
    fn manage<Row: AsRef<[u64]>>(
        &mut self,
        state: &mut State<'_>,
        now: f64,
        figures: &[NodeFigures],
        rows: &[Row],
        candidates: &[Candidate],
    ) -> bool {
        let all_cpus: u64 = figures.iter().map(|node| node.cpus_total).sum();
        let enough = match self.version {
            Version::V2015 => candidates.iter().map(|each| each.used).sum::<u64>() <= all_cpus,
            Version::V2025 => {
                candidates.iter().map(|each| each.active * 100).sum::<u64>() <= all_cpus
            }
        };
        for each in candidates {
            let Some(guest) = state.find(each.number) else { continue };
            let place = Place::of(state, guest, figures);
            let want = match self.version {
                Version::V2015 => {
                    let exempt = || is_exempt(each, &place, figures);
                    if self.rests(each, now) && !exempt() {
                        continue;
                    }
                    self.want_2015(each, figures, enough)
                }
                Version::V2025 => {
                    let (want, urgent) = want_2025(each, &place, figures, enough);
                    if self.rests(each, now) && self.quick == 0 && !urgent {
                        continue;
                    }
                    want
                }
            };
            let mut adjusted = figures.to_vec();
            place.give_back(&mut adjusted, each, self.version, || {
                overload(state, candidates, &place, figures, enough)
            });
            let Some(chosen) = choose(self.version, &adjusted, rows, &want) else { continue };
            let at = |id| state.machine.nodes.binary_search_by_key(&id, |node| node.id).ok();
            let mut nodes: Vec<usize> = chosen.into_iter().filter_map(at).collect();
            nodes.sort_unstable();
            if nodes.is_empty() {
                nodes = (0..state.machine.len()).collect();
            }
            let Some(process) = self.processes.get_mut(&each.number) else { continue };
            process.bound = Some(now);
            let live = &state.guests[guest];
            let there: f64 = nodes.iter().map(|&at| live.memory[at]).sum();
            let local = there >= LOCALITY * live.resident();
            let bound = live.nodes.len() < state.machine.len();
            if local && bound && live.nodes == nodes {
                continue;
            }
            process.moved_before = true;
            let goal = gathered(&live.memory, &nodes);
            state.bind(guest, &nodes, goal, false);
            self.moving = Some(each.number);
            return true;
        }
        false
    }

    fn rests(&self, each: &Candidate, now: f64) -> bool {
        self.processes[&each.number].bound.is_some_and(|bound| bound + REST_S > now)
    }

    fn want_2015(&self, each: &Candidate, figures: &[NodeFigures], enough: bool) -> Want {
        let cpus = each.used * 100 / 85;
        let free: u64 = figures.iter().map(|node| node.cpus_free).sum();
        Want {
            cpus,
            mib: each.mib * 100 / 85,
            flex: 15 * figures.first().map_or(0, |node| node.cpus_total) / 200,
            counts_cpus: !(enough || cpus > free),
        }
    }
}

/// Where a guest is, by position in numad's figures.
struct Place {
    /// Whether its threads may run on each node.
    on: Vec<bool>,
    /// MiB on each.
    memory: Vec<f64>,
    bound: bool,
    resident: f64,
}

impl Place {
    fn of(state: &State<'_>, guest: usize, figures: &[NodeFigures]) -> Self {
        let live = &state.guests[guest];
        let at = |node: &NodeFigures| {
            state.machine.nodes.binary_search_by_key(&node.id, |built| built.id).unwrap_or(0)
        };
        Self {
            on: figures.iter().map(|node| live.nodes.contains(&at(node))).collect(),
            memory: figures.iter().map(|node| live.memory[at(node)]).collect(),
            bound: live.nodes.len() < figures.len(),
            resident: live.resident().max(1.0),
        }
    }

    fn count(&self) -> u64 {
        self.on.iter().filter(|on| **on).count().max(1) as u64
    }

    fn free_cpus(&self, figures: &[NodeFigures]) -> u64 {
        figures.iter().zip(&self.on).filter(|(_, on)| **on).map(|(node, _)| node.cpus_free).sum()
    }

    /// Gives the guest's own share back to the nodes.
    fn give_back(
        &self,
        figures: &mut [NodeFigures],
        each: &Candidate,
        version: Version,
        overload: impl Fn() -> Vec<u64>,
    ) {
        let own_cpus = match version {
            Version::V2015 => each.used,
            Version::V2025 => each.used.max((each.used + 35) / 100 * 100),
        };
        let mean = (own_cpus + self.free_cpus(figures)) / self.count();
        let over = if version == Version::V2025 { overload() } else { vec![0; figures.len()] };
        for (at, node) in figures.iter_mut().enumerate() {
            let own = self.memory[at];
            let back = match (self.bound, version) {
                (false, _) => own * 17.0 / 16.0,
                (true, Version::V2015) => own * 5.0 / 4.0,
                (true, Version::V2025) => own * 11.0 / 8.0,
            };
            node.mbs_free = (node.mbs_free + whole(back)).min(node.mbs_total);
            if !self.bound {
                node.cpus_free += whole(whole_mib(each.used) * own / self.resident);
            } else if self.on[at] {
                node.cpus_free = mean.saturating_sub(over[at]);
            }
            node.cpus_free = node.cpus_free.min(node.cpus_total);
        }
    }
}

/// Says whether a guest need not wait: it sits on the fullest node, and moving it to the emptiest makes the host
/// more even.
fn is_exempt(each: &Candidate, place: &Place, figures: &[NodeFigures]) -> bool {
    let even = |free: fn(&NodeFigures) -> u64, used: u64, total: u64, slack: f64| {
        let all = || figures.iter().map(|node| whole_mib(free(node)));
        let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
        let mean = all().sum::<f64>() / whole_mib(figures.len() as u64);
        let used = whole_mib(used);
        let sits =
            figures.iter().zip(&place.on).any(|(node, on)| *on && whole_mib(free(node)) <= low);
        sits && used < whole_mib(total)
            && (low + used - mean).abs() + (high - used - mean).abs() < high - low - slack
    };
    let Some(first) = figures.first() else { return false };
    even(|node| node.cpus_free, each.used, first.cpus_total, 50.0)
        || even(|node| node.mbs_free, each.mib, first.mbs_total, 0.0)
}

/// What the version of 2025 asks for, and whether it is urgent.
fn want_2025(
    each: &Candidate,
    place: &Place,
    figures: &[NodeFigures],
    enough: bool,
) -> (Want, bool) {
    let threads = 100 * each.active;
    let mut cpus = (each.used * 100 / 90).min(threads);
    let mut urgent = false;
    let free = place.free_cpus(figures);
    let each_holds = figures.iter().all(|node| threads <= node.cpus_total);
    let enough = enough && each_holds;
    if place.bound {
        if cpus < threads && free < 80 {
            (cpus, urgent) = (threads, true);
        }
        if enough {
            let others: u64 = figures.iter().map(|node| node.cpus_free).sum::<u64>() - free;
            urgent |= place.count() > 1 || (free < 75 && others >= threads);
        }
    } else if enough {
        urgent = true;
    }
    let flex = 10 * figures.first().map_or(0, |node| node.cpus_total) / 200;
    (Want { cpus, mib: each.mib * 100 / 90, flex, counts_cpus: !enough }, urgent)
}

/// Running threads of bound guests on each node beyond its CPUs, in hundredths; none without enough CPUs.
fn overload(
    state: &State<'_>,
    candidates: &[Candidate],
    place: &Place,
    figures: &[NodeFigures],
    enough: bool,
) -> Vec<u64> {
    let mut over = vec![0; figures.len()];
    if !enough || !place.bound {
        return over;
    }
    for each in candidates {
        let Some(guest) = state.find(each.number) else { continue };
        let other = Place::of(state, guest, figures);
        if other.bound {
            for (sum, _) in over.iter_mut().zip(&other.on).filter(|(_, on)| **on) {
                *sum += each.active * 100 / other.count();
            }
        }
    }
    for (sum, node) in over.iter_mut().zip(figures) {
        *sum = sum.saturating_sub(node.cpus_total);
    }
    over
}

/// Returns where memory goes: from the node outside that has most to the node inside that has least, again and
/// again.
fn gathered(memory: &[f64], nodes: &[usize]) -> Vec<f64> {
    let mut goal = memory.to_vec();
    loop {
        let outside = (0..goal.len()).filter(|at| !nodes.contains(at));
        let Some(from) = outside.max_by(|&a, &b| goal[a].total_cmp(&goal[b])) else { return goal };
        let inside = nodes.iter().copied().rev();
        let Some(to) = inside.min_by(|&a, &b| goal[a].total_cmp(&goal[b])) else { return goal };
        if goal[from] <= CRUMB {
            return goal;
        }
        goal[to] += std::mem::take(&mut goal[from]);
    }
}
