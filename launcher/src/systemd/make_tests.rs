//! Conversations with a bus that is made up.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use super::super::wire::{self, tests::message};
use super::*;

/// What the bus does when it is asked to make the scope; the call before that are answered.
type Turn = fn(&mut UnixStream);

/// A bus in a directory that takes one client. Returns what it heard in its last call.
fn bus(greeting: &'static [u8], turn: Turn) -> (tempfile::TempDir, ScopeStep, JoinHandle<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus");
    let listener = UnixListener::bind(&path).unwrap();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).unwrap();
        let uid = nix::unistd::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(line, format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes());
        stream.write_all(greeting).unwrap();
        let mut begin = [0; 7];
        if reader.read_exact(&mut begin).is_err() {
            return Vec::new();
        }
        assert_eq!(&begin, b"BEGIN\r\n");
        let mut last = Vec::new();
        for serial in 1..=3 {
            let mut prologue = [0; wire::PROLOGUE];
            if reader.read_exact(&mut prologue).is_err() {
                break;
            }
            last = prologue.to_vec();
            last.resize(wire::size(&prologue).unwrap(), 0);
            reader.read_exact(&mut last[wire::PROLOGUE..]).unwrap();
            match serial {
                3 => turn(&mut stream),
                _ => stream.write_all(&message(2, &[], serial, Vec::new())).unwrap(),
            }
        }
        // Until the client has gone.
        let _ = reader.read_to_end(&mut Vec::new());
        last
    });
    let step = step(path);
    (dir, step, heard)
}

fn step(bus: PathBuf) -> ScopeStep {
    ScopeStep {
        unit: "placer-g-7.scope".to_owned(),
        description: "placer: guest g".to_owned(),
        slice: Some("machine.slice".to_owned()),
        cpus: [0, 1, 65].into_iter().map(placer_engine::CpuId).collect(),
        nodes: [placer_engine::NodeId(2)].into_iter().collect(),
        inner: false,
        bus,
        mount: PathBuf::from("/sys/fs/cgroup"),
    }
}

fn say(stream: &mut UnixStream, bytes: &[u8]) {
    // The client may have given up.
    let _ = stream.write_all(bytes);
}

fn body(texts: &[&str]) -> Vec<u8> {
    let mut body = Writer::default();
    texts.iter().for_each(|text| body.text(text));
    body.end()
}

fn removed(stream: &mut UnixStream, job: &str, result: &str) {
    let mut body = Writer::default();
    body.number(1);
    [job, "placer-g-7.scope", result].iter().for_each(|text| body.text(text));
    say(stream, &message(4, &[(3, "JobRemoved"), (8, "uoss")], 0, body.end()));
}

fn job(stream: &mut UnixStream) {
    say(stream, &message(2, &[(8, "o")], 3, body(&["/job/1"])));
}

fn error(stream: &mut UnixStream, name: &str, words: &str) {
    say(stream, &message(3, &[(4, name), (8, "s")], 3, body(&[words])));
}

const OK: &[u8] = b"OK 0123456789abcdef0123456789abcdef\r\n";
const SHORT: Duration = Duration::from_millis(300);

fn outcome(greeting: &'static [u8], turn: Turn) -> String {
    let (_dir, step, heard) = bus(greeting, turn);
    let begun = std::time::Instant::now();
    let made = start(&step, 4242, SHORT);
    assert!(begun.elapsed() < SHORT * 20, "it was not given up in time");
    let told = match &made {
        Ok(()) => "made".to_owned(),
        Err(error) => refused(&step, error).to_string(),
    };
    heard.join().unwrap();
    told.replace(&step.bus.display().to_string(), "BUS")
        .replace("cannot make the systemd scope placer-g-7.scope over BUS: ", "")
}

#[test]
fn a_scope_is_made_when_its_own_job_is_done() {
    let turns: [Turn; 3] = [
        |stream| {
            job(stream);
            removed(stream, "/job/1", "done");
        },
        // Told before it is answered.
        |stream| {
            removed(stream, "/job/1", "done");
            job(stream);
        },
        // Others end too, and other things are told.
        |stream| {
            removed(stream, "/job/2", "failed");
            job(stream);
            say(stream, &message(4, &[(3, "NameAcquired"), (8, "s")], 0, body(&[":1.7"])));
            removed(stream, "/job/11", "failed");
            removed(stream, "/job/1", "done");
        },
    ];
    for turn in turns {
        assert_eq!(outcome(OK, turn), "made");
    }
}

#[test]
fn what_a_bus_can_do_is_told_in_time() {
    let rows: [(&'static [u8], Turn, &str); 13] = [
        (
            OK,
            |s| {
                job(s);
                removed(s, "/job/1", "timeout");
            },
            "systemd says that its job ended as \"timeout\"",
        ),
        (
            OK,
            |s| error(s, "org.freedesktop.systemd1.UnitExists", "Unit x already exists."),
            "systemd says \"Unit x already exists.\" (what a guest of this name left behind runs \
             there: systemctl stop ends it)",
        ),
        (
            OK,
            |s| {
                error(
                    s,
                    "org.freedesktop.DBus.Error.PropertyReadOnly",
                    "Cannot set property AllowedCPUs, or unknown property.",
                );
            },
            "systemd says \"Cannot set property AllowedCPUs, or unknown property.\" (AllowedCPUs \
             and AllowedMemoryNodes need systemd 244)",
        ),
        (
            OK,
            |s| error(s, "org.freedesktop.DBus.Error.ServiceUnknown", "no such name"),
            "systemd says \"no such name\" (systemd is not on this bus)",
        ),
        (
            OK,
            |s| error(s, "org.freedesktop.DBus.Error.AccessDenied", "denied\n\u{1b}[2J"),
            "systemd says \"denied\\n\\u{1b}[2J\" (root's scopes are root's to make; a user's own \
             systemd is asked over its bus)",
        ),
        (OK, |s| say(s, &message(3, &[(4, "a.b")], 3, Vec::new())), "a.b"),
        (
            OK,
            |s| say(s, &message(2, &[], 3, Vec::new())),
            "expected the name of a job, found something else",
        ),
        (
            OK,
            |s| {
                let _ = s.shutdown(std::net::Shutdown::Both);
            },
            "the bus closed the connection",
        ),
        (OK, |_| {}, "no answer within 0.3 s (systemd hangs, or its host does)"),
        (
            OK,
            |s| say(s, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "expected a message of D-Bus, found something else",
        ),
        (
            OK,
            |s| {
                let mut long = message(2, &[], 3, Vec::new());
                long[7] = 0x7f;
                say(s, &long);
            },
            "expected a message of at most 1 MiB, found something else",
        ),
        (
            OK,
            |s| while s.write_all(&message(4, &[(3, "Chatter")], 0, Vec::new())).is_ok() {},
            "no answer within 0.3 s (systemd hangs, or its host does)",
        ),
        (b"REJECTED EXTERNAL\r\n", |_| {}, "the bus refuses this user: \"REJECTED EXTERNAL\""),
    ];
    for (greeting, turn, wanted) in rows {
        assert_eq!(outcome(greeting, turn), wanted);
    }
}

#[test]
fn a_bus_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told =
        |bus: PathBuf| refused(&step(bus.clone()), &start(&step(bus), 1, SHORT).unwrap_err());
    let error = told(dir.path().join("none"));
    assert_eq!(error.errno(), Errno::ENOENT);
    assert!(error.to_string().ends_with(
        "nobody answers there: No such file or directory (is D-Bus running? --cgroup none needs no \
         systemd)"
    ));
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(told(dir.path().join("file")).errno(), Errno::ECONNREFUSED);
    assert_eq!(told(PathBuf::from("/".repeat(200))).errno(), Errno::ENAMETOOLONG);
}

#[test]
fn a_scope_without_the_guest_in_it_is_no_success() {
    let (_dir, step, heard) = bus(OK, |stream| {
        job(stream);
        removed(stream, "/job/1", "done");
    });
    let error = make_within(&step, std::process::id(), SHORT).unwrap_err();
    assert!(error.to_string().starts_with(
        "cannot make the systemd scope placer-g-7.scope: systemd made it, and left the guest in /"
    ), "{error}");
    // What was asked for, as systemd reads it.
    let call = heard.join().unwrap();
    let text = String::from_utf8_lossy(&call);
    for (name, kind) in [
        ("Description", "s"),
        ("PIDs", "au"),
        ("Delegate", "b"),
        ("CollectMode", "s"),
        ("Slice", "s"),
        ("AllowedCPUs", "ay"),
        ("AllowedMemoryNodes", "ay"),
    ] {
        let sent = format!("{name}\0{}{kind}\0", char::from(u8::try_from(kind.len()).unwrap()));
        assert!(text.contains(&sent), "{name}: {text:?}");
    }
    // Bit 65 is bit 1 of the ninth byte.
    let cpus = [16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2];
    assert!(call.windows(cpus.len()).any(|bytes| bytes == cpus), "{call:?}");
}
