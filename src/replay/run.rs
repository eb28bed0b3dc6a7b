//! The events of a stream in their order, for one rule.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::guest::{Habits, Stream};
use super::machine::Machine;
use super::owned::{Owned, Pins};
use super::rules::{Chooser, Rule, Tuning, View, Want};
use super::state::{Live, State};
use super::tally::{Outcome, Times};

/// What is replayed, beside the stream.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    pub rule: Rule,
    pub claims: bool,
    /// Whether guests own their CPUs.
    pub pinned: bool,
    pub tuning: Tuning,
    pub habits: Habits,
}

/// What a replay reports to its caller, and asks of it.
pub trait Watch {
    /// Returns nanoseconds since some moment; the same always where no times are wanted.
    fn now(&self) -> u64;
    /// Hears that so many more guests have arrived.
    fn passed(&self, guests: u64);
}

/// What happens to guests that are there. At the same moment in this order, and before arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Departure,
    Wake,
    Change(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: u64,
    kind: Kind,
    guest: u32,
    slot: u32,
}

/// A guest that is there, and which nodes it was given.
struct Place {
    guest: u32,
    named: Vec<usize>,
    /// The CPUs it owns.
    cpus: Vec<u32>,
    live: Live,
}

/// How many arrivals pass between two words to those who watch.
const WORD: u64 = 256;

/// Replays a stream by one rule.
pub fn replay(machine: &Machine, stream: &Stream, course: &Course, watch: &impl Watch) -> Outcome {
    let mut run = Run::new(machine, stream, course);
    let mut unsaid = 0;
    for (number, guest) in (0u32..).zip(stream.guests()) {
        run.until(guest.arrival);
        run.arrive(number, watch);
        unsaid += 1;
        if unsaid == WORD {
            watch.passed(unsaid);
            unsaid = 0;
        }
    }
    run.look();
    run.until(u64::MAX);
    watch.passed(unsaid);
    run.end()
}

pub(super) struct Run<'a> {
    stream: &'a Stream,
    course: &'a Course,
    machine: &'a Machine,
    pub(super) state: State<'a>,
    chooser: Chooser,
    owned: Option<Owned<'a>>,
    pins: Pins,
    seen: Vec<super::rules::Seen>,
    events: BinaryHeap<Reverse<Event>>,
    places: Vec<Option<Place>>,
    vacant: Vec<u32>,
    outcome: Outcome,
    times: Times,
    slow: Vec<f32>,
    /// Sums: distance times memory and memory; guests on one node; heat and load of arrivals.
    far: (f64, f64),
    single: u64,
    heat: (f64, f64),
}

impl<'a> Run<'a> {
    pub(super) fn new(machine: &'a Machine, stream: &'a Stream, course: &'a Course) -> Self {
        Self {
            stream,
            course,
            machine,
            state: State::new(machine, course.claims, course.tuning.memory_bound),
            chooser: Chooser::new(course.rule, course.tuning, machine),
            owned: course.pinned.then(|| Owned::new(machine)),
            pins: Pins::default(),
            seen: Vec::new(),
            events: BinaryHeap::new(),
            places: Vec::new(),
            vacant: Vec::new(),
            outcome: Outcome::default(),
            times: Times::new(),
            slow: Vec::new(),
            far: (0.0, 0.0),
            single: 0,
            heat: (0.0, 0.0),
        }
    }

    /// Lets all happen that comes up to a moment.
    pub(super) fn until(&mut self, moment: u64) {
        while let Some(&Reverse(event)) = self.events.peek() {
            if event.at > moment {
                break;
            }
            self.events.pop();
            self.happen(event);
        }
    }

    /// Lets a guest arrive.
    pub(super) fn arrive(&mut self, number: u32, watch: &impl Watch) {
        let guest = self.stream.guests()[number as usize];
        self.outcome.arrivals += 1;
        let (load, heat) = self.state.heat();
        self.heat.0 += heat;
        self.heat.1 += load;
        self.state.show(&mut self.seen);
        if let Some(owned) = &self.owned {
            owned.show(&mut self.seen);
        }
        let view = View { machine: self.machine, nodes: &self.seen };
        // A CPU is owned as a whole.
        let vcpus = guest.cpus.div_ceil(100);
        let cpus = if self.owned.is_some() { vcpus.saturating_mul(100) } else { guest.cpus };
        let want = Want { cpus, mib: guest.mib };
        let start = watch.now();
        let placed = self.chooser.choose(view, want);
        let cpus = match (&mut self.owned, placed) {
            (Some(owned), true) => {
                owned.take(self.course.rule.cpus(), &self.chooser.parts, vcpus as usize)
            }
            (_, placed) => placed.then(Vec::new),
        };
        self.times.add(watch.now().saturating_sub(start));
        let Some(cpus) = cpus else {
            self.outcome.refused += 1;
            return;
        };
        if let Some(owned) = &self.owned {
            owned.count(&cpus, &mut self.pins);
        }
        let named = self.chooser.named.clone();
        self.single += u64::from(named.len() == 1);
        let (live, beyond) = self.state.start(&guest, &named, &self.chooser.parts);
        self.outcome.promised += u64::from(guest.mib);
        self.outcome.beyond += beyond;
        self.outcome.beyond_guests += u64::from(beyond > 0);
        let place = Some(Place { guest: number, named, cpus, live });
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.places[slot as usize] = place;
                slot
            }
            None => {
                self.places.push(place);
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let woken = guest.arrival + self.course.habits.wakes_after(number);
        let mut add = |at, kind| self.events.push(Reverse(Event { at, kind, guest: number, slot }));
        add(guest.departure, Kind::Departure);
        if woken < guest.departure {
            add(woken, Kind::Wake);
        }
    }

    /// Looks at what the last guest has left.
    fn look(&mut self) {
        if let Some(owned) = &self.owned {
            owned.count_whole(&mut self.pins);
            self.outcome.pins = Some(self.pins);
        }
    }

    fn happen(&mut self, event: Event) {
        let Event { at: now, kind, guest: number, slot } = event;
        let guest = self.stream.guests()[number as usize];
        let place = self.places.get_mut(slot as usize).and_then(Option::as_mut);
        // An event of a guest that has departed meanwhile would find another one in its place.
        let Some(place) = place.filter(|place| place.guest == number) else { return };
        let load = |turn| self.course.habits.load(number, guest.life(), turn);
        let next = match kind {
            Kind::Departure => {
                let slow = self.state.end(&mut place.live, &place.named, now);
                #[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
                self.slow.extend(slow.map(|slow| slow as f32));
                self.outcome.departed += 1;
                if let Some(owned) = &mut self.owned {
                    owned.give_back(&place.cpus);
                }
                self.places[slot as usize] = None;
                self.vacant.push(slot);
                return;
            }
            Kind::Wake => {
                let (busy, stays) = load(0);
                let misplaced = self.state.wake(&mut place.live, now, busy);
                self.outcome.spilled += misplaced.spilled;
                self.outcome.swapped += misplaced.swapped;
                let (distance, mib) = self.state.distance(&place.live);
                self.far.0 += distance * mib;
                self.far.1 += mib;
                (now.saturating_add(stays), 1)
            }
            Kind::Change(turn) => {
                let (busy, stays) = load(turn);
                self.state.change(&mut place.live, now, busy);
                (now.saturating_add(stays), turn + 1)
            }
        };
        if next.0 < guest.departure {
            let kind = Kind::Change(next.1);
            self.events.push(Reverse(Event { at: next.0, kind, guest: number, slot }));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of guests")]
    fn end(self) -> Outcome {
        let Self { mut outcome, slow, times, far, single, heat, .. } = self;
        let placed = (outcome.arrivals - outcome.refused).max(1) as f64;
        let arrivals = outcome.arrivals.max(1) as f64;
        outcome.distance = if far.1 > 0.0 { far.0 / far.1 } else { 10.0 };
        outcome.one_node = single as f64 / placed;
        (outcome.hottest, outcome.load) = (heat.0 / arrivals, heat.1 / arrivals);
        outcome.decision = times.quantile(0.5).zip(times.quantile(0.99));
        outcome.slowdowns(slow);
        outcome
    }
}
