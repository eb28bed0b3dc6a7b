//! numad 0.5's rules, from a description of what it does: the same nodes from the same figures.
//!
//! Two programs go by that name and number, [`Version`]. `Machine` is the host as numad reads it,
//! `Machine::figures` what it makes of two samples, `choose` the choice. Everything is
//! integer arithmetic that wraps where numad's does. Where numad crashes there is a defined answer or
//! a [`Failure`] that says why.

mod choose;
mod list;
mod machine;
mod v2015;
mod v2025;
mod versions;

use std::fmt;
use std::str::FromStr;

#[doc(hidden)]
pub use choose::{Choice, NodeFigures, Step, charge};
#[doc(hidden)]
pub use machine::{Machine, Reserved};
#[doc(hidden)]
pub use versions::{choose, choose_by_steps};

use crate::ids::NodeId;

/// Which numad: both call themselves 0.5, and they answer differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 20150602, as in Debian 12 and most distributions of its time.
    V2015,
    /// 20251104, as in Debian sid and Ubuntu 26.04.
    #[default]
    V2025,
}

impl Version {
    /// Both, the older one first.
    pub const ALL: [Self; 2] = [Self::V2015, Self::V2025];

    /// Returns the name: `2015` or `2025`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2015 => "2015",
            Self::V2025 => "2025",
        }
    }

    /// Returns the version that the program itself reports.
    pub fn program(self) -> &'static str {
        match self {
            Self::V2015 => "20150602",
            Self::V2025 => "numad 20251104",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads `2015` or `2025`.
impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|version| version.name() == text);
        named.ok_or_else(|| format!("expected \"2015\" or \"2025\", found {text:?}"))
    }
}

/// The request as numad takes it: both amounts are 32-bit and may have wrapped below zero.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Hundredths of a CPU.
    pub cpus: i32,
    /// MiB.
    pub megabytes: i32,
}

/// The version, and numad's options that change an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whose rules these are.
    pub version: Version,
    /// `-C`: whether inactive file cache counts as free. numad's default is yes.
    pub count_inactive_file: bool,
    /// `-t`: what a further hardware thread of a core is worth, in percent, 0 to 100. Default 20.
    pub thread_percent: u64,
    /// `-R`: the text of the list of CPUs that are kept out.
    pub reserved: Option<Vec<u8>>,
    /// Whether to go on where numad ends for want of a file or a field: one thread a core, no
    /// memory where none is known, other nodes twice as far.
    pub lenient: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            version: Version::default(),
            count_inactive_file: true,
            thread_percent: 20,
            reserved: None,
            lenient: false,
        }
    }
}

impl Rules {
    /// Returns the rules of a version that answer on every host, as [`lenient`](Self::lenient) has it.
    pub fn lenient(version: Version) -> Self {
        Self { version, lenient: true, ..Self::default() }
    }
}

/// Why numad has no answer for a host. Shown in numad's own words where it logs some.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The kernel has no NUMA: no node directory.
    NoNodes,
    /// CPU 0's siblings are not known, or there are none.
    ThreadsPerCore,
    /// A mask has a character that does not belong there.
    UnexpectedCharacter,
    /// A node has no `cpulist`, or an empty one.
    CpuList(NodeId),
    /// A node has no `distance`.
    Distance(NodeId),
    /// A node's `distance` has fewer columns than there are nodes.
    ShortDistance(NodeId),
    /// A distance of zero, by which numad divides and ends.
    ZeroDistance(NodeId),
    /// A node's `meminfo` is gone.
    Meminfo(NodeId),
    /// A node's `meminfo` lacks a field.
    MeminfoField(NodeId, &'static str),
    /// The two readings of the CPU counters lie less than 1/100 s apart.
    NoTimePassed,
    /// The answer would be nodes whose ids numad's sets have no room for: it prints an empty line.
    NoRoom,
}

impl Failure {
    /// Returns the line numad writes to its log; `None` where numad crashes instead.
    pub fn numad_says(&self) -> Option<String> {
        Some(match self {
            Self::NoNodes => "Could not get NUMA node info".to_owned(),
            Self::ThreadsPerCore => "Could not count threads per core".to_owned(),
            Self::UnexpectedCharacter => "Unexpected character in list".to_owned(),
            Self::CpuList(_) => "Could not get node cpu list".to_owned(),
            Self::Distance(_) => "Could not get node distance data".to_owned(),
            Self::Meminfo(_) => "Could not get node meminfo".to_owned(),
            Self::MeminfoField(_, field) => format!("Could not get node {field}"),
            Self::ShortDistance(_) | Self::ZeroDistance(_) | Self::NoTimePassed | Self::NoRoom => {
                return None;
            }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |node: &NodeId, name| format!("node{node}/{name}");
        match self {
            Self::NoNodes => write!(
                f,
                "sys/devices/system/node: expected node directories (node0, ...), found none"
            ),
            Self::ThreadsPerCore => write!(
                f,
                "cpu0/topology/thread_siblings: expected a mask with at least one bit, found none \
                 (numad counts the threads of CPU 0's core)"
            ),
            Self::UnexpectedCharacter => write!(
                f,
                "cpu0/topology/thread_siblings: expected hex digits and commas, found something \
                 else"
            ),
            Self::CpuList(node) => {
                write!(f, "{}: expected a list of CPUs, found none", file(node, "cpulist"))
            }
            Self::Distance(node) => {
                write!(f, "{}: expected a row of distances, found none", file(node, "distance"))
            }
            Self::ShortDistance(node) => write!(
                f,
                "{}: expected a distance for each node, found fewer",
                file(node, "distance")
            ),
            Self::ZeroDistance(node) => write!(
                f,
                "{}: expected distances of at least 1 (10 is local), found 0",
                file(node, "distance")
            ),
            Self::Meminfo(node) => write!(
                f,
                "{}: expected the node's memory, found no file (has the node left?)",
                file(node, "meminfo")
            ),
            Self::MeminfoField(node, field) => {
                write!(f, "{}: expected a line {field}, found none", file(node, "meminfo"))
            }
            Self::NoTimePassed => {
                write!(f, "the CPU counters were read twice within 1/100 s: the load is not known")
            }
            Self::NoRoom => write!(
                f,
                "it has room for 64 node ids for every 64 nodes, and every node it would name is \
                 past that (it prints an empty line; --policy best names such nodes)"
            ),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_by_the_name_that_they_print() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert_eq!([Version::V2015, Version::V2025].map(Version::name), ["2015", "2025"]);
        assert_eq!(
            "2020".parse::<Version>(),
            Err("expected \"2015\" or \"2025\", found \"2020\"".to_owned())
        );
        assert_eq!(Rules::default().thread_percent, 20);
    }

    #[test]
    fn failures_name_the_file_and_are_logged_in_numads_words() {
        let failure = Failure::MeminfoField(NodeId(3), "MemFree");
        assert_eq!(failure.to_string(), "node3/meminfo: expected a line MemFree, found none");
        assert_eq!(failure.numad_says().as_deref(), Some("Could not get node MemFree"));
        assert_eq!(Failure::ZeroDistance(NodeId(3)).numad_says(), None);
    }
}
