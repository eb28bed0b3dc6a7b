//! The guests of some hours, with those that are there when these begin.

use std::fmt;

use super::super::guest::{Demand, Guest, SECOND, Stream, seconds};
use super::super::machine::Machine;
use super::super::{Plan, generate};

/// Longest life of a generated guest, in seconds: all that may be there lies in this time before the hours.
const LONGEST: f64 = 30.0 * 86_400.0;
/// Seconds beyond those asked for: of all these hours those are taken that are nearest to what is wanted.
const SPARE: f64 = 60.0 * 86_400.0;
/// Guests of the stream from whose length that of the whole follows.
const PROBE: u32 = 20_000;
/// More guests than this are not generated.
const MOST: f64 = 5_000_000.0;
/// Longer periods are not simulated.
const MOST_HOURS: u64 = 1_000;
/// Of a longer stream, fewer moments than its hours are compared.
const MOST_STARTS: u64 = 4_096;
/// More guests at a time are not managed.
const MOST_AT_ONCE: usize = 1_024;

/// Seconds of a step of the simulation.
pub(super) const STEP: f64 = 5.0;

const HOUR: u64 = 3_600 * SECOND;

/// Some hours of a stream.
#[derive(Clone, Debug)]
pub struct Period {
    guests: Vec<Guest>,
    from: u64,
    to: u64,
}

/// Why guests cannot be managed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PeriodError {
    /// The most guests that are there at a time.
    Crowd(usize),
    /// The guests that would have to be generated.
    TooMany(f64),
    /// The hours that would have to be simulated.
    TooLong(u64),
    /// No guest is there.
    NoGuests,
}

impl fmt::Display for PeriodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crowd(found) => {
                write!(f, "expected at most {MOST_AT_ONCE} guests at a time, found {found}")
            }
            Self::TooMany(found) => {
                write!(f, "expected at most {MOST:.0} guests, found {found:.0}; raise --unit")
            }
            Self::TooLong(found) => {
                write!(
                    f,
                    "expected at most {MOST_HOURS} hours of guests, found {found}; give --hours"
                )
            }
            Self::NoGuests => f.write_str("expected guests in these hours, found none"),
        }
    }
}

impl std::error::Error for PeriodError {}

impl Period {
    /// Makes guests for some hours: of a stream that is longer by the longest life, those hours in which guests
    /// ask for nearest to the memory that is wanted. The number of guests in the plan plays no part.
    ///
    /// Errors: too many guests, at a time or altogether.
    pub fn made(plan: &Plan, machine: &Machine, hours: f64) -> Result<Self, PeriodError> {
        let probe = generate(&Plan { guests: PROBE, ..*plan }, machine);
        let wanted_s = LONGEST + SPARE + hours * 3_600.0;
        let count = wanted_s / probe.seconds().max(1e-9) * f64::from(PROBE);
        if count > MOST {
            return Err(PeriodError::TooMany(count));
        }
        let guests = whole(count).max(1);
        let stream = generate(&Plan { guests, ..*plan }, machine);
        let length = whole_hours(hours);
        let last = stream.guests().last().map_or(0, |guest| guest.arrival).saturating_sub(length);
        let first = micros(LONGEST).min(last);
        let wanted = plan.fill * machine.mib();
        let starts = Starts::between(first, last);
        let miss = |(_, mib): &(u64, f64)| (mib - wanted).abs();
        let best = starts.demands(stream.guests(), length);
        let best = best.into_iter().min_by(|a, b| miss(a).total_cmp(&miss(b)));
        let from = best.map_or(first, |(from, _)| from);
        Self::between(stream.guests(), from, from + length)
    }

    /// Takes the guests of a stream from its first arrival on, for some hours or to its last departure.
    ///
    /// Errors: too many guests at a time, or none; too many hours.
    pub fn of(stream: &Stream, hours: Option<f64>) -> Result<Self, PeriodError> {
        let from = stream.guests().first().map_or(0, |guest| guest.arrival);
        let last = stream.guests().iter().map(|guest| guest.departure).max().unwrap_or(from);
        let to = hours.map_or(last, |hours| last.min(from.saturating_add(whole_hours(hours))));
        let hours = (to - from).div_ceil(HOUR);
        if hours > MOST_HOURS {
            return Err(PeriodError::TooLong(hours));
        }
        Self::between(stream.guests(), from, to)
    }

    fn between(all: &[Guest], from: u64, to: u64) -> Result<Self, PeriodError> {
        let there = |guest: &&Guest| guest.arrival < to && guest.departure > from;
        let guests: Vec<Guest> = all.iter().filter(there).copied().collect();
        if guests.is_empty() {
            return Err(PeriodError::NoGuests);
        }
        let mut turns: Vec<(u64, bool)> = Vec::with_capacity(2 * guests.len());
        for guest in &guests {
            turns.extend([(guest.arrival.max(from), true), (guest.departure, false)]);
        }
        // Departures before arrivals of the same moment.
        turns.sort_unstable();
        let (mut now, mut most) = (0usize, 0);
        for (_, arrives) in turns {
            now = if arrives { now + 1 } else { now.saturating_sub(1) };
            most = most.max(now);
        }
        if most > MOST_AT_ONCE {
            return Err(PeriodError::Crowd(most));
        }
        Ok(Self { guests, from, to })
    }

    /// Returns the guests, in the order of their arrival.
    pub(super) fn guests(&self) -> &[Guest] {
        &self.guests
    }

    /// Returns how many guests there are.
    pub fn count(&self) -> usize {
        self.guests.len()
    }

    /// Returns its length in seconds.
    pub fn seconds(&self) -> f64 {
        seconds(self.to - self.from)
    }

    /// Returns how many steps a simulation of it takes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturation is meant"
    )]
    pub fn steps(&self) -> u64 {
        (self.seconds() / STEP).ceil() as u64
    }

    /// Returns a moment in seconds since its begin; before it, negative.
    pub(super) fn since(&self, moment: u64) -> f64 {
        if moment >= self.from { seconds(moment - self.from) } else { -seconds(self.from - moment) }
    }

    /// Returns what the guests ask for, refused or not.
    pub fn demand(&self) -> Demand {
        demand(&self.guests, self.from, self.to)
    }
}

/// The moments at which a period may begin.
pub(super) struct Starts {
    first: u64,
    gap: u64,
    count: u64,
}

impl Starts {
    /// Returns moments an hour apart; further, where these were too many.
    pub(super) fn between(first: u64, last: u64) -> Self {
        let span = last.saturating_sub(first);
        let gap = HOUR * (span / HOUR + 1).div_ceil(MOST_STARTS);
        Self { first, gap, count: span / gap + 1 }
    }

    /// Returns each moment with the MiB that guests ask for on the average from it on, in one pass over the guests.
    #[expect(clippy::cast_precision_loss, reason = "a mean of MiB")]
    pub(super) fn demands(&self, guests: &[Guest], length: u64) -> Vec<(u64, f64)> {
        let (begins, ends) = (self.given(guests, 0), self.given(guests, length));
        let moments = (0..self.count).map(|at| self.first + self.gap * at);
        let given = begins.iter().zip(ends);
        moments
            .zip(given)
            .map(|(at, (begin, end))| (at, (end - begin) as f64 / length as f64))
            .collect()
    }

    /// Returns the MiB times microseconds that guests have had some time after each moment.
    fn given(&self, guests: &[Guest], later: u64) -> Vec<i128> {
        let first = self.first + later;
        let mut turns = vec![(0i128, 0i128); usize::try_from(self.count).unwrap_or_default()];
        for guest in guests {
            let mib = i128::from(guest.mib);
            for (moment, slope) in [(guest.arrival, mib), (guest.departure, -mib)] {
                let at = moment.saturating_sub(first).div_ceil(self.gap);
                if let Some(turn) = usize::try_from(at).ok().and_then(|at| turns.get_mut(at)) {
                    turn.0 += slope;
                    turn.1 += slope * i128::from(moment);
                }
            }
        }
        let (mut slope, mut offset) = (0, 0);
        let moments = (0..self.count).map(|at| i128::from(first + self.gap * at));
        let add = |(moment, turn): (i128, (i128, i128))| {
            slope += turn.0;
            offset += turn.1;
            slope * moment - offset
        };
        moments.zip(turns).map(add).collect()
    }
}

pub(super) fn demand(guests: &[Guest], from: u64, to: u64) -> Demand {
    let span = seconds(to - from).max(1e-9);
    let mut all = Demand::default();
    for guest in guests {
        let there = guest.departure.min(to).saturating_sub(guest.arrival.max(from));
        all.cpus += seconds(there) * f64::from(guest.cpus) / 100.0 / span;
        all.mib += seconds(there) * f64::from(guest.mib) / span;
    }
    all
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn whole(count: f64) -> u32 {
    count.ceil() as u32
}

fn whole_hours(hours: f64) -> u64 {
    micros(hours * 3_600.0).max(SECOND)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
#[expect(clippy::cast_precision_loss, reason = "a second")]
fn micros(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}
