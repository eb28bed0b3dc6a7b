//! Guests of a stream, and what of them follows from the seed.

use super::dice::Dice;

/// A microsecond is the unit of time: it adds up exactly.
pub(crate) const SECOND: u64 = 1_000_000;

/// One guest, as a stream has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Microseconds.
    pub arrival: u64,
    /// Later than the arrival.
    pub departure: u64,
    /// Hundredths of a CPU.
    pub cpus: u32,
    /// Memory in MiB.
    pub mib: u32,
}

impl Guest {
    pub(crate) fn life(&self) -> u64 {
        self.departure - self.arrival
    }
}

/// How guests behave, beyond what a stream contains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    pub seed: u64,
    /// How long a guest has not touched its memory, on the average, in microseconds.
    pub touch: u64,
    /// The part of its CPUs that is busy, on the average.
    pub busy: f64,
}

/// How often a guest's load changes in its life, on the average.
const CHANGES: f64 = 8.0;

impl Habits {
    /// Returns how long after its arrival a guest touches its memory: half the average to one and
    /// a half times.
    pub(super) fn wakes_after(&self, guest: u32) -> u64 {
        let mut dice = Dice::of(self.seed, u64::from(guest), 0);
        micros(self.touch, dice.between(0.5, 1.5))
    }

    /// Returns the part of a guest's CPUs that is busy from its `turn`-th change on, and how long
    /// it stays so.
    pub(super) fn load(&self, guest: u32, life: u64, turn: u32) -> (f64, u64) {
        let mut dice = Dice::of(self.seed, u64::from(guest), u64::from(turn) + 1);
        let spread = self.busy.min(1.0 - self.busy);
        let busy = dice.between(self.busy - spread, self.busy + spread);
        (busy, micros(life, dice.exponential() / CHANGES).max(SECOND))
    }
}

/// Returns a part of a time.
#[expect(clippy::cast_precision_loss, reason = "a time of at most 2^53 us is 285 years")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn micros(time: u64, part: f64) -> u64 {
    (time as f64 * part) as u64
}

/// All guests, in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    guests: Vec<Guest>,
}

/// What all guests of a stream together ask for, on the average from the first arrival to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// CPUs of guests that are there.
    pub cpus: f64,
    /// MiB of guests that are there.
    pub mib: f64,
}

impl Stream {
    /// Puts guests in the order of their arrival; those that arrive together stay as they were.
    pub(crate) fn new(mut guests: Vec<Guest>) -> Self {
        guests.sort_by_key(|guest| guest.arrival);
        Self { guests }
    }

    pub fn guests(&self) -> &[Guest] {
        &self.guests
    }

    /// Returns the time from the first arrival to the last, or of the longest life where all
    /// arrive at once, in seconds.
    pub fn seconds(&self) -> f64 {
        let (from, to) = self.span();
        seconds(to - from)
    }

    fn span(&self) -> (u64, u64) {
        let Some((first, last)) = self.guests.first().zip(self.guests.last()) else {
            return (0, 1);
        };
        let longest = self.guests.iter().map(|guest| guest.departure).max().unwrap_or_default();
        let to = if last.arrival > first.arrival { last.arrival } else { longest };
        (first.arrival, to.max(first.arrival + 1))
    }

    /// Returns what the guests ask for, refused or not.
    pub fn demand(&self) -> Demand {
        let (from, to) = self.span();
        let mut all = Demand::default();
        for guest in &self.guests {
            let there = seconds(guest.departure.min(to).saturating_sub(guest.arrival));
            all.cpus += there * f64::from(guest.cpus) / 100.0;
            all.mib += there * f64::from(guest.mib);
        }
        let span = seconds(to - from);
        Demand { cpus: all.cpus / span, mib: all.mib / span }
    }
}

/// Returns a time in seconds.
#[expect(clippy::cast_precision_loss, reason = "a time of at most 2^53 us is 285 years")]
pub fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_an_average_over_the_arrivals() {
        let guest = |arrival, departure, cpus, mib| Guest {
            arrival: arrival * SECOND,
            departure: departure * SECOND,
            cpus,
            mib,
        };
        // From 0 to 10 s: the first is there for all of it, the second for half, the third arrives last.
        let stream =
            Stream::new(vec![guest(10, 99, 800, 8), guest(0, 20, 100, 10), guest(2, 7, 200, 4)]);
        assert_eq!(stream.demand(), Demand { cpus: 2.0, mib: 12.0 });
        assert!((stream.seconds() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn loads_vary_around_their_mean_and_never_pass_all_cpus() {
        for busy in [0.1, 0.5, 0.9, 1.0] {
            let habits = Habits { seed: 3, touch: 20 * SECOND, busy };
            let loads: Vec<f64> = (0..4_000).map(|g| habits.load(g, 3_600, 2).0).collect();
            let mean = loads.iter().sum::<f64>() / 4_000.0;
            assert!((mean - busy).abs() < 0.02, "{mean} {busy}");
            assert!(loads.iter().all(|load| (0.0..=1.0).contains(load)));
        }
    }
}
