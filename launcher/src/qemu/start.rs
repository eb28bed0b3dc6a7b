//! Starts a machine: the gate, the control channel, the lifeline.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use placer_engine::claims;

use super::bind::{Machine, TO_QUIT};
use super::lifeline::Lifeline;
use super::qmp::{Client, Meanwhile};
use super::{Launch, args};
use crate::cgroup::{Group, Kernel, Planned, Tree};
use crate::error::LaunchError;
use crate::gate::Running;
use crate::guest::Program;
use crate::guest_lock::GuestLock;
use crate::start::{self, Started};

/// A process that waits at the gate, and will become QEMU. Dropped, it ends.
#[derive(Debug)]
pub struct Waiting<'k> {
    launch: Launch,
    process: start::Waiting<'k>,
    channel: UnixStream,
    lifeline: Lifeline,
}

impl Launch {
    /// Starts a process that waits at the gate, in the control group that was planned. It has the locks as long
    /// as it runs.
    ///
    /// From here on the launcher's signals are the guest's.
    /// Errors: as [`Waiting::prepare`](crate::Waiting::prepare).
    pub fn prepare<'k>(
        &self,
        kernel: &'k dyn Kernel,
        group: Planned,
        locks: &[GuestLock],
    ) -> Result<Waiting<'k>, LaunchError> {
        if let Program::Qemu(qemu) = &self.guest.program {
            args::check_firmware(&self.guest, qemu)?;
            args::check_descriptors(&self.guest, qemu)?;
        }
        let error = |what: &'static str| {
            move |errno| LaunchError::new(format!("start QEMU ({what})"), errno)
        };
        let (channel, theirs) = UnixStream::pair().map_err(|e| {
            error("a control channel")(e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
        })?;
        let lifeline = Lifeline::new().map_err(error("a pipe"))?;
        let kept = locks.iter().map(GuestLock::fd);
        let steps = self.own_steps(theirs.as_raw_fd(), lifeline.fd(), kept);
        let process = start::Waiting::prepare_in(kernel, group, &steps)?;
        locks.iter().for_each(|lock| lock.sign(process.pid()));
        Ok(Waiting { launch: self.clone(), process, channel, lifeline })
    }

    /// Returns how long QEMU may take for any one answer: it allocates all huge pages before it answers,
    /// and the kernel clears them. On a host with ten times more work than CPUs even a small machine
    /// took half a minute.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(120 + (self.shape.total().get() >> 30))
    }

    /// Returns how long QEMU may take for its greeting: a command line of the user's may have it wait for a
    /// peer first (`-chardev socket,server=on`), or load a snapshot. Its end and signals still end the wait.
    pub(super) fn greeting(&self, limit: Duration) -> Duration {
        if matches!(self.guest.program, Program::Line(_)) {
            Duration::from_secs(24 * 60 * 60)
        } else {
            limit
        }
    }
}

impl<'k> Waiting<'k> {
    /// Returns the pid that QEMU will have.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns its control group, if it has one of its own.
    pub fn group(&self) -> Option<&Group<'k>> {
        self.process.group()
    }

    /// Returns how a claim names that.
    pub fn claimed(&self, tree: &Tree) -> Option<claims::Cgroup> {
        self.process.claimed(tree)
    }

    /// Returns what a person should know about how it was started.
    pub fn note(&self) -> Option<&str> {
        self.process.note()
    }

    /// Opens the gate, binds the machine, and returns when it runs.
    ///
    /// Errors: the step that failed; QEMU has been ended then, and nothing is left of it. What QEMU
    /// itself had to say is on stderr.
    pub fn start(self) -> Result<Started<'k>, LaunchError> {
        let patience = self.launch.patience();
        self.start_within(patience)
    }

    /// As [`start`](Self::start), with a time limit for any one answer.
    pub fn start_within(self, limit: Duration) -> Result<Started<'k>, LaunchError> {
        let Self { launch, process, channel, lifeline } = self;
        let what = "tie QEMU to the launcher until it runs";
        lifeline.arm(process.pid()).map_err(|errno| LaunchError::new(what, errno))?;
        // The group is dropped behind the process: it is removed when that has ended.
        let Started { running, group, scope, .. } = process.open()?;
        let machine = Machine { launch: &launch, pid: running.pid(), limit };
        let fault = match Client::new(channel, &running) {
            Ok(mut client) => {
                match machine.bind(&mut client).and_then(|()| machine.go(&mut client)) {
                    Ok(()) => {
                        // It runs, and is on its own.
                        let cpus = launch.guest.cpus;
                        let more = cpus.current < cpus.maximum;
                        let vcpus = more.then(|| launch.threads.vcpus.clone());
                        let control = Some(Box::new(client.into_control(machine.pid, vcpus)) as _);
                        let _ = lifeline.release();
                        return Ok(Started { running, group, scope, control });
                    }
                    Err(mut fault) => {
                        fault.quit =
                            fault.channel_works && client.tell("quit", None::<()>, TO_QUIT).is_ok();
                        fault
                    }
                }
            }
            Err(error) => machine.fault("speak to it", &error),
        };
        let error = machine.end(running, fault);
        drop(group);
        Err(error)
    }
}

impl Meanwhile for Running {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.signals())
    }

    fn act(&self) {
        self.pass_signals();
    }
}
