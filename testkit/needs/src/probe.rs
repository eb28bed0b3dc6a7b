//! What tests can need, and whether this machine has it.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_long, c_void};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Something a machine has or lacks.
pub(crate) struct Need {
    /// Its name in `#[needs(...)]`.
    pub(crate) name: &'static str,
    /// Its name in the reason why a test is ignored.
    pub(crate) what: &'static str,
    kind: Kind,
}

enum Kind {
    /// One of these programs is on `PATH`.
    Program(&'static [&'static str]),
    /// This file is there, which a package brings.
    File(&'static str),
    /// This command, with these arguments, ends with 0: a right this user has.
    Right(&'static [&'static str]),
    /// Any other right.
    RightBy(fn() -> bool),
    /// Any other thing `ci/deps test` installs.
    InstalledBy(fn() -> bool),
    /// A kernel of the processor that the test is compiled for, which emulation (qemu-user) does not have.
    OwnKernel,
    /// What this command has fetched, as its exit status says: 0 it is there, 3 this machine cannot have it,
    /// for the reason on stderr.
    FetchedBy(&'static [&'static str]),
}

use Kind::{FetchedBy, File, InstalledBy, OwnKernel, Program, Right, RightBy};

/// What a probe has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Here,
    Missing,
    /// Missing, and nothing that could be installed changes that.
    CannotBeHad(String),
}

const fn need(name: &'static str, what: &'static str, kind: Kind) -> Need {
    Need { name, what, kind }
}

const CHROMIUM: &[&str] =
    &["chromium", "chromium-browser", "google-chrome", "chrome-headless-shell"];

/// The script that fetches that version.
const NUMAD_2025: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ci/numad-2025");

/// All needs, sorted by name.
pub(crate) static NEEDS: &[Need] = &[
    need("bash", "bash", Program(&["bash"])),
    need("busybox", "a static busybox", InstalledBy(static_busybox)),
    need("cc", "cc", Program(&["cc"])),
    need("chromium", "chromium", Program(CHROMIUM)),
    need("cxx", "c++", Program(&["c++"])),
    need("dpkg_shlibdeps", "dpkg-shlibdeps", Program(&["dpkg-shlibdeps"])),
    need("fish", "fish", Program(&["fish"])),
    need("gccgo", "gccgo", Program(&["gccgo"])),
    need("groff", "groff", Program(&["groff"])),
    need("init_lxc_static", "init.lxc.static", File("/usr/sbin/init.lxc.static")),
    need(
        "ipc_namespaces",
        "the right to make mount and IPC namespaces",
        RightBy(|| {
            succeeds(&["unshare", "--mount", "--ipc", "true"])
                || succeeds(&["unshare", "--user", "--mount", "--ipc", "true"])
        }),
    ),
    need("jq", "jq", Program(&["jq"])),
    need("libvirt_schemas", "libvirt's schemas", File("/usr/share/libvirt/schemas/domain.rng")),
    need("lxc_execute", "lxc-execute", Program(&["lxc-execute"])),
    need(
        "namespaces",
        "the right to make mount, IPC and PID namespaces",
        Right(&["unshare", "--mount", "--ipc", "--pid", "--fork", "--mount-proc", "true"]),
    ),
    need("numactl", "numactl", Program(&["numactl"])),
    need("numad", "numad", Program(&["numad"])),
    need("numad_2025", "numad 20251104", FetchedBy(&[NUMAD_2025, "--root"])),
    need("own_kernel", "a kernel of its own processor, not emulation", OwnKernel),
    need(
        "pid_namespaces",
        "the right to make PID namespaces",
        Right(&["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "true"]),
    ),
    need(
        "private_mounts",
        "the right to make private mounts",
        Right(&["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]),
    ),
    need("ptrace", "the right to trace a child", RightBy(may_trace)),
    need("python3", "python3", Program(&["python3"])),
    need(
        "python_packages",
        "Python's packages varlink, setuptools and wheel",
        InstalledBy(python_packages),
    ),
    need("qemu", "qemu-system-x86_64", Program(&["qemu-system-x86_64"])),
    need("root", "root", RightBy(is_root)),
    need(
        "sanitizers",
        "cc with the address and undefined-behaviour sanitizers",
        InstalledBy(sanitizers),
    ),
    need("setpriv", "setpriv", Program(&["setpriv"])),
    need("systemd_analyze", "systemd-analyze", Program(&["systemd-analyze"])),
    need("taskset", "taskset", Program(&["taskset"])),
    need("timeout", "timeout", Program(&["timeout"])),
    need("tmux", "tmux", Program(&["tmux"])),
    need("unshare", "unshare", Program(&["unshare"])),
    need(
        "user_mounts",
        "the right to mount in a user namespace",
        Right(&["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]),
    ),
    need("valgrind", "valgrind", Program(&["valgrind"])),
    need("virsh", "virsh", Program(&["virsh"])),
    need("xmllint", "xmllint", Program(&["xmllint"])),
    need("zsh", "zsh", Program(&["zsh"])),
];

impl Need {
    /// Whether `ci/deps test` installs it.
    pub(crate) fn is_installed(&self) -> bool {
        matches!(self.kind, Program(_) | File(_) | InstalledBy(_) | FetchedBy(_))
    }

    /// Whether there are machines that cannot have it.
    pub(crate) fn is_not_for_all(&self) -> bool {
        matches!(self.kind, FetchedBy(_))
    }

    /// Whether it is there for programs of this machine's processor, and for no others.
    pub(crate) fn is_for_own_processor(&self) -> bool {
        matches!(self.kind, OwnKernel)
    }

    fn probe(&self) -> Found {
        let is_here = match self.kind {
            Program(names) => names.iter().any(|name| is_on_path(name)),
            File(path) => Path::new(path).is_file(),
            Right(command) => succeeds(command),
            RightBy(probe) | InstalledBy(probe) => probe(),
            FetchedBy(command) => return fetched(command),
            // Of the compiler, which runs here.
            OwnKernel => true,
        };
        if is_here { Found::Here } else { Found::Missing }
    }
}

/// Whether this machine has it: probed once in a process of the compiler.
pub(crate) fn find(need: &'static Need) -> Found {
    static FOUND: Mutex<BTreeMap<&str, Found>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.entry(need.name).or_insert_with(|| need.probe()).clone()
}

fn fetched(command: &[&str]) -> Found {
    let Some((program, words)) = command.split_first() else { return Found::Missing };
    let Ok(output) = Command::new(program).args(words).stdin(Stdio::null()).output() else {
        return Found::Missing;
    };
    match output.status.code() {
        Some(0) => Found::Here,
        Some(3) => Found::CannotBeHad(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        _ => Found::Missing,
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| {
        let found = fs::metadata(dir.join(program));
        found.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

fn succeeds(command: &[&str]) -> bool {
    let mut words = command.iter();
    let Some(program) = words.next() else { return false };
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A program without an interpreter, as the C library's dynamic linker sees it.
fn static_busybox() -> bool {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .any(|path| Path::new(path).is_file() && !succeeds(&["ldd", path]))
}

/// Their libraries come with gcc, or in packages of their own.
fn sanitizers() -> bool {
    let library = |name: &str| {
        let found = Command::new("cc").arg(format!("-print-file-name={name}")).output();
        // The bare name where there is none.
        found.is_ok_and(|found| found.stdout.starts_with(b"/"))
    };
    library("libasan.so") && library("libubsan.so")
}

/// The environment that `ci/deps test` makes.
fn python_packages() -> bool {
    let home = std::env::var("HOME").unwrap_or_default();
    let python = format!("{home}/.cache/placer-tools/python/bin/python");
    succeeds(&[&python, "-c", "import varlink, setuptools, wheel"])
}

unsafe extern "C" {
    fn ptrace(request: c_int, pid: c_int, address: *mut c_void, data: *mut c_void) -> c_long;
}

fn may_trace() -> bool {
    /// Source: linux/ptrace.h.
    const SEIZE: c_int = 0x4206;
    let Ok(mut child) = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
    else {
        return false;
    };
    let none = std::ptr::null_mut();
    let seized = c_int::try_from(child.id()).is_ok_and(|pid| {
        // SAFETY: PTRACE_SEIZE reads no memory. The child is not reaped yet, so the pid is its own.
        unsafe { ptrace(SEIZE, pid, none, none) == 0 }
    });
    let _ = child.kill();
    let _ = child.wait();
    seized
}
