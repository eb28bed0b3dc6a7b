//! `placer nri` and a container runtime: what is called, in which order and in which frames, and what becomes of holds.

mod runtime;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use placer::nri::messages::{
    Container, ContainerRequest, Memory, Resources, Signed, StateChange, Status,
    SynchronizeRequest, SynchronizeResponse, UpdateContainerResponse,
};
use placer_engine::SysRoot;
use placer_engine::claims::{ClaimDirs, Claims};
use prost::Message as _;

use runtime::{Host, LONG, Link, MIB, annotated, container, note, place, running};

const SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
const NOTHING: Status = Status { code: 0, message: String::new() };

/// A process that stands for a container's.
struct Init(Child);

impl Init {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("it starts"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hold(claims: &[serde_json::Value]) -> usize {
    claims.iter().filter(|claim| claim["kind"] == "hold").count()
}

#[test]
fn calls_may_come_before_registration_is_answered_and_in_any_frames() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&["--index", "7"]);
    let mut link = host.accept();
    let (call, registration) = link.registration();
    assert_eq!((&*registration.plugin_name, &*registration.plugin_idx), ("placer", "07"));
    link.cut = 3;
    let events: placer::nri::messages::ConfigureResponse =
        link.call("Configure", &NOTHING).expect("configured");
    assert_eq!(events.events, 0x6a8);
    link.registered(call, None);
    // What there is comes in several parts.
    let request = SynchronizeRequest { more: true, ..SynchronizeRequest::default() };
    let answer: SynchronizeResponse = link.call("Synchronize", &request).expect("in sync");
    assert!(answer.more, "the next part is taken as well");
    link.synchronize(&[]);

    let code = |answer: Result<Vec<u8>, Status>| answer.expect_err("refused").code;
    assert_eq!(code(link.call_raw(SERVICE, "Else", Vec::new())), 12);
    assert_eq!(code(link.call_raw("another.Service", "Configure", Vec::new())), 12);
    assert_eq!(code(link.call_raw(SERVICE, "CreateContainer", b"\xff\xff".to_vec())), 3);
    assert_eq!(link.call_raw(SERVICE, "Shutdown", Vec::new()), Ok(Vec::new()));
    // A pod's event, and one of a container that is not there.
    for event in [1, 6, 11, 99] {
        let change = StateChange { event, ..StateChange::default() };
        assert_eq!(link.call_raw(SERVICE, "StateChange", change.encode_to_vec()), Ok(Vec::new()));
    }
    // An answer of 20 kB: the link reads no frame of more than 4,096 bytes.
    let method = "x".repeat(20_000);
    link.cut = 65_536;
    let status = link.call_raw(SERVICE, &method, Vec::new()).expect_err("refused");
    assert!(status.message.ends_with(&method) && link.longest > 4000, "{}", link.longest);
    // And it goes on.
    assert_eq!(link.call_raw(SERVICE, "Shutdown", Vec::new()), Ok(Vec::new()));
}

#[test]
fn a_container_is_placed_held_claimed_and_ended() {
    let host = Host::new("ring-4");
    let mut plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    let init = [Init::start(), Init::start()];
    let mut placed = Vec::new();
    for (name, init) in ["a", "b"].into_iter().zip(&init) {
        let created = link.create(&container(name, 1024, 150 * MIB, -997)).expect("created");
        let (cpus, mems) = place(&created);
        assert!(!cpus.is_empty() && !mems.is_empty() && note(&created).is_none(), "{created:?}");
        let env = format!("PLACER_NODES={mems}");
        assert_eq!(created.container.as_ref().map(|one| one.env.clone()), Some(vec![env]));
        let claims = host.claims();
        assert_eq!(hold(&claims), 1, "{claims:#?}");
        let held = claims.iter().find(|claim| claim["kind"] == "hold").expect("there");
        assert_eq!(
            (&held["nodes"], held["memory"].as_i64()),
            (&mems.clone().into(), Some(150 * MIB))
        );
        let id = held["id"].clone();
        let started = running(created, init.pid());
        // By its name from newer runtimes, else as a change of state.
        if name == "a" {
            assert_eq!(link.call::<Status>("StartContainer", &started), Ok(NOTHING));
        } else {
            let ContainerRequest { pod, container, .. } = started.clone();
            let change = StateChange { event: 6, pod, container };
            assert_eq!(link.call::<Status>("StateChange", &change), Ok(NOTHING));
        }
        let claims = host.wait_for("its claim", |claims| hold(claims) == 0);
        let claim = claims.iter().find(|claim| claim["pid"] == init.pid()).expect("there");
        assert_eq!(claim["id"], id, "the hold itself");
        placed.push((started, mems));
    }
    assert_ne!(placed[0].1, placed[1].1, "two do not fit on one node");

    assert_eq!(link.call::<Status>("StopContainer", &placed[0].0), Ok(NOTHING));
    host.wait_for("one has ended", |claims| claims.len() == 1);
    // It is said twice that a container has ended.
    assert_eq!(link.call::<Status>("RemoveContainer", &placed[0].0), Ok(NOTHING));
    let ContainerRequest { pod, container, .. } = placed[1].0.clone();
    let change = StateChange { event: 11, pod, container };
    assert_eq!(link.call::<Status>("StateChange", &change), Ok(NOTHING));
    host.wait_for("both have ended", <[_]>::is_empty);

    kill(Pid::from_raw(plugin.0.id().cast_signed()), Signal::SIGTERM).expect("sent");
    assert_eq!(plugin.0.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_does_not_ask_is_left_alone_and_what_does_not_fit_gets_a_note_or_is_refused() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    let mut fixed = container("fixed", 1024, 100 * MIB, -997);
    let resources = |asked: &mut ContainerRequest| {
        let linux = asked.container.as_mut().and_then(|one| one.linux.as_mut());
        linux.and_then(|linux| linux.resources.as_mut()).and_then(|all| all.cpu.as_mut()).map(
            |cpu| {
                cpu.cpus = "0-1".to_owned();
            },
        )
    };
    resources(&mut fixed).expect("there");
    let mut dra = container("dra", 1024, 100 * MIB, -997);
    dra.container.as_mut().expect("there").env.push("DRA_CPUSET_c=0-1".to_owned());
    for alone in [fixed, dra, container("best-effort", 2, 0, 1000), container("unlimited", 0, 0, 0)]
    {
        assert_eq!(link.create(&alone), Ok(alone));
    }
    let short =
        |text: &str| text.contains("3.0 GiB do not fit on nodes 0-3") && text.ends_with(" short");
    let large = container("large", 1024, 3 << 30, -997);
    let created = link.create(&large).expect("created");
    assert_eq!(place(&created), Default::default(), "unplaced");
    assert!(short(note(&created).expect("a note")), "{created:?}");
    let strict = annotated(large.clone(), "org.placer.strict", "true");
    let Status { code, message } = link.create(&strict).expect_err("refused");
    assert!(code == 8 && message.starts_with("placer: ") && short(&message), "{code} {message}");
    // What cannot be understood is said, and refused only where strictness can.
    let wrong = annotated(large, "org.placer.request", "4:8GB");
    let created = link.create(&wrong).expect("created");
    assert!(note(&created).is_some_and(|note| note.ends_with("write 4:8G")), "{created:?}");
    let strict = annotated(wrong, "org.placer.strict", "true");
    assert_eq!(link.create(&strict).expect_err("refused").code, 3);
    let odd = annotated(container("odd", 1024, 50 * MIB, -997), "org.placer.strict", "yes");
    let created = link.create(&odd).expect("created");
    assert!(
        note(&created).is_some_and(|note| note.contains("expected true or false")),
        "{created:?}"
    );
    assert!(!place(&created).0.is_empty(), "and placed");
    assert_eq!(host.claims().len(), 1, "no other hold");
}

/// Memory is bound only where all of the limit is claimed: else the container would be ended for want of memory on its
/// nodes while others have some.
#[test]
fn memory_is_bound_under_a_claim_of_the_limit_alone() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    let request = |asked, text| annotated(asked, "org.placer.request", text);
    let limited = |name| container(name, 1024, 100 * MIB, -997);
    for (asked, memory, bound) in [
        (limited("all"), 100, true),
        (request(limited("more"), "1:120"), 120, true),
        (request(limited("less"), "1:50"), 50, false),
        (request(container("free", 2, 0, 1000), "1:50"), 50, false),
        // Burstable: 2 % of 1.1 GiB, also where its limit does not fit.
        (container("burstable", 512, 0, 980), 21, false),
        (container("overcommitted", 512, 3 << 30, 980), 21, false),
    ] {
        let created = link.create(&asked).expect("created");
        let (cpus, mems) = place(&created);
        assert_eq!((cpus.is_empty(), mems.is_empty()), (false, !bound), "{created:?}");
        let claims = host.claims();
        let of = |claim: &serde_json::Value| claim["memory"].as_i64().map(|memory| memory / MIB);
        assert!(claims.iter().any(|claim| of(claim) == Some(memory)), "{memory}: {claims:#?}");
        // It does not start.
        link.call::<Status>("RemoveContainer", &created).expect("taken");
        host.wait_for("its hold has ended", <[_]>::is_empty);
    }
}

#[test]
fn a_hold_whose_answer_is_lost_is_released_and_the_plugin_comes_back() {
    let mut host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    for round in 0..5 {
        let mut link = host.accept();
        link.take_in(&[]);
        assert_eq!(host.wait_for("no hold", <[_]>::is_empty).len(), 0);
        let asked = container(&format!("c{round}"), 1024, 100 * MIB, -997).encode_to_vec();
        match round {
            // Closed before the answer, in the middle of a call, and after the answer.
            0 => _ = link.begin(SERVICE, "CreateContainer", asked).expect("sent"),
            1 => {
                link.cut = 7;
                _ = link.begin(SERVICE, "CreateContainer", asked).expect("sent");
                _ = link.begin(SERVICE, "CreateContainer", vec![0; 100]).expect("sent");
            }
            2 => _ = link.call_raw(SERVICE, "CreateContainer", asked).expect("created"),
            3 => host.restart(),
            _ => {}
        }
    }
    let mut link = host.accept();
    link.take_in(&[]);
    host.wait_for("no hold", <[_]>::is_empty);
}

#[test]
fn a_message_that_is_too_long_ends_the_connection_alone() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    link.cut = 1 << 20;
    // The plugin closes before all of it was sent.
    let _ = link.begin(SERVICE, "Synchronize", vec![0; (4 << 20) + 1]);
    assert_eq!(link.next(), None);
    host.accept().take_in(&[]);
}

#[test]
fn a_plugin_that_is_refused_tries_again() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    for _ in 0..3 {
        let mut link = host.accept();
        let (call, _) = link.registration();
        link.registered(call, Some(Status { code: 2, message: "no".to_owned() }));
        assert_eq!(link.next(), None);
    }
    host.accept().take_in(&[]);
}

/// The ledger is locked by another process for longer than a decision may take.
#[test]
fn a_decision_without_the_ledger_is_answered_in_time_and_leaves_nothing() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    let dirs = ClaimDirs::at(host.state());
    let root = SysRoot::at(host.root());
    let claims = Claims::open_to_claim(&dirs, &root).expect("a ledger");
    let (locked, _) = claims.begin(LONG).expect("locked");
    let asked = container("late", 1024, 100 * MIB, -997);
    let strict = annotated(asked.clone(), "org.placer.strict", "true");
    // The best of several: other work on this machine is not the plugin's.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let created = link.create(&asked).expect("created");
        best = best.min(start.elapsed());
        assert_eq!(place(&created), Default::default(), "unplaced without a claim: {created:?}");
        assert!(note(&created).is_some(), "{created:?}");
        assert_eq!(link.create(&strict).expect_err("refused").code, 14);
    }
    drop(locked);
    println!("answered after {best:?}");
    // The runtime drops a plugin after 2 s. The lock was there until all were answered.
    assert!(best < Duration::from_secs(2), "{best:?}");
    host.wait_for("no hold", <[_]>::is_empty);
    let created = link.create(&container("next", 1024, 100 * MIB, -997)).expect("created");
    assert_eq!(place(&created).0.is_empty(), note(&created).is_some(), "{created:?}");
}

#[test]
fn after_a_kill_the_plugin_is_in_sync_and_moves_nothing() {
    let host = Host::new("sixteen");
    let mut plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    let inits: Vec<Init> = (0..50).map(|_| Init::start()).collect();
    let mut all = Vec::new();
    for (at, init) in inits.iter().enumerate() {
        let created =
            link.create(&container(&format!("c{at}"), 100, 5 * MIB, -997)).expect("created");
        assert_eq!(note(&created), None);
        let started = running(created, init.pid());
        assert_eq!(link.call::<Status>("StartContainer", &started), Ok(NOTHING));
        all.push(started);
    }
    let before = host.wait_for("all are claimed", |claims| claims.len() == 50 && hold(claims) == 0);
    plugin.0.kill().expect("killed");
    plugin.0.wait().expect("ended");
    drop(link);

    // The best of several: other work on this machine is not the plugin's.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let plugin = host.plugin(&[]);
        let mut link = host.accept();
        link.take_in(&[]);
        let start = Instant::now();
        link.synchronize(&all);
        // It is decided on what was found: after that.
        let next = link.create(&container("next", 100, MIB, -997)).expect("created");
        best = best.min(start.elapsed());
        assert_eq!(note(&next), None);
        link.call::<Status>("RemoveContainer", &next).expect("taken");
        host.wait_for("only they are claimed", |claims| claims.len() == 50);
        drop((link, plugin));
    }
    println!("50 containers are in sync, and another is placed, after {best:?}");
    assert!(best < Duration::from_millis(200), "{best:?}");
    let ids = |claims: &[serde_json::Value]| -> Vec<_> {
        claims.iter().map(|claim| (claim["id"].clone(), claim["nodes"].clone())).collect()
    };
    assert_eq!(ids(&host.claims()), ids(&before));

    // Claims that are missing are made again, where the containers are.
    for claim in before.iter().take(20) {
        let id = claim["id"].as_str().expect("an id");
        assert_eq!(host.ask(&["release", id]).status.code(), Some(0));
    }
    let _plugin = host.plugin(&[]);
    host.accept().take_in(&all);
    let after = host.wait_for("all are claimed", |claims| claims.len() == 50);
    let places = |claims: &[serde_json::Value]| {
        let of = |claim: &serde_json::Value| {
            ["pid", "nodes", "memory", "cpus", "roaming"].map(|key| claim[key].to_string())
        };
        let mut places: Vec<_> = claims.iter().map(of).collect();
        places.sort();
        places
    };
    assert_eq!(places(&after), places(&before));
}

fn mems(one: &placer::nri::messages::Update) -> Option<String> {
    let linux = one.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    linux.and_then(|all| all.cpu.as_ref()).map(|cpu| cpu.mems.clone())
}

#[test]
fn a_container_of_another_size_is_claimed_with_that_or_is_bound_no_more() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    let init = Init::start();
    let created = link.create(&container("grows", 1024, 100 * MIB, -997)).expect("created");
    let mut started = running(created, init.pid());
    assert_eq!(link.call::<Status>("StartContainer", &started), Ok(NOTHING));
    let claims = host.wait_for("its claim", |claims| hold(claims) == 0 && claims.len() == 1);
    let mut resize = |limit: i64| {
        let memory = Memory { limit: Some(Signed { value: limit }) };
        started.resources = Some(Resources { memory: Some(memory), ..Resources::default() });
        let answer = link.call::<UpdateContainerResponse>("UpdateContainer", &started);
        answer.expect("answered").update
    };
    assert_eq!(resize(200 * MIB), []);
    let after = host.claims();
    assert_eq!((after.len(), after[0]["memory"].as_i64()), (1, Some(200 * MIB)));
    for same in ["pid", "kind", "nodes", "cpus"] {
        assert_eq!(after[0][same], claims[0][same], "{same}");
    }
    let update = resize(1000 * MIB);
    assert_eq!(update.iter().map(mems).collect::<Vec<_>>(), [Some("0-3".to_owned())]);
    assert_eq!(host.claims()[0]["memory"].as_i64(), Some(200 * MIB), "as before");
    assert_eq!(resize(50 * MIB), []);
    assert_eq!(host.claims()[0]["memory"].as_i64(), Some(50 * MIB));
    // Without a limit nothing covers it.
    let update = resize(-1);
    assert_eq!(update.iter().map(mems).collect::<Vec<_>>(), [Some("0-3".to_owned())]);
    assert_eq!(host.claims()[0]["memory"].as_i64(), Some(0));
}

/// A claim of an annotation does not grow with the limit, and a claim that is gone covers nothing.
#[test]
fn memory_is_bound_no_more_where_no_claim_covers_the_new_limit() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    for (name, lost) in [("asks", None), ("lost", Some("claim")), ("unread", Some("ledger"))] {
        let asked = container(name, 1024, 100 * MIB, -997);
        let asked = match lost {
            None => annotated(asked, "org.placer.request", "1:100"),
            Some(_) => asked,
        };
        let created = link.create(&asked).expect("created");
        assert!(!place(&created).1.is_empty(), "bound: {created:?}");
        let init = Init::start();
        let mut started = running(created, init.pid());
        assert_eq!(link.call::<Status>("StartContainer", &started), Ok(NOTHING));
        let claims = host.wait_for("its claim", |claims| hold(claims) == 0 && claims.len() == 1);
        match lost {
            Some("claim") => {
                let id = claims[0]["id"].as_str().expect("an id");
                assert_eq!(host.ask(&["release", id]).status.code(), Some(0));
            }
            // It cannot be read.
            Some(_) => {
                let files = std::fs::read_dir(host.state()).expect("there");
                let mut files = files.map(|file| file.expect("a file").path());
                let ledger = files.find(|file| file.extension().is_some_and(|e| e == "jsonl"));
                let ledger = ledger.expect("a ledger");
                std::fs::remove_file(&ledger).expect("removed");
                std::fs::create_dir(&ledger).expect("made");
            }
            None => {}
        }
        let memory = Memory { limit: Some(Signed { value: 110 * MIB }) };
        started.resources = Some(Resources { memory: Some(memory), ..Resources::default() });
        let answer = link.call::<UpdateContainerResponse>("UpdateContainer", &started);
        let update = answer.expect("answered").update;
        assert_eq!(
            update.iter().map(mems).collect::<Vec<_>>(),
            [Some("0-3".to_owned())],
            "{lost:?}"
        );
        if lost != Some("ledger") {
            link.call::<Status>("RemoveContainer", &started).expect("taken");
            host.wait_for("it has ended", <[_]>::is_empty);
        }
    }
}

/// What one plugin has placed is not placed by the next.
#[test]
fn a_second_plugin_leaves_alone_what_the_first_has_placed() {
    let host = Host::new("ring-4");
    let _first = host.plugin(&["--index", "10"]);
    let mut first = host.accept();
    first.take_in(&[]);
    let _second = host.plugin(&["--index", "20"]);
    let mut second = host.accept();
    second.take_in(&[]);
    let created = first.create(&container("both", 1024, 100 * MIB, -997)).expect("created");
    assert_eq!(second.create(&created), Ok(created.clone()));
    assert_eq!(host.claims().len(), 1);
}

/// As containerd starts it: by the name of the file in its folder, with a connection.
#[test]
fn a_runtime_starts_the_plugin_with_a_connection() {
    let host = Host::new("ring-4");
    let program = host.dir.path().join("42-placer");
    std::os::unix::fs::symlink(crate::common::program(), &program).expect("linked");
    let (mut link, theirs) = Link::pair();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" 3<&0 </dev/null"]).arg(&program).stdin(theirs);
    command.env("PLACER_ROOT", host.root()).env("PLACER_STATE_DIR", host.state());
    command.env("PLACER_CONFIG", crate::common::SHIPPED);
    command
        .env("NRI_PLUGIN_SOCKET", "3")
        .env("NRI_PLUGIN_NAME", "placer")
        .env("NRI_PLUGIN_IDX", "42");
    let mut child = command.spawn().expect("it starts");
    // The parent's copy of the plugin's end.
    drop(command);
    let (call, registration) = link.registration();
    assert_eq!((&*registration.plugin_name, &*registration.plugin_idx), ("placer", "42"));
    link.registered(call, None);
    link.synchronize(&[]);
    let created = link.create(&container("c", 1024, 100 * MIB, -997)).expect("created");
    assert!(!place(&created).0.is_empty());
    drop(link);
    assert_eq!(
        child.wait().expect("it ends").code(),
        Some(2),
        "it is the runtime that starts it again"
    );
    // 3 is the first number that the plugin itself would have opened.
    let closed = "No such file or directory";
    for (fd, script, why) in [
        ("77", "exec \"$0\" nri", closed),
        ("3", "exec \"$0\" nri 3>&-", closed),
        ("3", "exec \"$0\" nri 3</dev/null", "expected a socket"),
        ("2", "exec \"$0\" nri", "expected the number of a descriptor above 2"),
    ] {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(&program).env("NRI_PLUGIN_SOCKET", fd);
        command.env("PLACER_ROOT", host.root()).env("PLACER_STATE_DIR", host.state());
        command.env("PLACER_CONFIG", crate::common::SHIPPED);
        let wrong = crate::common::run(&mut command);
        let text = crate::common::text(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(2), "{fd} {script}: {text}");
        assert!(text.contains(&format!("NRI_PLUGIN_SOCKET={fd}: {why}")), "{text}");
    }
}

/// A container whose claim has a stranger's annotations and odd ids.
#[test]
fn odd_containers_are_answered() {
    let host = Host::new("ring-4");
    let _plugin = host.plugin(&[]);
    let mut link = host.accept();
    link.take_in(&[]);
    let mut odd = container("odd", u64::MAX, i64::MIN, i64::MIN);
    odd.container.as_mut().expect("there").id = "\u{1b}[2J\n".repeat(1000);
    let created = link.create(&odd).expect("created");
    assert!(note(&created).is_some() || place(&created) == Default::default(), "{created:?}");
    // A mark of its own makes no claim for what does not fit.
    for (name, value) in [("forged", "0"), ("forged-all", "all")] {
        let mut forged = container(name, 1024, 3 << 30, -997);
        forged.container.as_mut().expect("there").env.push(format!("PLACER_NODES={value}"));
        let created = link.create(&forged).expect("created");
        assert!(note(&created).is_some(), "{created:?}");
        let env = &created.container.as_ref().expect("there").env;
        assert_eq!(env, &["PLACER_NODES="], "the mark is gone");
        let init = Init::start();
        let started = running(created, init.pid());
        assert_eq!(link.call::<Status>("StartContainer", &started), Ok(NOTHING));
        link.synchronize(&[started]);
    }
    let mut idle = container("idle", 2, 0, 1000);
    idle.container.as_mut().expect("there").env.push("PLACER_NODES=0".to_owned());
    let created = link.create(&idle).expect("created");
    assert_eq!(created.container.expect("there").env, ["PLACER_NODES="]);
    // Nor where the runtime has given it CPUs. What runs there and fits is claimed when a plugin starts.

    for (request, id, claimed) in [("0.1:4T", "pinned", 0), ("0.1:100", "other", 1)] {
        let asked = container(id, 100, 50 * MIB, -997);
        let mut forged = annotated(asked, "org.placer.request", request);
        let one = forged.container.as_mut().expect("there");
        one.env.push("PLACER_NODES=0".to_owned());
        let all = one.linux.as_mut().and_then(|linux| linux.resources.as_mut()).expect("there");
        all.cpu.as_mut().expect("there").cpus = "0-1".to_owned();
        assert_eq!(link.create(&forged), Ok(forged.clone()));
        let init = Init::start();
        let started = running(forged, init.pid());
        assert_eq!(link.call::<Status>("StartContainer", &started), Ok(NOTHING));
        // Tasks are done in their order: once this one is placed, that is done.
        let next = link.create(&container("next", 100, MIB, -997)).expect("created");
        link.call::<Status>("RemoveContainer", &next).expect("taken");
        host.wait_for("no claim at its start", <[_]>::is_empty);
        link.synchronize(std::slice::from_ref(&started));
        let next = link.create(&container("next", 100, MIB, -997)).expect("created");
        link.call::<Status>("RemoveContainer", &next).expect("taken");
        host.wait_for("what fits is claimed", |claims| claims.len() == claimed);
        link.call::<Status>("RemoveContainer", &started).expect("taken");
        host.wait_for("it has ended", <[_]>::is_empty);
    }
    let mut marked = running(container("marked", 1024, 10 * MIB, -997), u32::MAX);
    let one = marked.container.as_mut().expect("there");
    one.env.push("PLACER_NODES=99".to_owned());
    let cpu = one.linux.as_mut().and_then(|linux| linux.resources.as_mut()).expect("there");
    cpu.cpu.as_mut().expect("there").cpus = "4294967295".to_owned();
    for method in ["StartContainer", "UpdateContainer", "StopContainer"] {
        link.call_raw(SERVICE, method, marked.encode_to_vec()).expect("answered");
    }
    link.synchronize(&[marked, ContainerRequest { container: Some(Container::default()), ..odd }]);
    host.wait_for("no claim", <[_]>::is_empty);
}
