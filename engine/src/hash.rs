//! Hashes that stay the same from one version to the next, for names on disk and in recordings.

/// Returns FNV-1a, 64 bits: short, and even enough for a few thousand names.
pub fn fnv64(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns 32 bits of a number, each of which depends on all 64.
pub(crate) fn mixed(number: u64) -> u32 {
    let x = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, c, d, ..] = (x ^ (x >> 29)).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_stay_as_they_are() {
        assert_eq!(fnv64(*b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv64(*b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mixed(0), 0);
        assert_ne!(mixed(1), mixed(2));
    }
}
