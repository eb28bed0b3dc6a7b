//! Conversations with a busctl that does as it is told.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use needs::needs;

/// For what ends by itself, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);
/// For what does not.
const SHORT: Duration = Duration::from_millis(300);

fn step(busctl: PathBuf, limit: Duration) -> ScopeStep {
    ScopeStep {
        unit: "placer-g-7.scope".to_owned(),
        description: "placer: guest g".to_owned(),
        slice: Some("machine.slice".to_owned()),
        cpus: [0, 1, 65].into_iter().map(placer_engine::CpuId).collect(),
        nodes: [placer_engine::NodeId(2)].into_iter().collect(),
        inner: false,
        busctl,
        system: true,
        mount: PathBuf::from("/sys/fs/cgroup"),
        limit,
    }
}

/// A busctl that is such a script.
fn busctl(dir: &Path, script: &str) -> PathBuf {
    let program = dir.join("busctl");
    let draft = dir.join("draft");
    std::fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
    // Copied by another process, for no fork of this one to keep it open for writing.
    assert!(Command::new("cp").args([&draft, &program]).status().unwrap().success());
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn outcome(script: &str, limit: Duration, stopped: Option<Signal>) -> (Errno, String) {
    let dir = tempfile::tempdir().unwrap();
    let step = step(busctl(dir.path(), script), limit);
    let begun = Instant::now();
    let error = make(&step, std::process::id(), &|| stopped).unwrap_err();
    assert!(begun.elapsed() < limit + LONG, "it was not given up in time");
    let text = error.to_string();
    let text = text.strip_prefix("cannot make the systemd scope placer-g-7.scope: ");
    (error.errno(), text.unwrap_or_else(|| panic!("{error}")).to_owned())
}

#[test]
fn what_systemd_is_asked_is_what_was_planned() {
    let words = transient(&step(PathBuf::new(), LONG), 4242).join(" ");
    assert_eq!(
        words,
        "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager \
         StartTransientUnit ssa(sv)a(sa(sv)) placer-g-7.scope fail 7 Description s placer: guest g \
         PIDs au 1 4242 Delegate b true CollectMode s inactive-or-failed Slice s machine.slice \
         AllowedCPUs ay 16 3 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0 AllowedMemoryNodes ay 8 4 0 0 0 0 0 0 0 0"
    );
}

#[test]
fn what_systemd_can_do_is_told_in_time() {
    const AGAIN: &str = "processes of an earlier guest of this name run there: systemctl stop ends \
                         them; start this one again to get another name";
    let refused = |said: &str| format!("echo '{said}' >&2; exit 1");
    for (said, hint) in [
        ("Call failed: Unit placer-g-7.scope already exists.", AGAIN),
        (
            "Call failed: Cannot set property AllowedCPUs, or unknown property.",
            "AllowedCPUs and AllowedMemoryNodes need systemd 244",
        ),
        ("Call failed: Access denied", "only root may create scopes of the system"),
        (
            "Failed to connect to bus: No such file or directory",
            "is D-Bus running? --cgroup none needs no systemd",
        ),
    ] {
        let (errno, text) = outcome(&refused(said), LONG, None);
        assert_eq!((errno, text), (Errno::EIO, format!("\"{said}\" ({hint})")));
    }
    let job = "case $* in *call*) echo 'o \"/job/1\"';; *) STATE;; esac";
    for (script, errno, wanted) in [
        // It made one without the guest, or the job has failed.
        (job.replace("STATE", "exit 1"), Errno::ESRCH, "systemd left the guest in /"),
        // It never ends the job; it never answers.
        (job.replace("STATE", "echo running"), Errno::ETIMEDOUT, "no answer within 0.3 s"),
        ("exec sleep 600".to_owned(), Errno::ETIMEDOUT, "no answer within 0.3 s"),
        // It talks without end.
        ("exec yes".to_owned(), Errno::ETIMEDOUT, "no answer within 0.3 s"),
    ] {
        let limit = if errno == Errno::ETIMEDOUT { SHORT } else { LONG };
        let (found, text) = outcome(&script, limit, None);
        assert!(found == errno && text.starts_with(wanted), "{script}: {text}");
    }
    let stopped = outcome("exec sleep 600", LONG, Some(Signal::SIGTERM));
    assert_eq!(stopped, (Errno::EINTR, "SIGTERM came before".to_owned()));
}

#[needs(own_kernel)]
#[test]
fn a_busctl_that_is_not_there_is_told() {
    let error = make(&step(PathBuf::from("/no/busctl"), LONG), 1, &|| None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot make the systemd scope placer-g-7.scope: run /no/busctl: No such file or directory \
         (busctl is part of systemd; --cgroup none needs no systemd)"
    );
}

#[test]
fn a_scope_that_is_held_otherwise_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = |inner| {
        let step = ScopeStep { inner, ..step(PathBuf::new(), LONG) };
        let held = hold(&step, dir.path());
        let entered = |()| if inner { enter_inner(&step, dir.path(), 1) } else { Ok(()) };
        held.and_then(entered).map_err(|error| {
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
