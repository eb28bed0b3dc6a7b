//! The rights of the services, by systemd's own judgement.

use std::fs;
use std::process::Command;

use needs::needs;

use crate::common::{project, run, text};

#[needs(systemd_analyze)]
#[test]
fn l4_the_services_have_few_rights() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["placer.service", "placer-nri.service"] {
        let unit = fs::read_to_string(project().join("packaging/systemd").join(name));
        let unit = unit.expect("it is part of the project").replace("@bindir@", "/usr/bin");
        let path = dir.path().join(name);
        fs::write(&path, &unit).expect("written");
        // In tenths: 1.5 of 10.
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--threshold=14", "--no-pager"]).arg(&path);
        let output = run(&mut analyze);
        let printed = text(&output.stdout);
        assert!(printed.contains("Overall exposure level"), "{}", text(&output.stderr));
        assert!(output.status.success(), "{printed}");
    }
}
