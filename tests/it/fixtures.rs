//! Each of our own recorded machines, against what is expected of it: `expect/*.txt` beside it.
//!
//! `UPDATE_EXPECT=1` rewrites the expected texts; the diff is read, then committed.

use crate::common;

use std::path::Path;

use common::{fixture, fixtures, placer, run, text};

/// Small, ordinary, wide, more than the machine.
const REQUESTS: &[&str] =
    &["0", "1", "1:100", "2:200", "2.5:300", "4:500", "8:900", "0:1G", "64:64G"];

#[test]
fn every_fixture_answers_as_expected() {
    let names = fixtures();
    assert!(names.len() >= 8, "found {names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let root = fixture(&name);
        let mut check = |file: &str, found: String| {
            let path = root.join("expect").join(file);
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                std::fs::create_dir_all(root.join("expect")).expect("a directory");
                std::fs::write(&path, &found).expect("written");
            }
            let expected = std::fs::read_to_string(&path).unwrap_or_default();
            if expected != found {
                wrong.push(format!("{}\nexpected:\n{expected}\nfound:\n{found}", path.display()));
            }
        };
        check("show.txt", answer(&root, &["show"], ""));
        check("show.json", answer(&root, &["show", "--json"], ""));
        let lines = |command: &[&str], version: &str| -> String {
            let ask = |request: &&str| {
                let mut args = command.to_vec();
                args.push(request);
                format!("{request}: {}", answer(&root, &args, version))
            };
            REQUESTS.iter().map(ask).collect()
        };
        check("advise.txt", lines(&["advise", "--machine-wide"], ""));
        for version in ["2015", "2025"] {
            check(&format!("numad-{version}.txt"), lines(&["numad", "-w"], version));
        }
        check(
            "whole.json",
            answer(&root, &["advise", "--machine-wide", "--json", "2.5:300"], "2025"),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fixture_says_where_it_is_from() {
    for name in fixtures() {
        let origin = std::fs::read_to_string(fixture(&name).join("ORIGIN.md")).unwrap_or_default();
        assert!(origin.lines().count() >= 3, "{name}: {origin}");
        assert!(!origin.contains("to be written"), "{name}: {origin}");
    }
}

#[test]
fn many_machines_work_side_by_side_in_one_process() {
    use placer_engine::{Request, Snapshot, SysRoot, advise};
    let names = fixtures();
    let ask = |name: &str| {
        let root = SysRoot::at(fixture(name));
        let snapshot = Snapshot::take(&root, std::time::Duration::ZERO).expect("a good fixture");
        let request: Request = "2:100".parse().expect("a request");
        advise(&snapshot, &request).map(|advice| advice.nodes.to_string())
    };
    let alone: Vec<_> = names.iter().map(|name| ask(name)).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(|| ask(name))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(alone, together);
}

/// Returns what was printed, with the exit status where it is not 0.
fn answer(root: &Path, args: &[&str], numad_version: &str) -> String {
    let mut command = placer();
    command.args(args).env("PLACER_ROOT", root).env("PLACER_NUMAD_VERSION", numad_version);
    let output = run(&mut command);
    // Messages name files below the root; the checkout may lie anywhere.
    let stderr = text(&output.stderr).replace(&format!("{}/", root.display()), "");
    let status = match output.status.code() {
        Some(0) => String::new(),
        code => format!("exit status {code:?}\n"),
    };
    format!("{}{stderr}{status}", text(&output.stdout))
}
