//! How a guest's memory is bound to its nodes.

use std::fmt;
use std::str::FromStr;

/// How memory is bound to nodes: the kernel's memory policies, by their usual names.
///
/// ```
/// use placer_launcher::MemoryMode;
/// assert_eq!("preferred-many".parse(), Ok(MemoryMode::PreferredMany));
/// assert_eq!(MemoryMode::default().to_string(), "strict");
/// assert!("bind".parse::<MemoryMode>().unwrap_err().contains("strict"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MemoryMode {
    /// Only on the nodes; where they are full the kernel ends the guest.
    #[default]
    Strict,
    /// First on the node that carries most, then anywhere.
    Preferred,
    /// First on any of the nodes, then anywhere. Linux 5.15.
    PreferredMany,
    /// Page by page on each node in turn.
    Interleave,
    /// The same by the weights in `/sys/kernel/mm/mempolicy/weighted_interleave`. Linux 6.9.
    WeightedInterleave,
    /// Wherever the guest runs when it first touches a page.
    None,
}

impl MemoryMode {
    /// All modes, in the order in which help texts list them.
    pub const ALL: [Self; 6] = [
        Self::Strict,
        Self::Preferred,
        Self::PreferredMany,
        Self::Interleave,
        Self::WeightedInterleave,
        Self::None,
    ];

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Preferred => "preferred",
            Self::PreferredMany => "preferred-many",
            Self::Interleave => "interleave",
            Self::WeightedInterleave => "weighted-interleave",
            Self::None => "none",
        }
    }

    /// Returns the Linux that first had it, where that is no longer ago than hosts are old.
    pub const fn since(self) -> Option<&'static str> {
        match self {
            Self::PreferredMany => Some("5.15"),
            Self::WeightedInterleave => Some("6.9"),
            _ => None,
        }
    }
}

impl fmt::Display for MemoryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MemoryMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected a memory mode ({names}), found {text:?}")
        })
    }
}
