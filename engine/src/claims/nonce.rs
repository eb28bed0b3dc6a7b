//! A client's own name for its claim.
//!
//! A client that asks again, after a time-out, a killed daemon or a lost reply, finds its claim by this name
//! instead of making another.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// 128 bits that no other request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nonce(u128);

impl Nonce {
    /// Returns a new one.
    pub fn random() -> Self {
        // The standard library keys its hashes from the kernel's random numbers, each of them differently.
        let half = || u128::from(RandomState::new().hash_one(0_u8));
        Self(half() << 64 | half())
    }

    /// Returns the name that is these 128 bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Returns the name of the one request that a process makes in its life: for clients that give none.
    pub fn of_process(pid: u32, start: u64) -> Self {
        const MARK: u128 = 0x6e75_6d61_6400_0000 << 64;
        Self(MARK | (u128::from(pid) << 64) | u128::from(start))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Nonce {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let read = hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        read.map(Self).ok_or_else(|| format!("expected 32 hex digits, found {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_read_as_they_are_written_and_differ() {
        let nonce = Nonce::random();
        assert_eq!(nonce.to_string().parse(), Ok(nonce));
        assert_ne!(Nonce::random(), nonce);
        for text in ["", "0", "+0000000000000000000000000000001", &"0".repeat(33), &"g".repeat(32)]
        {
            assert!(text.parse::<Nonce>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_process_has_one_and_another_of_its_pid_has_another() {
        let nonce = Nonce::of_process(7, 9);
        assert_eq!(nonce, Nonce::of_process(7, 9));
        for other in [Nonce::of_process(7, 10), Nonce::of_process(8, 9)] {
            assert_ne!(nonce, other);
        }
    }
}
