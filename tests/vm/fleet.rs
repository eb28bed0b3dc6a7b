//! Containers and jobs of other engines on a booted kernel with many nodes.

use std::path::Path;

use crate::guest::{
    Verdict, example, numa_vm, put, root_image, script, steps, stripped, unavailable, vm_ready,
};

#[test]
#[ignore = "boots a virtual machine: make test-fleet"]
fn containers_are_where_they_were_advised_whichever_engine_starts_them() -> Verdict {
    if let Err(reason) = vm_ready() {
        return unavailable(&reason);
    }
    let image = match root_image("fleet") {
        Ok(image) => image,
        Err(reason) => return unavailable(&reason),
    };
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let touch = stripped(&example("placer-launcher", "touch")?)?;
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "640M"]);
    guest.arg("--disk").arg(image).args(["--root", "--module", "overlay", "--timeout", "1800"]);
    put(&mut guest, &script("containers"), "/usr/bin/containers");
    put(&mut guest, &script("cri"), "/usr/bin/cri");
    put(&mut guest, &placer, "/usr/bin/placer");
    put(&mut guest, &touch, "/usr/bin/touch-memory");
    steps(guest.args(["--", "containers"]), "containers", 52)
}
