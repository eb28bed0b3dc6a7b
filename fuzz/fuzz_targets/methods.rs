//! Calls of every varlink method, with parameters that have the types that the interface says: nothing panics or
//! hangs, and whatever is replied is as the interface says.

#![no_main]

mod conversation;
mod machine;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use testkit::varlink::Interface;

static WORDS: OnceLock<Vec<String>> = OnceLock::new();

/// What strings mean something: sets, names of claims, versions, forms; what a client of the same build says.
fn words() -> Vec<String> {
    let fixed = "0|0-3|1,3|3-0|999|00000001|ffffffff|00000000000000000000000000000007|best|numad|2015|2025|\
                 nodes|cpus|json|explain|numactl|systemd|qemu|libvirt-xml|lxc|strict|preferred|interleave|CtR|x=";
    placer::daemon::fuzzing::client().into_iter().chain(fixed.split('|').map(str::to_owned)).collect()
}

fuzz_target!(|input: &[u8]| {
    let (interface, words) = (conversation::interface(), WORDS.get_or_init(words));
    let mut rest = input.iter().copied();
    let mut calls: Vec<Value> = Vec::new();
    while rest.len() > 0 && calls.len() < 8 {
        calls.push(interface.call(&mut || rest.next().unwrap_or(0), words));
    }
    let text: Vec<u8> =
        calls.iter().flat_map(|call| format!("{call}\0").into_bytes()).collect();
    conversation::check(&text);
});
