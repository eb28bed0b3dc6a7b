//! The help of every command: the text itself, its size and its first sentence.
//!
//! `UPDATE_EXPECT=1` writes tests/help/*.txt anew.

use crate::common;

use std::path::PathBuf;

use common::{placer, project, run, text};

const WIDTH: usize = 80;
const SHORT_LINES: usize = 24;

/// Returns the help for these arguments, from a terminal of 80 columns.
fn help(args: &[&str]) -> String {
    let output = run(placer().env("COLUMNS", WIDTH.to_string()).args(args));
    let result = (output.status.code(), text(&output.stderr));
    assert_eq!(result, (Some(0), String::new()), "{args:?}");
    text(&output.stdout)
}

/// The lines of `placer -h` that list commands: name and sentence.
fn commands() -> Vec<(String, String)> {
    let help = help(&["-h"]);
    let listed = help.split_once("\nCommands:\n").expect("a list of commands").1;
    let listed = listed.split("\nOptions:").next().unwrap_or_default();
    let split = |line: &str| {
        let (name, sentence) = line.trim().split_once(' ').expect("a name and a sentence");
        (name.to_owned(), sentence.trim().to_owned())
    };
    listed.lines().map(split).filter(|(name, _)| name != "help").collect()
}

/// Every help that there is, with the name of its file. numad's own options are numad's.
fn all() -> Vec<(String, String)> {
    let mut all = vec![
        ("placer.short".to_owned(), help(&["-h"])),
        ("placer.long".to_owned(), help(&["--help"])),
        ("numad.long".to_owned(), help(&["help", "numad"])),
    ];
    for (name, _) in commands().iter().filter(|(name, _)| name != "numad") {
        all.push((format!("{name}.short"), help(&[name, "-h"])));
        all.push((format!("{name}.long"), help(&[name, "--help"])));
        assert_eq!(help(&["help", name]), help(&[name, "--help"]));
    }
    all
}

#[test]
fn the_help_of_every_command_is_as_written_down() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut differing = Vec::new();
    let all = all();
    for (name, found) in &all {
        let path = file(name);
        if update {
            std::fs::write(&path, found).expect("written");
        } else if std::fs::read_to_string(&path).unwrap_or_default() != *found {
            differing.push(format!("{}: found\n{found}", path.display()));
        }
    }
    assert!(differing.is_empty(), "UPDATE_EXPECT=1 rewrites:\n{}", differing.join("\n"));
    let files = std::fs::read_dir(file("").with_file_name("")).expect("a directory").count();
    assert_eq!(files, all.len(), "a file in tests/help belongs to no command");
}

fn file(name: &str) -> PathBuf {
    project().join("tests/help").join(format!("{name}.txt"))
}

#[test]
fn short_help_fits_a_small_terminal() {
    for (name, help) in all() {
        let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(wide.is_empty(), "{name}: {wide:?}");
        if name.ends_with(".short") {
            assert!(help.lines().count() <= SHORT_LINES, "{name}:\n{help}");
        }
    }
}

/// clap takes the doc comment of a flattened group of flags for that of the command.
#[test]
fn help_begins_with_the_sentence_that_lists_the_command() {
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for (name, sentence) in commands.iter().filter(|(name, _)| name != "numad") {
        for flag in ["-h", "--help"] {
            assert_eq!(
                help(&[name, flag]).lines().next(),
                Some(sentence.as_str()),
                "{name} {flag}"
            );
        }
    }
}

#[test]
fn long_help_shows_examples_first() {
    for (name, help) in all().iter().filter(|(name, _)| name.ends_with(".long")) {
        if name == "numad.long" {
            continue;
        }
        let rest = help.split_once("\n\nExamples:\n").map(|(_, rest)| rest).unwrap_or_default();
        assert!(rest.starts_with("  placer "), "{name}: {help}");
        assert!(rest.contains("\nUsage: placer"), "{name}: {help}");
    }
}

/// "Print", not "Prints": as every description of a flag or command begins.
#[test]
fn commands_are_described_in_the_imperative() {
    for (name, sentence) in commands() {
        let verb = sentence.split(' ').next().unwrap_or_default();
        assert!(!verb.ends_with('s'), "{name}: {sentence}");
    }
}
