//! The rights of the daemon's service, by systemd's own judgement.

use std::fs;
use std::process::Command;

use needs::needs;

use crate::common::{project, run, text};

#[needs(systemd_analyze)]
#[test]
fn l4_the_service_has_few_rights() {
    let unit = fs::read_to_string(project().join("packaging/systemd/placer.service"));
    let unit = unit.expect("it is part of the project").replace("@bindir@", "/usr/bin");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("placer.service");
    fs::write(&path, &unit).expect("written");
    // In tenths: 1.5 of 10.
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--threshold=14", "--no-pager"]).arg(&path);
    let output = run(&mut analyze);
    let printed = text(&output.stdout);
    assert!(printed.contains("Overall exposure level"), "{}", text(&output.stderr));
    assert!(output.status.success(), "{printed}");
}
