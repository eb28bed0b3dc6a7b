//! A libvirt host that switches to placer by installing its package.

use std::path::{Path, PathBuf};

use std::process::Command;

use crate::guest::{Verdict, left_out, put, run, steps, unavailable, with_package};

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
    match numad_2025()? {
        Some(root) => {
            for file in OF_2025 {
                let in_guest = Path::new("/srv/numad-2025")
                    .join(Path::new(file).file_name().unwrap_or_default());
                put(&mut guest, &root.join(file), &in_guest.display().to_string());
            }
            words.push("/srv/numad-2025");
        }
        None => wanted -= 1,
    }
    steps(guest.args(words), "the guest", wanted)
}

/// The lines "ok ..." of tests/vm/libvirt.
const STEPS: usize = 14;

/// The program of that version in the directory that `ci/numad-2025` has fetched, and what it loads.
const OF_2025: &[&str] = &[
    "usr/bin/numad",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libm.so.6",
];

/// Returns that directory. `None`: this machine cannot have the program, or does not; the reason is printed.
///
/// Errors: it is not there, and everything is required.
fn numad_2025() -> Result<Option<PathBuf>, String> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/numad-2025");
    let output = run(Command::new(fetched).arg("--root"))?;
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))),
        Some(3) => {
            eprintln!("left out: {reason}");
            Ok(None)
        }
        _ => left_out(&reason).map(|()| None),
    }
}
