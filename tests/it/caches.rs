//! What people see of caches and of cores of different speed: `placer`, `placer show`, `placer doctor`.

use crate::common;
use testkit::machine;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use common::{fixture, fixtures, json, placer, placer_on, run, text};
use machine::{CPUS, Machine, put_file, scratch};
use placer_engine::claims::{Caller, ClaimDirs, ClaimOwner, Claims, LOCK_TIMEOUT};
use placer_engine::{CpuId, CpuSet, Request, Snapshot, SysRoot, advise};
use serde_json::{Value, json};

const GIB: u64 = 1 << 20;

/// One node of so many caches with eight CPUs each.
fn wide(root: &Path, caches: u32) {
    Machine::new().node(0, 0..caches * 8, 64 * GIB, 32 * GIB).write(root);
    for cpu in 0..caches * 8 {
        let (first, dir) = (cpu / 8 * 8, format!("{CPUS}/cpu{cpu}/cache/index3"));
        put_file(root, &format!("{dir}/level"), "3\n");
        put_file(root, &format!("{dir}/size"), "32768K\n");
        put_file(root, &format!("{dir}/shared_cpu_list"), format!("{first}-{}\n", first + 7));
    }
}

fn set(list: &Value) -> CpuSet {
    list.as_str().expect("a list").parse().expect("CPUs")
}

#[test]
fn the_first_screen_of_a_single_node_shows_its_caches() {
    let first = |name: &str| {
        let output = run(placer().env("PLACER_ROOT", fixture(name)));
        text(&output.stdout)
    };
    let shown = first("caches-4");
    for line in ["L3 16 MiB", " 0-3\n", " 4-7\n", " 8-11\n", " 12-15\n"] {
        assert!(shown.contains(line), "{line:?}: {shown}");
    }
    assert_eq!(shown.matches("/4  free  ").count(), 4, "{shown}");
    assert!(shown.lines().count() <= 24, "{shown}");
    let busy = first("caches-4-busy");
    assert_eq!(
        (busy.matches("/4  free  ").count(), busy.matches("/4  none  ").count()),
        (2, 2),
        "{busy}"
    );
    // Of several nodes a line.
    assert!(
        first("caches-2x2").contains("\ncaches: 4 x L3 16 MiB, 4 free; placer show lists them\n")
    );
    // Where there is one cache a node, nothing is said of it.
    for name in ["one-node", "two-nodes", "uneven-8-busy"] {
        assert!(!first(name).contains("  cache  "), "{}", first(name));
        assert!(!text(&placer_on(&fixture(name), &["show"]).stdout).contains("idle/CPUs  claims"));
    }
}

#[test]
fn hosts_of_many_caches_fit_the_screen() {
    let dir = scratch();
    for caches in [2, 16, 17, 64, 200] {
        let root = dir.path().join(caches.to_string());
        wide(&root, caches);
        let shown = text(&placer_on(&root, &["show"]).stdout);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(shown.lines().count() <= 20 + 200 / 3, "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        let words: BTreeSet<&str> = shown.split_whitespace().collect();
        for cache in 0..caches {
            let list = format!("{}-{}", cache * 8, cache * 8 + 7);
            assert!(words.contains(list.as_str()), "{list}: {shown}");
        }
        let svg = text(&placer_on(&root, &["show", "--svg", "-"]).stdout);
        assert_eq!(svg.matches(">L3 32 MiB<").count(), caches as usize);
    }
}

/// hwloc reads the same files and agrees on every machine; where a file is wrong it says so.
#[test]
fn hwloc_is_the_second_opinion_on_caches() {
    for name in fixtures() {
        let shown = placer_on(&fixture(&name), &["show", "--devices"]);
        assert_eq!(text(&shown.stderr), "", "{name}");
    }
}

#[test]
fn every_cpu_is_in_one_cache_of_the_json() {
    let mut several = 0;
    for name in fixtures() {
        let host = json(&placer_on(&fixture(&name), &["show", "--json"]));
        let caches = host["caches"].as_array().expect("a list");
        for node in host["nodes"].as_array().expect("a list") {
            let mut left = set(&node["cpus"]);
            let here: Vec<&Value> = caches.iter().filter(|c| c["node"] == node["id"]).collect();
            several += usize::from(here.len() > 1);
            for cache in &here {
                let cpus = set(&cache["cpus"]);
                assert!(!cpus.is_empty() && cpus.is_subset(&left), "{name}: {cache}");
                left = left.difference(&cpus);
                let cores = cache["cores"].as_array().expect("a list").iter().map(set);
                let mut of_cores = CpuSet::new();
                for core in cores {
                    assert!(core.intersection(&of_cores).is_empty(), "{name}: {cache}");
                    of_cores = of_cores.union(&core);
                }
                assert_eq!(of_cores, cpus, "{name}");
            }
            assert!(here.is_empty() || left.is_empty(), "{name}: {left} in no cache");
        }
    }
    // caches-4 and caches-2x2, idle and busy, and the three that are made up.
    assert!(several >= 9, "{several} nodes with several caches");
}

#[test]
fn clusters_without_an_l3_go_by_what_several_cores_share() {
    let caches = |name: &str| -> Vec<(u64, String)> {
        let host = json(&placer_on(&fixture(name), &["show", "--json"]));
        let one = |cache: &Value| {
            (cache["level"].as_u64().expect("a level"), set(&cache["cpus"]).to_string())
        };
        host["caches"].as_array().expect("a list").iter().map(one).collect()
    };
    let of =
        |level, list: &[&str]| list.iter().map(|l| (level, (*l).to_owned())).collect::<Vec<_>>();
    assert_eq!(caches("arm64-clusters"), of(2, &["0-3", "4-7", "8-11", "12-15"]));
    assert_eq!(caches("hybrid-3"), [of(3, &["0-19"]), of(2, &["20-21"])].concat());
    assert_eq!(caches("x3d"), of(3, &["0-7,16-23", "8-15,24-31"]));
    assert_eq!(caches("caches-4"), of(3, &["0-3", "4-7", "8-11", "12-15"]));
}

#[test]
fn cores_of_different_speed_are_shown() {
    let hybrid = fixture("hybrid-3");
    let shown = text(&placer_on(&hybrid, &["show"]).stdout);
    let line = "cores: CPUs 0-11 are fast; CPUs 12-21 efficient, each worth 0.60 of a fast one\n";
    assert!(shown.contains(line), "{shown}");
    let kinds =
        |name: &str| json(&placer_on(&fixture(name), &["show", "--json"]))["core_kinds"].clone();
    let kind = |cpus: &str, capacity: f64| json!({ "cpus": cpus, "capacity": capacity });
    assert_eq!(kinds("hybrid-3"), json!([kind("0-11", 1.0), kind("12-21", 0.599_609)]));
    assert_eq!(kinds("arm64-clusters"), json!([kind("0-7", 1.0), kind("8-15", 0.435_547)]));
    assert_eq!(kinds("x3d"), Value::Null);
    let svg = text(&placer_on(&hybrid, &["show", "--svg", "-"]).stdout);
    assert_eq!(svg.matches("efficient: worth 0.60 of a fast CPU").count(), 10);
}

/// An old recording has neither the kinds of cores nor caches: it is read as before, without them.
#[test]
fn a_recording_without_files_of_caches_is_read() {
    let dir = scratch();
    let mut files = String::new();
    for entry in ["sys/devices/system/node", "proc", "next", "clock", "node-order"] {
        write!(files, " {entry}").expect("a text");
    }
    let copy = format!("cp -R{files} --parents {}", dir.path().display());
    let mut shell = std::process::Command::new("sh");
    assert!(
        shell.args(["-c", &copy]).current_dir(fixture("hybrid-3")).status().expect("sh").success()
    );
    let host = json(&placer_on(dir.path(), &["show", "--json"]));
    assert_eq!((host["caches"].clone(), host["core_kinds"].clone()), (json!([]), Value::Null));
    assert_eq!(text(&placer_on(dir.path(), &["advise", "2:1G"]).stdout), "0\n");
}

/// Claims four CPUs for a guest that is bound to two caches, as after a neighbour has left.
fn across(root: &Path, state: &Path) {
    let root = SysRoot::at(root);
    let snapshot = Snapshot::take(&root, Duration::ZERO).expect("a good machine");
    let request: Request = "4:16".parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an answer");
    let place = ClaimDirs { own: Some(state.to_owned()), ..ClaimDirs::default() };
    let claims = Claims::open_to_claim(&place, &root).expect("a directory");
    let (decision, _) = claims.begin(LOCK_TIMEOUT).expect("the lock");
    let owner = ClaimOwner::Pid(std::process::id());
    let decision = decision.roaming_over((0..8).map(CpuId).collect());
    decision.claim(&request, &advice, owner, Caller::default(), None).expect("claimed");
}

#[test]
fn a_guest_across_caches_is_shown_and_found() {
    let state = scratch();
    let root = fixture("caches-4");
    across(&root, state.path());
    let ask = |args: &[&str]| {
        run(placer().args(args).env("PLACER_ROOT", &root).env("PLACER_STATE_DIR", state.path()))
    };
    let host = json(&ask(&["show", "--json"]));
    let claimed: Vec<&Value> =
        host["caches"].as_array().expect("a list").iter().map(|cache| &cache["claimed"]).collect();
    assert_eq!(claimed, [true, true, false, false]);
    assert_eq!(host["caches"][1]["shared"], "4-7");
    let shown = text(&ask(&["show"]).stdout);
    assert_eq!(
        (shown.matches("/4  1 guest  ").count(), shown.matches("/4  free  ").count()),
        (2, 2)
    );

    let found = ask(&["doctor", "--json"]);
    assert_eq!(found.status.code(), Some(1));
    let form: Value = serde_json::from_slice(&found.stdout).expect("JSON");
    let pid = std::process::id();
    let finding = json!({
        "kind": "across-caches",
        "text": format!("guest {pid} runs on 2 caches (CPUs 0-7), and one could hold it (CPUs 0-3)"),
        "cost": "about 10 % of its speed where threads share data: 50 of 100 pairs are on different caches",
        "mend": format!("taskset -acp 0-3 {pid}"),
        "undo": format!("taskset -acp 0-7 {pid}"),
    });
    assert_eq!(form["findings"], json!([finding]));
    let table = text(&ask(&["doctor"]).stdout);
    for line in
        [format!("   mend  taskset -acp 0-3 {pid}\n"), format!("   undo  taskset -acp 0-7 {pid}\n")]
    {
        assert!(table.contains(&line), "{table}");
    }
}

#[test]
fn cpus_that_a_claim_owns_are_shown() {
    let state = scratch();
    let root = fixture("caches-4");
    let place = ClaimDirs { own: Some(state.path().to_owned()), ..ClaimDirs::default() };
    let host = SysRoot::at(&root);
    let snapshot = Snapshot::take(&host, Duration::ZERO).expect("a good machine");
    let request: Request = "2:16".parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an answer");
    let claims = Claims::open_to_claim(&place, &host).expect("a directory");
    let (decision, _) = claims.begin(LOCK_TIMEOUT).expect("the lock");
    let owner = ClaimOwner::Pid(std::process::id());
    let decision = decision.pinning([8, 10].map(CpuId).into_iter().collect());
    decision.claim(&request, &advice, owner, Caller::default(), None).expect("claimed");
    let ask = |args: &[&str]| {
        run(placer().args(args).env("PLACER_ROOT", &root).env("PLACER_STATE_DIR", state.path()))
    };
    assert!(text(&ask(&["show"]).stdout).contains("  CPUs 8,10 owned  "));
    assert_eq!(json(&ask(&["show", "--json"]))["caches"][2]["owned"], "8,10");
    let svg = text(&ask(&["show", "--svg", "-"]).stdout);
    assert_eq!(svg.matches("class=\"ow\"").count(), 2 + 1, "two CPUs and the key");
}
