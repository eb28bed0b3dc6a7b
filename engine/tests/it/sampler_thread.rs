//! The thread of an engine inside a program with habits of its own: signals, forks.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use placer_engine::{Engine, SysRoot};
use testkit::machine::Machine;

fn engine(dir: &std::path::Path) -> Engine {
    Machine::new().node(0, 0..4, 1 << 20, 1 << 19).write(dir);
    Engine::builder(SysRoot::at(dir)).start().expect("an engine")
}

/// Returns the `SigBlk` of the threads of an engine in this process.
fn blocked_by_samplers() -> Vec<u64> {
    let mut masks = Vec::new();
    for task in fs::read_dir("/proc/self/task").expect("our threads").flatten() {
        // A thread of another test may end meanwhile.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        if status.starts_with("Name:\tplacer-sampler\n") {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"));
            masks.push(u64::from_str_radix(mask.expect("a mask"), 16).expect("a number"));
        }
    }
    masks
}

#[test]
fn no_signal_of_the_program_is_delivered_to_the_sampling_thread() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path());
    // The name is set by the thread itself, which may not have run yet.
    let masks = loop {
        let masks = blocked_by_samplers();
        if !masks.is_empty() {
            break masks;
        }
        std::thread::yield_now();
    };
    for signal in [nix::libc::SIGUSR1, nix::libc::SIGTERM, nix::libc::SIGHUP, nix::libc::SIGCHLD] {
        for mask in &masks {
            assert!(mask >> (signal - 1) & 1 == 1, "signal {signal} in {mask:x}");
        }
    }
    engine.stop();
}

#[test]
fn the_calling_thread_keeps_its_signal_mask() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = nix::sys::signal::SigSet::thread_get_mask().expect("our mask");
    let engine = engine(dir.path());
    assert_eq!(nix::sys::signal::SigSet::thread_get_mask().expect("our mask"), before);
    engine.stop();
}

#[test]
fn an_engine_dropped_in_a_forked_child_does_not_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path());
    // SAFETY: the child drops the engine and exits; it takes no lock that another thread may hold but the
    // allocator's, which glibc hands to the child in order.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(engine)));
            // SAFETY: ends the child at once, without the handlers of the test program.
            unsafe { nix::libc::_exit(i32::from(dropped.is_err())) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            engine.stop();
        }
    }
}
