//! The attribute in a package of its own: what libtest reports, and that no build is stale.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const TEST: &str = "\
#[needs::needs(numad)]
#[test]
fn asks_numad() {
    assert!(std::process::Command::new(\"numad\").status().is_ok());
}
";

/// Links the linker's programs into a directory, which is then all of `PATH`.
fn link_tools(bin: &Path) {
    fs::create_dir(bin).expect("made");
    let path = std::env::var_os("PATH").expect("set");
    for tool in ["cc", "ld", "as"] {
        let found = std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|at| at.exists());
        if let Some(found) = found {
            symlink(found, bin.join(tool)).expect("a link");
        }
    }
}

#[test]
fn a_test_whose_need_is_missing_is_reported_as_ignored_and_fails_where_all_is_required() {
    let dir = tempfile::tempdir().expect("a directory");
    let needs = env!("CARGO_MANIFEST_DIR");
    let manifest = format!(
        "[package]\nname = \"marked\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [lib]\ndoctest = false\n\n[dependencies]\ntestkit-needs = {{ path = {needs:?} }}\n"
    );
    fs::write(dir.path().join("Cargo.toml"), manifest).expect("written");
    fs::create_dir(dir.path().join("src")).expect("made");
    fs::write(dir.path().join("src/lib.rs"), TEST).expect("written");
    let (without, with) = (dir.path().join("without"), dir.path().join("with"));
    link_tools(&without);
    link_tools(&with);
    let numad = with.join("numad");
    fs::write(&numad, "#!/bin/sh\n").expect("written");
    fs::set_permissions(&numad, PermissionsExt::from_mode(0o755)).expect("set");

    let cargo = Path::new(env!("CARGO"));
    let test = |path: &Path, require: Option<&str>| {
        let mut command = Command::new(cargo);
        command.args(["test", "--offline", "--color", "never"]).current_dir(dir.path());
        command.env("PATH", path).env("CARGO_TARGET_DIR", dir.path().join("target"));
        command.env("RUSTC", cargo.with_file_name("rustc"));
        command.env_remove("PLACER_REQUIRE").envs(require.map(|value| ("PLACER_REQUIRE", value)));
        let output = command.output().expect("cargo runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = text(&output.stdout);
        let line = line.lines().find_map(|line| line.strip_prefix("test asks_numad ... "));
        line.unwrap_or_else(|| panic!("{}", text(&output.stderr))).to_owned()
    };
    assert_eq!(test(&without, None), "ignored, needs numad (make deps-test)");
    assert_eq!(test(&without, Some("all")), "FAILED");
    assert_eq!(test(&without, None), "ignored, needs numad (make deps-test)");
    assert_eq!(test(&with, None), "ok");
    assert_eq!(test(&with, Some("all")), "ok");
}
