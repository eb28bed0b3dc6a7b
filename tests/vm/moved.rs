//! Running guests that are moved on a booted kernel, and a mover that is killed.

use std::path::Path;

use std::process::Command;

use crate::guest::{
    Verdict, example, find_program, numa_vm, put, put_numad_2025, script, steps, stripped,
    unavailable, vm_ready,
};

/// Adds a script of this directory, and what all guests that are moved need.
fn put_all(guest: &mut Command, name: &str) -> Verdict {
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let hog = stripped(&example("placer-launcher", "hog")?)?;
    put(guest, &script(name), &format!("/bin/{name}"));
    put(guest, &script("guests.sh"), "/bin/guests.sh");
    put(guest, &placer, "/bin/placer");
    put(guest, &hog, "/bin/hog");
    Ok(())
}

fn moved(kills: &str, timeout: &str) -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "512M"]);
    guest.args(["--timeout", timeout]);
    put_all(&mut guest, "balance")?;
    put(&mut guest, &script("balance-killer"), "/bin/killer");
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

#[test]
#[ignore = "boots a virtual machine for half an hour: make test-moves"]
fn both_numads_beside_placer_on_the_same_guests() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let Some(numad) = find_program("numad") else { return unavailable("numad is not installed") };
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "3,2,2,2", "--tcg-thread", "multi"]);
    guest.args(["--mem-per-node", "2560M,1G,1G,1G", "--timeout", "5400"]);
    put_all(&mut guest, "beside")?;
    put(&mut guest, &numad, "/bin/numad");
    // Longer than the five minutes for which numad leaves a process alone that it has moved.
    let mut words = vec!["--", "beside", "420"];
    let mut wanted = 18;
    if put_numad_2025(&mut guest, "/srv/numad-2025")? {
        words.push("/srv/numad-2025");
        wanted += 4;
    }
    steps(guest.args(words), "beside", wanted)
}
