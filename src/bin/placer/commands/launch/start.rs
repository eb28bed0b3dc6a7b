//! From what was decided to a guest that runs, by the way that suits its kind.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use placer_engine::claims::{Cgroup, Parts};
use placer_engine::{Advice, CpuSet, Request, Snapshot, SysRoot};
use placer_launcher::cgroup::{self, Live, Planned, Tree};
use placer_launcher::guest::{CgroupMode, Guest, Lxc, Program};
use placer_launcher::qemu::Launch as Machine;
use placer_launcher::{Binding, End, GuestLock, LaunchError, Step, Waiting, exec_in_place, lxc};

use super::ledger::{Held, Ledger};
use crate::output;
use placer::service::notes::Notes;

/// All that will be done. A value: it is shown by a dry run, or performed.
pub(super) struct Plan {
    way: Way,
    tree: Tree,
}

enum Way {
    /// This very process becomes the guest, as with numactl.
    InPlace(Vec<Step>),
    /// A child becomes the guest, in a group of its own or because the guest needs one to wait.
    Child(Planned, Vec<Step>),
    Machine(Box<Machine>, Planned),
}

/// The claim that a guest is started with, and the ledger it is in.
pub(super) struct Claimant<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) held: Option<Held>,
    pub(super) notes: &'a mut Notes,
    /// What keeps the guest from being started twice.
    pub(super) locks: Vec<GuestLock>,
}

/// A guest as it was decided on, by its kind.
pub(super) enum Drafted {
    Command(Vec<OsString>, Binding),
    Lxc(Lxc, Binding),
    Machine(Box<Machine>),
}

impl Drafted {
    /// Decides how a guest is bound, and everything about one that is a virtual machine.
    ///
    /// Errors: as [`Machine::new`].
    pub(super) fn of(
        guest: &Guest,
        advice: &Advice,
        snapshot: &Snapshot,
    ) -> Result<Self, LaunchError> {
        let binding = || Binding::of_guest(guest, snapshot, advice);
        Ok(match &guest.program {
            Program::Command(argv) => Self::Command(argv.clone(), binding()),
            Program::Lxc(lxc) => Self::Lxc(lxc.clone(), binding()),
            Program::Qemu(_) | Program::Line(_) => {
                Self::Machine(Box::new(Machine::new(guest, Some(advice), snapshot)?))
            }
        })
    }

    /// Returns what is claimed for it.
    pub(super) fn parts(&self, request: &Request, advice: &Advice) -> Parts {
        match self {
            Self::Machine(machine) => {
                let (own, roaming) = machine.threads().claimed();
                Parts::of(request, machine.charged(), own, roaming)
            }
            Self::Command(_, binding) | Self::Lxc(_, binding) => {
                Parts::of(request, advice, CpuSet::new(), binding.cpus.clone())
            }
        }
    }
}

impl Plan {
    /// Plans the launch of a guest. Nothing is changed by it. What a person should know is warned of.
    pub(super) fn new(
        guest: &Guest,
        drafted: Drafted,
        root: &SysRoot,
        notes: &mut Notes,
    ) -> Result<Self, LaunchError> {
        // Hosts of many containers have mounts by the thousand: they are read only where it matters.
        let tree = if cgroup::may_be_wanted(guest) { Tree::read(root.dir()) } else { Tree::none() };
        let group = |binding: &Binding, notes: &mut Notes| {
            let planned = cgroup::plan(&Live, &tree, guest, binding)?;
            // A recorded host has no groups, and starts nothing.
            if root.is_live() || guest.cgroup.mode != CgroupMode::Auto {
                planned.notes.iter().for_each(|note| notes.warn(note));
            }
            Ok(planned)
        };
        let way = match drafted {
            Drafted::Command(argv, binding) => {
                let (planned, steps) = (group(&binding, notes)?, binding.steps(argv));
                if planned.steps.is_empty() {
                    Way::InPlace(steps)
                } else {
                    Way::Child(planned, steps)
                }
            }
            Drafted::Lxc(lxc, binding) => {
                let planned = group(&binding, notes)?;
                let argv = lxc::argv(&guest.name, &lxc, &binding, &tree, &planned)?;
                let mut steps = binding.steps(argv);
                steps.insert(steps.len() - 1, Step::CloseOthers);
                Way::Child(planned, steps)
            }
            Drafted::Machine(machine) => {
                machine.notes().for_each(|note| notes.warn(note));
                // Single threads may be pinned beside what its process is bound to.
                let planned = group(&machine.binding(), notes)?;
                Way::Machine(machine, planned)
            }
        };
        Ok(Self { way, tree })
    }

    /// Returns what is done, a line each.
    pub(super) fn text(&self) -> String {
        let steps = match &self.way {
            Way::InPlace(steps) => steps.clone(),
            Way::Child(planned, steps) => planned.clone().around(steps.clone()),
            Way::Machine(machine, planned) => planned.clone().around(machine.steps()),
        };
        steps.iter().map(|step| format!("{step}\n")).collect()
    }

    /// Starts the guest, and returns when it has ended: with its status. A virtual machine has the time `stop` to
    /// shut down when this process is sent SIGTERM.
    pub(super) fn perform(
        self,
        claimant: Claimant<'_>,
        stop: Duration,
    ) -> Result<ExitCode, Box<dyn Error>> {
        let Self { way, tree } = self;
        let Claimant { ledger, held, notes, locks } = claimant;
        // Before the guest begins: from then on stderr is the guest's.
        let mut adopt = |pid: u32, group: Option<Cgroup>, note: Option<&str>| {
            note.into_iter().for_each(|note| notes.warn(note));
            ledger.adopt(held, pid, group, notes);
            output::last_notes(notes);
        };
        let started = match way {
            Way::InPlace(steps) => {
                output::last_notes(notes);
                exec_in_place(&steps)
                    .map(|never| match never {})
                    .map(|ended| End { ended, left: None })
            }
            Way::Child(planned, steps) => {
                Waiting::prepare_in(&Live, planned, &steps).and_then(|waiting| {
                    adopt(waiting.pid(), waiting.claimed(&tree), waiting.note());
                    waiting.open().and_then(placer_launcher::Started::wait)
                })
            }
            Way::Machine(machine, planned) => {
                machine.prepare(&Live, planned, &locks).and_then(|waiting| {
                    adopt(waiting.pid(), waiting.claimed(&tree), waiting.note());
                    waiting.start().and_then(|started| started.wait_or_shut_down(stop))
                })
            }
        };
        let left = started.as_ref().ok().and_then(|end| end.left.as_ref());
        match left {
            // What runs on in its group still holds its memory: the claim ends with the last of it.
            Some(left) => output::warn(&left.to_string()),
            None => ledger.release(held),
        }
        Ok(ExitCode::from(started?.ended.status()))
    }
}
