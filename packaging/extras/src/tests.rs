//! What is written, held against the parser, and tried in the programs that read it.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use needs::needs;

use super::*;

fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("package");
    write_all(&path).expect("written");
    write_all(&path).expect("and again over what is there");
    (dir, path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Returns what a program prints.
fn ask(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(dir).output().expect(program);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
    text(&output.stdout)
}

#[test]
fn every_command_has_a_page_with_each_of_its_flags() {
    let (_keep, dir) = written();
    let mut command = args::Args::command();
    command.build();
    let mut expected = vec!["placer.1".to_owned()];
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("placer-{}.1", sub.get_name());
        let page = read(&dir.join("man/man1").join(&name));
        assert!(page.starts_with(".ie"), "{name} has no title");
        for flag in sub.get_arguments().filter_map(|flag| flag.get_long()) {
            let flag = format!("\\fB\\-\\-{}\\fR", flag.replace('-', "\\-"));
            assert!(page.contains(&flag), "{name} has no {flag}");
        }
        let long_about = sub.get_long_about().map(ToString::to_string).unwrap_or_default();
        let has_examples = long_about.contains("\n\nExamples:\n");
        assert_eq!(page.contains(".SH EXAMPLES"), has_examples, "{name}");
        let has_notes = sub.get_after_long_help().is_some();
        assert_eq!(page.contains(".SH NOTES"), has_notes, "{name}");
        // The first sentence is the one that `placer -h` lists.
        let about = sub.get_about().expect("a description").to_string();
        let named = format!("placer\\-{} \\- {}\n", sub.get_name(), escaped(&about));
        assert!(page.contains(&named), "{name}: expected {named:?} in\n{page}");
        expected.push(name);
    }
    expected.sort();
    assert_eq!(names(&dir.join("man/man1")), expected);
    assert_eq!(names(&dir.join("man/man8")), ["numad.8", "placer-runc.8"]);
}

/// A text as troff has it.
fn escaped(text: &str) -> String {
    text.replace('-', "\\-").replace('\'', "\\*(Aq")
}

#[needs(groff)]
#[test]
fn groff_finds_no_fault_in_any_page() {
    let (_keep, dir) = written();
    for section in ["man1", "man8"] {
        for page in names(&dir.join("man").join(section)) {
            let path = format!("man/{section}/{page}");
            let said = ask("groff", &["-ww", "-z", "-man", "-Tutf8", &path], &dir);
            assert_eq!(said, "", "{path}");
        }
    }
}

#[test]
fn numads_page_has_every_option_of_its_usage() {
    let (_keep, dir) = written();
    let page = read(&dir.join("man/man8/numad.8")).replace("\\-", "-");
    let version = env!("CARGO_PKG_VERSION");
    assert!(page.starts_with(&format!(".TH numad 8 \"\" \"placer {version}\" \"placer\"\n")));
    let options = page.split(".SH OPTIONS\n").nth(1).and_then(|rest| rest.split(".SH").next());
    let options = options.expect("options");
    let usage = include_str!("../../../src/numad/usage.rs");
    let letters: Vec<char> =
        usage.match_indices("\n-").filter_map(|(at, _)| usage[at + 2..].chars().next()).collect();
    assert!(letters.len() > 20, "{letters:?}");
    for letter in letters {
        let tagged = |line: &str| line.starts_with(".B") && line.contains(&format!("-{letter} "));
        let found = options.lines().any(|line| tagged(&format!("{} ", line.replace('"', " "))));
        assert!(found, "no -{letter} in numad.8");
    }
}

#[needs(bash)]
#[test]
fn bash_completes() {
    let (_keep, dir) = written();
    let complete = |words: &str| {
        let script = format!(
            "source completions/placer; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); \
             _placer placer \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        ask("bash", &["--norc", "-c", &script], &dir)
    };
    for (words, found) in [
        ("placer adv", "advise\n"),
        ("placer advise --expl", "--explain\n"),
        ("placer advise --policy ''", "best\nnumad\nnumad-2015\nnumad-2025\n"),
    ] {
        assert_eq!(complete(words), found, "{words}");
    }
}

#[needs(zsh)]
#[test]
fn zsh_loads_its_completions() {
    let (_keep, dir) = written();
    let script = "fpath=($PWD/completions $fpath); autoload -U compinit; compinit -u -D; \
                  print $_comps[placer]; autoload +X _placer && whence -w _placer";
    let found = ask("zsh", &["-f", "-c", script], &dir);
    assert_eq!(found, "_placer\n_placer: function\n");
    ask("zsh", &["-f", "-n", "completions/_placer"], &dir);
}

#[needs(fish)]
#[test]
fn fish_completes() {
    let (_keep, dir) = written();
    let complete = |words: &str| {
        let script = format!("source completions/placer.fish; complete -C '{words}'");
        let found = ask("fish", &["--no-config", "-c", &script], &dir);
        found
            .lines()
            .map(|line| line.split('\t').next().unwrap_or("").to_owned())
            .collect::<Vec<_>>()
    };
    for (words, found) in [
        ("placer advi", vec!["advise".to_owned()]),
        (
            "placer advise --policy ",
            ["best", "numad", "numad-2015", "numad-2025"].map(str::to_owned).to_vec(),
        ),
    ] {
        assert_eq!(complete(words), found, "{words}");
    }
}
