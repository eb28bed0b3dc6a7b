//! The running kernel.

use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use placer_engine::claims::{self, ProcessId, Processes};
use placer_engine::{CpuSet, NodeId};

use super::host::Host;
use super::journal::Cage;
use super::maps::{self, Mapping};
use crate::libvirt::Virsh;
use crate::sys::{self, Mask};

/// The longest file that is read.
const LONGEST: u64 = 8 << 20;
/// Threads that are listed.
const MOST_THREADS: usize = 1 << 16;
/// The libvirt whose guests are moved.
const SYSTEM: &str = "qemu:///system";
/// How long virsh may take: libvirt waits for the kernel, which moves memory that stayed behind, and on a host with far
/// too much to do a minute was too short.
const VIRSH_LIMIT: Duration = Duration::from_secs(300);

/// The running kernel.
#[derive(Debug)]
pub struct Live {
    /// Opened once: a guest is looked at before each chunk of its memory.
    look: Option<Processes>,
    start: Instant,
    /// The time since boot then, on the clock of claims.
    booted: Duration,
    /// Found when a guest of libvirt's is moved.
    virsh: Option<Virsh>,
}

impl Live {
    /// Returns the kernel of now.
    #[expect(clippy::new_without_default, reason = "it looks at the clock")]
    pub fn new() -> Self {
        let look = Processes::look().ok();
        let booted = look.as_ref().map_or(0, |look| look.now().nanoseconds());
        Self { look, start: Instant::now(), booted: Duration::from_nanos(booted), virsh: None }
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// A file of a process that has ended is not there.
fn of_process(error: &io::Error) -> Errno {
    match errno(error) {
        Errno::ENOENT => Errno::ESRCH,
        other => other,
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn tid(thread: u32) -> Result<i32, Errno> {
    i32::try_from(thread).map_err(|_| Errno::ESRCH)
}

impl Host for Live {
    fn is_running(&mut self, guest: &ProcessId) -> Result<bool, Errno> {
        let look = self.look.as_mut().ok_or(Errno::EIO)?;
        if let Some(found) = look.identify(guest.pid) {
            return Ok(found == *guest);
        }
        // It has ended, or its file could not be read.
        match read(Path::new(&format!("/proc/{}/stat", guest.pid))) {
            Ok(_) => Ok(false),
            Err(error) if of_process(&error) == Errno::ESRCH => Ok(false),
            Err(error) => Err(errno(&error)),
        }
    }

    fn threads(&mut self, pid: u32) -> Result<Vec<u32>, Errno> {
        let entries = fs::read_dir(format!("/proc/{pid}/task"));
        let entries = entries.map_err(|error| of_process(&error))?;
        let id = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        Ok(entries.filter_map(id).take(MOST_THREADS).collect())
    }

    fn affinity(&mut self, thread: u32) -> Result<CpuSet, Errno> {
        sys::affinity(tid(thread)?)
    }

    fn set_affinity(&mut self, pid: u32, thread: u32, cpus: &CpuSet) -> Result<(), Errno> {
        // Since it was listed its number may have gone to a thread of another process.
        fs::metadata(format!("/proc/{pid}/task/{thread}")).map_err(|error| of_process(&error))?;
        sys::set_affinity(tid(thread)?, &Mask::of_cpus(cpus))
    }

    fn is_the_kernels(&mut self, pid: u32, thread: u32) -> bool {
        sys::is_the_kernels(pid, thread)
    }

    fn read(&mut self, file: &Path) -> Result<String, Errno> {
        read(file).map_err(|error| errno(&error))
    }

    fn write(&mut self, file: &Path, text: &str) -> Result<(), Errno> {
        let mut file = File::options().write(true).open(file).map_err(|error| errno(&error))?;
        file.write_all(text.as_bytes()).map_err(|error| errno(&error))
    }

    fn virsh(&mut self, arguments: &[&str]) -> Result<String, String> {
        let virsh = match self.virsh.take() {
            Some(virsh) => virsh,
            None => Virsh::with_limit(Path::new("virsh"), SYSTEM.to_owned(), VIRSH_LIMIT)
                .map_err(|error| error.to_string())?,
        };
        let question = arguments.first().copied().unwrap_or_default();
        let said =
            self.virsh.insert(virsh).run(&format!("run virsh {question}"), arguments, None, None);
        let said = said.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    fn mappings(&mut self, pid: u32) -> Result<Vec<Mapping>, Errno> {
        let text = read(Path::new(&format!("/proc/{pid}/maps")));
        text.map(|text| maps::parse(&text)).map_err(|error| of_process(&error))
    }

    fn page_size(&self) -> u64 {
        sys::page_size()
    }

    fn nodes_of(&mut self, pid: u32, pages: &[u64]) -> Result<Vec<Option<NodeId>>, Errno> {
        match sys::nodes_of_pages(pid, pages) {
            // A kernel without NUMA has one node.
            Err(Errno::ENOSYS) => Ok(vec![Some(NodeId(0)); pages.len()]),
            nodes => nodes,
        }
    }

    fn uncover(&mut self, pid: u32, pages: &[u64]) -> Result<(Vec<u64>, usize), Errno> {
        let there = match present(pid, pages) {
            // A kernel without pagemap; or the guest is another user's, and this one may not open all files.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok((Vec::new(), 0));
            }
            there => there.map_err(|error| of_process(&error))?,
        };
        touch(pid, there)
    }

    fn move_pages(
        &mut self,
        pid: u32,
        pages: &[(u64, NodeId)],
        shared: bool,
    ) -> Result<bool, Errno> {
        match sys::move_pages(pid, pages, shared) {
            // Only root moves pages that others have as well.
            Err(Errno::EPERM) if shared => sys::move_pages(pid, pages, false),
            result => result,
        }
    }

    fn pressure(&mut self, group: Option<&Path>) -> f64 {
        let host = read(Path::new("/proc/pressure/memory")).ok();
        let group = group.and_then(|dir| read(&dir.join("memory.pressure")).ok());
        let waited = [host, group].into_iter().flatten().filter_map(|text| average(&text));
        waited.fold(0.0, f64::max)
    }

    fn now(&mut self) -> Duration {
        self.booted + self.start.elapsed()
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Returns those of some ascending pages that are there.
///
/// Source: bit 63 of `/proc/PID/pagemap`.
fn present(pid: u32, pages: &[u64]) -> io::Result<Vec<u64>> {
    const PRESENT: u64 = 1 << 63;
    /// So near to one another pages are asked for at once: that costs less than another call.
    const GAP: u64 = 64;
    let file = File::open(format!("/proc/{pid}/pagemap"))?;
    let size = sys::page_size();
    let mut there = Vec::new();
    for part in pages.chunk_by(|one, next| next - one <= GAP * size) {
        let (Some(&first), Some(&last)) = (part.first(), part.last()) else { continue };
        let entry_of = |page: u64| usize::try_from((page - first) / size).unwrap_or(usize::MAX);
        let mut entries = vec![0_u8; (entry_of(last) + 1) * 8];
        file.read_exact_at(&mut entries, first / size * 8)?;
        let (entries, _) = entries.as_chunks::<8>();
        let is_there = |page: &&u64| {
            let entry = entries.get(entry_of(**page)).copied().map(u64::from_ne_bytes);
            entry.is_some_and(|entry| entry & PRESENT != 0)
        };
        there.extend(part.iter().filter(is_there));
    }
    Ok(there)
}

/// Reads a byte of each page, and returns those that could be read, and how many others there are that may not be read. kernel.numa_balancing
/// marks pages so that the next access traps, and on some kernels, as Linux 6.1, move_pages(2) takes those for holes: of
/// a thread that sleeps they may stay marked for ever. A read takes the mark off.
///
/// Errors: ESRCH. Without the right to read (ptrace(2)) the pages stay unseen.
fn touch(pid: u32, mut pages: Vec<u64>) -> Result<(Vec<u64>, usize), Errno> {
    const AT_ONCE: usize = 512;
    let process = Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::ESRCH)?);
    let (mut at, mut unread) = (0, 0);
    while at < pages.len() {
        let part = pages.iter().skip(at).take(AT_ONCE);
        let part: Vec<RemoteIoVec> = part
            .filter_map(|&page| Some(RemoteIoVec { base: usize::try_from(page).ok()?, len: 1 }))
            .collect();
        let mut bytes = vec![0_u8; part.len()];
        match process_vm_readv(process, &mut [IoSliceMut::new(&mut bytes)], &part) {
            Ok(read) if read > 0 => at += read,
            // Memory of a device, or given back meanwhile.
            Ok(_) | Err(Errno::EFAULT) => drop(pages.remove(at)),
            Err(Errno::ESRCH) => return Err(Errno::ESRCH),
            Err(_) => unread = pages.drain(at..).count(),
        }
    }
    Ok((pages, unread))
}

/// Reads `some avg10=1.23 ...`.
fn average(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    some.split(' ').next()?.parse().ok()
}

/// Returns the group of a guest where placer made it and holds the guest to CPUs or nodes by it. `mount` is where
/// cgroup v2 is.
///
/// Errors: it is held by a group that another program keeps: its directory.
pub fn cage(mount: &Path, group: &claims::Cgroup) -> Result<Option<Cage>, PathBuf> {
    let dir = mount.join(group.path.trim_start_matches('/'));
    let same = fs::symlink_metadata(&dir).is_ok_and(|about| about.ino() == group.inode);
    if !same || group.path.contains("..") {
        return Err(dir);
    }
    let text = |file: &str| read(&dir.join(file)).unwrap_or_default().trim().to_owned();
    let (cpus, mems) = (text("cpuset.cpus"), text("cpuset.mems"));
    if cpus.is_empty() && mems.is_empty() {
        return Ok(None);
    }
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // As in placer-db1.1234. A scope of systemd's has another name: systemd writes its files again.
    let pid = name.strip_prefix("placer-").and_then(|rest| rest.rsplit_once('.'));
    match pid.is_some_and(|(_, pid)| pid.bytes().all(|byte| byte.is_ascii_digit())) {
        true => {
            let dir = dir.to_string_lossy().into_owned();
            Ok(Some(Cage { dir, cpus, mems, libvirt: None }))
        }
        false => Err(dir),
    }
}

#[cfg(test)]
mod tests {
    use needs::needs;

    use super::{Errno, Host as _, Live, average, present, sys, touch};

    /// Pages of this process: touched ones are there, and can be read; others are not.
    #[needs(own_kernel)]
    #[test]
    fn pages_that_are_there_are_found_and_read() {
        let size = usize::try_from(sys::page_size()).expect("a size");
        // Not touched: the kernel has no page for it yet. Larger than what malloc keeps for others.
        let mut memory = vec![0_u8; 600 * size];
        let first = memory.as_ptr().addr().next_multiple_of(size);
        let page = |at: usize| u64::try_from(first + at * size).expect("an address");
        let start = first - memory.as_ptr().addr();
        for at in [3, 4, 9, 550] {
            memory[start + at * size] = 1;
        }
        let pages: Vec<u64> = (0..599).map(page).collect();
        let there = present(std::process::id(), &pages).expect("a pagemap");
        let wanted = [3, 4, 9, 550].map(page);
        assert!(wanted.iter().all(|page| there.contains(page)), "{there:?}");
        let read = touch(std::process::id(), there.clone()).expect("this process");
        assert_eq!(read, (there.clone(), 0));
        // No memory is there: it is left out, and what comes after it is read.
        let with_a_hole = vec![page(3), 4_096, page(4)];
        assert_eq!(touch(std::process::id(), with_a_hole), Ok((vec![page(3), page(4)], 0)));
        let mut live = Live::new();
        assert_eq!(live.uncover(std::process::id(), &pages), Ok((there, 0)));
        // There is no such process, and nothing of it.
        assert_eq!(live.uncover(u32::MAX, &pages), Ok((Vec::new(), 0)));
        assert_eq!(touch(u32::MAX, pages), Err(Errno::ESRCH));
        drop(memory);
    }

    #[test]
    fn pressure() {
        let text = "some avg10=1.25 avg60=0.00 avg300=0.00 total=7\nfull avg10=9.00 avg60=0.0\n";
        assert_eq!(
            (average(text), average("full avg10=1\n"), average("")),
            (Some(1.25), None, None)
        );
    }
}
