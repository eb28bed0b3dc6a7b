//! How fast memory is moved. Pure.

use std::time::Duration;

/// The highest rate, in bytes a second.
pub const MAX_RATE: u64 = 512 << 20;

/// The rate at which memory is moved.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: u64,
}

/// The share of waiting, in percent, at which the rate is halved.
const HALVES_AT: f64 = 2.0;
/// The lowest part of the rate.
const LEAST: f64 = 1.0 / 16.0;

impl Pace {
    /// Returns a pace of these bytes a second, at least a MiB.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1 << 20) }
    }

    /// Returns the time that moving some bytes should take where tasks wait for memory that part of their time, in
    /// percent.
    pub fn time_for(&self, bytes: u64, waited: f64) -> Duration {
        let waited = if waited.is_finite() { waited.clamp(0.0, 100.0) } else { 0.0 };
        let slower = (HALVES_AT / (HALVES_AT + waited)).max(LEAST);
        #[expect(clippy::cast_precision_loss, reason = "a time is not exact")]
        let seconds = bytes as f64 / (self.rate as f64 * slower);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_slows_it_down_to_a_sixteenth() {
        let pace = Pace::new(512 << 20);
        let ms = |waited| pace.time_for(512 << 20, waited).as_millis();
        assert_eq!((ms(0.0), ms(2.0), ms(6.0)), (1_000, 2_000, 4_000));
        assert_eq!((ms(100.0), ms(f64::NAN), ms(-1.0)), (16_000, 1_000, 1_000));
        assert_eq!(Pace::new(0).time_for(1 << 20, 0.0).as_millis(), 1_000);
    }
}
