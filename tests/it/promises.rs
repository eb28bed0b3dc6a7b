//! What a node promises, on hosts whose figures once led to a wrong answer.

use crate::common;
use testkit::machine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{fixture, json, placer, placer_on, run, text};
use machine::{Machine, NODES, put_file, scratch};

/// A host in a directory, with a state directory of its own.
struct Made {
    dir: tempfile::TempDir,
}

impl Made {
    fn new(machine: &Machine) -> Self {
        let made = Self { dir: scratch() };
        machine.write(&made.root());
        made
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    fn put(&self, path: &str, text: &str) -> &Self {
        put_file(&self.root(), path, text);
        self
    }

    /// Replaces the memory of a node: MemTotal, MemFree, Active(file), Inactive(file),
    /// SReclaimable, in MiB.
    fn memory(&self, node: u32, mib: [u64; 5]) -> &Self {
        let names = ["MemTotal", "MemFree", "Active(file)", "Inactive(file)", "SReclaimable"];
        let line = |(name, mib): (&str, u64)| format!("Node {node} {name}: {} kB\n", mib * 1024);
        let lines: String = names.into_iter().zip(mib).map(line).collect();
        self.put(&format!("{NODES}/node{node}/meminfo"), &lines)
    }

    fn placer(&self, args: &[&str]) -> std::process::Output {
        let state: &Path = self.dir.path();
        run(placer()
            .args(args)
            .env("PLACER_ROOT", self.root())
            .env("PLACER_STATE_DIR", state.join("state")))
    }

    /// Returns the nodes that are advised for `1:MEMORY --strict`; `None` where it does not fit.
    fn strict(&self, memory: &str, more: &[&str]) -> Option<String> {
        let request = format!("1:{memory}");
        let args: Vec<&str> =
            ["advise", "--strict", &request].iter().chain(more).copied().collect();
        let output = self.placer(&args);
        output.status.success().then(|| text(&output.stdout).trim().to_owned())
    }

    /// Returns the most MiB that one node promises, by trying.
    fn most(&self, node: &str) -> u64 {
        let fits = |mib: u64| self.strict(&mib.to_string(), &["--within", node]).is_some();
        let (mut fit, mut no) = (0u64, 1u64 << 20);
        while no - fit > 1 {
            let middle = fit.midpoint(no);
            if fits(middle) { fit = middle } else { no = middle }
        }
        fit
    }

    fn odd(&self) -> Vec<(String, String)> {
        let shown = json(&self.placer(&["show", "--json"]));
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        let odd = shown["odd"].as_array().expect("a list").iter();
        odd.map(|odd| (text(&odd["kind"]), text(&odd["text"]))).collect()
    }
}

const GIB: u64 = 1 << 20;

fn two(total_gib: u64, free_gib: u64) -> Machine {
    let (total, free) = (total_gib * GIB, free_gib * GIB);
    Machine::new().node(0, 0..4, total, free).node(1, 4..8, total, free)
}

#[test]
fn active_file_cache_can_be_promised() {
    let made = Made::new(&two(128, 64));
    // As on a host whose cache is warm.
    made.memory(0, [128_838, 1117, 71_680, 2048, 4096]).memory(1, [128_838, 63, 71_680, 2048, 0]);
    assert_eq!(made.most("0"), 1117 + 71_680 + 2048 + 4096 - 1288 - 1);
    assert_eq!(made.strict("8G", &[]).as_deref(), Some("0"));
    // numad counts inactive cache alone.
    let numad = made.placer(&["advise", "--policy", "numad", "1:8192"]);
    assert_eq!(text(&numad.stdout).trim(), "0-1");
}

#[test]
fn what_lies_below_the_watermarks_is_not_promised() {
    let made = Made::new(&two(4, 2));
    made.memory(0, [4000, 2000, 1000, 200, 0]).memory(1, [4000, 2000, 1000, 200, 0]);
    let reserve = 100;
    assert_eq!(made.most("0"), 3200 - reserve);
    // Two zones of 1,000 and 3,000 MiB: of the first 300 are kept, half by the second's protection;
    // of the second 50, since the boost passes.
    let zoneinfo = "Node 0, zone    DMA32\n  pages free     1000\n        boost    0\n        \
        min      30000\n        low      38400\n        high     40000\n        present  300000\n        \
        managed  256000\n        protection: (0, 38400, 38400)\nNode 0, zone   Normal\n  pages free 9\n        \
        boost    5120\n        min      9\n        low      17920\n        managed  768000\n        \
        protection: (0, 0, 0)\n";
    made.put("proc/zoneinfo", zoneinfo);
    // Of the cache less than the low watermarks, 200 MiB, can be had.
    assert_eq!(made.most("0"), 3200 - reserve - 350 - 200);
    // A node that the file does not name is as without it.
    assert_eq!(made.most("1"), 3200 - reserve);
    // Pages of 64 KiB: a sixteenth of the pages is the same memory.
    let large = zoneinfo.split(' ').map(|word| {
        let number = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        match number.parse::<u64>() {
            Ok(pages) if pages >= 4096 => word.replace(number, &(pages / 16).to_string()),
            _ => word.to_owned(),
        }
    });
    let large = large.collect::<Vec<_>>().join(" ").replace("(0, 38400, 38400)", "(0, 2400, 2400)");
    made.put("proc/zoneinfo", &large);
    assert_eq!(made.most("0"), 3200 - reserve - 350 - 200);
}

#[test]
fn damaged_zoneinfo_is_said_and_left_out() {
    let made = Made::new(&two(4, 2));
    for text in
        ["Node x, zone DMA\n", "Node 0, zone DMA\n  low x\n", "Node 0, zone DMA\n  managed\n"]
    {
        made.put("proc/zoneinfo", text);
        let output = made.placer(&["advise", "1:100"]);
        assert!(output.status.success(), "{text:?}");
        let said = common::text(&output.stderr);
        assert!(said.contains("watermarks are not counted"), "{text:?}: {said}");
    }
    for text in ["", "\0\0\0", "zone\n"] {
        made.put("proc/zoneinfo", text);
        assert!(made.placer(&["advise", "1:100"]).status.success(), "{text:?}");
    }
}

#[test]
fn free_memory_above_all_memory_is_not_promised() {
    let made = Made::new(&two(64, 32));
    made.memory(0, [65_536, 1000, 0, 0, 0]).memory(1, [65_536, 70_000, 4000, 4000, 0]);
    assert_eq!(made.strict("64G", &["--within", "1"]), None);
    assert_eq!(made.most("1"), 65_536 - 656);
    let odd = made.odd();
    let [(kind, said)] = odd.as_slice() else { panic!("{odd:?}") };
    assert_eq!(kind, "free-above-total");
    assert!(said.starts_with("node 1 reports 68.4 GiB free of 64.0 GiB"), "{said}");
}

#[test]
fn a_lone_node_that_reports_less_than_the_host_has_goes_by_the_host() {
    let made = Made::new(&Machine::new().node(0, 0..4, 8 * GIB, 4 * GIB));
    made.memory(0, [6362, 3200, 100, 100, 0]);
    made.put(
        "proc/meminfo",
        "MemTotal: 24684096 kB\nMemFree: 20480000 kB\nActive(file): 102400 kB\nInactive(file): 0 kB\n",
    );
    assert_eq!(made.strict("9G", &[]).as_deref(), Some("0"));
    assert_eq!(made.most("0"), 20_000 + 100 - 241 - 1);
    let odd = made.odd();
    let [(kind, said)] = odd.as_slice() else { panic!("{odd:?}") };
    assert_eq!(kind, "unreported-memory");
    assert!(said.ends_with("/proc/meminfo is used"), "{said}");
}

#[test]
fn nodes_that_report_less_than_the_host_has_are_said_once() {
    let made = Made::new(&two(8, 4));
    made.put("proc/meminfo", &format!("MemTotal: {} kB\nMemFree: {} kB\n", 40 * GIB, 30 * GIB));
    let odd = made.odd();
    let [(kind, said)] = odd.as_slice() else { panic!("{odd:?}") };
    assert_eq!(kind, "unreported-memory");
    assert!(said.starts_with("the nodes report 16.0 GiB of the host's 40.0 GiB"), "{said}");
    // What no node has is promised of none, and three percent are a matter of when it was read.
    assert_eq!(made.strict("9G", &["--within", "0"]), None);
    made.put("proc/meminfo", &format!("MemTotal: {} kB\n", 16 * GIB * 102 / 100));
    assert_eq!(made.odd(), []);
}

#[test]
fn of_small_nodes_a_twentieth_is_kept_back() {
    let mut machine = Machine::new();
    for node in 0..8 {
        machine = machine.node(node, node..node + 1, 505 << 10, 440 << 10);
    }
    let made = Made::new(&machine);
    assert_eq!(made.most("3"), 440 - 26);
    assert!(made.strict("3G", &[]).is_some());
}

#[test]
fn reserved_huge_pages_are_not_promised() {
    let made = Made::new(&two(4, 2));
    for node in 0..2 {
        let dir = format!("{NODES}/node{node}/hugepages/hugepages-2048kB");
        made.put(&format!("{dir}/nr_hugepages"), "75\n")
            .put(&format!("{dir}/free_hugepages"), "75\n");
    }
    let resv = "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages";
    made.put(resv, "100\n");
    let pages = |mib: &str| made.strict(mib, &["--pages", "2M"]);
    assert_eq!(pages("140"), None);
    assert_eq!(pages("102"), None);
    assert!(pages("100").is_some());
    let output = made.placer(&["advise", "1:100", "--pages", "2M"]);
    let said = text(&output.stderr);
    assert!(said.contains("100 free huge pages of 2.0 MiB are reserved"), "{said}");
    let odd = made.odd();
    assert_eq!(odd[0].0, "reserved-huge-pages", "{odd:?}");
    made.put(resv, "0\n");
    assert!(pages("300").is_some() && made.odd().is_empty());
    for (text, fits) in [("999999\n", false), ("x\n", false), ("", false)] {
        made.put(resv, text);
        assert_eq!(pages("2").is_some(), fits, "{text:?}");
    }
}

#[test]
fn cpus_that_wait_for_io_are_idle_for_policy_best() {
    let made = Made::new(&two(8, 4));
    let stat = |second: u64| -> String {
        let cpu = |cpu: u64| {
            // The first node's CPUs wait for I/O all the time, the second's are half busy.
            let (idle, iowait) =
                if cpu < 4 { (100, 200 * second) } else { (100 + 100 * second, 0) };
            format!("cpu{cpu} 100 0 100 {idle} {iowait} 0 0 0 0 0\n")
        };
        (0..8).map(cpu).collect()
    };
    made.put("proc/stat", &stat(0)).put("next/proc/stat", &stat(1));
    made.put("clock", "100000 200\n");
    let shown = json(&made.placer(&["show", "--json"]));
    assert_eq!(
        (&shown["nodes"][0]["cpus_free"], &shown["nodes"][1]["cpus_free"]),
        (&4.0.into(), &2.0.into())
    );
    assert_eq!(made.strict("200", &[]).as_deref(), Some("0"));
    let numad = made.placer(&["advise", "--policy", "numad", "1:200"]);
    assert_eq!(text(&numad.stdout).trim(), "1");
}

/// The caches of a node are compared by the same figure as the nodes.
#[test]
fn cpus_that_wait_for_io_do_not_drive_a_guest_from_their_cache() {
    let dir = scratch();
    let root = dir.path().join("host");
    let copied = Command::new("cp").arg("-a").arg(fixture("ring-4")).arg(&root).status();
    assert!(copied.expect("cp").success());
    // The fixture's window is 200 ticks long. CPUs 0 and 1, of one cache, idle in it.
    let before = fs::read_to_string(root.join("proc/stat")).expect("counters");
    let mut now = fs::read_to_string(root.join("next/proc/stat")).expect("counters");
    for cpu in ["cpu0 ", "cpu1 "] {
        let line = |stat: &str| -> String {
            stat.lines().find(|line| line.starts_with(cpu)).expect("a CPU").to_owned()
        };
        let mut words: Vec<String> = line(&before).split(' ').map(str::to_owned).collect();
        words[5] = "200".to_owned();
        now = now.replace(&line(&now), &words.join(" "));
    }
    put_file(&root, "next/proc/stat", now);
    for ask in ["1:200", "2:200"] {
        let output = placer_on(&root, &["advise", ask]);
        assert_eq!(text(&output.stdout), "0\n", "{ask}: {}", text(&output.stderr));
    }
}
