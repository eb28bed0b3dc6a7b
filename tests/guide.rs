//! The user guide in `docs/`: each command in it is run, or stands in a short list with the test that
//! tries it; each setting, guest file and script is read by who reads it; no link leads nowhere.
//!
//! `TRYCMD=overwrite cargo test --test guide` writes what the commands print; the diff is read, then
//! committed. Run once, with all features: the pages show devices.

#![cfg(feature = "hwloc")]

mod common;

#[path = "guide/elsewhere.rs"]
mod elsewhere;
#[path = "guide/page.rs"]
mod page;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{placer, project, run, text};
use page::{Page, for_trycmd, from_trycmd, pages};

/// The recorded host that files of the guide are tried on.
const ROOT: &str = "sysfs-fixtures/ring-4";

/// What a caller's own environment must not change.
const VARIABLES: [&str; 4] = ["PLACER_ROOT", "PLACER_POLICY", "PLACER_WINDOW", "PLACER_VIA"];

#[test]
fn every_command_prints_what_stands_there() {
    let bin = tempfile::tempdir().expect("a directory");
    let numad = bin.path().join("numad");
    symlink(env!("CARGO_BIN_EXE_placer"), &numad).expect("a link");
    let copies = tempfile::tempdir().expect("a directory");
    for page in pages() {
        // Claims of one page count in that page alone, in the order in which it makes them.
        let state = tempfile::tempdir().expect("a directory");
        let text = std::fs::read_to_string(&page.path).expect("a page");
        let (copy, changed) = (copies.path().join(&page.name), for_trycmd(&text));
        std::fs::write(&copy, &changed).expect("written");
        let cases = trycmd::TestCases::new();
        cases.case(&copy).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        for name in VARIABLES {
            cases.env(name, "");
        }
        cases.env("PLACER_STATE_DIR", state.path().to_str().expect("a plain name"));
        cases.env("PLACER_CONFIG", common::SHIPPED);
        cases
            .register_bin("placer", trycmd::schema::Bin::Path(env!("CARGO_BIN_EXE_placer").into()));
        cases.register_bin("numad", trycmd::schema::Bin::Path(numad.clone()));
        cases.run();
        let written = std::fs::read_to_string(&copy).expect("it is still there");
        if written != changed {
            std::fs::write(&page.path, from_trycmd(&written)).expect("written");
        }
    }
}

#[test]
fn every_command_is_run_here_or_named_with_the_test_that_does() {
    let mut left: Vec<(&str, &str, &str)> = elsewhere::TRIED.to_vec();
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language() == "console") {
            let here = format!("{}:{}", page.name, block.line);
            if block.info == "console" {
                for line in block.commands("$ ") {
                    let program = line.split(' ').find(|word| !word.contains('='));
                    assert!(
                        matches!(program, Some("placer" | "numad")),
                        "{here}: not ours: {line}"
                    );
                }
                assert!(block.text.starts_with("$ "), "{here}: no command");
                continue;
            }
            assert_eq!(block.info, "console,ignore", "{here}: run by nobody");
            assert_eq!(block.commands("$ ").count(), 0, "{here}: looks as if it were run");
            let commands: Vec<&str> =
                block.commands("host$ ").chain(block.commands("host# ")).collect();
            assert!(!commands.is_empty(), "{here}: no command");
            for command in commands {
                let tried = elsewhere::TRIED.iter().any(|(known, ..)| *known == command);
                assert!(tried, "{here}: {command:?} is tried by no test: tests/guide/elsewhere.rs");
                left.retain(|(known, ..)| *known != command);
            }
        }
    }
    assert_eq!(left, [], "listed, and in no page");
}

#[test]
fn the_tests_that_are_named_are_there() {
    for (command, file, test) in elsewhere::TRIED {
        let text = std::fs::read_to_string(project().join(file)).unwrap_or_default();
        let defined = [format!("fn {test}("), format!("def {test}("), format!("{test}() {{")];
        assert!(defined.iter().any(|form| text.contains(form)), "{command}: no {test} in {file}");
    }
}

#[test]
fn everything_else_is_read_by_who_reads_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    for page in pages() {
        for block in &page.blocks {
            let here = format!("{}:{}", page.name, block.line);
            let file = |name: &str| {
                let path = dir.path().join(name);
                std::fs::write(&path, &block.text).expect("written");
                path
            };
            let mut placer = placer();
            placer.current_dir(project()).env("PLACER_STATE_DIR", &state).env("PLACER_ROOT", ROOT);
            let output = match block.info.as_str() {
                "console" | "console,ignore" | "text" | "rust" => continue,
                "toml" if is_settings(&block.text) => {
                    run(placer.args(["advise", "1", "--config"]).arg(file("settings.toml")))
                }
                "toml" => run(placer.args(["launch", "--dry-run"]).arg(file("guest.toml"))),
                "xml" => run(placer.args(["launch", "--dry-run"]).arg(file("domain.xml"))),
                "sh" => parsed_by_sh(&block.text),
                other => panic!("{here}: nobody reads {other:?}"),
            };
            let said = text(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{here}: {said}");
        }
    }
}

/// Whether a text sets something for the host, rather than telling a guest.
fn is_settings(text: &str) -> bool {
    ["[advise]", "[claims]", "[numad]", "[daemon]"].iter().any(|section| text.contains(section))
}

fn parsed_by_sh(script: &str) -> std::process::Output {
    let mut shell = Command::new("sh")
        .arg("-n")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    shell.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    shell.wait_with_output().expect("it ends")
}

#[test]
fn the_files_that_pages_show_are_those_that_are_there() {
    for (page, file) in [("qemu.md", "db.toml"), ("libvirt.md", "libvirt.toml")] {
        let shown = Page::read(&project().join("docs/src").join(page));
        let file = std::fs::read_to_string(project().join("docs/examples").join(file));
        let bare = |text: &str| -> Vec<String> {
            let lines = text.lines().map(|line| line.split(" #").next().unwrap_or("").trim());
            lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        let file = bare(&file.expect("an example"));
        assert!(shown.blocks.iter().any(|block| bare(&block.text) == file), "{page}: {file:?}");
    }
}

#[test]
fn every_page_is_in_the_contents_once() {
    let summary = Page::read(&project().join("docs/src/SUMMARY.md"));
    let mut listed: Vec<String> = summary.links().map(|(_, target)| target).collect();
    let mut there: Vec<String> = pages().into_iter().map(|page| page.name).collect();
    listed.sort();
    there.sort();
    assert_eq!(listed, there);
    assert!(there.len() > 3, "{there:?}");
}

#[test]
fn no_link_leads_nowhere() {
    let mut pages = pages();
    pages.push(Page::read(&project().join("docs/src/SUMMARY.md")));
    pages.push(Page::read(&project().join("README.md")));
    let mut count = 0;
    for page in &pages {
        for (line, link) in page.links() {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = page.path.parent().unwrap_or(Path::new("/"));
            let target = if file.is_empty() { page.path.clone() } else { folder.join(file) };
            assert!(target.exists(), "{}:{line}: nothing at {link}", page.name);
            let there = anchor.is_empty() || Page::read(&target).anchors().any(|a| a == anchor);
            assert!(there, "{}:{line}: no heading for {link}", page.name);
            count += 1;
        }
    }
    assert!(count > 10, "{count} links");
}
