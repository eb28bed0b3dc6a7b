//! Has systemd make a scope, and looks that it did.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use placer_engine::{CpuSet, NodeSet};

use super::bus::{Bus, BusError};
use super::wire::{Call, Message, Writer};
use super::{Scope, ScopeStep};
use crate::error::LaunchError;
use crate::sys::Mask;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";

/// Has systemd put a process that waits into a scope, and returns when it is in there and held.
///
/// Errors: there is no bus, systemd does not want to, it does not answer in time, or the scope is not
/// held as was asked for. The process is to be ended then, and the scope ends with it.
pub(crate) fn make(step: &ScopeStep, pid: u32) -> Result<Scope, LaunchError> {
    start(step, pid).map_err(|error| refused(step, &error))?;
    let dir = dir_of(step, pid)?;
    hold(step, &dir, pid)?;
    let inode = dir.metadata().map_or(0, |meta| meta.ino());
    Ok(Scope { dir, inode })
}

fn start(step: &ScopeStep, pid: u32) -> Result<(), BusError> {
    let mut bus = Bus::connect(&step.bus, step.limit)?;
    // Before the scope is asked for: it may be made before anything else is heard.
    bus.call(&listen())?;
    let answer = bus.call(&transient(step, pid))?;
    let job = answer.texts().first().map(|&job| job.to_owned());
    let job = job.ok_or(BusError::Strange("the name of a job"))?;
    // Anybody on the bus may send a signal that looks like this one.
    let result =
        bus.signal(|signal| result_of(signal, &job).filter(|_| signal.sender == answer.sender))?;
    match result.as_str() {
        "done" => Ok(()),
        other => {
            let words = format!("that its job ended as {other:?}");
            Err(BusError::Refused("job".to_owned(), words))
        }
    }
}

fn listen() -> Call<'static> {
    let mut body = Writer::default();
    body.text(
        "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
         interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
    );
    Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "AddMatch",
        signature: "s",
        body: body.end(),
    }
}

/// The call that makes the scope.
///
/// Source: org.freedesktop.systemd1(5); StartTransientUnit(in s name, in s mode, in a(sv) properties,
/// in a(sa(sv)) aux, out o job). Sets of CPUs and nodes are bytes, lowest first, since systemd 244.
fn transient(step: &ScopeStep, pid: u32) -> Call<'static> {
    let mut body = Writer::default();
    body.text(&step.unit);
    // Never in place of another.
    body.text("fail");
    body.array(8, |all| {
        property(all, "Description", "s", |value| value.text(&step.description));
        property(all, "PIDs", "au", |value| value.array(4, |pids| pids.number(pid)));
        property(all, "Delegate", "b", |value| value.number(1));
        property(all, "CollectMode", "s", |value| value.text("inactive-or-failed"));
        if let Some(slice) = &step.slice {
            property(all, "Slice", "s", |value| value.text(slice));
        }
        for (name, mask) in masks(&step.cpus, &step.nodes) {
            let bytes: Vec<u8> = mask.words().iter().flat_map(|word| word.to_le_bytes()).collect();
            let bytes = bytes.into_iter();
            property(all, name, "ay", |value| {
                value.array(1, |list| bytes.for_each(|byte| list.byte(byte)));
            });
        }
    });
    body.array(8, |_| {});
    Call {
        destination: SYSTEMD,
        path: OBJECT,
        interface: MANAGER,
        member: "StartTransientUnit",
        signature: "ssa(sv)a(sa(sv))",
        body: body.end(),
    }
}

fn property(all: &mut Writer, name: &str, kind: &str, value: impl FnOnce(&mut Writer)) {
    all.structure();
    all.text(name);
    all.signature(kind);
    value(all);
}

fn masks(cpus: &CpuSet, nodes: &NodeSet) -> Vec<(&'static str, Mask)> {
    let mut masks = Vec::new();
    if !cpus.is_empty() {
        masks.push(("AllowedCPUs", Mask::of_cpus(cpus)));
    }
    if !nodes.is_empty() {
        masks.push(("AllowedMemoryNodes", Mask::of_nodes(nodes)));
    }
    masks
}

/// Returns how a job ended, if a signal tells of it: JobRemoved(u id, o job, s unit, s result).
fn result_of(signal: &Message, job: &str) -> Option<String> {
    match signal.texts()[..] {
        [of, _, result] if signal.member == "JobRemoved" && of == job => Some(result.to_owned()),
        _ => None,
    }
}

fn refused(step: &ScopeStep, error: &BusError) -> LaunchError {
    let errno = match error {
        BusError::NoBus(errno) | BusError::Failed(errno) => *errno,
        BusError::Rejected(_) => Errno::EACCES,
        BusError::Closed => Errno::ECONNRESET,
        BusError::Late(_) => Errno::ETIMEDOUT,
        BusError::Strange(_) => Errno::EPROTO,
        BusError::Refused(..) => Errno::EINVAL,
    };
    // Where it is was said by a variable, which may hold anything.
    let bus = crate::quote::quoted(step.bus.as_os_str());
    let attempted = format!("make the systemd scope {} over {bus}", step.unit);
    let told = LaunchError::seen(attempted, errno, error.to_string());
    let BusError::Refused(name, words) = error else {
        return match error {
            BusError::NoBus(_) => told.hint("is D-Bus running? --cgroup none needs no systemd"),
            BusError::Late(_) => told.hint("systemd or the host does not respond"),
            _ => told,
        };
    };
    match name.as_str() {
        "org.freedesktop.systemd1.UnitExists" => told.hint(
            "processes of an earlier guest of this name run there: systemctl stop ends them; \
             start this one again to get another name",
        ),
        "org.freedesktop.DBus.Error.PropertyReadOnly" if words.contains("Allowed") => {
            told.hint("AllowedCPUs and AllowedMemoryNodes need systemd 244")
        }
        "org.freedesktop.DBus.Error.ServiceUnknown" => told.hint("systemd is not on this bus"),
        "org.freedesktop.DBus.Error.AccessDenied"
        | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => told.hint(
            "only root may create scopes of the system; a user's own systemd is reached \
                over the user's bus",
        ),
        _ => told,
    }
}

/// Returns the group that a process was put in.
fn dir_of(step: &ScopeStep, pid: u32) -> Result<PathBuf, LaunchError> {
    let file = format!("/proc/{pid}/cgroup");
    let text = read(Path::new(&file)).map_err(|errno| failed(step, &file, errno))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let name = Path::new(own).file_name().and_then(|name| name.to_str());
    if name != Some(step.unit.as_str()) {
        let attempted = format!("make the systemd scope {}", step.unit);
        let seen = format!("systemd created it and left the guest in /{own}");
        return Err(LaunchError::seen(attempted, Errno::ESRCH, seen));
    }
    Ok(step.mount.join(own))
}

/// Looks that the scope is as it was asked for, and lets the process enter what is inside of it.
fn hold(step: &ScopeStep, dir: &Path, pid: u32) -> Result<(), LaunchError> {
    for (file, wanted) in held(step) {
        look(step, dir, file, &wanted)?;
    }
    if step.inner { enter_inner(step, dir, pid) } else { Ok(()) }
}

/// Returns what of the group is held to what.
fn held(step: &ScopeStep) -> Vec<(&'static str, String)> {
    let mut held = Vec::new();
    if !step.cpus.is_empty() {
        held.push(("cpuset.cpus", step.cpus.to_string()));
    }
    if !step.nodes.is_empty() {
        held.push(("cpuset.mems", step.nodes.to_string()));
    }
    held
}

/// Asked for are wishes: a slice around the scope may allow less, and a user's systemd may have no
/// cpusets to give.
fn look(step: &ScopeStep, dir: &Path, file: &str, wanted: &str) -> Result<(), LaunchError> {
    let path = dir.join(format!("{file}.effective"));
    let attempted = || format!("hold the systemd scope {} to {file} {wanted}", step.unit);
    match read(&path) {
        Ok(found) if found.trim() == wanted => Ok(()),
        Ok(found) => {
            let seen = format!("the groups around it allow only {:?} of these", found.trim());
            Err(LaunchError::seen(attempted(), Errno::ERANGE, seen))
        }
        Err(Errno::ENOENT) => {
            let seen = "this systemd has no cpusets to give";
            Err(LaunchError::seen(attempted(), Errno::ENOENT, seen)
                .hint("root can delegate them: Delegate=cpuset in user@.service"))
        }
        Err(errno) => Err(failed(step, &path.display().to_string(), errno)),
    }
}

/// Puts the process into a group without controllers, see `cgroup::plan`.
fn enter_inner(step: &ScopeStep, dir: &Path, pid: u32) -> Result<(), LaunchError> {
    let inner = dir.join("lxc");
    let done = std::fs::create_dir(&inner)
        .and_then(|()| std::fs::write(inner.join("cgroup.procs"), pid.to_string()));
    done.map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        failed(step, &inner.display().to_string(), errno)
    })
}

fn failed(step: &ScopeStep, what: &str, errno: Errno) -> LaunchError {
    LaunchError::new(format!("use the systemd scope {}: {what}", step.unit), errno)
}

fn read(path: &Path) -> Result<String, Errno> {
    const MOST: u64 = 1 << 16;
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MOST).read_to_string(&mut text))
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
