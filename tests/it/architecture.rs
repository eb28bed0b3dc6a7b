//! The direction of dependencies, read from the `use` lines.
//!
//! The tables are the arrows of ARCHITECTURE.md; that there are no circles is checked for each folder of
//! modules of each crate.

mod graph;

use graph::Graph;

use crate::common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// For each module of the engine, the modules of it that it may name: the lowest first.
const ENGINE: &[(&str, &[&str])] = &[
    ("hash", &[]),
    ("ids", &[]),
    ("read", &[]),
    ("units", &[]),
    ("distance", &["ids"]),
    ("idset", &["ids"]),
    ("charges", &["ids", "idset", "units"]),
    ("parse", &["ids", "idset", "units"]),
    ("error", &["parse"]),
    ("sample", &["ids", "idset", "parse", "units"]),
    ("files", &["error", "ids", "idset", "parse", "units"]),
    ("store", &["idset", "parse", "sample"]),
    ("topology", &["distance", "error", "files", "ids", "idset", "parse", "read", "units"]),
    ("policy", &["charges", "files", "ids", "idset", "parse", "sample", "topology", "units"]),
    ("balance", &["ids", "idset", "policy", "units"]),
    ("advice", &["ids", "idset", "policy", "units"]),
    ("json", &["advice", "ids", "idset", "policy", "units"]),
    ("backend", &["idset", "parse", "policy", "units"]),
    (
        "host",
        &["error", "files", "idset", "parse", "policy", "read", "sample", "topology", "units"],
    ),
    ("request", &["ids", "idset", "parse", "policy", "units"]),
    ("snapshot", &["charges", "host", "ids", "idset", "policy", "sample", "topology", "units"]),
    (
        "advise",
        &[
            "advice", "charges", "ids", "idset", "policy", "request", "snapshot", "topology",
            "units",
        ],
    ),
    (
        "testing",
        &["error", "host", "ids", "idset", "parse", "sample", "snapshot", "topology", "units"],
    ),
    ("parts", &["ids", "idset", "snapshot", "units"]),
    (
        "source",
        &[
            "charges", "distance", "error", "hash", "files", "host", "ids", "idset", "parse",
            "parts", "request", "sample", "snapshot", "topology", "units",
        ],
    ),
    (
        "claims",
        &[
            "advice", "charges", "error", "hash", "ids", "idset", "parse", "read", "request",
            "sample", "snapshot", "source", "store", "units",
        ],
    ),
    (
        "sampler",
        &[
            "advice", "advise", "charges", "claims", "error", "host", "idset", "request", "sample",
            "snapshot", "source", "store", "units",
        ],
    ),
];

/// For each module of the programs' library, the modules of it that it may name.
const LIBRARY: &[(&str, &[&str])] = &[
    ("error_chain", &[]),
    ("atomic_file", &[]),
    ("report", &[]),
    ("trust", &[]),
    ("settings", &["error_chain", "trust"]),
    ("service", &["error_chain", "report", "settings"]),
    ("replay", &["report"]),
    ("container", &["error_chain", "service", "settings"]),
    ("oci", &["atomic_file", "container", "error_chain", "trust"]),
    ("numad", &["atomic_file", "error_chain", "service", "settings"]),
    ("protocol", &["numad", "service", "settings"]),
    ("args", &["service", "settings"]),
    ("daemon", &["error_chain", "numad", "protocol", "report", "service", "settings"]),
    ("nri", &["container", "daemon", "error_chain", "protocol", "service", "settings"]),
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
    "claims/decision.rs",
    "claims/desk.rs",
    "claims/fates.rs",
    "claims/look.rs",
    "claims/observed.rs",
    "claims/principal.rs",
    "claims/proc.rs",
    "claims/proc_dir.rs",
    "claims/store.rs",
    "claims/watched.rs",
];

#[test]
fn modules_name_only_what_lies_below_them() {
    for (root, table) in [("engine/src", ENGINE), ("src", LIBRARY)] {
        let graph = Graph::read(&common::project().join(root));
        let above = graph.edges.iter().filter_map(|(from, to)| {
            let (from, to) = (from.first()?, to.first()?);
            let allowed = table.iter().find(|(name, _)| name == from);
            let allowed = allowed.unwrap_or_else(|| panic!("{root}: {from} is not in the table")).1;
            (from != to && !allowed.contains(&to.as_str())).then(|| format!("{from} -> {to}"))
        });
        assert_eq!(above.collect::<BTreeSet<_>>(), BTreeSet::new(), "{root}");
    }
}

/// The check itself: it finds what is used through a name that another module passes on, and in a path.
#[test]
fn uses_are_found() {
    let uses = |root: &str, from: &str, to: &str| {
        let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
        let graph = Graph::read(&common::project().join(root));
        assert!(graph.edges.contains(&(path(from), path(to))), "{from} -> {to}: {:?}", graph.edges);
    };
    uses("src", "daemon::core", "service::advise");
    uses("src", "numad::queue::letters", "numad::options");
    uses("engine/src", "snapshot", "sample");
    uses("launcher/src", "cgroup::plan", "step::group");
}

#[test]
fn only_the_ends_touch_the_machine() {
    let engine = common::project().join("engine/src");
    for file in rust_files(&engine) {
        let module = module_of(&engine, &file);
        if ENDS.contains(&module.as_str()) || CLAIMS_ENDS.iter().any(|end| file.ends_with(end)) {
            continue;
        }
        let text = code(&file);
        for machine in MACHINE {
            assert!(!text.contains(machine), "{} names {machine}", file.display());
        }
    }
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
        // The text of an error may name a directory of the kernel's.
        let text = code(&file).replace("\"sys/devices/system/node: expected", "");
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
        let ours = |name: &&str| name.starts_with("placer") || name.starts_with("testkit");
        names.filter(ours).map(str::to_owned).collect()
    };
    assert_eq!(ours("engine/Cargo.toml"), [""; 0]);
    assert_eq!(ours("launcher/Cargo.toml"), ["placer-engine"]);
    assert_eq!(ours("Cargo.toml"), ["placer-engine", "placer-launcher"]);
    assert_eq!(ours("bindings/c/Cargo.toml"), ["placer-engine"]);
    // `cargo package` finds no crate that is not published where another one depends on it.
    assert_eq!(ours("packaging/extras/Cargo.toml"), ["placer"]);
    assert_eq!(ours("bindings/spank/Cargo.toml"), ["placer", "placer-engine", "placer-launcher"]);
    assert_eq!(ours("testkit/Cargo.toml"), ["placer-engine", "placer-launcher"]);
}

#[test]
fn no_crate_has_a_circle_of_modules() {
    for root in ["engine/src", "launcher/src", "src", "bindings/c/src"] {
        let graph = Graph::read(&common::project().join(root));
        println!("{root}: {} modules, {} uses", graph.modules.len(), graph.edges.len());
        assert!(graph.edges.len() > graph.modules.len(), "{root}: the check has found them");
        assert_eq!(graph.circles(), [""; 0], "{root}");
    }
    // Four modules, a line of them.
    let spank = Graph::read(&common::project().join("bindings/spank/src"));
    assert!(!spank.edges.is_empty() && spank.circles().is_empty());
}

/// What the library finds is part of its answers; the programs and the daemon's log print.
#[test]
fn only_the_programs_print() {
    let root = common::project().join("src");
    for file in rust_files(&root) {
        if file.starts_with(root.join("bin")) || file.ends_with("daemon/log.rs") {
            continue;
        }
        let text = code(&file);
        for word in ["print!(", "println!(", "io::stdout()", "io::stderr()", "thread_local!"] {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}

/// A file is compiled as one module of one crate.
#[test]
fn no_file_is_taken_in_by_its_path() {
    let attribute = concat!("#[pa", "th");
    let roots = [
        "engine",
        "launcher",
        "src",
        "tests",
        "testkit",
        "benches",
        "bindings",
        "packaging",
        "fuzz",
    ];
    for root in roots {
        for file in every_rust_file(&common::project().join(root)) {
            let text = std::fs::read_to_string(&file).expect("a source file");
            assert!(!text.contains(attribute), "{}", file.display());
            assert!(
                !file.ends_with("mod.rs"),
                "{}: foo.rs and foo/, not foo/mod.rs",
                file.display()
            );
        }
    }
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
    let line = |line: &'_ str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn module_of(root: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(root).expect("below the root");
    let first = inside.iter().next().expect("a name").to_str().expect("a plain name");
    first.trim_end_matches(".rs").to_owned()
}

pub(crate) fn rust_files(dir: &Path) -> Vec<PathBuf> {
    every_rust_file(dir).into_iter().filter(|file| !is_test(file)).collect()
}

fn every_rust_file(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(every_rust_file(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
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
