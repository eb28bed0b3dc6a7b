//! Recorded answers of both versions of the real numad, reproduced to the byte.

pub(crate) mod corpus;

use std::path::Path;

use serde_json::Value;

use crate::common::{self, run, text};
use corpus::{Machines, answers, arguments, is_undefined};

/// Where numad itself has no answer: a sensible one, or a line that says why there is none.
fn is_sensible_or_clear(status: Option<i32>, stdout: &str, stderr: &str) -> bool {
    let sensible = status == Some(0) && stdout.trim_end().bytes().any(|b| b.is_ascii_digit());
    let clear = status == Some(1) && stdout.is_empty() && stderr.lines().count() == 1;
    sensible || clear
}

/// Asks for every row, and returns how many are defined. stdout, stderr, exit status, and the log
/// where it is recorded.
fn reproduced(version: &str) -> usize {
    let machines = Machines::unpack();
    let scratch = tempfile::tempdir().expect("a directory");
    let log = scratch.path().join("numad.log");
    let (mut same, mut undefined, mut wrong) = (0, 0, Vec::new());
    for row in answers(version) {
        let (machine, args) = (&row["machine"], arguments(&row));
        let mut command = common::placer();
        command.arg("numad").args(&args).env("PLACER_NUMAD_VERSION", version);
        command.env("PLACER_ROOT", machines.of(&row)).env("PLACER_NUMAD_LOG", &log);
        let _ = std::fs::remove_file(&log);
        let output = run(&mut command);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let code = output.status.code();
        if is_undefined(&row) {
            assert!(
                is_sensible_or_clear(code, &stdout, &stderr),
                "{machine} {args:?}: {code:?} {stdout:?} {stderr:?}"
            );
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
            let logged = written(&log);
            wrong.push(format!(
                "{machine} {args:?}:\n  numad  {exit:?} {} {recorded:?} {}\n  placer {code:?} \
                 {stdout:?} {stderr:?} {logged:?}",
                row["stdout"], row["log"],
            ));
        }
    }
    println!("{same} answers reproduced, {undefined} where numad itself has none");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    same
}

#[test]
fn every_recorded_answer_of_2015_is_reproduced() {
    assert_eq!(reproduced("2015"), 584);
}

#[test]
fn every_recorded_answer_of_2025_is_reproduced() {
    assert_eq!(reproduced("2025"), 566 + 937 + 118);
}

/// Returns the lines of a log without the time before them.
pub(crate) fn written(log: &Path) -> String {
    const STAMP: usize = "Mon Nov 23 21:02:30 2026: ".len();
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| format!("{}\n", line.get(STAMP..).unwrap_or(line))).collect()
}

/// Every plain `-w` row once more as `placer advise --policy numad-VERSION`.
fn advised(version: &str) -> usize {
    let machines = Machines::unpack();
    let mut asked = 0;
    for row in answers(version) {
        let (args, stdout) = (arguments(&row), row["stdout"].as_str().unwrap_or_default());
        let &["-w", request] = args.as_slice() else { continue };
        // numad's odd spellings are no requests of placer's.
        let plain = request.parse::<placer_engine::Request>().is_ok();
        // Figures that are past 32 bits wrap with numad, and do not with placer.
        let small = request.split([':', '.']).all(|n| n.len() < 8);
        // numad waits where the two moments of a recording are too close; a recording is what it is.
        let short = row["machine"] == "new-gap" || row["machine"] == "new-gap-7";
        if stdout.is_empty() || !plain || !small || short || is_undefined(&row) {
            continue;
        }
        let root = machines.of(&row);
        let policy = format!("numad-{version}");
        let output = common::placer_on(&root, &["advise", "--policy", &policy, request]);
        if stdout == "\n" {
            // An empty line places no guest: under our own name that is an error.
            assert_eq!(output.status.code(), Some(2), "{} {request}", root.display());
            continue;
        }
        assert_eq!(text(&output.stdout), stdout, "{} {request}", root.display());
        asked += 1;
    }
    println!("{asked} requests agree");
    asked
}

#[test]
fn advise_with_the_policy_of_either_numad_gives_its_nodes() {
    for (version, at_least) in [("2015", 200), ("2025", 400)] {
        let asked = advised(version);
        assert!(asked > at_least, "{version}: hundreds of rows are plain, found {asked}");
    }
}

/// `--policy numad` is the one in force, from the setting, and from the variable before it.
#[test]
fn the_version_in_force_answers_where_none_is_named() {
    let machines = Machines::unpack();
    let differ = |row: &&Value| row["machine"] == "new-all-busy" && arguments(row) == ["-w", "0"];
    let rows = answers("2025");
    let row = rows.iter().find(differ).expect("the row");
    let root = machines.of(row);
    let config = root.join("placer.toml");
    let ask = |setting: &str, variable: Option<&str>| {
        std::fs::write(&config, format!("[numad]\n{setting}\n")).expect("written");
        let asked = |args: &[&str]| {
            let mut command = common::placer();
            command.args(args).env("PLACER_ROOT", &root).env("PLACER_CONFIG", &config);
            command.envs(variable.map(|version| ("PLACER_NUMAD_VERSION", version)));
            let output = run(&mut command);
            text(&output.stdout) + &text(&output.stderr)
        };
        let (numads, advised) =
            (asked(&["numad", "-w", "0"]), asked(&["advise", "--policy", "numad", "0"]));
        assert_eq!(numads, advised);
        numads
    };
    // All are busy: 2015 names the first one listed, 2025 all of them.
    for (setting, variable, nodes) in [
        ("version = \"2015\"", None, "2\n"),
        ("version = \"2025\"", None, "0-2\n"),
        ("version = \"2025\"", Some("2015"), "2\n"),
        ("version = \"2015\"", Some("2025"), "0-2\n"),
        ("version = \"2015\"", Some(""), "2\n"),
    ] {
        assert_eq!(ask(setting, variable), nodes, "{setting} {variable:?}");
    }
}
