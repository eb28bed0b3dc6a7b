//! Ranks of parallel programs on a booted kernel: real bindings, and ranks that are killed while they start.

use std::path::Path;

use crate::guest::{Verdict, numa_vm, put, script, steps, stripped, unavailable, vm_ready};

fn ranks(count: &str, timeout: &str) -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "448M"]);
    guest.args(["--timeout", timeout]);
    put(&mut guest, &script("ranks"), "/bin/ranks");
    put(&mut guest, &placer, "/bin/placer");
    steps(guest.args(["--", "ranks", count]), "ranks", 3)
}

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn ranks_share_no_cpu_though_one_of_each_step_is_killed() -> Verdict {
    ranks("20", "1200")
}

#[test]
#[ignore = "boots a virtual machine for an hour: make test-ranks"]
fn a_thousand_steps_of_ranks() -> Verdict {
    ranks("1000", "10800")
}
