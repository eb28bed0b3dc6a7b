//! Where the guest's group goes.

use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use placer_engine::NodeSet;

use super::kernel::Kernel;
use super::tree::{Cpuset, Tree};
use crate::binding::Binding;
use crate::emit;
use crate::error::LaunchError;
use crate::guest::{CgroupMode, Guest, Program};
use crate::step::GroupStep;
use crate::step::Step;
use crate::systemd::{self, ScopeStep};

/// What is done on control groups for a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// The steps, in order; none when the guest has no group of its own.
    pub steps: Vec<GroupStep>,
    /// Whether the guest starts without the group where it cannot be made.
    pub optional: bool,
    /// What was wanted and is not done, and why.
    pub notes: Vec<String>,
}

impl Planned {
    /// Returns the steps of a launch, with these around those of the guest's process.
    pub fn around(self, guest: Vec<Step>) -> Vec<Step> {
        let (last, first): (Vec<_>, Vec<_>) =
            self.steps.into_iter().partition(|step| matches!(step, GroupStep::Remove { .. }));
        let first = first.into_iter().map(Step::Group);
        first.chain(guest).chain(last.into_iter().map(Step::Group)).collect()
    }
}

/// Returns whether [`plan`] has to know the host's groups for a guest: not for a command that stays in the
/// launcher's.
pub fn may_be_wanted(guest: &Guest) -> bool {
    let command = matches!(guest.program, Program::Command(_));
    match guest.cgroup.mode {
        CgroupMode::Own | CgroupMode::Systemd => true,
        CgroupMode::Auto => !command || guest.cgroup.parent.is_some(),
        CgroupMode::None => matches!(guest.program, Program::Lxc(_)),
    }
}

/// Returns what is said where a guest has no group, and why.
pub(crate) fn without(why: &str) -> String {
    format!("the guest gets no control group, only affinity and policy: {why}")
}

/// Decides whether a guest has a group of its own, and where. Changes nothing.
///
/// `own`, `systemd` or a named parent: a group or an error. `auto`: for machines and containers a group where
/// one can be had: placer's own where one was delegated, else a scope of systemd's. The kernel's threads that
/// work for a machine (vhost) and its helpers are in there, and a container's memory is not that of one process. A
/// machine that a service of systemd's starts stays in that, where `systemctl stop` and its limits reach it. None for
/// commands, whose own threads inherit what binds them: a group would hold them no better, and cost a start 10 ms.
/// Where the host has no cpuset
/// controller in cgroup v2: none, with a note. `binding` is that of all threads together.
/// Errors: no group that was delegated or named can hold it; there is no systemd to ask.
pub fn plan(
    kernel: &dyn Kernel,
    tree: &Tree,
    guest: &Guest,
    binding: &Binding,
) -> Result<Planned, LaunchError> {
    let named = guest.cgroup.parent.as_deref();
    let machine = guest.program.is_machine();
    let auto = match (guest.cgroup.mode, named, &guest.program) {
        (CgroupMode::None, _, _) => return Ok(Planned::default()),
        (CgroupMode::Own | CgroupMode::Systemd, _, _) | (CgroupMode::Auto, Some(_), _) => false,
        (CgroupMode::Auto, None, Program::Command(_)) => return Ok(Planned::default()),
        (CgroupMode::Auto, None, _) => true,
    };
    // A container's command line depends on its group.
    let planned = |steps| Planned { steps, optional: auto && machine, notes: Vec::new() };
    let none = |why: &str| {
        let notes = if auto && !machine { Vec::new() } else { vec![without(why)] };
        Planned { notes, ..Planned::default() }
    };
    let mount = match (tree.cpuset, &tree.mount) {
        (Cpuset::V2, Some(mount)) => mount,
        (Cpuset::V1, _) => return Ok(none("this host has its cpusets in cgroup v1")),
        _ => return Ok(none("this host has no cpuset controller in cgroup v2")),
    };
    if guest.cgroup.mode == CgroupMode::Systemd {
        return Ok(planned(vec![scope(tree, mount, guest, binding)?]));
    }
    let place = match named {
        Some(named) => below_named(kernel, tree, mount, named),
        None => below_delegated(kernel, tree, mount),
    };
    // The tree is systemd's, and it gives a group to root.
    let may_ask = tree.root && tree.systemd;
    match place {
        Ok((parent, steps)) => Ok(planned(steps_in(&parent, steps, guest, binding))),
        Err(error) if !auto => Err(error),
        Err(_) if may_ask && !(machine && in_service(&tree.own)) => {
            Ok(planned(vec![scope(tree, mount, guest, binding)?]))
        }
        Err(error) => Ok(none(&error.to_string())),
    }
}

/// Returns whether a group is that of a service, or in it; a user's session is none.
fn in_service(own: &str) -> bool {
    own.split('/').any(|name| name.ends_with(".service") && !name.starts_with("user@"))
}

/// Returns the step by which systemd makes the guest's group. A named parent is a slice then.
fn scope(
    tree: &Tree,
    mount: &Path,
    guest: &Guest,
    binding: &Binding,
) -> Result<GroupStep, LaunchError> {
    let unit = systemd::unit(&guest.name, std::process::id());
    let attempted = || format!("make the systemd scope {unit}");
    if !tree.systemd {
        let seen = "systemd does not run this host (no /run/systemd/system)";
        return Err(LaunchError::seen(attempted(), Errno::ENOENT, seen).hint("try --cgroup own"));
    }
    let slice = guest.cgroup.parent.clone();
    if let Some(name) = slice.as_deref().filter(|name| !systemd::is_slice(name)) {
        let seen = format!("its parent has to be a slice, as in machine.slice, found {name:?}");
        return Err(LaunchError::seen(attempted(), Errno::EINVAL, seen));
    }
    Ok(GroupStep::Scope(Box::new(ScopeStep {
        description: format!("placer: guest {}", guest.name),
        slice,
        cpus: binding.cpus.clone(),
        nodes: if emit::holds_memory(binding) { binding.memory.clone() } else { NodeSet::new() },
        inner: matches!(guest.program, Program::Lxc(_)),
        busctl: PathBuf::from("busctl"),
        system: tree.root,
        mount: mount.to_owned(),
        limit: systemd::LIMIT,
        unit,
    })))
}

/// Adds the steps of the guest's group itself.
fn steps_in(
    parent: &Path,
    mut steps: Vec<GroupStep>,
    guest: &Guest,
    binding: &Binding,
) -> Vec<GroupStep> {
    // Names need not be unique; those of launchers that run are.
    let dir = parent.join(format!("placer-{}.{}", guest.name, std::process::id()));
    steps.push(GroupStep::Make { dir: dir.clone() });
    for (file, list) in emit::cpuset(binding) {
        steps.push(GroupStep::Hold { dir: dir.clone(), file, list });
    }
    // LXC makes groups in the one it is started in, and gives them what controllers there are. Since
    // it is in there itself, that fails, and it complains: here there are none to be given.
    let inner = matches!(guest.program, Program::Lxc(_)).then(|| dir.join("lxc"));
    steps.extend(inner.clone().map(|dir| GroupStep::Inner { dir }));
    steps.push(GroupStep::Enter { dir: inner.unwrap_or_else(|| dir.clone()) });
    steps.push(GroupStep::Remove { dir });
    steps
}

/// A group to make another in, and what comes before that.
type Place = (PathBuf, Vec<GroupStep>);

/// Joins a path below the mount point to it, so that each group has one way to be written.
fn below(mount: &Path, path: &Path) -> PathBuf {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    mount.components().chain(names).collect()
}

fn below_named(
    kernel: &dyn Kernel,
    tree: &Tree,
    mount: &Path,
    named: &str,
) -> Result<Place, LaunchError> {
    let what = format!("make a control group below {named:?}");
    let error = |errno, seen: &str| LaunchError::seen(what.clone(), errno, seen);
    // With or without the mount point before it.
    let path = Path::new(named);
    let path = path.strip_prefix(mount).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
    if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(error(Errno::EINVAL, "expected a path below the control groups, without .."));
    }
    let dir = below(mount, path);
    let have = controllers(kernel, &dir).map_err(|errno| {
        let file = dir.join("cgroup.controllers");
        LaunchError::new(format!("{what}: read {}", file.display()), errno)
    })?;
    let ours = !delegated(kernel, tree, mount, &dir).is_empty();
    if let Some(steps) = usable(kernel, mount, &dir, ours) {
        return Ok((dir, steps));
    }
    Err(if !have.iter().any(|name| name == "cpuset") {
        error(Errno::ENOENT, "it has no cpuset controller")
            .hint("the group around it gives none: +cpuset in its cgroup.subtree_control does")
    } else if !ours {
        let file = dir.join("cgroup.subtree_control");
        let seen =
            "groups in it have no cpuset controller, and it is not delegated to this process";
        error(Errno::EPERM, seen).hint(format!("its owner can write +cpuset to {}", file.display()))
    } else {
        error(Errno::EBUSY, "processes run in it, so groups in it can have no controllers")
    })
}

fn below_delegated(kernel: &dyn Kernel, tree: &Tree, mount: &Path) -> Result<Place, LaunchError> {
    let own = below(mount, Path::new(&tree.own));
    let around = delegated(kernel, tree, mount, &own);
    let error = |errno, seen: String, hint| {
        LaunchError::seen("make a control group", errno, seen).hint(hint)
    };
    const SCOPE: &str =
        "start it with systemd-run --scope -p Delegate=yes, or name a group with --cgroup-parent";
    if around.is_empty() && tree.systemd {
        let seen = format!("{} is not delegated to this process", own.display());
        return Err(error(Errno::EPERM, seen, SCOPE));
    } else if around.is_empty() {
        let seen = format!("this process may not write to {}", own.display());
        return Err(error(Errno::EPERM, seen, "name another with --cgroup-parent"));
    }
    for dir in &around {
        if let Some(steps) = usable(kernel, mount, dir, true) {
            return Ok((dir.clone(), steps));
        }
    }
    // Only the launcher itself is in the way: it moves into a group beside the guest's.
    let alone = kernel.read(&own.join("cgroup.procs")).unwrap_or_default();
    let has_cpuset = has(kernel, &own, "cgroup.controllers", "cpuset");
    if has_cpuset && alone.trim() == std::process::id().to_string() {
        let to = own.join(format!("launcher.{}", std::process::id()));
        let leave = GroupStep::Leave { from: own.clone(), to };
        let enable = enable(kernel, &own, true);
        return Ok((own, vec![leave, enable]));
    }
    let own = own.display();
    Err(if has_cpuset {
        let seen = format!("other processes run in {own} too, so groups in it can have no cpuset");
        error(Errno::EBUSY, seen, SCOPE)
    } else {
        let seen = format!("{own} has no cpuset controller");
        error(
            Errno::ENOENT,
            seen,
            "delegate it: Delegate=cpuset memory in the unit that owns the group",
        )
    })
}

/// Returns what has to be done so that groups in `dir` have a cpuset: nothing where they have, and
/// `None` where it cannot be done.
fn usable(kernel: &dyn Kernel, mount: &Path, dir: &Path, ours: bool) -> Option<Vec<GroupStep>> {
    if !has(kernel, dir, "cgroup.controllers", "cpuset") {
        return None;
    }
    if has(kernel, dir, "cgroup.subtree_control", "cpuset") {
        return Some(Vec::new());
    }
    // The kernel lets no group but the first have both processes and groups with controllers.
    let empty = || kernel.read(&dir.join("cgroup.procs")).is_ok_and(|text| text.is_empty());
    (ours && (dir == mount || empty())).then(|| vec![enable(kernel, dir, false)])
}

/// With the memory controller too, where there is one: it tells how much each node carries.
fn enable(kernel: &dyn Kernel, dir: &Path, undone: bool) -> GroupStep {
    let mut controllers = vec!["cpuset"];
    if has(kernel, dir, "cgroup.controllers", "memory") {
        controllers.push("memory");
    }
    GroupStep::Enable { dir: dir.to_owned(), controllers, undone }
}

fn controllers(kernel: &dyn Kernel, dir: &Path) -> Result<Vec<String>, Errno> {
    let text = kernel.read(&dir.join("cgroup.controllers"))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn has(kernel: &dyn Kernel, dir: &Path, file: &str, controller: &str) -> bool {
    let text = kernel.read(&dir.join(file)).unwrap_or_default();
    text.split_whitespace().any(|name| name == controller)
}

/// Returns a group and those around it, from the inside, as far as they are delegated to this
/// process. None where it is not.
fn delegated(kernel: &dyn Kernel, tree: &Tree, mount: &Path, dir: &Path) -> Vec<PathBuf> {
    let around = dir.ancestors().take_while(|dir| dir.starts_with(mount));
    if !tree.systemd {
        // Nobody else manages them.
        return around.take_while(|dir| kernel.may_change(dir)).map(Path::to_owned).collect();
    }
    let mut ours = Vec::new();
    for dir in around {
        ours.push(dir.to_owned());
        if [c"user.delegate", c"trusted.delegate"].iter().any(|name| kernel.is_marked(dir, name)) {
            return ours;
        }
        // A unit that is not delegated is managed by a systemd, which may be a user's own.
        let extension = dir.extension().and_then(|name| name.to_str());
        if matches!(extension, Some("slice" | "scope" | "service")) {
            break;
        }
    }
    Vec::new()
}
