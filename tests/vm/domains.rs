//! What people really define, started through placer and libvirt.

use crate::guest::{
    Verdict, numa_vm, package, put, root_image, script, steps, unavailable, vm_ready,
};

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

/// Runs a script on a host that systemd runs, with libvirt and the package.
fn boot(what: &str, wanted: usize) -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let image = match root_image("virt") {
        Ok(image) => image,
        Err(reason) => return unavailable(&reason),
    };
    let Some(package) = package() else {
        return unavailable("no target/placer.deb: make deb");
    };
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "1G"]);
    guest.arg("--disk").arg(image).args(["--root", "--timeout", "3000"]);
    for module in ["fuse", "bridge", "tun", "vhost_net", "vhost_vsock"] {
        guest.args(["--module", module]);
    }
    put(&mut guest, &package, "/srv/placer.deb");
    let program = format!("/usr/bin/{what}");
    put(&mut guest, &script(what), &program);
    put(&mut guest, &script("steps.py"), "/usr/bin/steps.py");
    steps(guest.args(["--", &program]), what, wanted)
}
