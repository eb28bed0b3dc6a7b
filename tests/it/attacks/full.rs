//! A ledger that one user has filled, and requests that fit nowhere.

use std::fs;

use needs::needs;
use placer_engine::claims::{Claim, ClaimId, Ledger};
use serde_json::json;

use super::super::principals::{CLAIM, STRANGER, calls, claim, listed};
use super::{GUESTS, call};
use crate::common::daemon::{Daemon, request};
use crate::common::{fixture, json as form, placer, run, text};

/// Puts so many copies of the only claim into the ledger, each with an id of its own.
fn copy_the_claim(daemon: &Daemon, copies: u32) {
    let ledger = daemon.dir.path().join("claims.jsonl");
    let one =
        Ledger::parse(&fs::read(&ledger).expect("a ledger")).value.claims()[0].as_ref().clone();
    let mut all = Ledger::default();
    for id in 1..=copies {
        all.add(Claim { id: ClaimId(id), ..one.clone() }).expect("room");
    }
    let filled = daemon.dir.path().join("filled");
    fs::write(&filled, all.to_text()).expect("written");
    fs::rename(filled, ledger).expect("in its place");
}

#[needs(root, python3)]
#[test]
fn h2_m6_users_leave_the_host_a_quarter_of_the_ledger_and_are_told_sums_of_it() {
    let daemon = Daemon::start(None, "");
    let hold = json!({"request": request(0, 1), "hold_ms": 300_000});
    let made = calls(&daemon, &[], STRANGER, &[claim(&hold)]);
    assert!(made[0]["parameters"]["claim"].is_string(), "{made:?}");
    copy_the_claim(&daemon, 4096 * 3 / 4);
    let asked = [claim(&hold), call(GUESTS, &json!({}))];
    let replies = calls(&daemon, &[], STRANGER - 1, &asked);
    let why = &replies[0]["parameters"]["reason"];
    assert!(why.as_str().is_some_and(|why| why.contains("three quarters full")), "{}", replies[0]);
    // Twelve of these that are not read cost the daemon little.
    assert!(replies[1].to_string().len() < 16 << 10, "{}", replies[1]);
    let roots = daemon.call(CLAIM, hold);
    assert!(roots["parameters"]["claim"].is_string(), "{roots}");
    assert_eq!(listed(&daemon).len(), 4096 * 3 / 4 + 1);
}

#[test]
fn m11_what_fits_nowhere_is_not_held_by_either_name() {
    let state = tempfile::tempdir().expect("a directory");
    let settings = state.path().join("placer.toml");
    fs::write(&settings, "[numad]\nhold = \"adopt\"\npolicy = \"best\"\n").expect("written");
    let ask = |args: &[&str]| {
        let mut ask = placer();
        ask.env("PLACER_STATE_DIR", state.path()).env("PLACER_CONFIG", &settings);
        run(ask.env("PLACER_ROOT", fixture("two-nodes")).args(args))
    };
    for args in [&["advise", "--hold", "1h", "1:95T"][..], &["numad", "-w", "1:99614720"]] {
        let output = ask(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("not held: "), "{args:?}: {said}");
        let claims = form(&ask(&["ps", "--json"]))["claims"].as_array().map(Vec::len);
        assert_eq!(claims, Some(0), "{args:?}");
    }
}
