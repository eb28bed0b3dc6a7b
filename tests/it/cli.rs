//! The program as a person or a script meets it: a few runs of the real binary.

use crate::common;
use needs::needs;
use testkit::machine;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{json, placer, placer_on, program, run, text};
use machine::Machine;
use serde_json::{Value, json};

/// Two nodes of 4 CPUs and 16 GiB, one with 4 GiB free and half busy, the other with 8 GiB free; a
/// node of memory alone, past a gap.
fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    three_nodes().write(dir.path());
    dir
}

fn three_nodes() -> Machine {
    Machine::new()
        .node(0, 0..4, 16 << 20, 4 << 20)
        .node(1, 4..8, 16 << 20, 7 << 20)
        .inactive_file(1, 1 << 20)
        .node(4, [], 32 << 20, 1 << 20)
        .idle(0, 0)
        .idle(1, 0)
        .distance(0, 4, 30)
        .distance(1, 4, 28)
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn answer(nodes: &str) -> (Option<i32>, String, String) {
    (Some(0), format!("{nodes}\n"), String::new())
}

#[test]
fn the_version_is_printed() {
    let version = run(placer().arg("--version"));
    assert_eq!(text(&version.stdout), concat!("placer ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn without_a_command_the_host_and_the_next_command_are_printed() {
    let ring = common::fixture("ring-4");
    let alone = told(&run(placer().env("PLACER_ROOT", &ring)));
    assert_eq!(alone, told(&placer_on(&ring, &["status"])));
    let (code, stdout, stderr) = alone;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with("4 nodes, 8 CPUs, "), "{stdout}");
    let next = stdout.lines().last().and_then(|line| line.strip_prefix("next: placer "));
    // It can be typed as it stands.
    let next: Vec<&str> = next.expect("a next command").split(' ').collect();
    let (code, stdout, stderr) = told(&run(placer().args(&next)));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{next:?}");
    assert!(stdout.contains("advised"), "{next:?}: {stdout}");
}

#[test]
fn a_hold_leads_to_ps_and_a_fault_to_the_doctor() {
    let ring = common::fixture("ring-4");
    let state = tempfile::tempdir().expect("a directory");
    let ask = |args: &[&str], root: &std::path::Path| {
        let mut placer = placer();
        told(&run(placer.env("PLACER_STATE_DIR", state.path()).env("PLACER_ROOT", root).args(args)))
    };
    assert_eq!(ask(&["2:100", "--hold", "1m"], &ring), answer("0"));
    let (_, stdout, _) = ask(&[], &ring);
    assert!(stdout.contains("hold "), "{stdout}");
    assert!(stdout.contains("\nnext: placer ps --root "), "{stdout}");
    let (_, stdout, _) = ask(&[], &common::fixture("memless"));
    assert!(stdout.contains("\nnext: placer doctor --root "), "{stdout}");
}

#[test]
fn a_request_alone_is_advise() {
    let host = host();
    for args in [&["2:500"][..], &["2:500", "--cpus"], &["2:500", "--explain"]] {
        let whole: Vec<&str> = ["advise"].iter().chain(args).copied().collect();
        let asked = told(&placer_on(host.path(), args));
        assert_eq!(asked.0, Some(0), "{args:?}");
        assert_eq!(asked, told(&placer_on(host.path(), &whole)));
    }
    let config = ["--config", common::SHIPPED, "2:500"];
    assert_eq!(told(&run(placer().env("PLACER_ROOT", host.path()).args(config))), answer("1"));
}

#[test]
fn what_is_unknown_is_answered_with_what_exists() {
    let (code, stdout, stderr) = told(&run(placer().args(["advise", "1", "--frob"])));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    for option in ["--within", "--hold", "--emit"] {
        assert!(stderr.contains(option), "{option}: {stderr}");
    }
    let (code, _, stderr) = told(&run(placer().arg("frob")));
    assert_eq!(code, Some(2));
    for command in ["advise", "launch", "doctor"] {
        assert!(stderr.contains(command), "{command}: {stderr}");
    }
    let near = ["advise", "1", "--near", "eth9"];
    let (code, _, stderr) = told(&placer_on(&common::fixture("pci-4"), &near));
    let devices =
        "placer: no device \"eth9\" on this host; devices: eth0 (node 3), vda (node not known)\n";
    assert_eq!((code, stderr.as_str()), (Some(2), devices));
    let (code, _, stderr) = told(&placer_on(&common::fixture("ring-4"), &["1", "--within", "7"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("nodes (0-3)"), "{stderr}");
}

/// Runs a command on a terminal; both streams together.
fn on_a_terminal(args: &str) -> String {
    let command = format!("{} {args}", program().display());
    let mut script = std::process::Command::new("script");
    let output =
        run(script.args(["-qec", &command, "/dev/null"]).env("PLACER_CONFIG", common::SHIPPED));
    text(&output.stdout).replace('\r', "")
}

#[test]
fn on_a_terminal_an_answer_ends_with_the_line_to_copy() {
    let ring = common::fixture("ring-4");
    let root = ring.display();
    let shown = on_a_terminal(&format!("advise 2:100 --root {root}"));
    let line = format!(
        "start it: placer launch --cpus 2 --memory 100M --root {root} --dry-run -- COMMAND"
    );
    assert_eq!(shown, format!("0\n{line}\n"));
    // The line works.
    let args: Vec<&str> = line.split(' ').skip(3).collect();
    let (code, stdout, stderr) = told(&run(placer().args(args)));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("COMMAND"), "{stdout}");
    // Programs do not read it, and it is not printed for a hold.
    assert_eq!(
        on_a_terminal(&format!("advise 2:100 --emit numactl --root {root}")).lines().count(),
        1
    );
    assert_eq!(told(&placer_on(&ring, &["advise", "2:100"])), answer("0"));
}

#[test]
fn explain_speaks_before_it_counts() {
    let ring = common::fixture("ring-4-busy");
    let (_, stdout, _) = told(&placer_on(&ring, &["advise", "2:200", "--explain"]));
    let spoken = "21.4 % slower: half its memory would be one hop away";
    let at = |piece: &str| stdout.find(piece).unwrap_or_else(|| panic!("no {piece:?}: {stdout}"));
    assert!(at(spoken) < at("can promise"), "{stdout}");
    assert!(!stdout.contains("crowding"), "{stdout}");
    let (_, stdout, _) = told(&placer_on(&ring, &["advise", "2:200", "--explain", "-v"]));
    assert!(stdout.contains("slowdown  crowding  distance"), "{stdout}");
    assert!(stdout.contains("1.223     1.000    14.455  numad"), "{stdout}");
}

#[test]
fn the_doctor_names_cost_mend_and_undo() {
    let doctor = |name: &str, args: &[&str]| {
        let state = tempfile::tempdir().expect("a directory");
        let mut placer = placer();
        placer.env("PLACER_STATE_DIR", state.path()).env("PLACER_ROOT", common::fixture(name));
        told(&run(placer.arg("doctor").args(args)))
    };
    assert_eq!(doctor("ring-4", &[]), (Some(0), "nothing was found\n".to_owned(), String::new()));
    let (code, stdout, stderr) = doctor("memless", &[]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    for line in
        ["\n   cost  ", "\n   mend  export PLACER_WITHIN=", "\n   undo  unset PLACER_WITHIN\n"]
    {
        assert!(stdout.contains(line), "{line:?}: {stdout}");
    }
    let (code, stdout, _) = doctor("memless", &["--json"]);
    assert_eq!(code, Some(1));
    let form: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(form["version"], 1);
    let finding = &form["findings"][0];
    assert_eq!(finding["kind"], "no-memory");
    for key in ["text", "cost", "mend", "undo"] {
        assert!(finding[key].is_string(), "{key}: {finding}");
    }
}

#[test]
fn stdout_carries_the_answer_alone() {
    let host = host();
    assert_eq!(told(&placer_on(host.path(), &["advise", "2:500"])), answer("1"));
    assert_eq!(told(&placer_on(host.path(), &["advise", "2:500", "--cpus"])), answer("4-7"));
    assert_eq!(told(&placer_on(host.path(), &["numad", "-w", "2:500"])), answer("1"));

    let warned = tempfile::tempdir().expect("a directory");
    three_nodes().without_load().write(warned.path());
    let unknown = "placer: warning: CPU load is unknown: every CPU counts as idle\n";
    for (args, stdout) in [(&["advise", "2:500"][..], "1\n"), (&["numad", "-w", "2:500"], "1\n")] {
        let expected = (Some(0), stdout.to_owned(), unknown.to_owned());
        assert_eq!(told(&placer_on(warned.path(), args)), expected);
    }
}

#[test]
fn a_request_that_does_not_fit_is_answered_with_a_warning() {
    let host = host();
    let short = "placer: warning: 10 CPUs and 500.0 MiB do not fit on nodes 0-1: 2 CPUs short\n";
    let args = ["advise", "10:500"];
    let expected = (Some(0), "0-1\n".to_owned(), short.to_owned());
    assert_eq!(told(&placer_on(host.path(), &args)), expected);
}

#[test]
fn strict_prints_no_nodes_for_what_does_not_fit() {
    let host = host();
    let short = "placer: warning: 10 CPUs and 500.0 MiB do not fit on nodes 0-1: 2 CPUs short\n";
    let expected = (Some(1), String::new(), short.to_owned());
    assert_eq!(told(&placer_on(host.path(), &["advise", "10:500", "--strict"])), expected);
    assert_eq!(told(&placer_on(host.path(), &["advise", "2:500", "--strict"])), answer("1"));
    let cpus = placer_on(host.path(), &["advise", "10:500", "--strict", "--cpus"]);
    assert_eq!(told(&cpus), expected);
    let memory = placer_on(host.path(), &["advise", "1:100G", "--strict"]);
    assert_eq!((memory.status.code(), text(&memory.stdout)), (Some(1), String::new()));
    // The whole answer says what is short, and names no node either.
    let whole = placer_on(host.path(), &["advise", "10:500", "--strict", "--json"]);
    assert_eq!(whole.status.code(), Some(1));
    let whole = json(&whole);
    let named = ["nodes", "cpus", "fits", "split", "short", "alternatives", "proof"];
    let wanted = json!(["", "", false, [], {"cpus": 2.0, "memory": 0}, [], null]);
    assert_eq!(json!(named.map(|name| &whole[name])), wanted);
    assert!(whole.get("numad").is_none(), "{whole}");
    // Being busy is no reason not to fit: of eight CPUs six are idle.
    let busy = placer_on(host.path(), &["advise", "8:500", "--strict"]);
    assert_eq!(busy.status.code(), Some(0), "{}", text(&busy.stderr));
}

#[test]
fn advise_json_has_the_fields_that_others_rely_on() {
    let host = host();
    let advice = json(&placer_on(host.path(), &["advise", "2.5:500", "--json"]));
    let expected = json!({"cpus": 2.5, "memory": 524_288_000});
    assert_eq!((&advice["version"], &advice["request"]), (&json!(1), &expected));
    let chosen = ["policy", "nodes", "cpus", "fits", "slowdown"].map(|name| &advice[name]);
    assert_eq!(chosen, [&json!("best"), &json!("1"), &json!("4-7"), &json!(true), &json!(1.0)]);
    let split = json!([{"node": 1, "cpus": 2.5, "memory": 524_288_000}]);
    assert_eq!(advice["split"], split);

    let wide = json(&placer_on(host.path(), &["advise", "10:500", "--json"]));
    assert_eq!((&wide["fits"], &wide["nodes"]), (&json!(false), &json!("0-1")));
    let split = wide["split"].as_array().expect("a list");
    let sum = |name: &str| split.iter().filter_map(|share| share[name].as_f64()).sum::<f64>();
    let nodes: Vec<&Value> = split.iter().map(|share| &share["node"]).collect();
    assert_eq!(nodes, [&json!(0), &json!(1)]);
    assert!((sum("cpus") - 10.0).abs() < 1e-3, "{split:?}");
    assert!((sum("memory") - 524_288_000.0).abs() < 4.0, "{split:?}");
}

#[test]
fn show_json_has_the_fields_that_others_rely_on() {
    let host = host();
    let shown = json(&placer_on(host.path(), &["show", "--json"]));
    let fields =
        |node: &Value| ["id", "cpus", "memory_total", "memory_free"].map(|name| node[name].clone());
    let gib = |n: u64| json!(n << 30);
    let nodes: Vec<[Value; 4]> =
        shown["nodes"].as_array().expect("nodes").iter().map(fields).collect();
    assert_eq!(
        nodes,
        [
            [json!(0), json!("0-3"), gib(16), gib(4)],
            // MemFree and Inactive(file).
            [json!(1), json!("4-7"), gib(16), gib(8)],
            [json!(4), json!(""), gib(32), gib(1)],
        ]
    );
    let free: Vec<f64> = shown["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["cpus_free"].as_f64())
        .collect();
    assert_eq!(free, [2.0, 4.0, 0.0]);
    let matrix = json!([[10, 20, 30], [20, 10, 28], [20, 20, 10]]);
    assert_eq!(shown["distances"], json!({"nodes": [0, 1, 4], "matrix": matrix}));
    assert_eq!(shown["version"], json!(1));
}

#[test]
fn show_fits_the_terminal() {
    let wide = tempfile::tempdir().expect("a directory");
    let mut machine = Machine::new();
    for node in 0..30 {
        // Alternating ids make long lists.
        machine = machine.node(
            node,
            (0..40).map(|cpu| 2 * cpu + node % 2 + 80 * (node / 2)),
            1 << 20,
            1 << 19,
        );
    }
    machine.write(wide.path());
    let host = host();
    for root in [wide.path(), host.path()] {
        let output = placer_on(root, &["show"]);
        let table = text(&output.stdout);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        let long: Vec<&str> = table.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{long:?}");
    }
}

#[test]
fn within_names_no_other_node() {
    let host = host();
    for (within, nodes) in [("0", "0"), ("0-1", "1"), ("0,4", "0"), ("1,7-9", "1")] {
        let output = placer_on(host.path(), &["advise", "2:500", "--within", within]);
        assert_eq!(told(&output), answer(nodes), "{within}");
    }
    let output = placer_on(host.path(), &["advise", "6:500", "--within", "0", "--cpus"]);
    assert_eq!(text(&output.stdout), "0-3\n");
}

#[test]
fn the_limits_of_the_recorded_process_bound_the_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    three_nodes().allowed("0-1", "0-4").write(dir.path());
    assert_eq!(
        told(&placer_on(dir.path(), &["advise", "1:500", "--cpus", "--within", "0"])),
        answer("0-1")
    );
    let args = ["advise", "2:500", "--cpus", "--within", "0", "--machine-wide"];
    assert_eq!(told(&placer_on(dir.path(), &args)), answer("0-3"));

    three_nodes().allowed("0-7", "0").write(dir.path());
    assert_eq!(told(&placer_on(dir.path(), &["advise", "2:500"])), answer("0"));
    assert_eq!(told(&placer_on(dir.path(), &["advise", "2:500", "--machine-wide"])), answer("1"));
    // numad's clients ask for the machine, whatever they may use themselves.
    assert_eq!(told(&placer_on(dir.path(), &["numad", "-w", "2:500"])), answer("1"));
    let nothing = placer_on(dir.path(), &["advise", "2:500", "--within", "1"]);
    let message = "placer: no node to choose from: none of the host's nodes (0-1,4) is allowed\n";
    assert_eq!(told(&nothing), (Some(2), String::new(), message.to_owned()));
}

/// A CPU that this process may use.
fn allowed_cpu() -> String {
    let limits = placer_engine::Limits::read(&placer_engine::SysRoot::live()).expect("two lists");
    limits.cpus.and_then(|cpus| cpus.first()).expect("a CPU").to_string()
}

#[needs(taskset)]
#[test]
fn the_limits_of_this_process_bound_no_recorded_machine() {
    let host = host();
    let mut taskset = Command::new("taskset");
    taskset.args(["-c", &allowed_cpu()]).arg(program());
    taskset.args(["advise", "2:500", "--cpus", "--root"]);
    taskset.arg(host.path()).env_clear().env("PATH", "/usr/bin:/bin");
    assert_eq!(told(&taskset.output().expect("taskset")), answer("4-7"));
}

#[needs(taskset)]
#[test]
fn the_limits_of_this_process_bound_the_live_answer() {
    let state = tempfile::tempdir().expect("a directory");
    let mut taskset = Command::new("taskset");
    let cpu = allowed_cpu();
    taskset.args(["-c", &cpu]).arg(program());
    taskset.args(["advise", "0.01:1", "--cpus", "--window", "10ms"]);
    taskset
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PLACER_STATE_DIR", state.path().join("s"));
    let output = taskset.output().expect("taskset");
    assert_eq!(text(&output.stdout), format!("{cpu}\n"), "{}", text(&output.stderr));
}

#[test]
fn variables_stand_for_flags_and_flags_win() {
    let (host, other) = (host(), tempfile::tempdir().expect("a directory"));
    Machine::new().node(7, 0..2, 8 << 20, 4 << 20).write(other.path());
    let ask = |args: &[&str], variables: &[(&str, &str)]| {
        told(&run(placer().arg("advise").args(args).envs(variables.iter().copied())))
    };
    let root = host.path().to_str().expect("a plain name");
    let root = ("PLACER_ROOT", root);
    assert_eq!(ask(&["2:500"], &[root]), answer("1"));
    assert_eq!(ask(&["2:500"], &[root, ("PLACER_WITHIN", "0")]), answer("0"));
    assert_eq!(ask(&["2:500", "--within", "1"], &[root, ("PLACER_WITHIN", "0")]), answer("1"));
    assert_eq!(ask(&["2:500"], &[root, ("PLACER_POLICY", "numad")]), answer("1"));
    // Nothing is waited for on a recorded machine.
    assert_eq!(ask(&["2:500"], &[root, ("PLACER_WINDOW", "60s")]), answer("1"));
    let flag = other.path().to_str().expect("a plain name");
    assert_eq!(ask(&["1:500", "--root", flag], &[root]), answer("7"));
    assert_eq!(ask(&["10:500"], &[root, ("PLACER_STRICT", "true")]).0, Some(1));
}

#[test]
fn switches_are_read_from_variables_as_people_write_them() {
    let dir = tempfile::tempdir().expect("a directory");
    three_nodes().allowed("0-7", "0").write(dir.path());
    let ask = |args: &[&str], name: &str, value: &str| {
        told(&run(placer()
            .arg("advise")
            .args(args)
            .env("PLACER_ROOT", dir.path())
            .env(name, value)))
    };
    for value in ["1", "true", "yes", "on", "True", "YES"] {
        assert_eq!(ask(&["2:500"], "PLACER_MACHINE_WIDE", value), answer("1"), "{value}");
        assert_eq!(ask(&["10:500"], "PLACER_STRICT", value).0, Some(1), "{value}");
    }
    for value in ["0", "false", "no", "off", "False", ""] {
        assert_eq!(ask(&["2:500"], "PLACER_MACHINE_WIDE", value), answer("0"), "{value}");
        assert_eq!(ask(&["10:500"], "PLACER_STRICT", value).0, Some(0), "{value}");
        // A flag wins, and can take back what a variable says.
        let flag = ["2:500", "--machine-wide"];
        assert_eq!(ask(&flag, "PLACER_MACHINE_WIDE", value), answer("1"), "{value}");
    }
    assert_eq!(ask(&["--strict", "10:500"], "PLACER_STRICT", "0").0, Some(1));
    assert_eq!(ask(&["2:500", "--machine-wide=no"], "PLACER_MACHINE_WIDE", "1"), answer("0"));
    for name in ["PLACER_MACHINE_WIDE", "PLACER_STRICT"] {
        let (code, stdout, stderr) = ask(&["2:500"], name, "maybe");
        assert_eq!((code, stdout.as_str()), (Some(2), ""));
        assert!(stderr.contains("maybe"), "{stderr}");
    }
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let host = host();
    let names = [
        "CONFIG",
        "WINDOW",
        "POLICY",
        "VIA",
        "NUMAD",
        "WITHIN",
        "NEAR",
        "PAGES",
        "MEMORY_BOUND",
        "SMT_PERCENT",
        "PREFER",
        "EFFORT",
        "MACHINE_WIDE",
        "HOLD",
        "STRICT",
        "STATE_DIR",
        "NUMAD_LOG",
    ];
    for args in [&["advise", "2:500"][..], &["numad", "-w", "2:500"]] {
        let mut command = placer();
        command.args(args).envs(names.map(|name| (format!("PLACER_{name}"), "")));
        assert_eq!(told(&run(command.env("PLACER_ROOT", host.path()))), answer("1"));
    }
    // This machine is meant, not one recorded in a directory without a name.
    let recording = host.path().join("copy");
    let mut record = placer();
    record.args(["record", "--window", "0"]).arg(&recording);
    let recorded = run(record.env("PLACER_ROOT", ""));
    match recorded.status.code() {
        Some(0) => assert!(recording.join("sys/devices/system/node").is_dir()),
        _ => assert!(text(&recorded.stderr).contains("/sys/"), "{}", text(&recorded.stderr)),
    }
}

#[test]
fn the_name_numad_makes_it_numad() {
    let host = host();
    let dir = tempfile::tempdir().expect("a directory");
    let ask = |program: &Path, name: Option<&str>, args: &[&str]| {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        if let Some(name) = name {
            command.arg0(name);
        }
        told(&common::run(command.args(args).env_clear().env("PLACER_ROOT", host.path())))
    };
    let link = dir.path().join("numad");
    symlink(program(), &link).expect("a link");
    let below = dir.path().join("copies");
    fs::create_dir(&below).expect("made");
    let copy = below.join("numad");
    common::copy_program(program(), &copy);
    for program in [&link, &copy] {
        assert_eq!(ask(program, None, &["-w", "2:500"]), answer("1"));
        let path = program.display();
        let version = ask(program, None, &["-V"]);
        assert_eq!(version.1, format!("{path} version: numad 20251104: compiled Feb  8 2026\n"));
        let (code, stdout, stderr) = ask(program, None, &["-h"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.starts_with(&format!("Usage: {path} <options> ...\n")), "{stderr}");
    }
    let placer = program();
    let placer = Path::new(&placer);
    assert_eq!(ask(placer, Some("numad"), &["-w", "2:500"]), answer("1"));
    assert_eq!(ask(placer, Some("/no/such/numad"), &["-w", "2:500"]), answer("1"));
    // Other names are placer's.
    for name in ["numad2", "xnumad", "numad/placer", "NUMAD"] {
        assert_eq!(ask(placer, Some(name), &["-w", "2:500"]).0, Some(2), "{name}");
    }
    let (code, stdout, stderr) = ask(placer, None, &["numad", "-h"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("Usage: numad <options> ...\n"), "{stderr}");
}

#[needs(bash)]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let host = tempfile::tempdir().expect("a directory");
    let mut machine = Machine::new();
    for node in 0..64 {
        machine = machine.node(node, 2 * node..2 * node + 2, 1 << 20, 1 << 19);
    }
    machine.write(host.path());
    let line = "set -o pipefail; \"$0\" show --json | head -1";
    let mut bash = Command::new("bash");
    bash.args(["-c", line]).arg(program()).env_clear().env("PATH", "/usr/bin:/bin");
    let output = bash.env("PLACER_ROOT", host.path()).output().expect("bash");
    assert_eq!(told(&output), (Some(0), "{\n".to_owned(), String::new()));
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let host = host();
    for (args, code) in [
        (&["advise", "2:500"][..], 2),
        (&["advise", "2:500", "--json"], 2),
        (&["show"], 2),
        (&["numad", "-w", "2:500"], 1),
        (&["numad", "-V"], 1),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").expect("a device");
        let mut child = placer();
        let child = child.args(args).env("PLACER_ROOT", host.path()).stdout(full);
        let child = child.stderr(std::process::Stdio::piped()).spawn().expect("the program starts");
        let output = child.wait_with_output().expect("a child of ours");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        // numad says nothing about its version then, and neither do we.
        if args != ["numad", "-V"] {
            let name = if code == 1 { "numad" } else { "placer" };
            let said = format!(
                "{name}: cannot write the answer to standard output: No space left on device (os error 28)\n"
            );
            assert_eq!(text(&output.stderr), said);
        }
    }
}

#[test]
fn what_is_unknown_is_a_usage_error() {
    let host = host();
    for args in [
        &["advise", "2:500", "--no-such-flag"][..],
        &["advise"],
        &["advise", "2:500", "3:500"],
        &["advise", "2:500", "--policy", "guess"],
        &["advise", "2:500", "--window", "5"],
        &["advise", "2:500", "--json", "--cpus"],
        &["show", "2:500"],
        &["no-such-command"],
        &["record"],
    ] {
        let (code, stdout, stderr) = told(&placer_on(host.path(), args));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        let placers = "placer: several requests are placed with --together\n";
        assert!(stderr.starts_with("error: ") || stderr == placers, "{args:?}: {stderr}");
    }
}

/// A question about this machine, with what is kept between runs in a place of its own.
fn live(state: &Path, window: &str) -> Duration {
    let since = Instant::now();
    let args = ["advise", "0.01:1", "--window", window];
    let output = run(placer().args(args).env("PLACER_STATE_DIR", state));
    assert!(output.status.success(), "{}", text(&output.stderr));
    since.elapsed()
}

#[test]
fn with_a_sample_at_hand_nothing_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    let first = live(&state, "1s");
    assert!(first >= Duration::from_secs(1), "the first one measures: {first:?}");
    // The first of the two readings is a second old by now.
    let again: Vec<Duration> = (0..5).map(|_| live(&state, "1s")).collect();
    let quickest = again.iter().min().expect("five answers");
    assert!(*quickest * 4 < first, "{again:?} after {first:?}");
}

#[test]
fn a_burst_of_calls_does_not_starve_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    let window = Duration::from_millis(200);
    let mut took = Vec::new();
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(3000) {
        took.push(live(&state, "200ms"));
    }
    let waited = took.iter().filter(|one| **one >= window).count();
    assert!(took.len() > 10, "{took:?}");
    // The first, and whichever come before anything saved is old enough.
    assert!(waited * 4 <= took.len(), "{waited} of {} waited: {took:?}", took.len());
    assert!(fs::read_dir(&state).expect("listed").count() <= 2, "nothing is left behind");
}

#[test]
fn the_decision_is_emitted_as_settings_for_other_programs() {
    let host = host();
    let emit = |args: &[&str]| told(&placer_on(host.path(), &[&["advise", "2:1G"], args].concat()));
    let said = |text: &str| (Some(0), text.to_owned(), String::new());
    assert_eq!(emit(&["--emit", "numactl"]), said("--physcpubind=4-7 --membind=1\n"));
    let mode = ["--emit", "numactl", "--mode", "interleave"];
    assert_eq!(emit(&mode), said("--physcpubind=4-7 --interleave=1\n"));
    let lxc = "lxc.cgroup2.cpuset.cpus = 4-7\nlxc.cgroup2.cpuset.mems = 1\n";
    assert_eq!(emit(&["--emit", "lxc"]), said(lxc));
    assert!(emit(&["--emit", "systemd"]).1.contains("CPUAffinity=4-7\nNUMAPolicy=bind\n"));
    let xml = emit(&["--emit", "libvirt-xml"]).1;
    assert!(xml.starts_with("<vcpu placement='static' cpuset='4-7'>2</vcpu>\n"), "{xml}");
    let qemu = emit(&["--emit", "qemu"]).1;
    assert!(qemu.contains("host-nodes=1,policy=bind"), "{qemu}");
    // What a program has no setting for is said.
    let (code, _, stderr) = emit(&["--emit", "lxc", "--mode", "preferred"]);
    assert!(code == Some(0) && stderr.contains("numactl --preferred=1"), "{stderr}");
    assert_eq!(emit(&["--emit", "numad"]).0, Some(2));
}

/// Each library more is found, mapped and bound at every start; see `src/bin/placer/start_up.rs`.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn the_program_loads_the_c_library_and_no_other() {
    // The loader lists them in the program's place: "libc.so.6 => /lib/... (0x7f...)".
    let listed =
        run(Command::new(env!("CARGO_BIN_EXE_placer")).env("LD_TRACE_LOADED_OBJECTS", "1"));
    let listed = text(&listed.stdout);
    let names =
        listed.lines().filter_map(|line| line.split_once(" => ")).map(|(name, _)| name.trim());
    assert_eq!(names.collect::<Vec<_>>(), ["libc.so.6"], "{listed}");
}
