//! What is started: a command, a machine of QEMU, a container of LXC.
//!
//! Texts in here hold no NUL byte and no line end. They may hold commas, which options of QEMU
//! want doubled.

use std::ffi::OsString;

use super::line::Line;

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a launch has one of them")]
pub enum Program {
    /// A program and its arguments. At least one word.
    Command(Vec<OsString>),
    /// A virtual machine.
    Qemu(Qemu),
    /// A virtual machine, by the user's own command line of QEMU.
    Line(Box<Line>),
    /// A container.
    Lxc(Lxc),
}

impl Program {
    /// Returns whether it is a virtual machine, whose threads are known.
    pub fn is_machine(&self) -> bool {
        matches!(self, Self::Qemu(_) | Self::Line(_))
    }
}

/// A virtual machine of QEMU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qemu {
    /// The program. `None`: `qemu-system-` and the architecture.
    pub emulator: Option<String>,
    /// The guest's architecture. `None`: that of the host.
    pub arch: Option<String>,
    /// The machine type, as `-machine` takes it. `None`: QEMU's default.
    pub machine: Option<String>,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// What the guest starts with. `None`: QEMU's default.
    pub firmware: Option<Firmware>,
    /// A Linux kernel to start instead of what the firmware finds.
    pub kernel: Option<String>,
    /// The initial RAM disk for `kernel`.
    pub initrd: Option<String>,
    /// The command line for `kernel`.
    pub cmdline: Option<String>,
    /// Disks, in order.
    pub disks: Vec<Disk>,
    /// Serial ports, in order.
    pub serials: Vec<Serial>,
    /// Whether the guest reaches a network.
    pub network: Network,
    /// How many I/O threads there are, numbered from 1.
    pub iothreads: u32,
    /// How many NUMA nodes the guest has, of equal size. 0 is 1.
    pub cells: u32,
    /// How many last-level caches the guest sees, each of equally many vCPUs. 0 is 1.
    pub dies: u32,
    /// Arguments that are put behind all others, as they are.
    pub args: Vec<String>,
    /// The user that it runs as, by name or number. `None`: the launcher's own.
    pub user: Option<String>,
    /// Whether it may do what no machine needs.
    pub sandbox: Sandbox,
}

/// Whether QEMU keeps its own filter of system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// It starts no programs, takes no other user's rights and changes no scheduling.
    #[default]
    On,
    /// It may, as some arguments need it.
    Off,
}

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// KVM where this host has it, else software.
    #[default]
    Auto,
    /// KVM or failure.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

/// What a machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A ROM image: `-bios`.
    Rom(String),
    /// A flash image, and the file that holds this guest's own variables.
    Flash {
        /// The image, never written.
        code: String,
        /// The variables.
        variables: Option<String>,
    },
}

/// A disk that is a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub file: String,
    /// Its format: `raw`, `qcow2`, ...; letters, digits, `-` and `_` only.
    pub format: String,
    /// Whether the guest sees a disk or a CD.
    pub device: DiskDevice,
    /// How it is attached.
    pub bus: DiskBus,
    /// Whether the guest may not write to it. A CD never may.
    pub readonly: bool,
}

/// What the guest takes a file for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskDevice {
    /// A disk.
    #[default]
    Disk,
    /// A CD.
    Cdrom,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskBus {
    /// By virtio.
    #[default]
    Virtio,
    /// By the controller that the machine type has for old disks: IDE, or SATA on `q35`.
    Ide,
}

/// Where a serial port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serial {
    /// To a new pseudo terminal.
    Pty,
    /// To the launcher's standard input and output.
    Stdio,
    /// Nowhere.
    Null,
    /// Into a file.
    File(String),
    /// To a Unix socket that QEMU listens on.
    Unix(String),
}

/// Whether the guest reaches a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// It has no network card.
    #[default]
    None,
    /// It has one that reaches what an ordinary user of the host reaches.
    User {
        /// The network card; letters, digits, `-` and `_` only. `None`: `virtio-net-pci`.
        model: Option<String>,
        /// Its address, as in `52:54:00:12:34:56`.
        mac: Option<String>,
    },
}

/// A container of LXC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lxc {
    /// What the container sees as its file system.
    pub root: LxcRoot,
    /// The program that is started in it. `None`: what its configuration says, else `/sbin/init`.
    pub init: Option<String>,
    /// Arguments of `init`.
    pub args: Vec<String>,
    /// Lines of LXC's configuration, in order: key and value.
    pub config: Vec<(String, String)>,
}

/// What a container sees as its file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LxcRoot {
    /// That of the host.
    #[default]
    Host,
    /// A directory of the host.
    Directory(String),
    /// What the container of this name, made with LXC's own programs, is configured with.
    Container(String),
}
