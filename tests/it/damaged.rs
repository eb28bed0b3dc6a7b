//! Recorded machines that are damaged in every way we can think of: each one is answered, soon,
//! in little memory, with an answer or with one line that says what is wrong.

use crate::common;
use testkit::machine;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use common::text;
use machine::{CPUS, Machine, NODES, Rng, any_machine, scratch};
use placer_engine::{NodeId, NodeSet, parse};

/// Far more than any answer takes, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Address space that an answer may take, in KiB; a debug build with hwloc starts with a tenth.
const MEMORY_KIB: u32 = 500_000;

/// What one question came to.
struct Answer {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

/// Asks the program about a machine, with bounds on time and memory.
fn ask(root: &Path, scratch: &Path, args: &[&str]) -> Result<Answer, String> {
    let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\""))
        .arg(env!("CARGO_BIN_EXE_placer"))
        .args(args)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PLACER_ROOT", root)
        .env("PLACER_NUMAD_LOG", scratch.join("no/such/directory"))
        .stdin(std::process::Stdio::null())
        .stdout(File::create(&out).expect("a file"))
        .stderr(File::create(&err).expect("a file"));
    let mut child = command.spawn().expect("the program starts");
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if since.elapsed() > PATIENCE {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
            return Err(format!("{args:?}: no answer within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let read = |path| fs::read(path).expect("what was written");
    Ok(Answer { status, stdout: read(out), stderr: text(&read(err)) })
}

/// A question, and what it may come to.
struct Question {
    args: &'static [&'static str],
    failure: i32,
    /// Whether what was printed on success is an answer.
    is_answer: fn(&[u8]) -> bool,
}

const QUESTIONS: [Question; 3] = [
    Question { args: &["advise", "4:500"], failure: 2, is_answer: is_node_list },
    Question { args: &["show", "--json"], failure: 2, is_answer: is_host },
    Question { args: &["numad", "-w", "4:500"], failure: 1, is_answer: is_node_list },
];

fn is_node_list(stdout: &[u8]) -> bool {
    let list = stdout.strip_suffix(b"\n").filter(|list| !list.contains(&b'\n'));
    list.is_some_and(|list| parse::list::parse::<NodeId>(list).is_ok_and(|set| !set.is_empty()))
}

fn is_host(stdout: &[u8]) -> bool {
    let host: Result<serde_json::Value, _> = serde_json::from_slice(stdout);
    host.is_ok_and(|host| {
        host["version"] == 1 && host["nodes"].as_array().is_some_and(|nodes| !nodes.is_empty())
    })
}

/// Checks one answer. Returns what is wrong with it.
fn complaint(question: &Question, answer: &Answer) -> Option<String> {
    let Answer { status, stdout, stderr } = answer;
    let wrong = |what: &str| {
        let shown = text(&stdout[..stdout.len().min(300)]);
        Some(format!("{:?}: {what}: {status} {shown:?} {stderr:?}", question.args))
    };
    if status.signal().is_some() {
        return wrong("ended by a signal");
    }
    if stderr.contains("panicked") {
        return wrong("a panic");
    }
    let lines: Vec<&str> = stderr.lines().collect();
    let warning = |line: &&&str| line.starts_with("placer: warning: ");
    if status.success() {
        if !(question.is_answer)(stdout) {
            return wrong("no answer");
        }
        return if lines.iter().all(|line| warning(&line)) { None } else { wrong("no warning") };
    }
    if status.code() != Some(question.failure) {
        return wrong("another exit status");
    }
    if !stdout.is_empty() {
        return wrong("an answer and a failure");
    }
    // numad's name warns of an unknown load before it goes on.
    let name = if question.failure == 1 { "numad: " } else { "placer: " };
    let failures: Vec<&&str> =
        lines.iter().filter(|line| question.failure == 2 || !warning(line)).collect();
    match failures.as_slice() {
        [line] if line.starts_with(name) => {
            let says = line.contains("expected ")
                || line.contains("cannot read ")
                || line.ends_with("the load is not known");
            if says { None } else { wrong("names neither a file nor what was wanted") }
        }
        _ => wrong("not one line"),
    }
}

/// Asks every question about a machine. Returns what is wrong, and how many were answered.
fn ask_all(root: &Path, scratch: &Path) -> (Vec<String>, usize) {
    let mut wrong = Vec::new();
    let mut answered = 0;
    for question in &QUESTIONS {
        match ask(root, scratch, question.args) {
            Ok(answer) => {
                answered += usize::from(answer.status.success());
                wrong.extend(complaint(question, &answer));
            }
            Err(slow) => wrong.push(slow),
        }
    }
    (wrong, answered)
}

/// One way to damage a machine: what it is called by, and what it does.
type Damage = (&'static str, fn(&Path, &mut Rng));

const DAMAGES: &[Damage] = &[
    ("a file is cut anywhere", |root, rng| {
        let (path, bytes) = any_file(root, rng);
        put(&path, &bytes[..rng.index(bytes.len() + 1)]);
    }),
    ("every file is cut", |root, rng| {
        for path in files(root) {
            let bytes = bytes_of(&path);
            put(&path, &bytes[..rng.index(bytes.len() + 1)]);
        }
    }),
    ("bytes are flipped", |root, rng| {
        let (path, mut bytes) = any_file(root, rng);
        for _ in 0..=rng.below(8) {
            let flip = u8::try_from(rng.below(255)).expect("a byte") + 1;
            match bytes.len() {
                0 => bytes.push(flip),
                len => bytes[rng.index(len)] ^= flip,
            }
        }
        put(&path, bytes);
    }),
    ("a file holds 10 MB of garbage", |root, rng| {
        let piece: Vec<u8> = (0..65_536).map(|_| rng.byte()).collect();
        put(&any_file(root, rng).0, piece.repeat(160));
    }),
    ("a file holds 10 MB of digits", |root, rng| {
        put(&any_file(root, rng).0, vec![b'7'; 10 << 20]);
    }),
    ("a file holds 10 MB of line ends", |root, rng| {
        put(&any_file(root, rng).0, vec![b'\n'; 10 << 20]);
    }),
    ("a file holds 10 MB of lines like its own", |root, rng| {
        let (path, bytes) = any_file(root, rng);
        put(&path, bytes.repeat((10 << 20) / bytes.len().max(64)));
    }),
    ("a file is 1 TB of nothing", |root, rng| {
        let file = File::create(any_file(root, rng).0).expect("made");
        // Not every file system has files of that size.
        let _ = file.set_len(1 << 40).or_else(|_| file.set_len(1 << 30));
    }),
    ("a list has no end", |root, rng| {
        let list = rng.pick(&[
            "0-4294967295",
            "0-1048575",
            "0-99999999999999999999",
            "4294967295",
            "0-4294967295,0-4294967295",
            "1-0",
            "0-",
            "-",
            ",",
        ]);
        put(&a_list(root, rng), format!("{list}\n"));
    }),
    ("a list descends in many pieces", |root, rng| {
        let pieces: Vec<String> = (0..40_000).rev().map(|id| (2 * id).to_string()).collect();
        put(&a_list(root, rng), pieces.join(","));
    }),
    ("a number is huge", |root, rng| {
        let (path, bytes) = any_file(root, rng);
        let digits: Vec<usize> =
            (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
        let Some(&at) = digits.get(rng.index(digits.len().max(1))) else { return };
        let number = rng.pick(&[
            "18446744073709551615",
            "18446744073709551616",
            "18014398509481983",
            "4294967296",
            "2147483648",
            "99999999999999999999999999999999",
        ]);
        put(&path, [&bytes[..at], number.as_bytes(), &bytes[at + 1..]].concat());
    }),
    ("a number is negative or a fraction", |root, rng| {
        let (path, bytes) = any_file(root, rng);
        let Some(at) = bytes.iter().position(u8::is_ascii_digit) else { return };
        let sign = rng.pick(&["-", ".", "1e", "0x", "+", "\u{664}"]);
        put(&path, [&bytes[..at], sign.as_bytes(), &bytes[at..]].concat());
    }),
    ("a directory lies where a file was", |root, rng| {
        let path = removed(any_file(root, rng).0);
        fs::create_dir(path).expect("made");
    }),
    ("a pipe lies where a file was", |root, rng| {
        let path = removed(any_file(root, rng).0);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
    }),
    ("a link to nowhere lies where a file was", |root, rng| {
        symlink("/no/such/file", removed(any_file(root, rng).0)).expect("made");
    }),
    ("a link to itself lies where a file was", |root, rng| {
        let path = removed(any_file(root, rng).0);
        symlink(&path, &path).expect("made");
    }),
    ("a link to an endless device lies where a file was", |root, rng| {
        let device = rng.pick(&["/dev/zero", "/dev/full", "/dev/tty", "/dev/null"]);
        symlink(device, removed(any_file(root, rng).0)).expect("made");
    }),
    ("a file cannot be read", |root, rng| {
        let path = any_file(root, rng).0;
        fs::set_permissions(path, PermissionsExt::from_mode(0o000)).expect("set");
    }),
    ("a file is missing", |root, rng| {
        removed(any_file(root, rng).0);
    }),
    ("a file is empty", |root, rng| {
        put(&any_file(root, rng).0, "");
    }),
    ("a node directory is missing", |root, rng| {
        fs::remove_dir_all(a_node(root, rng)).expect("removed");
    }),
    ("a node directory is empty", |root, rng| {
        let node = a_node(root, rng);
        fs::remove_dir_all(&node).expect("removed");
        fs::create_dir(node).expect("made");
    }),
    ("a node directory is a file", |root, rng| {
        let node = a_node(root, rng);
        fs::remove_dir_all(&node).expect("removed");
        put(&node, "node");
    }),
    ("a node directory is a link to itself", |root, rng| {
        let node = a_node(root, rng);
        fs::remove_dir_all(&node).expect("removed");
        symlink(&node, &node).expect("made");
    }),
    ("node directories have names past all bounds", |root, rng| {
        let names: [&[u8]; 9] = [
            b"node99999999999",
            b"node4294967295",
            b"node1048575",
            b"node-1",
            b"node",
            b"node007",
            b"node0x1",
            b"node1 ",
            b"node\xff",
        ];
        let name = OsStr::from_bytes(names[rng.index(names.len())]);
        fs::create_dir_all(root.join(NODES).join(name)).expect("made");
    }),
    ("there are more node directories than any kernel has", |root, _| {
        for id in 0..4200 {
            fs::create_dir_all(root.join(NODES).join(format!("node{id}"))).expect("made");
        }
    }),
    ("there is no node at all", |root, _| {
        fs::remove_dir_all(root.join(NODES)).expect("removed");
        fs::create_dir(root.join(NODES)).expect("made");
    }),
    ("there is no sys", |root, _| {
        fs::remove_dir_all(root.join("sys")).expect("removed");
    }),
    ("there is no proc", |root, _| {
        fs::remove_dir_all(root.join("proc")).expect("removed");
    }),
    ("sys is a file", |root, _| {
        fs::remove_dir_all(root.join("sys")).expect("removed");
        put(&root.join("sys"), "");
    }),
    ("a distance row is too short", |root, rng| {
        let path = a_node(root, rng).join("distance");
        let row = text(&bytes_of(&path));
        let cells: Vec<&str> = row.split_whitespace().collect();
        let kept = rng.index(cells.len().max(1));
        put(&path, cells[..kept].join(" ") + "\n");
    }),
    ("a distance row is too long", |root, rng| {
        let path = a_node(root, rng).join("distance");
        let row = text(&bytes_of(&path));
        let more = 1 + rng.index(5000);
        put(&path, format!("{}{}\n", row.trim_end(), " 20".repeat(more)));
    }),
    ("a distance is zero or past 32 bits", |root, rng| {
        let path = a_node(root, rng).join("distance");
        let row = text(&bytes_of(&path));
        let odd = rng.pick(&["0", "4294967295", "4294967296", "256", "65546"]);
        put(&path, row.replacen("10", odd, 1));
    }),
    ("a text is not UTF-8", |root, rng| {
        let (path, mut bytes) = any_file(root, rng);
        let at = rng.index(bytes.len() + 1);
        bytes.splice(at..at, [0xff, 0xfe, 0xc3, 0x28]);
        put(&path, bytes);
    }),
    ("a text has NUL bytes", |root, rng| {
        let (path, mut bytes) = any_file(root, rng);
        let at = rng.index(bytes.len() + 1);
        bytes.splice(at..at, vec![0; 1 + rng.index(9)]);
        put(&path, bytes);
    }),
    ("NUL bytes follow every text", |root, _| {
        for path in files(root) {
            let bytes = bytes_of(&path);
            put(&path, [bytes, vec![0]].concat());
        }
    }),
    ("lines end as on other systems", |root, rng| {
        let (path, bytes) = any_file(root, rng);
        put(&path, bytes.escape_ascii().to_string().replace("\\n", "\r\n"));
    }),
    ("the list of what is removed leads elsewhere", |root, rng| {
        let paths = rng.pick(&[
            "../../../etc\n/etc/passwd\n",
            "../..",
            "/",
            "",
            ".",
            "proc/../proc/stat\n",
            "proc/stat/",
            "\u{0}proc/stat",
            "next",
            "sys/devices/system/node",
        ]);
        put(&root.join("next/.removed"), paths);
    }),
    ("a node leaves between the readings", |root, rng| {
        let node = a_node(root, rng);
        let node = node.strip_prefix(root).expect("below the root").display().to_string();
        put(&root.join("next/.removed"), node);
    }),
    ("the CPU counters leave between the readings", |root, _| {
        removed(root.join("next/proc/stat"));
        put(&root.join("next/.removed"), "proc\n");
    }),
    ("CPU counters run backwards", |root, rng| {
        let counter = rng.pick(&["0", "18446744073709551615", "1"]);
        put(&root.join("next/proc/stat"), format!("cpu0 1 1 1 {counter}\ncpu1 1 1 1 5\nintr 1\n"));
    }),
    ("a CPU is counted twice", |root, _| {
        let path = root.join("proc/stat");
        let stat = text(&bytes_of(&path));
        let lines = "cpu9 1 1 1 1\ncpu3 1 1 1 1\ncpu9 2 2 2 2\n";
        put(&path, format!("{lines}{stat}"));
    }),
    ("the clock is garbage", |root, rng| {
        let clock = rng.pick(&["", "x", "5", "5 ", "5 6 7", "-1 200", "1.5 2", "\n", "1 2x", "\0"]);
        put(&root.join("clock"), clock);
    }),
    ("the clock overflows", |root, rng| {
        let clock = rng.pick(&[
            "18446744073709551615 200",
            "200 18446744073709551615",
            "18446744073709551616 1",
            "1844674407370955161 1844674407370955161",
            "1125899906842623 0",
            "1125899906842000 600",
            "0 1",
            "0 0",
        ]);
        put(&root.join("clock"), clock);
    }),
    ("the order of the nodes is garbage", |root, rng| {
        let order = rng.pick(&["x", "0 0 0", "99 98", "", "-1", "4294967296", "0,1", "1;0", "\0"]);
        put(&root.join("node-order"), order);
    }),
    ("the order of the nodes is long", |root, _| {
        put(&root.join("node-order"), "7 ".repeat(500_000));
    }),
    ("files lie below others that are none", |root, _| {
        fs::remove_dir_all(root.join("next")).expect("removed");
        put(&root.join("next"), "");
    }),
    ("the thread mask is odd", |root, rng| {
        let mask = rng.pick(&["", "0", "g", "ffffffff,ffffffff", ",", "0x3", "\0", "f f"]);
        put(&root.join(CPUS).join("cpu0/topology/thread_siblings"), mask);
    }),
    ("lists are gone and masks are garbage", |root, rng| {
        let masks: &[&[u8]] =
            &[b"", b"zz", b"1,,1", b"\xff", b"ffffffffffffffffffff", b",", b"3\n\0"];
        for node in nodes(root) {
            removed(node.join("cpulist"));
            put(&node.join("cpumap"), rng.pick(masks));
        }
    }),
];

/// Returns what an ordinary file holds, if there is one, and not too much in it.
fn bytes_of(path: &Path) -> Vec<u8> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_file() && meta.len() <= 16 << 20 => fs::read(path).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Puts a file in place of whatever lies there, unless there is no place for it any more.
fn put(path: &Path, text: impl AsRef<[u8]>) {
    if fs::create_dir_all(path.parent().expect("a directory")).is_err() {
        return;
    }
    fs::write(removed(path.to_owned()), text).expect("written");
}

/// Returns the ordinary files of a machine, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Returns one of the files, or a new one should there be none left, and what is in it.
fn any_file(root: &Path, rng: &mut Rng) -> (PathBuf, Vec<u8>) {
    let files = files(root);
    let path = if files.is_empty() { root.join("clock") } else { rng.pick(&files).clone() };
    let bytes = bytes_of(&path);
    (path, bytes)
}

/// Returns one of the files that hold a list of ids.
fn a_list(root: &Path, rng: &mut Rng) -> PathBuf {
    let mut lists: Vec<PathBuf> =
        nodes(root).into_iter().map(|node| node.join("cpulist")).collect();
    lists.push(root.join(NODES).join("online"));
    lists.extend(["online", "possible", "isolated"].map(|name| root.join(CPUS).join(name)));
    rng.pick(&lists).clone()
}

/// Returns the node directories, sorted by name; one at least.
fn nodes(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(NODES)).into_iter().flatten();
    let name = |path: &Path| path.file_name().map(OsStr::to_owned).unwrap_or_default();
    let mut nodes: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| name(path).as_bytes().starts_with(b"node") && path.is_dir())
        .collect();
    nodes.sort();
    if nodes.is_empty() {
        nodes.push(root.join(NODES).join("node0"));
        // Earlier damage may have put something else in the place of it, or of a directory around it.
        let inside = nodes[0].ancestors().take_while(|path| *path != root);
        for path in inside.filter(|path| !path.is_dir()) {
            let _ = fs::remove_file(path);
        }
        fs::create_dir_all(&nodes[0]).expect("made");
    }
    nodes
}

fn a_node(root: &Path, rng: &mut Rng) -> PathBuf {
    rng.pick(&nodes(root)).clone()
}

/// Takes whatever lies there out of the way.
fn removed(path: PathBuf) -> PathBuf {
    let gone = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
        Ok(_) => fs::remove_file(&path),
        Err(_) => Ok(()),
    };
    gone.expect("removed");
    path
}

/// A good machine, to be damaged, and a place beside it.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn of(machine: &Machine) -> Self {
        let tree = Self { dir: scratch() };
        machine.write(&tree.root());
        tree
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("machine")
    }
}

#[test]
fn good_machines_of_any_shape_are_answered() {
    let mut wrong = Vec::new();
    for seed in 0..20 {
        let machine = any_machine(&mut Rng::new(seed));
        let tree = Tree::of(&machine);
        let (complaints, answered) = ask_all(&tree.root(), tree.dir.path());
        wrong.extend(complaints.into_iter().map(|what| format!("{seed}: {what}")));
        assert_eq!(answered, QUESTIONS.len(), "{seed}: {machine:?} {wrong:?}");

        let show = ask(&tree.root(), tree.dir.path(), &["show", "--json"]).expect("an answer");
        let host: serde_json::Value = serde_json::from_slice(&show.stdout).expect("JSON");
        let shown = host["nodes"].as_array().expect("nodes").iter();
        let shown: Vec<u64> = shown.filter_map(|node| node["id"].as_u64()).collect();
        assert_eq!(shown, machine.ids().into_iter().map(u64::from).collect::<Vec<_>>());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_kind_of_damage_is_answered() {
    let mut wrong = Vec::new();
    for (name, damage) in DAMAGES {
        // So that each one lands on several files.
        for seed in 0..if name.starts_with("there ") { 1 } else { 2 } {
            let mut rng = Rng::new(seed);
            let tree = Tree::of(&any_machine(&mut rng));
            damage(&tree.root(), &mut rng);
            let (complaints, _) = ask_all(&tree.root(), tree.dir.path());
            wrong.extend(complaints.into_iter().map(|what| format!("{name} ({seed}): {what}")));
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// Two hundred trees with one to three kinds of damage each.
fn damaged_trees(seeds: std::ops::Range<u64>) {
    let mut wrong = Vec::new();
    let (mut answered, mut asked) = (0, 0);
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let tree = Tree::of(&any_machine(&mut rng));
        let mut names = Vec::new();
        for _ in 0..=rng.below(3) {
            let (name, damage) = rng.pick(DAMAGES);
            // Others find what it needs gone, and directories by the thousand take long to make.
            let whole = ["machine", "there ", "sys ", "files lie"];
            if names.is_empty() || !whole.iter().any(|start| name.starts_with(start)) {
                damage(&tree.root(), &mut rng);
                names.push(*name);
            }
        }
        let (complaints, count) = ask_all(&tree.root(), tree.dir.path());
        wrong.extend(complaints.into_iter().map(|what| format!("{seed}: {names:?}: {what}")));
        (answered, asked) = (answered + count, asked + QUESTIONS.len());
    }
    println!("{asked} questions, {answered} answered, the others refused with a reason");
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    // The damage is neither so slight that nothing is tested, nor so heavy that all is refused.
    assert!((asked / 10..asked * 9 / 10).contains(&answered), "{answered} of {asked}");
}

#[test]
fn damaged_trees_are_answered_1() {
    damaged_trees(1000..1100);
}

#[test]
fn damaged_trees_are_answered_2() {
    damaged_trees(1100..1200);
}

#[test]
fn an_answer_names_only_nodes_of_the_machine() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let tree = Tree::of(&any_machine(&mut rng));
        let (name, damage) = rng.pick(DAMAGES);
        damage(&tree.root(), &mut rng);
        let there: NodeSet = fs::read_dir(tree.root().join(NODES))
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let name: OsString = entry.ok()?.file_name();
                name.to_str()?.strip_prefix("node")?.parse().ok().map(NodeId)
            })
            .collect();
        let answer = ask(&tree.root(), tree.dir.path(), &["advise", "4:500"]).expect("an answer");
        let list = answer.stdout.strip_suffix(b"\n").unwrap_or_default();
        let named: NodeSet = parse::list::parse(list).expect("a list");
        assert!(named.is_subset(&there), "{seed}: {name}: {named} of {there}");
    }
}
