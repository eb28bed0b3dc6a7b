//! Commands, machines and containers launched on booted kernels with many nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::guest::{
    Verdict, example, find_program, left_out, numa_vm, put, root_image, script, steps, stripped,
    unavailable, vm_ready,
};

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
    // Zeros to fill the file cache with.
    let disk = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join("zeros.img");
    let made = fs::File::create(&disk).and_then(|file| file.set_len(400 << 20));
    made.map_err(|e| format!("cannot write {}: {e}", disk.display()))?;
    let boot = |kernel: &[&str], args: &[&str], ok: usize| -> Verdict {
        let mut guest = numa_vm();
        guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "640M"]);
        guest.args(["--timeout", "900"]).args(kernel);
        if kernel.is_empty() {
            guest.arg("--disk").arg(&disk);
        }
        put(&mut guest, &script("launch"), "/bin/launch");
        put(&mut guest, &script("load"), "/bin/load");
        put(&mut guest, &placer, "/bin/placer");
        put(&mut guest, &touch, "/bin/touch-memory");
        put(&mut guest, &numactl, "/bin/numactl");
        steps(guest.arg("--").arg("launch").args(args), &format!("launch {args:?}"), ok)
    };
    boot(&[], &[], 42)?;
    // Weighted interleaving is younger than the kernel of the other guests.
    let newer = numa_vm().arg("--setup-newer").stdin(Stdio::null()).status();
    if newer.is_ok_and(|status| status.success()) {
        // Linux 6.12 allocates by cmpxchg16b, which QEMU 7.2 emulates with the wrong flags.
        let cpu = "max,vendor=GenuineIntel,family=6,model=85,stepping=4,cx16=off";
        return boot(&["--kernel", "newer", "--cpu", cpu], &["weighted"], 42);
    }
    left_out("weighted-interleave: no newer kernel is to be had (numa-vm --setup-newer)")
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
    guest.args(["--mem-per-node", "704M,640M,640M,640M", "--timeout", "1200"]);
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
    steps(guest.args(["--", "machine"]), "machine", 36)
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
    guest.args(["--timeout", "1200"]);
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
    steps(guest.args(["--", "container"]), "container", 7)
}

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn guests_of_all_kinds_are_where_they_were_advised_on_a_host_of_systemds() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let image = match root_image("root") {
        Ok(image) => image,
        Err(reason) => return unavailable(&reason),
    };
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let touch = stripped(&example("placer-launcher", "touch")?)?;
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "1G"]);
    guest.arg("--disk").arg(image).args(["--root", "--timeout", "1200"]);
    put(&mut guest, &script("scopes"), "/usr/bin/scopes");
    put(&mut guest, &placer, "/usr/bin/placer");
    put(&mut guest, &touch, "/usr/bin/touch-memory");
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = fs::read_to_string(project.join("packaging/systemd/placer@.service"));
    let unit = unit.map_err(|e| e.to_string())?.replace("@bindir@", "/usr/bin");
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join("placer@.service");
    fs::write(&installed, unit).map_err(|e| e.to_string())?;
    put(&mut guest, &installed, "/etc/systemd/system/placer@.service");
    steps(guest.args(["--", "scopes"]), "scopes", 38)
}

#[test]
#[ignore = "boots virtual machines: make test-vm"]
fn limits_of_a_process_are_kept_on_cgroup_v1_and_v2() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let touch = stripped(&example("placer-launcher", "touch")?)?;
    for version in ["v1", "v2"] {
        let mut guest = numa_vm();
        guest.args(["--nodes", "4", "--cpus-per-node", "4", "--memless", "1,3"]);
        guest.args(["--mem-per-node", "640M,0,640M,0", "--cgroup", version, "--timeout", "1200"]);
        put(&mut guest, &script("limits"), "/bin/limits");
        put(&mut guest, &placer, "/bin/placer");
        put(&mut guest, &placer, "/bin/numad");
        put(&mut guest, &touch, "/bin/touch-memory");
        steps(guest.args(["--", "limits", version]), &format!("limits {version}"), 22)?;
    }
    Ok(())
}
