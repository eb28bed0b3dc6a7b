//! hwloc as the second source: what sysfs describes less well.
//!
//! [`Hwloc`] is a plain value: where devices are attached, memory attributes, caches, packages.
//! Advice never waits for it. hwloc takes some ms on a real machine, so [`HwlocLoader`] reads it
//! once, on a thread of its own.
//!
//! # Why a child process
//!
//! Two settings reach hwloc (2.9) through environment variables alone, and these belong to the
//! whole process:
//!
//! - **No plugins.** `hwloc_topology_init` opens every shared object of its plugin directory
//!   (on Debian 12 OpenCL, X11, libxml2, libpciaccess and more: 21) before anyone can say which
//!   components to use. `HWLOC_COMPONENTS` and `hwloc_topology_set_components` only choose among what has been
//!   opened already; `HWLOC_PLUGINS_PATH` alone keeps them out.
//! - **Another root**, for recorded machines: `HWLOC_FSROOT`.
//!
//! A program with threads cannot change its environment safely. So `Hwloc::load`, which reads in
//! this process, refuses with [`HwlocError::Environment`] unless the variables of [`environment`]
//! were set when the process was started; and [`Hwloc::load_with`] asks a [`Helper`], a child with
//! the right environment that calls `serve`. Many roots can be read side by side that way, and a
//! machine on which hwloc aborts (in debug builds hwlocality calls `hwloc_topology_check`, which
//! asserts) costs the child, not the program.
//!
//! `Hwloc::load` and `serve` are the only parts that link libhwloc; they need the feature `hwloc`.
//! A program that asks a child builds without it.

mod compare;
#[cfg(feature = "hwloc")]
mod library;

#[cfg(feature = "hwloc")]
pub use library::serve;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::SysRoot;
use crate::distance::Distances;
use crate::ids::{Id, NodeId};
use crate::idset::{CpuSet, IdSet, NodeSet};
use crate::parse;
use crate::units::Bytes;

/// What hwloc reports about one host: plain data, read once.
///
/// Ids are the kernel's (hwloc's "os_index"). Lists keep hwloc's order, from one end of the machine
/// to the other, unless they say otherwise. Everything online is in it, also what this process may
/// not use: see [`allowed_cpus`](Self::allowed_cpus).
///
/// ```
/// use placer_engine::source::hwloc::Hwloc;
/// let text = r#"{"nodes":[{"id":0,"cpus":"0-3","memory":1073741824,"subtype":null}],
///   "cpus":"0-3", "allowed_cpus":"0-3", "allowed_nodes":"0", "distances":null,
///   "packages":["0-3"], "cores":["0-1","2-3"], "caches":[], "attributes":[],
///   "devices":[{"address":"0000:45:00.0","class":512,"vendor":5555,"product":1,"name":null,
///               "os":[{"name":"eth0","kind":"network"}],"cpus":"0-3","nodes":"0"}]}"#;
/// let facts = Hwloc::from_json(text.as_bytes())?;
/// let card = facts.device("eth0").expect("a device of this name");
/// assert_eq!(card.nodes.to_string(), "0");
/// assert_eq!(facts.device("45:00.0"), Some(card));
/// assert_eq!(facts.node(placer_engine::NodeId(0)).map(|node| node.cpus.len()), Some(4));
/// # Ok::<(), placer_engine::source::hwloc::HwlocError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hwloc {
    /// The nodes, in ascending order of ids.
    pub nodes: Vec<HwlocNode>,
    /// All online CPUs. hwloc leaves out those without a `topology` directory.
    #[serde(with = "as_list")]
    pub cpus: CpuSet,
    /// The CPUs that cgroups let this process use. On a recorded machine: by its own `proc/self`.
    #[serde(with = "as_list")]
    pub allowed_cpus: CpuSet,
    /// The nodes that cgroups let this process use.
    #[serde(with = "as_list")]
    pub allowed_nodes: NodeSet,
    /// The kernel's distances as hwloc passes them on (`node<N>/distance`). `None` with one node,
    /// with fewer rows or columns than nodes, and on Knights Landing, where hwloc uses them up to
    /// find out which MCDRAM belongs to which cluster. A second opinion, no replacement.
    #[serde(with = "as_table")]
    pub distances: Option<Distances>,
    /// The CPUs of each package (socket).
    #[serde(with = "as_lists")]
    pub packages: Vec<CpuSet>,
    /// The CPUs of each core: its hardware threads.
    #[serde(with = "as_lists")]
    pub cores: Vec<CpuSet>,
    /// The caches of data and the unified ones, and caches of memory; no instruction caches.
    pub caches: Vec<Cache>,
    /// The memory attributes that have values, in hwloc's order.
    pub attributes: Vec<MemoryAttribute>,
    /// The devices, PCI first.
    pub devices: Vec<Device>,
}

/// One NUMA node, as hwloc sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HwlocNode {
    /// The kernel's id.
    #[serde(with = "as_id")]
    pub id: NodeId,
    /// The CPUs the memory is near to. Locality, **not ownership**: hwloc gives a node without CPUs
    /// those of the nodes that it sits beside, so that several nodes have the same CPUs. Which CPUs
    /// belong to a node is what [`Topology`](crate::Topology) says.
    #[serde(with = "as_list")]
    pub cpus: CpuSet,
    /// The node's memory (`MemTotal`), `None` when it has none or does not tell.
    #[serde(with = "as_bytes")]
    pub memory: Option<Bytes>,
    /// The kind of memory where hwloc knows one: `MCDRAM`, `HBM`, `DRAM`, `NVM`, `SPM`,
    /// `GPUMemory`, ...
    pub subtype: Option<String>,
}

/// One cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// 1 is the nearest to the core.
    pub level: u8,
    /// What it holds.
    pub kind: CacheKind,
    /// Its size, `None` if it is not known.
    #[serde(with = "as_bytes")]
    pub size: Option<Bytes>,
    /// The CPUs that share it.
    #[serde(with = "as_list")]
    pub cpus: CpuSet,
}

/// What a [`Cache`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// Data alone.
    Data,
    /// Data and instructions.
    Unified,
    /// Memory of a farther node: it lies in front of the memory, not behind the CPUs
    /// (`node<N>/memory_side_cache`).
    MemorySide,
}

/// A measure of memory, with its value for each node and where it is seen from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryAttribute {
    /// hwloc's name: `Capacity` (bytes), `Locality` (CPUs that are near), `Bandwidth`,
    /// `ReadBandwidth`, `WriteBandwidth` (MiB/s), `Latency`, `ReadLatency`, `WriteLatency` (ns).
    pub name: String,
    /// Whether more is better: bandwidth and capacity, but not latency.
    pub higher_is_better: bool,
    /// The values. The kernel reports those of a node from its best initiator only
    /// (`node<N>/access0/initiators`), so that most pairs are missing.
    pub values: Vec<AttributeValue>,
}

/// One value of a [`MemoryAttribute`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeValue {
    /// The node whose memory is meant.
    #[serde(with = "as_id")]
    pub node: NodeId,
    /// The CPUs from where it is seen, `None` for measures that are the same from everywhere.
    #[serde(with = "as_optional_list")]
    pub initiator: Option<CpuSet>,
    /// The value, in the unit of the attribute.
    pub value: u64,
}

/// One device: a PCI function with the names the system has for it, or a device without PCI.
///
/// Source: `/sys/bus/pci/devices/*/local_cpus`, `/sys/class/{net,block,drm,infiniband,dma,...}`.
/// hwloc 2 leaves out PCI domains past `ffff` (Intel VMD).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its PCI address, as the kernel writes it: `0000:45:00.0`. `None` for other devices.
    pub address: Option<String>,
    /// The PCI class, base and sub: `0x0200` is an Ethernet controller. `None` for other devices.
    pub class: Option<u16>,
    /// The PCI vendor, `None` for other devices.
    pub vendor: Option<u16>,
    /// The vendor's id of the device, `None` for other devices.
    pub product: Option<u16>,
    /// hwloc's name for the device, if it has one (names of products come with plugins alone).
    pub name: Option<String>,
    /// The names the system has for it: `eth0`, `nvme0n1`, `card0`, ...
    pub os: Vec<OsDevice>,
    /// The CPUs that are near to it. All of the machine when the kernel does not tell
    /// (`numa_node` is -1): then nothing is known, not "near to everything".
    #[serde(with = "as_list")]
    pub cpus: CpuSet,
    /// The nodes that are near to it, memory-only ones included. All when the kernel does not tell.
    #[serde(with = "as_list")]
    pub nodes: NodeSet,
}

/// A name the system has for a [`Device`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsDevice {
    /// As in `/sys/class`: `eth0`, `sda`, `mlx5_0`, `card0`.
    pub name: String,
    /// What kind of device it is.
    pub kind: OsDeviceKind,
}

/// What an [`OsDevice`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OsDeviceKind {
    /// A disk, also memory used as one (`pmem0`, `dax2.0`).
    Block,
    /// A graphics card.
    Gpu,
    /// A network interface.
    Network,
    /// InfiniBand or the like.
    OpenFabrics,
    /// An engine that copies memory.
    Dma,
    /// An accelerator.
    Coprocessor,
    /// Something this version does not know.
    Other,
}

impl Hwloc {
    /// Reads a host with hwloc in a child process with the right environment, and waits for it.
    ///
    /// Errors: [`HwlocError::Root`], and the `Helper...` ones when the child cannot be started,
    /// fails, answers too late, too much or not in the agreed form. The child has ended in any case.
    ///
    /// ```no_run
    /// use placer_engine::SysRoot;
    /// use placer_engine::source::hwloc::{self, Helper, Hwloc};
    ///
    /// # #[cfg(feature = "hwloc")] {
    /// if std::env::args().nth(1).as_deref() == Some("hwloc-facts") {
    ///     return Ok(hwloc::serve(std::io::stdout())?); // this process is the child
    /// }
    /// # }
    /// let helper = Helper::new(std::env::current_exe()?).arg("hwloc-facts");
    /// let facts = Hwloc::load_with(&SysRoot::at("sysfs-fixtures/ring-4"), &helper)?;
    /// println!("{} nodes", facts.nodes.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_with(root: &SysRoot, helper: &Helper) -> Result<Self, HwlocError> {
        helper.run(root, None)
    }

    /// Returns one node.
    pub fn node(&self, id: NodeId) -> Option<&HwlocNode> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// Returns the attribute of a name, such as `Latency`; `None` when the host has no values of it.
    pub fn attribute(&self, name: &str) -> Option<&MemoryAttribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// Finds a device by the system's name for it (`eth0`) or its PCI address, with or without the
    /// domain `0000` (`0000:45:00.0`, `45:00.0`), in either case of letters.
    pub fn device(&self, name: &str) -> Option<&Device> {
        let address =
            if name.matches(':').count() == 1 { format!("0000:{name}") } else { name.to_owned() };
        self.devices.iter().find(|device| {
            device.os.iter().any(|os| os.name == name)
                || device.address.as_ref().is_some_and(|a| a.eq_ignore_ascii_case(&address))
        })
    }

    /// Returns the facts as one JSON object: lists of ids as text, memory in bytes. What
    /// [`from_json`](Self::from_json) reads.
    ///
    /// Errors: none that can happen with these types; passed on rather than hidden.
    pub fn to_json(&self) -> Result<String, HwlocError> {
        serde_json::to_string(self).map_err(HwlocError::Json)
    }

    /// Reads facts from JSON, as [`to_json`](Self::to_json) and `serve` write them.
    ///
    /// Errors: [`HwlocError::Json`] with line and column.
    pub fn from_json(text: &[u8]) -> Result<Self, HwlocError> {
        let mut facts: Self = serde_json::from_slice(text).map_err(HwlocError::Json)?;
        facts.nodes.sort_by_key(|node| node.id);
        facts.nodes.dedup_by_key(|node| node.id);
        Ok(facts)
    }
}

// ---- the environment hwloc is told everything through

/// A path under which there are no plugins, whatever hwloc was built with.
const NO_PLUGINS: &str = "/dev/null";
/// What would make hwloc describe something else than the machine that was asked for.
const MISLEADING: [&str; 3] = ["HWLOC_XMLFILE", "HWLOC_SYNTHETIC", "HWLOC_CPUID_PATH"];

/// Returns the variables a process must have from its start for `Hwloc::load` to read `root` in
/// it: name, and value or `None` for one that must not be set.
///
/// - `HWLOC_PLUGINS_PATH=/dev/null`: no shared object is opened. (`HWLOC_COMPONENTS` does not keep
///   plugins from being loaded, only from being asked.)
/// - `HWLOC_COMPONENTS=linux,stop`: only the kernel's files are read. The `x86` component would
///   bind the calling thread to each CPU in turn to ask it for its cpuid.
/// - `HWLOC_KEEP_NVIDIA_GPU_NUMA_NODES=1`: else the memory nodes of NVIDIA GPUs are left out.
/// - Recorded machines: `HWLOC_FSROOT`, and `HWLOC_THISSYSTEM=0`, so that nothing is asked of the
///   machine this runs on. Both must not be set for the live one.
/// - `HWLOC_XMLFILE`, `HWLOC_SYNTHETIC`, `HWLOC_CPUID_PATH` must not be set.
///
/// What an administrator may have set to mend a live machine (`HWLOC_PCI_LOCALITY`) stays.
///
/// Errors: [`HwlocError::Root`] when the directory of a recorded machine cannot be found.
///
/// ```
/// use placer_engine::{SysRoot, source::hwloc};
/// let live = hwloc::environment(&SysRoot::live())?;
/// assert!(live.contains(&("HWLOC_PLUGINS_PATH", Some("/dev/null".into()))));
/// assert!(live.contains(&("HWLOC_FSROOT", None)));
/// # Ok::<(), hwloc::HwlocError>(())
/// ```
pub fn environment(root: &SysRoot) -> Result<Vec<(&'static str, Option<OsString>)>, HwlocError> {
    let (dir, this_system) = if root.is_live() {
        (None, None)
    } else {
        // hwloc takes the root as it stands, so it must not depend on the working directory.
        let dir = root.dir();
        let full = dir.canonicalize().and_then(|full| {
            if full.is_dir() { Ok(full) } else { Err(io::ErrorKind::NotADirectory.into()) }
        });
        let full = full.map_err(|source| HwlocError::Root { path: dir.to_owned(), source })?;
        (Some(full.into_os_string()), Some("0".into()))
    };
    let mut variables = vec![
        ("HWLOC_PLUGINS_PATH", Some(NO_PLUGINS.into())),
        ("HWLOC_COMPONENTS", Some("linux,stop".into())),
        ("HWLOC_KEEP_NVIDIA_GPU_NUMA_NODES", Some("1".into())),
        ("HWLOC_FSROOT", dir),
        ("HWLOC_THISSYSTEM", this_system),
    ];
    variables.extend(MISLEADING.map(|name| (name, None)));
    Ok(variables)
}

// ---- the child that has the right environment

/// How to start a child process that calls `serve`: usually this very program, with an argument
/// by which it knows what it is there for.
#[derive(Clone, Debug)]
pub struct Helper {
    program: PathBuf,
    args: Vec<OsString>,
    limit: Duration,
}

impl Helper {
    /// The facts of the largest machines seen are below 1 MiB.
    const MOST: usize = 64 << 20;
    /// The part of the child's stderr that is kept, in bytes.
    const COMPLAINT: usize = 4 << 10;

    /// Returns a helper that is this program, without arguments, with a time limit of 10 s.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), limit: Duration::from_secs(10) }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets how long the child may take. It is killed afterwards.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts the child and takes its answer. Ends early when the other end of `cancel` is closed.
    fn run(&self, root: &SysRoot, cancel: Option<&UnixStream>) -> Result<Hwloc, HwlocError> {
        let program = || self.program.clone();
        let io = |source| HwlocError::HelperIo { program: program(), source };
        let deadline = Instant::now().checked_add(self.limit);
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        if !root.is_live() {
            // What was set for the live machine has nothing to say about a recorded one.
            for (name, _) in env::vars_os().filter(|(name, _)| is_hwloc(name)) {
                command.env_remove(name);
            }
        }
        for (name, value) in environment(root)? {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(io)?;
        let mut child = Ended(child);
        let (mut answer, mut complaint) = (Vec::new(), Vec::new());
        let mut out = child.0.stdout.take();
        let mut err = child.0.stderr.take();
        let mut piece = vec![0; 64 << 10];
        while out.is_some() || err.is_some() {
            let ready = wait_for(
                [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)],
                cancel,
                deadline,
            );
            let [out_ready, err_ready] = match ready.map_err(io)? {
                Woken::Ready(ready) => ready,
                Woken::Late => {
                    return Err(HwlocError::HelperLate { program: program(), limit: self.limit });
                }
                Woken::Cancelled => return Err(HwlocError::Cancelled),
            };
            if out_ready && let Some(pipe) = &mut out {
                match read_some(pipe, &mut piece).map_err(io)? {
                    Some(0) => out = None,
                    n => answer.extend_from_slice(&piece[..n.unwrap_or(0)]),
                }
                if answer.len() > Self::MOST {
                    let limit = Self::MOST;
                    return Err(HwlocError::HelperTooLong { program: program(), limit });
                }
            }
            if err_ready && let Some(pipe) = &mut err {
                match read_some(pipe, &mut piece).map_err(io)? {
                    Some(0) => err = None,
                    n => complaint.extend_from_slice(&piece[..n.unwrap_or(0)]),
                }
                complaint.truncate(Self::COMPLAINT);
            }
        }
        // Both pipes are closed, so that it is about to end: looked for, never waited for blindly.
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(io)? {
                break status;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(HwlocError::HelperLate { program: program(), limit: self.limit });
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        if !status.success() {
            let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
            let status = status.to_string();
            return Err(HwlocError::HelperFailed { program: program(), status, complaint });
        }
        match Hwloc::from_json(&answer) {
            Err(HwlocError::Json(source)) => {
                Err(HwlocError::HelperAnswer { program: program(), source })
            }
            other => other,
        }
    }
}

fn is_hwloc(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"HWLOC_")
}

/// Reads once. `None` when a signal came first.
fn read_some(pipe: &mut impl io::Read, piece: &mut [u8]) -> io::Result<Option<usize>> {
    match pipe.read(piece) {
        Ok(n) => Ok(Some(n)),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(e) => Err(e),
    }
}

/// A child that is gone when this is.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum Woken {
    /// Which of the pipes have something to read, or have come to their end.
    Ready([bool; 2]),
    Late,
    Cancelled,
}

fn wait_for(
    pipes: [Option<std::os::fd::BorrowedFd<'_>>; 2],
    cancel: Option<&UnixStream>,
    deadline: Option<Instant>,
) -> io::Result<Woken> {
    let fds = pipes.into_iter().chain([cancel.map(AsFd::as_fd)]);
    let (places, mut fds): (Vec<usize>, Vec<PollFd<'_>>) = fds
        .enumerate()
        .filter_map(|(place, fd)| Some((place, PollFd::new(fd?, PollFlags::POLLIN))))
        .unzip();
    let timeout = match deadline {
        None => PollTimeout::NONE,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Woken::Late);
            }
            // Rounded up, so that the last part of a millisecond is not spun away.
            let ms = left.as_millis().saturating_add(1);
            PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Woken::Ready([false; 2])),
        Err(e) => return Err(e.into()),
    }
    let woken = |place: usize| {
        let at = places.iter().position(|p| *p == place);
        at.and_then(|at| fds.get(at)?.any()).unwrap_or(false)
    };
    Ok(if woken(2) { Woken::Cancelled } else { Woken::Ready([woken(0), woken(1)]) })
}

// ---- off the way of every answer

/// Reads a host with hwloc in the background, once.
///
/// No caller has to wait for it: [`try_get`](Self::try_get) never blocks. Dropping it ends its thread:
/// a child is killed, reading in this process is waited for (it cannot be interrupted, and a thread
/// left behind in hwloc would race with the end of the program).
///
/// ```no_run
/// use std::time::Duration;
/// use placer_engine::SysRoot;
/// use placer_engine::source::hwloc::{Helper, HwlocLoader};
///
/// let helper = Helper::new(std::env::current_exe()?).arg("hwloc-facts");
/// let loader = HwlocLoader::spawn_with(SysRoot::live(), helper);
/// match loader.try_get() {
///     None => println!("not yet"),
///     Some(Ok(facts)) => println!("{} devices", facts.devices.len()),
///     Some(Err(error)) => println!("without hwloc: {error}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct HwlocLoader {
    result: Arc<OnceLock<Result<Arc<Hwloc>, HwlocError>>>,
    /// Nothing is ever sent: it is closed when there is a result.
    done: Receiver<std::convert::Infallible>,
    /// Closed to call off the child.
    cancel: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl HwlocLoader {
    /// Begins reading through a child, as [`Hwloc::load_with`] does.
    pub fn spawn_with(root: SysRoot, helper: Helper) -> Self {
        match UnixStream::pair() {
            Ok((ours, theirs)) => {
                Self::start(Some((ours, theirs)), move |cancel| helper.run(&root, cancel))
            }
            Err(source) => Self::start(None, move |_| Err(HwlocError::Thread(source))),
        }
    }

    fn start(
        cancel: Option<(UnixStream, UnixStream)>,
        load: impl FnOnce(Option<&UnixStream>) -> Result<Hwloc, HwlocError> + Send + 'static,
    ) -> Self {
        let result = Arc::new(OnceLock::new());
        let (finished, done) = crossbeam_channel::bounded(0);
        let (cancel, called_off) = cancel.unzip();
        let slot = Arc::clone(&result);
        let thread = std::thread::Builder::new().name("placer-hwloc".to_owned()).spawn(move || {
            // hwlocality panics on answers of hwloc that it holds for impossible.
            let loaded = catch_unwind(AssertUnwindSafe(|| load(called_off.as_ref())))
                .unwrap_or(Err(HwlocError::Panicked));
            let _ = slot.set(loaded.map(Arc::new));
            drop(finished);
        });
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(source) => {
                let _ = result.set(Err(HwlocError::Thread(source)));
                None
            }
        };
        Self { result, done, cancel, thread }
    }

    /// Returns the facts or why there are none; `None` while they are being read. Never blocks.
    pub fn try_get(&self) -> Option<Result<&Arc<Hwloc>, &HwlocError>> {
        self.result.get().map(Result::as_ref)
    }

    /// Waits for the result until `timeout` has passed; then `None`.
    pub fn wait(&self, timeout: Duration) -> Option<Result<&Arc<Hwloc>, &HwlocError>> {
        if self.result.get().is_none() {
            // Closed or too late, both end the waiting.
            let _ = self.done.recv_timeout(timeout);
        }
        self.try_get()
    }
}

impl Drop for HwlocLoader {
    fn drop(&mut self) {
        self.cancel = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has become the result.
            let _ = thread.join();
        }
    }
}

// ---- errors

/// Why hwloc has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum HwlocError {
    /// The process was not started with the environment that reading in it needs.
    Environment {
        /// The variable.
        variable: &'static str,
        /// What it must be, `None` for not set.
        wanted: Option<OsString>,
        /// What it is.
        found: Option<OsString>,
    },
    /// The directory of a recorded machine cannot be found.
    Root {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// hwloc makes no sense of the host.
    Hwloc(Box<dyn std::error::Error + Send + Sync>),
    /// hwloc described another machine than the one asked for.
    OtherMachine {
        /// The directory of the one asked for.
        root: PathBuf,
    },
    /// hwlocality met an answer of hwloc that it holds for impossible.
    Panicked,
    /// No thread for the background could be had.
    Thread(io::Error),
    /// The loader was dropped before there was a result.
    Cancelled,
    /// The child could not be started or listened to.
    HelperIo {
        /// The child's program.
        program: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The child ended without success.
    HelperFailed {
        /// The child's program.
        program: PathBuf,
        /// How it ended.
        status: String,
        /// What it said on stderr, at most 4 KiB.
        complaint: String,
    },
    /// The child took too long, and was killed.
    HelperLate {
        /// The child's program.
        program: PathBuf,
        /// How long it was given.
        limit: Duration,
    },
    /// The child wrote without end, and was killed.
    HelperTooLong {
        /// The child's program.
        program: PathBuf,
        /// How many bytes were accepted.
        limit: usize,
    },
    /// The child's answer are no facts.
    HelperAnswer {
        /// The child's program.
        program: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A text are no facts.
    Json(serde_json::Error),
    /// The facts could not be written.
    Write(io::Error),
}

impl fmt::Display for HwlocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<OsString>| match value {
            Some(value) => format!("{value:?}"),
            None => "not set".to_owned(),
        };
        let name = |program: &Path| program.display().to_string();
        match self {
            Self::Environment { variable, wanted, found } => write!(
                f,
                "hwloc cannot be used in this process: expected {variable} to be {} when it was \
                 started, found {}",
                shown(wanted),
                shown(found)
            ),
            Self::Root { path, .. } => write!(f, "cannot find the machine {}", path.display()),
            Self::Hwloc(_) => f.write_str("hwloc cannot read the machine"),
            Self::OtherMachine { root } => {
                write!(f, "hwloc described another machine than {}", root.display())
            }
            Self::Panicked => f.write_str("hwloc gave an answer that makes no sense"),
            Self::Thread(_) => f.write_str("cannot start a thread for hwloc"),
            Self::Cancelled => f.write_str("reading with hwloc was called off"),
            Self::HelperIo { program, .. } => {
                write!(f, "cannot run {} to read with hwloc", name(program))
            }
            Self::HelperFailed { program, status, complaint } => {
                write!(f, "{}, reading with hwloc: {status}", name(program))?;
                if complaint.is_empty() { Ok(()) } else { write!(f, ": {complaint}") }
            }
            Self::HelperLate { program, limit } => {
                write!(f, "{}, reading with hwloc: no answer within {limit:?}", name(program))
            }
            Self::HelperTooLong { program, limit } => write!(
                f,
                "{}, reading with hwloc: expected at most {limit} bytes, found more",
                name(program)
            ),
            Self::HelperAnswer { program, .. } => {
                write!(f, "{}, reading with hwloc: its answer cannot be parsed", name(program))
            }
            Self::Json(_) => f.write_str("the text is not an answer of hwloc"),
            Self::Write(_) => f.write_str("cannot write the facts of hwloc"),
        }
    }
}

impl std::error::Error for HwlocError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Root { source, .. } | Self::HelperIo { source, .. } => Some(source),
            Self::Thread(source) | Self::Write(source) => Some(source),
            Self::Hwloc(source) => Some(source.as_ref()),
            Self::HelperAnswer { source, .. } | Self::Json(source) => Some(source),
            _ => None,
        }
    }
}

// ---- our types in JSON: lists of ids as text, memory in bytes

mod as_list {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::{Id, IdSet, parse};

    pub(super) fn serialize<T: Id, S: Serializer>(ids: &IdSet<T>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(ids)
    }

    pub(super) fn deserialize<'de, T: Id, D: Deserializer<'de>>(
        d: D,
    ) -> Result<IdSet<T>, D::Error> {
        let text = String::deserialize(d)?;
        parse::list::parse(text.as_bytes()).map_err(D::Error::custom)
    }
}

/// For lists of lists, and for lists that may be missing.
#[derive(Serialize, Deserialize)]
struct Listed(#[serde(with = "as_list")] CpuSet);

mod as_lists {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{CpuSet, Listed};

    pub(super) fn serialize<S: Serializer>(lists: &[CpuSet], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(lists.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<CpuSet>, D::Error> {
        Ok(Vec::<Listed>::deserialize(d)?.into_iter().map(|list| list.0).collect())
    }
}

mod as_optional_list {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{CpuSet, Listed};

    pub(super) fn serialize<S: Serializer>(ids: &Option<CpuSet>, s: S) -> Result<S::Ok, S::Error> {
        ids.as_ref().map(ToString::to_string).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<CpuSet>, D::Error> {
        Ok(Option::<Listed>::deserialize(d)?.map(|list| list.0))
    }
}

mod as_id {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::NodeId;

    pub(super) fn serialize<S: Serializer>(id: &NodeId, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u32(id.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<NodeId, D::Error> {
        u32::deserialize(d).map(NodeId)
    }
}

mod as_bytes {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Bytes;

    pub(super) fn serialize<S: Serializer>(n: &Option<Bytes>, s: S) -> Result<S::Ok, S::Error> {
        n.map(Bytes::get).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Bytes::new))
    }
}

mod as_table {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use super::{Distances, NodeId};

    /// As `show --json` has it: rows and columns in the order of `nodes`.
    #[derive(Serialize, Deserialize)]
    struct Table {
        nodes: Vec<u32>,
        matrix: Vec<Vec<u32>>,
    }

    pub(super) fn serialize<S: Serializer>(
        table: &Option<Distances>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let table = table.as_ref().map(|table| Table {
            nodes: table.nodes().iter().map(|node| node.0).collect(),
            matrix: table.rows().map(<[u32]>::to_vec).collect(),
        });
        table.serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Distances>, D::Error> {
        let Some(Table { nodes, matrix }) = Option::<Table>::deserialize(d)? else {
            return Ok(None);
        };
        let square = matrix.iter().all(|row| row.len() == nodes.len());
        let nodes = nodes.into_iter().map(NodeId).collect();
        let table = Distances::new(nodes, matrix.concat()).filter(|_| square);
        table
            .map(Some)
            .ok_or_else(|| D::Error::custom("expected a square table of ascending nodes"))
    }
}
