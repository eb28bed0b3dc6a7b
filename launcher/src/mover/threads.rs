//! Binds all threads of a guest.

use std::collections::BTreeSet;
use std::path::Path;

use nix::errno::Errno;
use placer_engine::CpuSet;

use super::error::MoveError;
use super::host::Host;
use super::journal::Record;
use super::steps::Direction;

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
            let cpus = match direction {
                Direction::There => record.cpus.clone(),
                Direction::Back => record.cpus_before(thread),
            };
            bind_one(host, thread, &cpus)?;
            bound.insert(thread);
        }
    }
    // A guest that makes threads all the time: those that are bound make bound ones.
    Ok(())
}

fn bind_one(host: &mut dyn Host, thread: u32, cpus: &CpuSet) -> Result<(), MoveError> {
    // One that has ended meanwhile needs nothing.
    let result = match host.affinity(thread) {
        Ok(now) if now == *cpus => return Ok(()),
        Ok(_) => host.set_affinity(thread, cpus),
        Err(errno) => Err(errno),
    };
    match result {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(MoveError::Refused(format!("run thread {thread} on CPUs {cpus}"), errno)),
    }
}

/// Writes a list to a file of the guest's group, and looks whether it holds.
pub(super) fn hold(
    host: &mut dyn Host,
    record: &Record,
    file: &str,
    list: &str,
) -> Result<(), MoveError> {
    let Some(cage) = &record.cage else { return Ok(()) };
    let dir = Path::new(&cage.dir);
    let refused =
        |errno| MoveError::Refused(format!("write {list:?} to {file} of {}", cage.dir), errno);
    if host.read(&dir.join(file)).map_err(refused)?.trim() == list {
        return Ok(());
    }
    host.write(&dir.join(file), list).map_err(refused)?;
    // Written are wishes: the groups around it may allow less.
    let effective = host.read(&dir.join(format!("{file}.effective"))).map_err(refused)?;
    if effective.trim() == list { Ok(()) } else { Err(refused(Errno::ERANGE)) }
}
