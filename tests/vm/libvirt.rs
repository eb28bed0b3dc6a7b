//! A libvirt host that switches to placer by installing its package.

use crate::guest::{Verdict, put_numad_2025, steps, unavailable, with_package};

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn a_libvirt_host_that_installs_the_package_spreads_its_guests() -> Verdict {
    let mut guest = match with_package("root", "768M", "libvirt") {
        Ok(guest) => guest,
        Err(reason) => return unavailable(&reason),
    };
    guest.args(["--timeout", "1200"]);
    let mut wanted = STEPS;
    let mut words = vec!["--", "libvirt-host"];
    if put_numad_2025(&mut guest, "/srv/numad-2025")? {
        words.push("/srv/numad-2025");
    } else {
        wanted -= 1;
    }
    steps(guest.args(words), "the guest", wanted)
}

/// The lines "ok ..." of tests/vm/libvirt.
const STEPS: usize = 14;
