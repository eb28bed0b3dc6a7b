//! An engine inside a program with habits of its own: signals, forks, descriptors that are closed.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use placer_engine::claims::{ClaimDirs, ClaimId, ClaimOwner};
use placer_engine::{Engine, EngineError, Request, SysRoot};
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
fn in_a_forked_child_an_engine_refuses_to_answer_and_can_be_dropped() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path());
    let with_claims = Engine::builder(SysRoot::at(dir.path()));
    let with_claims = with_claims.claims(ClaimDirs::at(dir.path())).start().expect("an engine");
    let request: Request = "1:1".parse().expect("a request");
    // SAFETY: the child asks, drops the engine and exits; it takes no lock that another thread may hold but the
    // allocator's, which glibc hands to the child in order.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Child => {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let owner = ClaimOwner::Pid(1);
                let answers = [
                    engine.advise(&request).map(drop),
                    with_claims.advise(&request).map(drop),
                    with_claims.place(&request, owner.clone()).map(drop),
                    with_claims.adopt(ClaimId(1), owner),
                    with_claims.release(ClaimId(1)),
                ];
                drop((engine, with_claims));
                answers.iter().all(|answer| matches!(answer, Err(EngineError::Forked)))
            }));
            // SAFETY: ends the child at once, without the handlers of the test program.
            unsafe { nix::libc::_exit(i32::from(!matches!(ended, Ok(true)))) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            engine.stop();
        }
    }
}

#[test]
fn no_file_stays_open_between_two_readings() {
    let (dir, state) = (tempfile::tempdir().expect("a host"), tempfile::tempdir().expect("claims"));
    Machine::new().node(0, 0..4, 1 << 20, 1 << 19).write(dir.path());
    let builder = Engine::builder(SysRoot::at(dir.path())).claims(ClaimDirs::at(state.path()));
    let open = || {
        let files = fs::read_dir("/proc/self/fd").expect("our descriptors").flatten();
        let files = files.filter_map(|fd| fs::read_link(fd.path()).ok());
        files.filter(|file| file.starts_with(dir.path()) || file.starts_with(state.path())).count()
    };
    for engine in [builder.clone().start(), builder.without_thread().start()] {
        let engine = engine.expect("an engine");
        for _ in 0..2 {
            engine.advise(&"1:1".parse().expect("a request")).expect("an advice");
        }
        // The thread may be in the middle of a reading.
        let start = std::time::Instant::now();
        while open() > 0 {
            assert!(start.elapsed().as_secs() < 60, "{} files are open", open());
        }
    }
}

#[test]
fn figures_that_cannot_be_read_anew_say_how_old_they_are() {
    let dir = tempfile::tempdir().expect("a host");
    Machine::new().node(0, 0..4, 1 << 20, 1 << 19).write(dir.path());
    let interval = std::time::Duration::from_millis(10);
    let builder = Engine::builder(SysRoot::at(dir.path())).interval(interval);
    let engine = builder.start().expect("an engine");
    let request: Request = "1:1".parse().expect("a request");
    let notes = engine.advise(&request).expect("an advice").notes;
    assert!(!notes.iter().any(|note| note.starts_with("the figures")), "{notes:?}");
    let meminfo = dir.path().join("sys/devices/system/node/node0/meminfo");
    fs::write(&meminfo, "Node 0 MemFree: many kB\n").expect("written");
    while engine.last_error().is_none() {
        std::thread::yield_now();
    }
    let failed = engine.age();
    while engine.age() < failed + 2 * interval {
        std::thread::yield_now();
    }
    let notes = engine.advise(&request).expect("an advice").notes;
    let first = notes.first().expect("a note");
    assert!(
        first.starts_with("the figures of this host are 0.") && first.contains("meminfo"),
        "{first}"
    );
}

#[test]
fn without_a_thread_each_question_reads_the_host() {
    let dir = tempfile::tempdir().expect("a host");
    Machine::new().node(0, 0..4, 8 << 20, 6 << 20).write(dir.path());
    let builder = Engine::builder(SysRoot::at(dir.path())).without_thread();
    let engine = builder.start().expect("an engine");
    let request: Request = "1:4G".parse().expect("a request");
    assert!(engine.advise(&request).expect("an advice").fits());
    assert!(engine.subscribe().next().is_none(), "no snapshots come");
    Machine::new().node(0, 0..4, 8 << 20, 2 << 20).write(dir.path());
    let before = std::time::Instant::now();
    assert!(!engine.advise(&request).expect("an advice").fits());
    assert!(engine.age() <= before.elapsed());
    assert_eq!(engine.last_error().map(|error| error.to_string()), None);

    let live = Engine::builder(SysRoot::live()).without_thread().start().expect("this host");
    for _ in 0..3 {
        live.advise(&request).expect("an advice");
        assert!(live.snapshot().before().is_some(), "the load is known");
    }
}
