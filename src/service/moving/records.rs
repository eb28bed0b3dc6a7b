//! From a plan to what is to be done, with what was there before.

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use placer_engine::balance::{GuestMemory, Plan, Step};
use placer_engine::claims::{Cgroup, Claims, Owner, ProcessId, Processes};
use placer_engine::{Bytes, CpuSet, NodeSet, parse};
use placer_launcher::mover::{
    Cage, ClaimBefore, Host as _, Live, Phase, QEMU_RUN, Record, Share, Threads, bound_by_itself,
    cage, is_no_answer, libvirt_cage,
};

use crate::service::running::{Observation, RunningGuest};

/// Where libvirt keeps the pids of containers.
const LXC: &str = "/run/libvirt/lxc";
/// Files of such a directory that are looked through.
const MOST_FILES: usize = 8_192;
/// The longest `numa_maps` that is read: some 50,000 mappings.
const LONGEST_MAPS: u64 = 8 << 20;

/// Returns the moves of a plan, and the guests that cannot be moved, each with the reason. A group is complete or not
/// there.
pub(super) fn records(
    seen: &Observation,
    plan: &Plan,
    own: &Claims,
    mount: Option<&Path>,
    look: &mut Processes,
) -> (Vec<Record>, Vec<(ProcessId, String)>) {
    let (mut moves, mut refused, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut libvirt_is_down = None;
    for step in &plan.steps {
        let Some(guest) = seen.guests.get(step.guest) else { continue };
        let before = plan.slowdowns.get(step.guest).map_or(f64::NAN, |&(before, _)| before);
        let Some(process) = look.identify(guest.name.pid) else {
            groups.push(step.group);
            continue;
        };
        match record(seen, guest, (step, before), process, own, mount, &mut libvirt_is_down) {
            Ok(record) => moves.push(record),
            Err(why) => {
                groups.push(step.group);
                refused.push((process, why));
            }
        }
    }
    moves.retain(|record| !groups.contains(&record.group));
    (moves, refused)
}

fn record(
    seen: &Observation,
    guest: &RunningGuest,
    (step, slowdown): (&Step, f64),
    process: ProcessId,
    own: &Claims,
    mount: Option<&Path>,
    libvirt_is_down: &mut Option<String>,
) -> Result<Record, String> {
    if let Some(claim) = guest.claims.iter().find(|claim| !own.has(claim.id)) {
        return Err(format!("its claim {} is in the host's ledger: only root moves it", claim.id));
    }
    let moves = step.memory > Bytes::ZERO;
    let cage = match domain_of(process.pid) {
        Some(name) => Some(cage_of_libvirts(&name, guest, process, mount, moves, libvirt_is_down)?),
        None => cage_of(&guest.owner, process, mount)?,
    };
    if moves && cage.as_ref().is_none_or(|cage| cage.mems.is_empty()) {
        check_policy(process.pid)?;
    }
    let snapshot = &seen.snapshot;
    let cpus = snapshot.topology().cpus_of(&step.to).intersection(snapshot.host().roaming());
    let cpus = cpus.difference(snapshot.charges().pinned());
    if cpus.is_empty() {
        return Err(format!("no CPU of nodes {} is free for it", step.to));
    }
    let threads = threads(process.pid)?;
    if threads.len() > 1 {
        return Err("its threads have different CPUs: they were pinned meanwhile".to_owned());
    }
    let claims = guest.claims.iter().map(|claim| ClaimBefore {
        id: claim.id.0,
        promised: claim
            .promised
            .iter()
            .map(|promise| (promise.node.0, promise.memory.get(), promise.cpus.hundredths()))
            .collect(),
        roaming: claim.roaming.clone(),
    });
    let shares = |bytes: fn(&GuestMemory) -> Bytes| {
        let parts = guest.guest.memory.iter();
        let parts = parts.map(|part| Share { node: part.node.0, bytes: bytes(part).get() });
        parts.filter(|share| share.bytes > 0).collect::<Vec<_>>()
    };
    let placed =
        step.placed.iter().map(|&(node, bytes)| Share { node: node.0, bytes: bytes.get() });
    Ok(Record {
        guest: process,
        program: guest.name.program.clone(),
        claims: claims.collect(),
        group: step.group,
        is_earlier: false,
        from: step.from.clone(),
        to: step.to.clone(),
        cpus,
        threads,
        cage,
        source: shares(|part| part.resident.saturating_sub(part.pinned)),
        target: placed.collect(),
        pinned: shares(|part| part.pinned),
        memory: step.memory.get(),
        slowdown,
        phase: Phase::Planned,
        moved: 0,
        stayed: 0,
        finished_s: None,
        why: None,
    })
}

/// Returns the file by which libvirt knows a process.
///
/// Source: `/run/libvirt/qemu/NAME.pid`, the same for containers, and for guests of `qemu:///session`.
fn domain_of(pid: u32) -> Option<PathBuf> {
    let own = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let dirs = [QEMU_RUN.into(), LXC.into(), format!("/run/user/{own}/libvirt/qemu/run")];
    let entries = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    let files = entries.flat_map(|dir| dir.take(MOST_FILES)).flatten().map(|entry| entry.path());
    let mut files = files.filter(|path| path.extension().is_some_and(|name| name == "pid"));
    files.find(|path| read_short(path).is_some_and(|text| text.trim() == pid.to_string()))
}

/// Users have directories of that kind as well: no file in them is waited for.
fn read_short(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns how libvirt holds one of its guests. A libvirt that did not answer once is not asked again.
///
/// Errors: it cannot be moved through libvirt.
fn cage_of_libvirts(
    file: &Path,
    guest: &RunningGuest,
    process: ProcessId,
    mount: Option<&Path>,
    moves: bool,
    is_down: &mut Option<String>,
) -> Result<Cage, String> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let of = |why: &str| format!("libvirt runs it as {name}: {why}");
    if !file.starts_with(QEMU_RUN) {
        return Err(of("only guests of qemu:///system are moved"));
    }
    if guest.claims.is_empty() {
        return Err(of("placer did not place it"));
    }
    if let Some(why) = is_down {
        return Err(of(why));
    }
    let group = Processes::look().ok().and_then(|mut look| look.own_cgroup(&process));
    let dir = mount.zip(group).map(|(mount, group)| mount.join(group.path.trim_start_matches('/')));
    let dir = dir.unwrap_or_default();
    // The process is in the group of its emulator; those of its vCPUs are beside that.
    let dir = if dir.ends_with("emulator") { dir.parent().unwrap_or(&dir) } else { &dir };
    let cage = libvirt_cage(&mut Live::new(), &name, &process, dir, moves).map_err(|why| {
        let said = of(&why);
        if is_no_answer(&why) {
            *is_down = Some(why);
        }
        said
    })?;
    let promised = guest.claims.iter().flat_map(|claim| &claim.promised);
    let promised: NodeSet = promised.map(|promise| promise.node).collect();
    let mems: NodeSet = parse::list::parse(cage.mems.as_bytes()).unwrap_or_default();
    match mems.is_subset(&promised) {
        true => Ok(cage),
        false => Err(of(&format!("its user bound its memory to nodes {mems}"))),
    }
}

/// Returns the control group that placer made for a guest.
///
/// Errors: another program keeps it.
fn cage_of(
    owner: &Owner,
    process: ProcessId,
    mount: Option<&Path>,
) -> Result<Option<Cage>, String> {
    let Some(mount) = mount else { return Ok(None) };
    let own: Option<Cgroup> = match owner {
        Owner::Cgroup(_, group) => Some(group.clone()),
        Owner::Process(_) | Owner::Hold { .. } => {
            Processes::look().ok().and_then(|mut look| look.own_cgroup(&process))
        }
    };
    let Some(group) = own else { return Ok(None) };
    cage(mount, &group).map_err(|dir| {
        format!("the program that keeps its control group {} binds it", dir.display())
    })
}

/// Refuses memory that is bound by a policy, and by no group.
fn check_policy(pid: u32) -> Result<(), String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let file = std::fs::File::open(format!("/proc/{pid}/numa_maps"));
    let read = file.and_then(|file| file.take(LONGEST_MAPS).read_to_end(&mut text));
    let whole = match &read {
        Ok(_) => u64::try_from(text.len()).is_ok_and(|length| length < LONGEST_MAPS),
        // It has ended, or the kernel has no NUMA.
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !whole {
        return Err(
            "the policy of its memory is not known: its numa_maps cannot be read as a whole"
                .to_owned(),
        );
    }
    match bound_by_itself(&String::from_utf8_lossy(&text)) {
        Some(policy) => Err(format!(
            "its memory has the policy {policy}, which moves only with a control group of its own (placer launch --cgroup own)"
        )),
        None => Ok(()),
    }
}

/// Returns the threads of a process by their CPUs.
fn threads(pid: u32) -> Result<Vec<Threads>, String> {
    let mut host = Live::new();
    let ids = host.threads(pid).map_err(|errno| format!("its threads: {}", errno.desc()))?;
    let mut all: Vec<Threads> = Vec::new();
    for id in ids {
        // One that has ended meanwhile is none.
        let Ok(cpus) = host.affinity(id) else { continue };
        let cpus: CpuSet = cpus;
        match all.iter_mut().find(|threads| threads.cpus == cpus) {
            Some(threads) => threads.ids.push(id),
            None => all.push(Threads { cpus, ids: vec![id] }),
        }
    }
    Ok(all)
}
