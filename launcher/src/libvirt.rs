//! Guests that libvirt starts: created paused, looked at thread by thread, then resumed.
//!
//! placer speaks to libvirt through `virsh`, one process a question, by argument lists and without a shell.
//! The definition goes to it as an open file that has no name. A guest that was created is destroyed
//! when anything fails before it is resumed ([`Created`] is dropped), also when placer is sent SIGINT,
//! SIGTERM or SIGHUP meanwhile, or is killed, and when libvirtd is killed and comes back (`guard.rs`).
//!
//! libvirt's LXC driver creates no paused guests: a container runs from the start, is looked at then, and
//! destroyed if it is not where it should be.

mod guard;
mod verify;
mod virsh;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use placer_engine::store::StateDir;

use crate::domain::{Domain, Placement};
use crate::error::LaunchError;
use crate::guest_lock::GuestLock;
use guard::Guard;
pub use verify::verify;
pub(crate) use virsh::{STATUS, Virsh};

/// A libvirt on this host: `qemu:///system`, `qemu:///session`, `lxc:///system`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    driver: Driver,
    session: bool,
}

/// What starts the guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// QEMU.
    Qemu,
    /// libvirt's own containers.
    Lxc,
}

impl Uri {
    /// Returns the libvirt that starts domains of a type when nothing else was asked for. `None`: placer starts
    /// none of that type.
    ///
    /// ```
    /// use placer_launcher::libvirt::Uri;
    /// assert_eq!(Uri::of("kvm").map(|uri| uri.to_string()).as_deref(), Some("qemu:///system"));
    /// assert_eq!(Uri::of("xen"), None);
    /// ```
    pub fn of(domain_type: &str) -> Option<Self> {
        let driver = match domain_type {
            "kvm" | "qemu" => Driver::Qemu,
            "lxc" => Driver::Lxc,
            _ => return None,
        };
        Some(Self { driver, session: false })
    }

    /// Returns what starts its guests.
    pub fn driver(&self) -> Driver {
        self.driver
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.driver, self.session) {
            (Driver::Qemu, false) => "qemu:///system",
            (Driver::Qemu, true) => "qemu:///session",
            (Driver::Lxc, _) => "lxc:///system",
        })
    }
}

impl FromStr for Uri {
    type Err = String;

    /// Other hosts are refused: their nodes are not this host's.
    fn from_str(text: &str) -> Result<Self, String> {
        let driver = |driver, session| Ok(Self { driver, session });
        match text {
            "qemu:///system" | "qemu+unix:///system" => driver(Driver::Qemu, false),
            "qemu:///session" | "qemu+unix:///session" => driver(Driver::Qemu, true),
            "lxc:///system" | "lxc+unix:///system" | "lxc:///" | "lxc://" => {
                driver(Driver::Lxc, false)
            }
            _ => Err("expected qemu:///system, qemu:///session or lxc:///system: placer starts \
                      guests on this host"
                .to_owned()),
        }
    }
}

/// A domain as libvirt keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its persistent definition.
    pub text: Vec<u8>,
    /// Whether the guest runs, or is paused.
    pub running: bool,
    /// Whether its next start restores a state that was saved, and the definition with it.
    pub saved: bool,
}

/// Takes the lock of the uuid that a definition has. The process that destroys its guest if placer is killed keeps it.
///
/// Errors: `EBUSY` if a guest of that uuid is being started by placer; else a lock cannot be had here.
pub fn lock(dir: &StateDir, domain: &Domain) -> Result<Option<GuestLock>, LaunchError> {
    domain.uuid().map(|uuid| GuestLock::of_uuid(dir, &uuid, domain.name())).transpose()
}

/// A libvirt that can be spoken to.
#[derive(Debug)]
pub struct Libvirt {
    uri: Uri,
    virsh: Virsh,
    runtime: PathBuf,
}

impl Libvirt {
    /// Finds virsh. From here on SIGINT, SIGTERM and SIGHUP are this value's to look at. `session` is the
    /// user's directory for sockets and the like (`XDG_RUNTIME_DIR`).
    ///
    /// Errors: virsh is not installed, with what else starts a guest.
    pub fn new(uri: Uri, session: Option<&Path>) -> Result<Self, LaunchError> {
        let runtime = match (uri.driver, uri.session, session) {
            (Driver::Lxc, ..) => PathBuf::from("/run/libvirt/lxc"),
            (Driver::Qemu, false, _) => PathBuf::from("/run/libvirt/qemu"),
            (Driver::Qemu, true, Some(dir)) => dir.join("libvirt/qemu/run"),
            (Driver::Qemu, true, None) => {
                let what = format!("find the guests of {uri}");
                return Err(LaunchError::seen(what, Errno::ENOENT, "XDG_RUNTIME_DIR is not set"));
            }
        };
        Self::with(uri, Path::new("virsh"), runtime)
    }

    /// As [`new`](Self::new), with another virsh and another directory of pid files.
    pub fn with(uri: Uri, virsh: &Path, runtime: PathBuf) -> Result<Self, LaunchError> {
        let virsh = Virsh::find(virsh, uri.to_string())?;
        Ok(Self { uri, virsh, runtime })
    }

    /// Creates a domain from its placed definition: paused, unless it is a container.
    ///
    /// The lock is of its uuid: no second launcher creates it while this one, or what is left of it, may destroy it.
    ///
    /// Errors: libvirt's own words; a signal that came meanwhile. Nothing is left of the domain then.
    pub fn create<'a>(
        &'a self,
        domain: &'a Domain,
        placement: &Placement,
        lock: Option<&GuestLock>,
    ) -> Result<Created<'a>, LaunchError> {
        let (text, uuid) = domain.for_libvirt(placement)?;
        let mut arguments = vec!["create"];
        if self.uri.driver == Driver::Qemu {
            arguments.push("--paused");
        }
        arguments.push("/dev/stdin");
        let what = format!("create guest {} through {}", domain.name(), self.uri);
        let name = domain.name().as_str();
        // libvirt keeps the state of each guest that runs or is paused in such a file.
        let state = self.runtime.join(format!("{name}.xml"));
        if domain.uuid().is_some() && state.try_exists().unwrap_or(true) {
            self.check_inactive(&what, &uuid)?;
        }
        let uri = self.uri.to_string();
        let guard = Guard::start(self.virsh.program(), &uri, &uuid, name, lock);
        // Without one a guest is started all the same.
        let guard = guard.inspect_err(|error| eprintln!("placer: {error}")).ok();
        let output = guard.as_ref().and_then(Guard::output);
        let ran = self.virsh.run(&what, &arguments, Some(&text), output);
        if let Err(error) = ran {
            // A libvirtd that ended meanwhile may have begun; one that has refused has not.
            if let Some(guard) = guard
                && !virsh::lost(&error)
            {
                guard.keep();
            }
            return Err(error);
        }
        let mut created = Created { libvirt: self, domain, uuid, pid: 0, guard, kept: false };
        self.virsh.interrupted(&what)?;
        created.pid = created.read_pid()?;
        Ok(created)
    }

    /// Checks that a domain neither runs nor is paused: the guard would take it for the one that is created.
    fn check_inactive(&self, what: &str, uuid: &str) -> Result<(), LaunchError> {
        match self.virsh.run(what, &["domstate", uuid], None, None) {
            Ok(state) => match String::from_utf8_lossy(&state).trim() {
                "" | "shut off" | "crashed" => Ok(()),
                state => {
                    let seen = format!("a guest of its uuid {uuid} is in state {state:?}");
                    Err(LaunchError::seen(what, Errno::EBUSY, seen))
                }
            },
            Err(error) if error.to_string().contains("failed to get domain") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Defines a domain for good, or anew, by its placed definition. Nothing is started.
    ///
    /// Errors: libvirt's own words.
    pub fn define(&self, domain: &Domain, placement: &Placement) -> Result<(), LaunchError> {
        let what = format!("define guest {} through {}", domain.name(), self.uri);
        let text = domain.for_define(placement);
        self.virsh.run(&what, &["define", "/dev/stdin"], Some(&text), None).map(drop)
    }

    /// Reads the persistent definition of a domain, by its name or uuid, with its passwords.
    ///
    /// Errors: libvirt's own words; it has none, since the domain ends with its guest.
    pub fn stored(&self, name: &str) -> Result<Stored, LaunchError> {
        let what = format!("read the definition of guest {name} from {}", self.uri);
        let about = self.virsh.run(&what, &["dominfo", "--domain", name], None, None)?;
        let about = String::from_utf8_lossy(&about).into_owned();
        let says = |key: &str| {
            let line = about.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.strip_prefix(':')).map(str::trim).unwrap_or_default()
        };
        if says("Persistent") != "yes" {
            let seen = "it is transient: libvirt keeps no definition of it";
            let error = LaunchError::seen(what, Errno::ENOENT, seen);
            return Err(error.hint("define it first: virsh dumpxml, then virsh define"));
        }
        // virsh takes a number for the id of a guest first, and its name may be another guest's.
        let uuid = says("UUID");
        if says("Name") != name && !uuid.eq_ignore_ascii_case(name) {
            let seen = format!("virsh found guest {:?} (uuid {uuid})", says("Name"));
            let error = LaunchError::seen(what, Errno::EINVAL, seen);
            return Err(error.hint("name the guest by its uuid"));
        }
        let arguments = ["dumpxml", "--inactive", "--security-info", "--domain", uuid];
        let text = self.virsh.run(&what, &arguments, None, None)?;
        let running = !matches!(says("State"), "shut off" | "crashed");
        Ok(Stored { text, running, saved: says("Managed save") == "yes" })
    }

    /// Returns what a launch does with a domain, a line each; `define`: it is defined and not started.
    pub fn steps(uri: &Uri, domain: &Domain, placement: &Placement, define: bool) -> Vec<String> {
        let mut steps = vec![format!("cpus    {}", placement.cpus)];
        steps.extend(placement.mode.map(|mode| format!("memory  {mode} on {}", placement.nodes)));
        let cells = placement.cells.iter();
        steps.extend(cells.map(|(cell, nodes)| format!("cell    {cell} on {nodes}")));
        let vcpus = placement.vcpus.iter();
        steps.extend(vcpus.map(|(vcpu, cpus)| format!("pin     vCPU {vcpu} to {cpus}")));
        let iothreads = placement.iothreads.iter();
        steps.extend(iothreads.map(|(id, cpus)| format!("pin     I/O thread {id} to {cpus}")));
        let emulator = placement.emulator.iter();
        steps.extend(emulator.map(|cpus| format!("pin     other threads to {cpus}")));
        let name = domain.name();
        match uri.driver {
            _ if define => steps.push(format!("define  {name} through {uri}")),
            Driver::Qemu => steps.extend([
                format!("create  {name}, paused, through {uri}"),
                "verify  the CPUs of each thread, and the memory policy".to_owned(),
                format!("resume  {name}"),
            ]),
            Driver::Lxc => steps.extend([
                format!("create  {name} through {uri}"),
                "verify  the CPUs and the memory of its processes".to_owned(),
            ]),
        }
        steps
    }
}

/// A domain that libvirt has created, and that placer has not yet let go. Dropped, it is destroyed.
#[derive(Debug)]
pub struct Created<'a> {
    libvirt: &'a Libvirt,
    domain: &'a Domain,
    uuid: String,
    pid: u32,
    guard: Option<Guard>,
    kept: bool,
}

impl Created<'_> {
    /// Returns the pid of QEMU, or of the container's controller.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the guest run. It is libvirt's from here on.
    ///
    /// Errors: libvirt's own words, or a signal that came before. The guest is destroyed then.
    pub fn resume(mut self) -> Result<(), LaunchError> {
        let what = format!("resume guest {}", self.domain.name());
        self.libvirt.virsh.interrupted(&what)?;
        if self.libvirt.uri.driver == Driver::Qemu {
            self.libvirt.virsh.run(&what, &["resume", &self.uuid], None, None)?;
        }
        self.kept = true;
        if let Some(guard) = self.guard.take() {
            guard.keep();
        }
        Ok(())
    }

    fn read_pid(&self) -> Result<u32, LaunchError> {
        let path = self.libvirt.runtime.join(format!("{}.pid", self.domain.name()));
        let what = format!("find the process of guest {}", self.domain.name());
        let text = fs::read_to_string(&path).map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            LaunchError::new(format!("{what}: read {}", path.display()), errno)
        })?;
        let pid = text.trim().parse().ok().filter(|&pid| pid > 1);
        pid.ok_or_else(|| {
            let seen = format!("{} holds no pid", path.display());
            LaunchError::seen(what, Errno::EINVAL, seen)
        })
    }
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let what = format!("destroy guest {}", self.domain.name());
            if self.guard.take().is_some_and(Guard::destroy) {
                return;
            }
            // There is no guard, it was killed, or it has given up.
            let destroy = ["destroy", self.uuid.as_str()];
            if let Err(error) = self.libvirt.virsh.run(&what, &destroy, None, None) {
                eprintln!("placer: {error}; virsh list --all shows whether it is left");
            }
        }
    }
}
