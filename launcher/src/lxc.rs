//! A container of LXC as a command line of LXC's own programs.
//!
//! The launcher's child is bound and then becomes `lxc-execute` or `lxc-start`, in the foreground:
//! what those start inherits the CPUs and the memory policy, so the container's first instruction
//! has them. All settings go by arguments, and no file is written.
//!
//! LXC moves the container into a group of its own, and on Linux up to 6.1 that sets its CPUs anew,
//! to those of the group. So the group must be held to them too: either the launcher makes one and
//! LXC makes its own inside of that (`lxc.cgroup.relative`), or LXC gets them as settings
//! (`lxc.cgroup2.cpuset`).
//! Only the first leaves nothing behind, and lets the claim be for the group: the memory of a
//! container is not that of one process, and the one that is known, LXC's, has next to none of it.
//!
//! # Which program
//!
//! With an `init` the container is for that program: `lxc-execute` runs it below a small process
//! that reaps, passes signals on, and hands its status back. Without one, or if it is called `init`
//! or `systemd`, it is a whole system and its init has to be process 1: `lxc-start`, which
//! does not pass the status on: 0 when the container has ended, 1 when it could not be started. Another program that
//! has to be process 1 is named by `lxc.init.cmd` in the configuration.

use std::ffi::OsString;
use std::path::Path;

use nix::errno::Errno;

use crate::binding::Binding;
use crate::cgroup::{Cpuset, Planned, Tree};
use crate::emit;
use crate::error::LaunchError;
use crate::guest::{GuestName, Lxc, LxcRoot};

/// Returns the program that runs a container, and its arguments, for [`Binding::steps`].
///
/// `planned` is what is done on control groups for it.
/// Errors: a configuration that contradicts the binding; the host's file system without a program.
pub fn argv(
    name: &GuestName,
    lxc: &Lxc,
    binding: &Binding,
    tree: &Tree,
    planned: &Planned,
) -> Result<Vec<OsString>, LaunchError> {
    let grouped = !planned.steps.is_empty();
    check(name, lxc, grouped)?;
    let system = lxc.init.as_deref().is_none_or(is_system);
    let mut argv: Vec<String> = if system {
        vec!["lxc-start".to_owned(), "--foreground".to_owned()]
    } else {
        vec!["lxc-execute".to_owned()]
    };
    let mut define = Vec::new();
    match &lxc.root {
        LxcRoot::Container(name) => argv.push(format!("--name={name}")),
        LxcRoot::Directory(_) | LxcRoot::Host => {
            // No file: neither one of a container of this name nor the default one.
            argv.extend([format!("--name={name}"), "--rcfile=/dev/null".to_owned()]);
            define.extend(ours(lxc, system));
        }
    }
    define.extend(lxc.config.iter().map(|(key, value)| format!("{key}={value}")));
    define.extend(held(binding, tree, grouped));
    argv.extend(define.into_iter().flat_map(|one| ["--define".to_owned(), one]));
    if let Some(init) = &lxc.init {
        argv.extend(["--".to_owned(), init.clone()]);
        argv.extend(lxc.args.iter().cloned());
    }
    Ok(argv.into_iter().map(OsString::from).collect())
}

fn is_system(init: &str) -> bool {
    let name = Path::new(init).file_name().and_then(|name| name.to_str());
    matches!(name, Some("init" | "systemd"))
}

/// Returns what a container that has no configuration of its own needs, where its definition does
/// not say it.
fn ours(lxc: &Lxc, system: bool) -> Vec<String> {
    let says = |key: &str| lxc.config.iter().any(|(named, _)| named == key);
    let mut define = Vec::new();
    let mounts = match &lxc.root {
        LxcRoot::Directory(root) => {
            // Taken for what it is, also where its name looks like another kind of storage.
            define.push(format!("lxc.rootfs.path=dir:{root}"));
            "proc:mixed sys:mixed"
        }
        // Without it /proc tells of other processes than those inside.
        LxcRoot::Host | LxcRoot::Container(_) => "proc:mixed",
    };
    if !says("lxc.mount.auto") {
        define.push(format!("lxc.mount.auto={mounts}"));
    }
    // A program has the launcher's own input and output; a system has a terminal of its own.
    if !says("lxc.console.path") && (!system || lxc.root == LxcRoot::Host) {
        define.push("lxc.console.path=none".to_owned());
    }
    define
}

/// Returns what holds LXC's own group to the binding.
fn held(binding: &Binding, tree: &Tree, grouped: bool) -> Vec<String> {
    if grouped {
        return vec!["lxc.cgroup.relative=1".to_owned()];
    }
    let prefix = match tree.cpuset {
        // A user's containers have a cpuset only where it was delegated, and then there is a group.
        _ if !tree.root => return Vec::new(),
        Cpuset::V2 => "lxc.cgroup2",
        Cpuset::V1 => "lxc.cgroup",
        Cpuset::Missing => return Vec::new(),
    };
    let one = |(file, list)| format!("{prefix}.{file}={list}");
    emit::cpuset(binding).into_iter().map(one).collect()
}

fn check(name: &GuestName, lxc: &Lxc, grouped: bool) -> Result<(), LaunchError> {
    let error = |what: &str| {
        LaunchError::new(format!("start the container {:?}", name.as_str()), Errno::EINVAL)
            .hint(what.to_owned())
    };
    let ours = |key: &str| {
        let cpuset =
            key.starts_with("lxc.cgroup2.cpuset.") || key.starts_with("lxc.cgroup.cpuset.");
        let place = key.starts_with("lxc.cgroup.dir") || key == "lxc.cgroup.relative";
        cpuset || (grouped && place)
    };
    if let Some((key, _)) = lxc.config.iter().find(|(key, _)| ours(key)) {
        return Err(error(&format!(
            "{key} is placer's to set: leave it out, or name nodes and CPUs \
                                   in the definition of the guest"
        )));
    }
    let named = lxc.config.iter().any(|(key, _)| key == "lxc.init.cmd");
    if lxc.root == LxcRoot::Host && lxc.init.is_none() && !named {
        return Err(error(
            "it shares the host's files, so its init must be named: /sbin/init would \
                          start the host's services once more",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
