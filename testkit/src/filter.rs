//! A filter of system calls (seccomp) that makes one of them fail, in a thread and its children.

use nix::errno::Errno;

/// Source: linux/filter.h, linux/seccomp.h, linux/bpf_common.h.
const LOAD_NUMBER: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// From here on the call fails with the errno, in the calling thread and what it starts. False, with
/// a line that says so, where this kernel has no such filters.
fn fail(call: libc::c_long, errno: Errno) -> bool {
    let number = u32::try_from(call).expect("a number of a system call");
    let errno = u32::try_from(errno as i32).expect("an errno");
    let one = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        one(LOAD_NUMBER, 0, 0, 0),
        one(JUMP_IF_EQUAL, 0, 1, number),
        one(RETURN, 0, 0, ERRNO | errno),
        one(RETURN, 0, 0, ALLOW),
    ];
    let length = u16::try_from(program.len()).expect("a few");
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: no memory is passed. Only this thread gives up setuid programs.
    let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and what it points to live until the call has copied them.
    let second = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    let set = first == 0 && second == 0;
    if !set {
        crate::require::does_not_apply(format!("no filters of system calls: {}", Errno::last()));
    }
    set
}

/// Runs `work` in a thread of its own in which a system call fails. False where that cannot be.
pub fn with_fault(call: libc::c_long, errno: Errno, work: impl FnOnce() + Send) -> bool {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let set = fail(call, errno);
            if set {
                work();
            }
            set
        });
        thread.join().expect("a thread that ends well")
    })
}

/// Only where this kernel has no filters.
pub fn skipped() -> bool {
    !with_fault(libc::SYS_getcpu, Errno::ENOSYS, || ())
}
