//! What is said about bad requests, bad host files and bad places for state: a row each.
//!
//! The rows on state ask about this machine, since recorded ones keep none.

use crate::common;
use needs::needs;
use testkit::machine;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{placer, placer_on, run, text};
use machine::{CPUS, Machine, NODES, put_file};

/// Far more than any answer takes, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a run came to: exit status, stdout, stderr.
type Said = (Option<i32>, String, String);

fn said(command: &mut Command) -> Said {
    let since = Instant::now();
    let output = run(command);
    assert!(since.elapsed() < PATIENCE, "{command:?} took {:?}", since.elapsed());
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn failed(code: i32, message: &str) -> Said {
    (Some(code), String::new(), format!("{message}\n"))
}

fn answered(nodes: &str, warnings: &[&str]) -> Said {
    let lines = warnings.iter().map(|warning| format!("placer: warning: {warning}\n"));
    (Some(0), format!("{nodes}\n"), lines.collect())
}

// Requests

#[test]
fn a_request_that_is_none_says_which_where_and_what_was_wanted() {
    let host = Recorded::two_nodes();
    const FORM: &str = "; write CPUS[:MEMORY], as in 4:500, 2.5:8G";
    for (request, byte, expected, found, hint) in [
        ("", 1, "a number of CPUs", "nothing", FORM),
        ("x", 1, "a number of CPUs", "\"x\"", FORM),
        ("-1", 1, "a number of CPUs", "\"-1\"", FORM),
        ("-1:500", 1, "a number of CPUs", "\"-1:500\"", FORM),
        ("4:", 3, "an amount of memory", "nothing", FORM),
        ("4:500:1", 6, "the end", "\":1\"", FORM),
        ("4:500MB", 6, "a unit K, M, G or T", "\"MB\"", "; write 4:500M"),
        ("4:8GB", 4, "a unit K, M, G or T", "\"GB\"", "; write 4:8G"),
        ("1000001", 1, "a number of CPUs of at most 1000000", "\"1000001\"", FORM),
        (
            "1:99999999999999999999",
            3,
            "an amount of memory of at most 70368744177664",
            "\"99999999999999999999\"",
            FORM,
        ),
    ] {
        let message =
            format!("request \"{request}\": byte {byte}: expected {expected}, found {found}{hint}");
        for args in [&["advise", request][..], &["advise", "--strict", "--", request]] {
            let output = placer_on(host.root(), args);
            let stderr = text(&output.stderr);
            assert!(stderr.lines().next().is_some_and(|line| line.ends_with(&message)), "{stderr}");
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
        }
    }
}

#[test]
fn under_numads_name_numads_own_words_are_said() {
    let host = Recorded::two_nodes();
    for request in ["", "x", "-1", "4:", "4:-1", ".5", "2147483648", "1:99999999999999999999"] {
        let message = format!("Can't parse arg value(s): {request}");
        assert_eq!(host.numad(&["-w", request]), failed(1, &message), "{request}");
    }
}

#[test]
fn nodes_that_are_no_list_are_refused() {
    let host = Recorded::two_nodes();
    for (nodes, message) in [
        ("0-4294967295", "1:3: expected an id of at most 1048575, found \"4294967295\""),
        ("1-", "1:3: expected a number, found nothing"),
        ("3-1", "1:1: expected a range that ascends, found \"3-1\""),
        ("", "expected at least one node"),
    ] {
        let (code, stdout, stderr) =
            said(placer().args(["advise", "4:500", "--within", nodes, "--root"]).arg(host.root()));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{nodes}: {stderr}");
        assert!(stderr.lines().next().is_some_and(|line| line.ends_with(message)), "{stderr}");
    }
    assert_eq!(
        said(placer().args(["advise", "4:500", "--within", "7", "--root"]).arg(host.root())),
        failed(2, "placer: no node to choose from: nodes 7 are allowed, the host has nodes 0-1")
    );
}

// Host files

/// A recorded machine with two nodes of 4 CPUs and 16 GiB, of which node 1 has more free.
struct Recorded {
    dir: tempfile::TempDir,
}

impl Recorded {
    fn two_nodes() -> Self {
        let machine = Machine::new();
        Self::of(&machine.node(0, 0..4, 16 << 20, 4 << 20).node(1, 4..8, 16 << 20, 8 << 20))
    }

    fn of(machine: &Machine) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        machine.write(dir.path());
        Self { dir }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn put(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        put_file(self.root(), path, text);
        self
    }

    fn without(self, path: &str) -> Self {
        fs::remove_file(self.root().join(path)).expect("removed");
        self
    }

    fn node(&self, path: &str) -> String {
        self.root().join(NODES).join(path).display().to_string()
    }

    fn advise(&self) -> Said {
        said(placer().args(["advise", "4:500"]).env("PLACER_ROOT", self.root()))
    }

    fn numad(&self, args: &[&str]) -> Said {
        said(placer().arg("numad").args(args).env("PLACER_ROOT", self.root()))
    }

    fn show(&self) -> Said {
        said(placer().args(["show", "--json"]).env("PLACER_ROOT", self.root()))
    }
}

const MEMINFO: &str = "sys/devices/system/node/node1/meminfo";
const DISTANCE: &str = "sys/devices/system/node/node1/distance";
const CPULIST: &str = "sys/devices/system/node/node1/cpulist";
const CPUMAP: &str = "sys/devices/system/node/node1/cpumap";
const STAT: &str = "next/proc/stat";

#[test]
fn the_machine_of_these_rows_is_good() {
    let host = Recorded::two_nodes();
    assert_eq!(host.advise(), answered("1", &[]));
    assert_eq!(host.numad(&["-w", "4:500"]), answered("1", &[]));
    assert_eq!((host.show().0, host.show().2), (Some(0), String::new()));
}

#[test]
fn a_node_without_meminfo_promises_nothing() {
    let host = Recorded::two_nodes().without(MEMINFO);
    let gone = "node 1 reports no memory (offlined?): it counts as full";
    assert_eq!(host.advise(), answered("0", &[gone]));
    assert_eq!(
        host.numad(&["-w", "4:500"]),
        failed(
            1,
            "numad: node1/meminfo: expected the node's memory, found no file (has the node left?)"
        )
    );
}

#[test]
fn a_node_without_memfree_promises_nothing() {
    let host = Recorded::two_nodes().put(MEMINFO, "Node 1 MemTotal: 16777216 kB\n");
    let untold = "node 1 reports no MemFree: it counts as full";
    assert_eq!(host.advise(), answered("0", &[untold]));
    assert_eq!(
        host.numad(&["-w", "4:500"]),
        failed(1, "numad: node1/meminfo: expected a line MemFree, found none")
    );
}

#[test]
fn damaged_meminfo_is_named_with_line_and_byte() {
    for (text, where_and_what) in [
        ("Node 1 MemTotal: 5 kB\nNode 1 MemFree:", "2:16: expected a number of kB, found nothing"),
        ("Node 1 MemTotal: -5 kB\n", "1:18: expected a number of kB, found \"-5 kB\""),
        (
            "Node 1 MemFree: 99999999999999999999 kB\n",
            "1:17: expected a number of kB, found \"99999999999999999999 kB\"",
        ),
    ] {
        let host = Recorded::two_nodes().put(MEMINFO, text);
        let message = format!("{}:{where_and_what}", host.node("node1/meminfo"));
        assert_eq!(host.advise(), failed(2, &format!("placer: {message}")));
        assert_eq!(host.show(), failed(2, &format!("placer: {message}")));
        assert_eq!(host.numad(&["-w", "4:500"]), failed(1, &format!("numad: {message}")));
    }
}

#[test]
fn a_distance_row_too_short_or_too_long_is_refused() {
    for (row, where_and_what) in [
        ("20\n", "1:3: expected 2 distances (one for each online node), found nothing"),
        ("20 10 30\n", "1:7: expected 2 distances (one for each online node), found \"30\""),
        ("20 x\n", "1:4: expected 2 distances (one for each online node), found \"x\""),
        ("", "1:1: expected 2 distances (one for each online node), found nothing"),
    ] {
        let host = Recorded::two_nodes().put(DISTANCE, row);
        let message = format!("placer: {}:{where_and_what}", host.node("node1/distance"));
        assert_eq!(host.advise(), failed(2, &message));
        assert_eq!(host.show(), failed(2, &message));
    }
    let host = Recorded::two_nodes().put(DISTANCE, "20\n");
    let message = "numad: node1/distance: expected a distance for each node, found fewer";
    assert_eq!(host.numad(&["-w", "4:500"]), failed(1, message));
}

#[test]
fn a_distance_of_zero_is_refused() {
    let host = Recorded::two_nodes().put(DISTANCE, "20 0\n");
    let message = "node1/distance: expected distances of at least 1 (10 is local), found 0";
    assert_eq!(host.advise(), failed(2, &format!("placer: {message}")));
    assert_eq!(host.numad(&["-w", "4:500"]), failed(1, &format!("numad: {message}")));
}

#[test]
fn the_distances_of_a_single_node_do_not_matter() {
    let host = Recorded::of(&Machine::new().node(1, 0..4, 16 << 20, 8 << 20)).put(DISTANCE, "\n");
    let left_out = "1:1: expected 1 distance (one for each online node), found nothing: \
                    the table is left out";
    let (code, stdout, stderr) = host.show();
    let path = host.node("node1/distance");
    assert_eq!(stderr, format!("placer: warning: {path}:{left_out}\n"));
    let shown: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, &shown["distances"]), (Some(0), &serde_json::Value::Null));
}

#[test]
fn a_host_without_nodes_is_refused() {
    let empty = tempfile::tempdir().expect("a directory");
    let nodes = empty.path().join(NODES);
    let message = "expected node directories (node0, ...), found none";
    for root in [empty.path().to_owned(), empty.path().join("no/such/machine")] {
        let path = root.join(NODES).display().to_string();
        let advise = said(placer().args(["advise", "4:500", "--root"]).arg(&root));
        assert_eq!(advise, failed(2, &format!("placer: {path}: {message}")));
        let numad = said(placer().args(["numad", "-w", "4:500"]).env("PLACER_ROOT", &root));
        assert_eq!(numad, failed(1, &format!("numad: {path}: {message}")));
    }
    fs::create_dir_all(&nodes).expect("made");
    let show = said(placer().args(["show", "--root"]).arg(empty.path()));
    assert_eq!(show, failed(2, &format!("placer: {}: {message}", nodes.display())));
}

#[test]
fn a_root_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().join(NODES);
    let message = format!("placer: cannot read {}: Not a directory (os error 20)", path.display());
    let show = said(placer().args(["show", "--root"]).arg(file.path()));
    assert_eq!(show, failed(2, &message));
}

#[test]
fn a_nul_byte_after_a_text_is_read_over() {
    let host = Recorded::two_nodes()
        .put("sys/devices/system/cpu/cpu0/topology/thread_siblings", "00000001\n\0")
        .put(CPULIST, "4-7\n\0")
        .put(DISTANCE, "20 10\n\0");
    assert_eq!(host.advise(), answered("1", &[]));
    let host = Recorded::two_nodes().without(CPULIST).put(CPUMAP, "00000000,000000f0\n\0");
    let masked = "nodes 1 have no cpulist file: their cpumap is used";
    assert_eq!(host.show().2, format!("placer: warning: {masked}\n"));
}

#[test]
fn masks_serve_where_lists_are_missing() {
    let host = Recorded::two_nodes().without(CPULIST).put(CPUMAP, "000000f0\n");
    let masked = "nodes 1 have no cpulist file: their cpumap is used";
    assert_eq!(host.advise(), answered("1", &[masked]));
    let host = host.without(CPUMAP);
    let path = host.node("node1/cpulist");
    assert_eq!(
        host.advise(),
        failed(
            2,
            &format!("placer: {path}: expected a file (for the CPUs of the node), found none")
        )
    );
}

#[test]
fn directories_serve_where_the_list_of_nodes_is_missing() {
    let host = Recorded::two_nodes().without("sys/devices/system/node/online");
    assert_eq!(host.advise(), answered("1", &[]));
    let host =
        host.without("sys/devices/system/cpu/online").without("sys/devices/system/cpu/possible");
    assert_eq!(host.advise(), answered("1", &[]));
}

#[test]
fn a_directory_that_is_not_online_is_left_out() {
    let host = Recorded::two_nodes().put("sys/devices/system/node/online", "0\n");
    let host = host.put("sys/devices/system/node/node0/distance", "10\n");
    let left_out = "nodes 1 have a directory and are not online: left out";
    assert_eq!(host.show().2, format!("placer: warning: {left_out}\n"));
}

#[test]
fn a_node_that_was_left_out_is_nobodys_answer() {
    // Node 1 has most room, and is not online: the rows have no column for it.
    let host = Recorded::two_nodes().put("sys/devices/system/node/online", "0\n");
    let host = host.put("sys/devices/system/node/node0/distance", "10\n");
    for policy in ["best", "numad"] {
        let mut advise = placer();
        advise.args(["advise", "2:500", "--policy", policy, "--root"]).arg(host.root());
        let (code, stdout, _) = said(&mut advise);
        assert_eq!((code, stdout.as_str()), (Some(0), "0\n"), "{policy}");
    }
}

#[test]
fn numads_rules_never_answer_advise_with_an_empty_line() {
    let host = Recorded::of(&Machine::new().node(70, 0..4, 16 << 20, 4 << 20));
    let ask = |policy: &str| {
        said(placer().args(["advise", "2:500", "--policy", policy, "--root"]).arg(host.root()))
    };
    assert_eq!(ask("best"), answered("70", &[]));
    let (code, stdout, stderr) = ask("numad");
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.contains("it prints an empty line; --policy best"), "{stderr}");
    assert_eq!(host.numad(&["-w", "2:500"]).1, "\n");
}

#[test]
fn what_the_process_may_use_is_read_whatever_its_name_is() {
    let status = "proc/self/status";
    let name = |list: &str| {
        let mut text = b"Name:\t\xff\xfe(\nState:\tR\n".to_vec();
        text.extend(format!("Cpus_allowed_list:\t0-7\nMems_allowed_list:\t{list}\n").bytes());
        text
    };
    let host = Recorded::two_nodes().put(status, name("0"));
    assert_eq!(host.advise(), answered("0", &[]));
    // A damaged list is no freedom.
    for (list, at, expected, found) in [
        ("0-1,", 24, "a number", "nothing"),
        ("0-", 22, "a number", "nothing"),
        ("1-0", 20, "a range that ascends", "\"1-0\""),
        ("", 20, "at least one id that is allowed", "the end of the line"),
    ] {
        let host = Recorded::two_nodes().put(status, name(list));
        let path = host.root().join(status).display().to_string();
        let message = format!("placer: {path}:4:{at}: expected {expected}, found {found}");
        assert_eq!(host.advise(), failed(2, &message));
    }
}

#[test]
fn a_line_end_in_a_path_makes_no_second_line() {
    let tmp = tempfile::tempdir().expect("a directory");
    let mut advise = placer();
    advise.args(["advise", "4:500", "--root"]).arg(tmp.path().join("two\nlines\u{1b}[31m"));
    let (code, stdout, stderr) = said(&mut advise);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(2), "", 1), "{stderr}");
    assert!(stderr.contains("two\\nlines\\u{1b}[31m"), "{stderr}");
}

#[test]
fn a_list_without_end_is_refused() {
    for (list, at, found) in [
        ("0-4294967295\n", 3, "4294967295"),
        ("4-99999999999999999999999999\n", 3, "999999999999999999999999..."),
    ] {
        let host = Recorded::two_nodes().put(CPULIST, list);
        let path = host.node("node1/cpulist");
        assert_eq!(
            host.advise(),
            failed(
                2,
                &format!(
                    "placer: {path}:1:{at}: expected an id of at most 1048575, found \"{found}\""
                )
            )
        );
    }
}

#[test]
fn ten_megabytes_of_garbage_are_refused_by_size() {
    for path in [CPULIST, DISTANCE, MEMINFO, "sys/devices/system/node/online", "clock"] {
        let host = Recorded::two_nodes().put(path, vec![b'7'; 10 << 20]);
        let path = host.root().join(path).display().to_string();
        assert_eq!(
            host.advise(),
            failed(2, &format!("placer: {path}: expected at most 1048576 bytes, found more"))
        );
    }
}

#[test]
fn damaged_cpu_counters_are_named_with_line_and_byte() {
    for (stat, where_and_what) in [
        ("cpu0 1 2\n", "1:9: expected four or more numbers of ticks, found the end of the line"),
        (
            "cpu 1\ncpu99999999 1 1 1 1\n",
            "2:4: expected a CPU id of at most 1048575, found \"99999999 1 1 1 1\"",
        ),
    ] {
        let host = Recorded::two_nodes().put(STAT, stat);
        let path = host.root().join(STAT).display().to_string();
        assert_eq!(host.advise(), failed(2, &format!("placer: {path}:{where_and_what}")));
    }
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let host = Recorded::two_nodes().without(CPULIST);
    let path = host.root().join(CPULIST);
    let shown = path.display().to_string();
    let other = format!("placer: {shown}: expected an ordinary file, found something else");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert_eq!(host.advise(), failed(2, &other));
    let host = host.without(CPULIST);
    fs::create_dir(&path).expect("made");
    assert_eq!(host.advise(), failed(2, &other));
    fs::remove_dir(&path).expect("removed");
    symlink("/dev/zero", &path).expect("a link");
    assert_eq!(host.advise(), failed(2, &other));
    let host = host.without(CPULIST);
    symlink(&path, &path).expect("a link");
    let endless = "Too many levels of symbolic links (os error 40)";
    assert_eq!(host.advise(), failed(2, &format!("placer: cannot read {shown}: {endless}")));
}

#[test]
fn a_file_without_the_right_to_read_it_is_named() {
    const NOBODY: u32 = 65_534;
    let host = Recorded::two_nodes();
    let path = host.root().join(CPULIST);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).expect("set");
    let mut question = placer();
    if fs::read(&path).is_ok() {
        // Root may read everything: another user asks, with a program that it can reach.
        let program = host.root().join("placer");
        common::copy_program(question.get_program(), &program);
        let settings = host.root().join("placer.toml");
        fs::write(&settings, "").expect("written");
        for path in [host.root(), &program, &settings] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("set");
        }
        question = Command::new(program);
        question.uid(NOBODY).gid(NOBODY).env_clear().current_dir("/");
        question.env("PLACER_CONFIG", settings);
    }
    question.args(["advise", "4:500"]).env("PLACER_ROOT", host.root());
    let denied = format!("placer: cannot read {}: Permission denied (os error 13)", path.display());
    assert_eq!(said(&mut question), failed(2, &denied));
}

#[test]
fn a_recording_without_a_second_moment_has_no_load() {
    let host = Recorded::two_nodes().without(STAT);
    let unknown = "CPU load is unknown: every CPU counts as idle";
    assert_eq!(host.advise(), answered("1", &[unknown]));
    assert_eq!(host.numad(&["-w", "4:500"]), answered("1", &[unknown]));
}

#[test]
fn a_clock_that_stands_or_is_garbage() {
    // numad itself would sleep on until some time has passed.
    let host = Recorded::two_nodes().put("clock", "100 0\n");
    assert_eq!(host.numad(&["-w", "4:500"]), answered("1", &[]));
    // The last moment that can be told in nanoseconds, and the one past it.
    let host = host.put("clock", "922337203484 200\n");
    assert_eq!(host.advise(), answered("1", &[]));
    let host = host.put("clock", "922337203685 1\n");
    assert_eq!(host.advise().0, Some(2));
    let host = host.put("clock", "100\n");
    let path = host.root().join("clock").display().to_string();
    let wanted = "two numbers, the first moment and the gap in hundredths of a second";
    assert_eq!(
        host.advise(),
        failed(2, &format!("placer: {path}:1:1: expected {wanted}, found \"100\""))
    );
}

#[test]
fn node_order_that_is_garbage() {
    let host = Recorded::two_nodes().put("node-order", "0 x\n");
    let path = host.root().join("node-order").display().to_string();
    assert_eq!(
        host.advise(),
        failed(2, &format!("placer: {path}:1:3: expected node ids, found \"x\""))
    );
}

#[test]
fn what_is_removed_never_leads_out_of_the_recording() {
    let host = Recorded::two_nodes().put("next/.removed", "../../..\n/\n/etc\n\0\n");
    assert_eq!(host.advise(), answered("1", &[]));
}

#[test]
fn settings_that_are_garbage_are_refused() {
    let host = Recorded::two_nodes();
    for (name, value) in
        [("PLACER_WINDOW", "soon"), ("PLACER_POLICY", "guess"), ("PLACER_WITHIN", "x")]
    {
        let (code, stdout, stderr) =
            said(placer().args(["advise", "4:500", "--root"]).arg(host.root()).env(name, value));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{name}={value}: {stderr}");
        assert!(stderr.contains(value), "{name}={value}: {stderr}");
    }
    // A client of numad's cannot be expected to mend them.
    let ignored = "PLACER_WINDOW is ignored: expected a number with ms, s, m, h or d, as in 100ms, \
                   found \"soon\"";
    let mut numad = placer();
    numad
        .args(["numad", "-w", "4:500"])
        .env("PLACER_ROOT", host.root())
        .env("PLACER_WINDOW", "soon");
    assert_eq!(said(&mut numad), answered("1", &[ignored]));
}

#[test]
fn few_descriptors_are_enough() {
    let host = Recorded::two_nodes();
    let asked = |descriptors: u32| {
        let line = format!("ulimit -n {descriptors} && exec \"$0\" advise 4:500");
        let mut sh = Command::new("sh");
        sh.args(["-c", &line, env!("CARGO_BIN_EXE_placer")]).env_clear();
        said(sh.env("PLACER_ROOT", host.root()))
    };
    assert_eq!(asked(8), answered("1", &[]));
    // A file for each node, and none of them kept open.
    let many = (0..64).fold(Machine::new(), |all, id| {
        all.node(id, 4 * id..4 * id + 4, 16 << 20, (4 << 20) + (u64::from(id) << 12))
    });
    let many = Recorded::of(&many);
    let line = "ulimit -n 8 && exec \"$0\" advise 4:500";
    let mut sh = Command::new("sh");
    sh.args(["-c", line, env!("CARGO_BIN_EXE_placer")]).env_clear();
    assert_eq!(said(sh.env("PLACER_ROOT", many.root())), answered("63", &[]));
    // Where not even one file can be opened beside the three, the program says so or, with none to
    // load its libraries by, does not start.
    let (code, stdout, stderr) = asked(3);
    assert_eq!(stdout, "");
    assert!(matches!(code, Some(2 | 127)) && stderr.lines().count() == 1, "{code:?} {stderr}");
}

// State between runs

/// Of two things that follow from one cause the worse is said.
const UNCOUNTED: &str = "claims are not counted: ";
const CLOCK_FREE: &str = "the CPU load is measured anew: ";

/// A directory for state, and questions about this machine that use it.
struct State {
    tmp: tempfile::TempDir,
}

impl State {
    fn new() -> Self {
        Self { tmp: tempfile::tempdir().expect("a directory") }
    }

    fn dir(&self) -> PathBuf {
        self.tmp.path().join("state")
    }

    fn saved(&self) -> PathBuf {
        self.dir().join("load.json")
    }

    /// Asks for so little that it fits wherever this runs.
    fn question(&self, window_ms: u64) -> Command {
        let mut command = placer();
        command.args(["advise", "0:1", "--window"]).arg(format!("{window_ms}ms"));
        command.env("PLACER_STATE_DIR", self.dir());
        command
    }

    fn ask(&self, window_ms: u64) -> Asked {
        asked(&mut self.question(window_ms))
    }

    /// Saves the counters of this machine, and makes the file another one.
    fn change(&self, change: impl FnOnce(&mut serde_json::Value)) {
        self.ask(10);
        let mut file: serde_json::Value =
            serde_json::from_slice(&fs::read(self.saved()).expect("a saved sample")).expect("JSON");
        // So old that it serves for any window asked for here.
        let now = placer_engine::source::live_clock().expect("a clock").nanoseconds();
        file["readings"][0]["at_ns"] = (now - now.min(10_000_000_000)).into();
        change(&mut file);
        fs::write(self.saved(), file.to_string()).expect("written");
    }
}

struct Asked {
    took: Duration,
    warnings: Vec<String>,
}

/// Runs a question that has to be answered.
fn asked(command: &mut Command) -> Asked {
    let since = Instant::now();
    let (code, stdout, stderr) = said(command);
    let took = since.elapsed();
    assert!(code == Some(0) && !stdout.trim().is_empty(), "{code:?} {stdout:?} {stderr:?}");
    // What this machine itself gives cause to is not the matter here.
    let causes = ["measured anew", "not saved", "not counted"];
    let state = |line: &&str| causes.iter().any(|cause| line.contains(cause));
    let warnings = stderr.lines().filter(state);
    let bare = |line: &str| line.strip_prefix("placer: warning: ").unwrap_or(line).to_owned();
    Asked { took, warnings: warnings.map(bare).collect() }
}

/// A window that no answer without waiting takes, and one that is short.
const LONG_MS: u64 = 4000;
const SHORT_MS: u64 = 300;

fn waited(state: &State) -> bool {
    let asked = state.ask(SHORT_MS);
    assert_eq!(asked.warnings, [""; 0]);
    asked.took >= Duration::from_millis(SHORT_MS)
}

#[test]
fn a_saved_sample_serves() {
    let state = State::new();
    state.change(|_| {});
    let asked = state.ask(LONG_MS);
    assert_eq!(asked.warnings, [""; 0]);
    assert!(asked.took < Duration::from_millis(LONG_MS), "it took {:?}", asked.took);
}

#[test]
fn a_saved_sample_from_before_a_reboot_does_not_serve() {
    let state = State::new();
    state.change(|file| {
        let clock = file["clock"].as_str().expect("a text").to_owned();
        let (boot, namespace) = clock.split_once(' ').expect("a boot id and a namespace");
        let other = boot.replace(|digit: char| digit != '-', "0");
        file["clock"] = format!("{other} {namespace}").into();
    });
    assert!(waited(&state));
    // And is replaced by one that does.
    let file = fs::read_to_string(state.saved()).expect("a saved sample");
    assert!(file.contains(&placer_engine::source::live_clock_id().expect("a boot id")), "{file}");
}

#[test]
fn a_saved_sample_of_another_time_namespace_does_not_serve() {
    let state = State::new();
    state.change(|_| {});
    let mut unshare = Command::new("unshare");
    unshare.args(["-rT", "--fork"]);
    let works = unshare.arg("true").output().is_ok_and(|output| output.status.success());
    if works {
        let mut unshare = Command::new("unshare");
        unshare.args(["-rT", "--fork"]);
        let question = state.question(SHORT_MS);
        unshare.arg(question.get_program()).args(question.get_args()).env_clear();
        unshare.env("PLACER_STATE_DIR", state.dir());
        unshare.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // The clock reads the same there: only the namespace tells the two apart.
        let asked = asked(&mut unshare);
        assert_eq!(asked.warnings, [""; 0]);
        assert!(asked.took >= Duration::from_millis(SHORT_MS), "it took {:?}", asked.took);
    } else {
        eprintln!("no right to a time namespace: its name is changed instead");
        state.change(|file| {
            file["clock"] =
                file["clock"].as_str().expect("a text").replace("time:[", "time:[9").into();
        });
        assert!(waited(&state));
    }
}

#[test]
fn a_saved_sample_from_the_future_or_long_ago_does_not_serve() {
    for at_ns in [u64::MAX, 0] {
        let state = State::new();
        state.change(|file| file["readings"][0]["at_ns"] = at_ns.into());
        let early = placer_engine::source::live_clock().expect("a clock").nanoseconds();
        if at_ns > 0 || early > 70_000_000_000 {
            assert!(waited(&state), "{at_ns}");
        }
    }
}

#[test]
fn a_saved_sample_of_other_cpus_does_not_serve() {
    let state = State::new();
    state.change(|file| {
        file["readings"][0]["cpus"] = "1000000".into();
        file["readings"][0]["idle"] = serde_json::json!([u64::MAX]);
    });
    assert!(waited(&state));
}

#[test]
fn a_damaged_saved_sample_is_as_good_as_none_and_is_replaced() {
    for damage in ["", "{", "[]", "\u{0}", "{\"version\":1}", "null", "7"] {
        let state = State::new();
        state.ask(10);
        fs::write(state.saved(), damage).expect("written");
        assert!(waited(&state), "{damage:?}");
        let file = fs::read(state.saved()).expect("a saved sample");
        assert!(
            serde_json::from_slice::<serde_json::Value>(&file)
                .is_ok_and(|file| file["version"] == 2)
        );
    }
}

#[test]
fn whatever_lies_in_place_of_the_saved_sample_is_replaced() {
    let stranger = tempfile::NamedTempFile::new().expect("a file");
    for make in [
        |path: &Path, _: &Path| {
            fs::File::create(path).and_then(|file| file.set_len(100 << 20)).expect("made");
        },
        |path: &Path, stranger: &Path| symlink(stranger, path).expect("a link"),
        |path: &Path, _: &Path| symlink("/no/such", path).expect("a link"),
        |path: &Path, _: &Path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        },
    ] {
        let state = State::new();
        state.ask(10);
        fs::remove_file(state.saved()).expect("removed");
        make(&state.saved(), stranger.path());
        assert_eq!(state.ask(10).warnings, [""; 0]);
        let meta = fs::symlink_metadata(state.saved()).expect("there");
        assert!(meta.is_file() && meta.len() < 1 << 20, "{meta:?}");
    }
    assert_eq!(fs::read(stranger.path()).expect("read"), b"");
}

#[test]
fn a_directory_in_place_of_the_saved_sample_costs_a_line() {
    let state = State::new();
    state.ask(10);
    fs::remove_file(state.saved()).expect("removed");
    fs::create_dir(state.saved()).expect("made");
    let warnings = state.ask(10).warnings;
    let what = "the CPU counters are not saved: cannot rename onto ";
    assert!(warnings.len() == 1 && warnings[0].starts_with(what), "{warnings:?}");
}

#[test]
fn a_state_directory_behind_a_link_is_refused() {
    let state = State::new();
    fs::create_dir(state.tmp.path().join("real")).expect("made");
    symlink("real", state.dir()).expect("a link");
    let kind = "expected a directory of ordinary files, found something else";
    let message = format!("{UNCOUNTED}cannot open {}: {kind}", state.dir().display());
    assert_eq!(state.ask(10).warnings, [message]);
    let written = fs::read_dir(state.tmp.path().join("real")).expect("listed").count();
    assert_eq!(written, 0);
}

#[test]
fn a_state_directory_that_is_a_file_is_refused() {
    let state = State::new();
    fs::write(state.dir(), "").expect("written");
    let kind = "expected a directory of ordinary files, found something else";
    let message = format!("{UNCOUNTED}cannot open {}: {kind}", state.dir().display());
    assert_eq!(state.ask(10).warnings, [message]);
}

#[needs(root)]
#[test]
fn a_state_directory_of_somebody_else_is_refused() {
    const SOMEBODY: u32 = 65_534;
    let state = State::new();
    fs::create_dir(state.dir()).expect("made");
    let me = state.dir().metadata().expect("there").uid();
    chown(state.dir(), Some(SOMEBODY), None).expect("given to another user");
    let owner = format!("expected it to belong to user {me}, found user {SOMEBODY}");
    let message = format!("{UNCOUNTED}cannot use {}: {owner}", state.dir().display());
    assert_eq!(state.ask(10).warnings, [message]);
    assert!(!state.saved().exists());
}

#[test]
fn a_state_directory_that_others_can_write_is_refused() {
    for mode in [0o777, 0o775, 0o1777] {
        let state = State::new();
        fs::create_dir(state.dir()).expect("made");
        fs::set_permissions(state.dir(), PermissionsExt::from_mode(mode)).expect("set");
        let writers = format!("writable by group or others, mode {mode:04o}");
        let message = format!("{UNCOUNTED}cannot use {}: {writers}", state.dir().display());
        assert_eq!(state.ask(10).warnings, [message]);
        assert!(!state.saved().exists());
    }
}

#[test]
fn a_state_directory_that_cannot_be_made() {
    let state = State { tmp: tempfile::tempdir().expect("a directory") };
    let dir = state.tmp.path().join("no/such/state");
    let mut question = state.question(10);
    let asked = asked(question.env("PLACER_STATE_DIR", &dir));
    let missing = "No such file or directory (os error 2)";
    let message = format!("{CLOCK_FREE}cannot make the directory {}: {missing}", dir.display());
    assert_eq!(asked.warnings, [message]);
}

/// Asks with a file system of its own mounted as the state directory.
fn ask_on_tmpfs(options: &str, before: &str, after: &str) -> (Asked, String) {
    let state = State::new();
    fs::create_dir(state.dir()).expect("made");
    let question = state.question(10);
    let line = format!(
        "mount -t tmpfs -o mode=0755,{options} none \"$PLACER_STATE_DIR\" || exit 77; {before}; \
         \"$0\" \"$@\"; status=$?; {after}; exit $status"
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["-rm", "sh", "-c", &line]).arg(question.get_program());
    unshare.args(question.get_args()).env_clear().env("PLACER_STATE_DIR", state.dir());
    unshare.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(state.tmp.path());
    let output = unshare.output().expect("unshare");
    assert!(matches!(output.status.code(), Some(0 | 2)), "{output:?}");
    let asked = asked(&mut unshare);
    let left = fs::read_to_string(state.tmp.path().join("left")).unwrap_or_default();
    (asked, left)
}

/// The warning about counters that are not saved, without the name of the temporary file.
fn not_saved(asked: &Asked) -> Option<&str> {
    let [warning] = asked.warnings.as_slice() else { return None };
    let rest = warning.strip_prefix("the CPU counters are not saved: cannot write ")?;
    let (path, cause) = rest.split_once(": ")?;
    path.contains("/state/").then_some(cause)
}

#[needs(user_mounts)]
#[test]
fn a_state_directory_on_a_read_only_file_system() {
    let list = "ls -A state > left";
    let (asked, left) = ask_on_tmpfs("ro", "true", list);
    assert_eq!(
        not_saved(&asked),
        Some("Read-only file system (os error 30)"),
        "{:?}",
        asked.warnings
    );
    assert_eq!(left, "");
}

#[needs(user_mounts)]
#[test]
fn a_state_directory_on_a_full_file_system() {
    let full = "No space left on device (os error 28)";
    let list = "ls -A state > left";
    // No room for a name; then room for a name, and none for what is in the file.
    let (asked, left) = ask_on_tmpfs("nr_inodes=1", "true", list);
    assert_eq!((not_saved(&asked), left.as_str()), (Some(full), ""), "{:?}", asked.warnings);
    let fill = "head -c 1000000 /dev/zero > state/filler 2> fill; rm fill";
    let (asked, left) = ask_on_tmpfs("size=4k", fill, list);
    assert_eq!(
        (not_saved(&asked), left.as_str()),
        (Some(full), "filler\n"),
        "{:?}",
        asked.warnings
    );
}

#[test]
fn under_numads_name_a_bad_state_directory_costs_no_answer_either() {
    let state = State::new();
    symlink("/no/such", state.dir()).expect("a link");
    let mut numad = placer();
    numad.args(["numad", "-w", "0:1"]).env("PLACER_WINDOW", "20ms");
    numad.env("PLACER_STATE_DIR", state.dir());
    numad.env("PLACER_NUMAD_LOG", state.tmp.path().join("log"));
    let (code, stdout, stderr) = said(&mut numad);
    if code == Some(1) {
        testkit::require::does_not_apply(format!("numad cannot read this machine: {stderr}"));
        return;
    }
    let kind = "expected a directory of ordinary files, found something else";
    let dir = state.dir().display().to_string();
    let line = |what: &str| format!("placer: warning: {what}cannot open {dir}: {kind}\n");
    assert_eq!((code, stderr), (Some(0), line(UNCOUNTED)));
    assert!(!stdout.trim().is_empty());
}

#[test]
fn recorded_machines_need_no_state_for_an_answer() {
    let host = Recorded::two_nodes();
    let state = State::new();
    fs::write(state.dir(), "no directory").expect("written");
    let mut advise = placer();
    advise.args(["advise", "4:500", "--root"]).arg(host.root());
    let dir = state.dir().display().to_string();
    let kind = "expected a directory of ordinary files, found something else";
    let uncounted = format!("claims are not counted: cannot open {dir}: {kind}");
    assert_eq!(said(advise.env("PLACER_STATE_DIR", state.dir())), answered("1", &[&uncounted]));
}

#[test]
fn the_directory_of_cpus_may_be_missing_altogether() {
    let host = Recorded::two_nodes();
    fs::remove_dir_all(host.root().join(CPUS)).expect("removed");
    assert_eq!(host.advise(), answered("1", &[]));
}
