//! Machines and commands on a booted kernel whose node has several last-level caches.

use std::fs;
use std::path::Path;

use crate::guest::{
    Verdict, find_program, numa_vm, put, script, steps, stripped, unavailable, vm_ready,
};

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn guests_are_in_one_cache_each() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let Some(qemu) = find_program("qemu-system-x86_64") else {
        return unavailable("qemu-system-x86_64 is not installed");
    };
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    // A firmware that jumps to itself.
    let rom = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join("caches.rom");
    let mut bytes = vec![0; 64 << 10];
    bytes[0xfff0..0xfff2].copy_from_slice(b"\xeb\xfe");
    fs::write(&rom, bytes).map_err(|e| format!("cannot write {}: {e}", rom.display()))?;

    let mut guest = numa_vm();
    guest.args(["--nodes", "1", "--cpus-per-node", "24", "--threads", "2"]);
    guest.args(["--mem-per-node", "768M", "--timeout", "600"]);
    // A second -smp replaces the first: QEMU gives each die an L3 of its own.
    guest.args(["--qemu-arg=-smp", "--qemu-arg=24,sockets=1,dies=3,cores=4,threads=2"]);
    put(&mut guest, &script("caches"), "/bin/caches");
    put(&mut guest, &placer, "/bin/placer");
    put(&mut guest, &rom, "/loop.rom");
    put(&mut guest, &qemu, "/usr/bin/qemu-system-x86_64");
    for file in
        ["/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so", "/usr/share/qemu/kvmvapic.bin"]
    {
        if Path::new(file).exists() {
            put(&mut guest, Path::new(file), file);
        }
    }
    steps(guest.args(["--", "caches"]), "caches", 8)
}
