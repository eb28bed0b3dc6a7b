//! Running guests that are moved on a booted kernel, and a mover that is killed.

use std::path::Path;

use crate::guest::{
    Verdict, example, numa_vm, put, script, steps, stripped, unavailable, vm_ready,
};

fn moved(kills: &str, timeout: &str) -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let hog = stripped(&example("placer-launcher", "hog")?)?;
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "512M"]);
    guest.args(["--timeout", timeout]);
    put(&mut guest, &script("balance"), "/bin/balance");
    put(&mut guest, &script("balance-killer"), "/bin/killer");
    put(&mut guest, &placer, "/bin/placer");
    put(&mut guest, &hog, "/bin/hog");
    steps(guest.args(["--", "balance", kills]), "balance", 33)
}

#[test]
#[ignore = "boots a virtual machine for ten minutes: make test-moves"]
fn guests_that_run_are_moved_and_put_back_and_killed_moves_are_finished() -> Verdict {
    moved("10", "1800")
}

#[test]
#[ignore = "boots a virtual machine and kills 200 moves: make test-moves"]
fn two_hundred_kills_of_the_mover() -> Verdict {
    moved("200", "7200")
}
