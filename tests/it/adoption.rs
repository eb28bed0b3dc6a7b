//! A hold and the guest that appears for it, on this machine: a process that is called like a QEMU
//! and has the arguments of one, which for QEMU means 1 CPU and 128 MiB.

use crate::common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use common::{json, placer, run, text};

fn ask(state: &Path, args: &[&str]) -> Output {
    run(placer().env("PLACER_STATE_DIR", state).args(args))
}

/// Asks `placer ps` until one of the claims is as wanted; `None` when none is for a long time.
fn wait_for(state: &Path, wanted: impl Fn(&[Value]) -> Option<Value>) -> Option<Value> {
    (0..3000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        wanted(json(&ask(state, &["ps", "--json"]))["claims"].as_array().expect("claims"))
    })
}

#[test]
fn a_guest_takes_over_its_hold_and_another_counts_as_observed() {
    let tmp = tempfile::tempdir().expect("a directory");
    let state = tmp.path().join("state");
    let program = tmp.path().join("qemu-system-test");
    common::copy_program("/bin/sleep", &program);
    let hold = json(&ask(&state, &["advise", "--json", "--hold", "10m", "1:128"]));
    let id = hold["claim"].as_str().expect("it is claimed").to_owned();
    let mut guests = Vec::new();
    for _ in 0..2 {
        guests.push(Command::new(&program).arg("300").spawn().expect("it starts"));
        // Starts are told in hundredths of a second.
        std::thread::sleep(Duration::from_millis(30));
    }
    let pids: Vec<u32> = guests.iter().map(std::process::Child::id).collect();
    let of = |claims: &[Value], pid: u32| claims.iter().find(|claim| claim["pid"] == pid).cloned();

    // The first one that came is the one that was asked for.
    let taken = wait_for(&state, |claims| of(claims, pids[0])).expect("the hold is taken over");
    assert_eq!((&taken["id"], &taken["kind"]), (&Value::from(id.as_str()), &"process".into()));
    assert_eq!(taken["origin"], "asked");
    let observed = wait_for(&state, |claims| of(claims, pids[1])).expect("it counts");
    assert_eq!(
        (&observed["origin"], &observed["memory"]),
        (&"observed".into(), &(128 << 20).into())
    );
    let promised = observed["promised"].as_array().expect("nodes");
    let promised: u64 = promised.iter().filter_map(|node| node["memory"].as_u64()).sum();
    assert!((100 << 20..128 << 20).contains(&promised), "what is not there yet: {promised}");

    // H7: what nobody asked for can be left out: it is not counted from then on.
    let released = ask(&state, &["release", observed["id"].as_str().expect("an id")]);
    assert_eq!(released.status.code(), Some(0), "{}", text(&released.stderr));
    let left = json(&ask(&state, &["ps", "--json"]));
    let left = of(left["claims"].as_array().expect("claims"), pids[1]).expect("it is listed");
    assert_eq!((&left["origin"], &left["memory"]), (&"asked".into(), &0.into()));
    assert_eq!(left["promised"], serde_json::json!([]));
    // Numad's own answers know nothing of it, and what was taken over is written down by the next
    // who claims: from then on it is the guest's without another look.
    assert_eq!(ask(&state, &["numad", "-w", "1:1"]).status.code(), Some(0));
    let next = ask(&state, &["advise", "--json", "--hold", "10m", "1:777"]);
    assert!(json(&next)["claim"].is_string(), "{}", text(&next.stderr));
    let ledger = fs::read_to_string(state.join("claims.jsonl")).expect("a ledger");
    let line = ledger.lines().find(|line| line.contains(&format!("\"pid\":{}", pids[0])));
    assert!(line.is_some_and(|line| line.contains("\"process\":")), "{ledger}");

    for mut guest in guests {
        guest.kill().expect("killed");
        guest.wait().expect("waited for");
    }
    let gone = wait_for(&state, |claims| {
        let gone = pids.iter().all(|&pid| of(claims, pid).is_none());
        gone.then_some(Value::Null)
    });
    assert!(gone.is_some(), "both have ended");
}
