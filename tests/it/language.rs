//! The language of what people read: help, README and guide use the words of the field.
//!
//! The words below are those by which sentences become hard to read: reports that are "told",
//! quantities that are "so many", sentences about "whoever" and "nobody" instead of users and processes.

use std::path::PathBuf;

use crate::common::project;

/// Words that no text for people has, as they stand in lower case between other characters.
const FORBIDDEN: [&str; 16] = [
    "told",
    "tells",
    "so many",
    "so much",
    "so long",
    "nobody",
    "anybody",
    "somebody",
    "everybody",
    "nobody's",
    "everybody's",
    "whoever",
    "whom",
    "himself",
    "herself",
    "all the same",
];

/// Nouns that "who" may follow: "users who are not root".
const PERSONS: [&str; 6] = ["users", "user", "people", "those", "engineers", "anyone"];

/// Lines that may have a forbidden word, with the reason.
const ALLOWED: [(&str, &str); 0] = [];

/// The texts: each file of the guide, the README, and the help of each command.
fn texts() -> Vec<PathBuf> {
    let mut paths = vec![project().join("README.md")];
    for (dir, extension) in [("docs/src", "md"), ("tests/help", "txt")] {
        let entries = std::fs::read_dir(project().join(dir)).expect("a directory");
        let files = entries.map(|entry| entry.expect("an entry").path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|is| is == extension)));
    }
    paths.sort();
    paths
}

/// Returns what is wrong with a line.
fn faults(line: &str) -> Vec<String> {
    let line = line.to_lowercase();
    let words: Vec<&str> = line
        .split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '-' || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let mut faults = Vec::new();
    for forbidden in FORBIDDEN {
        let forbidden: Vec<&str> = forbidden.split(' ').collect();
        if words.windows(forbidden.len()).any(|window| window == forbidden) {
            faults.push(forbidden.join(" "));
        }
    }
    for (at, _) in words.iter().enumerate().filter(|(_, word)| **word == "who") {
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        if !before.is_some_and(|before| PERSONS.contains(before)) {
            faults.push("who".to_owned());
        }
    }
    faults
}

#[test]
fn texts_for_people_have_no_forbidden_words() {
    let mut found = Vec::new();
    let texts = texts();
    for path in &texts {
        let text = std::fs::read_to_string(path).expect("a text");
        for (number, line) in (1..).zip(text.lines()) {
            if ALLOWED.iter().any(|(allowed, _)| line.contains(allowed)) {
                continue;
            }
            for fault in faults(line) {
                found.push(format!("{}:{number}: {fault:?}: {line}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(texts.len() > 30, "{texts:?}");
    // A list of exceptions that grows is a list of faults.
    assert!(ALLOWED.len() < 10);
}

#[test]
fn forbidden_words_are_found() {
    assert_eq!(faults("What is told to whom"), ["told", "whom"]);
    assert_eq!(faults("Keeps it for so long: nobody has it"), ["so long", "nobody"]);
    assert_eq!(faults("who names a file answers for it"), ["who"]);
    assert!(faults("Users who are not root claim through the daemon").is_empty());
    assert!(faults("the whole fold; so that many; unfolded").is_empty());
}
