//! Storms: many separate processes ask at once, as libvirt does when a host comes up. With claims
//! no memory is promised twice, also when some of them are killed; without claims it is, which
//! shows that the test can fail.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use testkit::random::Rng;

use common::{json, placer, run, text};

/// Guests of one storm.
const GUESTS: u64 = 64;
/// Together they ask for so much of the free memory, in percent.
const PART: u64 = 80;

/// Bytes by node.
type Amounts = BTreeMap<u64, u64>;

/// A recorded machine made for the purpose: each node's id, CPUs and free MiB.
struct Machine {
    root: PathBuf,
    free: Amounts,
}

impl Machine {
    fn make(root: &Path, nodes: &[(u64, u64, u64)]) -> Self {
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        let mut first = 0;
        let mut stat = String::new();
        for &(id, cpus, mib) in nodes {
            let dir = format!("sys/devices/system/node/node{id}");
            let kib = mib * 1024;
            let total = kib + kib / 4;
            put(&format!("{dir}/cpulist"), &format!("{first}-{}\n", first + cpus - 1));
            put(
                &format!("{dir}/meminfo"),
                &format!(
                    "Node {id} MemTotal: {total} kB\nNode {id} MemFree: {kib} kB\n\
                     Node {id} Inactive(file): 0 kB\n"
                ),
            );
            let row = |&(to, ..): &(u64, u64, u64)| if to == id { "10" } else { "20" };
            let row: Vec<_> = nodes.iter().map(row).collect();
            put(&format!("{dir}/distance"), &format!("{}\n", row.join(" ")));
            for cpu in first..first + cpus {
                stat.push_str(&format!("cpu{cpu} 0 0 0 1000 0 0 0 0 0 0\n"));
            }
            first += cpus;
        }
        let cpus = format!("0-{}\n", first - 1);
        put("sys/devices/system/cpu/online", &cpus);
        put("sys/devices/system/cpu/possible", &cpus);
        put("sys/devices/system/cpu/cpu0/topology/thread_siblings", "1\n");
        put("proc/stat", &stat);
        put("next/proc/stat", &stat.replace(" 1000 ", " 1200 "));
        let free = nodes.iter().map(|&(id, _, mib)| (id, mib << 20)).collect();
        Self { root: root.to_owned(), free }
    }

    /// `placer advise` for one guest of the storm.
    fn ask(&self, state: &Path, hold: Option<&str>) -> Command {
        let each = self.free.values().sum::<u64>() * PART / 100 / GUESTS;
        let mut command = placer();
        command.env("PLACER_ROOT", &self.root).env("PLACER_STATE_DIR", state);
        command.args(["advise", "--json", &format!("1:{}", each >> 20)]);
        if let Some(time) = hold {
            command.args(["--hold", time]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn machines(dir: &Path) -> Vec<Machine> {
    let equal: Vec<_> = (0..4).map(|id| (id, 8, 16_000)).collect();
    let uneven = [(0, 4, 6_000), (1, 4, 24_000), (4, 8, 12_000), (9, 2, 9_000)];
    let many: Vec<_> = (0..8).map(|id| (id, 16, 9_000)).collect();
    let pair = [(0, 16, 60_000), (1, 16, 30_000)];
    [("equal", &equal[..]), ("uneven", &uneven), ("many", &many), ("pair", &pair)]
        .into_iter()
        .map(|(name, nodes)| Machine::make(&dir.join(name), nodes))
        .collect()
}

/// Adds up what was promised on each node, from the nodes' shares of some answers.
fn sum(splits: &[Value]) -> Amounts {
    let mut sums = Amounts::new();
    for share in splits.iter().flat_map(|split| split.as_array().expect("shares")) {
        let node = share["node"].as_u64().expect("a node");
        *sums.entry(node).or_default() += share["memory"].as_u64().expect("bytes");
    }
    sums
}

/// Returns the nodes that were promised more of than is free.
fn overfull(machine: &Machine, sums: &Amounts) -> Vec<u64> {
    sums.iter().filter(|(node, sum)| **sum > machine.free[node]).map(|(node, _)| *node).collect()
}

/// Reads the one ledger in a state directory: ids and what was promised on each node.
fn ledger(state: &Path) -> (BTreeSet<String>, Amounts) {
    let mut ids = BTreeSet::new();
    let mut sums = Amounts::new();
    for entry in fs::read_dir(state).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|end| end != "jsonl") {
            continue;
        }
        for line in fs::read_to_string(&path).expect("text").lines() {
            let claim: Value = serde_json::from_str(line).expect("no line is damaged");
            let id = claim["id"].as_u64().expect("an id");
            assert!(ids.insert(format!("{id:08x}")), "claim {id:08x} is there twice");
            for promise in claim["promised"].as_array().expect("promises") {
                let node = promise[0].as_u64().expect("a node");
                *sums.entry(node).or_default() += promise[1].as_u64().expect("bytes");
            }
        }
    }
    (ids, sums)
}

/// Runs a storm. Returns the answers but those that were given without a claim, since a holder of the
/// lock did not get on: on a machine that is busy with other things he may wait for a CPU so long.
fn storm(machine: &Machine, state: &Path, hold: Option<&str>) -> Vec<Value> {
    let mut asked: Vec<Child> = Vec::new();
    for _ in 0..GUESTS {
        asked.push(machine.ask(state, hold).spawn().expect("it starts"));
    }
    // All have ended before any is looked at.
    let ended: Vec<Output> =
        asked.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect();
    let mut answers = Vec::new();
    for output in ended {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        if !is_starved(&output) {
            assert_eq!(text(&output.stderr), "", "nothing to warn of");
            answers.push(json(&output));
        }
    }
    answers
}

/// Whether an answer was given without a claim, because a holder of the lock did not get on.
fn is_starved(output: &Output) -> bool {
    text(&output.stderr).contains("no claim was made: cannot lock")
}

/// Storms would disturb one another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_storm_overfills_no_node_and_without_claims_it_does() {
    let _alone = ONE_AT_A_TIME.lock();
    let tmp = tempfile::tempdir().expect("a directory");
    for machine in machines(tmp.path()) {
        let state = tmp.path().join("state").join(machine.root.file_name().expect("a name"));
        fs::create_dir_all(&state).expect("made");
        let name = machine.root.display();

        let start = Instant::now();
        let answers = storm(&machine, &state, Some("10m"));
        let (took, claims) = (start.elapsed(), answers.len());
        assert!(claims > 8, "{name}: only {claims} of {GUESTS} could claim");
        assert!(answers.iter().all(|answer| answer["fits"] == true), "{name}");
        let splits: Vec<Value> = answers.iter().map(|answer| answer["split"].clone()).collect();
        let told = sum(&splits);
        assert_eq!(overfull(&machine, &told), [0; 0], "{name}: {told:?} of {:?}", machine.free);
        let (ids, kept) = ledger(&state);
        let claimed: BTreeSet<String> = answers
            .iter()
            .map(|answer| answer["claim"].as_str().expect("it is claimed").to_owned())
            .collect();
        assert_eq!(claimed, ids, "each has a claim of its own");
        assert_eq!(kept, told, "and for what it was told");

        // The control: the same storm, and nobody claims anything.
        let blind = tmp.path().join("blind");
        let answers = storm(&machine, &blind, None);
        let splits: Vec<Value> = answers.iter().map(|answer| answer["split"].clone()).collect();
        let full = overfull(&machine, &sum(&splits));
        assert!(!full.is_empty(), "{name}: without claims some node is overfilled");
        println!("{name}: {claims} claims, {took:?}; without nodes {full:?} are promised twice");
    }
}

/// Fewer where the same code is tried once more without hwloc.
const KILLS: u32 = if cfg!(feature = "hwloc") { 1000 } else { 200 };

#[test]
fn killed_participants_lose_double_and_leak_nothing() {
    const CROWD: u64 = 24;
    let _alone = ONE_AT_A_TIME.lock();
    let tmp = tempfile::tempdir().expect("a directory");
    let machine = machines(tmp.path()).remove(0);
    let mut rng = Rng::new(2012);
    let start = Instant::now();
    // How long one takes by itself, to be killed at any moment of its life.
    let warm = tmp.path().join("warm");
    let _ = run(&mut machine.ask(&warm, Some("10m")));
    let once = || {
        let start = Instant::now();
        let _ = run(&mut machine.ask(&warm, Some("10m")));
        u64::try_from(start.elapsed().as_micros()).expect("short")
    };
    let alone = (0..5).map(|_| once()).min().unwrap_or_default().clamp(1_000, 20_000);

    let (mut kills, mut after_claim, mut rounds) = (0, 0, 0);
    while kills < KILLS {
        rounds += 1;
        let state = tmp.path().join(format!("round-{rounds}"));
        let mut crowd: Vec<(Child, Option<Instant>)> = Vec::new();
        for n in 0..CROWD {
            let child = machine.ask(&state, Some("10m")).spawn().expect("it starts");
            // Seven of eight die, somewhere in their life beside the others.
            let doomed = n % 8 != 0;
            let delay = Duration::from_micros(rng.below(alone * CROWD / 2));
            crowd.push((child, doomed.then(|| Instant::now() + delay)));
        }
        let mut done = Vec::new();
        while !crowd.is_empty() {
            let (mut at, mut died) = (0, false);
            while at < crowd.len() {
                if crowd[at].1.is_some_and(|when| Instant::now() >= when) {
                    let (mut child, _) = crowd.swap_remove(at);
                    child.kill().expect("killed");
                    let output = child.wait_with_output().expect("it ends");
                    kills += u32::from(output.status.code().is_none());
                    done.push(output);
                    died = true;
                } else if crowd[at].1.is_none() && crowd.iter().all(|(_, when)| when.is_none()) {
                    done.push(crowd.swap_remove(at).0.wait_with_output().expect("it ends"));
                } else {
                    at += 1;
                }
            }
            if !died {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        let (ids, sums) = ledger(&state);
        assert_eq!(overfull(&machine, &sums), [0; 0], "round {rounds}: {sums:?}");
        let mut told = BTreeSet::new();
        for output in &done {
            if output.status.code() == Some(0) && !is_starved(output) {
                assert_eq!(text(&output.stderr), "", "nothing to warn of");
                told.insert(json(output)["claim"].as_str().expect("claimed").to_owned());
            }
        }
        assert!(told.is_subset(&ids), "round {rounds}: no claim is lost");
        // The others claimed, and were killed before they could say so: their holds end by time.
        after_claim += ids.len() - told.len();
        assert!(ids.len() <= done.len(), "round {rounds}: no claim is doubled");
        // Nothing else is left behind: the ledger, its lock, at most one half-written successor.
        let files = fs::read_dir(&state).expect("listed").count();
        assert!(files <= 3, "round {rounds}: {files} files");
        // And nobody is locked out.
        let next = run(&mut machine.ask(&state, Some("10m")));
        assert_eq!(json(&next)["claim"].as_str().map(str::len), Some(8), "{}", text(&next.stderr));
        fs::remove_dir_all(&state).expect("removed");
    }
    println!(
        "{kills} killed in {rounds} rounds and {:?}, {after_claim} of them after they had claimed",
        start.elapsed()
    );
    assert!(after_claim > 0, "some die between claiming and answering");
}

#[test]
fn holds_end_by_themselves() {
    let tmp = tempfile::tempdir().expect("a directory");
    let machine = machines(tmp.path()).remove(0);
    let state = tmp.path().join("state");
    let all = machine.free.values().sum::<u64>() * 9 / 10 / (1 << 20);
    let fits = |hold: Duration| {
        let mut ask = placer();
        ask.env("PLACER_ROOT", &machine.root).env("PLACER_STATE_DIR", &state);
        let hold = format!("{}ms", hold.as_millis());
        ask.args(["advise", "--json", "--hold", &hold, &format!("1:{all}")]);
        json(&run(&mut ask))["fits"].as_bool().expect("an answer")
    };
    // Long enough for a second question on this machine, as it is now.
    let mut hold = Duration::from_millis(400);
    loop {
        let start = Instant::now();
        assert!(fits(hold), "there is room");
        let second = fits(hold);
        if start.elapsed() < hold {
            assert!(!second, "it is promised to the first");
            break;
        }
        std::thread::sleep(hold * 2);
        hold *= 2;
    }
    std::thread::sleep(hold + Duration::from_millis(100));
    assert!(fits(hold), "and no more");
}

/// CPUs of each cache of the host that pinned guests are put on.
const CPUS_EACH: u32 = 16;

fn host_of_caches(root: &Path, caches: u32) {
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    };
    let cpus = caches * CPUS_EACH;
    put("sys/devices/system/node/node0/cpulist", &format!("0-{}\n", cpus - 1));
    put("sys/devices/system/node/node0/distance", "10\n");
    let meminfo = "Node 0 MemTotal: 999999999 kB\nNode 0 MemFree: 990000000 kB\n";
    put("sys/devices/system/node/node0/meminfo", meminfo);
    put("sys/devices/system/cpu/online", &format!("0-{}\n", cpus - 1));
    let mut stat = String::new();
    for cpu in 0..cpus {
        let first = cpu / CPUS_EACH * CPUS_EACH;
        let dir = format!("sys/devices/system/cpu/cpu{cpu}");
        put(&format!("{dir}/topology/thread_siblings_list"), &format!("{cpu}\n"));
        let index = format!("{dir}/cache/index3");
        put(&format!("{index}/level"), "3\n");
        put(&format!("{index}/type"), "Unified\n");
        put(&format!("{index}/shared_cpu_list"), &format!("{first}-{}\n", first + CPUS_EACH - 1));
        stat.push_str(&format!("cpu{cpu} 0 0 0 1000 0 0 0 0 0 0\n"));
    }
    put("proc/stat", &stat);
}

/// Runs in a process of its own: chooses a CPU for each of two vCPUs as `placer launch --pin cores` does, claims
/// them, and prints them. `blind`: by itself, without claims.
#[test]
#[ignore = "a participant of the storms of pinned guests, which start it"]
fn one_pinned_guest() {
    use placer_engine::claims::{Caller, ClaimDirs, ClaimOwner, Claims};
    use placer_engine::{Request, Snapshot, SysRoot, advise, pin_cpus};
    let dir = |name| PathBuf::from(std::env::var_os(name).expect("started by a storm"));
    let (root, state) = (SysRoot::at(dir("STORM_HOST")), dir("STORM_STATE"));
    let request: Request = "2:1".parse().expect("a request");
    let host = Snapshot::take(&root, Duration::ZERO).expect("a good host");
    let place = ClaimDirs { own: Some(state), ..ClaimDirs::default() };
    let claims = Claims::open_to_claim(&place, &SysRoot::live()).expect("a directory").asked_only();
    let blind = std::env::var_os("STORM_BLIND").is_some();
    let (decision, view) = claims.begin(Duration::from_secs(60)).expect("the lock");
    let snapshot = if blind { host } else { host.with_charges(view.charges) };
    let advice = advise(&snapshot, &request).expect("an answer");
    let owned = snapshot.charges().pinned();
    let own = pin_cpus(&snapshot, &advice.usable_cpus, owned, 2);
    let own: placer_engine::CpuSet = own.into_iter().collect();
    if !blind {
        let decision = decision.pinning(own.clone());
        let hold = ClaimOwner::Hold(Duration::from_secs(600));
        let _ = decision.claim(&request, &advice, hold, Caller::default(), None).expect("claimed");
    }
    println!("owns {own}");
}

/// Most guests of a storm that are there at a time.
const AT_ONCE: u32 = 1_000;

/// Starts guests at once, beyond [`AT_ONCE`] as others end. When one has ended by itself some of the doomed are
/// killed, each within `delay` microseconds: that is when the others are at work, on a busy machine too.
/// Returns the CPUs that each of those left was given, and how many were killed.
fn pinned_storm(
    dir: &Path,
    guests: u32,
    doomed: u32,
    blind: bool,
    delay: u64,
) -> (Vec<String>, u32) {
    let mut rng = Rng::new(42);
    let start = Instant::now();
    let mut children: Vec<(Child, bool, Option<Instant>)> = Vec::new();
    let path = std::env::current_exe().expect("this program");
    let start_one = |nth: u32| -> (Child, bool, Option<Instant>) {
        let mut command = Command::new(&path);
        command.args(["--ignored", "--exact", "--nocapture", "storm::one_pinned_guest"]);
        command.env("STORM_HOST", dir.join("host")).env("STORM_STATE", dir.join("state"));
        if blind {
            command.env("STORM_BLIND", "1");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().expect("it starts");
        let dies = u64::from(nth) * u64::from(doomed) / u64::from(guests)
            != u64::from(nth + 1) * u64::from(doomed) / u64::from(guests);
        (child, dies, None)
    };
    let mut to_come = 0..guests;
    children.extend(to_come.by_ref().take(AT_ONCE as usize).map(start_one));
    let (mut killed, mut owned) = (0, Vec::new());
    let for_each = doomed.div_ceil((guests - doomed).max(1));
    while !children.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(1200), "the storm ends");
        for (child, _, dies) in &mut children {
            if dies.is_some_and(|when| Instant::now() >= when) {
                let _ = child.kill();
                *dies = None;
            }
        }
        let mut at = 0;
        while at < children.len() {
            if children[at].0.try_wait().expect("a child").is_some() {
                let output = children.swap_remove(at).0.wait_with_output().expect("it ends");
                children.extend(to_come.next().map(start_one));
                if output.status.code().is_none() {
                    killed += 1;
                } else {
                    assert!(
                        output.status.success(),
                        "a guest that nobody killed: {}",
                        output.status
                    );
                    let doomed =
                        children.iter_mut().filter(|(_, doomed, dies)| *doomed && dies.is_none());
                    for (_, doomed, dies) in doomed.take(for_each.try_into().expect("few")) {
                        *doomed = false;
                        *dies = Some(Instant::now() + Duration::from_micros(rng.below(delay)));
                    }
                }
                let said = text(&output.stdout);
                owned.extend(
                    said.lines().filter_map(|line| Some(line.split_once("owns ")?.1.to_owned())),
                );
            } else {
                at += 1;
            }
        }
        // Each look is a system call for each guest: the CPUs are for them.
        std::thread::sleep(Duration::from_millis(1 + children.len() as u64 / 50));
    }
    (owned, killed)
}

fn owned_twice(sets: &[String]) -> Vec<String> {
    let mut owned = placer_engine::CpuSet::new();
    let mut twice = Vec::new();
    for set in sets {
        let cpus = placer_engine::parse::list::parse(set.as_bytes()).expect("a list of CPUs");
        if !owned.intersection(&cpus).is_empty() {
            twice.push(set.clone());
        }
        owned = owned.union(&cpus);
    }
    twice
}

fn no_cpu_has_two_owners(guests: u32, doomed: u32) {
    let _alone = ONE_AT_A_TIME.lock();
    let tmp = tempfile::tempdir().expect("a directory");
    host_of_caches(&tmp.path().join("host"), (guests / 8).clamp(1, 32));
    // How long one takes by itself; beside the others, which share the CPUs, it takes longer.
    let start = Instant::now();
    let (first, _) = pinned_storm(tmp.path(), 1, 0, true, 1);
    assert!(first.len() == 1 && !first[0].is_empty(), "{first:?}");
    let alone = u64::try_from(start.elapsed().as_micros()).expect("short");
    let (told, killed) = pinned_storm(tmp.path(), guests, doomed, false, alone / 8);
    let mut kept = Vec::new();
    for entry in fs::read_dir(tmp.path().join("state")).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "jsonl") {
            for line in fs::read_to_string(&path).expect("text").lines() {
                let claim: Value = serde_json::from_str(line).expect("no line is damaged");
                kept.extend(claim["pinned"].as_str().map(str::to_owned));
            }
        }
    }
    assert_eq!(owned_twice(&kept), [""; 0], "in the ledger");
    assert_eq!(owned_twice(&told), [""; 0], "as the guests were told");
    assert!(told.iter().all(|cpus| cpus.is_empty() || kept.contains(cpus)), "no claim is lost");
    assert!(doomed == 0 || killed > 0, "none was killed while it ran");
    assert!(!told.iter().all(String::is_empty), "some got CPUs");
    // The control: without claims they get the same CPUs.
    let (blind, _) = pinned_storm(tmp.path(), 4, 0, true, 1);
    assert_eq!(owned_twice(&blind).len(), 3, "{blind:?}");
    let (told, kept) = (told.len(), kept.len());
    let took = start.elapsed().as_secs();
    println!(
        "{guests} guests, {killed} of them killed: {told} were told, {kept} own CPUs, {took} s"
    );
}

#[test]
fn a_cpu_that_a_guest_owns_is_claimed_by_no_other() {
    use placer_engine::claims::{Caller, ClaimDirs, ClaimError, ClaimOwner, Claims};
    use placer_engine::{CpuId, CpuSet, Request, Snapshot, SysRoot, advise};
    let tmp = tempfile::tempdir().expect("a directory");
    host_of_caches(tmp.path(), 2);
    let snapshot = Snapshot::take(&SysRoot::at(tmp.path()), Duration::ZERO).expect("a good host");
    let request: Request = "2:1".parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an answer");
    let place = ClaimDirs { own: Some(tmp.path().join("state")), ..ClaimDirs::default() };
    let claims = Claims::open_to_claim(&place, &SysRoot::live()).expect("a directory").asked_only();
    let begin = || claims.begin(Duration::from_secs(10)).expect("the lock");
    let cpus = |range: std::ops::Range<u32>| -> CpuSet { range.map(CpuId).collect() };
    let hold = || ClaimOwner::Hold(Duration::from_secs(600));
    let first = begin().0.pinning(cpus(0..2));
    let first = first.claim(&request, &advice, hold(), Caller::default(), None).expect("claimed");
    let second = begin().0.pinning(cpus(1..3));
    let refused = second.claim(&request, &advice, hold(), Caller::default(), None);
    assert!(matches!(refused, Err(ClaimError::Owned(twice)) if twice == cpus(1..2)));
    // The same guest again, for its own process: in one write.
    let again = begin().0.pinning(cpus(0..2)).instead_of(first);
    let again = again.claim(&request, &advice, hold(), Caller::default(), None).expect("claimed");
    let left: Vec<_> = begin().1.claims.iter().map(|claim| claim.id).collect();
    assert_eq!(left, [again]);
    // CPUs that its threads share are kept where they are not all that it may use.
    let roaming = |over: CpuSet| {
        let claim = begin().0.roaming_over(over);
        claim.claim(&request, &advice, hold(), Caller::default(), None).expect("claimed");
        begin().1.claims.last().expect("a claim").roaming.to_string()
    };
    assert_eq!(roaming(advice.cpus.clone()), "0-15");
    assert_eq!(roaming(advice.usable_cpus.clone()), "");
}

#[test]
fn no_cpu_has_two_owners_after_a_storm_of_pinned_guests() {
    no_cpu_has_two_owners(120, 80);
}

#[test]
#[ignore = "minutes, 1,000 guests at once: make test-storm"]
fn no_cpu_has_two_owners_after_a_storm_of_2400_pinned_guests() {
    no_cpu_has_two_owners(2_400, 1_400);
}
