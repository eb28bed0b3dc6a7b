//! The processes of this host: which of them live, and how much of their memory is there.
//!
//! Always of the live host, also for the claims of a recorded machine: their owners run here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::signal::kill;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getpid};

use super::claim::{Caller, Cgroup, Claim, Owner, ProcessId, Seen};
use super::ledger::Fate;
use super::proc_text::{self, Stat};
use crate::error::SourceError;
use crate::ids::NodeId;
use crate::sample::Instant;
use crate::units::{Bytes, CpuShare};

/// The first pid namespace has this number on every Linux (PROC_PID_INIT_INO): who is in it sees
/// every process.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// So many processes are looked through for owners in other pid namespaces.
const MOST_PROCESSES: usize = 16_384;
/// A guest of thousands of mappings.
const LARGEST_MAPS: u64 = 32 << 20;
/// No status or stat of a process is longer.
const LONGEST: usize = 64 << 10;

/// A look at the processes of this host, at one moment.
///
/// Source: `/proc/PID/stat` (start, CPU time), `/proc/PID/status` (RssAnon, RssShmem, HugetlbPages),
/// `memory.numa_stat` and `cgroup.events` of a guest's own cgroup (v2).
#[derive(Debug)]
pub struct Processes {
    proc: OwnedFd,
    cgroups: PathBuf,
    boot: String,
    now: Instant,
    pid_namespace: u64,
    /// What this time namespace adds to the ticks since boot.
    offset_ticks: i64,
    /// Whether `/proc` is of this pid namespace.
    own_proc: bool,
    /// Where the owners in other pid namespaces are seen from here, once they were looked for.
    foreign: BTreeMap<ProcessId, u32>,
    looked: bool,
    text: Vec<u8>,
    path: String,
}

impl Processes {
    /// Takes the time and the names of boot and namespaces. Processes are read when they are asked
    /// about.
    ///
    /// Errors: `/proc` cannot be opened, or tells no boot id or pid namespace.
    pub fn look() -> Result<Self, SourceError> {
        let root = Path::new("/proc");
        let io = |path: &Path, e: nix::Error| SourceError::io(path, e.into());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc =
            openat(nix::fcntl::AT_FDCWD, root, flags, Mode::empty()).map_err(|e| io(root, e))?;
        let clock = crate::source::live_clock_id()?;
        let boot = clock.split(' ').next().unwrap_or_default().to_owned();
        let namespace = root.join("self/ns/pid");
        let link = std::fs::read_link(&namespace).map_err(|e| SourceError::io(&namespace, e))?;
        let pid_namespace = proc_text::namespace(link.as_os_str().as_encoded_bytes())
            .ok_or(SourceError::Missing { path: namespace, needed_for: "the pid namespace" })?;
        let this = std::fs::read_link(root.join("self")).unwrap_or_default();
        let own_proc = this.to_str() == Some(getpid().to_string().as_str());
        // Linux before 5.6 has no time namespaces, and no such file.
        let offsets = std::fs::read(root.join("self/timens_offsets")).unwrap_or_default();
        let offsets = proc_text::time_offsets(&offsets);
        let own = i128::from(crate::source::live_clock()?.nanoseconds());
        let now = u64::try_from(own - offsets.monotonic_ns).unwrap_or(0);
        Ok(Self {
            proc,
            cgroups: PathBuf::from("/sys/fs/cgroup"),
            boot,
            now: Instant::from_nanoseconds(now),
            pid_namespace,
            offset_ticks: i64::try_from(offsets.boot_ns / 10_000_000).unwrap_or(0),
            own_proc,
            foreign: BTreeMap::new(),
            looked: false,
            text: Vec::new(),
            path: String::new(),
        })
    }

    /// Returns the boot id.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Returns the moment of the look, on the monotonic clock of the first time namespace, so that
    /// all on this host mean the same.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Returns the identity of a process that this one sees; `None` when there is none of the pid.
    pub fn identify(&mut self, pid: u32) -> Option<ProcessId> {
        let stat = self.stat(pid)?;
        let start = stat.start;
        (!stat.ended).then_some(ProcessId { pid_namespace: self.pid_namespace, pid, start })
    }

    /// Returns who is asking: this process, or another on whose behalf it asks.
    pub fn caller(&mut self, pid: u32, uid: u32) -> Caller {
        let program = self.stat(pid).map(|stat| stat.program).unwrap_or_default();
        Caller { uid, pid, program }
    }

    /// Returns whether the owner of a claim of this boot still lives. A zombie does not: its memory
    /// is gone.
    pub fn fate(&mut self, claim: &Claim) -> Fate {
        let (process, cgroup) = match &claim.owner {
            Owner::Hold { .. } => return Fate::Unknown,
            Owner::Process(process) => (process, None),
            Owner::Cgroup(process, cgroup) => (process, Some(cgroup)),
        };
        match (self.fate_of(process), cgroup) {
            (Fate::Dead, Some(cgroup)) if self.is_populated(cgroup) => Fate::Alive,
            (fate, _) => fate,
        }
    }

    fn fate_of(&mut self, process: &ProcessId) -> Fate {
        let Some(pid) = self.pid_here(process) else {
            // Who sees every process knows that it has ended.
            let all = self.own_proc && self.pid_namespace == FIRST_PID_NAMESPACE && self.looked;
            return if all { Fate::Dead } else { Fate::Unknown };
        };
        match self.stat(pid) {
            // One tick of play: in another time namespace the offset is rounded.
            Some(stat) if stat.start.abs_diff(process.start) > 1 || stat.ended => Fate::Dead,
            Some(_) => Fate::Alive,
            // Gone, or hidden from this user (hidepid)?
            None => match i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), None)) {
                Ok(Err(nix::Error::ESRCH)) | Err(_) => Fate::Dead,
                Ok(_) => Fate::Unknown,
            },
        }
    }

    /// Returns what can be seen of a claim's guest; `None` when it cannot be looked at.
    pub fn seen(&mut self, claim: &Claim) -> Option<Seen> {
        let process = claim.owner.process()?;
        let pid = self.pid_here(process)?;
        let mut seen = Seen { at: self.now, ..Seen::default() };
        if let Some(stat) = self.stat(pid).filter(|stat| stat.start.abs_diff(process.start) <= 1) {
            let age = self.now_ticks().saturating_sub(stat.start).max(1);
            let hundredths = u128::from(stat.used_ticks) * 100 / u128::from(age);
            seen.cpus = CpuShare::from_hundredths(u64::try_from(hundredths).unwrap_or(u64::MAX));
            let status = self.read(pid, "status").then(|| proc_text::status(&self.text))?;
            seen.resident = status.resident;
            seen.huge = status.huge;
        } else if !matches!(claim.owner, Owner::Cgroup(..)) {
            return None;
        }
        if let Owner::Cgroup(_, cgroup) = &claim.owner
            && let Some(per_node) = self.memory_of(cgroup)
        {
            seen.resident = per_node.iter().map(|&(_, memory)| memory).sum();
            seen.per_node = per_node;
        }
        Some(seen)
    }

    /// Returns where the memory of a claim's guest is now, node by node; `None` when this user may
    /// not know. Takes some ms for a large guest and holds it up meanwhile: not for decisions.
    ///
    /// Source: `memory.numa_stat` of its own cgroup, else `/proc/PID/numa_maps`.
    pub fn placement(&mut self, claim: &Claim) -> Option<Vec<(NodeId, Bytes)>> {
        if let Owner::Cgroup(_, cgroup) = &claim.owner {
            return self.memory_of(cgroup);
        }
        let pid = self.pid_here(claim.owner.process()?)?;
        let file = File::open(format!("/proc/{pid}/numa_maps")).ok()?;
        let mut text = Vec::new();
        file.take(LARGEST_MAPS).read_to_end(&mut text).ok()?;
        Some(super::numa_maps::parse(&text))
    }

    /// Returns the program of a claim's owner; `None` when it is not seen from here.
    pub fn program(&mut self, claim: &Claim) -> Option<String> {
        let pid = self.pid_here(claim.owner.process()?)?;
        self.stat(pid).map(|stat| stat.program)
    }

    /// Returns the pid by which a process is seen from here.
    fn pid_here(&mut self, process: &ProcessId) -> Option<u32> {
        if !self.own_proc {
            return None;
        }
        if process.pid_namespace == self.pid_namespace {
            return Some(process.pid);
        }
        if !self.looked {
            self.look_for_foreign();
        }
        self.foreign.get(process).copied()
    }

    /// Finds the processes of other pid namespaces among those that are seen from here. Only done
    /// when a claim has such an owner.
    fn look_for_foreign(&mut self) {
        let pids = self.pids();
        self.looked = pids.len() < MOST_PROCESSES;
        for pid in pids {
            if !self.read(pid, "status") {
                continue;
            }
            // In the innermost namespace it has another number, or it has only one.
            let Some(inner) = proc_text::inner_pid(&self.text) else { continue };
            let Some(namespace) = self.namespace_of(pid) else { continue };
            let Some(stat) = self.stat(pid).filter(|stat| !stat.ended) else { continue };
            // The start is one tick off at most: found under each.
            for start in stat.start.saturating_sub(1)..=stat.start.saturating_add(1) {
                let process = ProcessId { pid_namespace: namespace, pid: inner, start };
                self.foreign.insert(process, pid);
            }
        }
    }

    fn namespace_of(&self, pid: u32) -> Option<u64> {
        let path = format!("{pid}/ns/pid");
        let link = nix::fcntl::readlinkat(self.proc.as_fd(), path.as_str()).ok()?;
        proc_text::namespace(link.as_encoded_bytes())
    }

    /// Lists the processes that are seen from here, at most so many as are looked through.
    pub(super) fn pids(&self) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        names.take(MOST_PROCESSES).collect()
    }

    fn now_ticks(&self) -> u64 {
        // The clock of a process's start counts suspended time, the monotonic one does not: read
        // from the same place as the start, in the same namespace.
        let uptime = std::fs::read("/proc/uptime").unwrap_or_default();
        proc_text::uptime_ticks(&uptime).saturating_add_signed(self.offset_ticks.saturating_neg())
    }

    pub(super) fn stat(&mut self, pid: u32) -> Option<Stat> {
        if !self.read(pid, "stat") {
            return None;
        }
        let mut stat = proc_text::stat(&self.text)?;
        stat.start = stat.start.saturating_add_signed(self.offset_ticks.saturating_neg());
        Some(stat)
    }

    /// Reads a file of a process into `text`. Returns whether there was one.
    pub(super) fn read(&mut self, pid: u32, name: &str) -> bool {
        self.path.clear();
        // Writing to a string does not fail.
        let _ = write!(self.path, "{pid}/{name}");
        self.text.clear();
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let Ok(fd) = openat(self.proc.as_fd(), self.path.as_str(), flags, Mode::empty()) else {
            return false;
        };
        let mut file = File::from(fd);
        // One read is enough for nearly all, and tells the end of the file by being short.
        self.text.resize(4096, 0);
        let mut filled = 0;
        loop {
            match file.read(&mut self.text[filled..]) {
                Ok(n) => {
                    filled += n;
                    if filled < self.text.len() || filled >= LONGEST {
                        break;
                    }
                    self.text.resize(filled * 2, 0);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.text.truncate(filled);
        filled > 0
    }

    fn dir_of(&self, cgroup: &Cgroup) -> Option<PathBuf> {
        let dir = self.cgroups.join(cgroup.path.trim_start_matches('/'));
        let same = std::fs::metadata(&dir).ok()?.ino() == cgroup.inode;
        same.then_some(dir)
    }

    fn is_populated(&self, cgroup: &Cgroup) -> bool {
        let Some(dir) = self.dir_of(cgroup) else { return false };
        let events = std::fs::read(dir.join("cgroup.events")).unwrap_or_default();
        events.split(|&b| b == b'\n').any(|line| line == b"populated 1")
    }

    fn memory_of(&self, cgroup: &Cgroup) -> Option<Vec<(NodeId, Bytes)>> {
        let text = std::fs::read(self.dir_of(cgroup)?.join("memory.numa_stat")).ok()?;
        Some(proc_text::numa_stat(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::claim::tests::claim;
    use super::*;

    fn child() -> std::process::Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep")
    }

    fn owned(owner: ProcessId) -> Claim {
        Claim { owner: Owner::Process(owner), ..claim(1, &[(0, 1)]) }
    }

    #[test]
    fn a_process_lives_until_it_is_killed_even_if_nobody_waits_for_it() {
        let mut child = child();
        let mut look = Processes::look().expect("a live host");
        let owner = look.identify(child.id()).expect("it runs");
        assert_eq!(look.fate(&owned(owner)), Fate::Alive);
        let seen = look.seen(&owned(owner)).expect("it can be looked at");
        assert!(seen.resident < Bytes::new(64 << 20), "{seen:?}");
        // The pid is given again: an earlier start is another process.
        let earlier = ProcessId { start: owner.start - 2, ..owner };
        assert_eq!(look.fate(&owned(earlier)), Fate::Dead);

        child.kill().expect("killed");
        let zombie = |look: &mut Processes| look.fate(&owned(owner)) == Fate::Dead;
        for _ in 0..200 {
            if zombie(&mut look) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(zombie(&mut look), "a zombie");
        child.wait().expect("waited for");
        assert_eq!(look.fate(&owned(owner)), Fate::Dead);
        assert_eq!(look.identify(child.id()), None);
        assert_eq!(look.seen(&owned(owner)), None);
    }

    #[test]
    fn resident_memory_is_this_process_own() {
        let mut look = Processes::look().expect("a live host");
        let this = look.identify(std::process::id()).expect("this process");
        let before = look.seen(&owned(this)).expect("seen").resident;
        let memory = std::hint::black_box(vec![7u8; 64 << 20]);
        let after = look.seen(&owned(this)).expect("seen").resident;
        assert!(after.get() >= before.get() + (60 << 20), "{before} {after} {}", memory[1]);
        assert_eq!(look.caller(std::process::id(), 5).uid, 5);
        assert!(!look.boot().is_empty() && look.now() > Instant::default());
    }

    #[test]
    fn an_owner_in_an_unknown_pid_namespace() {
        let mut look = Processes::look().expect("a live host");
        let there = ProcessId { pid_namespace: 1, pid: 1, start: 1 };
        // From the first namespace everything is seen: it has ended. From others nobody knows.
        let sees_all = look.pid_namespace == FIRST_PID_NAMESPACE;
        let fate = if sees_all { Fate::Dead } else { Fate::Unknown };
        assert_eq!(look.fate(&owned(there)), fate);
    }

    #[test]
    fn an_owner_in_a_pid_namespace_below_this_one_is_found() {
        let unshare = ["--fork", "--pid", "--mount-proc", "--kill-child", "sleep", "60"];
        let mut outer = Command::new("unshare").args(unshare).stdin(Stdio::null()).spawn();
        let Ok(outer) = &mut outer else { return eprintln!("skipped: unshare is not there") };
        let mut look = Processes::look().expect("a live host");
        let mut found = None;
        for _ in 0..200 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            found = look.pids().into_iter().find(|&pid| {
                look.stat(pid).is_some_and(|stat| stat.parent == outer.id())
                    && look.stat(pid).is_some_and(|stat| stat.program == "sleep")
            });
            if found.is_some() || outer.try_wait().expect("a child").is_some() {
                break;
            }
        }
        if let Some(pid) = found {
            let start = look.stat(pid).expect("it runs").start;
            let pid_namespace = look.namespace_of(pid).expect("root may look");
            let owner = ProcessId { pid_namespace, pid: 1, start };
            assert_eq!(look.fate(&owned(owner)), Fate::Alive);
            assert!(look.seen(&owned(owner)).is_some());
            outer.kill().expect("killed");
            outer.wait().expect("waited for");
            std::thread::sleep(std::time::Duration::from_millis(50));
            let mut look = Processes::look().expect("a live host");
            let sees_all = look.pid_namespace == FIRST_PID_NAMESPACE;
            assert_eq!(look.fate(&owned(owner)) == Fate::Dead, sees_all);
        } else {
            eprintln!("skipped: no pid namespace can be made here");
        }
    }
}
