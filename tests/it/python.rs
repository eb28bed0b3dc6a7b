//! The Python client, `bindings/python`, against a daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{self, daemon::Daemon, fixture, project, run, text};
use needs::needs;

fn python(program: impl AsRef<std::ffi::OsStr>, daemon: &Daemon) -> Command {
    let mut python = Command::new(program);
    python.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
    python.env("PYTHONDONTWRITEBYTECODE", "1").env("PLACER_STATE_DIR", daemon.dir.path());
    python
}

/// The first `python3` of the caller's PATH.
fn python3() -> String {
    text(&run(Command::new("python3").args(["-c", "import sys; print(sys.executable)"])).stdout)
        .trim_end()
        .to_owned()
}

/// The programs of the Python environment that `ci/deps test` makes.
pub(crate) fn tools() -> PathBuf {
    Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/placer-tools/python/bin")
}

#[needs(python3)]
#[test]
fn its_own_tests_pass() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let mut tests = python(python3(), &daemon);
    // A warning, as for a socket that is left open, is an error.
    tests.args(["-W", "error", "-m", "unittest", "discover", "bindings/python/tests"]);
    let output = run(tests.current_dir(project()));
    let said = text(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");
    // All of them: unittest passes where it finds none.
    let source =
        std::fs::read_to_string(project().join("bindings/python/tests/test_numaplacer.py"));
    let count = source.expect("the tests").matches("    def test_").count();
    assert!(count > 15 && said.contains(&format!("Ran {count} tests")), "{said}");
}

/// The quick start of the guide, as it stands there.
#[needs(python_packages)]
#[test]
fn the_quick_start_works_in_a_fresh_virtual_environment() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let dir = tempfile::tempdir().expect("a directory");
    let (venv, source) = (dir.path().join("venv"), dir.path().join("source"));
    let made = run(Command::new(python3()).args(["-m", "venv"]).arg(&venv));
    assert!(made.status.success(), "{}", text(&made.stderr));
    // What pip builds it leaves beside the source.
    let from = project().join("bindings/python");
    assert!(run(Command::new("cp").arg("-r").args([&from, &source])).status.success());
    install(&venv, &source);
    let page = project().join("docs/src/embedding.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let start = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let start = start.expect("a quick start");
    let lines = start.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 5, "{lines} lines: {start}");
    let output =
        run(python(venv.join("bin/python"), &daemon).args(["-I", "-c", start]).current_dir("/"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let ring = common::json(&run(common::placer()
        .args(["advise", "2:100", "--json", "--root"])
        .arg(fixture("ring-4"))));
    assert!(text(&output.stdout).starts_with(ring["nodes"].as_str().expect("nodes")), "{output:?}");
}

/// Packs the client and installs the package, without a package index.
fn install(venv: &Path, source: &Path) {
    let packed = source.join("packed");
    let mut wheel = Command::new(tools().join("pip"));
    wheel.args(["wheel", "--quiet", "--no-index", "--no-build-isolation", "--wheel-dir"]);
    let output = run(wheel.args([packed.as_path(), source]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut files = std::fs::read_dir(&packed).expect("a directory").flatten();
    let wheel = files.next().expect("a wheel").path();
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["--quiet", "--disable-pip-version-check", "install", "--no-index"]);
    let output = run(pip.arg(wheel));
    assert!(output.status.success(), "{}", text(&output.stderr));
}
