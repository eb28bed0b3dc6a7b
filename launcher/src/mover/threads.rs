//! Binds all threads of a guest.

use std::collections::BTreeSet;
use std::path::Path;

use nix::errno::Errno;
use placer_engine::CpuSet;

use super::error::MoveError;
use super::host::Host;
use super::journal::Record;
use super::steps::Direction;
use super::virsh;
use crate::definition::parse_list;

/// How often threads are listed until no new one is found.
const PASSES: u32 = 20;

/// Gives each thread its CPUs. Threads are listed again until there are no new ones: a thread that was born by
/// one that was not yet bound has the CPUs of before.
pub(super) fn bind(
    host: &mut dyn Host,
    record: &Record,
    direction: Direction,
) -> Result<(), MoveError> {
    let what = || format!("list the threads of process {}", record.guest.pid);
    let mut bound = BTreeSet::new();
    for _ in 0..PASSES {
        let threads = host.threads(record.guest.pid);
        let threads = threads.map_err(|errno| MoveError::Refused(what(), errno))?;
        let new: Vec<u32> = threads.into_iter().filter(|thread| !bound.contains(thread)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for thread in new {
            bind_one(host, record, thread, direction)?;
            bound.insert(thread);
        }
    }
    // A guest that makes threads all the time: those that are bound make bound ones.
    Ok(())
}

/// Gives one thread its CPUs, unless somebody has given it others since. In a group of placer's the kernel has changed
/// them with those of the group.
fn bind_one(
    host: &mut dyn Host,
    record: &Record,
    thread: u32,
    direction: Direction,
) -> Result<(), MoveError> {
    let (here, there) = (record.cpus_before(thread), &record.cpus);
    let (from, to) = match direction {
        Direction::There => (&here, there),
        Direction::Back => (there, &here),
    };
    let cage = record.cage.as_ref().filter(|cage| !cage.cpus.is_empty());
    let grouped = cage.is_some_and(|cage| cage.libvirt.is_none());
    // In a group of libvirt's a thread that was not pinned since has what both sets have, where they have something.
    let cut = cage.is_some_and(|cage| cage.libvirt.is_some()).then(|| from.intersection(to));
    let born = direction == Direction::There && !record.is_listed(thread);
    let ours = |now: &CpuSet| grouped || born || now == from || cut.as_ref() == Some(now);
    let result = match host.affinity(thread) {
        Ok(now) if now == *to || !ours(&now) => return Ok(()),
        Ok(_) => host.set_affinity(record.guest.pid, thread, to),
        Err(errno) => Err(errno),
    };
    match result {
        // One that has ended meanwhile needs nothing.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(Errno::EINVAL) if host.is_the_kernels(record.guest.pid, thread) => Ok(()),
        // None of its CPUs of before is online any more.
        Err(Errno::EINVAL) if direction == Direction::Back => Ok(()),
        Err(errno) => Err(MoveError::Refused(format!("run thread {thread} on CPUs {to}"), errno)),
    }
}

/// Writes a list to a file of the guest's group, or has libvirt do that. On the way there it has to hold; on the way
/// back the groups around it may have been narrowed since.
pub(super) fn hold(
    host: &mut dyn Host,
    record: &Record,
    file: &str,
    list: &str,
    direction: Direction,
) -> Result<(), MoveError> {
    let Some(cage) = &record.cage else { return Ok(()) };
    if let Some(libvirt) = &cage.libvirt {
        if file == "cpuset.mems" {
            let known = (libvirt, cage.mems.as_str());
            return virsh::hold_to(host, &record.guest, known, list, direction);
        }
        let before = parse_list(&cage.cpus).unwrap_or_default();
        let ways = match direction {
            Direction::There => (&before, &record.cpus),
            Direction::Back => (&record.cpus, &before),
        };
        return virsh::pin(host, &record.guest, libvirt, ways);
    }
    let dir = Path::new(&cage.dir);
    let refused =
        |errno| MoveError::Refused(format!("write {list:?} to {file} of {}", cage.dir), errno);
    if host.read(&dir.join(file)).map_err(refused)?.trim() == list {
        return Ok(());
    }
    host.write(&dir.join(file), list).map_err(refused)?;
    if direction == Direction::Back {
        return Ok(());
    }
    // Written are wishes: the groups around it may allow less.
    let effective = host.read(&dir.join(format!("{file}.effective"))).map_err(refused)?;
    match effective.trim() {
        holds if holds == list => Ok(()),
        holds => Err(MoveError::Narrowed(format!(
            "the groups around {} allow {file} {holds} only, and not {list}",
            cage.dir
        ))),
    }
}
