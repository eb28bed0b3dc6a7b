//! The values that a flag and a setting share.

use clap::ValueEnum;
use placer_engine::policy::best::Prefer;
use placer_engine::policy::cache;
use placer_engine::{Bytes, NodeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// Exact and explained; knows huge pages, devices and limits.
    Best,
    /// The rules of numad 0.5, bit for bit, in the version in force.
    Numad,
    /// The rules of numad 20150602.
    #[value(name = "numad-2015")]
    Numad2015,
    /// The rules of numad 20251104.
    #[value(name = "numad-2025")]
    Numad2025,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PreferName {
    /// The set with the most free capacity.
    Room,
    /// The fullest set, so that other nodes stay empty.
    Pack,
}

impl From<PreferName> for Prefer {
    fn from(name: PreferName) -> Self {
        match name {
            PreferName::Room => Self::Room,
            PreferName::Pack => Self::Pack,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CacheName {
    /// One cache where that costs at most 2 % of speed.
    Prefer,
    /// One cache, or an error.
    Require,
    /// The caches with most bytes, where they have enough CPUs.
    Largest,
    /// All CPUs of the nodes.
    Ignore,
}

impl From<CacheName> for cache::Mode {
    fn from(name: CacheName) -> Self {
        match name {
            CacheName::Prefer => Self::Prefer,
            CacheName::Require => Self::Require,
            CacheName::Largest => Self::Largest,
            CacheName::Ignore => Self::Ignore,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CoresName {
    /// Fast cores, and slow ones where those do not suffice.
    Any,
    /// Fast cores only.
    Fast,
    /// Efficient (slow) cores only.
    Efficient,
}

impl From<CoresName> for cache::Cores {
    fn from(name: CoresName) -> Self {
        match name {
            CoresName::Any => Self::Any,
            CoresName::Fast => Self::Fast,
            CoresName::Efficient => Self::Efficient,
        }
    }
}

/// Reads the size of a huge page: as large as a kernel has them, and a power of two.
pub fn pages(text: &str) -> Result<Bytes, String> {
    let wanted = || format!("expected a size of huge pages, as in 2M or 1G, found {text:?}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(wanted()),
    };
    let size: u64 = number.parse().map_err(|_| wanted())?;
    let size = size.checked_mul(1 << shift).filter(|size| size.is_power_of_two());
    size.filter(|size| (1 << 14..=1 << 40).contains(size)).map(Bytes::new).ok_or_else(wanted)
}

pub fn nodes(text: &str) -> Result<NodeSet, String> {
    let nodes = text.parse::<NodeSet>().map_err(|e| e.to_string())?;
    if nodes.is_empty() { Err("expected at least one node".to_owned()) } else { Ok(nodes) }
}
