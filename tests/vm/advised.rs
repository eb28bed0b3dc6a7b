//! Answers, engine and claims on booted kernels with many nodes.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::guest::{
    Verdict, example, find_program, numa_vm, put, report, run, script, steps, stripped,
    unavailable, vm_ready,
};

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
    guest.args(["--mem-per-node", "448M,640M,512M,320M", "--timeout", "1200"]);
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
    guest.args(["--spare-cpus", "1", "--spare-mem", "2,512M", "--timeout", "900"]);
    put(&mut guest, &script("hotplug"), "/bin/hotplug");
    put(&mut guest, &watch, "/bin/engine-watch");
    steps(guest.args(["--", "hotplug"]), "hotplug", 7)
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
    guest.args(["--mem-per-node", "448M,256M,640M,320M", "--timeout", "1200"]);
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
    steps(guest.args(["--", "best"]), "best", 29)
}

/// A host of four nodes that runs a part of tests/vm/claims, which prints so many lines "ok ...".
fn claims(args: &[&str], ok: usize, more: &dyn Fn(&mut Command)) -> Verdict {
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "448M"]);
    guest.args(["--timeout", "900"]);
    put(&mut guest, &script("claims"), "/bin/claims");
    put(&mut guest, &placer, "/bin/placer");
    more(&mut guest);
    steps(guest.arg("--").arg("claims").args(args), &format!("claims {args:?}"), ok)
}

#[test]
#[ignore = "boots two virtual machines: make test-vm"]
fn claims_follow_processes_and_end_with_the_boot() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let claim = stripped(&example("placer-engine", "claim")?)?;
    let ledger = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm/old-claims.jsonl");
    claims(&["before"], 15, &|guest| {
        put(guest, &claim, "/bin/engine-claim");
        let mut out = OsString::from("/run/placer/claims.jsonl:");
        out.push(&ledger);
        guest.arg("--out").arg(out);
    })?;
    claims(&["after", "/old"], 6, &|guest| {
        put(guest, &claim, "/bin/engine-claim");
        put(guest, &ledger, "/old");
    })
}

#[test]
#[ignore = "starts 64 programs in an emulated host: make test-claims"]
fn storm_of_64_mixed_callers_promises_no_node_beyond_what_is_free() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    claims(&["storm"], 6, &|_| ())
}
