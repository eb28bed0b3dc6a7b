//! The user guide in `docs/`: each command in it is run, or stands in a short list with the test that
//! tries it; each setting, guest file and script is read by who reads it; no link leads nowhere.
//!
//! `TRYCMD=overwrite cargo test --test it guide::` writes what the commands print; the diff is read, then
//! committed. Run once, with all features: the pages show devices.

use crate::common;

mod elsewhere;
mod page;

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{placer, project, run, text};
use page::{Page, for_trycmd, from_trycmd, pages};

/// The recorded host that files of the guide are tried on.
const ROOT: &str = "sysfs-fixtures/ring-4";

/// What a caller's own environment must not change, and no page sets: what is given to trycmd goes before
/// what stands in front of a command.
const VARIABLES: [&str; 3] = ["PLACER_POLICY", "PLACER_WINDOW", "PLACER_VIA"];

/// Makes a program of that name that goes by the shipped settings unless its caller names others.
fn program(bin: &Path, name: &str) -> PathBuf {
    let link = bin.join(name);
    symlink(env!("CARGO_BIN_EXE_placer"), &link).expect("a link");
    let script = bin.join(format!("{name}.sh"));
    let text = format!(
        "#!/bin/sh\nexport PLACER_CONFIG=\"${{PLACER_CONFIG:-{}}}\"\nexec {} \"$@\"\n",
        common::SHIPPED,
        link.display()
    );
    let draft = bin.join(format!("{name}.txt"));
    std::fs::write(&draft, text).expect("written");
    common::copy_program(&draft, &script);
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("a program");
    script
}

#[test]
fn every_command_prints_what_stands_there() {
    let bin = tempfile::tempdir().expect("a directory");
    let programs = ["placer", "numad"].map(|name| (name, program(bin.path(), name)));
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
        for (name, path) in &programs {
            cases.register_bin(*name, trycmd::schema::Bin::Path(path.clone()));
        }
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
                assert!(
                    tried,
                    "{here}: {command:?} is tried by no test: tests/it/guide/elsewhere.rs"
                );
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
                // tests/it/languages.rs runs what is Go.
                "console" | "console,ignore" | "text" | "rust" | "go" => continue,
                "toml" if is_settings(&block.text) => {
                    run(placer.args(["advise", "1", "--config"]).arg(file("settings.toml")))
                }
                "toml" => run(placer.args(["launch", "--dry-run"]).arg(file("guest.toml"))),
                "xml" => run(placer.args(["launch", "--dry-run"]).arg(file("domain.xml"))),
                "c" => {
                    let mut cc = Command::new("cc");
                    cc.args(["-fsyntax-only", "-Wall", "-Wextra", "-x", "c", "-", "-I"]);
                    fed(cc.arg(project().join("bindings/c")), &block.text)
                }
                "sh" => fed(Command::new("sh").arg("-n"), &block.text),
                "python" => {
                    let parse = "import ast, sys; ast.parse(sys.stdin.read())";
                    fed(Command::new("python3").args(["-c", parse]), &block.text)
                }
                other => panic!("{here}: nobody reads {other:?}"),
            };
            let said = text(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{here}: {said}");
        }
    }
}

/// Whether a text sets something for the host, rather than telling a guest.
fn is_settings(text: &str) -> bool {
    ["[advise]", "[claims]", "[numad]", "[daemon]", "[manage]", "[runtime]"]
        .iter()
        .any(|section| text.contains(section))
}

fn fed(command: &mut Command, input: &str) -> std::process::Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    child.wait_with_output().expect("it ends")
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

/// Returns what the program can say: all its sources, with literals that go over several lines as one.
fn sources() -> String {
    fn read(dir: &Path, into: &mut String) {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                read(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let text = text.replace("\\\n", " ");
                text.split_whitespace().for_each(|word| *into += &format!("{word} "));
            }
        }
    }
    let mut all = String::new();
    ["src", "engine/src", "launcher/src"]
        .iter()
        .for_each(|dir| read(&project().join(dir), &mut all));
    all
}

#[test]
fn every_message_that_is_explained_is_one_that_is_said() {
    let sources = sources();
    let page = Page::read(&project().join("docs/src/troubleshooting.md"));
    let messages = page.messages();
    assert!(messages.len() > 20, "{messages:?}");
    for message in messages {
        for part in message.split("...").map(|part| part.trim_matches([' ', ':'])) {
            assert!(sources.contains(part), "nobody says {part:?}");
        }
    }
}

#[test]
fn the_screens_that_are_shown_are_those_of_placer_top() {
    let page = Page::read(&project().join("docs/src/top.md"));
    let shown: Vec<_> = page.blocks.iter().filter(|block| block.info == "text").collect();
    assert_eq!(shown.len(), 2);
    for (block, name) in shown.iter().zip(["ring-asked", "help"]) {
        let path = project().join(format!("src/bin/placer-top/screens/{name}.txt"));
        let screen = std::fs::read_to_string(path).expect("a screen");
        assert!(screen.contains(&block.text), "{name}.txt is\n{screen}");
    }
}

#[test]
fn every_setting_is_on_its_page_under_its_section() {
    let page = Page::read(&project().join("docs/src/settings.md"));
    let shipped = std::fs::read_to_string(common::SHIPPED).expect("settings");
    let (mut section, mut count) = (String::new(), 0);
    for line in shipped.lines() {
        if line.starts_with('[') {
            section = format!("## `{line}`");
        } else if let Some((key, value)) = line.strip_prefix('#').and_then(|l| l.split_once(" = "))
            && !key.starts_with(' ')
        {
            let rows = page.below(&section);
            let named = |row: &&str| row.starts_with('|') && row.contains(&format!("`{key}`"));
            let row = rows.into_iter().find(named).unwrap_or_else(|| panic!("no {key}: {section}"));
            assert!(row.contains(&format!("`{value}`")), "{key} is {value}: {row}");
            count += 1;
        }
    }
    assert!(count > 20, "{count} settings");
}

/// The limits that the guide names, and the constants that set them.
const LIMITS: [(&str, &str, &str); 8] = [
    (
        "wait for one holder of the ledger's lock: answers",
        "engine/src/claims/store.rs",
        "LOCK_TIMEOUT",
    ),
    (
        "wait for one holder of the ledger's lock: `placer launch`",
        "src/bin/placer/commands/launch.rs",
        "PATIENCE",
    ),
    (
        "CPU time spent on the owners of claims for one decision",
        "engine/src/claims/fates.rs",
        "LOOK_TIME",
    ),
    (
        "guests whose memory is looked at for one decision",
        "engine/src/claims/look.rs",
        "MOST_LOOKS",
    ),
    (
        "threads of a process whose CPU time is added up",
        "engine/src/claims/proc.rs",
        "MAX_THREADS_SUMMED",
    ),
    ("claims in a ledger", "engine/src/claims/ledger.rs", "MOST_CLAIMS"),
    ("size of a ledger", "engine/src/claims/store.rs", "MAX_LEDGER"),
    ("size of lines that are not understood", "engine/src/claims/ledger.rs", "MAX_UNREAD"),
];

/// Reads a constant as the guide writes it: `Duration::from_millis(250)` is 250 ms, `8 << 20` 8 MiB.
fn limit(file: &str, name: &str) -> String {
    let source = std::fs::read_to_string(project().join(file)).expect("a source");
    let line = source.lines().find(|line| line.contains(&format!("const {name}: ")));
    let line = line.expect("the constant");
    let value = line.split(" = ").nth(1).and_then(|value| value.strip_suffix(';'));
    let value = value.expect("a constant on one line");
    for (before, unit) in [("Duration::from_millis(", "ms"), ("Duration::from_secs(", "s")] {
        if let Some(count) = value.strip_prefix(before) {
            return format!("{} {unit}", count.trim_end_matches(')'));
        }
    }
    match value.strip_suffix(" << 20") {
        Some(count) => format!("{count} MiB"),
        None => value.replace('_', ""),
    }
}

#[test]
fn every_limit_that_the_guide_names_is_the_codes() {
    let page = Page::read(&project().join("docs/src/claims.md"));
    let rows = page.below("## Limits").into_iter().filter(|row| row.starts_with('|'));
    let rows: Vec<&str> = rows.skip(2).collect();
    let wanted: Vec<String> = LIMITS
        .iter()
        .map(|(what, file, name)| format!("| {what} | {} |", limit(file, name)))
        .collect();
    assert_eq!(rows, wanted);
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
            // What lies outside is no part of the book.
            let leaves = page.path.starts_with(project().join("docs")) && file.starts_with("..");
            assert!(!leaves, "{}:{line}: {link} leaves the guide", page.name);
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
