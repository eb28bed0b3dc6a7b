//! Choices that a user makes by a word.

use std::fmt;
use std::str::FromStr;

/// A word that none of the known ones is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    kind: &'static str,
    found: String,
    known: &'static str,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, found, known } = self;
        let found = placer_engine::parse::excerpt(found.as_bytes());
        write!(f, "expected a {kind}: {known}; found {found}")
    }
}

impl std::error::Error for UnknownWord {}

/// Makes an enum whose values have one word each.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $kind:literal, $first:literal $first_name:ident $first_doc:literal
     $(, $word:literal $value:ident $doc:literal)+ $(,)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            #[doc = $first_doc]
            #[default]
            $first_name,
            $(#[doc = $doc] $value,)+
        }

        impl $name {
            /// Every value, the default first.
            pub const ALL: &'static [Self] = &[Self::$first_name $(, Self::$value)+];

            /// Returns the word for it.
            pub const fn word(self) -> &'static str {
                match self {
                    Self::$first_name => $first,
                    $(Self::$value => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                const KNOWN: &str = concat!($first $(, ", ", $word)+);
                Self::ALL.iter().copied().find(|value| value.word() == text).ok_or_else(|| {
                    UnknownWord { kind: $kind, found: text.to_owned(), known: KNOWN }
                })
            }
        }
    };
}

words! {
    /// How memory is bound to nodes.
    ///
    /// ```
    /// use placer_launcher::guest::MemoryMode;
    /// assert_eq!("preferred-many".parse(), Ok(MemoryMode::PreferredMany));
    /// assert_eq!(
    ///     "bind".parse::<MemoryMode>().unwrap_err().to_string(),
    ///     "expected a memory mode: strict, preferred, preferred-many, interleave, \
    ///      weighted-interleave, none; found \"bind\"",
    /// );
    /// ```
    MemoryMode, "memory mode",
    "strict" Strict "From these nodes or not at all: the kernel's `MPOL_BIND`.",
    "preferred" Preferred "From the first of the nodes while it has room, then from anywhere.",
    "preferred-many" PreferredMany "From these nodes while they have room, then from anywhere.",
    "interleave" Interleave "Page by page from one node after the other.",
    "weighted-interleave" WeightedInterleave
        "As interleave, more pages from faster nodes. Linux 6.9 or later.",
    "none" None "Memory is not bound.",
}

impl MemoryMode {
    /// Returns the Linux that first had it, where hosts are still in use that lack it.
    pub const fn since(self) -> Option<&'static str> {
        match self {
            Self::PreferredMany => Some("5.15"),
            Self::WeightedInterleave => Some("6.9"),
            _ => None,
        }
    }
}

words! {
    /// Which program makes the control group of a guest.
    CgroupMode, "control group",
    "auto" Auto "The launcher decides; none for commands.",
    "none" None "No group: the guest stays in the launcher's group.",
    "own" Own "placer, below a delegated or given group.",
    "systemd" Systemd "systemd, as a transient scope.",
}

words! {
    /// How threads are held to CPUs.
    ThreadPin, "way to pin threads",
    "nodes" Nodes "Each may run on all CPUs of the chosen nodes.",
    "cores" Cores "Each vCPU has a core of its own while there are enough, then a hardware thread.",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for &mode in MemoryMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for &mode in CgroupMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for &pin in ThreadPin::ALL {
            assert_eq!(pin.to_string().parse(), Ok(pin));
        }
        assert_eq!(
            "core".parse::<ThreadPin>().unwrap_err().to_string(),
            "expected a way to pin threads: nodes, cores; found \"core\""
        );
    }
}
