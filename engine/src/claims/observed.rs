//! Finds the virtual machines that run on a host, whether placer was asked about them or not.
//!
//! They are found by libvirt's files in `/run/libvirt/qemu` and by their command lines. Only guests of root,
//! libvirt's user and the asking user count: any user can write a command line that claims the host.
//! The claim is the part of a guest's memory that is not resident yet. What is bound to one node is missing
//! there; what may lie on several nodes (those it is bound to, else `Mems_allowed`, else all) is missing on
//! them in proportion to what is free. CPUs are not claimed: those in use are seen to be busy.
//!
//! A hold is transferred to the guest that started while it lasted with the same CPUs and memory (to the MiB
//! that libvirt asks for): first to a guest for which libvirt recorded the advised nodes, then in the order of
//! starting. The next process that has the lock writes that down.
//!
//! Examining all processes takes 3 to 10 µs each, more than the rest of an answer. So the result is kept in
//! the state directory. It serves for 0.25 s; then only pids assigned since are examined (the kernel assigns
//! them in ascending order), those younger than 5 s again, and all once a minute. Of processes of other users
//! only the owner is examined, 1 µs, and once: not again while they are young.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::claim::ProcessId;
use super::guest::{Guest, Spec};
use super::libvirt;
use super::proc::Processes;
use super::proc_text::{self, Identity};
use super::qemu::{self, Backing};
use super::tried::Tried;
use crate::source::SysRoot;
use crate::store::StateDir;

/// What was found the last time, in the state directory: of those whose guests count, and of others.
const NAME: &str = "guests.json";
const USERS_NAME: &str = "guests-of-users.json";
const LARGEST: usize = 4 << 20;
/// So many guests are known at most.
const MOST_GUESTS: usize = 1024;
/// So many guests are read anew, or looked at, for one decision. Older figures only overstate what
/// is missing.
const MOST_LOOKS: usize = 32;
/// What was found serves for so long: a burst of questions looks for guests once.
const SERVES_NS: u64 = 250_000_000;
const VERSION: u32 = 1;
/// A directory that changed less than this before it was read may change again unseen.
const SETTLED_NS: i128 = 1_000_000_000;

/// What is known of the guests of this host.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    version: u32,
    /// When guests were last looked for, on the clock of the process that did.
    at_ns: u64,
    boot: String,
    pid_namespace: u64,
    tried: Tried,
    /// What libvirt's directory was when it was read: device, inode, change.
    run: Option<(u64, u64, i128)>,
    /// The files in it that were read: name, inode, change.
    files: Vec<(String, u64, i128)>,
    guests: Vec<Guest>,
}

/// Where to look, and whom to believe.
#[derive(Debug)]
pub(super) struct Observer {
    run: PathBuf,
    passwd: PathBuf,
    live: bool,
    /// Root, libvirt's user and the one that asks: others may write what they like into their
    /// command lines, and would claim the host.
    trusted: Vec<u32>,
    /// Whether libvirt's user is among them by now.
    asked: bool,
    /// The file of what was found.
    name: &'static str,
}

impl Observer {
    /// Looks at a host, for a user.
    pub(super) fn new(root: &SysRoot, asking: u32) -> Self {
        let run = root.dir().join("run/libvirt/qemu");
        let passwd = root.dir().join("etc/passwd");
        Self {
            run,
            passwd,
            live: root.is_live(),
            trusted: vec![0, asking],
            asked: false,
            name: NAME,
        }
    }

    /// Looks for the guests of some users and of no others.
    pub(super) fn of_users(root: &SysRoot, uids: Vec<u32>) -> Self {
        Self { trusted: uids, asked: true, name: USERS_NAME, ..Self::new(root, 0) }
    }

    /// Finds the guests, and looks at some of them. What was found before is in `state`; `now_ns` is
    /// the time on this process's own clock. `look` is opened where it is needed.
    pub(super) fn look<'p, E>(
        &mut self,
        state: Option<&StateDir>,
        now_ns: u64,
        look: impl FnOnce() -> Result<&'p mut Processes, E>,
    ) -> Result<Vec<Guest>, E> {
        let state = state.filter(|_| self.live);
        let text = state.and_then(|dir| dir.read(self.name, LARGEST).ok()?);
        let known = text.and_then(|text| serde_json::from_slice::<Known>(&text).ok());
        let recent = known.as_ref().is_some_and(|known| known.is_recent(now_ns));
        if recent && known.as_ref().is_some_and(|known| known.guests.is_empty()) {
            return Ok(Vec::new());
        }
        let look = look()?;
        let mut known = known.filter(|known| known.is_of(look)).unwrap_or_else(|| Known {
            version: VERSION,
            boot: look.boot().to_owned(),
            pid_namespace: look.pid_namespace(),
            ..Known::default()
        });
        if !recent {
            self.find_libvirts(look, &mut known);
            self.find_processes(look, &mut known);
            known.at_ns = now_ns;
        }
        let changed = refresh(look, &mut known);
        if (changed || !recent)
            && let Some(dir) = state
            && let Ok(text) = serde_json::to_vec(&known)
        {
            // Not kept, it is looked for again.
            let _ = dir.replace(self.name, &text, 0o600);
        }
        Ok(known.guests)
    }

    /// Returns whether a user is believed. libvirt's is asked for only where there is another.
    fn trusts(&mut self, uid: u32) -> bool {
        const LARGEST: u64 = 1 << 20;
        if !self.trusted.contains(&uid) && !self.asked {
            self.asked = true;
            let mut text = Vec::new();
            let file = std::fs::File::open(&self.passwd);
            if file.is_ok_and(|file| file.take(LARGEST).read_to_end(&mut text).is_ok()) {
                self.trusted.extend(proc_text::users(&text, &["libvirt-qemu", "qemu"]));
            }
        }
        self.trusted.contains(&uid)
    }

    /// Reads libvirt's files that are new or have changed.
    fn find_libvirts(&mut self, look: &mut Processes, known: &mut Known) {
        let meta = match std::fs::symlink_metadata(&self.run) {
            Ok(meta) if meta.is_dir() && (!self.live || is_roots(&meta)) => meta,
            _ => return,
        };
        let run = (meta.dev(), meta.ino(), changed_ns(&meta));
        if known.run == Some(run) {
            return;
        }
        let Ok(dir) = StateDir::open_of(&self.run, meta.uid()) else { return };
        let (Some(dir), Ok(entries)) = (dir, std::fs::read_dir(&self.run)) else { return };
        let mut read = 0;
        let mut files = Vec::new();
        let mut more = false;
        for entry in entries.flatten().take(2 * MOST_GUESTS) {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.ends_with(".xml")) else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            let file = (name.to_owned(), meta.ino(), changed_ns(&meta));
            if known.files.contains(&file) {
                files.push(file);
                continue;
            }
            if read == MOST_LOOKS {
                more = true;
                continue;
            }
            read += 1;
            let text = dir.read(name, libvirt::LARGEST).ok().flatten().unwrap_or_default();
            let told = std::str::from_utf8(&text).ok().and_then(libvirt::parse);
            if let Some((pid, spec)) = told {
                self.add(look, known, pid, Some((spec, file.2)));
            }
            if now_ns().is_some_and(|now| now - file.2 > SETTLED_NS) {
                files.push(file);
            }
        }
        known.files = files;
        let settled = now_ns().is_some_and(|now| now - changed_ns(&meta) > SETTLED_NS);
        // Those that were too many are read the next time.
        known.run = (settled && !more).then_some(run);
    }

    /// Looks through the processes that are new, or all.
    fn find_processes(&mut self, look: &mut Processes, known: &mut Known) {
        let now = look.now().nanoseconds();
        let told = self.live && look.dir().read_own("loadavg");
        let last = if told { proc_text::last_pid(look.dir().text()) } else { None };
        let running = if told { proc_text::running(look.dir().text()) } else { None };
        let plan = known.tried.plan(now, last);
        let (mut added, mut alive) = (0_usize, Vec::new());
        let pids = match &plan {
            // Most of many new pids have ended: one look at the list tells which are there.
            Some(pids) if running.is_some_and(|running| pids.len() > running) => {
                let wanted: BTreeSet<u32> = pids.iter().copied().collect();
                let listed = look.dir().pids().into_iter();
                listed.filter(|pid| wanted.contains(pid)).collect()
            }
            Some(pids) => pids.clone(),
            None => look.dir().pids(),
        };
        for pid in pids {
            // A stranger's process costs this alone, and is not looked at again: it becomes no guest of others.
            let theirs = self.live && look.dir().owner(pid).is_none_or(|uid| !self.trusts(uid));
            if theirs || !look.dir().read(pid, "comm") {
                continue;
            }
            if !proc_text::may_be_qemu(look.dir().text()) {
                alive.push(pid);
                continue;
            }
            if is_known(look, known, pid) {
                continue;
            }
            if added == MOST_LOOKS {
                // All again the next time, those that are known by then left out.
                known.tried.forget();
                return;
            }
            if self.add(look, known, pid, None) {
                added += 1;
            } else {
                alive.push(pid);
            }
        }
        known.tried.note(now, last, plan.as_deref(), &alive);
    }

    /// Adds a guest, by libvirt's file (and when that was written) or by its command line. Returns
    /// whether it is one.
    fn add(
        &mut self,
        look: &mut Processes,
        known: &mut Known,
        pid: u32,
        told: Option<(Spec, i128)>,
    ) -> bool {
        let found = self.guest(look, pid, told);
        let Some(guest) = found else { return false };
        known.guests.retain(|guest| guest.process.pid != pid);
        let room = known.guests.len() < MOST_GUESTS;
        if room {
            known.guests.push(guest);
        }
        room
    }

    fn guest(
        &mut self,
        look: &mut Processes,
        pid: u32,
        told: Option<(Spec, i128)>,
    ) -> Option<Guest> {
        // Whose it is comes first: processes of others cost nothing more.
        if !look.dir().read(pid, "status") {
            return None;
        }
        let Identity { leader, uid, allowed, .. } = proc_text::identity(look.dir().text());
        let resident = proc_text::status(look.dir().text());
        // A thread has a directory as well, which is not listed.
        let uid = uid.filter(|&uid| leader == Some(pid) && self.trusts(uid))?;
        // Root of a container is not believed: its command line could claim the host.
        let contained = proc_text::inner_pid(look.dir().text()).is_some();
        if contained && told.is_none() && self.live {
            return None;
        }
        let stat = look.stat(pid).filter(|stat| !stat.ended)?;
        let libvirt = told.is_some();
        let spec = match told {
            Some((spec, written)) => {
                // Left behind by a libvirt that was killed, and the pid was given again?
                let age = look.now_ticks().saturating_sub(stat.start);
                let started = now_ns().map(|now| now - i128::from(age) * 10_000_000);
                let fits = started.is_some_and(|started| started <= written + SETTLED_NS);
                (fits || !self.live).then_some(spec)?
            }
            None => {
                if !look.dir().read(pid, "cmdline") {
                    return None;
                }
                let cmdline = look.dir().text().to_vec();
                let mounts = Mounts::new(look);
                let mut spec =
                    qemu::parse(&cmdline, mounts.default_page, |path| mounts.backing(path))?;
                if self.live {
                    // It can never have more, whatever its command line says.
                    spec.bound_by(look.memory_limit_of(pid));
                }
                spec
            }
        };
        Some(Guest {
            process: ProcessId { pid_namespace: look.pid_namespace(), pid, start: stat.start },
            uid,
            spec,
            libvirt,
            allowed,
            seen_ns: look.now().nanoseconds(),
            resident: resident.resident.get(),
            huge: resident.huge.get(),
        })
    }
}

/// Drops the guests that have ended, as far as they count, and looks at those that were not looked
/// at for longest.
fn refresh(look: &mut Processes, known: &mut Known) -> bool {
    let now = look.now().nanoseconds();
    let mut due: Vec<(u64, ProcessId)> =
        known.guests.iter().map(|guest| (guest.seen_ns, guest.process)).collect();
    due.sort_unstable();
    due.truncate(MOST_LOOKS);
    let mut changed = false;
    known.guests.retain_mut(|guest| {
        let due = due.binary_search(&(guest.seen_ns, guest.process)).is_ok();
        if !due && guest.lacking() == (0, 0) {
            return true;
        }
        let pid = guest.process.pid;
        let same = |start: u64| start.abs_diff(guest.process.start) <= 1;
        if look.stat(pid).is_none_or(|stat| stat.ended || !same(stat.start)) {
            changed = true;
            return false;
        }
        if due && guest.seen_ns != now && look.dir().read(pid, "status") {
            let status = proc_text::status(look.dir().text());
            let seen = (status.resident.get(), status.huge.get());
            changed |= seen != (guest.resident, guest.huge) || known_long(guest.seen_ns, now);
            (guest.resident, guest.huge) = seen;
            guest.seen_ns = now;
            guest.allowed = proc_text::identity(look.dir().text()).allowed;
        }
        true
    });
    changed
}

/// Returns whether a process is a guest that is known; not another that was given its pid.
fn is_known(look: &mut Processes, known: &Known, pid: u32) -> bool {
    let found = known.guests.iter().find(|guest| guest.process.pid == pid);
    found.is_some_and(|guest| {
        let start = guest.process.start;
        look.stat(pid).is_some_and(|stat| stat.start.abs_diff(start) <= 1)
    })
}

/// Whether a look is so old that it is worth to write down that there was another.
fn known_long(seen_ns: u64, now: u64) -> bool {
    now.saturating_sub(seen_ns) > 1_000_000_000
}

impl Known {
    /// Returns whether this was looked for a moment ago. By the clock alone: in a burst of questions
    /// not even the boot is asked for.
    fn is_recent(&self, now_ns: u64) -> bool {
        now_ns.checked_sub(self.at_ns).is_some_and(|age| age < SERVES_NS)
    }

    /// Returns whether pids and times mean what they mean here.
    fn is_of(&self, look: &Processes) -> bool {
        self.version == VERSION
            && self.boot == look.boot()
            && self.pid_namespace == look.pid_namespace()
            && self.guests.len() <= MOST_GUESTS
    }
}

/// What paths of memory lie on.
struct Mounts {
    default_page: u64,
    /// Mount points and what memory in them is, the longest first.
    mounts: Vec<(String, Backing)>,
}

impl Mounts {
    /// Reads `/proc/mounts` and, for the usual size of huge pages, `/proc/meminfo`.
    fn new(look: &mut Processes) -> Self {
        let dir = look.dir();
        let size = if dir.read_own("meminfo") { proc_text::huge_page(dir.text()) } else { None };
        let default_page = size.unwrap_or(2 << 20);
        // A link to the process's own in `/proc` itself.
        let read = dir.read_own("self/mounts");
        let mounts = if read { proc_text::memory_mounts(dir.text()) } else { BTreeMap::new() };
        let mut mounts: Vec<_> = mounts
            .into_iter()
            .map(|(path, page)| match page {
                None => (path, Backing::Memory),
                Some(page) => (path, Backing::Huge(page.unwrap_or(default_page))),
            })
            .collect();
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { default_page, mounts }
    }

    fn backing(&self, path: &str) -> Backing {
        if self.mounts.is_empty() {
            // A recording that does not tell: where they are everywhere.
            return match path {
                _ if path.starts_with("/dev/hugepages1G") => Backing::Huge(1 << 30),
                _ if path.starts_with("/dev/hugepages") => Backing::Huge(self.default_page),
                _ if path.starts_with("/dev/shm") => Backing::Memory,
                _ => Backing::Disk,
            };
        }
        let found = self.mounts.iter().find(|(mount, _)| Path::new(path).starts_with(mount));
        found.map_or(Backing::Disk, |&(_, backing)| backing)
    }
}

fn is_roots(meta: &std::fs::Metadata) -> bool {
    meta.uid() == 0 && meta.mode() & 0o022 == 0
}

fn changed_ns(meta: &std::fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

fn now_ns() -> Option<i128> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    i128::try_from(now.as_nanos()).ok()
}

#[cfg(test)]
mod tests;
