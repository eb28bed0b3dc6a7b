//! By the name numad, as libvirt calls it: a full path as argv[0], pipes for both outputs, no
//! environment to rely on. It waits for the end of both pipes, reads all of stdout as one node list,
//! and starts no guest without one.

use crate::common;
use needs::needs;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::{fixture, run, text};

/// A directory with the program as `usr/bin/numad`, as the package has it.
fn installed() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let bin = dir.path().join("usr/bin");
    fs::create_dir_all(&bin).expect("made");
    let numad = bin.join("numad");
    symlink(env!("CARGO_BIN_EXE_placer"), &numad).expect("linked");
    (dir, numad)
}

/// `numad -w 2:64` on a recorded machine, with state of its own.
fn asked(numad: &Path, dir: &Path) -> Command {
    let mut command = Command::new(numad);
    command.args(["-w", "2:64"]).env_clear().current_dir("/").stdin(Stdio::null());
    command.env("PLACER_ROOT", fixture("ring-4-busy")).env("PLACER_STATE_DIR", dir.join("state"));
    command.env("PLACER_CONFIG", common::SHIPPED);
    command
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What the shipped settings answer; the other tests get the same whatever is wrong.
fn answer(numad: &Path, dir: &Path) -> String {
    let (status, stdout, stderr) = told(&run(&mut asked(numad, dir)));
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    stdout
}

/// Whether this is a list as libvirt reads it, and nothing beside.
fn is_list(text: &str) -> bool {
    let list = text.strip_suffix('\n').unwrap_or("");
    !list.is_empty() && list.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b',')
}

#[test]
fn an_empty_environment_and_a_full_path_are_enough() {
    let (_dir, numad) = installed();
    let output = run(Command::new(&numad).args(["-w", "1:1"]).env_clear().current_dir("/"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(is_list(&text(&output.stdout)), "{:?}", text(&output.stdout));
}

#[test]
fn messages_name_the_path_it_was_called_by() {
    let (_dir, numad) = installed();
    for (version, text) in [
        ("2015", "20150602: compiled Oct 16 2022"),
        ("2025", "numad 20251104: compiled Feb  8 2026"),
    ] {
        let mut command = Command::new(&numad);
        command.arg("-V").env_clear().env("PLACER_NUMAD_VERSION", version);
        let line = format!("{} version: {text}\n", numad.display());
        assert_eq!(told(&run(&mut command)), (Some(0), line, String::new()));
    }
}

#[test]
fn both_pipes_end_with_the_program() {
    let (dir, numad) = installed();
    let expected = answer(&numad, dir.path());
    let mut child: Child = asked(&numad, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    // Whoever it had left behind would hold them open, and the guest would wait.
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut out, mut err) = (String::new(), String::new());
        let _ = stdout.as_mut().map(|pipe| pipe.read_to_string(&mut out));
        let _ = stderr.as_mut().map(|pipe| pipe.read_to_string(&mut err));
        let _ = send.send((out, err));
    });
    let read = receive.recv_timeout(Duration::from_secs(60)).expect("both pipes have ended");
    assert_eq!(read, (expected, String::new()));
}

#[test]
fn nobody_who_listens_any_more_is_no_crash() {
    let (dir, numad) = installed();
    let mut child = asked(&numad, dir.path())
        .env("PLACER_WINDOW", "200ms")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let (status, _, stderr) = told(&output);
    assert!(status.is_some(), "a signal ended it: {}", output.status);
    assert!(stderr.lines().count() <= 1 && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn damaged_settings_cost_one_line() {
    let (dir, numad) = installed();
    let expected = answer(&numad, dir.path());
    let damaged = dir.path().join("placer.toml");
    for text_of_it in ["[numad]\npolicy = best\n", "[numad]\npolice = 'best'\n", "\0\0\0", "[[["] {
        fs::write(&damaged, text_of_it).expect("written");
        let output = run(asked(&numad, dir.path()).env("PLACER_CONFIG", &damaged));
        let (status, stdout, stderr) = told(&output);
        assert_eq!((status, stdout), (Some(0), expected.clone()), "{text_of_it:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("using built-in defaults"), "{stderr}");
    }
}

/// The settings that packages switch on.
fn packaged(dir: &Path) -> PathBuf {
    let path = dir.join("packaged.toml");
    fs::write(&path, "[numad]\npolicy = 'best'\nhold = 'adopt'\n").expect("written");
    path
}

#[test]
fn a_state_directory_that_cannot_be_used_costs_one_line() {
    let (dir, numad) = installed();
    let set = packaged(dir.path());
    let well = run(asked(&numad, dir.path()).env("PLACER_CONFIG", &set));
    let (status, expected, stderr) = told(&well);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    let file = dir.path().join("file");
    fs::write(&file, "no directory").expect("written");
    let mut command = asked(&numad, dir.path());
    command.env("PLACER_CONFIG", &set).env("PLACER_STATE_DIR", file.join("state"));
    let (status, stdout, stderr) = told(&run(&mut command));
    assert_eq!((status, stdout), (Some(0), expected));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("no claim was made"), "{stderr}");
}

#[needs(user_mounts)]
#[test]
fn no_control_groups_are_needed() {
    let (dir, numad) = installed();
    let set = packaged(dir.path());
    let hide = "mount -t tmpfs none /sys/fs/cgroup && exec \"$0\" -w 1:1";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]).arg(hide).arg(&numad);
    command.env("PLACER_CONFIG", &set).env("PLACER_STATE_DIR", dir.path().join("state"));
    command.stdin(Stdio::null());
    let output = command.output().expect("unshare");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(is_list(&text(&output.stdout)), "{:?}", text(&output.stdout));
}

#[test]
fn warnings_never_reach_the_list() {
    let (dir, numad) = installed();
    let set = packaged(dir.path());
    let mut command = asked(&numad, dir.path());
    command.args(["-w", "999:99999999"]).env("PLACER_CONFIG", &set);
    let (status, stdout, stderr) = told(&run(&mut command));
    assert_eq!(status, Some(0), "{stderr}");
    assert!(is_list(&stdout), "{stdout:?}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// What `numad -w 2:64` answers twice to one process of that name, and how many claims there are then.
fn asked_twice_by(program: &str) -> (Vec<String>, usize) {
    let (dir, numad) = installed();
    let set = packaged(dir.path());
    let caller = dir.path().join(program);
    common::copy_program("/bin/sh", &caller);
    let mut command = Command::new(&caller);
    // The second is not the last: a shell would else become it, and no longer be there.
    command.args(["-c", "\"$0\" -w 2:64 && \"$0\" -w 2:64 && :"]).arg(&numad);
    command.env_clear().stdin(Stdio::null());
    let state = dir.path().join("state");
    for (name, value) in [
        ("PLACER_ROOT", fixture("ring-4").as_os_str()),
        ("PLACER_STATE_DIR", state.as_os_str()),
        ("PLACER_CONFIG", set.as_os_str()),
    ] {
        command.env(name, value);
    }
    let (status, stdout, stderr) = told(&run(&mut command));
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    let mut ps = Command::new(env!("CARGO_BIN_EXE_placer"));
    ps.args(["ps", "--json"]).env("PLACER_ROOT", fixture("ring-4")).env("PLACER_STATE_DIR", state);
    let (_, json, _) = told(&run(&mut ps));
    let claims: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let count = claims["claims"].as_array().map_or(0, Vec::len);
    (stdout.lines().map(str::to_owned).collect(), count)
}

#[test]
fn a_container_that_is_asked_for_twice_is_told_the_same() {
    // libvirt's daemon asks for one guest after the other, which are to be apart.
    let (answers, claims) = asked_twice_by("libvirtd");
    assert!(answers.len() == 2 && answers[0] != answers[1], "{answers:?}");
    assert_eq!(claims, 2);
    // A container's own process asks about that container alone.
    let (answers, claims) = asked_twice_by("libvirt_lxc");
    assert!(answers.len() == 2 && answers[0] == answers[1], "{answers:?}");
    assert_eq!(claims, 1);
}
