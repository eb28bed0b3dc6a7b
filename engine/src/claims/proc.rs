//! The processes of a host: which of them live, and how much of their memory is there.
//!
//! For the claims of a recorded machine these are the live host's processes: the owners run here. The
//! recording itself is read only for guests that were started without placer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, getpid};

use super::claim::{Caller, Cgroup, Claim, Owner, ProcessId, Seen};
use super::ledger::Fate;
use super::proc_dir::{MOST_PROCESSES, ProcDir};
use super::proc_text::{self, Stat};
use super::watched::Watched;
use crate::error::SourceError;
use crate::ids::NodeId;
use crate::idset::CpuSet;
use crate::sample::Instant;
use crate::source::SysRoot;
use crate::units::{Bytes, CpuShare};

/// The first pid namespace has this number on every Linux (PROC_PID_INIT_INO): who is in it sees
/// every process.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// Above this number of threads only the CPU time of the first one counts as used: less than the
/// process has used, so its claim is overstated and never understated.
const MAX_THREADS_SUMMED: u64 = 512;
/// Of a process with more threads it is not looked up which CPUs they may use.
const MAX_THREADS: usize = 4096;
/// A guest of thousands of mappings.
const LARGEST_MAPS: usize = 32 << 20;
/// `numa_maps` is read so much at a time: the kernel walks the pages of some ten mappings for it.
const MAPS_CHUNK: usize = 1 << 10;
/// The CPU time in which one look finds out where the memory of guests of users is, and of guests of the
/// host, all of each together. What a user maps costs no more than this, and the host's guests nothing.
const PLACEMENT_TIME: Duration = Duration::from_millis(200);
const HOSTS_PLACEMENT_TIME: Duration = Duration::from_secs(2);

/// A look at the processes of this host, at one moment.
///
/// Source: `/proc/PID/stat` (start, CPU time), `/proc/PID/status` (RssAnon, RssShmem, HugetlbPages),
/// `memory.numa_stat` and `cgroup.events` of a guest's own cgroup (v2).
#[derive(Debug)]
pub struct Processes {
    dir: ProcDir,
    live: bool,
    cgroups: PathBuf,
    boot: String,
    now: Instant,
    pid_namespace: u64,
    /// What this time namespace adds to the ticks since boot, and to the monotonic clock.
    offset_ticks: i64,
    offset_ns: i128,
    /// Whether `/proc` is of this pid namespace.
    own_proc: bool,
    /// Where the owners in other pid namespaces are seen from here, once they were looked for.
    foreign: BTreeMap<ProcessId, u32>,
    looked: bool,
    /// Where the memory of processes was found: each is looked at once.
    placed: BTreeMap<ProcessId, Option<Vec<(NodeId, Bytes)>>>,
    /// The CPU time that was spent on it for guests of users, and of the host.
    placing: [Duration; 2],
}

/// Whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The real user.
    pub uid: u32,
    /// The process that started it, or looks after it since.
    pub parent: u32,
    /// Whether it names processes by the same numbers as this one: it is in the same pid namespace.
    /// `false` as well where that may not be known.
    pub here: bool,
}

/// Returns the CPU time that this thread has spent.
fn cpu_time() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
}

/// Reads the `numa_maps` of a process. `None` when it may not be read, is longer than a guest's, or when this
/// thread's CPU time has come to `until` meanwhile.
fn numa_maps(pid: u32, until: Option<Duration>) -> Option<Vec<u8>> {
    let mut file = File::open(format!("/proc/{pid}/numa_maps")).ok()?;
    let mut text = Vec::new();
    let mut chunk = [0; MAPS_CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Some(text),
            Ok(read) => text.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
        let late = until.is_some_and(|until| cpu_time().is_some_and(|now| now >= until));
        if text.len() > LARGEST_MAPS || late {
            return None;
        }
    }
}

/// Reads the monotonic clock of the first time namespace, to which this one adds so much.
fn clock_now(offset_ns: i128) -> Result<Instant, SourceError> {
    let own = i128::from(crate::source::live_clock()?.nanoseconds());
    Ok(Instant::from_nanoseconds(u64::try_from(own - offset_ns).unwrap_or(0)))
}

impl Processes {
    /// Takes the time and the names of boot and namespaces. Processes are read when they are asked
    /// about.
    ///
    /// Errors: `/proc` cannot be opened, or has no boot id or pid namespace.
    pub fn look() -> Result<Self, SourceError> {
        let root = Path::new("/proc");
        let io = |path: &Path, e: nix::Error| SourceError::io(path, e.into());
        let dir = ProcDir::open(root).map_err(|e| io(root, e))?;
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
        Ok(Self {
            dir,
            live: true,
            cgroups: PathBuf::from("/sys/fs/cgroup"),
            boot,
            now: clock_now(offsets.monotonic_ns)?,
            pid_namespace,
            offset_ns: offsets.monotonic_ns,
            offset_ticks: i64::try_from(offsets.boot_ns / 10_000_000).unwrap_or(0),
            own_proc,
            foreign: BTreeMap::new(),
            looked: false,
            placed: BTreeMap::new(),
            placing: [Duration::ZERO; 2],
        })
    }

    /// Looks at the processes of a recorded machine, of which hardly any has some. They are in no
    /// pid namespace of this host.
    ///
    /// Errors: it has no `proc`.
    pub(super) fn recorded(root: &SysRoot) -> Result<Self, SourceError> {
        let proc = root.dir().join("proc");
        let mut dir = ProcDir::open(&proc).map_err(|e| SourceError::io(&proc, e.into()))?;
        let ticks = if dir.read_own("uptime") { proc_text::uptime_ticks(dir.text()) } else { 0 };
        Ok(Self {
            dir,
            live: false,
            cgroups: root.dir().join("sys/fs/cgroup"),
            boot: "recorded".to_owned(),
            now: Instant::from_nanoseconds(ticks.saturating_mul(10_000_000)),
            pid_namespace: 0,
            offset_ticks: 0,
            offset_ns: 0,
            own_proc: true,
            foreign: BTreeMap::new(),
            looked: false,
            placed: BTreeMap::new(),
            placing: [Duration::ZERO; 2],
        })
    }

    /// Returns whether pids mean the same here as in `/proc`.
    pub(super) fn has_own_proc(&self) -> bool {
        self.own_proc
    }

    /// Returns the path of a process's cgroup (v2).
    pub(super) fn cgroup_of(&mut self, pid: u32) -> Option<String> {
        if !self.dir.read(pid, "cgroup") {
            return None;
        }
        let text = String::from_utf8_lossy(self.dir.text());
        text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
    }

    /// Returns the most memory that a process of this host can have, in bytes: that of the host, or the lowest
    /// `memory.max` of its cgroups (v2).
    pub(super) fn memory_limit_of(&mut self, pid: u32) -> u64 {
        let read = self.dir.read_own("meminfo");
        let all = if read { proc_text::memory_total(self.dir.text()) } else { None };
        let path = self.cgroup_of(pid).unwrap_or_default();
        let mut dir = self.cgroups.clone();
        let limits = path.split('/').filter(|name| !name.is_empty() && *name != "..").map(|name| {
            dir.push(name);
            let text = std::fs::read(dir.join("memory.max")).unwrap_or_default();
            crate::parse::number(&text).map_or(u64::MAX, |(limit, _)| limit)
        });
        limits.chain(all).min().unwrap_or(u64::MAX)
    }

    /// Returns the pid namespace that pids are given in.
    pub(super) fn pid_namespace(&self) -> u64 {
        self.pid_namespace
    }

    /// Returns the directory, to be read from.
    pub(super) fn dir(&mut self) -> &mut ProcDir {
        &mut self.dir
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

    /// Moves the moment of the look to the present.
    ///
    /// Errors: there is no clock.
    pub(super) fn advance(&mut self) -> Result<(), SourceError> {
        self.now = clock_now(self.offset_ns)?;
        Ok(())
    }

    /// Returns the identity of a process that this one sees; `None` when there is none of the pid.
    pub fn identify(&mut self, pid: u32) -> Option<ProcessId> {
        let stat = if self.own_proc {
            self.stat(pid)?
        } else {
            // In a `/proc` of another pid namespace the number is another process's; only oneself
            // is found there without it.
            let own = u32::try_from(getpid().as_raw()).ok();
            if own != Some(pid) || !self.dir.read_own("self/stat") {
                return None;
            }
            self.parse_stat()?
        };
        let start = stat.start;
        (!stat.ended).then_some(ProcessId { pid_namespace: self.pid_namespace, pid, start })
    }

    /// Returns whose a process is; `None` when there is none of the pid, or it is a thread's.
    pub fn standing(&mut self, pid: u32) -> Option<Standing> {
        if !self.own_proc || !self.dir.read(pid, "status") {
            return None;
        }
        let identity = proc_text::identity(self.dir.text());
        if identity.leader != Some(pid) {
            return None;
        }
        let here = self.namespace_of(pid) == Some(self.pid_namespace);
        Some(Standing { uid: identity.uid?, parent: identity.parent.unwrap_or(0), here })
    }

    /// Returns whether a process is in a container: in another pid or user namespace than this one, and
    /// in which pid namespace. A process that is not seen from here, or has gone, may be.
    pub fn container_of(&mut self, pid: u32) -> Option<u64> {
        let pid_namespace = if self.own_proc { self.namespace_of(pid) } else { None };
        let user = |path: String| std::fs::read_link(path).ok();
        let theirs = user(format!("/proc/{pid}/ns/user"));
        let same_user = theirs.is_some() && theirs == user("/proc/self/ns/user".to_owned());
        let here = same_user && pid_namespace == Some(self.pid_namespace);
        (!here).then(|| pid_namespace.unwrap_or(0))
    }

    /// Returns the caller of a request: this process, or another on whose behalf it asks.
    pub fn caller(&mut self, pid: u32, uid: u32) -> Caller {
        let program = self.stat(pid).map(|stat| stat.program).unwrap_or_default();
        Caller { uid, pid, program }
    }

    /// Returns whether the owner of a claim of this boot still lives. A zombie does not: its memory
    /// is gone.
    pub fn fate(&mut self, claim: &Claim) -> Fate {
        self.fate_of_owner(&claim.owner)
    }

    pub(super) fn fate_of_owner(&mut self, owner: &Owner) -> Fate {
        let (process, cgroup) = match owner {
            Owner::Hold { .. } => return Fate::Unknown,
            Owner::Process(process) => (process, None),
            Owner::Cgroup(process, cgroup) => (process, Some(cgroup)),
        };
        match (self.fate_of(process), cgroup) {
            (Fate::Dead, Some(cgroup)) if self.is_populated(cgroup) => Fate::Alive,
            (fate, _) => fate,
        }
    }

    /// Returns whether the process of an owner lives. Its cgroup may have others when it does not.
    pub(super) fn has_process(&mut self, owner: &Owner) -> bool {
        owner.process().is_some_and(|process| self.fate_of(process) == Fate::Alive)
    }

    /// Returns the process of an owner, if it is of this host and pid namespace.
    pub(super) fn process_here(&self, owner: &Owner) -> Option<ProcessId> {
        let here = |process: &&ProcessId| {
            self.live && self.own_proc && process.pid_namespace == self.pid_namespace
        };
        owner.process().filter(here).copied()
    }

    /// Returns whether the process of an owner is watched: then it lived when the kernel was asked last.
    pub(super) fn is_watched(&self, watched: &Watched, owner: &Owner) -> bool {
        self.process_here(owner).is_some_and(|process| watched.has(&process))
    }

    /// Returns the moment for `checked` of claims whose owners are identified after this call: on the clock by
    /// which the kernel dates files.
    pub(super) fn checked_at(&self) -> Option<u64> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(now.as_nanos()).ok()
    }

    /// Returns whether the process of an owner's pid is surely the one that had it at a moment: its directory
    /// in `/proc` has been there since before. Does not notice one that has ended and waits to be waited for.
    pub(super) fn is_same(&self, owner: &Owner, checked_at: u64) -> bool {
        /// The kernel dates by its timer, which stands still between ticks.
        const TICK_NS: u64 = 20_000_000;
        let process =
            matches!(owner, Owner::Process(_)).then(|| self.process_here(owner)).flatten();
        let made = process.and_then(|process| self.dir.made_ns(process.pid));
        made.is_some_and(|made| made.saturating_add(TICK_NS) <= checked_at)
    }

    /// Returns whether there is no process of the owner's pid any more. Costs one system call, whatever
    /// the process does.
    pub(super) fn has_gone(&self, owner: &Owner) -> bool {
        let process =
            matches!(owner, Owner::Process(_)).then(|| self.process_here(owner)).flatten();
        let pid = process.and_then(|process| i32::try_from(process.pid).ok());
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) == Err(nix::Error::ESRCH))
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
            None if !self.live => Fate::Dead,
            None => match i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), None)) {
                Ok(Err(nix::Error::ESRCH)) | Err(_) => Fate::Dead,
                Ok(_) => Fate::Unknown,
            },
        }
    }

    /// Returns what can be seen of a claim's guest; `None` when it cannot be looked at.
    pub fn seen(&mut self, claim: &Claim) -> Option<Seen> {
        self.seen_of(&claim.owner)
    }

    pub(super) fn seen_of(&mut self, owner: &Owner) -> Option<Seen> {
        let process = owner.process()?;
        let pid = self.pid_here(process)?;
        let mut seen = Seen { at: self.now, ..Seen::default() };
        if let Some(stat) = self.stat(pid).filter(|stat| stat.start.abs_diff(process.start) <= 1) {
            let status =
                self.dir.read(pid, "status").then(|| proc_text::status(self.dir.text()))?;
            seen.resident = status.resident;
            seen.huge = status.huge;
            // The kernel adds up the time of all threads anew each time it is asked.
            let all = status.threads <= MAX_THREADS_SUMMED && self.dir.read(pid, "stat");
            let all = if all { self.parse_stat() } else { None };
            let used = all.map_or(stat.used_ticks, |all| all.used_ticks);
            let age = self.now_ticks().saturating_sub(stat.start).max(1);
            let hundredths = u128::from(used) * 100 / u128::from(age);
            seen.cpus = CpuShare::from_hundredths(u64::try_from(hundredths).unwrap_or(u64::MAX));
        } else if !matches!(owner, Owner::Cgroup(..)) {
            return None;
        }
        if let Owner::Cgroup(_, cgroup) = owner
            && let Some(per_node) = self.memory_of(cgroup)
        {
            seen.resident = per_node.iter().map(|&(_, memory)| memory).sum();
            seen.per_node = per_node;
        }
        Some(seen)
    }

    /// Returns where the memory of a claim's guest is now, node by node; `None` when this user may
    /// not know, or when such looks have taken too long: 0.2 s of CPU time for guests of users together, 2 s
    /// for the host's. Takes some ms for a large guest and holds it up meanwhile: not for decisions.
    ///
    /// Source: `memory.numa_stat` of its own cgroup, else `/proc/PID/numa_maps`.
    pub fn placement(&mut self, claim: &Claim) -> Option<Vec<(NodeId, Bytes)>> {
        if let Owner::Cgroup(_, cgroup) = &claim.owner {
            return self.memory_of(cgroup);
        }
        let process = *claim.owner.process()?;
        if let Some(placed) = self.placed.get(&process) {
            return placed.clone();
        }
        let pid = self.pid_here(&process)?;
        let text = self.in_time(claim, |_, until| numa_maps(pid, until))?;
        let placed = text.map(|text| super::numa_maps::parse(&text));
        self.placed.insert(process, placed.clone());
        placed
    }

    /// Looks at the mappings of a claim's guest, and counts the CPU time of that. `None` where the time for guests of
    /// its kind is spent. The look is given the thread's CPU time at which it has to end.
    fn in_time<T>(
        &mut self,
        claim: &Claim,
        look: impl FnOnce(&mut Self, Option<Duration>) -> T,
    ) -> Option<T> {
        let hosts = claim.principal.is_host();
        let limit = if hosts { HOSTS_PLACEMENT_TIME } else { PLACEMENT_TIME };
        let left = limit.checked_sub(self.placing[usize::from(hosts)])?;
        let start = cpu_time();
        let seen = look(self, start.and_then(|start| start.checked_add(left)));
        let spent = cpu_time().zip(start).map(|(now, start)| now.saturating_sub(start));
        self.placing[usize::from(hosts)] += spent.unwrap_or_default();
        Some(seen)
    }

    /// Returns the cgroup (v2) that a process is in; `None` where it is in none or in that of all processes, or
    /// has ended meanwhile.
    pub fn own_cgroup(&mut self, process: &ProcessId) -> Option<Cgroup> {
        let path = self.cgroup_of(process.pid);
        let path = path.filter(|path| path.len() > 1 && !path.contains(".."))?;
        let dir = self.cgroups.join(path.trim_start_matches('/'));
        let inode = std::fs::metadata(dir).ok().filter(std::fs::Metadata::is_dir)?.ino();
        // Its pid may have been given again before that was read.
        (self.identify(process.pid) == Some(*process)).then_some(Cgroup { path, inode })
    }

    /// Returns the user who owns the directory of a control group; `None` where it is not there any more.
    pub fn user_of_cgroup(&self, cgroup: &Cgroup) -> Option<u32> {
        let dir = self.cgroups.join(cgroup.path.trim_start_matches('/'));
        let found = std::fs::metadata(dir).ok().filter(|meta| meta.ino() == cgroup.inode)?;
        Some(found.uid())
    }

    /// Returns the program of a claim's owner; `None` when it is not seen from here.
    pub fn program(&mut self, claim: &Claim) -> Option<String> {
        let pid = self.pid_here(claim.owner.process()?)?;
        self.stat(pid).map(|stat| stat.program)
    }

    /// Returns the CPUs that the first thread of a claim's owner may run on; `None` when it is not seen
    /// from here.
    pub fn cpus_allowed(&mut self, claim: &Claim) -> Option<CpuSet> {
        let pid = self.pid_here(claim.owner.process()?)?;
        if self.dir.read(pid, "status") { proc_text::cpus_allowed(self.dir.text()) } else { None }
    }

    /// Returns the CPUs that every thread of a claim's owner may run on; `None` where threads differ, where there
    /// are more than 4,096, or when the process is not seen from here.
    ///
    /// Source: `/proc/PID/task/TID/status`.
    pub fn cpus_of_all_threads(&mut self, claim: &Claim) -> Option<CpuSet> {
        let pid = self.pid_here(claim.owner.process()?)?;
        let mut common: Option<CpuSet> = None;
        for thread in self.dir.threads(pid, MAX_THREADS)? {
            // One that has ended meanwhile has no file any more.
            if !self.dir.read(pid, &format!("task/{thread}/status")) {
                continue;
            }
            let cpus = proc_text::cpus_allowed(self.dir.text())?;
            if common.get_or_insert_with(|| cpus.clone()) != &cpus {
                return None;
            }
        }
        common
    }

    /// Returns whether the kernel may move the memory of a claim's owner by itself
    /// (`kernel.numa_balancing`); `None` when that is not seen from here. It passes over memory that has
    /// a policy, be it the process's or the mapping's, unless the policy asks for it.
    ///
    /// Source: the policies of QEMU's memory in `/proc/PID/cmdline`, the first lines of
    /// `/proc/PID/numa_maps`.
    pub fn balanced(&mut self, claim: &Claim) -> Option<bool> {
        let pid = self.pid_here(claim.owner.process()?)?;
        let hosts = claim.principal.is_host();
        // A user can make its command line take for ever, and its mappings long.
        let believed = hosts || claim.caller.uid == nix::unistd::geteuid().as_raw();
        if believed
            && self.dir.read(pid, "cmdline")
            && super::numa_maps::line_binds(self.dir.text())
        {
            return Some(false);
        }
        let read = self.in_time(claim, |this, _| this.dir.read_first_maps(pid))?;
        read.then(|| super::numa_maps::is_balanced(self.dir.text())).flatten()
    }

    /// Returns the pid by which a process is seen from here.
    pub(super) fn pid_here(&mut self, process: &ProcessId) -> Option<u32> {
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

    /// The same by what is known already.
    pub(super) fn known_pid_here(&self, process: &ProcessId) -> Option<u32> {
        if self.own_proc && process.pid_namespace == self.pid_namespace {
            return Some(process.pid);
        }
        self.foreign.get(process).copied()
    }

    /// Finds the processes of other pid namespaces among those that are seen from here. Only done
    /// when a claim has such an owner.
    fn look_for_foreign(&mut self) {
        let pids = self.dir.pids();
        self.looked = pids.len() < MOST_PROCESSES;
        for pid in pids {
            if !self.dir.read(pid, "status") {
                continue;
            }
            // In the innermost namespace it has another number, or it has only one.
            let Some(inner) = proc_text::inner_pid(self.dir.text()) else { continue };
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
        proc_text::namespace(&self.dir.link(pid, "ns/pid")?)
    }

    /// Returns the ticks since boot, as seen from the first time namespace.
    pub(super) fn now_ticks(&mut self) -> u64 {
        // The clock of a process's start counts suspended time, the monotonic one does not: read
        // from the same place as the start, in the same namespace.
        let read = self.dir.read_own("uptime");
        let ticks = if read { proc_text::uptime_ticks(self.dir.text()) } else { 0 };
        ticks.saturating_add_signed(self.offset_ticks.saturating_neg())
    }

    /// Returns when a process started at the earliest, on the clock of [`now`](Self::now): starts are known
    /// in ticks of 10 ms, and rounded down.
    pub(super) fn started_at(&mut self, process: &ProcessId) -> Instant {
        let (ticks, now) = self.ticks_and_clock();
        let age = ticks.saturating_sub(process.start).saturating_add(2);
        let ns = now.nanoseconds().saturating_sub(age.saturating_mul(10_000_000));
        Instant::from_nanoseconds(ns)
    }

    /// Returns the ticks since boot, and the moment on the clock of [`now`](Self::now) at which they were
    /// told. By the moment of the look a process would seem older by all that was read since.
    pub(super) fn ticks_and_clock(&mut self) -> (u64, Instant) {
        const TOGETHER: u64 = 2_000_000;
        let mut told = (self.now_ticks(), self.now);
        if !self.live {
            return told;
        }
        // A few times: on a busy host this thread may wait for a CPU in between.
        for _ in 0..8 {
            let Ok(before) = clock_now(self.offset_ns) else { return told };
            let ticks = self.now_ticks();
            let Ok(after) = clock_now(self.offset_ns) else { return told };
            told = (ticks, after);
            if after.since(before).is_some_and(|ns| ns < TOGETHER) {
                break;
            }
        }
        told
    }

    /// Reads who a process is. Takes as long for a process of thousands of threads as for any other;
    /// the CPU time is that of its first thread alone.
    pub(super) fn stat(&mut self, pid: u32) -> Option<Stat> {
        // A recording has no more than the file of the process.
        let read =
            if self.live { self.dir.read_leader_stat(pid) } else { self.dir.read(pid, "stat") };
        if read { self.parse_stat() } else { None }
    }

    /// Reads the `stat` that was just taken in.
    fn parse_stat(&self) -> Option<Stat> {
        let mut stat = proc_text::stat(self.dir.text())?;
        stat.start = stat.start.saturating_add_signed(self.offset_ticks.saturating_neg());
        Some(stat)
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

    /// Reads a file of the control group (v2) that a process is in.
    pub(super) fn read_of_group(&mut self, pid: u32, name: &str) -> Option<Vec<u8>> {
        const LARGEST: u64 = 64 << 10;
        let path = self.cgroup_of(pid).filter(|path| !path.contains(".."))?;
        let dir = self.cgroups.join(path.trim_start_matches('/'));
        let mut text = Vec::new();
        File::open(dir.join(name)).ok()?.take(LARGEST).read_to_end(&mut text).ok()?;
        Some(text)
    }

    /// Returns the memory of a guest by node where it has a control group of its own.
    pub(super) fn memory_by_node(&self, owner: &Owner) -> Option<Vec<(NodeId, Bytes)>> {
        match owner {
            Owner::Cgroup(_, cgroup) => self.memory_of(cgroup),
            Owner::Process(_) | Owner::Hold { .. } => None,
        }
    }

    fn memory_of(&self, cgroup: &Cgroup) -> Option<Vec<(NodeId, Bytes)>> {
        let text = std::fs::read(self.dir_of(cgroup)?.join("memory.numa_stat")).ok()?;
        Some(proc_text::numa_stat(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use needs::needs;

    use super::super::claim::tests::claim;
    use super::super::principal::Principal;
    use super::*;

    fn child() -> std::process::Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep")
    }

    fn owned(owner: ProcessId) -> Claim {
        Claim { owner: Owner::Process(owner), ..claim(1, &[(0, 1)]) }
    }

    #[test]
    fn whose_a_process_is() {
        let mut child = child();
        let mut look = Processes::look().expect("a live host");
        let (uid, parent) = (nix::unistd::getuid().as_raw(), std::process::id());
        let standing = look.standing(child.id());
        assert_eq!(standing, Some(Standing { uid, parent, here: true }));
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert_eq!(look.standing(child.id()), None);
        assert_eq!(look.standing(0), None);
    }

    #[needs(own_kernel)]
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

    #[needs(root)]
    #[test]
    fn l1_a_process_that_was_given_a_pid_again_is_another_one() {
        let look = Processes::look().expect("a live host");
        let mut guest = child();
        let pid = guest.id();
        let owner = Owner::Process(ProcessId { pid_namespace: look.pid_namespace, pid, start: 1 });
        // From the first look at its directory on, less what the kernel's clock is behind.
        let mut checked = look.checked_at().expect("a clock");
        assert!(!look.is_same(&owner, checked));
        while !look.is_same(&owner, checked) {
            checked = look.checked_at().expect("a clock");
        }
        guest.kill().and_then(|()| guest.wait()).expect("ended");
        assert!(!look.is_same(&owner, checked));
        // The kernel gives the next free pid; another process may be faster.
        let given = (0..1000).find_map(|_| {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
            let mut other = child();
            if other.id() == pid {
                return Some(other);
            }
            other.kill().and_then(|()| other.wait()).expect("ended");
            None
        });
        let mut other = given.expect("its pid, once more");
        assert!(!look.is_same(&owner, checked));
        other.kill().and_then(|()| other.wait()).expect("ended");
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
    fn h8_where_memory_is_costs_a_bounded_time_and_each_process_is_looked_at_once() {
        let mut look = Processes::look().expect("a live host");
        let this = look.identify(std::process::id()).expect("this process");
        let hosts = owned(this);
        let users = Claim { principal: Principal::User(1000), ..hosts.clone() };
        let Some(now) = look.placement(&users) else {
            // A kernel without NUMA has no numa_maps.
            assert!(!Path::new("/proc/self/numa_maps").exists());
            return;
        };
        assert!(!now.is_empty());
        // Once more, and by another claim of the same process: what was found.
        let spent = look.placing;
        assert_eq!(
            (look.placement(&users), look.placement(&hosts)),
            (Some(now.clone()), Some(now))
        );
        assert_eq!(look.placing, spent);
        // With users' time spent the host's guests are looked at as before.
        look.placed.clear();
        look.placing[0] = PLACEMENT_TIME + Duration::from_nanos(1);
        assert_eq!(look.placement(&users), None);
        assert!(look.placement(&hosts).is_some());
        // A look that is longer than the time that is left ends.
        assert_eq!(numa_maps(std::process::id(), Some(Duration::ZERO)), None);
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

    #[needs(pid_namespaces)]
    #[test]
    fn an_owner_in_a_pid_namespace_below_this_one_is_found() {
        let unshare = ["--fork", "--pid", "--mount-proc", "--kill-child", "sleep", "60"];
        let mut outer =
            Command::new("unshare").args(unshare).stdin(Stdio::null()).spawn().expect("unshare");
        let mut look = Processes::look().expect("a live host");
        let mut found = None;
        for _ in 0..200 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            found = look.dir.pids().into_iter().find(|&pid| {
                look.stat(pid).is_some_and(|stat| stat.parent == outer.id())
                    && look.stat(pid).is_some_and(|stat| stat.program == "sleep")
            });
            if found.is_some() || outer.try_wait().expect("a child").is_some() {
                break;
            }
        }
        let pid = found.expect("a process in a namespace of its own");
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
    }
}
