//! The settings file as the program meets it: what it changes, what wins over it, and what is said
//! when it is damaged.

use crate::common;
use needs::needs;
use testkit::machine;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{SHIPPED, json, placer, run, text};
use machine::Machine;
use serde_json::{Value, json};

/// A recorded machine, a settings file and a place for claims.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// Four nodes of 4 idle CPUs; the higher the node, the more is free.
    fn new() -> Self {
        let mut machine = Machine::new();
        for node in 0..4 {
            let free = (8 << 20) + (u64::from(node) << 20);
            machine = machine.node(node, 4 * node..4 * node + 4, 16 << 20, free);
        }
        let dir = tempfile::tempdir().expect("a directory");
        machine.write(&dir.path().join("host"));
        Self { dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("placer.toml")
    }

    fn with(self, settings: &str) -> Self {
        fs::write(self.file(), settings).expect("written");
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = placer();
        command.args(args).env("PLACER_ROOT", self.dir.path().join("host"));
        command.env("PLACER_STATE_DIR", self.dir.path().join("state"));
        command.env("PLACER_CONFIG", self.file());
        command
    }

    fn ask(&self, args: &[&str]) -> (Option<i32>, String, String) {
        told(&run(&mut self.command(args)))
    }

    fn shown(&self) -> Value {
        json(&run(&mut self.command(&["show", "--json"])))
    }
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn answer(nodes: &str) -> (Option<i32>, String, String) {
    (Some(0), format!("{nodes}\n"), String::new())
}

#[test]
fn a_file_sets_defaults_and_variables_and_flags_win() {
    let host = Host::new().with("[advise]\nwithin = '0-1'\nstrict = true\nprefer = 'pack'\n");
    assert_eq!(host.ask(&["advise", "2:500"]), answer("0"));
    assert_eq!(host.ask(&["advise", "2:500", "--prefer", "room"]), answer("1"));
    assert_eq!(host.ask(&["advise", "2:500", "--within", "2"]), answer("2"));
    let by_variable = run(host.command(&["advise", "2:500"]).env("PLACER_WITHIN", "3"));
    assert_eq!(told(&by_variable), answer("3"));

    // Switches are taken back by a flag or a variable.
    assert_eq!(host.ask(&["advise", "9:500"]).0, Some(1));
    assert_eq!(host.ask(&["advise", "9:500", "--strict=no"]).0, Some(0));
    assert_eq!(host.ask(&["advise", "9:500", "--strict"]).0, Some(1));
    let by_variable = run(host.command(&["advise", "9:500"]).env("PLACER_STRICT", "0"));
    assert_eq!(by_variable.status.code(), Some(0));
    // Under numad's name [advise] says nothing.
    assert_eq!(host.ask(&["numad", "-w", "2:500"]), answer("3"));
}

#[test]
fn the_file_is_named_by_flag_or_variable() {
    let host = Host::new().with("[advise]\nwithin = '0'\n");
    let other = host.dir.path().join("other.toml");
    fs::write(&other, "[advise]\nwithin = '1'\n").expect("written");
    let other = other.to_str().expect("a plain name");
    assert_eq!(host.ask(&["advise", "2:500"]), answer("0"));
    assert_eq!(host.ask(&["--config", other, "advise", "2:500"]), answer("1"));
    assert_eq!(host.ask(&["advise", "2:500", "--config", other]), answer("1"));
    let unset = run(host.command(&["advise", "2:500"]).env("PLACER_CONFIG", ""));
    assert_eq!(told(&unset), answer("3"));

    let missing = host.dir.path().join("no.toml");
    let missing = missing.to_str().expect("a plain name");
    let said =
        format!("cannot read the settings: {missing}: No such file or directory (os error 2)");
    let refused = (Some(2), String::new(), format!("placer: {said}\n"));
    for command in [
        &["advise", "2:500"][..],
        &["show"],
        &["ps"],
        &["release", "12345678"],
        &["record", "/no/such/place"],
    ] {
        let output = host.ask(&[&["--config", missing], command].concat());
        assert_eq!(output, refused, "{command:?}");
    }
}

#[test]
fn damaged_settings_end_placer_and_cost_numad_one_line() {
    let host = Host::new().with("[advise]\nwithin = '0'\n[numad]\npolicy = 'bset'\n");
    let file = host.file();
    let said = format!(
        "cannot read the settings: {}:4: [numad] policy: expected \"numad\" or \"best\", found \
         'bset'\n",
        file.display()
    );
    assert_eq!(host.ask(&["advise", "2:500"]), (Some(2), String::new(), format!("placer: {said}")));
    let line = format!("placer: warning: using built-in defaults: {said}");
    let answered = (Some(0), "3\n".to_owned(), line);
    assert_eq!(host.ask(&["numad", "-w", "2:500"]), answered);
    let by_name = run(host.command(&["-w", "2:500"]).arg0("/usr/bin/numad"));
    assert_eq!(told(&by_name), answered);
    let by_flag = ["--config", file.to_str().expect("a plain name"), "numad", "-w", "2:500"];
    assert_eq!(told(&run(host.command(&by_flag).env_remove("PLACER_CONFIG"))), answered);
    // What needs no settings does not look for them.
    assert_eq!(host.ask(&["numad", "-V"]).2, "");
}

#[test]
fn a_pipe_or_a_directory_in_place_of_the_file_is_refused_at_once() {
    let host = Host::new();
    nix::unistd::mkfifo(&host.file(), nix::sys::stat::Mode::from_bits_truncate(0o600))
        .expect("made");
    let (code, stdout, stderr) = host.ask(&["advise", "2:500"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.ends_with(": expected an ordinary file, found a pipe\n"), "{stderr}");
    let (code, stdout, stderr) = host.ask(&["numad", "-w", "2:500"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "3\n"));
    assert!(stderr.ends_with("found a pipe\n") && stderr.lines().count() == 1, "{stderr}");
}

/// The file that nobody names, in a mount namespace of its own.
#[needs(user_mounts)]
#[test]
fn the_file_of_the_host_counts_if_only_root_can_have_written_it() {
    let host = Host::new().with("[advise]\nwithin = '0'\n");
    let script = "mount -t tmpfs none /etc && cp \"$0\" /etc/placer.toml && chmod \"$1\" \
                  /etc/placer.toml || exit; shift; exec \"$@\"";
    let in_etc = |mode: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(host.file()).arg(mode);
        command.args([env!("CARGO_BIN_EXE_placer"), "advise", "2:500", "--root"]);
        command.arg(host.dir.path().join("host")).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("PLACER_STATE_DIR", host.dir.path().join("state"));
        told(&command.output().expect("a shell"))
    };
    assert_eq!(in_etc("0644"), answer("0"));
    let refused = "placer: cannot read the settings: /etc/placer.toml: writable by group or \
        others (mode 0666); run chmod go-w\n";
    assert_eq!(in_etc("0666"), (Some(2), String::new(), refused.to_owned()));
}

#[test]
fn overcommit_promises_so_many_times_what_is_free() {
    // 10 GiB free, of which policy best keeps 1 % of 100 GiB back: 9 GiB, or 18.
    for (factor, guests) in [("1", 3), ("1.5", 4), ("2.0", 6)] {
        let dir = tempfile::tempdir().expect("a directory");
        Machine::new().node(0, 0..64, 100 << 20, 10 << 20).write(&dir.path().join("host"));
        let host = Host { dir }.with(&format!("[claims]\novercommit = {factor}\n"));
        // No guest is promised more than is there.
        assert_eq!(host.ask(&["advise", "1:10G", "--strict"]).0, Some(1));
        for _ in 0..guests {
            let asked = host.ask(&["advise", "1:3G", "--hold", "60s", "--strict"]);
            assert_eq!(asked, answer("0"), "{factor}");
        }
        assert_eq!(host.ask(&["advise", "1:3G", "--strict"]).0, Some(1), "{factor}");
        // What is claimed is told as it was promised.
        assert_eq!(host.shown()["nodes"][0]["claimed"], json!((guests * 3_u64) << 30));
    }
    // numad's rules: node 0 has most, until too much of it is promised.
    for (factor, nodes) in [("1.0", ["0", "1"]), ("1.5", ["0", "0"])] {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = Machine::new().node(0, 0..64, 100 << 20, 10 << 20);
        machine.node(1, 64..128, 100 << 20, 7 << 20).write(&dir.path().join("host"));
        let host = Host { dir }
            .with(&format!("[claims]\novercommit = {factor}\n[numad]\nhold = 'adopt'\n"));
        let answers: Vec<_> = (0..2).map(|_| host.ask(&["numad", "-w", "1:6000"])).collect();
        assert_eq!(answers, nodes.map(answer), "{factor}");
    }
}

#[test]
fn by_numads_name_nothing_is_held_unless_it_is_set() {
    let host = Host::new();
    assert_eq!(
        told(&run(host.command(&["numad", "-w", "2:500"]).env_remove("PLACER_CONFIG"))),
        answer("3")
    );
    assert!(!host.dir.path().join("state").exists(), "not even the directory is made");

    let host = host.with("[numad]\nhold = 'adopt'\n[claims]\nhold = '10m'\n");
    assert_eq!(host.ask(&["numad", "-w", "2:10000"]), answer("3"));
    // Promised, and so no more to be had: numad's own rules go elsewhere.
    assert_eq!(host.ask(&["numad", "-w", "2:9000"]), answer("2"));
    let shown = host.shown();
    assert_eq!(shown["claims"], json!({"guests": 0, "holds": 2}));
    let claimed: Vec<&Value> =
        shown["nodes"].as_array().expect("nodes").iter().map(|node| &node["claimed"]).collect();
    assert_eq!(claimed, [&json!(0), &json!(0), &json!(9000_u64 << 20), &json!(10_000_u64 << 20)]);
    let listed = json(&run(&mut host.command(&["ps", "--json"])));
    let ends = listed["claims"][0]["ends_in"].as_f64().expect("a hold");
    assert!((500.0..=600.0).contains(&ends), "{listed}");
}

#[test]
fn by_numads_name_best_answers_where_it_is_set() {
    let host = Host::new().with("[numad]\npolicy = 'best'\n[advise]\nwithin = '0-2'\n");
    assert_eq!(host.ask(&["numad", "-w", "2:500"]), answer("2"));
    assert_eq!(host.ask(&["numad", "-R", "8-11", "-w", "4:500"]), answer("1"));
    assert_eq!(host.ask(&["numad", "-w", "x"]).0, Some(1));
    let (code, stdout, stderr) = host.ask(&["numad", "-w", "64:500"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "0-2\n"));
    let short = "placer: warning: 64 CPUs and 500.0 MiB do not fit on nodes 0-2: 52 CPUs short\n";
    assert_eq!(stderr, short);
    // What best has no answer for is answered by numad's rules: libvirt needs one.
    let nowhere = Host::new().with("[numad]\npolicy = 'best'\n[advise]\nwithin = '7'\n");
    let line = "placer: warning: numad's own rules answer: no node to choose from: nodes 7 are \
                allowed, the host has nodes 0-3\n";
    let answered = (Some(0), "3\n".to_owned(), line.to_owned());
    assert_eq!(nowhere.ask(&["numad", "-w", "2:500"]), answered);
    // An amount that wraps below zero, as numad's do.
    assert_eq!(host.ask(&["numad", "-w", "21474837:500"]).0, Some(0));
}

#[test]
fn by_numads_name_pages_are_asked_for() {
    let host = Host::new().with("[numad]\npolicy = 'best'\npages = '2M'\nhold = 'adopt'\n");
    let pool = "sys/devices/system/node/node1/hugepages/hugepages-2048kB";
    for (file, count) in [("nr_hugepages", "600\n"), ("free_hugepages", "600\n")] {
        let dir = host.dir.path().join("host").join(pool);
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join(file), count).expect("written");
    }
    assert_eq!(host.ask(&["numad", "-w", "2:1000"]), answer("1"));
    let shown = host.shown();
    let huge = json!([{"page": 2 << 20, "memory": 1000_u64 << 20}]);
    assert_eq!(shown["nodes"][1]["claimed_huge"], huge);
    assert_eq!(shown["nodes"][1]["claimed"], json!(0));
    // They are promised once.
    let again = host.ask(&["numad", "-w", "2:1000"]);
    assert_eq!(again.0, Some(0));
    assert!(again.2.contains("do not fit"), "{again:?}");
}

#[test]
fn guests_that_start_together_are_promised_different_memory() {
    for policy in ["best", "numad"] {
        let host = Host::new().with(&format!("[numad]\npolicy = '{policy}'\nhold = 'adopt'\n"));
        // Each takes more than half of any node.
        let start = || -> Vec<Child> {
            let ask = |_| {
                let mut command = host.command(&["numad", "-w", "1:7000"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().expect("it starts")
            };
            (0..4).map(ask).collect()
        };
        let answers: Vec<_> = start()
            .into_iter()
            .map(|child| told(&child.wait_with_output().expect("it ends")))
            .collect();
        // On a host that is busy with other things the lock may not be had in time.
        if answers.iter().any(|(_, _, stderr)| stderr.contains("cannot lock")) {
            testkit::require::does_not_apply(format!("{answers:?}"));
            continue;
        }
        let nodes: BTreeSet<&str> = answers.iter().map(|(_, nodes, _)| nodes.trim()).collect();
        assert_eq!(nodes, BTreeSet::from(["0", "1", "2", "3"]), "{policy}: {answers:?}");
        let shown = host.shown();
        for node in shown["nodes"].as_array().expect("nodes") {
            assert_eq!(node["claimed"], json!(7000_u64 << 20), "{policy}");
        }
        // The control: without holds they are all sent to the same place.
        let host = host.with(&format!("[numad]\npolicy = '{policy}'\n"));
        fs::remove_dir_all(host.dir.path().join("state")).expect("removed");
        let answers: Vec<_> = (0..4).map(|_| host.ask(&["numad", "-w", "1:7000"])).collect();
        assert_eq!(answers, vec![answer("3"); 4], "{policy}");
    }
}

#[test]
fn show_fits_the_terminal_with_claims() {
    let host = Host::new().with("[advise]\nhold = '1m'\n");
    assert_eq!(host.ask(&["advise", "14:30G"]).0, Some(0));
    let (code, table, stderr) = host.ask(&["show"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("\nclaims: 0 guests, 1 hold (see placer ps)\n"), "{table}");
}

#[test]
fn the_shipped_file_is_good() {
    let output = run(Host::new().command(&["advise", "2:500"]).env("PLACER_CONFIG", SHIPPED));
    assert_eq!(told(&output), answer("3"));
}

#[test]
fn by_numads_name_a_window_that_is_set_is_measured() {
    let tmp = tempfile::tempdir().expect("a directory");
    let file = tmp.path().join("placer.toml");
    for policy in ["numad", "best"] {
        fs::write(&file, format!("[numad]\npolicy = '{policy}'\nwindow = '300ms'\n"))
            .expect("written");
        for _ in 0..2 {
            let mut command = placer();
            command.args(["numad", "-w", "0:1"]).env("PLACER_CONFIG", &file);
            command.env("PLACER_STATE_DIR", tmp.path().join("state"));
            command.env("PLACER_NUMAD_LOG", tmp.path().join("log"));
            let start = Instant::now();
            let output = run(&mut command);
            // A host without nodes has no answer, by any rule.
            if output.status.code() == Some(0) {
                assert!(start.elapsed() >= Duration::from_millis(300), "{policy}");
            }
        }
    }
}

#[test]
fn by_numads_name_holding_changes_no_answer() {
    let tmp = tempfile::tempdir().expect("a directory");
    let file = tmp.path().join("placer.toml");
    fs::write(&file, "[numad]\nhold = 'adopt'\n").expect("written");
    let options = [&[][..], &["-C", "0"], &["-t", "50"], &["-R", "0-1"], &["-C", "0", "-R", "2"]];
    for fixture in common::fixtures() {
        for request in ["0", "1", "2:200", "2.5:300", "8:900", "64:64000", "21474837:1"] {
            for options in options {
                let ask = |config: &str| {
                    let mut command = placer();
                    command.arg("numad").args(options).args(["-w", request]);
                    command.env("PLACER_ROOT", common::fixture(&fixture));
                    command
                        .env("PLACER_CONFIG", config)
                        .env("PLACER_STATE_DIR", tmp.path().join("s"));
                    command.env("PLACER_NUMAD_LOG", tmp.path().join("log"));
                    let output = run(&mut command);
                    let log = fs::read_to_string(tmp.path().join("log")).unwrap_or_default();
                    let _ = fs::remove_file(tmp.path().join("log"));
                    let _ = fs::remove_dir_all(tmp.path().join("s"));
                    // Without the time before each line.
                    let log: Vec<String> =
                        log.lines().map(|line| line.chars().skip(26).collect()).collect();
                    (output.status.code(), text(&output.stdout), log)
                };
                let held = ask(file.to_str().expect("a plain name"));
                assert_eq!(held, ask(SHIPPED), "{fixture}: {options:?} -w {request}");
            }
        }
    }
}
