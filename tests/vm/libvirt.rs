//! A libvirt host that switches to placer by installing its package.

use std::path::{Path, PathBuf};

use crate::guest::{Verdict, numa_vm, put, report, root_image, run, script, unavailable, vm_ready};

/// What `make deb` has made, where it puts it.
fn package() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/placer.deb");
    place.is_file().then_some(place)
}

#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn a_libvirt_host_that_installs_the_package_spreads_its_guests() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let image = match root_image() {
        Ok(image) => image,
        Err(reason) => return unavailable(&reason),
    };
    let Some(package) = package() else {
        return unavailable("no target/placer.deb: make deb");
    };
    let mut guest = numa_vm();
    guest.args([
        "--nodes",
        "4",
        "--cpus-per-node",
        "2",
        "--mem-per-node",
        "768M",
        "--module",
        "fuse",
    ]);
    guest.arg("--disk").arg(image).args(["--root", "--timeout", "600"]);
    put(&mut guest, &package, "/srv/placer.deb");
    put(&mut guest, &script("libvirt"), "/usr/bin/libvirt-host");
    let output = run(guest.args(["--", "libvirt-host"]))?;
    let text = report(&output);
    let ok = text.lines().filter(|line| line.starts_with("ok ")).count();
    if output.status.success() && ok == STEPS {
        Ok(())
    } else {
        Err(format!("the guest ended with {}, {ok} of {STEPS} steps ok", output.status))
    }
}

/// The lines "ok ..." of tests/vm/libvirt.
const STEPS: usize = 12;
