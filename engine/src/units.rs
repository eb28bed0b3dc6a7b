//! Amounts with their unit in the type: [`Bytes`] and [`CpuShare`].

use std::fmt;

/// An amount of memory in bytes.
///
/// The kernel writes "kB" and means KiB; numad writes "MB" and means MiB. Both are turned into
/// bytes where they are read, and nowhere else.
///
/// ```
/// use placer_engine::Bytes;
/// let m = Bytes::from_mib(500).expect("500 MiB fit in 64 bits");
/// assert_eq!(m.get(), 524_288_000);
/// assert_eq!(m.to_string(), "500.0 MiB");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Bytes {
    /// No memory at all.
    pub const ZERO: Self = Self(0);

    /// Returns an amount of `n` bytes.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// Returns `n` KiB, or `None` past 2^64 bytes.
    pub fn from_kib(n: u64) -> Option<Self> {
        n.checked_mul(1 << 10).map(Self)
    }

    /// Returns `n` MiB, or `None` past 2^64 bytes.
    pub fn from_mib(n: u64) -> Option<Self> {
        n.checked_mul(1 << 20).map(Self)
    }

    /// Returns `n` GiB, or `None` past 2^64 bytes.
    pub fn from_gib(n: u64) -> Option<Self> {
        n.checked_mul(1 << 30).map(Self)
    }

    /// Returns the number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the whole KiB in it, rounded down.
    pub const fn whole_kib(self) -> u64 {
        self.0 >> 10
    }

    /// Returns the whole MiB in it, rounded down: right for free memory.
    pub const fn whole_mib(self) -> u64 {
        self.0 >> 20
    }

    /// Returns the MiB that hold it, rounded up: right for requests.
    pub const fn mib_rounded_up(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }

    /// Returns the sum, at most 2^64 - 1 bytes.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// One decimal and a binary unit: `3.1 GiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1 << 10 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut unit = 0;
        // In tenths, so that 1023.97 MiB is not shown as "1024.0 MiB".
        let mut tenths = (u128::from(self.0) * 10 + 512) >> 10;
        let mut scale = 10;
        while tenths >= 10_240 && unit + 1 < UNITS.len() {
            unit += 1;
            scale += 10;
            tenths = (u128::from(self.0) * 10 + (1 << (scale - 1))) >> scale;
        }
        f.pad(&format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]))
    }
}

/// An amount of CPU in hundredths of one logical CPU, as numad counts.
///
/// ```
/// use placer_engine::CpuShare;
/// assert_eq!(CpuShare::from_cpus(4), Some(CpuShare::from_hundredths(400)));
/// assert_eq!(CpuShare::from_hundredths(250).to_string(), "2.5");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuShare(u64);

impl CpuShare {
    /// No CPU at all.
    pub const ZERO: Self = Self(0);

    /// Returns `n` hundredths of a CPU.
    pub const fn from_hundredths(n: u64) -> Self {
        Self(n)
    }

    /// Returns `n` whole CPUs, or `None` past 2^64 hundredths.
    pub fn from_cpus(n: u64) -> Option<Self> {
        n.checked_mul(100).map(Self)
    }

    /// Returns the hundredths.
    pub const fn hundredths(self) -> u64 {
        self.0
    }

    /// Returns the amount in CPUs. Exact up to 2^53 hundredths.
    #[expect(clippy::cast_precision_loss, reason = "no host has 2^46 CPUs")]
    pub fn as_cpus(self) -> f64 {
        self.0 as f64 / 100.0
    }

    /// Returns the sum, at most 2^64 - 1 hundredths.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for CpuShare {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// In CPUs, without decimals that are zero: `4`, `2.5`, `0.25`.
impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        let text = match (part, part % 10) {
            (0, _) => whole.to_string(),
            (_, 0) => format!("{whole}.{}", part / 10),
            _ => format!("{whole}.{part:02}"),
        };
        f.pad(&text)
    }
}

/// Divides a whole number in the measure of weights, by largest remainder: each part is the whole number
/// below or above its exact share, and the parts add up to `total`. Of equal remainders the first gets
/// more. All goes to the first part where no weight is above zero; nothing is divided among no parts.
///
/// ```
/// use placer_engine::split_by_weight;
/// assert_eq!(split_by_weight(100, &[1, 1, 1]), [34, 33, 33]);
/// ```
pub fn split_by_weight(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let mut parts = vec![0; weights.len()];
    if sum == 0 {
        if let Some(first) = parts.first_mut() {
            *first = total;
        }
        return parts;
    }
    let mut rests = Vec::with_capacity(weights.len());
    for (at, &weight) in weights.iter().enumerate() {
        let product = u128::from(total) * u128::from(weight);
        // At most `total`, so it always fits.
        parts[at] = u64::try_from(product / sum).unwrap_or(total);
        rests.push((product % sum, at));
    }
    let left = total - parts.iter().sum::<u64>();
    rests.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, (_, at)) in (0..left).zip(rests) {
        parts[at] += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_the_shares_in_whole_numbers() {
        for (total, weights, parts) in [
            (1000, vec![600, 400], vec![600, 400]),
            (10, vec![1, 1, 1], vec![4, 3, 3]),
            (3, vec![0, 5], vec![0, 3]),
            // The largest remainder gets what is left, wherever it stands.
            (10, vec![1, 2], vec![3, 7]),
            (10, vec![5, 1, 1], vec![7, 2, 1]),
            (3, vec![0, 0], vec![3, 0]),
            (3, vec![], vec![]),
            (u64::MAX, vec![u64::MAX, u64::MAX], vec![u64::MAX / 2 + 1, u64::MAX / 2]),
        ] {
            assert_eq!(split_by_weight(total, &weights), parts, "{total} {weights:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_add_up(total in any::<u64>(), weights in prop::collection::vec(0_u64..1 << 50, 1..9)) {
            let parts = split_by_weight(total, &weights);
            prop_assert_eq!(parts.iter().sum::<u64>(), total);
            let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                let product = u128::from(total) * u128::from(*weight);
                if let Some(floor) = product.checked_div(sum) {
                    prop_assert!((floor..=floor + 1).contains(&u128::from(*part)));
                }
            }
        }
    }

    #[test]
    fn bytes_are_printed_in_the_unit_a_person_would_choose() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (524_288_000, "500.0 MiB"),
            (1_300_234, "1.2 MiB"),
            (1_331_691, "1.3 MiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (1 << 40, "1.0 TiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(Bytes::new(bytes).to_string(), text, "{bytes}");
        }
    }

    #[test]
    fn mib_are_rounded_down_for_free_and_up_for_wanted() {
        let m = Bytes::new((3 << 20) + 1);
        assert_eq!((m.whole_mib(), m.mib_rounded_up()), (3, 4));
        assert_eq!(Bytes::from_kib(u64::MAX), None);
        assert_eq!(Bytes::from_mib(u64::MAX), None);
    }

    #[test]
    fn a_kib_is_1024_bytes_and_a_mib_1024_of_those() {
        assert_eq!(Bytes::from_kib(3), Some(Bytes::new(3072)));
        assert_eq!(Bytes::from_mib(3), Some(Bytes::new(3 * 1024 * 1024)));
        assert_eq!(Bytes::from_gib(3), Bytes::from_mib(3 * 1024));
        let (one_less, whole) = (Bytes::new(4095), Bytes::new(4096));
        assert_eq!((one_less.whole_kib(), whole.whole_kib()), (3, 4));
    }

    #[test]
    fn sums_and_differences_stop_at_their_ends() {
        let bytes = |list: [u64; 3]| list.into_iter().map(Bytes::new).sum::<Bytes>().get();
        assert_eq!((bytes([1, 2, 4]), bytes([u64::MAX, 2, 4])), (7, u64::MAX));
        let cpus = CpuShare::from_hundredths;
        assert_eq!([1, 2, 4].map(cpus).into_iter().sum::<CpuShare>(), cpus(7));
        assert_eq!(cpus(250).saturating_sub(cpus(100)), cpus(150));
        assert_eq!(cpus(100).saturating_sub(cpus(250)), cpus(0));
        assert_eq!(Bytes::new(5).saturating_sub(Bytes::new(3)), Bytes::new(2));
        assert_eq!(Bytes::new(3).saturating_sub(Bytes::new(5)), Bytes::ZERO);
    }

    #[test]
    fn shares_are_printed_as_cpus() {
        for (hundredths, text) in [(0, "0"), (400, "4"), (250, "2.5"), (25, "0.25"), (101, "1.01")]
        {
            assert_eq!(CpuShare::from_hundredths(hundredths).to_string(), text);
        }
        assert_eq!(CpuShare::from_cpus(4), Some(CpuShare::from_hundredths(400)));
        assert_eq!(CpuShare::from_cpus(u64::MAX / 50), None);
        assert_eq!(CpuShare::from_hundredths(250).as_cpus(), 2.5);
    }
}
