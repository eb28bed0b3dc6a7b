//! `placer ps` and `placer release`: what is told of claims, for people and for programs.

use crate::common;
use crate::common::daemon;
use needs::needs;
use testkit::machine;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{SHIPPED, json, placer, run, text};
use machine::{Machine, Qemu};
use placer_engine::claims::{Caller, ClaimDirs, ClaimId, ClaimOwner, Claims, LOCK_TIMEOUT};
use placer_engine::{Advice, Bytes, Request, Snapshot, SysRoot, advise};
use serde_json::{Value, json};

fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs `placer ARGS` with its claims in a directory.
fn on(dir: &Path, args: &[&str]) -> Output {
    run(placer().args(args).env("PLACER_STATE_DIR", dir.join("state")))
}

/// A recorded machine of nodes 0 and 3, the second with most room.
fn recorded(dir: &Path) -> SysRoot {
    let machine = Machine::new().node(0, 0..4, 16 << 20, 4 << 20);
    machine.node(3, 4..8, 16 << 20, 8 << 20).write(&dir.join("host"));
    SysRoot::at(dir.join("host"))
}

fn advice(root: &SysRoot, request: &str) -> (Request, Advice) {
    let snapshot = Snapshot::take(root, Duration::ZERO).expect("a good machine");
    let request: Request = request.parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an answer");
    (request, advice)
}

/// Claims memory of this machine for a process, as if it had been advised somewhere.
fn claim(dir: &Path, advised: &(Request, Advice), pid: u32) -> ClaimId {
    let place = ClaimDirs { own: Some(dir.join("state")), ..ClaimDirs::default() };
    let claims = Claims::open_to_claim(&place, &SysRoot::live()).expect("a directory");
    let (decision, _) = claims.begin(LOCK_TIMEOUT).expect("the lock");
    let caller = Caller { uid: 77, pid: 1, program: "a\u{1b}[2J launcher".to_owned() };
    let (request, advice) = advised;
    decision.claim(request, advice, ClaimOwner::Pid(pid), caller, None).expect("claimed")
}

fn is_asked_for(claim: &Value) -> bool {
    claim["origin"] == "asked"
}

/// Returns how many claims on this machine somebody asked for.
fn asked_for(dir: &Path) -> usize {
    let listed = json(&on(dir, &["ps", "--json"]));
    listed["claims"].as_array().map_or(0, |all| all.iter().filter(|one| is_asked_for(one)).count())
}

#[test]
fn guests_that_were_recorded_with_a_machine_are_named() {
    let tmp = tempfile::tempdir().expect("a directory");
    recorded(tmp.path());
    let root = tmp.path().join("host");
    let program = "qemu\u{1b}[2J";
    Qemu { pid: 4_194_300, program, cpus: 2, mib: (1024, 256), node: 3, allowed: "0-7" }
        .write(&root);
    let root = root.to_str().expect("a plain name");
    let listed = json(&on(tmp.path(), &["ps", "--root", root, "--json"]));
    let claims = listed["claims"].as_array().expect("a list");
    assert_eq!(claims.len(), 1, "{listed}");
    assert_eq!((&claims[0]["pid"], &claims[0]["program"]), (&json!(4_194_300), &json!(program)));
    let (code, table, _) = told(&on(tmp.path(), &["ps", "--root", root]));
    assert_eq!(code, Some(0));
    assert!(table.contains(" 4194300 qemu\\u{1b"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
}

#[test]
fn a_hold_is_listed_with_who_asked_and_when_it_ends() {
    let tmp = tempfile::tempdir().expect("a directory");
    recorded(tmp.path());
    let root = tmp.path().join("host");
    let root = root.to_str().expect("a plain name");
    let empty = "claim    owner              age by            cpus     memory used there  nodes\n";
    assert_eq!(
        told(&on(tmp.path(), &["ps", "--root", root])),
        (Some(0), empty.to_owned(), String::new())
    );

    let asked = ["advise", "--root", root, "--hold", "60m", "--json", "2.5:5G"];
    let id = json(&on(tmp.path(), &asked))["claim"].as_str().expect("claimed").to_owned();
    let (code, table, stderr) = told(&on(tmp.path(), &["ps", "--root", root]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let line = table.lines().nth(1).expect("a line");
    assert!(line.starts_with(&format!("{id} hold, 60m left ")), "{table}");
    assert!(line.ends_with("  2.5    5.0 GiB    -     -  3"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    let listed = json(&on(tmp.path(), &["ps", "--root", root, "--json"]));
    assert_eq!(
        (&listed["version"], listed["claims"].as_array().map(Vec::len)),
        (&json!(1), Some(1))
    );
    let hold = &listed["claims"][0];
    let told_of = ["id", "kind", "origin", "pid", "cpus", "memory", "nodes", "now", "matches"];
    let found: Vec<&Value> = told_of.iter().map(|name| &hold[*name]).collect();
    let none = Value::Null;
    let five = json!(5_u64 << 30);
    let expected = [
        &json!(id),
        &json!("hold"),
        &json!("asked"),
        &none,
        &json!(2.5),
        &five,
        &json!("3"),
        &none,
        &none,
    ];
    assert_eq!(found, expected);
    assert_eq!(hold["promised"], json!([{"node": 3, "memory": five}]));
    assert_eq!(hold["caller"]["pid"], json!(std::process::id()));

    // Claims of this machine are others.
    assert_eq!(asked_for(tmp.path()), 0);
    let elsewhere = told(&on(tmp.path(), &["release", &id]));
    let none = format!("placer: there is no claim {id} (`placer ps` lists them)\n");
    assert_eq!(elsewhere, (Some(2), String::new(), none.clone()));

    let released = on(tmp.path(), &["release", &id, "--root", root, "--json"]);
    let said = format!("placer: released {id}: 2.5 CPUs and 5.0 GiB on node 3\n");
    assert_eq!((released.status.code(), text(&released.stderr)), (Some(0), said));
    let released = json(&released);
    assert_eq!((&released["version"], &released["released"]["id"]), (&json!(1), &json!(id)));
    assert_eq!(released["released"]["promised"], hold["promised"]);
    let again = told(&on(tmp.path(), &["release", &id, "--root", root]));
    assert_eq!(again, (Some(2), String::new(), none));
}

/// A process that has touched so many MiB, as a guest of this machine.
struct Guest(Child);

impl Guest {
    fn start(mib: u32) -> Self {
        let program = format!(
            "import sys,time; m=bytearray({mib}<<20); m[::4096]=b'x'*len(m[::4096]); \
             print('there',flush=True); time.sleep(60)"
        );
        let mut python = Command::new("python3");
        let mut child =
            python.args(["-c", &program]).stdout(Stdio::piped()).spawn().expect("python3");
        let mut there = [0; 5];
        let stdout = child.stdout.as_mut().expect("a pipe");
        std::io::Read::read_exact(stdout, &mut there).expect("it has touched its memory");
        Self(child)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[needs(python3)]
#[test]
fn ps_tells_where_a_guests_memory_is_and_whether_that_was_advised() {
    let live = SysRoot::live();
    if !live.dir().join("sys/devices/system/node/node0/meminfo").exists() {
        testkit::require::does_not_apply("this machine has no node 0");
        return;
    }
    let guest = Guest::start(64);
    let tmp = tempfile::tempdir().expect("a directory");
    let pid = guest.0.id();
    // Once as advised by this machine, once as if it had been sent to a node 3.
    let mut here = advice(&live, "1:128");
    here.1.split.truncate(1);
    here.1.split[0].node = placer_engine::NodeId(0);
    here.1.split[0].memory = Bytes::new(128 << 20);
    let here = claim(tmp.path(), &here, pid);
    let there = claim(tmp.path(), &advice(&recorded(tmp.path()), "1:128"), pid);

    let listed = json(&on(tmp.path(), &["ps", "--json"]));
    let rows = listed["claims"].as_array().expect("claims");
    let row = |id: ClaimId| {
        rows.iter().find(|row| row["id"] == json!(id.to_string())).expect("it is listed")
    };
    for (id, percent, matches) in [(here, 100, true), (there, 0, false)] {
        let row = row(id);
        assert_eq!((&row["kind"], &row["pid"]), (&json!("process"), &json!(pid)), "{row}");
        assert!(row["program"].as_str().expect("a name").starts_with("python"), "{row}");
        let resident = row["resident"].as_u64().expect("it was looked at");
        assert!((64 << 20..128 << 20).contains(&resident), "{row}");
        let now = row["now"][0]["memory"].as_u64().expect("root or oneself may know");
        assert!((64 << 20..200 << 20).contains(&now), "{row}");
        if rows.len() == 2 && row["now"].as_array().map(Vec::len) == Some(1) {
            assert_eq!((&row["on_advised"], &row["matches"]), (&json!(percent), &json!(matches)));
        }
    }
    let (code, table, _) = told(&on(tmp.path(), &["ps"]));
    assert_eq!(code, Some(0));
    assert!(!table.contains('\u{1b}'), "a program's name moves no cursor: {table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let line = table.lines().find(|line| line.starts_with(&there.to_string())).expect("a line");
    assert!(line.contains(&format!("{pid} python")) && line.contains(" 77 a\\u{1b}"), "{line}");
    assert!(line.contains("% ") && line.ends_with("%!  3"), "{line}");

    // A daemon's metrics count those who are elsewhere.
    let state = tmp.path().join("state");
    let mut service = daemon::spawn(None, &state, Path::new(SHIPPED));
    let socket = || UnixStream::connect(state.join("placer.sock")).ok();
    daemon::eventually("a daemon", socket);
    let counted = || {
        let metrics = daemon::http(socket().expect("it answers"), "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("placer_guests_astray "));
        line.and_then(|count| count.parse::<usize>().ok()).expect("a number")
    };
    let astray = rows.iter().filter(|row| row["matches"] == false).count();
    assert!(astray >= 1, "the one that was sent to node 3");
    assert_eq!(counted(), astray);
    // However many there are, each has its turn.
    let sent = advice(&recorded(tmp.path()), "0.01:1");
    let more: Vec<ClaimId> = (0..40).map(|_| claim(tmp.path(), &sent, pid)).collect();
    assert!(counted() < astray + more.len(), "not all at once");
    daemon::eventually("all of them", || (counted() == astray + more.len()).then_some(()));
    for id in more {
        assert!(on(tmp.path(), &["release", &id.to_string()]).status.success());
    }
    daemon::eventually("none of them", || (counted() == astray).then_some(()));
    service.kill().and_then(|()| service.wait()).expect("ended");

    // What is resident is claimed no more, and with the guest the claims end.
    let claimed = |dir: &Path| -> u64 {
        let shown = json(&on(dir, &["show", "--json", "--window", "0"]));
        shown["nodes"][0]["claimed"].as_u64().expect("bytes")
    };
    let left = claimed(tmp.path());
    let alone = |dir: &Path| {
        let listed = json(&on(dir, &["ps", "--json"]));
        listed["claims"].as_array().is_some_and(|all| all.iter().all(is_asked_for))
    };
    // Virtual machines that run here anyway are claimed for as well.
    if alone(tmp.path()) {
        assert!((1 << 20..=64 << 20).contains(&left), "{left}");
    }
    drop(guest);
    let left = claimed(tmp.path());
    assert!(left == 0 || !alone(tmp.path()), "{left}");
    assert_eq!(asked_for(tmp.path()), 0);
}
