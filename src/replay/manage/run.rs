//! The steps of a period, under one manager.

use placer_engine::reserve;

use super::super::dice::Dice;
use super::super::machine::Machine;
use super::super::rules::{Chooser, Rule, Seen, View, Want};
use super::super::run::Watch;
use super::super::tally::Times;
use super::guests::{Period, STEP};
use super::numad::Numad;
use super::placer::Placer;
use super::state::{Live, State, whole_mib};
use super::tally::{Managed, Sums};
use super::{ManageError, Manager, Scene, Start, kernel};

/// Steps between two words to those who watch.
const WORD: u64 = 720;

/// Simulates the guests of a period under a manager.
///
/// Errors: the manager cannot work on this host.
pub fn manage(
    machine: &Machine,
    period: &Period,
    manager: Manager,
    scene: &Scene,
    watch: &impl Watch,
) -> Result<Managed, ManageError> {
    let mut run = Run::new(machine, period, manager, scene);
    let mut steps = 0;
    while run.now < period.seconds() {
        run.step(watch)?;
        steps += 1;
        if steps == WORD {
            watch.passed(steps);
            steps = 0;
        }
    }
    watch.passed(steps);
    Ok(run.end())
}

enum AtWork {
    Nobody,
    Numad(Numad),
    Kernel,
    Placer(Box<Placer>),
}

pub(super) struct Run<'a> {
    machine: &'a Machine,
    period: &'a Period,
    scene: &'a Scene,
    pub(super) state: State<'a>,
    at_work: AtWork,
    chooser: Chooser,
    seen: Vec<Seen>,
    sums: Sums,
    times: Times,
    arrived: usize,
    refused: u64,
    pub(super) now: f64,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        machine: &'a Machine,
        period: &'a Period,
        manager: Manager,
        scene: &'a Scene,
    ) -> Self {
        let at_work = match manager {
            Manager::None => AtWork::Nobody,
            Manager::Numad(version) => AtWork::Numad(Numad::new(version, scene.seed)),
            Manager::Kernel => AtWork::Kernel,
            Manager::Placer => AtWork::Placer(Box::new(Placer::new(scene.tuning))),
        };
        Self {
            machine,
            period,
            scene,
            state: State::new(machine, scene.tuning.memory_bound),
            at_work,
            chooser: Chooser::new(Rule::Best, scene.tuning, machine),
            seen: Vec::new(),
            sums: Sums::new(period.count()),
            times: Times::new(),
            arrived: 0,
            refused: 0,
            now: 0.0,
        }
    }

    /// Lets one step pass.
    ///
    /// Errors: the manager cannot work on this host.
    pub(super) fn step(&mut self, watch: &impl Watch) -> Result<(), ManageError> {
        let sums = &mut self.sums;
        self.state.depart(self.now, |live| sums.add(live));
        self.change();
        while let Some(guest) = self.period.guests().get(self.arrived)
            && self.period.since(guest.arrival) <= self.now
        {
            self.arrive();
        }
        self.state.refresh();
        self.state.pass(STEP);
        self.now += STEP;
        match &mut self.at_work {
            AtWork::Nobody => {}
            AtWork::Numad(numad) => {
                let start = watch.now();
                let looked = numad.look(&mut self.state, self.now, STEP);
                self.times.add(watch.now().saturating_sub(start));
                looked.map_err(|failure| ManageError::Numad(numad.version(), failure))?;
            }
            AtWork::Kernel => kernel::look(&mut self.state, STEP),
            AtWork::Placer(placer) => {
                let times = &mut self.times;
                let looked = placer.look(&mut self.state, self.now, STEP, &mut |plan| {
                    let start = watch.now();
                    plan();
                    times.add(watch.now().saturating_sub(start));
                });
                looked.map_err(ManageError::Plan)?;
            }
        }
        self.state.refresh();
        Ok(())
    }

    /// Lets guests want something else.
    fn change(&mut self) {
        let mut any = false;
        for live in &mut self.state.guests {
            while live.changes <= self.now {
                live.turn = live.turn.saturating_add(1);
                wants(live, self.scene);
                any = true;
            }
        }
        if any {
            self.state.touch();
        }
    }

    /// Lets the next guest arrive.
    fn arrive(&mut self) {
        let number = self.arrived;
        self.arrived += 1;
        let Some(guest) = self.period.guests().get(number) else { return };
        self.state.refresh();
        self.state.show(&mut self.seen);
        let view = View { machine: self.machine, nodes: &self.seen };
        let placed = match self.scene.start {
            Start::Best => self.chooser.choose(view, Want { cpus: guest.cpus, mib: guest.mib }),
            Start::Unbound => self.fits_anywhere(guest.mib),
        };
        if !placed {
            self.refused += 1;
            return;
        }
        let count = self.machine.len();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let (vcpus, mib) = (f64::from(guest.cpus) / 100.0, f64::from(guest.mib));
        let mut live = Live::new(number, vcpus, count);
        live.born = self.period.since(guest.arrival);
        live.leaves = self.period.since(guest.departure);
        live.changes = self.now;
        live.pinned = Dice::of(self.scene.seed, u64::from(number), 0).part() < self.scene.pinned;
        wants(&mut live, self.scene);
        let mut wanted = vec![0.0; count];
        match self.scene.start {
            Start::Best => {
                live.bound = true;
                live.nodes.clone_from(&self.chooser.named);
                for part in &self.chooser.parts {
                    wanted[part.at] += part.mib;
                }
                let parts: f64 = wanted.iter().sum();
                let lacks = (mib - parts).max(0.0) / whole_mib(live.nodes.len().max(1) as u64);
                live.nodes.iter().for_each(|&at| wanted[at] += lacks);
            }
            Start::Unbound => {
                live.nodes = (0..count).collect();
                let shares = self.state.roam(&live.nodes, live.demand);
                live.shares.clone_from(&shares);
                for (wanted, share) in wanted.iter_mut().zip(shares) {
                    *wanted = share * mib;
                }
            }
        }
        self.state.start(live, &wanted);
    }

    /// Says whether all nodes together have the memory, with the reserve that policy `best` keeps.
    fn fits_anywhere(&self, mib: u32) -> bool {
        let left =
            self.machine.nodes.iter().zip(&self.seen).map(|(built, seen)| {
                seen.left().saturating_sub(reserve(built.total).mib_rounded_up())
            });
        left.sum::<u64>() >= u64::from(mib)
    }

    pub(super) fn end(mut self) -> Managed {
        self.state.guests.iter().for_each(|live| self.sums.add(live));
        let mut managed = self.sums.end(&self.state.deeds);
        managed.hours = self.now / 3_600.0;
        managed.refused = self.refused;
        managed.guests = self.arrived as u64 - self.refused;
        managed.decision = self.times.quantile(0.5).zip(self.times.quantile(0.99));
        managed
    }
}

/// Draws what a guest wants from its next change on, and when it changes again.
fn wants(live: &mut Live, scene: &Scene) {
    let mut dice = Dice::of(scene.seed, u64::from(live.number), live.turn.saturating_add(1));
    let spread = scene.busy.min(1.0 - scene.busy);
    live.demand = live.vcpus * dice.between(scene.busy - spread, scene.busy + spread);
    live.changes += (scene.change_s * dice.exponential()).max(STEP);
}
