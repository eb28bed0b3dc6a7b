//! What strangers, and accidents that look like them, can do to the state directory. Each gets an
//! answer in time; where nothing can be claimed nothing is, and one line on stderr says so.
//!
//! Asked about a recorded machine and, since only there CPU counters are saved in the same place,
//! about this one as well. What needs root or mounts is done in a mount namespace of its own.

use crate::common;
use needs::needs;
use testkit::machine;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use placer_engine::SysRoot;
use placer_engine::claims::{ClaimDirs, Claims, LOCK_TIMEOUT};

use common::{json, placer, run, text};
use machine::Machine;

const GIB: u64 = 1 << 20;
/// Far above what any answer takes (0.1 s of measuring, 0.25 s for the lock), far below for ever.
const IN_TIME: Duration = Duration::from_secs(20);
/// A user with no rights, and nobody's on most systems.
const STRANGER: &str = "65534";

/// A directory with a recorded machine of one node and a copy of the program, for everybody to use.
struct Stage {
    tmp: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let tmp = tempfile::tempdir().expect("a directory");
        fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).expect("set");
        Machine::new().node(0, 0..8, 8 * GIB, 5 * GIB).write(&tmp.path().join("host"));
        common::copy_program(common::program(), tmp.path().join("placer"));
        Self { tmp }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    /// Asks about the recorded machine, or about this one.
    fn ask(&self, recorded: bool, state: &Path, args: &[&str]) -> Output {
        let mut ask = placer();
        if recorded {
            ask.env("PLACER_ROOT", self.path("host"));
        }
        let start = Instant::now();
        let output = run(ask.env("PLACER_STATE_DIR", state).args(args));
        assert!(start.elapsed() < IN_TIME, "{args:?} took {:?}", start.elapsed());
        output
    }

    /// Asks for a hold of the recorded machine and, where it can be read, of this one. Each is
    /// answered without one, and a single line says why.
    fn refuses(&self, state: &Path, why: &str) {
        for recorded in [true, false] {
            if !recorded && !this_machine() {
                continue;
            }
            let output = self.ask(recorded, state, &["advise", "--hold", "30s", "1:1"]);
            answered_unclaimed(&output, why);
            // Nor is a question without a hold kept from its answer, nor numad's.
            for args in [&["advise", "1:1"][..], &["numad", "-w", "1:1"]] {
                let output = self.ask(recorded, state, args);
                assert_eq!(text(&output.stdout), "0\n", "{}", text(&output.stderr));
                assert!(text(&output.stderr).lines().count() <= 1, "{}", text(&output.stderr));
            }
        }
    }

    /// Runs a shell script as root, with mounts that nobody else sees. `$HOST` is the recorded
    /// machine, `$PLACER` the program, `$DIR` this directory. The test needs `root, private_mounts`.
    fn as_root(&self, script: &str) -> Output {
        let mut shell = Command::new("unshare");
        // `json COMMAND...` makes one line of the answer.
        let script = format!("json() {{ \"$@\" | tr -d '\\n'; echo; }}\n{script}");
        shell.args(["--mount", "--propagation", "private", "sh", "-euc", &script]);
        shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        shell.env("HOST", self.path("host")).env("PLACER", self.path("placer"));
        shell.env("DIR", self.tmp.path()).env("STRANGER", STRANGER);
        let start = Instant::now();
        let output = shell.output().expect("unshare");
        assert!(start.elapsed() < IN_TIME * 3, "{:?}", start.elapsed());
        output
    }
}

/// Whether this machine itself can be asked about: it is one with NUMA, and its first answer is 0.
fn this_machine() -> bool {
    let tmp = tempfile::tempdir().expect("a directory");
    let output = run(placer().env("PLACER_STATE_DIR", tmp.path()).args(["advise", "1:1"]));
    let able = output.stdout == b"0\n" && output.stderr.is_empty();
    if !able {
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        testkit::require::does_not_apply(format!("the answer for this machine is not 0: {said}"));
    }
    able
}

fn answered_unclaimed(output: &Output, why: &str) {
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "0\n"), "{said}");
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    assert!(said.starts_with("placer: warning: no claim was made: "), "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_symlink_in_place_of_the_state_directory() {
    let stage = Stage::new();
    let good = stage.path("good");
    fs::create_dir(&good).expect("made");
    symlink(&good, stage.path("link")).expect("a link");
    stage.refuses(&stage.path("link"), "expected a directory of ordinary files");
    assert_eq!(fs::read_dir(&good).expect("listed").count(), 0, "nothing was written through it");
}

#[test]
fn a_state_directory_that_others_can_write() {
    let stage = Stage::new();
    for mode in [0o777, 0o775, 0o1777] {
        let open = stage.path(&format!("open-{mode:o}"));
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, PermissionsExt::from_mode(mode)).expect("set");
        stage.refuses(&open, &format!("writable by group or others, mode {mode:04o}"));
        assert_eq!(fs::read_dir(&open).expect("listed").count(), 0, "nothing was written into it");
    }
}

#[needs(root)]
#[test]
fn a_state_directory_of_another_user() {
    let stage = Stage::new();
    let theirs = stage.path("theirs");
    fs::create_dir(&theirs).expect("made");
    fs::set_permissions(&theirs, PermissionsExt::from_mode(0o755)).expect("set");
    std::os::unix::fs::chown(&theirs, STRANGER.parse().ok(), None).expect("given away");
    stage.refuses(&theirs, &format!("found user {STRANGER}"));
}

#[test]
fn files_that_are_no_files_in_the_state_directory() {
    let stage = Stage::new();
    for name in ["claims.lock", "claims.jsonl", "load.json"] {
        let state = stage.path(&format!("with-{name}"));
        fs::create_dir(&state).expect("made");
        let made = Command::new("mkfifo").arg(state.join(name)).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo");
        if !this_machine() {
            return;
        }
        let output = stage.ask(false, &state, &["advise", "--hold", "5s", "1:1"]);
        assert_eq!(text(&output.stdout), "0\n", "{name}: {}", text(&output.stderr));
        assert!(text(&output.stderr).lines().count() <= 1, "{name}: {}", text(&output.stderr));
    }
}

const STATE: &str = "PLACER_TEST_STATE";
const ROOT: &str = "PLACER_TEST_ROOT";

/// Not a test: a process that has the lock and keeps it until its standard input ends.
#[test]
#[ignore = "holds a lock until it is told to end"]
fn a_holder() {
    let (Some(state), Some(root)) = (std::env::var_os(STATE), std::env::var_os(ROOT)) else {
        return;
    };
    let place = ClaimDirs { own: Some(PathBuf::from(state)), ..ClaimDirs::default() };
    let claims = Claims::open_to_claim(&place, &SysRoot::at(root)).expect("a ledger");
    let _decision = claims.begin(LOCK_TIMEOUT).expect("nobody else has the lock");
    writeln!(std::io::stderr(), "holds").expect("told");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Starts a process that has the lock.
fn holder(stage: &Stage, state: &Path) -> Child {
    let mut holder = Command::new(std::env::current_exe().expect("this program"));
    holder.args(["--ignored", "--exact", "strangers::a_holder", "--nocapture"]);
    holder.env(STATE, state).env(ROOT, stage.path("host"));
    holder.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut holder = holder.spawn().expect("it starts");
    let said = BufReader::new(holder.stderr.take().expect("a pipe")).lines();
    assert!(said.map_while(Result::ok).any(|line| line == "holds"), "it has the lock");
    holder
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &process.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill {name}");
}

#[test]
fn a_lock_holder_that_is_stopped() {
    let stage = Stage::new();
    let state = stage.path("state");
    let mut holder = holder(&stage, &state);
    signal(&holder, "-STOP");
    // All who ask get their answer, side by side.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let output = stage.ask(true, &state, &["advise", "--hold", "30s", "1:1"]);
                let why = format!("process {} has held it for ", holder.id());
                answered_unclaimed(&output, &why);
            });
        }
    });
    // Who only asks waits for nobody, and has nothing to complain about.
    let output = stage.ask(true, &state, &["advise", "1:1"]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("0\n".to_owned(), String::new()));
    holder.kill().expect("killed");
    holder.wait().expect("it ends");
    let output = stage.ask(true, &state, &["advise", "--json", "--hold", "30s", "1:1"]);
    assert!(json(&output)["claim"].is_string(), "its lock went with it");
}

#[needs(root, private_mounts)]
#[test]
fn a_lock_held_for_ever_by_another_user() {
    let stage = Stage::new();
    // A stranger may not open root's lock, not even to read; and if somebody loosened its mode and
    // he holds it for ever, root's answers come in time, without a claim.
    let output = stage.as_root(
        "state=$DIR/state; export PLACER_ROOT=$HOST PLACER_STATE_DIR=$state
         $PLACER advise --hold 30s 1:1
         lock=$(ls $state/*.lock)
         as_stranger() { setpriv --reuid $STRANGER --regid $STRANGER --clear-groups \"$@\"; }
         if as_stranger flock $lock true 2>/dev/null; then echo taken; else echo refused; fi
         chmod 666 $lock
         setpriv --reuid $STRANGER --regid $STRANGER --clear-groups flock -o $lock sleep 30 >/dev/null 2>&1 & holder=$!
         while flock -n $lock true; do sleep 0.02; done
         $PLACER advise --hold 30s 1:1
         kill $holder; wait $holder || true
         $PLACER advise --hold 30s 1:1
         stat -c %a $lock",
    );
    let said = text(&output.stderr);
    assert_eq!(text(&output.stdout), "0\nrefused\n0\n0\n600\n", "{said}");
    let said: Vec<&str> = said.lines().filter(|line| line.starts_with("placer:")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("no claim was made: cannot lock"), "{said:?}");
    assert!(said[0].contains(": process "), "who holds it is named: {said:?}");
}

#[needs(root, private_mounts)]
#[test]
fn a_full_file_system() {
    let stage = Stage::new();
    let output = stage.as_root(
        "mkdir $DIR/state; mount -t tmpfs -o size=16k,mode=755 none $DIR/state
         export PLACER_ROOT=$HOST PLACER_STATE_DIR=$DIR/state
         $PLACER advise --hold 60s 1:1G
         dd if=/dev/zero of=$DIR/state/rest bs=4k 2>/dev/null || true
         $PLACER advise --hold 60s 1:1G
         json $PLACER ps --json
         rm $DIR/state/rest
         $PLACER advise --hold 60s 1:1G
         json $PLACER ps --json
         ls -A $DIR/state | wc -l",
    );
    let said = text(&output.stderr);
    let stdout = text(&output.stdout);
    let answers: Vec<&str> = stdout.lines().collect();
    let claims = |line: &str| {
        let view: serde_json::Value = serde_json::from_str(line).expect("JSON");
        view["claims"].as_array().expect("claims").len()
    };
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("no claim was made: cannot write"), "{said}");
    assert!(said.trim_end().ends_with("No space left on device (os error 28)"), "{said}");
    assert_eq!(claims(answers[2]), 1, "the first claim is whole");
    assert_eq!(claims(answers[4]), 2, "with room again it goes on");
    assert_eq!((answers[0], answers[1], answers[3], answers[5]), ("0", "0", "0", "2"), "{stdout}");
}

#[needs(root, private_mounts)]
#[test]
fn a_full_file_system_on_this_machine_says_one_thing() {
    let stage = Stage::new();
    if !this_machine() {
        return;
    }
    let output = stage.as_root(
        "mkdir $DIR/state; mount -t tmpfs -o size=8k,mode=755 none $DIR/state
         export PLACER_STATE_DIR=$DIR/state
         dd if=/dev/zero of=$DIR/state/rest bs=4k 2>/dev/null || true
         $PLACER advise --hold 60s 1:1
         mount -o remount,ro $DIR/state
         $PLACER advise --hold 60s 1:1
         $PLACER advise 1:1",
    );
    let said = text(&output.stderr);
    assert_eq!((text(&output.stdout).as_str(), said.lines().count()), ("0\n0\n0\n", 3), "{said}");
    let unclaimed = said.lines().filter(|line| line.contains("no claim was made: cannot"));
    assert_eq!(unclaimed.count(), 2, "{said}");
}

#[needs(root, private_mounts)]
#[test]
fn a_read_only_file_system() {
    let stage = Stage::new();
    let output = stage.as_root(
        "mkdir $DIR/state; mount -t tmpfs -o size=64k,mode=755 none $DIR/state
         export PLACER_ROOT=$HOST PLACER_STATE_DIR=$DIR/state
         $PLACER advise --hold 60s 1:4G
         mount -o remount,ro $DIR/state
         $PLACER advise --hold 60s 1:1
         $PLACER advise 1:1G
         PLACER_STATE_DIR=$DIR/state/missing $PLACER advise --hold 60s 1:1
         PLACER_STATE_DIR=$DIR/state/missing $PLACER advise 1:1",
    );
    let said = text(&output.stderr);
    assert_eq!(text(&output.stdout), "0\n0\n0\n0\n0\n", "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].contains("no claim was made: cannot open"), "{said}");
    assert!(lines[1].contains("do not fit on node 0"), "what was claimed counts: {said}");
    assert!(lines[2].contains("no claim was made: cannot make the directory"), "{said}");
    assert!(lines[0].contains("Read-only") && lines[2].contains("Read-only"), "{said}");
}

#[needs(root, private_mounts)]
#[test]
fn a_user_who_claims_the_whole_host_without_a_daemon() {
    let stage = Stage::new();
    // /run is a new one: root's claims lie in /run/placer and nowhere else.
    let output = stage.as_root(
        "mount -t tmpfs -o mode=755 none /run; export PLACER_ROOT=$HOST
         mkdir /run/user; mkdir -m 700 /run/user/1; chown $STRANGER /run/user/1
         as_stranger() {
             XDG_RUNTIME_DIR=/run/user/1 \
                 setpriv --reuid $STRANGER --regid $STRANGER --clear-groups \"$@\"
         }
         json as_stranger $PLACER advise --json --hold 60s 1:4G
         json as_stranger $PLACER advise --json 1:2G
         XDG_RUNTIME_DIR=/run/user/1 json $PLACER advise --json --hold 60s 1:3G
         json as_stranger $PLACER ps --json
         json $PLACER ps --json
         ls -A /run/user/1/placer | wc -l; stat -c '%a %u' /run/placer /run/placer/*.lock
         as_stranger sh -c 'echo x >>/run/placer/claims.jsonl' 2>/dev/null || echo kept out",
    );
    let stdout = text(&output.stdout);
    let said = text(&output.stderr);
    let lines: Vec<&str> = stdout.lines().collect();
    let form = |at: usize| -> serde_json::Value { serde_json::from_str(lines[at]).expect("JSON") };
    assert_eq!((&form(0)["fits"], form(0)["claim"].is_string()), (&true.into(), true), "{said}");
    assert_eq!(form(1)["fits"], false, "his own guests are protected from one another");
    assert_eq!(form(2)["fits"], true, "root's are not affected");
    assert!(form(2)["claim"].is_string(), "{said}");
    assert_eq!(form(3)["claims"].as_array().map(Vec::len), Some(2), "he reads root's claims");
    assert_eq!(form(4)["claims"].as_array().map(Vec::len), Some(1), "root does not read his");
    assert_eq!(lines[5..], ["2", "755 0", "600 0", "kept out"], "{said}");
    assert_eq!(said.lines().count(), 1, "his second does not fit, and no more: {said}");
}

#[needs(root, private_mounts)]
#[test]
fn a_user_whose_own_directory_is_bad_still_counts_roots_claims() {
    let stage = Stage::new();
    let output = stage.as_root(
        "mount -t tmpfs -o mode=755 none /run; export PLACER_ROOT=$HOST
         mkdir /run/user; mkdir -m 700 /run/user/1; chown $STRANGER /run/user/1
         mkdir -m 777 /run/user/1/placer; chown $STRANGER /run/user/1/placer
         chmod 777 /run/user/1/placer
         as_stranger() {
             XDG_RUNTIME_DIR=/run/user/1 \
                 setpriv --reuid $STRANGER --regid $STRANGER --clear-groups \"$@\"
         }
         $PLACER advise --hold 60s 1:4G
         json as_stranger $PLACER advise --json 1:2G
         chmod 755 /run/user/1/placer; chmod 777 /run/placer
         json as_stranger $PLACER advise --json --hold 60s 1:2G",
    );
    let stdout = text(&output.stdout);
    let said = text(&output.stderr);
    let lines: Vec<&str> = stdout.lines().collect();
    let form = |at: usize| -> serde_json::Value { serde_json::from_str(lines[at]).expect("JSON") };
    assert_eq!(form(1)["fits"], false, "root's 4 GiB are gone: {said}");
    let claimed = &form(2);
    assert!(claimed["fits"] == true && claimed["claim"].is_string(), "his own are kept: {said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.iter().any(|line| line.contains("claims are not counted: cannot use")), "{said}");
    let theirs = "claims of another user are not counted: cannot use /run/placer: writable";
    assert!(lines.iter().any(|line| line.contains(theirs)), "{said}");
    assert_eq!(lines.len(), 3, "and that 2 GiB do not fit: {said}");
}

/// Batch scripts select a state directory by `PLACER_STATE_DIR`, without a login session.
#[needs(root, private_mounts)]
#[test]
fn a_user_with_a_state_directory_of_its_own_still_counts_roots_claims() {
    let stage = Stage::new();
    let output = stage.as_root(
        "mount -t tmpfs -o mode=755 none /run; export PLACER_ROOT=$HOST
         mkdir -m 700 /run/batch; chown $STRANGER /run/batch
         as_stranger() {
             PLACER_STATE_DIR=/run/batch \
                 setpriv --reuid $STRANGER --regid $STRANGER --clear-groups \"$@\"
         }
         json as_stranger $PLACER advise --json 1:2G
         $PLACER advise --hold 60s 1:4G
         json as_stranger $PLACER advise --json 1:2G
         json as_stranger $PLACER ps --json
         chmod 777 /run/placer
         json as_stranger $PLACER advise --json 1:2G",
    );
    let (stdout, said) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<&str> = stdout.lines().collect();
    let form = |at: usize| -> serde_json::Value { serde_json::from_str(lines[at]).expect("JSON") };
    assert_eq!(form(0)["fits"], true, "nothing is claimed yet: {said}");
    assert_eq!(form(2)["fits"], false, "root's 4 GiB are gone: {said}");
    let claims = form(3)["claims"].as_array().expect("a list").len();
    assert_eq!(claims, 1, "root's is listed: {stdout}");
    // A ledger of root's that cannot be trusted is not left out in silence.
    assert!(
        said.contains("claims of another user are not counted: cannot use /run/placer"),
        "{said}"
    );
}

#[test]
fn a_ledger_of_100_mb() {
    let stage = Stage::new();
    let state = stage.path("state");
    let first = stage.ask(true, &state, &["advise", "--hold", "300s", "1:1"]);
    assert_eq!(text(&first.stderr), "");
    let ledger = fs::read_dir(&state)
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .expect("a ledger");
    let line = fs::read(&ledger).expect("one claim");
    fs::write(&ledger, line.repeat(100_000_000 / line.len())).expect("100 MB of good lines");
    // In 150 MB of address space, of which the program and its libraries take most.
    let bounded = |args: &str| {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            &format!("ulimit -v 150000; exec {} {args}", stage.path("placer").display()),
        ]);
        shell.env("PLACER_ROOT", stage.path("host")).env("PLACER_STATE_DIR", &state);
        let start = Instant::now();
        let output = run(&mut shell);
        assert!(start.elapsed() < IN_TIME, "{:?}", start.elapsed());
        output
    };
    answered_unclaimed(&bounded("advise --hold 30s 1:1"), "expected at most 8388608 bytes");
    let output = bounded("advise 1:1");
    let said = text(&output.stderr);
    assert_eq!((text(&output.stdout).as_str(), said.lines().count()), ("0\n", 1), "{said}");
    assert!(said.contains("what comes after is not counted"), "{said}");
    // As large as a ledger may be, of lines that are none, and of one line.
    for content in [b"x\n".repeat(4 << 20), vec![b'['; 8 << 20]] {
        fs::write(&ledger, content).expect("written");
        let output = bounded("advise 1:1");
        assert_eq!(text(&output.stdout), "0\n", "{}", text(&output.stderr));
        assert!(text(&output.stderr).lines().count() <= 1, "{}", text(&output.stderr));
    }
}

const THREADS: &str = "PLACER_TEST_THREADS";

/// Not a test: a process with many threads, until its standard input ends.
#[test]
#[ignore = "has many threads until it is told to end"]
fn a_crowd() {
    let count = std::env::var(THREADS).ok().and_then(|count| count.parse::<u32>().ok());
    let Some(count) = count else { return };
    let sleep = || loop {
        std::thread::park();
    };
    let spawn = || std::thread::Builder::new().stack_size(16 << 10).spawn(sleep);
    let started = (0..count).map_while(|_| spawn().ok()).count();
    writeln!(std::io::stderr(), "{started} threads").expect("written");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Root's holds beside 64 claims for one process of a stranger's with so many threads: how long the
/// fastest of 20 takes where the claims are for this process, and where they are for that one.
/// `None` where this machine does not answer 0.
fn beside_a_crowd(threads: u32) -> Option<(Duration, Duration)> {
    let stage = Stage::new();
    if !this_machine() {
        return None;
    }
    let program = stage.path("crowd");
    common::copy_program(std::env::current_exe().expect("this program"), &program);
    let mut crowd = Command::new("setpriv");
    crowd.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups"]).arg(&program);
    crowd.args(["--ignored", "--exact", "strangers::a_crowd", "--nocapture"]);
    crowd.env(THREADS, threads.to_string()).current_dir(stage.tmp.path());
    crowd.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut crowd = crowd.spawn().expect("it starts");
    let mut said = BufReader::new(crowd.stderr.take().expect("a pipe")).lines();
    let started = said.find_map(|line| {
        line.ok()?.strip_suffix(" threads").and_then(|count| count.parse::<u32>().ok())
    });
    assert!(started.is_some_and(|count| count * 2 > threads), "{started:?} threads");
    let hold = |state: &Path| {
        let start = Instant::now();
        let output = stage.ask(false, state, &["advise", "--json", "--hold", "60s", "0:1"]);
        let took = start.elapsed();
        assert!(json(&output)["claim"].is_string(), "claimed: {}", text(&output.stderr));
        took
    };
    let claim_for = |state: &Path, pid: u32, uid: u32| {
        let place = ClaimDirs { own: Some(state.to_owned()), ..ClaimDirs::default() };
        let claims = Claims::open_to_claim(&place, &SysRoot::live()).expect("a ledger");
        let snapshot = placer_engine::Snapshot::take(&SysRoot::live(), Duration::ZERO);
        let snapshot = snapshot.expect("this machine");
        let request = "0:1".parse::<placer_engine::Request>().expect("a request");
        let advice = placer_engine::advise(&snapshot, &request).expect("an answer");
        for _ in 0..64 {
            let (mut decision, _) = claims.begin(LOCK_TIMEOUT).expect("nobody else has the lock");
            let caller = placer_engine::claims::Caller { uid, ..decision.caller(pid, uid) };
            let who = placer_engine::claims::ClaimOwner::Pid(pid);
            decision.claim(&request, &advice, who, caller, None).expect("claimed");
        }
    };
    let fastest = |state: &Path| (0..20).map(|_| hold(state)).min().expect("20");
    let stranger = STRANGER.parse().expect("a number");
    let (plain, crowded) = (stage.path("plain"), stage.path("crowded"));
    claim_for(&plain, std::process::id(), stranger);
    claim_for(&crowded, crowd.id(), stranger);
    let (before, beside) = (fastest(&plain), fastest(&crowded));
    crowd.kill().expect("killed");
    crowd.wait().expect("it ends");
    eprintln!("{threads} threads: {before:?} without, {beside:?} beside 64 claims of theirs");
    Some((before, beside))
}

#[needs(root, setpriv)]
#[test]
fn claims_for_a_process_of_many_threads_do_not_slow_down_roots_holds() {
    // Each look at all of its threads would take a millisecond, and there would be a hundred.
    let Some((before, beside)) = beside_a_crowd(3000) else { return };
    assert!(beside < before * 2 + Duration::from_millis(2), "{before:?}, {beside:?}");
}

#[test]
#[ignore = "15,000 threads: make test-daemon"]
fn claims_for_a_process_of_15_000_threads_do_not_slow_down_roots_holds() {
    let Some((before, beside)) = beside_a_crowd(15_000) else { return };
    assert!(beside <= before * 2, "{before:?}, {beside:?}");
}

#[test]
fn too_few_descriptors() {
    let stage = Stage::new();
    for limit in 5..24 {
        let mut shell = Command::new("sh");
        let program = stage.path("placer");
        let script = format!("ulimit -n {limit}; exec {} advise --hold 5s 1:1", program.display());
        shell.args(["-c", &script]).env("PLACER_ROOT", stage.path("host"));
        shell.env("PLACER_STATE_DIR", stage.path("state"));
        let start = Instant::now();
        let output = run(&mut shell);
        assert!(start.elapsed() < IN_TIME, "{:?}", start.elapsed());
        let said = text(&output.stderr);
        assert!(said.lines().count() <= 1, "{limit}: {said}");
        match output.status.code() {
            Some(0) => assert_eq!(text(&output.stdout), "0\n", "{limit}: {said}"),
            code => assert!(code == Some(2) && said.contains("os error 24"), "{limit}: {said}"),
        }
    }
}

/// A file of mode 4777 that a stranger planted must not become a file of root's with that mode: a
/// shared mapping of it can still be written, and is then run as root.
#[needs(root)]
#[test]
fn a_planted_set_id_file_does_not_give_its_mode_to_a_picture() {
    let stranger = STRANGER.parse().ok();
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).expect("set");
    let ring = common::fixture("ring-4");
    let guests = ["--host", "2x4x8G", "--guests", "20", "--rules", "best", "--times=no"];
    let writers: [(&[&str], &str); 5] = [
        (&["show"], "--svg"),
        (&["show"], "--html"),
        (&["advise", "1:1", "--explain"], "--svg"),
        (&["advise", "1:1", "--explain"], "--html"),
        (&["replay"], "--html"),
    ];
    for (command, flag) in writers {
        let path = dir.path().join("planted");
        let ask = || {
            let mut ask = placer();
            ask.args(command).arg(flag).arg(&path);
            match command {
                ["replay"] => ask.args(guests),
                _ => ask.arg("--root").arg(&ring),
            };
            run(&mut ask)
        };
        fs::write(&path, "planted").expect("written");
        std::os::unix::fs::chown(&path, stranger, stranger).expect("given away");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o4777)).expect("set");
        let output = ask();
        assert!(output.status.success(), "{command:?} {flag}: {}", text(&output.stderr));
        let written = fs::metadata(&path).expect("there");
        assert_eq!(written.uid(), 0, "{command:?} {flag}");
        assert_eq!(written.permissions().mode() & 0o7111, 0, "{command:?} {flag}");
        assert!(written.len() > 100, "{command:?} {flag}");

        // Nor is a link followed, or a pipe waited for.
        fs::remove_file(&path).expect("removed");
        symlink(dir.path().join("target"), &path).expect("linked");
        assert_eq!(ask().status.code(), Some(2), "{command:?} {flag}");
        fs::remove_file(&path).expect("removed");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert_eq!(ask().status.code(), Some(2), "{command:?} {flag}");
        fs::remove_file(&path).expect("removed");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0, "{command:?} {flag}");
    }
}
