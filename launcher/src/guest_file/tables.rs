//! The tables of a guest file, field by field. Their doc comments are what [`super::SCHEMA`] says.

use std::collections::BTreeMap;

use placer_engine::{CpuId, NodeId};
#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Deserializer;
use toml::Spanned;

use super::fields::{
    Argument, Cpus, Line, List, Memory, PageSize, Parts, Scalar as _, Token, Word,
};
use crate::guest::{
    Accelerator, CgroupMode, Disk, DiskBus, DiskDevice, Firmware, GuestName, Lxc, LxcRoot,
    MemoryMode, Network, Qemu, Sandbox, Serial, ThreadPin,
};

/// A guest that placer launches.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(title = "placer guest file", extend("allOf" = super::tests::one_program())))]
pub(super) struct File {
    /// How the guest is called: 1 to 128 bytes, no slash.
    pub(super) name: Word<GuestName>,
    /// CPUs: whole for a machine, with up to two decimals for others.
    #[cfg_attr(test, schemars(with = "Cpus"))]
    pub(super) cpus: Spanned<Cpus>,
    /// Memory: a whole number of MiB, or text with K, M, G or T (binary), as in "8G".
    pub(super) memory: Option<Memory>,
    /// The size of the huge pages that the memory is made of, as in "2M", "1G"; "default" is the host's own default size.
    pub(super) pages: Option<PageSize>,
    /// The device to be near to, as in "0000:45:00.0", "eth0".
    pub(super) near: Option<Line>,
    /// How memory is bound to the nodes; strict by default.
    pub(super) mode: Option<Word<MemoryMode>>,
    /// The nodes of the memory, by hand instead of by advice, as in "0-1", "1-4,^3".
    pub(super) nodeset: Option<List<NodeId>>,
    /// The CPUs, by hand instead of by advice, as in "0-3,8", or "all".
    pub(super) cpuset: Option<Cpuset>,
    /// How threads are pinned: to all CPUs of the nodes (default), or vCPUs to cores of their own.
    pub(super) pin: Option<Word<ThreadPin>>,
    /// Whether isolated CPUs (isolcpus) may be used, each by one thread; wants pin = "cores".
    #[serde(default)]
    pub(super) isolated: bool,
    /// Who makes the guest's control group; auto by default.
    pub(super) cgroup: Option<Word<CgroupMode>>,
    /// The control group to make it in.
    pub(super) cgroup_parent: Option<Line>,
    /// A program and its arguments.
    #[cfg_attr(test, schemars(with = "Option<Vec<Argument>>", length(min = 1)))]
    pub(super) command: Option<Spanned<Vec<Argument>>>,
    /// A virtual machine of QEMU.
    #[cfg_attr(test, schemars(with = "Option<QemuTable>"))]
    pub(super) qemu: Option<Spanned<QemuTable>>,
    /// A container of LXC.
    #[cfg_attr(test, schemars(with = "Option<LxcTable>"))]
    pub(super) lxc: Option<Spanned<LxcTable>>,
}

/// CPUs by hand.
pub(super) enum Cpuset {
    All,
    These(List<CpuId>),
}

impl<'de> Deserialize<'de> for Cpuset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "all" => Ok(Self::All),
            list => List::from_text(list).map(Self::These).map_err(serde::de::Error::custom),
        }
    }
}

/// A virtual machine of QEMU.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) struct QemuTable {
    /// The program; qemu-system-x86_64 or that of the host's architecture by default.
    emulator: Option<Line>,
    /// The guest's architecture; the host's by default.
    arch: Option<Token>,
    /// The machine type; QEMU's default by default.
    machine: Option<Token>,
    /// What runs the guest's instructions; auto takes KVM where the host has it.
    #[serde(default)]
    accel: Accel,
    /// A ROM image to start with instead of QEMU's own.
    bios: Option<Line>,
    /// A Linux kernel to start.
    kernel: Option<Line>,
    /// The initial RAM disk of the kernel.
    initrd: Option<Line>,
    /// The command line of the kernel.
    cmdline: Option<Line>,
    /// Disks, in order.
    #[serde(default)]
    disks: Vec<DiskTable>,
    /// Where the serial port leads; there is none by default.
    serial: Option<SerialTable>,
    /// Whether the guest reaches a network.
    #[serde(default)]
    network: NetworkWord,
    /// How many I/O threads there are.
    #[serde(default)]
    #[cfg_attr(test, schemars(schema_with = "super::tests::iothreads"))]
    iothreads: u16,
    /// How many NUMA nodes the guest has, of equal size; a guest that is wider than a node of the host is faster with several.
    #[serde(default = "one")]
    cells: Parts,
    /// How many last-level caches the guest sees, of equal size: on x86, and with pin = "cores", each is in one cache of the host.
    #[serde(default = "one")]
    dies: Parts,
    /// Arguments put behind all others.
    #[serde(default)]
    args: Vec<Argument>,
    /// The user that QEMU runs as, by name or number; the launcher's own by default.
    user: Option<Token>,
    /// Whether QEMU's filter of system calls is on: it then starts no programs, for which some arguments ask.
    #[serde(default = "on")]
    sandbox: bool,
}

fn one() -> Parts {
    Parts(1)
}

fn on() -> bool {
    true
}

impl From<QemuTable> for Qemu {
    fn from(table: QemuTable) -> Self {
        let line = |line: Option<Line>| line.map(|line| line.0);
        Self {
            emulator: line(table.emulator),
            arch: table.arch.map(|arch| arch.0),
            machine: table.machine.map(|machine| machine.0),
            accelerator: match table.accel {
                Accel::Auto => Accelerator::Auto,
                Accel::Kvm => Accelerator::Kvm,
                Accel::Tcg => Accelerator::Tcg,
            },
            firmware: line(table.bios).map(Firmware::Rom),
            kernel: line(table.kernel),
            initrd: line(table.initrd),
            cmdline: line(table.cmdline),
            disks: table.disks.into_iter().map(Disk::from).collect(),
            serials: table.serial.into_iter().map(Serial::from).collect(),
            network: match table.network {
                NetworkWord::None => Network::None,
                NetworkWord::User => Network::User { model: None, mac: None },
            },
            iothreads: table.iothreads.into(),
            cells: table.cells.0,
            dies: table.dies.0,
            args: table.args.into_iter().map(|argument| argument.0).collect(),
            user: table.user.map(|user| user.0),
            sandbox: if table.sandbox { Sandbox::On } else { Sandbox::Off },
        }
    }
}

/// What runs the guest's instructions.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(JsonSchema))]
enum Accel {
    #[default]
    Auto,
    Kvm,
    Tcg,
}

/// A disk that is a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
struct DiskTable {
    /// The image.
    file: Line,
    /// Its format, as in "raw", "qcow2". It has no default: a guest could choose it by what it writes.
    format: Token,
    /// What the guest takes it for.
    #[serde(default)]
    device: DeviceWord,
    /// How it is attached.
    #[serde(default)]
    bus: BusWord,
    /// Whether the guest may not write to it.
    #[serde(default)]
    readonly: bool,
}

impl From<DiskTable> for Disk {
    fn from(table: DiskTable) -> Self {
        let device = match table.device {
            DeviceWord::Disk => DiskDevice::Disk,
            DeviceWord::Cdrom => DiskDevice::Cdrom,
        };
        Self {
            file: table.file.0,
            format: table.format.0,
            device,
            bus: match table.bus {
                BusWord::Virtio => DiskBus::Virtio,
                BusWord::Ide => DiskBus::Ide,
            },
            readonly: table.readonly || device == DiskDevice::Cdrom,
        }
    }
}

/// What the guest takes a file for.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(JsonSchema))]
enum DeviceWord {
    #[default]
    Disk,
    Cdrom,
}

/// How a disk is attached.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(JsonSchema))]
enum BusWord {
    #[default]
    Virtio,
    Ide,
}

/// Where a serial port leads: a word, or a table with a path.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(JsonSchema))]
enum SerialTable {
    /// A new pseudo terminal.
    Pty,
    /// The launcher's standard input and output.
    Stdio,
    /// Nowhere.
    Null,
    /// A file.
    File(Line),
    /// A Unix socket that QEMU listens on.
    Unix(Line),
}

impl From<SerialTable> for Serial {
    fn from(table: SerialTable) -> Self {
        match table {
            SerialTable::Pty => Self::Pty,
            SerialTable::Stdio => Self::Stdio,
            SerialTable::Null => Self::Null,
            SerialTable::File(path) => Self::File(path.0),
            SerialTable::Unix(path) => Self::Unix(path.0),
        }
    }
}

/// Whether the guest reaches a network.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(JsonSchema))]
enum NetworkWord {
    #[default]
    None,
    User,
}

/// A container of LXC.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(extend("not" = super::tests::both_roots())))]
pub(super) struct LxcTable {
    /// A container that was made with LXC's own programs, by its name.
    container: Option<Word<GuestName>>,
    /// A directory that is the container's file system; without it and container: the host's.
    rootfs: Option<Line>,
    /// The program to start in it; what the container's configuration says by default.
    init: Option<Line>,
    /// Arguments of init.
    #[serde(default)]
    args: Vec<Argument>,
    /// Items of LXC's configuration: a text each, or a list of texts for a key that may be repeated.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("propertyNames" = super::tests::token())))]
    config: BTreeMap<String, ConfigValue>,
}

/// The value of an item of LXC's configuration.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text, or a list of texts, without control characters")]
#[cfg_attr(test, derive(JsonSchema))]
enum ConfigValue {
    One(Line),
    Many(Vec<Line>),
}

impl TryFrom<LxcTable> for Lxc {
    type Error = String;

    fn try_from(table: LxcTable) -> Result<Self, String> {
        let root = match (table.container, table.rootfs) {
            (None, None) => LxcRoot::Host,
            (Some(name), None) => LxcRoot::Container(name.0.to_string()),
            (None, Some(directory)) => LxcRoot::Directory(directory.0),
            (Some(_), Some(_)) => return Err("[lxc]: keep one of container and rootfs".to_owned()),
        };
        let mut config = Vec::new();
        for (key, value) in table.config {
            if !crate::definition::is_token(&key) {
                let found = crate::definition::quoted(&key);
                return Err(format!(
                    "[lxc.config]: expected a key as in \"lxc.uts.name\", found {found}"
                ));
            }
            match value {
                ConfigValue::One(line) => config.push((key, line.0)),
                ConfigValue::Many(lines) => {
                    config.extend(lines.into_iter().map(|line| (key.clone(), line.0)));
                }
            }
        }
        Ok(Self {
            root,
            init: table.init.map(|init| init.0),
            args: table.args.into_iter().map(|argument| argument.0).collect(),
            config,
        })
    }
}
