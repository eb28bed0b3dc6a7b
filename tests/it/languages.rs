//! The guide's programs in other languages, run as they stand there beside a daemon.

use std::path::Path;
use std::process::Command;

use crate::common::{self, daemon::Daemon, fixture, project, run, text};
use needs::needs;
use serde_json::{Value, json};

/// Returns the only block of that language on the page about embedding. It is short enough to be read.
fn program(language: &str) -> String {
    let page = std::fs::read_to_string(project().join("docs/src/embedding.md")).expect("the page");
    let blocks: Vec<&str> = page.split(&format!("```{language}\n")).skip(1).collect();
    assert_eq!(blocks.len(), 1, "{language}");
    let block = blocks[0].split("```").next().expect("the block's text");
    assert!(block.lines().count() <= 40, "{language}: {} lines", block.lines().count());
    block.to_owned()
}

/// Returns the member of the answer for the guide's guest.
fn advised(member: &str) -> String {
    let answer = common::placer_on(&fixture("ring-4"), &["advise", "2:100", "--json"]);
    common::json(&answer)[member].as_str().expect("a text").to_owned()
}

#[needs(gccgo)]
#[test]
fn the_go_program_claims_and_releases() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let dir = tempfile::tempdir().expect("a directory");
    let (source, compiled) = (dir.path().join("guest.go"), dir.path().join("guest"));
    let socket = daemon.dir.path().join("placer.sock");
    let source_text = program("go").replace("/run/placer/placer.sock", &socket.to_string_lossy());
    std::fs::write(&source, source_text).expect("written");
    let made = run(Command::new("gccgo").arg("-o").args([&compiled, &source]));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let output = run(&mut Command::new(&compiled));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{} {}\n", advised("nodes"), advised("cpus")));
    let guests = daemon.call("org.placer.Daemon.Guests", json!({}));
    assert_eq!(guests["parameters"]["claims"], json!([]));
}

/// On this machine: a recorded one has no process that could take a hold over.
#[needs(jq, taskset)]
#[test]
fn the_shell_script_hands_its_hold_over() {
    let state = tempfile::tempdir().expect("a directory");
    let bin = Path::new(&common::program()).parent().expect("a directory").to_owned();
    let path = std::env::join_paths([bin, "/usr/bin".into(), "/bin".into()]).expect("plain names");
    let script = format!(
        "trap 'kill $!' EXIT\n{}until read -r name </proc/$!/comm && [ $name = sleep ]; do sleep 0.01; done\n\
         echo $! \"$place\" | jq -sc '[.[0], .[1].cpus, .[1].claim]'\n\
         sed -n 's/^Cpus_allowed_list:.//p' /proc/$!/status\nplacer ps --json",
        program("sh")
    );
    let mut shell = Command::new("sh");
    shell.args(["-euc", &script]).env_clear().env("PATH", path);
    shell.env("PLACER_STATE_DIR", state.path()).env("PLACER_CONFIG", common::SHIPPED);
    let output = run(&mut shell);
    let (said, failed) = (text(&output.stdout), text(&output.stderr));
    let (placed, rest) = said.split_once('\n').expect(&failed);
    let (bound, listed) = rest.split_once('\n').expect(&failed);
    let placed: Value = serde_json::from_str(placed).expect(&failed);
    let listed: Value = serde_json::from_str(listed).expect(&failed);
    assert_eq!(placed[1], bound, "{failed}");
    let is_it = |claim: &&Value| claim["id"] == placed[2];
    let claim = listed["claims"].as_array().expect("claims").iter().find(is_it).expect(&said);
    assert_eq!(claim["pid"], placed[0], "{failed}");
}
