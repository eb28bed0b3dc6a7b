//! Guests that claim for themselves and are killed: at any moment of their start, and later. What
//! the living were promised stays promised, and the dead count no more.

use crate::common;
use testkit::machine;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use placer_engine::claims::{ClaimDirs, ClaimError, ClaimOwner, Claims, LOCK_TIMEOUT};
use placer_engine::{Request, Snapshot, SysRoot, advise};

use common::{json, placer, run, text};
use machine::{Machine, Rng};

const ROOT: &str = "PLACER_TEST_ROOT";
const STATE: &str = "PLACER_TEST_STATE";
/// What one guest asks for: some 20 find room.
const REQUEST: &str = "1:500";

fn place(state: &Path) -> ClaimDirs {
    ClaimDirs { own: Some(state.to_owned()), ..ClaimDirs::default() }
}

/// Not a test: a guest that claims for itself, says so, and runs until it is killed. Started by the
/// next test.
#[test]
#[ignore = "runs until it is killed"]
fn a_guest() {
    let (Some(root), Some(state)) = (std::env::var_os(ROOT), std::env::var_os(STATE)) else {
        return;
    };
    let root = SysRoot::at(root);
    let claims = Claims::open_to_claim(&place(Path::new(&state)), &root).expect("a ledger");
    let (mut decision, view) = match claims.begin(LOCK_TIMEOUT) {
        Ok(both) => both,
        // A holder that waits for a CPU for so long: this machine is busy with other things.
        Err(ClaimError::Locked { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(view.notes, [""; 0]);
    let snapshot = Snapshot::take(&root, Duration::ZERO).expect("a recording");
    let snapshot = snapshot.with_charges(view.charges);
    let request: Request = REQUEST.parse().expect("a request");
    let advice = advise(&snapshot, &request).expect("an answer");
    assert!(advice.fits(), "there is room for all");
    let me = std::process::id();
    let caller = decision.caller(me, 0);
    let id =
        decision.claim(&request, &advice, ClaimOwner::Pid(me), caller, None).expect("it is kept");
    // Not through the test's own output, which is of lines of its own.
    writeln!(std::io::stderr(), "claim {id}").expect("told");
    // It is killed; or the test that started it has ended before.
    let _ = std::io::stdin().read(&mut [0]);
}

fn start(root: &Path, state: &Path) -> Child {
    let mut guest = Command::new(std::env::current_exe().expect("this program"));
    guest.args(["--ignored", "--exact", "killed::a_guest", "--nocapture", "--test-threads=1"]);
    guest.env(ROOT, root).env(STATE, state);
    guest.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    guest.spawn().expect("it starts")
}

/// Returns the claim that a guest says it has; `None` when it ends without one.
fn hear(guest: &mut Child) -> Option<String> {
    let mut said = BufReader::new(guest.stderr.take().expect("a pipe")).lines();
    said.find_map(|line| {
        let line = line.expect("text");
        assert!(!line.contains("panicked"), "{line}");
        Some(line.strip_prefix("claim ")?.to_owned())
    })
}

#[test]
fn guests_that_are_killed_count_no_more_and_the_others_do() {
    const CROWD: u64 = 12;
    const KILLS: usize = 1000;
    let tmp = tempfile::tempdir().expect("a directory");
    let root = tmp.path().join("host");
    let gib = 1 << 20;
    let host = Machine::new().node(0, 0..8, 8 * gib, 5 * gib).node(3, 8..16, 8 * gib, 7 * gib);
    host.write(&root);
    let free = BTreeMap::from([(0, 5u64 << 30), (3, 7 << 30)]);
    let mut rng = Rng::new(2012);
    // Killed at most so late, in microseconds: as many before they have claimed as after.
    let mut latest = 20_000;
    let (mut kills, mut rounds, mut claimed_and_killed) = (0, 0, 0);
    while kills < KILLS {
        rounds += 1;
        let state = tmp.path().join(format!("state-{rounds}"));
        let (mut doomed, mut staying) = (Vec::new(), Vec::new());
        for n in 0..CROWD {
            let mut guest = start(&root, &state);
            if n % 4 == 0 {
                staying.push(guest);
                continue;
            }
            let delay = Duration::from_micros(rng.below(latest));
            doomed.push(std::thread::spawn(move || {
                std::thread::sleep(delay);
                guest.kill().expect("killed");
                let claimed = hear(&mut guest).is_some();
                (guest.wait().expect("it ends"), claimed)
            }));
        }
        for killed in doomed {
            let (status, claimed) = killed.join().expect("no thread panics");
            kills += usize::from(status.code().is_none());
            claimed_and_killed += usize::from(claimed);
            latest = if claimed { latest * 9 / 10 } else { latest * 10 / 9 };
            latest = latest.clamp(1_000, 500_000);
        }
        // Those that stay have said what they claimed; or that the lock could not be had, and ended.
        let told: BTreeMap<u32, Option<String>> =
            staying.iter_mut().map(|guest| (guest.id(), hear(guest))).collect();
        let claims = || {
            let ledger = Claims::open(&place(&state), &SysRoot::at(&root)).expect("a ledger");
            let view = ledger.view().expect("readable");
            assert_eq!(view.notes, [""; 0]);
            view.claims
        };
        let owner = |claim: &std::sync::Arc<placer_engine::claims::Claim>| {
            claim.owner.process().expect("all are for processes").pid
        };
        let counted = claims();
        let pids: BTreeSet<u32> = counted.iter().map(owner).collect();
        assert_eq!(pids.len(), counted.len(), "no guest is counted twice");
        let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
        for promise in counted.iter().flat_map(|claim| &claim.promised) {
            *sums.entry(promise.node.0).or_default() += promise.memory.get();
        }
        assert!(sums.iter().all(|(node, sum)| sum <= &free[node]), "{sums:?}");
        let counted: BTreeMap<u32, String> =
            counted.iter().map(|claim| (owner(claim), claim.id.to_string())).collect();
        let wanted = told.into_iter().filter_map(|(pid, id)| Some((pid, id?))).collect();
        assert_eq!(counted, wanted, "round {rounds}: the living count, each by its claim");
        for mut guest in staying {
            guest.kill().expect("killed");
            guest.wait().expect("it ends");
        }
        assert_eq!(claims(), [], "none is left when all are gone");
    }
    println!("{kills} killed in {rounds} rounds, {claimed_and_killed} of them with a claim");
    assert!(claimed_and_killed > 0, "some are killed after they have claimed");
}

#[test]
fn a_damaged_line_costs_its_claim_alone_and_is_reported_in_one_line() {
    let tmp = tempfile::tempdir().expect("a directory");
    let (root, state) = (tmp.path().join("host"), tmp.path().join("state"));
    let gib = 1 << 20;
    Machine::new().node(0, 0..8, 8 * gib, 5 * gib).write(&root);
    let ask = |hold: &[&str]| {
        let mut ask = placer();
        ask.env("PLACER_ROOT", &root).env("PLACER_STATE_DIR", &state);
        run(ask.args(["advise", "--json", "1:1G"]).args(hold))
    };
    let hold = ["--hold", "60s"];
    let ids: Vec<String> = (0..4)
        .map(|_| json(&ask(&hold))["claim"].as_str().expect("it is claimed").to_owned())
        .collect();
    assert_eq!(json(&ask(&[]))["fits"], false, "four of five GiB are promised, and a reserve");

    let ledger = fs::read_dir(&state)
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .expect("a ledger");
    let whole = fs::read_to_string(&ledger).expect("text");
    let lines: Vec<&str> = whole.lines().collect();
    let changed = lines[1].replace("\"pid\":", "\"pid\":1");
    for damage in ["", "\u{0}\u{0}\u{0}", "{}", &changed, &lines[1][1..]] {
        let mut torn = lines.clone();
        torn[1] = damage;
        fs::write(&ledger, torn.join("\n") + "\n").expect("written");
        let output = ask(&[]);
        // What can be read of it counts.
        assert_eq!(json(&output)["fits"], damage != changed, "one claim fewer: {damage:?}");
        let said = text(&output.stderr);
        // That it does not fit is another line.
        let wanted = usize::from(!damage.is_empty()) + usize::from(damage == changed);
        assert_eq!(said.lines().count(), wanted, "{said}");
        assert!(damage.is_empty() || said.contains("line 2 is not understood"), "{said}");
    }
    // The next claim takes its place, the other three are still there, and so is the line.
    let next = json(&ask(&hold))["claim"].as_str().expect("it is claimed").to_owned();
    let kept = fs::read_to_string(&ledger).expect("text");
    assert_eq!(kept.lines().last(), Some(&lines[1][1..]));
    let names: Vec<String> = kept
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .map(|claim| format!("{:08x}", claim["id"].as_u64().expect("an id")))
        .collect();
    assert_eq!(names, [&ids[0], &ids[2], &ids[3], &next].map(Clone::clone));
    let said = text(&ask(&hold).stderr);
    assert!(said.lines().count() == 2 && said.contains("not held: "), "{said}");
}
