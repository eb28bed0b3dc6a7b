//! What is started and where it wants to be: the one value that both guest definitions and the
//! command line become, and that a launch is planned from.

pub mod line;
mod modes;
mod name;
mod program;

use std::collections::BTreeMap;
use std::fmt;

use placer_engine::{Bytes, CpuSet, CpuShare, NodeSet};

pub use modes::{CgroupMode, MemoryMode, ThreadPin, UnknownWord};
pub use name::{BadName, GuestName};
pub use program::{
    Accelerator, Disk, DiskBus, DiskDevice, Firmware, Lxc, LxcRoot, Network, Program, Qemu,
    Sandbox, Serial,
};

/// A guest: what is started, how large it is, and what its definition says about its place.
///
/// It never holds what a launch found out. The advice and what came of it are values beside it, so
/// the CPUs that a user named are never overwritten by those of one run.
///
/// ```
/// use placer_engine::Bytes;
/// use placer_launcher::guest::{Guest, MemoryMode, Program};
/// let command = Program::Command(vec!["sleep".into(), "1".into()]);
/// let mut guest = Guest::new("naps".parse()?, command);
/// guest.cpus.current = 4;
/// guest.memory.maximum = Bytes::new(8 << 30);
/// assert_eq!(guest.ask().to_string(), "4:8192");
/// assert_eq!(guest.mode, MemoryMode::Strict);
/// assert!(guest.wants_advice());
/// # Ok::<(), placer_launcher::guest::BadName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// How it is called in messages, claims, control groups.
    pub name: GuestName,
    /// What is started.
    pub program: Program,
    /// How many CPUs it has. For a command or a container: how many it is expected to use.
    pub cpus: CpuCount,
    /// How much memory it has, or is expected to use.
    pub memory: MemorySize,
    /// What to ask advice for, where that was said apart from the size.
    pub required: Required,
    /// The pages that its memory is made of.
    pub pages: Pages,
    /// The device that it should be near to, as `placer advise --near` takes it.
    pub near: Option<String>,
    /// How its memory is bound to [`nodes`](Self::nodes).
    pub mode: MemoryMode,
    /// Whether its definition names that mode. One that it does not name is given up, with a
    /// warning, where memory policies are forbidden.
    pub mode_given: bool,
    /// The nodes of its memory. Without meaning when the mode is [`MemoryMode::None`].
    pub nodes: NodeChoice,
    /// The CPUs that it may run on.
    pub placement: CpuPlacement,
    /// CPUs of single threads that were named by hand. They go before `pin` and `placement`.
    pub pins: Pins,
    /// How threads that `pins` does not name are held to their CPUs.
    pub pin: ThreadPin,
    /// Whether isolated CPUs (`isolcpus`) may be used, each by one thread.
    pub isolated: bool,
    /// The control group that it runs in.
    pub cgroup: Cgroup,
}

impl Guest {
    /// Returns a guest of one CPU and no memory to speak of, placed by advice, its memory strictly
    /// on the advised nodes.
    pub fn new(name: GuestName, program: Program) -> Self {
        Self {
            name,
            program,
            cpus: CpuCount { maximum: 1, current: 1 },
            memory: MemorySize::default(),
            required: Required::default(),
            pages: Pages::default(),
            near: None,
            mode: MemoryMode::default(),
            mode_given: false,
            nodes: NodeChoice::default(),
            placement: CpuPlacement::default(),
            pins: Pins::default(),
            pin: ThreadPin::default(),
            isolated: false,
            cgroup: Cgroup::default(),
        }
    }

    /// Returns what to ask advice for: what [`required`](Self::required) says, else the CPUs the
    /// guest starts with and the most memory it can ever have. A container has no more memory than
    /// it has now, so there it is the current memory, as libvirt asks.
    pub fn ask(&self) -> Ask {
        let size = match self.program {
            Program::Lxc(_) => self.memory.current,
            Program::Qemu(_) | Program::Line(_) | Program::Command(_) => self.memory.maximum,
        };
        let cpus = || CpuShare::from_hundredths(u64::from(self.cpus.current) * 100);
        Ask {
            cpus: self.required.cpus.unwrap_or_else(cpus),
            memory: self.required.memory.unwrap_or(size),
        }
    }

    /// Returns whether anything about the place of this guest is left to advice.
    pub fn wants_advice(&self) -> bool {
        let memory = self.mode != MemoryMode::None && self.nodes == NodeChoice::Advised;
        memory || matches!(self.placement, CpuPlacement::Advised { .. })
    }
}

/// The most CPUs of a guest. What is done for each of them must not be driven by a slip of the pen.
pub const MOST_CPUS: u32 = 1 << 16;

/// How many CPUs a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuCount {
    /// The number that can be plugged in. At least `current`.
    pub maximum: u32,
    /// The number present at the start. At least 1.
    pub current: u32,
}

/// How much memory a guest has. Zero: nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemorySize {
    /// What it is built with. At least `current`.
    pub maximum: Bytes,
    /// What its balloon leaves it at the start.
    pub current: Bytes,
}

/// What a definition wants asked for, where that is not the size of the guest: `required_cpus` and
/// `required_memory` of a domain definition, or parts of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Required {
    /// CPUs, to the hundredth.
    pub cpus: Option<CpuShare>,
    /// Memory.
    pub memory: Option<Bytes>,
}

/// What advice is asked for. Shown as a request: CPUs, and MiB rounded up.
///
/// ```
/// use placer_engine::{Bytes, CpuShare};
/// use placer_launcher::guest::Ask;
/// let ask = Ask { cpus: CpuShare::from_hundredths(250), memory: Bytes::new(1023 << 10) };
/// assert_eq!(ask.to_string(), "2.5:1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// CPUs, to the hundredth.
    pub cpus: CpuShare,
    /// Memory. Zero: none was named, the CPUs alone decide.
    pub memory: Bytes,
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.memory {
            Bytes::ZERO => write!(f, "{}", self.cpus),
            memory => write!(f, "{}:{}", self.cpus, memory.mib_rounded_up()),
        }
    }
}

/// The pages that the memory of a guest is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Ordinary pages.
    #[default]
    Ordinary,
    /// Huge pages of the size that the host has as its default (`Hugepagesize` in its meminfo).
    HugeDefault,
    /// Huge pages of this size.
    Huge(Bytes),
}

/// The nodes that the memory of a guest is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeChoice {
    /// Those that the advice names.
    #[default]
    Advised,
    /// These, by hand. Not empty.
    Fixed(NodeSet),
}

/// The CPUs that a guest may run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuPlacement {
    /// Those of the advised nodes.
    Advised {
        /// The CPUs that the definition names as well and that the advice goes before. They are
        /// kept so that the definition can be shown as its user wrote it, and bind nothing.
        instead_of: Option<CpuSet>,
    },
    /// These, by hand. Not empty.
    Fixed(CpuSet),
    /// All of the host, explicitly: the launcher itself may be held to fewer.
    All,
}

impl Default for CpuPlacement {
    fn default() -> Self {
        Self::Advised { instead_of: None }
    }
}

/// CPUs of single threads, named by hand. No set in it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// For the vCPU of this number, from 0. Every number is below [`CpuCount::maximum`].
    pub vcpus: BTreeMap<u32, CpuSet>,
    /// For all threads that are neither vCPUs nor I/O threads.
    pub emulator: Option<CpuSet>,
    /// For the I/O thread of this number, from 1.
    pub iothreads: BTreeMap<u32, CpuSet>,
}

impl Pins {
    /// Returns whether nothing is pinned by hand.
    pub fn is_empty(&self) -> bool {
        self.vcpus.is_empty() && self.emulator.is_none() && self.iothreads.is_empty()
    }
}

/// The control group that a guest runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Which program makes it, if any.
    pub mode: CgroupMode,
    /// The group to make it in, as a path below the mount point of the cgroup file system or from
    /// `/`; a slice where systemd makes it. Where it is not given the launcher finds one.
    pub parent: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(program: Program) -> Guest {
        Guest::new("g".parse().unwrap(), program)
    }

    #[test]
    fn a_container_is_asked_for_with_its_current_memory_and_a_machine_with_all_of_it() {
        let size = MemorySize { maximum: Bytes::new(69 << 20), current: Bytes::new(1 << 20) };
        for (program, ask) in [
            (Program::Lxc(Lxc::default()), "1:1"),
            (Program::Qemu(Qemu::default()), "1:69"),
            (Program::Command(vec!["true".into()]), "1:69"),
        ] {
            let mut guest = guest(program);
            guest.memory = size;
            guest.cpus.maximum = 4;
            assert_eq!(guest.ask().to_string(), ask);
            guest.required.memory = Some(Bytes::ZERO);
            guest.required.cpus = Some(CpuShare::from_hundredths(25));
            assert_eq!(guest.ask().to_string(), "0.25");
        }
    }

    #[test]
    fn advice_is_wanted_for_cpus_or_memory() {
        let mut guest = guest(Program::Qemu(Qemu::default()));
        assert!(guest.wants_advice());
        guest.placement = CpuPlacement::All;
        assert!(guest.wants_advice());
        guest.nodes = NodeChoice::Fixed(NodeSet::new());
        assert!(!guest.wants_advice());
        guest.nodes = NodeChoice::Advised;
        guest.mode = MemoryMode::None;
        assert!(!guest.wants_advice());
    }
}
