//! Calls of every varlink method, with parameters of the types that the interface says and of odd values.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::random::Rng;
use testkit::varlink::Interface;

use crate::common::daemon::{Daemon, reply};
use crate::common::{fixture, project};

/// What strings mean something: sets, names of claims, versions, forms.
const WORDS: &str = "0|0-3|1,3|3-0|999|00000001|ffffffff|00000000000000000000000000000007|best|numad|2015|2025|nodes|\
                     cpus|json|explain|numactl|systemd|qemu|libvirt-xml|lxc|strict|preferred|interleave|CtR|x=";

#[test]
fn every_method_is_answered_as_the_interface_says_whatever_it_is_asked() {
    let seconds = std::env::var("PLACER_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(2));
    let file = project().join("src/protocol/org.placer.Daemon.varlink");
    let interface = Interface::parse(&std::fs::read_to_string(file).expect("an interface"));
    let daemon = Daemon::start(Some(&fixture("ring-4")), "");
    let mut words: Vec<String> = WORDS.split('|').map(str::to_owned).collect();
    words.push(env!("CARGO_PKG_VERSION").to_owned());
    let mut rng = Rng::new(8);
    let (mut stream, start) = (daemon.connect().expect("it answers"), Instant::now());
    // How often each method was called, and how often it was answered without an error.
    let mut seen: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    while start.elapsed() < time || seen.values().any(|&(calls, _)| calls < 20) {
        let call = interface.call(&mut || rng.byte(), &words);
        let method = call["method"].as_str().expect("a method").to_owned();
        stream.write_all(format!("{call}\0").as_bytes()).expect("it is still there");
        let reply: Value = reply(&mut BufReader::new(&mut stream));
        assert_eq!(interface.broken(&method, None, &reply), [""; 0], "{call}: {reply}");
        let (calls, answered) = seen.entry(method).or_default();
        *calls += 1;
        *answered += u32::from(reply.get("error").is_none());
    }
    let all: u32 = seen.values().map(|(calls, _)| calls).sum();
    println!("{all} calls: {seen:?}");
    for method in ["Advise", "Guests", "Host", "Watch"] {
        let answered = seen[&format!("org.placer.Daemon.{method}")].1;
        assert!(answered > 0, "{method}: {seen:?}");
    }
}
