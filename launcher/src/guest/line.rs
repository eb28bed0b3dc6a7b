//! A command line of QEMU, read as QEMU reads it: what it says about the size of a guest, its NUMA nodes, its
//! memory and its host devices. Pure, but for [`Line::look_at_files`].
//!
//! Options are read up to what placement needs; the words themselves are kept, and QEMU checks them. What
//! would change the guest without being seen here (`-readconfig`, `-set`) is refused.

mod machine;
mod memory;
mod options;
mod topology;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use placer_engine::{Bytes, CpuSet, NodeSet};

use super::{CpuCount, Pages};
use crate::error::LaunchError;
use options::Words;
use values::Properties;

/// The most NUMA nodes of a guest, as QEMU has it.
const MOST_CELLS: u32 = 128;

/// A command line of QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The words, the program first.
    pub argv: Vec<OsString>,
    /// What `-name` says.
    pub name: Option<String>,
    /// What `-uuid` says, in lower case.
    pub uuid: Option<String>,
    /// Its vCPUs: at the start, and with those that can be plugged in.
    pub cpus: CpuCount,
    /// How many of them share a last-level cache, where `-smp` has several dies or sockets.
    pub die: Option<u32>,
    /// All its memory: that of the machine, and of backends for other devices.
    pub memory: Bytes,
    /// How the machine's own memory is made.
    pub ram: Ram,
    /// Its NUMA nodes. Empty: it has none of its own.
    pub cells: Vec<LineCell>,
    /// Its memory backends.
    pub backends: Vec<Backend>,
    /// The names of its I/O threads.
    pub iothreads: Vec<String>,
    /// PCI addresses of host devices that it gets.
    pub devices: Vec<String>,
    /// Whether the user wants it paused at its start (`-S`).
    pub paused: bool,
    /// The file system that QEMU makes the machine's own memory on (`-mem-path`), and its pages.
    pub file_ram: Option<(PathBuf, Pages)>,
    /// The options that keep the monitor QEMU has by default, which another monitor would replace.
    pub monitor: Vec<&'static str>,
}

/// How the memory of a machine is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ram {
    /// By QEMU, in this size; a backend of this name can take its place without changing the guest.
    Plain(Bytes, &'static str),
    /// By the backend of this name.
    Backend(String),
    /// By the backends of the NUMA nodes.
    Cells,
    /// In another way: it takes the memory policy of the process.
    Other,
}

/// A NUMA node of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineCell {
    /// Its number.
    pub id: u32,
    /// Its vCPUs.
    pub vcpus: CpuSet,
    /// Its memory.
    pub memory: Bytes,
    /// The name of its memory backend.
    pub backend: Option<String>,
}

/// A memory backend of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Which word of the line says it.
    pub at: usize,
    /// Whether it is written as JSON.
    pub json: bool,
    /// Its name.
    pub id: String,
    /// Its size.
    pub size: Bytes,
    /// The host nodes it is bound to.
    pub host_nodes: NodeSet,
    /// How, in QEMU's words.
    pub policy: Option<String>,
    /// Its pages, as far as the line says it.
    pub pages: Pages,
    /// The file or directory that its memory is from.
    pub path: Option<PathBuf>,
    /// The guest's NUMA node that it belongs to, where it is that of a memory device.
    pub cell: Option<u32>,
}

/// Returns whether a program is QEMU, by its name.
pub fn is_qemu(program: &OsStr) -> bool {
    let name = Path::new(program).file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| matches!(name, "qemu-kvm" | "kvm") || name.starts_with("qemu-system-"))
}

/// Returns the names of the options among some words, without their hyphens.
pub(crate) fn option_names(words: &[String]) -> Vec<String> {
    let argv: Vec<OsString> =
        [OsString::new()].into_iter().chain(words.iter().map(Into::into)).collect();
    Words::of(&argv).filter_map(|option| Some(option.ok()?.name)).collect()
}

impl Line {
    /// Reads a command line. `None`: it is not QEMU's, or only prints something (`-version`, `-cpu help`).
    ///
    /// Errors: an option that changes the guest unseen, or under which it could not be followed; a value that
    /// QEMU refuses too.
    ///
    /// ```
    /// use placer_launcher::guest::line::Line;
    /// let words = ["qemu-system-x86_64", "-m", "2G", "-smp", "cores=2,threads=2"];
    /// let line = Line::parse(&words.map(Into::into))?.expect("a guest");
    /// assert_eq!((line.cpus.current, line.memory.whole_mib()), (4, 2048));
    /// assert_eq!(Line::parse(&["qemu-img".into()])?, None);
    /// # Ok::<(), placer_launcher::LaunchError>(())
    /// ```
    pub fn parse(argv: &[OsString]) -> Result<Option<Self>, LaunchError> {
        match argv.first() {
            Some(program) if is_qemu(program) => Self::read(argv),
            _ => Ok(None),
        }
    }

    /// As [`parse`](Self::parse), whatever the program is called.
    pub(crate) fn read(argv: &[OsString]) -> Result<Option<Self>, LaunchError> {
        Parts::read(argv)
            .and_then(|parts| parts.map(|parts| parts.line(argv)).transpose())
            .map_err(|why| LaunchError::seen("place this command line of QEMU", Errno::EINVAL, why))
    }

    /// Finds out the pages of memory that is from files, by the file systems they are on.
    ///
    /// Where the machine's own memory is of huge pages, [`memory`](Self::memory) is then what is of them: a
    /// request has pages of one size, and the others are small backends of devices.
    pub fn look_at_files(&mut self) {
        for backend in &mut self.backends {
            if let Some(size) = backend.path.as_deref().and_then(huge_page_of) {
                backend.pages = Pages::Huge(size);
            }
        }
        if let Some((path, pages)) = &mut self.file_ram
            && let Some(size) = huge_page_of(path)
        {
            *pages = Pages::Huge(size);
        }
        let sum = |sum: Bytes, backend: &Backend| sum.saturating_add(backend.size);
        let all = self.backends.iter().filter(|backend| !self.is_ram(backend));
        let left_out =
            all.fold(Bytes::ZERO, sum).saturating_sub(self.of_devices().fold(Bytes::ZERO, sum));
        self.memory = self.memory.saturating_sub(left_out);
    }

    /// Returns the backends of devices that count: beside huge pages those of the same pages.
    pub(crate) fn of_devices(&self) -> impl Iterator<Item = &Backend> {
        let pages = self.pages();
        let same = move |backend: &&Backend| pages == Pages::Ordinary || backend.pages == pages;
        self.backends.iter().filter(|backend| !self.is_ram(backend)).filter(same)
    }

    /// Returns the pages that the machine's own memory is made of; ordinary ones where they differ.
    pub fn pages(&self) -> Pages {
        let mut all = self.backends.iter().filter(|backend| self.is_ram(backend));
        match (&self.file_ram, all.next()) {
            (_, Some(first)) if all.all(|backend| backend.pages == first.pages) => first.pages,
            (Some((_, pages)), None) if self.ram == Ram::Other => *pages,
            _ => Pages::default(),
        }
    }

    /// Returns the host nodes of the machine's own memory, where the line names them for all of it.
    pub fn fixed_nodes(&self) -> Option<NodeSet> {
        let all = self.backends.iter().filter(|backend| self.is_ram(backend));
        let nodes = all.map(|backend| &backend.host_nodes);
        let named = nodes.clone().all(|nodes| !nodes.is_empty());
        let all = nodes.fold(NodeSet::new(), |all, one| all.union(one));
        Some(all).filter(|all| named && !all.is_empty())
    }

    /// Returns whether a backend is the memory of the machine or of one of its NUMA nodes.
    pub(crate) fn is_ram(&self, backend: &Backend) -> bool {
        match &self.ram {
            Ram::Backend(id) => *id == backend.id,
            _ => self.cells.iter().any(|cell| cell.backend.as_ref() == Some(&backend.id)),
        }
    }
}

/// Returns the size of the huge pages of the file system that a file is on, or will be.
fn huge_page_of(path: &Path) -> Option<Bytes> {
    let on = |path: &Path| nix::sys::statfs::statfs(path).ok();
    let found = on(path).or_else(|| on(path.parent()?))?;
    let huge = found.filesystem_type() == nix::sys::statfs::HUGETLBFS_MAGIC;
    u64::try_from(found.block_size()).ok().filter(|_| huge).map(Bytes::new)
}

/// A memory device.
#[derive(Debug)]
struct Dimm {
    backend: String,
    /// The guest's NUMA node.
    node: Option<u32>,
    /// The part of its backend that the guest has from the start, where it is not all of it.
    used: Option<Bytes>,
}

/// What the options say, before it is put together.
#[derive(Debug, Default)]
struct Parts {
    arch: String,
    memory: Properties,
    smp: Properties,
    machine: Properties,
    numa: Vec<Properties>,
    backends: Vec<Backend>,
    iothreads: Vec<String>,
    devices: Vec<String>,
    /// Memory devices.
    dimms: Vec<Dimm>,
    /// CPUs that are devices of their own, and cores that are.
    plugged_cpus: u32,
    plugged_cores: u32,
    name: Option<String>,
    uuid: Option<String>,
    paused: bool,
    file_ram: Option<PathBuf>,
    xen: bool,
    console: machine::Console,
}

impl Parts {
    /// Reads all options. `None`: QEMU prints something and ends.
    fn read(argv: &[OsString]) -> Result<Option<Self>, String> {
        let program = argv.first().and_then(|program| Path::new(program).file_name());
        let mut parts = Self {
            arch: machine::arch(program.and_then(OsStr::to_str).unwrap_or_default()),
            ..Self::default()
        };
        for option in Words::of(argv) {
            let option = option?;
            if option.only_prints() {
                return Ok(None);
            }
            let (name, text) = (option.name.as_str(), option.value.as_str());
            let value = match text {
                "" => String::new(),
                _ => format!(" {}", placer_engine::parse::excerpt(text.as_bytes())),
            };
            let at = |why: String| format!("-{name}{value}: {why}");
            parts.one(name, text, option.at).map_err(at)?;
        }
        let none = parts.machine.last("type").is_some_and(|machine| machine == "none");
        Ok((!none).then_some(parts))
    }

    fn one(&mut self, name: &str, text: &str, at: usize) -> Result<(), String> {
        if let Some(why) = machine::refused(name, text) {
            return Err(why.to_owned());
        }
        self.console.see(name);
        match name {
            "m" => self.memory.merge(Properties::parse(text, "size")),
            "smp" => self.smp.merge(Properties::parse(text, "cpus")),
            "machine" | "M" => self.machine(Properties::parse(text, "type")),
            "accel" => {
                let accelerator = Properties::parse(text, "accel");
                self.xen |= accelerator.last("accel") == Some("xen");
            }
            "numa" => self.numa.push(Properties::parse(text, "type")),
            "object" => self.object(&Properties::parse_or_json(text, "qom-type")?, text, at)?,
            "device" => self.device(&Properties::parse_or_json(text, "driver")?)?,
            "name" => {
                let said = Properties::parse(text, "guest");
                self.name = said.last("guest").map(str::to_owned).or(self.name.take());
            }
            // QEMU refuses any other text.
            "uuid"
                if text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) =>
            {
                self.uuid = Some(text.to_ascii_lowercase());
            }
            "global" => {
                // `DRIVER.PROPERTY=VALUE`, or with the driver as a property itself.
                let said = Properties::parse(text, "driver");
                let driver = text.split(['.', '=']).next().unwrap_or_default();
                self.console.has_device(said.last("driver").unwrap_or(driver));
            }
            "mem-path" => self.file_ram = Some(PathBuf::from(text)),
            "S" => self.paused = true,
            _ => {}
        }
        Ok(())
    }

    fn machine(&mut self, said: Properties) {
        for (key, value) in said.all() {
            if let Some(key) = key.strip_prefix("smp.") {
                self.smp.push(key, value);
            } else if let Some(key) = key.strip_prefix("memory.") {
                // Bytes here, where -m takes MiB.
                let bytes = value.ends_with(|last: char| last.is_ascii_digit());
                let value = if bytes { format!("{value}B") } else { value.to_owned() };
                self.memory.push(key, &value);
            }
        }
        self.machine.merge(said);
    }

    fn object(&mut self, object: &Properties, text: &str, at: usize) -> Result<(), String> {
        let kind = object.last("qom-type").unwrap_or_default();
        let id = object.last("id").unwrap_or_default().to_owned();
        match kind {
            "iothread" => self.iothreads.push(id),
            "memory-backend-ram"
            | "memory-backend-memfd"
            | "memory-backend-file"
            | "memory-backend-shm" => {
                let backend = memory::backend(object, id, at, text.starts_with('{'))?;
                self.backends.push(backend);
            }
            _ => {}
        }
        Ok(())
    }

    fn device(&mut self, device: &Properties) -> Result<(), String> {
        let driver = device.last("driver").unwrap_or_default();
        self.console.has_device(driver);
        if driver.starts_with("vfio-pci") {
            let sysfs = device.last("sysfsdev").and_then(|path| path.rsplit('/').next());
            self.devices.extend(device.last("host").or(sysfs).map(str::to_owned));
        }
        if let Some(backend) = device.last("memdev") {
            let node = device.last("node").map(values::number).transpose()?;
            // virtio-mem gives the guest this much of its backend, and more only when it is asked to.
            let used = driver.starts_with("virtio-mem").then(|| {
                device.last("requested-size").map_or(Ok(Bytes::ZERO), |text| values::size(text, 1))
            });
            self.dimms.push(Dimm { backend: backend.to_owned(), node, used: used.transpose()? });
        }
        self.plugged_cpus += u32::from(driver.ends_with("-cpu"));
        self.plugged_cores += u32::from(driver.ends_with("-spapr-cpu-core"));
        Ok(())
    }

    fn line(mut self, argv: &[OsString]) -> Result<Line, String> {
        let topology = topology::Topology::of(&self.smp, &self.arch)?;
        let maximum = topology.maximum;
        let plugged = topology.threads().saturating_mul(self.plugged_cores) + self.plugged_cpus;
        let current = topology.current.saturating_add(plugged).min(maximum);
        for dimm in &self.dimms {
            if let Some(found) = self.backends.iter_mut().find(|known| known.id == dimm.backend) {
                found.cell = dimm.node;
                found.size = dimm.used.map_or(found.size, |used| used.min(found.size));
            }
        }
        let cells = topology::cells(&self.numa, &topology, &self.backends)?;
        let (ram, size) = memory::ram(&self, &cells)?;
        let of_ram = |backend: &Backend| match &ram {
            Ram::Backend(id) => *id == backend.id,
            Ram::Cells => cells.iter().any(|cell| cell.backend.as_ref() == Some(&backend.id)),
            Ram::Plain(..) | Ram::Other => false,
        };
        let others = self.backends.iter().filter(|backend| !of_ram(backend));
        let memory = others.fold(size, |sum, backend| sum.saturating_add(backend.size));
        if memory.get() > 1 << 56 {
            return Err(format!("expected at most 64 PiB of memory, found {memory}"));
        }
        Ok(Line {
            argv: argv.to_vec(),
            name: self.name,
            uuid: self.uuid,
            cpus: CpuCount { maximum, current },
            die: topology.die(),
            memory,
            ram,
            cells,
            backends: self.backends,
            iothreads: self.iothreads,
            devices: self.devices,
            file_ram: self.file_ram.map(|path| (path, Pages::Ordinary)),
            paused: self.paused,
            monitor: self.console.default_monitor(),
        })
    }
}

#[cfg(test)]
mod tests;
