//! The twin of fuzz/fuzz_targets/socket.rs for a stable compiler: calls of all sorts, right, nearly right
//! and wrong, on connections of a few each. Whatever is answered is as the interface says.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::Shutdown;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use super::common::{self, fixture};
use super::daemon::Daemon;
use testkit::varlink::Interface;

const METHODS: [&str; 11] = [
    "org.placer.Daemon.Advise",
    "org.placer.Daemon.AdviseAndClaim",
    "org.placer.Daemon.Commit",
    "org.placer.Daemon.Adopt",
    "org.placer.Daemon.Release",
    "org.placer.Daemon.Guests",
    "org.placer.Daemon.Host",
    "org.placer.Daemon.Watch",
    "org.placer.Daemon.Numad",
    "org.varlink.service.GetInterfaceDescription",
    "org.placer.Daemon.",
];

/// Keys of parameters, of all methods and of what is in them.
const KEYS: [&str; 29] = [
    "cpus",
    "memory",
    "policy",
    "within",
    "near",
    "pages",
    "effort",
    "prefer",
    "allowed_nodes",
    "memory_limit",
    "cpu_limit",
    "group",
    "file",
    "limit",
    "hold_ms",
    "pid",
    "caller",
    "explain",
    "claim",
    "interface",
    "megabytes",
    "options",
    "version",
    "print",
    "request",
    "parts",
    "pinned",
    "cgroup",
    "nonce",
];

const TEXTS: [&str; 12] = [
    "",
    "0",
    "0-3",
    "0-4294967295",
    "3-1",
    "best",
    "numad",
    "pack",
    "x\u{1b}[2J",
    "00000001",
    "org.placer.Daemon",
    "nodes",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_i64..9).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let object = prop::collection::vec((prop::sample::select(&KEYS[..]), inner.clone()), 0..6);
        let object = object.prop_map(|entries| {
            entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>()
        });
        prop_oneof![
            object.prop_map(Value::Object),
            prop::collection::vec(inner, 0..4).prop_map(Value::Array)
        ]
    })
}

/// A request that is right but for one field, as a rule.
fn request() -> impl Strategy<Value = Value> {
    let one = (prop::sample::select(&KEYS[..9]), value(), any::<bool>());
    one.prop_map(|(key, value, changed)| {
        let mut request = json!({"cpus": 2, "memory": 1 << 20});
        if changed {
            request[key] = value;
        }
        request
    })
}

fn call() -> impl Strategy<Value = Value> {
    let method = prop::sample::select(&METHODS[..]);
    let parameters = (request(), prop::sample::select(&KEYS[..]), value(), value());
    (method, parameters, 0_u8..6, prop::sample::select(&["", "oneway", "upgrade"][..])).prop_map(
        |(method, (request, key, one, other), kind, flag)| {
            let parameters = match kind {
                0 => other,
                1 => json!({ "request": request }),
                2 => json!({"request": request, key: one}),
                3 => json!({"request": request, "hold_ms": 9, key: one}),
                4 => json!({ key: one }),
                _ => json!({"request": request, "hold_ms": 60_000}),
            };
            let mut call = json!({"method": method, "parameters": parameters});
            if !flag.is_empty() {
                call[flag] = true.into();
            }
            call
        },
    )
}

#[test]
fn calls_of_all_sorts_are_answered_as_the_interface_says() {
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let file = common::project().join("src/protocol/org.placer.Daemon.varlink");
    let interface = Interface::parse(&std::fs::read_to_string(file).expect("an interface"));
    let answered = Cell::new(0);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let calls = (prop::collection::vec(call(), 1..5), any::<Vec<u8>>());
    let tried = runner.run(&calls, |(calls, rest)| {
        let mut stream = daemon.connect().expect("it answers");
        let texts = calls.iter().map(|call| format!("{call}\0").into_bytes());
        let sent: Vec<u8> = texts.flatten().chain(rest).collect();
        // Where it is not understood the daemon closes before all is read.
        let _ = stream.write_all(&sent).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        let wanted = calls.iter().filter(|call| call["oneway"] != true);
        let replies = got.split(|byte| *byte == 0).filter(|reply| !reply.is_empty());
        for (call, reply) in wanted.zip(replies) {
            let reply: Value = serde_json::from_slice(reply)
                .map_err(|error| TestCaseError::fail(format!("{call}: {error}")))?;
            prop_assert!(reply["parameters"].is_object(), "{}: {}", call, reply);
            let method = call["method"].as_str().unwrap_or_default();
            let error = reply["error"].as_str().unwrap_or_default();
            if !error.starts_with("org.varlink.service.") {
                let broken = interface.broken(method, None, &reply);
                prop_assert_eq!(broken, [""; 0], "{}: {}", call, reply);
            }
            answered.set(answered.get() + usize::from(reply.get("error").is_none()));
        }
        Ok(())
    });
    tried.expect("every answer is one of the interface");
    // Errors alone would show little.
    assert!(answered.get() > 50, "{}", answered.get());
    daemon.await_answer();
}
