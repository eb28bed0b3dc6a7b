//! The rules that choose: pure functions from a [`Snapshot`](crate::Snapshot) and a
//! [`Request`](crate::Request) to an [`Advice`](crate::Advice).

pub mod best;
pub mod cache;
pub mod numad;
pub mod together;

use std::fmt;

/// Which rule chooses.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// Ours: exact, explained, for guests with huge pages, devices and limits.
    Best(best::Rules),
    /// numad 0.5's rules, bit for bit, in one of its versions.
    Numad(numad::Rules),
}

impl Policy {
    /// Returns the name it is asked for by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Best(_) => "best",
            Self::Numad(rules) => match rules.version {
                numad::Version::V2015 => "numad-2015",
                numad::Version::V2025 => "numad-2025",
            },
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::Best(best::Rules::default())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
