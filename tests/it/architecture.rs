//! The direction of dependencies, read from the `use` lines.
//!
//! `ids, units -> idset, distance -> topology, sample -> snapshot -> policy -> advice`, and only
//! the ends open anything.

use crate::common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// For each module of the engine, the modules of ours it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("units", &[]),
    ("read", &[]),
    ("idset", &["ids"]),
    ("distance", &["ids"]),
    ("parse", &["ids", "idset", "units"]),
    ("files", &["ids", "parse", "error"]),
    ("error", &["ids", "idset", "units", "parse", "policy"]),
    ("topology", &["ids", "idset", "distance", "parse", "files", "error", "read"]),
    ("sample", &["ids", "idset", "parse"]),
    ("host", &["idset", "topology", "files", "error", "policy", "read"]),
    ("charges", &["ids", "idset", "units"]),
    // Of the policy only the figures that it decides on, which a snapshot keeps.
    ("snapshot", &["ids", "idset", "units", "topology", "sample", "host", "charges", "policy"]),
    (
        "policy",
        &["ids", "idset", "units", "distance", "parse", "files", "sample", "charges", "topology"],
    ),
    ("parts", &["ids", "idset", "units", "snapshot"]),
    ("request", &["ids", "idset", "units", "parse", "policy"]),
    ("advice", &["ids", "idset", "units", "policy"]),
    (
        "advise",
        &[
            "ids", "idset", "units", "advice", "charges", "error", "policy", "request", "snapshot",
            "topology",
        ],
    ),
    // The ends.
    (
        "source",
        &[
            "ids", "idset", "units", "distance", "parse", "files", "error", "read", "topology",
            "sample", "host", "snapshot", "request", "parts",
        ],
    ),
    ("store", &["ids", "idset", "units", "parse", "sample"]),
    // Its ledger, claims and charges are pure; its file and its looks at processes are an end.
    (
        "claims",
        &[
            "ids", "idset", "units", "parse", "read", "sample", "charges", "advice", "request",
            "error", "source", "store",
        ],
    ),
    ("backend", &["ids", "idset", "units", "parse", "policy"]),
    ("sampler", &["advice", "advise", "error", "host", "request", "sample", "snapshot", "source"]),
];

/// What only the ends may name: files, clocks, threads, the environment, the network, processes.
const MACHINE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "nix::",
    "procfs_core",
    "hwlocality",
    "crossbeam_channel",
    "println!",
];
const ENDS: &[&str] = &["source", "store", "backend", "sampler", "error"];
/// The files of `claims` that touch the machine.
const CLAIMS_ENDS: &[&str] = &[
    "claims/desk.rs",
    "claims/fates.rs",
    "claims/look.rs",
    "claims/observed.rs",
    "claims/proc.rs",
    "claims/proc_dir.rs",
    "claims/store.rs",
];

#[test]
fn modules_name_only_what_lies_below_them() {
    let engine = common::project().join("engine/src");
    let mut seen = BTreeSet::new();
    for file in rust_files(&engine) {
        let module = module_of(&engine, &file);
        if module == "lib" {
            continue;
        }
        let allowed = MAY_USE.iter().find(|(name, _)| *name == module);
        let allowed = allowed.unwrap_or_else(|| panic!("{module} is not in the table")).1;
        let text = code(&file);
        for used in crate_modules(&text) {
            assert!(
                used == module || allowed.contains(&used.as_str()),
                "{} names {used}: {module} may name {allowed:?}",
                file.display()
            );
            seen.insert((module.clone(), used));
        }
        if !ENDS.contains(&module.as_str()) && !CLAIMS_ENDS.iter().any(|end| file.ends_with(end)) {
            for machine in MACHINE {
                assert!(!text.contains(machine), "{} names {machine}", file.display());
            }
        }
    }
    // The check itself: it has found the dependencies it is about.
    assert!(seen.contains(&("snapshot".to_owned(), "sample".to_owned())), "{seen:?}");
}

#[test]
fn paths_of_the_host_are_spelled_in_sources_only() {
    let engine = common::project().join("engine/src");
    for file in rust_files(&engine) {
        let module = module_of(&engine, &file);
        // Claims look at processes, of the live host alone.
        if module == "source" || CLAIMS_ENDS.iter().any(|end| file.ends_with(end)) {
            continue;
        }
        let text = code(&file);
        for path in ["\"/sys", "\"/proc", "\"sys/", "\"proc/"] {
            assert!(!text.contains(path), "{} spells {path}", file.display());
        }
    }
}

#[test]
fn crates_depend_one_way() {
    let ours = |path: &str| -> Vec<String> {
        let text = std::fs::read_to_string(common::project().join(path)).expect("a manifest");
        let section = text.split("\n[dependencies]\n").nth(1).expect("dependencies");
        let section = section.split("\n[").next().unwrap_or_default();
        let names = section.lines().filter_map(|line| line.split(['.', ' ']).next());
        names.filter(|name| name.starts_with("placer")).map(str::to_owned).collect()
    };
    assert_eq!(ours("engine/Cargo.toml"), [""; 0]);
    assert_eq!(ours("launcher/Cargo.toml"), ["placer-engine"]);
    assert_eq!(ours("Cargo.toml"), ["placer-engine", "placer-launcher"]);
}

#[test]
fn the_engine_has_no_global_state() {
    for file in rust_files(&common::project().join("engine/src")) {
        for line in code(&file).lines() {
            let global = line.trim_start().starts_with("static ")
                || line.contains("thread_local!")
                || line.contains("static mut");
            // A counter that only keeps temporary names apart is no state of anybody's.
            assert!(!global || line.contains("CALLS"), "{}: {line}", file.display());
        }
    }
}

/// Returns a file without comments and without its tests.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Returns the modules named as `crate::module`, by `use` or in a path.
fn crate_modules(text: &str) -> BTreeSet<String> {
    text.split("crate::")
        .skip(1)
        .map(|rest| {
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
        })
        // Types are named from the root of the crate, where they are exported.
        .filter(|name| name.chars().next().is_some_and(char::is_lowercase))
        .collect()
}

fn module_of(root: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(root).expect("below the root");
    let first = inside.iter().next().expect("a name").to_str().expect("a plain name");
    first.trim_end_matches(".rs").to_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !is_test(&path) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Tests of a module in a file of their own may name what they like.
fn is_test(path: &Path) -> bool {
    path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with("tests"))
}
