//! What is odd about a host, from its files to what `placer show` says: one host for each oddity.

use crate::common;
use testkit::machine;

use std::path::Path;
use std::time::Duration;

use common::{json, placer, run, text};
use machine::{CPUS, Machine, NODES, Qemu, put_file, scratch};
use placer_engine::claims::{Caller, ClaimDirs, ClaimFile, ClaimOwner, Claims, LOCK_TIMEOUT, Seen};
use placer_engine::{Bytes, NodeId, Request, Snapshot, SysRoot, advise};
use serde_json::{Value, json};

const GIB: u64 = 1 << 20;

/// Two nodes of which nothing is odd.
fn plain() -> Machine {
    Machine::new().node(0, 0..4, 8 * GIB, 4 * GIB).node(1, 4..8, 8 * GIB, 4 * GIB)
}

const QEMU: Qemu<'_> = Qemu {
    pid: 4711,
    program: "qemu-system-x86",
    cpus: 2,
    mib: (1024, 100),
    node: 1,
    allowed: "0-7",
};

fn show(root: &Path, state: &Path, form: &[&str]) -> std::process::Output {
    run(placer().arg("show").args(form).env("PLACER_ROOT", root).env("PLACER_STATE_DIR", state))
}

/// Makes a host, and checks that exactly this is odd about it.
fn check(expected: &[(&str, &str)], make: impl FnOnce(&Path)) {
    let dir = scratch();
    let (root, state) = (dir.path().join("host"), dir.path().join("state"));
    make(&root);
    says(expected, &root, &state);
}

/// Checks that of a host exactly this is odd, in text, JSON and picture.
fn says(expected: &[(&str, &str)], root: &Path, state: &Path) {
    let shown = json(&show(root, state, &["--json"]));
    let odd: Vec<(&str, &str)> = shown["odd"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|odd| (odd["kind"].as_str().expect("a name"), odd["text"].as_str().expect("text")))
        .collect();
    assert_eq!(odd, expected);
    let table = text(&show(root, state, &[]).stdout);
    let svg = text(&show(root, state, &["--svg", "-"]).stdout);
    // Lines are broken where they are too long.
    let whole = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let pieces = |svg: &str| -> String {
        let texts =
            svg.split("<text").skip(1).filter_map(|rest| rest.split_once('>')?.1.split('<').next());
        texts.collect::<Vec<_>>().join(" ").replace("&#39;", "'")
    };
    for (_, text) in expected {
        assert!(whole(&table).contains(&format!("odd: {text}")), "{text}: {table}");
        assert!(pieces(&svg).contains(text), "{text}: {svg}");
    }
    assert_eq!(table.matches("odd: ").count(), expected.len(), "{table}");
}

/// The same, of a machine that is only built oddly.
fn check_built(kind: &str, text: &str, machine: &Machine) {
    check(&[(kind, text)], |root| machine.write(root));
}

/// The same, of the plain machine with another file.
fn check_file(kind: &str, said: &str, path: &str, content: &str) {
    check(&[(kind, said)], |root| {
        plain().write(root);
        put_file(root, path, content);
    });
}

#[test]
fn a_plain_host_is_not_odd_even_with_a_guest() {
    check(&[], |root| plain().write(root));
    check(&[], |root| {
        plain().write(root);
        QEMU.write(root);
    });
}

#[test]
fn distances() {
    check_built(
        "asymmetric-distances",
        "distances differ by direction: 0 to 1 is 20, 1 to 0 is 21",
        &plain().distance(1, 0, 21),
    );
    check_built(
        "strange-distances",
        "node 1 is nearer to node 0 (20) than to itself (25): the firmware's table is wrong",
        &plain().distance(1, 1, 25),
    );
}

#[test]
fn nodes_that_lack_something() {
    check_built(
        "no-memory",
        "node 2 has CPUs and no memory: what runs on its CPUs uses other nodes' memory",
        &plain().node(2, 8..12, 0, 0),
    );
    check_built(
        "no-cpus",
        "node 2 has memory and no CPUs (CXL, HBM, persistent memory or a GPU)",
        &plain().node(2, 0..0, 8 * GIB, GIB),
    );
    check_built("empty-node", "node 2 has neither CPUs nor memory", &plain().node(2, 0..0, 0, 0));
}

#[test]
fn cpus() {
    check(
        &[(
            "shared-cpus",
            "CPU 3 is listed in several nodes: the firmware's tables contradict each other",
        )],
        |root| {
            plain().write(root);
            put_file(root, &format!("{NODES}/node1/cpulist"), "3-7\n");
        },
    );
    check(&[("offline-cpus", "CPUs 8-9 are offline")], |root| {
        plain().write(root);
        put_file(root, &format!("{CPUS}/present"), "0-9\n");
    });
    check_file(
        "isolated-cpus",
        "CPUs 6-7 are isolated (isolcpus): threads that roam never run there",
        &format!("{CPUS}/isolated"),
        "6-7\n",
    );
}

#[test]
fn a_guest_that_was_promised_too_much() {
    check(&[("overpromised", "node 1 is promised 4.0 GiB beyond what is free")], |root| {
        plain().write(root);
        Qemu { mib: (8192 + 100, 100), ..QEMU }.write(root);
    });
}

#[test]
fn a_guest_whose_memory_is_elsewhere() {
    let dir = scratch();
    let (root, state) = (dir.path().join("host"), dir.path().join("state"));
    plain().write(&root);
    let said = {
        let root = SysRoot::at(&root);
        let snapshot = Snapshot::take(&root, Duration::ZERO).expect("a good machine");
        let request: Request = "2:1G".parse().expect("a request");
        let advice = advise(&snapshot, &request).expect("an answer");
        assert_eq!(advice.nodes.to_string(), "0");
        // A claim of this process, with what its cgroup told when it was last looked at.
        let place = ClaimDirs { own: Some(state.clone()), ..ClaimDirs::default() };
        let claims = Claims::open_to_claim(&place, &root).expect("a directory");
        let (decision, _) = claims.begin(LOCK_TIMEOUT).expect("the lock");
        let who = ClaimOwner::Pid(std::process::id());
        let id = decision.claim(&request, &advice, who, Caller::default(), None).expect("claimed");
        let file = ClaimFile::open(&state, &root).expect("its ledger");
        let mut locked = file.lock(LOCK_TIMEOUT).expect("the lock").value;
        let part = |node, mib: u64| (NodeId(node), Bytes::new(mib << 20));
        let per_node = vec![part(0, 256), part(1, 768)];
        locked
            .ledger()
            .see(id, Seen { resident: Bytes::new(1 << 30), per_node, ..Seen::default() });
        locked.keep().expect("kept");
        format!("memory of a guest is elsewhere: claim {id} has 25 % of it on node 0")
    };
    says(&[("misplaced-guest", &said)], &root, &state);
}

#[test]
fn the_kernels_settings() {
    let balancing = "proc/sys/kernel/numa_balancing";
    let on = |allowed: &'static str| {
        move |root: &Path| {
            plain().write(root);
            put_file(root, balancing, "1\n");
            Qemu { allowed, ..QEMU }.write(root);
        }
    };
    // Its memory is bound strictly: the kernel passes it over, wherever its threads may run.
    check(&[], on("4-7"));
    check(&[], on("0-7"));
    check_file(
        "zone-reclaim",
        "vm.zone_reclaim_mode is 1: a full node drops its file cache before it uses another's memory",
        "proc/sys/vm/zone_reclaim_mode",
        "1\n",
    );
    check_file(
        "swap",
        "1.0 GiB are swapped out: guests may wait for the disk",
        "proc/meminfo",
        "SwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n",
    );
}

/// A directory that strangers could have written is not believed: then nobody knows what is claimed.
#[test]
fn claims_that_cannot_be_told_are_not_none() {
    let dir = scratch();
    let root = dir.path().join("host");
    plain().write(&root);
    let (good, state) = (dir.path().join("good"), dir.path().join("state"));
    std::fs::create_dir(&good).expect("made");
    let claims = |state: &Path| {
        let table = text(&show(&root, state, &[]).stdout);
        let line = table.lines().nth(1).expect("a line").to_owned();
        let svg = text(&show(&root, state, &["--svg", "-"]).stdout);
        let claimed = json(&show(&root, state, &["--json"]))["nodes"][0]["claimed"].clone();
        (line, claimed, svg.contains("claims are not known"), svg.contains("nothing is claimed"))
    };
    assert_eq!(claims(&good), ("claims: none".to_owned(), json!(0), false, true));
    std::os::unix::fs::symlink(&good, &state).expect("a link");
    assert_eq!(claims(&state), ("claims: not known".to_owned(), Value::Null, true, false));
}
