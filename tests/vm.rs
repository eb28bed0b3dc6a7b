//! Tests on live kernels with many nodes: each boots a virtual machine (`tests/vm/numa-vm`, no KVM
//! needed), runs a script of `tests/vm/` in it and judges what the script printed.
//!
//! They take some minutes, so a plain `cargo test` leaves them out; `make test-vm`, which `make test`
//! calls, runs them. Where a guest cannot be had (no QEMU, no kernel fetched yet, no numad, another
//! kind of CPU) they say why and pass, unless `PLACER_REQUIRE_VM=1`: then that is a failure.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a test found out: nothing to say, or what went wrong.
type Verdict = Result<(), String>;

/// Requests whose answers do not hang on a few MiB or ticks, in any state of the parity guest. The
/// guest's nodes differ in size for the same reason: equal nodes would be told apart by noise.
const REQUESTS: [&str; 6] = ["0", "2:200", "6:250", "2.5:450", "1:1000", "14:300"];

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn numad_and_placer_agree_in_a_four_node_guest() -> Verdict {
    let numad = find_program("numad");
    let Some(numad) = numad else { return unavailable("numad is not installed") };
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;

    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "4", "--distances", "ring"]);
    guest.args(["--mem-per-node", "448M,640M,512M,320M", "--timeout", "400"]);
    put(&mut guest, &script("load"), "/bin/load");
    put(&mut guest, &script("parity"), "/bin/parity");
    put(&mut guest, &numad, "/bin/numad");
    put(&mut guest, &placer, "/bin/placer");
    let output = run(guest.args(["--", "parity"]).args(REQUESTS))?;

    let text = report(&output);
    if !output.status.success() {
        return Err(format!("parity ended with {}", output.status));
    }
    let agreed: Vec<&str> = text.lines().filter(|line| line.ends_with(" agree")).collect();
    if agreed.len() != 3 * REQUESTS.len() {
        return Err(format!("{} answers instead of {}", agreed.len(), 3 * REQUESTS.len()));
    }
    // the loads did something: two programs that both see idle nodes agree all too easily
    let answer = |state: &str, request: &str| {
        let start = format!("{state} {request} ");
        agreed.iter().find_map(|line| line.strip_prefix(start.as_str()))
    };
    for (state, request) in [("busy", "2:200"), ("full", "6:250")] {
        if answer("idle", request) == answer(state, request) {
            return Err(format!("{request}: the {state} node made no difference"));
        }
    }
    Ok(())
}

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn a_running_engine_follows_hotplug() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let watch = stripped(&example("placer-engine", "watch")?)?;

    // node 2 has nothing at first: it appears when a DIMM is plugged into it
    let mut guest = numa_vm();
    guest.args(["--nodes", "3", "--cpus-per-node", "2,2,0", "--mem-per-node", "384M,128M,0"]);
    guest.args(["--spare-cpus", "1", "--spare-mem", "2,512M", "--timeout", "200"]);
    put(&mut guest, &script("hotplug"), "/bin/hotplug");
    put(&mut guest, &watch, "/bin/engine-watch");
    let output = run(guest.args(["--", "hotplug"]))?;

    let text = report(&output);
    let ok = text.lines().filter(|line| line.starts_with("ok ")).count();
    if output.status.success() && ok == 7 {
        Ok(())
    } else {
        Err(format!("hotplug ended with {}, {ok} of 7 steps ok", output.status))
    }
}

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn best_answers_what_numad_never_asks() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;

    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2,4,2,2", "--append", "isolcpus=4-5"]);
    guest.args(["--mem-per-node", "448M,256M,640M,320M", "--timeout", "400"]);
    for module in ["virtio_pci", "virtio_net", "virtio_blk"] {
        guest.args(["--module", module]);
    }
    // SeaBIOS in place of the quicker qboot, which does not see a second PCI root. A card and a
    // disk, each in its port of a bridge that belongs to node 3.
    for (kind, what) in [
        ("-bios", "bios-256k.bin"),
        ("-device", "pxb-pcie,id=board-of-node3,bus=pcie.0,bus_nr=128,numa_node=3"),
        ("-device", "pcie-root-port,id=port-to-card,bus=board-of-node3,chassis=1"),
        ("-device", "pcie-root-port,id=port-to-disk,bus=board-of-node3,chassis=2"),
        ("-device", "virtio-net-pci,id=card-on-node3,bus=port-to-card,romfile="),
        ("-blockdev", "null-co,node-name=nothing,size=1048576"),
        ("-device", "virtio-blk-pci,id=disk-on-node3,bus=port-to-disk,drive=nothing"),
    ] {
        guest.arg(format!("--qemu-arg={kind}")).arg(format!("--qemu-arg={what}"));
    }
    put(&mut guest, &script("best"), "/bin/best");
    put(&mut guest, &script("load"), "/bin/load");
    put(&mut guest, &placer, "/bin/placer");
    let output = run(guest.args(["--", "best"]))?;

    let text = report(&output);
    let ok = text.lines().filter(|line| line.starts_with("ok ")).count();
    if output.status.success() && ok == 29 {
        Ok(())
    } else {
        Err(format!("best ended with {}, {ok} of 29 steps ok", output.status))
    }
}

#[test]
#[ignore = "boots two virtual machines: make test-vm"]
fn claims_follow_processes_and_end_with_the_boot() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let claim = stripped(&example("placer-engine", "claim")?)?;
    let ledger = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm/old-claims.jsonl");
    let guest = |args: &[&str], ok: usize, more: &dyn Fn(&mut Command)| -> Verdict {
        let mut guest = numa_vm();
        guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "448M"]);
        guest.args(["--timeout", "200"]);
        put(&mut guest, &script("claims"), "/bin/claims");
        put(&mut guest, &placer, "/bin/placer");
        put(&mut guest, &claim, "/bin/engine-claim");
        more(&mut guest);
        let output = run(guest.arg("--").arg("claims").args(args))?;
        let text = report(&output);
        let found = text.lines().filter(|line| line.starts_with("ok ")).count();
        if output.status.success() && found == ok {
            return Ok(());
        }
        Err(format!("claims {args:?} ended with {}, {found} of {ok} steps ok", output.status))
    };
    guest(&["before"], 15, &|guest| {
        let mut out = OsString::from("/run/placer/claims.jsonl:");
        out.push(&ledger);
        guest.arg("--out").arg(out);
    })?;
    guest(&["after", "/old"], 6, &|guest| put(guest, &ledger, "/old"))
}

/// Passes with the reason printed, or fails with it where a guest is a must.
fn unavailable(reason: &str) -> Verdict {
    if env::var_os("PLACER_REQUIRE_VM").is_some_and(|value| value == "1")
        && cfg!(target_arch = "x86_64")
    {
        return Err(format!("no virtual machine: {reason}"));
    }
    eprintln!("skipped: {reason}");
    Ok(())
}

/// Says why guests cannot be booted here, if so.
fn vm_ready() -> Result<(), String> {
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

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm").join(name)
}

fn numa_vm() -> Command {
    Command::new(script("numa-vm"))
}

/// Adds a file of this machine to the guest, with the libraries it needs.
fn put(guest: &mut Command, host: &Path, path_in_guest: &str) {
    let mut both = OsString::from(host);
    both.push(":");
    both.push(path_in_guest);
    guest.arg("--file").arg(both);
}

fn run(guest: &mut Command) -> Result<Output, String> {
    guest.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {guest:?}: {error}"))
}

/// Both outputs of a guest as one text, printed as well: the test's own words stay short.
fn report(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    eprint!("{text}");
    text
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A copy without debugging symbols, where `strip` is at hand: they are most of a debug build, and
/// the guest keeps its files in the memory of node 0.
fn stripped(program: &Path) -> Result<PathBuf, String> {
    let name = program.file_name().unwrap_or(program.as_os_str());
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join(name);
    let fail = |error| format!("cannot copy {} to {}: {error}", program.display(), copy.display());
    if let Some(dir) = copy.parent() {
        fs::create_dir_all(dir).map_err(fail)?;
    }
    let strip = Command::new("strip").arg("-o").arg(&copy).arg(program).status();
    if !strip.is_ok_and(|status| status.success()) {
        fs::copy(program, &copy).map_err(fail)?;
    }
    Ok(copy)
}

/// Builds an example of one of our crates and returns its path.
fn example(package: &str, name: &str) -> Result<PathBuf, String> {
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

#[test]
#[ignore = "boots virtual machines: make test-vm"]
fn launched_commands_have_their_memory_where_they_were_advised() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let Some(numactl) = find_program("numactl") else {
        return unavailable("numactl is not installed");
    };
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let touch = stripped(&example("placer-launcher", "touch")?)?;
    let boot = |kernel: &[&str], args: &[&str], ok: usize| -> Verdict {
        let mut guest = numa_vm();
        guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "640M"]);
        guest.args(["--timeout", "300"]).args(kernel);
        put(&mut guest, &script("launch"), "/bin/launch");
        put(&mut guest, &script("load"), "/bin/load");
        put(&mut guest, &placer, "/bin/placer");
        put(&mut guest, &touch, "/bin/touch-memory");
        put(&mut guest, &numactl, "/bin/numactl");
        let output = run(guest.arg("--").arg("launch").args(args))?;
        let text = report(&output);
        let found = text.lines().filter(|line| line.starts_with("ok ")).count();
        if output.status.success() && found == ok {
            return Ok(());
        }
        Err(format!("launch {args:?} ended with {}, {found} of {ok} steps ok", output.status))
    };
    boot(&[], &[], 36)?;
    // Weighted interleaving is younger than the kernel of the other guests.
    let newer = numa_vm().arg("--setup-newer").stdin(Stdio::null()).status();
    if newer.is_ok_and(|status| status.success()) {
        // Linux 6.12 allocates by cmpxchg16b, which QEMU 7.2 emulates with the wrong flags.
        let cpu = "max,vendor=GenuineIntel,family=6,model=85,stepping=4,cx16=off";
        return boot(&["--kernel", "newer", "--cpu", cpu], &["weighted"], 38);
    }
    eprintln!("skipped: weighted-interleave, since no newer kernel can be had here");
    Ok(())
}

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn launched_machines_have_each_thread_and_their_ram_where_they_were_advised() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let Some(qemu) = find_program("qemu-system-x86_64") else {
        return unavailable("qemu-system-x86_64 is not installed");
    };
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let touch = stripped(&example("placer-launcher", "touch")?)?;
    // Firmwares of the few bytes that a processor starts with: jump to oneself; halt for good.
    let rom = |name: &str, code: &[u8]| -> Result<PathBuf, String> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join(name);
        let mut bytes = vec![0; 64 << 10];
        bytes[0xfff0..0xfff0 + code.len()].copy_from_slice(code);
        fs::write(&path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(path)
    };
    let (loops, halts) = (rom("loop.rom", b"\xeb\xfe")?, rom("halt.rom", b"\xfa\xf4\xeb\xfd")?);

    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "4", "--threads", "2"]);
    guest.args(["--mem-per-node", "704M,640M,640M,640M", "--timeout", "400"]);
    put(&mut guest, &script("machine"), "/bin/machine");
    put(&mut guest, &placer, "/bin/placer");
    put(&mut guest, &touch, "/bin/touch-memory");
    put(&mut guest, &loops, "/loop.rom");
    put(&mut guest, &halts, "/halt.rom");
    put(&mut guest, &qemu, "/usr/bin/qemu-system-x86_64");
    // Where the accelerator is a module, which QEMU finds by its own place; and the ROM that every
    // machine with an APIC has.
    for file in
        ["/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so", "/usr/share/qemu/kvmvapic.bin"]
    {
        if Path::new(file).exists() {
            put(&mut guest, Path::new(file), file);
        }
    }
    let output = run(guest.args(["--", "machine"]))?;
    let text = report(&output);
    let ok = text.lines().filter(|line| line.starts_with("ok ")).count();
    if output.status.success() && ok == 22 {
        Ok(())
    } else {
        Err(format!("machine ended with {}, {ok} of 22 steps ok", output.status))
    }
}

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn launched_containers_are_where_they_were_advised() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    if find_program("lxc-execute").is_none() {
        return unavailable("lxc is not installed");
    }
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let touch = stripped(&example("placer-launcher", "touch")?)?;
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "448M"]);
    guest.args(["--timeout", "200"]);
    put(&mut guest, &script("container"), "/bin/container");
    put(&mut guest, &placer, "/bin/placer");
    put(&mut guest, &touch, "/bin/touch-memory");
    for file in ["/usr/bin/lxc-execute", "/usr/bin/lxc-start", "/usr/sbin/init.lxc"]
        .into_iter()
        .chain(["/usr/sbin/init.lxc.static"])
    {
        if Path::new(file).exists() {
            put(&mut guest, Path::new(file), file);
        }
    }
    let output = run(guest.args(["--", "container"]))?;
    let text = report(&output);
    let ok = text.lines().filter(|line| line.starts_with("ok ")).count();
    if output.status.success() && ok == 7 {
        Ok(())
    } else {
        Err(format!("container ended with {}, {ok} of 7 steps ok", output.status))
    }
}
