//! Binds a machine that is still stopped, thread by thread, lets it run, or ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use placer_engine::CpuSet;
use serde::{Deserialize, Serialize};

use super::Launch;
use super::plugged::CpuThread;
use super::qmp::{Client, QmpError};
use crate::error::LaunchError;
use crate::gate::{Ended, Running};
use crate::step::{Step, Thread};
use crate::sys::{self, Mask};
use crate::vhost;

/// How long QEMU may take to end by itself when it was asked to.
pub(super) const TO_QUIT: Duration = Duration::from_secs(2);

/// A machine that is still stopped.
pub(super) struct Machine<'a> {
    pub(super) launch: &'a Launch,
    pub(super) pid: u32,
    pub(super) limit: Duration,
}

/// What went wrong with it.
pub(super) struct Fault {
    error: LaunchError,
    /// Whether QEMU can still be spoken to.
    pub(super) channel_works: bool,
    /// Whether it was told to end.
    pub(super) quit: bool,
}

impl From<LaunchError> for Fault {
    fn from(error: LaunchError) -> Self {
        Self { error, channel_works: true, quit: false }
    }
}

#[derive(Deserialize)]
struct IoThread {
    id: String,
    #[serde(rename = "thread-id")]
    thread: i32,
}

#[derive(Serialize)]
struct Balloon {
    value: u64,
}

impl Machine<'_> {
    /// Lets every thread run on its CPUs, and looks that it does.
    pub(super) fn bind(&self, client: &mut Client<'_>) -> Result<(), Fault> {
        client
            .greet(self.launch.greeting(self.limit))
            .map_err(|error| self.fault("speak to it", &error))?;
        let named = self.named(client)?;
        for (&thread, (whose, cpus)) in &named {
            self.pin(thread, *whose, cpus)?;
        }
        let others = &self.launch.threads.emulator;
        let mut done = BTreeSet::new();
        // Threads that come while this goes on have the CPUs of those that make them; a look that
        // finds none that is new is the last.
        loop {
            let tasks = self.tasks()?;
            let known = |id: &i32| named.contains_key(id) || done.contains(id);
            let new: Vec<i32> = tasks.into_iter().filter(|id| !known(id)).collect();
            if new.is_empty() {
                break;
            }
            for thread in new {
                self.pin(thread, Thread::Emulator, others)?;
                done.insert(thread);
            }
        }
        for thread in self.tasks()? {
            let others = (Thread::Emulator, others.clone());
            let (whose, wanted) = named.get(&thread).unwrap_or(&others);
            match sys::affinity(thread) {
                Ok(found) if found == *wanted => {}
                Err(Errno::ESRCH) if *whose == Thread::Emulator => {}
                _ if sys::is_the_kernels(self.pid, thread) => {}
                Ok(found) => {
                    let (pid, what) = (self.pid, Step::pin(*whose, wanted));
                    return Err(what.refused_as(
                        Errno::EINVAL,
                        format!(
                            "thread {thread} of process {pid} may run on {found} only: a cpuset \
                             allows no more, or a CPU has gone offline"
                        ),
                    ).into());
                }
                Err(errno) => return Err(Step::pin(*whose, wanted).refused(errno).into()),
            }
        }
        self.bind_vhost();
        Ok(())
    }

    /// Lets the kernel's threads that work for the guest run on its CPUs, where no cpuset holds them. That is root's right
    /// alone.
    fn bind_vhost(&self) {
        let threads = &self.launch.threads;
        for id in vhost::threads(Path::new("/proc"), self.pid) {
            let Ok(thread) = i32::try_from(id) else { continue };
            let found = sys::affinity(thread);
            if found.is_ok_and(|found| found.is_subset(&threads.process)) {
                continue;
            }
            if let Err(errno) = sys::set_affinity(thread, &Mask::of_cpus(&threads.emulator))
                && errno != Errno::ESRCH
            {
                let (name, why) = (self.name(), errno.desc());
                eprintln!(
                    "placer: guest {name}: thread {id} of the kernel (vhost) may run on all CPUs: {why}"
                );
            }
        }
    }

    /// Returns the threads that QEMU has a name for, by their id. Where QEMU runs several vCPUs in
    /// one thread (emulation that counts instructions), that one has the CPUs of all.
    fn named(&self, client: &mut Client<'_>) -> Result<BTreeMap<i32, (Thread, CpuSet)>, Fault> {
        let cpus: Vec<CpuThread> = self.ask(client, "query-cpus-fast")?;
        let launch = self.launch;
        let io: Vec<IoThread> = match launch.line.iothreads.is_empty() {
            true => Vec::new(),
            false => self.ask(client, "query-iothreads")?,
        };
        let tasks: BTreeSet<i32> = self.tasks()?.into_iter().collect();
        let mut wanted: Vec<(Thread, Option<i32>, CpuSet)> = Vec::new();
        let of_vcpu = |number: u32| {
            let at = usize::try_from(number).unwrap_or(usize::MAX);
            launch.threads.vcpus.get(at).cloned()
        };
        for cpu in &cpus {
            let own = of_vcpu(cpu.index).ok_or_else(|| self.unexpected(cpu.index))?;
            self.check_node(cpu)?;
            wanted.push((Thread::Vcpu(cpu.index), Some(cpu.thread), own));
        }
        let missing = (0..launch.guest.cpus.current)
            .filter(|number| cpus.iter().all(|cpu| cpu.index != *number));
        // CPUs that are devices of their own have other numbers.
        if cpus.len() < usize::try_from(launch.guest.cpus.current).unwrap_or(usize::MAX) {
            wanted.extend(
                missing.filter_map(|number| Some((Thread::Vcpu(number), None, of_vcpu(number)?))),
            );
        }
        for (number, (name, own)) in
            (1..).zip(launch.line.iothreads.iter().zip(&launch.threads.iothreads))
        {
            let found = io.iter().find(|thread| thread.id == *name).map(|thread| thread.thread);
            wanted.push((Thread::Io(number), found, own.clone()));
        }
        let mut named: BTreeMap<i32, (Thread, CpuSet)> = BTreeMap::new();
        for (whose, found, wanted) in wanted {
            let Some(thread) = found else {
                let seen = "QEMU does not name its thread; do arguments of the definition change \
                            how many there are?";
                return Err(Step::pin(whose, &wanted).refused_as(Errno::ESRCH, seen).into());
            };
            if !tasks.contains(&thread) {
                let (pid, step) = (self.pid, Step::pin(whose, &wanted));
                let seen = format!(
                    "expected a thread of process {pid}, found {thread}; an emulator that is a \
                     script has to exec QEMU"
                );
                return Err(step.refused_as(Errno::ESRCH, seen).into());
            }
            let entry = named.entry(thread).or_insert_with(|| (whose, CpuSet::new()));
            entry.1 = entry.1.union(&wanted);
        }
        Ok(named)
    }

    /// Makes the error for a vCPU that the guest should not have.
    fn unexpected(&self, vcpu: u32) -> LaunchError {
        let most = self.launch.guest.cpus.maximum;
        let seen = format!("QEMU has vCPU {vcpu}, the definition has {most} vCPUs");
        let what = format!("start guest {}", self.name());
        LaunchError::seen(what, Errno::EINVAL, seen)
    }

    /// Checks that QEMU has a vCPU in the NUMA node of the guest that it was placed with.
    fn check_node(&self, cpu: &CpuThread) -> Result<(), LaunchError> {
        let cells = &self.launch.shape.cells;
        let found = cpu.props.as_ref().and_then(|props| props.node);
        let Some(found) = found.filter(|_| self.launch.shape.is_numa()) else { return Ok(()) };
        let at = cells.iter().position(|cell| cell.has(cpu.index));
        let planned = at.map(|at| self.launch.cell_id(at));
        if planned.is_none_or(|planned| planned == found) {
            return Ok(());
        }
        let planned = planned.unwrap_or_default();
        let seen = format!(
            "QEMU has vCPU {} in the guest's node {found}, expected node {planned}",
            cpu.index
        );
        let what = format!("start guest {}", self.name());
        let error = LaunchError::seen(what, Errno::EINVAL, seen);
        Err(error.hint("name the vCPUs of each node: -numa node,cpus="))
    }

    /// Lets it run, unless it is to stay paused.
    pub(super) fn go(&self, client: &mut Client<'_>) -> Result<(), Fault> {
        if let Some(size) = self.launch.balloon() {
            let value = Some(Balloon { value: size.get() });
            client
                .tell("balloon", value, self.limit)
                .map_err(|e| self.fault("ask balloon of it", &e))?;
        }
        if self.launch.stays_paused() {
            return Ok(());
        }
        client.tell("cont", None::<()>, self.limit).map_err(|e| self.fault("let it run", &e))
    }

    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        client: &mut Client<'_>,
        command: &str,
    ) -> Result<T, Fault> {
        let what = || format!("ask {command} of it");
        client.ask(command, self.limit).map_err(|error| self.fault(what(), &error))
    }

    fn pin(&self, thread: i32, whose: Thread, cpus: &CpuSet) -> Result<(), LaunchError> {
        match sys::set_affinity(thread, &Mask::of_cpus(cpus)) {
            Ok(()) => Ok(()),
            // Workers come and go, and vCPUs do not.
            Err(Errno::ESRCH) if whose == Thread::Emulator => Ok(()),
            Err(_) if sys::is_the_kernels(self.pid, thread) => Ok(()),
            Err(errno) => Err(Step::pin(whose, cpus).refused(errno)),
        }
    }

    /// Returns the ids of all threads of the process.
    fn tasks(&self) -> Result<Vec<i32>, LaunchError> {
        let dir = format!("/proc/{}/task", self.pid);
        let error = |e: &std::io::Error| {
            let errno = e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            LaunchError::new(format!("list the threads of guest {} in {dir}", self.name()), errno)
        };
        let mut tasks = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(|e| error(&e))? {
            let name = entry.map_err(|e| error(&e))?.file_name();
            tasks.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(tasks)
    }

    fn name(&self) -> &str {
        self.launch.guest.name.as_str()
    }

    pub(super) fn fault(&self, what: impl fmt::Display, error: &QmpError) -> Fault {
        let (name, pid) = (self.name(), self.pid);
        let what = format!("start guest {name}: {what} (QEMU, process {pid})");
        let mut told = LaunchError::seen(what, error.errno(), error.to_string());
        if matches!(error, QmpError::Late(_)) {
            told = told.hint("QEMU or the host does not respond; QEMU was killed");
        }
        Fault { error: told, channel_works: error.leaves_channel(), quit: false }
    }

    /// Ends it, whatever it takes, and says why.
    pub(super) fn end(&self, mut running: Running, fault: Fault) -> LaunchError {
        // A channel that ended is the end of its process, as a rule.
        let by_itself =
            !fault.channel_works && !fault.quit && fault.error.errno() == Errno::ECONNRESET;
        if by_itself && let Some(ended) = running.ended_within(TO_QUIT) {
            let how = match ended {
                Ended::Exited(status) => format!("ended with status {status}"),
                Ended::Killed(signal) => {
                    let name = nix::sys::signal::Signal::try_from(signal);
                    let number = |_| format!("was ended by signal {signal}");
                    name.map_or_else(number, |name| format!("was ended by {name}"))
                }
            };
            let (name, pid) = (self.name(), self.pid);
            let what = format!("start guest {name}");
            let seen = format!("QEMU (process {pid}) {how} before its machine ran");
            let error = LaunchError::seen(what, Errno::ECONNRESET, seen);
            return error.hint("its own messages, if any, are above");
        }
        if !fault.quit {
            // Here too it may clean up behind itself.
            running.terminate();
        }
        if running.ended_within(TO_QUIT).is_none() {
            running.kill();
        }
        fault.error
    }
}
