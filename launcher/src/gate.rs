//! A child that waits at a pipe until it is claimed for, and then becomes the guest.
//!
//! The pipe is the only thing that lets it go on: if the launcher ends before, for whatever reason,
//! the pipe ends and so does the child, before it has run anything.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use crate::cgroup::GroupStep;
use crate::error::LaunchError;
use crate::exec::{Prepared, perform, prepare};
use crate::signals;
use crate::step::Step;

/// What the launcher does not act on itself but hands to the guest.
const PASSED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// A report of a refused step: its place in the list and the errno.
const REPORT: usize = 8;
/// Source: linux/sched.h, Linux 5.7.
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// What says that a child cannot be born in a group, where it may well be moved there: a kernel that
/// is too old (E2BIG: it does not know the field), a container runtime's filter of system calls, a
/// directory that is no group of cgroup v2.
const BORN_OUTSIDE: [Errno; 5] =
    [Errno::ENOSYS, Errno::EINVAL, Errno::E2BIG, Errno::EPERM, Errno::EBADF];

/// A child that has not begun. Dropped, it ends without having run anything.
#[derive(Debug)]
pub struct Gated {
    /// `None` once it has begun, or has ended.
    waiting: Option<(OwnedFd, Child)>,
    pid: Pid,
    refusal: Option<OwnedFd>,
    steps: Vec<Step>,
}

/// A guest that has begun.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

/// A channel to a guest that runs.
pub(crate) trait Control: std::fmt::Debug {
    /// Returns what can be read when the guest has said something.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Reads what the guest has said, and acts on it. Returns whether the channel can still be used.
    fn hear(&mut self) -> bool;
    /// Asks the guest to shut down by itself. Returns whether that was possible.
    fn power_down(&mut self) -> bool;
    /// Returns how long until [`look`](Self::look) is to be called. `None`: never.
    fn look_in(&self) -> Option<Duration>;
    /// Asks the guest what has changed about it. Returns whether the channel can still be used.
    fn look(&mut self) -> bool;
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By the signal of this number.
    Killed(i32),
}

impl Ended {
    /// Returns the exit status for a program that has waited: the guest's own, or as shells tell of
    /// a signal, 128 and its number.
    pub fn status(self) -> u8 {
        let number = match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + signal,
        };
        u8::try_from(number & 0xff).unwrap_or(u8::MAX)
    }
}

/// A process of ours that is waited for, and the signals that are meant for it.
#[derive(Debug)]
struct Child {
    pid: Pid,
    /// `None` before Linux 5.3.
    pidfd: Option<OwnedFd>,
    signals: SignalFd,
    /// The mask of signals before.
    before: SigSet,
    reaped: bool,
}

impl Gated {
    /// Starts a child that will perform `steps`. With a cgroup (an open directory of a cgroup v2) it
    /// is born in there.
    ///
    /// From here on the launcher's signals are the guest's.
    /// Errors: no process, pipe or descriptor can be had; a step that cannot be prepared.
    pub fn fork(steps: &[Step], cgroup: Option<BorrowedFd<'_>>) -> Result<Self, LaunchError> {
        let prepared = prepare(steps)?;
        let error = |what: &str| {
            let what = format!("start a process ({what})");
            move |errno| LaunchError::new(what, errno)
        };
        let (wait, gate) = pipe2(OFlag::O_CLOEXEC).map_err(error("a pipe"))?;
        let (refusal, report) = pipe2(OFlag::O_CLOEXEC).map_err(error("a pipe"))?;
        hear_of_children();
        let passed = PASSED.into_iter().collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&passed, flags);
        let signals = signals.map_err(error("a descriptor for signals"))?;
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&passed), Some(&mut before))
            .map_err(error("the mask of signals"))?;
        // SAFETY: the child only makes system calls on buffers that are there already: `begin`
        // neither allocates nor takes a lock, and never returns.
        let (born, outside) = match unsafe { fork_into(cgroup) } {
            Err(errno) if cgroup.is_some() && BORN_OUTSIDE.contains(&errno) => {
                // SAFETY: as above.
                (unsafe { fork_into(None) }, cgroup)
            }
            born => (born, None),
        };
        match born {
            Ok(0) => begin(&prepared, &wait, gate.as_raw_fd(), &report, &before),
            Ok(pid) => {
                let pid = Pid::from_raw(pid);
                let child = Child { pid, pidfd: pidfd(pid), signals, before, reaped: false };
                let (waiting, refusal) = (Some((gate, child)), Some(refusal));
                let gated = Self { waiting, pid, refusal, steps: steps.to_vec() };
                if let Some(cgroup) = outside {
                    // Refused, it ends where it is: at the gate.
                    enter(cgroup, pid).map_err(|errno| not_born(cgroup, errno))?;
                }
                Ok(gated)
            }
            Err(errno) => {
                let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
                Err(match cgroup {
                    Some(cgroup) => not_born(cgroup, errno),
                    None => error("fork")(errno),
                })
            }
        }
    }

    /// Returns the child's pid.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Returns a signal that ends a launch, if one has come. Others that have come are dropped.
    pub(crate) fn ending(&self) -> Option<Signal> {
        const ENDING: [Signal; 4] =
            [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
        let (_, child) = self.waiting.as_ref()?;
        let signals = std::iter::from_fn(|| child.next_signal().ok().flatten());
        let number = |info: libc::signalfd_siginfo| i32::try_from(info.ssi_signo).ok();
        let mut signals = signals.filter_map(|info| Signal::try_from(number(info)?).ok());
        signals.find(|signal| ENDING.contains(signal))
    }

    /// Lets the child begin, and returns when it has become the guest.
    ///
    /// Errors: the step that was refused; the child has ended then.
    pub fn open(mut self) -> Result<Running, LaunchError> {
        let ended = || {
            LaunchError::new("start the guest", Errno::ESRCH)
                .hint("its process ended before it was bound")
        };
        let (Some((gate, mut child)), Some(refusal)) = (self.waiting.take(), self.refusal.take())
        else {
            return Err(ended());
        };
        // Rust ignores SIGPIPE: a child that is gone is an error here, and no signal.
        let begun = nix::unistd::write(&gate, b"!");
        drop(gate);
        let mut report = Vec::with_capacity(REPORT);
        // Ends without a word when the program has begun: the other end is closed on exec, as it
        // is when the child is killed. Killed ones never begin, which waiting for them tells.
        let read = File::from(refusal).read_to_end(&mut report);
        if begun.is_ok() && read.is_ok() && report.is_empty() {
            return Ok(Running { child });
        }
        child.reap();
        let number = |at: usize| Some(i32::from_ne_bytes(*report.get(at..)?.first_chunk()?));
        let step = number(0).and_then(|at| self.steps.get(usize::try_from(at).ok()?));
        Err(match (step, number(4)) {
            (Some(step), Some(errno)) => step.refused(Errno::from_raw(errno)),
            _ => ended(),
        })
    }
}

impl Running {
    /// Returns the guest's pid.
    pub fn pid(&self) -> u32 {
        self.child.pid.as_raw().unsigned_abs()
    }

    /// Waits for the guest to end, and hands it the signals that are sent to this process.
    ///
    /// What a terminal sends it sends to the guest too, and is not sent twice.
    /// Errors: the guest cannot be waited for.
    pub fn wait(self) -> Result<Ended, LaunchError> {
        self.wait_with(None, Duration::ZERO)
    }

    /// As [`wait`](Self::wait), with a channel to the guest. The first SIGTERM asks it to shut down, unless `limit` is
    /// zero; it is ended when it has not done so within that time, and at a second one.
    ///
    /// Errors: as there.
    pub(crate) fn wait_with(
        mut self,
        mut control: Option<Box<dyn Control>>,
        limit: Duration,
    ) -> Result<Ended, LaunchError> {
        let error = |errno| LaunchError::new("wait for the guest", errno);
        let (mut asked, mut end) = (limit.is_zero(), None);
        loop {
            if let Some(ended) = self.look().map_err(error)? {
                return Ok(ended);
            }
            let left = end.map(|end: Instant| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                self.terminate();
                end = None;
                continue;
            }
            let look = control.as_ref().and_then(|control| control.look_in());
            let pause = left.into_iter().chain(look).min();
            self.child.pause(pause, control.as_ref().map(|control| control.fd())).map_err(error)?;
            control = control.take_if(|control| control.hear()).and_then(|mut control| {
                let due = control.look_in().is_some_and(|left| left.is_zero());
                (!due || control.look()).then_some(control)
            });
            while let Some(info) = self.child.next_signal().map_err(error)? {
                let term = info.ssi_signo == (Signal::SIGTERM as i32).unsigned_abs();
                let ask = |control: &mut Box<dyn Control>| control.power_down();
                if term && !asked && control.as_mut().is_some_and(ask) {
                    asked = true;
                    end = Some(Instant::now() + limit);
                } else {
                    self.child.pass(&info);
                }
            }
        }
    }

    /// Returns how the guest ended, if it has.
    fn look(&mut self) -> Result<Option<Ended>, Errno> {
        let mut status = 0;
        // Not nix's: it knows no signal past 31, and the status would be lost with the process.
        // SAFETY: the kernel writes one number to a place for one.
        let pid = unsafe { libc::waitpid(self.child.pid.as_raw(), &mut status, libc::WNOHANG) };
        let ended = match Errno::result(pid) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) if libc::WIFEXITED(status) => Ended::Exited(libc::WEXITSTATUS(status)),
            Ok(_) if libc::WIFSIGNALED(status) => Ended::Killed(libc::WTERMSIG(status)),
            Ok(_) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        self.child.reaped = true;
        Ok(Some(ended))
    }

    /// Returns how the guest ended, if it does so in this time. Signals are handed to it meanwhile.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> Option<Ended> {
        let end = Instant::now() + limit;
        loop {
            if let Ok(Some(ended)) = self.look() {
                return Some(ended);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.child.pause(Some(left), None).is_err() {
                return None;
            }
            self.pass_signals();
        }
    }

    /// Ends the guest for certain, and returns when it is gone.
    pub(crate) fn kill(mut self) {
        let _ = kill(self.child.pid, Signal::SIGKILL);
        self.child.reap();
    }

    /// Asks the guest to end.
    pub(crate) fn terminate(&self) {
        let _ = kill(self.child.pid, Signal::SIGTERM);
    }

    /// Returns what can be read when there are signals for the guest.
    pub(crate) fn signals(&self) -> BorrowedFd<'_> {
        self.child.signals.as_fd()
    }

    /// Hands the guest the signals that came for it.
    pub(crate) fn pass_signals(&self) {
        while self.child.pass_one() == Ok(true) {}
    }
}

impl Child {
    /// Returns when there is a signal or the child has ended, or after a while.
    ///
    /// Not by SIGCHLD: where several guests are waited for, one of them would take the other's.
    fn pause(&self, limit: Option<Duration>, also: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        const WITHOUT_PIDFD: Duration = Duration::from_millis(50);
        // Rounded up: a wait of less than a millisecond is one.
        let timeout = |limit: Duration| {
            PollTimeout::try_from(limit.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
        };
        let ended = self.pidfd.as_ref().map(AsFd::as_fd);
        let limit = match ended {
            Some(_) => limit,
            None => Some(limit.map_or(WITHOUT_PIDFD, |limit| limit.min(WITHOUT_PIDFD))),
        };
        let fds = [Some(self.signals.as_fd()), ended, also].into_iter().flatten();
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, limit.map_or(PollTimeout::NONE, timeout)) {
            Err(Errno::EINTR) | Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Hands one signal on. Returns whether there was one.
    fn pass_one(&self) -> Result<bool, Errno> {
        let info = self.next_signal()?;
        info.iter().for_each(|info| self.pass(info));
        Ok(info.is_some())
    }

    /// Returns the next signal that came.
    fn next_signal(&self) -> Result<Option<libc::signalfd_siginfo>, Errno> {
        match self.signals.read_signal() {
            Ok(info) => Ok(info),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn pass(&self, info: &libc::signalfd_siginfo) {
        let number = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
        // A terminal sends these to all in the foreground, the guest too. A hangup only the leader
        // of a session is told.
        let of_terminal = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGWINCH];
        let from_terminal = info.ssi_code == libc::SI_KERNEL;
        if let Some(signal) = number
            && !(from_terminal && of_terminal.contains(&signal))
        {
            // A guest that has just ended needs no signal.
            let _ = kill(self.pid, signal);
        }
    }

    fn reap(&mut self) {
        while !self.reaped {
            match waitpid(self.pid, None) {
                Err(Errno::EINTR) => {}
                _ => self.reaped = true,
            }
        }
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        if let Some((gate, mut child)) = self.waiting.take() {
            // The child sees the end of the pipe, and ends. One that was forked since, and waits as
            // well, may have a copy of it.
            drop(gate);
            let _ = kill(self.pid, Signal::SIGKILL);
            child.reap();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Takes back that SIGCHLD is ignored, which may have been handed down to the launcher: the kernel
/// would tell it nothing of how the guest ended.
fn hear_of_children() {
    if signals::is_ignored(libc::SIGCHLD) {
        // SAFETY: setting a default disposition touches no memory.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }
}

/// Opens a descriptor that can be read when the child has ended. Close-on-exec by itself.
fn pidfd(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: the kernel has just made it for us alone.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct clone_args` of clone3(2), which the crate libc does not have on every architecture (s390x).
#[derive(Default)]
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks; into a cgroup where one is given, so that the child never ran outside.
///
/// # Safety
///
/// The child must neither allocate nor take a lock: other threads' locks are held for ever in it.
unsafe fn fork_into(cgroup: Option<BorrowedFd<'_>>) -> Result<i32, Errno> {
    let Some(cgroup) = cgroup else {
        // SAFETY: by this function's own condition.
        return Errno::result(unsafe { libc::fork() });
    };
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD.unsigned_abs().into(),
        cgroup: cgroup.as_raw_fd().unsigned_abs().into(),
        ..CloneArgs::default()
    };
    // SAFETY: the kernel reads a struct of the size it is told; without CLONE_VM the child has
    // memory of its own, as after a fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    Errno::result(pid).map(|pid| i32::try_from(pid).unwrap_or(-1))
}

/// Moves a process that has not begun into a group.
fn enter(cgroup: BorrowedFd<'_>, pid: Pid) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let procs = openat(cgroup, "cgroup.procs", flags, Mode::empty())?;
    nix::unistd::write(&procs, pid.to_string().as_bytes()).map(drop)
}

fn not_born(cgroup: BorrowedFd<'_>, errno: Errno) -> LaunchError {
    // Read back for the message alone.
    let dir = std::fs::read_link(format!("/proc/self/fd/{}", cgroup.as_raw_fd()));
    GroupStep::Enter { dir: dir.unwrap_or_default() }.refused(errno)
}

/// What the child does. Only system calls.
fn begin(steps: &[Prepared], wait: &OwnedFd, gate: i32, report: &OwnedFd, mask: &SigSet) -> ! {
    // Its own copy of the other end would keep the pipe from ending with the launcher.
    // SAFETY: nobody else in this process uses that descriptor.
    unsafe { libc::close(gate) };
    let mut byte = [0; 1];
    let opened = loop {
        match nix::unistd::read(wait, &mut byte) {
            Err(Errno::EINTR) => {}
            other => break other == Ok(1),
        }
    };
    if opened {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None);
        if let Err((at, errno)) = perform(steps) {
            let [a, b, c, d] = i32::try_from(at).unwrap_or(i32::MAX).to_ne_bytes();
            let [e, f, g, h] = (errno as i32).to_ne_bytes();
            let _ = nix::unistd::write(report, &[a, b, c, d, e, f, g, h]);
        }
    }
    // SAFETY: ends the process without running anything of the parent's, as after a failed fork.
    unsafe { libc::_exit(126) }
}
