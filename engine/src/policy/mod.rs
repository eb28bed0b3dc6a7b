//! The rules that choose: pure functions from a [`Snapshot`](crate::Snapshot) and a
//! [`Request`](crate::Request) to an [`Advice`](crate::Advice).

pub mod numad;
pub mod score;

use std::fmt;

/// Which rule chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// numad 0.5's rules, bit for bit.
    Numad(numad::Rules),
}

impl Policy {
    /// Returns the name it is asked for by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Numad(_) => "numad",
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::Numad(numad::Rules::default())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
