//! Conversations with a bus that is made up.

use std::io::Write;
use std::time::Duration;

use super::*;
use testkit::bus::{Bus as MadeUp, OK, Turn, error, job, message, removed, removed_by, say};

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
        limit: LONG,
    }
}

/// For who never answers.
const SHORT: Duration = Duration::from_millis(300);
/// For who does, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

fn outcome(greeting: &'static [u8], turn: Turn, limit: Duration) -> String {
    let bus = MadeUp::new(greeting, turn);
    let step = ScopeStep { limit, ..step(bus.path()) };
    let begun = std::time::Instant::now();
    let made = start(&step, 4242);
    assert!(begun.elapsed() < limit + LONG, "it was not given up in time");
    let told = match &made {
        Ok(()) => "made".to_owned(),
        Err(error) => refused(&step, error).to_string(),
    };
    bus.heard();
    told.replace(&step.bus.display().to_string(), "BUS")
        .replace("cannot make the systemd scope placer-g-7.scope over BUS: ", "")
}

#[test]
fn a_scope_is_made_when_its_own_job_is_done() {
    let turns: [Turn; 4] = [
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
            say(stream, &message(4, &[(3, "NameAcquired")], 0, Vec::new()));
            removed(stream, "/job/11", "failed");
            removed(stream, "/job/1", "done");
        },
        // Others may tell the same.
        |stream| {
            removed_by(stream, &[(7, ":1.66")], "/job/1", "failed");
            job(stream);
            removed_by(stream, &[(7, ":1.66")], "/job/1", "canceled");
            removed(stream, "/job/1", "done");
        },
    ];
    for turn in turns {
        assert_eq!(outcome(OK, turn, LONG), "made");
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
            "systemd says \"Unit x already exists.\" (processes of an earlier guest of this name \
             run there: systemctl stop ends them; start this one again to get another name)",
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
            "systemd says \"denied\\n\\u{1b}[2J\" (only root may create scopes of the system; a \
             user's own systemd is reached over the user's bus)",
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
        (OK, |_| {}, "no answer within 0.3 s (systemd or the host does not respond)"),
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
            "no answer within 0.3 s (systemd or the host does not respond)",
        ),
        (b"REJECTED EXTERNAL\r\n", |_| {}, "the bus refuses this user: \"REJECTED EXTERNAL\""),
    ];
    for (greeting, turn, wanted) in rows {
        let limit = if wanted.starts_with("no answer") { SHORT } else { LONG };
        assert_eq!(outcome(greeting, turn, limit), wanted);
    }
}

#[test]
fn a_bus_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |bus: PathBuf| refused(&step(bus.clone()), &start(&step(bus), 1).unwrap_err());
    let error = told(dir.path().join("none"));
    assert_eq!(error.errno(), Errno::ENOENT);
    assert!(error.to_string().ends_with(
        "no process answers there: No such file or directory (is D-Bus running? --cgroup none \
         needs no \
         systemd)"
    ));
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(told(dir.path().join("file")).errno(), Errno::ECONNREFUSED);
    assert_eq!(told(PathBuf::from("/".repeat(200))).errno(), Errno::ENAMETOOLONG);
}

#[test]
fn a_scope_without_the_guest_in_it_is_no_success() {
    let bus = MadeUp::new(OK, |stream| {
        job(stream);
        removed(stream, "/job/1", "done");
    });
    let error = make(&step(bus.path()), std::process::id()).unwrap_err();
    assert!(error.to_string().starts_with(
        "cannot make the systemd scope placer-g-7.scope: systemd created it and left the guest in /"
    ), "{error}");
    // What was asked for, as systemd reads it.
    let call = bus.heard().pop().unwrap();
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

#[test]
fn a_scope_that_is_held_otherwise_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = |inner| {
        let step = ScopeStep { inner, ..step(PathBuf::new()) };
        hold(&step, dir.path(), 1).map_err(|error| {
            let text = error.to_string().replace(&dir.path().display().to_string(), "DIR");
            (error.errno(), text)
        })
    };
    let put = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
    let told = |errno, text: &str| Err((errno, text.to_owned()));
    assert_eq!(
        outcome(false),
        told(
            Errno::ENOENT,
            "cannot hold the systemd scope placer-g-7.scope to cpuset.cpus 0-1,65: this systemd \
             has \
             no cpusets to give (root can delegate them: Delegate=cpuset in user@.service)"
        )
    );
    std::fs::create_dir(dir.path().join("cpuset.cpus.effective")).unwrap();
    assert_eq!(
        outcome(false),
        told(
            Errno::EISDIR,
            "cannot use the systemd scope placer-g-7.scope: DIR/cpuset.cpus.effective: Is a \
             directory"
        )
    );
    std::fs::remove_dir(dir.path().join("cpuset.cpus.effective")).unwrap();
    put("cpuset.cpus.effective", "0-1,65\n");
    put("cpuset.mems.effective", "1\n");
    assert_eq!(
        outcome(false),
        told(
            Errno::ERANGE,
            "cannot hold the systemd scope placer-g-7.scope to cpuset.mems 2: the groups around it \
             allow only \"1\" of these"
        )
    );
    put("cpuset.mems.effective", "2\n");
    assert_eq!(outcome(false), Ok(()));
    put("lxc", "");
    assert_eq!(
        outcome(true),
        told(Errno::EEXIST, "cannot use the systemd scope placer-g-7.scope: DIR/lxc: File exists")
    );
}
