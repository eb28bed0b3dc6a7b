//! What people really define, started through placer and libvirt, and moved.

use crate::guest::{Verdict, steps, unavailable, with_package};

#[test]
#[ignore = "boots a virtual machine: make test-domains"]
fn a_guest_with_firmware_tpm_vhost_cells_and_huge_pages_is_where_it_was_advised() -> Verdict {
    boot("domain", 8)
}

#[test]
#[ignore = "boots a virtual machine: make test-domains"]
fn ten_command_lines_of_public_guides_are_where_they_were_advised() -> Verdict {
    boot("lines", 10)
}

#[test]
#[ignore = "boots a virtual machine: make test-domains"]
fn guests_of_libvirt_are_moved_through_it_and_its_records_are_true() -> Verdict {
    boot("domain-moves", 7)
}

/// Runs a script on a host that systemd runs, with libvirt and the package.
fn boot(what: &str, wanted: usize) -> Verdict {
    let mut guest = match with_package("virt", "1G", what) {
        Ok(guest) => guest,
        Err(reason) => return unavailable(&reason),
    };
    for module in ["bridge", "tun", "vhost_net", "vhost_vsock"] {
        guest.args(["--module", module]);
    }
    steps(guest.args(["--timeout", "3000", "--", &format!("{what}-host")]), what, wanted)
}
