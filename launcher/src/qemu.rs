//! Virtual machines of QEMU: started stopped, bound thread by thread, then continued.
//!
//! [`Launch`] holds all that was decided; a dry run shows its [steps](Launch::steps). A started launch
//! is first a process that waits at a gate ([`Waiting`]), so that a claim can be made for it, then QEMU
//! with its machine paused. Over a private control channel QEMU reports its threads; the launcher pins
//! each of them, checks all of them again, and resumes the machine.
//!
//! # What is left when a process dies
//!
//! | process, when it ends | what happens |
//! |---|---|
//! | the launcher, before the gate is opened | the child sees the end of its pipe, and ends |
//! | the launcher, between that and `cont` | the kernel kills QEMU by its lifeline, see below |
//! | the launcher, after that | the machine runs on, bound as it is; it has no parent |
//! | QEMU, before `cont` | its channel ends: the launch fails, and says how QEMU ended |
//! | QEMU, after that | [`Started::wait`](crate::Started::wait) returns how |
//! | QEMU hangs before `cont` | the time limit: it is ended by `quit`, or SIGTERM, or SIGKILL |
//!
//! The lifeline is a pipe whose writing end the launcher alone has. The kernel kills QEMU
//! when the pipe ends (`O_ASYNC`, with SIGKILL for its signal). Unlike a parent-death signal this can
//! be taken back from outside, as the flag belongs to the open file that both processes share; and
//! there is no third process that could itself be killed. A launcher that dies just after `cont`
//! and before taking it back takes the machine along: it had not been reported as started.

mod args;
mod bind;
mod emit;
mod lifeline;
mod line;
mod memory;
pub mod pins;
mod plugged;
mod qmp;
pub mod shape;
mod split;
mod start;

use std::ffi::OsString;

use nix::errno::Errno;
use placer_engine::{Advice, Bytes, CpuSet, Snapshot};

pub use emit::{cloud_hypervisor, emit, proxmox};
pub use start::Waiting;

use crate::Binding;
use crate::error::LaunchError;
use crate::guest::line::Line;
use crate::guest::{Guest, Program};
use crate::guest_lock;
use crate::step::{Step, Thread};
use line::Placed;
use pins::ThreadCpus;
use shape::Shape;

/// A machine, and all that was decided about it. A value: nothing is started by making it.
///
/// ```
/// use placer_engine::{Bytes, Request, Snapshot, SysRoot, advise};
/// use placer_launcher::guest::{Guest, Program, Qemu};
/// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
/// # if !std::path::Path::new(dir).exists() { return Ok(()); }
/// let snapshot = Snapshot::take(&SysRoot::at(dir), std::time::Duration::ZERO)?;
/// let mut guest = Guest::new("web".parse()?, Program::Qemu(Qemu::default()));
/// guest.memory.maximum = Bytes::new(64 << 20);
/// guest.memory.current = guest.memory.maximum;
/// let advice = advise(&snapshot, &"1:64".parse::<Request>()?)?;
/// let launch = placer_launcher::qemu::Launch::new(&guest, Some(&advice), &snapshot)?;
/// launch.steps().iter().for_each(|step| println!("{step}"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    guest: Guest,
    /// Its command line: the user's own, or that of its definition.
    line: Line,
    /// What is added to that.
    added: line::Added,
    /// What is claimed.
    advice: Advice,
    shape: Shape,
    threads: ThreadCpus,
}

impl Launch {
    /// Decides everything about a machine. The advice says where it goes, and nothing about what it is.
    ///
    /// Errors: the guest is no machine; a size that does not divide into its parts; CPUs named by hand
    /// that this host does not have; arguments under which it could not be followed.
    pub fn new(
        guest: &Guest,
        advice: Option<&Advice>,
        snapshot: &Snapshot,
    ) -> Result<Self, LaunchError> {
        let refuse = |seen| {
            let what = format!("start guest {} with QEMU", guest.name);
            Err(LaunchError::seen(what, Errno::EINVAL, seen))
        };
        let line = match &guest.program {
            Program::Qemu(qemu) => args::line(guest, qemu)?,
            Program::Line(line) => (**line).clone(),
            _ => return refuse("it is not a virtual machine"),
        };
        let Some(advice) = advice else { return refuse("there is no advice for it") };
        let Placed { shape, advice, added } = Placed::of(guest, &line, advice, snapshot)?;
        let count = u32::try_from(line.iothreads.len()).unwrap_or(u32::MAX);
        let threads = ThreadCpus::of(guest, count, Some(&advice), snapshot, &shape)?;
        Ok(Self { guest: guest.clone(), line, shape, threads, added, advice })
    }

    /// Returns the advice with what the machine is expected to carry on each node: that is what is claimed.
    pub fn charged(&self) -> &Advice {
        &self.advice
    }

    /// Returns the machine's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns where its threads run.
    pub fn threads(&self) -> &ThreadCpus {
        &self.threads
    }

    /// Returns what a person should know about it.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.shape.notes.iter().chain(&self.threads.notes).map(String::as_str)
    }

    /// Returns the binding of all its threads together, for a control group that is to hold them.
    pub fn binding(&self) -> Binding {
        let own = [&self.threads.process, &self.threads.emulator];
        let all = self.threads.vcpus.iter().chain(&self.threads.iothreads).chain(own);
        Binding {
            cpus: all.fold(CpuSet::new(), |all, cpus| all.union(cpus)),
            memory: self.shape.memory.clone(),
            preferred: self.shape.preferred.clone(),
            mode: self.shape.mode,
        }
    }

    /// Returns what is done, in order. The numbers of the descriptors are those of a process
    /// that has no others; a launch takes what is free.
    pub fn steps(&self) -> Vec<Step> {
        let locks = (5..).zip(guest_lock::names(&self.guest)).map(|(fd, _)| fd);
        let mut steps = self.own_steps(3, 4, locks);
        steps.extend(self.outer_steps());
        steps
    }

    /// What the process does that becomes QEMU.
    fn own_steps(
        &self,
        channel: i32,
        lifeline: i32,
        locks: impl Iterator<Item = i32>,
    ) -> Vec<Step> {
        let binding = Binding { cpus: self.threads.process.clone(), ..self.binding() };
        let mut steps = binding.steps(self.argv(channel));
        let exec = steps.pop();
        if let Program::Qemu(qemu) = &self.guest.program {
            steps.push(Step::CloseOthers);
            let named = args::named_descriptors(&qemu.args).into_iter();
            steps.extend(named.map(|fd| Step::Keep { fd, what: "named in args" }));
        }
        steps.push(Step::Keep { fd: channel, what: "QEMU's control channel" });
        steps.push(Step::Keep { fd: lifeline, what: "ends QEMU with the launcher until it runs" });
        let what = "keeps the guest from being started twice";
        steps.extend(locks.map(|fd| Step::Keep { fd, what }));
        if let Program::Qemu(qemu) = &self.guest.program {
            steps.extend(qemu.user.clone().map(|name| Step::User { name }));
        }
        steps.extend(exec);
        steps
    }

    fn argv(&self, channel: i32) -> Vec<OsString> {
        self.added.argv(&self.line, channel)
    }

    /// Returns the number that a cell of its shape has in the machine.
    fn cell_id(&self, at: usize) -> u32 {
        self.line.cells.get(at).map_or(0, |cell| cell.id)
    }

    /// Returns whether the user wants the machine paused.
    fn stays_paused(&self) -> bool {
        self.line.paused
    }

    /// What is done to it from outside.
    fn outer_steps(&self) -> Vec<Step> {
        let present = (0..self.guest.cpus.current).zip(&self.threads.vcpus);
        let vcpus = present.map(|(vcpu, cpus)| (Thread::Vcpu(vcpu), cpus));
        let io = (1..).zip(&self.threads.iothreads).map(|(id, cpus)| (Thread::Io(id), cpus));
        let others = [(Thread::Emulator, &self.threads.emulator)];
        let pins = vcpus.chain(io).chain(others);
        let mut steps: Vec<Step> =
            pins.map(|(thread, cpus)| Step::Pin { thread, cpus: cpus.clone() }).collect();
        steps.extend(self.balloon().map(|size| Step::Balloon { size }));
        steps.extend((!self.stays_paused()).then_some(Step::Continue));
        steps
    }

    fn balloon(&self) -> Option<Bytes> {
        let memory = self.guest.memory;
        (memory.current < memory.maximum).then_some(memory.current)
    }
}
