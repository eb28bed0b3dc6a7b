//! Containers and jobs of other engines on a booted kernel with many nodes.

use std::fs;
use std::path::Path;

use crate::guest::{
    Verdict, example, numa_vm, put, root_image, script, steps, stripped, unavailable, vm_ready,
};

/// Boots a root image of container engines with a script, what that needs, and more files; runs the script.
fn containers(
    kind: &str,
    (name, arguments): (&str, &[&str]),
    more: &[(&Path, &str)],
    kernel: &[&str],
    ok: usize,
) -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let image = match root_image(kind) {
        Ok(image) => image,
        Err(reason) => return unavailable(&reason),
    };
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let touch = stripped(&example("placer-launcher", "touch")?)?;
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "640M"]);
    guest.arg("--disk").arg(image).args(["--root", "--timeout", "1800"]).args(kernel);
    put(&mut guest, &script(name), &format!("/usr/bin/{name}"));
    put(&mut guest, &script("cri"), "/usr/bin/cri");
    put(&mut guest, &placer, "/usr/bin/placer");
    put(&mut guest, &touch, "/usr/bin/touch-memory");
    for (file, place) in more {
        put(&mut guest, file, place);
    }
    steps(guest.args(["--", name]).args(arguments), name, ok)
}

#[test]
#[ignore = "boots a virtual machine: make test-fleet"]
fn containers_are_where_they_were_advised_whichever_engine_starts_them() -> Verdict {
    containers("fleet", ("containers", &[]), &[], &["--module", "overlay"], 55)
}

#[test]
#[ignore = "boots a virtual machine: make test-fleet"]
fn containers_of_podman_4_are_too() -> Verdict {
    containers("podman4", ("containers", &["podman"]), &[], &["--module", "overlay"], 16)
}

#[test]
#[ignore = "boots a virtual machine: make test-fleet"]
fn a_runtimes_containers_are_placed_by_its_plugin() -> Verdict {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd/placer-nri.service");
    let unit = fs::read_to_string(unit).map_err(|e| e.to_string())?.replace("@bindir@", "/usr/bin");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
    let installed = dir.join("placer-nri.service");
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&installed, unit))
        .map_err(|e| format!("cannot write {}: {e}", installed.display()))?;
    let unit = [(installed.as_path(), "/etc/systemd/system/placer-nri.service")];
    containers("fleet", ("nri", &[]), &unit, &[], 39)
}
