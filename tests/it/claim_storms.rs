//! Storms of claims: many clients at once, beside hostile users, and kills at random moments of the daemon and of
//! clients. The long forms are `make test-claims`.

use crate::common;
use needs::needs;

use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use placer_engine::SysRoot;
use placer_engine::claims::{ClaimDirs, Claims};
use serde_json::{Value, json};
use testkit::random::Rng;

use super::principals::{CLAIM, STRANGER, listed};
use common::daemon::{Daemon, eventually, reply, spawn};
use common::{placer, text};

const RELEASE: &str = "org.placer.Daemon.Release";

/// Claims and releases in a loop, as a user without rights, until it is killed.
const HOSTILE: &str = "import json, socket, sys
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    return s, s.makefile('rb')
def ask(s, f, method, **parameters):
    s.sendall(json.dumps({'method': 'org.placer.Daemon.' + method, 'parameters': parameters}).encode() + b'\\0')
    reply = b''
    while not reply.endswith(b'\\0'):
        byte = f.read(1)
        if not byte: raise OSError
        reply += byte
    return json.loads(reply[:-1])
while True:
    try:
        s, f = connect()
        held = []
        while True:
            request = {'cpus': 0.01, 'memory': 1 << 20}
            claim = ask(s, f, 'AdviseAndClaim', request=request, hold_ms=60000)
            held.append(claim.get('parameters', {}).get('claim'))
            if len(held) > 8:
                ask(s, f, 'Release', claim=held.pop(0) or '00000000')
            ask(s, f, 'Guests')
    except OSError:
        pass
";

/// Calls without looking at the interface, which costs more than the daemon's answer.
fn call(stream: &mut UnixStream, method: &str, parameters: &Value) -> Value {
    let call = json!({"method": method, "parameters": parameters});
    stream.write_all(format!("{call}\0").as_bytes()).expect("sent");
    reply(&mut BufReader::new(stream))
}

struct Hostile(Vec<Child>);

impl Hostile {
    fn start(daemon: &Daemon, users: u32) -> Self {
        let start = |n: u32| {
            let mut user = Command::new("python3");
            user.args(["-c", HOSTILE]).arg(daemon.dir.path().join("placer.sock"));
            user.uid(STRANGER - 1 - n).gid(STRANGER).stdout(Stdio::null()).stderr(Stdio::null());
            user.spawn().expect("python3 starts")
        };
        Self((0..users).map(start).collect())
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// So many clients of root's claim and release for a time; each claim is made. Prints how long they took.
fn all_are_claimed(clients: usize, time: Duration, hostile: u32) {
    let daemon = Daemon::start(None, "clients = 4096\n");
    let users = Hostile::start(&daemon, hostile);
    if hostile > 0 {
        eventually("hostile claims", || (!listed(&daemon).is_empty()).then_some(()));
    }
    let (end, refused) = (Instant::now() + time, AtomicUsize::new(0));
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let (daemon, refused) = (&daemon, &refused);
        let client = move || {
            let mut took = Vec::new();
            let mut stream = eventually("a connection", || daemon.connect());
            let request = json!({"cpus": 0.01, "memory": 1 << 20});
            let hold = json!({"request": request, "hold_ms": 600_000});
            while Instant::now() < end || took.is_empty() {
                let start = Instant::now();
                let reply = call(&mut stream, CLAIM, &hold);
                took.push(start.elapsed());
                match reply["parameters"]["claim"].as_str() {
                    Some(id) => _ = call(&mut stream, RELEASE, &json!({"claim": id})),
                    None => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        println!("unclaimed: {reply}");
                    }
                }
            }
            took
        };
        let one = |_| {
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            thread.spawn_scoped(scope, client).expect("a thread")
        };
        let threads: Vec<_> = (0..clients).map(one).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    drop(users);
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "{clients} clients beside {hostile} hostile users: {} claims, {} unclaimed, p50 {:?}, p99 {:?}, max {:?}",
        took.len(),
        refused.load(Ordering::Relaxed),
        at(50),
        at(99),
        at(100)
    );
    assert_eq!(refused.load(Ordering::Relaxed), 0, "unclaimed");
    assert!(took.len() >= clients);
}

#[needs(root)]
#[test]
fn m3_many_clients_at_once_claim_and_release() {
    all_are_claimed(100, Duration::from_secs(3), 0);
}

#[needs(root, python3)]
#[test]
fn m3_the_hosts_clients_claim_beside_hostile_users() {
    all_are_claimed(20, Duration::from_secs(3), 8);
}

#[test]
#[ignore = "a minute, 1,000 clients at once: make test-claims"]
fn m3_1000_clients_at_once_claim_and_release_for_a_minute() {
    all_are_claimed(1_000, Duration::from_secs(60), 0);
}

#[test]
#[ignore = "a minute, 1,000 clients and 64 hostile users at once: make test-claims"]
fn m3_1000_clients_claim_beside_64_hostile_users_for_a_minute() {
    all_are_claimed(1_000, Duration::from_secs(60), 64);
}

/// A way to claim: what is asked of how many MiB, by which its claims are known.
#[derive(Clone, Copy, Debug)]
struct Way {
    mib: u64,
    args: &'static [&'static str],
}

const WAYS: [Way; 4] = [
    Way {
        mib: 1,
        args: &["advise", "--via", "engine", "--hold", "1h", "--json", "--window", "0", "0.01:1M"],
    },
    Way { mib: 2, args: &["advise", "--hold", "1h", "--json", "--window", "0", "0.01:2M"] },
    Way { mib: 3, args: &["numad", "-w", "1:3"] },
    Way {
        mib: 4,
        args: &["launch", "--window", "0", "--cpus", "0.01", "--memory", "4M", "--", "true"],
    },
];

/// What became of the claims of one way.
#[derive(Debug, Default)]
struct Tally {
    claimed: AtomicUsize,
    released: AtomicUsize,
    lost: AtomicUsize,
    killed: AtomicUsize,
}

/// Kills the daemon and clients so many times, at random moments, while 8 clients claim in all ways.
fn no_kill_loses_doubles_or_leaves_a_claim(kills: usize) {
    const CLIENTS: usize = 8;
    let settings = "[claims]\nhold = \"1h\"\n[numad]\nhold = \"adopt\"\npolicy = \"best\"\n";
    let mut daemon = Daemon::start(None, "");
    std::fs::write(&daemon.config, format!("{settings}[daemon]\nqueue = false\n"))
        .expect("written");
    daemon.child.kill().and_then(|()| daemon.child.wait()).expect("killed");
    let (dir, config) = (daemon.dir.path().to_owned(), daemon.config.clone());
    daemon.child = spawn(None, &dir, &config);
    daemon.await_answer();
    let slots: Vec<Mutex<Option<Child>>> = (0..CLIENTS).map(|_| Mutex::new(None)).collect();
    let (ends, tallies) = (AtomicBool::new(false), WAYS.map(|_| Tally::default()));
    let client = |slot: &Mutex<Option<Child>>, seed: u64| {
        let mut rng = Rng::new(seed);
        while !ends.load(Ordering::Acquire) {
            let at = usize::try_from(rng.below(4)).expect("few");
            let (way, tally) = (WAYS[at], &tallies[at]);
            let mut command = placer();
            command.env("PLACER_STATE_DIR", &dir).env("PLACER_CONFIG", &config).args(way.args);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            *slot.lock().expect("not poisoned") = Some(command.spawn().expect("it starts"));
            let ended = loop {
                let mut child = slot.lock().expect("not poisoned");
                if child.as_mut().is_none_or(|one| one.try_wait().expect("a child").is_some()) {
                    break child.take();
                }
                drop(child);
                std::thread::sleep(Duration::from_millis(1));
            };
            let output = ended.expect("it was started").wait_with_output().expect("it ends");
            if output.status.code().is_none() {
                tally.killed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{way:?}: {said}");
            if said.contains("no claim was made") {
                continue;
            }
            tally.claimed.fetch_add(1, Ordering::Relaxed);
            if way.mib == 4 {
                // A guest's claim ends with it.
                tally.released.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let form: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let Some(id) = form["claim"].as_str().and_then(|id| id.parse().ok()) else { continue };
            let place = ClaimDirs::at(&dir);
            let claims = Claims::open_to_claim(&place, &SysRoot::live()).expect("a ledger");
            let (decision, _) = claims.begin(Duration::from_secs(60)).expect("the lock");
            match decision.release(id) {
                Ok(_) => tally.released.fetch_add(1, Ordering::Relaxed),
                Err(_) => tally.lost.fetch_add(1, Ordering::Relaxed),
            };
        }
    };
    let child = &mut daemon.child;
    std::thread::scope(|scope| {
        let (client, ends) = (&client, &ends);
        for (at, slot) in slots.iter().enumerate() {
            scope.spawn(move || client(slot, 1 + at as u64));
        }
        let mut rng = Rng::new(99);
        for _ in 0..kills {
            std::thread::sleep(Duration::from_micros(rng.below(40_000)));
            let one = usize::try_from(rng.below(2 * CLIENTS as u64)).expect("few");
            match slots.get(one) {
                Some(slot) => {
                    if let Some(client) = slot.lock().expect("not poisoned").as_mut() {
                        let _ = client.kill();
                    }
                }
                None => {
                    child.kill().and_then(|()| child.wait()).expect("killed");
                    *child = spawn(None, &dir, &config);
                }
            }
        }
        ends.store(true, Ordering::Release);
    });
    daemon.await_answer();
    let left = listed(&daemon);
    for (way, tally) in WAYS.iter().zip(&tallies) {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let (claimed, released, killed) =
            (of(&tally.claimed), of(&tally.released), of(&tally.killed));
        let left = left.iter().filter(|claim| claim["memory"] == way.mib << 20).count();
        println!(
            "{}: {claimed} claimed, {released} released, {killed} killed, {left} left",
            way.args[0]
        );
        assert_eq!(of(&tally.lost), 0, "{way:?}");
        if way.mib == 4 {
            assert_eq!(left, 0, "the guests have ended: {way:?}");
            continue;
        }
        // A client that was killed may have claimed, once, and its claim ends with its time.
        let expected = claimed - released;
        assert!((expected..=expected + killed).contains(&left), "{way:?}: {left} left, {tally:?}");
    }
    assert!(left.iter().all(|claim| claim["ends_in"].as_f64().is_some_and(|time| time <= 3600.0)));
}

#[test]
fn h4_no_kill_loses_doubles_or_leaves_a_claim_in_any_way() {
    no_kill_loses_doubles_or_leaves_a_claim(40);
}

#[test]
#[ignore = "minutes, 1,000 kills: make test-claims"]
fn h4_1000_kills_lose_double_and_leave_no_claim_in_any_way() {
    no_kill_loses_doubles_or_leaves_a_claim(1_000);
}
