//! Tasks of Slurm and ranks of MPI, on booted kernels with the real programs of Debian 12 and 13.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guest::{
    Verdict, numa_vm, put, root_image, script, steps, stripped, unavailable, vm_ready,
};

/// Builds the plugin for a release of Slurm.
fn plugin(release: &str) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spank").join(release);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--profile", "capi", "--package", "placer-spank"])
        .arg("--target-dir")
        .arg(&target)
        .env("PLACER_SLURM", release)
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.success() {
        return Err(format!("placer-spank does not build for Slurm {release}"));
    }
    stripped(&target.join("capi/libplacer_spank.so"))
}

fn batch(kind: &str, release: &str) -> Verdict {
    let image = match vm_ready().and_then(|()| root_image(kind)) {
        Ok(image) => image,
        Err(reason) => return unavailable(&reason),
    };
    let placer = stripped(Path::new(env!("CARGO_BIN_EXE_placer")))?;
    let mut guest = numa_vm();
    guest.args(["--nodes", "4", "--cpus-per-node", "2", "--mem-per-node", "768M"]);
    guest.args(["--timeout", "1800", "--root", "--disk"]).arg(image);
    guest.args(["--append", "systemd.mask=slurmd.service systemd.mask=slurmctld.service"]);
    put(&mut guest, &script("slurm"), "/root/slurm");
    put(&mut guest, &placer, "/usr/bin/placer");
    put(&mut guest, &plugin(release)?, "/usr/lib/placer-spank.so");
    steps(guest.args(["--", "/root/slurm"]), &format!("slurm {release}"), 19)
}

#[test]
#[ignore = "boots a virtual machine: make test-fleet"]
fn slurm_22_05_with_open_mpi_4_1() -> Verdict {
    batch("hpc12", "22.05")
}

#[test]
#[ignore = "boots a virtual machine: make test-fleet"]
fn slurm_24_11_with_open_mpi_5_0() -> Verdict {
    batch("hpc13", "24.11")
}
