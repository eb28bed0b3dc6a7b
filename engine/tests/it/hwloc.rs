//! hwloc as the second opinion on every machine at hand, and how it is loaded.
//!
//! The recorded machines of other people lie beside the project (`../shared/machines`); without
//! them what concerns them is skipped, with a line that says so. hwloc takes its root from the
//! environment of its process, so each is read by a child: this very test program, see `helper`.

#![cfg(feature = "hwloc")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use placer_engine::source::HostReader;
use placer_engine::source::hwloc::{self, CacheKind, Helper, Hwloc, HwlocError, HwlocLoader};
use placer_engine::{CpuId, CpuSet, Id, IdSet, NodeId, NodeSet, Sample, SysRoot, Topology};
use serde_json::Value;

// ---- the child

/// Set in the child alone.
const CHILD: &str = "PLACER_TEST_HWLOC_CHILD";

/// Returns this program as the helper. The test harness writes to stdout, so the facts go by
/// another descriptor: 3 is what stdout was. `also` are more assignments of variables.
fn helper_with(also: &str) -> Helper {
    let script = format!(
        "{CHILD}=1 {also} exec \"$0\" --exact hwloc::the_child_serves --nocapture --test-threads=1 \
         3>&1 >/dev/null"
    );
    Helper::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().expect("the path of this test program"))
        .time_limit(Duration::from_secs(120))
}

fn helper() -> Helper {
    helper_with("")
}

#[test]
fn the_child_serves() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let out = File::options().write(true).open("/dev/fd/3").expect("the descriptor for the facts");
    if let Err(error) = hwloc::serve(out) {
        eprintln!("{error}");
        std::process::exit(2);
    }
}

// ---- the second opinion

/// What hwloc says otherwise than the kernel's files, and why that is no mistake of the engine's.
const KNOWN: &[Row] = &[
    (
        "*",
        "node without CPUs:",
        "hwloc gives such a node the CPUs of the nodes it sits beside: what is near to its memory. \
         For placement a CPU belongs to one node, so the kernel's empty list counts",
    ),
    (
        "*",
        "distances: one node, none by hwloc",
        "hwloc drops a table of one: nothing can be compared in it. `show` prints it as found",
    ),
    (
        "hetero-asymmetric-6n",
        "node 4: not told by hwloc",
        "made up and malformed: its CPUs overlap node 3's, and hwloc drops an object that lies \
         across others. The engine shows it, and for placement gives each CPU to the lowest node",
    ),
    (
        "hetero-asymmetric-6n",
        "node 5: not told by hwloc",
        "as node 4: its CPUs overlap those of nodes 3 and 4",
    ),
    (
        "hetero-asymmetric-6n",
        "distances: of nodes 0-3 alone by hwloc",
        "hwloc has no nodes 4 and 5, so their rows and columns are cut off; the rest is the same",
    ),
    (
        "knl-snc4-flat-hbm",
        "distances: none by hwloc",
        "Knights Landing: hwloc uses the table up to find out which MCDRAM belongs to which \
         cluster, since its figures are no distances. The engine keeps what the kernel says",
    ),
];

/// Where our facts are not those of `expected.json`, and why.
const CUT_AWAY: &[Row] = &[(
    "power9-gpu-nodes-250",
    "subtype of node 25",
    "GPUMemory comes from proc/driver/nvidia, which was left out of the recording after hwloc had \
     been asked: lstopo says none of the recording as it is",
)];

/// Machine (`*`: any), the beginning of what is found there, the reason.
type Row = (&'static str, &'static str, &'static str);

/// Compares nodes, CPUs, memory and distances. One line for each disagreement.
fn disagreements(root: &SysRoot, facts: &Hwloc) -> Vec<String> {
    let mut reader = HostReader::open(root).expect("the engine reads what hwloc reads");
    let topology = Topology::from_files(reader.files()).expect("the engine understands it").value;
    let mut sample = Sample::default();
    reader.sample(&mut sample).expect("the engine reads the memory");

    let mut found = Vec::new();
    for node in topology.nodes() {
        let Some(theirs) = facts.node(node.id) else {
            found.push(format!("node {}: not told by hwloc", node.id));
            continue;
        };
        if node.listed != theirs.cpus {
            let what = if node.listed.is_empty() { "node without CPUs" } else { "CPUs" };
            found.push(format!(
                "{what}: node {}: [{}], by hwloc [{}]",
                node.id, node.listed, theirs.cpus
            ));
        }
        let ours = sample.memory_of(node.id).and_then(|memory| memory.total);
        // hwloc does not tell "no memory" from "not told".
        if ours.unwrap_or_default() != theirs.memory.unwrap_or_default() {
            found.push(format!("memory: node {}: {ours:?}, by hwloc {:?}", node.id, theirs.memory));
        }
    }
    for theirs in facts.nodes.iter().filter(|node| topology.node(node.id).is_none()) {
        found.push(format!("node {}: told by hwloc alone", theirs.id));
    }
    match (topology.distances(), &facts.distances) {
        (Some(_), None) if topology.nodes().len() == 1 => {
            found.push("distances: one node, none by hwloc".to_owned());
        }
        (Some(_), None) => found.push("distances: none by hwloc".to_owned()),
        (None, Some(_)) => found.push("distances: told by hwloc alone".to_owned()),
        (Some(ours), Some(theirs)) => {
            let differing = theirs
                .nodes()
                .iter()
                .flat_map(|&from| theirs.nodes().iter().map(move |&to| (from, to)))
                .filter(|&(from, to)| ours.get(from, to) != theirs.get(from, to))
                .count();
            if differing > 0 {
                found.push(format!("distances: {differing} differ"));
            }
            if ours.nodes() != theirs.nodes() {
                let nodes: NodeSet = theirs.nodes().iter().copied().collect();
                found.push(format!("distances: of nodes {nodes} alone by hwloc"));
            }
        }
        (None, None) => {}
    }
    found
}

/// Holds what is found against a table of what is known.
struct Verdict {
    table: &'static [Row],
    unknown: Vec<String>,
    used: Vec<bool>,
}

impl Verdict {
    fn new(table: &'static [Row]) -> Self {
        Self { table, unknown: Vec::new(), used: vec![false; table.len()] }
    }

    fn take(&mut self, machine: &str, disagreements: Vec<String>) {
        for found in disagreements {
            let known = |row: &Row| (row.0 == machine || row.0 == "*") && found.starts_with(row.1);
            match self.table.iter().position(known) {
                Some(row) => self.used[row] = true,
                None => self.unknown.push(format!("(\"{machine}\", \"{found}\", \"why?\"),")),
            }
        }
    }

    /// Says what is not in the table and, when every machine was looked at, which of its rows no
    /// longer occur.
    fn complaints(&self, name: &str, complete: bool) -> String {
        let stale = self.table.iter().zip(&self.used).filter(|(_, used)| complete && !**used);
        let mut text = String::new();
        for found in &self.unknown {
            text += &format!("not in {name}: {found}\n");
        }
        for (row, _) in stale {
            text += &format!("no longer occurs, remove it from {name}: {row:?}\n");
        }
        text
    }
}

// ---- recorded machines

struct Machines {
    dir: tempfile::TempDir,
    expected: BTreeMap<String, Value>,
}

impl Machines {
    /// Finds the folder above this crate and unpacks it. `None` when it is not there.
    fn unpack() -> Option<Self> {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = crate_dir.ancestors().map(|dir| dir.join("shared/machines"));
        let Some(folder) = found.into_iter().find(|dir| dir.join("expected.json").is_file()) else {
            let above = crate_dir.display();
            testkit::require::does_not_apply(format!("no folder shared/machines above {above}"));
            return None;
        };
        let expected = std::fs::read(folder.join("expected.json")).expect("expected.json");
        let expected: BTreeMap<String, Value> =
            serde_json::from_slice(&expected).expect("expected.json is JSON");
        let dir = tempfile::tempdir().expect("a directory");
        for name in expected.keys() {
            let tar = Command::new("tar")
                .arg("-xzf")
                .arg(folder.join(format!("{name}.tar.gz")))
                .arg("-C")
                .arg(dir.path())
                .status();
            assert!(tar.expect("tar can be run").success(), "cannot unpack {name}");
        }
        Some(Self { dir, expected })
    }

    fn root(&self, name: &str) -> SysRoot {
        SysRoot::at(self.dir.path().join(name))
    }
}

/// Our own recordings, if there are any.
fn fixtures() -> Vec<(String, PathBuf)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sysfs-fixtures");
    let Ok(entries) = std::fs::read_dir(&dir) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.expect("an entry of sysfs-fixtures").path();
            let name = path.file_name()?.to_str()?.to_owned();
            path.join("sys").is_dir().then_some((name, path))
        })
        .collect();
    found.sort();
    if found.is_empty() {
        println!("SKIPPED: no recordings in {}", dir.display());
    }
    found
}

#[test]
fn every_machine_is_read_alike_by_hwloc_and_the_engine() {
    let mut verdict = Verdict::new(KNOWN);
    let mut facts_verdict = Verdict::new(CUT_AWAY);
    let live = Hwloc::load_with(&SysRoot::live(), &helper()).expect("hwloc reads this machine");
    verdict.take("live", disagreements(&SysRoot::live(), &live));

    // All at once: many roots in one process.
    let fixtures: Vec<_> = fixtures()
        .into_iter()
        .map(|(name, dir)| {
            let root = SysRoot::at(dir);
            (name, root.clone(), HwlocLoader::spawn_with(root, helper()))
        })
        .collect();
    for (name, root, loader) in &fixtures {
        let facts = loader.wait(Duration::from_secs(120)).expect("an answer in time");
        match facts {
            Ok(facts) => verdict.take(name, disagreements(root, facts)),
            Err(error) => verdict.take(name, vec![error.to_string()]),
        }
    }

    let machines = Machines::unpack();
    if let Some(machines) = &machines {
        let loaders: Vec<_> = machines
            .expected
            .iter()
            .map(|(name, expected)| {
                (name, expected, HwlocLoader::spawn_with(machines.root(name), helper()))
            })
            .collect();
        for (name, expected, loader) in &loaders {
            let readable =
                expected["read_by"].as_array().is_some_and(|by| by.contains(&"hwloc".into()));
            match loader.wait(Duration::from_secs(120)).expect("an answer in time") {
                Ok(_) if !readable => verdict.take(name, vec!["read by hwloc after all".into()]),
                Ok(facts) => {
                    verdict.take(name, disagreements(&machines.root(name), facts));
                    facts_verdict.take(name, as_expected(facts, expected));
                }
                // One machine has no CPUs that hwloc could begin with.
                Err(HwlocError::HelperFailed { .. }) if !readable => {}
                Err(error) => verdict.take(name, vec![error.to_string()]),
            }
        }
    }
    let complete = machines.is_some();
    let complaints =
        verdict.complaints("KNOWN", complete) + &facts_verdict.complaints("CUT_AWAY", complete);
    assert!(complaints.is_empty(), "\n{complaints}");
}

// ---- the facts themselves, against what lstopo said of the same machines

fn ids<T: Id>(list: &Value) -> IdSet<T> {
    list.as_array()
        .expect("a list of ids")
        .iter()
        .map(|id| T::from_number(u32::try_from(id.as_u64().expect("an id")).expect("a small id")))
        .collect()
}

fn sorted(sets: impl IntoIterator<Item = CpuSet>) -> Vec<String> {
    let mut texts: Vec<_> = sets.into_iter().map(|set| set.to_string()).collect();
    texts.sort();
    texts
}

/// Returns what is not as `expected.json` has it.
fn as_expected(facts: &Hwloc, expected: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: String, ours: String, theirs: String| {
        if ours != theirs {
            wrong.push(format!("{what}: [{ours}], expected [{theirs}]"));
        }
    };
    for (id, node) in expected["nodes"].as_object().expect("nodes") {
        let Some(ours) = facts.node(NodeId(id.parse().expect("a node id"))) else {
            let told = expected["readers_disagree"].to_string();
            let told =
                told.contains(&format!("node {id}: present in sysfs, not reported by hwloc"));
            check(
                format!("node {id}"),
                "absent".to_owned(),
                if told { "absent" } else { "there" }.to_owned(),
            );
            continue;
        };
        let cpus: CpuSet = ids(node.get("hwloc_locality_cpus").unwrap_or(&node["cpus"]));
        check(format!("CPUs near node {id}"), ours.cpus.to_string(), cpus.to_string());
        let kib = node["mem_total_kib"].as_u64().unwrap_or(0);
        let memory = ours.memory.unwrap_or_default().whole_kib();
        check(format!("KiB of node {id}"), memory.to_string(), kib.to_string());
        let subtype = node["hwloc_subtype"].as_str().unwrap_or("none");
        check(
            format!("subtype of node {id}"),
            ours.subtype.clone().unwrap_or("none".into()),
            subtype.into(),
        );
    }
    for (what, ours) in [("packages", &facts.packages), ("cores", &facts.cores)] {
        let theirs = expected[what].as_array().expect("a list of CPU lists");
        check(
            what.to_owned(),
            sorted(ours.iter().cloned()).join(" "),
            sorted(theirs.iter().map(ids)).join(" "),
        );
    }
    let none = Vec::new();
    let l3 = expected["l3"]
        .as_array()
        .unwrap_or(&none)
        .iter()
        .map(|cache| format!("{}:{}", ids::<CpuId>(&cache["cpus"]), cache["size_bytes"]));
    let ours = facts
        .caches
        .iter()
        .filter(|c| c.level == 3 && c.kind == CacheKind::Unified)
        .map(|c| format!("{}:{}", c.cpus, c.size.unwrap_or_default().get()));
    check("caches of level 3".to_owned(), lines(ours), lines(l3));

    let matrix = facts.distances.as_ref().map(|table| {
        let nodes: Vec<u32> = table.nodes().iter().map(|node| node.0).collect();
        serde_json::json!({"nodes": nodes, "matrix": table.rows().collect::<Vec<_>>()})
    });
    check(
        "distances".to_owned(),
        matrix.unwrap_or(Value::Null).to_string(),
        expected["distances"].to_string(),
    );

    let empty = serde_json::Map::new();
    let attributes = expected["memory_attributes"].as_object().unwrap_or(&empty);
    for ours in &facts.attributes {
        // Every machine has these two; expected.json leaves them out.
        if !attributes.contains_key(&ours.name)
            && !["Capacity", "Locality"].contains(&ours.name.as_str())
        {
            check(format!("attribute {}", ours.name), "told".to_owned(), "absent".to_owned());
        }
    }
    for (name, values) in attributes {
        let ours = facts.attribute(name).map(|a| a.values.as_slice()).unwrap_or_default();
        let ours = ours.iter().map(|v| {
            let from = v.initiator.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{}<{from}={}", v.node, v.value)
        });
        let theirs = values.as_array().expect("a list of values").iter().map(|v| {
            format!("{}<{}={}", v["node"], ids::<CpuId>(&v["initiator_cpuset"]), v["value"])
        });
        check(name.clone(), lines(ours), lines(theirs));
    }
    let pci = expected["pci"].as_array().unwrap_or(&none).iter().map(|device| {
        format!("{}@{}", device["id"].as_str().unwrap_or(""), ids::<CpuId>(&device["local_cpus"]))
    });
    let ours = facts
        .devices
        .iter()
        .filter_map(|device| Some(format!("{}@{}", device.address.as_ref()?, device.cpus)));
    check("PCI devices".to_owned(), lines(ours), lines(pci));
    wrong
}

fn lines(texts: impl Iterator<Item = String>) -> String {
    let mut texts: Vec<_> = texts.collect();
    texts.sort();
    texts.join(" ")
}

// ---- how it is loaded

#[test]
fn this_process_does_not_read_another_machine() {
    // The test harness has threads, so the environment is what it was from the start.
    if std::env::var_os("HWLOC_PLUGINS_PATH").is_some() {
        println!("SKIPPED: HWLOC_PLUGINS_PATH is set");
        return;
    }
    for root in [SysRoot::live(), SysRoot::at(env!("CARGO_MANIFEST_DIR"))] {
        let error = Hwloc::load(&root).expect_err("the environment is not set");
        assert_eq!(
            error.to_string(),
            "hwloc cannot be used in this process: expected HWLOC_PLUGINS_PATH to be \
             \"/dev/null\" when it was started, found not set"
        );
        let loader = HwlocLoader::spawn(root);
        let result = loader.wait(Duration::from_secs(60)).expect("an answer in time");
        assert!(matches!(result, Err(HwlocError::Environment { .. })), "{result:?}");
    }
    let error = Hwloc::load(&SysRoot::at("/nowhere")).expect_err("no such directory");
    assert!(matches!(error, HwlocError::Root { .. }), "{error}");
}

/// glibc's loader writes down every shared object that it opens.
#[test]
fn plugins_are_never_opened() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("ld");
    let also = format!("LD_DEBUG=files LD_DEBUG_OUTPUT={}", log.display());
    Hwloc::load_with(&SysRoot::live(), &helper_with(&also)).expect("hwloc reads this machine");
    let mut opened = String::new();
    for entry in std::fs::read_dir(dir.path()).expect("the directory") {
        let text = std::fs::read(entry.expect("an entry").path()).expect("what the loader wrote");
        opened += &String::from_utf8_lossy(&text);
    }
    if !opened.contains("libhwloc") {
        println!("SKIPPED: this system's loader does not tell what it opens");
        return;
    }
    let plugins: Vec<_> = opened.lines().filter(|line| line.contains("/hwloc_")).collect();
    assert!(plugins.is_empty(), "{plugins:#?}");
}

#[test]
fn facts_survive_json() {
    let facts = Hwloc::load_with(&SysRoot::live(), &helper()).expect("hwloc reads this machine");
    let text = facts.to_json().expect("JSON");
    assert_eq!(Hwloc::from_json(text.as_bytes()).expect("the same"), facts);
    for end in 0..text.len() {
        assert!(Hwloc::from_json(&text.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

fn shell(script: &str) -> Helper {
    Helper::new("/bin/sh").arg("-c").arg(script)
}

#[test]
fn a_bad_helper_is_an_error_that_says_so() {
    let limit = Duration::from_millis(300);
    for (helper, wanted) in [
        (Helper::new("/nowhere/placer"), "cannot run /nowhere/placer to read with hwloc"),
        (shell("echo sorry >&2; exit 3"), "/bin/sh, reading with hwloc: exit status: 3: sorry"),
        (shell("kill -9 $$"), "/bin/sh, reading with hwloc: signal: 9 (SIGKILL)"),
        (shell("echo '{}'"), "/bin/sh, reading with hwloc: its answer cannot be parsed"),
        (shell("true"), "/bin/sh, reading with hwloc: its answer cannot be parsed"),
        (
            shell("exec sleep 60").time_limit(limit),
            "/bin/sh, reading with hwloc: no answer within 300ms",
        ),
        (
            shell("exec >&- 2>&-; exec sleep 60").time_limit(limit),
            "/bin/sh, reading with hwloc: no answer within 300ms",
        ),
        (
            shell("exec cat /dev/zero").time_limit(Duration::from_secs(60)),
            "/bin/sh, reading with hwloc: expected at most 67108864 bytes, found more",
        ),
    ] {
        let begun = Instant::now();
        let error = Hwloc::load_with(&SysRoot::live(), &helper).expect_err(wanted);
        assert_eq!(error.to_string(), wanted);
        assert!(begun.elapsed() < Duration::from_secs(50), "{wanted}");
    }
}

#[test]
fn the_background_blocks_nobody_and_ends_when_dropped() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid_file = dir.path().join("pid");
    let script = format!("echo $$ > {0}.new && mv {0}.new {0}; exec sleep 60", pid_file.display());
    let begun = Instant::now();
    let loader = HwlocLoader::spawn_with(SysRoot::live(), shell(&script));
    assert!(loader.try_get().is_none());
    assert!(loader.wait(Duration::from_millis(20)).is_none());
    let pid = loop {
        match std::fs::read_to_string(&pid_file) {
            Ok(pid) => break pid,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    drop(loader);
    assert!(begun.elapsed() < Duration::from_secs(50), "the child was waited for");
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "the child lives on");

    let loader = HwlocLoader::spawn_with(SysRoot::live(), helper());
    let facts = loader.wait(Duration::from_secs(120)).expect("an answer in time");
    let facts = facts.expect("hwloc reads this machine");
    assert!(!facts.nodes.is_empty() && !facts.cpus.is_empty());
    assert!(loader.try_get().is_some_and(|again| again.is_ok_and(|again| again == facts)));
}
