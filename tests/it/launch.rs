//! `placer launch` of commands, on this machine and, as dry runs, on recorded ones.

use crate::common;
use testkit::machine;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{placer, run, text};
use machine::Machine;
use needs::needs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Two nodes of 4 CPUs and 16 GiB, of which node 1 has more free; a node of memory alone.
fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    Machine::new()
        .node(0, 0..4, 16 << 20, 4 << 20)
        .node(1, 4..8, 16 << 20, 8 << 20)
        .node(4, [], 32 << 20, 1 << 20)
        .write(dir.path());
    dir
}

fn dry(root: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(placer().args(["launch", "--dry-run", "--root"]).arg(root).args(args));
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn shown(steps: &str) -> (Option<i32>, String, String) {
    (Some(0), steps.to_owned(), String::new())
}

/// Launches on this machine, with claims in a place of their own.
fn launch(state: &Path, args: &[&str]) -> Output {
    run(launching(state, args))
}

fn launching<'a>(state: &Path, args: &[&str]) -> &'a mut Command {
    let command = Box::leak(Box::new(placer()));
    command.args(["launch", "--window", "10ms"]).args(args);
    command.env("PLACER_STATE_DIR", state).env("PATH", "/usr/bin:/bin")
}

fn state() -> (tempfile::TempDir, PathBuf) {
    let tmp = tempfile::tempdir().expect("a directory");
    let dir = tmp.path().join("state");
    (tmp, dir)
}

/// Returns the claims that somebody asked for, not those of guests that run here anyway.
fn asked(ps: &Output) -> Vec<Value> {
    let told: Value = serde_json::from_slice(&ps.stdout).expect("JSON");
    let claims = told["claims"].as_array().expect("a list").iter();
    claims.filter(|claim| claim["origin"] == "asked").cloned().collect()
}

fn claimed(state: &Path) -> usize {
    asked(&run(placer().args(["ps", "--json"]).env("PLACER_STATE_DIR", state))).len()
}

#[test]
fn a_dry_run_shows_each_step_and_does_nothing() {
    let host = host();
    let command = ["--", "echo", "a b", "it's", ""];
    let exec = r"exec    echo 'a b' 'it'\''s' ''";
    let args = |options: &[&'static str]| [options, &command].concat();
    assert_eq!(
        dry(host.path(), &args(&["--cpus", "2", "--memory", "1G"])),
        shown(&format!("cpus    4-7\nmemory  strict on 1\n{exec}\n"))
    );
    assert_eq!(
        dry(host.path(), &args(&["--cpus", "6", "--mode", "preferred"])),
        shown(&format!("cpus    0-7\nmemory  preferred on 0\n{exec}\n"))
    );
    assert_eq!(
        dry(host.path(), &args(&["--mode", "none"])),
        shown(&format!("cpus    4-7\nmemory  not bound\n{exec}\n"))
    );
}

#[test]
fn what_does_not_fit_starts_nothing() {
    let host = host();
    let (code, stdout, stderr) = dry(host.path(), &["--memory", "64G", "--", "true"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("placer: not starting: 1 CPU and 64.0 GiB do not fit"));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    // By force it is: not strictly, since the kernel would end it on a full node.
    let (code, stdout, _) = dry(host.path(), &["--memory", "64G", "--force", "--", "true"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("memory  preferred on"), "{stdout}");

    let (tmp, state) = state();
    let ran = tmp.path().join("ran");
    let touch = ["--memory", "1000T", "--", "touch", ran.to_str().expect("a plain name")];
    assert_eq!(launch(&state, &touch).status.code(), Some(1));
    assert!(!ran.exists());
}

#[test]
fn a_guest_from_a_file_has_the_whole_machine_and_flags_win() {
    let dir = tempfile::tempdir().expect("a directory");
    let limited = Machine::new().node(0, 0..4, 16 << 20, 4 << 20);
    let limited = limited.node(1, 4..8, 16 << 20, 8 << 20).allowed("0-3", "0");
    limited.write(dir.path());
    let file = dir.path().join("guest.toml");
    let toml = "name = \"naps\"\ncpus = 2\nmemory = \"1G\"\ncommand = [\"sleep\", \"1\"]\n";
    fs::write(&file, toml).expect("written");
    let name = file.to_str().expect("a plain name");
    let steps = "cpus    4-7\nmemory  strict on 1\nexec    sleep 1\n";
    assert_eq!(dry(dir.path(), &[name]), shown(steps));
    let steps = "cpus    0-7\nmemory  interleave on 0-1\nexec    sleep 1\n";
    assert_eq!(dry(dir.path(), &[name, "--cpus", "8", "--mode", "interleave"]), shown(steps));
    let steps = "cpus    0-3\nmemory  strict on 0\nexec    sleep 1\n";
    assert_eq!(dry(dir.path(), &["--cpus", "2", "--", "sleep", "1"]), shown(steps));
}

#[test]
fn definitions_that_are_none_are_named() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let refused = |content: &str, words: &str| {
        let file = dir.path().join("guest");
        fs::write(&file, content).expect("written");
        let (code, stdout, stderr) = dry(host.path(), &[file.to_str().expect("a plain name")]);
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(2), "", 1), "{stderr}");
        assert!(stderr.contains(words), "{words}: {stderr}");
    };
    refused("cpu = 2\n", "guest:1:1: unknown key \"cpu\"; did you mean \"cpus\"?");
    refused("<domain type='kvm'>", "guest:1:");
    refused("<!DOCTYPE a [<!ENTITY b \"c\">]><domain/>", "guest:");
    for (path, words) in [("/no/such", "cannot read /no/such"), ("/", "expected an ordinary file")]
    {
        let (code, _, stderr) = dry(host.path(), &[path]);
        assert!(code == Some(2) && stderr.contains(words), "{stderr}");
    }
    // Nothing to start, two things to start, another machine.
    assert_eq!(run(placer().arg("launch")).status.code(), Some(2));
    assert_eq!(run(placer().args(["launch", "a.toml", "--", "true"])).status.code(), Some(2));
    let elsewhere = run(placer().args(["launch", "--root"]).arg(host.path()).args(["--", "true"]));
    assert_eq!(elsewhere.status.code(), Some(2));
}

#[test]
fn the_proposals_definition_is_printed_with_cpus() {
    let host = host();
    let file = host.path().join("web.xml");
    let xml = "<domain type='lxc'><name>web</name><memory unit='GiB'>1</memory>\
               <vcpu cpuset='1-10,^7,^8'>4</vcpu><numatune><memory mode='strict' nodeset='0-1'/>\
               <cpu required_cpus='4' required_memory='524288'/></numatune></domain>";
    fs::write(&file, xml).expect("written");
    let output =
        run(placer().args(["launch", "--print-xml", "--root"]).arg(host.path()).arg(&file));
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(printed.contains("<vcpu cpuset='4-7'>4</vcpu>"), "{printed}");
    assert!(printed.contains("required_cpus='4' required_memory='524288'/>"), "{printed}");
}

#[test]
fn the_command_is_bound_claimed_for_and_its_status_is_ours() {
    let (_tmp, state) = state();
    let ps = format!("{} ps --json", env!("CARGO_BIN_EXE_placer"));
    let script = format!("cat /proc/self/status >&2; {ps}; exit 7");
    let output = launch(&state, &["--memory", "10M", "--", "sh", "-c", &script]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    let claims = asked(&output);
    assert_eq!(claims.len(), 1, "{claims:?}");
    assert_eq!(claims[0]["memory"], 10 << 20, "{claims:?}");
    // When it has ended nothing counts any more.
    assert_eq!(claimed(&state), 0);
}

#[test]
fn a_command_that_cannot_start_leaves_no_claim() {
    let (tmp, state) = state();
    let plain = tmp.path().join("plain");
    fs::write(&plain, "text").expect("written");
    for (program, words) in [
        ("no-such-program-anywhere", "(it is not in PATH)"),
        (plain.to_str().expect("a plain name"), "Permission denied"),
    ] {
        let output = launch(&state, &["--memory", "10M", "--", program]);
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
        assert!(stderr.starts_with("placer: cannot run ") && stderr.contains(words), "{stderr}");
    }
    let ledger: String = fs::read_dir(&state)
        .expect("listed")
        .filter_map(|entry| fs::read_to_string(entry.expect("an entry").path()).ok())
        .filter(|text| text.contains("promised"))
        .collect();
    assert_eq!(ledger, "");
}

#[test]
fn a_signal_ends_the_command_and_its_claim() {
    let (_tmp, state) = state();
    let mut child = launching(&state, &["--", "sleep", "60"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let since = Instant::now();
    while claimed(&state) == 0 {
        assert!(since.elapsed() < Duration::from_secs(20), "never claimed for");
    }
    child.kill().expect("killed");
    let status = child.wait().expect("a child of ours");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert_eq!(claimed(&state), 0);
}

#[test]
fn what_the_launcher_was_given_is_passed_on() {
    let (_tmp, state) = state();
    // The signals that are ignored, those that Rust or placer ignores for itself among them.
    let placer = env!("CARGO_BIN_EXE_placer");
    for before in ["", "trap '' PIPE;", "trap '' XFSZ CHLD USR1;"] {
        let tell = "grep SigIgn /proc/self/status";
        let signals = |launcher: &str| {
            let script = format!("{before} exec {launcher} {tell}");
            let mut shell = Command::new("sh");
            shell.args(["-c", &script]).env("PLACER_STATE_DIR", &state);
            let output = shell.output().expect("a shell");
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        };
        let launched = signals(&format!("{placer} launch --window 0 --"));
        assert_eq!(launched, signals(""), "{before}");
    }
    // No descriptor of ours stays open.
    let output = launch(&state, &["--", "sh", "-c", "ls /proc/self/fd | wc -l"]);
    let plain = Command::new("sh").args(["-c", "ls /proc/self/fd | wc -l"]).output();
    assert_eq!(text(&output.stdout), text(&plain.expect("a shell").stdout));
}

#[test]
fn a_limit_for_the_size_of_files_costs_the_claim_and_not_the_launch() {
    let (_tmp, state) = state();
    let placer = env!("CARGO_BIN_EXE_placer");
    // The guest itself is ended by its own writes, as it would be without a launcher.
    let script = format!(
        "ulimit -c 0; ulimit -f 0; exec {placer} launch --window 0 --memory 10M -- \
         sh -c 'echo begun; kill -s XFSZ $$; echo survived'"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("PLACER_STATE_DIR", &state);
    let output = shell.output().expect("a shell");
    let stderr = text(&output.stderr);
    assert_eq!(text(&output.stdout), "begun\n", "{stderr}");
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(25), "{stderr}");
    assert!(stderr.contains("File too large"), "{stderr}");
    assert_eq!(claimed(&state), 0);
}

#[test]
fn a_machine_whose_emulator_ends_before_it_runs_is_claimed_for_no_longer() {
    let (tmp, state) = state();
    let file = tmp.path().join("web.toml");
    let definition =
        "name = \"web\"\ncpus = 1\nmemory = \"10M\"\n[qemu]\nemulator = \"/bin/false\"\n";
    fs::write(&file, definition).expect("written");
    let output = launch(&state, &[file.to_str().expect("a plain name")]);
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{stderr}");
    assert!(stderr.contains("cannot start guest web: QEMU (process "), "{stderr}");
    assert!(stderr.contains("ended with status 1 before its machine ran"), "{stderr}");
    assert_eq!(claimed(&state), 0);
}

#[test]
fn a_command_line_of_qemu_says_how_large_its_guest_is() {
    let host = host();
    let line = |words: &[&'static str]| [&["--", "qemu-system-x86_64"], words].concat();
    let large = line(&["-m", "800G", "-smp", "32"]);
    let (code, stdout, stderr) = dry(host.path(), &large);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("32 CPUs and 800.0 GiB do not fit"), "{stderr}");
    let small = line(&["-nodefaults", "-m", "1G", "-smp", "2"]);
    let (code, stdout, stderr) = dry(host.path(), &small);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stderr}");
    let bound = "memory-backend-ram,id=pc.ram,size=1024M,host-nodes=1,policy=bind";
    assert!(stdout.starts_with("cpus    4-7\nmemory  strict on 1\n"), "{stdout}");
    assert!(stdout.contains(bound) && stdout.contains("pin     vCPU 1 to CPUs 4-7\n"), "{stdout}");
    for (flags, words, error) in [
        (&["--cpus", "4"][..], &["-m", "1G"][..], "--cpus does not go with a QEMU command line"),
        (&["--memory", "4G"], &["-m", "1G"], "-m says how much memory it has"),
        (&["--pages", "2M"], &["-m", "1G"], "hugetlb=on"),
        (&[], &["-daemonize"], "-daemonize: QEMU would leave the process"),
        (&[], &["-m", "x"], "expected a size such as 4G, found \"x\""),
    ] {
        let (code, stdout, stderr) = dry(host.path(), &[flags, &line(words)].concat());
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{words:?}");
        assert!(stderr.contains(error), "{stderr}");
    }
    // What only prints is run as any command.
    let (code, stdout, _) = dry(host.path(), &line(&["-version"]));
    assert_eq!(code, Some(0));
    assert!(stdout.ends_with("exec    qemu-system-x86_64 -version\n"), "{stdout}");
}

#[test]
fn a_device_of_the_host_draws_its_guest() {
    let fixture = common::project().join("sysfs-fixtures/pci-4");
    let line = |address: &'static str| {
        ["--", "qemu-kvm", "-m", "32M", "-device", "vfio-pci,host=02:00.0", "-device", address]
    };
    let (code, stdout, stderr) = dry(&fixture, &line("vfio-pci,host=81:00.0"));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("memory  strict on 3\n"), "{stdout}");
    assert!(stderr.contains("02:00.0 does not draw the guest"), "{stderr}");
    // What is asked for goes before.
    let near = [&["--within", "0"], &line("vfio-pci,host=81:00.0")[..]].concat();
    let (_, stdout, _) = dry(&fixture, &near);
    assert!(stdout.contains("memory  strict on 0\n"), "{stdout}");
}

/// A program that does `first`, speaks as QEMU does until its guest runs, and then does `then`.
fn speaks_as_qemu(dir: &Path, first: &str, then: &str) -> PathBuf {
    let script = format!(
        "#!/bin/bash\n\
         {first}\n\
         for a; do case $a in *,fd=*) fd=${{a##*fd=}};; esac; done\n\
         say() {{ printf '%s\\n' \"$1\" >&$fd; }}\n\
         hear() {{ read -r -u $fd question; }}\n\
         say '{{\"QMP\": {{}}}}'; hear; say '{{\"return\": {{}}, \"id\": 1}}'\n\
         hear; say '{{\"return\": [{{\"cpu-index\": 0, \"thread-id\": '$$'}}], \"id\": 2}}'\n\
         hear; say '{{\"return\": {{}}, \"id\": 3}}'\n\
         echo >{}/runs\n\
         {then}\n",
        dir.display()
    );
    let file = dir.join("qemu-system-x86_64");
    // Copied by another process, for no fork of this one to keep it open for writing.
    let draft = dir.join("draft");
    fs::write(&draft, script).expect("a script");
    let copied = Command::new("cp").args([&draft, &file]).status().expect("cp");
    assert!(copied.success());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a program");
    file
}

#[needs(bash)]
#[test]
fn sigterm_asks_a_guest_to_shut_down_and_ends_it_when_it_does_not() {
    let asked = "hear; case $question in *system_powerdown*) exit 9;; *) exit 3;; esac";
    let deaf = "while :; do read -r -u $fd question; done";
    // What comes before the launcher has seen that the guest runs is passed on: it is asked until it listens.
    for (first, then, limit, signals, status) in [
        ("trap '' TERM", asked, "60s", 1000, Some(9)),
        ("", deaf, "100ms", 1, Some(128 + 15)),
        ("", deaf, "1h", 2, Some(128 + 15)),
        ("", deaf, "0", 1, Some(128 + 15)),
    ] {
        let (tmp, state) = state();
        let program = speaks_as_qemu(tmp.path(), first, then);
        let program = program.to_str().expect("a plain name");
        let args = ["--stop-timeout", limit, "--", program, "-m", "10M"];
        let mut launcher = launching(&state, &args).spawn().expect("the program starts");
        wait_until("it runs", || tmp.path().join("runs").exists());
        let pid = Pid::from_raw(i32::try_from(launcher.id()).expect("a pid"));
        for _ in 0..signals {
            kill(pid, Signal::SIGTERM).expect("a process");
            // Two that wait are one.
            std::thread::sleep(Duration::from_millis(300));
            if launcher.try_wait().expect("a child of ours").is_some() {
                break;
            }
        }
        let ended = launcher.wait().expect("a child of ours");
        assert_eq!(ended.code(), status, "{then} {limit}");
        assert_eq!(claimed(&state), 0);
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A launcher of the guest "web 1"; its program is at `program`.
fn launch_web(state: &Path, program: &Path) -> std::process::Child {
    let program = program.to_str().expect("a plain name");
    let args = ["--stop-timeout", "0", "--", program, "-m", "10M", "-name", "guest=web 1"];
    launching(state, &args).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Returns the process that a refused launcher names.
fn refused_for(launcher: std::process::Child) -> u32 {
    let output = launcher.wait_with_output().expect("a child of ours");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let named = said.strip_prefix("placer: cannot start guest web 1: it runs already, as process ");
    let pid = named.and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(pid.is_some(), "{said}");
    pid.unwrap_or_default()
}

#[needs(bash)]
#[test]
fn a_guest_that_runs_is_not_started_again() {
    let (tmp, state) = state();
    let program = speaks_as_qemu(tmp.path(), "", "exec sleep 600");
    let runs = || wait_until("it runs", || tmp.path().join("runs").exists());
    // Of those that come at once one starts it.
    let mut all: Vec<_> = (0..6).map(|_| launch_web(&state, &program)).collect();
    runs();
    wait_until("the others end", || {
        all.iter_mut().filter_map(|one| one.try_wait().expect("a child of ours")).count() == 5
    });
    let at = all.iter_mut().position(|one| one.try_wait().is_ok_and(|ended| ended.is_none()));
    let mut first = all.swap_remove(at.expect("one runs"));
    for other in all {
        let output = other.wait_with_output().expect("a child of ours");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("placer: cannot start guest web 1: "), "{said}");
    }
    assert_eq!(claimed(&state), 1);
    // The guest outlives its launcher, and keeps its name.
    let guest = refused_for(launch_web(&state, &program));
    first.kill().expect("a child of ours");
    first.wait().expect("a child of ours");
    assert_eq!(refused_for(launch_web(&state, &program)), guest);
    // What is left of it keeps no other from starting.
    let pid = Pid::from_raw(i32::try_from(guest).expect("a pid"));
    kill(pid, Signal::SIGKILL).expect("a process");
    wait_until("it is gone", || {
        let status = fs::read_to_string(format!("/proc/{guest}/status"));
        !status.is_ok_and(|text| !text.contains("State:\tZ"))
    });
    fs::remove_file(tmp.path().join("runs")).expect("written by the first");
    let mut next = launch_web(&state, &program);
    runs();
    let launcher = Pid::from_raw(i32::try_from(next.id()).expect("a pid"));
    kill(launcher, Signal::SIGTERM).expect("a process");
    wait_until("it ends", || next.try_wait().is_ok_and(|ended| ended.is_some()));
    let left = fs::read_dir(&state).expect("a directory").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("guest-")), "{left:?}");
}

/// A virsh that has the domain "web", in the state that is named, and writes down what it is asked.
fn virsh_has_web(dir: &Path, state: &str) {
    let definition = "<domain type='kvm'>\n  <name>web</name> <!-- kept -->\n  <uuid>5f9a0f5c-0a69-4b8c-9b3c-\
                      5d3c1d5f3f0e</uuid>\n  <memory>65536</memory>\n  <vcpu>1</vcpu>\n</domain>\n";
    fs::write(dir.join("web.xml"), definition).expect("a definition");
    let script = format!(
        "#!/bin/sh\ncd '{}' || exit 1\necho \"$*\" >>asked\n\
         case $* in *dominfo*) echo 'Name:           web'; echo 'UUID:           5f9a'; echo 'State:          {state}'; echo 'Persistent:     yes';; \
         *dumpxml*) cat web.xml;; *define*) cat /dev/stdin >defined;; esac\n",
        dir.display()
    );
    let draft = dir.join("draft");
    fs::write(&draft, script).expect("a script");
    let copied = Command::new("cp").args([&draft, &dir.join("virsh")]).status().expect("cp");
    assert!(copied.success());
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.join("virsh"), mode).expect("a program");
}

#[test]
fn a_domain_that_libvirt_has_is_placed_in_its_own_definition() {
    let (host, tmp) = (host(), tempfile::tempdir().expect("a directory"));
    virsh_has_web(tmp.path(), "shut off");
    let path = format!("{}:/usr/bin:/bin", tmp.path().display());
    let place = |args: &[&str]| {
        let output = run(placer()
            .env("PATH", &path)
            .env("PLACER_STATE_DIR", tmp.path().join("state"))
            .env("XDG_RUNTIME_DIR", tmp.path())
            .args(args));
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let asked = || fs::read_to_string(tmp.path().join("asked")).unwrap_or_default();
    // What is printed goes where the recorded host has room.
    let root = host.path().to_str().expect("a plain path");
    let recorded = ["place", "--root", root, "web"];
    let printed = place(&[&recorded[..], &["--print-xml"]].concat());
    let definition = fs::read_to_string(tmp.path().join("web.xml")).expect("a definition");
    let placed = definition.replace(
        "<vcpu>1</vcpu>\n",
        "<vcpu cpuset='4-7'>1</vcpu>\n  <numatune>\n    <memory mode='strict' nodeset='1'/>\n  </numatune>\n",
    );
    assert_eq!(printed, (Some(0), placed, String::new()));
    let (status, steps, _) = place(&[&recorded[..], &["--dry-run"]].concat());
    assert_eq!(status, Some(0));
    assert!(steps.contains("memory  strict on 1"), "{steps}");
    let (status, _, said) = place(&recorded);
    assert_eq!(status, Some(2), "{said}");
    assert!(!asked().contains(" define "), "{}", asked());
    // On this host it is defined.
    virsh_has_web(tmp.path(), "running");
    let (status, stdout, said) = place(&["place", "--connect", "qemu:///session", "web"]);
    assert_eq!((status, stdout.as_str()), (Some(0), ""), "{said}");
    let note = "guest web runs: it keeps its place until it is shut down and started again";
    assert!(said.contains(note), "{said}");
    let defined = fs::read_to_string(tmp.path().join("defined")).expect("a definition");
    assert!(defined.contains("<vcpu cpuset='") && defined.contains("<!-- kept -->"), "{defined}");
    let last = asked().lines().last().map(str::to_owned);
    assert_eq!(last.as_deref(), Some("-q -k 0 -c qemu:///session define /dev/stdin"));
}

/// What was decided is on stderr, since stdout is the guest's.
#[test]
fn a_launch_says_what_was_decided_and_claimed() {
    let (_tmp, state) = state();
    let output = launch(&state, &["--json", "--memory", "10M", "--", "sh", "-c", "echo mine"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "mine\n"));
    let said = text(&output.stderr);
    let line = said.lines().find(|line| line.starts_with('{')).expect("a document");
    let document: Value = serde_json::from_str(line).expect("JSON");
    let schema = common::json(&run(placer().args(["schema", "launch"])));
    assert_eq!(testkit::schema::broken(&schema, &document), [""; 0]);
    assert_eq!((&document["guest"], &document["advice"]["fits"]), (&"sh".into(), &true.into()));
    assert_eq!(document["advice"]["claim"], document["claim"]["id"]);
    assert_eq!(document["claim"]["promised"][0]["memory"], 10 << 20);
    let steps = document["steps"].as_array().expect("a list");
    assert_eq!(steps.last(), Some(&"exec    sh -c 'echo mine'".into()));

    let output = launch(&state, &["--explain", "--", "echo", "mine"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "mine\n"));
    let said = text(&output.stderr);
    assert!(said.contains("exec    echo mine\nclaim   "), "{said}");

    let host = host();
    let (status, stdout, said) = dry(host.path(), &["--explain", "--cpus", "2", "--", "true"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(stdout.ends_with("cpus    4-7\nmemory  strict on 1\nexec    true\n"), "{stdout}");
    let (status, _, said) = dry(host.path(), &["--explain", "--policy", "numad", "--", "true"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("--explain needs --policy best"), "{said}");
}
