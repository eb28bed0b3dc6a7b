//! `placer balance`: what is worth moving, for people and for programs; moves of this machine's processes.

use crate::common;
use crate::common::daemon::{eventually, http};

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{json, placer, run, text};
use placer_engine::claims::{
    Caller, ClaimDirs, ClaimOwner, Claims, LOCK_TIMEOUT, Origin, Processes,
};
use placer_engine::store::StateDir;
use placer_engine::{Advice, CpuSet, NodeId, NodeSet, Request, Snapshot, SysRoot, advise};
use placer_launcher::mover::{ClaimBefore, Journal, Phase, Record, Share, Threads};
use placer_launcher::sys;
use serde_json::{Value, json};
use testkit::machine::Machine;

/// Runs `placer balance` with its claims in a directory.
fn balance(dir: &Path, args: &[&str]) -> Output {
    let state = dir.join("state");
    run(placer().arg("balance").args(args).env("PLACER_STATE_DIR", state))
}

/// A recorded machine of nodes 0 and 3 with 4 and 8 GiB free.
fn recorded(dir: &Path) -> String {
    let machine = Machine::new().node(0, 0..512, 16 << 20, 4 << 20);
    machine.node(3, 512..1024, 16 << 20, 8 << 20).write(&dir.join("host"));
    dir.join("host").to_str().expect("a plain name").to_owned()
}

/// A program that runs until it is dropped.
struct Running(Child);

impl Running {
    fn start() -> Self {
        let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn();
        Self(child.expect("sleep"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Claims memory for a process.
fn claim(dir: &Path, root: &str, request: &str, pid: u32) {
    let root = SysRoot::at(root);
    let request: Request = request.parse().expect("a request");
    let snapshot = Snapshot::take(&root, std::time::Duration::ZERO).expect("a good machine");
    let advice: Advice = advise(&snapshot, &request).expect("an answer");
    let claims = Claims::open_to_claim(&ClaimDirs::at(dir.join("state")), &root);
    let claims = claims.expect("a directory");
    let (decision, _) = claims.begin(LOCK_TIMEOUT).expect("the lock");
    let caller = Caller { uid: 77, pid: 1, program: "launcher".to_owned() };
    decision.claim(&request, &advice, ClaimOwner::Pid(pid), caller, None).expect("claimed");
}

#[test]
fn guests_that_stay_are_listed_with_the_reason() {
    let tmp = tempfile::tempdir().expect("a directory");
    let root = recorded(tmp.path());
    let none = balance(tmp.path(), &["--root", &root, "--window", "0"]);
    assert_eq!(text(&none.stdout), "no guest is worth moving\n");

    let guest = Running::start();
    claim(tmp.path(), &root, "2:5G", guest.0.id());
    let found = balance(tmp.path(), &["--root", &root, "--window", "50ms"]);
    let (code, told) = (found.status.code(), text(&found.stdout));
    assert_eq!(code, Some(0), "{}", text(&found.stderr));
    let line = told.lines().last().expect("a line");
    // Its CPUs are all of node 0 here, while it was promised to node 3; on a host of more CPUs it has both.
    let young = "started less than a minute ago";
    let bound = "its CPUs or memory are bound by its user";
    let name = format!("  {} sleep (claim ", guest.0.id());
    assert!(line.starts_with(&name) && (line.ends_with(young) || line.ends_with(bound)), "{told}");

    let form = json(&balance(tmp.path(), &["--root", &root, "--window", "0", "--json"]));
    assert_eq!(
        (&form["version"], &form["steps"], &form["limited"]),
        (&json!(1), &json!([]), &json!(false))
    );
    let left = &form["left_alone"][0];
    assert_eq!((&left["pid"], &left["program"]), (&json!(guest.0.id()), &json!("sleep")));
    assert!(left["reason"] == "young" || left["reason"] == "bound", "{form}");
    assert_eq!(form["before"], form["after"]);
}

#[test]
fn room_that_is_there_needs_no_moves_and_room_that_is_not_there_is_refused() {
    let tmp = tempfile::tempdir().expect("a directory");
    let root = recorded(tmp.path());
    let asked = |request: &str, more: &[&str]| {
        let args = ["--root", &root, "--window", "0", "--make-room", request];
        balance(tmp.path(), &[&args[..], more].concat())
    };
    let fits = asked("2:5G", &[]);
    assert_eq!(
        (fits.status.code(), text(&fits.stdout).as_str()),
        (Some(0), "2 CPUs and 5.0 GiB fit on node 3 without moving anything\n")
    );
    let form = json(&asked("2:5G", &["--json"]));
    let expected = json!({
        "version": 1, "cpus": 2.0, "requested": 5_u64 << 30, "nodes": "3", "memory": 0, "least": 0,
        "proven": true, "steps": [],
    });
    assert_eq!(form, expected);

    let none = asked("2:12G", &[]);
    assert_eq!(none.status.code(), Some(1), "{}", text(&none.stderr));
    assert!(text(&none.stdout).starts_with("no moves of running guests make room for 2 CPUs"));
    let form = json(&asked("2:12G", &["--json"]));
    assert_eq!((&form["nodes"], &form["proven"]), (&Value::Null, &json!(true)));
}

/// Writes the journal of a run that was killed: the process was being moved to the last CPU of this machine.
fn killed_move(dir: &Path, pid: u32) -> CpuSet {
    let mut look = Processes::look().expect("a live host");
    let cpus = sys::affinity(pid.try_into().expect("a pid")).expect("its CPUs");
    let to: CpuSet = cpus.last().into_iter().collect();
    let node = NodeSet::from_iter([NodeId(0)]);
    let dirs = ClaimDirs::at(dir.join("state"));
    let view = Claims::open(&dirs, &SysRoot::live()).expect("claims").view().expect("a ledger");
    let claims =
        view.claims.iter().filter(|claim| claim.owner.process().is_some_and(|p| p.pid == pid));
    let claims = claims.map(|claim| ClaimBefore {
        id: claim.id.0,
        promised: vec![(0, claim.promised_memory().get(), claim.promised_cpus().hundredths())],
        roaming: CpuSet::new(),
    });
    let share = vec![Share { node: 0, bytes: 1 << 20 }];
    let mut journal = Journal::new(look.boot());
    journal.moves.push(Record {
        guest: look.identify(pid).expect("it runs"),
        program: "sleep".to_owned(),
        claims: claims.collect(),
        group: 0,
        is_earlier: false,
        from: node.clone(),
        to: node,
        cpus: to.clone(),
        threads: vec![Threads { cpus, ids: vec![pid] }],
        cage: None,
        source: share.clone(),
        target: share,
        pinned: vec![],
        memory: 1 << 20,
        slowdown: 1.0,
        phase: Phase::Moving,
        moved: 0,
        stayed: 0,
        finished_s: None,
        why: None,
    });
    let state = StateDir::open(&dir.join("state")).expect("a directory");
    state.replace("moves.json", &journal.to_text(), 0o600).expect("written");
    to
}

#[test]
fn a_claim_notes_where_the_guest_may_be() {
    let tmp = tempfile::tempdir().expect("a directory");
    let host = recorded(tmp.path());
    let within = |args: &[&str]| {
        let asked = ["advise", "--root", &host, "--window", "0", "--hold", "1h"];
        let state = tmp.path().join("state");
        let told = run(placer().args(asked).args(args).arg("1:10").env("PLACER_STATE_DIR", &state));
        assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
        let claims = Claims::open(&ClaimDirs::at(state), &SysRoot::at(&host)).expect("claims");
        let view = claims.view().expect("a ledger");
        view.claims.last().expect("the hold").within.to_string()
    };
    assert_eq!(within(&["--within", "0,3"]), "0,3");
    assert_eq!(within(&["--within", "3"]), "3");
    assert_eq!(within(&[]), "");
}

#[test]
fn a_killed_move_is_finished_and_taken_back() {
    let tmp = tempfile::tempdir().expect("a directory");
    let guest = Running::start();
    let pid = guest.0.id();
    let cpus = || sys::affinity(pid.try_into().expect("a pid")).expect("its CPUs");
    let before = cpus();
    claim(tmp.path(), "/", "1:20M", pid);
    let to = killed_move(tmp.path(), pid);

    let finished = balance(tmp.path(), &["--apply", "--json", "--window", "0"]);
    assert_eq!(finished.status.code(), Some(0), "{}", text(&finished.stderr));
    let form = json(&finished);
    assert_eq!((&form["action"], &form["complete"]), (&json!("resume"), &json!(true)));
    let moved = &form["guests"][0];
    assert_eq!((&moved["pid"], &moved["outcome"]), (&json!(pid), &json!("moved")));
    assert_eq!(cpus(), to);
    let claims = || {
        let dirs = ClaimDirs::at(tmp.path().join("state"));
        let view = Claims::open(&dirs, &SysRoot::live()).expect("claims").view().expect("a ledger");
        let asked = view.claims.into_iter().filter(|claim| claim.origin == Origin::Asked);
        asked
            .map(|claim| (claim.promised_memory().whole_mib(), claim.promised.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(claims(), [(20, 1)], "no room is held any more");

    let undone = balance(tmp.path(), &["--undo", "--window", "0"]);
    let told = text(&undone.stdout);
    assert_eq!(undone.status.code(), Some(0), "{}", text(&undone.stderr));
    assert!(
        told.starts_with("taken back\n") && told.contains("back on nodes 0: placer balance --undo"),
        "{told}"
    );
    assert_eq!((cpus(), claims()), (before, vec![(20, 1)]));
    // It is left alone for an hour.
    let saved = std::fs::read(tmp.path().join("state/moves.json")).expect("saved");
    let boot = Processes::look().expect("a live host").boot().to_owned();
    let saved = Journal::parse(&saved, &boot).expect("a journal");
    assert_eq!(
        (saved.kept[0].guest.pid, saved.kept[0].why.as_str()),
        (pid, "placer balance --undo")
    );

    let none = balance(tmp.path(), &["--undo"]);
    assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(1), ""));
    assert!(text(&none.stderr).ends_with("placer: no moves to take back\n"));
}

#[test]
fn moves_of_processes_that_have_ended_are_forgotten_and_a_damaged_journal_stops_everything() {
    let tmp = tempfile::tempdir().expect("a directory");
    let guest = Running::start();
    killed_move(tmp.path(), guest.0.id());
    drop(guest);
    let form = json(&balance(tmp.path(), &["--apply", "--json", "--window", "0"]));
    assert_eq!(form["guests"][0]["outcome"], json!("ended"));
    // It is not tried again: what is saved says so. A new plan would be one for this machine's own guests.
    let saved = std::fs::read(tmp.path().join("state/moves.json")).expect("saved");
    let boot = Processes::look().expect("a live host").boot().to_owned();
    let saved = Journal::parse(&saved, &boot).expect("a journal");
    assert_eq!((saved.moves[0].phase, saved.is_unfinished()), (Phase::Dropped, false));

    std::fs::write(tmp.path().join("state/moves.json"), "{").expect("written");
    for option in ["--apply", "--undo"] {
        let refused = balance(tmp.path(), &[option, "--window", "0"]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            text(&refused.stderr).contains("moves.json: EOF while parsing"),
            "{}",
            text(&refused.stderr)
        );
    }
    let both = balance(tmp.path(), &["--apply", "--undo"]);
    assert_eq!(both.status.code(), Some(2));
    let recorded = balance(tmp.path(), &["--apply", "--root", "/nowhere"]);
    assert_eq!(recorded.status.code(), Some(2));
}

#[test]
fn one_moves_guests_at_a_time() {
    let tmp = tempfile::tempdir().expect("a directory");
    let guest = Running::start();
    killed_move(tmp.path(), guest.0.id());
    let lock = std::fs::File::create(tmp.path().join("state/moves.lock")).expect("made");
    let lock =
        nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, e)| e);
    let lock = lock.expect("locked");
    let refused = balance(tmp.path(), &["--apply", "--window", "0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("another placer balance or daemon moves guests now"));
    drop(lock);
}

/// A daemon in the directory of a killed run; its log is a file there.
struct Managing(Child);

impl Managing {
    fn start(dir: &Path, settings: &str) -> Self {
        let config = dir.join("placer.toml");
        std::fs::write(&config, format!("{settings}\n[daemon]\nqueue = false\n")).expect("written");
        let log = std::fs::File::create(dir.join("log")).expect("a log");
        let mut command = placer();
        command.env("PLACER_STATE_DIR", dir.join("state")).env("PLACER_CONFIG", config);
        Self(command.arg("daemon").stderr(log).spawn().expect("the daemon starts"))
    }
}

impl Drop for Managing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn metrics(dir: &Path) -> String {
    let stream = UnixStream::connect(dir.join("state/placer.sock")).expect("it answers");
    http(stream, "/metrics")
}

#[test]
fn a_daemon_that_manages_finishes_a_killed_move_and_counts_and_logs_it() {
    let tmp = tempfile::tempdir().expect("a directory");
    let guest = Running::start();
    let pid = guest.0.id();
    let cpus = || sys::affinity(pid.try_into().expect("a pid")).expect("its CPUs");
    claim(tmp.path(), "/", "1:20M", pid);
    let to = killed_move(tmp.path(), pid);
    let enabled = "[manage]\nenabled = true\ninterval = \"1s\"";
    let daemon = Managing::start(tmp.path(), enabled);
    let log = || std::fs::read_to_string(tmp.path().join("log")).unwrap_or_default();
    let line = eventually("the move is finished", || {
        let begins = format!("placer: moved pid={pid} program=sleep claim=");
        log().lines().find(|line| line.starts_with(&begins)).map(str::to_owned)
    });
    assert_eq!(cpus(), to);
    assert!(line.contains(" from=0 to=0 bytes="), "{line}");
    let counted = metrics(tmp.path());
    assert!(counted.contains("\nplacer_manage_moves_total{result=\"moved\"} 1\n"), "{counted}");
    assert!(counted.contains("\nplacer_manage_gain_seconds{kind=\"seen\"} 0\n"), "{counted}");
    // It holds nothing between two looks: placer balance does what it always does.
    let undone = eventually("its turn", || {
        let undone = balance(tmp.path(), &["--undo", "--window", "0"]);
        (undone.status.code() == Some(0)).then_some(undone)
    });
    assert!(text(&undone.stdout).starts_with("taken back\n"), "{undone:?}");

    // Switched off while it runs.
    let off = enabled.replace("true", "false") + "\n[daemon]\nqueue = false\n";
    std::fs::write(tmp.path().join("placer.toml"), off).expect("written");
    let hangup = Command::new("kill").args(["-HUP", &daemon.0.id().to_string()]).status();
    assert!(hangup.expect("kill").success());
    eventually("its end", || log().contains("guests are not moved any more").then_some(()));
    assert_eq!(log().matches("placer: moved ").count(), 1);
    assert!(!metrics(tmp.path()).is_empty(), "it answers as before");
}

#[test]
fn a_daemon_moves_nothing_unless_it_may() {
    let tmp = tempfile::tempdir().expect("a directory");
    let guest = Running::start();
    killed_move(tmp.path(), guest.0.id());
    let journal = || std::fs::read(tmp.path().join("state/moves.json")).expect("saved");
    let before = journal();
    let _daemon = Managing::start(tmp.path(), "");
    eventually("an answer", || {
        UnixStream::connect(tmp.path().join("state/placer.sock")).is_ok().then_some(())
    });
    // A daemon that manages begins with what a killed run has left.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(journal(), before);
    let log = std::fs::read_to_string(tmp.path().join("log")).expect("a log");
    assert!(!log.contains("guests are moved"), "{log}");
    let both = run(placer().args(["daemon", "--manage", "--root", "/nowhere"]));
    assert_eq!(both.status.code(), Some(2), "guests of a recording are never moved");
}
