//! The manager of `placer daemon --manage`: its rules (`balance::manager` of the engine) on the guests of the simulation.
//!
//! Every minute it plans from what guests wanted on the average of the last minute and the highest such average of the
//! last hour, unless a plan is still being carried out. Steps are taken one after the other: room on the targets is
//! booked, threads go first, memory follows at 512 MiB/s. A step for which there is no room any more ends its group. A guest
//! that is put back is left alone for an hour.
//!
//! `placer balance` has the planner, its limits and the steps. It lacks the look every minute, the peak of an hour, the
//! week in which no guest goes back, and it puts back what became slower whether that pays or not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use placer_engine::balance::manager::{Decision, Look, Manager};
use placer_engine::balance::{BalanceError, Guest, GuestMemory, Host, HostNode, Plan, Rules};
use placer_engine::{Bytes, NodeId, NodeSet, reserve};

use super::super::Tuning;
use super::super::machine::cpus;
use super::state::{CRUMB, State, whole_mib};

const LOOK_S: f64 = 60.0;
const AVERAGE_S: f64 = 60.0;
/// MiB moved in a second.
const RATE: f64 = 512.0;
const ALONE_S: f64 = 3_600.0;
/// A guest does not go back to nodes that it left in that time.
const AWAY_S: f64 = 7.0 * 86_400.0;

/// What it knows of a guest.
#[derive(Clone, Debug, Default)]
struct Record {
    /// What its threads wanted in each step of the last minute.
    wanted: VecDeque<f64>,
    moved: Option<f64>,
    alone_until: f64,
    /// The sets of nodes that it was moved away from, and when.
    left: Vec<(NodeSet, f64)>,
    /// Where it was before its last move, and the exchange that was part of.
    before: Option<(Place, usize)>,
}

impl Record {
    #[expect(clippy::cast_precision_loss, reason = "a dozen")]
    fn average(&self) -> f64 {
        self.wanted.iter().sum::<f64>() / self.wanted.len().max(1) as f64
    }

    /// Notes that the guest leaves these nodes; only the last time counts.
    fn leave(&mut self, nodes: NodeSet, now: f64) {
        self.left.retain(|(left, when)| *left != nodes && when + AWAY_S > now);
        self.left.push((nodes, now));
    }

    fn left(&self, now: f64) -> Vec<NodeSet> {
        let known = self.left.iter().filter(|(_, when)| when + AWAY_S > now);
        known.map(|(left, _)| left.clone()).collect()
    }
}

/// Where a guest is: its nodes, and MiB on each.
#[derive(Clone, Debug)]
struct Place {
    nodes: Vec<usize>,
    memory: Vec<f64>,
}

/// One guest's move that is still to be made.
#[derive(Clone, Debug)]
struct Task {
    number: u32,
    group: usize,
    to: Place,
    /// The guest as it was planned with, and its slowdown; `None`: it is put back.
    before: Option<(Guest, f64)>,
}

pub(super) struct Placer {
    rules: Rules,
    manager: Manager<u32>,
    records: BTreeMap<u32, Record>,
    next: f64,
    /// Numbers of groups that were used.
    groups: usize,
    tasks: VecDeque<Task>,
    moving: Option<Task>,
}

impl Placer {
    pub(super) fn new(tuning: Tuning) -> Self {
        Self {
            rules: Rules { memory_bound: tuning.memory_bound, ..Rules::default() },
            manager: Manager::default(),
            records: BTreeMap::new(),
            next: 0.0,
            groups: 0,
            tasks: VecDeque::new(),
            moving: None,
        }
    }

    /// Lets it work for some seconds that end now; `timed` measures how long a look takes that may plan.
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
        let (host, guests) = self.figures(state, now)?;
        let ids: Vec<u32> = state.guests.iter().map(|live| live.number).collect();
        let left: Vec<Vec<NodeSet>> = ids
            .iter()
            .map(|id| self.records.get(id).map(|r| r.left(now)).unwrap_or_default())
            .collect();
        let may_plan = self.moving.is_none() && self.tasks.is_empty();
        let manager = &mut self.manager;
        let mut decided = Ok(Decision::default());
        let mut decide = || {
            let (host, guests, rules) = (&host, guests.clone(), self.rules);
            let (ids, left, now_s) = (ids.as_slice(), left.as_slice(), now);
            decided = manager.look(Look { host, guests, ids, left, rules, now_s, may_plan });
        };
        if may_plan {
            timed(&mut decide);
        } else {
            decide();
        }
        let Decision { worse, plan, .. } = decided?;
        for worse in worse {
            let record = self.records.entry(worse.guest).or_default();
            record.alone_until = now + ALONE_S;
            let Some(group) = record.before.as_ref().map(|&(_, group)| group) else { continue };
            // With those of its exchange.
            for (&number, record) in &mut self.records {
                if let Some((to, _)) = record.before.take_if(|&mut (_, of)| of == group) {
                    self.tasks.push_back(Task { number, group, to, before: None });
                }
            }
        }
        self.adopt(state, &plan, &guests);
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
        let all: NodeSet = state.machine.nodes.iter().map(|node| node.id).collect();
        let guests = state.guests.iter().map(|live| {
            let record = self.records.get(&live.number).unwrap_or(&none);
            let memory = live.memory.iter().enumerate().filter(|(_, mib)| **mib > CRUMB);
            let alone = record.alone_until > now;
            Guest {
                threads: ids(state, &live.nodes),
                memory: memory
                    .map(|(at, &mib)| GuestMemory {
                        node: state.machine.nodes[at].id,
                        resident: bytes(mib),
                        pinned: if live.pinned { bytes(mib) } else { Bytes::ZERO },
                        claimed: Bytes::ZERO,
                    })
                    .collect(),
                demand: record.average(),
                peak: record.average(),
                allowed: all.clone(),
                age_s: now - live.born,
                rested_s: if alone { Some(0.0) } else { record.moved.map(|moved| now - moved) },
                fixed: None,
            }
        });
        Ok((host, guests.collect()))
    }

    fn adopt(&mut self, state: &State<'_>, plan: &Plan, guests: &[Guest]) {
        let at = |id: NodeId| {
            state.machine.nodes.binary_search_by_key(&id, |node| node.id).unwrap_or_default()
        };
        for step in &plan.steps {
            let live = &state.guests[step.guest];
            let mut memory = vec![0.0; state.machine.len()];
            for &(node, placed) in &step.placed {
                memory[at(node)] += mib(placed);
            }
            if live.pinned {
                memory.clone_from(&live.memory);
            }
            let nodes = step.to.iter().map(at).collect();
            let before = Some((guests[step.guest].clone(), plan.slowdowns[step.guest].0));
            let (number, group) = (live.number, self.groups + step.group);
            self.tasks.push_back(Task { number, group, to: Place { nodes, memory }, before });
        }
        self.groups += plan.steps.len();
    }

    /// Moves memory, and begins the next step when that is done.
    fn carry_on(&mut self, state: &mut State<'_>, now: f64, seconds: f64) {
        if let Some(task) = self.moving.take()
            && let Some(guest) = state.find(task.number)
        {
            if !state.transfer(guest, RATE * seconds) {
                self.moving = Some(task);
                return;
            }
            self.records.entry(task.number).or_default().moved = Some(now);
            if let Some((before, slowdown)) = &task.before {
                self.manager.moved(task.number, before, *slowdown);
            }
        }
        while self.moving.is_none()
            && let Some(task) = self.tasks.pop_front()
        {
            let guest = state.find(task.number);
            if guest.is_some_and(|guest| self.start(state, &task, guest, now)) {
                self.moving = Some(task);
            } else {
                // Without one of its steps a group is not what was weighed.
                self.tasks.retain(|other| other.group != task.group || other.before.is_none());
            }
        }
    }

    /// Begins a step, if there is still room for it.
    fn start(&mut self, state: &mut State<'_>, task: &Task, guest: usize, now: f64) -> bool {
        let live = &state.guests[guest];
        let fits =
            |(at, wanted): (usize, &f64)| wanted - live.memory[at] <= state.free(at).max(CRUMB);
        if !task.to.memory.iter().enumerate().all(fits) {
            return false;
        }
        let record = self.records.entry(task.number).or_default();
        let before = Place { nodes: live.nodes.clone(), memory: live.memory.clone() };
        record.before = task.before.is_some().then_some((before, task.group));
        if live.bound {
            record.leave(ids(state, &live.nodes), now);
        }
        state.bind(guest, &task.to.nodes, task.to.memory.clone(), true);
        state.deeds.undone += u64::from(task.before.is_none());
        true
    }
}

/// Returns the nodes of positions.
fn ids(state: &State<'_>, positions: &[usize]) -> NodeSet {
    positions.iter().map(|&at| state.machine.nodes[at].id).collect()
}

#[expect(clippy::cast_precision_loss, reason = "whole MiB are exact up to 2^73 bytes")]
fn mib(bytes: Bytes) -> f64 {
    bytes.get() as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn bytes(mib: f64) -> Bytes {
    Bytes::new((mib * f64::from(1 << 20)).round() as u64)
}
