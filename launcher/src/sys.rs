//! The system calls that bind a process, which no crate has for sets of any width.
//!
//! Each is one call on buffers that were made before, so that they may run between a fork and an
//! exec, where nothing may be allocated.

use std::ffi::c_long;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use placer_engine::{CpuId, CpuSet, NodeId, NodeSet};

use crate::guest::MemoryMode;

/// A set as the kernel takes it: words of bits, lowest first, as wide as it needs to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u64>,
}

impl Mask {
    /// Returns the mask of some CPUs.
    pub fn of_cpus(cpus: &CpuSet) -> Self {
        Self { words: cpus.to_mask() }
    }

    /// Returns the mask of some nodes.
    pub fn of_nodes(nodes: &NodeSet) -> Self {
        Self { words: nodes.to_mask() }
    }

    /// Returns the words, lowest first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}

/// Lets a thread (0: the calling one) run on these CPUs only.
///
/// Source: sched_setaffinity(2). The kernel reads as many words as it needs and leaves out, without
/// a word, what the thread's cpuset does not allow.
/// Errors: EINVAL if nothing is left, ESRCH, EPERM.
pub fn set_affinity(thread: i32, mask: &Mask) -> Result<(), Errno> {
    let size = size_of_val(mask.words());
    // SAFETY: the kernel reads `size` bytes from a buffer that is as long and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            c_long::from(thread),
            size,
            mask.words().as_ptr(),
        )
    };
    Errno::result(result).map(drop)
}

/// Returns the CPUs that a thread (0: the calling one) may run on.
///
/// Source: sched_getaffinity(2).
/// Errors: ESRCH.
pub fn affinity(thread: i32) -> Result<CpuSet, Errno> {
    // The kernel refuses a buffer that is shorter than its own masks, of any width.
    let mut words = vec![0_u64; 16];
    let read = loop {
        let size = size_of_val(words.as_slice());
        // SAFETY: the kernel writes at most `size` bytes to a buffer that is as long.
        let result = unsafe {
            libc::syscall(
                libc::SYS_sched_getaffinity,
                c_long::from(thread),
                size,
                words.as_mut_ptr(),
            )
        };
        match Errno::result(result) {
            Err(Errno::EINVAL) if words.len() < 1 << 14 => words.resize(words.len() * 4, 0),
            other => break other?,
        }
    };
    let read = usize::try_from(read).unwrap_or(0) / size_of::<u64>();
    let mut cpus = CpuSet::new();
    for (word, first) in words.iter().take(read).zip((0_u32..).step_by(64)) {
        for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
            cpus.insert(CpuId(first + bit));
        }
    }
    Ok(cpus)
}

/// Takes close-on-exec from a descriptor. A system call and nothing else.
pub(crate) fn keep_on_exec(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// Sets close-on-exec on all descriptors from one on. System calls and nothing else.
///
/// Source: close_range(2), Linux 5.11 for the flag; before that each descriptor up to the limit is asked.
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: c_long = 1 << 2;
    // SAFETY: no memory is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            c_long::from(first),
            c_long::from(u32::MAX),
            CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to a struct that outlives the call.
    Errno::result(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    let end = u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX).min(1 << 20);
    for fd in (first..end).filter_map(|fd| RawFd::try_from(fd).ok()) {
        // SAFETY: no memory is passed. One that is not open needs nothing.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Makes the calling thread another user's, which has to be its process's only one. Nothing is changed for the user
/// that it is already. System calls and nothing else.
///
/// Source: setgroups(2), setresgid(2), setresuid(2), not the C library's own, which stop other threads.
/// Errors: EPERM.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    if unsafe { libc::getuid() == uid && libc::geteuid() == uid } {
        return Ok(());
    }
    // SAFETY: the kernel reads as many numbers as there are.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(result)?;
    let id = c_long::from;
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, id(gid), id(gid), id(gid)) })?;
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, id(uid), id(uid), id(uid)) })
        .map(drop)
}

/// Lets the kernel kill a process when the other end of this pipe is closed by its last holder.
///
/// Source: fcntl(2): the owner of a descriptor is sent a signal when it becomes readable, as the
/// end of a pipe does. All of it belongs to the open file, whichever process shares that: it holds
/// also when this process is gone, as long as another has the same end open, and it can be
/// [taken back](stop_watching) from here. The owner is that very process, no later one of its pid.
pub(crate) fn kill_at_end(pipe: BorrowedFd<'_>, pid: i32) -> Result<(), Errno> {
    // Source: asm-generic/fcntl.h.
    const F_SETSIG: i32 = 10;
    let fd = pipe.as_raw_fd();
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETOWN, pid) })?;
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGKILL) })?;
    // SAFETY: no memory is passed. The reading end of a pipe has no other flag that may be set.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC) }).map(drop)
}

/// Takes [`kill_at_end`] back.
pub(crate) fn stop_watching(pipe: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, 0) }).map(drop)
}

/// Returns whether a descriptor is open, and stays open over an exec. placer's own do not.
///
/// Source: fcntl(2).
pub(crate) fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// A memory policy in the kernel's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    mode: c_long,
    mask: Mask,
}

/// The nodes stay the ones named when the cpuset is changed, instead of moving along with it.
const STATIC_NODES: c_long = 1 << 15;

impl Policy {
    /// Returns the policy for a mode and nodes. Preferred takes only the first of them.
    ///
    /// Source: linux/mempolicy.h.
    pub fn new(mode: MemoryMode, nodes: &NodeSet) -> Self {
        let (mode, nodes) = match mode {
            // A policy that is inherited is given up as well.
            MemoryMode::None => return Self { mode: 0, mask: Mask::of_nodes(&NodeSet::new()) },
            MemoryMode::Preferred => (1, nodes.first().into_iter().collect()),
            MemoryMode::Strict => (2, nodes.clone()),
            MemoryMode::Interleave => (3, nodes.clone()),
            MemoryMode::PreferredMany => (5, nodes.clone()),
            MemoryMode::WeightedInterleave => (6, nodes.clone()),
        };
        Self { mode: mode | STATIC_NODES, mask: Mask::of_nodes(&nodes) }
    }
}

/// Gives the calling thread, and what it starts, a memory policy.
///
/// Source: set_mempolicy(2).
/// Errors: EINVAL: a mode that this kernel does not have, or none of the nodes has memory that the
/// cpuset allows. ENOSYS: a kernel without NUMA.
pub fn set_memory_policy(policy: &Policy) -> Result<(), Errno> {
    let words = policy.mask.words();
    // The kernel takes one bit less than it is told.
    let bits = if policy.mode == 0 { 0 } else { words.len() * 64 + 1 };
    let mask = if policy.mode == 0 { std::ptr::null() } else { words.as_ptr() };
    let default = policy.mode == 0;
    // SAFETY: the kernel reads at most `bits` bits, rounded down by one, of a buffer that has so
    // many and outlives the call; a null mask is of no bits.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, policy.mode, mask, bits) };
    match Errno::result(result) {
        // Where no policy can be set none was inherited that would have to be given up.
        Err(Errno::EPERM | Errno::ENOSYS) if default => Ok(()),
        other => other.map(drop),
    }
}

/// Returns whether this process may set memory policies. Changes nothing.
///
/// Source: set_mempolicy(2), with a mode that no kernel has.
/// Errors: EPERM: a filter of system calls forbids them. ENOSYS: a kernel without NUMA.
pub fn may_set_memory_policy() -> Result<(), Errno> {
    const NO_MODE: c_long = 1000;
    let mask: *const u64 = std::ptr::null();
    // SAFETY: the kernel reads nothing: the mask is null, of no bits.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, NO_MODE, mask, 0_usize) };
    match Errno::result(result) {
        Err(Errno::EINVAL) => Ok(()),
        other => other.map(drop),
    }
}

/// Pages asked about in one call.
const PAGES_AT_ONCE: usize = 512;

/// Returns the nodes of some pages of a process, by their addresses; `None` for a page that is not there.
///
/// Source: move_pages(2) without target nodes, which moves nothing.
/// Errors: ESRCH; EPERM: the process is another user's. ENOSYS: a kernel without NUMA.
#[doc(hidden)]
pub fn nodes_of_pages(pid: u32, addresses: &[u64]) -> Result<Vec<Option<NodeId>>, Errno> {
    let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let mut nodes = Vec::with_capacity(addresses.len());
    for part in addresses.chunks(PAGES_AT_ONCE) {
        let pages: Vec<usize> =
            part.iter().map(|&address| usize::try_from(address).unwrap_or(0)).collect();
        let mut status = vec![-1_i32; pages.len()];
        // SAFETY: the kernel reads `pages.len()` addresses, which are of the other process and are not followed here,
        // and writes as many numbers to a buffer of that length; a null list of nodes asks and moves nothing.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                c_long::from(pid),
                pages.len(),
                pages.as_ptr(),
                std::ptr::null::<libc::c_int>(),
                status.as_mut_ptr(),
                0_i32,
            )
        };
        Errno::result(result)?;
        nodes.extend(status.into_iter().map(|node| u32::try_from(node).ok().map(NodeId)));
    }
    Ok(nodes)
}

/// Moves pages of a process to nodes, those that other processes have as well if `all`. Returns whether a page did not
/// find free memory on its node. Which pages have arrived is asked by [`nodes_of_pages`].
///
/// Source: move_pages(2).
/// Errors: ESRCH; EPERM: the process is another user's, or `all` without CAP_SYS_NICE; EACCES: the process may not
/// use a node; ENODEV: there is no such node.
#[doc(hidden)]
pub fn move_pages(pid: u32, pages: &[(u64, NodeId)], all: bool) -> Result<bool, Errno> {
    const MOVE: c_long = 1 << 1;
    const MOVE_ALL: c_long = 1 << 2;
    let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let mut full = false;
    for part in pages.chunks(PAGES_AT_ONCE) {
        let addresses: Vec<usize> =
            part.iter().map(|&(address, _)| usize::try_from(address).unwrap_or(0)).collect();
        let nodes: Vec<i32> =
            part.iter().map(|&(_, node)| i32::try_from(node.0).unwrap_or(i32::MAX)).collect();
        let mut status = vec![0_i32; part.len()];
        // SAFETY: the kernel reads as many addresses, which are of the other process and are not followed here, and
        // nodes as there are, and writes as many numbers to a buffer of that length.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                c_long::from(pid),
                addresses.len(),
                addresses.as_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                if all { MOVE_ALL } else { MOVE },
            )
        };
        match Errno::result(result) {
            // All of them have gone, or are where they should be; without NUMA there is nowhere to go.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOSYS) => {}
            Err(Errno::ENOMEM) => full = true,
            Err(errno) => return Err(errno),
        }
        full |= status.contains(&-libc::ENOMEM);
    }
    Ok(full)
}

/// Returns whether a thread is one that the kernel made for itself inside a process, and whose CPUs only the kernel
/// may set: workers of io_uring on some kernels.
///
/// Source: flags in `/proc/PID/task/TID/stat`.
#[doc(hidden)]
pub fn is_the_kernels(pid: impl std::fmt::Display, thread: impl std::fmt::Display) -> bool {
    // Source: linux/sched.h.
    const PF_NO_SETAFFINITY: u64 = 0x0400_0000;
    let dir = format!("/proc/{pid}/task/{thread}");
    flags(Path::new(&dir)).is_some_and(|flags| flags & PF_NO_SETAFFINITY != 0)
}

/// The flag of threads of the kernel that are in no process. Source: linux/sched.h.
pub(crate) const PF_KTHREAD: u64 = 0x0020_0000;

/// Returns the flags of a thread, whose directory in `/proc` this is.
///
/// Source: `stat`.
pub(crate) fn flags(dir: &Path) -> Option<u64> {
    let stat = std::fs::read(dir.join("stat")).ok()?;
    // The name is in parentheses and may hold any byte; the flags are the seventh behind it.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = String::from_utf8_lossy(&stat[end..]);
    fields.split_whitespace().nth(7)?.parse().ok()
}

/// Returns the size of a page.
#[doc(hidden)]
pub fn page_size() -> u64 {
    // SAFETY: no memory is passed.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).ok().filter(|&size| size > 0).unwrap_or(4_096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use needs::needs;

    #[test]
    fn pages_are_on_nodes() {
        let memory = std::hint::black_box(vec![1u8; 4 << 20]);
        let start = memory.as_ptr() as u64 / 4096 * 4096 + 4096;
        // The last one is not mapped.
        let addresses: Vec<u64> = (0..600).map(|page| start + page * 4096).chain([4096]).collect();
        match nodes_of_pages(std::process::id(), &addresses) {
            Ok(nodes) => {
                assert_eq!(nodes.len(), 601);
                assert!(nodes[..600].iter().all(Option::is_some), "{nodes:?}");
                assert_eq!(nodes[600], None);
            }
            Err(Errno::ENOSYS) => testkit::require::does_not_apply("a kernel without NUMA"),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(nodes_of_pages(u32::MAX, &[4096]), Err(Errno::ESRCH));
    }

    #[test]
    fn masks_are_as_wide_as_their_last_id() {
        let cpus: CpuSet = [0, 63, 64, 9000].into_iter().map(CpuId).collect();
        let mask = Mask::of_cpus(&cpus);
        assert_eq!(mask.words().len(), 9000 / 64 + 1);
        assert_eq!((mask.words()[0], mask.words()[1]), (1 | 1 << 63, 1));
        assert_eq!(mask.words()[9000 / 64], 1 << (9000 % 64));
        assert_eq!(Mask::of_nodes(&NodeSet::new()).words(), [0]);
    }

    #[test]
    fn preferred_takes_one_node_and_none_takes_none() {
        let nodes: NodeSet = [NodeId(3), NodeId(1)].into_iter().collect();
        assert_eq!(Policy::new(MemoryMode::Preferred, &nodes).mask.words(), [1 << 1]);
        assert_eq!(Policy::new(MemoryMode::Strict, &nodes).mask.words(), [1 << 1 | 1 << 3]);
        assert_eq!(Policy::new(MemoryMode::None, &nodes).mode, 0);
    }

    /// Reads back what the kernel says of the calling thread: its policy and its CPUs.
    fn kernels_word() -> (c_long, u64, String) {
        let mut mode: libc::c_int = -1;
        let mut words = [0u64; 128];
        // SAFETY: both buffers are as long as the kernel is told and outlive the call.
        let result = unsafe {
            libc::syscall(libc::SYS_get_mempolicy, &mut mode, words.as_mut_ptr(), 128 * 64, 0, 0)
        };
        assert_eq!(result, 0, "{}", Errno::last());
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("a thread");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
        (c_long::from(mode), words[0], allowed.unwrap_or_default().to_owned())
    }

    #[needs(own_kernel)]
    #[test]
    fn the_kernel_reads_back_what_was_set() {
        // A thread of its own: what is set here ends with it.
        std::thread::spawn(|| {
            let node = NodeSet::from_iter([NodeId(0)]);
            for &mode in MemoryMode::ALL {
                let policy = Policy::new(mode, &node);
                match set_memory_policy(&policy) {
                    Ok(()) => {
                        let (told, mask, _) = kernels_word();
                        assert_eq!(told, policy.mode, "{mode}");
                        assert_eq!(mask, u64::from(mode != MemoryMode::None), "{mode}");
                    }
                    Err(Errno::EINVAL) if mode.since().is_some() => {}
                    Err(Errno::ENOSYS) => testkit::require::does_not_apply("a kernel without NUMA"),
                    Err(e) => panic!("{mode}: {e}"),
                }
            }
            let (before, may) = (kernels_word(), may_set_memory_policy());
            assert!(matches!(may, Ok(()) | Err(Errno::ENOSYS)), "{may:?}");
            assert_eq!(kernels_word(), before, "nothing is changed by asking");
            let far = NodeSet::from_iter([NodeId(1000)]);
            let refused = set_memory_policy(&Policy::new(MemoryMode::Strict, &far));
            assert!(matches!(refused, Err(Errno::EINVAL | Errno::ENOSYS)), "{refused:?}");

            let limits = placer_engine::Limits::read(&placer_engine::SysRoot::live());
            let cpu = limits.expect("a process").cpus.and_then(|cpus| cpus.first());
            let cpu = cpu.expect("a CPU");
            // Wider than the kernel's own masks, and only what exists remains.
            let wide = CpuSet::from_iter([cpu, CpuId(100_000)]);
            set_affinity(0, &Mask::of_cpus(&wide)).expect("a CPU of ours");
            assert_eq!(kernels_word().2, cpu.0.to_string());
            assert_eq!(affinity(0), Ok(CpuSet::from_iter([cpu])));
            let nowhere = Mask::of_cpus(&CpuSet::from_iter([CpuId(100_000)]));
            assert_eq!(set_affinity(0, &nowhere), Err(Errno::EINVAL));
        })
        .join()
        .expect("a thread that ends well");
    }
}
