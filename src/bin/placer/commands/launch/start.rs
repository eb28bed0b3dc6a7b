//! From what was decided to a guest that runs, by the way that suits its kind.

use std::error::Error;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use placer_engine::claims::{Cgroup, ClaimId, ClaimOwner, Decision};
use placer_engine::{Advice, CpuSet, Request, Snapshot, SysRoot};
use placer_launcher::cgroup::{self, Live, Planned, Tree};
use placer_launcher::guest::{Guest, Program};
use placer_launcher::qemu::Launch as Machine;
use placer_launcher::{Binding, End, LaunchError, Step, Waiting, exec_in_place, lxc, systemd};

use crate::output;
use placer::service::claim_session::{self, Desk};
use placer::service::notes::Notes;
use placer::settings::variables;

/// All that will be done. A value: it is shown by a dry run, or performed.
pub(super) struct Plan {
    way: Way,
    tree: Tree,
}

enum Way {
    /// This very process becomes the guest, as with numactl, on these CPUs.
    InPlace(Vec<Step>, CpuSet),
    /// A child becomes the guest, in a group of its own or because the guest needs one to wait.
    Child(Vec<Step>, CpuSet),
    Machine(Box<Machine>, Planned),
}

/// The decision that a guest is started by, and the ledger it is claimed in.
pub(super) struct Claimant<'a> {
    pub(super) desk: &'a Desk,
    pub(super) decision: Option<Decision<'a>>,
    pub(super) request: &'a Request,
    pub(super) advice: &'a Advice,
    pub(super) notes: &'a mut Notes,
}

impl Plan {
    /// Plans the launch of a guest. Nothing is changed by it. What a person should know is warned of.
    pub(super) fn new(
        guest: &Guest,
        binding: &Binding,
        advice: &Advice,
        snapshot: &Snapshot,
        root: &SysRoot,
        notes: &mut Notes,
    ) -> Result<Self, LaunchError> {
        // Hosts of many containers have mounts by the thousand: they are read only where it matters.
        let tree = if cgroup::may_be_wanted(guest) { read_tree(root) } else { Tree::none() };
        let group = |binding: &Binding, notes: &mut Notes| {
            let planned = cgroup::plan(&Live, &tree, guest, binding)?;
            planned.notes.iter().for_each(|note| notes.warn(note));
            Ok(planned)
        };
        let way = match &guest.program {
            Program::Command(argv) => {
                let (planned, steps) = (group(binding, notes)?, binding.steps(argv.clone()));
                if planned.steps.is_empty() {
                    Way::InPlace(steps, binding.cpus.clone())
                } else {
                    Way::Child(planned.around(steps), binding.cpus.clone())
                }
            }
            Program::Lxc(lxc) => {
                let planned = group(binding, notes)?;
                let argv = lxc::argv(&guest.name, lxc, binding, &tree, &planned)?;
                Way::Child(planned.around(binding.steps(argv)), binding.cpus.clone())
            }
            Program::Qemu(_) | Program::Line(_) => {
                let machine = Machine::new(guest, Some(advice), snapshot)?;
                machine.notes().for_each(|note| notes.warn(note));
                // Single threads may be pinned beside what its process is bound to.
                let planned = group(&machine.binding(), notes)?;
                Way::Machine(Box::new(machine), planned)
            }
        };
        Ok(Self { way, tree })
    }

    /// Returns what is done, a line each.
    pub(super) fn text(&self) -> String {
        let steps = match &self.way {
            Way::InPlace(steps, _) | Way::Child(steps, _) => steps.clone(),
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
        let desk = claimant.desk;
        let claim;
        let started = match way {
            Way::InPlace(steps, cpus) => {
                claim = claimant.claim(ClaimOwner::Pid(std::process::id()), CpuSet::new(), cpus);
                exec_in_place(&steps)
                    .map(|never| match never {})
                    .map(|ended| End { ended, left: None })
            }
            Way::Child(steps, cpus) => {
                let waiting = Waiting::prepare(&Live, &steps)?;
                let who = who(waiting.pid(), waiting.claimed(&tree));
                claim = claimant.claim(who, CpuSet::new(), cpus);
                waiting.open().and_then(placer_launcher::Started::wait)
            }
            Way::Machine(machine, planned) => {
                let waiting = machine.prepare(&Live, planned)?;
                let (own, roaming) = machine.threads().claimed();
                let charged = machine.charged(claimant.advice);
                let claimant = Claimant { advice: &charged, ..claimant };
                claim = claimant.claim(who(waiting.pid(), waiting.claimed(&tree)), own, roaming);
                waiting.start().and_then(|started| started.wait_or_shut_down(stop))
            }
        };
        let left = started.as_ref().ok().and_then(|end| end.left.as_ref());
        match (claim, left) {
            // What runs on in its group still holds its memory: the claim ends with the last of it.
            (_, Some(left)) => output::warn(&left.to_string()),
            (Some(claim), None) => desk.release(claim),
            (None, None) => {}
        }
        Ok(ExitCode::from(started?.ended.status()))
    }
}

impl Claimant<'_> {
    fn claim(self, who: ClaimOwner, pinned: CpuSet, roaming: CpuSet) -> Option<ClaimId> {
        let Self { decision, request, advice, notes, .. } = self;
        let claim = decision.and_then(|decision| {
            let decision = decision.pinning(pinned).roaming_over(roaming);
            claim_session::claim_for(decision, request, advice, who, notes)
        });
        // From here on stderr is the guest's.
        output::last_notes(notes);
        claim
    }
}

/// Reads the host's groups, and where its systemd can be spoken to.
fn read_tree(root: &SysRoot) -> Tree {
    let is_root = nix::unistd::geteuid().is_root();
    let name = if is_root { "DBUS_SYSTEM_BUS_ADDRESS" } else { "DBUS_SESSION_BUS_ADDRESS" };
    let addresses = variables::value(name);
    let runtime = variables::value("XDG_RUNTIME_DIR").map(PathBuf::from);
    let addresses = addresses.as_deref().and_then(OsStr::to_str);
    let bus = systemd::bus(is_root, addresses, runtime.as_deref());
    Tree { bus, ..Tree::read(root.dir()) }
}

/// Returns who is claimed for: all that is in the guest's own group, else its process.
fn who(pid: u32, group: Option<Cgroup>) -> ClaimOwner {
    match group {
        Some(cgroup) => ClaimOwner::Cgroup(pid, cgroup),
        None => ClaimOwner::Pid(pid),
    }
}
