//! `placer balance`: what is worth moving, for people and for programs. It moves nothing.

use crate::common;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{json, placer, run, text};
use placer_engine::claims::{Caller, ClaimDirs, ClaimOwner, Claims, LOCK_TIMEOUT};
use placer_engine::{Advice, Request, Snapshot, SysRoot, advise};
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
