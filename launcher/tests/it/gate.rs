//! A child waits, is bound, becomes the guest, or leaves nothing behind.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use placer_engine::{CpuId, CpuSet, Limits, NodeId, NodeSet, SysRoot};
use placer_launcher::{Ended, Gated, MemoryMode, Step};

fn exec(argv: &[&str]) -> Step {
    Step::Exec { argv: argv.iter().map(Into::into).collect() }
}

fn first_cpu() -> CpuSet {
    let limits = Limits::read(&SysRoot::live()).expect("a process");
    limits.cpus.and_then(|cpus| cpus.first()).into_iter().collect()
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn children() -> Vec<u32> {
    // Of this thread, since other tests have children too.
    let text = std::fs::read_to_string("/proc/thread-self/children");
    text.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn run(steps: &[Step]) -> Ended {
    let gated = Gated::fork(steps, None).expect("a child");
    gated.open().expect("a guest").wait().expect("its end")
}

#[test]
fn nothing_runs_before_the_gate_is_opened() {
    let tmp = tempfile::tempdir().expect("a directory");
    let file = tmp.path().join("ran");
    let steps = [exec(&["touch", file.to_str().expect("a plain name")])];
    let gated = Gated::fork(&steps, None).expect("a child");
    assert!(is_there(gated.pid()));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!file.exists());
    let ended = gated.open().expect("a guest").wait().expect("its end");
    assert_eq!((ended, file.exists()), (Ended::Exited(0), true));
}

#[test]
fn a_gate_that_is_never_opened_leaves_no_process() {
    let tmp = tempfile::tempdir().expect("a directory");
    let file = tmp.path().join("ran");
    let steps = [exec(&["touch", file.to_str().expect("a plain name")])];
    let gated = Gated::fork(&steps, None).expect("a child");
    let pid = gated.pid();
    drop(gated);
    assert!(!is_there(pid) && !file.exists());
}

#[test]
fn one_that_waits_keeps_no_other_from_ending() {
    let steps = [exec(&["true"])];
    let first = Gated::fork(&steps, None).expect("a child");
    let second = Gated::fork(&steps, None).expect("another");
    drop(first);
    let ended = second.open().expect("a guest").wait().expect("its end");
    assert_eq!(ended, Ended::Exited(0));
}

#[test]
fn status_and_signal_of_the_guest_are_told() {
    assert_eq!(run(&[exec(&["sh", "-c", "exit 7"])]), Ended::Exited(7));
    assert_eq!(run(&[exec(&["sh", "-c", "kill -9 $$"])]), Ended::Killed(9));
    // A real-time signal is one too.
    assert_eq!(run(&[exec(&["sh", "-c", "kill -34 $$"])]), Ended::Killed(34));
}

#[test]
fn the_guest_is_bound_when_it_begins() {
    let tmp = tempfile::tempdir().expect("a directory");
    let file = tmp.path().join("status");
    let script = format!("cat /proc/self/status /proc/self/numa_maps > {}", file.display());
    let cpus = first_cpu();
    let node = NodeSet::from_iter([NodeId(0)]);
    let steps = [
        Step::Affinity { cpus: cpus.clone() },
        Step::Memory { mode: MemoryMode::Strict, nodes: node },
        exec(&["sh", "-c", &script]),
    ];
    if run(&steps) != Ended::Exited(0) {
        testkit::require::does_not_apply("a kernel without NUMA");
        return;
    }
    let status = std::fs::read_to_string(file).expect("written");
    assert!(status.contains(&format!("Cpus_allowed_list:\t{cpus}\n")), "{status}");
    assert!(status.contains("bind=static:0") || status.contains("bind:0"), "{status}");
}

#[test]
fn a_refused_step_is_named_and_leaves_no_process() {
    let nowhere = CpuSet::from_iter([CpuId(1_000_000)]);
    let far = NodeSet::from_iter([NodeId(1000)]);
    let good = || exec(&["true"]);
    for (steps, errno, words) in [
        (
            vec![Step::Affinity { cpus: nowhere }, good()],
            Errno::EINVAL,
            "cannot run on CPUs 1000000",
        ),
        (
            vec![Step::Memory { mode: MemoryMode::Strict, nodes: far }, good()],
            Errno::EINVAL,
            "cannot bind memory strict to nodes 1000",
        ),
        (vec![exec(&["/etc/passwd"])], Errno::EACCES, "cannot run /etc/passwd"),
        (vec![exec(&["/no/such"])], Errno::ENOENT, "cannot run /no/such"),
    ] {
        let gated = Gated::fork(&steps, None).expect("a child");
        let pid = gated.pid();
        let error = gated.open().expect_err("a refusal");
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!(error.errno(), errno);
        assert!(!is_there(pid));
    }
    // Refused before there is a child.
    let before = children();
    for argv in [&["no-such-program-anywhere"][..], &["with\0nul"], &[""], &[]] {
        assert!(Gated::fork(&[exec(argv)], None).is_err(), "{argv:?}");
    }
    assert_eq!(children(), before);
}

#[test]
fn a_child_that_is_killed_at_the_gate_is_noticed() {
    let gated = Gated::fork(&[exec(&["true"])], None).expect("a child");
    let pid = Pid::from_raw(i32::try_from(gated.pid()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGKILL).expect("killed");
    // Before or after the gate: an error, or a guest that was killed.
    match gated.open() {
        Ok(guest) => assert_eq!(guest.wait(), Ok(Ended::Killed(9))),
        Err(error) => assert!(error.to_string().contains("ended before it was bound"), "{error}"),
    }
}

#[test]
fn the_gate_holds_when_the_launcher_is_killed() {
    // The launcher is a process of its own: it forks the guest, tells its pid, and is killed.
    let tmp = tempfile::tempdir().expect("a directory");
    let file = tmp.path().join("ran");
    let steps = [exec(&["touch", file.to_str().expect("a plain name")])];
    let (read, write) = nix::unistd::pipe().expect("a pipe");
    // SAFETY: the child only forks, writes to a pipe and kills itself; this test's threads hold no
    // lock that it takes, since the steps are prepared by plain allocation in a copy of the heap.
    match unsafe { nix::unistd::fork() }.expect("a launcher") {
        nix::unistd::ForkResult::Child => {
            let gated = Gated::fork(&steps, None);
            let pid = gated.as_ref().map_or(0, Gated::pid);
            let _ = nix::unistd::write(&write, &pid.to_ne_bytes());
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGKILL);
            unreachable!("killed");
        }
        nix::unistd::ForkResult::Parent { child } => {
            drop(write);
            let mut pid = [0; 4];
            assert_eq!(nix::unistd::read(&read, &mut pid), Ok(4));
            let pid = u32::from_ne_bytes(pid);
            nix::sys::wait::waitpid(child, None).expect("the launcher's end");
            let since = Instant::now();
            let alive = |pid: u32| {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
                status.is_ok_and(|text| !text.contains("State:\tZ"))
            };
            while alive(pid) {
                assert!(since.elapsed() < Duration::from_secs(10), "{pid} waits on");
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(pid > 0 && !file.exists());
        }
    }
}

#[test]
fn signals_are_ignored_as_the_launcher_found_them() {
    for before in ["", "trap '' PIPE;", "trap '' CHLD XFSZ;"] {
        // SIGPIPE is ignored by Rust's start-up, and SIGCHLD may not be by who waits for a guest.
        let told = |program: &str| {
            let mut shell = std::process::Command::new("sh");
            let script = format!("{before} exec {program}");
            let me = std::env::current_exe().expect("this program");
            let output = shell.args(["-c", &script]).arg(me).output().expect("a shell");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
            let signals = line.and_then(|bits| u64::from_str_radix(bits, 16).ok());
            // Two are the C library's own, which it takes when a process has threads, as this has.
            signals.unwrap_or_else(|| panic!("{text}")) & !(0b11 << 31)
        };
        let plain = told("grep SigIgn /proc/self/status");
        // The test's own name comes first on its line, whatever follows.
        let launched = told("\"$0\" --ignored --exact gate::tell_what_is_ignored --nocapture");
        assert_eq!(launched, plain, "{before}");
    }
}

#[test]
#[ignore = "run by another test, below a shell"]
fn tell_what_is_ignored() {
    placer_launcher::signals::survive_file_size_limit();
    println!();
    assert_eq!(run(&[exec(&["grep", "SigIgn", "/proc/self/status"])]), Ended::Exited(0));
}
