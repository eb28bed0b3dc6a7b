//! What several test programs need.

#![allow(clippy::panic, reason = "a test that cannot go on says why")]

pub(crate) mod daemon;
pub(crate) mod inside;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) use testkit::command::{copy_program, json, run, text};

/// Returns the root of the project.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns one of our own recorded machines.
pub(crate) fn fixture(name: &str) -> PathBuf {
    project().join("sysfs-fixtures").join(name)
}

/// Returns the names of all our own recorded machines, sorted.
pub(crate) fn fixtures() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(project().join("sysfs-fixtures"))
        .expect("the fixtures are part of the project")
        .map(|entry| entry.expect("a directory entry"))
        .filter(|entry| entry.path().join("sys").is_dir())
        .map(|entry| entry.file_name().into_string().expect("a plain name"))
        .collect();
    names.sort();
    names
}

/// Returns a file or folder beside the project: recorded machines of other people, which are not ours to
/// copy. `None` where there is none.
pub(crate) fn shared(what: &str) -> Option<PathBuf> {
    let path = project().parent()?.join("shared").join(what);
    if path.exists() {
        return Some(path);
    }
    testkit::require::does_not_apply(format!("{} is not there", path.display()));
    None
}

/// Returns the directory of the files of numad 2025, which `ci/deps test` fetches. The test needs `numad_2025`.
pub(crate) fn root_of_2025() -> PathBuf {
    let output = run(Command::new(project().join("ci/numad-2025")).arg("--root"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    PathBuf::from(text(&output.stdout).trim_end())
}

/// The settings that are shipped: every one with its built-in value.
pub(crate) const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/settings/placer.toml");

/// Returns the program under test: `PLACER_INSTALLED` names it as it is installed (`make static`), for
/// which budgets hold.
pub(crate) fn program() -> OsString {
    std::env::var_os("PLACER_INSTALLED").unwrap_or_else(|| env!("CARGO_BIN_EXE_placer").into())
}

/// Returns a command for the program under test, with no settings of the caller's or of this host.
pub(crate) fn placer() -> Command {
    let mut command = Command::new(program());
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").env("PLACER_CONFIG", SHIPPED);
    command
}

/// Runs `placer ARGS` on a recorded machine.
pub(crate) fn placer_on<S: AsRef<OsStr>>(root: &Path, args: &[S]) -> Output {
    run(placer().args(args).env("PLACER_ROOT", root))
}

/// Returns the ids of a list as the kernel writes it.
pub(crate) fn ids<C: FromIterator<u32>>(list: &str) -> C {
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(part)..=number(part),
    };
    list.split(',').flat_map(range).collect()
}
