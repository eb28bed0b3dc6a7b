//! Whose claims stand in whose way, and requests that are repeated. Each attack is made by another user or
//! from a container, as its processes would make it.

use crate::common;
use needs::needs;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use common::daemon::{Daemon, eventually, request, spawn};
use common::{placer, run, text};

/// A user with no rights.
pub(super) const STRANGER: u32 = 65_534;
pub(super) const CLAIM: &str = "org.placer.Daemon.AdviseAndClaim";
/// Sends the calls of its second argument to the socket of its first, a line a reply.
const CLIENT: &str = "import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
f = s.makefile('rb')
for call in json.loads(sys.argv[2]):
    s.sendall(json.dumps(call).encode() + b'\\0')
    reply = b''
    while not reply.endswith(b'\\0'):
        reply += f.read(1)
    print(reply[:-1].decode())
";

/// Makes calls from another program, which a prefix starts; returns the replies.
pub(super) fn calls(daemon: &Daemon, prefix: &[&str], uid: u32, calls: &[Value]) -> Vec<Value> {
    let socket = daemon.dir.path().join("placer.sock");
    let words: Vec<&str> = prefix.iter().copied().chain(["python3", "-c", CLIENT]).collect();
    let mut client = Command::new(words[0]);
    client.args(&words[1..]).arg(socket).arg(json!(calls).to_string()).uid(uid).gid(uid);
    let output = run(&mut client);
    let replies: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(replies.len(), calls.len(), "{}", text(&output.stderr));
    replies
}

pub(super) fn claim(parameters: &Value) -> Value {
    json!({"method": CLAIM, "parameters": parameters})
}

/// The claims of the ledger.
pub(super) fn listed(daemon: &Daemon) -> Vec<Value> {
    let ps = common::json(&run(daemon.client().args(["ps", "--json"])));
    let claims = ps["claims"].as_array().expect("a list").iter();
    claims.filter(|claim| claim["origin"] == "asked").cloned().collect()
}

/// What this host can promise now, in MiB.
pub(super) fn free_mib(daemon: &Daemon) -> u64 {
    let show = common::json(&run(daemon.client().args(["show", "--json"])));
    let nodes = show["nodes"].as_array().expect("nodes");
    nodes.iter().filter_map(|node| node["memory_free"].as_u64()).sum::<u64>() >> 20
}

#[needs(root, python3)]
#[test]
fn a_users_claim_makes_no_strict_request_and_no_launch_of_the_hosts_fail() {
    let limits = "user-memory = \"100%\"\nuser-cpus = \"100%\"\nuser-hold = \"60m\"\n";
    let daemon = Daemon::start(None, limits);
    let free = free_mib(&daemon);
    let all = json!({"request": request(1, free * 3 / 4), "hold_ms": 3_600_000});
    let taken = calls(&daemon, &[], STRANGER, &[claim(&all)]);
    assert!(taken[0]["parameters"]["claim"].is_string(), "{taken:?}");
    let half = format!("1:{}M", free / 2);
    let strict = |client: &mut Command| run(client.args(["advise", "--strict", &half]));
    for via in ["daemon", "engine"] {
        let output = eventually("an answer", || {
            let output = strict(daemon.client().env("PLACER_VIA", via));
            (output.status.code() != Some(2)).then_some(output)
        });
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{via}: {said}");
        assert!(said.contains("claims of users do not count"), "{via}: {said}");
    }
    let mut launch = daemon.client();
    launch.args(["launch", "--cpus", "1", "--memory", &format!("{}M", free / 2), "--", "true"]);
    let output = run(&mut launch);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut fit = daemon.client();
    let output = run(fit.args(["fit", &half]));
    let said = text(&output.stderr);
    assert!(text(&output.stdout).trim().parse::<u32>().is_ok_and(|count| count > 0), "{said}");
    assert!(said.contains("claims of users do not count"), "{said}");
    // It counts for other users, and for the host as far as there is room beside it.
    let advise = json!({"method": "org.placer.Daemon.Advise",
                        "parameters": {"request": request(1, free / 2)}});
    let reply = &calls(&daemon, &[], STRANGER - 1, &[advise])[0];
    assert_eq!(reply["parameters"]["advice"]["fits"], false, "{reply}");
}

#[needs(root, python3)]
#[test]
fn a_request_that_is_repeated_makes_one_claim_and_no_other_user_finds_it() {
    let daemon = Daemon::start(None, "");
    let nonce = "0123456789abcdef0123456789abcdef";
    let hold = json!({"request": request(1, 1), "hold_ms": 60_000, "nonce": nonce});
    let first = daemon.call(CLAIM, hold.clone())["parameters"]["claim"].clone();
    let again = daemon.call(CLAIM, hold.clone())["parameters"]["claim"].clone();
    let others = calls(&daemon, &[], STRANGER, &[claim(&hold), claim(&hold)]);
    let theirs = &others[1]["parameters"]["claim"];
    let ids: Vec<Value> = listed(&daemon).iter().map(|claim| claim["id"].clone()).collect();
    assert_eq!(ids, [again, theirs.clone()], "{first} was replaced");
    for nonce in ["", "0123", "0123456789abcdef0123456789abcdeg"] {
        let bad = json!({"request": request(1, 1), "hold_ms": 60_000, "nonce": nonce});
        assert_eq!(daemon.call(CLAIM, bad)["error"], "org.placer.Daemon.NotAllowed", "{nonce}");
    }
}

#[test]
fn a_client_that_goes_before_its_answer_leaves_no_claim() {
    let daemon = Daemon::start(None, "");
    let hold = json!({"request": request(0, 1), "hold_ms": 600_000});
    let call = format!("{}\0", claim(&hold));
    for _ in 0..60 {
        if let Some(mut stream) = daemon.connect() {
            let _ = stream.write_all(call.as_bytes());
        }
    }
    let metrics = || daemon.http("/metrics");
    eventually("all have gone", || metrics().contains("placer_clients 1\n").then_some(()));
    assert_eq!(listed(&daemon), [Value::Null; 0], "claims that nobody knows of");
}

#[test]
fn a_daemon_that_is_killed_at_any_moment_loses_and_doubles_no_hold() {
    const CLIENTS: usize = 4;
    const KILLS: u32 = 24;
    let mut daemon = Daemon::start(None, "");
    let ends = std::sync::atomic::AtomicBool::new(false);
    let client = || {
        let mut client = placer();
        client.env("PLACER_STATE_DIR", daemon.dir.path()).env("PLACER_CONFIG", &daemon.config);
        client.args(["advise", "--hold", "1h", "--json", "--window", "0", "0.01:1M"]);
        client.stdout(Stdio::piped()).stderr(Stdio::piped());
        client
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
    let (dir, config) = (daemon.dir.path().to_owned(), daemon.config.clone());
    let child = &mut daemon.child;
    let held: Vec<String> = std::thread::scope(|scope| {
        let ends = &ends;
        let loops: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    while !ends.load(std::sync::atomic::Ordering::Acquire) {
                        let output = run(&mut client);
                        let said = text(&output.stderr);
                        assert_eq!(output.status.code(), Some(0), "{said}");
                        let form: Value = serde_json::from_slice(&output.stdout).expect("JSON");
                        match form["claim"].as_str() {
                            Some(id) => held.push(id.to_owned()),
                            None => assert!(said.contains("no claim was made"), "{said}"),
                        }
                    }
                    held
                })
            })
            .collect();
        for round in 0..KILLS {
            // Moments that differ, without a clock that a busy host would bend.
            std::thread::sleep(Duration::from_micros(u64::from(round * 7919 % 40) * 1000 + 20_000));
            child.kill().and_then(|()| child.wait()).expect("killed");
            *child = spawn(None, &dir, &config);
        }
        ends.store(true, std::sync::atomic::Ordering::Release);
        loops.into_iter().flat_map(|one| one.join().expect("no panic")).collect()
    });
    let claims = listed(&daemon);
    let kept: BTreeSet<&str> = claims.iter().filter_map(|claim| claim["id"].as_str()).collect();
    let told: BTreeSet<&str> = held.iter().map(String::as_str).collect();
    println!("{} holds, {KILLS} kills", told.len());
    let lost: Vec<_> = told.difference(&kept).collect();
    let doubled: Vec<_> = kept.difference(&told).collect();
    assert_eq!((lost.len(), doubled.len()), (0, 0), "lost {lost:?}, doubled {doubled:?}");
    assert!(told.len() > CLIENTS, "{told:?}");
}

#[needs(root, python3, pid_namespaces)]
#[test]
fn root_of_a_container_is_not_the_hosts_root() {
    let daemon = Daemon::start(None, "user-hold = \"1m\"\n");
    let hold = json!({"request": request(1, 1), "hold_ms": 60_000});
    let hosts = daemon.call(CLAIM, hold.clone())["parameters"]["claim"].clone();
    let longer = json!({"request": request(1, 1), "hold_ms": 61_000});
    let release = json!({"method": "org.placer.Daemon.Release", "parameters": {"claim": hosts}});
    let contained = ["unshare", "--pid", "--fork", "--kill-child"];
    let made = [claim(&hold), claim(&longer), release];
    let replies = calls(&daemon, &contained, 0, &made);
    assert!(replies[0]["parameters"]["claim"].is_string(), "{replies:?}");
    assert_eq!(replies[1]["error"], "org.placer.Daemon.NotClaimed", "limits of users hold");
    assert_eq!(replies[2]["error"], "org.placer.Daemon.NotAllowed", "{replies:?}");
    let ledger = std::fs::read_to_string(daemon.dir.path().join("claims.jsonl")).expect("a ledger");
    let principals: Vec<&str> = ledger
        .split("\"principal\":\"")
        .skip(1)
        .filter_map(|rest| rest.split([':', '"']).next())
        .collect();
    assert_eq!(principals, ["host", "container"], "{ledger}");
    // The same from a user namespace in which a user is root.
    let made = [json!({"method": "org.placer.Daemon.Release", "parameters": {"claim": hosts}})];
    let reply = calls(&daemon, &["unshare", "--user", "--map-root-user"], 0, &made);
    assert_eq!(reply[0]["error"], "org.placer.Daemon.NotAllowed", "{reply:?}");
}
