//! Signals whose disposition the launcher changes for itself and restores for the guest.
//!
//! A launched program has to find its signals as its caller left them. But Rust's start-up ignores
//! SIGPIPE before `main` runs, [`survive_file_size_limit`] ignores SIGXFSZ, and a process that
//! waits for a guest may not ignore SIGCHLD. So the ignored signals are recorded before all that, by a
//! function that the C library calls when the program is loaded.

use std::sync::atomic::{AtomicBool, Ordering};

use libc::{SIG_DFL, SIG_IGN, c_int};

/// Each, and whether it was ignored when this program began.
static CHANGED: [(c_int, AtomicBool); 3] = [
    (libc::SIGPIPE, AtomicBool::new(false)),
    (libc::SIGCHLD, AtomicBool::new(false)),
    (libc::SIGXFSZ, AtomicBool::new(false)),
];

#[used]
// SAFETY: the C library calls what is listed here once, in the only thread, after it is ready itself;
// `note` needs nothing of Rust's start-up, and cannot unwind.
#[unsafe(link_section = ".init_array")]
static NOTE: extern "C" fn() = note;

extern "C" fn note() {
    for (signal, ignored) in &CHANGED {
        ignored.store(is_ignored(*signal), Ordering::Relaxed);
    }
}

/// Returns whether a signal is ignored now.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    // SAFETY: a struct of numbers and of pointers that may be null.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel only writes to a struct that outlives the call.
    let told = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) };
    told == 0 && now.sa_sigaction == SIG_IGN
}

/// Makes a write past the limit for the size of files an error, as one on a full disk is. Else it
/// would end this program where it writes a claim. A guest is not affected.
pub fn survive_file_size_limit() {
    // SAFETY: no handler is set, and no memory touched.
    unsafe { libc::signal(libc::SIGXFSZ, SIG_IGN) };
}

/// Makes them what they were when this program began. Only system calls.
pub(crate) fn restore() {
    for (signal, ignored) in &CHANGED {
        let was = if ignored.load(Ordering::Relaxed) { SIG_IGN } else { SIG_DFL };
        // SAFETY: no handler is set, and no memory touched.
        unsafe { libc::signal(*signal, was) };
    }
}
