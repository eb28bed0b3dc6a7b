//! The real numad, asked about generated hosts and our own fixtures in private namespaces, against
//! the engine.
//!
//! `tests/parity/numad-oracle` makes the hosts and asks numad in 10 ms a question. `PLACER_PARITY_SEED`
//! takes another set of hosts, `PLACER_PARITY_HOSTS` more of them.

use crate::common;
use testkit::needs;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use common::{placer, project, run, text};

fn oracle() -> PathBuf {
    project().join("tests/parity/numad-oracle")
}

/// Asks the real numad. Each job is one JSON line, as is each answer.
fn ask_numad(options: &[&str], jobs: &[Value]) -> Vec<Value> {
    let mut child = Command::new(oracle())
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle starts");
    let mut lines: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    lines.push('\n');
    let mut input = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("the oracle ends");
    writer.join().expect("no panic").expect("the oracle reads its jobs");
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn args(job: &Value) -> Vec<&str> {
    job["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect()
}

fn ask_placer(fixture: &Path, words: &[&str]) -> Output {
    let mut command = placer();
    command.args(words).env("PLACER_ROOT", fixture).env("PLACER_NUMAD_VERSION", "2015");
    run(&mut command)
}

/// Asks placer the same, and says where it differs.
fn difference(theirs: &Value) -> Option<String> {
    let fixture = Path::new(theirs["fixture"].as_str().expect("a fixture"));
    let mut words = vec!["numad"];
    words.extend(args(theirs));
    let ours = ask_placer(fixture, &words);
    let (stdout, stderr) = (text(&ours.stdout), text(&ours.stderr));
    let same = theirs["stdout"] == Value::String(stdout.clone())
        && theirs["exit"].as_i64() == ours.status.code().map(i64::from);
    (!same).then(|| {
        let (exit, code) = (&theirs["exit"], ours.status.code());
        format!("{words:?}: numad {exit} {}, placer {code:?} {stdout:?} {stderr}", theirs["stdout"])
    })
}

#[needs(ipc_namespaces, numad, python3, cc)]
#[test]
fn the_engine_answers_as_the_real_numad_does() {
    let seed = std::env::var("PLACER_PARITY_SEED").unwrap_or_else(|_| "placer-1".to_owned());
    let hosts = std::env::var("PLACER_PARITY_HOSTS").unwrap_or_else(|_| "40".to_owned());
    let scratch = tempfile::tempdir().expect("a directory");
    let made = run(Command::new(oracle()).args(["--gen", &seed, &hosts]).arg(scratch.path()));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let mut jobs: Vec<Value> = Vec::new();
    for host in std::fs::read_dir(scratch.path()).expect("a directory") {
        let host = host.expect("an entry").path();
        let output = run(Command::new(oracle()).args(["--queries", &seed]).arg(&host));
        jobs.extend(
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")),
        );
    }
    for name in common::fixtures() {
        let fixture = common::fixture(&name);
        for request in ["0", "1", "1:100", "2:200", "2.5:300", "4:500", "8:900", "0:1024"] {
            jobs.push(serde_json::json!({ "fixture": &fixture, "args": ["-w", request] }));
        }
    }
    let answers = ask_numad(&[], &jobs);
    assert_eq!(answers.len(), jobs.len());

    let (mut agree, mut crashed, mut doubtful) = (0, 0, Vec::new());
    for theirs in &answers {
        assert!(theirs.get("error").is_none(), "{theirs}");
        match theirs["exit"].as_i64() {
            // A signal: numad has no answer, and ours must not be one.
            Some(exit) if exit < 0 => {
                let fixture = Path::new(theirs["fixture"].as_str().expect("a fixture"));
                let mut words = vec!["numad"];
                words.extend(args(theirs));
                let ours = ask_placer(fixture, &words);
                assert!(matches!(ours.status.code(), Some(0 | 1)), "{theirs}");
                crashed += 1;
            }
            _ => match difference(theirs) {
                None => agree += 1,
                Some(text) => doubtful.push((theirs.clone(), text)),
            },
        }
    }
    // numad sometimes answers out of memory that is not its own. Asked again with other memory
    // around it, such an answer changes.
    let again: Vec<Value> = doubtful.iter().map(|(job, _)| job.clone()).collect();
    let again = ask_numad(&["--repeat", "4", "--perturb"], &again);
    let wrong: Vec<&String> = doubtful
        .iter()
        .zip(&again)
        .filter(|(_, again)| again.get("unstable").is_none())
        .map(|((_, text), _)| text)
        .collect();
    let foreign = doubtful.len() - wrong.len();
    println!("{agree} answers agree; numad crashed {crashed} times, answered by chance {foreign}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(agree >= 200, "at least 200 answers, found {agree}");
}
