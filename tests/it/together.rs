//! `placer advise --together` and `placer fit`: several guests in one decision.

use crate::common;

use std::path::Path;
use std::process::Output;

use common::{fixture, ids, json, placer_on, run, text};
use serde_json::Value;

/// Returns the output for a recorded host, with claims in a directory.
fn on(host: &str, state: &Path, args: &[&str]) -> Output {
    let mut command = common::placer();
    command.env("PLACER_STATE_DIR", state).args(args).arg("--root").arg(fixture(host));
    run(&mut command)
}

fn lines(output: &Output) -> Vec<String> {
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_plan_is_held_whole_or_not_at_all() {
    let state = tempfile::tempdir().expect("a directory");
    let held = |state: &Path| {
        let claims = json(&on("two-nodes", state, &["ps", "--json"]));
        claims["claims"].as_array().map_or(0, Vec::len)
    };
    let fit = |state: &Path| text(&on("two-nodes", state, &["fit", "2:100"]).stdout);
    let more: usize = fit(state.path()).trim().parse().expect("a number");
    assert!(more > 2, "{more}");
    let copies = (more + 1).to_string();
    let too_many = ["advise", "2:100", "--copies", &copies, "--hold", "1m"];
    let refused = on("two-nodes", state.path(), &too_many);
    assert_eq!(refused.status.code(), Some(0));
    assert_eq!(lines(&refused).iter().filter(|line| *line == "-").count(), 1);
    let said = text(&refused.stderr);
    assert!(said.contains("does not fit beside the others"), "{said}");
    assert!(said.contains(&format!("nothing is held: {more} of {copies} guests fit")), "{said}");
    assert_eq!(held(state.path()), 0);

    let strict = on("two-nodes", state.path(), &[&too_many[..], &["--strict"]].concat());
    assert_eq!((strict.status.code(), lines(&strict).len()), (Some(1), 0));
    assert_eq!(held(state.path()), 0);

    let some = on("two-nodes", state.path(), &[&too_many[..], &["--some", "--json"]].concat());
    let plan = json(&some);
    assert_eq!((&plan["refused"], &plan["least_refused"]), (&1.into(), &1.into()));
    let guests = plan["guests"].as_array().expect("guests");
    let claimed = guests.iter().filter(|guest| guest["claim"].is_string()).count();
    assert_eq!((claimed, held(state.path())), (more, more));
    assert_eq!(fit(state.path()).trim(), "0");
}

#[test]
fn pinned_guests_get_cpus_that_no_other_has() {
    let state = tempfile::tempdir().expect("a directory");
    let plan = |args: &[&str]| -> Value {
        let asked = ["advise", "2:50", "--json", "--hold", "1m", "--pin", "cores"];
        json(&on("x3d", state.path(), &[&asked[..], args].concat()))
    };
    let mut owned = Vec::new();
    for plan in [plan(&["--copies", "5"]), plan(&["1:40", "--together"])] {
        for guest in plan["guests"].as_array().expect("guests") {
            let mut pinned: Vec<u32> =
                guest["pinned"].as_array().expect("CPUs").iter().filter_map(as_u32).collect();
            let wanted = guest["request"]["cpus"].as_f64().expect("a number");
            assert!((pinned.len() as f64 - wanted).abs() < 0.01, "{guest}");
            owned.extend(pinned.iter().copied());
            pinned.sort_unstable();
            assert_eq!(ids::<Vec<u32>>(guest["cpu_list"].as_str().expect("a list")), pinned);
        }
    }
    let count = owned.len();
    owned.sort_unstable();
    owned.dedup();
    assert_eq!((count, owned.len()), (13, 13));
    // 19 of 32 hardware threads are left: nine guests of two.
    assert_eq!(text(&on("x3d", state.path(), &["fit", "2:1", "--pin", "cores"]).stdout), "9\n");
}

fn as_u32(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|value| u32::try_from(value).ok())
}

#[test]
fn ranks_have_settings_for_each_library() {
    let root = fixture("x3d");
    let emitted = |form: &str| {
        let output = placer_on(&root, &["advise", "2:50", "--copies", "3", "--emit", form]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let (rankfile, physical) = (emitted("rankfile"), emitted("rankfile-physical"));
    let slots = |file: &str| -> Vec<u32> {
        let slot = |(rank, line): (usize, &str)| {
            let rank = format!("rank {rank}=localhost slot=");
            ids::<Vec<u32>>(line.strip_prefix(&rank).expect("a line of a rankfile"))
        };
        file.lines().enumerate().flat_map(slot).collect()
    };
    // Core by core: threads 0 and 16 are core 0.
    let cores: Vec<u32> = slots(&physical).iter().map(|cpu| cpu % 16).collect();
    assert_eq!(slots(&rankfile), cores);
    assert_eq!(cores.len(), 6);
    let hydra = emitted("hydra");
    let bound = hydra.trim_end().strip_prefix("-bind-to user:").expect("an option");
    let bound: Vec<u32> = bound.split(['+', ',']).flat_map(ids::<Vec<u32>>).collect();
    assert_eq!(bound, slots(&physical));
    assert_eq!(emitted("numactl").lines().count(), 3);
}

#[test]
fn what_several_guests_cannot_have_is_refused_by_name() {
    let root = fixture("ring-4");
    for (args, error) in [
        (&["2:50", "3:50"][..], "several requests are placed with --together"),
        (&["2:50", "--some"], "--some needs --together or --copies"),
        (&["2:50", "--together", "--some"], "--some needs --hold or --strict"),
        (&["2:50", "--pin", "cores"], "--pin needs --together or --copies"),
        (&["2:50", "--emit", "hydra"], "this --emit needs --together or --copies"),
        (&["2:50", "--copies", "2", "--emit", "qemu"], "--together needs --emit numactl, rankfile"),
        (&["2:50", "--together", "--near", "eth0"], "--near is for one guest"),
        (&["2:50", "--together", "--via", "daemon"], "--via daemon is for one guest"),
        (&["2:50", "--together", "--policy", "numad"], "a policy of numad is for one guest"),
        (&["2:50", "--together", "--cache", "require"], "a required cache is for one guest"),
        (&["1000001", "--copies", "2"], "expected a number of CPUs of at most 1000000"),
        (&["2:50", "--copies", "257"], "257 is not in 1..=256"),
    ] {
        let output = placer_on(&root, &[&["advise"], args].concat());
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {said}");
        assert!(said.contains(error), "{args:?}: {said}");
    }
}

#[test]
fn what_does_not_change_how_many_guests_fit_is_refused_by_name() {
    let root = fixture("ring-4");
    for (flag, value) in [
        ("--memory-bound", "0.9"),
        ("--prefer", "pack"),
        ("--effort", "9"),
        ("--cache", "require"),
        ("--cache-penalty", "0"),
    ] {
        let output = placer_on(&root, &["fit", "2:50", flag, value]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{flag}: {said}");
        assert!(said.contains(&format!("{flag} does not change how many")), "{said}");
    }
}

/// One guest that is placed together with none other is placed as alone, on idle hosts with room.
#[test]
fn one_guest_is_placed_as_alone_on_idle_hosts() {
    for host in ["two-nodes", "ring-4", "x3d", "caches-4"] {
        let root = fixture(host);
        let args = ["advise", "1:50", "--machine-wide"];
        let together = placer_on(&root, &[&args[..], &["--together"]].concat());
        assert_eq!(lines(&together), lines(&placer_on(&root, &args)), "{host}");
    }
}
