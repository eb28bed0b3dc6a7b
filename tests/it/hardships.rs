//! The daemon where things are short, stuck or hostile: descriptors, a sampler that hangs, the metrics
//! port, a client in another pid namespace, somebody else in its place. Once is enough.

use crate::common;
use crate::common::daemon;
use needs::needs;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{fixture, run, text};
use daemon::{Daemon, call, request};
use nix::sys::ptrace;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::unistd::Pid;
use serde_json::{Value, json};

const ADVISE: &str = "org.placer.Daemon.Advise";
const CLAIM: &str = "org.placer.Daemon.AdviseAndClaim";

fn ask(stream: &mut UnixStream) {
    let reply = call(stream, ADVISE, json!({"request": request(1, 1)}));
    assert_eq!(reply["parameters"]["advice"]["fits"], true, "{reply}");
}

/// Whether the daemon closes a connection within a time.
fn is_closed(stream: &mut UnixStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).expect("set");
    matches!(stream.read(&mut [0]), Ok(0))
}

const INFO: &[u8] = b"{\"method\":\"org.varlink.service.GetInfo\"}\0";
/// Long enough on any machine.
const LONG: Duration = Duration::from_secs(60);
/// Long enough to see what is closed at once, as a rule: where it may be tried again.
const SHORT: Duration = Duration::from_millis(500);

#[test]
fn clients_for_whom_there_are_no_descriptors_are_closed_at_once() {
    let root = fixture("ring-4");
    let daemon = Daemon::start_with(Some(&root), "", |command| {
        let limited = std::mem::replace(command, Command::new("sh"));
        command.args(["-c", "ulimit -n 100; exec \"$@\"", "sh"]).arg(limited.get_program());
        command.args(limited.get_args()).env_clear().stderr(Stdio::null());
        command.envs(limited.get_envs().filter_map(|(name, value)| Some((name, value?))));
    });
    let mut first = daemon.connect().expect("it answers");
    ask(&mut first);
    let mut more: Vec<UnixStream> = (0..80).filter_map(|_| daemon.connect()).collect();
    let closed = more.iter_mut().rev().take(20).map(|stream| is_closed(stream, LONG));
    assert_eq!((closed.filter(|closed| *closed).count(), more.len()), (20, 80));
    ask(&mut first);
    drop(more);
    daemon.await_answer();
    daemon::eventually("a newcomer is answered", || {
        let mut new = daemon.connect().expect("it answers");
        (!is_closed(&mut new, SHORT)).then(|| ask(&mut daemon.connect().expect("it answers")))
    });
}

#[test]
fn without_any_descriptor_those_who_are_connected_are_answered() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let mut first = daemon.connect().expect("it answers");
    ask(&mut first);
    let pid = daemon.child.id();
    let limit = |count: usize| {
        let words = [format!("--pid={pid}"), format!("--nofile={count}:4096")];
        assert!(run(Command::new("prlimit").args(words)).status.success());
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    limit(files);
    let mut second = daemon.connect().expect("the kernel takes it");
    second.write_all(INFO).expect("the kernel keeps it");
    let refused = is_closed(&mut second, SHORT);
    // Without the ledger's claims, and said so.
    let mut told = Vec::new();
    for _ in 0..20 {
        told.push(call(&mut first, ADVISE, json!({"request": request(1, 1)})));
    }
    let fits = |reply: &&Value| reply["parameters"]["advice"]["fits"] == true;
    assert_eq!(told.iter().filter(fits).count(), 20, "{}", told[0]);
    limit(4096);
    // Who was not refused waited in the kernel's queue, and has an answer now.
    second.set_read_timeout(Some(LONG)).expect("set");
    assert_eq!(second.read(&mut [0]).expect("an answer, or the end") == 0, refused);
    daemon::eventually("it accepts again", || {
        let mut new = daemon.connect()?;
        new.write_all(INFO).ok()?;
        (new.read(&mut [0; 16]).ok()? > 0).then_some(())
    });
}

/// What a service manager is told.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Reads until a text has come so often.
    fn awaits(&self, text: &str, count: usize) {
        let end = Instant::now() + LONG;
        let mut heard = 0;
        while heard < count {
            assert!(Instant::now() < end, "{text} came {heard} times");
            heard += self.hears(text, Duration::from_millis(100));
        }
    }

    /// Reads for so long; returns how often a text came.
    fn hears(&self, text: &str, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut count = 0;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("set");
            let mut room = [0; 256];
            let Ok(read) = self.socket.recv(&mut room) else { continue };
            count += usize::from(common::text(&room[..read]).contains(text));
        }
        count
    }
}

#[needs(ptrace)]
#[test]
fn the_watchdog_is_fed_as_long_as_the_sampler_lives() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let manager = Manager { socket: UnixDatagram::bind(&path).expect("bound") };
    let root = fixture("ring-4");
    let daemon = Daemon::start_with(Some(&root), "interval = \"20ms\"\n", |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    });
    manager.awaits("READY=1", 1);
    manager.awaits("WATCHDOG=1", 3);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.child.id())).expect("it runs");
    let tasks = tasks.map(|task| task.expect("a thread").path());
    let named = |task: &PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "placer-sampler\n")
    };
    let sampler = tasks.into_iter().find(named).expect("a sampler");
    let id = sampler.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
    let sampler = Pid::from_raw(id);
    // One thread alone stops, as if it hung in a reading.
    ptrace::seize(sampler, ptrace::Options::empty()).expect("the right to trace");
    ptrace::interrupt(sampler).expect("stopped");
    nix::sys::wait::waitpid(sampler, Some(nix::sys::wait::WaitPidFlag::__WALL)).expect("stopped");
    manager.hears("", Duration::from_secs(3));
    assert_eq!(manager.hears("WATCHDOG=1", Duration::from_secs(2)), 0);
    // It answers nevertheless, from what it has.
    ask(&mut daemon.connect().expect("it answers"));
    ptrace::detach(sampler, None).expect("goes on");
    manager.awaits("WATCHDOG=1", 1);
    daemon.signal("-TERM");
    manager.awaits("STOPPING=1", 1);
}

/// Asks both ways of a state directory. `auto` is answered whatever sits there; `daemon` says why not.
fn not_believed(state: &Path, why: &str) {
    let ask = |via: &str| {
        let mut client = common::placer();
        client.env("PLACER_STATE_DIR", state).args(["advise", "1:1", "--window", "0"]);
        run(client.args(["--via", via]))
    };
    let told = |output: &Output| (output.status.code(), text(&output.stdout), text(&output.stderr));
    let (code, engine, _) = told(&ask("engine"));
    assert_eq!(code, Some(0), "{why}");
    let (code, auto, stderr) = told(&ask("auto"));
    assert_eq!((code, auto), (Some(0), engine), "{why}: {stderr}");
    assert!(!stderr.contains("daemon"), "it is nobody's trouble: {stderr}");
    // On a busy machine what it says may not be heard within 50 ms.
    let (code, stdout, _) = daemon::eventually(why, || {
        let told = told(&ask("daemon"));
        told.2.contains(why).then_some(told)
    });
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{why}");
}

#[test]
fn whatever_answers_in_its_place_auto_is_answered() {
    let other = json!({"daemon": "9.9.9", "client": env!("CARGO_PKG_VERSION")});
    let other = json!({"error": "org.placer.Daemon.Other", "parameters": other});
    let replies: [(Vec<u8>, &str); 8] = [
        (format!("{other}\0").into_bytes(), "org.placer.Daemon.Other {\"client\""),
        (Vec::new(), "no answer within 50 ms"),
        (b"{\"parameters\":{\"printed\":".to_vec(), "no answer within 50 ms"),
        (b"\0".to_vec(), "EOF while parsing"),
        (b"\xff\xfe{[\0".to_vec(), "expected value"),
        (b"{}\0".to_vec(), "missing field `printed`"),
        ([vec![b'['; 1 << 16], vec![0]].concat(), "invalid type"),
        (vec![b'x'; 40 << 20], "no answer within 50 ms"),
    ];
    for (reply, why) in replies {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("placer.sock")).expect("bound");
        // It ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&reply);
            }
        });
        not_believed(dir.path(), why);
    }
}

#[needs(root, python3)]
#[test]
fn a_socket_of_another_users_is_not_believed() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
    let path = dir.path().join("placer.sock");
    bind(socket.as_raw_fd(), &UnixAddr::new(&path).expect("a name")).expect("bound");
    // The kernel tells who listens.
    let listens = "import socket, time; s = socket.socket(fileno=0); s.listen(); time.sleep(600)";
    let mut python = Command::new("python3");
    python.args(["-c", listens]).stdin(socket).uid(65_534).gid(65_534);
    python.stdout(Stdio::null()).stderr(Stdio::null());
    let mut stranger = python.spawn().expect("python3");
    daemon::eventually("somebody who listens", || UnixStream::connect(&path).ok());
    not_believed(dir.path(), "found one of user 65534");
    stranger.kill().and_then(|()| stranger.wait()).expect("ended");
}

#[test]
fn a_long_interval_keeps_nobody_waiting() {
    let start = Instant::now();
    let mut daemon = Daemon::start(None, "interval = \"10s\"\n");
    // The load is known at the second reading.
    let known = || daemon.http("/metrics").contains("\nplacer_node_cpus_busy{").then_some(());
    daemon::eventually("the load", known);
    // Read anew it is known as soon.
    let settings = std::fs::read_to_string(&daemon.config).expect("settings");
    let other = settings.replace("\"10s\"", "\"9s\"");
    std::fs::write(&daemon.config, other).expect("written");
    daemon.signal("-HUP");
    daemon::eventually("it is read", || daemon.log().contains("settings read").then_some(()));
    daemon.signal("-TERM");
    assert!(daemon.child.wait().expect("it ends").success());
    // Else it were 19 s, also on a machine that does nothing else.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port")
}

fn http(port: SocketAddr, request: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(port).ok()?;
    stream.set_read_timeout(Some(LONG)).expect("set");
    let _ = stream.write_all(request);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    Some(text(&reply))
}

#[test]
fn metrics_have_a_port_if_one_is_asked_for() {
    let address = free_port();
    let asked = format!("metrics = \"{address}\"\n");
    let daemon = Daemon::start(Some(&fixture("ring-4")), &asked);
    let get = b"GET /metrics HTTP/1.1\r\n\r\n";
    let good = |reply: &str| reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with('\n');
    daemon::eventually("a port", || http(address, get).filter(|reply| good(reply)));
    // Who says nothing, or reads nothing, holds up nobody.
    let waits = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).expect("set");
        stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    // They themselves have two seconds, which a busy machine may spend otherwise.
    daemon::eventually("an answer that is sooner than theirs end", || {
        let connect = || TcpStream::connect(address).expect("connected");
        let mut silent: Vec<TcpStream> = (0..4).map(|_| connect()).collect();
        assert!(silent[0].write_all(get).is_ok() && silent[1].write_all(b"GET").is_ok());
        let answered = http(address, get).is_some_and(|reply| good(&reply));
        (answered && silent[1..].iter_mut().all(waits)).then_some(())
    });
    for (request, begins) in [
        (&b"POST /metrics HTTP/1.1\r\n\r\n"[..], "HTTP/1.1 405 "),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
        (b"\r\n\r\n", "HTTP/1.1 405 "),
        (b"\xff\0\xfe\r\n\r\n", "HTTP/1.1 405 "),
        (&[b'x'; 100_000], ""),
    ] {
        let reply = http(address, request).expect("connected");
        assert!(reply.starts_with(begins) && (!begins.is_empty() || reply.is_empty()), "{reply}");
    }
    assert!(http(address, get).is_some_and(|reply| good(&reply)));
    // Off, and on again.
    let on = std::fs::read_to_string(&daemon.config).expect("settings");
    std::fs::write(&daemon.config, on.replace(&asked, "")).expect("written");
    daemon.signal("-HUP");
    daemon::eventually("no port", || http(address, get).is_none().then_some(()));
    std::fs::write(&daemon.config, on).expect("written");
    daemon.signal("-HUP");
    daemon::eventually("a port", || http(address, get).filter(|reply| good(reply)));
}

#[test]
fn without_being_asked_it_listens_on_no_network_and_elsewhere_it_refuses() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).expect("it runs");
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let sockets: Vec<String> = links
        .filter_map(|link| {
            Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').into())
        })
        .collect();
    assert!(!sockets.is_empty());
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let table = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        let inodes = table.lines().filter_map(|line| line.split_whitespace().nth(9));
        assert_eq!(inodes.filter(|inode| sockets.iter().any(|own| own == inode)).count(), 0);
    }
    for address in ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "localhost:9464", "9464"] {
        let config = daemon.dir.path().join("other.toml");
        std::fs::write(&config, format!("[daemon]\nmetrics = \"{address}\"\n")).expect("written");
        let output = run(daemon.client().env("PLACER_CONFIG", &config).arg("daemon"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains("an address of this machine") && said.contains(":2:"), "{said}");
    }
}

/// Where a part of this test program finds the socket.
const SOCKET: &str = "PLACER_TEST_SOCKET";

#[test]
#[ignore = "the part of another test that runs in a pid namespace of its own"]
fn in_another_pid_namespace() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let mut stream = UnixStream::connect(path).expect("it answers");
    let claim = |stream: &mut UnixStream, pid: u32| {
        call(stream, CLAIM, json!({"request": request(1, 1), "pid": pid}))
    };
    // Its own number here, which is init's outside; and one that is somebody's outside.
    let outside: u32 = std::env::var("PLACER_TEST_PID").expect("set").parse().expect("a pid");
    for pid in [std::process::id(), outside] {
        let refused = claim(&mut stream, pid);
        assert_eq!(refused["error"], "org.placer.Daemon.NotAllowed", "{pid}: {refused}");
    }
    let own = claim(&mut stream, 0);
    let guests = call(&mut stream, "org.placer.Daemon.Guests", json!({}));
    let guests = guests["parameters"]["claims"].as_array().expect("a list").iter();
    // Machines that run here anyway are listed as well.
    let guests: Vec<&Value> = guests.filter(|guest| guest["origin"] == "asked").collect();
    assert_eq!(guests.len(), 1);
    assert_eq!(guests[0]["id"], own["parameters"]["claim"]);
    println!("claimed-for={}", guests[0]["pid"]);
}

#[needs(pid_namespaces)]
#[test]
fn in_another_pid_namespace_one_claims_for_oneself_alone() {
    let daemon = Daemon::start(None, "");
    let child = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", "hardships::in_another_pid_namespace", "--ignored", "--nocapture"])
        .env(SOCKET, daemon.dir.path().join("placer.sock"))
        .env("PLACER_TEST_PID", std::process::id().to_string())
        .output()
        .expect("it starts");
    let said = text(&child.stdout);
    assert!(child.status.success(), "{said}{}", text(&child.stderr));
    let pid = said.lines().find_map(|line| line.split_once("claimed-for=")?.1.parse::<u32>().ok());
    let pid = pid.expect("a pid");
    assert!(pid > 1 && pid != std::process::id(), "{pid}");
}
