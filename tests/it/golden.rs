//! Recorded answers of the real numad 0.5, reproduced to the byte.

use crate::common;

use serde_json::Value;

use common::{placer_on, run, shared, text};

#[test]
fn every_recorded_answer_is_reproduced() {
    let Some(golden) = shared("golden") else { return };
    let rows = std::fs::read_to_string(golden.join("answers.jsonl")).expect("the answers");
    let scratch = tempfile::tempdir().expect("a directory");
    let log = scratch.path().join("numad.log");
    let (mut same, mut undefined, mut wrong) = (0, 0, Vec::new());
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).expect("a row");
        let args: Vec<&str> =
            row["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect();
        let fixture = row["fixture"].as_str().expect("a fixture");
        let mut command = common::placer();
        command.arg("numad").args(&args);
        command.env("PLACER_ROOT", golden.join(fixture)).env("PLACER_NUMAD_LOG", &log);
        let _ = std::fs::remove_file(&log);
        let output = run(&mut command);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let code = output.status.code();

        if row["undefined"].as_bool() == Some(true) {
            // Nothing to reproduce: a sensible answer, or a line that says why there is none.
            let sensible = code == Some(0) && stdout.trim_end().bytes().any(|b| b.is_ascii_digit());
            let clear = code == Some(1) && stdout.is_empty() && stderr.lines().count() == 1;
            assert!(sensible || clear, "{fixture} {args:?}: {code:?} {stdout:?} {stderr:?}");
            undefined += 1;
            continue;
        }
        let recorded = row["stderr"].as_str().expect("a text");
        let exit = row["exit"].as_i64().and_then(|exit| i32::try_from(exit).ok());
        // Where numad fails without a word, ours says in one line why.
        let silent_failure = exit == Some(1) && recorded.is_empty();
        let stderr_is_right =
            if silent_failure { stderr.lines().count() == 1 } else { stderr == recorded };
        let log_is_right = row["log"].as_array().is_none_or(|lines| {
            lines.is_empty() || lines.iter().filter_map(Value::as_str).eq(written(&log).lines())
        });
        let right = row["stdout"] == Value::String(stdout.clone()) && code == exit;
        if right && stderr_is_right && log_is_right {
            same += 1;
        } else {
            wrong.push(format!(
                "{fixture} {args:?}:\n  numad  {exit:?} {:?} {recorded:?} {}\n  placer {code:?} \
                 {stdout:?} {stderr:?} {:?}",
                row["stdout"],
                row["log"],
                written(&log)
            ));
        }
    }
    println!("{same} answers reproduced, {undefined} where numad itself has none");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same > 500, "the folder holds hundreds of answers, found {same}");
}

/// Returns the lines of a log without the time before them.
fn written(log: &std::path::Path) -> String {
    const STAMP: usize = "Mon Nov 23 21:02:30 2026: ".len();
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| format!("{}\n", line.get(STAMP..).unwrap_or(line))).collect()
}

#[test]
fn advise_with_numads_policy_gives_the_same_nodes() {
    let Some(golden) = shared("golden") else { return };
    let rows = std::fs::read_to_string(golden.join("answers.jsonl")).expect("the answers");
    let mut asked = 0;
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).expect("a row");
        let (Some([Value::String(option), Value::String(request)]), Some(stdout)) = (
            row["args"].as_array().map(Vec::as_slice),
            row["stdout"].as_str().filter(|stdout| !stdout.is_empty()),
        ) else {
            continue;
        };
        // numad's odd spellings are no requests of placer's.
        let plain = request.parse::<placer_engine::Request>().is_ok();
        // Figures that are past 32 bits wrap with numad, and do not with placer.
        let small = request.split([':', '.']).all(|n| n.len() < 8);
        if option != "-w" || !plain || !small || row["undefined"].as_bool() == Some(true) {
            continue;
        }
        let root = golden.join(row["fixture"].as_str().expect("a fixture"));
        let output = placer_on(&root, &["advise", "--policy", "numad", request]);
        if stdout == "\n" {
            // An empty line places no guest: under our own name that is said.
            assert_eq!(output.status.code(), Some(2), "{} {request}", root.display());
            continue;
        }
        assert_eq!(text(&output.stdout), stdout, "{} {request}", root.display());
        asked += 1;
    }
    println!("{asked} requests agree");
    assert!(asked > 200, "the folder holds hundreds of plain requests, found {asked}");
}
