//! A manager that runs all the time and plans as `placer balance` does, with rules of its own on top.
//!
//! Every minute it plans from what guests wanted on the average of the last minute and the highest such average of the
//! last hour, unless a plan is still being carried out. Steps are taken one after the other: room on the targets is
//! booked, threads go first, memory follows at 512 MiB/s. A step for which there is no room any more ends its group. A
//! guest does not go back to nodes that it left in the last week. After a move its slowdown is looked at three times;
//! where it is 2 % worse than before each time and going back gains what any move must, it goes back, once, and is left
//! alone for an hour.
//!
//! `placer daemon --manage` has these rules (`service::manager`), and makes no plan while moved guests are looked at.
//! The command has the planner, its limits and the steps. It lacks the look every minute, the peak of an hour, the week,
//! the plan made again because of it, and it puts back what became slower whether that pays or not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use placer_engine::balance::{BalanceError, Guest, GuestMemory, Host, HostNode, Plan, Rules, plan};
use placer_engine::{Bytes, NodeId, NodeSet, reserve};

use super::super::Tuning;
use super::super::machine::cpus;
use super::state::{CRUMB, Live, State, whole_mib};

const LOOK_S: f64 = 60.0;
const AVERAGE_S: f64 = 60.0;
/// Averages of the last hour.
const PEAKS: usize = 60;
/// MiB moved in a second.
const RATE: f64 = 512.0;
/// Plans that are made one after the other until none moves a guest back.
const PLANS: usize = 4;
const LOOKS_AFTER: u32 = 3;
const WORSE: f64 = 1.02;
const ALONE_S: f64 = 3_600.0;
/// A guest does not go back to nodes that it left in that time.
const AWAY_S: f64 = 7.0 * 86_400.0;

/// What it knows of a guest.
#[derive(Clone, Debug, Default)]
struct Record {
    /// What its threads wanted in each step of the last minute.
    wanted: VecDeque<f64>,
    averages: VecDeque<f64>,
    moved: Option<f64>,
    alone_until: f64,
    /// The sets of nodes that it was moved away from, and when.
    left: Vec<(Vec<usize>, f64)>,
}

impl Record {
    #[expect(clippy::cast_precision_loss, reason = "a dozen")]
    fn average(&self) -> f64 {
        self.wanted.iter().sum::<f64>() / self.wanted.len().max(1) as f64
    }
}

impl Record {
    /// Notes that the guest leaves these nodes; only the last time counts.
    fn leave(&mut self, nodes: &[usize], now: f64) {
        self.left.retain(|(left, when)| left != nodes && when + AWAY_S > now);
        self.left.push((nodes.to_vec(), now));
    }

    /// Says whether the guest left exactly these nodes a while ago.
    fn has_left(&self, nodes: &[usize], now: f64) -> bool {
        self.left.iter().any(|(left, when)| left == nodes && when + AWAY_S > now)
    }
}

/// One guest's move that is still to be made.
#[derive(Clone, Debug)]
struct Task {
    number: u32,
    group: usize,
    nodes: Vec<usize>,
    goal: Vec<f64>,
    undoes: bool,
}

/// A guest that was moved, until it is known what came of it.
#[derive(Clone, Debug)]
struct Check {
    number: u32,
    nodes: Vec<usize>,
    memory: Vec<f64>,
    before: f64,
    /// Whether each look found it worse than before.
    is_worse: bool,
    looks: u32,
}

pub(super) struct Placer {
    rules: Rules,
    records: BTreeMap<u32, Record>,
    next: f64,
    tasks: VecDeque<Task>,
    moving: Option<(Task, Check)>,
    checks: Vec<Check>,
}

impl Placer {
    pub(super) fn new(tuning: Tuning) -> Self {
        Self {
            rules: Rules { memory_bound: tuning.memory_bound, ..Rules::default() },
            records: BTreeMap::new(),
            next: 0.0,
            tasks: VecDeque::new(),
            moving: None,
            checks: Vec::new(),
        }
    }

    /// Lets it work for some seconds that end now; `timed` measures how long a plan takes.
    ///
    /// Errors: plans cannot be made on this host.
    pub(super) fn look(
        &mut self,
        state: &mut State<'_>,
        now: f64,
        seconds: f64,
        timed: &mut impl FnMut(&mut dyn FnMut()),
    ) -> Result<(), BalanceError> {
        self.observe(state, seconds);
        self.carry_on(state, now, seconds);
        if now < self.next {
            return Ok(());
        }
        self.next = now + LOOK_S;
        for record in self.records.values_mut() {
            let average = record.average();
            record.averages.push_back(average);
            if record.averages.len() > PEAKS {
                record.averages.pop_front();
            }
        }
        self.check(state, now);
        if self.moving.is_none() && self.tasks.is_empty() {
            let (host, mut guests) = self.figures(state, now)?;
            for _ in 0..PLANS {
                let mut made = Ok(Plan::default());
                timed(&mut || made = plan(&host, &guests, &self.rules));
                let made = made?;
                let back = self.returning(state, &made, now);
                if back.is_empty() {
                    self.adopt(state, &made);
                    break;
                }
                for guest in back {
                    guests[guest].allowed = guests[guest].threads.clone();
                }
            }
        }
        Ok(())
    }

    fn observe(&mut self, state: &State<'_>, seconds: f64) {
        self.records.retain(|&number, _| state.find(number).is_some());
        for guest in &state.guests {
            let record = self.records.entry(guest.number).or_default();
            record.wanted.push_back(guest.demand);
            if whole_mib(record.wanted.len() as u64) * seconds > AVERAGE_S {
                record.wanted.pop_front();
            }
        }
    }

    /// Returns the host and its guests as plans take them.
    fn figures(&self, state: &State<'_>, now: f64) -> Result<(Host, Vec<Guest>), BalanceError> {
        let nodes = state.machine.nodes.iter().enumerate().map(|(at, built)| {
            let kept = mib(reserve(built.total));
            HostNode {
                id: built.id,
                cpus: f64::from(built.cpus),
                capacity: built.cap,
                others: cpus(built.busy),
                room_mib: state.free(at) - kept,
                total_mib: (whole_mib(built.there) - kept).max(0.0),
            }
        });
        let host = Host::new(nodes.collect(), Arc::clone(&state.machine.fabric))?;
        let none = Record::default();
        let guests = state.guests.iter().map(|live| {
            let record = self.records.get(&live.number).unwrap_or(&none);
            let memory = live.memory.iter().enumerate().filter(|(_, mib)| **mib > CRUMB);
            let alone = record.alone_until > now;
            Guest {
                threads: live.nodes.iter().map(|&at| state.machine.nodes[at].id).collect(),
                memory: memory
                    .map(|(at, &mib)| GuestMemory {
                        node: state.machine.nodes[at].id,
                        resident: bytes(mib),
                        pinned: if live.pinned { bytes(mib) } else { Bytes::ZERO },
                        claimed: Bytes::ZERO,
                    })
                    .collect(),
                demand: record.average(),
                peak: record.averages.iter().copied().fold(record.average(), f64::max),
                allowed: allowed(state, live, record, now),
                age_s: now - live.born,
                rested_s: if alone { Some(0.0) } else { record.moved.map(|moved| now - moved) },
                fixed: None,
            }
        });
        Ok((host, guests.collect()))
    }

    /// Returns the guests that a plan moves back to several nodes which they left.
    fn returning(&self, state: &State<'_>, plan: &Plan, now: f64) -> Vec<usize> {
        let goes_back = |step: &&placer_engine::balance::Step| {
            let nodes = positions(state, &step.to);
            let record = self.records.get(&state.guests[step.guest].number);
            record.is_some_and(|record| record.has_left(&nodes, now))
        };
        plan.steps.iter().filter(goes_back).map(|step| step.guest).collect()
    }

    fn adopt(&mut self, state: &State<'_>, plan: &Plan) {
        let at = |id: NodeId| {
            state.machine.nodes.binary_search_by_key(&id, |node| node.id).unwrap_or_default()
        };
        for step in &plan.steps {
            let live = &state.guests[step.guest];
            let mut goal = vec![0.0; state.machine.len()];
            for &(node, memory) in &step.placed {
                goal[at(node)] += mib(memory);
            }
            if live.pinned {
                goal.clone_from(&live.memory);
            }
            let nodes = positions(state, &step.to);
            let (number, group) = (live.number, step.group);
            self.tasks.push_back(Task { number, group, nodes, goal, undoes: false });
        }
    }

    /// Moves memory, and begins the next step when that is done.
    fn carry_on(&mut self, state: &mut State<'_>, now: f64, seconds: f64) {
        if let Some((task, check)) = self.moving.take() {
            let there = state.find(task.number);
            if let Some(guest) = there {
                if !state.transfer(guest, RATE * seconds) {
                    self.moving = Some((task, check));
                    return;
                }
                self.records.entry(task.number).or_default().moved = Some(now);
                if !task.undoes {
                    self.checks.push(check);
                }
            }
        }
        while self.moving.is_none()
            && let Some(task) = self.tasks.pop_front()
        {
            let started =
                state.find(task.number).and_then(|guest| self.start(state, &task, guest, now));
            match started {
                Some(check) => self.moving = Some((task, check)),
                // Without one of its steps a group is not what was weighed.
                None => self.tasks.retain(|other| other.group != task.group || other.undoes),
            }
        }
    }

    /// Begins a step, if there is still room for it.
    fn start(
        &mut self,
        state: &mut State<'_>,
        task: &Task,
        guest: usize,
        now: f64,
    ) -> Option<Check> {
        let live = &state.guests[guest];
        let fits =
            |(at, wanted): (usize, &f64)| wanted - live.memory[at] <= state.free(at).max(CRUMB);
        if !task.goal.iter().enumerate().all(fits) {
            return None;
        }
        let check = Check {
            number: task.number,
            nodes: live.nodes.clone(),
            memory: live.memory.clone(),
            before: live.slowdown,
            is_worse: true,
            looks: 0,
        };
        if live.bound {
            let record = self.records.entry(task.number).or_default();
            record.leave(&live.nodes, now);
        }
        state.bind(guest, &task.nodes, task.goal.clone(), true);
        state.deeds.undone += u64::from(task.undoes);
        Some(check)
    }

    /// Says whether going back gains what any move must.
    fn pays(&self, live: &Live, check: &Check, there: f64) -> bool {
        let far = |(to, is): (&f64, &f64)| (to - is).max(0.0);
        let back: f64 = check.memory.iter().zip(&live.memory).map(far).sum();
        let cost = if live.pinned { 0.0 } else { back / 1_024.0 * self.rules.cost_per_gib };
        let gain = (live.slowdown - there) * live.demand * self.rules.horizon_s;
        gain > self.rules.gain_per_cost * cost
            && live.slowdown - there > self.rules.least_gain * live.slowdown
    }

    /// Looks at what came of moves.
    fn check(&mut self, state: &mut State<'_>, now: f64) {
        let mut left = Vec::new();
        for mut check in std::mem::take(&mut self.checks) {
            let Some(guest) = state.find(check.number) else { continue };
            check.is_worse &= state.guests[guest].slowdown > check.before * WORSE;
            check.looks += 1;
            if check.looks < LOOKS_AFTER {
                left.push(check);
                continue;
            }
            if !check.is_worse {
                continue;
            }
            let there = state.slowdown_on(guest, &check.nodes, &check.memory);
            if self.pays(&state.guests[guest], &check, there) {
                self.records.entry(check.number).or_default().alone_until = now + ALONE_S;
                let Check { number, nodes, memory, .. } = check;
                let task = Task { number, group: usize::MAX, nodes, goal: memory, undoes: true };
                self.tasks.push_back(task);
            }
        }
        self.checks = left;
    }
}

/// Returns the positions of nodes.
fn positions(state: &State<'_>, nodes: &NodeSet) -> Vec<usize> {
    let at = |id| state.machine.nodes.binary_search_by_key(&id, |node| node.id).ok();
    nodes.iter().filter_map(at).collect()
}

/// Returns the nodes that a guest may be moved to: not those that it left a while ago.
fn allowed(state: &State<'_>, live: &Live, record: &Record, now: f64) -> NodeSet {
    let nodes = state.machine.nodes.iter().enumerate();
    let may = |at: &usize| live.nodes.contains(at) || !record.has_left(&[*at], now);
    nodes.filter(|(at, _)| may(at)).map(|(_, node)| node.id).collect()
}

#[expect(clippy::cast_precision_loss, reason = "whole MiB are exact up to 2^73 bytes")]
fn mib(bytes: Bytes) -> f64 {
    bytes.get() as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn bytes(mib: f64) -> Bytes {
    Bytes::new((mib * f64::from(1 << 20)).round() as u64)
}
