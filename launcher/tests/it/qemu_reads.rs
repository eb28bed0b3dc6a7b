//! What placer reads in a command line, held against what the real QEMU makes of it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};

use needs::needs;
use placer_engine::CpuId;
use placer_launcher::Step;
use placer_launcher::guest::line::{Backend, Line, Ram};
use placer_launcher::guest::{Guest, MemoryMode, Program};
use placer_launcher::qemu::Launch;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::qemu::here;

/// What a line means.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    /// The vCPUs at the start, and the most there can be.
    vcpus: (BTreeSet<u64>, u64),
    /// By NUMA node: its vCPUs among those.
    nodes: BTreeMap<u64, BTreeSet<u64>>,
    memory: u64,
    /// By name: size, host nodes, policy.
    backends: BTreeMap<String, (u64, Vec<u64>, String)>,
    iothreads: BTreeSet<String>,
}

/// Asks QEMU. `None`: it refuses the line.
fn of_qemu(words: &[OsString]) -> Option<Meaning> {
    let questions = [
        "qmp_capabilities",
        "query-cpus-fast",
        "query-hotpluggable-cpus",
        "query-memdev",
        "query-iothreads",
        "quit",
    ];
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(&words[1..])
        .args(["-S", "-accel", "tcg,tb-size=1", "-nodefaults", "-display", "none", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("QEMU");
    let asked = questions.map(|question| format!("{{\"execute\":\"{question}\"}}\n")).concat();
    // One that has refused its line is gone.
    let _ = qemu.stdin.take().expect("a pipe").write_all(asked.as_bytes());
    let output = qemu.wait_with_output().expect("QEMU ends");
    if !output.status.success() {
        return None;
    }
    let said = String::from_utf8(output.stdout).expect("text");
    let answers = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let answers: Vec<Value> =
        answers.filter_map(|mut line| line.get_mut("return").map(Value::take)).collect();
    let list = |at: usize| answers[at].as_array().expect("a list").iter();
    let number = |value: &Value| value.as_u64().expect("a number");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut meaning = Meaning::default();
    for cpu in list(1) {
        let index = number(&cpu["cpu-index"]);
        meaning.vcpus.0.insert(index);
        if let Some(node) = cpu["props"]["node-id"].as_u64() {
            meaning.nodes.entry(node).or_default().insert(index);
        }
    }
    meaning.vcpus.1 = list(2).map(|slot| number(&slot["vcpus-count"])).sum();
    for memory in list(3) {
        meaning.memory += number(&memory["size"]);
        let nodes = memory["host-nodes"].as_array().expect("a list").iter().map(number).collect();
        let entry = (number(&memory["size"]), nodes, text(&memory["policy"]));
        meaning.backends.insert(text(&memory["id"]), entry);
    }
    meaning.iothreads = list(4).map(|thread| text(&thread["id"])).collect();
    Some(meaning)
}

fn guest(line: &Line) -> Guest {
    let program = Program::Line(Box::new(line.clone()));
    let mut guest = Guest::new("web".parse().expect("a name"), program);
    guest.cpus = line.cpus;
    guest.memory.maximum = line.memory;
    guest.memory.current = line.memory;
    // This host may have one node only, where nothing is bound unless it is asked for.
    let unbound = |backend: &Backend| backend.policy.as_deref() == Some("default");
    (guest.mode, guest.mode_given) = (MemoryMode::Strict, !line.backends.iter().any(unbound));
    guest
}

/// Holds what placer reads against what QEMU says, before and behind what placer adds. Returns whether QEMU takes
/// the line.
fn compare(words: &[OsString]) -> Result<bool, TestCaseError> {
    let Some(qemu) = of_qemu(words) else { return Ok(false) };
    let line = match Line::parse(words) {
        Ok(line) => line.expect("a guest"),
        Err(error) => return Err(TestCaseError::fail(format!("QEMU takes {words:?}: {error}"))),
    };
    // QEMU numbers CPUs that are devices of their own by their slots.
    let vcpus = qemu.vcpus.0.len();
    prop_assert_eq!(usize::try_from(line.cpus.current), Ok(vcpus), "{:?}", words);
    prop_assert_eq!(u64::from(line.cpus.maximum), qemu.vcpus.1, "{:?}", words);
    prop_assert_eq!(line.memory.get(), qemu.memory, "{:?}", words);
    for cell in &line.cells {
        let present = |vcpu: &CpuId| qemu.vcpus.0.contains(&vcpu.0.into());
        let read: BTreeSet<u64> =
            cell.vcpus.iter().filter(present).map(|vcpu| vcpu.0.into()).collect();
        let found = qemu.nodes.get(&cell.id.into()).cloned().unwrap_or_default();
        prop_assert_eq!(read, found, "node {} of {:?}", cell.id, words);
    }
    for backend in &line.backends {
        let (size, nodes, policy) = &qemu.backends[&backend.id];
        let read: Vec<u64> = backend.host_nodes.iter().map(|node| node.0.into()).collect();
        prop_assert_eq!((backend.size.get(), &read), (*size, nodes), "{:?}", words);
        let read = backend.policy.as_deref().unwrap_or("default");
        prop_assert_eq!(read, policy, "{:?}", words);
    }
    let read: BTreeSet<String> = line.iothreads.iter().cloned().collect();
    prop_assert_eq!(read, qemu.iothreads, "{:?}", words);

    let (snapshot, advice) = here();
    let launch = Launch::new(&guest(&line), Some(&advice), &snapshot)
        .map_err(|error| TestCaseError::fail(format!("{words:?}: {error}")))?;
    let steps = launch.steps();
    let placed = steps.iter().find_map(|step| match step {
        Step::Exec { argv } => Some(&argv[..argv.len() - 4]),
        _ => None,
    });
    let placed = placed.expect("a program").to_owned();
    let Some(after) = of_qemu(&placed) else {
        return Err(TestCaseError::fail(format!("QEMU refuses {placed:?}")));
    };
    prop_assert_eq!((&after.vcpus, &after.nodes), (&qemu.vcpus, &qemu.nodes), "{:?}", &placed);
    prop_assert_eq!(after.memory, qemu.memory, "{:?}", &placed);
    for (id, (_, nodes, policy)) in after.backends.iter().filter(|_| guest(&line).mode_given) {
        let said = line.backends.iter().find(|backend| backend.id == *id);
        // Memory of a size that no word says takes the policy of the process.
        let unbound = said.is_none() && line.ram == Ram::Other;
        prop_assert!(unbound || (policy == "bind" && !nodes.is_empty()), "{id}: {placed:?}");
    }
    Ok(true)
}

fn words(line: &str) -> Vec<OsString> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    ["qemu-system-x86_64"].into_iter().chain(words).map(OsString::from).collect()
}

const A: &str = "-object memory-backend-ram,id=a,size=";

#[needs(qemu)]
#[test]
fn odd_spellings_mean_what_they_mean_to_qemu() {
    let json = |inside: &str| {
        format!("-object {{\"qom-type\":\"memory-backend-ram\",\"id\":\"a\",{inside}}}")
    };
    let cells = "-m 64 -object memory-backend-ram,id=a,size=32M -object memory-backend-ram,id=b,size=32M \
                 -numa node,memdev=a";
    for line in [
        "-m 010 -smp 010".to_owned(),
        "-m 0x10, -smp 0x4,".to_owned(),
        "-m +32 -smp cpus=2,maxcpus=010,".to_owned(),
        "-m 32.M -name {web}".to_owned(),
        "-m 32 -m 64,slots=2,maxmem=1G -m size=48 -smp 1 -smp maxcpus=4".to_owned(),
        "-smp 4,cores=2,cores=1".to_owned(),
        "-machine q35,memory.size=67108864,smp.cpus=3".to_owned(),
        "-smp 1,maxcpus=4 -device qemu64-x86_64-cpu,socket-id=0,core-id=2,thread-id=0".to_owned(),
        "-object iothread,id=io, -object {'qom-type':'iothread','id':'two'}".to_owned(),
        format!("{A}1M,"),
        format!("{A}1.5m,share"),
        format!("{A}0x100000,noshare,host-nodes=00,policy=bind,"),
        format!("{A}1M,host-nodes=0x0-0,policy=bind"),
        "-object id=a,size=1M,qom-type=memory-backend-ram".to_owned(),
        json("\"size\":1048576,\"host-nodes\":[]"),
        json("\"size\":1048576,\"host-nodes\":[0],'policy':'bind'"),
        json("'size':\t1048576\t"),
        format!("{cells} -numa node,memdev=b,cpus=0-010,cpus=9, -smp 12"),
        format!("{cells} -numa node,memdev=b -smp 8,sockets=2,maxcpus=010"),
        format!("{cells} -numa node,memdev=b -numa cpu,node-id=01,socket-id=0x1, -smp 4,sockets=2"),
    ] {
        match compare(&words(&line)) {
            Ok(taken) => assert!(taken, "QEMU refuses {line}"),
            Err(why) => panic!("{line}: {why}"),
        }
    }
    // What QEMU refuses is refused here, or left to QEMU: never read as something else and started.
    for line in ["-m 1.5e1", "-m 32MiB", "-smp on", "-smp 08", "-object {'qom-type':'iothread',}"] {
        assert_eq!(of_qemu(&words(line)), None, "{line}");
        assert!(Line::parse(&words(line)).is_err(), "{line}");
    }
}

/// A number as QEMU takes it.
fn spelled() -> impl Fn(u64, u8) -> String + Clone {
    |number, how| match how % 3 {
        0 => number.to_string(),
        1 => format!("{number:#x}"),
        _ => format!("0{number:o}"),
    }
}

prop_compose! {
    /// A line of a guest of some sockets, cores and threads, with up to two NUMA nodes in some spelling.
    fn lines()(
        (sockets, cores, threads) in (1..3_u64, 1..3_u64, 1..3_u64),
        off in 0..3_u64,
        how in prop::collection::vec(any::<u8>(), 12),
        cells in 0..3_usize,
    ) -> String {
        let spelled = spelled();
        let maximum = sockets * cores * threads;
        let current = maximum.saturating_sub(off).max(1);
        let mut smp = [
            format!("cpus={}", spelled(current, how[0])),
            format!("maxcpus={}", spelled(maximum, how[1])),
            format!("sockets={}", spelled(sockets, how[2])),
            format!("threads={}", spelled(threads, how[3])),
        ];
        let at = usize::from(how[4]) % 4;
        smp.rotate_left(at);
        let comma = |how: u8| if how.is_multiple_of(2) { "," } else { "" };
        let mut line = format!("-smp {}{}", smp.join(","), comma(how[5]));
        line += match how[6] % 5 {
            0 => " -m 64",
            1 => " -m 64M,",
            2 => " -m size=65536k",
            3 => " -m 16 -m 0x40",
            _ => " -m 0.0625G",
        };
        let mebibytes = 64 / cells.max(1);
        for (cell, id) in ["a", "b"].into_iter().enumerate().take(cells) {
            line += &match how[7 + cell] % 4 {
                0 => format!(" -object memory-backend-ram,size={mebibytes}M,id={id}{}", comma(how[9])),
                1 => format!(" -object memory-backend-ram,id={id},host-nodes=0,policy=bind,size={mebibytes}M"),
                2 => format!(" -object {{'qom-type':'memory-backend-ram','id':'{id}','size':{}}}", mebibytes << 20),
                _ => format!(
                    " -object {{\"qom-type\":\"memory-backend-ram\",\"share\":true,\"id\":\"{id}\",\"size\":{}}}",
                    mebibytes << 20
                ),
            };
            line += &match how[10] % 3 {
                0 => format!(" -numa node,memdev={id}"),
                1 if cell == 0 => format!(" -numa node,memdev={id},cpus=0-{}", spelled(maximum / 2, how[11])),
                1 if maximum / 2 + 1 < maximum => {
                    format!(" -numa node,memdev={id},cpus={}-{}", maximum / 2 + 1, maximum - 1)
                }
                _ => format!(" -numa node,nodeid={cell},memdev={id}{}", comma(how[11])),
            };
        }
        if cells == 2 && how[10] % 3 == 2 {
            for socket in 0..sockets {
                line += &format!(" -numa cpu,node-id={},socket-id={socket}", (socket + 1) % 2);
            }
        }
        line
    }
}

#[needs(qemu)]
#[test]
fn generated_lines_mean_what_they_mean_to_qemu() {
    let taken = Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    let held = runner.run(&lines(), |line| {
        taken.set(taken.get() + usize::from(compare(&words(&line))?));
        Ok(())
    });
    held.unwrap_or_else(|why| panic!("{why}"));
    assert!(taken.get() >= 12, "QEMU takes {} of 24 lines", taken.get());
}
