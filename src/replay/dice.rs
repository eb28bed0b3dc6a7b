//! Random numbers that are the same on every machine: splitmix64, and what is made of it.
//!
//! std's logarithm and cosine are the C library's, whose last bit is not the same everywhere; and
//! its libm.so would be loaded at every start of the program.

/// A sequence of numbers that follows from its seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the dice of one of many things: other things have other dice, in whatever order they
    /// are asked for.
    pub(super) fn of(seed: u64, thing: u64, turn: u64) -> Self {
        let mut dice = Self(seed ^ thing.wrapping_mul(0xd134_2543_de82_ef95));
        let mixed = dice.next() ^ turn.wrapping_mul(0xaf25_1af3_b0f0_25b5);
        Self(mixed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(super) fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.part()
    }

    /// Returns a number of the exponential distribution with mean 1: waiting times.
    pub(super) fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.part())
    }

    /// Returns a number of the normal distribution (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.part())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_means() {
        let mut dice = Dice::new(7);
        let mut sums = [0.0; 4];
        for _ in 0..100_000 {
            let normal = dice.normal();
            let turn = [dice.part(), dice.exponential(), normal, normal * normal];
            sums.iter_mut().zip(turn).for_each(|(sum, value)| *sum += value / 100_000.0);
        }
        for (found, wanted) in sums.into_iter().zip([0.5, 1.0, 0.0, 1.0]) {
            assert!((found - wanted).abs() < 0.02, "{sums:?}");
        }
    }

    /// What a second implementation makes of it (Python's `math`, with glibc 2.36).
    #[test]
    fn each_throw_is_the_same_to_the_last_bit() {
        let mut dice = Dice::new(1);
        let thrown = [dice.exponential(), dice.exponential(), dice.normal(), dice.normal()];
        let bits =
            [4605705287975019340, 4608846778794867445, 13836184107170564029, 4590985490673004005];
        assert_eq!(thrown.map(f64::to_bits), bits);
    }

    #[test]
    fn each_thing_has_its_own_dice() {
        let first = |thing, turn| Dice::of(1, thing, turn).next();
        assert_eq!(first(5, 2), first(5, 2));
        assert_ne!(first(5, 2), first(5, 3));
        assert_ne!(first(5, 2), first(6, 2));
    }
}
