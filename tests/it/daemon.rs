//! The daemon on its socket: the same answers, limits, and what is left when it is killed.

use needs::needs;
use testkit::abuse;
mod calls;
use crate::common;
use crate::common::daemon;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use abuse::Abusers;
use common::{SHIPPED, fixture, fixtures, run, text};
use daemon::{Daemon, answered, call, eventually, reply, request, spawn};
use serde_json::{Value, json};

fn seen(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn nothing_is_computed_for_a_client_that_has_gone() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    daemon.signal("-STOP");
    let question =
        json!({"method": "org.placer.Daemon.Advise", "parameters": {"request": request(1, 1)}});
    for _ in 0..20 {
        let mut client = daemon.connect().expect("the kernel takes it");
        client.write_all(format!("{question}\0").as_bytes()).expect("sent");
    }
    daemon.signal("-CONT");
    let decisions = || {
        let line = "placer_decisions_total{kind=\"advice\"} ";
        let metrics = daemon.http("/metrics");
        metrics.lines().find_map(|text| text.strip_prefix(line)?.parse::<u64>().ok())
    };
    // A client that stays comes after them, and is answered.
    let reply = daemon.call("org.placer.Daemon.Advise", json!({"request": request(1, 1)}));
    assert!(reply["parameters"]["advice"].is_object(), "{reply}");
    eventually("the others are through", || {
        let line = "placer_clients ";
        let metrics = daemon.http("/metrics");
        let open = metrics.lines().find_map(|text| text.strip_prefix(line)?.parse::<u64>().ok());
        open.is_some_and(|open| open <= 1).then_some(())
    });
    assert_eq!(decisions(), Some(1));
}

#[test]
fn the_answers_are_the_engines_to_the_byte() {
    let asked: &[&[&str]] = &[
        &["4:500"],
        &["0.5"],
        &["9999:9T"],
        &["9999:9T", "--strict"],
        &["9999:9T", "--strict", "--json"],
        &["2:200", "--json"],
        &["2:200", "--explain"],
        &["2:200", "--cpus"],
        &["2:200", "--within", "0"],
        &["2:200", "--within", "4000"],
        &["2:200", "--policy", "numad"],
        &["2:200", "--policy", "numad", "--json"],
        &["3:100", "--prefer", "pack", "--memory-bound", "1", "--smt-percent", "50", "--json"],
        &["2:200", "--pages", "2M", "--json"],
        &["2:200", "--emit", "numactl"],
        &["2:200", "--emit", "qemu", "--mode", "interleave"],
        &["2:200", "--emit", "libvirt-xml"],
        &["2:200", "--emit", "cloud-hypervisor"],
        &["2:200", "--emit", "proxmox"],
        &["2:200", "--emit", "systemd"],
        &["2:200", "--emit", "lxc"],
    ];
    let mut compared = 0;
    for name in fixtures() {
        let root = fixture(&name);
        let daemon = Daemon::start(Some(&root), "");
        for args in asked {
            let of = |via: &str| {
                let mut command = daemon.client();
                command.arg("advise").args(*args).args(["--machine-wide", "--via", via]);
                command
            };
            let engine = run(of("engine").arg("--root").arg(&root));
            let daemons = answered(|| of("daemon"));
            assert_eq!(seen(&daemons), seen(&engine), "{name}: {args:?}");
            compared += 1;
        }
    }
    assert!(compared >= 100, "{compared}");
}

#[test]
fn without_an_answer_in_time_the_engine_answers() {
    let mut daemon = Daemon::start(None, "");
    let of = |daemon: &Daemon, via: &str| {
        let mut client = daemon.client();
        client.args(["advise", "1:1", "--via", via, "--window", "0"]);
        client
    };
    assert_eq!(answered(|| of(&daemon, "daemon")).status.code(), Some(0));
    // Hung: it takes the connection, and says nothing.
    daemon.signal("-STOP");
    assert_eq!(run(&mut of(&daemon, "auto")).status.code(), Some(0));
    let (code, stdout, stderr) = seen(&run(&mut of(&daemon, "daemon")));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("no answer within 50 ms"), "{stderr}");
    daemon.signal("-CONT");
    // Other settings would have answered otherwise.
    let other = answered(|| {
        let mut client = daemon.client();
        client.env("PLACER_CONFIG", SHIPPED).env("PLACER_VIA", "daemon").args(["advise", "1:1"]);
        client
    });
    assert_eq!(other.status.code(), Some(0), "the daemon's own section does not count");
    let print =
        json!({"version": "9", "settings": "", "form": "nodes", "mode": "strict", "strict": false});
    let reply =
        daemon.call("org.placer.Daemon.Advise", json!({"request": request(1, 1), "print": print}));
    assert_eq!(reply["error"], "org.placer.Daemon.Other");
    // Absent.
    daemon.child.kill().and_then(|()| daemon.child.wait()).expect("ended");
    assert_eq!(run(&mut of(&daemon, "auto")).status.code(), Some(0));
    let (code, _, stderr) = seen(&run(&mut of(&daemon, "daemon")));
    assert!(code == Some(2) && stderr.contains("no daemon answers"), "{stderr}");
    let root = fixture("ring-4");
    let excluded =
        run(daemon.client().args(["advise", "1:1", "--via", "daemon"]).arg("--root").arg(root));
    assert!(text(&excluded.stderr).contains("exclude each other"));
}

#[test]
fn a_second_daemon_says_that_one_runs_and_the_first_ends_when_told() {
    let mut daemon = Daemon::start(None, "");
    let second = run(daemon.client().arg("daemon"));
    let pid = daemon.child.id();
    let (code, _, stderr) = seen(&second);
    assert_eq!(code, Some(2));
    assert!(stderr.contains(&format!("a daemon already runs (pid {pid})")), "{stderr}");
    // A damaged file changes nothing; a good one does.
    let good = std::fs::read_to_string(&daemon.config).expect("settings");
    std::fs::write(&daemon.config, "[daemon").expect("written");
    let reads = |what: &str| {
        daemon.signal("-HUP");
        eventually(what, || daemon.log().contains(what).then_some(()));
    };
    reads("the settings stay as they were");
    assert_eq!(
        daemon.call("org.varlink.service.GetInfo", json!({}))["parameters"]["product"],
        "placer"
    );
    std::fs::write(&daemon.config, good).expect("written");
    reads("settings read");
    let claimed = daemon.call(
        "org.placer.Daemon.AdviseAndClaim",
        json!({"request": request(1, 1), "hold_ms": 60_000}),
    );
    let id = claimed["parameters"]["claim"].as_str().expect("claimed").to_owned();
    daemon.signal("-TERM");
    let start = Instant::now();
    let status = daemon.child.wait().expect("it ends");
    assert!(status.success() && start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let ps = text(&run(daemon.client().arg("ps")).stdout);
    assert!(ps.contains(&id), "the claim outlives it: {ps}");
}

/// Settings that limit the claims of each user other than root.
const LIMITED: &str =
    "user-claims = 2\nuser-memory = \"64M\"\nuser-cpus = \"100%\"\nuser-hold = \"60m\"\n";

#[test]
fn claims_are_made_and_ended_by_whom_may() {
    let daemon = Daemon::start(None, LIMITED);
    let claim = |parameters| daemon.call("org.placer.Daemon.AdviseAndClaim", parameters);
    let own = claim(json!({"request": request(1, 2), "pid": 0}));
    let id = own["parameters"]["claim"].clone();
    let guests = daemon.call("org.placer.Daemon.Guests", json!({}));
    let guests = guests["parameters"]["claims"].as_array().expect("a list").clone();
    let ours = guests.iter().find(|guest| guest["id"] == id).expect("it is listed");
    assert_eq!(ours["pid"], std::process::id());
    let released = daemon.call("org.placer.Daemon.Release", json!({"claim": id}));
    assert_eq!(released["parameters"]["released"]["id"], id);
    let again = daemon.call("org.placer.Daemon.Release", json!({"claim": id}));
    assert_eq!(again["error"], "org.placer.Daemon.NotAllowed");
    for (parameters, error) in [
        (json!({"request": request(1, 1)}), "org.placer.Daemon.NotAllowed"),
        (json!({"request": request(1, 1), "hold_ms": 0}), "org.placer.Daemon.NotAllowed"),
        (json!({"request": request(1, 1), "pid": 4_194_304}), "org.placer.Daemon.NotAllowed"),
        (
            json!({"request": {"cpus": -1, "memory": 0}, "hold_ms": 9}),
            "org.varlink.service.InvalidParameter",
        ),
        (json!({"hold_ms": 9}), "org.varlink.service.InvalidParameter"),
    ] {
        assert_eq!(claim(parameters.clone())["error"], error, "{parameters}");
    }
}

#[needs(root)]
#[test]
fn a_user_claims_within_the_limits_for_users() {
    let daemon = Daemon::start(None, LIMITED);
    // Another user, by placer's own client.
    let program = daemon.dir.path().join("placer");
    common::copy_program(env!("CARGO_BIN_EXE_placer"), &program);
    let nobody = |args: &[&str]| {
        let client = || {
            let mut command = Command::new(&program);
            command
                .env_clear()
                .env("PLACER_STATE_DIR", daemon.dir.path())
                .env("PLACER_CONFIG", &daemon.config);
            command.args(["advise", "--via", "daemon"]).args(args).uid(65_534).gid(65_534);
            command
        };
        seen(&answered(client))
    };
    let (code, _, stderr) = nobody(&["1:20M", "--hold", "60m"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (code, stdout, stderr) = nobody(&["1:60M", "--hold", "60m"]);
    assert!(code == Some(0) && !stdout.is_empty() && stderr.contains("user-memory"), "{stderr}");
    let (_, _, stderr) = nobody(&["1:1M", "--hold", "90m"]);
    assert!(stderr.contains("user-hold"), "{stderr}");
    assert_eq!(nobody(&["1:1M", "--hold", "60m"]).2, "");
    assert!(nobody(&["1:1M", "--hold", "60m"]).2.contains("user-claims"));
    let guests = daemon.call("org.placer.Daemon.Guests", json!({}));
    let theirs = guests["parameters"]["claims"].as_array().expect("a list").iter();
    assert_eq!(theirs.filter(|guest| guest["caller"]["uid"] == 65_534).count(), 2);
}

#[test]
fn its_log_names_the_hold_that_was_made_by_numads_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let (set, log) = (dir.path().join("placer.toml"), dir.path().join("log"));
    let holds = "[numad]\npolicy = 'best'\nhold = 'adopt'\n[daemon]\nqueue = false\n";
    std::fs::write(&set, holds).expect("written");
    let to_log = std::fs::File::create(&log).expect("a file");
    let daemon = Daemon::start_with(None, "", |command| {
        command.env("PLACER_CONFIG", &set).stderr(to_log);
    });
    let start = Instant::now();
    // Whom it does not answer in time answers himself, and its line then says that nothing is claimed.
    let claim = loop {
        let asked = run(daemon.client().env("PLACER_CONFIG", &set).args(["numad", "-w", "1:1"]));
        assert_eq!(asked.status.code(), Some(0), "{}", text(&asked.stderr));
        let lines = std::fs::read_to_string(&log).expect("a log");
        let told = lines.split(" claim=").skip(1).filter_map(|rest| rest.split_whitespace().next());
        if let Some(claim) = told.filter(|claim| *claim != "-").last() {
            break claim.to_owned();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{lines}");
    };
    let ps = run(daemon.client().args(["ps", "--json"]));
    let claims: Value = serde_json::from_slice(&ps.stdout).expect("JSON");
    let claims = claims["claims"].as_array().expect("claims");
    let held = claims.iter().find(|one| one["id"] == claim.as_str()).expect("it is there");
    assert_eq!((&held["kind"], &held["memory"]), (&json!("hold"), &json!(1 << 20)));
}

#[test]
fn it_writes_down_who_has_come_for_a_hold_so_that_it_ends_with_him() {
    let daemon = Daemon::start(None, "");
    let program = daemon.dir.path().join("qemu-system-test");
    common::copy_program("/bin/sh", &program);
    let ps = |id: &str| text(&run(daemon.client().arg("ps")).stdout).contains(id);
    let wait_until = |what: &str, holds: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(30), "after 30 s: not {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let held = run(daemon.client().args(["advise", "1:131", "--hold", "10m", "--json"]));
    let held: Value = serde_json::from_slice(&held.stdout).expect("JSON");
    let id = held["claim"].as_str().expect("it is held").to_owned();
    // A size of its own, so that no other test's guest is the one.
    let mut guest = Command::new(&program);
    guest.args(["-c", "read x", "sh", "-m", "131"]).stdin(Stdio::piped());
    let mut guest = guest.spawn().expect("it starts");
    let process = format!("\"pid\":{}", guest.id());
    wait_until("written down", &|| {
        let ledger = std::fs::read_to_string(daemon.dir.path().join("claims.jsonl"));
        ledger.is_ok_and(|text| {
            text.lines().any(|line| line.contains("\"process\":") && line.contains(&process))
        })
    });
    assert!(ps(&id), "it is that guest's");
    guest.kill().expect("killed");
    guest.wait().expect("waited for");
    wait_until("ended with it", &|| !ps(&id));
}

#[needs(root)]
#[test]
fn a_users_guest_takes_over_that_users_hold_and_roots_guest_only_roots() {
    const STRANGER: u32 = 65_534;
    let daemon = Daemon::start(None, "user-cpus = \"1000%\"\n");
    let (program, qemu) =
        (daemon.dir.path().join("placer"), daemon.dir.path().join("qemu-system-test"));
    common::copy_program(env!("CARGO_BIN_EXE_placer"), &program);
    common::copy_program("/bin/sh", &qemu);
    let hold = |uid: u32, request: &str| -> String {
        let client = || {
            let mut command = Command::new(&program);
            command.env_clear().env("PLACER_STATE_DIR", daemon.dir.path());
            command.env("PLACER_CONFIG", &daemon.config).uid(uid).gid(uid);
            command.args(["advise", "--via", "daemon", "--json", "--hold", "5m", request]);
            command
        };
        let held: Value = serde_json::from_slice(&answered(client).stdout).expect("JSON");
        held["claim"].as_str().expect("it is held").to_owned()
    };
    let owner = |id: &str| -> Option<u64> {
        let ledger = std::fs::read_to_string(daemon.dir.path().join("claims.jsonl")).ok()?;
        let lines = ledger.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_id = |line: &Value| format!("{:08x}", line["id"].as_u64().unwrap_or(0)) == id;
        lines.into_iter().find(of_id)?["process"]["pid"].as_u64()
    };
    let start = |uid: u32, mib: &str| -> Child {
        let mut guest = Command::new(&qemu);
        guest.args(["-c", "read x", "sh", "-m", mib]).stdin(Stdio::piped()).uid(uid).gid(uid);
        guest.spawn().expect("it starts")
    };
    // Sizes of their own, so that no other test's guests are the ones.
    let stranger = hold(STRANGER, "1:133");
    let mut guest = start(STRANGER, "133");
    eventually("the user's own", || (owner(&stranger) == Some(guest.id().into())).then_some(()));
    guest.kill().and_then(|()| guest.wait()).expect("ended");
    // The stranger's hold is the older one of two that suit root's guest.
    let (theirs, ours) = (hold(STRANGER, "1:137"), hold(0, "1:137"));
    let mut guest = start(0, "137");
    eventually("root's own", || (owner(&ours) == Some(guest.id().into())).then_some(()));
    assert_eq!(owner(&theirs), None);
    guest.kill().and_then(|()| guest.wait()).expect("ended");
}

#[test]
fn a_host_is_told_as_placer_show_tells_it() {
    for name in fixtures() {
        let root = fixture(&name);
        let daemon = Daemon::start(Some(&root), "");
        let shown = run(daemon.client().args(["show", "--json"]).arg("--root").arg(&root));
        let mut shown = common::json(&shown);
        let told = daemon.call("org.placer.Daemon.Host", json!({}));
        assert_eq!(told["parameters"]["host"], shown, "{name}");
        // The same but for what does not change.
        shown["distances"] = Value::Null;
        let mut stream = daemon.connect().expect("it answers");
        let told = call(&mut stream, "org.placer.Daemon.Watch", json!({}));
        assert_eq!(told["parameters"]["host"], shown, "{name}");
        stream
            .write_all(b"{\"method\":\"org.placer.Daemon.Watch\",\"more\":true}\0")
            .expect("sent");
        let first = reply(&mut stream);
        assert_eq!((&first["continues"], &first["parameters"]["host"]), (&json!(true), &shown));
    }
}

#[test]
fn it_describes_itself_and_damaged_calls_cost_their_connection_alone() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let info = daemon.call("org.varlink.service.GetInfo", json!({}));
    let told = json!({
        "vendor": "placer",
        "product": "placer",
        "version": env!("CARGO_PKG_VERSION"),
        "url": env!("CARGO_PKG_REPOSITORY"),
        "interfaces": ["org.varlink.service", "org.placer.Daemon"],
    });
    assert_eq!(info["parameters"], told);
    for interface in ["org.varlink.service", "org.placer.Daemon"] {
        let told = daemon
            .call("org.varlink.service.GetInterfaceDescription", json!({"interface": interface}));
        let told = told["parameters"]["description"].as_str().expect("text").to_owned();
        assert!(told.contains(&format!("\ninterface {interface}\n")), "{told}");
    }
    for (method, error) in [
        ("org.placer.Daemon.Nothing", "org.varlink.service.MethodNotFound"),
        ("org.other.Thing", "org.varlink.service.InterfaceNotFound"),
        ("x", "org.varlink.service.InterfaceNotFound"),
    ] {
        assert_eq!(daemon.call(method, json!({}))["error"], error);
    }
    for bad in [&b"\0"[..], b"{}\0", b"[1]\0", b"\xff\xfe\0", &[b'['; 70_000]] {
        let mut stream = daemon.connect().expect("it answers");
        let _ = stream.write_all(bad);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{}", text(&rest));
    }
    // Pipelined, and without a reply.
    let mut stream = daemon.connect().expect("it answers");
    stream
        .write_all(b"{\"method\":\"org.varlink.service.GetInfo\",\"oneway\":true}\0")
        .expect("sent");
    let host = call(&mut stream, "org.placer.Daemon.Host", json!({}));
    assert_eq!(host["parameters"]["host"]["nodes"].as_array().map(Vec::len), Some(4));
    // Watched.
    stream.write_all(b"{\"method\":\"org.placer.Daemon.Watch\",\"more\":true}\0").expect("sent");
    let mut got = [0; 12];
    stream.read_exact(&mut got).expect("the first");
    assert_eq!(text(&got), "{\"continues\"");
}

/// Asks with a client that knows nothing of placer: the PyPI package varlink, which reads the
/// interface from the daemon and checks what it sends and gets by it.
const INDEPENDENT: &str = r#"
import sys, varlink
def service():
    return varlink.Client("unix:" + sys.argv[1])
with service() as client, client.open("org.placer.Daemon") as placer:
    request = {"cpus": 2.0, "memory": 200 << 20}
    print(placer.Advise(request=request, explain=True)["advice"]["nodes"])
    claimed = placer.AdviseAndClaim(request=request, hold_ms=60000)
    listed = [guest["id"] for guest in placer.Guests()["claims"]]
    print(listed == [claimed["claim"]])
    print(placer.Release(claim=claimed["claim"])["released"]["id"] == claimed["claim"])
    print(len(placer.Host()["host"]["nodes"]))
    for count, one in enumerate(placer.Watch(_more=True)):
        if count == 2:
            break
    print(len(one["host"]["nodes"]))
with service() as client, client.open("org.placer.Daemon") as placer:
    try:
        placer.Release(claim="zz")
    except varlink.VarlinkError as error:
        print(error.error())
"#;

#[needs(python_packages)]
#[test]
fn an_independent_client_is_answered() {
    let python = crate::python::tools().join("python");
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let socket = daemon.dir.path().join("placer.sock");
    let seen = seen(&run(Command::new(python).args(["-c", INDEPENDENT]).arg(socket)));
    let advised = answered(|| {
        let mut client = daemon.client();
        client.args(["advise", "2:200", "--machine-wide", "--via", "daemon"]);
        client
    });
    let advised = text(&advised.stdout);
    let wanted = format!("{advised}True\nTrue\n4\n4\norg.varlink.service.InvalidParameter\n");
    assert_eq!(seen, (Some(0), wanted, String::new()));
}

/// Reads Prometheus' text strictly: each sample after its family's two lines, each value a number.
fn parse_metrics(body: &str) -> Vec<(String, f64)> {
    let mut samples = Vec::new();
    let mut family = String::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.contains(' '), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let bare = name.split('{').next().unwrap_or_default();
            let bare = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| bare.strip_suffix(end).filter(|bare| *bare == family))
                .unwrap_or(bare);
            assert_eq!(bare, family, "{line}");
            samples.push((name.to_owned(), value.parse().expect("a number")));
        }
    }
    samples
}

#[test]
fn a_line_of_the_ledger_that_is_damaged_or_of_a_later_version_is_kept_logged_and_counted() {
    let daemon = Daemon::start(None, "");
    let hold = |daemon: &Daemon| {
        let parameters = json!({"request": request(0, 1), "hold_ms": 60_000});
        daemon.call("org.placer.Daemon.AdviseAndClaim", parameters)["parameters"].clone()
    };
    assert!(hold(&daemon)["claim"].is_string(), "this machine can be asked about");
    let ledger = daemon.dir.path().join("claims.jsonl");
    let line = std::fs::read_to_string(&ledger).expect("a ledger");
    let later = line.replace("\"version\":2", "\"version\":9").replace("1048576", "1048577");
    let odd = format!("{later}half a line\n");
    std::fs::write(&ledger, &odd).expect("written");
    assert!(hold(&daemon)["claim"].is_string());
    let now = std::fs::read_to_string(&ledger).expect("a ledger");
    assert!(now.ends_with(&odd) && now.lines().count() == 3, "{now}");
    let metrics = daemon.http("/metrics");
    assert!(metrics.contains("\nplacer_ledger_lines_unread 2\n"), "{metrics}");
    eventually("a line in the log", || {
        daemon.log().contains("the ledger is damaged").then_some(())
    });
}

#[test]
fn metrics_are_told_in_prometheus_text() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    for _ in 0..3 {
        daemon.call("org.placer.Daemon.Advise", json!({"request": request(1, 1)}));
    }
    let get = |path| daemon.http(path);
    assert!(get("/").starts_with("HTTP/1.1 404 "));
    let reply = get("/metrics");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.ends_with('\n'));
    let samples = parse_metrics(body);
    let of = |name: &str| samples.iter().find(|(found, _)| found == name).map(|(_, value)| *value);
    assert_eq!(of("placer_decisions_total{kind=\"advice\"}"), Some(3.0));
    assert_eq!(of("placer_decision_seconds_count"), Some(3.0));
    assert_eq!(of("placer_decision_seconds_bucket{le=\"+Inf\"}"), Some(3.0));
    // This one, and perhaps one that has just closed.
    assert!(of("placer_clients").is_some_and(|count| count >= 1.0));
    assert!(
        (0..4)
            .all(|node| of(&format!("placer_node_memory_free_bytes{{node=\"{node}\"}}")).is_some())
    );
}

#[test]
fn a_thousand_clients_are_answered_at_once() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let count = match limit {
        Ok((soft, _)) if soft < 1200 => 400,
        _ => 1000,
    };
    let mut all: Vec<UnixStream> =
        (0..count).map(|_| daemon.connect().expect("connected")).collect();
    for stream in &mut all {
        let call =
            json!({"method": "org.placer.Daemon.Advise", "parameters": {"request": request(1, 1)}});
        stream.write_all(format!("{call}\0").as_bytes()).expect("sent");
    }
    let mut answered = 0;
    for mut stream in all {
        let mut first = [0; 14];
        stream.read_exact(&mut first).expect("an answer");
        answered += usize::from(&first == b"{\"parameters\":");
    }
    assert_eq!(answered, count);
}

/// The settings of a soak: how long, by PLACER_SOAK_SECONDS.
fn soak() -> Duration {
    let seconds = std::env::var("PLACER_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

#[test]
fn whatever_others_do_advice_is_given() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let end = Instant::now() + soak();
    let abusers = Abusers::start(&daemon.dir.path().join("placer.sock"), end);
    let mut times = Vec::new();
    let mut stream = daemon.connect().expect("it answers");
    while Instant::now() < end {
        let start = Instant::now();
        let reply =
            call(&mut stream, "org.placer.Daemon.Advise", json!({"request": request(1, 1)}));
        times.push(start.elapsed());
        assert_eq!(reply["parameters"]["advice"]["fits"], true, "{reply}");
        std::thread::sleep(Duration::from_millis(2));
    }
    let done = abusers.join();
    println!("{}, beside {done:?}", abuse::told(&mut times));
    assert!(times.len() > 50 && done.iter().all(|(_, count)| *count > 10), "{done:?}");
}

/// Machines of QEMU.
struct Machines {
    dir: PathBuf,
    running: Vec<Child>,
}

impl Machines {
    fn new(daemon: &Daemon) -> Self {
        Self { dir: daemon.dir.path().to_owned(), running: Vec::new() }
    }

    fn launch(&mut self, daemon: &Daemon) {
        let name = format!("m{}", self.running.len());
        let definition = self.dir.join(format!("{name}.toml"));
        let text = format!("name = \"{name}\"\ncpus = 1\nmemory = \"16M\"\n\n[qemu]\n");
        std::fs::write(&definition, text).expect("written");
        let mut launch = daemon.client();
        // The guest runs no system that would shut down when it is asked to.
        launch.args(["launch", "--stop-timeout", "0", "--window", "0"]).arg(&definition);
        launch.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        launch.stdout(Stdio::null()).stderr(Stdio::null());
        self.running.push(launch.spawn().expect("it starts"));
    }

    /// Returns how many have no claim.
    fn missing(&self, claims: &[Value]) -> usize {
        let launched = |id: u32| {
            claims
                .iter()
                .any(|claim| claim["caller"]["pid"] == id && claim["program"] == "qemu-system-x86")
        };
        self.running.iter().filter(|machine| !launched(machine.id())).count()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in &mut self.running {
            // Its launcher ends QEMU as well.
            let _ = Command::new("kill").arg(machine.id().to_string()).status();
            let _ = machine.wait();
        }
    }
}

#[needs(qemu)]
#[test]
fn killed_again_and_again_it_loses_no_claim() {
    let mut daemon = Daemon::start(None, "");
    let launches: usize = if soak() > Duration::from_secs(10) { 500 } else { 40 };
    let mut machines = Machines::new(&daemon);
    let mut guests = Vec::new();
    let mut held = Vec::new();
    let mut kills = 0;
    for round in 0..launches {
        if round % (launches / 4) == launches / 8 {
            machines.launch(&daemon);
        }
        let mut launch = daemon.client();
        launch.args([
            "launch",
            "--cpus",
            "0.01",
            "--memory",
            "1M",
            "--window",
            "0",
            "--",
            "/bin/sleep",
            "600",
        ]);
        guests.push(
            launch
                .env("PATH", "/usr/bin:/bin")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts"),
        );
        if let Some(mut stream) = daemon.connect() {
            let parameters = json!({"request": request(0, 1), "hold_ms": 600_000});
            let call =
                json!({"method": "org.placer.Daemon.AdviseAndClaim", "parameters": parameters});
            let mut reply = Vec::new();
            let sent = stream.write_all(format!("{call}\0").as_bytes());
            if round % 5 == 4 {
                daemon.child.kill().and_then(|()| daemon.child.wait()).expect("killed");
            } else {
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            let _ = sent.and_then(|()| stream.read_to_end(&mut reply).map(|_| ()));
            reply.pop();
            if let Ok(reply) = serde_json::from_slice::<Value>(&reply)
                && let Some(id) = reply["parameters"]["claim"].as_str()
            {
                held.push(id.to_owned());
            }
        }
        if round % 5 == 4 {
            // Killed before it answered anybody, or killed already.
            daemon.child.kill().and_then(|()| daemon.child.wait()).expect("killed");
            kills += 1;
            daemon.child = spawn(None, daemon.dir.path(), &daemon.config);
            if round % 20 == 19 {
                daemon.await_answer();
            }
        }
    }
    let pids: Vec<u64> = guests.iter().map(|guest| u64::from(guest.id())).collect();
    let listed = || {
        let ps = common::json(&run(daemon.client().args(["ps", "--json"])));
        ps["claims"].as_array().expect("a list").clone()
    };
    // The last launches may still be choosing.
    let start = Instant::now();
    let missing = loop {
        let claims = listed();
        let claimed = |pid: &&u64| !claims.iter().any(|claim| claim["pid"] == **pid);
        let missing = pids.iter().filter(claimed).count() + machines.missing(&claims);
        if missing == 0 || start.elapsed() > Duration::from_secs(60) {
            break missing;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let claims = listed();
    let lost = held.iter().filter(|id| !claims.iter().any(|claim| claim["id"] == id.as_str()));
    let (holds, running) = (held.len(), machines.running.len());
    println!("{launches} launches, {running} machines, {holds} holds, {kills} kills");
    let lost = lost.count();
    for mut guest in guests {
        let _ = guest.kill();
        let _ = guest.wait();
    }
    assert_eq!((missing, lost), (0, 0));
    assert!(kills > 5 && !held.is_empty());
}

#[test]
fn memory_stays_as_it_is_however_many_ask() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let rss = || {
        let path = format!("/proc/{}/status", daemon.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
        let kib = line.split_whitespace().nth(1).expect("a number");
        kib.parse::<u64>().expect("a number")
    };
    let ask = |count: usize| {
        let mut stream = daemon.connect().expect("it answers");
        let call =
            json!({"method": "org.placer.Daemon.Advise", "parameters": {"request": request(1, 1)}});
        let batch = format!("{call}\0").repeat(64);
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..count / 64 {
            stream.write_all(batch.as_bytes()).expect("sent");
            let mut ends = 0;
            while ends < 64 {
                let got = stream.read(&mut buffer).expect("answers");
                assert!(got > 0);
                ends += buffer[..got].iter().filter(|b| **b == 0).count();
            }
        }
    };
    ask(20_000);
    let before = rss();
    let count = if soak() > Duration::from_secs(10) { 1_000_000 } else { 50_000 };
    ask(count);
    let after = rss();
    println!("resident {before} KiB before, {after} KiB after {count} questions");
    assert!(after < before + 1024, "{before} -> {after}");
}
