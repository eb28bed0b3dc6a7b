//! Machines of the real QEMU, and peers that only look like it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use needs::needs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use placer_engine::{Advice, Bytes, CpuId, CpuSet, Limits, Request, Snapshot, SysRoot, advise};
use placer_launcher::cgroup::{Cpuset, GroupStep, Live, Planned, Tree, plan};
use placer_launcher::guest::line::Line;
use placer_launcher::guest::{
    Accelerator, CgroupMode, CpuPlacement, Disk, DiskBus, DiskDevice, Firmware, Guest, MemoryMode,
    Program, Qemu, Sandbox, Serial, ThreadPin,
};
use placer_launcher::qemu::{Launch, Waiting};
use placer_launcher::{Ended, LaunchError, Started, Step, Thread};

pub(crate) const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(500);

pub(crate) fn is_there(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|text| !text.contains("State:\tZ"))
}

fn wait_until_gone(pid: u32) {
    let since = Instant::now();
    while is_there(pid) {
        assert!(since.elapsed() < Duration::from_secs(30), "{pid} is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// 64 KiB in which the first instruction jumps to itself.
fn rom(dir: &Path) -> String {
    let mut rom = vec![0_u8; 64 << 10];
    rom[0xfff0..0xfff2].copy_from_slice(&[0xeb, 0xfe]);
    let file = dir.join("loop,1.rom");
    fs::write(&file, rom).expect("a ROM");
    file.to_str().expect("a plain name").to_owned()
}

fn machine(cpus: u32, qemu: Qemu) -> Guest {
    let mut guest = Guest::new("web,1".parse().expect("a name"), Program::Qemu(qemu));
    guest.cpus.current = cpus;
    guest.cpus.maximum = cpus;
    guest.memory.maximum = Bytes::new(64 << 20);
    guest.memory.current = guest.memory.maximum;
    guest
}

fn emulated(dir: &Path) -> Qemu {
    let firmware = Some(Firmware::Rom(rom(dir)));
    Qemu { accelerator: Accelerator::Tcg, firmware, ..Qemu::default() }
}

/// This host, and advice for a small machine within what this process may use.
pub(crate) fn here() -> (Snapshot, Advice) {
    let root = SysRoot::live();
    let snapshot = Snapshot::take(&root, Duration::ZERO).expect("this host");
    let mut request: Request = "1:64".parse().expect("a request");
    request.limits = Limits::read(&root).expect("a process");
    let advice = advise(&snapshot, &request).expect("an answer");
    (snapshot, advice)
}

fn launch(guest: &Guest) -> Launch {
    let (snapshot, advice) = here();
    Launch::new(guest, Some(&advice), &snapshot).expect("a plan")
}

pub(crate) fn prepared(launch: &Launch) -> Result<Waiting<'static>, LaunchError> {
    launch.prepare(&Live, Planned::default(), &[])
}

pub(crate) fn waited(started: Started<'_>) -> Result<Ended, LaunchError> {
    started.wait().map(|end| end.ended)
}

/// Returns the CPUs of each thread of a process, by its id.
pub(crate) fn affinities(pid: u32) -> BTreeMap<u32, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    let cpus = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{id}/status")).ok()?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"))?;
        Some((id, list.to_owned()))
    };
    ids.filter_map(cpus).collect()
}

pub(crate) fn names(pid: u32) -> BTreeMap<u32, String> {
    let name = |id: u32| fs::read_to_string(format!("/proc/{pid}/task/{id}/comm")).ok();
    affinities(pid).keys().filter_map(|&id| Some((id, name(id)?.trim().to_owned()))).collect()
}

pub(crate) fn end(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("a process");
}

#[needs(qemu)]
#[test]
fn a_real_machine_is_bound_thread_by_thread_before_it_runs() {
    let tmp = tempfile::tempdir().expect("a directory");
    // A name that QEMU would take for a protocol, with a comma.
    let image = tmp.path().join("nbd:a,b.img");
    fs::write(&image, vec![0_u8; 1 << 20]).expect("an image");
    let mut qemu = emulated(tmp.path());
    qemu.iothreads = 1;
    qemu.serials = vec![Serial::File(tmp.path().join("serial,0").display().to_string())];
    qemu.disks = vec![Disk {
        file: image.display().to_string(),
        format: "raw".to_owned(),
        device: DiskDevice::Disk,
        bus: DiskBus::Virtio,
        readonly: false,
    }];
    let mut guest = machine(2, qemu);
    guest.pin = ThreadPin::Cores;
    guest.memory.current = Bytes::new(48 << 20);
    // On a host of one node nothing is bound unless it is asked for.
    guest.mode_given = true;
    let launch = launch(&guest);
    let waiting = prepared(&launch).expect("a child");
    let pid = waiting.pid();
    let running = waiting.start_within(LONG).expect("a machine");
    assert_eq!(running.pid(), pid);

    let (names, affinities) = (names(pid), affinities(pid));
    let threads = launch.threads();
    let mut vcpus = 0;
    for (id, name) in &names {
        let wanted = match name.split_once("CPU ") {
            Some((_, number)) => {
                vcpus += 1;
                let number: String = number.chars().take_while(char::is_ascii_digit).collect();
                &threads.vcpus[number.parse::<usize>().expect("a number")]
            }
            None if name.starts_with("IO iothread1") => &threads.iothreads[0],
            None => &threads.emulator,
        };
        assert_eq!(affinities.get(id), Some(&wanted.to_string()), "{name}");
    }
    assert_eq!(vcpus, 2, "{names:?}");
    let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).unwrap_or_default();
    match maps.is_empty() {
        true => testkit::require::does_not_apply("the kernel tells no memory policies"),
        // Its own memory by the policy of the process, and the machine's by its backend's.
        false => assert!(maps.contains("bind=static:") && maps.contains("bind:"), "{maps}"),
    }
    // It runs: its vCPUs use time.
    let busy = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        fields.split_whitespace().nth(11).and_then(|time| time.parse::<u64>().ok()).expect("time")
    };
    let (before, since) = (busy(), Instant::now());
    while busy() <= before {
        assert!(since.elapsed() < LONG, "it does not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    end(pid, Signal::SIGTERM);
    assert_eq!(waited(running), Ok(Ended::Exited(0)));
    assert!(!is_there(pid));
}

#[needs(qemu)]
#[test]
fn by_nodes_all_threads_run_on_all_cpus_of_the_advice() {
    let tmp = tempfile::tempdir().expect("a directory");
    let guest = machine(3, emulated(tmp.path()));
    let launch = launch(&guest);
    let running = prepared(&launch).expect("a child").start_within(LONG).expect("a machine");
    let cpus = launch.threads().process.to_string();
    for (id, found) in affinities(running.pid()) {
        assert_eq!(found, cpus, "{id}");
    }
    let pid = running.pid();
    end(pid, Signal::SIGKILL);
    assert_eq!(waited(running), Ok(Ended::Killed(Signal::SIGKILL as i32)));
}

#[needs(qemu, root)]
#[test]
fn a_machine_runs_as_its_user_in_a_sandbox_without_descriptors_of_ours() {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let tmp = tempfile::tempdir().expect("a directory");
    fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o755)).expect("open to all");
    let open = tmp.path().join("open");
    let file = fs::File::create(&open).expect("a file");
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).expect("handed down");
    let mut qemu = emulated(tmp.path());
    qemu.user = Some("nobody".to_owned());
    let running = prepared(&launch(&machine(1, qemu))).expect("a child");
    let running = running.start_within(LONG).expect("a machine");
    let pid = running.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    for line in ["Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let fds: Vec<_> = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect();
    assert!(!fds.contains(&open), "{fds:?}");
    end(pid, Signal::SIGTERM);
    assert_eq!(waited(running), Ok(Ended::Exited(0)));
}

#[needs(qemu)]
#[test]
fn vcpus_that_share_a_thread_share_its_cpus() {
    let tmp = tempfile::tempdir().expect("a directory");
    let mut guest = machine(2, emulated(tmp.path()));
    guest.pin = ThreadPin::Cores;
    let Program::Qemu(qemu) = &mut guest.program else { unreachable!("a machine") };
    qemu.args = vec!["-icount".into(), "shift=0".into()];
    let launch = launch(&guest);
    let running = prepared(&launch).expect("a child").start_within(LONG).expect("a machine");
    let pid = running.pid();
    let both = launch.threads().vcpus.iter().fold(CpuSet::new(), |all, cpus| all.union(cpus));
    let names = names(pid);
    let shared = names.iter().find(|(_, name)| name.contains("CPU")).expect("a thread");
    assert_eq!(affinities(pid).get(shared.0), Some(&both.to_string()));
    end(pid, Signal::SIGTERM);
    assert_eq!(waited(running), Ok(Ended::Exited(0)));
}

#[needs(bash)]
#[test]
fn a_machine_in_a_group_of_its_own_leaves_none() {
    let tree = Tree::read(Path::new("/"));
    let Some(mount) = &tree.mount else {
        testkit::require::does_not_apply("no cgroup v2 is mounted here");
        return;
    };
    let parent = mount.join(format!("test-qemu-{}", std::process::id()));
    if let Err(error) = fs::create_dir(&parent) {
        testkit::require::does_not_apply(format!(
            "no group can be made here: {}: {error}",
            parent.display()
        ));
        return;
    }
    let tmp = tempfile::tempdir().expect("a directory");
    let talk = "grep -q 0::/.*placer-web /proc/self/cgroup || exit 4; hello; cpus $$; hear; ";
    for (end, ended) in [
        ("say '{\"return\": {}, \"id\": 3}'; hear; exit 9", Some(Ended::Exited(9))),
        ("exit 3", None),
    ] {
        let file = fake(tmp.path(), &format!("{talk}{end}"));
        let qemu = Qemu { emulator: Some(file.display().to_string()), ..Qemu::default() };
        let mut guest = machine(1, qemu);
        guest.cgroup.mode = CgroupMode::Own;
        guest.cgroup.parent = Some(parent.display().to_string());
        let launch = launch(&guest);
        let dir = parent.join("placer-web");
        let planned = match tree.cpuset {
            Cpuset::V2 => plan(&Live, &tree, &guest, &launch.binding()).expect("a plan"),
            // The same without the cpuset.
            _ => Planned {
                optional: false,
                steps: vec![
                    GroupStep::Make { dir: dir.clone() },
                    GroupStep::Enter { dir: dir.clone() },
                    GroupStep::Remove { dir },
                ],
                notes: Vec::new(),
            },
        };
        let waiting = launch.prepare(&Live, planned, &[]).expect("a child");
        assert!(waiting.group().is_some());
        let result = waiting.start_within(LONG).and_then(waited);
        assert_eq!(result.ok(), ended, "{end}");
    }
    fs::remove_dir(&parent).expect("a group with nothing left in it");
}

#[needs(qemu)]
#[test]
fn a_machine_that_qemu_refuses_says_so_and_is_gone() {
    let tmp = tempfile::tempdir().expect("a directory");
    let mut qemu = emulated(tmp.path());
    qemu.args = vec!["-no-such-option".into()];
    let waiting = prepared(&launch(&machine(1, qemu))).expect("a child");
    let pid = waiting.pid();
    let error = waiting.start_within(LONG).expect_err("a bad argument").to_string();
    assert_eq!(
        error,
        format!(
            "cannot start guest web,1: QEMU (process {pid}) ended with status 1 before its machine \
             ran (its own messages, if any, are above)"
        )
    );
    assert!(!is_there(pid));
}

#[needs(qemu)]
#[test]
fn a_pin_that_the_kernel_refuses_ends_the_machine() {
    let tmp = tempfile::tempdir().expect("a directory");
    let socket = tmp.path().join("serial");
    let mut qemu = emulated(tmp.path());
    qemu.serials = vec![Serial::Unix(socket.display().to_string())];
    let (snapshot, mut advice) = here();
    let mut guest = machine(1, qemu);
    // CPUs that a recorded host has and this one does not: what comes of CPUs that went offline.
    let far = CpuId(100_000);
    guest.pin = ThreadPin::Nodes;
    guest.placement = CpuPlacement::Advised { instead_of: None };
    advice.cpus = advice.cpus.union(&CpuSet::from_iter([far]));
    let launch = Launch::new(&guest, Some(&advice), &snapshot).expect("a plan");
    let waiting = prepared(&launch).expect("a child");
    let pid = waiting.pid();
    let error = waiting.start_within(LONG).expect_err("a CPU that is not there").to_string();
    assert!(
        error.starts_with("cannot run the emulator on CPUs ")
            && error.contains(&format!("of process {pid} may run on ")),
        "{error}"
    );
    assert!(!is_there(pid) && !socket.exists());
}

/// A program that is no QEMU but has its control channel: a shell script.
fn fake(dir: &Path, talk: &str) -> PathBuf {
    let file = dir.join("emulator");
    let script = format!(
        "#!/bin/bash\n\
         for a; do case $a in *,fd=*) fd=${{a##*fd=}};; esac; done\n\
         say() {{ printf '%s\\n' \"$1\" >&$fd; }}\n\
         hear() {{ read -r -u $fd question; }}\n\
         hello() {{ say '{{\"QMP\": {{}}}}'; hear; say '{{\"return\": {{}}, \"id\": 1}}'; }}\n\
         cpus() {{ hear; say '{{\"return\": [{{\"cpu-index\": 0, \"thread-id\": '$1'}}], \"id\": \
             2}}'; }}\n\
         {talk}\n"
    );
    // Copied by another process: one that is forked here while this one had it open for writing would keep
    // it so for a while, and the kernel runs no such file.
    let draft = dir.join("draft");
    fs::write(&draft, script).expect("a script");
    let copied = Command::new("cp").args([&draft, &file]).status().expect("cp");
    assert!(copied.success());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a program");
    file
}

fn started(emulator: &Path, limit: Duration) -> (u32, Result<Ended, LaunchError>) {
    let qemu = Qemu { emulator: Some(emulator.display().to_string()), ..Qemu::default() };
    let waiting = prepared(&launch(&machine(1, qemu))).expect("a child");
    let pid = waiting.pid();
    (pid, waiting.start_within(limit).and_then(waited))
}

#[needs(bash)]
#[test]
fn a_peer_that_speaks_as_qemu_is_continued() {
    let tmp = tempfile::tempdir().expect("a directory");
    let talk = "hello; cpus $$; hear; say '{\"return\": {}, \"id\": 3}'; hear; exit 9";
    let file = fake(tmp.path(), talk);
    // Its last `hear` ends when the channel is closed: nobody would read it any more.
    assert_eq!(started(&file, LONG).1, Ok(Ended::Exited(9)));
}

#[needs(bash)]
#[test]
fn every_failure_ends_the_process_and_names_the_step() {
    let tmp = tempfile::tempdir().expect("a directory");
    let no = "'{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": ";
    let refused = format!("hello; hear; say {no}2}}'; hear; say '{{\"return\": {{}}, \"id\": 3}}'");
    let refused_cont = format!("hello; cpus $$; hear; say {no}3}}'; hear; exec sleep 1000");
    let gone = "ended with status 3 before its machine ran";
    for (talk, limit, words) in [
        ("exit 3", LONG, gone),
        ("hello; exit 3", LONG, gone),
        ("hello; hear; exit 3", LONG, gone),
        ("hello; cpus $$; exit 3", LONG, gone),
        ("kill -9 $$", LONG, "was ended by SIGKILL before its machine ran"),
        ("exec sleep 1000", SHORT, "speak to it (QEMU, process PID): no answer within"),
        (
            "hello; exec sleep 1000",
            SHORT,
            "ask query-cpus-fast of it (QEMU, process PID): no answer",
        ),
        ("hello; cpus $$; exec sleep 1000", SHORT, "let it run (QEMU, process PID): no answer"),
        ("trap '' TERM; exec sleep 1000", SHORT, "speak to it (QEMU, process PID): no"),
        ("say hi; exec sleep 1000", LONG, "expected an answer of QMP, found \"hi\""),
        ("hello; say '{'; exec sleep 1000", LONG, "expected an answer of QMP, found"),
        ("exec tr '\\0' x </dev/zero >&$fd", LONG, "found a line past 8388608 bytes"),
        ("hello; eval \"exec $fd>&-\"; exec sleep 1000", LONG, "it closed its control channel"),
        ("hello; cpus 1; hear; exec sleep 1000", LONG, "expected a thread of process PID, found 1"),
        (
            "hello; hear; say '{\"return\": [], \"id\": 2}'; hear; exec sleep 1000",
            LONG,
            "QEMU does not name",
        ),
        (&refused, LONG, "ask query-cpus-fast of it (QEMU, process PID): QEMU says"),
        (&refused_cont, LONG, "let it run (QEMU, process PID): QEMU says \"GenericError: no\""),
    ] {
        let file = fake(tmp.path(), talk);
        let (mut pid, mut result) = started(&file, limit);
        // On a busy machine half a second may end before it comes to that step.
        for longer in [4, 16, 64] {
            let told = result.as_ref().map_err(ToString::to_string);
            if limit == LONG
                || told.is_err_and(|e| e.contains(&words.replace("PID", &pid.to_string())))
            {
                break;
            }
            (pid, result) = started(&file, limit * longer);
        }
        let error = result.expect_err(talk).to_string();
        assert!(error.contains(&words.replace("PID", &pid.to_string())), "{talk}: {error}");
        assert!(!error.contains('\n') && !is_there(pid), "{talk}: {error}");
    }
}

#[needs(bash)]
#[test]
fn a_signal_for_the_launcher_is_the_guests_also_before_it_runs() {
    let tmp = tempfile::tempdir().expect("a directory");
    let file = fake(tmp.path(), "hello; kill -TERM $PPID; exec sleep 1000");
    let qemu = Qemu { emulator: Some(file.display().to_string()), ..Qemu::default() };
    let launch = launch(&machine(1, qemu));
    let (read, write) = nix::unistd::pipe().expect("a pipe");
    // A launcher of its own and of one thread, since every thread here would get that signal.
    // SAFETY: the child runs in a copy of this thread alone; what it allocates comes from a heap
    // that glibc makes usable after a fork, and it ends without running anything of the test's.
    match unsafe { nix::unistd::fork() }.expect("a launcher") {
        nix::unistd::ForkResult::Child => {
            let started = prepared(&launch).and_then(|waiting| waiting.start_within(LONG));
            let told = started.map_or_else(|error| error.to_string(), |_| "running".to_owned());
            let _ = nix::unistd::write(&write, told.as_bytes());
            // SAFETY: ends the process and nothing else.
            unsafe { nix::libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            drop(write);
            let mut told = String::new();
            fs::File::from(read).read_to_string(&mut told).expect("its words");
            nix::sys::wait::waitpid(child, None).expect("the launcher's end");
            assert!(told.contains("was ended by SIGTERM before its machine ran"), "{told}");
        }
    }
}

/// This program again, as a launcher that is told what to start.
fn again(test: &str, emulator: &Path, pid_file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1", "--ignored"]);
    command.env("TEST_EMULATOR", emulator).env("TEST_PID_FILE", pid_file);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

#[test]
#[ignore = "run by other tests, as a launcher that may be killed"]
fn start_one() {
    let Some(emulator) = std::env::var_os("TEST_EMULATOR") else { return };
    let pid_file = std::env::var_os("TEST_PID_FILE").expect("a file");
    let (dir, emulator) = (tempfile::tempdir().expect("a directory"), PathBuf::from(emulator));
    let mut qemu = emulated(dir.path());
    qemu.emulator = Some(emulator.display().to_string());
    let waiting = prepared(&launch(&machine(1, qemu))).expect("a child");
    fs::write(pid_file, waiting.pid().to_string()).expect("a file");
    match waiting.start_within(LONG) {
        Ok(running) => {
            println!("running");
            println!("{:?}", waited(running));
        }
        Err(error) => println!("{error}"),
    }
}

#[needs(bash)]
#[test]
fn a_launcher_that_is_killed_takes_its_stopped_machine_along() {
    let tmp = tempfile::tempdir().expect("a directory");
    let ready = tmp.path().join("ready");
    // Deaf to all signals that one can be deaf to.
    let talk = format!("trap '' TERM INT HUP; hello; touch {}; exec sleep 1000", ready.display());
    let file = fake(tmp.path(), &talk);
    let pid_file = tmp.path().join("pid");
    let mut launcher = again("qemu::start_one", &file, &pid_file).spawn().expect("a launcher");
    let since = Instant::now();
    while !ready.exists() {
        assert!(since.elapsed() < LONG, "it was not started");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = fs::read_to_string(pid_file).expect("a pid").parse().expect("a number");
    assert!(is_there(pid));
    launcher.kill().expect("killed");
    launcher.wait().expect("its end");
    wait_until_gone(pid);
}

#[needs(qemu)]
#[test]
fn a_launcher_that_is_killed_leaves_a_machine_that_runs() {
    let tmp = tempfile::tempdir().expect("a directory");
    let pid_file = tmp.path().join("pid");
    let emulator = Path::new("qemu-system-x86_64");
    let mut launcher = again("qemu::start_one", emulator, &pid_file).spawn().expect("a launcher");
    let out = BufReader::new(launcher.stdout.take().expect("its words"));
    assert!(out.lines().map_while(Result::ok).any(|line| line.ends_with("running")));
    let pid = fs::read_to_string(pid_file).expect("a pid").parse().expect("a number");
    launcher.kill().expect("killed");
    launcher.wait().expect("its end");
    std::thread::sleep(Duration::from_millis(200));
    assert!(is_there(pid));
    end(pid, Signal::SIGKILL);
    wait_until_gone(pid);
}

/// The arguments that a launch starts QEMU with.
fn words(launch: &Launch) -> Vec<String> {
    let steps = launch.steps().into_iter();
    let argv = steps.filter_map(|step| match step {
        Step::Exec { argv } => Some(argv),
        _ => None,
    });
    argv.flatten().map(|arg| arg.into_string().expect("text")).collect()
}

/// The same without what binds it.
fn unbound(words: &[String]) -> Vec<String> {
    let bound =
        ",host-nodes=[0-9-]+|,policy=[a-z]+|,\"host-nodes\":\\[[0-9,]+\\]|,\"policy\":\"[a-z]+\"";
    let bound = regex::Regex::new(bound).expect("a pattern");
    words.iter().map(|word| bound.replace_all(word, "").into_owned()).collect()
}

/// A QEMU that is started from the arguments of a launch alone, on node 0 instead of the nodes of the recorded host.
struct Spoken {
    qemu: std::process::Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Spoken {
    fn start(launch: &Launch, more: &[&str]) -> Self {
        let argv = words(launch);
        let plain = regex::Regex::new("host-nodes=[0-9-]+").expect("a pattern");
        let json = regex::Regex::new("\"host-nodes\":\\[[0-9,]+\\]").expect("a pattern");
        let args = argv.iter().skip(1).map(|arg| match arg.as_str() {
            "socket,id=placer-qmp,fd=3" => "stdio,id=placer-qmp".to_owned(),
            other => {
                let other = plain.replace_all(other, "host-nodes=0");
                json.replace_all(&other, "\"host-nodes\":[0]").into_owned()
            }
        });
        let mut qemu = Command::new(&argv[0]);
        qemu.args(args).args(more).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut qemu = qemu.spawn().expect("QEMU");
        let answers = BufReader::new(qemu.stdout.take().expect("its words")).lines();
        let mut spoken = Self { qemu, answers };
        spoken.ask("qmp_capabilities", &serde_json::json!({}));
        spoken
    }

    fn ask(&mut self, question: &str, arguments: &serde_json::Value) -> serde_json::Value {
        let input = self.qemu.stdin.as_mut().expect("its input");
        let text =
            serde_json::json!({ "execute": question, "arguments": arguments, "id": question });
        // In one piece: the last question ends QEMU at its brace.
        input.write_all(format!("{text}\n").as_bytes()).expect("asked");
        loop {
            let line = self.answers.next().expect("QEMU is there").expect("text");
            let mut answer: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert!(answer.get("error").is_none(), "{answer}");
            if answer["id"] == question {
                return answer["return"].take();
            }
        }
    }

    /// Asks until the status is one of these.
    fn wait(&mut self, question: &str, statuses: &[&str]) -> String {
        let since = Instant::now();
        loop {
            let found = self.ask(question, &serde_json::json!({}))["status"].clone();
            let found = found.as_str().unwrap_or_default();
            if statuses.contains(&found) {
                return found.to_owned();
            }
            assert!(since.elapsed() < LONG, "{question}: {found}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn quit(mut self) {
        self.ask("quit", &serde_json::json!({}));
        assert!(self.qemu.wait().expect("its end").success());
    }
}

/// What the guests of this test have in common: 4 vCPUs and 300 MiB.
fn guest_of_300_mib(program: Program) -> Guest {
    let mut guest = machine(4, Qemu::default());
    guest.program = program;
    guest.memory.maximum = Bytes::new(300 << 20);
    guest.memory.current = guest.memory.maximum;
    guest
}

/// One definition is one machine, on five hosts that are not alike: a guest file with and without NUMA nodes, and
/// command lines. Its state, saved where memory is bound, is loaded where it is placed otherwise.
#[needs(qemu)]
#[test]
fn a_definition_is_one_machine_on_five_hosts_and_its_saved_state_loads() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sysfs-fixtures");
    if !fixtures.exists() {
        let all = std::env::var_os("PLACER_REQUIRE").is_some_and(|value| value == "all");
        assert!(!all, "PLACER_REQUIRE=all: there is no {}", fixtures.display());
        testkit::require::does_not_apply("no recorded hosts");
        return;
    }
    let tmp = tempfile::tempdir().expect("a directory");
    // Its state goes through a program.
    let file = |cells| Program::Qemu(Qemu { cells, sandbox: Sandbox::Off, ..emulated(tmp.path()) });
    let line = |text: &str| {
        let own = format!(
            "qemu-system-x86_64 -nodefaults -display none -accel tcg -bios {}",
            rom(tmp.path())
        );
        let words: Vec<std::ffi::OsString> =
            own.split(' ').chain(text.split(' ')).map(Into::into).collect();
        Program::Line(Box::new(Line::parse(&words).expect("a good line").expect("a guest")))
    };
    let programs = [
        file(1),
        file(2),
        line("-m 300M -smp 4"),
        line(
            "-m 300M -smp 4,sockets=2 -object memory-backend-ram,id=a,size=150M -numa node,memdev=a \
             -object {'qom-type':'memory-backend-ram','id':'b','size':157286400} -numa node,memdev=b",
        ),
    ];
    for program in programs {
        let guest = guest_of_300_mib(program);
        let launch_on = |host: &str, mode| {
            let root = SysRoot::at(fixtures.join(host));
            let snapshot = Snapshot::take(&root, Duration::ZERO).expect("a recorded host");
            let advice =
                advise(&snapshot, &"4:300".parse().expect("a request")).expect("an answer");
            assert!(advice.fits(), "{host}");
            let mut guest = guest.clone();
            (guest.mode, guest.mode_given) = (mode, true);
            Launch::new(&guest, Some(&advice), &snapshot).expect("a plan")
        };
        let hosts = ["two-nodes", "ring-4", "uneven-8", "cpuless", "sixteen"];
        let all = hosts.map(|host| launch_on(host, MemoryMode::Strict));
        let shapes: Vec<_> = all.iter().map(|launch| unbound(&words(launch))).collect();
        assert!(shapes.iter().all(|shape| *shape == shapes[0]), "{shapes:#?}");
        let places: BTreeSet<_> = all.iter().map(words).collect();
        assert!(places.len() > 1, "they are placed alike: {places:?}");

        let mut saved = Spoken::start(&all[0], &[]);
        let vcpus = saved.ask("query-hotpluggable-cpus", &serde_json::json!({}));
        for (id, cell) in
            all[0].shape().cells.iter().enumerate().filter(|_| all[0].shape().is_numa())
        {
            let is_its = |vcpu: &&serde_json::Value| vcpu["props"]["node-id"] == id;
            let has: u32 = cell.vcpus.iter().map(|(first, last)| last - first + 1).sum();
            let found = vcpus.as_array().expect("vCPUs").iter().filter(is_its).count();
            assert_eq!(u32::try_from(found), Ok(has), "node {id}");
        }
        let backends = saved.ask("query-memdev", &serde_json::json!({}));
        for backend in backends.as_array().expect("backends") {
            let bound = (&backend["policy"], &backend["host-nodes"][0]);
            assert_eq!(bound, (&"bind".into(), &0.into()));
        }
        let state = tmp.path().join("state");
        let uri = format!("exec:cat >'{}'", state.display());
        saved.ask("migrate", &serde_json::json!({ "uri": uri }));
        saved.wait("query-migrate", &["completed"]);
        saved.quit();
        let uri = format!("exec:cat '{}'", state.display());
        let mut loaded =
            Spoken::start(&launch_on("sixteen", MemoryMode::None), &["-incoming", &uri]);
        let status = loaded.wait("query-status", &["prelaunch", "paused", "running"]);
        assert_ne!(status, "running", "it stays paused");
        loaded.quit();
    }
}

#[test]
fn too_few_descriptors_start_nothing() {
    let tmp = tempfile::tempdir().expect("a directory");
    let output =
        again("qemu::start_with_few_descriptors", Path::new("true"), &tmp.path().join("pid"));
    let output = { output }.output().expect("a launcher");
    let ran = output.stdout.windows(8).any(|text| text == b"1 passed");
    assert!(output.status.success() && ran, "{output:?}");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn start_with_few_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if std::env::var_os("TEST_EMULATOR").is_none() {
        return;
    }
    let qemu = Qemu { emulator: Some("true".to_owned()), ..Qemu::default() };
    let launch = launch(&machine(1, qemu));
    let open = || fs::read_dir("/proc/self/fd").expect("descriptors").count() - 1;
    let (before, (_, hard)) = (open(), getrlimit(Resource::RLIMIT_NOFILE).expect("a limit"));
    let mut refused = 0;
    for more in 0..16 {
        let few = u64::try_from(before).expect("a few") + more;
        setrlimit(Resource::RLIMIT_NOFILE, few, hard).expect("a lower limit");
        let forked = prepared(&launch);
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the limit as before");
        match forked {
            Ok(waiting) => {
                let pid = waiting.pid();
                drop(waiting);
                assert!(!is_there(pid));
            }
            Err(error) => {
                refused += 1;
                let words = error.to_string();
                assert!(
                    words.contains("cannot start") && words.contains("Too many open"),
                    "{words}"
                );
            }
        }
        let children = fs::read_to_string("/proc/thread-self/children").expect("a list");
        assert_eq!((open(), children.trim()), (before, ""), "with {more} more");
    }
    assert!((3..16).contains(&refused), "{refused} refused");
}

#[test]
fn what_is_bound_is_what_a_dry_run_shows() {
    let mut guest = machine(2, Qemu { iothreads: 1, ..Qemu::default() });
    guest.memory.current = Bytes::new(32 << 20);
    let launch = launch(&guest);
    let steps = launch.steps();
    let kinds: Vec<&str> = steps
        .iter()
        .map(|step| match step {
            Step::Affinity { .. } => "cpus",
            Step::Memory { .. } => "memory",
            Step::CloseOthers => "close",
            Step::Keep { .. } => "keep",
            Step::User { .. } => "user",
            Step::Exec { .. } => "exec",
            Step::Pin { thread: Thread::Vcpu(_), .. } => "vcpu",
            Step::Pin { thread: Thread::Io(_), .. } => "io",
            Step::Pin { thread: Thread::Emulator, .. } => "emulator",
            Step::Balloon { .. } => "balloon",
            Step::Continue => "run",
            #[allow(unreachable_patterns, reason = "other kinds of guests have other steps")]
            _ => "other",
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "cpus", "memory", "close", "keep", "keep", "keep", "exec", "vcpu", "vcpu", "io",
            "emulator", "balloon", "run"
        ]
    );
    let shown: Vec<String> = steps.iter().skip(7).map(ToString::to_string).collect();
    let cpus = &launch.threads().process;
    assert_eq!(
        shown,
        [
            format!("pin     vCPU 0 to CPUs {cpus}"),
            format!("pin     vCPU 1 to CPUs {cpus}"),
            format!("pin     I/O thread 1 to CPUs {cpus}"),
            format!("pin     the emulator to CPUs {cpus}"),
            "balloon 32 MiB left".to_owned(),
            "run     the machine, stopped until here".to_owned(),
        ]
    );
}
