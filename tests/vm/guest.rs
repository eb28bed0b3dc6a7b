//! What tests on booted kernels have in common: whether guests can be had, what goes into them, what
//! they said.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a test found out: nothing to say, or what went wrong.
pub(crate) type Verdict = Result<(), String>;

/// Passes with the reason printed, or fails with it where a guest is a must.
pub(crate) fn unavailable(reason: &str) -> Verdict {
    if env::var_os("PLACER_REQUIRE_VM").is_some_and(|value| value == "1")
        && cfg!(target_arch = "x86_64")
    {
        return Err(format!("no virtual machine: {reason}"));
    }
    left_out(reason)
}

/// The same for a part of a test, which is a must only where everything is.
pub(crate) fn left_out(reason: &str) -> Verdict {
    if env::var_os("PLACER_REQUIRE").is_some_and(|value| value == "all")
        && cfg!(target_arch = "x86_64")
    {
        return Err(format!("PLACER_REQUIRE=all: {reason}"));
    }
    eprintln!("left out: {reason}");
    Ok(())
}

/// Says why guests cannot be booted here, if so.
pub(crate) fn vm_ready() -> Result<(), String> {
    let output = numa_vm()
        .arg("--ready")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run tests/vm/numa-vm (python3?): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// The root image of guests that need systemd or libvirt (`root`, `virt`), or container engines (`fleet`), or
/// why there is none: `ci/deps test` makes the first, `make test-domains` and `make test-fleet` the others.
pub(crate) fn root_image(kind: &str) -> Result<PathBuf, String> {
    let output = Command::new(script("root-image"))
        .args([kind, "--ready"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run tests/vm/root-image: {error}"))?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "" => Err(format!("no root image: tests/vm/root-image {kind} makes one")),
        path => Ok(PathBuf::from(path)),
    }
}

/// Returns a guest of four nodes with two CPUs each, run by systemd from a root image, that has what `make deb` has made
/// as /srv/placer.deb, and a script; or why there is none.
pub(crate) fn with_package(kind: &str, memory: &str, what: &str) -> Result<Command, String> {
    vm_ready()?;
    let image = root_image(kind)?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/placer.deb");
    if !package.is_file() {
        return Err("no target/placer.deb: make deb".to_owned());
    }
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", memory]);
    guest.args(["--module", "fuse", "--root"]).arg("--disk").arg(image);
    put(&mut guest, &package, "/srv/placer.deb");
    put(&mut guest, &script(what), &format!("/usr/bin/{what}-host"));
    put(&mut guest, &script("steps.py"), "/usr/bin/steps.py");
    Ok(guest)
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm").join(name)
}

pub(crate) fn numa_vm() -> Command {
    Command::new(script("numa-vm"))
}

/// Adds a file of this machine to the guest, with the libraries it needs.
pub(crate) fn put(guest: &mut Command, host: &Path, path_in_guest: &str) {
    let mut both = OsString::from(host);
    both.push(":");
    both.push(path_in_guest);
    guest.arg("--file").arg(both);
}

/// Runs a guest to its end. One whose kernel met a half-written instruction is started again, at
/// most twice: Linux patches its own code while it runs, and QEMU without KVM can show another
/// virtual CPU the breakpoint that the patch begins with when the handler no longer expects it.
pub(crate) fn run(guest: &mut Command) -> Result<Output, String> {
    let mut starts = 3;
    loop {
        let output = guest.stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("cannot run {guest:?}: {error}"))?;
        starts -= 1;
        let patched = [&output.stdout, &output.stderr]
            .into_iter()
            .any(|text| String::from_utf8_lossy(text).contains("int3: 0000 [#"));
        if starts == 0 || !patched || output.status.code() != Some(125) {
            return Ok(output);
        }
        eprintln!("the guest's kernel ended in a half-written instruction: starting it again");
    }
}

/// Both outputs of a guest as one text, printed as well: the test's own words stay short.
pub(crate) fn report(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    eprint!("{text}");
    text
}

/// Runs a guest whose command prints a line "ok ..." for each of so many steps, and "NOT OK ..." for
/// one that failed.
pub(crate) fn steps(guest: &mut Command, name: &str, wanted: usize) -> Verdict {
    let output = run(guest)?;
    let text = report(&output);
    let ok = text.lines().filter(|line| line.starts_with("ok ")).count();
    if output.status.success() && ok == wanted {
        return Ok(());
    }
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("NOT OK")).collect();
    let failed = failed.join("; ");
    Err(format!("{name} ended with {}, {ok} of {wanted} steps ok: {failed}", output.status))
}

pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The program numad 20251104 in the directory that `ci/numad-2025` has fetched, and what it loads.
const OF_2025: &[&str] = &[
    "usr/bin/numad",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libm.so.6",
];

/// Puts that program into a directory of the guest. `false`: this machine cannot have the program, or does not; the reason is printed.
///
/// Errors: it is not there, and everything is required.
pub(crate) fn put_numad_2025(guest: &mut Command, dir_in_guest: &str) -> Result<bool, String> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/numad-2025");
    let output = run(Command::new(fetched).arg("--root"))?;
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => {
            let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
            for file in OF_2025 {
                let file = root.join(file);
                let name = file.file_name().unwrap_or_default();
                put(guest, &file, &Path::new(dir_in_guest).join(name).display().to_string());
            }
            Ok(true)
        }
        Some(3) => {
            eprintln!("left out: {reason}");
            Ok(false)
        }
        _ => left_out(&reason).map(|()| false),
    }
}

/// A copy without debugging symbols, where `strip` is at hand: they are most of a debug build, and
/// the guest keeps its files in the memory of node 0. Two tests may make the same copy at once.
pub(crate) fn stripped(program: &Path) -> Result<PathBuf, String> {
    let name = program.file_name().unwrap_or(program.as_os_str());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
    let copy = dir.join(name);
    let fail = |error| format!("cannot copy {} to {}: {error}", program.display(), copy.display());
    fs::create_dir_all(&dir).map_err(fail)?;
    let fresh = tempfile::tempdir_in(&dir).map_err(fail)?;
    let fresh = fresh.path().join(name);
    let strip = Command::new("strip").arg("-o").arg(&fresh).arg(program).status();
    if !strip.is_ok_and(|status| status.success()) {
        fs::copy(program, &fresh).map_err(fail)?;
    }
    fs::rename(&fresh, &copy).map_err(fail)?;
    Ok(copy)
}

/// Builds an example of one of our crates and returns its path.
pub(crate) fn example(package: &str, name: &str) -> Result<PathBuf, String> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--package", package, "--example", name])
        .arg("--message-format=json")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the example {name} of {package} does not build"));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| format!("cargo names no executable for the example {name}"))
}
