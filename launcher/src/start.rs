//! A launch from its list of steps: those of the launcher, the child, and the end.
//!
//! # When a process is killed
//!
//! | process, when | what follows |
//! |---|---|
//! | the launcher, before it has a child | its group stays, empty; the next launch beside it removes it |
//! | the launcher, while the child waits | the child sees the end of the pipe and ends, before it has run anything; a claim for it does not count; the group as above |
//! | the launcher, after that | the guest runs on where it was bound, and its claim counts, until it ends; then the group as above |
//! | the child, while it waits | an error; the group is removed |
//! | the guest | its status is reported as for any guest; the group is removed |
//! | a process that the guest left behind | the group stays until then, and so does a claim that is for the group |
//!
//! A scope of systemd's is systemd's to remove, and goes with its last process: see
//! [`systemd`](crate::systemd). A launcher that had moved out of its own group leaves its removal to
//! systemd.

use std::time::Duration;

use nix::errno::Errno;
use placer_engine::claims;

use crate::cgroup::{self, Group, GroupStep, Kernel, Planned, Tree};
use crate::error::LaunchError;
use crate::gate::{Control, Ended, Gated, Running};
use crate::step::Step;
use crate::systemd::Scope;

/// A guest that is prepared and has not begun. Dropped, nothing of it is left: its process is ended
/// before the group it is in is removed.
#[derive(Debug)]
pub struct Waiting<'k> {
    gated: Gated,
    group: Option<Group<'k>>,
    scope: Option<Scope>,
    note: Option<String>,
}

/// A guest that has begun, and the group that is removed when it has ended.
#[derive(Debug)]
pub struct Started<'k> {
    pub(crate) running: Running,
    pub(crate) group: Option<Group<'k>>,
    pub(crate) scope: Option<Scope>,
    /// The channel to a virtual machine.
    pub(crate) control: Option<Box<dyn Control>>,
}

/// The end of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// How it ended.
    pub ended: Ended,
    /// What of it could not be removed, and why.
    pub left: Option<LaunchError>,
}

impl<'k> Waiting<'k> {
    /// Performs the steps that come before the guest's process, and starts that: it waits at a gate
    /// and performs those up to [`Step::Exec`] when it is opened. Steps after that are the caller's.
    ///
    /// Errors: the step that was refused. Those before it are undone then.
    pub fn prepare(kernel: &'k dyn Kernel, steps: &[Step]) -> Result<Self, LaunchError> {
        let groups: Vec<GroupStep> = steps
            .iter()
            .filter_map(|step| if let Step::Group(step) = step { Some(step.clone()) } else { None })
            .collect();
        let end = steps.iter().position(|step| matches!(step, Step::Exec { .. }));
        let end = end.map_or(steps.len(), |at| at + 1);
        let child: Vec<Step> =
            steps[..end].iter().filter(|step| !matches!(step, Step::Group(_))).cloned().collect();
        let group = Group::make(kernel, &groups)?;
        let gated = Gated::fork(&child, group.as_ref().and_then(Group::as_fd))?;
        // What is refused here ends the child, and a scope ends with it.
        let scope = groups.iter().find_map(|step| match step {
            GroupStep::Scope(scope) => {
                Some(kernel.make_scope(scope, gated.pid(), &|| gated.ending()))
            }
            _ => None,
        });
        Ok(Self { scope: scope.transpose()?, gated, group, note: None })
    }

    /// As [`prepare`](Self::prepare), in the group that was planned; without it, and with a note, where it cannot
    /// be made and need not be.
    ///
    /// Errors: as there, and a signal that came meanwhile.
    pub fn prepare_in(
        kernel: &'k dyn Kernel,
        planned: Planned,
        guest: &[Step],
    ) -> Result<Self, LaunchError> {
        let optional = planned.optional;
        match Self::prepare(kernel, &planned.around(guest.to_vec())) {
            Err(error) if optional && error.errno() != Errno::EINTR => {
                let note = Some(cgroup::without(&error.to_string()));
                Ok(Self { note, ..Self::prepare(kernel, guest)? })
            }
            prepared => prepared,
        }
    }

    /// Returns what a person should know about how it was started.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Returns the pid of its process, to be claimed for.
    pub fn pid(&self) -> u32 {
        self.gated.pid()
    }

    /// Returns its group, to be claimed for: whatever memory is in there is the guest's.
    pub fn group(&self) -> Option<&Group<'k>> {
        self.group.as_ref()
    }

    /// Returns how a claim names its group, placer's or systemd's. `None` where it has none of its own
    /// in this tree.
    pub fn claimed(&self, tree: &Tree) -> Option<claims::Cgroup> {
        let group = self.group.as_ref().and_then(|group| group.claimed(tree));
        group.or_else(|| self.scope.as_ref()?.claimed(tree.mount.as_deref()))
    }

    /// Lets the guest begin.
    ///
    /// Errors: the step that was refused; nothing of the guest is left then.
    pub fn open(self) -> Result<Started<'k>, LaunchError> {
        let Self { gated, group, scope, .. } = self;
        // On an error the child has ended already, and the group is dropped after it.
        let running = gated.open()?;
        Ok(Started { running, group, scope, control: None })
    }
}

impl Started<'_> {
    /// Returns the guest's pid.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits for the guest to end, hands it the signals that are sent to this process, and removes
    /// its group.
    ///
    /// Errors: the guest cannot be waited for.
    pub fn wait(self) -> Result<End, LaunchError> {
        self.wait_or_shut_down(Duration::ZERO)
    }

    /// As [`wait`](Self::wait), but a virtual machine is asked to shut down when SIGTERM is sent to this
    /// process, and has this time for it. A second SIGTERM ends it.
    ///
    /// Errors: as there.
    pub fn wait_or_shut_down(self, limit: Duration) -> Result<End, LaunchError> {
        // A channel that has no use is closed.
        let mut control = self.control;
        control = control.take_if(|control| !limit.is_zero() || control.look_in().is_some());
        let ended = self.running.wait_with(control, limit)?;
        let removed = self.group.map_or(Ok(()), Group::remove);
        let drained = self.scope.map_or(Ok(()), |scope| scope.drained());
        let left = removed.and(drained).err();
        let left = left.map(|error| match error.errno() {
            Errno::EBUSY => error.hint("processes that the guest left behind run in it"),
            _ => error,
        });
        Ok(End { ended, left })
    }
}
