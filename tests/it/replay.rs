//! `placer replay` as a program: what it reads, what it refuses, and that it says the same twice.

use crate::common;
use testkit::schema;

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

use common::{fixture, json, placer, run, text};

const HOST: &[&str] = &["replay", "--host", "4x4x16G", "--guests", "300", "--unit", "512M"];

fn replay(args: &[&str]) -> Output {
    run(placer().args([HOST, args].concat()))
}

/// Runs `placer replay -` on a stream.
fn fed(stream: &str, args: &[&str]) -> Output {
    let mut command = placer();
    command.args([&["replay", "-", "--host", "2x2x4G", "--times=no"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(stream.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn the_same_seed_gives_the_same_bytes_by_any_number_of_threads() {
    for form in [&[][..], &["--json"]] {
        let with = |threads: &str| {
            replay(&[&["--times=no", "--load", "1.1", "--threads", threads], form].concat())
        };
        let (one, four) = (with("1"), with("4"));
        assert_eq!(one.status.code(), Some(0), "{}", text(&one.stderr));
        assert_eq!(text(&one.stdout), text(&four.stdout));
        assert_eq!(text(&one.stderr), "", "a bar is for terminals");
    }
    let other = replay(&["--times=no", "--seed", "2"]);
    assert_ne!(text(&other.stdout), text(&replay(&["--times=no"]).stdout));
}

#[test]
fn a_small_stream_by_hand() {
    let guests = "arrival,departure,cpus,mib\n0,100,1,3000\n1,100,1,3000\n2,100.5,1,3000\n";
    let output = fed(guests, &["--rules", "first-fit", "--touch", "60s"]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&output.stdout),
        "\
host    made up: 2 nodes of 2 CPUs and 4.0 GiB in a ring
guests  3 in 2 s, standard input
        asking for 55 % of the memory and 0.38 vCPUs a CPU, 50 % of them busy

                          memory         one          slowdown      decision
rule              refused beyond  dist  node  hot  mean   p50   p99   p50   p99
first-fit            0.0%  54.5% 13.00  100% 1.00  1.16  1.19  1.30     -     -
first-fit +claims   33.3%   0.0% 10.00  100% 1.00  1.00  1.00  1.00     -     -
"
    );
}

#[test]
fn the_json_is_as_the_schema_says() {
    let schema = json(&run(placer().args(["schema", "replay"])));
    let guests = "arrival,departure,cpus,mib\n0,100,1,3000\n1,100,1.5,3000\n";
    let mut documents = vec![
        json(&replay(&["--json"])),
        json(&replay(&["--json", "--times=no", "--claims", "yes"])),
        json(&fed(guests, &["--json", "--rules", "best"])),
    ];
    let root = fixture("ring-4-busy");
    let recorded = ["replay", "--json", "--guests", "200", "--unit", "16M", "--rules", "numad,xen"];
    documents.push(json(&run(placer().args(recorded).env("PLACER_ROOT", &root))));
    for document in &documents {
        assert_eq!(schema::broken(&schema, document), [""; 0]);
    }
    assert_eq!(documents[0]["rules"].as_array().map(Vec::len), Some(16));
    assert_eq!(documents[3]["host"]["nodes"], 4);
    let (first, rules) = (&documents[2], &documents[2]["rules"]);
    assert_eq!(first["guests"]["made"], Value::Null);
    assert_eq!(rules[0]["slowdowns"].as_array().map(Vec::len), Some(101));
    assert_eq!(rules[0]["decision"], Value::Null);
    assert!(documents[0]["rules"][0]["decision"]["p99"].as_u64() > Some(0));
    let mut damaged = documents[0].clone();
    damaged["rules"][3]["slowdown"]["p50"] = Value::Null;
    assert!(!schema::broken(&schema, &damaged).is_empty());
}

#[test]
fn what_is_wrong_is_told() {
    let header = "arrival,departure,cpus,mib\n";
    let damaged = format!("{header}0,1,1,100\n3,2,1,100\n");
    let path = std::env::temp_dir().join(format!("placer-replay-{}.csv", std::process::id()));
    std::fs::write(&path, &damaged).expect("written");
    let named = path.to_str().expect("plain");
    let wrong = "3:3: expected a departure after the arrival, found \"2\"";
    let cases = [
        (fed(&damaged, &[]), format!("placer: standard input:{wrong}\n")),
        (run(placer().args(["replay", named])), format!("placer: {named}:{wrong}\n")),
        (
            run(placer().args(["replay", "/nowhere.csv"])),
            "placer: cannot open /nowhere.csv: No such file or directory (os error 2)\n".to_owned(),
        ),
        (
            run(placer().args(["replay", "/"])),
            "placer: / cannot be read: Is a directory (os error 21)\n".to_owned(),
        ),
        (
            fed(&format!("{header}0,10,1,100\n5,10,1,100\n"), &["--load", "0.5"]),
            "placer: --load 0.5: the guests have 0.25 CPUs for each of the host's, and cannot keep \
             more busy; lower it\n"
                .to_owned(),
        ),
    ];
    for (output, wanted) in cases {
        assert_eq!(text(&output.stderr), wanted);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    }
    std::fs::remove_file(&path).expect("removed");
    for args in [
        &["--host", "4x16"][..],
        &["--rules", "best,worst"],
        &["--fill", "0"],
        &["--load", "nan"],
        &["--storms", "1.5"],
        &["--host", "2x2x2G", "--root", "/"],
    ] {
        let output = run(placer().arg("replay").args(args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
    }
}

#[test]
fn nothing_is_written_for_a_terminal_to_obey() {
    let output = run(placer().args(["replay", "--root", "/tmp/\u{1b}[31mred"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stderr).contains('\u{1b}'), "{}", text(&output.stderr));
}
