//! The language of what people read: help, README and guide use the words of the field.
//!
//! The words below are those by which sentences become hard to read: reports that are "told",
//! quantities that are "so many", sentences about "whoever" and "nobody" instead of users and processes.

use std::path::PathBuf;

use crate::architecture::rust_files;
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

/// The texts: each file of the guide, the README, the help of each command, and the schemas.
fn texts() -> Vec<PathBuf> {
    let mut paths = ["README.md", "bindings/c/placer.h", "bindings/c/libplacer.3"]
        .map(|path| project().join(path))
        .to_vec();
    for (dir, extension) in
        [("docs/src", "md"), ("tests/help", "txt"), ("src/report/schema", "json")]
    {
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

/// Returns the lines of a source file's rustdoc with their numbers: of its module and of public items.
fn public_docs(text: &str) -> Vec<(usize, &str)> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let (mut docs, mut above) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()).map(|(number, line)| (number, line.trim_start()))
    {
        if line.starts_with("//!") {
            docs.push((number, line));
        } else if line.starts_with("///") {
            above.push((number, line));
        } else if !line.starts_with("#[") && !line.starts_with(')') {
            // Variants have no `pub`; where their type is private they are read too.
            if line.starts_with("pub ") || line.starts_with(char::is_uppercase) {
                docs.append(&mut above);
            }
            above.clear();
        }
    }
    docs
}

#[test]
fn public_rustdoc_has_no_forbidden_words() {
    let (mut found, mut lines) = (Vec::new(), 0);
    let roots = ["engine/src", "launcher/src", "src", "bindings/c/src"];
    let roots = roots.map(|root| project().join(root));
    for file in roots.iter().flat_map(|root| rust_files(root)) {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let docs = public_docs(&text);
        lines += docs.len();
        for (number, line) in docs {
            for fault in faults(line) {
                found.push(format!("{}:{number}: {fault:?}: {line}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(lines > 3000, "{lines}");
}

#[test]
fn rustdoc_is_read_of_modules_and_public_items() {
    let text = "//! A.\n/// B\n#[derive(Debug)]\npub struct B {\n/// C\nc: u8,\n/// D\npub d: u8,\n}\n\
                /// E\npub(crate) fn e() {}\n#[cfg(test)]\nmod tests {\n/// F\npub fn f() {}\n}\n";
    assert_eq!(public_docs(text), [(1, "//! A."), (2, "/// B"), (7, "/// D")]);
}

#[test]
fn forbidden_words_are_found() {
    assert_eq!(faults("What is told to whom"), ["told", "whom"]);
    assert_eq!(faults("Keeps it for so long: nobody has it"), ["so long", "nobody"]);
    assert_eq!(faults("who names a file answers for it"), ["who"]);
    assert!(faults("Users who are not root claim through the daemon").is_empty());
    assert!(faults("the whole fold; so that many; unfolded").is_empty());
}
