//! What a hostile review of claims found, each as the attack was made: by another user, who has no rights.
//!
//! | finding | tests |
//! |---|---|
//! | C2 processes that are slow to look at | `strangers::claims_for_a_process_of_many_threads_do_not_slow_down_roots_holds` |
//! | H1 a stranger's hold handed to root's guest | `h1_...` here, `daemon::a_users_guest_takes_over_that_users_hold_and_roots_guest_only_roots`, `a_strangers_hold_is_not_handed_to_another_users_guest` in engine/src/claims/guest |
//! | H2 one user fills the ledger | `full::h2_m6_...`, `subordinate_users_count_as_one_account` in src/daemon/limits.rs |
//! | H3 one hold takes all free memory | `one_user_takes_half_of_...` in src/daemon/limits.rs, `principals::a_users_claim_makes_no_strict_request_and_no_launch_of_the_hosts_fail` |
//! | H4 kills double claims | `claim_storms::h4_...`, `h4_...` here, `principals::a_request_that_is_repeated_...`, `principals::a_client_that_goes_before_its_answer_leaves_no_claim` |
//! | H5 a systemd that does not answer | `systemd::h5_...` |
//! | H6 launches of users | `h6_...` here |
//! | H7 root of a container | `h7_...` here, `principals::root_of_a_container_is_not_the_hosts_root`, `adoption::` |
//! | H8 mappings that are slow to look at | `h8_...` in engine/src/claims/proc.rs |
//! | M1 one message costs a minute | `what_is_wrong_is_named` in src/protocol/forms.rs |
//! | M2 long answers keep root from one | `m2_...` in src/daemon/socket/clients.rs |
//! | M3 1,000 claimers at once | `claim_storms::m3_...`, `m3_...` in src/daemon/committing.rs |
//! | M4 a ledger too large to read | `a_ledger_that_readers_would_refuse_is_never_written` in engine/src/claims/store |
//! | M5 numad's clients of a killed daemon | `sysv::d17_clients_of_a_killed_daemon_are_released_when_the_next_one_starts` |
//! | M6 memory for lists of claims | `full::h2_m6_...`, and `m2_...` for how many there are at once |
//! | M7 group root on numad's queue | `m7_...` here |
//! | M8 the metrics port | `m8_...` here |
//! | M9 what others are told | `m9_...` here |
//! | M10 claims hidden in a flooded log | `m10_...` in src/daemon/log.rs |
//! | M11 what does not fit is held | `full::m11_...` |
//! | M12 lines that are not understood | `a_damaged_line_or_one_of_a_later_version_is_kept_as_it_is_and_counts` in engine/src/claims/ledger, `daemon::a_line_of_the_ledger_that_is_damaged_or_of_a_later_version_is_kept_logged_and_counted` |
//! | L1 pids that are given again | `l1_...` in engine/src/claims/fates.rs and proc.rs |
//! | L2 silent connections | `l2_...` here |
//! | L3 processes by QEMU's name | `processes::l3_...` |
//! | L4 the service's rights | `service::l4_...` |
//! | L5 a pid that changes hands while it is looked at | `l5_...` in src/daemon/socket/claims.rs |

mod full;
mod methods;
mod processes;
mod service;
mod systemd;

use crate::common;
use needs::needs;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::principals::{STRANGER, calls, claim, free_mib, listed};
use common::daemon::{Daemon, eventually, request};
use common::inside::{Daemon as QueueDaemon, inside, stranger};
use common::{fixture, run, text};

const GUESTS: &str = "org.placer.Daemon.Guests";
const ADOPT: &str = "org.placer.Daemon.Adopt";
const RELEASE: &str = "org.placer.Daemon.Release";
const PARTS: &str = "org.placer.Daemon.Commit";

/// Processes of one user that end with this.
struct Users(Vec<Child>);

impl Users {
    fn sleep(uid: u32) -> (Self, u32) {
        let mut sleep = Command::new("sleep");
        sleep.arg("600").uid(uid).gid(uid).stdin(Stdio::null()).stdout(Stdio::null());
        let child = sleep.spawn().expect("it starts");
        let pid = child.id();
        (Self(vec![child]), pid)
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn call(method: &str, parameters: &Value) -> Value {
    json!({"method": method, "parameters": parameters})
}

#[needs(root, python3)]
#[test]
fn h1_adopt_is_for_the_same_principal_and_for_own_processes() {
    let daemon = Daemon::start(None, "");
    let hold = json!({"request": request(1, 1), "hold_ms": 60_000});
    let roots = daemon.call(super::principals::CLAIM, hold.clone())["parameters"]["claim"].clone();
    let theirs = calls(&daemon, &[], STRANGER, &[claim(&hold)])[0]["parameters"]["claim"].clone();
    let ((_own, own), (_other, other)) = (Users::sleep(STRANGER), Users::sleep(STRANGER - 1));
    let adopt = |id: &Value, pid: u32| call(ADOPT, &json!({"claim": id, "pid": pid}));
    let made = [adopt(&roots, own), adopt(&theirs, other), adopt(&theirs, own)];
    let replies = calls(&daemon, &[], STRANGER, &made);
    for refused in &replies[..2] {
        assert_eq!(refused["error"], "org.placer.Daemon.NotAllowed", "{replies:?}");
    }
    let adopted = &replies[2]["parameters"]["adopted"];
    let found = (&adopted["id"], &adopted["kind"], &adopted["pid"]);
    assert_eq!(found, (&theirs, &"process".into(), &own.into()), "{replies:?}");
    // Root adopts any, by the command; and the hold of another account is still its own.
    let adopted = run(daemon
        .client()
        .args(["adopt", roots.as_str().expect("an id"), "--json"])
        .args(["--pid", &other.to_string()]));
    let form = common::json(&adopted);
    assert_eq!(form["adopted"]["pid"], other, "{}", text(&adopted.stderr));
    let kinds: Vec<Value> = listed(&daemon).iter().map(|claim| claim["kind"].clone()).collect();
    assert_eq!(kinds, ["process", "process"]);
    let gone = run(daemon.client().args(["adopt", "00000000", "--pid", &other.to_string()]));
    assert_eq!(gone.status.code(), Some(2));
    assert!(text(&gone.stderr).contains("there is no claim 00000000"), "{}", text(&gone.stderr));
    // A claim ends with the process that it is for now.
    drop(_own);
    eventually("the end of the claim", || (listed(&daemon).len() == 1).then_some(()));
}

#[needs(root, python3)]
#[test]
fn h4_what_a_client_has_decided_is_compared_and_claimed_once() {
    let daemon = Daemon::start(None, "user-memory = \"100%\"\nuser-cpus = \"10000\"\n");
    let free = free_mib(&daemon);
    let nonce = "00000000000000000000000000000007";
    let parts = |mib: u64, name: Option<&str>| {
        let mut form = json!({"cpus": 1.0, "memory": mib << 20, "pid": 0,
                              "parts": [{"node": 0, "cpus": 1.0, "memory": mib << 20}]});
        if let Some(name) = name {
            form["nonce"] = json!(name);
        }
        call(PARTS, &form)
    };
    let mut bad = parts(1, None);
    bad["parameters"]["parts"][0]["node"] = json!(999);
    let mut owned = parts(1, None);
    owned["parameters"]["pinned"] = json!("100000-100009");
    let made = [
        parts(8, Some(nonce)),
        parts(8, Some(nonce)),
        parts(free * 100, None),
        bad,
        owned,
        call(GUESTS, &json!({})),
    ];
    let replies = calls(&daemon, &[], STRANGER, &made);
    assert!(replies[1]["parameters"]["claim"].is_string(), "{replies:?}");
    assert_eq!(replies[2]["error"], "org.placer.Daemon.NotClaimed", "a user's limits hold");
    for changed in &replies[3..5] {
        assert_eq!(changed["error"], "org.placer.Daemon.Changed", "{replies:?}");
    }
    let own = replies[5]["parameters"]["claims"].as_array().expect("a list");
    assert_eq!(own.len(), 1, "the repeated one is the same: {own:?}");
    // Root has no limits, and is told that what was decided does not fit.
    let parameters = parts(free * 100, None)["parameters"].clone();
    assert_eq!(daemon.call(PARTS, parameters)["error"], "org.placer.Daemon.Changed");
}

#[needs(root, python3)]
#[test]
fn a_user_owns_no_more_cpus_than_its_limit() {
    let daemon = Daemon::start(None, "user-cpus = \"1\"\n");
    let pinned = |cpus: &str, parts: Value| {
        let form = json!({"cpus": 0.0, "memory": 0, "pid": 0, "parts": parts, "pinned": cpus});
        call(PARTS, &form)
    };
    let here = || json!([{"node": 0, "cpus": 0.0, "memory": 0}]);
    // Of no host, of one, and others than the first, on a node that is named and on none.
    let made = [
        pinned("999999", here()),
        pinned("0", here()),
        pinned("1", here()),
        pinned("1", json!([])),
    ];
    let replies = calls(&daemon, &[], STRANGER, &made);
    assert_eq!(replies[0]["error"], "org.placer.Daemon.Changed", "{replies:?}");
    assert_eq!(replies[3]["error"], "org.placer.Daemon.NotClaimed", "{replies:?}");
    assert!(replies[1]["parameters"]["claim"].is_string(), "{replies:?}");
    assert_eq!(replies[2]["error"], "org.placer.Daemon.NotClaimed", "{replies:?}");
    let why = replies[2]["parameters"]["reason"].as_str().unwrap_or_default();
    assert!(why.contains("with this 2 pinned; user-cpus"), "{why}");
}

/// Runs a script beside a daemon of root's in a `/run` and with processes of its own. `$PLACER` and `$DIR`, copies of
/// placer and a shell by QEMU's name, may be run by every user; `as_user UID COMMAND...` is one.
fn beside_a_daemon(script: &str) -> Output {
    let tmp = tempfile::tempdir().expect("a directory");
    fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).expect("set");
    common::copy_program(env!("CARGO_BIN_EXE_placer"), tmp.path().join("placer"));
    common::copy_program("/bin/sh", tmp.path().join("qemu-system-test"));
    let before = "mount -t tmpfs -o mode=755 none /run
        printf '[daemon]\\nqueue = false\\n' >/run/placer.toml
        export PLACER_CONFIG=/run/placer.toml
        $PLACER daemon 2>/run/log & DAEMON=$!
        until [ -S /run/placer/placer.sock ]; do sleep 0.1; done
        as_user() { local uid=$1; shift; setpriv --reuid $uid --regid $uid --clear-groups \"$@\"; }\n";
    let mut shell = Command::new("timeout");
    shell.args(["-k", "1", "120", "unshare", "--mount", "--propagation", "private", "--pid"]);
    shell.args(["--fork", "--mount-proc", "--kill-child", "bash", "-euc"]);
    shell.arg(format!("{before}{script}"));
    shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    run(shell.env("PLACER", tmp.path().join("placer")).env("DIR", tmp.path()))
}

#[needs(root, private_mounts)]
#[test]
fn h6_launches_of_users_are_claimed_in_the_hosts_ledger() {
    let output = beside_a_daemon(
        "for uid in 65533 65534; do
            as_user $uid $PLACER launch --memory 10M -- sleep 300 2>/run/user-$uid &
        done
        n=0; until [ $n = 2 ] || [ ! -d /proc/$DAEMON ]; do
            sleep 0.1; n=$($PLACER ps | grep -c 65533 || :); n=$((n + $($PLACER ps | grep -c 65534 || :)))
        done
        $PLACER ps --json | tr -d '\\n'; echo
        cat /run/user-* >&2; kill $DAEMON %2 %3",
    );
    let (listed, said) = (text(&output.stdout), text(&output.stderr));
    let form: Value = serde_json::from_str(listed.trim()).unwrap_or_else(|_| panic!("{said}"));
    let mut claims: Vec<(u64, &str, &str)> = form["claims"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|claim| claim["origin"] == "asked")
        .map(|claim| {
            let name = |key: &str| claim[key].as_str().unwrap_or_default();
            (claim["caller"]["uid"].as_u64().unwrap_or(0), name("kind"), name("program"))
        })
        .collect();
    claims.sort_unstable();
    let of = |uid| (uid, "process", "sleep");
    assert_eq!(claims, [of(65533), of(65534)], "{said}");
    assert!(!said.contains("no claim was made"), "{said}");
}

#[needs(root, pid_namespaces)]
#[test]
fn h7_root_of_a_container_claims_nothing_by_its_command_line() {
    let tmp = tempfile::tempdir().expect("a directory");
    let (state, program) = (tmp.path().join("state"), tmp.path().join("qemu-system-test"));
    common::copy_program("/bin/sh", &program);
    let start = |prefix: &[&str]| {
        let words: Vec<&str> =
            prefix.iter().copied().chain([program.to_str().expect("a path")]).collect();
        let mut guest = Command::new(words[0]);
        guest.args(&words[1..]).args(["-c", "read x", "x", "-m", "10T"]).stdin(Stdio::piped());
        Users(vec![guest.spawn().expect("it starts")])
    };
    let contained = start(&["unshare", "--pid", "--fork", "--kill-child"]);
    let hosts = start(&[]);
    let pid = hosts.0[0].id();
    let mut ps = common::placer();
    ps.env("PLACER_STATE_DIR", &state).args(["ps", "--json"]);
    let found = eventually("the host's own guest", || {
        let form = common::json(&run(&mut ps));
        let found: Vec<Value> = form["claims"].as_array().expect("a list").clone();
        found.iter().any(|claim| claim["pid"] == pid).then_some(found)
    });
    let of: Vec<&Value> =
        found.iter().filter(|claim| claim["program"] == "qemu-system-tes").collect();
    assert_eq!(of.len(), 1, "not the one in a container: {found:?}");
    // Nor has the other more than this host has.
    let promised = of[0]["promised"].as_array().expect("nodes").iter();
    let promised: u64 = promised.filter_map(|node| node["memory"].as_u64()).sum();
    let meminfo = fs::read_to_string("/proc/meminfo").expect("read");
    let total = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    assert!(promised > 0 && promised <= total.expect("MemTotal") * 1024 + 4096, "{promised}");
    drop(contained);
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn m7_a_member_of_group_root_holds_nothing_in_the_name_of_another_process() {
    inside(
        "attacks::m7_a_member_of_group_root_holds_nothing_in_the_name_of_another_process",
        || {
            let daemon = QueueDaemon::start_with("[numad]\nhold = \"adopt\"\n");
            let pid = daemon.pid().to_string();
            let answered = |count: usize| daemon.lines("numad id=").len() >= count;
            for (at, name) in ["1", &pid, "self"].into_iter().enumerate() {
                let who = ["--gid", "0", "--uid", "1000", "send", &pid, name, "w", "100", "1"];
                let sent = stranger(&who);
                assert!(sent.status.success(), "{}", text(&sent.stderr));
                // Our own pid is no client's: that one is not answered.
                let wanted = if at == 0 { 1 } else { at };
                common::inside::wait_for("what came of it", || answered(wanted));
            }
            let ledger = fs::read_to_string("/run/placer/claims.jsonl").unwrap_or_default();
            assert_eq!(
                ledger.lines().filter(|line| line.contains("\"host\"")).count(),
                0,
                "{ledger}"
            );
            // The real one does.
            let (nodes, status) = common::inside::numad(&["-w", "1:1"]);
            assert_eq!((nodes.trim().is_empty(), status), (false, Some(0)));
            let ledger = fs::read_to_string("/run/placer/claims.jsonl").expect("a ledger");
            assert_eq!(
                ledger.lines().filter(|line| line.contains("\"host\"")).count(),
                1,
                "{ledger}"
            );
        },
    );
}

#[test]
fn m8_silent_connections_keep_no_scraper_out() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let _daemon = Daemon::start(Some(&fixture("ring-4")), &format!("metrics = \"{port}\"\n"));
    let get = |host: &str| scraped(port, host);
    eventually("a port", || get("").filter(|reply| reply.starts_with("HTTP/1.1 200 ")));
    let mut silent: Vec<TcpStream> = Vec::new();
    for round in 0..20 {
        // 24 were enough; the daemon closes the oldest.
        silent.extend((0..24).filter_map(|_| TcpStream::connect(port).ok()));
        let reply = get("").unwrap_or_default();
        assert!(reply.starts_with("HTTP/1.1 200 "), "round {round}: {reply:?}");
    }
    // A page of another name, which its owner has let point here, is not answered.
    let own = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name").to_uppercase();
    for (host, status) in [
        (own.trim_end(), "200"),
        ("127.0.0.1", "200"),
        ("localhost:9464", "200"),
        ("[::1]:9464", "200"),
        ("evil.example:9464", "421"),
    ] {
        let reply = get(&format!("Host: {host}\r\n")).unwrap_or_default();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {reply:?}");
    }
}

fn scraped(port: SocketAddr, host: &str) -> Option<String> {
    let mut stream = TcpStream::connect(port).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    stream.write_all(format!("GET /metrics HTTP/1.1\r\n{host}\r\n").as_bytes()).ok()?;
    let mut reply = String::new();
    let _ = stream.read_to_string(&mut reply);
    Some(reply)
}

#[needs(root, python3)]
#[test]
fn m9_guests_of_others_are_listed_as_sums_only() {
    let daemon = Daemon::start(None, "");
    let hold = |mib| json!({"request": request(1, mib), "hold_ms": 60_000});
    for mib in [3, 4] {
        daemon.call(super::principals::CLAIM, hold(mib));
    }
    let guests = call(GUESTS, &json!({}));
    let replies = calls(&daemon, &[], STRANGER, &[claim(&hold(5)), guests]);
    let seen = &replies[1]["parameters"];
    let memory = |list: &Value| -> Vec<u64> {
        let rows = list.as_array().into_iter().flatten();
        rows.filter_map(|row| row["memory"].as_u64().map(|bytes| bytes >> 20)).collect()
    };
    assert_eq!(memory(&seen["claims"]), [5], "{seen}");
    let asked = |row: &&Value| row["memory"].as_u64().is_some_and(|bytes| bytes >> 20 >= 7);
    assert!(
        seen["others"].as_array().is_some_and(|rows| rows.iter().any(|row| asked(&row))),
        "{seen}"
    );
    let names = ["pid", "program", "caller", "id"];
    let told = seen["others"].as_array().into_iter().flatten();
    assert!(told.into_iter().all(|row| names.iter().all(|name| row.get(*name).is_none())));
    let all = daemon.call(GUESTS, json!({}));
    assert!(memory(&all["parameters"]["claims"]).len() >= 3, "root sees each: {all}");
}

#[needs(root, python3)]
#[test]
fn l2_a_connection_of_a_user_that_asks_nothing_is_closed_within_seconds() {
    const SILENT: &str = "import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.settimeout(120)
if len(sys.argv) > 2:
    s.sendall(b'{\"method\": \"org.varlink.service.GetInfo\"}\\0')
    while not s.recv(4096).endswith(b'\\0'): pass
    s.settimeout(12)
try:
    print('closed' if s.recv(1) == b'' else 'data')
except TimeoutError:
    print('open')
";
    let daemon = Daemon::start(None, "");
    let socket = daemon.dir.path().join("placer.sock");
    let silent = |asks: bool| {
        let mut client = Command::new("python3");
        client.args(["-c", SILENT]).arg(&socket).uid(STRANGER).gid(STRANGER);
        if asks {
            client.arg("asks");
        }
        text(&run(&mut client).stdout)
    };
    // `idle` is five minutes.
    assert_eq!(silent(false), "closed\n");
    assert_eq!(silent(true), "open\n", "one that has asked is no stranger any more");
}

/// A daemon of root's that replies to each call of a method what `replies` says, the last one for ever; `None` closes.
fn replying(
    dir: &Path,
    method: &'static str,
    replies: Vec<Option<Value>>,
) -> Arc<Mutex<Vec<Value>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let socket = dir.join("placer.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).expect("set");
    let calls = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let mut text = Vec::new();
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|n| n == 1) && byte[0] != 0 {
                text.push(byte[0]);
            }
            let Ok(call) = serde_json::from_slice::<Value>(&text) else { continue };
            let mut calls = calls.lock().expect("calls");
            let at = calls.len().min(replies.len() - 1);
            if call["method"] == method {
                calls.push(call["parameters"].clone());
            }
            if let Some(reply) = &replies[at] {
                let _ = stream.write_all(format!("{reply}\0").as_bytes());
            }
        }
    });
    heard
}

/// Launches for a user beside a daemon that replies so; returns what came of it, and what the daemon heard.
fn launched(replies: Vec<Option<Value>>, args: &[&str]) -> (Option<i32>, String, Vec<Value>) {
    let tmp = tempfile::tempdir().expect("a directory");
    fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).expect("set");
    let program = tmp.path().join("placer");
    common::copy_program(env!("CARGO_BIN_EXE_placer"), &program);
    let heard = replying(tmp.path(), PARTS, replies);
    // A command that is warned of before anything is decided.
    let command = tmp.path().join("virt-install");
    common::copy_program("/bin/sh", &command);
    let mut launch = Command::new(program);
    launch.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    launch.env("PLACER_STATE_DIR", tmp.path()).uid(STRANGER).gid(STRANGER);
    let output = run(launch.arg("launch").args(args).arg("--").arg(command).args(["-c", "true"]));
    let heard = heard.lock().expect("calls").clone();
    (output.status.code(), text(&output.stderr), heard)
}

fn error(name: &str) -> Option<Value> {
    Some(json!({"error": name, "parameters": {}}))
}

fn made() -> Option<Value> {
    Some(json!({"parameters": {"claim": "0000abcd"}}))
}

#[needs(root)]
#[test]
fn a_reply_that_is_lost_is_asked_for_again_by_the_same_name() {
    let replies = vec![error("org.placer.Daemon.Busy"), None, None, made()];
    let (code, said, heard) = launched(replies, &["--memory", "1M"]);
    assert_eq!((code, heard.len()), (Some(0), 4), "{said}");
    assert!(!said.contains("no claim was made"), "{said}");
    let same = |call: &Value| call["nonce"].is_string() && call["nonce"] == heard[0]["nonce"];
    assert!(heard.iter().all(same), "{heard:?}");
}

/// Changes a claim for a user beside a daemon that replies so; returns what came of it, and what the daemon heard.
fn changed(
    method: &'static str,
    replies: Vec<Option<Value>>,
    args: &[&str],
) -> (Option<i32>, String, Vec<Value>) {
    let tmp = tempfile::tempdir().expect("a directory");
    fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).expect("set");
    let program = tmp.path().join("placer");
    common::copy_program(env!("CARGO_BIN_EXE_placer"), &program);
    let heard = replying(tmp.path(), method, replies);
    let mut change = Command::new(program);
    change.env_clear().env("PLACER_STATE_DIR", tmp.path()).uid(STRANGER).gid(STRANGER);
    let output = run(change.args(args));
    let heard = heard.lock().expect("calls").clone();
    (output.status.code(), text(&output.stderr), heard)
}

#[needs(root)]
#[test]
fn an_adoption_whose_reply_is_lost_is_asked_for_again() {
    let (_guest, pid) = Users::sleep(STRANGER);
    let adopted = json!({"parameters": {"adopted": {"memory": 1 << 20, "cpus": 0.0}}});
    let replies = vec![error("org.placer.Daemon.Busy"), None, None, Some(adopted)];
    let args = ["adopt", "0000abcd", "--pid", &pid.to_string()];
    let (code, said, heard) = changed(ADOPT, replies, &args);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("0000abcd is the claim of process"), "{said}");
    let asked = json!({"claim": "0000abcd", "pid": pid, "cgroup": false});
    assert_eq!(heard, vec![asked; 4]);
}

#[needs(root)]
#[test]
fn a_release_whose_reply_is_lost_has_ended_the_claim() {
    let reason = "there is no claim 0000abcd (`placer ps` lists them)";
    let none = || {
        let error = "org.placer.Daemon.NotAllowed";
        Some(json!({"error": error, "parameters": {"reason": reason}}))
    };
    let release = |replies| changed(RELEASE, replies, &["release", "0000abcd"]);
    let (code, said, heard) = release(vec![None, none()]);
    assert_eq!((code, said.as_str()), (Some(0), "placer: released 0000abcd\n"));
    assert_eq!(heard, vec![json!({"claim": "0000abcd"}); 2]);
    // A busy daemon has done nothing.
    let (code, said, _) = release(vec![error("org.placer.Daemon.Busy"), none()]);
    assert_eq!((code, said), (Some(2), format!("placer: {reason}\n")));
}

#[needs(root)]
#[test]
fn a_launch_without_a_daemon_by_the_time_of_its_claim_reports_that_there_is_none() {
    let older = error("org.varlink.service.MethodNotFound");
    let (code, said, heard) = launched(vec![older], &["--memory", "1M"]);
    assert_eq!((code, heard.len()), (Some(0), 1), "{said}");
    assert!(said.contains("no claim was made: "), "{said}");
}

#[needs(root)]
#[test]
fn a_daemon_that_refuses_a_claim_is_no_older_daemon() {
    let (code, said, heard) =
        launched(vec![error("org.varlink.service.InvalidParameter")], &["--memory", "1M"]);
    assert_eq!((code, heard.len()), (Some(0), 1), "{said}");
    assert!(said.contains("no claim was made: org.varlink.service.InvalidParameter"), "{said}");
}

#[needs(root)]
#[test]
fn a_launch_that_others_outrun_is_unfit_or_forced() {
    let changed = || error("org.placer.Daemon.Changed");
    let (code, said, heard) = launched(vec![changed()], &["--memory", "1M"]);
    assert_eq!((code, heard.len()), (Some(1), 5), "{said}");
    assert!(said.contains("not starting: it does not fit beside what others"), "{said}");
    assert!(said.contains("virt-install is placed"), "noted before the first decision: {said}");
    let forced = |call: &Value| call["forced"] == true;
    assert!(!heard.iter().any(forced), "{heard:?}");
    let replies = vec![changed(), changed(), changed(), changed(), changed(), made()];
    let (code, said, heard) = launched(replies, &["--memory", "1M", "--force"]);
    assert_eq!((code, heard.len()), (Some(0), 6), "{said}");
    assert_eq!(heard.iter().filter(|call| forced(call)).count(), 1, "{heard:?}");
    // What is known not to fit is said to be forced at once.
    let (code, said, heard) = launched(vec![made()], &["--memory", "900T", "--force"]);
    assert_eq!((code, heard.len(), forced(&heard[0])), (Some(0), 1, true), "{said}");
    assert!(!said.contains("no claim was made"), "{said}");
}

#[needs(root, python3)]
#[test]
fn a_forced_claim_need_not_fit_and_has_its_limits() {
    let free = free_mib(&Daemon::start(None, ""));
    let daemon = Daemon::start(None, &format!("user-memory = \"{free}M\"\n"));
    let hold = json!({"request": request(0, free * 2 / 3), "hold_ms": 600_000});
    let parts = |mib: u64, forced: bool| {
        let form = json!({"cpus": 0.0, "memory": mib << 20, "pid": 0, "forced": forced,
                          "parts": [{"node": 0, "cpus": 0.0, "memory": mib << 20}]});
        call(PARTS, &form)
    };
    let roots = daemon.call(super::principals::CLAIM, hold);
    assert!(roots["parameters"]["claim"].is_string(), "{roots}");
    let made = [parts(free * 2, true), parts(free / 2, false), parts(free / 2, true)];
    let replies = calls(&daemon, &[], STRANGER, &made);
    assert_eq!(replies[0]["error"], "org.placer.Daemon.NotClaimed", "{replies:?}");
    assert_eq!(replies[1]["error"], "org.placer.Daemon.Changed", "{replies:?}");
    assert!(replies[2]["parameters"]["claim"].is_string(), "{replies:?}");
    // Root has no limits: the one does not fit, and the other is forced.
    let form = |forced| parts(free * 2, forced)["parameters"].clone();
    assert_eq!(daemon.call(PARTS, form(false))["error"], "org.placer.Daemon.Changed");
    assert!(daemon.call(PARTS, form(true))["parameters"]["claim"].is_string());
}

#[needs(root, private_mounts)]
#[test]
fn a_users_own_guest_is_released_beside_a_daemon() {
    let output = beside_a_daemon(
        "export XDG_RUNTIME_DIR=/run/own
        mkdir -m 700 /run/own; chown 65534 /run/own
        mkfifo /run/never; chmod 666 /run/never
        as_user 65534 $DIR/qemu-system-test -c 'read x </run/never' x -m 64M &
        until pid=$(pgrep qemu-system-tes); do sleep 0.1; done
        sleep 0.5
        id=$(as_user 65534 $PLACER ps --json | grep '\"id\"' | head -1 | cut -d '\"' -f 4)
        as_user 65534 $PLACER release $id
        echo left: $(as_user 65534 $PLACER ps --json | grep -c observed || :)
        kill $DAEMON $pid",
    );
    let said = text(&output.stderr);
    assert_eq!(text(&output.stdout), "left: 0\n", "{said}");
    assert!(said.contains("placer: released "), "{said}");
}
