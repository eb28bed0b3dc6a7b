//! Makes a stream of guests that looks like those of public clouds.
//!
//! Sizes: CPUs as in Microsoft's public trace of Azure's own virtual machines (AzurePublicDataset V1,
//! 2,013,767 guests in 30 days of 2017): half have 1, a quarter 2, 11 % 4, 14 % 8, and by the paper on
//! all of Azure (Cortez et al., Resource Central, SOSP 2017) 2 % have 16 and more, which stand here
//! for those wider than a node. Memory in that trace is 1.75 GB for each CPU, and 56 GB for 4 % of
//! guests; here it is 1, 2 or 8 GiB for each.
//!
//! Lives are log-normal with a median of an hour and a sigma of 2, cut at 30 days: 79 % live less than
//! 5 hours and 94 % less than a day, against 72 % and 88 % in the trace, 78 % and 93 % in the paper.
//! Storms are deployments: of the trace's 28 % have more than 10 guests, 10 % more than 30.

use super::dice::Dice;
use super::guest::{Guest, SECOND, Stream, seconds};
use super::machine::Machine;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    pub seed: u64,
    pub guests: u32,
    /// The part of the free memory that guests ask for, on the average.
    pub fill: f64,
    /// The part of the guests that arrives in storms.
    pub storms: f64,
    /// The number of guests of a storm, which start within a second.
    pub storm: u32,
    /// What counts as a GiB, in MiB.
    pub unit: u32,
}

/// Share in percent, CPUs, GiB.
const SIZES: &[(f64, u32, u32)] =
    &[(25.0, 1, 1), (25.0, 1, 2), (25.0, 2, 4), (11.0, 4, 8), (9.0, 8, 16), (3.0, 8, 64)];
/// GiB for each CPU of guests wider than a node, which are the rest.
const WIDE: f64 = 2.0;
/// They have so many times the CPUs of a node, from and to.
const WIDTH: (f64, f64) = (1.25, 3.0);

const HOUR: f64 = 3_600.0;
const SIGMA: f64 = 2.0;
const SHORTEST: f64 = 60.0;
const LONGEST: f64 = 30.0 * 24.0 * HOUR;

/// Makes a stream for a host. The same plan and host make the same stream.
pub fn generate(plan: &Plan, machine: &Machine) -> Stream {
    let mut dice = Dice::new(plan.seed);
    let mut guests: Vec<Guest> = (0..plan.guests)
        .map(|_| {
            let (cpus, mib) = size(&mut dice, plan, machine);
            let life = (HOUR * libm::exp(SIGMA * dice.normal())).clamp(SHORTEST, LONGEST);
            Guest { arrival: 0, departure: micros(life), cpus, mib }
        })
        .collect();
    // Guests that are there: arrivals in a second times the mean of memory times life. A life counts
    // as far as the stream goes, whose length follows: three rounds settle it.
    let wanted = plan.fill * machine.mib();
    let mut length = f64::INFINITY;
    for _ in 0..3 {
        let all: f64 =
            guests.iter().map(|g| f64::from(g.mib) * seconds(g.life()).min(length)).sum();
        length = all / wanted.max(1.0);
    }
    let mut left = guests.as_mut_slice();
    let mut now = 0.0;
    // A storm is one arrival of the process, and so rarer in the measure of its size.
    let storm = plan.storm.max(1);
    let often = plan.storms / f64::from(storm);
    let storms = often / (often + 1.0 - plan.storms).max(1e-9);
    let events = f64::from(plan.guests) * (often + 1.0 - plan.storms);
    while !left.is_empty() {
        now += dice.exponential() * length / events;
        let together = if dice.part() < storms { storm as usize } else { 1 };
        let (these, rest) = left.split_at_mut(together.min(left.len()));
        for guest in these {
            let late = if together > 1 { dice.part() } else { 0.0 };
            guest.arrival = micros(now + late);
            guest.departure += guest.arrival;
        }
        left = rest;
    }
    Stream::new(guests)
}

/// Draws CPUs in hundredths and MiB.
fn size(dice: &mut Dice, plan: &Plan, machine: &Machine) -> (u32, u32) {
    let mut left = dice.part() * 100.0;
    for &(share, cpus, gib) in SIZES {
        if left < share {
            return (cpus * 100, gib.saturating_mul(plan.unit));
        }
        left -= share;
    }
    let (node, all) = machine.widths();
    let cpus = (node * dice.between(WIDTH.0, WIDTH.1)).round().min(all).max(1.0);
    (whole(cpus * 100.0), whole(cpus * WIDE * f64::from(plan.unit)).max(1))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn whole(value: f64) -> u32 {
    value as u32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
#[expect(clippy::cast_precision_loss, reason = "a second")]
fn micros(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}
