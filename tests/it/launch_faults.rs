//! Launches through libvirt in which a system call fails: a guest that libvirt alone would have started is started.
//! virsh is a script that starts a process where the definition says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use needs::needs;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::filter::with_fault;

use crate::common::{placer, run, text};

/// Calls that placer makes for claims, bindings, signals and files. Without listing directories it knows no nodes.
const CALLS: &[libc::c_long] = &[
    libc::SYS_set_mempolicy,
    libc::SYS_get_mempolicy,
    libc::SYS_mbind,
    libc::SYS_move_pages,
    libc::SYS_pidfd_open,
    libc::SYS_memfd_create,
    libc::SYS_signalfd4,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_mkdirat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_getxattr,
    libc::SYS_fgetxattr,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_close_range,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_utimensat,
    libc::SYS_lseek,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_umask,
    libc::SYS_faccessat2,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_sched_getscheduler,
    libc::SYS_inotify_init1,
];
const ERRORS: [Errno; 4] = [Errno::EPERM, Errno::ENOSYS, Errno::EIO, Errno::ENOSPC];

const VIRSH: &str = r#"#!/bin/sh
run=$XDG_RUNTIME_DIR/libvirt/qemu/run
case " $* " in
*" create "*)
    cpus=$(sed -n "s/.*<vcpu[^>]*cpuset='\([^']*\)'.*/\1/p" /dev/stdin)
    taskset -c "$cpus" sleep 1000 </dev/null >/dev/null 2>&1 &
    until [ "$(cat /proc/$!/comm)" = sleep ]; do kill -0 $! || exit 1; done
    echo $! >"$run/web.pid"
    ;;
*" resume "*) echo resumed >>"$XDG_RUNTIME_DIR/log" ;;
*" destroy "*) echo destroyed >>"$XDG_RUNTIME_DIR/log" ;;
esac
"#;

/// Ends the guest. Returns whether it was let run.
fn ended(dir: &Path) -> bool {
    let pid = dir.join("libvirt/qemu/run/web.pid");
    if let Some(pid) = fs::read_to_string(&pid).ok().and_then(|pid| pid.trim().parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = fs::remove_file(pid);
    let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
    let _ = fs::remove_file(dir.join("log"));
    log == "resumed\n"
}

/// Starts a guest under each of these faults. Returns how many of them libvirt alone has started too.
fn start(faults: impl Iterator<Item = (libc::c_long, Errno)>) -> usize {
    let tmp = tempfile::tempdir().expect("a directory");
    let dir = tmp.path();
    fs::create_dir_all(dir.join("libvirt/qemu/run")).expect("a directory");
    fs::write(dir.join("virsh"), VIRSH).expect("a script");
    fs::set_permissions(dir.join("virsh"), fs::Permissions::from_mode(0o755)).expect("a program");
    let file = dir.join("web.xml");
    let domain = "<domain type='kvm'><name>web</name><memory unit='MiB'>10</memory>\n<vcpu cpuset='0'>1</vcpu></domain>";
    fs::write(&file, domain).expect("a definition");
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    let under = |command: &mut Command| {
        command
            .env("XDG_RUNTIME_DIR", dir)
            .env("PATH", &path)
            .env("PLACER_STATE_DIR", dir.join("state"));
        run(command)
    };
    let mut both = 0;
    for (call, errno) in faults {
        with_fault(call, errno, || {
            let mut virsh = Command::new(dir.join("virsh"));
            virsh.args(["create", "--paused", "/dev/stdin"]);
            virsh.stdin(Stdio::from(fs::File::open(&file).expect("the definition")));
            let alone = under(&mut virsh).status.success();
            ended(dir);
            if !alone {
                return;
            }
            both += 1;
            let args = ["launch", "--window", "0", "--connect", "qemu:///session"];
            let output = under(placer().args(args).arg(&file));
            let said = text(&output.stderr);
            assert!(
                output.status.success() && ended(dir),
                "call {call} fails with {errno}: {said}"
            );
        });
    }
    both
}

fn faults() -> impl Iterator<Item = (libc::c_long, Errno)> {
    CALLS.iter().flat_map(|&call| ERRORS.map(|errno| (call, errno)))
}

#[needs(taskset)]
#[test]
fn a_start_under_faults_is_one_that_libvirt_alone_would_have_made() {
    if testkit::filter::skipped() {
        return;
    }
    // Another error with each call.
    let started = start(faults().step_by(9));
    assert!(started >= 15, "{started} of 23");
}

#[needs(taskset)]
#[test]
#[ignore = "200 starts: make test-launches"]
fn two_hundred_starts_under_faults() {
    if testkit::filter::skipped() {
        return;
    }
    let started = start(faults());
    println!(
        "{started} of {} faults leave libvirt a start, and placer made each",
        faults().count()
    );
    assert!(faults().count() == 200 && started >= 150, "{started}");
}
